//! Answers from state: counts and sums that are kept by minute, hour and day ([`crate::state`]).
//!
//! The rest of a window, within a minute at its edges, comes from rows: by the statement that would read all of
//! it, or, where it is asked for again, from the minute's rows, which are kept ([`mod@pieces`]). What is not counts and
//! sums of what holds now is left to rows; but of distinct counts the values are kept by hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contracts::model::{Dimension, Domain, Measure, Metric, Relation, column};
use contracts::types::Type;
use duckdb::Connection;

use super::check::{LATEST, Resolved, Test};
use super::counted::Events;
use super::fetch::{fetch_columns, mean, overflow};
use super::groups::{Groups, Member, settle};
use super::proof::counted_from;
use super::{MetricEngine, pieces, sql, unavailable};
use crate::question::ReadError;
use crate::state::{Agg, Ask, Keeper, Piece, Subject, Told, Unread};
use crate::store::state::NUMBER;
use crate::value::Value;

/// State as the snapshot of a reader sees it.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    keeper: &'a Keeper,
    /// The number of the newest changes in the snapshot.
    at: i64,
}

impl MetricEngine {
    /// The number of the state, if no commit is under way; to be asked before a snapshot begins.
    pub(super) fn settled(&self) -> Option<i64> {
        self.readers().state().settled()
    }

    /// The state as of the snapshot of `conn`, which something was read in already; `before`: what
    /// [`Self::settled`] said before.
    pub(super) fn kept(
        &self,
        conn: &Connection,
        before: Option<i64>,
    ) -> Result<Kept<'_>, ReadError> {
        let keeper = self.readers().state();
        // No commit became visible in between, or the number would be another.
        let at = match before.filter(|_| before == keeper.settled()) {
            Some(at) => at,
            None => conn
                .prepare_cached(&format!("select {NUMBER}"))
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
                .map_err(unavailable("read the state of metrics"))?,
        };
        Ok(Kept { keeper, at })
    }
}

impl Kept<'_> {
    /// The values of a metric that reads rows; `None`: only rows can tell.
    pub(super) fn values(
        &self,
        conn: &Connection,
        domain: &Domain,
        metric: &Metric,
        question: &Resolved<'_>,
        limit: usize,
    ) -> Result<Option<Groups>, ReadError> {
        let Some(places) = Places::of(metric, question) else { return Ok(None) };
        let Some(ask) = places.ask(metric, question, self.at) else { return Ok(None) };
        if matches!(metric.measure, Measure::CountDistinct | Measure::Active) {
            return self.distinct(conn, domain, metric, question, &ask);
        }
        let Some(mut told) = self.keeper.tell(&ask) else { return Ok(None) };
        for edge in std::mem::take(&mut told.edges) {
            let spec = edge.of.and_then(|_| self.keeper.spec(ask.subject));
            let block = match edge.of.zip(spec) {
                Some((bucket, spec)) => {
                    pieces::block(conn, domain, metric, question, &spec, bucket)?
                        .map(|block| (bucket, Arc::new(block)))
                }
                None => None,
            };
            match block {
                Some((bucket, block)) => {
                    told.put(&block, edge.span, &ask);
                    self.keeper.hold(&ask, bucket, Piece::Rows(block));
                }
                None => told.edges.push(edge),
            }
        }
        let scale = scale(metric);
        let mut totals: BTreeMap<Vec<Member>, Total> = BTreeMap::new();
        for (key, agg) in &told.groups {
            totals.insert(
                key.clone(),
                Total::of(metric, scale, agg).ok_or_else(|| overflow(metric))?,
            );
        }
        for edge in told.edges {
            let edge = Resolved { span: Some(edge.span), as_of: None, ..question.clone() };
            let query = sql::aggregate(domain, metric, &edge, None, limit);
            let width = if matches!(metric.measure, Measure::Avg) { 2 } else { 1 };
            for (key, columns) in fetch_columns(conn, metric, query, edge.group_by.len(), width)? {
                let total = totals.entry(key).or_default();
                total.add(metric, columns).ok_or_else(|| overflow(metric))?;
            }
        }
        if question.group_by.is_empty() {
            totals.entry(Vec::new()).or_default();
        }
        let groups = totals.into_iter().take(limit);
        Ok(Some(groups.map(|(key, total)| (key, settle(metric, total.value(metric)))).collect()))
    }

    /// A distinct count over all groups.
    fn distinct(
        &self,
        conn: &Connection,
        domain: &Domain,
        metric: &Metric,
        question: &Resolved<'_>,
        ask: &Ask<'_>,
    ) -> Result<Option<Groups>, ReadError> {
        let (without, _) = ask.without;
        if !(ask.group_by.is_empty() && ask.tests.is_empty() && without.is_empty()) {
            return Ok(None);
        }
        let Some(hours) = self.keeper.hours(ask) else { return Ok(None) };
        let count = pieces::distinct(conn, domain, metric, question, self.keeper, (ask, hours))?;
        let group = |count: u64| (Vec::new(), settle(metric, Value::Int(count.into())));
        Ok(count.map(|count| Groups::from([group(count)])))
    }

    /// How many events of a family there are in a window of event time, with the spans of it that are to be
    /// counted by rows. `None`: all of it is.
    pub(super) fn events(
        &self,
        family: usize,
        question: &Resolved<'_>,
    ) -> Option<(Events, Vec<(i64, i64)>)> {
        let told = self.count(Subject::Events(family), question, &[0])?;
        let late = told.groups.get(&vec![Member::Bool(true)]).map_or(0, |agg| agg.rows);
        let accepted = told.groups.values().map(|agg| agg.rows).sum();
        Some((Events { accepted: Some(accepted), late }, spans(told.edges)))
    }

    /// How many dead letters there are in a window, likewise.
    pub(super) fn dead_letters(&self, question: &Resolved<'_>) -> Option<(i64, Vec<(i64, i64)>)> {
        let told = self.count(Subject::DeadLetters, question, &[])?;
        Some((told.groups.values().map(|agg| agg.rows).sum(), spans(told.edges)))
    }

    fn count(&self, subject: Subject, question: &Resolved<'_>, group_by: &[usize]) -> Option<Told> {
        let none = BTreeSet::new();
        let (_, to) = span(question);
        let from = counted_from(question);
        let (tenant, at) = (question.tenant, self.at);
        let without: (&[usize], _) = (&[], &none);
        self.keeper.tell(&Ask { subject, tenant, at, from, to, group_by, tests: &[], without })
    }
}

fn spans(edges: Vec<Unread>) -> Vec<(i64, i64)> {
    edges.into_iter().map(|edge| edge.span).collect()
}

/// A question in the places of its metric's dimensions.
struct Places<'a> {
    group_by: Vec<usize>,
    tests: Vec<(usize, &'a Test)>,
    without: Vec<usize>,
    without_groups: BTreeSet<Vec<Member>>,
}

impl<'a> Places<'a> {
    /// `None`: a dimension is none of the metric's own.
    fn of(metric: &Metric, question: &'a Resolved<'_>) -> Option<Self> {
        let place = |own: &Dimension| metric.dimensions.iter().position(|d| d.name == own.name);
        let places = |dimensions: &[&Dimension]| -> Option<Vec<usize>> {
            dimensions.iter().map(|dimension| place(dimension)).collect()
        };
        let tests = question.filters.iter();
        let tests = tests.map(|filter| Some((place(filter.dimension)?, &filter.test)));
        Some(Self {
            group_by: places(&question.group_by)?,
            tests: tests.collect::<Option<_>>()?,
            without: places(&question.without)?,
            without_groups: question.without_groups.iter().cloned().collect(),
        })
    }

    /// `None`: it is about other rows than those that hold now.
    fn ask<'b>(&'b self, metric: &Metric, question: &Resolved<'b>, at: i64) -> Option<Ask<'b>> {
        let (from, to) = bounds(metric, question)?;
        Some(Ask {
            subject: Subject::Metric(metric.index),
            tenant: question.tenant,
            at,
            from,
            to,
            group_by: &self.group_by,
            tests: &self.tests,
            without: (&self.without, &self.without_groups),
        })
    }
}

/// Both bounds of the window, `as_of` among them.
fn span(question: &Resolved<'_>) -> (Option<i64>, Option<i64>) {
    let ends = [question.span.map(|(_, to)| to).filter(|to| *to < LATEST), question.as_of];
    (question.start(), ends.into_iter().flatten().min())
}

/// Bounds of the window, where rows as they are now within them are all that the question is about.
fn bounds(metric: &Metric, question: &Resolved<'_>) -> Option<(Option<i64>, Option<i64>)> {
    if question.known_at.is_some() {
        return None;
    }
    let (from, to) = span(question);
    if question.as_of.is_none() {
        return Some((from, to));
    }
    // What happened before then is what lies before then, for events whose time it is.
    let by_time = |input: &contracts::model::MetricInput| {
        matches!(input.relation, Relation::Family(_)) && input.time.name == column::TIME
    };
    (from.is_some() && metric.inputs.iter().all(by_time)).then_some((from, to))
}

/// Digits after the point of the argument; `None`: it is a whole number.
fn scale(metric: &Metric) -> Option<i8> {
    metric.inputs.iter().find_map(|input| match input.arg.as_ref()?.ty {
        Type::Decimal { scale, .. } => Some(scale),
        _ => None,
    })
}

/// A count and a sum.
#[derive(Default)]
struct Total {
    n: i128,
    sum: Option<Value>,
}

impl Total {
    /// `None`: it does not fit into its type.
    fn of(metric: &Metric, scale: Option<i8>, agg: &Agg) -> Option<Self> {
        let mut total = Self { n: agg.n.into(), sum: None };
        if !matches!(metric.measure, Measure::Count) && agg.n != 0 {
            let is_double = metric
                .inputs
                .iter()
                .any(|input| input.arg.as_ref().is_some_and(|arg| arg.ty == Type::Float64));
            let sum = match (is_double, scale) {
                (true, _) => Some(Value::Float(agg.double_sum())).filter(is_finite)?,
                (false, None) => Value::Int(agg.exact_sum()),
                // Adding nothing sees that it fits.
                (false, Some(scale)) => Value::Decimal { digits: agg.exact_sum(), scale }
                    .plus(&Value::Decimal { digits: 0, scale })?,
            };
            total.sum = Some(sum);
        }
        Some(total)
    }

    /// Puts the columns of a statement to it. `None`: it does not fit.
    fn add(&mut self, metric: &Metric, columns: Vec<Value>) -> Option<()> {
        let mut columns = columns.into_iter();
        let first = columns.next().unwrap_or(Value::Null);
        match (&metric.measure, first) {
            (Measure::Count, Value::Int(n)) => self.n += n,
            (_, Value::Null) => {}
            (_, sum) => {
                self.sum = Some(match &self.sum {
                    Some(known) => known.plus(&sum)?,
                    None => sum,
                });
                self.n += match columns.next() {
                    Some(Value::Int(n)) => n,
                    // A sum is there because something is.
                    _ => 1,
                };
            }
        }
        Some(())
    }

    fn value(self, metric: &Metric) -> Value {
        match metric.measure {
            Measure::Count => Value::Int(self.n),
            Measure::Avg => mean(&self.sum.unwrap_or(Value::Null), &Value::Int(self.n)),
            _ => self.sum.unwrap_or(Value::Null),
        }
    }
}

fn is_finite(value: &Value) -> bool {
    matches!(value, Value::Float(value) if value.is_finite())
}
