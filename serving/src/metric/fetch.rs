//! Runs a statement and reads the values that it gives.

use std::collections::BTreeMap;

use contracts::model::{Measure, Metric};
use duckdb::types::ValueRef;
use duckdb::{Connection, Row, params_from_iter};

use super::groups::{Groups, Member, settle};
use super::{sketch, sql, unavailable};
use crate::question::ReadError;
use crate::store;
use crate::value::{MOST_DIGITS, Value};

/// The values of one metric that reads rows.
pub(super) struct Fetched {
    /// By group.
    pub(super) groups: Groups,
    /// What the value is made of, by name, where it is made of something; of ungrouped ones.
    pub(super) components: Option<BTreeMap<String, Value>>,
}

/// Why a row has no value.
enum Fault {
    DuckDb(duckdb::Error),
    Overflow,
}

impl From<duckdb::Error> for Fault {
    fn from(error: duckdb::Error) -> Self {
        Self::DuckDb(error)
    }
}

/// Runs a statement of [`sql::aggregate`].
pub(super) fn fetch(
    conn: &Connection,
    metric: &Metric,
    query: sql::Query,
    dimensions: usize,
) -> Result<Fetched, ReadError> {
    let mut fetched = Fetched { groups: Groups::new(), components: None };
    let mut run = || -> Result<(), Fault> {
        let mut statement = conn.prepare_cached(&query.text)?;
        let mut rows = statement.query(params_from_iter(&query.values))?;
        while let Some(row) = rows.next()? {
            let key = key(row, dimensions)?;
            let value = value(&metric.measure, row, dimensions)?;
            if dimensions == 0 && matches!(metric.measure, Measure::Conversion { .. }) {
                let named = |name: &str, at| Ok((name.to_owned(), scalar(row.get_ref(at)?)?));
                let components = [named("converted", 0), named("entered", 1)];
                fetched.components = Some(components.into_iter().collect::<Result<_, Fault>>()?);
            }
            fetched.groups.insert(key, settle(metric, value));
        }
        Ok(())
    };
    run().map_err(|fault| explain(metric, fault))?;
    Ok(fetched)
}

/// A group and its columns.
pub(super) type Columns = (Vec<Member>, Vec<Value>);

/// Runs a statement of [`sql::aggregate`] and gives the columns behind the dimensions as they are, `width` of
/// them, by group.
pub(super) fn fetch_columns(
    conn: &Connection,
    metric: &Metric,
    query: sql::Query,
    dimensions: usize,
    width: usize,
) -> Result<Vec<Columns>, ReadError> {
    let mut fetched = Vec::new();
    let mut run = || -> Result<(), Fault> {
        let mut statement = conn.prepare_cached(&query.text)?;
        let mut rows = statement.query(params_from_iter(&query.values))?;
        while let Some(row) = rows.next()? {
            let columns = (0..width).map(|i| scalar(row.get_ref(dimensions + i)?));
            let columns = columns.collect::<Result<Vec<_>, Fault>>()?;
            fetched.push((key(row, dimensions)?, columns));
        }
        Ok(())
    };
    run().map_err(|fault| explain(metric, fault))?;
    Ok(fetched)
}

/// The values of the dimensions, which are the first columns.
fn key(row: &Row<'_>, dimensions: usize) -> Result<Vec<Member>, duckdb::Error> {
    (0..dimensions).map(|i| Ok(member(row.get_ref(i)?))).collect()
}

fn explain(metric: &Metric, fault: Fault) -> ReadError {
    match fault {
        Fault::Overflow => overflow(metric),
        Fault::DuckDb(error) if is_overflow(&store::duckdb_message(&error)) => overflow(metric),
        Fault::DuckDb(error) => unavailable(&format!("read metric `{}`", metric.name))(error),
    }
}

/// The value in the columns from `at` on.
fn value(measure: &Measure, row: &Row<'_>, at: usize) -> Result<Value, Fault> {
    let first = row.get_ref(at)?;
    Ok(match measure {
        Measure::Avg | Measure::TimeWeighted | Measure::Conversion { .. } => {
            mean(&scalar(first)?, &scalar(row.get_ref(at + 1)?)?)
        }
        Measure::DurationInState => match scalar(first)? {
            // Microseconds, as seconds.
            Value::Int(micros) => Value::Decimal { digits: micros, scale: 6 },
            _ => Value::Null,
        },
        Measure::ApproxCountDistinct => sketch::count(text(first)),
        Measure::ApproxQuantile(q) => sketch::quantile(text(first), *q),
        _ => match scalar(first)? {
            // DuckDB keeps sums of whole decimals in 128 bits, which hold a little more than the type.
            Value::Decimal { digits, .. } if digits.unsigned_abs() >= MOST_DIGITS => {
                return Err(Fault::Overflow);
            }
            value => value,
        },
    })
}

/// The sum is exact, so the mean is off by no more than the division.
pub(super) fn mean(sum: &Value, count: &Value) -> Value {
    match (sum.as_f64(), count.as_f64()) {
        (Some(sum), Some(count)) if count > 0.0 => Value::finite(sum / count),
        _ => Value::Null,
    }
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn scalar(value: ValueRef<'_>) -> Result<Value, Fault> {
    Ok(match value {
        ValueRef::Boolean(value) => Value::Bool(value),
        ValueRef::TinyInt(value) => Value::Int(value.into()),
        ValueRef::SmallInt(value) => Value::Int(value.into()),
        ValueRef::Int(value) => Value::Int(value.into()),
        ValueRef::BigInt(value) => Value::Int(value.into()),
        ValueRef::HugeInt(value) => Value::Int(value),
        // Columns hold finite doubles, so this one grew out of its type on the way.
        ValueRef::Double(value) if !value.is_finite() => return Err(Fault::Overflow),
        ValueRef::Double(value) => Value::Float(value),
        ValueRef::Decimal(value) => match i8::try_from(value.scale()) {
            Ok(scale) => Value::Decimal { digits: value.value(), scale },
            Err(_) => Value::Null,
        },
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Timestamp(_, micros) => Value::Timestamp(micros),
        ValueRef::Date32(days) => Value::Date(days),
        // No measure has another type.
        _ => Value::Null,
    })
}

fn member(value: ValueRef<'_>) -> Member {
    match scalar(value) {
        Ok(Value::Bool(value)) => Member::Bool(value),
        Ok(Value::Int(value)) => i64::try_from(value).map_or(Member::None, Member::Int),
        Ok(Value::Date(days)) => Member::Date(days),
        Ok(Value::Text(text)) => Member::Text(text),
        _ => Member::None,
    }
}

/// Does DuckDB say that a result did not fit into its type? The statements cast nothing that people
/// wrote, so nothing else is meant by a conversion that fails.
fn is_overflow(message: &str) -> bool {
    message.starts_with("Out of Range Error") || message.starts_with("Conversion Error")
}

pub(super) fn overflow(metric: &Metric) -> ReadError {
    ReadError::Overflow {
        message: format!("the value of metric `{}` does not fit into its type", metric.name),
        hint: format!("ask for a shorter window or a filter; its values are {}", metric.value_type),
    }
}
