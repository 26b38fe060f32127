//! A process that dies at any moment loses no acknowledged batch and shows no half of one; a disk
//! that is full refuses a batch and takes it once there is room.

use std::path::Path;

use pipeline::fail_point;
use pipeline::store::{ServingStore, StoreError};

use super::fixture::{self, Batch, child, child_with_small_disk, parcels};

const CHILD: &str = "STORE_TEST_DIR";

/// In the child: commits batches of 100 until it dies, telling after each which one is safe.
#[test]
fn committing_child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let domain = parcels();
    let store = fixture::open(Path::new(&dir), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    for _ in 0..40 {
        let effects = batch.next(100);
        let last_seq = effects.last_seq;
        writer.commit(&effects).unwrap();
        println!("ACK {last_seq}");
    }
}

/// Last acknowledged sequence number in a child's output.
fn acknowledged(output: &std::process::Output) -> i64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut acks = text.lines().filter_map(|line| line.split("ACK ").nth(1)?.trim().parse().ok());
    acks.next_back().unwrap_or(0)
}

/// Opens what a child left and checks that everything tells of the same batch.
#[track_caller]
fn consistent_at(dir: &Path) -> i64 {
    let domain = parcels();
    let store = fixture::open(dir, &domain);
    let mut writer = store.writer().unwrap();
    let readers = store.readers();
    let last_seq = writer.last_seq().unwrap();
    let batches = last_seq / 100;
    assert_eq!(last_seq % 100, 0);
    assert_eq!(readers.journal_rows().unwrap(), [0, last_seq as u64]);
    assert_eq!(readers.entity_rows().unwrap(), [last_seq as u64]);
    let letters: i64 = readers
        .with("count", |c| c.query_row("select count(*) from dead_letters", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(letters, batches);
    let partition = writer.partition("file:test").unwrap().unwrap_or_default();
    assert_eq!(partition.next_offset as i64, last_seq + batches);
    assert_eq!(partition.counts.accepted as i64, last_seq);
    assert!(partition.counts.balanced());
    if batches > 0 {
        assert_eq!(readers.counts_by_reason().unwrap()["accepted"][""], last_seq as u64);
    }
    last_seq
}

#[test]
fn a_kill_before_or_after_a_commit_keeps_exactly_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut before = 0;
    // The n-th commit of each life; batches before it are acknowledged.
    for (point, n) in [
        ("store_before_commit", 1),
        ("store_before_commit", 4),
        ("store_after_commit", 1),
        ("store_after_commit", 3),
    ] {
        let armed = format!("{point}:{n}");
        let output =
            child("kill::committing_child", &[(CHILD, path), (fail_point::VARIABLE, &armed)]);
        assert!(!output.status.success(), "the child outlived {armed}");
        let acknowledged = acknowledged(&output).max(before);
        let durable = if point == "store_before_commit" { n - 1 } else { n };
        assert_eq!(acknowledged, before + (n - 1) * 100, "{armed}");
        let found = consistent_at(dir.path());
        assert_eq!(found, before + durable * 100, "{armed}");
        before = found;
    }
}

#[test]
fn a_kill_at_any_time_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for wait_ms in [20, 45, 80] {
        let mut running = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::kill::committing_child", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        let _ = running.kill();
        let output = running.wait_with_output().unwrap();
        let acknowledged = acknowledged(&output).max(before);
        let found = consistent_at(dir.path());
        assert!(found == acknowledged || found == acknowledged + 100, "{found} {acknowledged}");
        before = found;
    }
}

/// In the child, whose files cannot grow: commits until it is refused, then looks around.
#[test]
fn child_on_a_full_disk() {
    let Ok(dir) = std::env::var("STORE_TEST_FULL") else { return };
    let domain = parcels();
    let store = fixture::open(Path::new(&dir), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    let mut last_good = 0;
    let refused = loop {
        let effects = batch.next(100);
        let last_seq = effects.last_seq;
        match writer.commit(&effects) {
            Ok(()) => last_good = last_seq,
            Err(error) => break error,
        }
        assert!(last_good < 1_000_000, "the disk never filled up");
    };
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    println!("ACK {last_good}");
    let readers = store.readers();
    assert_eq!(writer.last_seq().unwrap(), last_good, "nothing of the refused batch");
    assert_eq!(readers.journal_rows().unwrap(), [0, last_good as u64], "reads go on");
    // Once more: still refused, still whole.
    let mut again = Batch::after(&domain, &mut writer);
    let refused = writer.commit(&again.next(100)).unwrap_err();
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert_eq!(readers.journal_rows().unwrap(), [0, last_good as u64]);
    println!("CHILD DONE");
}

#[test]
fn a_full_disk_refuses_a_batch_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output =
        child_with_small_disk("kill::child_on_a_full_disk", 2_000, &[("STORE_TEST_FULL", path)]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("CHILD DONE"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let acknowledged = acknowledged(&output);
    assert!(acknowledged > 0);
    assert_eq!(consistent_at(dir.path()), acknowledged);
    // With room again the next batch is taken.
    let domain = parcels();
    let store = fixture::open(dir.path(), &domain);
    let mut writer = store.writer().unwrap();
    let mut batch = Batch::after(&domain, &mut writer);
    writer.commit(&batch.next(100)).unwrap();
}
