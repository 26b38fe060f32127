//! Reading dead letters one page at a time.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use duckdb::{Connection, params};
use pipeline::store::{StoreError, dead_letter_schema};

use super::error::{OpenError, failed};
use super::readers::Readers;
use super::schema::{DEAD_LETTERS, Table, quoted};
use super::{StoreOptions, database, pieces, rows};

/// Which dead letters to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only this tenant's.
    pub tenant: Option<String>,
    /// Only those with this reason code.
    pub reason: Option<String>,
}

/// In which order, from where, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first, or ascending by id.
    pub newest_first: bool,
    /// Id of the last letter of the page before, if there was one.
    pub after: Option<i64>,
    /// Most letters on the page.
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { newest_first: true, after: None, limit: 100 }
    }
}

/// A rejected record as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Number in order of rejection.
    pub id: i64,
    /// Tenant.
    pub tenant: String,
    /// Arrival time, µs.
    pub arrived_at: i64,
    /// Name of the source partition.
    pub partition: String,
    /// Offset in it.
    pub offset: i64,
    /// The stage that decided.
    pub stage: String,
    /// Reason code.
    pub reason: String,
    /// The field concerned.
    pub field: Option<String>,
    /// The rule concerned.
    pub rule: Option<String>,
    /// For people.
    pub detail: String,
    /// Event id, as far as it could be read.
    pub event_id: Option<String>,
    /// Event type, as far as it could be read.
    pub event_type: Option<String>,
    /// Event time in µs, as far as it could be read.
    pub event_time: Option<i64>,
    /// Contract that it was judged by.
    pub contract: Option<String>,
    /// Version of that contract.
    pub contract_version: Option<i64>,
    /// The original bytes.
    pub payload: Vec<u8>,
    /// The record's key, if it had one.
    pub key: Option<Vec<u8>>,
    /// The record's headers as JSON text, if it had some; see
    /// [`pipeline::headers::Headers::to_json`].
    pub headers: Option<String>,
}

impl Readers {
    /// One page of dead letters.
    pub fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        page: &Page,
    ) -> Result<Vec<StoredDeadLetter>, StoreError> {
        let table = &self.tables().dead_letters;
        self.with("read dead letters", |conn| query(conn, table, filter, page))
    }
}

/// Dead letters of a data directory without its contracts, oldest first: those with an id above
/// `after`, at most `limit`. The caller holds the directory.
pub fn read_dead_letters(
    dir: &Path,
    reason: Option<&str>,
    after: Option<i64>,
    limit: usize,
) -> Result<Vec<StoredDeadLetter>, OpenError> {
    let conn = database::open(dir, &StoreOptions::default())?;
    database::check_format(&conn, dir)?;
    let table = Table::new(DEAD_LETTERS, dead_letter_schema());
    let create = table.create()?;
    let filter = DeadLetterFilter { tenant: None, reason: reason.map(str::to_owned) };
    let page = Page { newest_first: false, after, limit };
    let letters = conn
        .execute_batch(&create)
        .and_then(|()| query(&conn, &table, &filter, &page))
        .map_err(|error| failed("read dead letters", &error))?;
    Ok(letters)
}

pub(super) fn query(
    conn: &Connection,
    table: &Table,
    filter: &DeadLetterFilter,
    page: &Page,
) -> duckdb::Result<Vec<StoredDeadLetter>> {
    let (compare, order) = if page.newest_first { ("<", "desc") } else { (">", "asc") };
    let sql = format!(
        "select {} from {}
         where tenant = coalesce(?, tenant) and reason = coalesce(?, reason)
               and id {compare} coalesce(?, {})
         order by id {order} limit ?",
        table.columns,
        quoted(&table.name),
        if page.newest_first { i64::MAX } else { i64::MIN },
    );
    let params = params![filter.tenant, filter.reason, page.after, page.limit as i64];
    let rows = rows::query(conn, &sql, params, &table.schema)?;
    Ok(stored(&pieces::whole(conn, rows)?))
}

/// The rows of a batch in [`pipeline::store::dead_letter_schema`].
fn stored(batch: &RecordBatch) -> Vec<StoredDeadLetter> {
    let texts = |column: usize| batch.column(column).as_string::<i32>();
    let text = |column: usize, row: usize| texts(column).value(row).to_owned();
    let optional = |column: usize, row: usize| some(texts(column), row);
    let integers = |column: usize| batch.column(column).as_primitive::<Int64Type>();
    let bytes = |column: usize| batch.column(column).as_binary::<i32>();
    let times = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>();
    (0..batch.num_rows())
        .map(|row| StoredDeadLetter {
            id: integers(0).value(row),
            tenant: text(1, row),
            arrived_at: times(2).value(row),
            partition: text(3, row),
            offset: integers(4).value(row),
            stage: text(5, row),
            reason: text(6, row),
            field: optional(7, row),
            rule: optional(8, row),
            detail: text(9, row),
            event_id: optional(10, row),
            event_type: optional(11, row),
            event_time: times(12).is_valid(row).then(|| times(12).value(row)),
            contract: optional(13, row),
            contract_version: integers(14).is_valid(row).then(|| integers(14).value(row)),
            payload: bytes(15).value(row).to_vec(),
            key: bytes(16).is_valid(row).then(|| bytes(16).value(row).to_vec()),
            headers: optional(17, row),
        })
        .collect()
}

fn some(texts: &StringArray, row: usize) -> Option<String> {
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}
