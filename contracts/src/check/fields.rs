//! Fields of event contracts: types, bounds, defaults.
//!
//! A bound that cannot apply to its field's type is an error here, so that the decoder never meets
//! one. Start at [`fields`].

use std::cmp::Ordering;

use regex::Regex;
use serde_json::Value;

use crate::check::values::{column_name, compare, parse_decimal};
use crate::diagnostic::{Position, Report, suggest};
use crate::model::{Constraints, Field, TimeForm};
use crate::raw::decode::{Json, Named, Text, Whole, shorten};
use crate::raw::event::{self as raw, FieldDetails};
use crate::type_text::parse_type;
use crate::types::Type;

/// A checked field, and in which currency it is.
#[derive(Debug)]
pub(crate) struct CheckedField {
    /// The field of the model.
    pub(crate) field: Field,
    /// What `currency_field` says.
    pub(crate) currency_field: Option<Text>,
}

/// Checks all fields of a contract; bad ones are reported and left out.
pub(crate) fn fields(raw: &Named<raw::Field>, report: &mut Report) -> Vec<CheckedField> {
    let mut checked: Vec<CheckedField> = Vec::new();
    for (name, field) in &raw.0 {
        let Some(column) = column_name(name, "a field", report) else { continue };
        if let Some(other) = checked.iter().find(|f| f.field.name.eq_ignore_ascii_case(&column)) {
            report.error(
                name.at,
                format!("the fields `{}` and `{column}` differ only in case", other.field.name),
                "rename one of them: columns of tables are told apart without regard to case",
            );
            continue;
        }
        let checked_field = match field {
            raw::Field::Short(ty) => type_of(ty, report).map(|ty| CheckedField {
                field: Field {
                    name: column,
                    ty,
                    required: true,
                    default: None,
                    time_form: TimeForm::Rfc3339,
                    constraints: Constraints::default(),
                    description: None,
                    pii: false,
                },
                currency_field: None,
            }),
            raw::Field::Long(details) => detailed(column, details, report),
        };
        checked.extend(checked_field);
    }
    checked
}

/// Reads a type and reports what is wrong with it.
pub(crate) fn type_of(text: &Text, report: &mut Report) -> Option<Type> {
    match parse_type(&text.value) {
        Ok(ty) => Some(ty),
        Err(error) => {
            report.error(text.inside(1, error.column), error.message, error.hint);
            None
        }
    }
}

fn detailed(name: String, raw: &FieldDetails, report: &mut Report) -> Option<CheckedField> {
    let ty = type_of(&raw.type_, report)?;
    let before = report.count();
    let constraints = constraints(raw, &ty, report);
    if let (Some(_), false) = (raw.form, ty == Type::Timestamp) {
        report.error(
            raw.at,
            format!("`form` is for timestamps, and this field is {ty}"),
            "remove `form`, or declare `type: timestamp`",
        );
    }
    let time_form = raw.form.map_or(TimeForm::Rfc3339, time_form);
    let default = raw.default.as_ref().and_then(|json| {
        let value = default_value(json, &ty, time_form);
        if value.is_none() {
            report.error(
                json.at,
                format!("the default does not fit the type {ty}"),
                "write a value as a record would have it",
            );
        }
        let value = value?;
        check_default(&value, &ty, &constraints, json.at, report);
        Some(value)
    });
    if report.count() != before {
        return None;
    }
    Some(CheckedField {
        field: Field {
            name,
            ty,
            required: raw.required.unwrap_or(true),
            default,
            time_form,
            constraints,
            description: raw.description.as_ref().map(|t| t.value.clone()),
            pii: raw.pii.unwrap_or(false),
        },
        currency_field: raw.currency_field.clone(),
    })
}

/// The model's form of time.
pub(crate) fn time_form(raw: raw::TimeForm) -> TimeForm {
    match raw {
        raw::TimeForm::Rfc3339 => TimeForm::Rfc3339,
        raw::TimeForm::EpochS => TimeForm::EpochS,
        raw::TimeForm::EpochMs => TimeForm::EpochMs,
        raw::TimeForm::EpochUs => TimeForm::EpochUs,
        raw::TimeForm::EpochNs => TimeForm::EpochNs,
    }
}

fn constraints(raw: &FieldDetails, ty: &Type, report: &mut Report) -> Constraints {
    let text_only: [(&str, Option<Position>); 4] = [
        ("pattern", raw.pattern.as_ref().map(|t| t.at)),
        ("values", raw.values.as_ref().map(|_| raw.at)),
        ("min_length", raw.min_length.map(|n| n.at)),
        ("max_length", raw.max_length.map(|n| n.at)),
    ];
    let number_only: [(&str, Option<Position>); 4] = [
        ("above", raw.above.as_ref().map(|t| t.at)),
        ("below", raw.below.as_ref().map(|t| t.at)),
        ("min", raw.min.as_ref().map(|t| t.at)),
        ("max", raw.max.as_ref().map(|t| t.at)),
    ];
    let list_only: [(&str, Option<Position>); 2] =
        [("min_items", raw.min_items.map(|n| n.at)), ("max_items", raw.max_items.map(|n| n.at))];
    misplaced(&text_only, "texts", *ty == Type::String, ty, report);
    misplaced(&number_only, "numbers", ty.is_numeric(), ty, report);
    misplaced(&list_only, "lists", matches!(ty, Type::List(_)), ty, report);

    let low = raw.above.as_ref().or(raw.min.as_ref());
    let high = raw.below.as_ref().or(raw.max.as_ref());
    let above = bound(raw.above.as_ref(), report);
    let below = bound(raw.below.as_ref(), report);
    let min = bound(raw.min.as_ref(), report);
    let max = bound(raw.max.as_ref(), report);
    if let (Some(low), Some(high)) = (low, high)
        && let (Some(a), Some(b)) = (parse_decimal(&low.value), parse_decimal(&high.value))
    {
        let excluded = raw.above.is_some() || raw.below.is_some();
        match compare(a, b) {
            Ordering::Greater => impossible(high.at, &low.value, &high.value, report),
            Ordering::Equal if excluded => impossible(high.at, &low.value, &high.value, report),
            _ => {}
        }
    }
    let length = |n: Option<Whole>| n.and_then(|n| usize::try_from(n.value).ok());
    for (low, high) in [(raw.min_length, raw.max_length), (raw.min_items, raw.max_items)] {
        if let (Some(low), Some(high)) = (low, high)
            && low.value > high.value
        {
            impossible(high.at, &low.value.to_string(), &high.value.to_string(), report);
        }
    }
    Constraints {
        pattern: raw.pattern.as_ref().and_then(|text| pattern(text, report)),
        values: raw.values.as_ref().map(|values| allowed(values, raw.at, report)),
        above,
        below,
        min,
        max,
        min_length: length(raw.min_length),
        max_length: length(raw.max_length),
        min_items: length(raw.min_items),
        max_items: length(raw.max_items),
    }
}

fn misplaced(
    keys: &[(&str, Option<Position>)],
    what: &str,
    fits: bool,
    ty: &Type,
    report: &mut Report,
) {
    for (key, at) in keys {
        if let (Some(at), false) = (at, fits) {
            report.error(
                *at,
                format!("`{key}` is for {what}, and this field is {ty}"),
                format!("remove `{key}`, or change the type"),
            );
        }
    }
}

fn impossible(at: Position, low: &str, high: &str, report: &mut Report) {
    report.error(
        at,
        format!("nothing lies between {low} and {high}"),
        "exchange the bounds, or widen them",
    );
}

fn bound(text: Option<&Text>, report: &mut Report) -> Option<String> {
    let text = text?;
    if parse_decimal(&text.value).is_none() {
        report.error(
            text.at,
            format!("`{}` is not a number", shorten(&text.value)),
            "write a decimal number such as 0 or 99.50",
        );
        return None;
    }
    Some(text.value.clone())
}

/// Compiles a pattern so that it must match the whole text.
fn pattern(text: &Text, report: &mut Report) -> Option<Regex> {
    // Tried alone first, so that `a)(b` is not accepted because of the group added around it.
    let compiled = Regex::new(&text.value).and_then(|_| Regex::new(&anchored(&text.value)));
    match compiled {
        Ok(regex) => Some(regex),
        Err(error) => {
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim();
            report.error(
                text.at,
                format!(
                    "the pattern is not a regular expression: {}",
                    reason.trim_start_matches("error: ")
                ),
                "the syntax is that of Rust's regex crate: no look-around, no back-references; \
                 put the pattern in single quotes",
            );
            None
        }
    }
}

/// The pattern that must match the whole text.
fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn allowed(values: &[Text], at: Position, report: &mut Report) -> Vec<String> {
    if values.is_empty() {
        report.error(at, "`values` is empty: no text is allowed", "list the allowed texts");
    }
    let mut all: Vec<String> = Vec::new();
    for value in values {
        if all.contains(&value.value) {
            report.error(
                value.at,
                format!("`{}` stands here twice", shorten(&value.value)),
                "remove one of them",
            );
        }
        all.push(value.value.clone());
    }
    all
}

/// The default as a record would have it, if it can be one.
fn default_value(json: &Json, ty: &Type, form: TimeForm) -> Option<Value> {
    let text = json.text.as_deref();
    match (ty, &json.value) {
        (Type::String, _) if !json.value.is_null() => Some(Value::String(text?.to_owned())),
        (Type::Bool, Value::Bool(_)) => Some(json.value.clone()),
        (Type::Int64, Value::Number(n)) if n.as_i64().is_some() => Some(json.value.clone()),
        (Type::Float64, Value::Number(_)) => Some(json.value.clone()),
        (Type::Decimal { precision, scale }, Value::Number(_) | Value::String(_)) => {
            let (value, digits) = parse_decimal(text?)?;
            let lifted = 10_i128
                .checked_pow((scale.unsigned_abs() as u32).checked_sub(digits)?)?
                .checked_mul(value)?;
            let fits = lifted.unsigned_abs() < 10_u128.pow(u32::from(*precision));
            // A number goes through a double; its text is used when that would change its value.
            let double = json.value.as_number().and_then(|n| parse_decimal(&n.to_string()));
            let exact = double.is_some_and(|n| compare(n, (value, digits)) == Ordering::Equal);
            let value = if exact { json.value.clone() } else { Value::String(text?.to_owned()) };
            fits.then_some(value)
        }
        (Type::Timestamp, Value::Number(_)) if form != TimeForm::Rfc3339 => {
            Some(json.value.clone())
        }
        (Type::Timestamp, Value::String(s)) if form == TimeForm::Rfc3339 => {
            chrono::DateTime::parse_from_rfc3339(s).ok().map(|_| json.value.clone())
        }
        (Type::Date, Value::String(s)) => {
            chrono::NaiveDate::parse_from_str(s, "%Y-%m-%d").ok().map(|_| json.value.clone())
        }
        (Type::List(_), Value::Array(_)) | (Type::Struct(_), Value::Object(_)) => {
            Some(json.value.clone())
        }
        (Type::Json, value) if !value.is_null() => Some(value.clone()),
        _ => None,
    }
}

/// A default must itself be a good value.
fn check_default(
    value: &Value,
    ty: &Type,
    bounds: &Constraints,
    at: Position,
    report: &mut Report,
) {
    let text = match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    if let Some(values) = &bounds.values
        && !values.contains(&text)
    {
        let hint = suggest(&text, values.iter().map(String::as_str), "allowed");
        report.error(at, "the default is not one of the allowed values", hint);
    }
    if let Some(pattern) = &bounds.pattern
        && !pattern.is_match(&text)
    {
        report.error(at, "the default does not match the pattern", "change one of the two");
    }
    let length = text.chars().count();
    let too_short = bounds.min_length.is_some_and(|min| length < min);
    let too_long = bounds.max_length.is_some_and(|max| length > max);
    let number = ty.is_numeric().then(|| parse_decimal(&text)).flatten();
    let against = |bound: &Option<String>, bad: &[Ordering]| {
        let bound = bound.as_deref().and_then(parse_decimal);
        number.zip(bound).is_some_and(|(n, b)| bad.contains(&compare(n, b)))
    };
    let outside = against(&bounds.above, &[Ordering::Less, Ordering::Equal])
        || against(&bounds.below, &[Ordering::Greater, Ordering::Equal])
        || against(&bounds.min, &[Ordering::Less])
        || against(&bounds.max, &[Ordering::Greater]);
    if too_short || too_long || outside {
        report.error(at, "the default is outside its own bounds", "change one of the two");
    }
}
