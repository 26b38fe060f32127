//! Backups: a consistent copy of a data directory, made while a server works on it.
//!
//! ```text
//! backup.lock             one backup at a time
//! backup.json             the finished backup: what belongs to it, with lengths and checksums
//! files/lake/warehouse/…  files that never change, shared by all backups that were made here
//! store-ID/               database, log, catalog and identity as of one backup
//! ```
//!
//! Why a copy of the store is one state of it: between two checkpoints the log only grows, and no
//! block of the database file that the last checkpoint stands on is written. What a large commit puts
//! into the file ahead of its log record lies in other blocks, and is there before the record is. So
//! the log up to a commit, and the file read after that commit, are the store as of that commit,
//! whatever is committed meanwhile. Only a checkpoint must not come between: the writer is asked to
//! hold it back ([`lease`]), and whether it did is seen in the head of the file ([`cut`]).
//!
//! What always holds: `backup.json` names only files that are whole and on the disk. The previous
//! backup is complete until the next one is.

pub mod copy;
pub mod cut;
mod error;
pub mod folder;
mod lease;
pub mod manifest;
pub mod restore;
#[cfg(test)]
mod tests;

pub use self::error::BackupError;
pub use self::lease::{Backups, Cut, Held, LEASE, Lost, Refused};

use std::path::Path;

use super::{OpenError, StoreOptions, bookkeeping, database, failed};

/// The journal position of the last event in a data directory that we hold. The store keeps its format:
/// a backup is made before a new release opens it for the first time, too.
pub fn position(dir: &Path) -> Result<i64, OpenError> {
    let conn = database::open(dir, &StoreOptions::default())?;
    let context = "read the journal's end";
    let tables: i64 = conn
        .query_row(
            "select count(*) from duckdb_tables() where table_name = 'source_partitions'",
            [],
            |row| row.get(0),
        )
        .map_err(|error| failed(context, &error))?;
    if tables == 0 {
        return Ok(0);
    }
    Ok(bookkeeping::last_seq(&conn).map_err(|error| failed(context, &error))?)
}
