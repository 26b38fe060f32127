//! Numbers: literals, arithmetic, rounding.

use contracts::expr::{ArithmeticOp, Ast, AstKind};
use contracts::types::Type;

use super::cast::to_float;
use super::{Emitted, Emitter, MAX_DIGITS, Note, Sql, decimal, power, refused, time};

/// A number as it is written: whole, decimal, or with an exponent a double.
pub(super) fn literal(text: &str) -> Emitted {
    if text.contains('e') {
        return Ok(Sql::new(format!("'{text}'::double"), Type::Float64));
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{whole}{fraction}");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    let sign = if negative { "-" } else { "" };
    let count = digits.len() as i32;
    if fraction.is_empty() && !unsigned.contains('.') && text.parse::<i64>().is_ok() {
        let value = Sql::new(format!("'{sign}{digits}'::bigint"), Type::Int64);
        return Ok(Sql { note: Note::Whole(count), ..value });
    }
    let scale = fraction.len() as i32;
    Ok(Sql::new(format!("'{sign}{digits}'::hugeint"), decimal(count.max(scale), scale)))
}

/// Two numbers of one kind.
enum Numbers {
    Whole(Sql, Sql),
    Float(Sql, Sql),
    /// As digits, with the digits and scale of each.
    Decimal(Sql, Sql, (i32, i32), (i32, i32)),
}

fn numbers(left: Sql, right: Sql) -> Emitted<Numbers> {
    let both_whole = left.ty == Type::Int64 && right.ty == Type::Int64;
    match (left.exact(), right.exact()) {
        _ if left.is_null() || right.is_null() => refused("arithmetic with a bare null"),
        (Some(_), Some(_)) if both_whole => Ok(Numbers::Whole(left, right)),
        (Some(a), Some(b)) => Ok(Numbers::Decimal(digits(left), digits(right), a, b)),
        _ => Ok(Numbers::Float(to_float(left)?, to_float(right)?)),
    }
}

/// A whole number or a decimal as its digits.
pub(super) fn digits(value: Sql) -> Sql {
    match value.exact() {
        Some((precision, scale)) if value.ty == Type::Int64 => {
            Sql::new(format!("({})::hugeint", value.text), decimal(precision, scale))
        }
        _ => value,
    }
}

/// Digits of scale `from` at the higher scale `to`; an overflow fails.
pub(super) fn scaled(text: &str, from: i32, to: i32) -> String {
    if from == to { text.to_owned() } else { format!("({text} * {})", power(to - from)) }
}

/// Null when it has more than `precision` digits.
pub(super) fn fit(text: &str, precision: i32) -> String {
    format!("{}::hugeint", narrowed(text, &format!("decimal({precision}, 0)")))
}

/// A HUGEINT as `ty`, null where it does not fit.
///
/// It goes through a list because DuckDB (1.5.6) takes a cast that is compared with a constant away and compares
/// what was cast. That is right for a cast that fails, but `try_cast(1e30::hugeint as bigint) > 0` is then true.
pub(in crate::verify) fn narrowed(text: &str, ty: &str) -> String {
    format!("([try_cast({text} as {ty})])[1]")
}

/// A HUGEINT as an int64, null past its range.
pub(super) fn narrow(text: &str) -> Sql {
    Sql::new(narrowed(text, "bigint"), Type::Int64)
}

pub(super) fn arithmetic(
    emitter: &mut Emitter<'_>,
    op: ArithmeticOp,
    left: &Ast,
    right: &Ast,
) -> Emitted {
    if let AstKind::Interval(text) = &right.kind {
        return time::shift(emitter, left, text, op == ArithmeticOp::Subtract);
    }
    if let AstKind::Interval(text) = &left.kind {
        return time::shift(emitter, right, text, false);
    }
    let (left, right) = (emitter.emit(left)?, emitter.emit(right)?);
    match numbers(left, right)? {
        Numbers::Whole(a, b) => {
            let symbol = if op == ArithmeticOp::Divide { "//" } else { op.symbol() };
            // Two int64 cannot overflow 128 bits; dividing by zero is null in DuckDB, too.
            Ok(narrow(&format!("(({})::hugeint {symbol} ({})::hugeint)", a.text, b.text)))
        }
        Numbers::Float(a, b) => {
            let text = format!("({} {} {})", a.text, op.symbol(), b.text);
            Ok(emitter.clean(Sql::new(text, Type::Float64)))
        }
        Numbers::Decimal(a, b, sizes, others) => {
            Ok(decimals(emitter, op, &a.text, &b.text, sizes, others))
        }
    }
}

fn decimals(
    emitter: &Emitter<'_>,
    op: ArithmeticOp,
    a: &str,
    b: &str,
    (pa, sa): (i32, i32),
    (pb, sb): (i32, i32),
) -> Sql {
    let (whole_a, whole_b) = (pa - sa, pb - sb);
    let scale = sa.max(sb);
    // As many digits as there can be; past 38 the value decides. What fails within an operand still does.
    let bounded = |digits: i32, scale: i32, of: &dyn Fn(&str, &str) -> String| {
        let text = match digits <= MAX_DIGITS {
            true => of(a, b),
            false => {
                let tried = |a: &str, b: &str| format!("try({})", of(a, b));
                fit(&emitter.bind(a, |a| emitter.bind(b, |b| tried(a, b))), MAX_DIGITS)
            }
        };
        Sql::new(text, decimal(digits, scale))
    };
    match op {
        ArithmeticOp::Add | ArithmeticOp::Subtract => {
            let digits = whole_a.max(whole_b).max(0) + 1 + scale;
            bounded(digits, scale, &|a, b| {
                format!("({} {} {})", scaled(a, sa, scale), op.symbol(), scaled(b, sb, scale))
            })
        }
        ArithmeticOp::Multiply => bounded(pa + pb, sa + sb, &|a, b| format!("({a} * {b})")),
        ArithmeticOp::Remainder => {
            let (a, b) = (scaled(a, sa, scale), scaled(b, sb, scale));
            Sql::new(format!("({a} % {b})"), decimal(whole_a.min(whole_b).max(0) + scale, scale))
        }
        ArithmeticOp::Divide => {
            let scale = (sa + 4).clamp(6, MAX_DIGITS);
            divided(emitter, a, pa, b, scale + sb - sa, (whole_a + sb).max(0) + scale, scale)
        }
    }
}

/// `a · 10^shift / b`, half away from zero, null for a zero `b`; a value of `digits` digits at most.
pub(super) fn divided(
    emitter: &Emitter<'_>,
    a: &str,
    digits_of_a: i32,
    b: &str,
    shift: i32,
    digits: i32,
    scale: i32,
) -> Sql {
    let text = if digits_of_a + shift <= MAX_DIGITS {
        rounded(emitter, &scaled(a, 0, shift), b)
    } else {
        // The whole part first, so that only a large rest overflows.
        emitter.bind(a, |a| {
            emitter.bind(b, |b| {
                let rest = format!("(({a} % {b}) * {})", power(shift));
                let whole = format!("try(({a} // {b}) * {})", power(shift));
                fit(&format!("({whole} + {})", rounded(emitter, &rest, b)), MAX_DIGITS)
            })
        })
    };
    Sql::new(text, decimal(digits, scale))
}

/// `a / b` of digits, half away from zero; null for a zero `b`.
pub(super) fn rounded(emitter: &Emitter<'_>, a: &str, b: &str) -> String {
    emitter.bind(a, |a| {
        emitter.bind(b, |b| {
            format!(
                "({a} // {b} + case when abs({a} % {b}) >= abs({b}) - abs({a} % {b}) \
                 then case when ({a} < 0) = ({b} < 0) then 1 else -1 end else 0 end)"
            )
        })
    })
}

pub(super) fn negate(emitter: &mut Emitter<'_>, of: &Ast) -> Emitted {
    // The sign of a literal belongs to it: the lowest int64 has no positive counterpart.
    if let AstKind::Number(text) = &of.kind
        && !text.starts_with('-')
    {
        return literal(&format!("-{text}"));
    }
    let of = emitter.emit(of)?;
    match of.ty {
        _ if of.is_null() => refused("the sign of a bare null"),
        Type::Int64 => Ok(narrow(&format!("(0 - ({})::hugeint)", of.text))),
        Type::Float64 => Ok(emitter.clean(Sql::new(format!("(-({}))", of.text), Type::Float64))),
        Type::Decimal { .. } => Ok(Sql::new(format!("(-({}))", of.text), of.ty)),
        _ => refused("the sign of no number"),
    }
}

/// `abs`, `round`, `floor`, `ceil`.
pub(super) fn function(
    emitter: &mut Emitter<'_>,
    function: &str,
    of: &Ast,
    places: Option<&Ast>,
) -> Emitted {
    let value = emitter.emit(of)?;
    if function == "abs" {
        return match value.ty {
            Type::Int64 => Ok(narrow(&format!("abs(({})::hugeint)", value.text))),
            _ => Ok(Sql::new(format!("abs({})", value.text), value.ty)),
        };
    }
    let places = match places.map(|places| &places.kind) {
        None => 0,
        Some(AstKind::Number(text)) => text.parse::<i32>().unwrap_or(i32::MAX),
        Some(AstKind::Negate(of)) => match &of.kind {
            AstKind::Number(text) => text.parse::<i32>().map_or(i32::MAX, |n| -n),
            _ => i32::MAX,
        },
        Some(_) => i32::MAX,
    };
    if places == i32::MAX {
        return refused("rounding to digits that are computed");
    }
    let scale = match value.ty {
        Type::Float64 if places == 0 => {
            let text = format!("{function}({})", value.text);
            return Ok(emitter.clean(Sql::new(text, Type::Float64)));
        }
        Type::Float64 => return refused("rounding a double to digits"),
        Type::Int64 => 0,
        Type::Decimal { scale, .. } => i32::from(scale),
        _ => return refused("rounding no number"),
    };
    if places >= scale {
        return Ok(value);
    }
    let drop = scale - places;
    let is_whole = value.ty == Type::Int64;
    let precision = value.exact().map_or(MAX_DIGITS, |(precision, _)| precision);
    let input = digits(value).text;
    let kept = places.max(0);
    let text = if drop > MAX_DIGITS {
        "(0)::hugeint".to_owned()
    } else {
        let unit = power(drop);
        match function {
            "round" => rounded(emitter, &input, &unit),
            "floor" => emitter.bind(&input, |v| {
                format!("({v} // {unit} - case when {v} % {unit} < 0 then 1 else 0 end)")
            }),
            _ => emitter.bind(&input, |v| {
                format!("({v} // {unit} + case when {v} % {unit} > 0 then 1 else 0 end)")
            }),
        }
    };
    let text = scaled(&text, 0, kept - places);
    if is_whole {
        return Ok(narrow(&text));
    }
    let precision = (precision - scale + kept + 1).min(MAX_DIGITS);
    Ok(Sql::new(fit(&text, precision), decimal(precision, kept)))
}
