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

    check_local(&place, &sample);
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
    check_local(&place, &sample);
    // The pipeline goes on where it was.
    place.run(&place.file("events.ndjson", &log)).succeeded();
    check_local(&place, &sample);
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

/// Contracts of one event whose table is laid out as `lake` says.
fn visits(lake: &str) -> String {
    format!(
        "kind: event\nnames: [visit]\nenvelope: {{tenant: org}}\nfields:\n  user_id: string\n  \
         country: {{type: string, required: false}}\nlake: {lake}\n"
    )
}

/// What PyIceberg finds of the visits: rows, rows and files of one tenant, files of one day, and whether
/// the rows of each file of the newest partition spec stand in the order of the table.
const READ_VISITS: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
import pyarrow.parquet as pq
import pyiceberg_reader as reader
table = dict(reader.all_tables(reader.open_catalog(sys.argv[2])))["visit"]
tenant = table.scan(row_filter="_tenant == '../b c'")
day = table.scan(row_filter="_event_time >= '2026-01-31T00:00:00+00:00'")
def key(row):
    return row["user_id"], row["_event_time"], row["_seq"]
in_order = True
for task in table.scan().plan_files():
    if task.file.spec_id != table.spec().spec_id:
        continue
    path = task.file.file_path.removeprefix("file://")
    rows = pq.read_table(path, partitioning=None, columns=["user_id", "_event_time", "_seq"])
    rows = rows.to_pylist()
    in_order &= rows == sorted(rows, key=key)
print(json.dumps({
    "rows": sorted(table.scan().to_arrow()["_seq"].to_pylist()),
    "tenant": tenant.to_arrow().num_rows,
    "tenant_files": len(list(tenant.plan_files())),
    "day": day.to_arrow().num_rows,
    "day_files": len(list(day.plan_files())),
    "order": [field.source_id for field in table.sort_order().fields],
    "in_order": in_order,
}))
"#;

#[test]
fn others_read_a_table_by_its_declared_partition_also_after_it_has_changed() {
    let Some(python) = std::env::var_os("AGENTFLOW_PYTHON") else {
        eprintln!("AGENTFLOW_PYTHON is not set: `make test` reads the lake with PyIceberg too");
        return;
    };
    let place = Place::with_contracts(&[("visits.yaml", &visits("{partition: tenant}"))]);
    // Two tenants, two days, three users, some without a country, in no order.
    let line = |n: usize| {
        let (org, day) = (["a", "../b c"][n % 2], 30 + n / 2 % 2);
        let country = ["\"LV\"", "null", "\"null\""][n % 3];
        format!(
            r#"{{"event_type":"visit","event_id":"{n}","timestamp":"2026-01-{day}T10:00:{:02}Z","org":"{org}","user_id":"u{}","country":{country}}}"#,
            n * 7 % 60,
            n * 5 % 3
        )
        .into_bytes()
    };
    let lines: Vec<Vec<u8>> = (0..60).map(line).collect();
    let read = || -> Value {
        let output = Command::new(&python)
            .args(["-c", READ_VISITS])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lake_readers"))
            .arg(place.data().join("lake"))
            .output()
            .expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let run = |lines: &[Vec<u8>]| {
        let report = place.run(&place.file("visits.ndjson", lines)).json();
        assert_eq!(report["accepted"], json!(20), "{report}");
        let read = read();
        assert_eq!(read["rows"], json!((1..=lines.len()).collect::<Vec<_>>()), "{read}");
        assert_eq!(read["tenant"], json!(lines.len() / 2), "{read}");
        assert_eq!(read["day"], json!(lines.len() / 2), "{read}");
        read
    };
    let first = run(&lines[..20]);
    assert_eq!((&first["tenant_files"], &first["order"]), (&json!(1), &json!([])), "{first}");

    let layout = "{partition: [tenant, day(timestamp), country], sort: [user_id, timestamp]}";
    std::fs::write(place.contracts.join("visits.yaml"), visits(layout)).expect("a new layout");
    // One file of before, and two days with three values of the country each.
    let second = run(&lines[..40]);
    assert_eq!(second["tenant_files"], json!(1 + 6), "{second}");
    assert_eq!(second["order"].as_array().map(Vec::len), Some(2), "{second}");
    let third = run(&lines);
    assert_eq!(third["tenant_files"], json!(1 + 12), "{third}");
    assert_eq!(third["in_order"], json!(true), "{third}");

    let data = place.data().display().to_string();
    agentflow(["lake", "maintain", "--data", &data, "--min-files", "2"]).succeeded();
    let merged = read();
    assert_eq!(merged["rows"], third["rows"], "{merged}");
    assert_eq!(merged["tenant_files"], json!(1 + 6), "{merged}");
    assert_eq!(merged["in_order"], json!(true), "{merged}");
    assert_eq!((&merged["tenant"], &merged["day"]), (&json!(30), &json!(30)), "{merged}");
    assert!(merged["day_files"].as_u64() < third["day_files"].as_u64(), "{merged}");
    let tables = place.lake_tables(&place.data());
    let visit = tables.get("visit").or_else(|| tables.values().find(|t| t["name"] == "visit"));
    assert_eq!(visit.expect("the table")["sort"], json!(["user_id", "_event_time"]));
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
