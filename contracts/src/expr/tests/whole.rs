//! The expression as a whole: canonical text, columns, batches of another shape.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;

use super::{all_shown, compile, decimal, hostile, scope};
use crate::expr::Expr;
use crate::types::Type;

#[track_caller]
fn canonical(text: &str, expected: &str) {
    let expr = compile(text);
    assert_eq!(expr.canonical(), expected);
    assert_eq!(compile(expected).canonical(), expected, "not a fixpoint");
}

#[test]
fn one_spelling_per_meaning() {
    canonical("i=1", "i = 1");
    canonical("((i))  =\n (1)", "i = 1");
    canonical("i != 1 AND NOT (b) -- why", "i <> 1 and not b");
    canonical("(b and b) and (b)", "b and b and b");
    canonical("b and (b or b)", "b and (b or b)");
    canonical("b or (b and b)", "b or b and b");
    canonical("not (b and b)", "not (b and b)");
    canonical("(i + j) * 2 - (i - j)", "(i + j) * 2 - (i - j)");
    canonical("(i * j) + (i / j)", "i * j + i / j");
    canonical("i - (j - 1)", "i - (j - 1)");
    canonical("-(i + 1)", "-(i + 1)");
    canonical("- - i", "- -i");
    canonical("-(1)", "-1");
    canonical("- i * j", "-i * j");
    canonical("-(i * j)", "-(i * j)");
    canonical("i - -1", "i - -1");
    canonical("007 + 1E+3", "7 + 1e3");
    canonical("1.10 = amount", "1.10 = amount");
    canonical("EXTRACT(Hour FROM t)", "date_part('hour', t)");
    canonical("Cast(i AS Decimal(12, 2))", "cast(i as decimal(12,2))");
    canonical("LOWER( s )", "lower(s)");
    canonical("CASE i WHEN 1 THEN 'x' ELSE 'y' END", "case i when 1 then 'x' else 'y' end");
    canonical("s NOT LIKE 'a''b'", "s not like 'a''b'");
    canonical("s not in ('a','b')", "s not in ('a', 'b')");
    canonical("i not between 1 and (2)", "i not between 1 and 2");
    canonical("(i > 1) is not true", "i > 1 is not true");
    canonical("(i in (1)) is true is false", "i in (1) is true is false");
    canonical("(b is null) = true", "(b is null) = true");
    canonical("\"i\" + \"end\"", "i + \"end\"");
    canonical("items [ 1 ] . sku", "items[1].sku");
    canonical("Timestamp '2024-01-01' < timestamp", "timestamp '2024-01-01' < timestamp");
    canonical("t + INTERVAL '1 day'", "t + interval '1 day'");
    canonical("s || ('a' || 'b')", "s || ('a' || 'b')");
    canonical("sum_of(items, (quantity) * price)", "sum_of(items, quantity * price)");
}

#[test]
fn columns_are_those_of_the_batch() {
    let expr = compile("sum_of(items, quantity * amount) > i and i > 0");
    let expected: BTreeSet<String> = ["col_items", "col_amount", "col_i"].map(str::to_owned).into();
    assert_eq!(*expr.columns(), expected);
    assert!(compile("1 + 1").columns().is_empty());
}

#[test]
fn a_plain_column_says_so() {
    assert_eq!(compile("(amount)").as_column(), Some("col_amount"));
    assert_eq!(compile("amount + 0").as_column(), None);
    assert_eq!(compile("address.city").as_column(), None);
    assert_eq!(compile("5").as_column(), None);
    let widened = Expr::compile("amount", &scope(), Some(&decimal(20, 4))).unwrap();
    assert_eq!(widened.as_column(), None);
    let same = Expr::compile("amount", &scope(), Some(&decimal(12, 2))).unwrap();
    assert_eq!(same.as_column(), Some("col_amount"));
}

#[test]
fn order_and_number_of_columns_do_not_matter() {
    let batch = hostile();
    let reversed: Vec<usize> = (0..batch.num_columns()).rev().collect();
    let expr = compile("i + sum_of(nums, item + j)");
    let other: RecordBatch = batch.project(&reversed).unwrap();
    assert_eq!(all_shown(&expr.evaluate(&batch)), all_shown(&expr.evaluate(&other)));
}

#[test]
fn empty_batches_and_constants() {
    let batch = hostile();
    for text in ["1 + 1", "i + 1", "sum_of(items, price)", "case when b then s else 'x' end"] {
        let expr = compile(text);
        assert_eq!(expr.evaluate(&batch.slice(0, 0)).len(), 0, "{text}");
        assert_eq!(expr.evaluate(&batch).len(), 6, "{text}");
    }
    let nothing = Expr::compile("null", &scope(), Some(&Type::Date)).unwrap();
    assert_eq!(nothing.evaluate(&batch).null_count(), 6);
}

#[test]
fn expressions_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>(_: &T) {}
    let expr = compile("i + 1");
    shared(&expr);
    assert_eq!(format!("{expr:?}"), "Expr(i + 1: int64)");
}
