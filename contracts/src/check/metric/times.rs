//! Which times a metric's windows are over.

use std::collections::BTreeSet;

use crate::check::metric::Metrics;
use crate::check::relations::Relations;
use crate::diagnostic::Report;
use crate::model::{Computed, Entity, FoldOp, Metric, Relation, column};
use crate::raw::metric as raw;

/// Refuses parts whose windows are over different times, unless the contract says that this is meant.
pub(super) fn refuse_mixed(
    raw: &raw::Metric,
    parts: &[usize],
    metrics: &Metrics<'_>,
    relations: &Relations,
    report: &mut Report,
) {
    if raw.mixed_time == Some(true) {
        return;
    }
    let parts = || parts.iter().map(|part| &metrics.compiled[*part]);
    let Some(first) = parts().next() else { return };
    let known = times_of(first, metrics, relations);
    for other in parts().skip(1) {
        let times = times_of(other, metrics, relations);
        if times != known {
            let list = |times: &BTreeSet<String>| {
                times.iter().map(|time| format!("`{time}`")).collect::<Vec<_>>().join(" and ")
            };
            report.error(
                raw.measure.at,
                format!(
                    "the windows of `{}` are over {}, those of `{}` over {}",
                    first.name,
                    list(&known),
                    other.name,
                    list(&times)
                ),
                "give both the same `time`, or write `mixed_time: true` if this is meant",
            );
            return;
        }
    }
}

/// The times of a metric in words. Event time is one time, whatever event it is of, and the time of an
/// entity's first event is event time.
fn times_of(metric: &Metric, metrics: &Metrics<'_>, relations: &Relations) -> BTreeSet<String> {
    let own = metric.inputs.iter().map(|input| match input.relation {
        Relation::Family(_) if input.time.name == column::TIME => "event time".to_owned(),
        Relation::Family(family) => {
            let family = &relations.families[family];
            said(&family.name, &family.computed, &input.time.name)
        }
        Relation::Entity(entity) => {
            let entity = &relations.entities[entity];
            match begins_with_an_event(entity, &input.time.name) {
                true => "event time".to_owned(),
                false => said(&entity.name, &entity.computed, &input.time.name),
            }
        }
        Relation::Ingest => "arrival".to_owned(),
    });
    let parts = metric.measure.parts().into_iter().map(|part| &metrics.compiled[part]);
    own.chain(parts.flat_map(|part| times_of(part, metrics, relations))).collect()
}

/// A column of a relation as a contract says it: a computed one by its expression.
fn said(relation: &str, computed: &[Computed], column: &str) -> String {
    match computed.iter().find(|computed| computed.name == column) {
        Some(computed) => format!("{relation}: {}", computed.expr.canonical()),
        None => format!("{relation}.{column}"),
    }
}

/// Is the field the time of the entity's first event? It lies in the window in which that event does.
fn begins_with_an_event(entity: &Entity, field: &str) -> bool {
    let mut folds = entity.folds().enumerate();
    let found = folds.find(|(_, (index, ..))| entity.fields[*index].name == field);
    let Some((fold, (_, op, _))) = found else { return false };
    matches!(op, FoldOp::First | FoldOp::Min)
        && entity.inputs.iter().all(|input| match input.args.get(fold) {
            Some(Some(arg)) => arg.value.name == column::TIME,
            _ => true,
        })
}
