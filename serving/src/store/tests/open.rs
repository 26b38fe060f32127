//! What may be wrong with a data directory, and what is said about it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::fixture::{self, Batch, child, parcels};
use crate::store::data_dir::DataDir;
use crate::store::{DeadLetterFilter, OpenError, Page, Store, StoreOptions, read_dead_letters};
use pipeline::headers::{self, Headers};
use pipeline::source::Limits;
use pipeline::store::{Journal, ServingStore, dead_letter_schema};

#[track_caller]
fn check(dir: &Path, expected: &str) -> OpenError {
    let error = match Store::open(dir, parcels(), StoreOptions::default()) {
        Ok(_) => panic!("opened, expected `{expected}`"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(text.contains(expected), "expected `{expected}` in `{text}`");
    assert!(error.hint().is_some(), "{text}");
    error
}

/// Makes a store and changes it by SQL.
fn altered(sql: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(fixture::open(dir.path(), &parcels()));
    let conn = duckdb::Connection::open(dir.path().join("serving.duckdb")).unwrap();
    conn.execute_batch(sql).unwrap();
    dir
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    for content in ["hello", &"x".repeat(100_000)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("serving.duckdb");
        fs::write(&file, content).unwrap();
        let error = check(dir.path(), "cannot be opened as a DuckDB database");
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
}

#[test]
fn a_process_that_died_while_making_the_database_is_no_obstacle() {
    for bytes in [0, 4_096, 8_192] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("serving.duckdb.new"), vec![7; bytes]).unwrap();
        std::fs::write(dir.path().join("serving.duckdb.new.wal"), [7; 10]).unwrap();
        let store = fixture::open(dir.path(), &parcels());
        assert_eq!(store.readers().journal_rows().unwrap(), [0, 0], "{bytes}");
        assert!(!dir.path().join("serving.duckdb.new").exists());
    }
}

#[test]
fn a_database_that_is_cut_off_is_refused() {
    let dir = altered("checkpoint");
    let file = dir.path().join("serving.duckdb");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..5_000]).unwrap();
    check(dir.path(), "cannot be opened as a DuckDB database");
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let dir = altered("update meta set value = '99' where key = 'format'");
    let error = check(dir.path(), "has format 99, this release reads formats up to 6");
    assert!(matches!(error, OpenError::NewerFormat { found: 99, known: 6, .. }));
}

#[test]
fn a_format_that_is_no_number_is_refused() {
    for found in ["old", "0"] {
        let dir = altered(&format!("update meta set value = '{found}' where key = 'format'"));
        let error = Store::open(dir.path(), parcels(), StoreOptions::default()).err().unwrap();
        assert!(error.to_string().contains(&format!("`{found}`")), "{error}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = check(&file.join("data"), "cannot be written");
    assert!(matches!(error, OpenError::NotWritable { .. }));
    // Where not even root may make a directory.
    let error = check(Path::new("/proc/agentflow"), "cannot be written");
    assert!(matches!(error, OpenError::NotWritable { .. }));
}

#[test]
fn a_directory_held_by_another_process_names_it() {
    if let Ok(dir) = std::env::var("STORE_TEST_HELD") {
        // The child: DuckDB's own lock speaks when the directory's lock was not asked.
        let error = check(Path::new(&dir), "is held by `agentflow serve`, process");
        assert!(matches!(error, OpenError::Held { .. }));
        let error = DataDir::lock(Path::new(&dir), "run", None).unwrap_err();
        assert!(matches!(error, OpenError::Held { .. }));
        println!("CHILD DONE");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::lock(dir.path(), "serve", None).unwrap();
    let _store = fixture::open(held.path(), &parcels());
    let output = child(
        "open::a_directory_held_by_another_process_names_it",
        &[("STORE_TEST_HELD", dir.path().to_str().unwrap())],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("CHILD DONE"), "{text}");
}

#[test]
fn a_name_with_blanks_and_quotes_is_a_directory_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("it's a \"directory\" ö");
    drop(fixture::open(&dir, &parcels()));
    assert!(Store::exists(&dir));
    drop(fixture::open(&dir, &parcels()));
}

#[test]
fn dead_letters_can_be_read_without_contracts() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let mut batch = Batch::after(&domain, &mut writer);
        for _ in 0..3 {
            writer.commit(&batch.next(1)).unwrap();
        }
    }
    let ids = |reason: Option<&str>, after: Option<i64>, limit: usize| -> Vec<i64> {
        let letters = read_dead_letters(dir.path(), reason, after, limit).unwrap();
        letters.iter().map(|letter| letter.id).collect()
    };
    assert_eq!(ids(None, None, 2), [1, 2]);
    assert_eq!(ids(None, Some(2), 2), [3]);
    assert_eq!(ids(Some("wrong_type"), None, 10), [1, 2, 3]);
    assert!(ids(Some("late"), None, 10).is_empty());
}

/// The tables of format 1 as its releases made them, with a dead letter in it.
const FORMAT_1: &str = "
    create table meta (key varchar, value varchar);
    create table source_partitions (
        id bigint, name varchar, next_offset ubigint, fingerprint varchar, watermark bigint,
        updated_at bigint, received ubigint, accepted ubigint, duplicate ubigint, rejected ubigint, discarded ubigint,
        last_seq bigint);
    create table outcome_counts (partition bigint, outcome varchar, reason varchar, n ubigint);
    create table contract_state (
        kind varchar, name varchar, version bigint, hash varchar, columns varchar);
    create table contract_fill (table_name varchar, target varchar, done_seq bigint);
    create table dead_letters (
        id bigint, tenant varchar, arrived_at timestamp, partition varchar, \"offset\" bigint,
        stage varchar, reason varchar, field varchar, rule varchar, detail varchar,
        event_id varchar, event_type varchar, event_time timestamp, contract varchar,
        contract_version bigint, payload blob);
    insert into meta values ('format', '1');
    insert into source_partitions values (1, 'file:test', 7, 'after 6', 6000000, 5, 7, 6, 0, 1, 0, 6);
    insert into outcome_counts values (1, 'accepted', '', 6), (1, 'rejected', 'wrong_type', 1);
    insert into dead_letters values (1, 'default', '2026-01-01', 'file:test', 6, 'decode',
        'wrong_type', 'price', null, 'expected a number', null, null, null, null, null, 'old');
";

fn of_format_1() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let conn = duckdb::Connection::open(dir.path().join("serving.duckdb")).unwrap();
    conn.execute_batch(FORMAT_1).unwrap();
    dir
}

#[test]
fn a_directory_of_format_1_opens_and_keeps_what_it_has() {
    let domain = parcels();
    let dir = of_format_1();
    let mut encoded = Vec::new();
    headers::push(&mut encoded, "trace", Some(b"t"));
    {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let partition = writer.partition("file:test").unwrap().unwrap();
        assert_eq!((partition.next_offset, partition.last_arrived_at), (7, None));
        assert_eq!(partition.last_event_at, None);
        assert_eq!((writer.last_seq().unwrap(), partition.counts.received), (6, 7));
        let mut batch = Batch::after(&domain, &mut writer);
        let mut effects = batch.next(1);
        effects.entities[0].replaced.clear();
        effects.partitions[0].state.last_arrived_at = Some(9);
        effects.partitions[0].state.last_event_at = Some(8);
        effects.dead_letters[0].key = Some(b"\xffkey");
        effects.dead_letters[0].headers = Headers::new(&encoded);
        writer.commit(&effects).unwrap();
    }
    // The second time there is nothing to do.
    let store = fixture::open(dir.path(), &domain);
    let partition = store.readers().partitions().unwrap().pop().unwrap();
    assert_eq!((partition.next_offset, partition.last_arrived_at), (9, Some(9)));
    assert_eq!(partition.last_event_at, Some(8));
    let page = Page { newest_first: false, ..Page::default() };
    let letters = store.readers().dead_letters(&DeadLetterFilter::default(), &page).unwrap();
    let [old, new] = &letters[..] else { panic!("two dead letters: {letters:?}") };
    assert_eq!((old.id, &*old.payload, &old.key, &old.headers), (1, &b"old"[..], &None, &None));
    assert_eq!((new.id, new.key.as_deref()), (2, Some(&b"\xffkey"[..])));
    assert_eq!(new.headers.as_deref(), Some(r#"[{"name":"trace","value":"t"}]"#));
    let stream = Journal::dead_letters(&store.readers(), 0, i64::MAX, Limits::default()).unwrap();
    assert!(stream.iter().all(|rows| rows.schema() == dead_letter_schema()));
}

#[test]
fn rows_of_ingest_are_numbered_in_a_directory_of_format_3() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let mut batch = Batch::after(&domain, &mut writer);
        (0..3).for_each(|n| writer.commit(&batch.next(n + 1)).unwrap());
    }
    let conn = duckdb::Connection::open(dir.path().join("serving.duckdb")).unwrap();
    let sql = "alter table ingest drop column _row; alter table ingest drop column _applied_at; update meta set value = '3' where key = 'format'";
    conn.execute_batch(sql).unwrap();
    drop(conn);

    let store = fixture::open(dir.path(), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    let mut effects = batch.next(4);
    effects.entities[0].replaced.clear();
    writer.commit(&effects).unwrap();
    let journal = store.readers();
    let rows = Journal::ingest(&journal, 0, i64::MAX, Limits::default()).unwrap();
    let rows = arrow::compute::concat_batches(&rows.batches[0].schema(), &rows.batches).unwrap();
    let numbers = |name: &str| {
        let column = rows.column_by_name(name).unwrap();
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(column).values().to_vec()
    };
    assert_eq!((numbers("_row"), numbers("_n")), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    assert_eq!(journal.ledger(None).unwrap().last_ingest, 4);
}

#[test]
fn dead_letters_of_format_1_can_be_read_without_contracts() {
    let dir = of_format_1();
    let letters = read_dead_letters(dir.path(), None, None, 10).unwrap();
    assert_eq!((letters.len(), &*letters[0].payload), (1, &b"old"[..]));
}

#[test]
fn a_store_in_memory_is_a_store() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(5)).unwrap();
    writer.idle().unwrap();
    assert_eq!(store.readers().journal_rows().unwrap(), [0, 5]);
}
