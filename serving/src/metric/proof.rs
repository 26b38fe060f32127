//! What shows that an answer is right and current, read from the same snapshot as the answer.
//!
//! One short statement where the state of metrics has the counts, and two more where it does not: each costs
//! DuckDB a quarter of a millisecond at rest, so nothing here may scan more than the window.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Domain, Metric, Relation};
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};
use pipeline::store::data_through;

use super::check::{Resolved, timestamp};
use super::counted::{self, Events};
use super::kept::Kept;
use super::known::Known;
use super::sql::Query;
use super::unavailable;
use crate::question::{Proof, ReadError};
use crate::state::MINUTE;

/// Where events and dead letters are counted.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    /// Events, and late ones among them.
    pub(crate) late: &'a Connection,
    /// Late events that the journal has given up and that are counted nowhere else.
    pub(crate) late_before: i64,
    /// Dead letters.
    pub(crate) rejected: &'a Connection,
    /// Dead letters that the store has given up and that are counted nowhere else.
    pub(crate) rejected_before: i64,
    /// State that has them counted.
    pub(crate) kept: Option<Kept<'a>>,
}

impl<'a> Counted<'a> {
    /// All in the store.
    pub(crate) fn in_store(conn: &'a Connection, kept: Kept<'a>) -> Self {
        Self { late: conn, late_before: 0, rejected: conn, rejected_before: 0, kept: Some(kept) }
    }
}

impl Counted<'_> {
    /// Dead letters of the tenant in the window.
    fn rejected(&self, question: &Resolved<'_>) -> Result<i64, ReadError> {
        let kept = self.kept.filter(|_| question.known_at.is_none());
        let Some((inside, edges)) = kept.and_then(|kept| kept.dead_letters(question)) else {
            return rejected(self.rejected, question);
        };
        let edges =
            edges.into_iter().map(|edge| rejected(self.rejected, &within_span(question, edge)));
        edges.sum::<Result<i64, _>>().map(|edges| inside + edges)
    }

    /// Events of the tenant in the window, in the journals that the metric stands on.
    fn events(
        &self,
        domain: &Domain,
        families: &BTreeSet<usize>,
        question: &Resolved<'_>,
        known: Option<Known>,
    ) -> Result<Events, ReadError> {
        let kept = self.kept.filter(|_| question.known_at.is_none());
        let ends = [question.span.map(|(_, to)| to), question.as_of];
        let whole = (counted_from(question), ends.into_iter().flatten().min());
        let mut sum = Events { accepted: Some(0), late: 0 };
        let mut by_rows: BTreeMap<(Option<i64>, Option<i64>), BTreeSet<usize>> = BTreeMap::new();
        for family in families {
            let spans = match kept.and_then(|kept| kept.events(*family, question)) {
                Some((events, edges)) => {
                    sum = sum.and(events);
                    edges.into_iter().map(|(from, to)| (Some(from), Some(to))).collect()
                }
                None => vec![whole],
            };
            for span in spans {
                by_rows.entry(span).or_default().insert(*family);
            }
        }
        for ((from, before), families) in by_rows {
            let span = counted::Span { tenant: question.tenant, from, before, known };
            sum = sum.and(counted::events(self.late, domain, &families, &span)?);
        }
        Ok(sum)
    }
}

/// From when on events and dead letters are counted: the beginning of the minute in which the window begins, so that
/// counting reads no rows where the counts of minutes are kept.
pub(super) fn counted_from(question: &Resolved<'_>) -> Option<i64> {
    Some(question.start()?.div_euclid(MINUTE).saturating_mul(MINUTE))
}

/// The families whose events are counted: those that the metric stands on.
pub(super) fn counted_families(domain: &Domain, metric: &Metric) -> BTreeSet<usize> {
    let relations = domain.graph.relations_of.get(metric.index).map_or(&[][..], Vec::as_slice);
    let families = relations.iter().flat_map(|relation| match relation {
        Relation::Family(family) => *family..*family + 1,
        // It stands on records of all.
        Relation::Ingest => 0..domain.families.len(),
        Relation::Entity(_) => 0..0,
    });
    families.collect()
}

/// The question about another span of time.
fn within_span<'a>(question: &Resolved<'a>, span: (i64, i64)) -> Resolved<'a> {
    Resolved { span: Some(span), as_of: None, ..question.clone() }
}

/// The proof of an answer to `question`, apart from what the cache fills in.
pub(crate) fn read(
    domain: &Domain,
    question: &Resolved<'_>,
    known: Option<Known>,
    counted: Counted<'_>,
    progress: Progress,
) -> Result<Proof, ReadError> {
    let metric = question.metric;
    let families = counted_families(domain, metric);
    let events = counted.events(domain, &families, question, known)?;
    Ok(Proof {
        contract_version: metric.version,
        contract_hash: format!("{:016x}", metric.hash),
        as_of: question.as_of,
        known_at: question.known_at,
        // Where the watermarks were then is not kept.
        data_through: if known.is_some() { None } else { progress.data_through },
        position: known.map_or(progress.position, |known| known.position.min(progress.position)),
        // The engine says so where a part of it is estimated.
        partitions: progress.partitions,
        // Only the sources know.
        partitions_behind: 0,
        exact: true,
        error_bounds: Vec::new(),
        rejected_in_window: counted.rejected(question)? + counted.rejected_before,
        events_in_window: events.accepted,
        late_in_window: events.late + counted.late_before,
        cached: false,
        age: 0,
    })
}

/// What the source partitions say in the snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Highest journal sequence number.
    pub(crate) position: i64,
    /// See [`data_through`].
    pub(crate) data_through: Option<i64>,
    /// Number of source partitions.
    pub(crate) partitions: usize,
}

/// How far the store has come.
pub(crate) fn progress(conn: &Connection, now: i64) -> Result<Progress, ReadError> {
    let rows = conn
        .prepare_cached("select last_seq, watermark, updated_at from source_partitions")
        .and_then(|mut statement| {
            let rows = statement
                .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect::<duckdb::Result<Vec<_>>>()
        })
        .map_err(unavailable("read source positions"))?;
    Ok(Progress {
        partitions: rows.len(),
        position: rows.iter().map(|(last_seq, ..)| *last_seq).max().unwrap_or(0),
        data_through: data_through(rows.iter().map(|(_, mark, at)| (*mark, *at)), now),
    })
}

/// Dead letters of the tenant in the window.
fn rejected(conn: &Connection, question: &Resolved<'_>) -> Result<i64, ReadError> {
    let mut query = Query::default();
    let tenant = query.bind(SqlValue::Text(question.tenant.to_owned()));
    let mut window = within(&mut query, "coalesce(event_time, arrived_at)", question);
    if let Some(known_at) = question.known_at {
        window.push_str(&format!(" and arrived_at <= {}", query.bind(timestamp(known_at))));
    }
    query.text = format!("select count(*) from dead_letters where tenant = {tenant}{window}");
    number(conn, query)
}

/// `and <time> lies in the window`.
fn within(query: &mut Query, time: &str, question: &Resolved<'_>) -> String {
    let mut text = String::new();
    if let Some(start) = counted_from(question) {
        text.push_str(&format!(" and {time} >= {}", query.bind(timestamp(start))));
    }
    for end in [question.span.map(|(_, to)| to), question.as_of].into_iter().flatten() {
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
