//! Metrics that are made of other metrics: ratio and derived.

use crate::check::hash::Facts;
use crate::check::measure;
use crate::check::metric::dimensions::common_dimensions;
use crate::check::metric::{Measured, Metrics};
use crate::check::names::Names;
use crate::check::relations::expr_error;
use crate::diagnostic::{Report, suggest};
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::model::{Measure, OnEmpty};
use crate::raw::decode::{Text, shorten};
use crate::raw::metric as raw;
use crate::types::Type;

/// Ratio and derived metrics have no rows of their own.
fn refuse_rows(raw: &raw::Metric, report: &mut Report) {
    let stray = [
        ("where", raw.filter.as_ref().map(|t| t.at)),
        ("time", raw.time.as_ref().map(|t| t.at)),
        ("from", raw.from.as_ref().map(|_| raw.at)),
    ];
    for (key, at) in stray {
        if let Some(at) = at {
            report.error(
                at,
                format!("a metric that is made of other metrics has no `{key}`"),
                format!("remove `{key}`; it belongs to the parts"),
            );
        }
    }
}

fn part(
    name: &str,
    at: &Text,
    names: &Names,
    metrics: &Metrics<'_>,
    report: &mut Report,
) -> Option<usize> {
    let Some(index) = metrics.part(name) else {
        let known = metrics.all.contains_key(name) || names.unreadable.contains(name);
        if !known && !names.gaps {
            report.error(
                at.inside(1, 1),
                format!("there is no metric `{}`", shorten(name)),
                suggest(name, metrics.all.keys().copied(), "metrics"),
            );
        }
        return None;
    };
    let ty = &metrics.compiled[index].value_type;
    if !ty.is_numeric() {
        report.error(
            at.inside(1, 1),
            format!("the metric `{name}` is {ty}, not a number"),
            "use metrics with numbers as parts",
        );
        return None;
    }
    Some(index)
}

/// The quotient of two metrics.
pub(super) fn ratio(
    raw: &raw::Metric,
    a: &Text,
    b: &Text,
    names: &Names,
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Measured> {
    refuse_rows(raw, report);
    let numerator = part(&a.value, a, names, metrics, report);
    let denominator = part(&b.value, b, names, metrics, report);
    let (numerator, denominator) = (numerator?, denominator?);
    let hash = |i: usize| format!("{:016x}", metrics.compiled[i].hash);
    facts.add(&["measure", "ratio", &hash(numerator), &hash(denominator)]);
    Some(Measured {
        measure: Measure::Ratio { numerator, denominator },
        inputs: Vec::new(),
        dimensions: common_dimensions(raw, &[numerator, denominator], metrics, facts, report),
        value_type: Type::Float64,
        unit: "ratio",
        on_empty: OnEmpty::Null,
    })
}

/// An expression over metrics.
pub(super) fn derived(
    raw: &raw::Metric,
    text: &Text,
    names: &Names,
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Measured> {
    refuse_rows(raw, report);
    let known: Vec<String> = measure::parts(&raw.measure, |name| metrics.all.contains_key(name));
    let mut parts = Vec::new();
    for name in &known {
        parts.push(part(name, text, names, metrics, report)?);
    }
    let columns = metrics
        .all
        .keys()
        .filter(|name| metrics.part(name).is_some())
        .map(|name| ScopeColumn {
            name: (*name).to_owned(),
            column: (*name).to_owned(),
            ty: Type::Float64,
        })
        .collect();
    let expr = match Expr::compile(&text.value, &Scope { columns }, Some(&Type::Float64)) {
        Ok(expr) => expr,
        Err(error) => {
            if !names.gaps && names.unreadable.is_empty() {
                expr_error(text, error, report);
            }
            return None;
        }
    };
    parts.retain(|i| expr.columns().contains(&metrics.compiled[*i].name));
    if parts.is_empty() {
        report.error(
            text.inside(1, 1),
            "this uses no metric",
            suggest(&text.value, metrics.all.keys().copied(), "metrics"),
        );
        return None;
    }
    facts.add(&["measure", "derived", expr.canonical()]);
    for i in &parts {
        let metric = &metrics.compiled[*i];
        facts.add(&["part", &metric.name, &format!("{:016x}", metric.hash)]);
    }
    let dimensions = common_dimensions(raw, &parts, metrics, facts, report);
    Some(Measured {
        measure: Measure::Derived { parts, expr },
        inputs: Vec::new(),
        dimensions,
        value_type: Type::Float64,
        unit: "1",
        on_empty: OnEmpty::Null,
    })
}
