//! Catalogs that lie, writers that should be dead, folders that are not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{Catalog, Error, ErrorKind, TableCommit};

use super::super::catalog::{Hooked, Hooks};
use super::super::{LakeConfig, LakeError};
use super::support::{
    MemoryJournal, NOON, block_on, config, domain, ending, files, follower, int64, load,
    open_catalog, rows_of, spawn,
};

/// How a catalog misbehaves on a commit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// Fails, and nothing happened.
    FailsBefore,
    /// Commits, and says that it failed: a lost reply.
    FailsAfter,
    /// Does nothing, and says that it committed: a failed database commit.
    PretendsSuccess,
}

/// Misbehaves on the first `times` commits.
#[derive(Debug)]
struct Liar {
    lie: Lie,
    times: AtomicUsize,
}

#[async_trait]
impl Hooks for Liar {
    async fn update_table(
        &self,
        inner: &dyn Catalog,
        commit: TableCommit,
    ) -> iceberg::Result<Table> {
        let lies =
            self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if lies.is_err() {
            return inner.update_table(commit).await;
        }
        let error = Error::new(ErrorKind::Unexpected, "service unavailable");
        match self.lie {
            Lie::FailsBefore => Err(error),
            Lie::FailsAfter => {
                inner.update_table(commit).await?;
                Err(error)
            }
            Lie::PretendsSuccess => inner.load_table(commit.identifier()).await,
        }
    }
}

#[test]
fn a_lying_catalog_makes_no_event_lost_or_double() {
    #[track_caller]
    fn check(lie: Lie, times: usize, failed_rounds: usize) {
        let dir = tempfile::tempdir().expect("a directory");
        let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
        let (shared, mut visit) = follower(config(dir.path()), &journal, &domain, "visit");
        let failures = block_on(async {
            let inner = open_catalog(dir.path()).await;
            visit.advance(&shared, &inner, &ending(0)).await.expect("the table opens");
            let hooks = Liar { lie, times: AtomicUsize::new(times) };
            let catalog: Arc<dyn Catalog> = Arc::new(Hooked { inner, hooks });
            journal.append(&domain.families[1], &[(1, NOON), (2, NOON)]);
            let mut failures = 0;
            while let Err(error) = visit.advance(&shared, &catalog, &ending(2)).await {
                assert!(matches!(error, LakeError::Catalog { .. }), "{error}");
                failures += 1;
                assert!(failures < 20, "{error}");
                // More comes while the commit is open; it must not slip into it.
                if failures == 1 {
                    journal.append(&domain.families[1], &[(3, NOON)]);
                }
            }
            visit.advance(&shared, &catalog, &ending(3)).await.expect("the catalog works again");
            failures
        });
        assert_eq!(failures, failed_rounds, "{lie:?}");
        let expected: Vec<i64> = if failed_rounds == 0 { vec![1, 2] } else { vec![1, 2, 3] };
        assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), expected, "{lie:?}");
    }
    check(Lie::FailsBefore, 3, 3);
    check(Lie::FailsAfter, 1, 0);
    check(Lie::PretendsSuccess, 2, 2);
}

#[test]
fn files_that_waited_too_long_for_their_commit_are_written_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    let config = LakeConfig { pending_for: Duration::ZERO, ..config(dir.path()) };
    let (shared, mut visit) = follower(config, &journal, &domain, "visit");
    block_on(async {
        let inner = open_catalog(dir.path()).await;
        visit.advance(&shared, &inner, &ending(0)).await.expect("the table opens");
        let hooks = Liar { lie: Lie::FailsBefore, times: AtomicUsize::new(2) };
        let catalog: Arc<dyn Catalog> = Arc::new(Hooked { inner, hooks });
        journal.append(&domain.families[1], &[(1, NOON)]);
        let mut written = std::collections::BTreeSet::new();
        while visit.advance(&shared, &catalog, &ending(last(&journal))).await.is_err() {
            let found = files(&dir.path().join("lake/warehouse"), "parquet");
            assert_eq!(found.len(), 1, "the files before are gone");
            written.extend(found);
            journal.append(&domain.families[1], &[(last(&journal) + 1, NOON)]);
        }
        assert_eq!(written.len(), 2);
    });
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), [1, 2, 3]);
    assert_eq!(files(&dir.path().join("lake/warehouse"), "parquet").len(), 1);
}

fn last(journal: &MemoryJournal) -> i64 {
    crate::store::Journal::last_seq(journal).expect("a journal in memory")
}

#[test]
fn a_second_writer_is_fenced() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[1], &[(1, NOON)]);
    let (shared, mut zombie) = follower(config(dir.path()), &journal, &domain, "visit");
    let (_, mut owner) = follower(config(dir.path()), &journal, &domain, "visit");
    block_on(async {
        let catalog = open_catalog(dir.path()).await;
        zombie.advance(&shared, &catalog, &ending(1)).await.expect("the first writer commits");
        owner.advance(&shared, &catalog, &ending(1)).await.expect("the second takes over");
        journal.append(&domain.families[1], &[(2, NOON), (3, NOON)]);
        owner.advance(&shared, &catalog, &ending(2)).await.expect("the second goes on");
        let error =
            zombie.advance(&shared, &catalog, &ending(3)).await.expect_err("the first is fenced");
        assert_eq!(
            error.to_string(),
            "lake table `visit` was moved by another writer: expected it at position 1, found 2; \
             stop the other process, then start this one again"
        );
        owner.advance(&shared, &catalog, &ending(3)).await.expect("the second goes on");
    });
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), [1, 2, 3]);
    // The files of the fenced attempt are gone: one is left per commit of the others.
    assert_eq!(files(dir.path(), "parquet").len(), 3);
}

#[test]
fn two_writers_at_once_write_each_event_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[1], &[(1, NOON)]);
    spawn(config(dir.path()), &journal, &domain).flush(1).expect("flushed");
    let writers: Vec<_> = (0..2).map(|_| spawn(config(dir.path()), &journal, &domain)).collect();
    for seq in 2..=30 {
        journal.append(&domain.families[1], &[(seq, NOON)]);
        std::thread::scope(|scope| {
            for writer in &writers {
                scope.spawn(|| {
                    // One of them wins, the other is fenced or finds nothing left to do.
                    let _ = writer.flush(seq);
                });
            }
        });
    }
    drop(writers);
    let last = spawn(config(dir.path()), &journal, &domain);
    last.flush(30).expect("flushed");
    drop(last);
    let seqs: Vec<i64> = (1..=30).collect();
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), seqs);
}

#[test]
fn a_lake_of_another_journal_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = domain();
    let journal = Arc::new(MemoryJournal::default());
    journal.append(&domain.families[1], &[(1, NOON), (50, NOON)]);
    spawn(config(dir.path()), &journal, &domain).flush(50).expect("flushed");

    let other = Arc::new(MemoryJournal::default());
    other.append(&domain.families[1], &[(1, NOON)]);
    let lake = spawn(config(dir.path()), &other, &domain);
    let error = lake.flush(1).expect_err("the lake is ahead").to_string();
    assert!(
        error.contains("`visit` holds events up to position 50, the journal ends at 1"),
        "{error}"
    );
    let visit = lake.status().tables.into_iter().find(|t| t.name == "visit").expect("the table");
    assert!(visit.halted.is_some());
}

#[test]
fn rows_without_a_position_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    spawn(config(dir.path()), &journal, &domain).flush(0).expect("the tables are made");
    block_on(async {
        let table = load(dir.path(), "visit").await;
        let transaction = Transaction::new(&table);
        let append = transaction
            .fast_append()
            .set_snapshot_properties([("by".to_owned(), "somebody".to_owned())].into());
        let transaction = append.apply(transaction).expect("applies");
        transaction.commit(open_catalog(dir.path()).await.as_ref()).await.expect("commits");
    });
    journal.append(&domain.families[1], &[(1, NOON)]);
    journal.append(&domain.families[0], &[(2, NOON)]);
    let lake = spawn(config(dir.path()), &journal, &domain);
    let error = lake.flush(2).expect_err("refused").to_string();
    assert!(
        error.contains("`visit` has rows but no snapshot says up to which position"),
        "{error}"
    );
    // The other tables go on.
    assert_eq!(rows_of(dir.path(), "purchase_made", "_seq").num_rows(), 1);
}

#[test]
fn a_lake_that_is_away_is_caught_up_when_it_is_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[1], &[(1, NOON)]);
    // A file where the folder should be.
    std::fs::write(dir.path().join("lake"), "not a folder").expect("written");
    let lake = spawn(config(dir.path()), &journal, &domain);
    let deadline = Instant::now() + Duration::from_secs(20);
    while lake.status().last_error.is_none() || lake.status().lag_events == 0 {
        assert!(Instant::now() < deadline, "{:?}", lake.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(dir.path().join("lake")).expect("removed");
    // Without anybody asking.
    while lake.status().commits == 0 {
        assert!(Instant::now() < deadline, "{:?}", lake.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    lake.flush(1).expect("flushed");
    assert_eq!(lake.status().last_error, None);
    drop(lake);
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), [1]);
}

#[test]
fn a_journal_that_fails_for_a_while_is_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[0], &[(1, NOON)]);
    journal.append(&domain.families[1], &[(2, NOON)]);
    journal.fail_reads.store(3, Ordering::SeqCst);
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(2).expect("flushed");
    drop(lake);
    assert_eq!(rows_of(dir.path(), "purchase_made", "_seq").num_rows(), 1);
    assert_eq!(rows_of(dir.path(), "visit", "_seq").num_rows(), 1);
}
