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
restating: event trip v1, enrich.long: enrich changed: km > 10 → km > 20
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
                "after": "not long",
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

/// Trips of some zones; a trip's last event says how long it was.
fn trips() -> Vec<(usize, usize, usize)> {
    (0..400).map(|i| (i % 150, (i % 150) % 3, (i * 7) % 30)).collect()
}

fn events() -> Vec<Vec<u8>> {
    let event = |(i, (trip, zone, km)): (usize, (usize, usize, usize))| {
        let second = format!("2026-01-01T00:{:02}:{:02}Z", i / 60, i % 60);
        json!({"event_type": "trip.ended", "event_id": format!("e{i}"), "timestamp": second,
            "trip_id": format!("T{trip}"), "zone": format!("Z{zone}"), "km": km})
        .to_string()
        .into_bytes()
    };
    trips().into_iter().enumerate().map(event).collect()
}

/// How many trips are longer than `least`, in all and by zone, told by nothing of the product.
fn longer_than(least: usize) -> (usize, [usize; 3]) {
    let mut last = std::collections::BTreeMap::new();
    for (trip, zone, km) in trips() {
        last.insert(trip, (zone, km));
    }
    let mut zones = [0; 3];
    last.values().filter(|(_, km)| *km > least).for_each(|(zone, _)| zones[*zone] += 1);
    (zones.iter().sum(), zones)
}

#[test]
fn a_shadow_shows_how_numbers_would_move_and_touches_nothing() {
    let (old, new) = folders(&[("km > 10", "km > 20")]);
    old.run(&old.file("events.ndjson", &events())).succeeded();
    let data = old.data().display().to_string();
    let file = old.data().join("serving.duckdb");
    let store = || std::fs::read(&file).expect("a store");
    let before = store();
    let folders = (old, new);
    let shadow = ["--allow", "restating", "--shadow", "--data", &data];
    let finished = diff(&folders, &[&shadow[..], &["--output", "json"]].concat());
    let report: Value = serde_json::from_str(&finished.succeeded().stdout).expect("JSON");
    let ((old_all, old_zones), (new_all, new_zones)) = (longer_than(10), longer_than(20));
    let moved = &report["shadow"]["metrics"][0];
    assert_eq!(moved["metric"], "long_trips v1");
    for window in [0, 1] {
        let window = &moved["windows"][window];
        assert_eq!(
            (&window["old"], &window["new"], &window["difference"]),
            (&json!(old_all), &json!(new_all), &json!(new_all as i64 - old_all as i64)),
            "{report}"
        );
        let movers = window["movers"]["zone"].as_array().expect("movers");
        assert_eq!(movers.len(), 3, "{window}");
        for mover in movers {
            let zone: usize = mover["value"].as_str().expect("a zone")[1..].parse().expect("Z0");
            assert_eq!(mover["old"], json!(old_zones[zone]));
            assert_eq!(mover["new"], json!(new_zones[zone]));
        }
    }
    assert_eq!(before, store(), "the data directory is as it was");
    let told = diff(&folders, &shadow).succeeded().stdout.clone();
    assert!(told.contains(&format!("long_trips v1, 24h: {old_all} → {new_all} (-")), "{told}");
    // What stored rows cannot follow is told.
    let wrong =
        std::fs::read_to_string(folders.1.contracts.join("events.yaml")).expect("contracts");
    let wrong = wrong.replace("km: int64", "km: float64");
    std::fs::write(folders.1.contracts.join("events.yaml"), wrong).expect("write");
    diff(&folders, &shadow).failed(1, &["cannot follow NEW", "`km` was int64, is now float64"]);
    diff(&folders, &["--shadow"]).failed(1, &["--data"]);
}

#[test]
fn the_readme_shows_a_command_that_works() {
    let readme = std::fs::read_to_string("README.md").expect("the README");
    let line = readme.lines().find(|line| line.starts_with("$ agentflow contracts diff "));
    let words: Vec<&str> = line.expect("a line").split_whitespace().skip(2).collect();
    assert_eq!(words, ["contracts", "diff", "contracts/domains/shop", "mine/shop"]);
    assert!(readme.lines().any(|line| line.starts_with("$ cp -r contracts/domains mine ")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mine = folder.path().join("mine");
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg("-r").arg("contracts/domains").arg(&mine).status().expect("cp").success());
    let shop = mine.join("shop");
    agentflow(["contracts", "diff", words[2], shop.to_str().expect("a path")]).succeeded();
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
