//! What was known at a time: everything that had been applied by then, late events and corrections
//! after it left out.
//!
//! Each commit writes its time beside its last sequence number into `ingest`, and those times never go
//! back. So a time names one position of the journal, and once it has passed it names the same one for
//! ever: the same question has the same answer.

use duckdb::{Connection, params};
use pipeline::store::INGEST_APPLIED_AT;

use super::sql::quote;
use super::unavailable;
use crate::question::ReadError;

/// What was known at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The time, µs.
    pub(crate) at: i64,
    /// Highest journal sequence number that had been applied.
    pub(crate) position: i64,
}

/// The position that had been applied at `at`.
pub(crate) fn known(conn: &Connection, at: Option<i64>) -> Result<Option<Known>, ReadError> {
    let Some(at) = at else { return Ok(None) };
    let sql = format!(
        "select coalesce(max(_seq), 0) from ingest where {} <= make_timestamp(?)",
        quote(INGEST_APPLIED_AT)
    );
    let position = conn
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_row(params![at], |row| row.get(0)))
        .map_err(unavailable("find what was known"))?;
    Ok(Some(Known { at, position }))
}
