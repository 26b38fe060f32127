//! Values per group, and how the values of several metrics become one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use contracts::expr::Expr;
use contracts::model::{Domain, Measure, Metric, OnEmpty};
use serde::{Deserialize, Serialize};

use crate::question::OTHER;
use crate::value::{Value, date_text};

/// The value of a dimension in a group. Rows without one come last, as in the statements, and then what
/// is not named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Member {
    Bool(bool),
    Int(i64),
    Date(i32),
    Text(String),
    None,
    /// Values that are not named.
    Other,
}

impl Member {
    /// As answers show it.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.to_string()),
            Self::Date(days) => Some(date_text(*days)),
            Self::Text(text) => Some(text.clone()),
            Self::None => None,
            Self::Other => Some(OTHER.to_owned()),
        }
    }
}

/// Values by group, in order of dimensions. Ungrouped: one value under the empty key.
pub(crate) type Groups = BTreeMap<Vec<Member>, Value>;

/// The value of an empty window: what a ratio or a derived metric makes of those of its parts, else what is
/// declared.
pub(crate) fn empty_value(domain: &Domain, metric: &Metric) -> Value {
    let of = |part: &usize| empty_value(domain, &domain.metrics[*part]);
    match &metric.measure {
        Measure::Ratio { numerator, denominator } => {
            settle(metric, quotient(&of(numerator), &of(denominator)))
        }
        Measure::Derived { parts, expr } => {
            let values: Vec<Value> = parts.iter().map(of).collect();
            let value = evaluate(expr, &names(domain, parts), &[&values]).pop();
            settle(metric, value.unwrap_or(Value::Null))
        }
        _ => declared(metric),
    }
}

/// What is declared for an empty window.
fn declared(metric: &Metric) -> Value {
    match metric.on_empty {
        OnEmpty::Null => Value::Null,
        OnEmpty::Zero => Value::zero(&metric.value_type),
    }
}

/// Puts the declared value of an empty window where nothing was measured: no value at all, or a
/// count of nothing.
pub(crate) fn settle(metric: &Metric, value: Value) -> Value {
    let counts = metric.measure.is_count();
    match value {
        Value::Null => declared(metric),
        Value::Int(0) if counts => declared(metric),
        value => value,
    }
}

/// The values of `metric` from those of the metrics that read rows (by index in
/// [`Domain::metrics`]). Groups are joined outright: a group that one part does not have counts as
/// an empty window of that part.
pub(crate) fn combine(domain: &Domain, metric: &Metric, read: &BTreeMap<usize, Groups>) -> Groups {
    let value = match &metric.measure {
        Measure::Ratio { numerator, denominator } => {
            let columns = join(domain, &[*numerator, *denominator], read);
            columns
                .into_iter()
                .map(|(key, parts)| (key, quotient(&parts[0], &parts[1])))
                .collect::<Groups>()
        }
        Measure::Derived { parts, expr } => {
            let columns = join(domain, parts, read);
            let names = names(domain, parts);
            let rows: Vec<&[Value]> = columns.values().map(Vec::as_slice).collect();
            let values = evaluate(expr, &names, &rows);
            columns.keys().cloned().zip(values).collect()
        }
        _ => return read.get(&metric.index).cloned().unwrap_or_default(),
    };
    value.into_iter().map(|(key, value)| (key, settle(metric, value))).collect()
}

/// The values of several metrics side by side, by group.
fn join(
    domain: &Domain,
    parts: &[usize],
    read: &BTreeMap<usize, Groups>,
) -> BTreeMap<Vec<Member>, Vec<Value>> {
    let parts: Vec<(Value, Groups)> = parts
        .iter()
        .map(|part| &domain.metrics[*part])
        .map(|metric| (empty_value(domain, metric), combine(domain, metric, read)))
        .collect();
    let keys: BTreeSet<&Vec<Member>> = parts.iter().flat_map(|(_, groups)| groups.keys()).collect();
    keys.into_iter()
        .map(|key| {
            let values = parts.iter().map(|(empty, groups)| groups.get(key).unwrap_or(empty));
            (key.clone(), values.cloned().collect())
        })
        .collect()
}

/// What an expression over metrics calls them.
fn names(domain: &Domain, parts: &[usize]) -> Vec<String> {
    parts.iter().map(|part| domain.metrics[*part].versioned_name()).collect()
}

fn quotient(numerator: &Value, denominator: &Value) -> Value {
    match (numerator.as_f64(), denominator.as_f64()) {
        (Some(numerator), Some(denominator)) if denominator != 0.0 => {
            Value::finite(numerator / denominator)
        }
        _ => Value::Null,
    }
}

/// `expr` over rows of values, each column a double under its name.
fn evaluate(expr: &Expr, names: &[String], rows: &[&[Value]]) -> Vec<Value> {
    let mut fields = Vec::with_capacity(names.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        fields.push(Field::new(name, DataType::Float64, true));
        columns.push(Arc::new(rows.iter().map(|row| row[i].as_f64()).collect::<Float64Array>()));
    }
    let nothing = || vec![Value::Null; rows.len()];
    let Ok(batch) = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns) else {
        return nothing();
    };
    match cast(&expr.evaluate(&batch), &DataType::Float64) {
        Ok(values) => {
            let values = values.as_primitive::<Float64Type>();
            (0..values.len())
                .map(|row| {
                    if values.is_null(row) { Value::Null } else { Value::finite(values.value(row)) }
                })
                .collect()
        }
        Err(_) => nothing(),
    }
}
