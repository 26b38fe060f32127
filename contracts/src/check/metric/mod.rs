//! Metrics: source rows, measure, dimensions, windows.
//!
//! Start at [`order`] for who must come before whom, and at [`check`] for one metric.

mod dimensions;
mod followed;
mod parts;
mod rows;
mod sums;
mod times;
mod windows;

use std::collections::BTreeMap;

use crate::check::hash::Facts;
use crate::check::measure::{self, MeasureText, Part};
use crate::check::names::{Item, Names, newest};
use crate::check::relations::Relations;
use crate::check::values::{duration, phrases};
use crate::diagnostic::Report;
use crate::model::{Dimension, Measure, Metric, MetricInput, OnEmpty, Status};
use crate::raw::decode::Text;
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
    let found = |part: &Part| -> Option<usize> {
        let versions = by_name.get(part.name.as_str())?;
        let wanted = match part.version {
            Some(version) => version,
            None => newest(versions.iter().map(|i| (items[*i].status, items[*i].version)))?.1,
        };
        versions.iter().copied().find(|i| items[*i].version == wanted)
    };
    let parts = |i: usize| -> Vec<usize> {
        measure::parts(&items[i].raw.measure, |name| by_name.contains_key(name))
            .iter()
            .filter_map(found)
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
    /// The version that is named, else the newest stable one, if it is compiled.
    fn part(&self, part: &Part) -> Option<usize> {
        let wanted = match part.version {
            Some(version) => version,
            None => newest(self.all.get(part.name.as_str())?.iter().copied())?.1,
        };
        self.compiled.iter().position(|m| m.name == part.name && m.version == wanted)
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
    let windows = windows::windows(raw, report);
    let max_age = match &raw.freshness {
        None => MAX_AGE,
        Some(freshness) => duration(&freshness.max_age, true, report).unwrap_or(MAX_AGE),
    };
    let measured = measure::read(&raw.measure, report);
    let mut facts = Facts::default();
    let mut over_rows = |measure: Measure, arg: Option<Text>, steps: Option<[Text; 2]>| {
        followed::check(raw, &measure, &windows, report)?;
        let (arg, steps) = (arg.as_ref(), steps.as_ref());
        let what = rows::What { measure, arg, steps, metrics };
        rows::measure(raw, what, names, relations, &mut facts, report)
    };
    let measured = match measured? {
        MeasureText::Rows(measure, arg) => over_rows(measure, arg, None),
        MeasureText::Steps(measure, steps) => over_rows(measure, None, Some(steps)),
        MeasureText::Ratio(a, b) => {
            parts::ratio(raw, (&a, &b), names, relations, metrics, &mut facts, report)
        }
        MeasureText::Derived(text) => {
            parts::derived(raw, &text, names, relations, metrics, &mut facts, report)
        }
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
    let synonyms = phrases(raw.synonyms.as_deref(), report);
    let unit = raw.unit.as_ref().map_or(measured.unit.to_owned(), |t| t.value.clone());
    if report.count() != before {
        return None;
    }
    facts.add(&["on_empty", &format!("{on_empty:?}")]);
    facts.add(&["unit", &unit]);
    facts.add(&["type", &measured.value_type.to_string()]);
    for period in windows.iter().filter_map(|window| window.period) {
        facts.add(&["period", &format!("{period:?}")]);
    }
    Some(Metric {
        index: metrics.compiled.len(),
        name: item.name.clone(),
        version: item.version,
        status: item.status,
        owner: raw.owner.as_ref().map(|t| t.value.clone()),
        description: raw.description.as_ref().map(|t| t.value.clone()),
        synonyms,
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
