//! The write-ahead log stays small: by itself under load, and at once when nothing waits.

use std::cell::Cell;
use std::path::Path;

use pipeline::store::ServingStore;

use super::fixture::{Batch, parcels};
use crate::store::{Store, StoreOptions};

fn log_bytes(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("serving.duckdb.wal")).map_or(0, |meta| meta.len())
}

#[test]
fn the_log_never_grows_beyond_its_bound_even_beside_an_open_snapshot() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { checkpoint_mib: 2, ..StoreOptions::default() };
    let store = Store::open(dir.path(), domain.clone(), options).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    let most = Cell::new(0);
    let mut run = |writer: &mut dyn ServingStore| {
        for _ in 0..20 {
            writer.commit(&batch.next(1_000)).unwrap();
            most.set(most.get().max(log_bytes(dir.path())));
        }
    };
    run(&mut writer);
    let most_alone = most.get();
    store
        .readers()
        .snapshot("hold a snapshot", |conn| {
            let count = || -> duckdb::Result<i64> {
                conn.query_row("select count(*) from ev_parcel", [], |row| row.get(0))
            };
            let before = count()?;
            run(&mut writer);
            assert_eq!(count()?, before);
            Ok(())
        })
        .unwrap();
    assert!(most.get() > 500_000, "the log was used: {}", most.get());
    assert!(most_alone < 3_000_000, "{most_alone}");
    // A checkpoint cannot pass a reader; it is made up for once the reader is gone.
    run(&mut writer);
    let after = log_bytes(dir.path());
    assert!(after < 3_000_000, "{after}");
    assert_eq!(store.readers().journal_rows().unwrap(), [0, 60_000]);
}

#[test]
fn an_idle_moment_is_used_for_a_checkpoint_when_it_is_worth_one() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { idle_checkpoint_mib: 1, ..StoreOptions::default() };
    let store = Store::open(dir.path(), domain.clone(), options).unwrap();
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(10)).unwrap();
    writer.idle().unwrap();
    assert!(log_bytes(dir.path()) > 0, "too small to bother");
    while log_bytes(dir.path()) <= 1 << 20 {
        writer.commit(&batch.next(1_000)).unwrap();
    }
    writer.idle().unwrap();
    assert_eq!(log_bytes(dir.path()), 0);
}
