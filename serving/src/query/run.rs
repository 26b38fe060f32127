//! Runs guarded statements: in one read-only snapshot, within limits of time, rows, bytes and number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use duckdb::Connection;
use pipeline::store::StoreError;

use super::beyond;
use super::guard::{Guarded, Refusal, Source};
use super::plan::{SqlPlan, Whose, plan_text};
use super::rows::{Column, Row, Shapes};
use crate::question::ReadError;
use crate::store::{self, Readers};

/// Rows are counted no further than this.
const COUNTED: u64 = 10_000;

/// Limits of callers' statements.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Longest time that a statement may take; it is interrupted then.
    pub time: Duration,
    /// Most statements at once. Fewer than the store's read connections, so that metrics and entities
    /// never wait for somebody's SQL.
    pub at_once: usize,
    /// Most bytes of one page, as JSON, roughly.
    pub page_bytes: usize,
    /// Most series of metrics at once: each is hundreds of reads. Fewer than the store's read connections, too.
    pub series_at_once: usize,
    /// How long a series waits for those before it.
    pub series_wait: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            at_once: 2,
            page_bytes: 4 << 20,
            series_at_once: 2,
            series_wait: Duration::from_secs(10),
        }
    }
}

/// Runs callers' statements. Clones share the number of those under way.
#[derive(Clone)]
pub struct Queries {
    readers: Readers,
    limits: QueryLimits,
    running: Arc<AtomicUsize>,
    series: Arc<Places>,
}

/// Why a statement has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not let through, or DuckDB finds fault with it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It was interrupted.
    #[error("the statement was stopped after the time limit of {} s", limit.as_secs_f64())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It needs more memory than the store has, or one row is larger than a page.
    #[error("{0}")]
    TooLarge(String),
    /// Enough others run.
    #[error("{0} statements are under way, and no more run at once")]
    Busy(usize),
    /// Enough series are under way, and none of them ended in time.
    #[error("{0} series are under way, and no more are read at once")]
    BusyWithSeries(usize),
    /// What only the lake has cannot be had, or not within the limits.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store cannot answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A page of an answer.
#[derive(Debug)]
pub struct RowPage {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Rows.
    pub rows: Vec<Row>,
    /// How many rows there are in all; `None` beyond 10,000.
    pub total: Option<u64>,
    /// Is there another page?
    pub has_more: bool,
}

impl Queries {
    /// Over the store that `readers` read.
    pub fn new(readers: Readers, limits: QueryLimits) -> Self {
        Self { readers, limits, running: Arc::default(), series: Arc::default() }
    }

    /// The limits.
    pub fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// A place among the series that are read at once, kept until it is dropped. Waits for one: a page
    /// of charts asks for several.
    pub(crate) fn place_for_series(&self) -> Result<Place<'_>, QueryError> {
        let QueryLimits { series_at_once: most, series_wait, .. } = self.limits;
        self.series.take(most, series_wait).ok_or(QueryError::BusyWithSeries(most))
    }

    /// At most `limit` rows from row `offset` on.
    pub fn page(
        &self,
        statement: &Guarded,
        limit: u64,
        offset: u64,
    ) -> Result<RowPage, QueryError> {
        self.run(|conn| self.fetch(conn, statement, limit, offset))
    }

    /// The same over all rows that there ever were: what the journal has given up is read from the lake
    /// into a private database, with what the store has of the other relations, and the statement runs
    /// there.
    pub fn page_with_lake(
        &self,
        statement: &Guarded,
        limit: u64,
        offset: u64,
    ) -> Result<RowPage, QueryError> {
        if !self.has_given_up(statement) {
            return self.page(statement, limit, offset);
        }
        self.run(|conn| match beyond::database(conn, &self.readers, statement, self.limits.time)? {
            Some(database) => self.fetch(&database, statement, limit, offset),
            None => self.fetch(conn, statement, limit, offset),
        })
    }

    /// Has the journal given up rows of a relation of the statement?
    pub fn has_given_up(&self, statement: &Guarded) -> bool {
        let Some(trimmed) = self.readers.trimmed() else { return false };
        let domain = self.readers.domain();
        statement.relations.iter().any(|relation| match relation.source {
            Source::Family(family) => {
                trimmed.families.contains_key(&domain.families[family].table())
            }
            Source::Entity(_) => false,
        })
    }

    /// How DuckDB would run it. Nothing is run.
    pub fn explain(&self, statement: &Guarded, whose: Whose<'_>) -> Result<SqlPlan, QueryError> {
        let domain = self.readers.domain();
        let tables = statement.relations.iter().map(|relation| match relation.source {
            Source::Family(family) => domain.families[family].table(),
            Source::Entity(entity) => domain.entities[entity].table(),
        });
        self.explain_ours(&statement.sql(), &tables.collect::<Vec<_>>(), whose)
    }

    /// The same of a statement over `tables` that this crate wrote itself.
    pub(crate) fn explain_ours(
        &self,
        sql: &str,
        tables: &[String],
        whose: Whose<'_>,
    ) -> Result<SqlPlan, QueryError> {
        self.run(|conn| {
            let text = plan_text(conn, &format!("explain {sql}"))?;
            let json = plan_text(conn, &format!("explain (format json) {sql}"))?;
            let plan = SqlPlan::of(text, &json);
            match whose {
                Whose::All => Ok(plan),
                Whose::Tenant(tenant) => Ok(plan.of_tenant(conn, tables, tenant)?),
            }
        })
    }

    fn run<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, QueryError> {
        let _slot = self.slot()?;
        let limit = self.limits.time;
        let begun = Instant::now();
        let result = self.readers.snapshot_within("run a statement", limit, read)?;
        result.map_err(|fault| fault.told(limit, begun))
    }

    fn slot(&self) -> Result<Slot<'_>, QueryError> {
        let most = self.limits.at_once;
        let taken = self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| {
            (running < most).then_some(running + 1)
        });
        match taken {
            Ok(_) => Ok(Slot(&self.running)),
            Err(running) => Err(QueryError::Busy(running)),
        }
    }

    fn fetch(
        &self,
        conn: &Connection,
        statement: &Guarded,
        limit: u64,
        offset: u64,
    ) -> Result<RowPage, Fault> {
        // One more than is shown, to see that there are more.
        let mut prepared = conn.prepare(&statement.paged(limit + 1, offset))?;
        let _ = prepared.stream_arrow([])?;
        let shapes = Shapes::of(&prepared.schema());
        let mut rows: Vec<Row> = Vec::new();
        let (mut bytes, mut is_cut) = (0, false);
        'chunks: while let Some(chunk) = prepared.step()? {
            let columns = shapes.conform(chunk.columns()).map_err(Fault::Shape)?;
            for place in 0..arrow::array::Array::len(&chunk) {
                let row = shapes.row(&columns, place);
                bytes += row.bytes();
                if rows.len() as u64 == limit
                    || (bytes > self.limits.page_bytes && !rows.is_empty())
                {
                    is_cut = true;
                    break 'chunks;
                }
                if bytes > self.limits.page_bytes {
                    return Err(Fault::RowTooLarge(bytes, self.limits.page_bytes));
                }
                rows.push(row);
            }
        }
        drop(prepared);
        let seen = offset.saturating_add(rows.len() as u64);
        let total = match is_cut || (rows.is_empty() && offset > 0) {
            false => Some(seen),
            true => {
                let sql = statement.counted(COUNTED + 1);
                Some(conn.query_row(&sql, [], |row| row.get::<_, u64>(0))?)
            }
        };
        let total = total.filter(|total| *total <= COUNTED);
        Ok(RowPage { columns: shapes.columns(), rows, total, has_more: is_cut })
    }
}

/// Places that are waited for.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<usize>,
    left: Condvar,
}

/// One of them.
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    fn take(&self, most: usize, wait: Duration) -> Option<Place<'_>> {
        // A panic elsewhere leaves a whole number.
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| *taken >= most;
        let waited = self.left.wait_timeout_while(taken, wait, is_full);
        let (mut taken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}

/// One of the statements that may run at once.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What went wrong while a statement ran.
pub(super) enum Fault {
    DuckDb(duckdb::Error),
    Read(ReadError),
    Shape(arrow::error::ArrowError),
    RowTooLarge(usize, usize),
}

impl From<duckdb::Error> for Fault {
    fn from(error: duckdb::Error) -> Self {
        Self::DuckDb(error)
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl Fault {
    fn told(self, limit: Duration, begun: Instant) -> QueryError {
        let error = match self {
            Self::DuckDb(error) => error,
            Self::Read(ReadError::Beyond { message, cause, .. }) => {
                let hint = "leave `lake` out to read what the journal still has".to_owned();
                return ReadError::Beyond { message, cause, hint }.into();
            }
            Self::Read(error) => return error.into(),
            Self::Shape(error) => {
                return Refusal::invalid(format!("a value cannot be shown: {error}")).into();
            }
            Self::RowTooLarge(bytes, most) => {
                return QueryError::TooLarge(format!(
                    "one row has {bytes} bytes, a page may have {most}"
                ));
            }
        };
        if store::is_interrupted(&error) {
            return QueryError::TimedOut { limit };
        }
        let message = store::duckdb_message(&error);
        if message.starts_with("Out of Memory Error") {
            return QueryError::TooLarge(
                "the statement needs more memory than there is".to_owned(),
            );
        }
        // Whatever ends after the limit was ended by it.
        if begun.elapsed() > limit + Duration::from_secs(1) {
            return QueryError::TimedOut { limit };
        }
        match callers_fault(&message) {
            Some(words) => Refusal::invalid(words).into(),
            None => store::failed("run a statement", &error).into(),
        }
    }
}

/// DuckDB's words where the statement is at fault: the first line, which says what is wrong. What
/// follows shows the text that DuckDB was given, which is not the caller's.
fn callers_fault(message: &str) -> Option<String> {
    let kinds = [
        "Binder Error: ",
        "Catalog Error: ",
        "Conversion Error: ",
        "Invalid Input Error: ",
        "Mismatch Type Error: ",
        "Not implemented Error: ",
        "Out of Range Error: ",
        "Parser Error: ",
        "Invalid Error: ",
    ];
    let words = kinds.iter().find_map(|kind| message.strip_prefix(kind))?;
    let line = words.lines().next().unwrap_or_default().trim();
    Some(line.chars().take(300).collect())
}
