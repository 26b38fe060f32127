//! What the journal has given up: its oldest rows, which only the lake has now.
//!
//! It is kept in one row of `meta`, moved by the transaction that deletes the rows, and mirrored in
//! memory. The mirror is moved before that transaction is committed, so it is never behind what any
//! reader sees: a reader that finds there that its question concerns nothing that was given up needs
//! no statement to know it. One that is concerned reads the row of `meta` in its own snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use duckdb::Connection;
use serde::{Deserialize, Serialize};

/// Key of the row in `meta`.
const KEY: &str = "trimmed";

/// A dead letter that says to be of a time this far (µs) after its arrival is never given up: it lies
/// in every window that has no end, and nobody should have to ask the lake because of it.
pub(crate) const FAR_AHEAD: i64 = 86_400_000_000;

/// Rows that the journal has given up. All of them are in the lake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// Events up to this sequence number.
    pub seq: i64,
    /// How many events.
    pub events: u64,
    /// Highest event time among them, µs.
    pub latest_event_time: Option<i64>,
    /// Of each family that has lost some, by its table.
    pub families: BTreeMap<String, TrimmedFamily>,
    /// Rows of `ingest` up to this number.
    pub ingest_row: i64,
    /// The position that the last of these rows tells of.
    pub ingest_seq: i64,
    /// When the last of these rows was applied, µs.
    pub applied_at: i64,
    /// Highest arrival time among them, µs.
    pub latest_arrived_at: Option<i64>,
    /// Dead letters up to this id, but for those far ahead of their arrival.
    pub dead_letter: i64,
    /// How many dead letters, by tenant.
    pub letters: BTreeMap<String, u64>,
    /// Highest time among them, µs.
    pub latest_letter: Option<i64>,
}

/// What a family has lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimmedFamily {
    /// Highest sequence number of its events that are gone.
    pub seq: i64,
    /// Highest event time among them, µs.
    pub latest: i64,
    /// How many of them were late, by tenant.
    pub late: BTreeMap<String, u64>,
}

/// What the running process knows to be given up, at least as much as any reader sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Horizon(Arc<RwLock<Option<Arc<Trimmed>>>>);

impl Horizon {
    pub(super) fn get(&self) -> Option<Arc<Trimmed>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, trimmed: Option<Arc<Trimmed>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = trimmed;
    }
}

/// What was given up as of the reader's snapshot.
pub(crate) fn read(conn: &Connection) -> duckdb::Result<Option<Trimmed>> {
    let mut statement = conn.prepare_cached("select value from meta where key = ?")?;
    let mut rows = statement.query([KEY])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let text: String = row.get(0)?;
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| {
        duckdb::Error::FromSqlConversionFailure(0, duckdb::types::Type::Text, Box::new(error))
    })
}

/// Writes it in the running transaction.
pub(super) fn write(conn: &Connection, trimmed: &Trimmed) -> duckdb::Result<()> {
    let text = serde_json::to_string(trimmed)
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
    conn.execute("delete from meta where key = ?", [KEY])?;
    conn.execute("insert into meta values (?, ?)", [KEY, &text])?;
    Ok(())
}
