//! The reference page says what the code does: its examples are run, and no function is missing.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::json::ReaderBuilder;

use super::{decimal, list, shown, structure};
use crate::expr::functions::FUNCTIONS;
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::types::Type;

const PAGE: &str = include_str!("../../../../docs/expressions.md");

/// The event of the page.
const EVENT: &str = r#"{"amount": "149.90", "units": 7, "rate": 0.25, "status": "paid", "note": null,
    "paid": true, "created_at": "2024-02-29T10:30:00", "day": "2024-02-29",
    "items": [{"sku": "A", "quantity": 2, "price": "10.50"}, {"sku": "B", "quantity": 1, "price": "0.01"}],
    "codes": [3, 1, 2], "address": {"city": "Riga"}}"#;

fn page_scope() -> Scope {
    let item =
        structure(&[("sku", Type::String), ("quantity", Type::Int64), ("price", decimal(12, 2))]);
    let columns = [
        ("amount", decimal(12, 2)),
        ("units", Type::Int64),
        ("rate", Type::Float64),
        ("status", Type::String),
        ("note", Type::String),
        ("paid", Type::Bool),
        ("created_at", Type::Timestamp),
        ("day", Type::Date),
        ("items", list(item)),
        ("codes", list(Type::Int64)),
        ("address", structure(&[("city", Type::String)])),
    ];
    Scope {
        columns: columns
            .into_iter()
            .map(|(name, ty)| ScopeColumn { name: name.to_owned(), column: name.to_owned(), ty })
            .collect(),
    }
}

fn event() -> RecordBatch {
    let fields: Vec<Field> =
        page_scope().columns.iter().map(|c| Field::new(&c.column, c.ty.arrow(), true)).collect();
    let mut reader =
        ReaderBuilder::new(Arc::new(Schema::new(fields))).build(EVENT.as_bytes()).unwrap();
    reader.next().unwrap().unwrap()
}

#[test]
fn the_event_is_the_one_shown() {
    for column in page_scope().columns {
        let row = format!("| `{}` | `{}` |", column.name, column.ty);
        assert!(PAGE.contains(&row), "the page lacks {row}");
    }
}

#[test]
fn every_function_is_described() {
    for function in FUNCTIONS {
        let usage = format!("| `{}` |", function.usage);
        assert!(PAGE.contains(&usage), "the page lacks {usage}");
    }
}

/// Examples are written as `text` → `value` wherever they stand.
#[test]
fn examples_are_true() {
    let (scope, batch) = (page_scope(), event());
    let mut examples = 0;
    for (at, line) in PAGE.lines().enumerate() {
        let parts: Vec<&str> = line.split('`').collect();
        for window in parts.windows(3).skip(1).step_by(2) {
            let [text, between, value] = window else {
                continue;
            };
            if between.trim() != "→" {
                continue;
            }
            let text = text.replace("\\|", "|");
            let expr = Expr::compile(&text, &scope, None)
                .unwrap_or_else(|error| panic!("line {}: {text}: {error}", at + 1));
            let found = shown(&expr.evaluate(&batch), 0);
            assert_eq!(found, *value, "line {}: {text}", at + 1);
            examples += 1;
        }
    }
    assert_eq!(examples, PAGE.matches("` → `").count(), "an example was not read");
}
