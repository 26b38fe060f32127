//! Texts. Positions and lengths count code points in DuckDB, too.

use contracts::expr::{Ast, AstKind};
use contracts::types::Type;

use super::{Emitted, Emitter, MAX_TEXT, Sql, quoted, refused};

/// Letters whose upper case is more than one letter.
const GROW: &str = "[ßŉǰΐΰև\\x{1E96}-\\x{1E9E}\\x{1F50}-\\x{1FFC}\\x{FB00}-\\x{FB17}]";

/// Letters whose lower case depends on their place, or is more than one letter.
const SHIFT: &str = "[ΣİẞΩKÅ]";

/// A text in quotes. NUL characters cannot stand in a statement.
pub(super) fn literal(text: &str) -> Sql {
    let pieces: Vec<String> = text.split('\0').map(quoted).collect();
    match pieces.as_slice() {
        [one] => Sql::new(one.clone(), Type::String),
        _ => Sql::new(format!("({})", pieces.join(" || chr(0) || ")), Type::String),
    }
}

fn text(text: String) -> Emitted {
    Ok(Sql::new(text, Type::String))
}

/// An argument that is a text.
fn argument(emitter: &mut Emitter<'_>, arg: &Ast) -> Emitted<String> {
    let value = emitter.emit(arg)?;
    if value.is_null() {
        return Ok("null::varchar".to_owned());
    }
    if value.ty == Type::String { Ok(value.text) } else { refused("a text function of no text") }
}

fn whole(emitter: &mut Emitter<'_>, arg: &Ast) -> Emitted<String> {
    let value = emitter.emit(arg)?;
    if value.is_null() {
        return Ok("null::bigint".to_owned());
    }
    if value.ty == Type::Int64 { Ok(value.text) } else { refused("a place that is no int64") }
}

/// A text that was built, null once it is too long.
fn bounded(emitter: &Emitter<'_>, built: &str) -> Emitted {
    text(emitter.bind(built, |v| format!("(case when strlen({v}) <= {MAX_TEXT} then {v} end)")))
}

pub(super) fn join(emitter: &mut Emitter<'_>, left: &Ast, right: &Ast) -> Emitted {
    let (left, right) = (argument(emitter, left)?, argument(emitter, right)?);
    bounded(emitter, &format!("({left} || {right})"))
}

/// Is it a text of ASCII characters only?
fn ascii(text: &str) -> String {
    format!("strlen({text}) = length({text})")
}

pub(super) fn like(
    emitter: &mut Emitter<'_>,
    operand: &Ast,
    pattern: &Ast,
    ignore_case: bool,
    negated: bool,
) -> Emitted {
    let AstKind::Text(pattern) = &pattern.kind else {
        return refused("a pattern that is computed");
    };
    let operand = argument(emitter, operand)?;
    let word = if ignore_case { "ilike" } else { "like" };
    let not = if negated { "not " } else { "" };
    // A backslash at the end stands for itself.
    let slashes = pattern.chars().rev().take_while(|c| *c == '\\').count();
    let pattern = if slashes % 2 == 1 { format!("{pattern}\\") } else { pattern.clone() };
    let pattern_sql = literal(&pattern).text;
    let test = |v: &str| format!("({v} {not}{word} {pattern_sql} escape '\\')");
    if !ignore_case {
        return Ok(Sql::new(test(&operand), Type::Bool));
    }
    if !pattern.is_ascii() {
        return refused("`ilike` with letters outside of ASCII");
    }
    let text = emitter.bind(&operand, |v| {
        let plain = ascii(v);
        let test = test(v);
        format!(
            "(case when {v} is null then null when {plain} then {test} \
             else error('`ilike` over letters outside of ASCII: ' || {v}) end)"
        )
    });
    Ok(Sql::new(text, Type::Bool))
}

/// Functions of texts.
pub(super) fn function(emitter: &mut Emitter<'_>, function: &str, args: &[Ast]) -> Emitted {
    match (function, args) {
        ("lower" | "upper", [of]) => {
            let of = argument(emitter, of)?;
            let special = if function == "upper" { GROW } else { SHIFT };
            text(emitter.bind(&of, |v| {
                format!(
                    "(case when regexp_matches({v}, '{special}') \
                     then error('`{function}` of a letter that changes into others: ' || {v}) \
                     else {function}({v}) end)"
                )
            }))
        }
        ("trim", [of]) => {
            let of = argument(emitter, of)?;
            text(format!("trim({of}, ' ')"))
        }
        ("substr", [of, start, rest @ ..]) => substr(emitter, of, start, rest.first()),
        ("left" | "right", [of, count]) => {
            let (of, count) = (argument(emitter, of)?, whole(emitter, count)?);
            text(emitter.bind(&count, |n| {
                format!(
                    "(case when {n} >= 0 then {function}({of}, least({n}, {MAX_TEXT})::integer) end)"
                )
            }))
        }
        ("concat", _) => {
            let args =
                args.iter().map(|arg| argument(emitter, arg)).collect::<Emitted<Vec<_>>>()?;
            bounded(emitter, &format!("concat({})", args.join(", ")))
        }
        ("replace", [of, from, to]) => {
            let (of, from, to) =
                (argument(emitter, of)?, argument(emitter, from)?, argument(emitter, to)?);
            // An empty search changes nothing; without growth no text becomes too long.
            let built = emitter.bind(&of, |of| {
                emitter.bind(&from, |from| {
                    emitter.bind(&to, |to| {
                        format!(
                            "(case when {from} = '' and {to} is not null then {of} \
                             else replace({of}, {from}, {to}) end)"
                        )
                    })
                })
            });
            bounded(emitter, &built)
        }
        ("split_part", [of, separator, n]) => {
            let (of, separator) = (argument(emitter, of)?, argument(emitter, separator)?);
            let n = whole(emitter, n)?;
            text(emitter.bind(&separator, |separator| {
                emitter.bind(&n, |n| {
                    format!(
                        "(case when {n} >= 1 and {separator} <> '' \
                         then split_part({of}, {separator}, least({n}, {MAX_TEXT} * 2)) end)"
                    )
                })
            }))
        }
        ("strpos" | "starts_with", [of, part]) => {
            let (of, part) = (argument(emitter, of)?, argument(emitter, part)?);
            let ty = if function == "strpos" { Type::Int64 } else { Type::Bool };
            Ok(Sql::new(format!("{function}({of}, {part})"), ty))
        }
        ("ends_with", [of, part]) => {
            let (of, part) = (argument(emitter, of)?, argument(emitter, part)?);
            Ok(Sql::new(format!("suffix({of}, {part})"), Type::Bool))
        }
        ("regexp_like", [of, pattern]) => regexp(emitter, of, pattern),
        _ => refused(format!("the function `{function}`")),
    }
}

/// `contains` of two texts.
pub(super) fn contains(emitter: &mut Emitter<'_>, of: Sql, part: &Ast) -> Emitted {
    let of = if of.is_null() { "null::varchar".to_owned() } else { of.text };
    let part = argument(emitter, part)?;
    Ok(Sql::new(format!("contains({of}, {part})"), Type::Bool))
}

fn substr(emitter: &mut Emitter<'_>, of: &Ast, start: &Ast, length: Option<&Ast>) -> Emitted {
    let (of, start) = (argument(emitter, of)?, whole(emitter, start)?);
    let length = length.map(|length| whole(emitter, length)).transpose()?;
    let at = |n: &str| format!("least({n}, {MAX_TEXT} + 1)");
    text(emitter.bind(&start, |start| match &length {
        None => format!("(case when {start} >= 1 then substring({of}, {}) end)", at(start)),
        Some(length) => emitter.bind(length, |length| {
            format!(
                "(case when {start} >= 1 and {length} >= 0 \
                 then substring({of}, {}, {}) end)",
                at(start),
                at(length)
            )
        }),
    }))
}

/// Patterns are in the syntax of Rust's regex crate; RE2 reads most of it the same way. Where its
/// classes know ASCII only, other texts fail.
fn regexp(emitter: &mut Emitter<'_>, of: &Ast, pattern: &Ast) -> Emitted {
    let AstKind::Text(pattern) = &pattern.kind else {
        return refused("a pattern that is computed");
    };
    let of = argument(emitter, of)?;
    let differs = ["&&", "--", "~~", "\\<", "\\>", "\\b{", "\\u", "\\U", "(?x", "(?R", "\\R"];
    if let Some(part) = differs.iter().find(|part| pattern.contains(*part)) {
        return refused(format!("a pattern with `{part}`"));
    }
    let classes = ["\\w", "\\W", "\\d", "\\D", "\\s", "\\S", "\\b", "\\B", "(?", "[:"];
    let pattern_sql = literal(pattern).text;
    if !classes.iter().any(|class| pattern.contains(class)) {
        return Ok(Sql::new(format!("regexp_matches({of}, {pattern_sql})"), Type::Bool));
    }
    let text = emitter.bind(&of, |v| {
        format!(
            "(case when {v} is null then null when {} then regexp_matches({v}, {pattern_sql}) \
             else error('a pattern over letters outside of ASCII: ' || {v}) end)",
            ascii(v)
        )
    });
    Ok(Sql::new(text, Type::Bool))
}
