//! The writing side: one connection, one transaction at a time.
//!
//! What always holds: a commit applies all of its effects or none, and afterwards the connection
//! is ready for the next one. Nothing else writes to the database, so what the writer remembers
//! (which bookkeeping rows exist, the last dead letter's id) is always current.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::error::ArrowError;
use duckdb::{Connection, params};
use pipeline::stage_times::CommitTimes;
use pipeline::store::{
    self, DeadLetter, Effects, EntityKey, EntityRows, EventId, IdHash, PartitionEffects,
    PartitionState, Seen, ServingStore, StoreError, Unfolded, dead_letter_schema,
};
use pipeline::{clock, fail_point};

use super::Shared;
use super::applying::Applying;
use super::archive::Archive;
use super::backfill::Backfill;
use super::bookkeeping::{self, Known};
use super::erase::Erasures;
use super::error::{failed, refused};
use super::fresh::Fresh;
use super::rows::conversion;
use super::schema::{Tables, quoted};
use super::state::Keeping;
use super::trim::Trimming;
use super::trimmed::Horizon;
use super::wal::{Due, Wal};
use super::{keys, lookup, pieces};

/// The writing side of a [`super::Store`]. There is one.
pub struct Writer {
    pub(super) conn: Connection,
    pub(super) tables: Arc<Tables>,
    known: Known,
    pub(super) last_dead_letter: i64,
    last_ingest: i64,
    /// Time of the last commit, µs.
    last_applied_at: i64,
    /// Entity rows replaced since the last vacuum: they still lie in the file.
    replaced: usize,
    wal: Option<Wal>,
    applying: Applying,
    fresh: Fresh,
    pub(super) horizon: Horizon,
    pub(super) archive: Option<Arc<dyn Archive>>,
    pub(super) erasures: Erasures,
    /// Entities changed otherwise than by a commit.
    pub(super) has_rewritten: bool,
    pub(super) trimming: Trimming,
    pub(super) backfill: Backfill,
    pub(super) state: Keeping,
    times: CommitTimes,
}

/// Replaced rows that make a vacuum worth its time: four row groups. A vacuum rewrites whole row
/// groups, up to the whole entity table; with one at each checkpoint it took half of all commit
/// time (10 M shop events: 57 of 117 s).
const VACUUM_AFTER: usize = 500_000;

/// How the rows that an entity change replaces are found.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Match {
    /// By hash alone, checked by the number of rows.
    Hash,
    /// Keys whose hash another key of the table has too are compared in full.
    Full,
}

/// Why a transaction was not committed.
pub(super) enum Failure {
    DuckDb(duckdb::Error),
    /// More rows than keys have these hashes.
    HashCollision,
    Corrupt(String),
}

impl From<duckdb::Error> for Failure {
    fn from(error: duckdb::Error) -> Self {
        Self::DuckDb(error)
    }
}

impl Failure {
    pub(super) fn into_error(self, context: &str) -> StoreError {
        match self {
            Self::DuckDb(error) => failed(context, &error),
            Self::Corrupt(message) => StoreError::Corrupt(message),
            Self::HashCollision => {
                StoreError::Corrupt("keys with equal hashes cannot be told apart".into())
            }
        }
    }
}

impl Writer {
    pub(super) fn new(
        conn: Connection,
        tables: Arc<Tables>,
        wal: Option<Wal>,
        shared: Shared,
        archive: Option<Arc<dyn Archive>>,
        backfill: Backfill,
        state: Keeping,
    ) -> Result<Self, StoreError> {
        conn.set_prepared_statement_cache_capacity(64);
        let known = Known::load(&conn).map_err(|e| failed("read counts", &e))?;
        let last_dead_letter = conn
            .query_row("select coalesce(max(id), 0) from dead_letters", [], |row| row.get(0))
            .map_err(|e| failed("read dead letters", &e))?;
        let sql = "select coalesce(max(_row), 0), epoch_us(max(_applied_at)) from ingest";
        let (last_ingest, last_applied_at): (i64, Option<i64>) = conn
            .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| failed("read the end of `ingest`", &e))?;
        let last_applied_at = last_applied_at.unwrap_or(0);
        if let Some(wal) = &wal {
            let end = bookkeeping::last_seq(&conn);
            wal.committed(end.map_err(|e| failed("read the journal's end", &e))?);
        }
        Ok(Self {
            conn,
            tables,
            known,
            last_dead_letter,
            last_ingest,
            last_applied_at,
            replaced: 0,
            wal,
            applying: shared.applying,
            fresh: shared.fresh,
            horizon: shared.horizon,
            archive,
            erasures: shared.erasures,
            has_rewritten: false,
            trimming: Trimming::default(),
            backfill,
            state,
            times: CommitTimes::default(),
        })
    }

    /// Applies everything in the open transaction.
    fn apply(&mut self, effects: &Effects<'_>, how: Match) -> Result<(), Failure> {
        let start = Instant::now();
        for (family, rows) in &effects.journal {
            self.tables.families[*family].append(&self.conn, rows)?;
        }
        let ingest = self.ingest_rows(&effects.ingest).map_err(conversion)?;
        self.tables.ingest.append(&self.conn, &ingest)?;
        if !effects.dead_letters.is_empty() {
            let rows = self.dead_letter_rows(&effects.dead_letters)?;
            let (rows, pieces) = pieces::cut(rows).map_err(conversion)?;
            self.tables.dead_letters.append(&self.conn, &rows)?;
            if let Some(pieces) = pieces {
                pieces::TABLE.append(&self.conn, &pieces)?;
            }
        }
        self.times.append += start.elapsed();
        let start = Instant::now();
        for change in &effects.entities {
            self.replace(change, how)?;
        }
        self.times.replace += start.elapsed();
        self.known.save(&self.conn, &effects.partitions, effects.last_seq)?;
        Ok(())
    }

    /// Deletes the rows that `change` replaces and appends the new ones. DuckDB's in-place update
    /// costs per touched vector and column; with scattered keys this is ten times faster.
    pub(super) fn replace(&self, change: &EntityRows, how: Match) -> Result<(), Failure> {
        let table = &self.tables.entities[change.entity];
        let name = quoted(&table.name);
        let mut keys: Vec<&EntityKey> = change.replaced.iter().collect();
        let mut deleted = 0;
        if how == Match::Full {
            let hashes = keys::set(&self.conn, keys.iter().map(|key| key.hash64()))?;
            let ambiguous = lookup::ambiguous_hashes(&self.conn, table, &hashes)?;
            let sql =
                format!("delete from {name} where _key_hash = ? and _tenant = ? and _key = ?");
            for key in keys.extract_if(.., |key| ambiguous.contains(&key.hash64())) {
                let mut statement = self.conn.prepare_cached(&sql)?;
                deleted += statement.execute(params![key.hash64(), &*key.tenant, &*key.key])?;
            }
        }
        if let [key] = keys[..] {
            // The lone event: a statement that is planned once.
            let sql = format!("delete from {name} where _key_hash = ?");
            deleted += self.conn.prepare_cached(&sql)?.execute([key.hash64()])?;
        } else if !keys.is_empty() {
            let hashes = keys::set(&self.conn, keys.iter().map(|key| key.hash64()))?;
            let sql = format!("delete from {name} where _key_hash in {hashes}");
            deleted += self.conn.execute(&sql, [])?;
        }
        if deleted != change.replaced.len() {
            return Err(if how == Match::Hash && deleted > change.replaced.len() {
                Failure::HashCollision
            } else {
                Failure::Corrupt(format!(
                    "table `{}` has {deleted} rows for {} keys that a batch replaces",
                    table.name,
                    change.replaced.len()
                ))
            });
        }
        table.append(&self.conn, &change.rows)?;
        Ok(())
    }

    /// Rows of `ingest` behind their numbers and the time of this commit.
    fn ingest_rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let count = rows.num_rows();
        let numbers = (self.last_ingest + 1..).take(count);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(numbers)),
            Arc::new(TimestampMicrosecondArray::from(vec![self.last_applied_at; count])),
        ];
        columns.extend(rows.columns().iter().cloned());
        RecordBatch::try_new(Arc::clone(&self.tables.ingest.schema), columns)
    }

    fn dead_letter_rows(&self, letters: &[DeadLetter<'_>]) -> duckdb::Result<RecordBatch> {
        let of = |text: fn(&DeadLetter<'_>) -> Option<String>| {
            StringArray::from_iter(letters.iter().map(text))
        };
        let first_id = self.last_dead_letter + 1;
        let mut payload = BinaryBuilder::new();
        let mut key = BinaryBuilder::new();
        for letter in letters {
            payload.append_value(letter.payload);
            key.append_option(letter.key);
        }
        RecordBatch::try_new(
            dead_letter_schema(),
            vec![
                Arc::new(Int64Array::from_iter_values((first_id..).take(letters.len()))),
                Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.tenant))),
                Arc::new(TimestampMicrosecondArray::from_iter_values(
                    letters.iter().map(|l| l.arrived_at),
                )),
                Arc::new(StringArray::from_iter_values(letters.iter().map(|l| l.partition))),
                Arc::new(Int64Array::from_iter_values(letters.iter().map(|l| l.offset as i64))),
                Arc::new(StringArray::from_iter_values(
                    letters.iter().map(|l| l.rejection.stage.name()),
                )),
                Arc::new(StringArray::from_iter_values(
                    letters.iter().map(|l| l.rejection.reason.code()),
                )),
                Arc::new(of(|l| l.rejection.field.clone())),
                Arc::new(of(|l| l.rejection.rule.clone())),
                Arc::new(of(|l| Some(l.rejection.detail.clone()))),
                Arc::new(of(|l| l.rejection.event_id.clone())),
                Arc::new(of(|l| l.rejection.event_type.clone())),
                Arc::new(TimestampMicrosecondArray::from_iter(
                    letters.iter().map(|l| l.rejection.event_time),
                )),
                Arc::new(of(|l| l.rejection.contract.as_ref().map(|(name, _)| name.clone()))),
                Arc::new(Int64Array::from_iter(letters.iter().map(|l| {
                    l.rejection.contract.as_ref().map(|(_, version)| i64::from(*version))
                }))),
                Arc::new(payload.finish()),
                Arc::new(key.finish()),
                Arc::new(of(|l| (!l.headers.is_empty()).then(|| l.headers.to_json().to_string()))),
            ],
        )
        .map_err(conversion)
    }

    /// Replaces rows of entities, and does `also` in the same transaction.
    pub(super) fn replace_rows(
        &mut self,
        context: &str,
        entities: &[EntityRows],
        also: impl Fn(&Self) -> duckdb::Result<()>,
    ) -> Result<(), StoreError> {
        let work = |writer: &mut Self, how| {
            entities.iter().try_for_each(|change| writer.replace(change, how))?;
            Ok(also(writer)?)
        };
        self.in_one_or_two(context, work)?;
        self.count_deleted(entities.iter().map(|change| change.replaced.len()).sum());
        Ok(())
    }

    /// Runs a transaction, by hashes first and in full where those do not do.
    fn in_one_or_two(
        &mut self,
        context: &str,
        work: impl Fn(&mut Self, Match) -> Result<(), Failure>,
    ) -> Result<(), StoreError> {
        let mut outcome = self.transaction(|writer| work(writer, Match::Hash));
        if matches!(outcome, Err(Failure::HashCollision)) {
            outcome = self.transaction(|writer| work(writer, Match::Full));
        }
        outcome.map_err(|failure| failure.into_error(context))
    }

    /// One try at a transaction. After an error it is rolled back.
    fn transaction(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.conn.execute_batch("begin")?;
        if let Err(failure) = work(self) {
            self.rollback();
            return Err(failure);
        }
        fail_point::hit("store_before_commit");
        let start = Instant::now();
        let committed = self.conn.execute_batch("commit");
        self.times.log += start.elapsed();
        if let Err(error) = committed {
            self.rollback();
            return Err(error.into());
        }
        fail_point::hit("store_after_commit");
        Ok(())
    }

    /// After a commit other than of a batch: the log is longer by it.
    pub(super) fn logged(&self, last_seq: i64) {
        if let Some(wal) = &self.wal {
            wal.committed(last_seq);
        }
    }

    /// Ends a transaction that failed. DuckDB may have ended it already, and says so; that is fine.
    pub(super) fn rollback(&self) {
        let _ = self.conn.execute_batch("rollback");
    }

    /// What the log needs before the next transaction.
    pub(super) fn wal_due(&self) -> Due {
        self.wal.as_ref().map_or(Due::Nothing, Wal::before_commit)
    }

    /// Where the rows are that the journal has given up.
    pub(super) fn archive(&self) -> Option<Arc<dyn Archive>> {
        self.archive.clone()
    }

    /// Rows were deleted that still lie in the file.
    pub(super) fn count_deleted(&mut self, rows: usize) {
        self.replaced += rows;
    }

    /// Folds the log into the database file, and takes the opportunity to drop rows that were
    /// replaced once there are enough of them.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        // What is in the log of the state would go to the file only to be deleted there.
        self.fold_state();
        let sql = if self.replaced < VACUUM_AFTER {
            "checkpoint"
        } else {
            "set max_vacuum_tasks = 100; checkpoint; set max_vacuum_tasks = 0"
        };
        let start = Instant::now();
        let outcome = self.conn.execute_batch(sql);
        self.times.checkpoint += start.elapsed();
        if let Some(wal) = &self.wal {
            wal.checkpointed();
        }
        if self.replaced >= VACUUM_AFTER {
            match outcome {
                Ok(()) => {
                    self.replaced = 0;
                    self.trimming.unvacuumed = false;
                }
                Err(_) => {
                    // The failure of the checkpoint is the one to tell.
                    let _ = self.conn.execute_batch("set max_vacuum_tasks = 0");
                }
            }
        }
        outcome.map_err(|e| failed("checkpoint the store", &e))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.erasures.close();
        // Whoever writes from now on tells it nothing.
        self.state.close();
    }
}

impl ServingStore for Writer {
    fn last_seq(&mut self) -> Result<i64, StoreError> {
        bookkeeping::last_seq(&self.conn).map_err(|e| failed("read the journal's end", &e))
    }

    fn partition(&mut self, name: &str) -> Result<Option<PartitionState>, StoreError> {
        let mut found = bookkeeping::partitions(&self.conn, Some(name))
            .map_err(|e| failed(format!("read partition `{name}`"), &e))?;
        Ok(found.pop())
    }

    fn partitions(&mut self) -> Result<Vec<PartitionState>, StoreError> {
        bookkeeping::partitions(&self.conn, None).map_err(|e| failed("read partitions", &e))
    }

    fn find_seen(&mut self, ids: &[IdHash]) -> Result<Vec<Seen>, StoreError> {
        lookup::find_seen(&self.conn, &self.tables, ids)
            .map_err(|e| failed("look up event ids", &e))
    }

    fn given_up_until(&self) -> Option<i64> {
        self.horizon.get()?.latest_event_time
    }

    fn find_given_up(&mut self, ids: &[EventId<'_>]) -> Result<Vec<Seen>, StoreError> {
        let Some(trimmed) = self.horizon.get() else { return Ok(Vec::new()) };
        let Some(archive) = &self.archive else {
            return Err(refused(
                "look up event ids",
                "the journal has given up events that only the lake has, and there is no lake here",
            ));
        };
        lookup::find_given_up(&**archive, &trimmed, &self.tables, ids)
    }

    fn scan_ids(&mut self, since: i64, each: &mut dyn FnMut(&[IdHash])) -> Result<(), StoreError> {
        lookup::scan_ids(&self.conn, &self.tables, since, each)
            .map_err(|e| failed("read event ids", &e))
    }

    fn scan_keys(&mut self, entity: usize, each: &mut dyn FnMut(&[i64])) -> Result<(), StoreError> {
        let table = &self.tables.entities[entity];
        lookup::scan_keys(&self.conn, table, each)
            .map_err(|e| failed(format!("read keys of `{}`", table.name), &e))
    }

    fn load_states(
        &mut self,
        entity: usize,
        keys: &[EntityKey],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let table = &self.tables.entities[entity];
        lookup::load_states(&self.conn, table, keys)
            .map_err(|e| failed(format!("load rows of `{}`", table.name), &e))
    }

    fn rows_where(
        &mut self,
        entity: usize,
        column: &str,
        values: &[EntityKey],
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let table = &self.tables.entities[entity];
        let context = format!("find rows of `{}` by `{column}`", table.name);
        let Some((_, field)) = table.schema.column_with_name(column) else {
            return Err(refused(context, "there is no such column"));
        };
        lookup::rows_where(&self.conn, table, field, values).map_err(|e| failed(context, &e))
    }

    fn commit(&mut self, effects: &Effects<'_>) -> Result<(), StoreError> {
        match self.wal_due() {
            Due::Nothing => {}
            // A reader in its way makes it wait for the next commit; anything worse stops this one.
            Due::Checkpoint => drop(self.checkpoint()),
            Due::NoRoom(shortage) => return Err(shortage.failure("commit batch")),
        }
        // After the clock, and after the commit before even if the clock was set back.
        let applying = self.applying.clone();
        let _under_way = applying.begin(|| {
            self.last_applied_at = clock::now().max(self.last_applied_at) + 1;
            self.last_applied_at
        });
        if self.state.is_fold_due() {
            self.fold_state();
        }
        let put = self.state.put(effects);
        let outcome = self.in_one_or_two("commit batch", |writer, how| {
            writer.apply(effects, how)?;
            Ok(put.iter().try_for_each(|put| writer.state.note(&writer.conn, put))?)
        });
        self.state.settle(put, outcome.is_ok());
        outcome?;
        if let Some(wal) = &self.wal {
            wal.committed(effects.last_seq);
        }
        self.fresh.add(effects.last_seq, self.last_applied_at, &effects.journal);
        self.last_dead_letter += effects.dead_letters.len() as i64;
        self.last_ingest += effects.ingest.num_rows() as i64;
        self.replaced += effects.entities.iter().map(|change| change.replaced.len()).sum::<usize>();
        for PartitionEffects { state, by_reason } in &effects.partitions {
            self.known.add(state.id, by_reason);
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<(), StoreError> {
        match self.wal.as_ref().map_or(Due::Nothing, Wal::before_commit) {
            Due::NoRoom(shortage) => Err(shortage.failure("take events")),
            Due::Nothing | Due::Checkpoint => Ok(()),
        }
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        match self.wal.as_ref().map_or(Due::Nothing, Wal::when_idle) {
            Due::Checkpoint => self.checkpoint(),
            // Without room it waits; a commit that cannot wait says so.
            Due::Nothing | Due::NoRoom(_) => Ok(()),
        }
    }

    fn take_rewritten(&mut self) -> bool {
        std::mem::take(&mut self.has_rewritten)
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        if self.erase_next() {
            // There may be more of them.
            return Ok(true);
        }
        if self.build_state()? {
            return Ok(true);
        }
        self.trim()
    }

    fn backfill(&mut self) -> Result<store::Backfill, StoreError> {
        self.backfill_slice()
    }

    fn unfolded(&self) -> Vec<(usize, Unfolded)> {
        self.backfill.unfolded()
    }

    fn commit_stretch(&mut self, entities: &[EntityRows]) -> Result<(), StoreError> {
        self.commit_slice(entities)
    }

    fn commit_times(&self) -> CommitTimes {
        self.times
    }
}
