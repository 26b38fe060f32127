//! The write-ahead log: when it is folded into the database file.
//!
//! A checkpoint costs the thread that does it up to a third of a second, and each 85 MB of log cost
//! a second of the next start. So: a small one when nothing waits, a large one when it must be.
//!
//! A checkpoint that runs out of disk space is fatal: DuckDB then refuses every statement, reads
//! too, until it is opened again. A commit that does is harmless. So DuckDB's own checkpoints are
//! off while the pipeline runs ([`super::database::seal`]), and ours are made only where there is
//! room; where there is none the writer refuses batches instead.

use std::path::{Path, PathBuf};

use super::backup::Backups;
use super::database;
use super::disk::{Disk, Shortage, shortage};

/// Free space that a checkpoint must find, beyond four times the log: changed rows bring the
/// unchanged rows of their row groups along.
const SPARE_BYTES: u64 = 256 << 20;

/// The log of one database.
pub(super) struct Wal {
    /// Its file.
    file: PathBuf,
    /// Where it grows.
    disk: Disk,
    /// Checkpoint at the first idle moment beyond this many bytes.
    idle_bytes: u64,
    /// Checkpoint before the next commit beyond this many bytes.
    most_bytes: u64,
    /// Backups hold checkpoints back.
    backups: Backups,
}

/// What to do about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// It is small.
    Nothing,
    /// It is time for a checkpoint, and there is room for one.
    Checkpoint,
    /// The disk is too full for a checkpoint that is due, or for more at all.
    NoRoom(Shortage),
}

impl Wal {
    /// The log of the database `file`.
    pub(super) fn of(
        file: &Path,
        disk: Disk,
        idle_bytes: u64,
        most_bytes: u64,
        backups: Backups,
    ) -> Self {
        Self { file: database::log_of(file), disk, idle_bytes, most_bytes, backups }
    }

    /// What to do when no batch waits.
    pub(super) fn when_idle(&self) -> Due {
        self.due(self.idle_bytes)
    }

    /// What to do before a commit.
    pub(super) fn before_commit(&self) -> Due {
        match self.disk.shortage() {
            Some(shortage) => Due::NoRoom(shortage),
            None => self.due(self.most_bytes),
        }
    }

    /// A commit was made, the last event of the journal is at `position`.
    pub(super) fn committed(&self, position: i64) {
        self.backups.committed(self.bytes(), position);
    }

    /// The checkpoint that was due was made, or failed.
    pub(super) fn checkpointed(&self) {
        self.backups.checkpointed(self.bytes());
    }

    fn due(&self, limit: u64) -> Due {
        let bytes = self.bytes();
        match due(bytes, limit, || self.disk.free_bytes()) {
            Due::Checkpoint
                if !self
                    .backups
                    .may_checkpoint(bytes, needed(bytes), || self.disk.free_bytes()) =>
            {
                Due::Nothing
            }
            due => due,
        }
    }

    fn bytes(&self) -> u64 {
        // No file: everything is in the database file.
        std::fs::metadata(&self.file).map_or(0, |meta| meta.len())
    }
}

fn due(bytes: u64, limit: u64, free_bytes: impl FnOnce() -> Option<u64>) -> Due {
    if bytes <= limit {
        return Due::Nothing;
    }
    match shortage(free_bytes(), needed(bytes)) {
        Some(shortage) => Due::NoRoom(shortage),
        None => Due::Checkpoint,
    }
}

/// Free space that a checkpoint of so long a log must find.
fn needed(bytes: u64) -> u64 {
    bytes.saturating_mul(4).saturating_add(SPARE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: u64, free_bytes: Option<u64>, expected: Due) {
        assert_eq!(due(bytes, 1_000, || free_bytes), expected, "{bytes} {free_bytes:?}");
    }

    #[test]
    fn a_checkpoint_needs_a_reason_and_room() {
        let room = SPARE_BYTES + 4 * 1_001;
        check(0, Some(0), Due::Nothing);
        check(1_000, Some(0), Due::Nothing);
        check(1_001, Some(room), Due::Checkpoint);
        check(1_001, Some(room - 1), Due::NoRoom(Shortage { free: room - 1, needed: room }));
        check(1_001, None, Due::Checkpoint);
        check(u64::MAX, Some(u64::MAX), Due::Checkpoint);
    }
}
