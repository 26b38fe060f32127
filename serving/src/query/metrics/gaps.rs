//! What stands in a window of a series in which nothing was measured, as the contract says.

use std::collections::{BTreeSet, HashMap};

use contracts::model::{Gaps, Metric};

use super::{Cell, Cells, Key};
use crate::value::Value;

/// Gives each window a row for each group of the series, and each of its cells a value. `metrics`: each with its
/// value of an empty window.
pub(super) fn fill(windows: &mut [(Option<(i64, i64)>, Cells)], metrics: &[(&Metric, Value)]) {
    let keys: BTreeSet<Key> = windows.iter().flat_map(|(_, cells)| cells.keys().cloned()).collect();
    let mut last: HashMap<Key, Vec<Option<Value>>> = HashMap::new();
    for (_, cells) in windows {
        for key in &keys {
            let row = cells.entry(key.clone()).or_insert_with(|| vec![None; metrics.len()]);
            let last = last.entry(key.clone()).or_insert_with(|| vec![None; metrics.len()]);
            for ((cell, last), (metric, empty)) in row.iter_mut().zip(last).zip(metrics) {
                let (value, before) = match cell.take() {
                    Some(Cell { value, before }) => (value, before),
                    None => (empty.clone(), None),
                };
                *cell = Some(Cell { value: filled(metric, value, last), before });
            }
        }
    }
}

/// `value`, or what stands in its place. `last`: the last value of the series before it.
pub(super) fn filled(metric: &Metric, value: Value, last: &mut Option<Value>) -> Value {
    match (&value, metric.gaps) {
        (Value::Null, Gaps::Zero) => Value::zero(&metric.value_type),
        (Value::Null, Gaps::Previous) => last.clone().unwrap_or(Value::Null),
        (Value::Null, Gaps::Null) => Value::Null,
        _ => {
            *last = Some(value.clone());
            value
        }
    }
}
