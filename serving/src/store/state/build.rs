//! State that is missing, from rows, in pieces between two batches.

use std::sync::Arc;

use duckdb::params;
use pipeline::fail_point;
use pipeline::store::StoreError;

use super::{Missing, Put, rows};
use crate::state::Spec;
use crate::store::bookkeeping;
use crate::store::error::failed;
use crate::store::writer::Writer;

/// Positions whose events are put in at a time.
const SEQS_PER_SLICE: i64 = if cfg!(test) { 100 } else { 1 << 20 };

/// Hours of which minutes are made when state is built from rows.
const FINE_HOURS: i64 = 26;

impl Writer {
    /// Builds a piece of the state that is missing; true when it did something. What is not whole itself is
    /// left alone.
    pub(in crate::store) fn build_state(&mut self) -> Result<bool, StoreError> {
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
        let last_seq = bookkeeping::last_seq(&self.conn)?;
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
    pub(in crate::store) fn fold_state(&mut self) {
        let folded = self.state.fold(&self.conn).and_then(|()| {
            // A backup that begins now must not leave it out.
            let last_seq = bookkeeping::last_seq(&self.conn);
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
