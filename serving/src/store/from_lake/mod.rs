//! A serving store made from nothing but the lake.
//!
//! It is built in a file of its own beside the place of the store and takes that place when it is
//! whole, so a store that is there stays what it is until then, and a process that dies on the way goes
//! on where it was. Journal rows come in stretches of sequence numbers, each one transaction that also
//! notes how far it came; entities are folded from them in the end, by the code that does it when a
//! contract changes.
//!
//! What the store ends with is the lake's newest [`pipeline::store::Ledger`], a point at which every table was complete.
//! A lake whose last round was cut off holds rows beyond that point. None of them is left out: an event
//! that its source sends again is recognised as a duplicate. What was received again counts as
//! received again.

mod books;
pub(super) mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use contracts::model::Domain;
use crossbeam_channel::bounded;
use duckdb::{Connection, params};
use pipeline::fail_point;
use pipeline::sink::iceberg::{History, HistoryTable, LakeError};
use pipeline::store::{StoreError, dead_letter_schema};
use xxhash_rust::xxh3::xxh3_64;

use self::books::Beyond;
use super::contract_state::{self, ENTITY};
use super::error::{OpenError, failed, refused};
use super::follow::Following;
use super::schema::{Tables, quoted};
use super::{StoreOptions, bookkeeping, database, follow, in_transaction, pieces};

/// Sequence numbers in one transaction.
const SEQS_PER_STEP: i64 = if cfg!(test) { 40 } else { 131_072 };
/// Dead letters in one transaction: each may have a megabyte.
const LETTERS_PER_STEP: i64 = if cfg!(test) { 10 } else { 1_024 };
/// Stretches that are read ahead of the one that is written.
const READ_AHEAD: usize = 2;

/// What is to be made from what.
pub struct LakeRebuild<'a> {
    /// The data directory, which the caller holds.
    pub dir: &'a Path,
    /// The contracts.
    pub domain: Arc<Domain>,
    /// The lake.
    pub history: &'a History,
    /// How the store is opened meanwhile, and who is told about the progress.
    pub options: StoreOptions,
    /// Asked between two steps.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A store that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events in its journal.
    pub events: u64,
    /// Its last sequence number.
    pub last_seq: i64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Rows of the built-in source `ingest`.
    pub ingest_rows: u64,
    /// Source partitions with their positions.
    pub partitions: usize,
    /// Events beyond the point at which the lake was last complete: their sources may send them again.
    pub beyond: u64,
    /// Where the store is that was there before.
    pub replaced: Option<PathBuf>,
}

/// Why no store was made. What was made so far is kept and continued by the next try.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The data directory refuses.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The lake refuses.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// Rows of the lake do not fit the contracts.
    #[error("make journal rows of `{table}` from the lake: {message}")]
    Rows {
        /// The store's table.
        table: String,
        /// What does not fit.
        message: String,
    },
    /// The lake holds fewer events than it says.
    #[error(
        "the lake holds {found} events up to position {position}, its own ledger says {expected}: \
         rows were deleted or a table was set back by somebody else"
    )]
    Incomplete {
        /// Rows found.
        found: u64,
        /// Rows that were accepted.
        expected: u64,
        /// Up to where.
        position: i64,
    },
    /// Asked to stop.
    #[error("stopped before the store was whole")]
    Stopped,
}

impl From<StoreError> for RebuildError {
    fn from(error: StoreError) -> Self {
        Self::Open(OpenError::Store(error))
    }
}

impl LakeRebuild<'_> {
    /// Makes the store, or goes on making it.
    pub fn run(self) -> Result<Rebuilt, RebuildError> {
        let file = database::unfinished(self.dir);
        let tables = Tables::of(&self.domain);
        let conn = self.begin(&file, &tables)?;
        let filled = self.fill(&conn, &tables);
        if let Err(RebuildError::Incomplete { .. }) = filled {
            // What was read is not what the lake should have: the next try reads all of it again.
            drop(conn);
            remove(self.dir, &file)?;
            return filled;
        }
        let mut rebuilt = filled?;
        let progress = |what: &str, done: u64, total: u64| self.told(what, done, total);
        // Entities are the one thing that is not recorded yet: they are folded now.
        let how = Following { progress: &progress, archive: None, beside: false };
        follow::contracts(&conn, self.dir, &self.domain, &tables, &how)?;
        // The notes stay: without them a process that dies before the next step would begin again in a
        // file that is full.
        conn.execute_batch("checkpoint").map_err(|e| failed("finish the store", &e))?;
        conn.close().map_err(|(_, e)| failed("close the new store", &e))?;
        fail_point::hit("rebuild_before_swap");
        rebuilt.replaced = put_in_place(self.dir, &file)?;
        Ok(rebuilt)
    }

    fn told(&self, what: &str, done: u64, total: u64) {
        if let Some(progress) = &self.options.progress {
            progress(what, done, total);
        }
    }

    fn check_stop(&self) -> Result<(), RebuildError> {
        if (self.stop)() { Err(RebuildError::Stopped) } else { Ok(()) }
    }

    /// Opens the unfinished store; one that was begun under other contracts is begun anew.
    fn begin(&self, file: &Path, tables: &Tables) -> Result<Connection, RebuildError> {
        let target = self.target();
        for _ in 0..2 {
            let conn = database::open_file(self.dir, file, &self.options)?;
            database::check_format(&conn, self.dir)?;
            let create = tables.all().map(|t| t.create()).collect::<Result<Vec<_>, _>>()?;
            in_transaction(&conn, "create tables", || conn.execute_batch(&create.join(";")))?;
            match note(&conn, "rebuild")? {
                Some(found) if found == target => return Ok(conn),
                None => {
                    let sql = "insert into meta values ('rebuild', ?)";
                    conn.execute(sql, [&target]).map_err(|e| failed("begin a store", &e))?;
                    return Ok(conn);
                }
                Some(_) => {
                    drop(conn);
                    remove(self.dir, file)?;
                }
            }
        }
        Err(refused("begin a store", "its file cannot be removed").into())
    }

    /// Names the contracts that rows are made by.
    fn target(&self) -> String {
        let definitions = contract_state::definitions(&self.domain);
        let text: Vec<String> = definitions
            .iter()
            .map(|(key, definition)| format!("{key:?} {}", definition.hash))
            .collect();
        format!("{:016x}", xxh3_64(text.join("\n").as_bytes()))
    }

    /// Everything but the entities.
    fn fill(&self, conn: &Connection, tables: &Tables) -> Result<Rebuilt, RebuildError> {
        let ledger = self.history.ledger();
        let done = |conn: &Connection| -> Result<bool, StoreError> {
            Ok(note(conn, "rebuilt")?.is_some())
        };
        if !done(conn)? {
            self.ingest(conn, tables)?;
            self.dead_letters(conn, tables)?;
            let last_seq = self.events(conn, tables)?;
            let expected = ledger.partitions.iter().map(|p| p.state.counts.accepted).sum();
            let found = count_up_to(conn, tables, ledger.last_seq)?;
            if found != expected {
                let position = ledger.last_seq;
                return Err(RebuildError::Incomplete { found, expected, position });
            }
            let beyond = Beyond::find(conn, tables, ledger)?;
            let definitions = contract_state::definitions(&self.domain);
            in_transaction(conn, "record where the sources are", || {
                beyond.write(conn, &self.domain, tables, ledger, last_seq)?;
                for (key, definition) in definitions.iter().filter(|(key, _)| key.kind != ENTITY) {
                    contract_state::save(conn, key, definition)?;
                }
                conn.execute("insert into meta values ('rebuilt', ?)", [last_seq.to_string()])?;
                Ok(())
            })?;
        }
        let count = |name: &str| -> Result<u64, StoreError> {
            let sql = format!("select count(*) from {}", quoted(name));
            conn.query_row(&sql, [], |row| row.get(0)).map_err(|e| failed("count rows", &e))
        };
        let last_seq = bookkeeping::last_seq(conn).map_err(|e| failed("read the end", &e))?;
        let events = count_up_to(conn, tables, i64::MAX)?;
        Ok(Rebuilt {
            events,
            last_seq,
            dead_letters: count(&tables.dead_letters.name)?,
            ingest_rows: count(&tables.ingest.name)?,
            partitions: ledger.partitions.len(),
            beyond: events - count_up_to(conn, tables, ledger.last_seq)?,
            replaced: None,
        })
    }

    /// Journal rows of all families in stretches. Returns the last sequence number.
    fn events(&self, conn: &Connection, tables: &Tables) -> Result<i64, RebuildError> {
        let families = &self.domain.families;
        let ends = families.iter().map(|f| self.history.end(HistoryTable::Family(f.index)));
        let last = ends.chain([self.history.ledger().last_seq]).max().unwrap_or(0);
        let from = position(conn, "events")?;
        let (sender, receiver) = bounded(READ_AHEAD);
        let (history, domain) = (self.history, &*self.domain);
        std::thread::scope(|scope| {
            // Decoding and computing is as much work as writing: two threads share it.
            scope.spawn(move || {
                let mut after = from;
                while after < last {
                    let until = last.min(after + SEQS_PER_STEP);
                    let stretch = stretch(history, domain, after, until).map(|rows| (until, rows));
                    let is_end = stretch.is_err();
                    if sender.send(stretch).is_err() || is_end {
                        return;
                    }
                    after = until;
                }
            });
            for stretch in receiver {
                let (until, stretch) = stretch?;
                self.check_stop()?;
                in_transaction(conn, "write journal rows", || {
                    for (family, rows) in &stretch {
                        tables.families[*family].append(conn, rows)?;
                    }
                    advance(conn, "events", until)
                })?;
                fail_point::hit("rebuild_step");
                self.told("events from the lake", until as u64, last as u64);
            }
            Ok(last)
        })
    }

    fn ingest(&self, conn: &Connection, tables: &Tables) -> Result<(), RebuildError> {
        let table = &tables.ingest;
        let what = "received records from the lake";
        self.steps(conn, HistoryTable::Ingest, what, SEQS_PER_STEP, |given| {
            let rows = with_computed(&self.domain, table, given)?;
            table.append(conn, &rows)
        })
    }

    fn dead_letters(&self, conn: &Connection, tables: &Tables) -> Result<(), RebuildError> {
        let what = "dead letters from the lake";
        self.steps(conn, HistoryTable::DeadLetters, what, LETTERS_PER_STEP, |given| {
            let rows = RecordBatch::try_new(dead_letter_schema(), given.columns().to_vec())
                .map_err(super::rows::conversion)?;
            let (rows, pieces) = pieces::cut(rows).map_err(super::rows::conversion)?;
            tables.dead_letters.append(conn, &rows)?;
            match pieces {
                Some(pieces) => pieces::TABLE.append(conn, &pieces),
                None => Ok(()),
            }
        })
    }

    /// Rows of a table in steps of positions, each one transaction.
    fn steps(
        &self,
        conn: &Connection,
        table: HistoryTable,
        what: &str,
        step: i64,
        write: impl Fn(&RecordBatch) -> duckdb::Result<()>,
    ) -> Result<(), RebuildError> {
        let key = match table {
            HistoryTable::Family(_) => "events",
            HistoryTable::Ingest => "ingest",
            HistoryTable::DeadLetters => "dead_letters",
        };
        let last = self.history.end(table);
        let mut after = position(conn, key)?;
        while after < last {
            self.check_stop()?;
            let until = last.min(after + step);
            let given = self.history.rows(table, after, until)?;
            in_transaction(conn, what, || {
                if let Some(given) = given.filter(|given| given.num_rows() > 0) {
                    write(&given)?;
                }
                advance(conn, key, until)
            })?;
            after = until;
            self.told(what, after as u64, last as u64);
        }
        Ok(())
    }
}

/// Journal rows of each family with `after < _seq <= until`.
fn stretch(
    history: &History,
    domain: &Domain,
    after: i64,
    until: i64,
) -> Result<Vec<(usize, RecordBatch)>, RebuildError> {
    let mut all = Vec::new();
    for family in &domain.families {
        let given = history.rows(HistoryTable::Family(family.index), after, until)?;
        let Some(given) = given.filter(|rows| rows.num_rows() > 0) else { continue };
        let made = rows::journal_rows(family, &given);
        let made = made.map_err(|error| RebuildError::Rows {
            table: family.table(),
            message: error.to_string(),
        })?;
        all.push((family.index, made));
    }
    Ok(all)
}

/// Rows of `ingest` with the columns that metrics need.
pub(super) fn with_computed(
    domain: &Domain,
    table: &super::schema::Table,
    given: &RecordBatch,
) -> duckdb::Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = given.columns().to_vec();
    for computed in &domain.ingest.computed {
        let values = computed.expr.evaluate(given);
        let wanted = computed.expr.ty().arrow();
        columns.push(rows::fit(&values, &wanted).map_err(super::rows::conversion)?);
    }
    RecordBatch::try_new(Arc::clone(&table.schema), columns).map_err(super::rows::conversion)
}

/// Journal rows up to a sequence number.
fn count_up_to(conn: &Connection, tables: &Tables, seq: i64) -> Result<u64, StoreError> {
    let count = |table: &super::schema::Table| {
        let sql = format!("select count(*) from {} where _seq <= {seq}", quoted(&table.name));
        conn.query_row(&sql, [], |row| row.get::<_, u64>(0))
    };
    let counts = tables.families.iter().map(count).collect::<duckdb::Result<Vec<u64>>>();
    Ok(counts.map_err(|e| failed("count journal rows", &e))?.iter().sum())
}

fn note(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let fails = |e: duckdb::Error| failed("read how far the store is", &e);
    let mut statement = conn.prepare("select value from meta where key = ?").map_err(fails)?;
    let mut found = statement.query_map([key], |row| row.get(0)).map_err(fails)?;
    found.next().transpose().map_err(fails)
}

/// How far a kind of rows is.
fn position(conn: &Connection, kind: &str) -> Result<i64, StoreError> {
    let note = note(conn, &format!("rebuild {kind}"))?;
    Ok(note.and_then(|text| text.parse().ok()).unwrap_or(0))
}

fn advance(conn: &Connection, kind: &str, until: i64) -> duckdb::Result<()> {
    let key = format!("rebuild {kind}");
    conn.execute("delete from meta where key = ?", [&key])?;
    conn.execute("insert into meta values (?, ?)", params![key, until.to_string()])?;
    Ok(())
}

fn remove(dir: &Path, file: &Path) -> Result<(), OpenError> {
    for file in [file.to_path_buf(), database::log_of(file)] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::NotWritable { dir: dir.to_path_buf(), source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives the finished store its name. A store that has it is kept under another one.
fn put_in_place(dir: &Path, file: &Path) -> Result<Option<PathBuf>, OpenError> {
    let place = database::file(dir);
    let failed = |source| OpenError::NotWritable { dir: dir.to_path_buf(), source };
    let mut replaced = None;
    if place.exists() {
        let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
        let aside = dir.join(format!("serving.duckdb.before-{now}"));
        // The log first: without its database nobody takes it for anything.
        let log = database::log_of(&place);
        if log.exists() {
            fs::rename(&log, database::log_of(&aside)).map_err(failed)?;
        }
        fs::rename(&place, &aside).map_err(failed)?;
        replaced = Some(aside);
    }
    fs::rename(file, &place).map_err(failed)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(replaced)
}
