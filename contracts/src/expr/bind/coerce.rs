//! Conversions between types: which happen by themselves, and what each explicit cast does.
//!
//! By themselves: int64 to decimal or float64, decimal to a wider decimal, and decimal to float64
//! where a float64 takes part. Everything else is written as a cast; a cast that fails is null.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use chrono::DateTime;
use datafusion_common::ScalarValue;
use datafusion_physical_expr::expressions::Literal;

use super::literals::{clean, digits, parse_date, parse_timestamp};
use super::{Bound, Typed};
use crate::expr::decimal::{self, INT64_DIGITS, MAX_PRECISION};
use crate::expr::error::{ExprError, Pos};
use crate::expr::physical::{Call, Operand, Result as Evaluated, map, rows_of, text_rows};
use crate::types::Type;

pub(super) const DAY_MICROS: i64 = 86_400_000_000;

/// Digits and scale of an int64 or decimal value; the digits that it has, for a literal.
pub(in crate::expr) fn is_exact_number(value: &Typed) -> Option<(u8, i8)> {
    match &value.ty {
        Type::Decimal { precision, scale } => Some((*precision, *scale)),
        Type::Int64 => match value.literal() {
            Some(ScalarValue::Int64(Some(n))) => Some((digits(i128::from(*n)), 0)),
            _ => Some((INT64_DIGITS, 0)),
        },
        _ => None,
    }
}

pub(super) fn to_float(value: Typed) -> Bound {
    convert(value, &Type::Float64)
}

/// An int64 or decimal as a decimal of its own digits; anything else as it is.
pub(super) fn to_decimal(value: Typed) -> Bound {
    match is_exact_number(&value) {
        Some((precision, scale)) => convert(value, &Type::Decimal { precision, scale }),
        None => Ok(value),
    }
}

/// Doubles computed by us: infinity and NaN become null, −0.0 becomes 0.0.
pub(in crate::expr) fn float_result(value: f64) -> Option<f64> {
    clean(value)
}

/// The one type that all of `values` have or turn into, and the values as that type.
pub(in crate::expr) fn unify(
    values: Vec<Typed>,
    what: &str,
    pos: Pos,
) -> Result<(Vec<Typed>, Type), ExprError> {
    let typed: Vec<&Typed> = values.iter().filter(|value| !value.untyped_null).collect();
    let Some(first) = typed.first() else {
        return Err(pos
            .error(format!("{what} has nothing but nulls, so its type is not known"))
            .hint("write `cast(null as type)`"));
    };
    let ty = if let Some(other) = typed.iter().find(|value| value.ty != first.ty) {
        if !typed.iter().all(|value| value.ty.is_numeric()) {
            return Err(other
                .pos
                .error(format!("{what} mixes {} and {}", first.ty, other.ty))
                .hint(mixing_hint(&first.ty, &other.ty)));
        }
        common_number(&typed).ok_or_else(|| {
            pos.error(format!(
                "{what}: no decimal of {MAX_PRECISION} digits holds all of its values"
            ))
            .hint("cast the widest one to fewer digits")
        })?
    } else {
        first.ty.clone()
    };
    let values = values.into_iter().map(|value| convert(value, &ty)).collect::<Result<_, _>>()?;
    Ok((values, ty))
}

/// float64 when one of them is, else the decimal that holds all of them.
fn common_number(values: &[&Typed]) -> Option<Type> {
    let exact: Option<Vec<(u8, i8)>> = values.iter().map(|v| is_exact_number(v)).collect();
    let Some(exact) = exact else {
        return Some(Type::Float64);
    };
    let scale = exact.iter().map(|(_, scale)| *scale).max()?;
    let whole = exact.iter().map(|(digits, s)| *digits as i8 - s).max()?;
    let precision = u8::try_from(whole + scale).ok()?;
    (precision <= MAX_PRECISION).then_some(Type::Decimal { precision, scale })
}

/// What to write where two types do not mix.
pub(super) fn mixing_hint(a: &Type, b: &Type) -> String {
    let pair = |x: fn(&Type) -> bool, y: fn(&Type) -> bool| (x(a) && y(b)) || (y(a) && x(b));
    let is_text = |ty: &Type| matches!(ty, Type::String | Type::Json);
    if pair(is_text, Type::is_numeric) {
        "write the number as a text ('5'), or convert the text with `cast(x as int64)`".to_owned()
    } else if pair(is_text, |ty| *ty == Type::Timestamp) {
        "write `timestamp '2024-01-31 10:00:00'`, or convert the text with `cast(x as timestamp)`"
            .to_owned()
    } else if pair(is_text, |ty| *ty == Type::Date) {
        "write `date '2024-01-31'`, or convert the text with `cast(x as date)`".to_owned()
    } else if pair(|ty| *ty == Type::Date, |ty| *ty == Type::Timestamp) {
        "cast the timestamp to date, or the date to timestamp (its midnight in UTC)".to_owned()
    } else if pair(is_text, |ty| *ty == Type::Bool) {
        "write `true` or `false` without quotes".to_owned()
    } else if pair(|ty| *ty == Type::Bool, Type::is_numeric) {
        "write `case when x then 1 else 0 end` to make a bool a number".to_owned()
    } else {
        "bring both sides to one type with a cast".to_owned()
    }
}

/// The value as the type that a contract declares for it.
pub(in crate::expr) fn want(value: Typed, wanted: &Type) -> Bound {
    if value.untyped_null || value.ty == *wanted {
        return convert(value, wanted);
    }
    let error = value.pos.error(format!("the expression is {}, but {wanted} is wanted", value.ty));
    let narrowing = || format!("write `cast(… as {wanted})`, which rounds half away from zero");
    match (is_exact_number(&value), wanted) {
        (Some((digits, digits_scale)), Type::Decimal { precision, scale }) => {
            let whole = digits as i8 - digits_scale;
            if digits_scale <= *scale && whole <= *precision as i8 - *scale {
                return convert(value, wanted);
            }
            Err(error.hint(narrowing()))
        }
        (Some(_), Type::Float64) if value.ty == Type::Int64 || value.literal().is_some() => {
            convert(value, wanted)
        }
        (Some(_), Type::Float64) => Err(error.hint("write `cast(… as float64)`: it is not exact")),
        (Some(_), Type::Int64) => {
            Err(error
                .hint("write `cast(… as int64)`, which rounds half away from zero, or `floor`"))
        }
        (None, _) if value.ty == Type::Float64 && wanted.is_numeric() => {
            Err(error.hint(narrowing()))
        }
        _ if castable(&value.ty, wanted) => Err(error.hint(format!("write `cast(… as {wanted})`"))),
        _ => Err(error),
    }
}

/// May a cast between these types be written?
fn castable(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (a, b) if a == b => true,
        (a, b) if a.is_numeric() => b.is_numeric() || *b == Type::String,
        (Type::Json | Type::Bool | Type::Date | Type::Timestamp, Type::String)
        | (Type::Date, Type::Timestamp)
        | (Type::Timestamp, Type::Date) => true,
        (Type::String, b) => !matches!(b, Type::List(_) | Type::Struct(_) | Type::Json),
        _ => false,
    }
}

/// A cast that is written in the text.
pub(in crate::expr) fn cast(value: Typed, to: &Type, pos: Pos) -> Bound {
    if !value.untyped_null && !castable(&value.ty, to) {
        let error = pos.error(format!("there is no cast from {} to {to}", value.ty));
        return Err(match (&value.ty, to) {
            (Type::Bool, _) if to.is_numeric() => {
                error.hint("write `case when x then 1 else 0 end`")
            }
            (_, Type::Bool) if value.ty.is_numeric() => error.hint("write `x <> 0`"),
            (Type::Timestamp, _) if to.is_numeric() => error.hint(
                "write `seconds_between(timestamp '1970-01-01', x)` for the seconds since 1970",
            ),
            _ => error,
        });
    }
    let mut value = convert(value, to)?;
    value.pos = pos;
    Ok(value)
}

/// Builds the conversion. The caller knows that it exists.
fn convert(value: Typed, to: &Type) -> Bound {
    let Typed { node, ty, pos, .. } = value;
    if value.untyped_null {
        let null = ScalarValue::try_from(&to.arrow())
            .map_err(|error| pos.error(format!("no null of type {to}: {error}")))?;
        return Ok(Typed::new(Arc::new(Literal::new(null)), to.clone(), pos));
    }
    if ty == *to {
        return Ok(Typed::new(node, ty, pos));
    }
    let target = to.clone();
    let node = Call::node("cast", vec![node], to.arrow(), move |args, rows| {
        run_cast(&args[0], rows, &ty, &target)
    });
    Ok(Typed::new(node, to.clone(), pos))
}

fn run_cast(value: &Operand, rows: usize, from: &Type, to: &Type) -> Evaluated<ArrayRef> {
    let arrow = &to.arrow();
    match to {
        Type::String => to_text(value, rows, from),
        Type::Int64 => match from {
            Type::Float64 => map::<Float64Type, Int64Type>(value, arrow, |v| {
                let v = v.round();
                // Both bounds are exact doubles; the upper one is the first that does not fit.
                (v >= -(2_f64.powi(63)) && v < 2_f64.powi(63)).then_some(v as i64)
            }),
            Type::Decimal { scale, .. } => {
                let scale = *scale;
                map::<Decimal128Type, Int64Type>(value, arrow, move |v| {
                    i64::try_from(decimal::rescale(v, scale, 0)?).ok()
                })
            }
            _ => parse::<Int64Type>(value, rows, arrow, |text| text.parse().ok()),
        },
        Type::Float64 => match from {
            Type::Int64 => map::<Int64Type, Float64Type>(value, arrow, |v| Some(v as f64)),
            Type::Decimal { scale, .. } => {
                let scale = *scale;
                map::<Decimal128Type, Float64Type>(value, arrow, move |v| decimal::to_f64(v, scale))
            }
            _ => parse::<Float64Type>(value, rows, arrow, parse_float),
        },
        Type::Decimal { precision, scale } => {
            let (precision, scale) = (*precision, *scale);
            let fit = move |v: Option<i128>| decimal::fit(v?, precision);
            match from {
                Type::Int64 => map::<Int64Type, Decimal128Type>(value, arrow, move |v| {
                    fit(decimal::rescale(i128::from(v), 0, scale))
                }),
                Type::Float64 => map::<Float64Type, Decimal128Type>(value, arrow, move |v| {
                    fit(decimal::from_f64(v, scale))
                }),
                Type::Decimal { scale: from, .. } => {
                    let from = *from;
                    map::<Decimal128Type, Decimal128Type>(value, arrow, move |v| {
                        fit(decimal::rescale(v, from, scale))
                    })
                }
                _ => parse::<Decimal128Type>(value, rows, arrow, move |text| {
                    fit(decimal::from_text(text, scale))
                }),
            }
        }
        Type::Bool => {
            let text = value.text();
            let parsed: BooleanArray = (0..rows)
                .map(|row| match text.get(row)? {
                    t if t.eq_ignore_ascii_case("true") => Some(true),
                    t if t.eq_ignore_ascii_case("false") => Some(false),
                    _ => None,
                })
                .collect();
            Ok(Arc::new(parsed))
        }
        Type::Timestamp => match from {
            Type::Date => map::<Date32Type, TimestampMicrosecondType>(value, arrow, |v| {
                i64::from(v).checked_mul(DAY_MICROS)
            }),
            _ => parse::<TimestampMicrosecondType>(value, rows, arrow, parse_timestamp),
        },
        Type::Date => match from {
            Type::Timestamp => map::<TimestampMicrosecondType, Date32Type>(value, arrow, |v| {
                i32::try_from(v.div_euclid(DAY_MICROS)).ok()
            }),
            _ => parse::<Date32Type>(value, rows, arrow, parse_date),
        },
        // `castable` lets no other target pass.
        Type::List(_) | Type::Struct(_) | Type::Json => value.column(rows),
    }
}

fn parse<O: arrow::array::ArrowPrimitiveType>(
    value: &Operand,
    rows: usize,
    arrow: &DataType,
    parse: impl Fn(&str) -> Option<O::Native>,
) -> Evaluated<ArrayRef> {
    let text = value.text();
    rows_of::<O>(rows, arrow, |row| parse(text.get(row)?))
}

/// `[+-]digits[.digits][e[+-]digits]`, finite.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust also reads "inf", "nan", ".5" and "5.".
    let starts = unsigned.starts_with(|c: char| c.is_ascii_digit());
    let ends = unsigned.ends_with(|c: char| c.is_ascii_digit());
    let point_inside = !unsigned.contains(".e") && !unsigned.contains(".E");
    if !(starts && ends && point_inside) {
        return None;
    }
    text.parse().ok().and_then(clean)
}

fn to_text(value: &Operand, rows: usize, from: &Type) -> Evaluated<ArrayRef> {
    match from {
        Type::Int64 => {
            let values = value.primitive::<Int64Type>();
            text_rows(rows, |row| values.get(row).map(|v| v.to_string()))
        }
        Type::Float64 => {
            let values = value.primitive::<Float64Type>();
            text_rows(rows, |row| values.get(row).map(|v| format!("{v:?}")))
        }
        Type::Decimal { scale, .. } => {
            let values = value.primitive::<Decimal128Type>();
            text_rows(rows, |row| values.get(row).map(|v| decimal::to_text(v, *scale)))
        }
        Type::Bool => {
            let values = value.bools();
            text_rows(rows, |row| values.get(row).map(|v| if v { "true" } else { "false" }))
        }
        Type::Timestamp => {
            let values = value.primitive::<TimestampMicrosecondType>();
            text_rows(rows, |row| timestamp_text(values.get(row)?))
        }
        Type::Date => {
            let values = value.primitive::<Date32Type>();
            text_rows(rows, |row| {
                let midnight = i64::from(values.get(row)?).checked_mul(DAY_MICROS)?;
                let day = DateTime::from_timestamp_micros(midnight)?;
                Some(day.format("%Y-%m-%d").to_string())
            })
        }
        // JSON is kept as its text.
        _ => {
            let column = value.column(rows)?;
            Ok(Arc::new(column.as_string::<i32>().clone()))
        }
    }
}

/// RFC 3339 in UTC; the fraction only where there is one.
fn timestamp_text(micros: i64) -> Option<String> {
    let instant = DateTime::from_timestamp_micros(micros)?;
    let format =
        if micros % 1_000_000 == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" };
    Some(instant.format(format).to_string())
}
