//! Whole lines and what becomes of them, as a file that can be read and reviewed.
//!
//! `golden/lines.txt` holds pairs of lines: `>` and a record (`\xHH` stands for a byte, so that
//! records that are not text can be written down), then `=` and its outcome. All records of the
//! file go through the decoder as one batch. `UPDATE_GOLDEN=1` rewrites the outcomes.

use std::fs;
use std::path::Path;

use contracts::model::{Domain, TimeForm};
use contracts::types::Type;
use regex::Regex;

use super::support::{contract, decimal, decode, domain, field, required, show};

/// Sensor readings: one field of each type, one bound of each kind.
fn readings() -> Domain {
    let mut sensor = required("sensor", Type::String);
    sensor.constraints.pattern = Regex::new("^(?:S-[0-9]{3})$").ok();
    let mut unit = field("unit", Type::String);
    unit.constraints.values = Some(vec!["C".to_owned(), "F".to_owned()]);
    let mut value = required("value", decimal(8, 3));
    value.constraints.above = Some("-273.15".to_owned());
    value.constraints.max = Some("1000".to_owned());
    let mut samples = field("samples", Type::List(Box::new(Type::Float64)));
    samples.constraints.min_items = Some(1);
    let mut retries = field("retries", Type::Int64);
    retries.constraints.below = Some("3.5".to_owned());
    let mut seen_at = field("seen_at", Type::Timestamp);
    seen_at.time_form = TimeForm::EpochS;
    let mut note = field("note", Type::String);
    note.constraints.max_length = Some(5);
    let place =
        Type::Struct(vec![("room".to_owned(), Type::String), ("floor".to_owned(), Type::Int64)]);
    let fields = vec![
        sensor,
        unit,
        value,
        samples,
        retries,
        seen_at,
        note,
        field("place", place),
        field("tags", Type::Json),
        field("ok", Type::Bool),
        field("day", Type::Date),
    ];
    domain(vec![vec![contract(&["reading.taken", "reading.corrected"], fields)]])
}

/// Resolves `\xHH` and drops the space after the mark; everything else stands for itself.
fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.strip_prefix(' ').unwrap_or(line);
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = &rest[at + 2..at + 4];
        bytes.push(u8::from_str_radix(code, 16).expect("two hexadecimal digits after `\\x`"));
        rest = &rest[at + 4..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[test]
fn lines_become_what_the_file_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decode/tests/golden/lines.txt");
    let text = fs::read_to_string(&path).expect("the golden file is there");
    let lines: Vec<Vec<u8>> =
        text.lines().filter_map(|line| line.strip_prefix('>').map(bytes)).collect();
    let records: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let batch = decode(readings(), &records);

    let mut got = String::new();
    let mut ordinal = 0;
    for line in text.lines().filter(|line| !line.starts_with("= ")) {
        got.push_str(line);
        got.push('\n');
        if line.starts_with('>') {
            got.push_str(&format!("= {}\n", show(&batch, ordinal)));
            ordinal += 1;
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &got).expect("the golden file can be written");
        return;
    }
    for (got, want) in got.lines().zip(text.lines()) {
        assert_eq!(got, want, "run with UPDATE_GOLDEN=1 if this is intended");
    }
    assert_eq!(got, text, "run with UPDATE_GOLDEN=1 if this is intended");
}
