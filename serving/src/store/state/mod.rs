//! State of metrics in the store: written with each commit, made anew where it is missing.
//!
//! `metric_state_specs` says what is kept and how far it is, `metric_state_log` what each commit changed,
//! `metric_state` holds hours as of the number in `metric_state_at`; what the log has beyond that number comes
//! on top. With a checkpoint the log is folded into the hours: its rows never reach the file.
//!
//! State that is missing, damaged or was kept under another contract is built from rows: of events in slices by
//! position, while what comes in is added already; of an entity, of received records and dead letters at once,
//! between two batches. Whatever else changes rows (an erasure) drops all state in its transaction.
//!
//! Start at [`Keeping::open`] for a start, [`Writer::build_state`] for what is missing.

mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use contracts::model::Domain;
use duckdb::{Connection, params};
use pipeline::fail_point;
use pipeline::store::{Effects, StoreError};
use xxhash_rust::xxh3::xxh3_64;

use super::error::failed;
use super::in_transaction;
use super::writer::Writer;
use crate::state::{Change, Delta, Keeper, Spec, gather, specs};

/// Tables of it, as [`super::schema::BOOKKEEPING`] creates them.
pub(super) const TABLES: &str = "
    create table if not exists metric_state_specs (
        spec bigint, name varchar, fingerprint ubigint, fine_from bigint, done_seq bigint, until_seq bigint);
    create table if not exists metric_state_log (n bigint, changes blob, checksum ubigint);
    create table if not exists metric_state_at (n bigint);
    create table if not exists metric_state (
        spec bigint, tenant varchar, hour bigint, cells blob, checksum ubigint);
";

/// The number of the newest changes that a snapshot sees, as an expression.
pub(crate) const NUMBER: &str = "coalesce((select max(n) from metric_state_log), \
     (select max(n) from metric_state_at), 0)";

/// Bytes of the log with which it is folded into the hours, whether or not there is a checkpoint.
const FOLD_AFTER: usize = if cfg!(test) { 4 << 10 } else { 32 << 20 };

/// Bytes of hours that were written anew, beyond those that count, with which the table is made anew.
const REWRITE_AFTER: usize = if cfg!(test) { 4 << 10 } else { 32 << 20 };

/// Positions whose events are put in at a time.
const SEQS_PER_SLICE: i64 = if cfg!(test) { 25 } else { 1 << 20 };

/// Hours of which minutes are made when state is built from rows.
const FINE_HOURS: i64 = 26;

/// Hours in the table for what is not of an hour.
const HEAD: i64 = i64::MIN;
const TIMELESS: i64 = i64::MAX;

/// The writer's side of the state.
pub(super) struct Keeping {
    keeper: Keeper,
    /// What is kept, by number.
    kept: BTreeMap<i64, Arc<Spec>>,
    missing: VecDeque<Missing>,
    /// Bytes in the log, in hours, and in hours that were replaced.
    log_bytes: usize,
    hour_bytes: usize,
    dead_bytes: usize,
    next_spec: i64,
}

/// Something whose state is to be built.
struct Missing {
    spec: Arc<Spec>,
    /// Its number and the positions that are not in it yet, once it is begun.
    begun: Option<(i64, i64, i64)>,
}

/// What a commit changes, put in already.
pub(super) struct Put {
    number: i64,
    delta: Arc<Delta>,
    bytes: Vec<u8>,
}

impl Keeping {
    /// Loads what the store has, and finds out what is missing. Without `is_on` the store gives up its
    /// state: what is not kept with each commit is worth nothing.
    pub(super) fn open(
        conn: &Connection,
        domain: &Domain,
        keeper: Keeper,
        is_on: bool,
    ) -> Result<Self, StoreError> {
        let mut keeping = Self {
            keeper,
            kept: BTreeMap::new(),
            missing: VecDeque::new(),
            log_bytes: 0,
            hour_bytes: 0,
            dead_bytes: 0,
            next_spec: 1,
        };
        let wanted = if is_on { specs(domain) } else { Vec::new() };
        keeping.load(conn, wanted).map_err(|e| failed("load the state of metrics", &e))?;
        Ok(keeping)
    }

    fn load(&mut self, conn: &Connection, wanted: Vec<Arc<Spec>>) -> duckdb::Result<()> {
        let stored = stored_specs(conn)?;
        let sql = "select greatest((select coalesce(max(spec), 0) from metric_state_specs),
                                   (select coalesce(max(spec), 0) from metric_state)) + 1";
        self.next_spec = conn.query_row(sql, [], |row| row.get(0))?;
        let mut gone: Vec<i64> = Vec::new();
        let mut begun = BTreeMap::new();
        for spec in &stored {
            let same = |wanted: &&Arc<Spec>| {
                wanted.name == spec.name && wanted.fingerprint == spec.fingerprint
            };
            match wanted.iter().find(same) {
                Some(wanted) => {
                    self.keeper.keep(spec.number, Arc::clone(wanted), spec.fine_from, None);
                    self.kept.insert(spec.number, Arc::clone(wanted));
                    begun.insert(spec.number, (spec.done, spec.until));
                }
                None => gone.push(spec.number),
            }
        }
        let (at, damaged) = self.load_hours(conn)?;
        self.keeper.starts_at(at);
        gone.extend(damaged);
        gone.extend(self.load_log(conn, at)?);
        gone.sort_unstable();
        gone.dedup();
        for number in &gone {
            if let Some(spec) = self.kept.remove(number) {
                tracing::warn!(
                    state = spec.name,
                    "the state of a metric is damaged and is built anew"
                );
            }
        }
        self.keeper.forget(gone.iter().copied());
        if !gone.is_empty() {
            forget_specs(conn, &gone)?;
        }
        let now = self.keeper.applied();
        for (number, (done, until)) in begun {
            let Some(spec) = self.kept.get(&number) else { continue };
            if done >= until {
                self.keeper.is_whole(number, now);
            } else {
                let (spec, begun) = (Arc::clone(spec), Some((number, done, until)));
                self.missing.push_back(Missing { spec, begun });
            }
        }
        let is_kept = |spec: &Arc<Spec>| self.kept.values().any(|kept| kept.name == spec.name);
        let missing: Vec<_> = wanted.into_iter().filter(|spec| !is_kept(spec)).collect();
        if !missing.is_empty() && is_empty(conn)? {
            // Nothing is in it, so nothing is missing.
            for spec in missing {
                self.begin(conn, &spec, 0, 0)?;
            }
        } else {
            let missing = missing.into_iter().map(|spec| Missing { spec, begun: None });
            self.missing.extend(missing);
        }
        Ok(())
    }

    /// The number up to which hours are written, and specs whose hours are damaged.
    fn load_hours(&mut self, conn: &Connection) -> duckdb::Result<(i64, Vec<i64>)> {
        let at = conn
            .query_row("select coalesce(max(n), 0) from metric_state_at", [], |row| row.get(0))?;
        let mut damaged = Vec::new();
        // Heads are first: they name the groups of the hours.
        let sql = "select spec, tenant, hour, cells, checksum from metric_state order by hour";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (spec, tenant): (i64, String) = (row.get(0)?, row.get(1)?);
            let (hour, bytes, checksum): (i64, Vec<u8>, u64) =
                (row.get(2)?, row.get(3)?, row.get(4)?);
            self.hour_bytes += bytes.len();
            if !self.kept.contains_key(&spec) || damaged.contains(&spec) {
                continue;
            }
            let fits = xxh3_64(&bytes) == checksum
                && match hour {
                    HEAD => postcard::from_bytes(&bytes)
                        .is_ok_and(|head| self.keeper.load(spec, &tenant, Some(head), None)),
                    hour => postcard::from_bytes(&bytes).is_ok_and(|chunk| {
                        let hour = (hour != TIMELESS).then_some(hour);
                        self.keeper.load(spec, &tenant, None, Some((hour, chunk)))
                    }),
                };
            if !fits {
                damaged.push(spec);
            }
        }
        Ok((at, damaged))
    }

    /// Puts in what was committed since; the specs that it does not fit, all of them when the log has a
    /// hole.
    fn load_log(&mut self, conn: &Connection, at: i64) -> duckdb::Result<Vec<i64>> {
        let sql = "select n, changes, checksum from metric_state_log order by n";
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        let (mut unfit, mut next) = (Vec::new(), at + 1);
        while let Some(row) = rows.next()? {
            let (n, bytes, checksum): (i64, Vec<u8>, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            self.log_bytes += bytes.len();
            let delta = (n == next && xxh3_64(&bytes) == checksum)
                .then(|| postcard::from_bytes::<Delta>(&bytes).ok())
                .flatten();
            let Some(delta) = delta else {
                tracing::warn!(n, next, "the log of the state of metrics is damaged");
                return self.empty_log(conn);
            };
            self.next_spec = self.next_spec.max(delta.specs().max().unwrap_or(0) + 1);
            unfit.extend(self.keeper.load_delta(&delta));
            next += 1;
        }
        Ok(unfit)
    }

    /// Gives up a log that is damaged, and with it all that is kept. What comes gets numbers after all that
    /// there were.
    fn empty_log(&mut self, conn: &Connection) -> duckdb::Result<Vec<i64>> {
        let last: i64 = conn.query_row(&format!("select {NUMBER}"), [], |row| row.get(0))?;
        let last = last.max(self.keeper.applied());
        conn.execute_batch(&format!(
            "begin; delete from metric_state_log; delete from metric_state_at;
             insert into metric_state_at values ({last}); commit"
        ))?;
        self.keeper.starts_at(last);
        self.log_bytes = 0;
        Ok(self.kept.keys().copied().collect())
    }

    /// Notes in the open transaction that a spec is kept from now on, with the events after `done` up to
    /// `until` still missing.
    fn begin(
        &mut self,
        conn: &Connection,
        spec: &Arc<Spec>,
        fine_from: i64,
        until: i64,
    ) -> duckdb::Result<i64> {
        let number = self.next_spec;
        self.next_spec += 1;
        // What an erasure that failed has left.
        conn.execute(
            "delete from metric_state
             where spec in (select spec from metric_state_specs where name = ?)",
            [&spec.name],
        )?;
        conn.execute("delete from metric_state_specs where name = ?", [&spec.name])?;
        conn.execute(
            "insert into metric_state_specs values (?, ?, ?, ?, 0, ?)",
            params![number, spec.name, spec.fingerprint, fine_from, until],
        )?;
        let whole_since = (until == 0).then(|| self.keeper.applied());
        self.keeper.keep(number, Arc::clone(spec), fine_from, whole_since);
        self.kept.insert(number, Arc::clone(spec));
        Ok(number)
    }

    /// Puts in what a commit changes; `None`: nothing that is kept.
    pub(super) fn put(&self, effects: &Effects<'_>) -> Option<Put> {
        if self.kept.is_empty() {
            return None;
        }
        self.put_changes(gather(&self.kept, effects))
    }

    fn put_changes(&self, changes: Vec<Change>) -> Option<Put> {
        if changes.is_empty() {
            return None;
        }
        let (number, delta) = self.keeper.apply(changes);
        // Nothing of it can fail to be written: it has no maps and no floats out of range.
        let bytes = postcard::to_allocvec(&*delta).unwrap_or_default();
        Some(Put { number, delta, bytes })
    }

    /// Notes it in the open transaction.
    pub(super) fn note(&self, conn: &Connection, put: &Put) -> duckdb::Result<()> {
        conn.prepare_cached("insert into metric_state_log values (?, ?, ?)")?.execute(params![
            put.number,
            put.bytes,
            xxh3_64(&put.bytes)
        ])?;
        Ok(())
    }

    /// After the commit, or after it failed.
    pub(super) fn settle(&mut self, put: Option<Put>, is_committed: bool) {
        let Some(put) = put else { return };
        if is_committed {
            self.keeper.committed(&put.delta);
            self.log_bytes += put.bytes.len();
        } else {
            self.keeper.undo();
        }
    }

    /// Is the log so long that it should be folded?
    pub(super) fn is_fold_due(&self) -> bool {
        self.log_bytes > FOLD_AFTER
    }

    /// Writes the hours that changed, and empties the log.
    pub(super) fn fold(&mut self, conn: &Connection) -> Result<(), StoreError> {
        if self.log_bytes == 0 {
            return Ok(());
        }
        self.keeper.coarsen();
        let is_rewritten = self.dead_bytes > self.hour_bytes + REWRITE_AFTER;
        if is_rewritten {
            self.keeper.mark_all();
        }
        let mut written = 0;
        let mut replaced = 0;
        in_transaction(conn, "fold the state of metrics", || {
            if is_rewritten {
                conn.execute_batch(&format!("drop table metric_state; {TABLES}"))?;
            }
            let mut taken = conn
                .prepare("delete from metric_state where spec = ? and tenant = ? and hour = ?")?;
            let mut rows: Vec<(i64, String, i64, Vec<u8>)> = Vec::new();
            self.keeper.unsaved(|spec, tenant, head, chunks| {
                let head = head.iter().map(|head| (HEAD, postcard::to_allocvec(head)));
                let chunks = chunks
                    .iter()
                    .map(|(hour, chunk)| (hour.unwrap_or(TIMELESS), postcard::to_allocvec(chunk)));
                for (hour, bytes) in head.chain(chunks) {
                    let bytes = bytes
                        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
                    if !is_rewritten {
                        replaced += taken.execute(params![spec, tenant, hour])?;
                    }
                    written += bytes.len();
                    rows.push((spec, tenant.to_owned(), hour, bytes));
                }
                Ok::<_, duckdb::Error>(())
            })?;
            let mut appender = conn.appender("metric_state")?;
            for (spec, tenant, hour, bytes) in &rows {
                appender.append_row(params![spec, tenant, hour, bytes, xxh3_64(bytes)])?;
            }
            appender.flush()?;
            conn.execute_batch("delete from metric_state_log; delete from metric_state_at")?;
            conn.execute("insert into metric_state_at values (?)", [self.keeper.applied()])?;
            fail_point::hit("state_before_fold");
            Ok(())
        })?;
        fail_point::hit("state_after_fold");
        self.keeper.saved();
        self.log_bytes = 0;
        if is_rewritten {
            (self.dead_bytes, self.hour_bytes) = (0, written);
        } else if replaced > 0 {
            // An hour that is written again is about as long as it was.
            self.dead_bytes += written;
        } else {
            self.hour_bytes += written;
        }
        Ok(())
    }

    /// Readers go by rows from now on.
    pub(super) fn close(&self) {
        self.keeper.forget(self.kept.keys().copied());
    }

    /// Gives up all state: readers go by rows from now on, and with the open transaction the store has none.
    pub(super) fn drop_all(&mut self, conn: &Connection) -> duckdb::Result<()> {
        let numbers: Vec<i64> = self.kept.keys().copied().collect();
        self.keeper.forget(numbers.iter().copied());
        self.missing.retain(|missing| missing.begun.is_none());
        let gone = std::mem::take(&mut self.kept).into_values();
        self.missing.extend(gone.map(|spec| Missing { spec, begun: None }));
        forget_specs(conn, &numbers)
    }
}

impl Writer {
    /// Builds a piece of the state that is missing; true when it did something. What is not whole itself is
    /// left alone.
    pub(super) fn build_state(&mut self) -> Result<bool, StoreError> {
        if self.state.missing.is_empty() || !self.backfill.is_done() {
            return Ok(false);
        }
        let context = "build the state of a metric";
        let Some(Missing { spec, begun }) = self.state.missing.pop_front() else {
            return Ok(false);
        };
        let piece = self.state_piece(&spec, begun);
        match piece {
            Ok(left) => {
                if let Some(begun) = left {
                    self.state.missing.push_front(Missing { spec, begun: Some(begun) });
                }
                Ok(true)
            }
            Err(error) => {
                self.state.missing.push_back(Missing { spec, begun });
                Err(failed(context, &error))
            }
        }
    }

    /// One transaction of it: the number and positions that are left, if any are.
    fn state_piece(
        &mut self,
        spec: &Arc<Spec>,
        begun: Option<(i64, i64, i64)>,
    ) -> duckdb::Result<Option<(i64, i64, i64)>> {
        let last_seq = super::bookkeeping::last_seq(&self.conn)?;
        let is_sliced = rows::is_sliced(spec);
        self.conn.execute_batch("begin")?;
        let mut work = || -> duckdb::Result<(i64, i64, i64, Option<Put>)> {
            let (number, done, until) = match begun {
                Some(begun) => begun,
                None => {
                    let fine_from = rows::newest_hour(&self.conn, &self.tables, spec)?
                        .map_or(i64::MIN, |hour| hour - FINE_HOURS);
                    let until = last_seq.max(1);
                    (self.state.begin(&self.conn, spec, fine_from, until)?, 0, until)
                }
            };
            let slice = match is_sliced {
                true => until.min(done.saturating_add(SEQS_PER_SLICE)),
                false => until,
            };
            let fine_from = rows::fine_from(&self.conn, number)?;
            let span = is_sliced.then_some((done, slice));
            let changes = rows::changes(&self.conn, &self.tables, spec, number, fine_from, span)?;
            let put = self.state.put_changes(changes);
            let noted = put.as_ref().map_or(Ok(()), |put| self.state.note(&self.conn, put));
            let noted = noted.and_then(|()| {
                let sql = "update metric_state_specs set done_seq = ? where spec = ?";
                self.conn.execute(sql, params![slice, number])?;
                fail_point::hit("state_before_slice");
                self.conn.execute_batch("commit")
            });
            match noted {
                Ok(()) => Ok((number, slice, until, put)),
                Err(error) => {
                    self.state.settle(put, false);
                    Err(error)
                }
            }
        };
        match work() {
            Ok((number, done, until, put)) => {
                fail_point::hit("state_after_slice");
                self.state.settle(put, true);
                self.logged(last_seq);
                if done < until {
                    return Ok(Some((number, done, until)));
                }
                self.state.keeper.is_whole(number, self.state.keeper.applied());
                tracing::info!(state = spec.name, "the state of a metric is built");
                Ok(None)
            }
            Err(error) => {
                self.rollback();
                if begun.is_none() {
                    self.state.unbegin(spec);
                }
                Err(error)
            }
        }
    }

    /// Folds the log of the state, at the latest before it is too long. A failure leaves it as it was.
    pub(super) fn fold_state(&mut self) {
        let folded = self.state.fold(&self.conn).and_then(|()| {
            // A backup that begins now must not leave it out.
            let last_seq = super::bookkeeping::last_seq(&self.conn);
            last_seq.map_err(|e| failed("read the journal's end", &e))
        });
        match folded {
            Ok(last_seq) => self.logged(last_seq),
            Err(error) => {
                tracing::warn!(%error, "the state of metrics stays as it was and is folded later");
            }
        }
    }
}

#[cfg(test)]
impl crate::store::Store {
    /// Gives up all state, as if it had never been kept.
    pub(crate) fn forget_state(&self) {
        let mut writer = self.writer.lock().expect("a writer");
        let writer = writer.as_mut().expect("it is not taken");
        writer.state.drop_all(&writer.conn).expect("it is given up");
    }

    /// Builds the state of the rows that there are now, however they came in.
    pub(crate) fn learn_state(&self) {
        self.forget_state();
        let mut writer = self.writer.lock().expect("a writer");
        let writer = writer.as_mut().expect("it is not taken");
        while writer.build_state().expect("rows are added up") {}
    }
}

impl Keeping {
    /// A spec that was begun in a transaction that failed.
    fn unbegin(&mut self, spec: &Arc<Spec>) {
        let numbers: Vec<i64> = self
            .kept
            .iter()
            .filter(|(_, kept)| kept.name == spec.name)
            .map(|(number, _)| *number)
            .collect();
        self.keeper.forget(numbers.iter().copied());
        for number in numbers {
            self.kept.remove(&number);
        }
    }
}

/// A spec as the store has it.
struct StoredSpec {
    number: i64,
    name: String,
    fingerprint: u64,
    fine_from: i64,
    done: i64,
    until: i64,
}

fn stored_specs(conn: &Connection) -> duckdb::Result<Vec<StoredSpec>> {
    let sql = "select spec, name, fingerprint, fine_from, done_seq, until_seq \
               from metric_state_specs order by spec";
    let mut statement = conn.prepare(sql)?;
    let specs = statement.query_map([], |row| {
        Ok(StoredSpec {
            number: row.get(0)?,
            name: row.get(1)?,
            fingerprint: row.get(2)?,
            fine_from: row.get(3)?,
            done: row.get(4)?,
            until: row.get(5)?,
        })
    })?;
    specs.collect()
}

fn forget_specs(conn: &Connection, numbers: &[i64]) -> duckdb::Result<()> {
    for number in numbers {
        conn.execute("delete from metric_state_specs where spec = ?", [number])?;
        conn.execute("delete from metric_state where spec = ?", [number])?;
    }
    Ok(())
}

/// Was nothing ever received?
fn is_empty(conn: &Connection) -> duckdb::Result<bool> {
    let sql = "select not exists (from ingest) and not exists (from dead_letters) \
               and not exists (from source_partitions)";
    conn.query_row(sql, [], |row| row.get(0))
}
