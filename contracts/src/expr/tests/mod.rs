//! Tests of the dialect through its public face: texts in, values or errors out.
//!
//! [`hostile`] is one batch of the values that break things; [`rows`] and [`value`] are the only
//! ones that know the API.

mod casts;
mod choice;
mod comparison;
mod errors;
mod lists;
mod numbers;
mod page;
mod properties;
mod texts;
mod times;
mod whole;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::json::ReaderBuilder;
use arrow::util::display::array_value_to_string;

use super::{Expr, ExprError, Scope, ScopeColumn};
use crate::types::Type;

fn decimal(precision: u8, scale: i8) -> Type {
    Type::Decimal { precision, scale }
}

fn list(element: Type) -> Type {
    Type::List(Box::new(element))
}

fn structure(members: &[(&str, Type)]) -> Type {
    let member = |(name, ty): &(&str, Type)| ((*name).to_owned(), ty.clone());
    Type::Struct(members.iter().map(member).collect())
}

/// The names of the hostile batch; names and columns differ on purpose.
fn scope() -> Scope {
    let item = structure(&[
        ("sku", Type::String),
        ("quantity", Type::Int64),
        ("price", decimal(12, 2)),
        ("weight", Type::Float64),
        ("at", Type::Timestamp),
        ("marks", list(Type::Int64)),
    ]);
    let address =
        structure(&[("city", Type::String), ("geo", structure(&[("lat", Type::Float64)]))]);
    let columns = [
        ("i", Type::Int64),
        ("j", Type::Int64),
        ("amount", decimal(12, 2)),
        ("big", decimal(38, 0)),
        ("fine", decimal(38, 38)),
        ("f", Type::Float64),
        ("g", Type::Float64),
        ("s", Type::String),
        ("b", Type::Bool),
        ("t", Type::Timestamp),
        ("day", Type::Date),
        ("items", list(item)),
        ("nums", list(Type::Int64)),
        ("tags", list(Type::String)),
        ("weights", list(Type::Float64)),
        ("address", address),
        ("raw", Type::Json),
        ("end", Type::Int64),
        ("timestamp", Type::Timestamp),
    ];
    Scope {
        columns: columns
            .into_iter()
            .map(|(name, ty)| ScopeColumn {
                name: name.to_owned(),
                column: format!("col_{name}"),
                ty,
            })
            .collect(),
    }
}

const MAX_38: i128 = 10_i128.pow(38) - 1;

/// Rows: null, zero or empty, usual, negative or odd, and the two extremes.
fn hostile() -> RecordBatch {
    let nested = nested_columns();
    let day = 86_400_000_000;
    let leap = 19_782 * day + day - 1;
    let nested = |name: &str| Arc::clone(nested.column_by_name(name).unwrap());
    let ints = |v: Vec<Option<i64>>| Arc::new(Int64Array::from(v)) as ArrayRef;
    let decimals = |v: Vec<Option<i128>>, p, s| -> ArrayRef {
        let array = Decimal128Array::from(v);
        Arc::new(array.with_precision_and_scale(p, s).unwrap())
    };
    let times = |v: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(v)) as ArrayRef;
    let floats = |v: Vec<Option<f64>>| Arc::new(Float64Array::from(v)) as ArrayRef;
    let texts = |v: Vec<Option<&str>>| Arc::new(StringArray::from(v)) as ArrayRef;
    #[rustfmt::skip]
    let columns: Vec<ArrayRef> = vec![
        ints(vec![None, Some(0), Some(7), Some(-7), Some(i64::MIN), Some(i64::MAX)]),
        ints(vec![Some(2), Some(0), Some(2), Some(2), Some(-1), None]),
        decimals(vec![None, Some(0), Some(14_990), Some(-14_990), Some(999_999_999_999), Some(-999_999_999_999)], 12, 2),
        decimals(vec![None, Some(0), Some(1), Some(-1), Some(MAX_38), Some(-MAX_38)], 38, 0),
        decimals(vec![None, Some(0), Some(1), Some(-1), Some(MAX_38), Some(-MAX_38)], 38, 38),
        floats(vec![None, Some(-0.0), Some(1.5), Some(f64::NAN), Some(f64::INFINITY), Some(1e308)]),
        floats(vec![Some(2.0), Some(0.0), Some(2.0), Some(1.0), Some(f64::NEG_INFINITY), Some(1e308)]),
        texts(vec![None, Some(""), Some("abc"), Some("ÄÖß"), Some("a,b,,c"), Some("e\u{301}😀 ")]),
        Arc::new(BooleanArray::from(vec![None, Some(true), Some(false), Some(true), Some(false), None])),
        times(vec![None, Some(0), Some(leap), Some(-1), Some(i64::MAX), Some(i64::MIN)]),
        Arc::new(Date32Array::from(vec![None, Some(0), Some(19_782), Some(-1), Some(i32::MAX), Some(i32::MIN)])),
        nested("items"), nested("nums"), nested("tags"), nested("weights"), nested("address"),
        texts(vec![None, Some("{}"), Some("1"), Some("\"x\""), Some("[]"), Some("null")]),
        ints(vec![None, Some(0), Some(1), Some(2), Some(3), Some(4)]),
        times(vec![None, Some(0), Some(leap), Some(-1), Some(i64::MAX), Some(i64::MIN)]),
    ];
    let fields: Vec<Field> =
        scope().columns.iter().map(|c| Field::new(&c.column, c.ty.arrow(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn nested_columns() -> RecordBatch {
    let rows = r#"
{"items": null, "nums": null, "tags": null, "weights": null, "address": null}
{"items": [], "nums": [], "tags": [], "weights": [], "address": {}}
{"items": [{"sku": "A", "quantity": 2, "price": "10.50", "weight": 1.5, "at": "2024-01-01T00:00:00", "marks": [1, 2]}, {"sku": "B", "quantity": 1, "price": "0.01", "weight": 0.5, "at": "2024-01-02T00:00:00", "marks": []}], "nums": [1, 2, 3], "tags": ["x", "y"], "weights": [1.5, -0.0], "address": {"city": "Riga", "geo": {"lat": 56.9}}}
{"items": [null, {"sku": "C", "price": "5.00", "marks": null}], "nums": [null, 5], "tags": [null, "ß"], "weights": [null], "address": {"city": null, "geo": null}}
{"items": [{"sku": "A", "quantity": 9223372036854775807, "price": "9999999999.99", "weight": 1e308}, {"sku": "A", "quantity": 1, "price": "2.00", "weight": 1e308}], "nums": [9223372036854775807, 1], "tags": ["x", "x"], "weights": [1e308, 1e308], "address": {"city": "", "geo": {}}}
{"items": [{"sku": "D", "quantity": -1}], "nums": [2, 2], "tags": [""], "weights": [0.0], "address": {"city": "Oslo", "geo": {"lat": -0.0}}}
"#;
    let names = ["items", "nums", "tags", "weights", "address"];
    let fields: Vec<Field> = scope()
        .columns
        .iter()
        .filter(|c| names.contains(&c.name.as_str()))
        .map(|c| Field::new(&c.name, c.ty.arrow(), true))
        .collect();
    let mut reader =
        ReaderBuilder::new(Arc::new(Schema::new(fields))).build(rows.trim().as_bytes()).unwrap();
    reader.next().unwrap().unwrap()
}

#[track_caller]
fn compile(text: &str) -> Expr {
    Expr::compile(text, &scope(), None)
        .unwrap_or_else(|error| panic!("{text}: {error} ({:?})", error.hint))
}

/// A value as a person would write it; `null` for null.
fn shown(values: &dyn Array, row: usize) -> String {
    if values.is_null(row) {
        return "null".to_owned();
    }
    array_value_to_string(values, row).unwrap_or_else(|_| "not displayable".to_owned())
}

fn all_shown(values: &dyn Array) -> Vec<String> {
    (0..values.len()).map(|row| shown(values, row)).collect()
}

/// Evaluates over the hostile batch and compares every row.
#[track_caller]
fn rows(text: &str, expected: [&str; 6]) {
    let expr = compile(text);
    let values = expr.evaluate(&hostile());
    assert_eq!(*values.data_type(), expr.ty().arrow(), "{text}");
    assert_eq!(all_shown(&values), expected, "{text}");
}

/// Evaluates a text without names.
#[track_caller]
fn value(text: &str, expected: &str) {
    let expr = compile(text);
    let values = expr.evaluate(&hostile());
    assert_eq!(*values.data_type(), expr.ty().arrow(), "{text}");
    assert_eq!(shown(&values, 0), expected, "{text}");
}

#[track_caller]
fn has_type(text: &str, expected: &str) {
    assert_eq!(compile(text).ty().to_string(), expected, "{text}");
}

fn error(text: &str) -> ExprError {
    match Expr::compile(text, &scope(), None) {
        Err(error) => error,
        Ok(expr) => panic!("{text} compiles to {expr:?}"),
    }
}
