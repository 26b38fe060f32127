//! Reading the journal: in order for followers, counted for reports.

use arrow::array::RecordBatch;
use duckdb::Connection;
use pipeline::source::Limits;
use pipeline::store::{
    CountsByReason, INGEST_ROW, Journal, JournalRows, Ledger, LedgerPartition, PartitionState,
    StoreError,
};

use super::error::refused;
use super::readers::Readers;
use super::schema::{Table, quoted};
use super::trimmed::Trimmed;
use super::{bookkeeping, pieces, rows};

impl Journal for Readers {
    fn last_seq(&self) -> Result<i64, StoreError> {
        self.with("read the journal's end", bookkeeping::last_seq)
    }

    fn rows(
        &self,
        family: usize,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<JournalRows, StoreError> {
        let table = &self.tables().families[family];
        let context = format!("read journal `{}`", table.name);
        let gone = |trimmed: &Trimmed| trimmed.families.get(&table.name).map_or(0, |f| f.seq);
        let stretch = self.snapshot(&context, |conn| {
            let until = until.min(bookkeeping::last_seq(conn)?);
            stretch(conn, (table, "_seq"), after, until, limits, |start, end| {
                Ok((between(conn, (table, "_seq"), start, end)?, end))
            })
        })?;
        self.whole(&context, after, gone)?;
        Ok(stretch)
    }

    fn dead_letters(
        &self,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let table = &self.tables().dead_letters;
        let stretch = self.snapshot("read dead letters", |conn| {
            let until = until.min(highest(conn, (table, "id"), after)?);
            stretch(conn, (table, "id"), after, until, limits, |start, mut end| {
                while end - start > 1 && pieces::bytes(conn, start, end)? > limits.bytes {
                    end = start + (end - start) / 2;
                }
                Ok((pieces::whole(conn, between(conn, (table, "id"), start, end)?)?, end))
            })
        })?;
        self.whole("read dead letters", after, |trimmed| trimmed.dead_letter)?;
        Ok(stretch.batches)
    }

    fn last_dead_letter(&self, known: i64) -> Result<i64, StoreError> {
        let table = &self.tables().dead_letters;
        self.with("read the end of the dead letters", |conn| highest(conn, (table, "id"), known))
    }

    fn ingest(&self, after: i64, until: i64, limits: Limits) -> Result<JournalRows, StoreError> {
        let table = &self.tables().ingest;
        let stretch = self.snapshot("read `ingest`", |conn| {
            let until = until.min(highest(conn, (table, INGEST_ROW), after)?);
            stretch(conn, (table, INGEST_ROW), after, until, limits, |start, end| {
                Ok((between(conn, (table, INGEST_ROW), start, end)?, end))
            })
        })?;
        self.whole("read `ingest`", after, |trimmed| trimmed.ingest_row)?;
        Ok(stretch)
    }

    fn ledger(&self, known: Option<&Ledger>) -> Result<Ledger, StoreError> {
        let tables = self.tables();
        let known = known.map_or((0, 0), |known| (known.last_ingest, known.last_dead_letter));
        self.snapshot("read the ledger", |conn| {
            let mut by_reason = bookkeeping::counts_by_partition(conn)?;
            let partitions = bookkeeping::partitions(conn, None)?.into_iter().map(|state| {
                let by_reason = by_reason.remove(&state.id).unwrap_or_default();
                LedgerPartition { state, by_reason }
            });
            Ok(Ledger {
                partitions: partitions.collect(),
                last_seq: bookkeeping::last_seq(conn)?,
                last_ingest: highest(conn, (&tables.ingest, INGEST_ROW), known.0)?,
                last_dead_letter: highest(conn, (&tables.dead_letters, "id"), known.1)?,
            })
        })
    }
}

/// Highest position in a table, or `known` when none is higher.
fn highest(
    conn: &Connection,
    (table, position): (&Table, &str),
    known: i64,
) -> duckdb::Result<i64> {
    // The bound stands in the text because DuckDB skips row groups by constants.
    let name = quoted(&table.name);
    let sql =
        format!("select coalesce(max({position}), {known}) from {name} where {position} > {known}");
    conn.query_row(&sql, [], |row| row.get(0))
}

/// Rows read first, and most that are read at a time: a row may be much longer than those before it.
const STEP: std::ops::RangeInclusive<i64> = 256..=4_096;

/// Rows of a table with `after < position <= until` in batches that ascend by their position.
///
/// Positions are dense over all tables that share them, so a range of `n` of them holds at most `n`
/// rows: the work is cut into ranges, not into `limit`s, which DuckDB could only answer by looking at
/// all the rest. Where there is no row for a long while the next one is looked up. Ranges grow and
/// shrink with the rows that were found in them; `read` may take less of one than it is asked for.
fn stretch(
    conn: &Connection,
    (table, position): (&Table, &str),
    after: i64,
    until: i64,
    limits: Limits,
    read: impl Fn(i64, i64) -> duckdb::Result<(RecordBatch, i64)>,
) -> duckdb::Result<JournalRows> {
    let name = quoted(&table.name);
    let next = |after: i64| -> duckdb::Result<Option<i64>> {
        let sql = format!(
            "select min({position}) from {name}
             where {position} > {after} and {position} <= {until}"
        );
        conn.query_row(&sql, [], |row| row.get(0))
    };
    let mut found = JournalRows { batches: Vec::new(), reached: after };
    let (mut count, mut bytes) = (0, 0);
    let mut step = *STEP.start();
    while found.reached < until && (count == 0 || count < limits.records && bytes < limits.bytes) {
        let left = i64::try_from(limits.records.saturating_sub(count)).unwrap_or(i64::MAX);
        let end = until.min(found.reached.saturating_add(step.min(left.max(1))));
        let (batch, end) = read(found.reached, end)?;
        found.reached = end;
        if batch.num_rows() == 0 {
            found.reached = next(end)?.map_or(until, |position| position - 1);
            continue;
        }
        let size = batch.get_array_memory_size();
        if size < limits.bytes / 8 {
            step = (step * 2).min(*STEP.end());
        } else if size > limits.bytes / 2 {
            step = (step / 2).max(1);
        }
        count += batch.num_rows();
        bytes += size;
        found.batches.push(batch);
    }
    Ok(found)
}

/// Rows of a table with `after < position <= until`, ascending by it.
pub(super) fn between(
    conn: &Connection,
    (table, position): (&Table, &str),
    after: i64,
    until: i64,
) -> duckdb::Result<RecordBatch> {
    // The bounds stand in the text because DuckDB skips row groups by constants.
    let sql = format!(
        "select {} from {}
         where {position} > {after} and {position} <= {until} order by {position}",
        table.columns,
        quoted(&table.name)
    );
    rows::query_once(conn, &sql, [], &table.schema)
}

impl Readers {
    /// Refuses a follower that begins before what the journal still holds: it would miss rows and not
    /// know it. Asked after its rows were read, so nothing can have been given up in between.
    fn whole(
        &self,
        context: &str,
        after: i64,
        gone: impl Fn(&Trimmed) -> i64,
    ) -> Result<(), StoreError> {
        match self.trimmed().map_or(0, |trimmed| gone(&trimmed)) {
            // Positions begin at 1; a publisher that has none yet begins at -1.
            gone if after.max(0) < gone => Err(refused(
                context,
                format!(
                    "rows from position {} to {gone} are in the lake only, the journal has given \
                     them up: make the store anew with `agentflow rebuild --from lake --replace`",
                    after + 1
                ),
            )),
            _ => Ok(()),
        }
    }

    /// All source partitions, by id.
    pub fn partitions(&self) -> Result<Vec<PartitionState>, StoreError> {
        self.with("read partitions", |conn| bookkeeping::partitions(conn, None))
    }

    /// Counts over all partitions, by outcome and reason.
    pub fn counts_by_reason(&self) -> Result<CountsByReason, StoreError> {
        self.with("read counts", bookkeeping::counts_by_reason)
    }

    /// Rows in the journal, one count per family.
    pub fn journal_rows(&self) -> Result<Vec<u64>, StoreError> {
        self.row_counts("count journal rows", &self.tables().families)
    }

    /// Rows of each entity.
    pub fn entity_rows(&self) -> Result<Vec<u64>, StoreError> {
        self.row_counts("count entity rows", &self.tables().entities)
    }

    fn row_counts(&self, context: &str, tables: &[Table]) -> Result<Vec<u64>, StoreError> {
        self.snapshot(context, |conn| {
            let count = |table: &Table| {
                let sql = format!("select count(*) from {}", quoted(&table.name));
                conn.query_row(&sql, [], |row| row.get(0))
            };
            tables.iter().map(count).collect()
        })
    }
}
