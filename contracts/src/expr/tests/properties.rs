//! Laws that hold for any text and any batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{all_shown, hostile, scope};
use crate::expr::Expr;
use crate::expr::functions::FUNCTIONS;

/// Pieces that random texts are made of: every keyword and operator, names of every type.
const PIECES: &[&str] = &[
    "i",
    "j",
    "amount",
    "big",
    "f",
    "g",
    "s",
    "b",
    "t",
    "day",
    "items",
    "nums",
    "tags",
    "address",
    "raw",
    "item",
    "sku",
    "quantity",
    "price",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    ">=",
    "||",
    "(",
    ")",
    "(",
    ")",
    ",",
    ".",
    "[",
    "]",
    "and",
    "or",
    "not",
    "is",
    "null",
    "true",
    "in",
    "between",
    "like",
    "case",
    "when",
    "then",
    "else",
    "end",
    "cast",
    "as",
    "decimal(12,2)",
    "int64",
    "0",
    "1",
    "-1",
    "2.5",
    "1e3",
    "'a'",
    "'%'",
    "''",
    "timestamp",
    "interval",
    "'1 day'",
    "extract",
    "hour",
    "from",
    "\"x\"",
    "--",
    "'",
    "ß",
    ";",
];

/// One text of each kind: a number, a text, a bool, a time.
type OfEachKind = [String; 4];

/// Forms of each kind. `{n} {m}` stand for numbers, `{s} {u}` for texts, `{b} {c}` for bools and
/// `{t} {v}` for times.
const FORMS: [&[&str]; 4] = [
    &[
        "({n} + {m})",
        "({n} - {m})",
        "({n} * {m})",
        "({n} / {m})",
        "({n} % {m})",
        "-{n}",
        "abs({n})",
        "round({n}, 1)",
        "round({n}, -2)",
        "floor({n})",
        "ceil({n})",
        "cast({n} as int64)",
        "cast({n} as decimal(12,2))",
        "cast({n} as float64)",
        "cast({s} as int64)",
        "cast({s} as decimal(12,2))",
        "cast({s} as float64)",
        "length({s})",
        "strpos({s}, {u})",
        "case when {b} then {n} else {m} end",
        "case {n} when {m} then 1 end",
        "case {s} when {u} then {n} else {m} end",
        "coalesce({n}, {m})",
        "nullif({n}, {m})",
        "greatest({n}, {m})",
        "least({n}, {m})",
        "extract(week from {t})",
        "iso_weekday({t})",
        "seconds_between({t}, {v})",
        "sum_of(nums, item + {n})",
        "max_of(items, price * {n})",
        "avg_of(nums, item * {n})",
        "count_of(items, {b} and price > {n})",
        "distinct_of(nums, item % {n})",
        "sum_of(items, sum_of(marks, item + {n}))",
        "nums[cast({n} as int64)]",
    ],
    &[
        "({s} || {u})",
        "lower({s})",
        "upper({s})",
        "trim({s})",
        "concat({s}, {u})",
        "replace({s}, {u}, 'xx')",
        "substr({s}, cast({n} as int64))",
        "left({s}, length({u}))",
        "right({s}, cast({n} as int64))",
        "split_part({s}, {u}, 2)",
        "cast({n} as string)",
        "cast({t} as string)",
        "cast({b} as string)",
        "case when {b} then {s} else {u} end",
        "coalesce({s}, {u})",
        "nullif({s}, {u})",
        "greatest({s}, {u})",
        "min_of(tags, item || {s})",
        "first_of(items, case when {b} then sku end)",
        "max_by_of(items, sku, price * {n})",
    ],
    &[
        "({n} < {m})",
        "({n} = {m})",
        "({n} <> {m})",
        "({s} = {u})",
        "({s} >= {u})",
        "({t} > {v})",
        "({b} and {c})",
        "({b} or {c})",
        "not {b}",
        "({b} is not true)",
        "({n} is null)",
        "({s} is not null)",
        "({n} between {m} and 7)",
        "({n} in ({m}, 7))",
        "({s} not in ({u}, 'abc'))",
        "({s} like 'a%')",
        "contains({s}, {u})",
        "starts_with({s}, {u})",
        "regexp_like({s}, '[a-c]')",
        "any_of(items, price > {n})",
        "all_of(tags, item <> {s})",
        "contains(nums, {n})",
        "contains(tags, {s})",
        "case when {b} then {n} > 1 else {c} end",
    ],
    &[
        "({t} + interval '1 month')",
        "({t} - interval '36 hours')",
        "date_trunc('month', {t})",
        "date_trunc('week', {t})",
        "case when {b} then {t} else {v} end",
        "coalesce({t}, {v})",
        "least({t}, {v})",
        "cast({s} as timestamp)",
        "cast(cast({t} as date) as timestamp)",
        "max_of(items, case when {b} then at else {t} end)",
    ],
];

const LEAVES: [&[&str]; 4] = [
    &[
        "i",
        "j",
        "amount",
        "big",
        "f",
        "g",
        "0",
        "1",
        "-1",
        "7",
        "2.5",
        "0.01",
        "1e3",
        "items[2].price",
        "address.geo.lat",
    ],
    &["s", "address.city", "''", "'abc'", "','", "items[1].sku"],
    &["b", "true", "false", "i > 0"],
    &["t", "timestamp '1969-12-31 23:59:59'", "items[1].at"],
];

/// Texts that are built from the grammar and the types. Few are refused, such as products with
/// too many digits.
fn grammar() -> impl Strategy<Value = String> {
    let pick = |from: [&'static [&'static str]; 4]| from.map(prop::sample::select);
    let leaf = pick(LEAVES).prop_map(|texts| texts.map(str::to_owned));
    let of_each = leaf.prop_recursive(4, 16, 2, move |inner| {
        (pick(FORMS), inner.clone(), inner).prop_map(|(forms, a, b)| -> OfEachKind {
            forms.map(|form| {
                let names = [("{n}", "{m}"), ("{s}", "{u}"), ("{b}", "{c}"), ("{t}", "{v}")];
                names
                    .iter()
                    .zip(a.iter().zip(&b))
                    .fold(form.to_owned(), |text, ((first, second), (a, b))| {
                        text.replace(first, a).replace(second, b)
                    })
            })
        })
    });
    (of_each, 0..4_usize).prop_map(|(texts, kind)| texts[kind].clone())
}

/// Evaluated alone, each row has the value that it has in its batch.
fn check_row_by_row(expr: &Expr, batch: &RecordBatch) {
    let whole = expr.evaluate(batch);
    assert_eq!(*whole.data_type(), expr.ty().arrow(), "{expr:?}");
    let single: Vec<ArrayRef> =
        (0..batch.num_rows()).map(|row| expr.evaluate(&batch.slice(row, 1))).collect();
    let single: Vec<&dyn Array> = single.iter().map(AsRef::as_ref).collect();
    let single = concat(&single).unwrap();
    assert_eq!(all_shown(&whole), all_shown(&single), "{expr:?}");
}

fn check_canonical(expr: &Expr) {
    let again = Expr::compile(expr.canonical(), &scope(), None)
        .unwrap_or_else(|error| panic!("{}: {error}", expr.canonical()));
    assert_eq!(expr.canonical(), again.canonical());
    assert_eq!(expr.ty(), again.ty());
}

fn check(text: &str) -> bool {
    let Ok(expr) = Expr::compile(text, &scope(), None) else {
        return false;
    };
    check_canonical(&expr);
    check_row_by_row(&expr, &hostile());
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_compiles_or_is_refused(text in "\\PC{0,80}") {
        check(&text);
    }

    #[test]
    fn any_soup_of_pieces_compiles_or_is_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24)
    ) {
        check(&pieces.join(" "));
    }

    #[test]
    fn calls_with_any_arguments_compile_or_are_refused(
        function in 0..FUNCTIONS.len(),
        args in prop::collection::vec(prop::sample::select(PIECES[..20].to_vec()), 0..4)
    ) {
        check(&format!("{}({})", FUNCTIONS[function].name, args.join(", ")));
    }

    #[test]
    fn rows_do_not_know_their_batch(text in grammar()) {
        check(&text);
    }

    #[test]
    fn int_arithmetic_is_that_of_wide_integers(a: i64, b: i64) {
        let (wide_a, wide_b) = (i128::from(a), i128::from(b));
        for (op, exact) in [
            ("+", Some(wide_a + wide_b)),
            ("-", Some(wide_a - wide_b)),
            ("*", Some(wide_a * wide_b)),
            ("/", wide_a.checked_div(wide_b)),
            ("%", wide_a.checked_rem(wide_b)),
        ] {
            let expected = exact.and_then(|v| i64::try_from(v).ok());
            let batch = columns(vec![("col_i", Arc::new(Int64Array::from(vec![a]))), ("col_j", Arc::new(Int64Array::from(vec![b])))]);
            let values = super::compile(&format!("i {op} j")).evaluate(&batch);
            let shown = expected.map_or("null".to_owned(), |v| v.to_string());
            prop_assert_eq!(all_shown(&values), vec![shown]);
        }
    }

    #[test]
    fn doubles_survive_their_text(value: f64) {
        let batch = columns(vec![("col_f", Arc::new(Float64Array::from(vec![value])))]);
        let back = super::compile("cast(cast(f as string) as float64) = f").evaluate(&batch);
        let expected = if value.is_finite() { "true" } else { "null" };
        prop_assert_eq!(all_shown(&back), vec![expected.to_owned()]);
    }

    #[test]
    fn parts_of_a_text_make_the_text(text in "\\PC{0,12}", n in 0_i64..14) {
        let batch = columns(vec![
            ("col_s", Arc::new(StringArray::from(vec![text]))),
            ("col_i", Arc::new(Int64Array::from(vec![n]))),
        ]);
        let same = super::compile("left(s, i) || substr(s, i + 1) = s").evaluate(&batch);
        prop_assert_eq!(all_shown(&same), vec!["true".to_owned()]);
    }
}

fn columns(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The grammar above must reach real evaluation, or the property would hold for nothing.
#[test]
fn enough_random_texts_compile() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = grammar();
    let compiled = (0..2_000)
        .filter(|_| {
            let text = strategy.new_tree(&mut runner).unwrap().current();
            Expr::compile(&text, &scope(), None).is_ok()
        })
        .count();
    assert!(compiled > 1_000, "only {compiled} of 2000 compile");
}
