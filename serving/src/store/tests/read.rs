//! Readers see committed snapshots, in order, and none of them can hold the others up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use duckdb::Connection;
use pipeline::headers::Headers;
use pipeline::outcome::Reason;
use pipeline::source::Limits;
use pipeline::store::{DeadLetter, Journal, ServingStore, StoreError};

use super::fixture::{self, Batch, PARCEL, VISIT, journal, parcels, rejection};
use crate::store::{DeadLetterFilter, Page, Store, StoreOptions};

fn seqs(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn a_snapshot_does_not_move_while_the_writer_commits() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(10)).unwrap();

    let readers = store.readers();
    readers
        .snapshot("count", |conn| {
            let count =
                || conn.query_row("select count(*) from ev_parcel", [], |row| row.get::<_, i64>(0));
            assert_eq!(count()?, 10);
            writer.commit(&batch.next(10)).unwrap();
            assert_eq!(count()?, 10, "the same transaction");
            assert_eq!(readers.journal_rows().unwrap(), [0, 20], "another connection");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_snapshot_cannot_write() {
    let store = Store::in_memory(parcels()).unwrap();
    let readers = store.readers();
    for sql in [
        "delete from ev_parcel",
        "drop table meta",
        "attach 'x.db' as x",
        "copy meta to 'x.csv'",
        "set enable_external_access = true",
    ] {
        let result = readers.snapshot("write", |conn| conn.execute_batch(sql));
        assert!(result.is_err(), "{sql}");
    }
    assert_eq!(readers.journal_rows().unwrap(), [0, 0]);
}

#[test]
fn journal_pages_join_to_the_whole_journal() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    for _ in 0..3 {
        let mut effects = batch.next(3_000);
        // A rare family between: every thousandth event.
        let rare = (effects.last_seq - 2_999..=effects.last_seq).filter(|seq| seq % 1_000 == 0);
        let rare = journal(&domain, VISIT, rare);
        effects.journal.push((VISIT, rare));
        writer.commit(&effects).unwrap();
    }
    let readers = store.readers();
    let check = |family: usize, after: i64, until: i64, limits: Limits, expected: Vec<i64>| {
        let mut found = Vec::new();
        let end = until.min(9_000);
        let mut reached = after;
        while reached < end {
            let page = readers.rows(family, reached, until, limits).unwrap();
            let rows = seqs(&page.batches);
            assert!(rows.len() < 2 * limits.records);
            // So many are read before it is known how long rows are.
            assert!(limits.bytes > 0 || rows.len() <= 256, "{rows:?}");
            assert!(page.reached > reached, "each page gets further");
            assert!(rows.last().is_none_or(|last| *last <= page.reached));
            reached = page.reached;
            found.extend(rows);
        }
        assert_eq!(found, expected, "{family} {after} {until} {limits:?}");
    };
    let all = usize::MAX;
    let limits = |records, bytes| Limits { records, bytes };
    for bytes in [all, 1_000_000, 5_000] {
        check(PARCEL, 0, i64::MAX, limits(100_000, bytes), (1..=9_000).collect());
        check(PARCEL, 0, i64::MAX, limits(777, bytes), (1..=9_000).collect());
    }
    for bytes in [all, 700, 0] {
        check(PARCEL, 10, 20, limits(3, bytes), (11..=20).collect());
        check(PARCEL, 9_000, i64::MAX, limits(10, bytes), vec![]);
        let rare: Vec<i64> = (1..=9).map(|n| n * 1_000).collect();
        check(VISIT, 0, i64::MAX, limits(100_000, bytes), rare.clone());
        check(VISIT, 0, i64::MAX, limits(2, bytes), rare.clone());
        check(VISIT, 999, 8_000, limits(1, bytes), rare[..8].to_vec());
    }
}

#[test]
fn dead_letters_come_in_pages() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    let late = rejection(Reason::Late);
    let wrong = rejection(Reason::WrongType);
    let mut effects = batch.next(1);
    effects.dead_letters = (0..10)
        .map(|offset| DeadLetter {
            partition: "file:test",
            rejection: if offset % 2 == 0 { &late } else { &wrong },
            payload: b"x",
            tenant: if offset < 8 { "default" } else { "other" },
            offset,
            arrived_at: offset as i64,
            key: None,
            headers: Headers::new(&[]),
        })
        .collect();
    writer.commit(&effects).unwrap();

    let readers = store.readers();
    let check = |tenant: Option<&str>, reason: Option<&str>, page: Page, expected: &[i64]| {
        let filter = DeadLetterFilter {
            tenant: tenant.map(str::to_owned),
            reason: reason.map(str::to_owned),
        };
        let found = readers.dead_letters(&filter, &page).unwrap();
        assert_eq!(found.iter().map(|l| l.id).collect::<Vec<_>>(), expected, "{filter:?} {page:?}");
    };
    let page = |newest_first, after, limit| Page { newest_first, after, limit };
    check(None, None, page(true, None, 3), &[10, 9, 8]);
    check(None, None, page(true, Some(8), 3), &[7, 6, 5]);
    check(None, None, page(false, None, 3), &[1, 2, 3]);
    check(None, None, page(false, Some(8), 30), &[9, 10]);
    check(None, Some("late"), page(true, None, 3), &[9, 7, 5]);
    check(Some("other"), None, page(true, None, 30), &[10, 9]);
    check(Some("other"), Some("late"), page(true, None, 30), &[9]);
    check(None, Some("not_json"), page(true, None, 30), &[]);

    let follow = |after, records, bytes| {
        seqs(&Journal::dead_letters(&readers, after, i64::MAX, Limits { records, bytes }).unwrap())
    };
    assert_eq!(follow(4, 3, usize::MAX), [5, 6, 7]);
    assert_eq!(follow(10, 3, usize::MAX), [0_i64; 0]);
}

/// Rejected records are kept whole, and read by their bytes.
#[test]
fn long_dead_letters_come_back_whole_a_few_at_a_time() {
    let domain = parcels();
    let store = Store::in_memory(Arc::clone(&domain)).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    let rejection = rejection(Reason::NotJson);
    let payload = |n: u8| vec![n; 100_000 * usize::from(n)];
    let payloads: Vec<Vec<u8>> = (1..=6).map(payload).collect();
    let mut effects = batch.next(1);
    effects.dead_letters = payloads
        .iter()
        .zip(0..)
        .map(|(payload, offset)| DeadLetter {
            partition: "file:test",
            rejection: &rejection,
            payload,
            tenant: "default",
            offset,
            arrived_at: 0,
            key: Some(payload),
            headers: Headers::new(&[]),
        })
        .collect();
    writer.commit(&effects).unwrap();

    let readers = store.readers();
    let (mut after, mut pages) = (0, Vec::new());
    while after < 6 {
        let limits = Limits { records: 100, bytes: 700_000 };
        let found = Journal::dead_letters(&readers, after, i64::MAX, limits).unwrap();
        let ids = seqs(&found);
        let size: usize = ids.iter().map(|id| 2 * payloads[*id as usize - 1].len()).sum();
        assert!(ids.len() == 1 || size <= 2 * 700_000, "{ids:?}");
        let rows = arrow::compute::concat_batches(&found[0].schema(), &found).unwrap();
        for name in ["payload", "key"] {
            let column = rows.column_by_name(name).unwrap().as_binary::<i32>();
            for (row, id) in ids.iter().enumerate() {
                assert!(column.value(row) == payloads[*id as usize - 1], "{name} of {id}");
            }
        }
        after = *ids.last().unwrap();
        pages.push(ids);
    }
    assert!(pages.len() >= 3, "{pages:?}");
    assert_eq!(pages.concat(), [1, 2, 3, 4, 5, 6]);

    // And so do pages of a list.
    let page = Page { newest_first: true, after: Some(6), limit: 2 };
    let found = readers.dead_letters(&DeadLetterFilter::default(), &page).unwrap();
    let found: Vec<_> = found.iter().map(|letter| (letter.id, letter.payload.len())).collect();
    assert_eq!(found, [(5, 500_000), (4, 400_000)]);
}

#[test]
fn a_reader_that_takes_too_long_is_stopped_and_its_connection_stays_usable() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        readers: 1,
        query_time_limit: Duration::from_millis(150),
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path(), parcels(), options).unwrap();
    let readers = store.readers();
    for _ in 0..3 {
        let started = Instant::now();
        let error = readers
            .with("add up", |conn| {
                conn.query_row("select sum(a.range * b.range)::double from range(1e6::bigint) a, range(1e6::bigint) b",
                    [], |row| row.get::<_, f64>(0))
            })
            .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(matches!(&error, StoreError::Failed { retry: true, .. }), "{error}");
        assert!(error.to_string().contains("time limit"), "{error}");
        assert_eq!(readers.journal_rows().unwrap(), [0, 0]);
    }
}

/// As it was left where an interrupt came while a transaction was being ended: the connection was of no
/// use to anybody after that.
#[test]
fn a_transaction_that_was_left_open_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { readers: 1, ..StoreOptions::default() };
    let store = Store::open(dir.path(), parcels(), options).unwrap();
    let readers = store.readers();
    let one = |conn: &Connection| conn.query_row("select 1", [], |row| row.get::<_, i64>(0));
    for is_aborted in [false, true] {
        let leave = || {
            let left = readers.with("leave a transaction", |conn| {
                conn.execute_batch("begin transaction read only")?;
                if is_aborted {
                    assert!(conn.execute_batch("select error('aborted')").is_err());
                    assert!(one(conn).unwrap_err().to_string().contains("aborted"));
                }
                Ok(())
            });
            left.unwrap();
        };
        leave();
        assert_eq!(readers.snapshot("read", one).unwrap(), 1);
        leave();
        let limit = Duration::from_secs(10);
        assert_eq!(readers.snapshot_within("read", limit, one).unwrap().unwrap(), 1);
    }
}

#[test]
fn a_reader_waits_for_a_connection_but_not_forever() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        readers: 1,
        query_time_limit: Duration::from_millis(100),
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path(), parcels(), options).unwrap();
    let readers = store.readers();
    let other = readers.clone();
    readers
        .with("hold", |_| {
            let error = other.journal_rows().unwrap_err();
            assert!(error.to_string().contains("busy"), "{error}");
            Ok(())
        })
        .unwrap();
    assert!(other.journal_rows().is_ok());
}

#[test]
fn a_reader_that_panics_gives_its_connection_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { readers: 1, ..StoreOptions::default() };
    let store = Store::open(dir.path(), parcels(), options).unwrap();
    let readers = store.readers();
    let panicking = readers.clone();
    let joined = std::thread::spawn(move || {
        let _ = panicking.snapshot("panic", |_| -> duckdb::Result<()> { panic!("in a reader") });
    });
    assert!(joined.join().is_err());
    assert_eq!(readers.journal_rows().unwrap(), [0, 0]);
}

#[test]
fn an_error_half_way_through_a_result_is_an_error() {
    let store = fixture::open(tempfile::tempdir().unwrap().path(), &parcels());
    let readers = store.readers();
    let schema = readers.domain().families[PARCEL].schema();
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![schema.field(0).clone()]));
    let result = readers.with("divide", |conn| {
        let sql =
            "select case when range < 100000 then range else error('late') end from range(200000)";
        let mut rows = 0;
        crate::store::rows::stream(conn, sql, [], &schema, |batch| rows += batch.num_rows())
    });
    assert!(result.unwrap_err().to_string().contains("late"));
}
