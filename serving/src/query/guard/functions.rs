//! The functions that statements may call: names, numbers of arguments, and how a call is written.
//!
//! What is not in [`TABLE`] is refused, so a function that a later DuckDB brings is too. Kept out on
//! purpose: whatever reads files, settings or the catalog, makes rows or texts without bound, collects
//! all rows into one value, or depends on chance or on the session.

use super::refusal::Refusal;
use crate::metric::hint;

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of one row.
    Scalar,
    /// Of many rows; with `over` also of a window.
    Aggregate,
    /// Of a window only.
    Window,
    /// Of one row, with a literal text in this place (from 0).
    Literal(usize),
    /// The moment of the statement.
    Now,
    /// The day of the statement.
    Today,
    /// Joins texts; see [`super::expr`].
    Concat,
    /// Nothing where two are equal: a macro in DuckDB, which has its first argument twice.
    NullIf,
}

/// A function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Name as it is written to DuckDB.
    pub(super) name: &'static str,
    /// How it is called.
    pub(super) kind: Kind,
    /// Fewest arguments.
    pub(super) least: usize,
    /// Most arguments.
    pub(super) most: usize,
}

const fn f(name: &'static str, kind: Kind, least: usize, most: usize) -> Function {
    Function { name, kind, least, most }
}

use Kind::{Aggregate, Concat, Literal, Now, NullIf, Scalar, Today, Window};

/// Most arguments where there is no natural limit.
const MANY: usize = 32;

/// In order of name.
const TABLE: &[Function] = &[
    f("abs", Scalar, 1, 1),
    f("any_value", Aggregate, 1, 1),
    f("approx_count_distinct", Aggregate, 1, 1),
    f("arg_max", Aggregate, 2, 2),
    f("arg_min", Aggregate, 2, 2),
    f("avg", Aggregate, 1, 1),
    f("bool_and", Aggregate, 1, 1),
    f("bool_or", Aggregate, 1, 1),
    f("ceil", Scalar, 1, 1),
    f("ceiling", Scalar, 1, 1),
    f("coalesce", Scalar, 1, MANY),
    f("concat", Concat, 1, MANY),
    f("contains", Scalar, 2, 2),
    f("corr", Aggregate, 2, 2),
    f("count", Aggregate, 0, 1),
    f("count_if", Aggregate, 1, 1),
    f("cume_dist", Window, 0, 0),
    f("current_date", Today, 0, 0),
    f("current_timestamp", Now, 0, 0),
    f("date_diff", Literal(0), 3, 3),
    f("date_part", Literal(0), 2, 2),
    f("date_trunc", Literal(0), 2, 2),
    f("datediff", Literal(0), 3, 3),
    f("datepart", Literal(0), 2, 2),
    f("datetrunc", Literal(0), 2, 2),
    f("day", Scalar, 1, 1),
    f("dayname", Scalar, 1, 1),
    f("dayofmonth", Scalar, 1, 1),
    f("dayofweek", Scalar, 1, 1),
    f("dayofyear", Scalar, 1, 1),
    f("dense_rank", Window, 0, 0),
    f("ends_with", Scalar, 2, 2),
    f("epoch", Scalar, 1, 1),
    f("epoch_ms", Scalar, 1, 1),
    f("epoch_us", Scalar, 1, 1),
    f("exp", Scalar, 1, 1),
    f("first_value", Window, 1, 1),
    f("floor", Scalar, 1, 1),
    f("greatest", Scalar, 1, MANY),
    f("hour", Scalar, 1, 1),
    f("ifnull", Scalar, 2, 2),
    f("isfinite", Scalar, 1, 1),
    f("isnan", Scalar, 1, 1),
    f("lag", Window, 1, 3),
    f("last_value", Window, 1, 1),
    f("lead", Window, 1, 3),
    f("least", Scalar, 1, MANY),
    f("left", Scalar, 2, 2),
    f("len", Scalar, 1, 1),
    f("length", Scalar, 1, 1),
    f("list_contains", Scalar, 2, 2),
    f("ln", Scalar, 1, 1),
    f("log", Scalar, 1, 1),
    f("log10", Scalar, 1, 1),
    f("log2", Scalar, 1, 1),
    f("lower", Scalar, 1, 1),
    f("ltrim", Scalar, 1, 2),
    f("max", Aggregate, 1, 1),
    f("max_by", Aggregate, 2, 2),
    f("min", Aggregate, 1, 1),
    f("min_by", Aggregate, 2, 2),
    f("minute", Scalar, 1, 1),
    f("mod", Scalar, 2, 2),
    f("month", Scalar, 1, 1),
    f("monthname", Scalar, 1, 1),
    f("now", Now, 0, 0),
    f("nth_value", Window, 2, 2),
    f("ntile", Window, 1, 1),
    f("nullif", NullIf, 2, 2),
    f("percent_rank", Window, 0, 0),
    f("position", Scalar, 2, 2),
    f("pow", Scalar, 2, 2),
    f("power", Scalar, 2, 2),
    f("quarter", Scalar, 1, 1),
    f("rank", Window, 0, 0),
    f("regexp_matches", Literal(1), 2, 2),
    f("right", Scalar, 2, 2),
    f("round", Scalar, 1, 2),
    f("row_number", Window, 0, 0),
    f("rtrim", Scalar, 1, 2),
    f("second", Scalar, 1, 1),
    f("sign", Scalar, 1, 1),
    f("sqrt", Scalar, 1, 1),
    f("starts_with", Scalar, 2, 2),
    f("stddev", Aggregate, 1, 1),
    f("stddev_pop", Aggregate, 1, 1),
    f("stddev_samp", Aggregate, 1, 1),
    f("strftime", Literal(1), 2, 2),
    f("strlen", Scalar, 1, 1),
    f("strpos", Scalar, 2, 2),
    f("substr", Scalar, 2, 3),
    f("substring", Scalar, 2, 3),
    f("sum", Aggregate, 1, 1),
    f("time_bucket", Scalar, 2, 2),
    f("today", Today, 0, 0),
    f("trim", Scalar, 1, 2),
    f("trunc", Scalar, 1, 1),
    f("upper", Scalar, 1, 1),
    f("var_pop", Aggregate, 1, 1),
    f("var_samp", Aggregate, 1, 1),
    f("variance", Aggregate, 1, 1),
    f("week", Scalar, 1, 1),
    f("weekday", Scalar, 1, 1),
    f("year", Scalar, 1, 1),
];

/// The function of that name, in any case of letters.
pub(super) fn find(name: &str) -> Result<&'static Function, Refusal> {
    let lower = name.to_ascii_lowercase();
    match TABLE.binary_search_by(|function| function.name.cmp(&lower)) {
        Ok(place) => Ok(&TABLE[place]),
        Err(_) => {
            let refusal = Refusal::refused(format!("function `{name}` may not be called"));
            let near = hint(&lower, TABLE.iter().map(|function| function.name));
            Err(match near.filter(|near| near.starts_with("did you mean")) {
                Some(near) => refusal.hint(near),
                None => refusal.hint("only functions of the documented list may be called"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn names_are_found_in_any_case_and_others_are_not() {
        assert_eq!(find("COUNT").unwrap().name, "count");
        assert_eq!(find("counts").unwrap_err().hint.as_deref(), Some("did you mean `count`?"));
        for name in ["read_csv", "getenv", "current_setting", "columns", "unnest", "query_table"] {
            assert!(find(name).is_err(), "{name}");
        }
    }
}
