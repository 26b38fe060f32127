//! The serving store: one DuckDB file that holds the journal, entity states, dead letters and
//! source positions.
//!
//! What always holds: all effects of a batch become visible in one commit or not at all; one
//! process owns the file; one [`Writer`] writes, [`Readers`] see committed snapshots and never
//! block it; the write-ahead log stays small enough for a quick restart. Expressions never reach
//! DuckDB: rows come with their computed columns.
//!
//! A data directory holds `serving.duckdb` (this module), `LOCK` ([`data_dir`]) and `lake/`.
//! Start at [`Store::open`]; [`schema`] says which tables there are, [`contract_state`] what
//! happens when the contracts are no longer those the directory was written with.

mod bookkeeping;
pub mod data_dir;
mod database;
mod dead_letters;
mod error;
mod journal;
mod keys;
mod lookup;
mod offline;
mod readers;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::model::Domain;
use duckdb::Connection;
use pipeline::store::StoreError;

pub use self::dead_letters::{DeadLetterFilter, Page, StoredDeadLetter};
pub use self::error::{OpenError, failed};
pub use self::offline::read_dead_letters;
pub use self::readers::Readers;
pub use self::writer::Writer;

use self::error::refused;
use self::schema::Tables;
use self::writer::Wal;

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
    /// Write-ahead log, in MiB, at which a commit is followed by a checkpoint.
    pub checkpoint_mib: u32,
    /// Write-ahead log, in MiB, beyond which an idle moment is used for a checkpoint.
    pub idle_checkpoint_mib: u32,
    /// Told about long work.
    pub progress: Option<Progress>,
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
            progress: None,
        }
    }
}

/// An open serving store.
pub struct Store {
    tables: Arc<Tables>,
    readers: Readers,
    /// Until [`Store::writer`] takes it.
    writer: Mutex<Option<Writer>>,
}

impl Store {
    /// Opens the store in `dir`, creating both if need be, and brings it in line with the domain's
    /// contracts. The caller holds the directory ([`data_dir::DataDir::lock`]).
    pub fn open(dir: &Path, domain: Arc<Domain>, options: StoreOptions) -> Result<Self, OpenError> {
        let file = database::file(dir);
        let conn = database::open(dir, &options)?;
        database::check_format(&conn, dir)?;
        let tables = Self::prepare(&conn, dir, &domain, &options)?;
        let wal = Wal {
            file: log_of(&file),
            idle_bytes: u64::from(options.idle_checkpoint_mib) << 20,
            most_bytes: u64::from(options.checkpoint_mib) << 20,
        };
        Ok(Self::assemble(conn, tables, domain, &options, Some(wal))?)
    }

    /// A store in memory: for contract examples and tests.
    pub fn in_memory(domain: Arc<Domain>) -> Result<Self, OpenError> {
        let options = StoreOptions::default();
        let conn = database::open_in_memory(&options)?;
        let tables = Self::prepare(&conn, Path::new(":memory:"), &domain, &options)?;
        Ok(Self::assemble(conn, tables, domain, &options, None)?)
    }

    /// Creates what is missing and follows changed contracts.
    fn prepare(
        conn: &Connection,
        _dir: &Path,
        domain: &Arc<Domain>,
        _options: &StoreOptions,
    ) -> Result<Tables, OpenError> {
        let mut tables = Tables::of(domain);
        for table in tables.all() {
            let sql = table.create()?;
            conn.execute_batch(&sql)
                .map_err(|e| failed(format!("create table `{}`", table.name), &e))?;
        }
        for table in tables.all_mut() {
            table.learn_order(conn)?;
        }
        Ok(tables)
    }

    fn assemble(
        conn: Connection,
        tables: Tables,
        domain: Arc<Domain>,
        options: &StoreOptions,
        wal: Option<Wal>,
    ) -> Result<Self, StoreError> {
        let tables = Arc::new(tables);
        let connections = (0..options.readers.max(1))
            .map(|_| conn.try_clone())
            .collect::<duckdb::Result<Vec<_>>>()
            .map_err(|e| failed("open read connections", &e))?;
        let limit = options.query_time_limit;
        let readers = Readers::new(domain, Arc::clone(&tables), connections, limit)
            .map_err(|e| refused("start the thread that watches readers", e.to_string()))?;
        let writer = Writer::new(conn, Arc::clone(&tables), wal)?;
        Ok(Self { tables, readers, writer: Mutex::new(Some(writer)) })
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

    /// Journal and entity tables by name, for messages.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.all().map(|table| table.name.as_str())
    }
}

/// DuckDB's write-ahead log of a database file.
fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".wal");
    PathBuf::from(name)
}
