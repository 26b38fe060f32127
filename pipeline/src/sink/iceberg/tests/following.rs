use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{DEAD_LETTERS, LakeConfig, tables};
use super::support::{DAY, MemoryJournal, NOON, config, domain, int64, rows_of, shown, spawn};

/// Rows of the lake equal the rows of the journal, in number, order and values.
#[track_caller]
fn assert_same_rows(
    data_dir: &std::path::Path,
    table: &str,
    journal: &MemoryJournal,
    family: usize,
) {
    let lake = rows_of(data_dir, table, "_seq");
    let journal = journal.all(family);
    assert_eq!(int64(&lake, "_seq"), int64(&journal, "_seq"), "rows of `{table}`");
    for field in journal.schema().fields() {
        if lake.column_by_name(field.name()).is_none() {
            continue;
        }
        let (stored, written) = (shown(&lake, field.name()), shown(&journal, field.name()));
        let differs = stored.iter().zip(&written).find(|(stored, written)| stored != written);
        assert_eq!(differs, None, "column `{}` of `{table}`", field.name());
    }
}

#[test]
fn rows_arrive_once_with_their_values() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    let rows: Vec<_> = (1..=1_000).map(|seq| (seq, NOON + seq * 60_000_000)).collect();
    journal.append(&domain.families[0], &rows);
    journal.append_dead_letters(1..31);
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(1_000).expect("flushed");
    assert_same_rows(dir.path(), "purchase_made", &journal, 0);

    // Nothing new: nothing is committed.
    let commits = lake.status().commits;
    lake.flush(1_000).expect("flushed");
    assert_eq!(lake.status().commits, commits);
    lake.stop();

    let dead = rows_of(dir.path(), DEAD_LETTERS, "id");
    assert_eq!(int64(&dead, "id"), (1..31).collect::<Vec<_>>());
    assert_eq!(int64(&dead, "source_offset"), int64(&dead, "id"));
}

#[test]
fn families_without_events_have_empty_tables() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    assert!(tables(&config(dir.path())).expect("no lake is no error").is_empty());
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(0).expect("flushed");
    // Listed while the follower runs.
    let listed = tables(&config(dir.path())).expect("listed");
    let names: Vec<_> = listed.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["dead_letters", "ingest", "purchase_made", "source_partitions", "visit"]);
    assert!(listed.iter().all(|t| t.rows == 0 && t.snapshot.is_none() && t.position.is_none()));
    assert!(listed.iter().all(|t| t.namespace == "test_domain"));
    lake.stop();
    assert_eq!(rows_of(dir.path(), "visit", "_seq").num_rows(), 0);
}

#[test]
fn listing_tells_rows_and_position() {
    let dir = tempfile::tempdir().expect("a directory");
    // A path that must be escaped in the catalog's URL.
    let data_dir = dir.path().join("a b?c#d%20e");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    journal.append(&domain.families[1], &[(1, NOON), (4, NOON)]);
    journal.append(&domain.families[0], &[(9, NOON)]);
    let lake = spawn(config(&data_dir), &journal, &domain);
    lake.flush(9).expect("flushed");
    let listed = tables(&config(&data_dir)).expect("listed");
    let visit = listed.iter().find(|t| t.name == "visit").expect("the table");
    assert_eq!((visit.rows, visit.position), (2, Some(9)));
    let metadata = visit.metadata_location.strip_prefix("file://").expect("a local file");
    assert!(std::path::Path::new(metadata).is_file());
    assert!(visit.snapshot.is_some());

    let status = lake.status();
    assert_eq!((status.lag_events, status.last_error), (0, None));
    let visit = status.tables.iter().find(|t| t.name == "visit").expect("the table");
    assert_eq!((visit.rows, visit.files, visit.position), (2, 1, 9));
}

#[test]
fn one_file_per_day_although_days_interleave() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    // Ten days, every row on another day than the one before, many small journal batches.
    for start in (1..20_000).step_by(500) {
        let rows: Vec<_> = (start..start + 500).map(|seq| (seq, NOON - (seq % 10) * DAY)).collect();
        journal.append(&domain.families[1], &rows);
    }
    let lake = spawn(config(dir.path()), &journal, &domain);
    lake.flush(20_000).expect("flushed");
    let status = lake.status();
    let visit = status.tables.iter().find(|t| t.name == "visit").expect("the table");
    assert_eq!((visit.rows, visit.files, status.commits), (20_000, 10, 1));
    lake.stop();
    assert_same_rows(dir.path(), "visit", &journal, 1);
}

#[test]
fn commits_by_itself_when_the_interval_has_passed_or_many_rows_wait() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut LakeConfig)) {
        let dir = tempfile::tempdir().expect("a directory");
        let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
        let mut config = config(dir.path());
        change(&mut config);
        let lake = spawn(config, &journal, &domain);
        lake.flush(0).expect("the tables are open");
        let rows: Vec<_> = (1..=100).map(|seq| (seq, NOON)).collect();
        journal.append(&domain.families[1], &rows);
        let deadline = Instant::now() + Duration::from_secs(20);
        while lake.status().commits == 0 {
            assert!(Instant::now() < deadline, "no commit: {:?}", lake.status());
            std::thread::sleep(Duration::from_millis(5));
        }
        lake.stop();
        assert_same_rows(dir.path(), "visit", &journal, 1);
    }
    check(|config| config.interval = Duration::from_millis(50));
    check(|config| config.commit_rows = 100);
}

#[test]
fn a_large_backlog_is_committed_in_pieces() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    let rows: Vec<_> = (1..=1_000).map(|seq| (seq, NOON)).collect();
    journal.append(&domain.families[1], &rows);
    let config = LakeConfig { chunk_rows: 64, commit_rows: 256, ..config(dir.path()) };
    let lake = spawn(config, &journal, &domain);
    lake.flush(1_000).expect("flushed");
    assert_eq!(lake.status().commits, 4);
    lake.stop();
    assert_same_rows(dir.path(), "visit", &journal, 1);
}

proptest! {
    // Each case creates three tables on disk.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Neither the sizes of journal batches, chunks and commits nor restarts change what arrives.
    #[test]
    fn batching_does_not_change_what_arrives(
        batches in prop::collection::vec((1usize..120, 0usize..2, 0i64..3), 1..12),
        chunk_rows in 1usize..200,
        commit_rows in 1usize..300,
        restart_every in 1usize..4,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
        let config = LakeConfig { chunk_rows, commit_rows, ..config(dir.path()) };
        let mut lake = spawn(config.clone(), &journal, &domain);
        let mut seq = 0;
        let mut used = [false; 2];
        for (number, (size, family, days)) in batches.iter().enumerate() {
            let rows: Vec<_> = (0..*size).map(|_| {
                seq += 1;
                (seq, NOON - (seq % (days + 1)) * DAY)
            }).collect();
            journal.append(&domain.families[*family], &rows);
            used[*family] = true;
            lake.flush(seq).expect("flushed");
            if number % restart_every == 0 {
                lake.stop();
                lake = spawn(config.clone(), &journal, &domain);
            }
        }
        lake.stop();
        for (family, table) in [(0, "purchase_made"), (1, "visit")] {
            if used[family] {
                assert_same_rows(dir.path(), table, &journal, family);
            }
        }
    }
}
