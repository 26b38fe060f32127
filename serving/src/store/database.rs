//! Opening the DuckDB file: settings, format version, and what may be wrong with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use duckdb::{Config, Connection};
use pipeline::store::StoreError;

use super::error::{OpenError, failed};
use super::schema::BOOKKEEPING;
use super::{StoreOptions, in_transaction};

/// Version of everything in the file that is not decided by contracts. A release brings all older
/// formats to this one when it opens them, and writes only this one.
const FORMAT: u64 = 1 + MIGRATIONS.len() as u64;

/// How a file of each format becomes one of the next, from format 1 on. Only the bookkeeping tables
/// are sure to exist.
const MIGRATIONS: [&str; 5] = [
    // What comes with the payload of a dead letter, and the times of a partition's last record.
    "alter table if exists dead_letters add column key blob;
     alter table if exists dead_letters add column headers varchar;
     alter table source_partitions add column last_arrived_at bigint;
     alter table source_partitions add column last_event_at bigint;",
    // Long values of dead letters. Those that are there stay as they are.
    "create table if not exists dead_letter_pieces (
         id bigint, field varchar, number integer, length integer, bytes blob);",
    // Rows of `ingest` have numbers, so that they can be followed, and the time of their commit. See
    // `number_ingest`.
    "alter table if exists ingest add column _row bigint;
     alter table if exists ingest add column _applied_at timestamp;",
    // Columns are filled and entities folded beside what comes in.
    "alter table contract_fill add column if not exists until_seq bigint;",
    // The state of metrics, which is built from rows: its tables are made when the store is opened. A release
    // without it would not keep it.
    "",
];

const FILE: &str = "serving.duckdb";

/// The database file of a data directory.
pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Opens the database of `dir`, creating both if need be.
pub(super) fn open(dir: &Path, options: &StoreOptions) -> Result<Connection, OpenError> {
    let file = file(dir);
    // An empty store beside it would take events that the one to come never sees.
    if !file.exists() && unfinished(dir).exists() {
        return Err(OpenError::Unfinished { dir: dir.to_path_buf() });
    }
    open_file(dir, &file, options)
}

/// The store that is being made from the lake, until it takes the place of [`file()`].
pub(super) fn unfinished(dir: &Path) -> PathBuf {
    dir.join(format!("{FILE}.rebuild"))
}

/// Opens a database that lies in `dir` under any name, creating it if need be.
pub(super) fn open_file(
    dir: &Path,
    file: &Path,
    options: &StoreOptions,
) -> Result<Connection, OpenError> {
    let spill = dir.join("tmp");
    fs::create_dir_all(dir)
        .and_then(|()| fs::create_dir_all(&spill))
        .map_err(|source| OpenError::NotWritable { dir: dir.to_path_buf(), source })?;
    if !file.exists() {
        create(dir, file, options)?;
    }
    let config = config(options)
        .and_then(|config| config.with("temp_directory", spill.to_string_lossy()))
        .map_err(|e| failed("configure the store", &e))?;
    let conn = Connection::open_with_flags(file, config)
        .map_err(|error| OpenError::from_open(dir, file, &error))?;
    close_off(&conn)?;
    Ok(conn)
}

/// Makes an empty database under another name and gives it its own once it is whole: DuckDB refuses
/// for ever a file whose headers a killed process did not finish.
fn create(dir: &Path, file: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let mut unborn = file.as_os_str().to_owned();
    unborn.push(".new");
    let unborn = PathBuf::from(unborn);
    let failed_io = |source: std::io::Error| match source.kind() {
        ErrorKind::StorageFull => OpenError::DiskFull { dir: dir.to_path_buf() },
        _ => OpenError::NotWritable { dir: dir.to_path_buf(), source },
    };
    for left_over in [&unborn, &log_of(&unborn)] {
        match fs::remove_file(left_over) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed_io(error)),
            _ => {}
        }
    }
    let config = config(options).map_err(|e| failed("configure the store", &e))?;
    let conn = Connection::open_with_flags(&unborn, config)
        .map_err(|error| OpenError::from_open(dir, &unborn, &error))?;
    conn.close().map_err(|(_, error)| OpenError::from_open(dir, &unborn, &error))?;
    fs::rename(&unborn, file).map_err(failed_io)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed_io)
}

/// The write-ahead log of a database file.
pub(super) fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".wal");
    PathBuf::from(name)
}

/// An empty database in memory.
pub(super) fn open_in_memory(options: &StoreOptions) -> Result<Connection, OpenError> {
    let config = config(options).map_err(|e| failed("configure the store", &e))?;
    let conn = Connection::open_in_memory_with_flags(config)
        .map_err(|e| failed("open a store in memory", &e))?;
    close_off(&conn)?;
    conn.execute_batch(BOOKKEEPING).map_err(|e| failed("create tables", &e))?;
    Ok(conn)
}

fn config(options: &StoreOptions) -> duckdb::Result<Config> {
    Config::default()
        .with("memory_limit", format!("{}MiB", options.memory_limit_mib))?
        .with("threads", options.threads.max(1).to_string())?
        .with("checkpoint_threshold", format!("{}MiB", options.checkpoint_mib))?
        // What one statement sorts must not fill the disk that events are written to.
        .with("max_temp_directory_size", "1GiB")?
        // Extensions are code from elsewhere; the store needs none.
        // What was freed goes back to the system also while nothing is asked of the store.
        .with("allocator_background_threads", "true")?
        .with("autoinstall_known_extensions", "false")?
        .with("autoload_known_extensions", "false")
}

/// No statement may touch files or load code from here on, and no plan may rest on what the tables
/// hold at the moment.
///
/// DuckDB 1.5 prepares a statement by the statistics of its tables (a filter that nothing passes
/// becomes an empty result, short texts are packed into numbers) and runs the plan again when they
/// have changed: rows are missed, texts are garbled, or the process ends with a segmentation fault.
/// Ours are prepared once and run while the tables grow. See duckdb/duckdb#23704; the remedy is that
/// of duckdb/duckdb#24696.
fn close_off(conn: &Connection) -> Result<(), OpenError> {
    let sql = "set enable_external_access = false;
               set disabled_optimizers = 'statistics_propagation,compressed_materialization'";
    conn.execute_batch(sql).map_err(|e| failed("configure the store", &e))?;
    Ok(())
}

/// Ends the time of opening: checkpoints and vacuums are the writer's business from here on (see
/// [`super::wal`]). While contracts are followed DuckDB makes its own, to keep the log short.
///
/// The configuration is not locked, because the writer switches the vacuum; that only our own
/// statements reach DuckDB is what keeps it.
pub(super) fn seal(conn: &Connection) -> Result<(), StoreError> {
    conn.execute_batch("set checkpoint_threshold = '1TB'; set max_vacuum_tasks = 0")
        .map_err(|e| failed("configure the store", &e))
}

/// Creates the bookkeeping tables in a new file, brings an older one to the format of this release,
/// refuses one from a newer release.
pub(super) fn check_format(conn: &Connection, dir: &Path) -> Result<(), OpenError> {
    let context = "read the store's format";
    let tables: i64 = conn
        .query_row("select count(*) from duckdb_tables() where table_name = 'meta'", [], |row| {
            row.get(0)
        })
        .map_err(|e| failed(context, &e))?;
    if tables == 0 {
        let sql =
            format!("begin; {BOOKKEEPING} insert into meta values ('format', '{FORMAT}'); commit");
        return conn.execute_batch(&sql).map_err(|error| match failed("create tables", &error) {
            StoreError::DiskFull { .. } => OpenError::DiskFull { dir: dir.to_path_buf() },
            other => OpenError::Store(other),
        });
    }
    let found: String = conn
        .query_row("select value from meta where key = 'format'", [], |row| row.get(0))
        .map_err(|e| failed(context, &e))?;
    match found.parse::<u64>() {
        Ok(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { dir: dir.to_path_buf(), found, known: FORMAT })
        }
        Ok(FORMAT) => Ok(()),
        Ok(found @ 1..FORMAT) => migrate(conn, dir, found),
        Ok(_) | Err(_) => Err(OpenError::Store(StoreError::Corrupt(format!(
            "the store's format is `{found}`, expected a number from 1 on"
        )))),
    }
}

/// Numbers the rows of `ingest`, if there is such a table, in the order in which they were written.
fn number_ingest(conn: &Connection) -> duckdb::Result<()> {
    let sql = "select count(*) from duckdb_tables() where table_name = 'ingest'";
    match conn.query_row(sql, [], |row| row.get::<_, i64>(0))? {
        0 => Ok(()),
        _ => conn.execute_batch(
            // A time of arrival is as near as can be told.
            "update ingest set _row = rowid + 1, _applied_at = arrived_at",
        ),
    }
}

/// All steps from format `found` on, or none of them.
fn migrate(conn: &Connection, dir: &Path, found: u64) -> Result<(), OpenError> {
    let steps = MIGRATIONS[found as usize - 1..].concat();
    let context = format!("bring the store from format {found} to {FORMAT}");
    let steps = format!("{steps} update meta set value = '{FORMAT}' where key = 'format'");
    let steps = || {
        conn.execute_batch(&steps)?;
        if found < 4 { number_ingest(conn) } else { Ok(()) }
    };
    in_transaction(conn, &context, steps).map_err(|error| match error {
        StoreError::DiskFull { .. } => OpenError::DiskFull { dir: dir.to_path_buf() },
        other => OpenError::Store(other),
    })?;
    tracing::info!(from = found, to = FORMAT, "the store has a new format");
    Ok(())
}
