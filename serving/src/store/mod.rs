//! The serving store: one DuckDB file that holds the journal, entity states, dead letters and
//! source positions.
//!
//! What always holds: all effects of a batch become visible in one commit or not at all; one
//! process owns the file; one [`Writer`] writes, [`Readers`] see committed snapshots and never
//! block it; the write-ahead log stays small enough for a quick restart. Expressions never reach
//! DuckDB: rows come with their computed columns.
//!
//! A data directory holds `serving.duckdb` (this module), `LOCK` ([`data_dir`]), `identity.json`
//! ([`identity`]) and `lake/`.
//! Start at [`Store::open`]; `schema.rs` says which tables there are, `contract_state.rs` and
//! `follow.rs` what happens when the contracts are no longer those the directory was written with.

mod absent;
mod applying;
mod archive;
mod backfill;
pub mod backup;
mod bookkeeping;
mod contract_state;
pub mod data_dir;
mod database;
mod dead_letters;
mod disk;
pub mod erase;
mod error;
pub(crate) mod events;
mod extra;
mod fill;
mod follow;
pub(crate) mod fresh;
mod from_lake;
mod identity;
mod journal;
mod keys;
mod lookup;
mod pieces;
mod readers;
mod rebuild;
mod retention;
pub(crate) mod rows;
mod schema;
pub(crate) mod state;
#[cfg(test)]
mod tests;
mod trim;
pub(crate) mod trimmed;
mod wal;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::model::Domain;
use duckdb::Connection;
use pipeline::store::StoreError;

pub use self::archive::{Archive, ArchiveError, LakeArchive, Take};
pub use self::backfill::{BackfillProgress, Backfilling};
pub use self::dead_letters::{DeadLetterFilter, Page, StoredDeadLetter, read_dead_letters};
pub use self::error::{OpenError, failed};
pub(crate) use self::error::{is_interrupted, message as duckdb_message};
pub use self::follow::Needed;
pub use self::from_lake::{LakeRebuild, RebuildError, Rebuilt};
pub use self::identity::identity_of;
pub use self::readers::Readers;
pub use self::retention::{Followed, Retention, RetentionPolicy};
pub use self::trimmed::{Trimmed, TrimmedFamily};
pub use self::writer::Writer;

use self::applying::Applying;
use self::backfill::Backfill;
use self::backup::Backups;
use self::disk::Disk;
use self::erase::{ErasedArchive, Erasures};
use self::error::refused;
use self::follow::Following;
use self::fresh::Fresh;
use self::schema::{BOOKKEEPING, Table, Tables};
use self::state::Keeping;
use self::trimmed::Horizon;
use self::wal::Wal;
use crate::state::Keeper;

/// Called on long work at a start: what is done, how much of it, out of how much.
pub type Progress = Box<dyn Fn(&str, u64, u64) + Send>;

/// How a store is opened. The defaults suit two cores and a gigabyte of memory.
pub struct StoreOptions {
    /// Most memory that DuckDB takes, in MiB. Without a limit it takes most of the machine.
    pub memory_limit_mib: u32,
    /// Threads that DuckDB works with.
    pub threads: u32,
    /// Connections for readers.
    pub readers: usize,
    /// Longest time that one read may take.
    pub query_time_limit: Duration,
    /// Write-ahead log, in MiB, at which a commit is preceded by a checkpoint.
    pub checkpoint_mib: u32,
    /// Write-ahead log, in MiB, beyond which an idle moment is used for a checkpoint.
    pub idle_checkpoint_mib: u32,
    /// Space, in MiB, that has to stay free on the disk: with less the writer refuses batches.
    pub keep_free_mib: u32,
    /// Told about long work.
    pub progress: Option<Progress>,
    /// Where the rows are that the journal has given up; without it they cannot be had.
    pub archive: Option<Arc<dyn Archive>>,
    /// Where contracts changed: let the writer bring old rows in line beside what comes in, as far as
    /// nothing that answered before stands on it. Otherwise all of it is done before the store is open.
    pub backfill_beside: bool,
    /// Keep the state of metrics, so that of a window only the edges are read from rows. Without it
    /// the store gives up what it has of it, and every answer is read from rows.
    pub metric_state: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_limit_mib: 384,
            threads: 2,
            readers: 4,
            query_time_limit: Duration::from_secs(10),
            checkpoint_mib: 128,
            idle_checkpoint_mib: 16,
            keep_free_mib: 0,
            progress: None,
            archive: None,
            backfill_beside: false,
            metric_state: true,
        }
    }
}

/// What the writer tells the readers without a statement.
#[derive(Debug, Clone)]
struct Shared {
    applying: Applying,
    fresh: Fresh,
    horizon: Horizon,
    erasures: Erasures,
    backfilling: Backfilling,
    state: Keeper,
}

/// What a store has to do with the lake.
struct Around {
    erasures: Erasures,
    /// As erasures leave it that are not done in it yet.
    archive: Option<Arc<dyn Archive>>,
}

impl Around {
    fn of(
        conn: &Connection,
        domain: &Arc<Domain>,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        // A store of an earlier release lacks the newest of these.
        conn.execute_batch(BOOKKEEPING).map_err(|e| failed("create tables", &e))?;
        conn.execute_batch(state::TABLES).map_err(|e| failed("create tables", &e))?;
        let erasures = Erasures::new(Arc::clone(domain));
        erasures.load_pending(conn).map_err(|e| failed("read erasures", &e))?;
        let archive = options.archive.as_ref().map(|lake| -> Arc<dyn Archive> {
            Arc::new(ErasedArchive { lake: Arc::clone(lake), erasures: erasures.clone() })
        });
        Ok(Self { erasures, archive })
    }
}

/// An open serving store.
pub struct Store {
    tables: Arc<Tables>,
    readers: Readers,
    /// Until [`Store::writer`] takes it.
    writer: Mutex<Option<Writer>>,
    /// None in memory: there are no files to copy.
    backups: Option<Backups>,
    erasures: Erasures,
    /// From which connections for other contracts are made, see [`Store::again`].
    spare: Mutex<Connection>,
}

impl Store {
    /// Opens the store in `dir`, creating both if need be, and brings it in line with the domain's
    /// contracts. The caller holds the directory ([`data_dir::DataDir::lock`]).
    pub fn open(dir: &Path, domain: Arc<Domain>, options: StoreOptions) -> Result<Self, OpenError> {
        let conn = database::open(dir, &options)?;
        database::check_format(&conn, dir)?;
        Self::of_files(conn, dir, domain, &options, None)
    }

    /// A store over an open database of `dir`. Leases of backups go on if there are any.
    fn of_files(
        conn: Connection,
        dir: &Path,
        domain: Arc<Domain>,
        options: &StoreOptions,
        backups: Option<Backups>,
    ) -> Result<Self, OpenError> {
        let file = database::file(dir);
        let around = Around::of(&conn, &domain, options)?;
        let (tables, backfill) = Self::prepare(&conn, dir, &domain, options, &around)?;
        let mebibytes = |count: u32| u64::from(count) << 20;
        let idle_bytes = mebibytes(options.idle_checkpoint_mib);
        let most_bytes = mebibytes(options.checkpoint_mib);
        let backups = backups.unwrap_or_else(|| Backups::new(most_bytes));
        let disk = Disk::of(dir.to_path_buf(), mebibytes(options.keep_free_mib));
        let wal = Wal::of(&file, disk, idle_bytes, most_bytes, backups.clone());
        let store = Self::assemble(conn, tables, domain, options, Some(wal), backfill, around)?;
        Ok(Self { backups: Some(backups), ..store })
    }

    /// What the stored rows would need before anything could be answered under the contracts of `domain`:
    /// empty when all of it can be done beside what comes in.
    ///
    /// # Errors
    /// Changes that stored rows cannot follow at all.
    pub fn needs_before(&self, dir: &Path, domain: &Arc<Domain>) -> Result<Needed, OpenError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        follow::needs_before(&spare, dir, domain)
    }

    /// The same store under the contracts of `domain`. The writer of this one must be gone. Its readers
    /// go on reading; they see their own columns, which only [`Self::needs_before`] would change.
    pub fn again(
        &self,
        dir: &Path,
        domain: Arc<Domain>,
        options: &StoreOptions,
    ) -> Result<Self, OpenError> {
        let conn = {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.try_clone().map_err(|e| failed("open a connection", &e))?
        };
        Self::of_files(conn, dir, domain, options, self.backups.clone())
    }

    /// A store in memory: for contract examples and tests.
    pub fn in_memory(domain: Arc<Domain>) -> Result<Self, OpenError> {
        Self::in_memory_with(domain, StoreOptions::default())
    }

    /// The same with options.
    pub(crate) fn in_memory_with(
        domain: Arc<Domain>,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let conn = database::open_in_memory(&options)?;
        let around = Around::of(&conn, &domain, &options)?;
        let memory = Path::new(":memory:");
        let (tables, backfill) = Self::prepare(&conn, memory, &domain, &options, &around)?;
        Ok(Self::assemble(conn, tables, domain, &options, None, backfill, around)?)
    }

    /// Is there a store in `dir`?
    pub fn exists(dir: &Path) -> bool {
        database::file(dir).is_file()
    }

    /// Creates missing tables and brings stored rows in line with the contracts.
    fn prepare(
        conn: &Connection,
        dir: &Path,
        domain: &Arc<Domain>,
        options: &StoreOptions,
        around: &Around,
    ) -> Result<(Tables, Backfill), OpenError> {
        let mut tables = Tables::of(domain);
        let silent = |_: &str, _: u64, _: u64| {};
        let progress: &dyn Fn(&str, u64, u64) = match &options.progress {
            Some(progress) => progress,
            None => &silent,
        };
        let how = Following {
            progress,
            archive: around.archive.as_deref(),
            beside: options.backfill_beside,
        };
        let backfill = follow::contracts(conn, dir, domain, &tables, &how)?;
        for table in tables.all_mut() {
            table.learn_order(conn)?;
        }
        Ok((tables, backfill))
    }

    fn assemble(
        conn: Connection,
        tables: Tables,
        domain: Arc<Domain>,
        options: &StoreOptions,
        wal: Option<Wal>,
        backfill: Backfill,
        around: Around,
    ) -> Result<Self, StoreError> {
        database::seal(&conn)?;
        let tables = Arc::new(tables);
        let connections = (0..options.readers.max(1))
            .map(|_| conn.try_clone())
            .collect::<duckdb::Result<Vec<_>>>()
            .map_err(|e| failed("open read connections", &e))?;
        let spare = conn.try_clone().map_err(|e| failed("open a connection", &e))?;
        let limit = options.query_time_limit;
        let shared = Shared {
            applying: Applying::default(),
            fresh: Fresh::default(),
            horizon: Horizon::default(),
            erasures: around.erasures.clone(),
            backfilling: backfill.progress(),
            state: Keeper::default(),
        };
        let trimmed = trimmed::read(&conn).map_err(|e| failed("read what was trimmed", &e))?;
        shared.horizon.set(trimmed.map(Arc::new));
        let archive = around.archive;
        let keeping = Keeping::open(&conn, &domain, shared.state.clone(), options.metric_state)?;
        let readers = Readers::new(
            domain,
            Arc::clone(&tables),
            connections,
            shared.clone(),
            archive.clone(),
            limit,
        )
        .map_err(|e| refused("start the thread that watches readers", e.to_string()))?;
        let writer =
            Writer::new(conn, Arc::clone(&tables), wal, shared, archive, backfill, keeping)?;
        let erasures = around.erasures;
        let (writer, spare) = (Mutex::new(Some(writer)), Mutex::new(spare));
        Ok(Self { tables, readers, writer, backups: None, erasures, spare })
    }

    /// The writing side. There is one, so this succeeds once.
    pub fn writer(&self) -> Result<Writer, StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.take().ok_or_else(|| refused("take the writer", "the store has one and it is taken"))
    }

    /// The reading side.
    pub fn readers(&self) -> Readers {
        self.readers.clone()
    }

    /// What backups and the writer agree on; `None` for a store in memory.
    pub fn backups(&self) -> Option<Backups> {
        self.backups.clone()
    }

    /// The way for erasures to the writer.
    pub fn erasures(&self) -> Erasures {
        self.erasures.clone()
    }

    /// Journal and entity tables by name, for messages.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.all().map(|table| table.name.as_str())
    }
}

/// The statement that creates a table for rows of `schema`.
pub(crate) fn create_table(
    name: &str,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<String, StoreError> {
    Table::new(name, Arc::clone(schema)).create()
}

/// Runs `work` in one transaction; an error leaves no trace of it.
fn in_transaction<T>(
    conn: &Connection,
    context: &str,
    work: impl FnOnce() -> duckdb::Result<T>,
) -> Result<T, StoreError> {
    let result = conn.execute_batch("begin").and_then(|()| {
        let value = work()?;
        conn.execute_batch("commit")?;
        Ok(value)
    });
    result.map_err(|error| {
        // DuckDB may have ended the transaction already, and says so; that is fine.
        let _ = conn.execute_batch("rollback");
        failed(context, &error)
    })
}
