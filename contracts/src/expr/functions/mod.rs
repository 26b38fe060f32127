//! The functions of the dialect: one table, closed.
//!
//! A function binds its own arguments, so each sees the syntax tree (a list function types its
//! inner expression against the list's elements) and decides its own types. To add one, write its
//! `bind` in the module of its subject, list it in [`FUNCTIONS`] and describe it in
//! `docs/expressions.md`: a test compares the two.

mod conditional;
mod list;
mod math;
pub(super) mod text;
pub(super) mod time;

use super::ast::Ast;
use super::bind::{Binder, Bound, Typed, want};
use super::error::{ExprError, Pos};
use super::suggest::nearest;
use crate::types::Type;

/// A function of the dialect.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// How it is called; shown in errors.
    pub(super) usage: &'static str,
    min_args: usize,
    max_args: usize,
    bind: fn(&mut Binder<'_>, &CallSite<'_>) -> Bound,
}

/// No limit but the text's own.
const MANY: usize = usize::MAX;

const fn function(
    name: &'static str,
    usage: &'static str,
    args: (usize, usize),
    bind: fn(&mut Binder<'_>, &CallSite<'_>) -> Bound,
) -> Function {
    Function { name, usage, min_args: args.0, max_args: args.1, bind }
}

/// All functions.
#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    function("abs", "abs(number)", (1, 1), math::abs),
    function("round", "round(number[, digits])", (1, 2), math::round),
    function("floor", "floor(number)", (1, 1), math::floor),
    function("ceil", "ceil(number)", (1, 1), math::ceil),

    function("coalesce", "coalesce(value, …)", (1, MANY), conditional::coalesce),
    function("nullif", "nullif(value, value)", (2, 2), conditional::nullif),
    function("greatest", "greatest(value, …)", (1, MANY), conditional::greatest),
    function("least", "least(value, …)", (1, MANY), conditional::least),

    function("lower", "lower(text)", (1, 1), text::lower),
    function("upper", "upper(text)", (1, 1), text::upper),
    function("trim", "trim(text)", (1, 1), text::trim),
    function("length", "length(text or list)", (1, 1), text::length),
    function("substr", "substr(text, start[, length])", (2, 3), text::substr),
    function("left", "left(text, characters)", (2, 2), text::left),
    function("right", "right(text, characters)", (2, 2), text::right),
    function("concat", "concat(text, …)", (1, MANY), text::concat),
    function("replace", "replace(text, from, to)", (3, 3), text::replace),
    function("split_part", "split_part(text, separator, n)", (3, 3), text::split_part),
    function("strpos", "strpos(text, part)", (2, 2), text::strpos),
    function("starts_with", "starts_with(text, part)", (2, 2), text::starts_with),
    function("ends_with", "ends_with(text, part)", (2, 2), text::ends_with),
    function("contains", "contains(text or list, part)", (2, 2), text::contains),
    function("regexp_like", "regexp_like(text, 'pattern')", (2, 2), text::regexp_like),

    function("date_trunc", "date_trunc('unit', time)", (2, 2), time::date_trunc),
    function("date_part", "date_part('unit', time)", (2, 2), time::date_part),
    function("iso_weekday", "iso_weekday(time)", (1, 1), time::iso_weekday),
    function("seconds_between", "seconds_between(start, end)", (2, 2), time::seconds_between),
    function("minutes_between", "minutes_between(start, end)", (2, 2), time::minutes_between),

    function("sum_of", "sum_of(list, value)", (1, 2), list::sum_of),
    function("avg_of", "avg_of(list, value)", (1, 2), list::avg_of),
    function("min_of", "min_of(list, value)", (1, 2), list::min_of),
    function("max_of", "max_of(list, value)", (1, 2), list::max_of),
    function("first_of", "first_of(list, value)", (1, 2), list::first_of),
    function("max_by_of", "max_by_of(list, value, by)", (3, 3), list::max_by_of),
    function("count_of", "count_of(list[, predicate])", (1, 2), list::count_of),
    function("distinct_of", "distinct_of(list, value)", (1, 2), list::distinct_of),
    function("any_of", "any_of(list, predicate)", (1, 2), list::any_of),
    function("all_of", "all_of(list, predicate)", (1, 2), list::all_of),
];

/// One call in a text.
pub(super) struct CallSite<'a> {
    function: &'static Function,
    args: &'a [Ast],
    pos: Pos,
}

pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Binds a call; `name` is in lower case.
pub(super) fn bind(binder: &mut Binder<'_>, name: &str, args: &[Ast], pos: Pos) -> Bound {
    let Some(function) = find(name) else {
        return Err(unknown(name, pos));
    };
    if args.len() < function.min_args || args.len() > function.max_args {
        let takes = match (function.min_args, function.max_args) {
            (1, 1) => "1 argument".to_owned(),
            (min, max) if min == max => format!("{min} arguments"),
            (min, MANY) => format!("at least {min} argument"),
            (min, max) => format!("{min} or {max} arguments"),
        };
        return Err(pos
            .error(format!("`{name}` takes {takes}, found {}", args.len()))
            .hint(format!("write it as `{}`", function.usage)));
    }
    let site = CallSite { function, args, pos };
    let mut typed = (function.bind)(binder, &site)?;
    typed.pos = pos;
    Ok(typed)
}

fn unknown(name: &str, pos: Pos) -> ExprError {
    let error = pos.error(format!("unknown function `{name}`"));
    let hint = match name {
        "sum" | "avg" | "min" | "max" | "count" | "first" | "any" | "all" => format!(
            "aggregates over rows belong into `measure` or a fold; over a list write `{name}_of(list, …)`"
        ),
        "now" | "current_timestamp" | "current_date" | "today" | "random" | "uuid" => {
            "a result may depend on nothing but the event: use its own time".to_owned()
        }
        "substring" => "write `substr(text, start[, length])`".to_owned(),
        "position" | "instr" => "write `strpos(text, part)`".to_owned(),
        "char_length" | "len" | "array_length" | "cardinality" => {
            "write `length(value)`".to_owned()
        }
        "if" | "iff" => "write `case when … then … else … end`".to_owned(),
        "ifnull" | "nvl" => "write `coalesce(value, otherwise)`".to_owned(),
        "mod" => "write `a % b`".to_owned(),
        "ceiling" => "write `ceil(number)`".to_owned(),
        "try_cast" => "write `cast(x as type)`: a cast that fails is null".to_owned(),
        "datediff" | "date_diff" | "age" => "write `seconds_between(start, end)`".to_owned(),
        "dayofweek" | "isodow" | "weekday" => "write `iso_weekday(time)`".to_owned(),
        _ => match nearest(name, FUNCTIONS.iter().map(|function| function.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "the reference page `docs/expressions.md` lists all functions".to_owned(),
        },
    };
    error.hint(hint)
}

impl CallSite<'_> {
    /// What error messages call an argument.
    fn what(&self, index: usize) -> String {
        if self.function.max_args == 1 {
            format!("`{}`", self.function.name)
        } else {
            format!("argument {} of `{}`", index + 1, self.function.name)
        }
    }

    fn bind(&self, binder: &mut Binder<'_>, index: usize) -> Bound {
        binder.bind(&self.args[index])
    }

    fn bind_all(&self, binder: &mut Binder<'_>) -> Result<Vec<Typed>, ExprError> {
        self.args.iter().map(|arg| binder.bind(arg)).collect()
    }

    fn wrong_type(&self, index: usize, needs: &str, found: &Typed) -> ExprError {
        found.pos.error(format!("{} needs {needs}, found {}", self.what(index), found.describe()))
    }

    /// An argument of exactly this type, or null.
    fn typed(&self, binder: &mut Binder<'_>, index: usize, ty: &Type) -> Bound {
        let value = self.bind(binder, index)?;
        if value.untyped_null || value.ty == *ty {
            return want(value, ty);
        }
        let error = self.wrong_type(index, &ty.to_string(), &value);
        Err(match ty {
            Type::String if !matches!(value.ty, Type::List(_) | Type::Struct(_)) => {
                error.hint("convert it with `cast(x as string)`")
            }
            Type::Int64 if value.ty.is_numeric() => {
                error.hint("convert it with `cast(x as int64)`")
            }
            _ => error,
        })
    }

    fn text(&self, binder: &mut Binder<'_>, index: usize) -> Bound {
        self.typed(binder, index, &Type::String)
    }

    fn int(&self, binder: &mut Binder<'_>, index: usize) -> Bound {
        self.typed(binder, index, &Type::Int64)
    }

    fn number(&self, binder: &mut Binder<'_>, index: usize) -> Bound {
        let value = self.bind(binder, index)?;
        if value.ty.is_numeric() && !value.untyped_null {
            return Ok(value);
        }
        Err(self.wrong_type(index, "a number", &value))
    }

    fn time(&self, binder: &mut Binder<'_>, index: usize) -> Bound {
        let value = self.bind(binder, index)?;
        if matches!(value.ty, Type::Timestamp | Type::Date) && !value.untyped_null {
            return Ok(value);
        }
        Err(self
            .wrong_type(index, "a timestamp or a date", &value)
            .hint_if((value.ty == Type::String).then_some(
                "write `timestamp '2024-01-31 10:00:00'`, or convert the text with `cast(x as timestamp)`",
            )))
    }

    /// An argument that is written as a text in quotes.
    fn quoted(&self, index: usize) -> Result<(&str, Pos), ExprError> {
        let arg = &self.args[index];
        match &arg.kind {
            super::ast::AstKind::Text(text) => Ok((text, arg.pos)),
            _ => Err(arg
                .pos
                .error(format!("{} is a text in quotes", self.what(index)))
                .hint(format!("write it as `{}`", self.function.usage))),
        }
    }
}
