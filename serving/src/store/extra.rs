//! Members that a contract did not know when a record came, and now does.
//!
//! The journal keeps them as JSON in `_extra`. When a version of a contract gains a field, values
//! that fit its type move from there into the column; what does not fit stays. Lists and structs
//! are left where they are. Bounds and patterns are not applied: the record was accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDate};
use contracts::model::{Family, Field, TimeForm};
use contracts::types::Type;
use serde_json::value::RawValue;

use super::contract_state::FieldBefore;

type Members = BTreeMap<String, Box<RawValue>>;

/// What was found in `_extra`.
pub(super) struct Taken {
    /// Fields that some version did not have before.
    pub fields: Vec<Found>,
    /// `_extra` without them.
    pub rest: ArrayRef,
}

/// The values of one field.
pub(super) struct Found {
    /// The field.
    pub name: String,
    /// Rows that have it now, null included.
    pub rows: BooleanArray,
    /// Its values in those rows.
    pub values: ArrayRef,
}

/// Takes values of fields that the version of a row has now and had not `before` out of `_extra`;
/// where a record did not have the member, the field's default is its value.
pub(super) fn take(
    family: &Family,
    before: &[FieldBefore],
    versions: &Int64Array,
    extra: &StringArray,
) -> Result<Taken, ArrowError> {
    let mut members: Vec<Option<Members>> =
        extra.iter().map(|text| text.and_then(|text| serde_json::from_str(text).ok())).collect();
    let mut fields = Vec::new();
    for def in &family.fields {
        let new: Vec<(i64, &Field)> = family
            .versions
            .iter()
            .filter(|version| !had(before, &def.name, version.version))
            .filter_map(|version| {
                let field = version.fields.iter().find(|field| field.name == def.name)?;
                Some((i64::from(version.version), field))
            })
            .collect();
        if new.is_empty() {
            continue;
        }
        let mut values = vec![None; members.len()];
        for (row, members) in members.iter_mut().enumerate() {
            let version = versions.value(row);
            let Some((_, field)) = new.iter().find(|(new, _)| *new == version) else { continue };
            let json = members.as_ref().and_then(|members| members.get(&def.name));
            values[row] = match (json, &field.default) {
                (Some(json), _) => Value::parse(field, json.get()),
                (None, Some(default)) => Value::parse(field, &default.to_string()),
                (None, None) => None,
            };
            if values[row].is_some()
                && let Some(members) = members
            {
                members.remove(&def.name);
            }
        }
        fields.push(Found {
            name: def.name.clone(),
            rows: values.iter().map(|value| Some(value.is_some())).collect(),
            values: column(&def.ty, &values)?,
        });
    }
    let rest: StringArray = members
        .iter()
        .zip(extra.iter())
        .map(|(members, text)| match members {
            Some(members) if members.is_empty() => None,
            Some(members) => serde_json::to_string(members).ok(),
            None => text.map(str::to_owned),
        })
        .collect();
    Ok(Taken { fields, rest: Arc::new(rest) })
}

/// Did that version have the field before?
pub(super) fn had(before: &[FieldBefore], field: &str, version: u32) -> bool {
    before.iter().any(|old| old.name == field && old.versions.contains(&version))
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
        Type::Float64 => {
            Arc::new(Float64Array::from_iter(values.iter().map(|value| match value {
                Some(Value::Float(value)) => Some(*value),
                _ => None,
            })))
        }
        Type::Decimal { precision, scale } => {
            let digits = Decimal128Array::from_iter(values.iter().map(|value| match value {
                Some(Value::Decimal(digits)) => Some(*digits),
                _ => None,
            }));
            Arc::new(digits.with_precision_and_scale(*precision, *scale)?)
        }
        Type::Timestamp => Arc::new(TimestampMicrosecondArray::from_iter(values.iter().map(int))),
        Type::Date => Arc::new(Date32Array::from_iter(
            values.iter().map(|value| int(value).and_then(|days| i32::try_from(days).ok())),
        )),
        Type::List(_) | Type::Struct(_) => new_null_array(&ty.arrow(), values.len()),
    })
}
