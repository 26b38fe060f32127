//! What a running follower shows of itself.

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
pub(super) struct SharedStatus(Arc<Mutex<LakeStatus>>, Arc<Mutex<Vec<Table>>>);

impl SharedStatus {
    pub(super) fn read(&self) -> LakeStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut LakeStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
