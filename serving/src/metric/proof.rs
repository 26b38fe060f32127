//! What shows that an answer is right and current, read from the same snapshot as the answer.
//!
//! Four short statements at most: each costs DuckDB a quarter of a millisecond at rest, so nothing
//! here may scan more than the window.

use std::collections::BTreeSet;

use contracts::model::{Domain, Relation, column};
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};

use super::check::{Resolved, timestamp};
use super::sql::{Query, quote};
use super::unavailable;
use crate::question::{Proof, ReadError};

/// The proof of an answer to `question`, apart from what the cache fills in.
pub(crate) fn read(
    conn: &Connection,
    domain: &Domain,
    question: &Resolved<'_>,
) -> Result<Proof, ReadError> {
    let metric = question.metric;
    let relations = domain.graph.relations_of.get(metric.index).map_or(&[][..], Vec::as_slice);
    let families: BTreeSet<usize> = relations
        .iter()
        .filter_map(|relation| match relation {
            Relation::Family(family) => Some(*family),
            _ => None,
        })
        .collect();
    Ok(Proof {
        contract_version: metric.version,
        contract_hash: format!("{:016x}", metric.hash),
        as_of: question.as_of,
        data_through: data_through(conn)?,
        position: position(conn)?,
        exact: true,
        rejected_in_window: rejected(conn, question)?,
        late_in_window: late(conn, domain, &families, question)?,
        cached: false,
        age: 0,
    })
}

/// Highest journal sequence number in the snapshot.
pub(crate) fn position(conn: &Connection) -> Result<i64, ReadError> {
    number(conn, Query { text: "select last_seq from store_meta".to_owned(), values: Vec::new() })
}

/// Lowest watermark over the partitions that are neither idle nor empty.
fn data_through(conn: &Connection) -> Result<Option<i64>, ReadError> {
    let context = "read watermarks";
    conn.prepare_cached("select min(watermark) from source_partitions")
        .and_then(|mut statement| {
            statement.query_row([], |row| match row.get_ref(0)? {
                duckdb::types::ValueRef::Timestamp(_, micros) => Ok(Some(micros)),
                duckdb::types::ValueRef::BigInt(micros) => Ok(Some(micros)),
                _ => Ok(None),
            })
        })
        .map_err(unavailable(context))
}

/// Dead letters of the tenant in the window.
fn rejected(conn: &Connection, question: &Resolved<'_>) -> Result<i64, ReadError> {
    let mut query = Query::default();
    let tenant = query.bind(SqlValue::Text(question.tenant.to_owned()));
    let window = within(&mut query, "coalesce(event_time, arrived_at)", question);
    query.text = format!("select count(*) from dead_letters where tenant = {tenant}{window}");
    number(conn, query)
}

/// Late events of the tenant in the window, in the journals that the metric stands on.
fn late(
    conn: &Connection,
    domain: &Domain,
    families: &BTreeSet<usize>,
    question: &Resolved<'_>,
) -> Result<i64, ReadError> {
    if families.is_empty() {
        return Ok(0);
    }
    let mut query = Query::default();
    let counts: Vec<String> = families
        .iter()
        .map(|family| {
            let tenant = query.bind(SqlValue::Text(question.tenant.to_owned()));
            let window = within(&mut query, &quote(column::TIME), question);
            format!(
                "(select count(*) from {} where {} and {} = {tenant}{window})",
                quote(&domain.families[*family].table()),
                quote(column::LATE),
                quote(column::TENANT),
            )
        })
        .collect();
    query.text = format!("select {}", counts.join(" + "));
    number(conn, query)
}

/// `and <time> lies in the window`.
fn within(query: &mut Query, time: &str, question: &Resolved<'_>) -> String {
    let mut text = String::new();
    if let Some(start) = question.start() {
        text.push_str(&format!(" and {time} >= {}", query.bind(timestamp(start))));
    }
    if let Some(end) = question.as_of {
        text.push_str(&format!(" and {time} < {}", query.bind(timestamp(end))));
    }
    text
}

fn number(conn: &Connection, query: Query) -> Result<i64, ReadError> {
    conn.prepare_cached(&query.text)
        .and_then(|mut statement| {
            statement.query_row(params_from_iter(query.values), |row| row.get(0))
        })
        .map_err(unavailable("read the proof"))
}
