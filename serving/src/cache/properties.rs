//! Random contracts, events and reads through the real stages: a cached answer is the one that was true when it
//! was computed, and unrelated answers hold.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::processor::Processor;
use proptest::prelude::*;

use super::{Cache, CacheMode, CacheStats};
use crate::metric::MetricEngine;
use crate::question::{Filters, MetricQuestion};
use crate::store::Store;
use crate::value::Value;

const SECOND: i64 = 1_000_000;
const START: i64 = 1_767_268_800 * SECOND;
const TENANTS: [&str; 2] = ["acme", "other"];
const TOWNS: [&str; 4] = ["Ulm", "Bonn", "Kiel", "Jena"];
const KINDS: [&str; 3] = ["made", "moved", "ended"];

/// A metric of a generated domain.
#[derive(Debug, Clone)]
struct Drawn {
    over_entity: bool,
    measure: &'static str,
    filter: Option<&'static str>,
    kinds: Vec<&'static str>,
    dimensions: Vec<&'static str>,
}

fn metric() -> impl Strategy<Value = Drawn> {
    let measures = [
        "count",
        "sum(amount)",
        "avg(amount)",
        "min(amount)",
        "max(amount)",
        "latest(amount)",
        "count_distinct(town)",
        "quantile(amount, 0.5)",
        "quantile(amount, 0.5, approx)",
        "count_distinct(town, approx)",
        "time_weighted(amount)",
        "duration_in_state(amount > 50)",
        "conversion(amount > 20, amount < 70, within 10s)",
    ];
    let filters = ["amount > 20", "town <> 'Kiel'", "town is null or amount < 50"];
    (
        any::<bool>(),
        prop::sample::select(measures.to_vec()),
        prop::option::of(prop::sample::select(filters.to_vec())),
        prop::sample::subsequence(KINDS.to_vec(), 1..=3),
        prop::sample::subsequence(vec!["town", "big"], 0..=2),
    )
        .prop_map(|(over_entity, measure, filter, kinds, dimensions)| Drawn {
            over_entity: over_entity && !follows_keys(measure),
            measure,
            filter,
            kinds,
            dimensions,
        })
}

fn follows_keys(measure: &str) -> bool {
    ["time_", "duration_", "conversion"].iter().any(|kind| measure.starts_with(kind))
}

/// The windows of a metric. A day begins at [`START`] there.
fn windows(metric: &Drawn) -> [&'static str; 4] {
    ["10s", "1m", if follows_keys(metric.measure) { "all" } else { "now" }, "day"]
}

fn contracts(metrics: &[Drawn]) -> String {
    let mut text = "
kind: event
names: [deal.made, deal.moved, deal.ended]
version: 1
topic: deals
key: deal_id
fields:
  deal_id: string
  town: {type: string, required: false}
  amount: {type: int64, required: false}
enrich: {big: 'amount > 50'}
---
kind: entity
name: deal
version: 1
from: [deal.made, deal.moved, deal.ended]
key: deal_id
fields: {town: last, amount: last, big: last, made_at: first(timestamp), ended: max(case when event_type = 'deal.ended' then 1 else 0 end)}
"
    .to_owned();
    for (number, metric) in metrics.iter().enumerate() {
        let all: Vec<String> = KINDS.iter().map(|kind| format!("deal.{kind}")).collect();
        let some: Vec<String> = metric.kinds.iter().map(|kind| format!("deal.{kind}")).collect();
        let (from, time, moved_by) = match metric.over_entity {
            true => ("{entity: deal}".to_owned(), "time: made_at\n", all),
            false => (format!("{{event: [{}]}}", some.join(", ")), "", some),
        };
        let _ = write!(
            text,
            "---\nkind: metric\nname: m{number}\nfrom: {from}\n{time}measure: {}\n",
            metric.measure
        );
        if let Some(filter) = metric.filter {
            let _ = writeln!(text, "where: \"{filter}\"");
        }
        if follows_keys(metric.measure) {
            text.push_str("key: deal_id\n");
        }
        let _ = write!(
            text,
            "dimensions: [{}]\nwindows: [{}]\nzone: Asia/Kamchatka\nmoved_by: [{}]\n\
             freshness: {{max_age: 5s}}\n",
            metric.dimensions.join(", "),
            windows(metric).join(", "),
            moved_by.join(", ")
        );
    }
    text
}

/// An event: tenant, kind, deal, town, amount, seconds ago.
type Happened = (usize, usize, u32, Option<usize>, i64, i64);

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// Events of one transaction.
    Commit(Vec<Happened>),
    Read {
        metric: usize,
        tenant: usize,
        window: usize,
        group: bool,
        filter: Option<usize>,
        /// Seconds before the start.
        as_of: Option<i64>,
        /// A span of so many seconds in place of a window, that ended so many seconds before the start.
        span: Option<(i64, i64)>,
    },
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let event =
        (0..2_usize, 0..3_usize, 0..6_u32, prop::option::of(0..4_usize), 0..100_i64, 0..90_i64);
    prop_oneof![
        3 => prop::collection::vec(event, 1..4).prop_map(Step::Commit),
        8 => (
            any::<prop::sample::Index>(), 0..2_usize, 0..4_usize, any::<bool>(),
            prop::option::of(0..4_usize), prop::option::weighted(0.3, 0..60_i64),
            prop::option::weighted(0.2, (1..60_i64, 0..60_i64)),
        ).prop_map(|(metric, tenant, window, group, filter, as_of, span)| Step::Read {
            metric: metric.index(3), tenant, window, group, filter, as_of, span,
        }),
        1 => (1..2_000_000_i64).prop_map(Step::Wait),
    ]
}

struct World {
    metrics: Vec<Drawn>,
    clock: Arc<AtomicI64>,
    cache: Cache,
    engine: Arc<MetricEngine>,
    decoder: Decoder,
    processor: Processor,
    offset: u64,
    _store: Store,
}

impl World {
    fn new(metrics: Vec<Drawn>, mode: CacheMode) -> Self {
        let file = (PathBuf::from("deals.yaml"), contracts(&metrics));
        let domain = contracts::load(&[file]);
        let domain = Arc::new(domain.unwrap_or_else(|e| panic!("{}\n{e:#?}", contracts(&metrics))));
        let store = Store::in_memory(domain.clone()).unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let told = Arc::clone(&clock);
        let now = Arc::new(move || told.load(Ordering::Relaxed));
        let engine = Arc::new(MetricEngine::with_clock(domain.clone(), store.readers(), now));
        let processor = Processor::new(domain.clone(), Box::new(store.writer().unwrap())).unwrap();
        Self {
            metrics,
            clock,
            cache: Cache::with_mode(Arc::clone(&engine), mode),
            engine,
            decoder: Decoder::new(&domain),
            processor,
            offset: 0,
            _store: store,
        }
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn commit(&mut self, events: &[Happened]) {
        let (mut bytes, mut records) = (Vec::new(), Vec::new());
        for (tenant, kind, deal, town, amount, ago) in events {
            let start = bytes.len();
            let at = (self.now() - ago * SECOND) / SECOND;
            let event = serde_json::json!({
                "event_type": format!("deal.{}", KINDS[*kind]),
                "event_id": format!("e{}", self.offset),
                "timestamp": chrono::DateTime::from_timestamp(at, 0).unwrap().to_rfc3339(),
                "deal_id": format!("{}-{deal}", TENANTS[*tenant]),
                "town": town.map(|town| TOWNS[town]),
                "amount": amount,
            });
            bytes.extend_from_slice(event.to_string().as_bytes());
            records.push(RawRecord {
                start,
                len: bytes.len() - start,
                offset: self.offset,
                arrived_at: self.now(),
                tenant: TENANTS[*tenant].into(),
                tenant_fixed: true,
                attached: Attached::default(),
            });
            self.offset += 1;
        }
        let batch = RawBatch {
            partition: "test".into(),
            source: "test",
            bytes,
            records,
            next_offset: self.offset,
            fingerprint: None,
            format: Default::default(),
            claim: None,
        };
        let processed = self.processor.process(&[&self.decoder.decode(batch)]).unwrap();
        self.cache.committed(&processed.committed);
    }

    fn ask(&self, metric: usize, tenant: usize) -> MetricQuestion {
        MetricQuestion {
            metric: format!("m{}", metric % self.metrics.len()),
            tenant: TENANTS[tenant].to_owned(),
            window: Some("1m".to_owned()),
            ..MetricQuestion::default()
        }
    }

    /// Reads, and compares with what the engine says at the time at which the answer was computed.
    fn read(&self, question: &MetricQuestion) -> Result<bool, TestCaseError> {
        let now = self.now();
        let answer = self.cache.read(question).unwrap();
        let is_live = question.as_of.is_none();
        prop_assert!(!is_live || now - answer.computed_at <= 5 * SECOND, "too old");
        prop_assert_eq!(
            answer.proof.age,
            if answer.proof.cached { now - answer.computed_at } else { 0 }
        );
        self.clock.store(answer.computed_at, Ordering::Relaxed);
        let fresh = self.engine.read(question).unwrap();
        self.clock.store(now, Ordering::Relaxed);
        prop_assert_eq!(&answer.value, &fresh.value, "{:?} at {}", question, answer.computed_at);
        prop_assert_eq!(&answer.groups, &fresh.groups, "{:?}", question);
        Ok(answer.proof.cached)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_cached_answer_is_what_was_true_when_it_was_computed(
        metrics in prop::collection::vec(metric(), 3),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(metrics, CacheMode::Invalidated);
        for step in steps {
            match step {
                Step::Commit(events) => world.commit(&events),
                Step::Wait(micros) => drop(world.clock.fetch_add(micros, Ordering::Relaxed)),
                Step::Read { metric, tenant, window, group, filter, as_of, span } => {
                    let drawn = world.metrics[metric].clone();
                    let mut question = world.ask(metric, tenant);
                    question.window = Some(windows(&drawn)[window].to_owned());
                    question.as_of = as_of.map(|ago| START - ago * SECOND);
                    if let Some((length, ago)) = span {
                        let to = START - ago * SECOND;
                        question.window = None;
                        question.as_of = None;
                        question.span = Some((to - length * SECOND, to));
                    }
                    if group {
                        question.group_by = drawn.dimensions.iter().map(|d| (*d).to_owned()).collect();
                    }
                    if let Some(town) = filter.filter(|_| drawn.dimensions.contains(&"town")) {
                        question.filters.add_named("town", TOWNS[town]).unwrap();
                    }
                    world.read(&question)?;
                }
            }
        }
    }
}

fn drawn(over_entity: bool) -> Drawn {
    Drawn {
        over_entity,
        measure: "sum(amount)",
        filter: None,
        kinds: KINDS.to_vec(),
        dimensions: vec!["town"],
    }
}

#[test]
fn other_values_other_times_and_other_metrics_hold_while_one_is_hammered() {
    let others = Drawn { kinds: vec!["ended"], ..drawn(false) };
    let mut world = World::new(vec![drawn(false), drawn(true), others], CacheMode::Invalidated);
    let town = |metric: usize, town: &str| {
        let mut filters = Filters::default();
        filters.add_named("town", town).unwrap();
        (metric, filters)
    };
    let questions: Vec<(MetricQuestion, bool)> =
        [town(0, "Ulm"), town(1, "Ulm"), town(0, "Bonn"), town(1, "Bonn")]
            .into_iter()
            .map(|(metric, filters)| {
                let is_hammered = filters == town(0, "Ulm").1;
                (MetricQuestion { filters, ..world.ask(metric, 0) }, is_hammered)
            })
            .chain([
                (world.ask(0, 1), false),
                (world.ask(2, 0), false),
                (MetricQuestion { as_of: Some(START - 100 * SECOND), ..world.ask(0, 0) }, false),
                (MetricQuestion { as_of: Some(START - 100 * SECOND), ..world.ask(1, 0) }, false),
                (
                    MetricQuestion {
                        window: None,
                        span: Some((START - 900 * SECOND, START - 100 * SECOND)),
                        ..world.ask(0, 0)
                    },
                    false,
                ),
            ])
            .collect();
    for (question, _) in &questions {
        world.cache.read(question).unwrap();
    }
    let rounds = 200;
    let mut hits = vec![0; questions.len()];
    for number in 0..rounds {
        // Deals of one town, made anew and changed, of one tenant.
        world.commit(&[(0, (number % 2) as usize, number / 3, Some(0), i64::from(number), 0)]);
        for (place, (question, _)) in questions.iter().enumerate() {
            hits[place] += u32::from(world.cache.read(question).unwrap().proof.cached);
        }
    }
    for ((question, is_hammered), hits) in questions.iter().zip(hits) {
        let expected = if *is_hammered { 0 } else { rounds };
        assert_eq!(hits, expected, "{question:?}");
    }
    let CacheStats { fills, invalidations, .. } = world.cache.stats();
    assert!(fills >= u64::from(rounds) && invalidations >= u64::from(rounds));
}

#[test]
fn the_first_answer_that_includes_a_record_tells_how_long_it_waited() {
    let mut world =
        World::new(vec![drawn(false), drawn(true), drawn(false)], CacheMode::Invalidated);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    world.cache.on_shown(Box::new(move |metric, waited| {
        heard.lock().unwrap().push((metric.name.clone(), waited));
    }));
    let question = world.ask(0, 0);
    world.cache.read(&question).unwrap();
    world.commit(&[(0, 0, 1, Some(0), 5, 0)]);
    world.clock.fetch_add(SECOND, Ordering::Relaxed);
    world.commit(&[(0, 0, 2, Some(0), 5, 0)]);
    world.clock.fetch_add(SECOND, Ordering::Relaxed);
    world.cache.read(&question).unwrap();
    world.cache.read(&question).unwrap();
    assert_eq!(*told.lock().unwrap(), [("m0".to_owned(), 2 * SECOND)], "the oldest, once");
}

#[test]
fn rows_that_change_while_their_sums_do_not_are_read_again() {
    let over_deals = |measure| Drawn { measure, dimensions: vec![], ..drawn(true) };
    let mut world = World::new(
        vec![over_deals("count"), over_deals("count_distinct(town)"), over_deals("count")],
        CacheMode::Invalidated,
    );
    // Part of a minute, and of whole hours.
    let count = MetricQuestion { window: Some("10s".to_owned()), ..world.ask(0, 0) };
    let span = Some((START - 7_200 * SECOND, START));
    let towns = MetricQuestion { window: None, span, ..world.ask(1, 0) };
    let read = |world: &World| {
        // The third time it comes from what the second one read.
        let answers = [count.clone(), towns.clone()]
            .map(|question| [(); 3].map(|()| world.engine.read(&question).unwrap().value.unwrap()));
        assert!(answers.iter().all(|[first, second, third]| first == second && second == third));
        answers.map(|[_, _, third]| third)
    };
    world.commit(&[(0, 0, 3, Some(0), 34, 7), (0, 0, 4, Some(1), 34, 50)]);
    assert_eq!(read(&world), [1, 2].map(Value::Int));
    // One deal turns out to be older, within the minute.
    world.commit(&[(0, 1, 3, Some(0), 34, 52)]);
    assert_eq!(read(&world), [0, 2].map(Value::Int));
    // Another one is in the town of the first, as old as before.
    world.commit(&[(0, 1, 4, Some(0), 34, 0)]);
    assert_eq!(read(&world), [0, 1].map(Value::Int));
}
