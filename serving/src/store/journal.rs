//! Reading the journal: in order for followers, counted for reports.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use duckdb::Connection;
use pipeline::source::Limits;
use pipeline::store::{CountsByReason, Journal, JournalRows, PartitionState, StoreError};

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
        limits: Limits,
    ) -> Result<JournalRows, StoreError> {
        let table = &self.tables().families[family];
        let context = format!("read journal `{}`", table.name);
        self.snapshot(&context, |conn| {
            let until = until.min(bookkeeping::last_seq(conn)?);
            ranges(conn, table, after, until, limits)
        })
    }

    fn dead_letters(&self, after: i64, limits: Limits) -> Result<Vec<RecordBatch>, StoreError> {
        let table = &self.tables().dead_letters;
        let name = quoted(&table.name);
        let batch = self.snapshot("read dead letters", |conn| {
            let page = format!(
                "select id as place, {} as bytes from {name} where id > {after} order by id limit {}",
                bytes(table),
                limits.records
            );
            let Some(last) = fitting(conn, &page, limits.bytes)? else {
                return Ok(RecordBatch::new_empty(Arc::clone(&table.schema)));
            };
            let sql = format!(
                "select {} from {name} where id > {after} and id <= {last} order by id",
                table.columns,
            );
            rows::query_once(conn, &sql, [], &table.schema)
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
/// one is looked up. Bytes are counted before they are read: rows can be of any size.
fn ranges(
    conn: &Connection,
    table: &Table,
    after: i64,
    until: i64,
    limits: Limits,
) -> duckdb::Result<JournalRows> {
    let name = quoted(&table.name);
    let length = bytes(table);
    let next = |after: i64| -> duckdb::Result<Option<i64>> {
        let sql = format!("select min(_seq) from {name} where _seq > {after} and _seq <= {until}");
        conn.query_row(&sql, [], |row| row.get(0))
    };
    let mut found = JournalRows { batches: Vec::new(), reached: after };
    let (mut count, mut left) = (0, limits.bytes);
    let step = i64::try_from(limits.records.max(1)).unwrap_or(i64::MAX);
    while found.reached < until && count < limits.records {
        let start = found.reached;
        let mut end = until.min(start.saturating_add(step));
        let range = format!("from {name} where _seq > {start} and _seq <= {end}");
        let total: Option<i64> =
            conn.query_row(&format!("select sum({length})::bigint {range}"), [], |row| row.get(0))?;
        let Some(total) = total else {
            // At the end of the stretch, or before the family's next row.
            found.reached = next(end)?.map_or(until, |seq| seq - 1);
            continue;
        };
        let mut total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > left {
            if count > 0 {
                break;
            }
            let page = format!("select _seq as place, {length} as bytes {range}");
            end = fitting(conn, &page, left)?.unwrap_or(end);
            total = left;
        }
        let batch = between(conn, table, start, end)?;
        found.reached = end;
        count += batch.num_rows();
        left -= total;
        found.batches.push(batch);
    }
    Ok(found)
}

/// Bytes of a row of the table, as an expression: what has no fixed length is counted.
fn bytes(table: &Table) -> String {
    let fields = table.schema.fields();
    let fixed = 8 * fields.len();
    let lengths = fields.iter().filter_map(|field| match field.data_type() {
        DataType::Utf8 => Some(format!(" + coalesce(strlen({}), 0)", quoted(field.name()))),
        DataType::Binary => Some(format!(" + coalesce(octet_length({}), 0)", quoted(field.name()))),
        _ => None,
    });
    format!("({fixed}{})", lengths.collect::<String>())
}

/// The last of the rows `page` (`place`, `bytes`), ascending by `place`, that lies within `limit` bytes
/// together with all before it; the first one in any case. `None`: there are no rows.
fn fitting(conn: &Connection, page: &str, limit: usize) -> duckdb::Result<Option<i64>> {
    let sql = format!(
        "select max(place) from (
             select place, sum(bytes) over ascending as total, row_number() over ascending as number
             from ({page}) window ascending as (order by place rows unbounded preceding)
         ) where total <= {limit} or number = 1"
    );
    conn.query_row(&sql, [], |row| row.get(0))
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
