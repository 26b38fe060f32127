//! Sets of 64-bit hashes as the right side of an SQL `in`.
//!
//! Joins on text are what makes lookups slow: DuckDB reads the whole text column for them. So SQL
//! compares hashes only, and the caller compares the few rows that come back in full.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use duckdb::Connection;

/// Up to this many hashes stand in the statement itself; more go through a temporary table.
const INLINE: usize = 64;

/// Makes `hashes` the current set and returns the text that goes after `in`. Valid until the next
/// call on the same connection.
pub(super) fn set(conn: &Connection, hashes: impl Iterator<Item = i64>) -> duckdb::Result<String> {
    let mut hashes: Vec<i64> = hashes.collect();
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.len() <= INLINE {
        let mut text = String::from("(");
        for (i, hash) in hashes.iter().enumerate() {
            let _ = write!(text, "{}{hash}", if i == 0 { "" } else { "," });
        }
        // `in ()` is no SQL; nothing equals null.
        text.push_str(if hashes.is_empty() { "null)" } else { ")" });
        return Ok(text);
    }
    // A new table each time: rows deleted from a temporary table keep their memory.
    conn.execute_batch("create or replace temp table lookup_keys (hash bigint)")?;
    let schema = Arc::new(Schema::new(vec![Field::new("hash", DataType::Int64, false)]));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(hashes))])
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut appender = conn.appender_to_catalog_and_db("lookup_keys", "temp", "main")?;
    appender.append_record_batch(rows)?;
    appender.flush()?;
    Ok("(select hash from temp.lookup_keys)".into())
}
