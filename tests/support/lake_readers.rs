//! The lake as other implementations of the format read it: PyIceberg, and ClickHouse, which shares no
//! code with it. Event by event against what a stream should have left.
//!
//! `make test` installs both and names the interpreter in `AGENTFLOW_PYTHON`; without it these checks
//! say that they were left out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::Place;
use super::flights::Sample;
use super::lake_services::LakeServices;

/// Columns that are compared, in the order of [`wanted`].
const COLUMNS: [&str; 5] = ["_event_id", "_event_type", "carrier", "origin", "distance_miles"];

/// The interpreter of the readers.
pub fn python() -> Option<OsString> {
    let python = std::env::var_os("AGENTFLOW_PYTHON");
    if python.is_none() {
        eprintln!("AGENTFLOW_PYTHON is not set: `make test` reads the lake with others too");
    }
    python
}

/// A reader's program.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lake_readers").join(name)
}

/// Both find the good events of the sample in the local lake of a place, and nothing else.
#[track_caller]
pub fn check_local(place: &Place, sample: &Sample) {
    let Some(python) = python() else { return };
    let lake = place.data().join("lake");
    let mut pyiceberg = place.program(&python);
    pyiceberg.arg(script("pyiceberg_reader.py")).arg(&lake).arg("--events").args(COLUMNS);
    check("PyIceberg", pyiceberg, sample);
    let mut clickhouse = place.program(&python);
    clickhouse.arg(script("clickhouse_reader.py")).arg(&lake).args(COLUMNS);
    check("ClickHouse", clickhouse, sample);
}

/// PyIceberg finds them through the REST catalog.
#[track_caller]
pub fn check_rest(services: &LakeServices, sample: &Sample) {
    let Some(python) = python() else { return };
    let mut pyiceberg = Command::new(&python);
    pyiceberg.arg(script("pyiceberg_reader.py")).args(["rest", "--events"]).args(COLUMNS);
    pyiceberg.envs(services.environment());
    check("PyIceberg", pyiceberg, sample);
}

#[track_caller]
fn check(who: &str, mut reader: Command, sample: &Sample) {
    let output = reader.output().expect("python starts");
    assert!(output.status.success(), "{who}: {}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut rows: Vec<Value> = read["events"].as_array().expect("rows").clone();
    let mut wanted = wanted(sample);
    rows.sort_by_key(Value::to_string);
    wanted.sort_by_key(Value::to_string);
    assert_eq!(rows.len(), wanted.len(), "{who}");
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted, "{who}");
    }
    assert_eq!(read["dead_letters"], json!(sample.rejected_count()), "{who}");
}

/// What should be read: the columns as texts, one row per good event.
fn wanted(sample: &Sample) -> Vec<Value> {
    let row = |flight: &super::flights::Flight| {
        let distance = flight.distance.to_string();
        json!([flight.id, flight.kind.name(), flight.carrier, flight.origin, distance])
    };
    sample.good.iter().map(row).collect()
}
