//! Rounding and absolute values.

use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use datafusion_common::ScalarValue;

use super::CallSite;
use crate::expr::bind::{Binder, Bound, Typed, float_result};
use crate::expr::decimal::{self, MAX_PRECISION};
use crate::expr::physical::{Call, map};
use crate::types::Type;

pub(super) fn abs(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.number(binder, 0)?;
    let arrow = value.ty.arrow();
    let args = vec![value.node];
    let node = match value.ty {
        Type::Int64 => Call::node("abs", args, arrow.clone(), move |args, _| {
            map::<Int64Type, Int64Type>(&args[0], &arrow, i64::checked_abs)
        }),
        Type::Float64 => Call::node("abs", args, arrow.clone(), move |args, _| {
            map::<Float64Type, Float64Type>(&args[0], &arrow, |v| Some(v.abs()))
        }),
        _ => Call::node("abs", args, arrow.clone(), move |args, _| {
            map::<Decimal128Type, Decimal128Type>(&args[0], &arrow, i128::checked_abs)
        }),
    };
    Ok(Typed::new(node, value.ty, site.pos))
}

#[derive(Clone, Copy)]
enum Mode {
    HalfAwayFromZero,
    Down,
    Up,
}

pub(super) fn round(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let digits = match site.args.get(1) {
        None => 0,
        Some(_) => {
            let digits = site.int(binder, 1)?;
            match digits.literal() {
                Some(ScalarValue::Int64(Some(n))) if n.unsigned_abs() <= 38 => *n as i8,
                _ => {
                    return Err(digits
                        .pos
                        .error("the digits of `round` are a number from -38 to 38"));
                }
            }
        }
    };
    let value = site.number(binder, 0)?;
    round_to(value, digits, Mode::HalfAwayFromZero, site)
}

pub(super) fn floor(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.number(binder, 0)?;
    round_to(value, 0, Mode::Down, site)
}

pub(super) fn ceil(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.number(binder, 0)?;
    round_to(value, 0, Mode::Up, site)
}

/// `digits` after the point; negative ones round to tens, hundreds and so on.
fn round_to(value: Typed, digits: i8, mode: Mode, site: &CallSite<'_>) -> Bound {
    let name = site.function.name;
    let args = vec![value.node.clone()];
    let ty = match value.ty {
        Type::Int64 if digits >= 0 => return Ok(value),
        Type::Decimal { scale, .. } if digits >= scale => return Ok(value),
        Type::Decimal { precision, scale } => {
            let scale_left = digits.max(0);
            // Rounding up may need one digit more: 9.9 becomes 10.
            let precision = (precision as i8 - scale + scale_left + 1).min(MAX_PRECISION as i8);
            Type::Decimal { precision: precision as u8, scale: scale_left }
        }
        _ => value.ty.clone(),
    };
    let arrow = ty.arrow();
    let node = match (&value.ty, &ty) {
        (Type::Int64, _) => Call::node(name, args, arrow.clone(), move |args, _| {
            map::<Int64Type, Int64Type>(&args[0], &arrow, |v| {
                i64::try_from(round_decimal(i128::from(v), 0, digits, mode)?).ok()
            })
        }),
        (Type::Decimal { scale, .. }, Type::Decimal { precision, .. }) => {
            let (scale, precision) = (*scale, *precision);
            Call::node(name, args, arrow.clone(), move |args, _| {
                map::<Decimal128Type, Decimal128Type>(&args[0], &arrow, |v| {
                    decimal::fit(round_decimal(v, scale, digits, mode)?, precision)
                })
            })
        }
        _ => Call::node(name, args, arrow.clone(), move |args, _| {
            map::<Float64Type, Float64Type>(&args[0], &arrow, |v| match mode {
                Mode::Down => float_result(v.floor()),
                Mode::Up => float_result(v.ceil()),
                Mode::HalfAwayFromZero => round_float(v, digits),
            })
        }),
    };
    Ok(Typed::new(node, ty, site.pos))
}

/// Drops the digits past `digits`; the result has the scale `max(digits, 0)`.
fn round_decimal(value: i128, scale: i8, digits: i8, mode: Mode) -> Option<i128> {
    let rounded = match mode {
        Mode::HalfAwayFromZero => decimal::rescale(value, scale, digits)?,
        Mode::Down | Mode::Up => {
            let unit = decimal::pow10(u32::from(scale.abs_diff(digits)))?;
            let down = value.div_euclid(unit);
            let exact = value.rem_euclid(unit) == 0;
            match mode {
                Mode::Up if !exact => down.checked_add(1)?,
                _ => down,
            }
        }
    };
    // A negative count of digits leaves zeros before the point.
    rounded.checked_mul(decimal::pow10(u32::from(digits.min(0).unsigned_abs()))?)
}

/// Rounds the decimal that the double stands for, as a decimal of the same digits would.
fn round_float(value: f64, digits: i8) -> Option<f64> {
    if digits == 0 {
        return float_result(value.round());
    }
    match decimal::from_f64(value, digits) {
        Some(rounded) => {
            format!("{rounded}e{}", -i32::from(digits)).parse().ok().and_then(float_result)
        }
        // Doubles past 38 digits have no fraction to round, and more digits before the point
        // than any negative count asked for here could reach.
        None => Some(value),
    }
}
