//! Metrics: source rows, measure, dimensions, windows.
//!
//! Start at [`order`] for who must come before whom, and at [`check`] for one metric.

use std::collections::BTreeMap;

use crate::check::entity::{entity_source, event_sources};
use crate::check::hash::{self, Facts};
use crate::check::measure::{self, MeasureText};
use crate::check::money;
use crate::check::names::{Item, Names, newest};
use crate::check::relations::{Relations, expr_error};
use crate::check::values::{column_name, duration, window};
use crate::diagnostic::{Report, suggest};
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::model::{
    ColumnRef, Dimension, Measure, Metric, MetricInput, OnEmpty, Relation, Status, Window, column,
    ingest,
};
use crate::raw::decode::{Text, shorten};
use crate::raw::metric as raw;
use crate::types::Type;

/// Oldest cached answer unless the contract says otherwise, µs.
const MAX_AGE: i64 = 1_000_000;

/// The metrics in an order in which each comes after its parts, by index into `items`. Those in a
/// cycle are reported and left out.
pub(crate) fn order(items: &[Item<raw::Metric>], report: &mut Report) -> Vec<usize> {
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        by_name.entry(&item.name).or_default().push(i);
    }
    let newest_of = |name: &str| -> Option<usize> {
        let versions = by_name.get(name)?;
        let wanted = newest(versions.iter().map(|i| (items[*i].status, items[*i].version)))?;
        versions.iter().copied().find(|i| (items[*i].status, items[*i].version) == wanted)
    };
    let parts = |i: usize| -> Vec<usize> {
        measure::parts(&items[i].raw.measure, |name| by_name.contains_key(name))
            .iter()
            .filter_map(|name| newest_of(name))
            .collect()
    };
    crate::check::order::dependencies_first(items.len(), parts, |cycle| {
        let first = &items[cycle[0]];
        let names: Vec<&str> =
            cycle.iter().chain(&cycle[..1]).map(|i| items[*i].name.as_str()).collect();
        report.error(
            first.raw.measure.at,
            format!("the metric `{}` is made of itself: {}", first.name, names.join(" → ")),
            "a ratio or derived metric may use only metrics that do not use it",
        );
    })
}

/// What is known about metrics while they are compiled one after another.
pub(crate) struct Metrics<'a> {
    /// Names of all metrics as written.
    pub(crate) all: BTreeMap<&'a str, Vec<(Status, u32)>>,
    /// Those compiled so far.
    pub(crate) compiled: Vec<Metric>,
}

impl Metrics<'_> {
    /// The newest stable version of `name` if it is compiled.
    fn part(&self, name: &str) -> Option<usize> {
        let wanted = newest(self.all.get(name)?.iter().copied());
        self.compiled.iter().position(|m| m.name == name && Some((m.status, m.version)) == wanted)
    }
}

/// What a measure needs and gives.
struct Measured {
    measure: Measure,
    inputs: Vec<MetricInput>,
    dimensions: Vec<Dimension>,
    value_type: Type,
    unit: &'static str,
    on_empty: OnEmpty,
}

/// Compiles one metric; `None` when something is wrong with it.
pub(crate) fn check(
    item: &Item<raw::Metric>,
    names: &Names,
    relations: &mut Relations,
    metrics: &Metrics<'_>,
    report: &mut Report,
) -> Option<Metric> {
    let before = report.count();
    let raw = &item.raw;
    let windows = windows(raw, report);
    let max_age = match &raw.freshness {
        None => MAX_AGE,
        Some(freshness) => duration(&freshness.max_age, true, report).unwrap_or(MAX_AGE),
    };
    let measured = measure::read(&raw.measure, report);
    let mut facts = Facts::default();
    let measured = match measured? {
        MeasureText::Rows(measure, arg) => {
            rows(raw, measure, arg.as_ref(), &windows, names, relations, &mut facts, report)
        }
        MeasureText::Ratio(a, b) => ratio(raw, &a, &b, names, metrics, &mut facts, report),
        MeasureText::Derived(text) => derived(raw, &text, names, metrics, &mut facts, report),
    }?;
    let on_empty = match raw.on_empty {
        None => measured.on_empty,
        Some(raw::OnEmpty::Null) => OnEmpty::Null,
        Some(raw::OnEmpty::Zero) if measured.value_type.is_numeric() => OnEmpty::Zero,
        Some(raw::OnEmpty::Zero) => {
            report.error(
                raw.at,
                format!("`on_empty: 0` does not fit a value of type {}", measured.value_type),
                "write `on_empty: null`",
            );
            OnEmpty::Null
        }
    };
    let unit = raw.unit.as_ref().map_or(measured.unit.to_owned(), |t| t.value.clone());
    if report.count() != before {
        return None;
    }
    facts.add(&["on_empty", &format!("{on_empty:?}")]);
    facts.add(&["unit", &unit]);
    facts.add(&["type", &measured.value_type.to_string()]);
    Some(Metric {
        index: metrics.compiled.len(),
        name: item.name.clone(),
        version: item.version,
        status: item.status,
        owner: raw.owner.as_ref().map(|t| t.value.clone()),
        description: raw.description.as_ref().map(|t| t.value.clone()),
        unit,
        measure: measured.measure,
        inputs: measured.inputs,
        dimensions: measured.dimensions,
        windows,
        on_empty,
        moved_by: raw.moved_by.0.iter().map(|t| t.value.clone()).collect(),
        max_age,
        gauge: raw.gauge.unwrap_or(false),
        value_type: measured.value_type,
        examples: Vec::new(),
        hash: facts.hash_unordered(),
        file: item.source.file.clone(),
    })
}

fn windows(raw: &raw::Metric, report: &mut Report) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    for text in &raw.windows.0 {
        let Some(window) = window(text, report) else { continue };
        if windows.iter().any(|w| w.length == window.length) {
            report.error(
                text.at,
                format!("the window `{}` stands here twice", window.text),
                "remove one of them",
            );
        }
        windows.push(window);
    }
    if raw.windows.0.is_empty() {
        report.error(raw.at, "`windows` is empty", "name at least one, such as `1h` or `now`");
    }
    windows
}

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

/// A measure over rows of events, an entity or `ingest`.
#[allow(clippy::too_many_arguments, reason = "one step of `check`, split off for reading")]
fn rows(
    raw: &raw::Metric,
    measure: Measure,
    arg: Option<&Text>,
    windows: &[Window],
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
        let time = time_column(raw, relation, windows, relations, report);
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
                let Some(value) = relations.compile(relation, text, arg_type.as_ref(), report) else {
                    continue;
                };
                arg_type.get_or_insert_with(|| value.column.ty.clone());
                fact(facts, "arg", hash::expression(relations, relation, &value.expr));
                if needs_one_currency(&measure) {
                    let found = of_one_currency(raw, relation, &value.expr, relations, text, report);
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
        let columns = dimension_columns(raw, relation, n == 0, &mut dimensions, relations, facts, report);
        let Some((time, _)) = time else { continue };
        inputs.push(MetricInput {
            relation,
            event_types,
            time,
            filter: filter.map(|f| f.column),
            arg: value.map(|v| v.column),
            dimensions: columns,
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
    let counts = matches!(measure, Measure::Count | Measure::CountDistinct);
    let zero = counts || matches!(measure, Measure::Sum);
    Some(Measured {
        measure,
        inputs,
        dimensions,
        value_type,
        unit: if counts { "count" } else { "1" },
        on_empty: if zero { OnEmpty::Zero } else { OnEmpty::Null },
    })
}

fn needs_one_currency(measure: &Measure) -> bool {
    matches!(
        measure,
        Measure::Sum | Measure::Avg | Measure::Min | Measure::Max | Measure::Quantile(_)
    )
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
    let pins = match &raw.filter {
        Some(text) => money::pinned(&text.value, &relations.scope(relation)),
        None => BTreeMap::new(),
    };
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
    windows: &[Window],
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
        Relation::Entity(_) if windows.iter().all(|w| w.length.is_none()) => column::UPDATED_AT,
        Relation::Entity(_) => {
            report.error(
                raw.at,
                "a metric over an entity needs the key `time`",
                "write `time: field`: the timestamp of the entity that the windows are over",
            );
            return None;
        }
    };
    let column =
        ColumnRef { name: name.to_owned(), ty: Type::Timestamp, depends_on_closed: false };
    Some((column, name.to_owned()))
}

/// The dimensions' columns in one source; the first source decides their types.
fn dimension_columns(
    raw: &raw::Metric,
    relation: Relation,
    first: bool,
    dimensions: &mut Vec<Dimension>,
    relations: &mut Relations,
    facts: &mut Facts,
    report: &mut Report,
) -> Vec<ColumnRef> {
    let mut columns = Vec::new();
    let source = hash::relation(relations, relation);
    for (name, text, cardinality) in declared_dimensions(raw, report) {
        if column_name(&name, "a dimension", report).is_none() {
            continue;
        }
        let known = dimensions.iter().find(|d| d.name == name.value).map(|d| d.ty.clone());
        if first && known.is_some() {
            report.error(
                name.at,
                format!("the dimension `{}` stands here twice", name.value),
                "remove one of them",
            );
            continue;
        }
        let Some(compiled) = relations.compile(relation, &text, known.as_ref(), report) else {
            continue;
        };
        let ty = compiled.column.ty.clone();
        if !matches!(ty, Type::String | Type::Bool | Type::Int64 | Type::Date) {
            report.error(
                text.inside(1, 1),
                format!("the dimension `{}` is {ty}", name.value),
                "a dimension is a string, bool, int64 or date; use an expression that makes classes",
            );
            continue;
        }
        let what = hash::expression(relations, relation, &compiled.expr);
        facts.add(&["dimension", &name.value, &source, &what]);
        columns.push(compiled.column);
        if first {
            dimensions.push(Dimension { name: name.value, ty, max_cardinality: cardinality });
        }
    }
    columns
}

type Declared = Vec<(Text, Text, Option<usize>)>;

/// Name, text and cardinality of each dimension.
fn declared_dimensions(raw: &raw::Metric, report: &mut Report) -> Declared {
    match &raw.dimensions {
        None => Vec::new(),
        Some(raw::Dimensions::Names(names)) => {
            names.iter().map(|name| (name.clone(), name.clone(), None)).collect()
        }
        Some(raw::Dimensions::Named(named)) => {
            let mut found = Vec::new();
            for (name, details) in &named.0 {
                if let (Some(_), Some(expr)) = (&details.field, &details.expr) {
                    report.error(
                        expr.at,
                        format!("the dimension `{}` has both `field` and `expr`", name.value),
                        "keep one of them",
                    );
                }
                let cardinality = details.max_cardinality.and_then(|n| {
                    if n.value == 0 {
                        report.error(n.at, "no group fits into 0", "write 1 or more");
                    }
                    usize::try_from(n.value).ok()
                });
                let text = details.expr.as_ref().or(details.field.as_ref()).unwrap_or(name);
                found.push((name.clone(), text.clone(), cardinality));
            }
            found
        }
    }
}

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

fn ratio(
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

fn derived(
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

/// The dimensions that all parts have; a declared one must be among them.
fn common_dimensions(
    raw: &raw::Metric,
    parts: &[usize],
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Vec<Dimension> {
    let in_all = |d: &Dimension| {
        parts.iter().all(|i| {
            metrics.compiled[*i].dimensions.iter().any(|o| o.name == d.name && o.ty == d.ty)
        })
    };
    let first = parts.first().map(|i| &metrics.compiled[*i]);
    let common: Vec<Dimension> =
        first.map(|m| m.dimensions.iter().filter(|d| in_all(d)).cloned().collect()).unwrap_or_default();
    let chosen: Vec<Dimension> = match &raw.dimensions {
        None => common,
        Some(_) => {
            let mut chosen = Vec::new();
            for (name, text, cardinality) in declared_dimensions(raw, report) {
                if text.value != name.value {
                    report.error(
                        text.at,
                        "a metric that is made of others takes its dimensions from them",
                        format!("write `{}: {{}}`", name.value),
                    );
                }
                match common.iter().find(|d| d.name == name.value) {
                    Some(d) => chosen.push(Dimension { max_cardinality: cardinality, ..d.clone() }),
                    None => report.error(
                        name.at,
                        format!("not all parts of this metric have the dimension `{}`", name.value),
                        suggest(
                            &name.value,
                            common.iter().map(|d| d.name.as_str()),
                            "dimensions that all parts have",
                        ),
                    ),
                }
            }
            chosen
        }
    };
    for dimension in &chosen {
        facts.add(&["dimension", &dimension.name]);
    }
    chosen
}

