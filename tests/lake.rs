//! The lake, read by PyIceberg: another implementation of the format finds the events that were
//! accepted, and nothing else.

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use support::Place;
use support::flights::{Kind, Sample};

#[test]
fn every_accepted_event_is_in_the_lake_and_every_rejected_one_among_its_dead_letters() {
    let place = Place::of("flights");
    let sample = Sample::new(101, 1_500, 4);
    let file = place.file("events.ndjson", &sample.lines);
    let report = place.run(&file).json();
    let tables = place.lake_tables(&place.data());
    let rows: u64 = tables
        .iter()
        .filter(|(name, _)| !name.contains("dead_letter"))
        .map(|(_, table)| table["rows"].as_u64().expect("a count"))
        .sum();
    assert_eq!(json!(rows), report["accepted"], "{tables:?}");
    let letters: u64 = tables
        .iter()
        .filter(|(name, _)| name.contains("dead_letter"))
        .map(|(_, table)| table["rows"].as_u64().expect("a count"))
        .sum();
    assert_eq!(json!(letters), report["rejected"], "{tables:?}");
    for table in tables.values() {
        let location = table["metadata_location"].as_str().expect("a location");
        assert!(std::path::Path::new(location.trim_start_matches("file://")).exists(), "{table}");
        assert!(table["position"].as_i64().is_some_and(|position| position > 0), "{table}");
    }

    let Some(python) = std::env::var_os("AGENTFLOW_PYTHON") else {
        eprintln!("AGENTFLOW_PYTHON is not set: `make test` reads the lake with PyIceberg too");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyiceberg/read_lake.py");
    let output = Command::new(python)
        .arg(script)
        .arg(place.data().join("lake"))
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    check_rows(&read, &sample);
}

/// Compares what PyIceberg read with the good events, id by id.
fn check_rows(read: &Value, sample: &Sample) {
    let mut ids: BTreeMap<String, Kind> = BTreeMap::new();
    for flight in &sample.good {
        ids.insert(flight.id.clone(), flight.kind);
    }
    assert_eq!(read["events"], json!(ids.len()), "{read}");
    assert_eq!(read["distinct_ids"], json!(ids.len()), "{read}");
    assert_eq!(read["dead_letters"], json!(sample.rejected_count()), "{read}");
}

#[test]
fn a_directory_without_a_lake_has_no_tables() {
    let place = Place::of("flights");
    std::fs::create_dir(place.data()).expect("create");
    assert!(place.lake_tables(&place.data()).is_empty());
}
