//! A domain that the code has never seen: its own envelope members, epoch times, nested types, and
//! corrections that move an entity from group to group and back out of a metric.

mod support;

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use support::{Place, agentflow, check_answer};

const PARCEL: &str = "\
kind: event
name: parcel
names: [parcel.announced, parcel.moved, parcel.lost]
version: 1
owner: depot
envelope: {type: meta.kind, id: meta.id, time: {field: meta.at, form: epoch_ms}}
key: parcel_id
dedup: {horizon: 30d}
fields:
  parcel_id: {type: string}
  depot: {type: string, required: false}
  grams: {type: int64, required: false, min: 1}
  state: {type: string, values: [announced, moving, lost]}
---
kind: entity
name: parcel
version: 1
from: [parcel.announced, parcel.moved, parcel.lost]
key: parcel_id
fields: {depot: last, grams: last, state: last, announced_at: first(event_time)}
";

const METRICS: &str = "\
kind: metric
name: parcels
version: 1
unit: count
from: {entity: parcel}
time: announced_at
where: state <> 'lost'
measure: count
dimensions: {depot: {}}
windows: [1h, 24h]
moved_by: [parcel.announced, parcel.moved, parcel.lost]
---
kind: metric
name: weight
version: 1
unit: g
from: {entity: parcel}
time: announced_at
where: state <> 'lost'
measure: sum(grams)
dimensions: {depot: {}}
windows: [1h, 24h]
moved_by: [parcel.announced, parcel.moved, parcel.lost]
---
kind: metric
name: grams_per_parcel
version: 1
unit: g
measure: ratio(weight, parcels)
windows: [1h, 24h]
moved_by: [parcel.announced, parcel.moved, parcel.lost]
";

const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z, ms
const HOUR: i64 = 3_600_000;

#[derive(Debug, Clone)]
struct Event {
    at: i64,
    kind: &'static str,
    parcel: usize,
    depot: Option<String>,
    grams: Option<i64>,
    state: &'static str,
}

/// The events of a seed, in order of telling (which is not that of their times).
fn events(seed: u64, parcels: usize) -> Vec<Event> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut told: Vec<(i64, Event)> = Vec::new();
    for parcel in 0..parcels {
        let mut at = START + rng.random_range(0..20 * HOUR);
        let mut add = |event: Event, rng: &mut SmallRng| {
            let slow = if rng.random_bool(0.1) { rng.random_range(0..3 * HOUR) } else { 0 };
            told.push((event.at + slow, event));
        };
        let depot = Some(format!("D{}", rng.random_range(0..3)));
        let grams = Some(rng.random_range(1..5000));
        add(
            Event { at, kind: "parcel.announced", parcel, depot, grams, state: "announced" },
            &mut rng,
        );
        for _ in 0..rng.random_range(0..4) {
            at += rng.random_range(1..2 * HOUR);
            let depot = rng.random_bool(0.7).then(|| format!("D{}", rng.random_range(0..3)));
            let grams = rng.random_bool(0.2).then(|| rng.random_range(1..5000));
            add(
                Event { at, kind: "parcel.moved", parcel, depot, grams, state: "moving" },
                &mut rng,
            );
        }
        if rng.random_bool(0.15) {
            at += rng.random_range(1..HOUR);
            add(
                Event { at, kind: "parcel.lost", parcel, depot: None, grams: None, state: "lost" },
                &mut rng,
            );
        }
    }
    told.sort_by_key(|(arrival, event)| (*arrival, event.at));
    told.into_iter().map(|(_, event)| event).collect()
}

fn line(number: usize, event: &Event) -> Vec<u8> {
    let mut body = json!({
        "meta": {"kind": event.kind, "id": format!("e{number}"), "at": event.at},
        "parcel_id": format!("P{}", event.parcel),
        "state": event.state,
    });
    if let Some(depot) = &event.depot {
        body["depot"] = json!(depot);
    }
    if let Some(grams) = event.grams {
        body["grams"] = json!(grams);
    }
    body.to_string().into_bytes()
}

/// A parcel as of a time: the last value of each field by event time, an absent field changes
/// nothing.
#[derive(Debug, Default, Clone)]
struct Parcel {
    announced_at: i64,
    depot: Option<String>,
    grams: Option<i64>,
    state: &'static str,
}

fn parcels(events: &[Event], as_of: i64) -> BTreeMap<usize, Parcel> {
    let mut ordered: Vec<&Event> = events.iter().filter(|event| event.at < as_of).collect();
    ordered.sort_by_key(|event| event.at);
    let mut parcels: BTreeMap<usize, Parcel> = BTreeMap::new();
    for event in ordered {
        let parcel = parcels
            .entry(event.parcel)
            .or_insert_with(|| Parcel { announced_at: event.at, ..Parcel::default() });
        parcel.depot = event.depot.clone().or(parcel.depot.take());
        parcel.grams = event.grams.or(parcel.grams);
        parcel.state = event.state;
    }
    parcels
}

fn expected(events: &[Event], metric: &str, as_of: i64, length: i64, depot: Option<&str>) -> Value {
    let rows: Vec<Parcel> = parcels(events, as_of)
        .into_values()
        .filter(|parcel| parcel.announced_at >= as_of - length && parcel.announced_at < as_of)
        .filter(|parcel| parcel.state != "lost")
        .filter(|parcel| depot.is_none_or(|depot| parcel.depot.as_deref() == Some(depot)))
        .collect();
    let weight: i64 = rows.iter().filter_map(|parcel| parcel.grams).sum();
    match metric {
        "parcels" => json!({"value": rows.len()}),
        "weight" => json!({"value": weight}),
        _ if rows.is_empty() => json!({"value": null}),
        _ => json!({"value": weight as f64 / rows.len() as f64}),
    }
}

#[test]
fn corrections_move_an_entity_between_groups_and_out_of_a_metric() {
    let place = Place::with_contracts(&[("parcel.yaml", PARCEL), ("metrics.yaml", METRICS)]);
    let contracts = place.contracts.display().to_string();
    agentflow(["contracts", "check", "--contracts", &contracts]).succeeded();
    let events = events(7, 400);
    let lines: Vec<Vec<u8>> =
        events.iter().enumerate().map(|(number, event)| line(number, event)).collect();
    let report = place.run(&place.file("events.ndjson", &lines)).json();
    assert_eq!(report["accepted"], json!(events.len()), "{report}");

    let mut rng = SmallRng::seed_from_u64(8);
    let mut questions = Vec::new();
    let mut wanted = Vec::new();
    for i in 0..150 {
        let metric = ["parcels", "weight", "grams_per_parcel"][i % 3];
        let (window, length) = [("1h", HOUR), ("24h", 24 * HOUR)][rng.random_range(0..2)];
        // Half of them after everything has happened: the state that live reads stand on.
        let as_of = match rng.random_bool(0.5) {
            true => START + 30 * HOUR,
            false => events[rng.random_range(0..events.len())].at + rng.random_range(0..2),
        };
        let depot = (metric != "grams_per_parcel" && rng.random_bool(0.5))
            .then(|| ["D0", "D1", "D2"][rng.random_range(0..3)]);
        let filters = depot.map_or(json!({}), |depot| json!({"depot": depot}));
        let as_of_text = support::flights::rfc3339(as_of);
        questions.push(
            json!({"metric": metric, "window": window, "as_of": as_of_text, "filters": filters}),
        );
        wanted.push(expected(&events, metric, as_of, length, depot));
    }
    let answers = place.read_batch(&place.data(), &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&wanted) {
        check_answer(question, answer, expected);
    }
    let end = support::flights::rfc3339(START + 30 * HOUR);
    place.verify(&place.data(), &[&end, Place::latest(&questions[..20])]);
}
