//! Measures that follow keys: metrics for all property tests, their meaning written down a second
//! time, and cases to read.

use std::collections::BTreeMap;

use contracts::model::{Followed, Measure, Metric, MetricInput, Step, column};
use contracts::types::Type;

use super::fixture::{
    Bench, FIXES, NOW, Row, SECOND, TRIPS, ask, event, family_column, metric, over,
};
use super::oracle::{World, holds, member, micros};
use crate::metric::groups::{Groups, Member, settle};
use crate::question::{Filters, MetricQuestion};
use crate::value::Value;

/// States and conversions over one family and over two, by keys of both types, over two times.
pub(super) fn metrics() -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut add = |name: &str, measure, value_type, inputs: Vec<MetricInput>| {
        let mut metric = metric(name, measure, value_type);
        metric.inputs = inputs;
        metrics.push(metric);
    };
    let followed = |relation, arg, key: &str, steps: Option<[Step; 2]>| {
        let followed = Some(Followed { key: family_column(key), steps });
        MetricInput { followed, ..over(relation, arg) }
    };
    let state = |relation, arg| followed(relation, Some(arg), "ride_id", None);
    add("weight_over_time", Measure::TimeWeighted, Type::Float64, vec![state(TRIPS, "weight")]);
    let both = |arg| vec![state(TRIPS, arg), state(FIXES, arg)];
    add("amount_over_time", Measure::TimeWeighted, Type::Float64, both("amount"));
    let seconds = Type::Decimal { precision: 38, scale: 6 };
    add("kept_time", Measure::DurationInState, seconds.clone(), both("keep"));
    let by_other = MetricInput { time: family_column("at"), ..state(TRIPS, "keep") };
    add("kept_other_time", Measure::DurationInState, seconds, vec![by_other]);

    let is = |name: &str| Step::EventType(name.to_owned());
    let kept = || Step::Where(family_column("keep"));
    let steps = |from: Step, to: Step| {
        let steps =
            move |relation, key| followed(relation, None, key, Some([from.clone(), to.clone()]));
        vec![steps(TRIPS, "rider_id"), steps(FIXES, "rider_id")]
    };
    let within = |seconds| Measure::Conversion { within: seconds * SECOND };
    add("ended_then_changed", within(5), Type::Float64, steps(is("ended"), is("changed")));
    add("kept_then_ended", within(10), Type::Float64, steps(kept(), is("ended")));
    add("kept_again", within(3600), Type::Float64, steps(kept(), kept()));
    metrics
}

/// One row of a key.
struct Seen {
    at: (i64, i128),
    group: Vec<Member>,
    passes: bool,
    arg: Value,
    steps: [bool; 2],
}

/// What `metric` is, by a look at every pair of rows.
pub(super) fn answer(
    metric: &Metric,
    world: &World,
    question: &MetricQuestion,
    now: i64,
) -> Groups {
    let end = question.as_of.unwrap_or(now);
    let window = metric.windows.iter().find(|w| Some(&w.text) == question.window.as_ref());
    let start = window.and_then(|w| w.start(end)).unwrap_or(i64::MIN);
    let keys = seen(metric, world, question);
    // Sum and weight of a state, keys that took the second and the first step.
    let mut found: BTreeMap<Vec<Member>, (f64, i128, i128)> = BTreeMap::new();
    if question.group_by.is_empty() {
        found.insert(Vec::new(), (0.0, 0, 0));
    }
    for rows in keys.values() {
        if let Measure::Conversion { within } = metric.measure {
            let mut converted: BTreeMap<&Vec<Member>, bool> = BTreeMap::new();
            let is_first = |row: &&Seen| row.steps[0] && row.passes && row.at.0 >= start;
            for first in rows.iter().filter(is_first) {
                let in_time = |row: &Seen| row.at > first.at && row.at.0 - first.at.0 <= within;
                let is_done = rows.iter().any(|row| row.steps[1] && in_time(row));
                *converted.entry(&first.group).or_default() |= is_done;
            }
            for (group, is_done) in converted {
                let counts = found.entry(group.clone()).or_default();
                counts.1 += i128::from(is_done);
                counts.2 += 1;
            }
            continue;
        }
        for (n, row) in rows.iter().enumerate() {
            let until = rows.get(n + 1).map_or(end, |next| next.at.0.min(end));
            let length = until - row.at.0.max(start);
            if length <= 0 || !row.passes || row.arg.is_null() {
                continue;
            }
            let sums = found.entry(row.group.clone()).or_default();
            sums.0 += row.arg.as_f64().unwrap_or_default() * length as f64;
            sums.1 += if row.arg == Value::Bool(true) { i128::from(length) } else { 0 };
            sums.2 += i128::from(length);
        }
    }
    let value = |(sum, some, all): (f64, i128, i128)| match metric.measure {
        _ if all == 0 => Value::Null,
        Measure::TimeWeighted => Value::Float(sum / all as f64),
        Measure::Conversion { .. } => Value::Float(some as f64 / all as f64),
        _ => Value::Decimal { digits: some, scale: 6 },
    };
    found.into_iter().map(|(key, found)| (key, settle(metric, value(found)))).collect()
}

/// The rows that count, by key, each key's in order.
fn seen(metric: &Metric, world: &World, question: &MetricQuestion) -> BTreeMap<String, Vec<Seen>> {
    let mut keys: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for input in &metric.inputs {
        let followed = input.followed.as_ref().expect("it follows a key");
        for row in world.get(&input.relation).into_iter().flatten() {
            let get = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
            let is_before = |name: &str| match (micros(&get(name)), question.as_of) {
                (Some(at), Some(end)) => at < end,
                (at, None) => at.is_some(),
                (None, _) => false,
            };
            let is_asked = get(column::TENANT) == Value::Text(question.tenant.clone());
            if !is_asked || !is_before(column::TIME) || !is_before(&input.time.name) {
                continue;
            }
            let Value::Int(seq) = get(column::SEQ) else { panic!("a row has a number") };
            let key = get(&followed.key.name);
            if key.is_null() {
                continue;
            }
            let dimension = |name: &str| {
                let place = metric.dimensions.iter().position(|d| d.name == name);
                get(&input.dimensions[place.expect("a dimension")].name)
            };
            let step = |step: &Step| match step {
                Step::EventType(name) => get(column::TYPE) == Value::Text(name.clone()),
                Step::Where(condition) => get(&condition.name) == Value::Bool(true),
            };
            let mut filters = question.filters.iter();
            keys.entry(key.to_string()).or_default().push(Seen {
                at: (micros(&get(&input.time.name)).expect("it has a time"), seq),
                group: question.group_by.iter().map(|name| member(dimension(name))).collect(),
                passes: filters.all(|(name, conditions)| {
                    let value = dimension(name);
                    conditions.iter().all(|condition| holds(condition, &value))
                }),
                arg: input.arg.as_ref().map_or(Value::Null, |arg| get(&arg.name)),
                steps: followed.steps.as_ref().map_or([false; 2], |[a, b]| [step(a), step(b)]),
            });
        }
    }
    keys.values_mut().for_each(|rows| rows.sort_by_key(|row| row.at));
    keys
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A ride's weight from a moment on, in seconds before now.
fn weighs(seq: i128, ride: &str, ago: i64, weight: Option<f64>, city: &str) -> Row {
    let weight = weight.map_or(Value::Null, Value::Float);
    event(
        seq,
        NOW - ago * SECOND,
        [("ride_id", text(ride)), ("weight", weight), ("city", text(city))],
    )
}

#[track_caller]
fn check(bench: &Bench, question: &MetricQuestion, expected: Value) {
    let answer = bench.engine.read(question).expect("the question fits");
    assert_eq!(answer.value, Some(expected), "{question:?}");
}

#[test]
fn a_state_is_carried_into_the_window_and_ends_with_the_next_one() {
    let bench = Bench::new(Vec::new());
    let states = [
        weighs(1, "a", 100, Some(4.0), "Ulm"), // from before the window …
        weighs(2, "a", 6, Some(1.0), "Bonn"),  // … until here: 4 s of 4, then 6 s of 1
        weighs(3, "b", 2, Some(11.0), "Ulm"),  // 2 s of 11
    ];
    bench.insert_events(TRIPS, &states);
    let question = ask("weight_over_time", "10s");
    let expected = (4.0 * 4.0 + 6.0 * 1.0 + 2.0 * 11.0) / 12.0;
    check(&bench, &question, Value::Float(expected));
    // The filter looks at the state, and what it leaves out still ends the state before it.
    let filters = Filters::from_iter([("city".to_owned(), "Ulm".to_owned())]);
    check(
        &bench,
        &MetricQuestion { filters, ..question.clone() },
        Value::Float((4.0 * 4.0 + 2.0 * 11.0) / 6.0),
    );
    // Five seconds ago neither `b` nor the future of `a` was known.
    let as_of = Some(NOW - 5 * SECOND);
    let expected = (9.0 * 4.0 + 1.0 * 1.0) / 10.0;
    check(&bench, &MetricQuestion { as_of, ..question }, Value::Float(expected));
}

#[test]
fn time_at_which_a_state_is_unknown_does_not_count() {
    let bench = Bench::new(Vec::new());
    let states = [weighs(1, "a", 8, Some(3.0), "Ulm"), weighs(2, "a", 5, None, "Ulm")];
    bench.insert_events(TRIPS, &states);
    check(&bench, &ask("weight_over_time", "10s"), Value::Float(3.0));
    let bench = Bench::new(Vec::new());
    bench.insert_events(TRIPS, &[weighs(1, "a", 8, None, "Ulm")]);
    check(&bench, &ask("weight_over_time", "10s"), Value::Null);
}

#[test]
fn a_state_that_begins_ahead_of_the_clock_takes_no_time_yet() {
    let bench = Bench::new(Vec::new());
    let states = [weighs(1, "a", 8, Some(3.0), "Ulm"), weighs(2, "a", -2, Some(100.0), "Ulm")];
    bench.insert_events(TRIPS, &states);
    check(&bench, &ask("weight_over_time", "10s"), Value::Float(3.0));
    // The clock goes back before all of it: nothing has begun.
    bench.clock.store(NOW - 60 * SECOND, std::sync::atomic::Ordering::Relaxed);
    check(&bench, &ask("weight_over_time", "10s"), Value::Null);
}

/// What a rider did, in seconds before now.
fn does(seq: i128, rider: i128, ago: i64, ty: &str) -> Row {
    event(
        seq,
        NOW - ago * SECOND,
        [("rider_id", Value::Int(rider)), (column::TYPE, text(ty)), ("city", text("Ulm"))],
    )
}

#[test]
fn a_conversion_counts_keys_once_and_only_in_time() {
    let bench = Bench::new(Vec::new());
    let steps = [
        does(1, 1, 9, "ended"),
        does(2, 1, 8, "ended"),
        does(3, 1, 5, "changed"), // in time for both
        does(4, 2, 9, "ended"),
        does(5, 2, 3, "changed"), // a second too late
        does(6, 3, 4, "changed"), // before its first step
        does(7, 3, 4, "ended"),
        does(8, 4, 12, "ended"), // before the window
        does(9, 4, 9, "changed"),
    ];
    bench.insert_events(TRIPS, &steps);
    let question = ask("ended_then_changed", "10s");
    let answer = bench.engine.read(&question).expect("the question fits");
    assert_eq!(answer.value, Some(Value::Float(1.0 / 3.0)));
    let components = answer.components.expect("a conversion shows its counts");
    let expected = [("converted", 1), ("entered", 3)].map(|(n, v)| (n.to_owned(), Value::Int(v)));
    assert_eq!(components, expected.into());
    // Of a span in the past the second step may lie behind its end …
    let span = Some((NOW - 10 * SECOND, NOW - 7 * SECOND));
    let spanned = MetricQuestion { window: None, span, ..question.clone() };
    check(&bench, &spanned, Value::Float(0.5));
    // … but not behind what was known.
    check(&bench, &MetricQuestion { as_of: Some(NOW - 7 * SECOND), ..spanned }, Value::Float(0.0));
    check(&bench, &MetricQuestion { as_of: Some(NOW - 3600 * SECOND), ..question }, Value::Null);
}
