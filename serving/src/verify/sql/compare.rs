//! Comparisons, tests and choices.

use contracts::expr::{Ast, CompareOp, IsTest};
use contracts::types::Type;

use super::cast::{to_float, unify};
use super::number::{digits, scaled};
use super::{Emitted, Emitter, Sql, refused};

/// Two values of one type that compare: decimals as digits of one scale.
fn comparable(left: Sql, right: Sql) -> Emitted<(String, String)> {
    if left.is_null() || right.is_null() {
        return refused("a comparison with a bare null");
    }
    if left.ty == right.ty {
        return Ok((left.text, right.text));
    }
    match (left.exact(), right.exact()) {
        (Some((_, a)), Some((_, b))) => {
            let scale = a.max(b);
            let (left, right) = (digits(left).text, digits(right).text);
            Ok((scaled(&left, a, scale), scaled(&right, b, scale)))
        }
        _ => Ok((to_float(left)?.text, to_float(right)?.text)),
    }
}

fn bool(text: String) -> Emitted {
    Ok(Sql::new(text, Type::Bool))
}

/// `not` for a negated form.
fn maybe_not(negated: bool, text: String) -> Emitted {
    bool(if negated { format!("(not {text})") } else { text })
}

pub(super) fn compare(
    emitter: &mut Emitter<'_>,
    op: CompareOp,
    left: &Ast,
    right: &Ast,
) -> Emitted {
    let (left, right) = comparable(emitter.emit(left)?, emitter.emit(right)?)?;
    bool(format!("({left} {} {right})", op.symbol()))
}

/// Are two values equal? For functions over lists.
pub(super) fn equal(left: Sql, right: Sql) -> Emitted<String> {
    let (left, right) = comparable(left, right)?;
    Ok(format!("({left} = {right})"))
}

pub(super) fn is_test(
    emitter: &mut Emitter<'_>,
    operand: &Ast,
    test: IsTest,
    negated: bool,
) -> Emitted {
    let not = if negated { "not " } else { "" };
    let (operand, test) = match test {
        IsTest::Null => (emitter.emit(operand)?, "null"),
        IsTest::True => (emitter.bool(operand)?, "true"),
        IsTest::False => (emitter.bool(operand)?, "false"),
    };
    bool(format!("({} is {not}{test})", operand.text))
}

pub(super) fn in_list(
    emitter: &mut Emitter<'_>,
    operand: &Ast,
    list: &[Ast],
    negated: bool,
) -> Emitted {
    let mut values = vec![emitter.emit(operand)?];
    for item in list {
        values.push(emitter.emit(item)?);
    }
    let (values, _) = unify(values)?;
    let mut texts = values.into_iter().map(|value| value.text);
    let operand = texts.next().unwrap_or_default();
    let list: Vec<String> = texts.collect();
    maybe_not(negated, format!("({operand} in ({}))", list.join(", ")))
}

pub(super) fn between(
    emitter: &mut Emitter<'_>,
    operand: &Ast,
    low: &Ast,
    high: &Ast,
    negated: bool,
) -> Emitted {
    let operand = emitter.emit(operand)?;
    let (above, low) = comparable(operand.clone(), emitter.emit(low)?)?;
    let (below, high) = comparable(operand, emitter.emit(high)?)?;
    maybe_not(negated, format!("({above} >= {low} and {below} <= {high})"))
}

pub(super) fn case(
    emitter: &mut Emitter<'_>,
    operand: Option<&Ast>,
    branches: &[(Ast, Ast)],
    otherwise: Option<&Ast>,
) -> Emitted {
    let mut text = "(case".to_owned();
    let mut whens = Vec::with_capacity(branches.len());
    match operand {
        None => {
            for (when, _) in branches {
                whens.push(emitter.bool(when)?.text);
            }
        }
        Some(operand) => {
            let mut values = vec![emitter.emit(operand)?];
            for (when, _) in branches {
                values.push(emitter.emit(when)?);
            }
            let (values, _) = unify(values)?;
            let mut values = values.into_iter().map(|value| value.text);
            text.push_str(&format!(" {}", values.next().unwrap_or_default()));
            whens.extend(values);
        }
    }
    let mut results = Vec::with_capacity(branches.len() + 1);
    for (_, then) in branches {
        results.push(emitter.emit(then)?);
    }
    if let Some(otherwise) = otherwise {
        results.push(emitter.emit(otherwise)?);
    }
    let (results, ty) = unify(results)?;
    let mut results = results.into_iter().map(|result| result.text);
    for (when, then) in whens.iter().zip(results.by_ref().take(branches.len())) {
        text.push_str(&format!(" when {when} then {then}"));
    }
    if let Some(otherwise) = results.next() {
        text.push_str(&format!(" else {otherwise}"));
    }
    text.push_str(" end)");
    Ok(Sql::new(text, ty))
}

/// `coalesce`, `nullif`, `greatest`, `least`: DuckDB passes over nulls in the last two, as here.
pub(super) fn choose(emitter: &mut Emitter<'_>, function: &str, args: &[Ast]) -> Emitted {
    let values = args.iter().map(|arg| emitter.emit(arg)).collect::<Emitted<Vec<_>>>()?;
    let (values, ty) = unify(values)?;
    let values: Vec<String> = values.into_iter().map(|value| value.text).collect();
    Ok(Sql::new(format!("{function}({})", values.join(", ")), ty))
}
