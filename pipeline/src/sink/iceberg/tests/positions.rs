use iceberg::transaction::{ApplyTransactionAction, Transaction};

use super::super::position::{
    Found, Settlement, Start, choose_start, contains_commit, may_append, settle, watermark,
};
use super::support::{MemoryJournal, int64};
use super::support::{NOON, block_on, config, domain, load, open_catalog, rows_of, spawn};

#[test]
fn a_follower_starts_after_the_position_of_the_table() {
    #[track_caller]
    fn check(found: Found, journal_end: i64, expected: Start) {
        assert_eq!(choose_start(found, journal_end), expected);
    }
    check(Found::Empty, 0, Start::Fresh);
    check(Found::Empty, 100, Start::Fresh);
    check(Found::At(40), 100, Start::After(40));
    check(Found::At(100), 100, Start::After(100));
    check(Found::At(101), 100, Start::RefuseAhead { position: 101 });
    check(Found::Unmarked, 100, Start::RefuseUnmarked);
}

#[test]
fn an_attempt_is_settled_by_what_the_table_holds() {
    #[track_caller]
    fn check(commit_found: bool, expected: Option<i64>, found: Found, settlement: Settlement) {
        assert_eq!(settle(commit_found, expected, found), settlement);
    }
    // The reply was lost, or it came: the commit is there either way.
    check(true, None, Found::At(10), Settlement::Committed);
    check(true, Some(10), Found::At(20), Settlement::Committed);
    // Somebody else went on behind our commit; ours is in nevertheless.
    check(true, Some(10), Found::At(30), Settlement::Committed);
    // Nothing happened.
    check(false, None, Found::Empty, Settlement::NotCommitted);
    check(false, Some(10), Found::At(10), Settlement::NotCommitted);
    // Somebody else moved the table.
    check(false, None, Found::At(5), Settlement::Fenced);
    check(false, Some(10), Found::At(15), Settlement::Fenced);
    // The table was rolled back or replaced.
    check(false, Some(10), Found::At(5), Settlement::Fenced);
    check(false, Some(10), Found::Empty, Settlement::Fenced);
    check(false, Some(10), Found::Unmarked, Settlement::Fenced);
    check(false, None, Found::Unmarked, Settlement::Fenced);
}

#[test]
fn a_writer_appends_only_where_it_left_the_table() {
    assert!(may_append(None, Found::Empty));
    assert!(may_append(Some(7), Found::At(7)));
    assert!(!may_append(Some(7), Found::At(8)));
    assert!(!may_append(None, Found::Unmarked));
}

#[test]
fn the_position_survives_a_snapshot_of_somebody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), std::sync::Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[1], &[(1, NOON), (2, NOON + 5)]);
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(2).expect("flushed");
    lake.stop();

    block_on(async {
        let table = load(dir.path(), "visit").await;
        let transaction = Transaction::new(&table);
        let heartbeat = transaction
            .fast_append()
            .set_snapshot_properties([("by".to_owned(), "somebody".to_owned())].into());
        let transaction = heartbeat.apply(transaction).expect("applies");
        let table =
            transaction.commit(open_catalog(dir.path()).await.as_ref()).await.expect("commits");
        assert_eq!(table.metadata().snapshots().len(), 2);
        assert_eq!(Found::of(table.metadata()), Found::At(2));
        assert_eq!(watermark(table.metadata()), Some(NOON + 5));
        assert!(!contains_commit(table.metadata(), "another id"));
    });

    journal.append(&domain.families[1], &[(3, NOON)]);
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(3).expect("flushed");
    lake.stop();
    assert_eq!(int64(&rows_of(dir.path(), "visit", "_seq"), "_seq"), [1, 2, 3]);
}
