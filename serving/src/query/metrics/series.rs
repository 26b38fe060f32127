//! One metric as a series: its answer over the whole window, and one for each part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use contracts::model::{Domain, Measure, Metric};

use super::cut::Grain;
use super::{Key, MAX_ROWS, MAX_TIME, gaps, invalid, together};
use crate::cache::Cache;
use crate::metric::empty_value;
use crate::question::{Group, GroupOrder, MetricAnswer, MetricQuestion, Proof, ReadError, Value};

/// A window of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    /// Its begin, µs.
    pub(crate) from: i64,
    /// Its end, µs, not included.
    pub(crate) to: i64,
    /// Its value; `None` when the question grouped.
    pub(crate) value: Option<Value>,
    /// Its groups, the same ones in all windows; `None` unless the question grouped.
    pub(crate) groups: Option<Vec<Group>>,
}

/// Checks what is asked; touches no store.
pub(crate) fn check(grain: &str, zone: Option<&str>) -> Result<(), ReadError> {
    Grain::of(grain, zone).map(|_| ())
}

/// Answers a question, and cuts its window. The proof covers both.
pub(crate) fn read(
    cache: &Cache,
    question: &MetricQuestion,
    grain: &str,
    zone: Option<&str>,
) -> Result<(MetricAnswer, Vec<Point>), ReadError> {
    let begun = Instant::now();
    let engine = cache.engine();
    let grain = Grain::of(grain, zone)?;
    let mut resolved = engine.resolve(question)?;
    let metric = resolved.metric;
    if resolved.start().is_none() {
        let message =
            format!("window `{}` has no start from which it could be cut", resolved.window.text);
        return Err(invalid("grain", message).hinted("ask for another window"));
    }
    // The version that was found answers, whatever is promoted meanwhile.
    let question = MetricQuestion { version: Some(metric.version), ..question.clone() };
    let whole = cache.read(&question)?;
    // The same window as that of the whole, which may have been answered a while ago.
    if question.as_of.or(question.known_at).is_none() {
        resolved.reference = whole.computed_at;
    }
    let from = resolved.start().unwrap_or(whole.computed_at);
    let windows = grain.cut(from, question.as_of, resolved.reference)?;
    let ends_now = follows_states(engine.domain(), metric);
    // Windows must name the same groups, those of the whole.
    let named = whole.groups_truncated.then(|| names(&whole));
    // What a limit leaves out is left out everywhere.
    let is_left_out = question.limit.is_some() && !question.other;
    let (mut proof, mut answers) = (whole.clone(), Vec::with_capacity(windows.len()));
    for window in &windows {
        if begun.elapsed() > MAX_TIME {
            return Err(invalid("grain", format!("the series takes longer than {MAX_TIME:?}"))
                .hinted("ask for a coarser grain or a shorter window"));
        }
        let (from, to) = *window;
        // A state lasts until now, which is later for each question.
        let to = if ends_now { to.min(resolved.reference.max(from + 1)) } else { to };
        let mut answer = cache.read(&MetricQuestion {
            window: None,
            span: Some((from, to)),
            order_by: GroupOrder::Dimensions,
            limit: None,
            other: false,
            compare: false,
            named: named.clone(),
            ..question.clone()
        })?;
        let groups = answer.groups.take();
        let value = answer.value.take();
        proof = together(proof, &answer);
        answers.push((value, groups));
    }
    // Counts of the whole window are in its own proof, and those of its parts would be them again.
    let whole = MetricAnswer {
        proof: Proof {
            rejected_in_window: whole.proof.rejected_in_window,
            late_in_window: whole.proof.late_in_window,
            events_in_window: whole.proof.events_in_window,
            ..proof.proof
        },
        computed_at: proof.computed_at,
        ..whole
    };

    let order = keys(&whole, &answers, is_left_out);
    if order.len().saturating_mul(windows.len()) > MAX_ROWS {
        let message = format!("{} groups in {} windows are too many", order.len(), windows.len());
        return Err(invalid("grain", message)
            .hinted("name fewer groups with `limit`, or ask for a coarser grain"));
    }
    let empty = empty_value(engine.domain(), metric);
    let mut last: BTreeMap<Key, Option<Value>> = BTreeMap::new();
    let mut points = Vec::with_capacity(windows.len());
    for ((from, to), (value, groups)) in windows.into_iter().zip(answers) {
        let mut filled = |key: &Key, value: Value| {
            gaps::filled(metric, value, last.entry(key.clone()).or_default())
        };
        let value = value.map(|value| filled(&Key::default(), value));
        let groups = groups.map(|groups| {
            let mut values: BTreeMap<_, Value> =
                groups.into_iter().map(|group| (Key::of(&group), group.value)).collect();
            let group = |key: &Key| {
                let value = values.remove(key).unwrap_or_else(|| empty.clone());
                let names = question.group_by.iter().cloned();
                Group {
                    dimensions: names.zip(key.names.iter().cloned()).collect(),
                    value: filled(key, value),
                    others: key.others.clone(),
                    previous: None,
                }
            };
            order.iter().map(group).collect()
        });
        points.push(Point { from, to, value, groups });
    }
    Ok((whole, points))
}

/// Does its value depend on how long a state lasted?
fn follows_states(domain: &Domain, metric: &Metric) -> bool {
    let parts = metric.measure.parts();
    matches!(metric.measure, Measure::TimeWeighted | Measure::DurationInState)
        || parts.iter().any(|part| follows_states(domain, &domain.metrics[*part]))
}

/// The groups that an answer names.
pub(super) fn names(answer: &MetricAnswer) -> Vec<Vec<Option<String>>> {
    let groups = answer.groups.iter().flatten().filter(|group| !group.is_other());
    groups.map(|group| Key::of(group).names).collect()
}

/// The groups of the series: those of the whole in their order, then those that only its parts have.
fn keys(
    whole: &MetricAnswer,
    answers: &[(Option<Value>, Option<Vec<Group>>)],
    is_left_out: bool,
) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    let parts = answers.iter().filter_map(|(_, groups)| groups.as_ref());
    let of_whole = whole.groups.iter().filter(|_| !whole.groups_truncated || is_left_out);
    let named = whole.groups.iter().flatten().filter(|group| !group.is_other());
    let all = named.chain(of_whole.flatten()).chain(parts.flatten());
    let all = all.filter(|group| !(is_left_out && group.is_other())).map(Key::of);
    let mut keys: Vec<_> = all.filter(|key| seen.insert(key.clone())).collect();
    // Stable: what is gathered comes last.
    keys.sort_by_key(Key::is_other);
    keys
}
