//! Metrics that are made of other metrics: ratio and derived.

use std::sync::LazyLock;

use regex::Regex;

use crate::check::hash::Facts;
use crate::check::measure::{self, Part};
use crate::check::metric::dimensions::common_dimensions;
use crate::check::metric::{Measured, Metrics, sums, times};
use crate::check::names::Names;
use crate::check::relations::{Relations, expr_error};
use crate::diagnostic::{Report, suggest};
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::model::{Measure, Metric, OnEmpty};
use crate::raw::decode::{Text, shorten};
use crate::raw::metric as raw;
use crate::types::Type;

/// Ratio and derived metrics have no rows of their own.
fn refuse_rows(raw: &raw::Metric, report: &mut Report) {
    let stray = [
        ("key", raw.key.as_ref().map(|t| t.at)),
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
    part: &Part,
    at: &Text,
    names: &Names,
    metrics: &Metrics<'_>,
    report: &mut Report,
) -> Option<usize> {
    let name = part.name.as_str();
    let Some(index) = metrics.part(part) else {
        let versions = metrics.all.get(name).map_or(&[][..], Vec::as_slice);
        let has_version = |wanted| versions.iter().any(|(_, version)| *version == wanted);
        if let Some(wanted) = part.version.filter(|wanted| !has_version(*wanted))
            && !versions.is_empty()
            && !names.gaps
        {
            let known: Vec<String> =
                versions.iter().map(|(_, v)| format!("`{name}@{v}`")).collect();
            report.error(
                at.inside(1, 1),
                format!("the metric `{name}` has no version {wanted}"),
                format!("there is {}", known.join(", ")),
            );
        } else if versions.is_empty() && !names.unreadable.contains(name) && !names.gaps {
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

/// What a part adds to the hash: which version it is, and all that this version means.
fn add_part(facts: &mut Facts, metric: &Metric) {
    let version = metric.version.to_string();
    facts.add(&["part", &metric.name, &version, &format!("{:016x}", metric.hash)]);
}

/// The quotient of two metrics.
pub(super) fn ratio(
    raw: &raw::Metric,
    (a, b): (&Text, &Text),
    names: &Names,
    relations: &Relations,
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Measured> {
    refuse_rows(raw, report);
    let numerator = part(&Part::of(&a.value), a, names, metrics, report);
    let denominator = part(&Part::of(&b.value), b, names, metrics, report);
    let (numerator, denominator) = (numerator?, denominator?);
    times::refuse_mixed(raw, &[numerator, denominator], metrics, relations, report);
    let hash = |i: usize| format!("{:016x}", metrics.compiled[i].hash);
    facts.add(&["measure", "ratio", &hash(numerator), &hash(denominator)]);
    add_part(facts, &metrics.compiled[numerator]);
    add_part(facts, &metrics.compiled[denominator]);
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
    relations: &Relations,
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Measured> {
    refuse_rows(raw, report);
    let known = measure::parts(&raw.measure, |name| metrics.all.contains_key(name));
    let mut parts = Vec::new();
    for name in &known {
        let found = part(name, text, names, metrics, report)?;
        if !parts.contains(&found) {
            parts.push(found);
        }
    }
    let scope = scope(metrics);
    let quoted = QUOTED.replace_all(&text.value, "\"$0\"");
    let expr = match Expr::compile(&quoted, &scope, Some(&Type::Float64)) {
        Ok(expr) => expr,
        Err(mut error) => {
            // Each name before it has grown by two quotes.
            let grown = QUOTED.find_iter(&text.value).enumerate();
            let before = grown.filter(|(n, found)| {
                let column = text.value[..found.start()].chars().count() + 2 * n;
                error.line <= 1 && column + 1 < error.column as usize
            });
            error.column = error.column.saturating_sub(2 * before.count() as u32).max(1);
            if !names.gaps && names.unreadable.is_empty() {
                expr_error(text, error, report);
            }
            return None;
        }
    };
    parts.retain(|i| expr.columns().contains(&metrics.compiled[*i].versioned_name()));
    if parts.is_empty() {
        report.error(
            text.inside(1, 1),
            "this uses no metric",
            suggest(&text.value, metrics.all.keys().copied(), "metrics"),
        );
        return None;
    }
    times::refuse_mixed(raw, &parts, metrics, relations, report);
    let metrics_of: Vec<&Metric> = parts.iter().map(|i| &metrics.compiled[*i]).collect();
    sums::refuse(&expr, &metrics_of, Metric::versioned_name, text.inside(1, 1), report);
    facts.add(&["measure", "derived", expr.canonical()]);
    metrics_of.iter().for_each(|metric| add_part(facts, metric));
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

/// A name with a version, as an expression has it.
static QUOTED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b[a-z][a-z0-9_]*@[0-9]+").expect("a valid pattern"));

/// Metrics by name and by name with version. Both are the same column, so the expression reads the
/// version that was the newest when it was checked.
fn scope(metrics: &Metrics<'_>) -> Scope {
    let column = |name: String, metric: &Metric| ScopeColumn {
        name,
        column: metric.versioned_name(),
        ty: Type::Float64,
    };
    let newest = metrics.all.keys().filter_map(|name| {
        let index = metrics.part(&Part { name: (*name).to_owned(), version: None })?;
        Some(column((*name).to_owned(), &metrics.compiled[index]))
    });
    let pinned = metrics.compiled.iter().map(|metric| column(metric.versioned_name(), metric));
    Scope { columns: newest.chain(pinned).collect() }
}
