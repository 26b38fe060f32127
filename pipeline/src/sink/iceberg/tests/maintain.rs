//! Maintenance changes files and no rows, whoever commits beside it and whatever it is killed in.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contracts::model::Domain;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::super::position::{Found, contains_commit, watermark};
use super::super::{DEAD_LETTERS, LakeConfig, Maintenance, TableReport, maintain};
use super::support::{
    DAY, MemoryJournal, NOON, block_on, config, domain, files, int64, load, rows_of, shown, spawn,
};

const DATA_DIR: &str = "AGENTFLOW_TEST_MAINTAIN_DIR";

/// Everything at once: whatever is small is merged, whatever is old goes.
pub(super) fn thorough() -> Maintenance {
    Maintenance {
        min_files: 2,
        settled_after: Duration::ZERO,
        keep_for: Duration::ZERO,
        keep_snapshots: 1,
        grace: Duration::ZERO,
        ..Maintenance::default()
    }
}

pub(super) fn run(data_dir: &Path, maintenance: &Maintenance) -> Vec<TableReport> {
    maintain(&config(data_dir), maintenance, None, &|| false, &mut |_| ()).expect("maintained")
}

#[track_caller]
fn report<'a>(reports: &'a [TableReport], table: &str) -> &'a TableReport {
    reports.iter().find(|report| report.table == table).expect("the table is reported")
}

/// `commits` commits of ten events each over three days, and dead letters; the journal goes on where
/// it ends.
pub(super) fn fill(
    data_dir: &Path,
    journal: &Arc<MemoryJournal>,
    domain: &Arc<Domain>,
    commits: i64,
) {
    let lake = spawn(config(data_dir), journal, domain);
    for _ in 0..commits {
        let end = last(journal);
        let rows: Vec<_> =
            (end + 1..=end + 10).map(|seq| (seq, NOON + (seq % 3) * DAY + seq)).collect();
        journal.append(&domain.families[0], &rows);
        journal.append_dead_letters(end + 1..end + 4);
        lake.flush(end + 10).expect("flushed");
    }
    lake.stop();
}

pub(super) fn last(journal: &MemoryJournal) -> i64 {
    crate::store::Journal::last_seq(journal).expect("a journal in memory")
}

/// Every row with all its values, as text, in order.
pub(super) fn everything(data_dir: &Path) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (table, position) in [("purchase_made", "_seq"), (DEAD_LETTERS, "id")] {
        let rows = rows_of(data_dir, table, position);
        let names = rows.schema();
        all.extend(names.fields().iter().map(|field| shown(&rows, field.name())));
    }
    all
}

#[test]
fn small_files_become_few_and_no_row_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(dir.path(), &journal, &domain, 20);
    let before = everything(dir.path());
    let commit = block_on(load(dir.path(), "purchase_made")).metadata().current_snapshot().cloned();

    let dry = run(dir.path(), &Maintenance { dry_run: true, ..thorough() });
    assert_eq!(report(&dry, "purchase_made").merged_files, 60);
    assert_eq!(report(&dry, "purchase_made").after, report(&dry, "purchase_made").before);
    assert_eq!(block_on(load(dir.path(), "purchase_made")).metadata().snapshots().len(), 20);

    let reports = run(dir.path(), &thorough());
    let purchases = report(&reports, "purchase_made");
    assert_eq!(purchases.skipped, [] as [String; 0]);
    assert_eq!((purchases.before.files, purchases.after.files), (60, 3), "{purchases:?}");
    assert_eq!((purchases.before.manifests, purchases.before.snapshots), (20, 20));
    assert!(purchases.after.manifests <= 3 && purchases.after.snapshots == 1, "{purchases:?}");
    assert!(purchases.after.bytes < purchases.before.bytes);
    assert!(purchases.removed_files > 60, "{purchases:?}");
    assert_eq!(report(&reports, DEAD_LETTERS).after.files, 1);
    assert_eq!(everything(dir.path()), before);
    // What is left is what the head needs: no file twice, none forgotten.
    let left = files(&dir.path().join("lake/warehouse"), "parquet");
    assert_eq!(left.len(), 4);
    // An event is found by its id without reading all of a file.
    let filters = left.iter().filter(|file| has_filter(file, "_event_id")).count();
    assert_eq!(filters, 3);

    // The head says all that a follower has to know, and tells its own commits.
    let head = block_on(load(dir.path(), "purchase_made"));
    assert_eq!(Found::of(head.metadata()), Found::At(200));
    assert_eq!(watermark(head.metadata()), Some(NOON + 2 * DAY + 200));
    let commit = commit.expect("a snapshot");
    let id = &commit.summary().additional_properties[super::super::COMMIT_ID];
    assert!(contains_commit(head.metadata(), id), "told on, though its snapshot has expired");
    let summary = &head.metadata().current_snapshot().expect("a head").summary();
    assert_eq!(summary.operation.as_str(), "replace");
    for (key, value) in [("total-records", "200"), ("total-data-files", "3")] {
        assert_eq!(summary.additional_properties[key], value, "{key}");
    }

    // A second run finds nothing to do, and the follower goes on.
    let again = run(dir.path(), &thorough());
    assert_eq!(report(&again, "purchase_made").merged_files, 0);
    assert_eq!(report(&again, "purchase_made").removed_files, 0);
    fill(dir.path(), &journal, &domain, 1);
    let seqs = int64(&rows_of(dir.path(), "purchase_made", "_seq"), "_seq");
    assert_eq!(seqs, (1..=210).collect::<Vec<_>>());
}

/// Has every row group of the file a bloom filter for `column`?
fn has_filter(file: &Path, column: &str) -> bool {
    let file = std::fs::File::open(file).expect("a data file");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let groups = reader.metadata().row_groups();
    groups.iter().all(|group| {
        let found = group.columns().iter().find(|chunk| chunk.column_path().string() == column);
        found.is_some_and(|chunk| chunk.bloom_filter_offset().is_some())
    })
}

#[test]
fn what_is_young_or_on_its_way_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(dir.path(), &journal, &domain, 3);
    let data = files(&dir.path().join("lake/warehouse/test_domain/purchase_made"), "parquet");
    let stray = data[0].with_file_name("x.parquet");
    std::fs::write(&stray, b"half a file").expect("written");
    let reports = run(dir.path(), &Maintenance::default());
    let purchases = report(&reports, "purchase_made");
    assert_eq!((purchases.merged_files, purchases.removed_files), (0, 0), "{purchases:?}");
    assert_eq!(purchases.after, purchases.before);
    assert!(stray.exists());
    let reports = run(dir.path(), &Maintenance { grace: Duration::ZERO, ..Maintenance::default() });
    assert_eq!(report(&reports, "purchase_made").removed_files, 1);
    assert!(!stray.exists());
}

#[test]
fn many_small_manifests_become_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(dir.path(), &journal, &domain, 20);
    let before = everything(dir.path());
    let nothing_to_merge = Maintenance { min_files: usize::MAX, ..Maintenance::default() };
    let reports = run(dir.path(), &nothing_to_merge);
    let purchases = report(&reports, "purchase_made");
    assert_eq!((purchases.before.manifests, purchases.after.manifests), (20, 1));
    assert_eq!((purchases.merged_files, purchases.after.files), (0, 60));
    assert_eq!(everything(dir.path()), before);
}

#[test]
fn beside_a_writer_that_never_pauses_nothing_is_lost_or_doubled() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(dir.path(), &journal, &domain, 5);
    let done = AtomicBool::new(false);
    let merged: u64 = std::thread::scope(|scope| {
        let maintainer = scope.spawn(|| {
            let mut merged = 0;
            while !done.load(Ordering::Relaxed) {
                // Files of the writer that are not committed yet must stay.
                let grace = Duration::from_secs(3_600);
                let reports = run(dir.path(), &Maintenance { grace, ..thorough() });
                merged += reports.iter().map(|report| report.merged_files).sum::<u64>();
            }
            merged
        });
        fill(dir.path(), &journal, &domain, 60);
        done.store(true, Ordering::Relaxed);
        maintainer.join().expect("no panic")
    });
    assert!(merged > 0, "the maintainer starved");
    let seqs = int64(&rows_of(dir.path(), "purchase_made", "_seq"), "_seq");
    assert_eq!(seqs, (1..=650).collect::<Vec<_>>());
    let reports = run(dir.path(), &thorough());
    assert_eq!(report(&reports, "purchase_made").after.files, 3);
    let rows = rows_of(dir.path(), "purchase_made", "_seq");
    assert_eq!(int64(&rows, "_seq"), (1..=650).collect::<Vec<_>>());
}

#[test]
fn the_clock_maintains_beside_the_follower_and_the_status_tells() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    fill(dir.path(), &journal, &domain, 6);
    let maintenance = Maintenance { grace: Duration::from_secs(3_600), ..thorough() };
    let config = LakeConfig {
        maintenance: Some((Duration::from_millis(10), maintenance)),
        ..config(dir.path())
    };
    let lake = spawn(config, &journal, &domain);
    let started = std::time::Instant::now();
    while lake.status().maintenance.is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing happens");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(lake.status().maintenance.and_then(|done| done.last_error), None);
    // The follower finds the head changed, and goes on.
    let end = last(&journal);
    journal.append(&domain.families[0], &[(end + 1, NOON)]);
    lake.flush(end + 1).expect("flushed");
    lake.stop();
    let seqs = int64(&rows_of(dir.path(), "purchase_made", "_seq"), "_seq");
    assert_eq!(seqs, (1..=end + 1).collect::<Vec<_>>());
    let (_, live) = (run(dir.path(), &thorough()), block_on(load(dir.path(), "purchase_made")));
    let summary = live.metadata().current_snapshot().expect("a head").summary();
    assert_eq!(summary.additional_properties["total-data-files"], "3");
}

/// Not a test of its own: the process that the next one starts and the fail point kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DATA_DIR) else { return };
    run(Path::new(&dir), &thorough());
}

#[test]
fn a_kill_at_any_moment_costs_nothing_but_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    let path = module_path!().split_once("::").map_or("", |(_, path)| path);
    let points = ["lake_files_rewritten", "lake_before_replace", "lake_after_replace"];
    let mut killed = 0;
    for round in 0..9 {
        fill(dir.path(), &journal, &domain, 4);
        let before = everything(dir.path());
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args([&format!("{path}::child"), "--exact"])
            .env(DATA_DIR, dir.path())
            .env("AGENTFLOW_FAIL_POINT", format!("{}:{}", points[round % 3], 1 + round % 4))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the child starts");
        killed += u32::from(!status.success());
        assert_eq!(everything(dir.path()), before, "after {round}");
    }
    assert!(killed > 5, "only {killed} children were killed");
    run(dir.path(), &thorough());
    let seqs = int64(&rows_of(dir.path(), "purchase_made", "_seq"), "_seq");
    assert_eq!(seqs, (1..=360).collect::<Vec<_>>());
    assert_eq!(files(&dir.path().join("lake/warehouse"), "parquet").len(), 4, "strays are gone");
}
