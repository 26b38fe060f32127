//! What a running follower shows of itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use iceberg::table::Table;
use serde::Serialize;

/// State of the lake follower, for health, metrics and people.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LakeStatus {
    /// Its tables.
    pub tables: Vec<TableStatus>,
    /// Journal positions that not every table covers yet.
    pub lag_events: i64,
    /// Seconds since the lake last held everything the journal had; 0 while it does.
    pub lag_seconds: f64,
    /// Time of the last commit to any table, µs since 1970.
    pub last_commit_at: Option<i64>,
    /// Snapshots committed since the start.
    pub commits: u64,
    /// The last failure, until a round succeeds.
    pub last_error: Option<String>,
    /// Does the follower run?
    pub running: bool,
    /// The last maintenance by the clock; `None` before the first.
    pub maintenance: Option<MaintenanceStatus>,
}

/// What a maintenance did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MaintenanceStatus {
    /// When it ended, µs since 1970.
    pub ended_at: i64,
    /// How long it took.
    pub seconds: f64,
    /// Files that were merged into others.
    pub merged_files: u64,
    /// Snapshots that were expired.
    pub expired_snapshots: u64,
    /// Files removed that no snapshot needs.
    pub removed_files: u64,
    /// The first thing that could not be done.
    pub last_error: Option<String>,
}

/// A point of the journal up to which the whole lake was complete at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// When it was known to be, µs since 1970.
    pub at: i64,
    /// Highest journal sequence number.
    pub last_seq: i64,
    /// Highest row of `ingest`.
    pub last_ingest: i64,
    /// Highest id of the dead letters.
    pub last_dead_letter: i64,
}

/// Least distance of two points that are remembered, µs.
const APART: i64 = 60_000_000;
/// Points that are remembered: a day's.
const REMEMBERED: usize = 1_500;

/// Remembers a point: the newest one always, older ones about a minute apart.
fn remember(points: &mut VecDeque<Complete>, point: Complete) {
    if let [.., before, last] = points.make_contiguous()
        && last.at.saturating_sub(before.at) < APART
    {
        points.pop_back();
    }
    points.push_back(point);
    if points.len() > REMEMBERED {
        points.pop_front();
    }
}

/// State of one table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableStatus {
    /// Table name.
    pub name: String,
    /// Journal position up to which the table is complete.
    pub position: i64,
    /// Rows in the table.
    pub rows: u64,
    /// Snapshots of the table.
    pub snapshots: u64,
    /// Live data files of the table.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Why the table is no longer followed; a person has to act, then start again.
    pub halted: Option<String>,
}

/// The status, shared between the follower and its handle.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStatus(
    Arc<Mutex<LakeStatus>>,
    Arc<Mutex<Vec<Table>>>,
    Arc<Mutex<VecDeque<Complete>>>,
);

impl SharedStatus {
    pub(super) fn read(&self) -> LakeStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut LakeStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A round has ended with everything in the lake.
    pub(super) fn was_complete(&self, point: Complete) {
        remember(&mut self.2.lock().unwrap_or_else(PoisonError::into_inner), point);
    }

    /// A table is not what it was: nothing is given up for what it once had.
    pub(super) fn forget_complete(&self) {
        self.2.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The points that are remembered, oldest first.
    pub(super) fn complete(&self) -> Vec<Complete> {
        let points = self.2.lock().unwrap_or_else(PoisonError::into_inner);
        points.iter().copied().collect()
    }

    /// Keeps the tables as they were last seen. Cheap: a table is a few pointers.
    pub(super) fn saw(&self, tables: Vec<Table>) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    /// The tables as they were last seen.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_point_is_remembered_and_older_ones_a_minute_apart() {
        let mut points = VecDeque::new();
        for second in 0..100_000 {
            let at = second * 7_000_000;
            let point = Complete { at, last_seq: second, last_ingest: 0, last_dead_letter: 0 };
            remember(&mut points, point);
            assert_eq!(points.back(), Some(&point));
        }
        assert_eq!(points.len(), REMEMBERED);
        let all: Vec<_> = points.into_iter().collect();
        let apart = all.windows(2).map(|two| two[1].at - two[0].at);
        assert!(apart.take(REMEMBERED - 2).all(|apart| (APART..2 * APART).contains(&apart)));
    }
}
