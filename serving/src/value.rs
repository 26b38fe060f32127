//! Values of metrics, as exact as they were stored.
//!
//! Integers and decimals keep all their digits from the table to the JSON text; nothing passes
//! through a double unless it is one. Times are RFC 3339 in UTC.

use std::cmp::Ordering;
use std::fmt;

use chrono::{DateTime, NaiveDate};
use contracts::types::Type;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use pipeline::encode::text::{date_text, decimal_text, time_text};

/// No decimal has so many digits: 10^38.
pub(crate) const MOST_DIGITS: u128 = 10u128.pow(38);

/// Values in order, null last: numbers by size, everything else as its text.
pub(crate) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => left.is_null().cmp(&right.is_null()),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (
            Value::Decimal { digits: left, scale: one },
            Value::Decimal { digits: right, scale: other },
        ) if one == other => left.cmp(right),
        (Value::Timestamp(left), Value::Timestamp(right)) => left.cmp(right),
        (Value::Date(left), Value::Date(right)) => left.cmp(right),
        (left, right) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => left.total_cmp(&right),
            _ => left.to_string().cmp(&right.to_string()),
        },
    }
}

/// A number as exact as it was stored. Serialises as a JSON number with all its digits.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value (empty window with `on_empty: null`).
    Null,
    /// Whole number.
    Int(i128),
    /// `digits` × 10^−`scale`.
    Decimal {
        /// All digits.
        digits: i128,
        /// Digits after the point.
        scale: i8,
    },
    /// A double; never NaN or infinite.
    Float(f64),
    /// Text (`latest`, `min`, `max` of a text).
    Text(String),
    /// True or false.
    Bool(bool),
    /// An instant, µs UTC.
    Timestamp(i64),
    /// A day, days since 1970-01-01.
    Date(i32),
}

impl Value {
    /// Is there no value?
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The nearest double of a number; `None` for everything else.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            // Parsing rounds once; dividing by a power of ten would round twice.
            Self::Decimal { digits, scale } => {
                format!("{digits}e{}", -i32::from(*scale)).parse().ok()
            }
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A double, or null when it is NaN or infinite.
    pub(crate) fn finite(value: f64) -> Self {
        if value.is_finite() { Self::Float(value) } else { Self::Null }
    }

    /// The exact sum of two numbers of one kind; `None` when it does not fit, or they are none.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.checked_add(*right).map(Self::Int),
            (
                Self::Decimal { digits: left, scale },
                Self::Decimal { digits: right, scale: other },
            ) if scale == other => {
                let digits = left.checked_add(*right)?;
                (digits.unsigned_abs() < MOST_DIGITS)
                    .then_some(Self::Decimal { digits, scale: *scale })
            }
            (Self::Float(left), Self::Float(right)) => {
                Some(left + right).filter(|sum| sum.is_finite()).map(Self::Float)
            }
            _ => None,
        }
    }

    /// The number with the other sign.
    fn negative(&self) -> Option<Self> {
        match self {
            Self::Int(value) => value.checked_neg().map(Self::Int),
            Self::Decimal { digits, scale } => {
                Some(Self::Decimal { digits: digits.checked_neg()?, scale: *scale })
            }
            Self::Float(value) => Some(Self::Float(-value)),
            _ => None,
        }
    }

    /// How much more this is than `before`, exact for whole numbers and decimals; null where either is no
    /// number.
    pub(crate) fn change(&self, before: &Self) -> Self {
        before.negative().and_then(|before| self.plus(&before)).unwrap_or(Self::Null)
    }

    /// The change as a part of what was before, whose sign does not count: up is positive. Null where
    /// there was nothing or zero before.
    pub(crate) fn change_ratio(&self, before: &Self) -> Self {
        match (self.change(before).as_f64(), before.as_f64()) {
            (Some(change), Some(before)) if before != 0.0 => Self::finite(change / before.abs()),
            _ => Self::Null,
        }
    }

    /// Zero, as a value of `ty`.
    pub(crate) fn zero(ty: &Type) -> Self {
        match ty {
            Type::Float64 => Self::Float(0.0),
            Type::Decimal { scale, .. } if *scale != 0 => {
                Self::Decimal { digits: 0, scale: *scale }
            }
            _ => Self::Int(0),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Decimal { digits, scale } => f.write_str(&decimal_text(*digits, *scale)),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Timestamp(micros) => f.write_str(&time_text(*micros)),
            Self::Date(days) => f.write_str(&date_text(*days)),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Int(value) => match i64::try_from(*value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_) => serialize_raw(value.to_string(), serializer),
            },
            Self::Decimal { digits, scale } => {
                serialize_raw(decimal_text(*digits, *scale), serializer)
            }
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Timestamp(micros) => serializer.serialize_str(&time_text(*micros)),
            Self::Date(days) => serializer.serialize_str(&date_text(*days)),
        }
    }
}

fn serialize_raw<S: Serializer>(text: String, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// Reads an instant: RFC 3339, without an offset it means UTC. µs since 1970, finer digits are
/// cut.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let naive = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(naive.and_utc().timestamp_micros())
}

/// Reads a time: RFC 3339, a date-time without offset (UTC), a date (its midnight, UTC), or seconds
/// since 1970. Whole numbers above 20,000,000,000 are milliseconds, as both published clients and
/// JavaScript mean them.
pub fn parse_moment(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return if number.unsigned_abs() > 20_000_000_000 {
            number.checked_mul(1_000)
        } else {
            number.checked_mul(1_000_000)
        };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let micros = seconds * 1e6;
        return (micros.abs() < 9e18).then_some(micros.round() as i64);
    }
    // A `+` in a query string means a space; nobody wants to know that about `+02:00`.
    let repaired = match text.rsplit_once(' ') {
        Some((time, offset)) if offset.len() == 5 && time.contains(':') => {
            format!("{time}+{offset}")
        }
        _ => text.to_owned(),
    };
    if let Some(micros) = parse_time(&repaired) {
        return Some(micros);
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = chrono::NaiveDateTime::parse_from_str(text, form) {
            return Some(time.and_utc().timestamp_micros());
        }
    }
    parse_date(text).map(|days| i64::from(days) * 86_400_000_000)
}

/// Reads a day, `2026-01-31`: days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Value, json: &str) {
        assert_eq!(serde_json::to_string(&value).expect("values serialise"), json);
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        check(Value::Null, "null");
        check(Value::Int(-7), "-7");
        check(Value::Int(i128::MAX), "170141183460469231731687303715884105727");
        check(
            Value::Decimal { digits: 1_234_567_890_123_456_789, scale: 2 },
            "12345678901234567.89",
        );
        check(Value::Decimal { digits: 1005, scale: 3 }, "1.005");
        check(Value::Decimal { digits: -5, scale: 2 }, "-0.05");
        check(Value::Decimal { digits: 0, scale: 2 }, "0.00");
        check(Value::Decimal { digits: 42, scale: 0 }, "42");
        check(Value::Float(0.1), "0.1");
        check(Value::Text("a\"b".into()), r#""a\"b""#);
        check(Value::Bool(true), "true");
    }

    #[test]
    fn changes_are_exact_and_ratios_say_the_direction() {
        let cents = |digits| Value::Decimal { digits, scale: 2 };
        for (now, before, change, ratio) in [
            (Value::Int(7), Value::Int(5), Value::Int(2), Value::Float(0.4)),
            (
                cents(1_234_567_890_123_456_790),
                cents(1_234_567_890_123_456_789),
                cents(1),
                Value::Float(0.01 / 12_345_678_901_234_567.89),
            ),
            (cents(-5), cents(-10), cents(5), Value::Float(0.5)),
            (Value::Float(0.5), Value::Float(1.0), Value::Float(-0.5), Value::Float(-0.5)),
            (Value::Int(7), Value::Int(0), Value::Int(7), Value::Null),
            (Value::Int(7), Value::Null, Value::Null, Value::Null),
            (Value::Null, Value::Int(7), Value::Null, Value::Null),
            (Value::Text("b".into()), Value::Text("a".into()), Value::Null, Value::Null),
            (Value::Int(i128::MAX), Value::Int(-1), Value::Null, Value::Null),
            (Value::Int(0), Value::Int(i128::MIN), Value::Null, Value::Null),
            (cents(10i128.pow(38) - 1), cents(-1), Value::Null, Value::Null),
        ] {
            assert_eq!(
                (now.change(&before), now.change_ratio(&before)),
                (change, ratio),
                "{now} {before}"
            );
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc_without_idle_zeros() {
        check(Value::Timestamp(0), r#""1970-01-01T00:00:00Z""#);
        check(Value::Timestamp(1_500_000), r#""1970-01-01T00:00:01.5Z""#);
        check(Value::Timestamp(-1), r#""1969-12-31T23:59:59.999999Z""#);
        check(Value::Date(-1), r#""1969-12-31""#);
        check(Value::Date(20_454), r#""2026-01-01""#);
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        for micros in [0, -1, 1_500_000, 1_769_853_600_123_456] {
            assert_eq!(parse_time(&time_text(micros)), Some(micros));
        }
        for days in [-719_000, -1, 0, 20_454] {
            assert_eq!(parse_date(&date_text(days)), Some(days));
        }
        assert_eq!(parse_time("2026-01-31T10:00:00"), parse_time("2026-01-31T12:00:00+02:00"));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_date("2026-02-30"), None);
    }

    #[test]
    fn a_decimal_is_rounded_to_a_double_once() {
        let value = Value::Decimal { digits: 1_234_567_890_123_456_789, scale: 2 };
        assert_eq!(value.as_f64(), Some(12_345_678_901_234_567.89));
        assert_eq!(Value::Decimal { digits: 3, scale: 1 }.as_f64(), Some(0.3));
        assert_eq!(Value::Text("1".into()).as_f64(), None);
    }
}
