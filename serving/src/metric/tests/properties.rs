//! Every measure × filter × grouping × window equals what the oracle says, over random rows whose
//! times like the edges of the windows.

use std::collections::BTreeMap;

use contracts::model::column;
use proptest::prelude::*;
use proptest::sample::select;

use super::fixture::{
    Bench, CLOSES_AFTER, FIXES, NOW, RIDERS, RIDES, Row, SECOND, TENANT, TRIPS, ask, event,
};
use super::oracle::{self, World};
use crate::metric::groups::Groups;
use crate::question::{Filters, MetricAnswer, MetricQuestion};
use crate::value::Value;

/// Offsets from now, µs: on, before and after the edges of the windows and of `as_of`.
const OFFSETS: [i64; 14] = [
    3 * SECOND,
    5 * SECOND,
    1,
    0,
    -1,
    -5 * SECOND,
    -5 * SECOND - 1,
    -10 * SECOND + 1,
    -10 * SECOND,
    -10 * SECOND - 1,
    -15 * SECOND,
    -15 * SECOND - 1,
    -3600 * SECOND,
    -3601 * SECOND,
];

const AS_OF: [Option<i64>; 4] = [None, Some(NOW), Some(NOW - 5 * SECOND), Some(NOW + 5 * SECOND)];

fn maybe(value: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => value]
}

fn texts(texts: &'static [&'static str]) -> impl Strategy<Value = Value> {
    maybe(select(texts).prop_map(|text| Value::Text(text.into())))
}

fn a_row() -> impl Strategy<Value = Row> {
    let places = (
        select(&["default", "default", "default", "other"][..]),
        select(&["ended", "ended", "changed"][..]),
        select(&OFFSETS[..]),
        texts(&["r1", "r2", "r3", "r4"]),
        maybe((1i128..4).prop_map(Value::Int)),
        any::<bool>(),
    );
    let dimensions = (
        texts(&["", "Ulm", "köln", "O'Hara"]),
        maybe(any::<bool>().prop_map(Value::Bool)),
        maybe((-1i128..4).prop_map(Value::Int)),
        maybe((19_000i32..19_003).prop_map(Value::Date)),
    );
    let values = (
        maybe(
            prop_oneof![-300i128..300, Just(999_999_999_999)]
                .prop_map(|digits| Value::Decimal { digits, scale: 2 }),
        ),
        // Quarters add up exactly in any order.
        maybe((-40i32..40).prop_map(|quarters| Value::Float(f64::from(quarters) / 4.0))),
        maybe(
            prop_oneof![-9i128..9, Just(i128::from(i64::MAX)), Just(i128::from(i64::MIN))]
                .prop_map(Value::Int),
        ),
        texts(&["x", "y", "zz"]),
        maybe(select(&OFFSETS[..]).prop_map(|offset| Value::Timestamp(NOW + offset))),
        maybe(any::<bool>().prop_map(Value::Bool)),
    );
    (places, dimensions, values).prop_map(|(places, dimensions, values)| {
        let (tenant, ty, offset, ride, rider, late) = places;
        let (city, vip, level, day) = dimensions;
        let (amount, weight, n, note, at, keep) = values;
        event(
            0,
            NOW + offset,
            [
                (column::TENANT, Value::Text(tenant.into())),
                (column::TYPE, Value::Text(ty.into())),
                (column::LATE, Value::Bool(late)),
                ("ride_id", ride),
                ("rider_id", rider),
                ("city", city),
                ("vip", vip),
                ("level", level),
                ("day", day),
                ("amount", amount),
                ("weight", weight),
                ("n", n),
                ("note", note),
                ("at", at),
                ("keep", keep),
            ],
        )
    })
}

/// Rows of both journals, numbered.
pub(super) fn journals() -> impl Strategy<Value = (Vec<Row>, Vec<Row>)> {
    let rows = prop::collection::vec((a_row(), prop::bool::weighted(0.7)), 0..40);
    rows.prop_map(|rows| {
        let (mut trips, mut fixes) = (Vec::new(), Vec::new());
        for (seq, (mut row, trip)) in rows.into_iter().enumerate() {
            row.insert(column::SEQ.into(), Value::Int(seq as i128 + 1));
            if trip { trips.push(row) } else { fixes.push(row) }
        }
        (trips, fixes)
    })
}

/// What to ask beside the metric: filters and grouping.
fn shapes() -> Vec<(Filters, Vec<String>)> {
    let filter = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    vec![
        (filter(&[]), group(&[])),
        (filter(&[("city", "O'Hara")]), group(&[])),
        (filter(&[("vip", "true"), ("day", "2022-01-09")]), group(&["city"])),
        (filter(&[]), group(&["vip", "day"])),
        (filter(&[("level", "1")]), group(&["city", "vip"])),
    ]
}

pub(super) fn groups_of(answer: &MetricAnswer) -> Vec<(Vec<Option<String>>, Value)> {
    match (&answer.groups, &answer.value) {
        (Some(groups), None) => groups
            .iter()
            .map(|group| {
                let members = group.dimensions.iter().map(|(_, member)| member.clone());
                (members.collect(), group.value.clone())
            })
            .collect(),
        (None, Some(value)) => vec![(Vec::new(), value.clone())],
        other => panic!("an answer has either groups or a value, not {other:?}"),
    }
}

fn shown(groups: &Groups) -> Vec<(Vec<Option<String>>, Value)> {
    groups
        .iter()
        .map(|(key, value)| (key.iter().map(|member| member.text()).collect(), value.clone()))
        .collect()
}

pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // Where terms of the order of one cancel, what is left is as exact as they were.
        (Value::Float(a), Value::Float(b)) => {
            (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0)
        }
        (a, b) => a == b,
    }
}

pub(super) fn check(
    bench: &Bench,
    world: &World,
    question: &MetricQuestion,
) -> Result<(), TestCaseError> {
    let metric = bench.domain.metric(&question.metric).expect("the metric exists");
    let answer = bench.engine.read(question).expect("the question fits the contract");
    let got = groups_of(&answer);
    let expected = shown(&oracle::answer(metric, world, question, NOW));
    let equal = got.len() == expected.len()
        && got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1));
    prop_assert!(equal, "{question:?}\n     got {got:?}\nexpected {expected:?}");
    Ok(())
}

pub(super) fn questions(metric: &str, all: bool) -> Vec<MetricQuestion> {
    let mut questions = Vec::new();
    for (filters, group_by) in shapes() {
        for window in ["10s", "now"] {
            for as_of in AS_OF {
                let (filters, group_by) = (filters.clone(), group_by.clone());
                questions.push(MetricQuestion { as_of, filters, group_by, ..ask(metric, window) });
            }
        }
    }
    if !all {
        questions.retain(|q| q.as_of != Some(NOW));
    }
    questions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn metrics_over_events_equal_the_oracle(
        (trips, fixes) in journals(),
        salt in 0usize..7,
        from_state in any::<bool>(),
    ) {
        let bench = Bench::new(Vec::new());
        bench.insert_events(TRIPS, &trips);
        bench.insert_events(FIXES, &fixes);
        if from_state {
            bench.learn();
        }
        let world = World::from([(TRIPS, trips), (FIXES, fixes)]);
        let over_events = bench.domain.metrics.iter().filter(|metric| {
            metric.inputs.iter().all(|input| input.relation != RIDES && input.relation != RIDERS)
        });
        for (i, metric) in over_events.enumerate() {
            // Every question to every metric takes too long for one case; the cases take turns.
            for question in questions(&metric.name, true).iter().skip((i + salt) % 7).step_by(7) {
                check(&bench, &world, question)?;
            }
        }
    }

    #[test]
    fn what_was_known_then_is_what_a_store_that_ended_then_says(
        (trips, fixes) in journals(),
        end in 0i64..40,
        salt in 0usize..5,
    ) {
        let all = Bench::new(Vec::new());
        all.insert_events(TRIPS, &trips);
        all.insert_events(FIXES, &fixes);
        let applied_at = |seq: i64| NOW - 60 * SECOND + seq * SECOND;
        all.insert_commits((1..=40).map(|seq| (seq, applied_at(seq))));
        let then = Bench::new(Vec::new());
        let known = |rows: &[Row]| -> Vec<Row> {
            let is_known = |row: &&Row| matches!(row[column::SEQ], Value::Int(seq) if seq <= end.into());
            rows.iter().filter(is_known).cloned().collect()
        };
        then.insert_events(TRIPS, &known(&trips));
        then.insert_events(FIXES, &known(&fixes));
        then.fold_entities(&[TENANT, "other"]);
        // Between this commit and the next one.
        let known_at = applied_at(end) + SECOND / 2;
        for (i, metric) in all.domain.metrics.iter().enumerate() {
            let fitting = questions(&metric.name, true).into_iter().filter(|q| {
                !metric.dimensions.is_empty() || (q.filters.is_empty() && q.group_by.is_empty())
            });
            for question in fitting.skip((i + salt) % 5).step_by(5) {
                let reference = question.as_of.map_or(known_at, |_| NOW);
                then.clock.store(reference, std::sync::atomic::Ordering::Relaxed);
                let expected = then.engine.read(&question).expect("the question fits");
                let known = MetricQuestion { known_at: Some(known_at), ..question.clone() };
                let got = all.engine.read(&known).expect("the question fits");
                let (got, expected) = (groups_of(&got), groups_of(&expected));
                let equal = got.len() == expected.len()
                    && got.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1));
                prop_assert!(equal, "{known:?}\n     got {got:?}\nexpected {expected:?}");
            }
        }
    }

    #[test]
    fn metrics_over_entities_equal_the_oracle(
        (trips, fixes) in journals(),
        salt in 0usize..3,
        from_state in any::<bool>(),
    ) {
        let bench = Bench::new(Vec::new());
        bench.insert_events(TRIPS, &trips);
        bench.insert_events(FIXES, &fixes);
        bench.fold_entities(&[TENANT, "other"]);
        if from_state {
            bench.learn();
        }
        let events: Vec<&Row> = trips.iter().chain(&fixes).collect();
        for name in ["rides", "fares", "newest_ride", "rides_by_other_time", "finished_rides", "rider_amount"] {
            let metric = bench.domain.metric(name).expect("the metric exists");
            let questions = questions(name, false);
            let fitting = questions.iter().filter(|q| !metric.dimensions.is_empty()
                || (q.filters.is_empty() && q.group_by.is_empty()));
            for question in fitting.skip(salt).step_by(3) {
                let rides = rides(&events, question.as_of);
                let riders = riders(&rides);
                let world = World::from([(RIDES, rides), (RIDERS, riders)]);
                check(&bench, &world, question)?;
            }
        }
    }
}

fn get(row: &Row, name: &str) -> Value {
    row.get(name).cloned().unwrap_or(Value::Null)
}

fn order(row: &Row, time: &str, seq: &str) -> (i64, i128) {
    match (get(row, time), get(row, seq)) {
        (Value::Timestamp(time), Value::Int(seq)) => (time, seq),
        other => panic!("not an order: {other:?}"),
    }
}

fn digits(value: &Value) -> i128 {
    match value {
        Value::Decimal { digits, .. } => *digits,
        _ => 0,
    }
}

/// The entity `ride` folded from the events before `as_of`.
fn rides(events: &[&Row], as_of: Option<i64>) -> Vec<Row> {
    let mut by_key: BTreeMap<(String, String), Vec<&Row>> = BTreeMap::new();
    for event in events {
        let (time, _) = order(event, column::TIME, column::SEQ);
        if as_of.is_some_and(|end| time >= end) || get(event, "ride_id").is_null() {
            continue;
        }
        let key = (get(event, column::TENANT).to_string(), get(event, "ride_id").to_string());
        by_key.entry(key).or_default().push(event);
    }
    by_key
        .into_iter()
        .map(|((tenant, key), mut events)| {
            events.sort_by_key(|event| order(event, column::TIME, column::SEQ));
            let mut ride = Row::new();
            for name in ["rider_id", "city", "vip", "level", "day", "at"] {
                let last = events.iter().rev().map(|event| get(event, name)).find(|v| !v.is_null());
                ride.insert(name.into(), last.unwrap_or(Value::Null));
            }
            let orders = || events.iter().map(|event| order(event, column::TIME, column::SEQ));
            let amount = events.iter().map(|event| digits(&get(event, "amount"))).sum();
            let first = orders().map(|(time, _)| time).min().expect("a ride has an event");
            let last = orders().map(|(time, _)| time).max().expect("a ride has an event");
            let seq = orders().map(|(_, seq)| seq).max().expect("a ride has an event");
            ride.insert("started_at".into(), Value::Timestamp(first));
            ride.insert("amount".into(), Value::Decimal { digits: amount, scale: 2 });
            ride.insert(column::TENANT.into(), Value::Text(tenant));
            ride.insert(column::KEY.into(), Value::Text(key));
            ride.insert(column::UPDATED_AT.into(), Value::Timestamp(last));
            ride.insert(column::UPDATED_SEQ.into(), Value::Int(seq));
            let closed = last + CLOSES_AFTER <= as_of.unwrap_or(NOW);
            ride.insert("x_closed".into(), Value::Bool(closed));
            ride
        })
        .collect()
}

/// The entity `rider` folded from rides.
fn riders(rides: &[Row]) -> Vec<Row> {
    let mut by_key: BTreeMap<(String, String), Vec<&Row>> = BTreeMap::new();
    for ride in rides.iter().filter(|ride| !get(ride, "rider_id").is_null()) {
        let key = (get(ride, column::TENANT).to_string(), get(ride, "rider_id").to_string());
        by_key.entry(key).or_default().push(ride);
    }
    by_key
        .into_iter()
        .map(|((tenant, key), rides)| {
            let amount = rides.iter().map(|ride| digits(&get(ride, "amount"))).sum();
            let orders = || rides.iter().map(|r| order(r, column::UPDATED_AT, column::UPDATED_SEQ));
            let mut rider = Row::new();
            rider.insert("amount".into(), Value::Decimal { digits: amount, scale: 2 });
            rider.insert(column::TENANT.into(), Value::Text(tenant));
            rider.insert(column::KEY.into(), Value::Text(key));
            let last = orders().map(|(time, _)| time).max().expect("a rider has a ride");
            rider.insert(column::UPDATED_AT.into(), Value::Timestamp(last));
            let seq = orders().map(|(_, seq)| seq).max().expect("a rider has a ride");
            rider.insert(column::UPDATED_SEQ.into(), Value::Int(seq));
            rider
        })
        .collect()
}
