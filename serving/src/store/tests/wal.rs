//! The write-ahead log stays small: by itself under load, and at once when nothing waits.

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
    let mut most = 0;
    let mut run = |writer: &mut dyn ServingStore| {
        for _ in 0..20 {
            writer.commit(&batch.next(1_000)).unwrap();
            most = most.max(log_bytes(dir.path()));
        }
    };
    run(&mut writer);
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
    assert!(most > 500_000, "the log was used: {most}");
    assert!(most < 3_000_000, "{most}");
    assert_eq!(store.readers().journal_rows().unwrap(), [0, 40_000]);
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
