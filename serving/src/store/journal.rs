//! Reading the journal: in order for followers, counted for reports.

use arrow::array::RecordBatch;
use duckdb::{Connection, params};
use pipeline::store::{CountsByReason, Journal, PartitionState, StoreError};

use super::readers::Readers;
use super::schema::{Table, quoted};
use super::{bookkeeping, rows};

impl Journal for Readers {
    fn last_seq(&self) -> Result<i64, StoreError> {
        self.with("read the journal's end", bookkeeping::last_seq)
    }

    fn rows(
        &self,
        family: usize,
        after: i64,
        until: i64,
        max_rows: usize,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let table = &self.tables().families[family];
        let context = format!("read journal `{}`", table.name);
        self.snapshot(&context, |conn| {
            let until = until.min(bookkeeping::last_seq(conn)?);
            ranges(conn, table, after, until, max_rows)
        })
    }

    fn dead_letters(&self, after: i64, max_rows: usize) -> Result<Vec<RecordBatch>, StoreError> {
        let table = &self.tables().dead_letters;
        let sql = format!(
            "select {} from {} where id > ? order by id limit ?",
            table.columns,
            quoted(&table.name)
        );
        let batch = self.with("read dead letters", |conn| {
            rows::query(conn, &sql, params![after, max_rows as i64], &table.schema)
        })?;
        Ok(if batch.num_rows() == 0 { Vec::new() } else { vec![batch] })
    }

    fn last_dead_letter(&self, known: i64) -> Result<i64, StoreError> {
        // The bound stands in the text because DuckDB skips row groups by constants.
        let table = quoted(&self.tables().dead_letters.name);
        let sql = format!("select coalesce(max(id), {known}) from {table} where id > {known}");
        self.with("read the end of the dead letters", |conn| {
            conn.query_row(&sql, [], |row| row.get(0))
        })
    }
}

/// Rows of a family with `after < _seq <= until` in batches of ascending `_seq`.
///
/// Sequence numbers are dense over all families, so a range of `n` numbers holds at most `n` rows
/// of this one: the work is cut into ranges, not into `limit`s, which DuckDB could only answer by
/// looking at all the rest. The last range may hold more rows than are still wanted: fewer, larger
/// queries matter more than an exact count. Where the family has no row for a long while the next
/// one is looked up.
fn ranges(
    conn: &Connection,
    table: &Table,
    after: i64,
    until: i64,
    max_rows: usize,
) -> duckdb::Result<Vec<RecordBatch>> {
    let name = quoted(&table.name);
    let next = |after: i64| -> duckdb::Result<Option<i64>> {
        let sql = format!("select min(_seq) from {name} where _seq > {after} and _seq <= {until}");
        conn.query_row(&sql, [], |row| row.get(0))
    };
    let mut found = Vec::new();
    let mut count = 0;
    let mut start = after;
    while start < until && count < max_rows {
        let end = until.min(start.saturating_add(max_rows as i64));
        let batch = between(conn, table, start, end)?;
        start = end;
        if batch.num_rows() > 0 {
            count += batch.num_rows();
            found.push(batch);
        } else {
            match next(start)? {
                Some(seq) => start = seq - 1,
                None => break,
            }
        }
    }
    Ok(found)
}

/// Rows of a journal table with `after < _seq <= until`, ascending by `_seq`.
pub(super) fn between(
    conn: &Connection,
    table: &Table,
    after: i64,
    until: i64,
) -> duckdb::Result<RecordBatch> {
    // The bounds stand in the text because DuckDB skips row groups by constants.
    let sql = format!(
        "select {} from {} where _seq > {after} and _seq <= {until} order by _seq",
        table.columns,
        quoted(&table.name)
    );
    rows::query_once(conn, &sql, [], &table.schema)
}

impl Readers {
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
