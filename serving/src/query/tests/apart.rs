//! What must be told apart or be the same, whichever way it is asked: groups that are not named and values called as
//! they are, empty windows, and the ends of live windows.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use pipeline::decode::Decoder;
use pipeline::processor::Processor;
use serde_json::json;

use super::world::raw;
use crate::cache::Cache;
use crate::metric::MetricEngine;
use crate::query::metrics::{self, MetricsQuery, series};
use crate::question::{MetricQuestion, ReadError, Value};
use crate::store::Store;
use crate::value::parse_time;

const DOMAIN: &str = "
kind: event
names: [room.taken, room.left]
version: 1
key: room
fields: {room: string, floor: string, wing: string, rent: {type: 'decimal(38,0)', required: false}}
---
kind: metric
name: taken
from: {event: room.taken}
measure: count
dimensions: {floor: {max_cardinality: 1}, wing: {max_cardinality: 1}}
windows: [1h, day, all]
zone: UTC
moved_by: [room.taken]
---
kind: metric
name: left
from: {event: room.left}
measure: count
dimensions: {floor: {max_cardinality: 1}, wing: {max_cardinality: 1}}
windows: [1h, day, all]
zone: UTC
moved_by: [room.left]
---
kind: metric
name: more
measure: derived(taken - left)
windows: [1h, day, all]
zone: UTC
moved_by: [room.taken, room.left]
---
kind: metric
name: one_more
measure: derived(left + 1)
windows: [1h, day]
zone: UTC
moved_by: [room.left]
---
kind: metric
name: per_room
measure: ratio(more, one_more)
windows: [1h, day]
zone: UTC
moved_by: [room.taken, room.left]
---
kind: metric
name: rent
from: {event: room.taken}
measure: sum(rent)
dimensions: [floor]
windows: [1h]
moved_by: [room.taken]
---
kind: metric
name: records
from: ingest
measure: count
windows: [1h]
moved_by: ingest
---
kind: metric
name: seconds_taken
from: {event: [room.taken, room.left]}
key: room
measure: duration_in_state(event_type = 'room.taken')
dimensions: [floor]
windows: [1h, all]
freshness: {max_age: 1s}
moved_by: [room.taken, room.left]
---
kind: metric
name: mean_seconds
measure: derived(seconds_taken / 2)
windows: [1h, all]
freshness: {max_age: 1s}
moved_by: [room.taken, room.left]
";

fn at(text: &str) -> i64 {
    parse_time(&format!("2026-01-01T{text}Z")).unwrap()
}

/// A cache over some rooms; its clock goes on by a millisecond each time it is looked at.
fn rooms(events: &[(&str, &str, &str, &str, &str)]) -> (Store, Cache) {
    let domain = contracts::load(&[(PathBuf::from("rooms.yaml"), DOMAIN.to_owned())]);
    let domain = Arc::new(domain.unwrap_or_else(|errors| panic!("{errors:#?}")));
    let store = Store::in_memory(domain.clone()).unwrap();
    let mut processor = Processor::new(domain.clone(), Box::new(store.writer().unwrap())).unwrap();
    let events = events.iter().enumerate().map(|(n, (what, room, floor, wing, time))| {
        json!({"event_type": format!("room.{what}"), "event_id": n.to_string(), "room": room,
            "floor": floor, "wing": wing, "rent": (*wing == "dear").then(|| "9".repeat(38)), "timestamp": format!("2026-01-01T{time}Z")})
    });
    let events: Vec<serde_json::Value> = events.collect();
    let batch = Decoder::new(&domain).decode(raw("acme", &events, at("12:00:00")));
    processor.process(&[&batch]).unwrap();
    let clock = AtomicI64::new(at("12:00:00"));
    let now = Arc::new(move || clock.fetch_add(1_000, Ordering::Relaxed));
    let engine = Arc::new(MetricEngine::with_clock(domain, store.readers(), now));
    (store, Cache::new(engine))
}

fn ask(metric: &str, window: &str) -> MetricQuestion {
    MetricQuestion {
        metric: metric.into(),
        tenant: "acme".into(),
        window: Some(window.into()),
        ..MetricQuestion::default()
    }
}

fn query(metrics: &[&str], window: &str) -> MetricsQuery {
    MetricsQuery {
        tenant: "acme".into(),
        metrics: metrics.iter().map(|name| (*name).to_owned()).collect(),
        window: Some(window.into()),
        ..MetricsQuery::default()
    }
}

#[test]
fn a_value_that_is_called_as_the_rest_is_stays_apart() {
    // One floor and one wing are named, and both are called as the rest is.
    let (_store, cache) = rooms(&[
        ("taken", "a", "__other__", "__other__", "11:30:00"),
        ("taken", "b", "__other__", "west", "11:30:00"),
        ("taken", "c", "second", "__other__", "11:30:00"),
        ("taken", "d", "second", "west", "11:30:00"),
        ("taken", "e", "third", "west", "11:30:00"),
    ]);
    let dimensions = vec!["floor".to_owned(), "wing".to_owned()];
    let answer = cache.read(&MetricQuestion { group_by: dimensions.clone(), ..ask("taken", "1h") });
    let groups = answer.unwrap().groups.unwrap();
    let told: Vec<(Vec<bool>, Value)> =
        groups.into_iter().map(|group| (group.others, group.value)).collect();
    let expected = [
        (vec![false, false], Value::Int(1)),
        (vec![false, true], Value::Int(1)),
        (vec![true, false], Value::Int(1)),
        (vec![true, true], Value::Int(2)),
    ];
    assert_eq!(told, expected);

    for grain in [None, Some("1d".to_owned())] {
        let asked =
            MetricsQuery { dimensions: dimensions.clone(), grain, ..query(&["taken"], "1h") };
        let answer = metrics::read(&cache, &asked).unwrap();
        let counts: Vec<&str> = answer.rows.iter().filter_map(|row| row.get("taken")).collect();
        assert_eq!(counts, ["1", "1", "1", "2"], "{:?}", asked.grain);
        let others: Vec<(usize, Vec<String>)> =
            [(1, vec!["wing"]), (2, vec!["floor"]), (3, vec!["floor", "wing"])]
                .map(|(row, names)| (row, names.into_iter().map(str::to_owned).collect()))
                .to_vec();
        assert_eq!(answer.others, others);
    }
    // With two metrics all rows have to name the same.
    let both = MetricsQuery { dimensions, ..query(&["taken", "left"], "1h") };
    let answer = metrics::read(&cache, &both).unwrap();
    let sum: i64 =
        answer.rows.iter().map(|row| row.get("taken").unwrap().parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 5);
}

#[test]
fn an_empty_window_is_the_same_everywhere() {
    let (_store, cache) = rooms(&[
        ("taken", "a", "first", "east", "09:30:00"),
        ("left", "b", "second", "east", "11:30:00"),
    ]);
    // 0 - 0, where nothing is in the window, for a part of a series, and for a group that is missing.
    let empty = MetricQuestion { as_of: Some(at("09:00:00")), ..ask("more", "1h") };
    assert_eq!(cache.read(&empty).unwrap().value, Some(Value::Float(0.0)));
    let by_floor = vec!["floor".to_owned()];
    let compared = MetricQuestion {
        group_by: by_floor.clone(),
        compare: true,
        as_of: Some(at("10:00:00")),
        ..ask("more", "1h")
    };
    let groups = cache.read(&compared).unwrap().groups.unwrap();
    assert_eq!(
        groups.iter().map(|group| (&group.value, &group.previous)).collect::<Vec<_>>(),
        [(&Value::Float(1.0), &Some(Value::Float(0.0)))]
    );
    let grouped = MetricQuestion {
        group_by: by_floor.clone(),
        as_of: Some(at("12:00:00")),
        ..ask("more", "day")
    };
    let (_, points) = series::read(&cache, &grouped, "6h", None).unwrap();
    let values = points.iter().map(|point| {
        point
            .groups
            .as_ref()
            .unwrap()
            .iter()
            .map(|group| group.value.to_string())
            .collect::<Vec<_>>()
    });
    assert_eq!(values.collect::<Vec<_>>(), [["0", "0"], ["1", "-1"]]);
    let rows = MetricsQuery {
        dimensions: by_floor,
        as_of: Some(at("12:00:00")),
        grain: Some("6h".into()),
        ..query(&["more", "taken"], "day")
    };
    let answer = metrics::read(&cache, &rows).unwrap();
    let values: Vec<&str> = answer.rows.iter().filter_map(|row| row.get("more")).collect();
    assert_eq!(values, ["0.0", "0.0", "1.0", "-1.0"]);
}

#[test]
fn a_ratio_over_an_empty_window_is_that_of_its_parts() {
    let (_store, cache) = rooms(&[("left", "b", "second", "east", "11:30:00")]);
    let empty = MetricQuestion { as_of: Some(at("09:00:00")), ..ask("per_room", "1h") };
    // 0 / (0 + 1).
    assert_eq!(cache.read(&empty).unwrap().value, Some(Value::Float(0.0)));
    let grouped = MetricQuestion {
        group_by: vec!["floor".to_owned()],
        as_of: Some(at("12:00:00")),
        ..ask("per_room", "day")
    };
    let (_, points) = series::read(&cache, &grouped, "6h", None).unwrap();
    let values = points.iter().map(|point| point.groups.as_ref().unwrap()[0].value.to_string());
    assert_eq!(values.collect::<Vec<_>>(), ["0", "-0.5"]);
}

#[test]
fn a_day_that_has_just_begun_has_no_parts() {
    let (_store, cache) = rooms(&[("taken", "a", "first", "east", "09:30:00")]);
    let midnight = Some(parse_time("2026-01-02T00:00:00Z").unwrap() - 86_400_000_000);
    let asked = MetricQuestion { as_of: midnight, ..ask("taken", "day") };
    let (whole, points) = series::read(&cache, &asked, "1h", None).unwrap();
    assert_eq!((whole.value, points.len()), (Some(Value::Int(0)), 0));
    let rows =
        MetricsQuery { as_of: midnight, grain: Some("1h".into()), ..query(&["taken"], "day") };
    assert!(metrics::read(&cache, &rows).unwrap().rows.is_empty());
    // What is no span is none.
    let same = MetricsQuery {
        window: None,
        from: midnight,
        to: midnight,
        grain: Some("1h".into()),
        ..query(&["taken"], "day")
    };
    let error = metrics::read(&cache, &same).unwrap_err();
    assert!(matches!(error, ReadError::Invalid { parameter: "from", .. }), "{error:?}");
}

#[test]
fn a_state_lasts_as_long_in_the_parts_as_in_the_whole() {
    let (_store, cache) = rooms(&[
        ("taken", "a", "first", "east", "09:30:00"),
        ("taken", "b", "second", "east", "11:50:00"),
        ("left", "b", "second", "east", "11:55:00"),
    ]);
    let number = |value: &Value| value.as_f64().unwrap();
    for metric in ["seconds_taken", "mean_seconds"] {
        // The second time the whole is an entry of the cache, and some time ago.
        for _ in 0..3 {
            let (whole, points) = series::read(&cache, &ask(metric, "1h"), "7m", None).unwrap();
            let parts: f64 = points.iter().map(|point| number(point.value.as_ref().unwrap())).sum();
            let whole = number(&whole.value.unwrap());
            assert!((parts - whole).abs() < 1e-6, "{metric}: {parts} {whole}");
        }
    }
}

#[test]
fn a_sum_with_more_digits_than_its_type_is_none() {
    let dear = ("taken", "a", "first", "dear", "11:30:00");
    let (_store, cache) = rooms(&[dear, ("taken", "b", "first", "east", "11:30:00")]);
    let value = cache.read(&ask("rent", "1h")).unwrap().value.unwrap();
    assert_eq!(value.to_string(), "9".repeat(38));
    let (_store, cache) = rooms(&[dear, dear]);
    for group_by in [vec![], vec!["floor".to_owned()]] {
        let error = cache.read(&MetricQuestion { group_by, ..ask("rent", "1h") }).unwrap_err();
        assert!(matches!(error, ReadError::Overflow { .. }), "{error:?}");
    }
}

#[test]
fn of_all_records_the_rejected_ones_are_a_share() {
    let (_store, cache) = rooms(&[
        ("taken", "a", "first", "east", "11:30:00"),
        ("taken", "b", "first", "east", "11:30:00"),
        ("left", "a", "first", "east", "11:40:00"),
        ("forgotten", "a", "first", "east", "11:45:00"),
    ]);
    let answer = cache.read(&ask("records", "1h")).unwrap();
    assert_eq!(answer.value, Some(Value::Int(4)));
    assert_eq!(answer.proof.events_in_window, Some(3));
    assert_eq!(answer.proof.rejected_share(), Some(0.25));
}
