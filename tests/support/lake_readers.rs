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
use super::lake_services::{LakeServices, Service};

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

/// The interpreter of the readers of that catalog: for Glue there is one of its own, beside the server.
pub fn python_for(catalog: Service) -> Option<OsString> {
    if catalog != Service::Glue {
        return python();
    }
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/glue/fetch.sh");
    let output = Command::new(fetch).arg("--cached").output().expect("the script starts");
    let folder = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "infra/glue/fetch.sh has not made its environment");
    Some(Path::new(folder.trim_end()).join("bin/python").into())
}

/// A reader's program, as other programs find that catalog; nobody where there is no PyIceberg.
pub fn remote(services: &LakeServices, name: &str) -> Option<Command> {
    let mut program = Command::new(python_for(services.kind())?);
    program.arg(script(name)).envs(services.environment());
    Some(program)
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

/// The word by which the readers know a catalog.
pub fn word(catalog: Service) -> &'static str {
    if catalog == Service::Glue { "glue" } else { "rest" }
}

/// PyIceberg finds them through the catalog.
#[track_caller]
pub fn check_remote(services: &LakeServices, sample: &Sample) {
    let Some(mut pyiceberg) = remote(services, "pyiceberg_reader.py") else { return };
    pyiceberg.args([word(services.kind()), "--events"]).args(COLUMNS);
    check("PyIceberg", pyiceberg, sample);
}

/// Somebody else, who changes a table of a catalog with PyIceberg.
pub struct Other {
    table: &'static str,
}

impl Other {
    /// Nobody where there is no PyIceberg for that catalog.
    pub fn of(catalog: Service, table: &'static str) -> Option<Self> {
        python_for(catalog).map(|_| Self { table })
    }

    /// What the table looks like after `words`.
    #[track_caller]
    pub fn does(&self, services: &LakeServices, words: &[&str]) -> Value {
        let mut program = remote(services, "pyiceberg_changes.py").expect("PyIceberg");
        program.args([word(services.kind()), self.table]).args(words);
        let output = program.output().expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
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
