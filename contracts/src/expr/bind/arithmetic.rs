//! Arithmetic on numbers, and intervals that move times.

use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{DateTime, Months};

use super::coerce::{DAY_MICROS, float_result, is_exact_number, to_decimal, to_float};
use super::{Binder, Bound, Typed};
use crate::expr::ast::{ArithmeticOp, Ast, AstKind};
use crate::expr::decimal::{self, Alignment, MAX_PRECISION};
use crate::expr::error::{ExprError, Pos};
use crate::expr::functions::time::Interval;
use crate::expr::physical::{Call, map, map2};
use crate::types::Type;

/// Two numbers of one kind.
pub(super) enum Numbers {
    Int(Typed, Typed),
    Float(Typed, Typed),
    /// With the digits and scale of each side.
    Decimal(Typed, Typed, (u8, i8), (u8, i8)),
}

impl Binder<'_> {
    pub(super) fn negate(&mut self, of: &Ast, pos: Pos) -> Bound {
        let of = self.bind(of)?;
        let arrow = of.ty.arrow();
        let node = match &of.ty {
            _ if of.untyped_null => return Err(needs_numbers("-", &of, None, pos)),
            Type::Int64 => Call::node("-", vec![of.node], arrow.clone(), move |args, _| {
                map::<Int64Type, Int64Type>(&args[0], &arrow, i64::checked_neg)
            }),
            Type::Float64 => Call::node("-", vec![of.node], arrow.clone(), move |args, _| {
                map::<Float64Type, Float64Type>(&args[0], &arrow, |v| float_result(-v))
            }),
            Type::Decimal { .. } => {
                Call::node("-", vec![of.node], arrow.clone(), move |args, _| {
                    map::<Decimal128Type, Decimal128Type>(&args[0], &arrow, i128::checked_neg)
                })
            }
            _ => return Err(needs_numbers("-", &of, None, pos)),
        };
        Ok(Typed::new(node, of.ty, pos))
    }

    pub(super) fn arithmetic(
        &mut self,
        op: ArithmeticOp,
        left: &Ast,
        right: &Ast,
        pos: Pos,
    ) -> Bound {
        if let AstKind::Interval(text) = &right.kind
            && matches!(op, ArithmeticOp::Add | ArithmeticOp::Subtract)
        {
            let interval = Interval::parse(text, right.pos)?;
            let of = self.bind(left)?;
            return shift(of, interval, op == ArithmeticOp::Subtract, pos);
        }
        if let AstKind::Interval(text) = &left.kind
            && op == ArithmeticOp::Add
        {
            let interval = Interval::parse(text, left.pos)?;
            let of = self.bind(right)?;
            return shift(of, interval, false, pos);
        }
        let (left, right) = (self.bind(left)?, self.bind(right)?);
        match numbers(op.symbol(), left, right, pos)? {
            Numbers::Int(left, right) => Ok(int_arithmetic(op, left, right, pos)),
            Numbers::Float(left, right) => Ok(float_arithmetic(op, left, right, pos)),
            Numbers::Decimal(left, right, a, b) => decimal_arithmetic(op, left, right, a, b, pos),
        }
    }
}

fn needs_numbers(symbol: &str, left: &Typed, right: Option<&Typed>, pos: Pos) -> ExprError {
    let types = match right {
        Some(right) => format!("{} and {}", left.describe(), right.describe()),
        None => left.describe(),
    };
    let error = pos.error(format!("`{symbol}` needs numbers, found {types}"));
    let times = |ty: &Type| matches!(ty, Type::Timestamp | Type::Date);
    let is_text = |ty: &Type| *ty == Type::String;
    match (&left.ty, right.map(|right| &right.ty)) {
        _ if left.untyped_null || right.is_some_and(|r| r.untyped_null) => {
            error.hint("the result would always be null")
        }
        (a, Some(b)) if times(a) && times(b) && symbol == "-" => {
            error.hint("write `seconds_between(start, end)` or `minutes_between(start, end)`")
        }
        (a, Some(_)) if times(a) => error.hint("add an interval: `time + interval '30 minutes'`"),
        (a, Some(b)) if (is_text(a) || is_text(b)) && symbol == "+" => {
            error.hint("join texts with `||` or `concat`")
        }
        (Type::List(_), _) | (_, Some(Type::List(_))) => {
            error.hint("go over a list with `sum_of(list, value)` and the like")
        }
        (a, b) if is_text(a) || b.is_some_and(is_text) => {
            error.hint("convert the text with `cast(x as decimal(12,2))` or the like")
        }
        (Type::Bool, _) | (_, Some(Type::Bool)) => {
            error.hint("write `case when x then 1 else 0 end`")
        }
        _ => error,
    }
}

pub(super) fn numbers(
    symbol: &str,
    left: Typed,
    right: Typed,
    pos: Pos,
) -> Result<Numbers, ExprError> {
    let numeric = |value: &Typed| value.ty.is_numeric() && !value.untyped_null;
    if !numeric(&left) || !numeric(&right) {
        return Err(needs_numbers(symbol, &left, Some(&right), pos));
    }
    if left.ty == Type::Int64 && right.ty == Type::Int64 {
        return Ok(Numbers::Int(left, right));
    }
    match (is_exact_number(&left), is_exact_number(&right)) {
        (Some(a), Some(b)) => Ok(Numbers::Decimal(to_decimal(left)?, to_decimal(right)?, a, b)),
        _ => Ok(Numbers::Float(to_float(left)?, to_float(right)?)),
    }
}

fn int_arithmetic(op: ArithmeticOp, left: Typed, right: Typed, pos: Pos) -> Typed {
    let arrow = Type::Int64.arrow();
    let ty = arrow.clone();
    let node = Call::node(op.symbol(), vec![left.node, right.node], arrow, move |args, rows| {
        let run = |f: fn(i64, i64) -> Option<i64>| {
            map2::<Int64Type, Int64Type, Int64Type>(&args[0], &args[1], rows, &ty, f)
        };
        match op {
            ArithmeticOp::Add => run(i64::checked_add),
            ArithmeticOp::Subtract => run(i64::checked_sub),
            ArithmeticOp::Multiply => run(i64::checked_mul),
            ArithmeticOp::Divide => run(i64::checked_div),
            // The lowest int64 % -1 is 0, though the quotient would overflow.
            ArithmeticOp::Remainder => run(|a, b| (b != 0).then(|| a.wrapping_rem(b))),
        }
    });
    Typed::new(node, Type::Int64, pos)
}

fn float_arithmetic(op: ArithmeticOp, left: Typed, right: Typed, pos: Pos) -> Typed {
    let arrow = Type::Float64.arrow();
    let ty = arrow.clone();
    let node = Call::node(op.symbol(), vec![left.node, right.node], arrow, move |args, rows| {
        let run = |f: fn(f64, f64) -> f64| {
            map2::<Float64Type, Float64Type, Float64Type>(&args[0], &args[1], rows, &ty, |a, b| {
                float_result(f(a, b))
            })
        };
        // Division by zero is infinite or NaN, and so null.
        match op {
            ArithmeticOp::Add => run(|a, b| a + b),
            ArithmeticOp::Subtract => run(|a, b| a - b),
            ArithmeticOp::Multiply => run(|a, b| a * b),
            ArithmeticOp::Divide => run(|a, b| a / b),
            ArithmeticOp::Remainder => run(|a, b| a % b),
        }
    });
    Typed::new(node, Type::Float64, pos)
}

/// Digits and scale of `a / b`.
pub(in crate::expr) fn quotient_type(a: (u8, i8), b: (u8, i8)) -> (u8, i8) {
    let scale = (a.1 + 4).max(6).min(MAX_PRECISION as i8);
    let whole = a.0 as i8 - a.1 + b.1;
    (capped(whole, scale), scale)
}

fn capped(whole: i8, scale: i8) -> u8 {
    // At most 38 + 38 digits, which an i8 holds.
    (whole.max(0) + scale).clamp(1, MAX_PRECISION as i8) as u8
}

fn decimal_arithmetic(
    op: ArithmeticOp,
    left: Typed,
    right: Typed,
    a: (u8, i8),
    b: (u8, i8),
    pos: Pos,
) -> Bound {
    let (whole_a, whole_b) = (a.0 as i8 - a.1, b.0 as i8 - b.1);
    let scale = a.1.max(b.1);
    let (precision, scale) = match op {
        ArithmeticOp::Add | ArithmeticOp::Subtract => {
            (capped(whole_a.max(whole_b) + 1, scale), scale)
        }
        ArithmeticOp::Multiply => {
            let scale = a.1 + b.1;
            if scale > MAX_PRECISION as i8 {
                return Err(pos
                    .error(format!(
                        "the product has {scale} digits after the point, more than {MAX_PRECISION}"
                    ))
                    .hint("round a factor first, or cast it to fewer digits"));
            }
            (capped(whole_a + whole_b, scale), scale)
        }
        ArithmeticOp::Divide => quotient_type(a, b),
        ArithmeticOp::Remainder => (capped(whole_a.min(whole_b), scale), scale),
    };
    let align = alignment(a.1, b.1, pos)?;
    // The shift is not negative: a quotient has at least the scale of its dividend.
    let shift = (i32::from(scale) + i32::from(b.1) - i32::from(a.1)).unsigned_abs();
    let ty = Type::Decimal { precision, scale };
    let arrow = ty.arrow();
    let node =
        Call::node(op.symbol(), vec![left.node, right.node], arrow.clone(), move |args, rows| {
            map2::<Decimal128Type, Decimal128Type, Decimal128Type>(
                &args[0],
                &args[1],
                rows,
                &arrow,
                |a, b| {
                    let value = match op {
                        ArithmeticOp::Add => align.add(a, b)?,
                        ArithmeticOp::Subtract => align.add(a, b.checked_neg()?)?,
                        ArithmeticOp::Multiply => a.checked_mul(b)?,
                        ArithmeticOp::Divide => decimal::divide(a, b, shift)?,
                        ArithmeticOp::Remainder => align.remainder(a, b)?,
                    };
                    decimal::fit(value, precision)
                },
            )
        });
    Ok(Typed::new(node, ty, pos))
}

fn alignment(a: i8, b: i8, pos: Pos) -> Result<Alignment, ExprError> {
    Alignment::of(a, b).ok_or_else(|| pos.error("a decimal's scale is out of range"))
}

/// `time ± interval`.
fn shift(of: Typed, interval: Interval, back: bool, pos: Pos) -> Bound {
    let interval = if back { interval.negated() } else { interval };
    let arrow = of.ty.arrow();
    let node = match of.ty {
        _ if of.untyped_null => return Err(needs_time(&of)),
        Type::Timestamp => Call::node("shift", vec![of.node], arrow.clone(), move |args, _| {
            map::<TimestampMicrosecondType, TimestampMicrosecondType>(&args[0], &arrow, |v| {
                interval.after(v)
            })
        }),
        Type::Date if interval.micros % DAY_MICROS == 0 => {
            Call::node("shift", vec![of.node], arrow.clone(), move |args, _| {
                map::<Date32Type, Date32Type>(&args[0], &arrow, |v| {
                    let moved = interval.after(i64::from(v).checked_mul(DAY_MICROS)?)?;
                    i32::try_from(moved.div_euclid(DAY_MICROS)).ok()
                })
            })
        }
        Type::Date => {
            return Err(pos
                .error("a date moves by whole days")
                .hint("cast it first: `cast(day as timestamp) + interval '6 hours'`"));
        }
        _ => return Err(needs_time(&of)),
    };
    Ok(Typed::new(node, of.ty, pos))
}

fn needs_time(of: &Typed) -> ExprError {
    of.pos
        .error(format!("an interval moves a timestamp or a date, found {}", of.describe()))
        .hint("compare spans of time with `seconds_between` or `minutes_between`")
}

impl Interval {
    /// The instant that lies this interval after `micros`; months keep the day, or take the last
    /// one of a shorter month.
    fn after(self, micros: i64) -> Option<i64> {
        let mut at = micros;
        if self.months != 0 {
            let from = DateTime::from_timestamp_micros(at)?;
            let months = Months::new(self.months.unsigned_abs());
            let moved = if self.months < 0 {
                from.checked_sub_months(months)?
            } else {
                from.checked_add_months(months)?
            };
            at = moved.timestamp_micros();
        }
        at.checked_add(self.micros)
    }
}
