//! Measures over rows: events, an entity or `ingest`.

use crate::check::entity::{entity_source, event_sources};
use crate::check::hash::{self, Facts};
use crate::check::measure;
use crate::check::metric::dimensions::dimension_columns;
use crate::check::metric::{Measured, Metrics, followed};
use crate::check::money;
use crate::check::names::Names;
use crate::check::relations::Relations;
use crate::diagnostic::Report;
use crate::expr::Expr;
use crate::model::{ColumnRef, Dimension, Measure, MetricInput, OnEmpty, Relation, column, ingest};
use crate::raw::decode::Text;
use crate::raw::metric as raw;
use crate::types::Type;

type Sources = Vec<(Relation, Vec<String>)>;

fn sources(
    raw: &raw::Metric,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<Sources> {
    let details = match &raw.from {
        Some(raw::MetricSource::Ingest(_)) => {
            return Some(vec![(Relation::Ingest, Vec::new())]);
        }
        Some(raw::MetricSource::Details(details)) => details,
        None => {
            report.error(
                raw.at,
                "the metric needs the key `from`",
                "write `from: {event: type}`, `from: {entity: name}` or `from: ingest`",
            );
            return None;
        }
    };
    match (&details.event, &details.entity) {
        (Some(types), None) => event_sources(types, names, relations, report),
        (None, Some(name)) => {
            let index = entity_source(name, names, relations, report)?;
            Some(vec![(Relation::Entity(index), Vec::new())])
        }
        _ => {
            report.error(
                details.at,
                "a metric has one source",
                "write `{event: type}` or `{entity: name}`",
            );
            None
        }
    }
}

/// The measure to compile.
pub(super) struct What<'a> {
    pub(super) measure: Measure,
    pub(super) arg: Option<&'a Text>,
    pub(super) steps: Option<&'a [Text; 2]>,
    pub(super) metrics: &'a Metrics<'a>,
}

/// A measure over rows of events, an entity or `ingest`.
pub(super) fn measure(
    raw: &raw::Metric,
    What { measure, arg, steps, metrics }: What<'_>,
    names: &Names,
    relations: &mut Relations,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Measured> {
    let sources = sources(raw, names, relations, report)?;
    let before = report.count();
    let mut inputs = Vec::new();
    let mut dimensions: Vec<Dimension> = Vec::new();
    let mut arg_type: Option<Type> = None;
    let mut currency: Option<String> = None;
    for (n, (relation, event_types)) in sources.into_iter().enumerate() {
        let source = hash::relation(relations, relation);
        facts.add(&["from", &source, &event_types.join("\u{1d}")]);
        let fact = |facts: &mut Facts, what: &str, text: String| {
            facts.add(&[what, &source, &text]);
        };
        let time = time_column(raw, relation, relations, report);
        if let Some((_, meaning)) = &time {
            fact(facts, "time", meaning.clone());
        }
        let filter = match &raw.filter {
            None => None,
            Some(text) => match relations.compile(relation, text, Some(&Type::Bool), report) {
                None => continue,
                Some(filter) => {
                    fact(facts, "where", hash::expression(relations, relation, &filter.expr));
                    Some(filter)
                }
            },
        };
        let value = match arg {
            None => None,
            Some(text) => {
                if is_metric(text, relation, relations, metrics) {
                    report.error(
                        text.inside(1, 1),
                        format!("`{}` is a metric, not a field of these rows", text.value),
                        "values of a metric are not aggregated again: write the measure over rows, \
                         or combine metrics with `derived(…)`",
                    );
                    continue;
                }
                let Some(value) = relations.compile(relation, text, arg_type.as_ref(), report)
                else {
                    continue;
                };
                arg_type.get_or_insert_with(|| value.column.ty.clone());
                fact(facts, "arg", hash::expression(relations, relation, &value.expr));
                if needs_one_currency(&measure) {
                    let found =
                        of_one_currency(raw, relation, &value.expr, relations, text, report);
                    match (&currency, found) {
                        (Some(one), Some(other)) if *one != other => report.error(
                            text.at,
                            format!("this mixes amounts in {one} and {other}"),
                            "declare one metric per currency",
                        ),
                        (_, Some(found)) => currency = Some(found),
                        (_, None) => {}
                    }
                }
                Some(value)
            }
        };
        let columns =
            dimension_columns(raw, relation, n == 0, &mut dimensions, relations, facts, report);
        let followed = match measure.follows_keys() {
            false => None,
            true => {
                let types = types_of(raw);
                let found =
                    followed::columns(raw, relation, types, steps, relations, facts, report);
                if found.is_none() {
                    continue;
                }
                found
            }
        };
        let Some((time, _)) = time else { continue };
        inputs.push(MetricInput {
            relation,
            event_types,
            time,
            filter: filter.map(|f| f.column),
            arg: value.map(|v| v.column),
            dimensions: columns,
            followed,
        });
    }
    if report.count() != before {
        return None;
    }
    facts.add(&["measure", &format!("{measure:?}")]);
    if let (Some(unit), Some(currency)) = (&raw.unit, &currency)
        && money::is_currency_code(&unit.value)
        && unit.value != *currency
    {
        report.error(
            unit.at,
            format!("the unit is {}, but the amounts are in {currency}", unit.value),
            "change the unit, or the currency in `where`",
        );
    }
    let value_type = match measure::value_type(&measure, arg_type.as_ref()) {
        Ok(ty) => ty,
        Err(wanted) => {
            let ty = arg_type.map(|ty| ty.to_string()).unwrap_or_default();
            report.error(
                arg.map_or(raw.measure.at, |text| text.inside(1, 1)),
                format!("this measure cannot be taken of {ty}"),
                format!("it takes {wanted}"),
            );
            return None;
        }
    };
    let counts = measure.is_count();
    let zero = counts || matches!(measure, Measure::Sum | Measure::DurationInState);
    let unit = match measure {
        _ if counts => "count",
        Measure::Conversion { .. } => "ratio",
        Measure::DurationInState => "s",
        _ => "1",
    };
    Some(Measured {
        measure,
        inputs,
        dimensions,
        value_type,
        unit,
        on_empty: if zero { OnEmpty::Zero } else { OnEmpty::Null },
    })
}

fn needs_one_currency(measure: &Measure) -> bool {
    matches!(
        measure,
        Measure::Sum
            | Measure::Avg
            | Measure::Min
            | Measure::Max
            | Measure::Quantile(_)
            | Measure::ApproxQuantile(_)
            | Measure::TimeWeighted
    )
}

/// Is the text the name of a metric, and not of a field?
fn is_metric(
    text: &Text,
    relation: Relation,
    relations: &Relations,
    metrics: &Metrics<'_>,
) -> bool {
    metrics.all.contains_key(text.value.as_str())
        && relations.scope(relation).columns.iter().all(|column| column.name != text.value)
}

/// The event types under `from`.
fn types_of(raw: &raw::Metric) -> &[Text] {
    match &raw.from {
        Some(raw::MetricSource::Details(details)) => {
            details.event.as_ref().map_or(&[], |types| types.0.as_slice())
        }
        _ => &[],
    }
}

fn of_one_currency(
    raw: &raw::Metric,
    relation: Relation,
    expr: &Expr,
    relations: &Relations,
    at: &Text,
    report: &mut Report,
) -> Option<String> {
    let amounts = money::of_expr(relations, relation, expr);
    let scope = relations.scope(relation);
    let mut pins = money::guarded(expr, &scope);
    if let Some(text) = &raw.filter {
        pins.extend(money::pinned(&text.value, &scope));
    }
    match money::one_currency(relations, relation, &amounts, &pins) {
        Ok(currency) => currency,
        Err(mixed) => {
            report.error(at.inside(1, 1), mixed.message, mixed.hint);
            None
        }
    }
}

/// The timestamp that windows are over, and what it means.
fn time_column(
    raw: &raw::Metric,
    relation: Relation,
    relations: &mut Relations,
    report: &mut Report,
) -> Option<(ColumnRef, String)> {
    if let Some(text) = &raw.time {
        let time = relations.compile(relation, text, Some(&Type::Timestamp), report)?;
        let meaning = hash::expression(relations, relation, &time.expr);
        return Some((time.column, meaning));
    }
    let name = match relation {
        Relation::Family(_) => column::TIME,
        Relation::Ingest => ingest::ARRIVED_AT,
        Relation::Entity(_) if raw.windows.0.iter().all(|w| w.value == "now") => column::UPDATED_AT,
        Relation::Entity(_) => {
            report.error(
                raw.at,
                "a metric over an entity needs the key `time`",
                "write `time: field`: the timestamp of the entity that the windows are over",
            );
            return None;
        }
    };
    let column = ColumnRef { name: name.to_owned(), ty: Type::Timestamp, depends_on_closed: false };
    Some((column, name.to_owned()))
}
