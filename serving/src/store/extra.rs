//! Members that a contract did not know when a record came, and now does.
//!
//! The journal keeps them as JSON in `_extra`. When a contract gains a field, values that fit its
//! type move from there into the new column; what does not fit stays. Lists and structs are left
//! where they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDate};
use contracts::model::{Family, Field, TimeForm};
use contracts::types::Type;
use serde_json::value::RawValue;

type Members = BTreeMap<String, Box<RawValue>>;

/// What was found in `_extra`.
pub(super) struct Taken {
    /// New field → its values; null where there was none.
    pub fields: Vec<(String, ArrayRef)>,
    /// `_extra` without them.
    pub rest: ArrayRef,
    /// New field → rows that had a member of its type, null included.
    found: BTreeMap<String, Vec<bool>>,
}

impl Taken {
    /// Did the record of that row have the field?
    pub(super) fn has(&self, field: &str, row: usize) -> bool {
        self.found.get(field).is_some_and(|rows| rows[row])
    }
}

/// Takes the values of the family's new fields out of `_extra`.
pub(super) fn take(
    family: &Family,
    added: &[String],
    extra: &StringArray,
) -> Result<Taken, ArrowError> {
    let mut rows: Vec<Option<Members>> = extra
        .iter()
        .map(|text| text.and_then(|text| serde_json::from_str(text).ok()))
        .collect();
    let mut taken = Taken { fields: Vec::new(), rest: Arc::new(extra.clone()), found: BTreeMap::new() };
    for name in added {
        // The newest version that has it says what it is.
        let fields = family.versions.iter().rev().flat_map(|version| &version.fields);
        let Some(field) = fields.into_iter().find(|field| field.name == *name) else { continue };
        let mut found = vec![false; rows.len()];
        let mut values = vec![None; rows.len()];
        for (row, members) in rows.iter_mut().enumerate() {
            let Some(members) = members else { continue };
            let Some(value) = members.get(name).map(|raw| Value::parse(field, raw.get())) else {
                continue;
            };
            if let Some(value) = value {
                members.remove(name);
                found[row] = true;
                values[row] = Some(value);
            }
        }
        taken.fields.push((name.clone(), column(&field.ty, &values)?));
        taken.found.insert(name.clone(), found);
    }
    let rest: StringArray = rows
        .iter()
        .zip(extra.iter())
        .map(|(members, text)| match members {
            Some(members) if members.is_empty() => None,
            Some(members) => serde_json::to_string(members).ok(),
            None => text.map(str::to_owned),
        })
        .collect();
    taken.rest = Arc::new(rest);
    Ok(taken)
}

/// A value of a simple type.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Text(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(i128),
}

impl Value {
    /// The JSON value as the field's type; `None` when it does not fit.
    fn parse(field: &Field, json: &str) -> Option<Self> {
        if json == "null" {
            return Some(Self::Null);
        }
        match &field.ty {
            Type::String => serde_json::from_str(json).ok().map(Self::Text),
            Type::Json => Some(Self::Text(json.to_owned())),
            Type::Bool => serde_json::from_str(json).ok().map(Self::Bool),
            Type::Int64 => serde_json::from_str(json).ok().map(Self::Int),
            Type::Float64 => serde_json::from_str(json).ok().map(Self::Float),
            Type::Decimal { precision, scale } => {
                decimal(json, *precision, *scale).map(Self::Decimal)
            }
            Type::Timestamp => timestamp(field.time_form, json).map(Self::Int),
            Type::Date => {
                let text: String = serde_json::from_str(json).ok()?;
                let date: NaiveDate = text.parse().ok()?;
                Some(Self::Int(date.signed_duration_since(NaiveDate::default()).num_days()))
            }
            Type::List(_) | Type::Struct(_) => None,
        }
    }
}

/// A JSON number without an exponent as digits of a decimal, exactly.
fn decimal(json: &str, precision: u8, scale: i8) -> Option<i128> {
    let (whole, fraction) = json.split_once('.').unwrap_or((json, ""));
    let fraction = fraction.trim_end_matches('0');
    let scale = usize::try_from(scale).ok()?;
    if fraction.len() > scale || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (digits.abs() < limit).then_some(digits)
}

fn timestamp(form: TimeForm, json: &str) -> Option<i64> {
    let epoch = |units_per_second: i64| -> Option<i64> {
        let value: i64 = serde_json::from_str(json).ok()?;
        if units_per_second > 1_000_000 {
            Some(value.div_euclid(units_per_second / 1_000_000))
        } else {
            value.checked_mul(1_000_000 / units_per_second)
        }
    };
    match form {
        TimeForm::Rfc3339 => {
            let text: String = serde_json::from_str(json).ok()?;
            let time = DateTime::parse_from_rfc3339(&text)
                .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")))
                .ok()?;
            Some(time.timestamp_micros())
        }
        TimeForm::EpochS => epoch(1),
        TimeForm::EpochMs => epoch(1_000),
        TimeForm::EpochUs => epoch(1_000_000),
        TimeForm::EpochNs => epoch(1_000_000_000),
    }
}

fn column(ty: &Type, values: &[Option<Value>]) -> Result<ArrayRef, ArrowError> {
    let int = |value: &Option<Value>| match value {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    };
    Ok(match ty {
        Type::String | Type::Json => {
            Arc::new(StringArray::from_iter(values.iter().map(|value| match value {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            })))
        }
        Type::Bool => Arc::new(BooleanArray::from_iter(values.iter().map(|value| match value {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }))),
        Type::Int64 => Arc::new(Int64Array::from_iter(values.iter().map(int))),
        Type::Float64 => Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
            Some(Value::Float(value)) => Some(*value),
            _ => None,
        }))),
        Type::Decimal { precision, scale } => {
            let digits = Decimal128Array::from_iter(values.iter().map(|value| match value {
                Some(Value::Decimal(digits)) => Some(*digits),
                _ => None,
            }));
            Arc::new(digits.with_precision_and_scale(*precision, *scale)?)
        }
        Type::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from_iter(values.iter().map(int)))
        }
        Type::Date => Arc::new(Date32Array::from_iter(
            values.iter().map(|value| int(value).and_then(|days| i32::try_from(days).ok())),
        )),
        Type::List(_) | Type::Struct(_) => new_null_array(&ty.arrow(), values.len()),
    })
}
