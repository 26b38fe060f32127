//! How far a table is, and what follows from it: pure decisions over snapshot summaries.
//!
//! Each snapshot that we commit carries the position up to which the table is complete. A snapshot
//! of somebody else (maintenance by another engine, for example) may carry none, so the position is
//! that of the nearest ancestor of the head that has one. Ancestors, not all snapshots: after a
//! rollback the rows of the discarded snapshots are owed again.

use iceberg::spec::{SnapshotRef, TableMetadata};

/// Summary property: the table holds all its events up to this journal position.
pub const POSITION: &str = "agentflow.position";
/// Summary property: position before the snapshot; empty for the first one.
pub const PREVIOUS_POSITION: &str = "agentflow.previous-position";
/// Summary property: newest contract version of the events in the snapshot.
pub const CONTRACT_VERSION: &str = "agentflow.contract-version";
/// Summary property: highest event time in the table, µs since 1970.
pub const WATERMARK: &str = "agentflow.watermark";
/// Summary property: identity of the commit, the same over all its attempts.
pub const COMMIT_ID: &str = "agentflow.commit-id";

/// Table property: identity of the data directory whose journal the table follows.
pub const OWNER: &str = "agentflow.owner";

/// Position of a table, as its snapshots tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No snapshot: nothing was ever written.
    Empty,
    /// Complete up to this position.
    At(i64),
    /// There are rows, but no ancestor of the head says a position.
    Unmarked,
}

impl Found {
    /// Reads the position from the ancestors of the current snapshot.
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        if metadata.current_snapshot().is_none() {
            return Self::Empty;
        }
        match ancestors(metadata).find_map(|snapshot| property(snapshot, POSITION)?.parse().ok()) {
            Some(position) => Self::At(position),
            None => Self::Unmarked,
        }
    }

    /// The position, when there is one.
    pub(super) fn position(self) -> Option<i64> {
        match self {
            Self::At(position) => Some(position),
            Self::Empty | Self::Unmarked => None,
        }
    }
}

/// How a follower starts on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// From the first event.
    Fresh,
    /// After this position.
    After(i64),
    /// Not at all: any append could write events twice.
    RefuseUnmarked,
    /// Not at all: the table has events that the journal has not.
    RefuseAhead {
        /// Position of the table.
        position: i64,
    },
}

/// Decides where to start, from the table's position and the end of the journal.
pub(super) fn choose_start(found: Found, journal_end: i64) -> Start {
    match found {
        Found::Empty => Start::Fresh,
        Found::Unmarked => Start::RefuseUnmarked,
        Found::At(position) if position > journal_end => Start::RefuseAhead { position },
        Found::At(position) => Start::After(position),
    }
}

/// What became of an attempt to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    /// The table has it, whatever the catalog answered.
    Committed,
    /// The table does not have it and stands where it stood: try again with the same files.
    NotCommitted,
    /// The table does not have it and stands elsewhere: somebody else writes.
    Fenced,
}

/// Decides what became of an attempt from the table as it is afterwards. The catalog's answer is
/// no input: a lost reply looks like a failure, and a failed transaction may look like a success.
pub(super) fn settle(commit_found: bool, expected: Option<i64>, found: Found) -> Settlement {
    if commit_found {
        Settlement::Committed
    } else if may_append(expected, found) {
        Settlement::NotCommitted
    } else {
        Settlement::Fenced
    }
}

/// May a writer that left the table at `expected` append to it?
pub(super) fn may_append(expected: Option<i64>, found: Found) -> bool {
    match (expected, found) {
        (None, Found::Empty) => true,
        (Some(expected), Found::At(position)) => expected == position,
        _ => false,
    }
}

/// Is the commit of that id among the ancestors of the current snapshot?
pub(super) fn contains_commit(metadata: &TableMetadata, commit_id: &str) -> bool {
    ancestors(metadata).any(|snapshot| property(snapshot, COMMIT_ID) == Some(commit_id))
}

/// Highest event time in the table (µs), as the nearest ancestor tells it.
pub(super) fn watermark(metadata: &TableMetadata) -> Option<i64> {
    nearest(metadata, WATERMARK)?.parse().ok()
}

/// A property of the nearest ancestor that has it.
pub(super) fn nearest<'a>(metadata: &'a TableMetadata, key: &str) -> Option<&'a str> {
    ancestors(metadata).find_map(|snapshot| property(snapshot, key))
}

fn property<'a>(snapshot: &'a SnapshotRef, key: &str) -> Option<&'a str> {
    snapshot.summary().additional_properties.get(key).map(String::as_str)
}

/// The current snapshot and its ancestors, as far as they have not expired.
fn ancestors(metadata: &TableMetadata) -> impl Iterator<Item = &SnapshotRef> {
    std::iter::successors(metadata.current_snapshot(), |snapshot| {
        metadata.snapshot_by_id(snapshot.parent_snapshot_id()?)
    })
}
