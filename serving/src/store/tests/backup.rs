//! A copy of the files up to a commit is the store as of that commit, whatever is written meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use contracts::model::Domain;
use pipeline::source::Limits;
use pipeline::store::{Journal, ServingStore};

use super::fixture::{self, Batch, PARCEL, journal, parcels};
use crate::store::backup::{BackupError, Backups, Lost, cut};
use crate::store::{Store, StoreOptions, Writer};

/// More than a row group: DuckDB writes most of it to the database file before it commits.
const LARGE: i64 = 130_000;

fn file_bytes(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("serving.duckdb")).unwrap().len()
}

fn all_rows(store: &Store) -> RecordBatch {
    let readers = store.readers();
    let all = Limits { records: 10_000_000, bytes: usize::MAX };
    let batches = readers.rows(PARCEL, 0, i64::MAX, all).unwrap().batches;
    let schema = readers.domain().families[PARCEL].schema();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// Opens a copy and compares everything in it with what was committed up to `position`.
#[track_caller]
fn check(copy: &Path, domain: &Arc<Domain>, position: i64, commits: i64) {
    let store = fixture::open(copy, domain);
    let readers = store.readers();
    assert_eq!(Journal::last_seq(&readers).unwrap(), position);
    let (rows, expected) = (all_rows(&store), journal(domain, PARCEL, 1..=position));
    assert!(rows == expected, "{} rows of {position} differ", rows.num_rows());
    assert_eq!(readers.entity_rows().unwrap(), [position as u64]);
    let partition = readers.partitions().unwrap().pop().unwrap();
    assert_eq!(partition.next_offset as i64, position + commits);
    let counts = partition.counts;
    assert_eq!((counts.accepted as i64, counts.rejected as i64), (position, commits));
    assert_eq!(readers.counts_by_reason().unwrap()["rejected"]["wrong_type"] as i64, commits);
    // And it goes on.
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(domain, &mut writer);
    writer.commit(&batch.next(10)).unwrap();
    assert_eq!(writer.last_seq().unwrap(), position + 10);
}

/// Ends the other thread when the test fails, too.
struct StopAtEnd(Arc<AtomicBool>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn opened(dir: &Path, domain: &Arc<Domain>, checkpoint_mib: u32) -> (Store, Writer, Backups) {
    let options =
        StoreOptions { checkpoint_mib, idle_checkpoint_mib: 1, ..StoreOptions::default() };
    let store = Store::open(dir, Arc::clone(domain), options).unwrap();
    let (writer, backups) = (store.writer().unwrap(), store.backups().unwrap());
    (store, writer, backups)
}

#[test]
fn a_copy_made_while_commits_of_any_size_go_on_is_the_store_at_its_cut() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let (_store, mut writer, backups) = opened(dir.path(), &domain, 16);
    let stop = Arc::new(AtomicBool::new(false));
    let hammer = std::thread::spawn({
        let (domain, stop) = (Arc::clone(&domain), Arc::clone(&stop));
        move || {
            let mut batch = Batch::after(&domain, &mut writer);
            let mut ends = vec![0];
            for n in [1, LARGE, 40, 900, 5_000, 7].into_iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                writer.commit(&batch.next(n)).unwrap();
                ends.push(batch.last_seq);
                if n == 7 {
                    writer.idle().unwrap();
                }
            }
            ends
        }
    });
    let _stop = StopAtEnd(Arc::clone(&stop));
    let mut copies = Vec::new();
    while copies.len() < 4 {
        let copy = tempfile::tempdir().unwrap();
        let held = match backups.begin() {
            Ok(held) if held.cut.position > 0 => held,
            Ok(held) => {
                backups.end(held.id);
                continue;
            }
            // A checkpoint is under way.
            Err(_) => {
                std::thread::yield_now();
                continue;
            }
        };
        let copied = cut::store(dir.path(), copy.path(), held.cut.log_bytes, &mut |_| {
            // Something is committed before each first piece is through.
            while cut::log_bytes(dir.path()) <= held.cut.log_bytes {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Ok(())
        });
        let copied = copied.unwrap();
        backups.renew(held.id).unwrap().unwrap();
        backups.end(held.id);
        copied.finish().unwrap();
        copies.push((copy, held.cut));
    }
    stop.store(true, Ordering::Relaxed);
    let ends = hammer.join().unwrap();
    for (copy, cut) in copies {
        let commits = ends.iter().position(|end| *end == cut.position).expect("a commit's end");
        check(copy.path(), &domain, cut.position, commits as i64);
    }
}

#[test]
fn what_a_large_commit_wrote_to_the_file_ahead_of_its_log_is_in_the_copy() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let (_store, mut writer, backups) = opened(dir.path(), &domain, 64);
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(3_000)).unwrap();
    writer.idle().unwrap();
    let before = file_bytes(dir.path());
    writer.commit(&batch.next(LARGE)).unwrap();
    assert!(file_bytes(dir.path()) > before + (1 << 20), "it wrote ahead of its log");
    let held = backups.begin().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let mut steps = 0;
    // Commits between any two pieces of the copy, large ones among them.
    let copied = cut::store(dir.path(), copy.path(), held.cut.log_bytes, &mut |_| {
        steps += 1;
        // As whoever copies does: on a busy machine it takes longer than a lease.
        backups.renew(held.id).unwrap().expect("it is held");
        writer.commit(&batch.next(if steps % 4 == 1 { LARGE } else { 50 })).unwrap();
        writer.idle().unwrap();
        Ok(())
    });
    copied.unwrap().finish().unwrap();
    assert!(steps > 3, "{steps}");
    assert_eq!(backups.renew(held.id).unwrap().unwrap().cut, held.cut, "no checkpoint was made");
    backups.end(held.id);
    check(copy.path(), &domain, 3_000 + LARGE, 2);
}

#[test]
fn a_checkpoint_that_could_not_wait_is_noticed() {
    let domain = parcels();
    let dir = tempfile::tempdir().unwrap();
    let (_store, mut writer, backups) = opened(dir.path(), &domain, 1);
    let mut batch = Batch::after(&domain, &mut writer);
    // The log of one that was never folded is more than a piece of a copy.
    for _ in 0..4 {
        writer.commit(&batch.next(1_000)).unwrap();
    }
    let held = backups.begin().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let copied = cut::store(dir.path(), copy.path(), held.cut.log_bytes, &mut |_| {
        while backups.renew(held.id).unwrap().is_ok() {
            writer.commit(&batch.next(1_000)).unwrap();
        }
        Ok(())
    });
    assert!(matches!(copied, Err(BackupError::Changed(_))), "{copied:?}");
    assert_eq!(backups.renew(held.id), Some(Err(Lost::LogFull)));
    // The next one succeeds.
    let held = backups.begin().unwrap();
    let copied = cut::store(dir.path(), copy.path(), held.cut.log_bytes, &mut |_| Ok(()));
    copied.unwrap().finish().unwrap();
    let commits = held.cut.position / 1_000;
    check(copy.path(), &domain, held.cut.position, commits);
}
