//! After an erasure the store and the lake are what they would be had the events come without what tells
//! about the person.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contracts::model::{Domain, column};
use pipeline::erase::{EraseError, Eraser, Subject};
use pipeline::fail_point;
use pipeline::processor::{Backfilled, Processor};
use pipeline::sink::iceberg::{self, History, HistoryRange, HistoryTable, LakeConfig};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::changed::{apply, dump, process, process_in, same};
use super::fixture::{self, child};
use super::from_lake::{follow, rebuild};
use crate::store::erase::{EraseFailure, EraseRequest, Erasure, ErasureState};
use crate::store::{ArchiveError, LakeArchive, Store, StoreOptions};

const CONTRACTS: &str = "
kind: event
name: order
names: [order.placed, order.moved]
version: 1
key: order_id
fields:
  order_id: string
  customer: {type: string, required: false}
  email: {type: string, required: false, pii: true}
  amount: {type: 'decimal(10,2)', required: false}
enrich:
  host: lower(email)
  large: amount > 50
---
kind: event
name: visit
names: [visit.seen]
version: 1
fields:
  customer: {type: string, required: false}
  address: {type: 'struct<town: string, floor: int64>', required: false, pii: true}
  order_id: {type: string, required: false}
  page: string
enrich:
  by: {lookup: order, key: order_id, field: email}
  segment: coalesce(customer, 'guest')
---
kind: entity
name: order
version: 1
from: [order.placed, order.moved]
key: order_id
fields: {customer: last, email: last, amount: last, host: last, moves: count}
---
kind: entity
name: customer
version: 1
from: {entity: order}
key: customer
fields: {orders: count, spent: sum(amount), mail: max(email)}
---
kind: entity
name: segment
version: 1
from: [visit.seen]
key: segment
fields: {visits: count}
---
kind: entity
name: quiet
version: 1
from: [visit.seen]
where: customer is null
key: page
fields: {visits: count}
---
kind: entity
name: page
version: 1
from: [visit.seen]
key: page
fields: {views: count, by: last, last_customer: {value: last(customer)}}
";

fn contracts() -> Arc<Domain> {
    fixture::domain(CONTRACTS)
}

/// What a generated event says.
#[derive(Debug, Clone)]
struct Given {
    is_visit: bool,
    order: u8,
    /// `None`: absent; `Some(None)`: null.
    customer: Option<Option<u8>>,
    personal: Option<u8>,
    amount: Option<u8>,
    other: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let customer = prop_oneof![
        3 => (0..4_u8).prop_map(|c| Some(Some(c))),
        2 => Just(None),
        1 => Just(Some(None)),
    ];
    let personal = prop::option::of(0..4_u8);
    (
        prop::bool::weighted(0.3),
        0..6_u8,
        customer,
        personal,
        prop::option::of(0..99_u8),
        any::<bool>(),
    )
        .prop_map(|(is_visit, order, customer, personal, amount, other)| Given {
            is_visit,
            order,
            customer,
            personal,
            amount,
            other,
        })
}

fn record(number: usize, given: &Given) -> Map<String, Value> {
    let mut record = Map::new();
    let mut put = |name: &str, value: Value| drop(record.insert(name.to_owned(), value));
    let ty = match (given.is_visit, number % 3) {
        (true, _) => "visit.seen",
        (false, 0) => "order.placed",
        (false, _) => "order.moved",
    };
    put("event_type", ty.into());
    put("event_id", format!("e{number}").into());
    put("timestamp", format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60).into());
    if let Some(customer) = given.customer {
        put("customer", customer.map(|c| format!("C{c}")).into());
    }
    if given.is_visit {
        put("page", format!("/{}", given.order).into());
        if let Some(amount) = given.amount {
            put("order_id", format!("O{}", amount % 6).into());
        }
        if let Some(floor) = given.personal {
            put("address", serde_json::json!({"town": "Ulm", "floor": floor}));
        }
    } else {
        put("order_id", format!("O{}", given.order).into());
        if let Some(mail) = given.personal {
            put("email", format!("C{mail}@X").into());
        }
        if let Some(amount) = given.amount {
            put("amount", amount.into());
        }
    }
    if given.other {
        put("phone", "0731".into());
    }
    record
}

/// The records as if they had come without what tells about `customer`, by the words of the
/// documentation and no code of the product.
fn without(records: &[Map<String, Value>], customer: &str) -> Vec<Map<String, Value>> {
    let names = |record: &Map<String, Value>| {
        record.get("customer").and_then(Value::as_str).map(str::to_owned)
    };
    let order = |record: &Map<String, Value>| record.get("order_id").cloned();
    let orders: Vec<Value> = records
        .iter()
        .filter(|record| names(record).as_deref() == Some(customer))
        // A visit of somebody to an order does not make it theirs.
        .filter(|record| record["event_type"] != "visit.seen")
        .filter_map(order)
        .collect();
    let mut records = records.to_vec();
    for record in &mut records {
        let concerned = match names(record) {
            Some(named) => named == customer,
            None => order(record).is_some_and(|order| orders.contains(&order)),
        };
        if concerned {
            if names(record).is_some() {
                record.remove("customer");
            }
            for name in ["email", "address", "phone"] {
                record.remove(name);
            }
        }
    }
    records
}

fn lines(records: &[Map<String, Value>]) -> Vec<String> {
    records.iter().map(|record| serde_json::to_string(record).unwrap()).collect()
}

/// All that a reader sees, but for the marks of an erasure. `by` was looked up when the event was applied:
/// the other store looked it up with other entities.
fn seen(store: &Store, domain: &Domain) -> Vec<String> {
    let marks = [column::BODY, column::WARNINGS, "by"].map(|name| format!(" {name}="));
    let cut = |line: String| {
        let mut text = line;
        for mark in &marks {
            if let Some(at) = text.find(mark.as_str()) {
                let rest = &text[at + mark.len()..];
                let end = rest.find(' ').map_or(String::new(), |end| rest[end..].to_owned());
                text = format!("{}{end}", &text[..at]);
            }
        }
        text
    };
    // What was received when is not told of anybody, and depends on how the lines were split.
    let all = dump(store, domain).into_iter();
    all.filter(|line| !line.starts_with("ingest:")).map(cut).collect()
}

fn subject(key: &str) -> Subject {
    Subject { tenant: "default".into(), entity: "customer".into(), key: key.into() }
}

fn request(key: &str) -> EraseRequest {
    EraseRequest { subject: subject(key), reason: Some("asked for".into()), dry_run: false }
}

fn open(dir: &Path, domain: &Arc<Domain>) -> Store {
    let archive = Arc::new(LakeArchive::new(LakeConfig::new(dir), Arc::clone(domain)));
    let options = StoreOptions { archive: Some(archive), ..StoreOptions::default() };
    Store::open(dir, Arc::clone(domain), options).unwrap()
}

fn erase(dir: &Path, domain: &Arc<Domain>, key: &str) -> Erasure {
    open(dir, domain).writer().unwrap().erase(&request(key)).unwrap()
}

/// Does in the lake what the store has noted, and notes that it is done.
fn erase_in_lake(dir: &Path, domain: &Arc<Domain>) -> BTreeMap<String, u64> {
    follow(dir, domain);
    let store = open(dir, domain);
    let (erasure, order) = store.readers().pending_erasures().unwrap().pop().expect("an erasure");
    let eraser = Eraser::resume(Arc::clone(domain), order).unwrap();
    let config = LakeConfig::new(dir);
    let mut writer = store.writer().unwrap();
    let mut note = |files| writer.erasing(erasure.id, files).map_err(|error| error.to_string());
    let rows = iceberg::erase(&config, domain, &eraser, &|| false, &mut note, &mut |_| {});
    let rows = rows.unwrap().unwrap();
    writer.erased(erasure.id, &rows).unwrap();
    rows
}

/// Texts of all rows of the lake, and of all bytes of its manifests.
fn lake_has(dir: &Path, domain: &Domain, text: &str) -> bool {
    let history = History::open(&LakeConfig::new(dir), domain).unwrap();
    let mut found = false;
    let families = (0..domain.families.len()).map(HistoryTable::Family);
    for table in families.chain([HistoryTable::DeadLetters]) {
        let range = HistoryRange { until: i64::MAX, ..HistoryRange::default() };
        let mut take = |rows: &arrow::array::RecordBatch| -> Result<(), ArchiveError> {
            let shown = arrow::util::pretty::pretty_format_batches(std::slice::from_ref(rows));
            found |= shown.unwrap().to_string().contains(text);
            Ok(())
        };
        history.each(table, &range, &mut take).unwrap();
    }
    found
}

/// Does the store's archive show such a text in what was given up?
fn archive_has(store: &Store, domain: &Domain, text: &str) -> bool {
    let readers = store.readers();
    let Some(trimmed) = readers.trimmed() else { return false };
    let mut found = false;
    for family in 0..domain.families.len() {
        let range = HistoryRange {
            until: trimmed.seq,
            columns: Some(&[column::SEQ]),
            ..HistoryRange::default()
        };
        let archive = readers.archive().expect("an archive");
        let mut take = |rows: &arrow::array::RecordBatch| -> Result<(), ArchiveError> {
            let shown = arrow::util::pretty::pretty_format_batches(std::slice::from_ref(rows));
            found |= shown.unwrap().to_string().contains(text);
            Ok(())
        };
        archive.each(&trimmed, HistoryTable::Family(family), &range, &mut take).unwrap();
    }
    found
}

/// Data files of the events in the lake, whether a snapshot needs them or not.
fn data_files(dir: &Path) -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                found.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    for table in ["order", "visit"] {
        walk(&dir.join("lake/warehouse/domain").join(table), &mut found);
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn it_is_as_if_the_person_had_never_been_told_of(
        given in prop::collection::vec(given(), 1..140),
        split in 0.0..1.0_f64,
        trimmed in prop::option::of(0.0..1.0_f64),
    ) {
        let domain = contracts();
        let records: Vec<_> =
            given.iter().enumerate().map(|(number, given)| record(number, given)).collect();
        let all = lines(&records);
        let expected = without(&records, "C1");

        let other = tempfile::tempdir().unwrap();
        process(other.path(), &domain, &lines(&expected));
        let expected = seen(&fixture::open(other.path(), &domain), &domain);

        let dir = tempfile::tempdir().unwrap();
        let at = (split * all.len() as f64) as usize;
        process(dir.path(), &domain, &all[..at]);
        // In two commits to the lake, or in none yet.
        follow(dir.path(), &domain);
        process(dir.path(), &domain, &all);
        let mut given_up = 0;
        if let Some(share) = trimmed {
            follow(dir.path(), &domain);
            given_up = (share * all.len() as f64) as i64;
            open(dir.path(), &domain).writer().unwrap().trim_until(given_up).unwrap();
        }
        let erasure = erase(dir.path(), &domain, "C1");
        prop_assert_eq!(erasure.state, ErasureState::LakePending);
        // Neither do rows that only the lake has show it, which the lake still has.
        prop_assert!(!archive_has(&open(dir.path(), &domain), &domain, "C1 "));
        let is_erased = |line: &&String| line.contains("_warnings=_erased");
        for line in dump(&open(dir.path(), &domain), &domain).iter().filter(is_erased) {
            prop_assert!(line.contains("_body=0 "), "{line}");
            prop_assert!(!line.starts_with("visit") || line.contains("by=null"), "{line}");
        }
        let found = seen(&open(dir.path(), &domain), &domain);
        // What was given up is not there; entities that stand on it are right all the same.
        let is_kept = |line: &&String| {
            let seq = line.split_once(": _seq=").and_then(|(_, rest)| rest.split_once(' '));
            seq.is_none_or(|(seq, _)| seq.parse::<i64>().unwrap() > given_up)
        };
        same(&found, &expected.iter().filter(is_kept).cloned().collect::<Vec<_>>());

        erase_in_lake(dir.path(), &domain);
        prop_assert!(!lake_has(dir.path(), &domain, "C1 "));
        let made = tempfile::tempdir().unwrap();
        rebuild(dir.path(), made.path(), &domain).unwrap();
        same(&seen(&fixture::open(made.path(), &domain), &domain), &expected);

        // The events are known, whatever they were, in both stores.
        for dir in [dir.path(), made.path()] {
            let store = open(dir, &domain);
            let counts = process_in(&store, &domain, &all);
            prop_assert_eq!((counts.accepted, counts.duplicate), (0, all.len() as u64));
        }
        // And nothing is left to erase.
        let again = open(dir.path(), &domain).writer().unwrap();
        let dry = EraseRequest { dry_run: true, ..request("C1") };
        let mut again = again;
        prop_assert_eq!(again.erase(&dry).unwrap().store_rows, BTreeMap::new());
    }
}

fn some_records() -> Vec<Map<String, Value>> {
    let given = |number: usize| Given {
        is_visit: number.is_multiple_of(7),
        order: (number % 6) as u8,
        customer: (!number.is_multiple_of(5)).then_some(Some((number % 4) as u8)),
        personal: Some((number % 4) as u8),
        amount: Some(number as u8),
        other: true,
    };
    (0..90).map(|number| record(number, &given(number))).collect()
}

#[test]
fn nothing_leads_to_the_old_files_any_more() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    let records = some_records();
    process(dir.path(), &domain, &lines(&records[..50]));
    follow(dir.path(), &domain);
    process(dir.path(), &domain, &lines(&records));
    follow(dir.path(), &domain);
    let before = data_files(dir.path());
    assert!(lake_has(dir.path(), &domain, "C1"));
    erase(dir.path(), &domain, "C1");
    let rows = erase_in_lake(dir.path(), &domain);
    let counts = [rows.get("order"), rows.get("visit")];
    assert!(counts.iter().all(|count| count.is_some_and(|count| *count > 2)), "{rows:?}");
    let after = data_files(dir.path());
    assert!(after.is_disjoint(&before), "{after:?}");
    assert_eq!(after.len(), before.len());
    // Not even the statistics of a manifest tell.
    for entry in std::fs::read_dir(dir.path().join("lake/warehouse").join(&domain.name)).unwrap() {
        let folder = entry.unwrap().path().join("metadata");
        for file in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(4).any(|window| window == b"C1@X"));
        }
    }
    // The person next to them is as they were.
    assert!(lake_has(dir.path(), &domain, "C2@X"));
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    process(dir.path(), &domain, &lines(&some_records()));
    let before = dump(&open(dir.path(), &domain), &domain);
    let dry = {
        let mut writer = open(dir.path(), &domain).writer().unwrap();
        writer.erase(&EraseRequest { dry_run: true, ..request("C1") }).unwrap()
    };
    assert_eq!(dry.state, ErasureState::DryRun);
    same(&dump(&open(dir.path(), &domain), &domain), &before);
    let store = open(dir.path(), &domain);
    assert_eq!(store.readers().erasures().unwrap(), []);
    let mut writer = store.writer().unwrap();
    assert_eq!(writer.erase(&request("C1")).unwrap().store_rows, dry.store_rows);
}

#[test]
fn the_record_tells_what_was_done_and_not_to_whom() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    process(dir.path(), &domain, &lines(&some_records()));
    let asked = erase(dir.path(), &domain, "C1");
    {
        let store = open(dir.path(), &domain);
        let (found, order) = store.readers().pending_erasures().unwrap().pop().unwrap();
        assert_eq!((&found, &order.subject), (&asked, &subject("C1")));
    }
    erase_in_lake(dir.path(), &domain);
    let store = open(dir.path(), &domain);
    let [done] = &store.readers().erasures().unwrap()[..] else { panic!("one erasure") };
    assert_eq!((done.state, done.id), (ErasureState::Done, asked.id));
    assert!(done.finished_at.is_some());
    assert!(done.is_of("C1") && !done.is_of("C2"));
    assert_eq!(store.readers().pending_erasures().unwrap(), []);
    let sql = "select coalesce(string_agg(erasures::varchar, ''), '') from erasures";
    let all: String =
        store.readers().with("read", |conn| conn.query_row(sql, [], |row| row.get(0))).unwrap();
    assert!(all.contains("asked for") && !all.contains("C1"), "{all}");
}

#[test]
fn who_comes_back_by_an_erasure_is_known_to_the_pipeline() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    let order = |number: usize, order: u8, customer: u8| {
        let given = Given {
            is_visit: false,
            order,
            customer: Some(Some(customer)),
            personal: None,
            amount: Some(7),
            other: false,
        };
        record(number, &given)
    };
    // The order of C2 became one of C1: C2 has none for the moment.
    let mut records = vec![order(0, 0, 2), order(1, 0, 1)];
    process(dir.path(), &domain, &lines(&records));
    let store = open(dir.path(), &domain);
    let writer = Box::new(store.writer().unwrap());
    let mut processor = Processor::new(Arc::clone(&domain), writer).unwrap();
    let erasures = store.erasures();
    let asked = std::thread::spawn(move || erasures.ask(request("C1"), Duration::from_secs(60)));
    while !asked.is_finished() {
        processor.tidy().unwrap();
    }
    asked.join().unwrap().unwrap();
    // C2 has it again, and two more.
    for (number, of) in [(2, 1), (3, 2)] {
        records.push(order(number, of, 2));
        let all = lines(&records);
        apply(&mut processor, &domain, &all[number..], number);
    }
    drop(processor);
    let other = tempfile::tempdir().unwrap();
    process(other.path(), &domain, &lines(&without(&records, "C1")));
    let expected = seen(&fixture::open(other.path(), &domain), &domain);
    same(&seen(&store, &domain), &expected);
}

#[test]
fn while_versions_are_backfilled_nothing_is_erased() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    let records = some_records();
    let without_pages = fixture::domain(
        CONTRACTS.split("---\nkind: entity\nname: page").next().unwrap().trim_end(),
    );
    process(dir.path(), &without_pages, &lines(&records));
    let options = || StoreOptions { backfill_beside: true, ..StoreOptions::default() };
    {
        let store = Store::open(dir.path(), Arc::clone(&domain), options()).unwrap();
        let refused = store.writer().unwrap().erase(&request("C1"));
        assert!(matches!(refused, Err(EraseFailure::Backfilling)), "{refused:?}");
    }
    let store = Store::open(dir.path(), Arc::clone(&domain), options()).unwrap();
    let writer = Box::new(store.writer().unwrap());
    let mut processor = Processor::new(Arc::clone(&domain), writer).unwrap();
    while processor.backfill().unwrap() == Backfilled::Some {}
    // Without a restart.
    let erasures = store.erasures();
    let asked = std::thread::spawn(move || erasures.ask(request("C1"), Duration::from_secs(60)));
    while !asked.is_finished() {
        processor.tidy().unwrap();
    }
    asked.join().unwrap().unwrap();
    drop((processor, store));
    let other = tempfile::tempdir().unwrap();
    process(other.path(), &domain, &lines(&without(&records, "C1")));
    let expected = seen(&fixture::open(other.path(), &domain), &domain);
    same(&seen(&open(dir.path(), &domain), &domain), &expected);
}

#[test]
fn what_cannot_be_erased_is_said() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    let mut writer = open(dir.path(), &domain).writer().unwrap();
    let mut ask = |entity: &str, key: &str| {
        let subject = Subject { entity: entity.into(), ..subject(key) };
        match writer.erase(&EraseRequest { subject, reason: None, dry_run: false }) {
            Err(EraseFailure::Request(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask("custmer", "C1"), EraseError::UnknownEntity("custmer".into()));
    assert_eq!(ask("customer", ""), EraseError::NoKey);
}

/// In the child: erases in the store and in the lake until a fail point ends it.
#[test]
fn erasing_child() {
    let Ok(dir) = std::env::var("STORE_TEST_ERASE") else { return };
    let (dir, domain) = (Path::new(&dir), contracts());
    let pending = open(dir, &domain).readers().pending_erasures().unwrap();
    if pending.is_empty() {
        erase(dir, &domain, "C1");
    }
    erase_in_lake(dir, &domain);
    println!("CHILD DONE");
}

#[test]
fn it_goes_on_where_it_was_killed() {
    let (domain, dir) = (contracts(), tempfile::tempdir().unwrap());
    let records = some_records();
    process(dir.path(), &domain, &lines(&records[..50]));
    follow(dir.path(), &domain);
    process(dir.path(), &domain, &lines(&records));
    follow(dir.path(), &domain);
    let other = tempfile::tempdir().unwrap();
    process(other.path(), &domain, &lines(&without(&records, "C1")));
    let expected = seen(&fixture::open(other.path(), &domain), &domain);
    let before = seen(&open(dir.path(), &domain), &domain);

    let path = dir.path().to_str().unwrap();
    let points = [
        ("erase_before_commit:1", false),
        ("erase_after_commit:1", true),
        ("lake_files_erased:1", true),
        ("lake_before_replace:1", true),
        ("lake_after_replace:1", true),
        ("lake_erased:1", true),
        ("lake_before_forget:1", true),
        ("lake_before_forget:2", true),
        ("erase_finished:1", true),
    ];
    for (point, is_erased) in points {
        let environment = [("STORE_TEST_ERASE", path), (fail_point::VARIABLE, point)];
        let output = child("erase::erasing_child", &environment);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("CHILD DONE") && !output.status.success(), "{point}: {text}");
        let found = seen(&open(dir.path(), &domain), &domain);
        same(&found, if is_erased { &expected } else { &before });
    }
    let store = open(dir.path(), &domain);
    let [done] = &store.readers().erasures().unwrap()[..] else { panic!("one erasure") };
    assert_eq!(done.state, ErasureState::Done);
    drop(store);
    assert!(!lake_has(dir.path(), &domain, "C1"));
    let made = tempfile::tempdir().unwrap();
    rebuild(dir.path(), made.path(), &domain).unwrap();
    same(&seen(&fixture::open(made.path(), &domain), &domain), &expected);
}
