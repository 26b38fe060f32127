//! Answers laid side by side.

use std::cmp::Ordering;
use std::sync::Arc;

use contracts::model::Metric;
use serde_json::value::{RawValue, to_raw_value};

use super::{Cell, Cells, END, Key, MAX_ROWS, MetricsQuery, Planned, START};
use crate::query::rows::{Column, Row};
use crate::question::{ReadError, Value};
use crate::value::{compare, time_text};

/// Rows as they are laid side by side.
pub(super) struct Table {
    /// Beside the metrics.
    names: Vec<String>,
    metrics: Vec<String>,
    is_series: bool,
    is_compared: bool,
    rows: Vec<Line>,
}

/// A row: by dimension whether it is made of values that are not named, its names, its values.
type Line = (Vec<bool>, Vec<Option<String>>, Vec<Value>);

/// The columns of a metric, with their types.
pub(super) fn columns_of(
    metric: &Metric,
    is_compared: bool,
) -> impl Iterator<Item = (String, String)> + '_ {
    let change = match &metric.value_type {
        ty if ty.is_numeric() => ty.to_string(),
        // There is none.
        _ => "float64".to_owned(),
    };
    let ty = metric.value_type.to_string();
    let more =
        [("_previous", ty.clone()), ("_change", change), ("_change_ratio", "float64".to_owned())];
    let more = more.into_iter().filter(move |_| is_compared);
    let named = move |(end, ty): (&str, String)| (format!("{}{end}", metric.name), ty);
    [("", ty)].into_iter().chain(more).map(named)
}

impl Table {
    pub(super) fn new(planned: &Planned<'_>, query: &MetricsQuery) -> Self {
        let mut names = Vec::new();
        if planned.is_series {
            names.extend([START.to_owned(), END.to_owned()]);
        }
        names.extend(query.dimensions.iter().cloned());
        let is_compared = query.compare;
        let metrics = planned.metrics.iter().flat_map(|metric| columns_of(metric, is_compared));
        let metrics = metrics.map(|(name, _)| name).collect();
        Self { names, metrics, is_series: planned.is_series, is_compared, rows: Vec::new() }
    }

    /// Adds the rows of a window, in order of their dimensions. `metrics`: each with its value of an empty
    /// window. Was one left out?
    pub(super) fn add(
        &mut self,
        window: Option<(i64, i64)>,
        cells: Cells,
        metrics: &[(&Metric, Value)],
    ) -> bool {
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.sort_by(|(left, _), (right, _)| {
            let by_rest = left.is_other().cmp(&right.is_other());
            by_rest
                .then_with(|| compare_keys(&left.names, &right.names))
                .then_with(|| left.others.cmp(&right.others))
        });
        for (Key { others, names: mut key }, cells) in cells {
            if self.rows.len() == MAX_ROWS {
                return true;
            }
            if let Some((from, to)) = window.filter(|_| self.is_series) {
                key.splice(0..0, [Some(time_text(from)), Some(time_text(to))]);
            }
            let mut values = Vec::with_capacity(self.metrics.len());
            for (cell, (_, empty)) in cells.into_iter().zip(metrics) {
                // A group that one metric does not have is an empty window of that metric.
                let (value, before) = match cell {
                    Some(Cell { value, before }) => (value, before),
                    None => (empty.clone(), None),
                };
                if self.is_compared {
                    let before = before.unwrap_or_else(|| empty.clone());
                    let (change, ratio) = (value.change(&before), value.change_ratio(&before));
                    values.extend([value, before, change, ratio]);
                } else {
                    values.push(value);
                }
            }
            self.rows.push((others, key, values));
        }
        false
    }

    pub(super) fn order(&mut self, order_by: &[(String, bool)]) -> Result<(), ReadError> {
        enum By {
            Key(usize),
            Metric(usize),
        }
        let mut keys = Vec::with_capacity(order_by.len());
        for (name, down) in order_by {
            let key = self.names.iter().position(|known| known == name).map(By::Key);
            let metric = || self.metrics.iter().position(|known| known == name).map(By::Metric);
            let Some(by) = key.or_else(metric) else {
                let known = self.names.iter().chain(&self.metrics).map(String::as_str);
                let near = crate::metric::hint(name, known);
                return Err(ReadError::Invalid {
                    message: format!("`order_by` names `{name}`, which is no column of the answer"),
                    hint: near,
                    parameter: "order_by",
                });
            };
            keys.push((by, *down));
        }
        if keys.is_empty() {
            return Ok(());
        }
        self.rows.sort_by(|left, right| {
            // Groups that are not named have no place among those that are, but their window has.
            let by_rest = left.0.contains(&true).cmp(&right.0.contains(&true));
            if by_rest != Ordering::Equal && !self.is_series {
                return by_rest;
            }
            for (by, down) in &keys {
                let (order, has_null) = match by {
                    By::Key(at) => {
                        let (left, right) = (&left.1[*at], &right.1[*at]);
                        (compare_texts(left, right), left.is_none() || right.is_none())
                    }
                    By::Metric(at) => {
                        let (left, right) = (&left.2[*at], &right.2[*at]);
                        (compare(left, right), left.is_null() || right.is_null())
                    }
                };
                // What is not there comes last either way.
                let order = if *down && !has_null { order.reverse() } else { order };
                if order != Ordering::Equal {
                    return order;
                }
            }
            Ordering::Equal
        });
        Ok(())
    }

    pub(super) fn columns(&self, metrics: &[&Metric]) -> Vec<Column> {
        let ty = |name: &String| match name.as_str() {
            START | END if self.is_series => "timestamp".to_owned(),
            _ => "string".to_owned(),
        };
        let keys = self.names.iter().map(|name| Column { name: name.clone(), ty: ty(name) });
        let metrics = metrics.iter().flat_map(|metric| columns_of(metric, self.is_compared));
        keys.chain(metrics.map(|(name, ty)| Column { name, ty })).collect()
    }

    /// Places of the rows that are made of groups that are not named, and in which dimensions.
    pub(super) fn others(&self) -> Vec<(usize, Vec<String>)> {
        let dimensions = self.names.iter().skip(if self.is_series { 2 } else { 0 });
        let named = |others: &[bool]| -> Vec<String> {
            let both = dimensions.clone().zip(others);
            both.filter(|(_, is_other)| **is_other).map(|(name, _)| name.clone()).collect()
        };
        let rows = self.rows.iter().enumerate();
        let rows = rows.filter(|(_, (others, ..))| others.contains(&true));
        rows.map(|(place, (others, ..))| (place, named(others))).collect()
    }

    pub(super) fn rows(self) -> Vec<Row> {
        let names: Arc<[String]> = self.names.into_iter().chain(self.metrics).collect();
        let row = |(_, key, values): Line| Row {
            names: Arc::clone(&names),
            values: key.iter().map(json).chain(values.iter().map(json)).collect(),
        };
        self.rows.into_iter().map(row).collect()
    }
}

fn json<T: serde::Serialize>(value: &T) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn compare_keys(left: &[Option<String>], right: &[Option<String>]) -> Ordering {
    let pairs = left.iter().zip(right);
    pairs
        .map(|(left, right)| compare_texts(left, right))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Texts in order, what is not there last.
fn compare_texts(left: &Option<String>, right: &Option<String>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => left.cmp(right),
        (left, right) => left.is_none().cmp(&right.is_none()),
    }
}
