//! Killed before and after commits, and continued.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::super::{DEAD_LETTERS, LakeConfig};
use super::support::{DAY, MemoryJournal, NOON, config, domain, int64, rows_of, spawn};

const DATA_DIR: &str = "AGENTFLOW_TEST_LAKE_DIR";
const EVENTS: i64 = 2_000;

/// The journal that every child sees: two families in turn, over three days.
fn journal() -> Arc<MemoryJournal> {
    let (domain, journal) = (domain(), Arc::new(MemoryJournal::default()));
    for start in (1..EVENTS).step_by(100) {
        let family = usize::from(start % 200 == 1);
        let rows: Vec<_> = (start..start + 100).map(|seq| (seq, NOON + (seq % 3) * DAY)).collect();
        journal.append(&domain.families[family], &rows);
    }
    journal.append_dead_letters(1..400);
    journal
}

/// Not a test of its own: the process that [`run`] starts and the fail point kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DATA_DIR) else { return };
    let config = LakeConfig { chunk_rows: 70, commit_rows: 300, ..config(&PathBuf::from(dir)) };
    let lake = spawn(config, &journal(), &domain());
    lake.flush(EVENTS).expect("flushed");
    lake.stop();
}

/// Did the child come to its end?
fn run(data_dir: &Path, fail_point: Option<&str>) -> bool {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    let path = module_path!().split_once("::").map_or("", |(_, path)| path);
    child.args([&format!("{path}::child"), "--exact"]);
    child.env(DATA_DIR, data_dir).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(fail_point) = fail_point {
        child.env("AGENTFLOW_FAIL_POINT", fail_point);
    }
    child.status().expect("the child starts").success()
}

#[test]
fn a_kill_around_any_commit_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let points = ["lake_files_written", "lake_before_commit", "lake_after_commit"];
    // Each child gets one or two commits further before it dies.
    for round in 0..12 {
        let fail_point = format!("{}:{}", points[round % 3], 1 + round % 2);
        if run(dir.path(), Some(&fail_point)) {
            assert!(round > 3, "the children came to their end after {round} kills");
            break;
        }
    }
    assert!(run(dir.path(), None), "the last run comes to its end");

    let journal = journal();
    for (family, table) in [(0, "purchase_made"), (1, "visit")] {
        let lake = int64(&rows_of(dir.path(), table, "_seq"), "_seq");
        assert_eq!(lake, int64(&journal.all(family), "_seq"), "{table}");
    }
    let dead = int64(&rows_of(dir.path(), DEAD_LETTERS, "id"), "id");
    assert_eq!(dead, (1..400).collect::<Vec<_>>());
}
