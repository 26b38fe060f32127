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
//! Start at [`Keeping::open`] for a start, [`build`] for what is missing.

mod build;
mod load;
mod rows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use duckdb::{Connection, params};
use pipeline::fail_point;
use pipeline::store::{Effects, StoreError};
use xxhash_rust::xxh3::xxh3_64;

use super::in_transaction;
use crate::state::{Change, Delta, Keeper, Spec, gather};

/// Its tables, made like those of [`super::schema::BOOKKEEPING`] when the store is opened.
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
const FOLD_AFTER: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

/// Bytes of hours that were written anew, beyond those that count, with which the table is made anew.
const REWRITE_AFTER: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

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
            let mut rows: Vec<(i64, String, i64, Vec<u8>)> = Vec::new();
            self.keeper.unsaved(|spec, tenant, head, chunks| {
                let head = head.iter().map(|head| (HEAD, postcard::to_allocvec(head)));
                let chunks = chunks
                    .iter()
                    .map(|(hour, chunk)| (hour.unwrap_or(TIMELESS), postcard::to_allocvec(chunk)));
                for (hour, bytes) in head.chain(chunks) {
                    let bytes = bytes
                        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
                    written += bytes.len();
                    rows.push((spec, tenant.to_owned(), hour, bytes));
                }
                Ok::<_, duckdb::Error>(())
            })?;
            if !is_rewritten {
                replaced = take_out(conn, &rows)?;
            }
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

/// Takes out what is written anew, in one statement: after a stretch of old events it is thousands of hours.
fn take_out(conn: &Connection, rows: &[(i64, String, i64, Vec<u8>)]) -> duckdb::Result<usize> {
    conn.execute_batch(
        "create or replace temp table metric_state_keys (spec bigint, tenant varchar, hour bigint)",
    )?;
    let mut appender = conn.appender("metric_state_keys")?;
    for (spec, tenant, hour, _) in rows {
        appender.append_row(params![spec, tenant, hour])?;
    }
    appender.flush()?;
    drop(appender);
    conn.execute(
        "delete from metric_state as m using metric_state_keys as k
         where m.spec = k.spec and m.tenant = k.tenant and m.hour = k.hour",
        [],
    )
}

fn forget_specs(conn: &Connection, numbers: &[i64]) -> duckdb::Result<()> {
    for number in numbers {
        conn.execute("delete from metric_state_specs where spec = ?", [number])?;
        conn.execute("delete from metric_state where spec = ?", [number])?;
    }
    Ok(())
}
