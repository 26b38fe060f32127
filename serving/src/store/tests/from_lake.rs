//! A store that is made from the lake is the store that wrote it. `changed.rs` asks that of every change
//! of contracts too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use contracts::model::Domain;
use pipeline::fail_point;
use pipeline::sink::iceberg::{History, Lake, LakeConfig, survey};
use pipeline::store::{Journal, ServingStore};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::changed::{DEPOT, PARCEL, PARCEL_V1, SENDER, domain, dump, lines, process, same};
use super::fixture::{self, Batch, child};
use crate::store::{LakeRebuild, OpenError, RebuildError, Rebuilt, Store, StoreOptions};

/// Brings the lake of `dir` up to its journal.
pub(super) fn follow(dir: &Path, domain: &Arc<Domain>) {
    let store = fixture::open(dir, domain);
    let journal: Arc<dyn Journal> = Arc::new(store.readers());
    let end = journal.last_seq().unwrap();
    let lake = Lake::spawn(LakeConfig::new(dir), journal, Arc::clone(domain)).unwrap();
    lake.flush(end).unwrap();
    lake.stop();
}

/// Makes a store in `to` from the lake of `from`.
pub(super) fn rebuild(
    from: &Path,
    to: &Path,
    domain: &Arc<Domain>,
) -> Result<Rebuilt, RebuildError> {
    rebuild_until(from, to, domain, usize::MAX)
}

/// The same, stopped after so many steps.
fn rebuild_until(
    from: &Path,
    to: &Path,
    domain: &Arc<Domain>,
    steps: usize,
) -> Result<Rebuilt, RebuildError> {
    let history = History::open(&LakeConfig::new(from), domain)?;
    let asked = AtomicUsize::new(0);
    let rebuild = LakeRebuild {
        dir: to,
        domain: Arc::clone(domain),
        history: &history,
        options: StoreOptions::default(),
        stop: &|| asked.fetch_add(1, Ordering::Relaxed) >= steps,
    };
    rebuild.run()
}

fn contracts() -> Arc<Domain> {
    domain(&[DEPOT, PARCEL_V1, PARCEL, SENDER])
}

/// What the books say.
fn ledger(dir: &Path, domain: &Arc<Domain>) -> pipeline::store::Ledger {
    fixture::open(dir, domain).readers().ledger(None).unwrap()
}

#[test]
fn the_books_are_the_same_too() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let domain = fixture::parcels();
    {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let mut batch = Batch::after(&domain, &mut writer);
        let long = vec![7; 200_000];
        for n in [3, 1, 60] {
            let mut effects = batch.next(n);
            effects.dead_letters[0].payload = &long;
            writer.commit(&effects).unwrap();
        }
    }
    follow(dir.path(), &domain);
    let rebuilt = rebuild(dir.path(), made.path(), &domain).unwrap();
    assert_eq!((rebuilt.dead_letters, rebuilt.beyond, rebuilt.replaced), (3, 0, None));
    assert_eq!(ledger(made.path(), &domain), ledger(dir.path(), &domain));
    let letters = |dir: &Path| {
        let readers = fixture::open(dir, &domain).readers();
        let limits = pipeline::source::Limits { records: 100, bytes: usize::MAX };
        Journal::dead_letters(&readers, 0, i64::MAX, limits).unwrap()
    };
    assert_eq!(letters(made.path()), letters(dir.path()));
}

#[test]
fn a_lake_with_more_received_records_than_events_is_not_ahead_of_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let domain = fixture::parcels();
    {
        let store = fixture::open(dir.path(), &domain);
        let mut writer = store.writer().unwrap();
        let mut batch = Batch::after(&domain, &mut writer);
        for n in [1, 0, 0, 0] {
            writer.commit(&batch.next(n)).unwrap();
        }
    }
    follow(dir.path(), &domain);
    let books = ledger(dir.path(), &domain);
    assert!(books.last_ingest > books.last_seq, "{books:?}");
    let copy = dir.path().join("copy.sqlite");
    let survey = survey(&LakeConfig::new(dir.path()), &copy).unwrap().unwrap();
    assert_eq!(survey.position, Some(books.last_seq));
}

#[test]
fn it_goes_on_where_it_was_stopped() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let domain = contracts();
    process(dir.path(), &domain, &lines(200));
    follow(dir.path(), &domain);
    let expected = dump(&fixture::open(dir.path(), &domain), &domain);
    for steps in [0, 1, 3] {
        let stopped = rebuild_until(dir.path(), made.path(), &domain, steps).unwrap_err();
        assert!(matches!(stopped, RebuildError::Stopped), "{stopped}");
        assert!(!made.path().join("serving.duckdb").exists());
        if steps > 0 {
            // Nobody begins an empty store beside it.
            let opened = Store::open(made.path(), Arc::clone(&domain), StoreOptions::default());
            let error = opened.err().expect("a store that is not whole");
            assert!(matches!(error, OpenError::Unfinished { .. }), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("agentflow rebuild")));
        }
    }
    let rebuilt = rebuild(dir.path(), made.path(), &domain).unwrap();
    assert_eq!((rebuilt.events, rebuilt.last_seq), (200, 200));
    same(&dump(&fixture::open(made.path(), &domain), &domain), &expected);
    assert_eq!(ledger(made.path(), &domain), ledger(dir.path(), &domain));
    assert!(!made.path().join("serving.duckdb.rebuild").exists());
}

#[test]
fn one_that_was_begun_under_other_contracts_is_begun_anew() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let domain = contracts();
    process(dir.path(), &domain, &lines(200));
    follow(dir.path(), &domain);
    let fewer = super::changed::domain(&[DEPOT, PARCEL_V1]);
    rebuild_until(dir.path(), made.path(), &fewer, 3).unwrap_err();
    rebuild(dir.path(), made.path(), &domain).unwrap();
    let expected = dump(&fixture::open(dir.path(), &domain), &domain);
    same(&dump(&fixture::open(made.path(), &domain), &domain), &expected);
}

/// In the child: makes a store from a lake until a fail point ends it.
#[test]
fn rebuilding_child() {
    let Ok(dir) = std::env::var("STORE_TEST_FROM_LAKE") else { return };
    let dir = Path::new(&dir);
    rebuild(&dir.join("from"), &dir.join("to"), &contracts()).unwrap();
    println!("CHILD DONE");
}

#[test]
fn it_goes_on_where_it_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let domain = contracts();
    process(&from, &domain, &lines(200));
    follow(&from, &domain);
    // A store that is there stays until the new one is whole.
    process(&to, &domain, &lines(5));
    let path = dir.path().to_str().unwrap();
    for point in ["rebuild_step:2", "rebuild_step:1", "store_rebuild:2", "rebuild_before_swap:1"] {
        let environment = [("STORE_TEST_FROM_LAKE", path), (fail_point::VARIABLE, point)];
        let output = child("from_lake::rebuilding_child", &environment);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains("CHILD DONE") && !output.status.success(), "{point}: {text}");
        assert_eq!(ledger(&to, &domain).last_seq, 5, "{point}");
    }
    let replaced = rebuild(&from, &to, &domain).unwrap().replaced.expect("the other store");
    assert!(replaced.exists());
    let expected = dump(&fixture::open(&from, &domain), &domain);
    same(&dump(&fixture::open(&to, &domain), &domain), &expected);
}

/// In the child: follows a journal until a fail point ends it.
#[test]
fn following_child() {
    let Ok(dir) = std::env::var("STORE_TEST_FOLLOW") else { return };
    follow(Path::new(&dir), &contracts());
    println!("CHILD DONE");
}

#[test]
fn a_round_that_was_cut_off_loses_nothing_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let domain = contracts();
    let lines = lines(200);
    process(dir.path(), &domain, &lines[..110]);
    follow(dir.path(), &domain);
    let complete = ledger(dir.path(), &domain);
    process(dir.path(), &domain, &lines);
    let path = dir.path().to_str().unwrap();
    // The events of one family, of both, and all but the ledger.
    for (commits, beyond) in [(1, 8), (1, 90), (1, 90)] {
        let point = format!("lake_after_commit:{commits}");
        let environment = [("STORE_TEST_FOLLOW", path), (fail_point::VARIABLE, &point)];
        let output = child("from_lake::following_child", &environment);
        assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

        let made = tempfile::tempdir().unwrap();
        let rebuilt = rebuild(dir.path(), made.path(), &domain).unwrap();
        assert_eq!((rebuilt.events, rebuilt.beyond), (110 + beyond, beyond));
        let books = ledger(made.path(), &domain);
        let (now, then) = (&books.partitions[0].state, &complete.partitions[0].state);
        assert_eq!((now.next_offset, now.watermark), (then.next_offset, then.watermark));
        assert_eq!(now.counts.accepted, 110 + beyond);
        // The source goes on from there: what it sends again is known.
        process(made.path(), &domain, &lines[110..]);
        let store = fixture::open(made.path(), &domain);
        let rows = store.readers().journal_rows().unwrap();
        assert_eq!(rows.iter().sum::<u64>(), 200, "{commits}");
        let counts = store.readers().partitions().unwrap()[0].counts;
        assert_eq!((counts.accepted, counts.duplicate), (200, beyond));
        // Received in `ingest` is what the partition received.
        let sql = "select coalesce(sum(_n), 0)::bigint from ingest where outcome = 'accepted'";
        let ingest: i64 =
            store.readers().with("read", |conn| conn.query_row(sql, [], |row| row.get(0))).unwrap();
        assert_eq!(ingest, 200);
    }
}

fn set_back(dir: &Path, table: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(dir.join("lake/catalog.sqlite"));
        let mut catalog = options.connect().await.unwrap();
        let sql = "update iceberg_tables set metadata_location = previous_metadata_location
                   where table_name = ?";
        let done = sqlx::query(sql).bind(table).execute(&mut catalog).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    });
}

#[test]
fn a_lake_that_lost_rows_is_not_taken_for_whole() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let domain = contracts();
    process(dir.path(), &domain, &lines(30));
    follow(dir.path(), &domain);
    process(dir.path(), &domain, &lines(200));
    follow(dir.path(), &domain);
    // Somebody sets a table back to where it was before, by the catalog's own means.
    set_back(dir.path(), "parcel");
    let error = rebuild(dir.path(), made.path(), &domain).unwrap_err();
    assert!(matches!(error, RebuildError::Incomplete { expected: 200, .. }), "{error}");
    // The server on its own store mends it.
    follow(dir.path(), &domain);
    rebuild(dir.path(), made.path(), &domain).unwrap();
}

#[test]
fn a_file_that_is_cut_off_or_gone_is_named() {
    let (dir, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let domain = contracts();
    process(dir.path(), &domain, &lines(50));
    follow(dir.path(), &domain);
    let folder = dir.path().join("lake/warehouse").join(&domain.name).join("parcel/data");
    let day = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let name = file.file_name().unwrap().to_str().unwrap();
    let check = |what: &str| {
        let error = rebuild(dir.path(), made.path(), &domain).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(what), "{error}");
    };
    std::fs::write(&file, &whole[..100]).unwrap();
    check("has 100 bytes, its manifest says");
    std::fs::remove_file(&file).unwrap();
    check("cannot be read");
    std::fs::write(&file, &whole).unwrap();
    rebuild(dir.path(), made.path(), &domain).unwrap();
}

#[test]
fn a_directory_without_a_lake_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = rebuild(dir.path(), dir.path(), &contracts()).unwrap_err();
    assert!(error.to_string().contains("there is no lake in"), "{error}");
    // A lake that was never complete.
    process(dir.path(), &contracts(), &lines(1));
    let other = fixture::parcels();
    let empty = tempfile::tempdir().unwrap();
    process(empty.path(), &other, &[]);
    follow(empty.path(), &other);
    let error = rebuild(empty.path(), dir.path(), &other).unwrap_err();
    assert!(error.to_string().contains("tells no point"), "{error}");
}
