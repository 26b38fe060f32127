//! One metric as a series: its answer over the whole window, and one for each part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::cut::Grain;
use super::{MAX_ROWS, MAX_TIME, gaps, invalid, together};
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
    let resolved = engine.resolve(question)?;
    let metric = resolved.metric;
    let Some(from) = resolved.start() else {
        let message =
            format!("window `{}` has no start from which it could be cut", resolved.window.text);
        return Err(invalid("grain", message).hinted("ask for another window"));
    };
    let windows = grain.cut(from, question.as_of, resolved.reference)?;
    // The version that was found answers, whatever is promoted meanwhile.
    let question = MetricQuestion { version: Some(metric.version), ..question.clone() };
    let whole = cache.read(&question)?;
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
        let mut answer = cache.read(&MetricQuestion {
            window: None,
            span: Some(*window),
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
    let mut last: BTreeMap<(bool, Vec<Option<String>>), Option<Value>> = BTreeMap::new();
    let mut points = Vec::with_capacity(windows.len());
    for ((from, to), (value, groups)) in windows.into_iter().zip(answers) {
        let mut filled = |key: &(bool, Vec<Option<String>>), value: Value| {
            gaps::filled(metric, value, last.entry(key.clone()).or_default())
        };
        let value = value.map(|value| filled(&(false, Vec::new()), value));
        let groups = groups.map(|groups| {
            let mut values: BTreeMap<_, Value> =
                groups.into_iter().map(|group| (key(&group), group.value)).collect();
            let group = |key: &(bool, Vec<Option<String>>)| {
                let value = values.remove(key).unwrap_or_else(|| empty_value(metric));
                let names = question.group_by.iter().cloned();
                Group {
                    dimensions: names.zip(key.1.iter().cloned()).collect(),
                    value: filled(key, value),
                    is_other: key.0,
                    previous: None,
                }
            };
            order.iter().map(group).collect()
        });
        points.push(Point { from, to, value, groups });
    }
    Ok((whole, points))
}

/// The groups that an answer names.
pub(super) fn names(answer: &MetricAnswer) -> Vec<Vec<Option<String>>> {
    let groups = answer.groups.iter().flatten().filter(|group| !group.is_other);
    groups.map(|group| key(group).1).collect()
}

fn key(group: &Group) -> (bool, Vec<Option<String>>) {
    (group.is_other, group.dimensions.iter().map(|(_, text)| text.clone()).collect())
}

/// The groups of the series: those of the whole in their order, then those that only its parts have.
fn keys(
    whole: &MetricAnswer,
    answers: &[(Option<Value>, Option<Vec<Group>>)],
    is_left_out: bool,
) -> Vec<(bool, Vec<Option<String>>)> {
    let mut seen = BTreeSet::new();
    let parts = answers.iter().filter_map(|(_, groups)| groups.as_ref());
    let of_whole = whole.groups.iter().filter(|_| !whole.groups_truncated || is_left_out);
    let named = whole.groups.iter().flatten().filter(|group| !group.is_other);
    let all = named.chain(of_whole.flatten()).chain(parts.flatten());
    let all = all.filter(|group| !(is_left_out && group.is_other)).map(key);
    let mut keys: Vec<_> = all.filter(|key| seen.insert(key.clone())).collect();
    // Stable: what is gathered comes last.
    keys.sort_by_key(|(is_other, _)| *is_other);
    keys
}
