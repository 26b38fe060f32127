//! Answers laid side by side.

use std::cmp::Ordering;
use std::sync::Arc;

use contracts::model::Metric;
use serde_json::value::{RawValue, to_raw_value};

use super::{Cells, END, MAX_ROWS, MetricsQuery, Planned, START};
use crate::metric::empty_value;
use crate::query::rows::{Column, Row};
use crate::question::{ReadError, Value};
use crate::value::{compare, time_text};

/// Rows as they are laid side by side.
pub(super) struct Table {
    /// Beside the metrics.
    names: Vec<String>,
    metrics: Vec<String>,
    is_series: bool,
    rows: Vec<(Vec<Option<String>>, Vec<Value>)>,
}

impl Table {
    pub(super) fn new(planned: &Planned<'_>, query: &MetricsQuery) -> Self {
        let mut names = Vec::new();
        if planned.is_series {
            names.extend([START.to_owned(), END.to_owned()]);
        }
        names.extend(query.dimensions.iter().cloned());
        let metrics = planned.metrics.iter().map(|metric| metric.name.clone()).collect();
        Self { names, metrics, is_series: planned.is_series, rows: Vec::new() }
    }

    /// Adds the rows of a window, in order of their dimensions. Was one left out?
    pub(super) fn add(
        &mut self,
        window: Option<(i64, i64)>,
        cells: Cells,
        metrics: &[&Metric],
    ) -> bool {
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.sort_by(|(left, _), (right, _)| compare_keys(left, right));
        for (mut key, values) in cells {
            if self.rows.len() == MAX_ROWS {
                return true;
            }
            if let Some((from, to)) = window.filter(|_| self.is_series) {
                key.splice(0..0, [Some(time_text(from)), Some(time_text(to))]);
            }
            // A group that one metric does not have is an empty window of that metric.
            let values = values.into_iter().zip(metrics);
            let values = values.map(|(value, metric)| value.unwrap_or_else(|| empty_value(metric)));
            let values = values.collect();
            self.rows.push((key, values));
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
        self.rows.sort_by(|left, right| {
            for (by, down) in &keys {
                let (order, has_null) = match by {
                    By::Key(at) => {
                        let (left, right) = (&left.0[*at], &right.0[*at]);
                        (compare_texts(left, right), left.is_none() || right.is_none())
                    }
                    By::Metric(at) => {
                        let (left, right) = (&left.1[*at], &right.1[*at]);
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
        let metrics = metrics
            .iter()
            .map(|metric| Column { name: metric.name.clone(), ty: metric.value_type.to_string() });
        keys.chain(metrics).collect()
    }

    pub(super) fn rows(self) -> Vec<Row> {
        let names: Arc<[String]> = self.names.into_iter().chain(self.metrics).collect();
        let row = |(key, values): (Vec<Option<String>>, Vec<Value>)| Row {
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
