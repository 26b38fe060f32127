//! Several metrics in one answer, joined on their dimensions, over one span of time or many.
//!
//! Every value is an answer of the metric engine, from the cache where one is good: this module asks
//! and lays side by side, it computes nothing. With a grain the span is cut at whole multiples of it
//! (UTC; weeks begin on Mondays) into consecutive half-open windows, each a question of its own, so the
//! values of additive metrics add up to that of the whole span.
//!
//! Start at [`read`].

mod table;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use contracts::model::Metric;

use self::table::Table;
use super::rows::{Column, Row};
use crate::cache::Cache;
use crate::question::{Filters, MetricAnswer, MetricQuestion, ReadError, Value};
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

/// A week has no whole number of days since 1970-01-01, a Thursday, to a Monday.
const WEEK: i64 = 7 * 86_400_000_000;
const MONDAY: i64 = 4 * 86_400_000_000;

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
    /// Length of each window of a series, as contracts write windows.
    pub grain: Option<String>,
    /// Only events before it have happened, µs.
    pub as_of: Option<i64>,
    /// Only what was applied by then is known, µs.
    pub known_at: Option<i64>,
    /// How old a cached answer may be, µs.
    pub max_staleness: Option<i64>,
    /// Columns to order by, each with "downwards?".
    pub order_by: Vec<(String, bool)>,
}

/// The answer.
#[derive(Debug)]
pub struct MetricsAnswer {
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Rows.
    pub rows: Vec<Row>,
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

/// A key of a row and its values, by metric.
type Cells = HashMap<Vec<Option<String>>, Vec<Option<Value>>>;

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
    let mut names: Vec<&str> = query.dimensions.iter().map(String::as_str).collect();
    names.extend([START, END]);
    if let Some(taken) = metrics.iter().find(|metric| names.contains(&metric.name.as_str())) {
        let message = format!("`{}` would be the name of two columns", taken.name);
        return Err(invalid("dimensions", message));
    }
    if query.window.is_some() && (query.from.is_some() || query.to.is_some()) {
        return Err(invalid("window", "`window` and `from` exclude each other".to_owned()));
    }
    if query.to.is_some() && query.from.is_none() {
        return Err(invalid("from", "`to` needs a `from`".to_owned()));
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
        ..MetricQuestion::default()
    };
    let windows = match &query.grain {
        None => vec![query.from.map(|from| (from, query.to.unwrap_or(i64::MAX - 1)))],
        Some(grain) => cut(engine.now(), query, &metrics, grain)?.into_iter().map(Some).collect(),
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
    let planned = plan(cache, query)?;
    let Planned { metrics, windows, .. } = &planned;
    let mut answers: Vec<Option<MetricAnswer>> = metrics.iter().map(|_| None).collect();
    let (mut table, mut is_truncated) = (Table::new(&planned, query), false);
    for window in windows {
        let mut cells = Cells::new();
        for (place, question) in planned.questions(*window).enumerate() {
            if begun.elapsed() > MAX_TIME {
                return Err(invalid("grain", format!("the query takes longer than {MAX_TIME:?}"))
                    .hinted("ask for a coarser grain, a shorter span or fewer metrics"));
            }
            let mut answer = cache.read(&question)?;
            is_truncated |= answer.groups_truncated;
            let groups = answer.groups.take();
            match (groups, &answer.value) {
                (Some(groups), _) => {
                    for group in groups {
                        let key = group.dimensions.into_iter().map(|(_, value)| value).collect();
                        put(&mut cells, key, place, metrics.len(), group.value);
                    }
                }
                (None, Some(value)) => {
                    put(&mut cells, Vec::new(), place, metrics.len(), value.clone());
                }
                (None, None) => {}
            }
            answers[place] = Some(match answers[place].take() {
                None => answer,
                Some(so_far) => together(so_far, &answer),
            });
        }
        is_truncated |= table.add(*window, cells, metrics);
    }
    table.order(&query.order_by)?;
    Ok(MetricsAnswer {
        columns: table.columns(metrics),
        rows: table.rows(),
        metrics: answers.into_iter().flatten().collect(),
        is_truncated,
    })
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

fn put(cells: &mut Cells, key: Vec<Option<String>>, place: usize, count: usize, value: Value) {
    let row = cells.entry(key).or_insert_with(|| vec![None; count]);
    row[place] = Some(value);
}

/// What two answers of one metric prove together.
fn together(mut so_far: MetricAnswer, next: &MetricAnswer) -> MetricAnswer {
    let (proof, other) = (&mut so_far.proof, &next.proof);
    proof.position = proof.position.min(other.position);
    proof.data_through = proof.data_through.min(other.data_through);
    proof.rejected_in_window += other.rejected_in_window;
    proof.late_in_window += other.late_in_window;
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

/// Consecutive half-open windows between the ends of the span.
fn cut(
    now: i64,
    query: &MetricsQuery,
    metrics: &[&Metric],
    grain: &str,
) -> Result<Vec<(i64, i64)>, ReadError> {
    let length = contracts::parse_duration(grain).filter(|length| *length >= 1_000_000);
    let Some(length) = length else {
        return Err(invalid(
            "grain",
            format!("grain `{grain}` is no duration of a second or more"),
        )
        .hinted("write it as 5m, 1h or 1d"));
    };
    let reference = query.as_of.or(query.known_at).unwrap_or(now);
    let from = match query.from {
        Some(from) => from,
        None => common_start(query, metrics, reference)?,
    };
    // Without an end the last window is the one that is under way.
    let to = query.to.or(query.as_of).unwrap_or_else(|| next(reference, length));
    if from >= to {
        return Err(invalid(
            "from",
            format!("from {} to {} is no span of time", time_text(from), time_text(to)),
        ));
    }
    if to.saturating_sub(from) / length > MAX_WINDOWS {
        return Err(invalid(
            "grain",
            format!("the span has more than {MAX_WINDOWS} windows of {grain}"),
        )
        .hinted("ask for a coarser grain or a shorter span"));
    }
    let mut windows = Vec::new();
    let mut start = from;
    while start < to {
        let end = next(start, length).min(to);
        windows.push((start, end));
        start = end;
    }
    Ok(windows)
}

/// The first multiple of `length` after `time`.
fn next(time: i64, length: i64) -> i64 {
    let origin = if length % WEEK == 0 { MONDAY } else { 0 };
    let since = time.saturating_sub(origin);
    since.div_euclid(length).saturating_add(1).saturating_mul(length).saturating_add(origin)
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
