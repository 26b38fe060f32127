//! Stored rows follow changed contracts: afterwards the store is what it would be had the new
//! contracts been there from the beginning.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use contracts::model::{Domain, column};
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::fail_point;
use pipeline::outcome::Counts;
use pipeline::processor::Processor;
use pipeline::source::Limits;
use pipeline::store::Journal;

use super::fixture::{self, child};
use super::from_lake;
use crate::store::{OpenError, Readers, Store, StoreOptions};

pub(super) const DEPOT: &str = "
kind: event
name: depot
names: [depot.visited]
version: 1
fields: {town: string}
---
kind: entity
name: depot
version: 1
from: [depot.visited]
key: town
fields: {visits: count}
---
";

pub(super) const PARCEL_V1: &str = "
kind: event
name: parcel
names: [parcel.sent, parcel.moved]
version: 1
envelope: {version: version}
key: parcel_id
fields:
  parcel_id: string
  sender: {type: string, required: false}
  weight: {type: 'decimal(10,3)', required: false}
enrich:
  heavy: weight > 2
---
";

pub(super) const PARCEL: &str = "
kind: entity
name: parcel
version: 1
from: [parcel.sent, parcel.moved]
key: parcel_id
fields: {sender: last, weight: last, moves: count}
---
";

pub(super) const SENDER: &str = "
kind: entity
name: sender
version: 1
from: {entity: parcel}
key: sender
fields: {parcels: count, weight: sum(weight)}
---
";

/// New fields of every simple type, in the middle; three of them with values that came before.
const PARCEL_V1_MORE_FIELDS: &str = "
kind: event
name: parcel
names: [parcel.sent, parcel.moved]
version: 1
envelope: {version: version}
key: parcel_id
fields:
  parcel_id: string
  town: {type: string, required: false}
  price: {type: 'decimal(12,2)', required: false}
  sender: {type: string, required: false}
  pieces: {type: int64, required: false}
  due: {type: date, required: false}
  picked_at: {type: timestamp, required: false}
  fragile: {type: bool, required: false}
  rate: {type: float64, required: false}
  currency: {type: string, default: EUR}
  weight: {type: 'decimal(10,3)', required: false}
enrich:
  heavy: weight > 2
---
";

const PARCEL_V1_OTHER_ENRICH: &str = "
kind: event
name: parcel
names: [parcel.sent, parcel.moved]
version: 1
envelope: {version: version}
key: parcel_id
fields:
  parcel_id: string
  sender: {type: string, required: false}
  weight: {type: 'decimal(10,3)', required: false}
enrich:
  heavy: weight > 1
  who: coalesce(sender, 'nobody')
---
";

const PARCEL_V2: &str = "
kind: event
name: parcel
names: [parcel.sent, parcel.moved]
version: 2
envelope: {version: version}
key: parcel_id
fields:
  parcel_id: string
  town: {type: string, required: false}
  weight: {type: 'decimal(10,3)', required: false}
enrich:
  heavy: weight > 5
---
";

const PARCEL_WITH_HEAVY: &str = "
kind: entity
name: parcel
version: 1
from: [parcel.sent, parcel.moved]
key: parcel_id
fields: {sender: last, weight: last, moves: count, heavy: last, first_sent: first(timestamp)}
---
";

/// Lines that every contract above accepts; some of their members are news to the older ones.
pub(super) fn lines(count: usize) -> Vec<String> {
    let members = [
        r#""sender":"ann","weight":1.250"#,
        r#""sender":null,"price":12.5,"town":"Ulm""#,
        r#""weight":2.001,"pieces":7,"fragile":true,"other":{"a":[1]}"#,
        r#""town":null,"due":"2026-02-03","picked_at":"2026-02-03T04:05:06.000007Z","rate":0.1"#,
        r#""sender":"bob","price":99999.99,"currency":"USD","weight":3"#,
    ];
    (0..count)
        .map(|i| {
            if i % 11 == 10 {
                return format!(
                    r#"{{"event_type":"depot.visited","event_id":"d{i}","timestamp":{},"town":"Ulm"}}"#,
                    time(i)
                );
            }
            let ty = if i < 20 { "parcel.sent" } else { "parcel.moved" };
            format!(
                r#"{{"event_type":"{ty}","event_id":"e{i}","timestamp":{},"version":1,"parcel_id":"P{}",{}}}"#,
                time(i),
                i % 17,
                members[i % members.len()]
            )
        })
        .collect()
}

fn time(i: usize) -> String {
    format!("\"2026-01-01T00:{:02}:{:02}Z\"", i / 60, i % 60)
}

/// Puts lines through the whole pipeline into the store of `dir`.
pub(super) fn process(dir: &Path, domain: &Arc<Domain>, lines: &[String]) {
    process_in(&fixture::open(dir, domain), domain, lines);
}

/// The same in an open store whose writer is not taken.
pub(super) fn process_in(store: &Store, domain: &Arc<Domain>, lines: &[String]) -> Counts {
    process_in_batches(store, domain, lines, 50)
}

/// The same in batches of that many lines.
pub(super) fn process_in_batches(
    store: &Store,
    domain: &Arc<Domain>,
    lines: &[String],
    size: usize,
) -> Counts {
    let mut all = Counts::default();
    let mut processor =
        Processor::new(Arc::clone(domain), Box::new(store.writer().unwrap())).unwrap();
    for (number, lines) in lines.chunks(size).enumerate() {
        all += apply(&mut processor, domain, lines, number * size);
    }
    all
}

/// Puts lines through a pipeline that goes on, as one batch that begins at that offset.
pub(super) fn apply(
    processor: &mut Processor,
    domain: &Arc<Domain>,
    lines: &[String],
    offset: usize,
) -> Counts {
    let mut bytes = Vec::new();
    let records = lines.iter().enumerate().map(|(i, line)| {
        bytes.extend_from_slice(line.as_bytes());
        RawRecord {
            start: bytes.len() - line.len(),
            len: line.len(),
            offset: (offset + i) as u64,
            arrived_at: 1_800_000_000_000_000,
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        }
    });
    let records = records.collect();
    let raw = RawBatch {
        partition: "file:test".into(),
        source: "file",
        bytes,
        records,
        next_offset: (offset + lines.len()) as u64,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    };
    let processed = processor.process(&[&Decoder::new(domain).decode(raw)]).unwrap();
    let Counts { received, accepted, duplicate, .. } = processed.counts;
    assert_eq!(accepted + duplicate, received, "{:?}", processed.outcomes);
    processed.counts
}

/// Everything a reader could see, as text; of the journal what it has not given up.
pub(super) fn dump(store: &Store, domain: &Domain) -> Vec<String> {
    let readers = store.readers();
    let mut all = Vec::new();
    let trimmed = readers.trimmed().map_or(0, |trimmed| trimmed.seq);
    for family in &domain.families {
        let whole = Limits { records: 1_000_000, bytes: usize::MAX };
        for rows in readers.rows(family.index, trimmed, i64::MAX, whole).unwrap().batches {
            all.extend(texts(&family.name, &rows));
        }
    }
    for entity in &domain.entities {
        let mut rows = texts(&entity.name, &table(&readers, &entity.table(), &entity.schema()));
        rows.sort();
        all.extend(rows);
    }
    all.extend(texts("ingest", &table(&readers, "ingest", &domain.ingest.schema())));
    all
}

pub(super) fn table(
    readers: &Readers,
    name: &str,
    schema: &arrow::datatypes::SchemaRef,
) -> RecordBatch {
    let columns = crate::store::schema::column_list(schema);
    let sql = format!("select {columns} from {name}");
    readers.with("read", |conn| crate::store::rows::query_once(conn, &sql, [], schema)).unwrap()
}

pub(super) fn texts(of: &str, rows: &RecordBatch) -> Vec<String> {
    let schema = rows.schema();
    (0..rows.num_rows())
        .map(|row| {
            let mut text = format!("{of}:");
            for (field, values) in schema.fields().iter().zip(rows.columns()) {
                let name = field.name();
                // The order of members in the rest is nobody's promise; states hold hash maps.
                let value = if name == column::EXTRA && values.is_valid(row) {
                    let json: std::collections::BTreeMap<String, serde_json::Value> =
                        serde_json::from_str(values.as_string::<i32>().value(row)).unwrap();
                    serde_json::to_string(&json).unwrap()
                } else if name == column::STATE {
                    continue;
                } else if values.is_null(row) {
                    "null".into()
                } else {
                    array_value_to_string(values, row).unwrap()
                };
                text.push_str(&format!(" {name}={value}"));
            }
            text
        })
        .collect()
}

pub(super) fn domain(parts: &[&str]) -> Arc<Domain> {
    fixture::domain(parts.concat().trim_end().trim_end_matches("---"))
}

/// Writes under contracts `old`, opens under `new`, and compares with `new` from the beginning.
#[track_caller]
fn check(old: &[&str], new: &[&str]) {
    let (old, new) = (domain(old), domain(new));
    let lines = lines(200);
    let changed = tempfile::tempdir().unwrap();
    process(changed.path(), &old, &lines);
    from_lake::follow(changed.path(), &old);
    let fresh = tempfile::tempdir().unwrap();
    process(fresh.path(), &new, &lines);

    let expected = dump(&fixture::open(fresh.path(), &new), &new);
    let rows = fixture::open(fresh.path(), &new).readers().journal_rows().unwrap();
    assert_eq!(rows.iter().sum::<u64>(), lines.len() as u64);
    // The lake that the old contracts wrote gives the store of the new ones.
    let made = tempfile::tempdir().unwrap();
    let events = from_lake::rebuild(changed.path(), made.path(), &new).unwrap().events;
    same(&dump(&fixture::open(made.path(), &new), &new), &expected);
    assert_eq!(events, lines.len() as u64);
    let found = dump(&fixture::open(changed.path(), &new), &new);
    same(&found, &expected);
    // A second start finds nothing to do and changes nothing.
    let found = dump(&fixture::open(changed.path(), &new), &new);
    same(&found, &expected);
    // The pipeline goes on where it was: the same lines are all duplicates now, and it says so
    // without taking one for another event with the same id.
    let store = fixture::open(changed.path(), &new);
    let mut processor =
        Processor::new(Arc::clone(&new), Box::new(store.writer().unwrap())).unwrap();
    let mut decoder = Decoder::new(&new);
    let line = &lines[1];
    let raw = RawBatch {
        partition: "file:again".into(),
        source: "file",
        bytes: line.clone().into_bytes(),
        records: vec![RawRecord {
            start: 0,
            len: line.len(),
            offset: 0,
            arrived_at: 1_800_000_000_000_000,
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        }],
        next_offset: 1,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    };
    let processed = processor.process(&[&decoder.decode(raw)]).unwrap();
    assert_eq!(processed.counts.duplicate, 1, "{:?}", processed.outcomes);
}

#[track_caller]
pub(super) fn same(found: &[String], expected: &[String]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn nothing_changed() {
    check(&[DEPOT, PARCEL_V1, PARCEL], &[DEPOT, PARCEL_V1, PARCEL]);
}

#[test]
fn fields_were_added_to_a_version() {
    check(&[DEPOT, PARCEL_V1, PARCEL], &[DEPOT, PARCEL_V1_MORE_FIELDS, PARCEL]);
}

#[test]
fn an_enriched_column_is_made_otherwise_and_another_is_new() {
    check(
        &[DEPOT, PARCEL_V1, PARCEL_WITH_HEAVY],
        &[DEPOT, PARCEL_V1_OTHER_ENRICH, PARCEL_WITH_HEAVY],
    );
}

#[test]
fn a_version_was_added() {
    check(&[DEPOT, PARCEL_V1, PARCEL], &[DEPOT, PARCEL_V1, PARCEL_V2, PARCEL]);
}

#[test]
fn an_entity_was_added_changed_or_taken_away() {
    check(&[DEPOT, PARCEL_V1], &[DEPOT, PARCEL_V1, PARCEL]);
    check(&[DEPOT, PARCEL_V1, PARCEL], &[DEPOT, PARCEL_V1, PARCEL_WITH_HEAVY]);
    check(&[DEPOT, PARCEL_V1, PARCEL], &[DEPOT, PARCEL_V1, PARCEL, SENDER]);
    check(&[DEPOT, PARCEL_V1, PARCEL, SENDER], &[DEPOT, PARCEL_V1]);
}

#[test]
fn a_family_was_added() {
    check(&[DEPOT, PARCEL_V1], &[DEPOT, PARCEL_V1, PARCEL, SENDER]);
}

#[test]
fn a_metric_needs_new_columns() {
    check(
        &[DEPOT, PARCEL_V1, PARCEL],
        &[DEPOT, PARCEL_V1, PARCEL, METRIC_OVER_EVENTS, METRIC_OVER_ENTITY, METRIC_OVER_INGEST],
    );
}

#[test]
fn columns_of_another_type_are_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let old = domain(&[DEPOT, PARCEL_V1, PARCEL]);
    process(dir.path(), &old, &lines(20));
    let before = dump(&fixture::open(dir.path(), &old), &old);

    let new = domain(&[DEPOT, &PARCEL_V1.replace("decimal(10,3)", "decimal(10,2)")]);
    let error = Store::open(dir.path(), new, StoreOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::ContractsChanged { .. }), "{error}");
    let text = error.to_string();
    let expected =
        "event contract `parcel`: column `weight` was decimal(10,3), is now decimal(10,2)";
    assert!(text.contains(expected), "{text}");
    assert!(error.hint().is_some());

    same(&dump(&fixture::open(dir.path(), &old), &old), &before);
}

/// In the child: opens a directory under other contracts until a fail point ends it.
#[test]
fn opening_child() {
    let Ok(dir) = std::env::var("STORE_TEST_CHANGED") else { return };
    fixture::open(Path::new(&dir), &domain(&[DEPOT, PARCEL_V1_MORE_FIELDS, PARCEL_WITH_HEAVY]));
    println!("CHILD DONE");
}

#[test]
fn a_process_killed_while_it_follows_a_change_is_continued() {
    let (old, new) =
        ([DEPOT, PARCEL_V1, PARCEL], [DEPOT, PARCEL_V1_MORE_FIELDS, PARCEL_WITH_HEAVY]);
    let lines = lines(200);
    let changed = tempfile::tempdir().unwrap();
    process(changed.path(), &domain(&old), &lines);
    let path = changed.path().to_str().unwrap();
    for point in ["store_fill_step:2", "store_fill_step:1", "store_rebuild:1"] {
        let environment = [("STORE_TEST_CHANGED", path), (fail_point::VARIABLE, point)];
        let output = child("changed::opening_child", &environment);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("CHILD DONE"), "{point}");
        assert!(!output.status.success());
        if point.starts_with("store_fill") {
            // Half-way: other contracts would mix two changes.
            let other = domain(&[DEPOT, PARCEL_V1_OTHER_ENRICH, PARCEL]);
            let error = Store::open(changed.path(), other, StoreOptions::default()).err().unwrap();
            assert!(error.to_string().contains("interrupted"), "{error}");
        }
    }
    let new = domain(&new);
    let fresh = tempfile::tempdir().unwrap();
    process(fresh.path(), &new, &lines);
    let expected = dump(&fixture::open(fresh.path(), &new), &new);
    same(&dump(&fixture::open(changed.path(), &new), &new), &expected);
}

#[test]
fn progress_is_told() {
    let dir = tempfile::tempdir().unwrap();
    process(dir.path(), &domain(&[DEPOT, PARCEL_V1]), &lines(200));
    let (tell, told) = std::sync::mpsc::channel();
    let progress = move |what: &str, done: u64, total: u64| {
        let _ = tell.send((what.to_owned(), done, total));
    };
    let options = StoreOptions { progress: Some(Box::new(progress)), ..StoreOptions::default() };
    let new = domain(&[DEPOT, PARCEL_V1_OTHER_ENRICH, PARCEL]);
    drop(Store::open(dir.path(), new, options).unwrap());
    let told: Vec<_> = told.iter().collect();
    for what in ["fill columns of `ev_parcel`", "rebuild entity `parcel` v1"] {
        let steps: Vec<_> = told.iter().filter(|step| step.0 == what).collect();
        assert!(steps.len() > 2, "{what}: {told:?}");
        assert!(steps.is_sorted_by_key(|step| step.1));
        assert!(steps.last().is_some_and(|(_, done, total)| done == total), "{steps:?}");
    }
}

const METRIC_OVER_EVENTS: &str = "
kind: metric
name: light_moves
version: 1
unit: count
from: {event: parcel.moved}
where: weight < 1.5 and sender is not null
measure: count
dimensions: {sender: {}}
windows: [1h]
moved_by: [parcel.moved]
examples:
  - given: [{event: parcel.moved, parcel_id: P1, sender: ann, weight: 1}]
    expect: [{window: 1h, value: 1}]
---
";

const METRIC_OVER_ENTITY: &str = "
kind: metric
name: light_parcels
version: 1
unit: count
from: {entity: parcel}
where: weight < 1.5 and sender is not null
measure: count
windows: [now]
moved_by: [parcel.sent, parcel.moved]
examples:
  - given: [{event: parcel.sent, parcel_id: P1, sender: ann, weight: 1}]
    expect: [{window: now, value: 1}]
  - given: [{event: parcel.moved, parcel_id: P1, sender: ann, weight: 1}]
    expect: [{window: now, value: 1}]
---
";

const METRIC_OVER_INGEST: &str = "
kind: metric
name: rejected
version: 1
unit: count
from: ingest
where: outcome = 'rejected'
measure: count
windows: [1h]
moved_by: [ingest]
examples:
  - given: [{event: parcel.sent}]
    expect: [{window: 1h, value: 1}]
---
";
