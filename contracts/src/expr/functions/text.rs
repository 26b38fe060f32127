//! Functions on texts. Positions and lengths count Unicode code points, from 1.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use regex::Regex;

use super::{CallSite, list};
use crate::expr::ast::Ast;
use crate::expr::bind::{Binder, Bound, Typed, want};
use crate::expr::error::Pos;
use crate::expr::physical::{
    Call, MAX_TEXT_BYTES, Operand, Result as Evaluated, bool_rows, rows_of, text_rows,
};
use crate::types::Type;

/// A text that a function built, unless it has grown out of bounds.
fn bounded(text: String) -> Option<String> {
    (text.len() <= MAX_TEXT_BYTES).then_some(text)
}

/// A function from one text to another.
fn text_to_text(
    binder: &mut Binder<'_>,
    site: &CallSite<'_>,
    f: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> Bound {
    let value = site.text(binder, 0)?;
    let node = Call::node(
        site.function.name,
        vec![value.node],
        Type::String.arrow(),
        move |args, rows| {
            let text = args[0].text();
            text_rows(rows, |row| f(text.get(row)?))
        },
    );
    Ok(Typed::new(node, Type::String, site.pos))
}

pub(super) fn lower(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    text_to_text(binder, site, |text| Some(text.to_lowercase()))
}

pub(super) fn upper(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    text_to_text(binder, site, |text| Some(text.to_uppercase()))
}

pub(super) fn trim(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    text_to_text(binder, site, |text| Some(text.trim_matches(' ').to_owned()))
}

/// Characters of a text, or elements of a list.
pub(super) fn length(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.bind(binder, 0)?;
    let arrow = Type::Int64.arrow();
    let node = match &value.ty {
        _ if value.untyped_null => return Err(site.wrong_type(0, "a text or a list", &value)),
        Type::String => Call::node("length", vec![value.node], arrow.clone(), move |args, rows| {
            let text = args[0].text();
            rows_of::<Int64Type>(rows, &arrow, |row| {
                let text = text.get(row)?;
                let chars = if text.is_ascii() { text.len() } else { text.chars().count() };
                Some(chars as i64)
            })
        }),
        Type::List(_) => Call::node("length", vec![value.node], arrow, |args, rows| {
            let list = args[0].column(rows)?;
            let list = list.as_list::<i32>();
            let lengths: Int64Array = (0..rows)
                .map(|row| list.is_valid(row).then(|| i64::from(list.value_length(row))))
                .collect();
            Ok(Arc::new(lengths))
        }),
        _ => return Err(site.wrong_type(0, "a text or a list", &value)),
    };
    Ok(Typed::new(node, Type::Int64, site.pos))
}

/// The byte position of the character number `n`, from 0; the end when there are fewer.
fn byte_at(text: &str, n: usize) -> usize {
    if text.is_ascii() {
        return n.min(text.len());
    }
    text.char_indices().nth(n).map_or(text.len(), |(at, _)| at)
}

fn part(text: &str, skip: i64, length: i64) -> Option<&str> {
    let from = byte_at(text, usize::try_from(skip).ok()?);
    let rest = &text[from..];
    Some(&rest[..byte_at(rest, usize::try_from(length).ok()?)])
}

pub(super) fn substr(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let mut nodes = vec![site.text(binder, 0)?.node];
    let start = site.int(binder, 1)?;
    if let Some(datafusion_common::ScalarValue::Int64(Some(n))) = start.literal()
        && *n < 1
    {
        return Err(start
            .pos
            .error("`substr` starts at 1 or later")
            .hint("take the end of a text with `right(text, characters)`"));
    }
    nodes.push(start.node);
    if site.args.len() == 3 {
        nodes.push(site.int(binder, 2)?.node);
    }
    let node = Call::node("substr", nodes, Type::String.arrow(), |args, rows| {
        let (text, start) = (args[0].text(), args[1].primitive::<Int64Type>());
        let length = args.get(2).map(Operand::primitive::<Int64Type>);
        text_rows(rows, |row| {
            let length = match &length {
                Some(length) => length.get(row)?,
                None => i64::MAX,
            };
            part(text.get(row)?, start.get(row)?.checked_sub(1)?, length)
        })
    });
    Ok(Typed::new(node, Type::String, site.pos))
}

pub(super) fn left(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    end_of(binder, site, |text, count| part(text, 0, count))
}

pub(super) fn right(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    end_of(binder, site, |text, count| {
        let length = text.chars().count() as i64;
        let skip = if count < 0 {
            return None;
        } else {
            (length - count).max(0)
        };
        part(text, skip, i64::MAX)
    })
}

fn end_of(binder: &mut Binder<'_>, site: &CallSite<'_>, f: fn(&str, i64) -> Option<&str>) -> Bound {
    let nodes = vec![site.text(binder, 0)?.node, site.int(binder, 1)?.node];
    let node = Call::node(site.function.name, nodes, Type::String.arrow(), move |args, rows| {
        let (text, count) = (args[0].text(), args[1].primitive::<Int64Type>());
        text_rows(rows, |row| f(text.get(row)?, count.get(row)?))
    });
    Ok(Typed::new(node, Type::String, site.pos))
}

/// `concat(a, b, …)`: nulls are passed over.
pub(super) fn concat(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let nodes = (0..site.args.len())
        .map(|index| Ok(site.text(binder, index)?.node))
        .collect::<Result<Vec<_>, crate::expr::ExprError>>()?;
    let node = Call::node("concat", nodes, Type::String.arrow(), |args, rows| {
        let texts: Vec<_> = args.iter().map(Operand::text).collect();
        text_rows(rows, |row| {
            let mut joined = String::new();
            for text in &texts {
                joined.push_str(text.get(row).unwrap_or_default());
                if joined.len() > MAX_TEXT_BYTES {
                    return None;
                }
            }
            Some(joined)
        })
    });
    Ok(Typed::new(node, Type::String, site.pos))
}

/// `a || b`: null when either is.
pub(in crate::expr) fn join(binder: &mut Binder<'_>, left: &Ast, right: &Ast, pos: Pos) -> Bound {
    let mut nodes = Vec::with_capacity(2);
    for side in [left, right] {
        let value = binder.bind(side)?;
        if !value.untyped_null && value.ty != Type::String {
            return Err(value
                .pos
                .error(format!("`||` joins texts, found {}", value.ty))
                .hint("convert it with `cast(x as string)`"));
        }
        nodes.push(want(value, &Type::String)?.node);
    }
    let node = Call::node("||", nodes, Type::String.arrow(), |args, rows| {
        let (left, right) = (args[0].text(), args[1].text());
        text_rows(rows, |row| {
            let (left, right) = (left.get(row)?, right.get(row)?);
            (left.len() + right.len() <= MAX_TEXT_BYTES).then(|| format!("{left}{right}"))
        })
    });
    Ok(Typed::new(node, Type::String, pos))
}

pub(super) fn replace(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let nodes =
        vec![site.text(binder, 0)?.node, site.text(binder, 1)?.node, site.text(binder, 2)?.node];
    let node = Call::node("replace", nodes, Type::String.arrow(), |args, rows| {
        let (text, from, to) = (args[0].text(), args[1].text(), args[2].text());
        text_rows(rows, |row| replace_bounded(text.get(row)?, from.get(row)?, to.get(row)?))
    });
    Ok(Typed::new(node, Type::String, site.pos))
}

/// Looks at the size before it builds the text. An empty search leaves the text as it is.
fn replace_bounded(text: &str, from: &str, to: &str) -> Option<String> {
    if from.is_empty() {
        return Some(text.to_owned());
    }
    if to.len() > from.len() {
        let grows = text.matches(from).count().checked_mul(to.len() - from.len())?;
        if text.len().checked_add(grows)? > MAX_TEXT_BYTES {
            return None;
        }
    }
    bounded(text.replace(from, to))
}

pub(super) fn split_part(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let nodes =
        vec![site.text(binder, 0)?.node, site.text(binder, 1)?.node, site.int(binder, 2)?.node];
    let node = Call::node("split_part", nodes, Type::String.arrow(), |args, rows| {
        let (text, separator) = (args[0].text(), args[1].text());
        let nth = args[2].primitive::<Int64Type>();
        text_rows(rows, |row| {
            let (text, separator) = (text.get(row)?, separator.get(row)?);
            let skip = usize::try_from(nth.get(row)?.checked_sub(1)?).ok()?;
            if separator.is_empty() {
                return None;
            }
            Some(text.split(separator).nth(skip).unwrap_or_default())
        })
    });
    Ok(Typed::new(node, Type::String, site.pos))
}

/// The position of the first occurrence, from 1; 0 when there is none.
pub(super) fn strpos(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let nodes = vec![site.text(binder, 0)?.node, site.text(binder, 1)?.node];
    let arrow = Type::Int64.arrow();
    let node = Call::node("strpos", nodes, arrow.clone(), move |args, rows| {
        let (text, part) = (args[0].text(), args[1].text());
        rows_of::<Int64Type>(rows, &arrow, |row| {
            let text = text.get(row)?;
            Some(match text.find(part.get(row)?) {
                Some(at) => text[..at].chars().count() as i64 + 1,
                None => 0,
            })
        })
    });
    Ok(Typed::new(node, Type::Int64, site.pos))
}

pub(super) fn starts_with(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    test(binder, site, |text, part| text.starts_with(part))
}

pub(super) fn ends_with(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    test(binder, site, |text, part| text.ends_with(part))
}

/// Over a text: does the part occur in it? Over a list: is the value one of its elements?
pub(super) fn contains(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.bind(binder, 0)?;
    match &value.ty {
        Type::List(_) if !value.untyped_null => list::contains(binder, site, value),
        _ => test(binder, site, |text, part| text.contains(part)),
    }
}

fn test(binder: &mut Binder<'_>, site: &CallSite<'_>, f: fn(&str, &str) -> bool) -> Bound {
    let nodes = vec![site.text(binder, 0)?.node, site.text(binder, 1)?.node];
    let node = Call::node(site.function.name, nodes, Type::Bool.arrow(), move |args, rows| {
        let (text, part) = (args[0].text(), args[1].text());
        bool_rows(rows, |row| Some(f(text.get(row)?, part.get(row)?)))
    });
    Ok(Typed::new(node, Type::Bool, site.pos))
}

/// The pattern is compiled with the expression; matching takes time linear in the text.
pub(super) fn regexp_like(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let text = site.text(binder, 0)?;
    let (pattern, pos) = site.quoted(1)?;
    let regex = Regex::new(pattern).map_err(|error| {
        let message = error.to_string();
        let last = message.lines().last().unwrap_or_default();
        pos.error(format!("the pattern is not valid: {}", last.trim_start_matches("error: ")))
            .hint("the syntax is that of Rust's regex crate: no look-around, no back-references")
    })?;
    let node = Call::node(
        "regexp_like",
        vec![text.node],
        Type::Bool.arrow(),
        move |args, rows| -> Evaluated<ArrayRef> {
            let text = args[0].text();
            bool_rows(rows, |row| Some(regex.is_match(text.get(row)?)))
        },
    );
    Ok(Typed::new(node, Type::Bool, site.pos))
}
