//! Several metrics in one answer, joined on their dimensions, over one span of time or many.
//!
//! Every value is an answer of the metric engine, from the cache where one is good: this module asks
//! and lays side by side, it computes nothing but changes. With a grain the span is cut ([`mod@cut`]) into
//! consecutive half-open windows, each a question of its own, so the values of additive metrics add up to that
//! of the whole span; in each window there is a row for each group of the series, and [`gaps`] says what stands
//! where nothing was measured.
//!
//! Start at [`read`].

mod cut;
mod gaps;
pub(crate) mod series;
mod table;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use contracts::model::Metric;

use self::cut::Grain;
use self::table::Table;
use super::rows::{Column, Row};
use crate::cache::Cache;
use crate::metric::empty_value;
use crate::question::{Filters, Group, GroupOrder, MetricAnswer, MetricQuestion, ReadError, Value};
use crate::value::time_text;

/// Most metrics of one query.
pub const MAX_METRICS: usize = 16;
/// Most windows that a span is cut into.
pub const MAX_WINDOWS: i64 = 500;
/// Most questions that one query is made of.
const MAX_QUESTIONS: i64 = 2_000;
/// Most rows of one answer.
const MAX_ROWS: usize = 10_000;

/// Longest time that one query may take: what it asks is bounded in number, not in cost.
const MAX_TIME: Duration = Duration::from_secs(15);

/// Columns of a series beside dimensions and metrics.
const START: &str = "window_start";
const END: &str = "window_end";

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsQuery {
    /// Tenant that asks.
    pub tenant: String,
    /// Metrics, in the order of their columns.
    pub metrics: Vec<String>,
    /// Dimensions to group by, each of which every metric has.
    pub dimensions: Vec<String>,
    /// What must hold of dimensions.
    pub filters: Filters,
    /// A window that each of them declares.
    pub window: Option<String>,
    /// From, µs, in place of a window.
    pub from: Option<i64>,
    /// To, µs; `None`: no end.
    pub to: Option<i64>,
    /// Length of each window of a series, as contracts write windows, or `day`, `week` or `month`.
    pub grain: Option<String>,
    /// Where days begin, as a name of the IANA database; `None`: UTC.
    pub zone: Option<String>,
    /// Only events before it have happened, µs.
    pub as_of: Option<i64>,
    /// Only what was applied by then is known, µs.
    pub known_at: Option<i64>,
    /// How old a cached answer may be, µs.
    pub max_staleness: Option<i64>,
    /// Columns to order by, each with "downwards?".
    pub order_by: Vec<(String, bool)>,
    /// So many groups are named, those that come first by the first metric that is ordered by, and all
    /// others are one.
    pub named: Option<usize>,
    /// Beside each metric its value in the window before.
    pub compare: bool,
}

/// The answer.
#[derive(Debug)]
pub struct MetricsAnswer {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Places of those that stand for groups that are not named ([`crate::question::OTHER`]), and in which
    /// dimensions.
    pub others: Vec<(usize, Vec<String>)>,
    /// Of each metric an answer that stands for all of its: with the counts of all, the oldest age and
    /// the lowest position.
    pub metrics: Vec<MetricAnswer>,
    /// Are there more groups than the contracts let out, or more rows than fit?
    pub is_truncated: bool,
}

/// The questions of a query.
#[derive(Debug)]
pub struct Planned<'a> {
    metrics: Vec<&'a Metric>,
    /// Windows of a series; one without ends otherwise.
    windows: Vec<Option<(i64, i64)>>,
    base: MetricQuestion,
    is_series: bool,
}

/// Names a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    /// By dimension: is it made of values that are not named?
    others: Vec<bool>,
    names: Vec<Option<String>>,
}

impl Key {
    fn of(group: &Group) -> Self {
        let names = group.dimensions.iter().map(|(_, text)| text.clone()).collect();
        Self { others: group.others.clone(), names }
    }

    fn is_other(&self) -> bool {
        self.others.contains(&true)
    }
}

/// The cells of a row: by metric its value and, where it is compared, the one before.
type Cells = HashMap<Key, Vec<Option<Cell>>>;

/// A value, and the one in the window before.
#[derive(Debug, Clone)]
struct Cell {
    value: Value,
    before: Option<Value>,
}

/// Checks a query and lays out its questions.
pub fn plan<'a>(cache: &'a Cache, query: &MetricsQuery) -> Result<Planned<'a>, ReadError> {
    let engine = cache.engine();
    if query.metrics.is_empty() || query.metrics.len() > MAX_METRICS {
        return Err(invalid("metrics", format!("name 1 to {MAX_METRICS} metrics")));
    }
    let mut metrics: Vec<&Metric> = Vec::with_capacity(query.metrics.len());
    for name in &query.metrics {
        let metric = engine.find_metric(name, None)?;
        if metrics.iter().any(|known| known.name == metric.name) {
            return Err(invalid("metrics", format!("`metrics` names `{name}` twice")));
        }
        metrics.push(metric);
    }
    let mut names: Vec<String> = query.dimensions.clone();
    names.extend([START.to_owned(), END.to_owned()]);
    for metric in &metrics {
        names.extend(table::columns_of(metric, query.compare).map(|(name, _)| name));
    }
    names.sort_unstable();
    if let Some(taken) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("`{}` would be the name of two columns", taken[0]);
        return Err(invalid("dimensions", message));
    }
    if query.window.is_some() && (query.from.is_some() || query.to.is_some()) {
        return Err(invalid("window", "`window` and `from` exclude each other".to_owned()));
    }
    if query.zone.is_some() && query.grain.is_none() {
        return Err(invalid(
            "zone",
            "`zone` says where the days of `grain` begin, but there is none".to_owned(),
        ));
    }
    if query.to.is_some() && query.from.is_none() {
        return Err(invalid("from", "`to` needs a `from`".to_owned()));
    }
    let end = query.to.or(query.as_of.filter(|_| query.grain.is_some()));
    if let (Some(from), Some(to)) = (query.from, end)
        && from >= to
    {
        let message = format!("from {} to {} is no span of time", time_text(from), time_text(to));
        return Err(invalid("from", message).hinted("`from` must lie before `to`"));
    }
    same_window(query, &metrics)?;
    let base = MetricQuestion {
        tenant: query.tenant.clone(),
        window: query.window.clone(),
        as_of: query.as_of,
        known_at: query.known_at,
        max_staleness: query.max_staleness,
        filters: query.filters.clone(),
        group_by: query.dimensions.clone(),
        compare: query.compare,
        ..MetricQuestion::default()
    };
    let windows = match &query.grain {
        None => vec![query.from.map(|from| (from, query.to.unwrap_or(i64::MAX - 1)))],
        Some(grain) => {
            let grain = Grain::of(grain, query.zone.as_deref())?;
            let reference = query.as_of.or(query.known_at).unwrap_or(engine.now());
            let from = match query.from {
                Some(from) => from,
                None => common_start(query, &metrics, reference)?,
            };
            grain.cut(from, query.to.or(query.as_of), reference)?.into_iter().map(Some).collect()
        }
    };
    let count = windows.len() as i64 * metrics.len() as i64;
    if count > MAX_QUESTIONS {
        let message =
            format!("{} metrics over {} windows are too many", metrics.len(), windows.len());
        return Err(invalid("grain", message));
    }
    Ok(Planned { metrics, windows, base, is_series: query.grain.is_some() })
}

/// Answers a query.
pub fn read(cache: &Cache, query: &MetricsQuery) -> Result<MetricsAnswer, ReadError> {
    let begun = Instant::now();
    let mut planned = plan(cache, query)?;
    planned.base.named = agree(cache, &planned, query)?;
    let Planned { metrics, windows, .. } = &planned;
    let mut answers: Vec<Option<MetricAnswer>> = metrics.iter().map(|_| None).collect();
    let (mut table, mut is_truncated) = (Table::new(&planned, query), false);
    let mut rows = Vec::with_capacity(windows.len());
    for window in windows {
        let mut cells = Cells::new();
        for (place, question) in planned.questions(*window).enumerate() {
            if begun.elapsed() > MAX_TIME {
                return Err(invalid("grain", format!("the query takes longer than {MAX_TIME:?}"))
                    .hinted("ask for a coarser grain, a shorter span or fewer metrics"));
            }
            let mut answer = cache.read(&question)?;
            is_truncated |= answer.groups_truncated;
            let mut put = |key: Key, value: Value, before: Option<Value>| {
                let row = cells.entry(key).or_insert_with(|| vec![None; metrics.len()]);
                row[place] = Some(Cell { value, before });
            };
            let before = answer.previous.as_ref().and_then(|previous| previous.value.clone());
            match (answer.groups.take(), &answer.value) {
                (Some(groups), _) => {
                    for group in groups {
                        put(Key::of(&group), group.value, group.previous);
                    }
                }
                (None, Some(value)) => put(Key::default(), value.clone(), before),
                (None, None) => {}
            }
            answers[place] = Some(match answers[place].take() {
                None => answer,
                Some(so_far) => together(so_far, &answer),
            });
        }
        rows.push((*window, cells));
    }
    let domain = cache.engine().domain();
    let empty = metrics.iter().map(|metric| (*metric, empty_value(domain, metric)));
    let empty: Vec<(&Metric, Value)> = empty.collect();
    if planned.is_series {
        gaps::fill(&mut rows, &empty);
    }
    for (window, cells) in rows {
        is_truncated |= table.add(window, cells, &empty);
    }
    table.order(&query.order_by)?;
    Ok(MetricsAnswer {
        columns: table.columns(metrics),
        others: table.others(),
        rows: table.rows(),
        metrics: answers.into_iter().flatten().collect(),
        // What was asked to be gathered is not missing.
        is_truncated: is_truncated && query.named.is_none(),
    })
}

/// The groups that all answers of a query name, where they would not by themselves: a row must mean the same for
/// each metric and each window. `None`: each names all that it has.
fn agree(
    cache: &Cache,
    planned: &Planned<'_>,
    query: &MetricsQuery,
) -> Result<Option<Vec<Vec<Option<String>>>>, ReadError> {
    let is_capped = |metric: &&Metric| {
        let dimensions = metric.dimensions.iter();
        dimensions
            .filter(|d| query.dimensions.contains(&d.name))
            .any(|d| d.max_cardinality.is_some())
    };
    let answers = planned.metrics.len() * planned.windows.len();
    let may_differ = answers > 1 && planned.metrics.iter().any(is_capped);
    if query.named.is_none() && (query.dimensions.is_empty() || !may_differ) {
        return Ok(None);
    }
    let first = planned.windows.first().copied().flatten();
    let last = planned.windows.last().copied().flatten();
    let whole = first.zip(last).map(|((from, _), (_, to))| (from, to));
    let ordered = query.order_by.iter().find_map(|(name, down)| {
        let place = planned.metrics.iter().position(|metric| metric.name == *name)?;
        Some((place, GroupOrder::Value { down: *down }))
    });
    let (ranking, order_by) = ordered.unwrap_or((0, GroupOrder::Dimensions));
    let mut questions: Vec<MetricQuestion> = planned.questions(whole).collect();
    questions.swap(0, ranking);
    for (place, question) in questions.into_iter().enumerate() {
        let question = MetricQuestion {
            order_by: if place == 0 { order_by } else { GroupOrder::Dimensions },
            limit: query.named,
            other: query.named.is_some(),
            compare: false,
            ..question
        };
        let answer = cache.read(&question)?;
        if answer.groups_truncated || query.named.is_some() {
            return Ok(Some(series::names(&answer)));
        }
    }
    Ok(None)
}

impl Planned<'_> {
    /// The metrics that are asked.
    pub fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().copied()
    }

    /// The first question to each metric: the others differ from it in their times.
    pub fn first_questions(&self) -> Vec<MetricQuestion> {
        self.questions(self.windows.first().copied().flatten()).collect()
    }

    /// Into how many windows is the span cut?
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    fn questions(&self, window: Option<(i64, i64)>) -> impl Iterator<Item = MetricQuestion> + '_ {
        self.metrics.iter().map(move |metric| MetricQuestion {
            metric: metric.name.clone(),
            // The version that was found answers, whatever is promoted meanwhile.
            version: Some(metric.version),
            window: if window.is_some() { None } else { self.base.window.clone() },
            span: window,
            ..self.base.clone()
        })
    }
}

/// What two answers of one metric prove together.
fn together(mut so_far: MetricAnswer, next: &MetricAnswer) -> MetricAnswer {
    let (proof, other) = (&mut so_far.proof, &next.proof);
    proof.position = proof.position.min(other.position);
    proof.data_through = proof.data_through.min(other.data_through);
    proof.rejected_in_window += other.rejected_in_window;
    proof.late_in_window += other.late_in_window;
    let events = proof.events_in_window.zip(other.events_in_window);
    proof.events_in_window = events.map(|(a, b)| a + b);
    proof.partitions = proof.partitions.max(other.partitions);
    proof.partitions_behind = proof.partitions_behind.max(other.partitions_behind);
    proof.cached &= other.cached;
    proof.exact &= other.exact;
    proof.age = proof.age.max(other.age);
    so_far.computed_at = so_far.computed_at.min(next.computed_at);
    if let (Some((from, _)), Some((_, to))) =
        (so_far.window.split_once('/'), next.window.split_once('/'))
    {
        so_far.window = format!("{from}/{to}");
    }
    so_far
}

/// Where the window that is cut begins: the one asked for, which each metric declares.
fn common_start(
    query: &MetricsQuery,
    metrics: &[&Metric],
    reference: i64,
) -> Result<i64, ReadError> {
    let Some(text) = &query.window else {
        return Err(invalid("grain", "`grain` needs a `window` or a `from`".to_owned())
            .hinted("say which span is to be cut"));
    };
    for metric in metrics {
        if !metric.windows.iter().any(|window| window.text == *text) {
            let known: Vec<String> =
                metric.windows.iter().map(|window| format!("`{}`", window.text)).collect();
            return Err(invalid(
                "window",
                format!("metric `{}` has no window `{text}`", metric.name),
            )
            .hinted(&format!("its windows are {}; or say `from` and `to`", known.join(", "))));
        }
    }
    let window = metrics.iter().flat_map(|metric| &metric.windows).find(|w| w.text == *text);
    window.and_then(|window| window.start(reference)).ok_or_else(|| {
        invalid("window", format!("window `{text}` has no length that could be cut"))
            .hinted("say `from` and `to`")
    })
}

/// Refuses a window that is not the same time for all metrics: days that begin in different zones.
fn same_window(query: &MetricsQuery, metrics: &[&Metric]) -> Result<(), ReadError> {
    let Some(text) = &query.window else { return Ok(()) };
    let declared = |metric: &&Metric| {
        let window = metric.windows.iter().find(|window| window.text == *text)?;
        Some((metric.name.clone(), window.period))
    };
    let mut windows = metrics.iter().filter_map(declared);
    let Some((first, period)) = windows.next() else { return Ok(()) };
    match windows.find(|(_, other)| *other != period) {
        None => Ok(()),
        Some((other, _)) => Err(invalid(
            "window",
            format!(
                "the window `{text}` of `{first}` and that of `{other}` begin in different zones"
            ),
        )
        .hinted("ask for each by itself, or say `from` and `to`")),
    }
}

fn invalid(parameter: &'static str, message: String) -> ReadError {
    ReadError::Invalid { message, hint: None, parameter }
}

impl ReadError {
    fn hinted(self, text: &str) -> Self {
        match self {
            Self::Invalid { message, parameter, .. } => {
                Self::Invalid { message, hint: Some(text.to_owned()), parameter }
            }
            other => other,
        }
    }
}
