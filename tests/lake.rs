//! The lake, read by PyIceberg and by ClickHouse: other implementations of the format find the events
//! that were accepted, and nothing else.

mod support;

use std::process::Command;

use serde_json::{Value, json};

use support::flights::Sample;
use support::lake_readers::{check_local, python};
use support::server::Server;
use support::{Place, agentflow, holds_events, wait_for};

#[test]
fn every_accepted_event_is_in_the_lake_and_every_rejected_one_among_its_dead_letters() {
    let place = Place::of("flights");
    let sample = Sample::new(101, 1_500, 4);
    let file = place.file("events.ndjson", &sample.lines);
    let report = place.run(&file).json();
    let tables = place.lake_tables(&place.data());
    let rows: u64 = tables
        .iter()
        .filter(|(name, _)| holds_events(name))
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

    check_local(&place.data().join("lake"), &sample);
}

#[test]
fn after_maintenance_others_read_the_same_events_from_fewer_files() {
    let place = Place::of("flights");
    let sample = Sample::new(102, 1_200, 4);
    let mut log: Vec<Vec<u8>> = Vec::new();
    // Each run continues the file and commits what is new.
    for lines in sample.lines.chunks(sample.lines.len().div_ceil(12)) {
        log.extend_from_slice(lines);
        place.run(&place.file("events.ndjson", &log)).succeeded();
    }
    let maintain = |more: &[&str]| {
        let data = place.data().display().to_string();
        let mut arguments = vec!["lake", "maintain", "--data", &data, "--min-files", "2"];
        arguments.extend(more);
        agentflow(arguments)
    };
    maintain(&["--table", "nothing"]).failed(1, &["no table `nothing`", "dead_letters", "hint:"]);
    let before = files(&maintain(&["--dry-run", "--output", "json"]).json());
    let after = files(&maintain(&["--output", "json"]).json());
    assert_eq!(before.0, before.1, "a dry run changes nothing");
    assert_eq!(after.0, before.0);
    assert!(after.1 * 3 < after.0, "{after:?}");
    let text = maintain(&[]).stdout;
    assert!(text.starts_with("table") && text.contains("dead_letters"), "{text}");
    check_local(&place.data().join("lake"), &sample);
    // The pipeline goes on where it was.
    place.run(&place.file("events.ndjson", &log)).succeeded();
    check_local(&place.data().join("lake"), &sample);
}

#[test]
fn the_server_tells_how_to_open_its_tables() {
    let Some(python) = python() else { return };
    let place = Place::of("flights");
    let sample = Sample::new(103, 200, 2);
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    let server = Server::start(&place, &[]);
    let lake = wait_for("the tables", || {
        let lake = server.get("/v1/lake").1;
        let tables = lake["tables"].as_array().expect("a list").len();
        (tables == place.lake_tables(&place.data()).len()).then_some(lake)
    });
    let mut rows = 0;
    for table in lake["tables"].as_array().expect("a list") {
        let text = table["open_with"]["pyiceberg"].as_str().expect("a text");
        // Its last line is an expression: the table's rows.
        let (before, last) = text.rsplit_once('\n').expect("several lines");
        let program = format!("{before}\nprint(({last}).num_rows)");
        let output = Command::new(&python).args(["-c", &program]).output().expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(read, table["rows"].to_string(), "{table}");
        if table["name"] == "dead_letters" || holds_events(table["name"].as_str().expect("a name"))
        {
            rows += table["rows"].as_u64().expect("a count");
        }
    }
    assert_eq!(rows, sample.good.len() as u64 + sample.rejected_count());
    assert!(server.stop().success());
}

/// Live files over all tables, before and after.
fn files(reports: &Value) -> (u64, u64) {
    let sum = |moment: &str| {
        let tables = reports.as_array().expect("a list").iter();
        tables.map(|table| table[moment]["files"].as_u64().expect("a count")).sum()
    };
    (sum("before"), sum("after"))
}

#[test]
fn a_directory_without_a_lake_has_no_tables() {
    let place = Place::of("flights");
    std::fs::create_dir(place.data()).expect("create");
    assert!(place.lake_tables(&place.data()).is_empty());
}
