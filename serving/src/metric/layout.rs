//! What was measured, laid out as it was asked for: one value or groups in order, beside the window before.

use std::collections::BTreeSet;

use contracts::model::Domain;

use super::check::Resolved;
use super::groups::{self, Groups, Member, empty_value};
use super::rank::{self, Kept, MAX_GROUPS, MeasureFn, Read};
use crate::question::{Group, Previous, ReadError};
use crate::value::Value;

/// An answer without its proof.
pub(super) struct Layout {
    /// See [`crate::question::MetricAnswer::value`].
    pub(super) value: Option<Value>,
    /// See [`crate::question::MetricAnswer::groups`].
    pub(super) groups: Option<Vec<Group>>,
    /// Are there groups that are not named?
    pub(super) is_short: bool,
    /// The window before.
    pub(super) previous: Option<Previous>,
    /// What it was made of.
    pub(super) read: Read,
}

/// Lays out `read`, what the `leaves` of the metric say. `measure` says it for other questions of the same
/// moment.
pub(super) fn lay_out<'a>(
    domain: &Domain,
    question: &Resolved<'a>,
    leaves: &BTreeSet<usize>,
    mut read: Read,
    measure: &MeasureFn<'_, 'a>,
) -> Result<Layout, ReadError> {
    let metric = question.metric;
    let before = question.previous();
    let mut read_before = match &before {
        Some(before) => Some(measure(before, leaves)?),
        None => None,
    };
    let combined = |read: &Read| groups::combine(domain, metric, read);
    let one = |read: &Read| combined(read).pop_first().map_or(Value::Null, |(_, value)| value);
    let span = before.as_ref().and_then(|before| before.span);
    let previous = |value| span.map(|(from, to)| Previous { from, to, value });
    if question.group_by.is_empty() {
        return Ok(Layout {
            value: Some(one(&read)),
            groups: None,
            is_short: false,
            previous: previous(read_before.as_ref().map(one)),
            read,
        });
    }
    rank::check(question, &read)?;
    let empty = empty_value(domain, metric);
    let mut all = combined(&read);
    if let Some(before) = &read_before {
        rank::check(question, before)?;
        add_missing(&mut all, &combined(before), &empty);
    }
    let kept = Kept::of(&all, question);
    let is_cut = read.values().any(|groups| groups.len() > rank::most_read(question));
    let mut is_short = is_cut || all.keys().any(|key| !kept.has(key));
    rank::gather(domain, question, &kept, &mut read, measure)?;
    let mut all = combined(&read);
    let mut all_before = Groups::new();
    if let (Some(before), Some(read)) = (&before, &mut read_before) {
        rank::gather(domain, before, &kept, read, measure)?;
        all_before = combined(read);
        add_missing(&mut all, &all_before, &empty);
    }
    let order = rank::ordered(&all, question.order_by);
    let most = match question.limit {
        Some(limit) if !question.other => limit.min(MAX_GROUPS),
        _ => MAX_GROUPS,
    };
    is_short |= order.len() > most;
    let names = || question.group_by.iter().map(|dimension| dimension.name.clone());
    let shown = order.into_iter().take(most).map(|key| Group {
        dimensions: names().zip(key.iter().map(Member::text)).collect(),
        value: all.get(key).cloned().unwrap_or(Value::Null),
        others: key.iter().map(|member| *member == Member::Other).collect(),
        previous: span.map(|_| all_before.get(key).unwrap_or(&empty).clone()),
    });
    Ok(Layout {
        value: None,
        groups: Some(shown.collect()),
        is_short,
        previous: previous(None),
        read,
    })
}

/// A group that is only in the other window is an empty window in this one.
fn add_missing(groups: &mut Groups, others: &Groups, empty: &Value) {
    for key in others.keys() {
        if !groups.contains_key(key) {
            groups.insert(key.clone(), empty.clone());
        }
    }
}
