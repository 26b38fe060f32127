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

/// A text that is likely to type: built from the grammar, not yet from the types.
fn grammar() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "i",
        "j",
        "amount",
        "big",
        "fine",
        "f",
        "g",
        "s",
        "b",
        "t",
        "day",
        "0",
        "1",
        "-1",
        "7",
        "2.5",
        "0.01",
        "1e3",
        "'a'",
        "'abc'",
        "null",
        "true",
        "nums[1]",
        "items[2].price",
        "address.city",
        "address.geo.lat",
        "date '2024-02-29'",
        "timestamp '1969-12-31 23:59:59'",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 24, 3, |inner| {
        let one = inner.clone();
        let two = (inner.clone(), inner.clone());
        let three = (inner.clone(), inner.clone(), inner);
        prop_oneof![
            (
                two.clone(),
                prop::sample::select(vec!["+", "-", "*", "/", "%", "||"])
            )
                .prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            (
                two.clone(),
                prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="])
            )
                .prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            (two.clone(), prop::sample::select(vec!["and", "or"]))
                .prop_map(|((a, b), op)| format!("({a} {op} {b})")),
            (
                one.clone(),
                prop::sample::select(vec![
                    "-{}",
                    "not {}",
                    "({} is null)",
                    "abs({})",
                    "round({}, 1)",
                    "floor({})",
                    "ceil({})",
                    "round({}, -2)",
                    "lower({})",
                    "length({})",
                    "trim({})",
                    "cast({} as int64)",
                    "cast({} as decimal(12,2))",
                    "cast({} as float64)",
                    "cast({} as string)",
                    "cast({} as date)",
                    "cast({} as timestamp)",
                    "date_trunc('month', {})",
                    "extract(week from {})",
                    "iso_weekday({})",
                    "({} + interval '1 month')",
                    "sum_of(nums, item + {})",
                    "max_of(items, price * {})",
                    "any_of(items, price > {})",
                    "count_of(tags, item = {})",
                    "distinct_of(nums, item % {})",
                    "avg_of(nums, item * {})",
                    "({} is not true)",
                ])
            )
                .prop_map(|(a, form)| form.replace("{}", &a)),
            (
                two,
                prop::sample::select(vec![
                    "coalesce({a}, {b})",
                    "nullif({a}, {b})",
                    "greatest({a}, {b})",
                    "least({a}, {b})",
                    "concat({a}, {b})",
                    "left({a}, {b})",
                    "substr({a}, {b})",
                    "strpos({a}, {b})",
                    "contains({a}, {b})",
                    "contains(nums, {a} + {b})",
                    "seconds_between({a}, {b})",
                    "({a} in ({b}, 1))",
                    "replace({a}, {b}, 'xx')",
                    "split_part({a}, ',', {b})",
                ])
            )
                .prop_map(|((a, b), form)| form.replace("{a}", &a).replace("{b}", &b)),
            (three.clone(), Just(()))
                .prop_map(|((a, b, c), ())| format!("case when {a} then {b} else {c} end")),
            (three.clone(), Just(()))
                .prop_map(|((a, b, c), ())| format!("case {a} when {b} then {c} end")),
            (three, Just(())).prop_map(|((a, b, c), ())| format!("({a} between {b} and {c})")),
        ]
    })
}

/// Evaluated alone, each row has the value that it has in its batch.
fn check_row_by_row(expr: &Expr, batch: &RecordBatch) {
    let whole = expr.evaluate(batch);
    assert_eq!(*whole.data_type(), expr.ty().arrow(), "{expr:?}");
    let single: Vec<ArrayRef> = (0..batch.num_rows())
        .map(|row| expr.evaluate(&batch.slice(row, 1)))
        .collect();
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
    assert!(compiled > 300, "only {compiled} of 2000 compile");
}
