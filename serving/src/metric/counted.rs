//! How many events the journal has accepted in a window, and how many of them were late.

use std::collections::BTreeSet;

use contracts::model::{Domain, column};
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};

use super::check::timestamp;
use super::known::Known;
use super::sql::{Query, quote};
use super::unavailable;
use crate::question::ReadError;

/// Which events are counted.
pub(super) struct Span<'a> {
    /// Whose.
    pub(super) tenant: &'a str,
    /// From this event time on, µs.
    pub(super) from: Option<i64>,
    /// Before this event time, µs.
    pub(super) before: Option<i64>,
    /// Those only that were known.
    pub(super) known: Option<Known>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Events {
    /// Accepted events. `None` for a span without a beginning that is counted by rows: those of all time are
    /// not read for it.
    pub(super) accepted: Option<i64>,
    /// Late ones among them.
    pub(super) late: i64,
}

impl Events {
    /// These and those.
    pub(super) fn and(self, other: Self) -> Self {
        let accepted = self.accepted.zip(other.accepted).map(|(own, other)| own + other);
        Self { accepted, late: self.late + other.late }
    }
}

/// Counts the events of `families` in a span, in one statement over the rows of the span.
pub(super) fn events(
    conn: &Connection,
    domain: &Domain,
    families: &BTreeSet<usize>,
    span: &Span<'_>,
) -> Result<Events, ReadError> {
    let is_counted = span.from.is_some();
    if families.is_empty() {
        return Ok(Events { accepted: is_counted.then_some(0), late: 0 });
    }
    let mut query = Query::default();
    let late = quote(column::LATE);
    let parts: Vec<String> = families
        .iter()
        .map(|family| {
            // Where late ones alone are wanted, the statistics of the column pass over most rows.
            let (all, only) = match is_counted {
                true => (format!("count(*) as n, count(*) filter (where {late}) as l"), "true"),
                false => ("0 as n, count(*) as l".to_owned(), late.as_str()),
            };
            let table = quote(&domain.families[*family].table());
            let tenant = query.bind(SqlValue::Text(span.tenant.to_owned()));
            let mut part = format!(
                "select {all} from {table} where {only} and {} = {tenant}",
                quote(column::TENANT)
            );
            for (compare, bound) in [(">=", span.from), ("<", span.before)] {
                if let Some(bound) = bound {
                    let bound = query.bind(timestamp(bound));
                    part.push_str(&format!(" and {} {compare} {bound}", quote(column::TIME)));
                }
            }
            if let Some(known) = span.known {
                let position = query.bind(SqlValue::BigInt(known.position));
                part.push_str(&format!(" and {} <= {position}", quote(column::SEQ)));
            }
            part
        })
        .collect();
    query.text =
        format!("select sum(n)::bigint, sum(l)::bigint from ({}) c", parts.join(" union all "));
    let (accepted, late): (i64, i64) = conn
        .prepare_cached(&query.text)
        .and_then(|mut statement| {
            statement
                .query_row(params_from_iter(query.values), |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(unavailable("count the events of the window"))?;
    Ok(Events { accepted: is_counted.then_some(accepted), late })
}
