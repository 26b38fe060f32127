//! What the journal gives up is in the lake, exactly once, and stays known.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use contracts::model::{Domain, column};
use pipeline::fail_point;
use pipeline::sink::iceberg::{Complete, History, HistoryRange, HistoryTable, LakeConfig};
use pipeline::source::Limits;
use pipeline::store::{Journal, Ledger, ServingStore, StoreError};

use super::changed::{DEPOT, PARCEL, PARCEL_V1, SENDER, domain, lines, process, process_in};
use super::fixture::{self, Batch, child};
use super::from_lake::{follow, rebuild};
use crate::metric::MetricEngine;
use crate::question::EntityQuestion;
use crate::store::{
    Archive, ArchiveError, Followed, LakeArchive, OpenError, Retention, RetentionPolicy, Store,
    StoreOptions, Take, Trimmed,
};

fn contracts() -> Arc<Domain> {
    domain(&[DEPOT, PARCEL_V1, PARCEL, SENDER])
}

/// The lake, and how often it was asked.
struct Counting(LakeArchive, AtomicUsize);

impl Archive for Counting {
    fn each(
        &self,
        trimmed: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.each(trimmed, table, range, take)
    }
}

fn open(dir: &Path, domain: &Arc<Domain>) -> (Store, Arc<Counting>) {
    let lake = LakeArchive::new(LakeConfig::new(dir), Arc::clone(domain));
    let archive = Arc::new(Counting(lake, AtomicUsize::new(0)));
    let options =
        StoreOptions { archive: Some(Arc::clone(&archive) as _), ..StoreOptions::default() };
    (Store::open(dir, Arc::clone(domain), options).unwrap(), archive)
}

fn trim(dir: &Path, domain: &Arc<Domain>, until: i64) {
    open(dir, domain).0.writer().unwrap().trim_until(until).unwrap();
}

/// Sequence numbers in the journal, of all families.
fn in_journal(store: &Store, domain: &Domain) -> Vec<i64> {
    let mut all = Vec::new();
    for family in &domain.families {
        let sql = format!("select _seq from \"{}\"", family.table());
        let read = |conn: &duckdb::Connection| {
            let mut statement = conn.prepare(&sql)?;
            let rows = statement.query_map([], |row| row.get::<_, i64>(0))?;
            rows.collect::<duckdb::Result<Vec<_>>>()
        };
        all.extend(store.readers().with("read", read).unwrap());
    }
    all
}

fn in_lake(dir: &Path, domain: &Domain, until: i64) -> Vec<i64> {
    let history = History::open(&LakeConfig::new(dir), domain).unwrap();
    let mut all = Vec::new();
    for family in 0..domain.families.len() {
        let range = HistoryRange { until, ..HistoryRange::default() };
        let mut take = |rows: &arrow::array::RecordBatch| -> Result<(), ArchiveError> {
            let seqs = rows.column_by_name(column::SEQ).unwrap();
            all.extend(seqs.as_primitive::<Int64Type>().values().iter().copied());
            Ok(())
        };
        history.each(HistoryTable::Family(family), &range, &mut take).unwrap();
    }
    all
}

/// Checks that each of `events` is exactly once in the journal or in what the lake has of the trimmed.
#[track_caller]
fn each_event_is_somewhere_once(dir: &Path, domain: &Arc<Domain>, events: i64) -> i64 {
    let (store, _) = open(dir, domain);
    let seq = store.readers().trimmed().map_or(0, |trimmed| trimmed.seq);
    let mut all = in_journal(&store, domain);
    assert!(all.iter().all(|kept| *kept > seq), "{all:?} {seq}");
    all.extend(in_lake(dir, domain, seq));
    all.sort_unstable();
    assert_eq!(all, (1..=events).collect::<Vec<_>>());
    seq
}

fn entities(store: &Store, domain: &Arc<Domain>, as_of: Option<i64>) -> Vec<String> {
    let engine = MetricEngine::new(Arc::clone(domain), store.readers());
    let asked = [("parcel", "P3"), ("parcel", "P16"), ("sender", "ann"), ("depot", "Ulm")];
    let known = [None, Some(engine.now())];
    asked
        .into_iter()
        .flat_map(|(entity, id)| known.map(|known_at| (entity, id, known_at)))
        .map(|(entity, id, known_at)| {
            let (entity, id, tenant) = (entity.into(), id.into(), "default".into());
            let asked = EntityQuestion { entity, version: None, id, tenant, as_of, known_at };
            let answer = engine.entity(&asked);
            match answer {
                Ok(answer) => format!("{:?} {:?}", answer.data, answer.position),
                Err(error) => format!("{error}"),
            }
        })
        .collect()
}

#[test]
fn what_was_given_up_is_answered_from_the_lake() {
    let dir = tempfile::tempdir().unwrap();
    let domain = contracts();
    process(dir.path(), &domain, &lines(200));
    follow(dir.path(), &domain);
    let times = [None, Some(1_767_225_660_000_000), Some(1_767_225_700_000_000)];
    let ask = |dir: &Path| {
        let (store, archive) = open(dir, &domain);
        let answers = times.map(|as_of| entities(&store, &domain, as_of));
        (answers, archive.1.load(Ordering::Relaxed))
    };
    let (expected, asked) = ask(dir.path());
    assert_eq!(asked, 0);
    for until in [1, 90, 130, 200] {
        trim(dir.path(), &domain, until);
        assert_eq!(each_event_is_somewhere_once(dir.path(), &domain, 200), until);
        let (answers, asked) = ask(dir.path());
        assert_eq!(answers, expected, "{until}");
        assert!(asked > 0);
    }
    // The lake can still make the whole store.
    let made = tempfile::tempdir().unwrap();
    assert_eq!(rebuild(dir.path(), made.path(), &domain).unwrap().events, 200);
}

#[test]
fn an_event_that_was_given_up_is_a_duplicate_and_a_fresh_one_asks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let domain = contracts();
    let lines = lines(200);
    process(dir.path(), &domain, &lines[..150]);
    follow(dir.path(), &domain);
    trim(dir.path(), &domain, 100);

    let (store, archive) = open(dir.path(), &domain);
    let counts = process_in(&store, &domain, &lines[150..]);
    assert_eq!((counts.accepted, counts.duplicate), (50, 0));
    assert_eq!(archive.1.load(Ordering::Relaxed), 0, "fresh events");
    drop(store);

    let (store, archive) = open(dir.path(), &domain);
    let counts = process_in(&store, &domain, &lines);
    assert_eq!((counts.accepted, counts.duplicate), (0, 200));
    assert!(archive.1.load(Ordering::Relaxed) > 0);
    drop(store);

    // Without the lake nothing is judged, and it may be tried again.
    std::fs::rename(dir.path().join("lake"), dir.path().join("away")).unwrap();
    let (store, _) = open(dir.path(), &domain);
    let mut writer = store.writer().unwrap();
    let hash = pipeline::deduplicate::hash::id_hash("default", "e1");
    let ids = [pipeline::store::EventId { hash, text: "e1" }];
    let error = writer.find_given_up(&ids).unwrap_err();
    assert!(matches!(error, StoreError::Failed { retry: true, .. }), "{error}");
    std::fs::rename(dir.path().join("away"), dir.path().join("lake")).unwrap();
    let seen = writer.find_given_up(&ids).unwrap();
    assert_eq!(seen.iter().map(|seen| (seen.id, seen.seq)).collect::<Vec<_>>(), [(hash, 2)]);
}

#[test]
fn numbers_and_times_go_on_after_everything_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let domain = fixture::parcels();
    let long = vec![7; 200_000];
    let commit = |n: i64| {
        let (store, _) = open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let mut batch = Batch::after(&domain, &mut writer);
        let mut effects = batch.next(n);
        effects.dead_letters[0].payload = &long;
        writer.commit(&effects).unwrap();
    };
    let ledger = |dir: &Path| -> Ledger { open(dir, &domain).0.readers().ledger(None).unwrap() };
    (0..8).for_each(|_| commit(3));
    let before = ledger(dir.path());
    trim(dir.path(), &domain, 24);
    assert_eq!(ledger(dir.path()), before);
    commit(1);
    let after = ledger(dir.path());
    assert_eq!((after.last_seq, after.last_ingest, after.last_dead_letter), (25, 9, 9));
    let (store, _) = open(dir.path(), &domain);
    let count = |table: &str| -> i64 {
        let sql = format!("select count(*) from {table}");
        store.readers().with("count", |conn| conn.query_row(&sql, [], |row| row.get(0))).unwrap()
    };
    assert_eq!((count("ingest"), count("dead_letters"), count("ev_parcel")), (2, 2, 1));
    let trimmed = store.readers().trimmed().unwrap();
    assert_eq!((trimmed.events, trimmed.dead_letter, trimmed.letters["default"]), (24, 7, 7));
    // What is left of pieces is that of the letters that are left.
    let sql =
        "select count(*) from dead_letter_pieces where id not in (select id from dead_letters)";
    let strays: i64 =
        store.readers().with("count", |c| c.query_row(sql, [], |row| row.get(0))).unwrap();
    assert_eq!(strays, 0);
    assert!(count("dead_letter_pieces") > 0);
}

#[test]
fn who_follows_from_before_the_beginning_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let domain = contracts();
    process(dir.path(), &domain, &lines(120));
    follow(dir.path(), &domain);
    trim(dir.path(), &domain, 60);
    let (store, _) = open(dir.path(), &domain);
    let parcel = domain.families.iter().find(|family| family.name == "parcel").unwrap().index;
    let limits = Limits { records: 1_000, bytes: usize::MAX };
    let readers = store.readers();
    let error = readers.rows(parcel, 10, i64::MAX, limits).unwrap_err();
    assert!(error.to_string().contains("in the lake only"), "{error}");
    assert!(readers.ingest(0, i64::MAX, limits).is_err());
    assert!(readers.rows(parcel, 60, i64::MAX, limits).is_ok());
    drop((readers, store));
    // Who is complete goes on.
    process(dir.path(), &domain, &lines(120)[..0]);
    follow(dir.path(), &domain);
    // An entity that must be folded anew needs what is not here.
    let changed = PARCEL.replace("moves: count", "moves: count, first: first(sender)");
    let changed = super::changed::domain(&[DEPOT, PARCEL_V1, &changed, SENDER]);
    let error = Store::open(dir.path(), changed, StoreOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Store(_)), "{error}");
    assert!(error.to_string().contains("agentflow rebuild --from lake"), "{error}");
}

fn retention(complete: &Ledger) -> Retention {
    let point = Complete {
        at: 1,
        last_seq: complete.last_seq,
        last_ingest: complete.last_ingest,
        last_dead_letter: complete.last_dead_letter,
    };
    let followed = Followed { complete: vec![point], ..Followed::default() };
    let policy = RetentionPolicy {
        keep_for: Some(Duration::ZERO),
        keep_bytes: Some(1),
        grace: Duration::from_secs(1),
    };
    Retention { policy, followed: Arc::new(move || followed.clone()) }
}

/// In the child: gives up the journal piece by piece until a fail point ends it.
#[test]
fn trimming_child() {
    let Ok(dir) = std::env::var("STORE_TEST_TRIM") else { return };
    let (store, _) = open(Path::new(&dir), &contracts());
    let mut writer = store.writer().unwrap();
    writer.retain(retention(&store.readers().ledger(None).unwrap()));
    while writer.tidy().unwrap() {}
    println!("CHILD DONE");
}

#[test]
fn a_kill_around_a_slice_loses_nothing_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let domain = contracts();
    process(dir.path(), &domain, &lines(200));
    follow(dir.path(), &domain);
    let path = dir.path().to_str().unwrap();
    let mut reached = Vec::new();
    for point in ["trim_before_commit:1", "trim_after_commit:1", "trim_before_commit:2", "none:1"] {
        let environment = [("STORE_TEST_TRIM", path), (fail_point::VARIABLE, point)];
        let output = child("trim::trimming_child", &environment);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.contains("CHILD DONE"), point == "none:1", "{point}: {text}");
        reached.push(each_event_is_somewhere_once(dir.path(), &domain, 200));
    }
    assert_eq!(reached, [0, 40, 80, 200]);
    // What is applied next is applied after it.
    let (store, _) = open(dir.path(), &domain);
    let counts = process_in(&store, &domain, &lines(200));
    assert_eq!((counts.accepted, counts.duplicate), (0, 200));
}

#[test]
fn a_follower_that_begins_before_the_first_position_misses_nothing_of_a_whole_journal() {
    let dir = tempfile::tempdir().unwrap();
    let domain = fixture::parcels();
    let store = fixture::open(dir.path(), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(3)).unwrap();
    let (journal, limits) = (store.readers(), Limits::default());
    for after in [-1, 0] {
        let letters = Journal::dead_letters(&journal, after, i64::MAX, limits).unwrap();
        assert_eq!(letters.iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
        let events = Journal::rows(&journal, fixture::PARCEL, after, i64::MAX, limits).unwrap();
        assert_eq!(events.batches.iter().map(|rows| rows.num_rows()).sum::<usize>(), 3);
    }
}
