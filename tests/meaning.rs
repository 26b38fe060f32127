//! `agentflow contracts diff`: what changes of contracts mean, told to people, scripts and CI.

mod support;

use serde_json::{Value, json};
use support::{Finished, Place, agentflow};

const EVENTS: &str = "\
kind: event
name: trip
names: [trip.begun, trip.ended]
key: trip_id
fields: {trip_id: string, zone: string, km: int64}
enrich:
  long: km > 10
---
kind: entity
name: trip
from: [trip.begun, trip.ended]
key: trip_id
fields: {zone: last, km: last, long: last, seen_at: max(event_time)}
";

const METRICS: &str = "\
kind: metric
name: long_trips
from: {entity: trip}
time: seen_at
where: long
measure: count
dimensions: [zone]
windows: [1h, 24h]
moved_by: [trip.begun, trip.ended]
";

/// Two folders side by side: these contracts, and the same with `changes` made.
fn folders(changes: &[(&str, &str)]) -> (Place, Place) {
    let changed = |text: &str| {
        let change = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        changes.iter().fold(text.to_owned(), change)
    };
    let (events, metrics) = (changed(EVENTS), changed(METRICS));
    assert!(changes.is_empty() || (events, metrics) != (EVENTS.to_owned(), METRICS.to_owned()));
    (
        Place::with_contracts(&[("events.yaml", EVENTS), ("metrics.yaml", METRICS)]),
        Place::with_contracts(&[
            ("events.yaml", &changed(EVENTS)),
            ("metrics.yaml", &changed(METRICS)),
        ]),
    )
}

fn diff((old, new): &(Place, Place), more: &[&str]) -> Finished {
    let folders = [old, new].map(|place| place.contracts.display().to_string());
    let mut arguments = vec!["contracts", "diff", folders[0].as_str(), folders[1].as_str()];
    arguments.extend(more);
    let mut finished = agentflow(arguments);
    for (name, folder) in ["OLD", "NEW"].iter().zip(&folders) {
        finished.stdout = finished.stdout.replace(folder.as_str(), name);
        finished.stderr = finished.stderr.replace(folder.as_str(), name);
    }
    finished
}

#[test]
fn a_column_that_is_enriched_otherwise_names_the_metrics_over_the_entity() {
    let folders = folders(&[("km > 10", "km > 20"), ("windows: [1h, 24h]", "windows: [24h, 7d]")]);
    let finished = diff(&folders, &[]);
    finished.failed(1, &[]);
    assert_eq!(finished.stderr, "");
    assert_eq!(
        finished.stdout,
        "\
breaking: metric long_trips v1, windows: window removed: 1h
  at NEW/metrics.yaml:8
  why: questions with this window get an error
  affects: long_trips v1
  instead: keep it, or add a version without it and deprecate this one
restating: event trip v1, enrich.long: enrich changed: (km > 10) → (km > 20)
  at NEW/events.yaml:7
  why: the column is computed again for all stored events, and what reads it moves
  affects: long_trips v1
  history: computed again
  instead: add a column under another name, or a version of the contract
additive: metric long_trips v1, windows: window added: 7d
  at NEW/metrics.yaml:8
  why: there is more to read; what was there stays as it was
1 breaking, 1 restating, 1 additive, 0 safe
"
    );
}

#[test]
fn what_is_worse_than_allowed_fails() {
    let more = folders(&[("windows: [1h, 24h]", "windows: [1h, 24h, 7d]")]);
    diff(&more, &[]).succeeded();
    assert_eq!(diff(&more, &["--allow", "safe"]).code, Some(1));
    let restated = folders(&[("where: long", "where: not long")]);
    assert_eq!(diff(&restated, &[]).code, Some(1));
    diff(&restated, &["--allow", "restating"]).succeeded();
    let broken = folders(&[("dimensions: [zone]\n", "")]);
    assert_eq!(diff(&broken, &["--allow", "restating"]).code, Some(1));
    diff(&broken, &["--allow", "breaking"]).succeeded();
    let same = folders(&[]);
    assert_eq!(diff(&same, &["--allow", "safe"]).succeeded().stdout, "no change of meaning\n");
}

#[test]
fn scripts_read_the_same_as_json() {
    let finished = diff(&folders(&[("where: long", "where: not long")]), &["--output", "json"]);
    assert_eq!(finished.code, Some(1));
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(
        report,
        json!({
            "worst": "restating",
            "allowed": false,
            "summary": {"additive": 0, "breaking": 0, "restating": 1, "safe": 0},
            "changes": [{
                "class": "restating",
                "change": "where_changed",
                "contract": {"kind": "metric", "name": "long_trips", "version": 1},
                "key": "where",
                "before": "long",
                "after": "(not long)",
                "reason": "the same name and version gives other numbers, also for the past",
                "history": "recomputed",
                "affects": ["long_trips v1"],
                "file": "NEW/metrics.yaml",
                "line": 5,
                "hint": "add a version with the new meaning and keep this one beside it",
            }],
        })
    );
}

#[test]
fn folders_that_do_not_load_are_told_apart() {
    let (old, new) = folders(&[]);
    std::fs::write(new.contracts.join("metrics.yaml"), "kind: metrik\n").expect("write");
    let finished = diff(&(old, new), &[]);
    finished.failed(1, &["NEW does not load: NEW/metrics.yaml:1:7", "hint:"]);
    assert!(!finished.stderr.contains("OLD does not load"), "{finished:?}");
    assert_eq!(finished.stdout, "");
    agentflow(["contracts", "diff", "/nowhere", "/nowhere"])
        .failed(1, &["OLD does not load", "NEW does not load"]);
}
