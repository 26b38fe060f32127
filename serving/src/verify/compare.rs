//! When two values are the same.
//!
//! Whole numbers, decimals, texts, times and bools must be equal. Doubles may differ by the order in
//! which they were added: by 1e-9 of the sum of the magnitudes that went in. An estimate lies within bounds
//! around the exact value.

use contracts::types::Type;

use crate::value::{Value, date_text, decimal_text, time_text};

/// How far doubles may differ.
const TOLERANCE: f64 = 1e-9;

/// A condition in SQL: two values differ, which are held as expressions hold them.
pub(super) fn differs(a: &str, b: &str, ty: &Type) -> String {
    if *ty == Type::Float64 {
        // Where one is null the comparison is, and `is distinct from` decides.
        return format!(
            "({a} is distinct from {b} and \
             coalesce(abs({a} - {b}) > {TOLERANCE:e}::double * greatest(1, abs({a}), abs({b})), true))"
        );
    }
    format!("({a} is distinct from {b})")
}

/// A value as people read it, in SQL.
pub(super) fn shown(value: &str, ty: &Type) -> String {
    match ty {
        Type::Decimal { scale, .. } if *scale > 0 => {
            let digits = format!("abs({value})::varchar");
            let zeros = format!("repeat('0', greatest(0, {scale} + 1 - length({digits})))");
            format!(
                "(case when ({value}) < 0 then '-' else '' end || \
                 regexp_replace({zeros} || {digits}, '([0-9]{{{scale}}})$', '.\\1'))"
            )
        }
        Type::Timestamp => format!("make_timestamp({value})::varchar"),
        Type::Date => format!("(date '1970-01-01' + ({value})::integer)::varchar"),
        _ => format!("({value})::varchar"),
    }
}

/// A value of a metric as SQL found it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// No value.
    Null,
    /// `digits` · 10^−`scale`.
    Exact { digits: i128, scale: i32 },
    /// A double, and the sum of the magnitudes that it was made of.
    Float { value: f64, magnitude: f64 },
    /// An estimate: the exact value, and the bounds within which the estimate lies.
    Near { value: f64, low: f64, high: f64 },
    /// A text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// µs.
    Time(i64),
    /// Days.
    Date(i64),
}

impl Expected {
    /// The nearest double of a number.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Exact { digits, scale } => format!("{digits}e{}", -scale).parse().ok(),
            Self::Float { value, .. } | Self::Near { value, .. } => Some(*value),
            _ => None,
        }
    }

    /// Is it the bounds of an estimate?
    pub(super) fn is_near(&self) -> bool {
        matches!(self, Self::Near { .. })
    }

    /// The magnitude up to which rounding shows.
    pub(super) fn magnitude(&self) -> f64 {
        match self {
            Self::Float { magnitude, value } => magnitude.abs().max(value.abs()),
            other => other.number().unwrap_or(0.0).abs(),
        }
    }

    /// A double that is a value, or none.
    pub(super) fn finite(value: f64, magnitude: f64) -> Self {
        if value.is_finite() { Self::Float { value, magnitude } } else { Self::Null }
    }

    /// Is it what the engine answered?
    pub(super) fn is(&self, found: &Value) -> bool {
        match (self, found) {
            (Self::Null, Value::Null) => true,
            (Self::Near { low, high, .. }, found) => {
                found.as_f64().is_some_and(|found| *low <= found && found <= *high)
            }
            (Self::Exact { digits, scale }, Value::Int(found)) => {
                same_digits(*digits, *scale, *found, 0)
            }
            (Self::Exact { digits, scale }, Value::Decimal { digits: found, scale: theirs }) => {
                same_digits(*digits, *scale, *found, i32::from(*theirs))
            }
            (Self::Text(a), Value::Text(b)) => a == b,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Time(a), Value::Timestamp(b)) => a == b,
            (Self::Date(a), Value::Date(b)) => *a == i64::from(*b),
            (a, Value::Float(found)) => match a.number() {
                Some(value) => is_close(value, *found, a.magnitude().max(found.abs())),
                None => false,
            },
            // A double whose value is whole.
            (Self::Float { value, .. }, found) => {
                found.as_f64().is_some_and(|found| is_close(*value, found, self.magnitude()))
            }
            _ => false,
        }
    }
}

/// Are doubles the same up to rounding? Next to zero the step from one to the next does not shrink any more, and a
/// few operations are a few steps.
fn is_close(a: f64, b: f64, magnitude: f64) -> bool {
    (a - b).abs() <= (TOLERANCE * magnitude).max(f64::from_bits(8))
}

fn same_digits(a: i128, a_scale: i32, b: i128, b_scale: i32) -> bool {
    let scale = a_scale.max(b_scale);
    let at = |digits: i128, from: i32| {
        10_i128.checked_pow((scale - from).unsigned_abs()).and_then(|p| digits.checked_mul(p))
    };
    match (at(a, a_scale), at(b, b_scale)) {
        (Some(a), Some(b)) => a == b,
        // Too many digits to be brought to one scale: then they are the same only if written so.
        _ => a == b && a_scale == b_scale,
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Exact { digits, scale } => match i8::try_from(*scale) {
                Ok(scale) => f.write_str(&decimal_text(*digits, scale)),
                Err(_) => write!(f, "{digits}e-{scale}"),
            },
            Self::Float { value, .. } => write!(f, "{value}"),
            Self::Near { value, low, high } => {
                write!(f, "{value}, of which an estimate lies between {low} and {high}")
            }
            Self::Text(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Time(micros) => f.write_str(&time_text(*micros)),
            Self::Date(days) => match i32::try_from(*days) {
                Ok(days) => f.write_str(&date_text(days)),
                Err(_) => write!(f, "day {days}"),
            },
        }
    }
}
