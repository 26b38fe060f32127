//! The cache against the engine behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock, Weak};

use contracts::model::{Relation, column};
use pipeline::store::Committed;
use proptest::prelude::*;

use super::{Cache, CacheStats};
use crate::metric::MetricEngine;
use crate::metric::tests::fixture::{
    Bench, FIXES, NOW, RIDES, SECOND, TENANT, TRIPS, ask, ask_entity, event,
};
use crate::question::{EntityQuestion, MetricQuestion};
use crate::value::Value;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// A store, its cache, and the number of the next event.
struct World {
    bench: Bench,
    cache: Cache,
    seq: i128,
}

impl World {
    fn new() -> Self {
        let bench = Bench::new(Vec::new());
        let cache = Cache::new(bench.engine.clone());
        Self { bench, cache, seq: 0 }
    }

    /// Commits one event and tells the cache, as the writer does.
    fn commit(&mut self, relation: Relation, tenant: &str, time: i64) {
        self.seq += 1;
        self.bench.insert_events(
            relation,
            &[event(
                self.seq,
                time,
                [
                    (column::TENANT, text(tenant)),
                    ("ride_id", text("r1")),
                    ("n", Value::Int(self.seq)),
                    ("amount", Value::Decimal { digits: self.seq, scale: 2 }),
                ],
            )],
        );
        self.bench.fold_entities(&[TENANT, "other"]);
        self.tell(&[relation, RIDES], tenant);
    }

    fn tell(&self, relations: &[Relation], tenant: &str) {
        let touched = relations.iter().map(|r| (*r, vec![tenant.to_owned()])).collect();
        self.cache.committed(&Committed {
            last_seq: self.seq as i64,
            touched,
            ..Default::default()
        });
    }

    fn value(&self, question: &MetricQuestion) -> Value {
        self.cache.read(question).expect("the question fits").value.expect("ungrouped")
    }

    fn set_clock(&self, now: i64) {
        self.bench.clock.store(now, Ordering::Relaxed);
    }

    /// Reads and says whether the answer came from the cache.
    fn cached(&self, question: &MetricQuestion) -> bool {
        self.cache.read(question).expect("the question fits").proof.cached
    }
}

#[test]
fn an_answer_holds_until_a_commit_touches_what_it_stands_on() {
    let mut world = World::new();
    let question = ask("trips", "10s");
    assert!(!world.cached(&question));
    assert!(world.cached(&question));
    world.commit(FIXES, TENANT, NOW);
    assert!(world.cached(&question), "trips do not stand on fixes");
    world.commit(TRIPS, "other", NOW);
    assert!(world.cached(&question), "another tenant's commit is not ours");
    world.commit(TRIPS, TENANT, NOW);
    assert!(!world.cached(&question));
    assert_eq!(world.value(&question), Value::Int(1));
    let CacheStats { hits, misses, fills, invalidations } = world.cache.stats();
    assert_eq!((hits, misses, fills), (4, 2, 2));
    assert!(invalidations > 0);
}

#[test]
fn a_live_answer_grows_old_and_says_how_old_it_is() {
    let world = World::new();
    let live = ask("trips", "10s");
    let past = MetricQuestion { as_of: Some(NOW), ..live.clone() };
    assert!(!world.cached(&live) && !world.cached(&past));
    world.set_clock(NOW + 250_000);
    let answer = world.cache.read(&live).expect("the question fits");
    assert!(answer.proof.cached);
    assert_eq!((answer.computed_at, answer.proof.age), (NOW, 250_000));
    world.set_clock(NOW + 250_001);
    assert!(!world.cached(&live));
    assert!(world.cached(&past), "what was is not changed by time");
}

#[test]
fn an_answer_may_be_as_old_as_the_reader_and_the_contract_say() {
    let mut world = World::new();
    let stale = |most| MetricQuestion { max_staleness: Some(most), ..ask("trips", "1h") };
    assert!(!world.cached(&stale(0)));
    assert!(!world.cached(&stale(0)), "computed anew each time");
    assert!(world.cached(&stale(1)), "and kept for others");
    world.commit(TRIPS, TENANT, NOW);
    world.set_clock(NOW + 100_000);
    assert!(world.cached(&stale(100_000)));
    assert_eq!(
        world.value(&stale(200_000)),
        Value::Int(0),
        "it lacks the commit and says when it is of"
    );
    assert!(!world.cached(&stale(99_999)));
    assert_eq!(world.value(&stale(200_000)), Value::Int(1));
    world.set_clock(NOW + 100_000 + 250_001);
    assert!(!world.cached(&stale(1_000_000)), "the contract allows 250 ms");

    let past = |most| MetricQuestion { as_of: Some(NOW), ..stale(most) };
    assert!(!world.cached(&past(1)));
    world.set_clock(NOW + 10 * SECOND);
    assert!(world.cached(&past(1)), "what was is not changed by time");
    world.commit(TRIPS, TENANT, NOW - 1);
    assert!(world.cached(&past(10 * SECOND)));
    assert!(!world.cached(&past(SECOND)), "but by what comes late");
}

#[test]
fn questions_that_mean_the_same_share_an_answer() {
    let world = World::new();
    let filtered = |value: &str| MetricQuestion {
        filters: [("level".to_owned(), value.to_owned())].into_iter().collect(),
        ..ask("trips", "1h")
    };
    assert!(!world.cached(&filtered("1")));
    assert!(world.cached(&filtered("+01")));
    assert!(world.cached(&MetricQuestion { window: None, ..filtered("1") }));
    assert!(!world.cached(&filtered("2")));
    let other = MetricQuestion { tenant: "other".into(), ..filtered("1") };
    assert!(!world.cached(&other));
}

#[test]
fn many_askers_share_one_fill() {
    let world = World::new();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                world.value(&ask("trips", "10s"))
            });
        }
    });
    let stats = world.cache.stats();
    assert_eq!(stats.fills, 1);
    assert_eq!(stats.hits + stats.misses, 8);
}

/// The clock is asked inside the fill, before the fill's snapshot: a commit is told just then.
#[test]
fn a_fill_overtaken_by_a_commit_does_not_stay() {
    let bench = Bench::new(Vec::new());
    let cell: Arc<OnceLock<Weak<Cache>>> = Arc::default();
    let armed = Arc::new(AtomicBool::new(false));
    let clock = {
        let (cell, armed) = (cell.clone(), armed.clone());
        move || {
            if let Some(cache) = cell.get().and_then(Weak::upgrade)
                && cache.stats().misses > 0
                && armed.swap(false, Ordering::Relaxed)
            {
                let touched = vec![(TRIPS, vec![TENANT.to_owned()])];
                cache.committed(&Committed { last_seq: 1, touched, ..Default::default() });
            }
            NOW
        }
    };
    let engine =
        MetricEngine::with_clock(bench.domain.clone(), bench.readers.clone(), Arc::new(clock));
    let cache = Arc::new(Cache::new(Arc::new(engine)));
    cell.set(Arc::downgrade(&cache)).expect("set once");
    armed.store(true, Ordering::Relaxed);
    let cached = || cache.read(&ask("trips", "10s")).expect("it fits").proof.cached;
    assert!(!cached());
    assert!(!armed.load(Ordering::Relaxed), "the commit came during the fill");
    assert!(!cached(), "the overtaken answer is not taken for current");
    assert!(cached());
}

#[test]
fn entities_are_cached_by_the_same_epochs() {
    let mut world = World::new();
    world.commit(TRIPS, TENANT, NOW);
    let question = ask_entity("ride", "r1");
    let past = EntityQuestion { as_of: Some(NOW + SECOND), ..question.clone() };
    let updated = |world: &World, question: &EntityQuestion| {
        world.cache.entity(question).expect("the ride is there").last_updated
    };
    for _ in 0..3 {
        assert_eq!(updated(&world, &question), Some(NOW));
        assert_eq!(updated(&world, &past), Some(NOW));
    }
    assert_eq!(world.cache.stats().fills, 2);
    world.commit(FIXES, TENANT, NOW + 1);
    assert_eq!(updated(&world, &question), Some(NOW + 1));
    assert_eq!(updated(&world, &past), Some(NOW + 1));
    assert_eq!(world.cache.stats().fills, 4);
}

#[derive(Debug, Clone)]
enum Step {
    Commit { relation: Relation, tenant: &'static str, age: i64 },
    Read { question: usize },
    Wait { micros: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let relation = prop::sample::select(vec![TRIPS, FIXES]);
    let tenant = prop::sample::select(vec![TENANT, "other"]);
    let step = prop_oneof![
        2 => (relation, tenant, 0i64..12).prop_map(|(relation, tenant, age)| {
            Step::Commit { relation, tenant, age }
        }),
        5 => (0usize..8).prop_map(|question| Step::Read { question }),
        1 => (1i64..400_000).prop_map(|micros| Step::Wait { micros }),
    ];
    prop::collection::vec(step, 1..40)
}

fn questions() -> Vec<MetricQuestion> {
    let mut questions: Vec<MetricQuestion> =
        ["trips", "all_amount", "fares"].iter().map(|metric| ask(metric, "10s")).collect();
    questions.push(MetricQuestion { tenant: "other".into(), ..ask("trips", "10s") });
    for i in 0..4 {
        questions.push(MetricQuestion { as_of: Some(NOW - 5 * SECOND), ..questions[i].clone() });
    }
    questions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_cached_answer_is_what_was_true_when_it_was_computed(steps in steps()) {
        let mut world = World::new();
        let questions = questions();
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Commit { relation, tenant, age } => world.commit(relation, tenant, now - age * SECOND),
                Step::Wait { micros } => {
                    now += micros;
                    world.set_clock(now);
                }
                Step::Read { question } => {
                    let question = &questions[question];
                    let answer = world.cache.read(question).expect("the question fits");
                    prop_assert_eq!(answer.proof.age, if answer.proof.cached { now - answer.computed_at } else { 0 });
                    prop_assert!(question.as_of.is_some() || answer.proof.age <= 250_000);
                    world.set_clock(answer.computed_at);
                    let fresh = world.bench.engine.read(question).expect("the question fits");
                    world.set_clock(now);
                    prop_assert_eq!(answer.value, fresh.value, "{:?}", question);
                }
            }
        }
    }
}
