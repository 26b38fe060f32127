//! Amounts and their currencies: a sum over mixed currencies is an error, not a number.
//!
//! A field that declares `currency_field` is an amount whose currency stands in another column of
//! the same row. The mark goes along: to enriched columns and derived fields that are computed from
//! it, and into entities whose folds keep amount and currency together. Wherever amounts of
//! several rows become one number, `where` or a `case` around the amount must hold the currency to
//! one value. Whole numbers, texts and truth values computed from an amount (a size class, a count) are no amounts.
//!
//! Start at [`of_expr`] and [`one_currency`].

use sqlparser::ast::{BinaryOperator, Expr as SqlExpr, Value as SqlValue};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use std::collections::BTreeMap;

use crate::check::relations::Relations;
use crate::expr::{Expr, Scope};
use crate::model::Relation;
use crate::types::Type;

/// In which currency a column's values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Amount {
    /// The column of the same row that says it.
    In(String),
    /// One currency for all rows.
    Fixed(String),
    /// Several, and nothing in the row says which.
    Unknown,
}

/// The columns that a predicate holds to one text: `currency = 'EUR' and …`.
pub(crate) fn pinned(text: &str, scope: &Scope) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(expr) = parse(text) {
        collect(&expr, scope, &mut found);
    }
    found
}

fn collect(expr: &SqlExpr, scope: &Scope, found: &mut BTreeMap<String, String>) {
    let mut pin = |name: &SqlExpr, value: &SqlExpr| {
        let (SqlExpr::Identifier(name), SqlExpr::Value(value)) = (name, value) else { return };
        let SqlValue::SingleQuotedString(value) = &value.value else { return };
        if let Some(column) = scope.columns.iter().find(|c| c.name == name.value) {
            found.insert(column.column.clone(), value.clone());
        }
    };
    match expr {
        SqlExpr::Nested(inner) => collect(inner, scope, found),
        SqlExpr::BinaryOp { left, op: BinaryOperator::And, right } => {
            collect(left, scope, found);
            collect(right, scope, found);
        }
        SqlExpr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            pin(left, right);
            pin(right, left);
        }
        SqlExpr::InList { expr, list, negated: false } if list.len() == 1 => pin(expr, &list[0]),
        _ => {}
    }
}

/// The columns that hold one text wherever `expr` is not null:
/// `case when currency = 'EUR' then total end`. Aggregates and folds pass nulls over, so an amount
/// that is guarded like this needs no `where`.
pub(crate) fn guarded(expr: &Expr, scope: &Scope) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(SqlExpr::Case { operand: None, conditions, else_result, .. }) =
        parse(expr.canonical())
        && let [only] = conditions.as_slice()
        && else_result.is_none_or(|value| is_null(&value))
    {
        collect(&only.condition, scope, &mut found);
    }
    found
}

fn is_null(expr: &SqlExpr) -> bool {
    matches!(expr, SqlExpr::Value(value) if value.value == SqlValue::Null)
}

fn parse(text: &str) -> Option<SqlExpr> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).ok()?;
    parser.parse_expr().ok()
}

/// The currencies of the amounts that `expr` is computed from; none when it is not an amount.
pub(crate) fn of_expr(relations: &Relations, relation: Relation, expr: &Expr) -> Vec<Amount> {
    if !matches!(expr.ty(), Type::Decimal { .. } | Type::Float64) && expr.as_column().is_none() {
        return Vec::new();
    }
    let mut found: Vec<Amount> = Vec::new();
    for column in expr.columns() {
        if let Some(amount) = relations.amounts.get(&(relation, column.clone()))
            && !found.contains(amount)
        {
            found.push(amount.clone());
        }
    }
    found
}

/// What a column computed from `amounts` holds.
pub(crate) fn combined(amounts: &[Amount]) -> Option<Amount> {
    match amounts {
        [] => None,
        [one] => Some(one.clone()),
        _ => Some(Amount::Unknown),
    }
}

/// Why amounts may not become one number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mixed {
    /// What is wrong.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: String,
}

/// The one currency of all `amounts`, under the columns that `where` pins; `None` when there are
/// no amounts.
pub(crate) fn one_currency(
    relations: &Relations,
    relation: Relation,
    amounts: &[Amount],
    pins: &BTreeMap<String, String>,
) -> Result<Option<String>, Mixed> {
    let mut one: Option<String> = None;
    for amount in amounts {
        let currency = match amount {
            Amount::Fixed(currency) => currency.clone(),
            Amount::In(column) => {
                let constant = relations.constants.get(&(relation, column.clone()));
                match pins.get(column).or(constant) {
                    Some(currency) => currency.clone(),
                    None => {
                        return Err(Mixed {
                            message: format!(
                                "this would add up or compare amounts in different currencies (`{column}`)"
                            ),
                            hint: format!(
                                "hold the currency to one value: `where: {column} = '…'`, or \
                                 `case when {column} = '…' then … end` around the amount"
                            ),
                        });
                    }
                }
            }
            Amount::Unknown => {
                return Err(Mixed {
                    message: "the currency of this amount is not known here".to_owned(),
                    hint: "keep the currency beside the amount with the same fold (for example \
                           `currency: last`), or pin it with `where` in the entity"
                        .to_owned(),
                });
            }
        };
        match &one {
            Some(other) if *other != currency => {
                return Err(Mixed {
                    message: format!("this mixes amounts in {other} and {currency}"),
                    hint: "declare one metric or field per currency".to_owned(),
                });
            }
            _ => one = Some(currency),
        }
    }
    Ok(one)
}

/// Is it an active currency code of ISO 4217?
pub(crate) fn is_currency_code(text: &str) -> bool {
    CURRENCY_CODES.contains(&text)
}

/// Active codes of ISO 4217, without funds, metals and test codes.
#[rustfmt::skip]
const CURRENCY_CODES: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN",
    "BHD", "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF",
    "CHF", "CLP", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP",
    "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD",
    "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "JMD", "JOD", "JPY",
    "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD",
    "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK",
    "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK",
    "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG",
    "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS",
    "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VES",
    "VND", "VUV", "WST", "XAF", "XCD", "XOF", "XPF", "YER", "ZAR", "ZMW", "ZWG",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::ScopeColumn;

    #[test]
    fn only_what_holds_for_every_row_pins_a_column() {
        let scope = Scope {
            columns: vec![ScopeColumn {
                name: "currency".to_owned(),
                column: "currency".to_owned(),
                ty: Type::String,
            }],
        };
        for (text, expected) in [
            ("currency = 'EUR'", Some("EUR")),
            ("'EUR' = currency", Some("EUR")),
            ("a > 1 and (currency = 'EUR' and b)", Some("EUR")),
            ("currency in ('EUR')", Some("EUR")),
            ("currency in ('EUR', 'USD')", None),
            ("currency = 'EUR' or a > 1", None),
            ("not currency = 'EUR'", None),
            ("currency <> 'EUR'", None),
            ("currency = other", None),
            ("syntax (", None),
        ] {
            let found = pinned(text, &scope);
            assert_eq!(found.get("currency").map(String::as_str), expected, "{text}");
        }
    }

    #[test]
    fn a_case_with_one_branch_guards_its_amount() {
        let column =
            |name: &str, ty| ScopeColumn { name: name.to_owned(), column: name.to_owned(), ty };
        let scope = Scope {
            columns: vec![column("currency", Type::String), column("total", Type::Float64)],
        };
        for (text, expected) in [
            ("case when currency = 'EUR' then total end", Some("EUR")),
            ("case when total > 1 and 'EUR' = currency then total * 2 else null end", Some("EUR")),
            ("case when currency = 'EUR' then total else 0 end", None),
            ("case when currency = 'EUR' then total when total > 1 then total end", None),
            ("case when currency <> 'EUR' then total end", None),
            ("case currency when 'EUR' then total end", None),
            ("coalesce(case when currency = 'EUR' then total end, total)", None),
            ("total", None),
        ] {
            let expr = Expr::compile(text, &scope, None).unwrap();
            let found = guarded(&expr, &scope);
            assert_eq!(found.get("currency").map(String::as_str), expected, "{text}");
        }
    }
}
