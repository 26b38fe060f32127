//! The SQL of an expression against what the expression gives when an event is applied: over many
//! texts and hostile rows, both must say the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema, TimestampMicrosecondType,
};
use arrow::json::ReaderBuilder;
use contracts::expr::{Expr, Scope, ScopeColumn};
use contracts::types::Type;
use duckdb::Connection;
use duckdb::types::ValueRef;
use proptest::prelude::*;

use super::{Column, Refused, emit, name};
use crate::metric::tests::fixture::create_table;

const MAX_38: i128 = 10_i128.pow(38) - 1;
const LEAP: i64 = 1_709_251_199_999_999;

fn columns() -> Vec<(&'static str, Type)> {
    let decimal = |precision, scale| Type::Decimal { precision, scale };
    let list = |ty| Type::List(Box::new(ty));
    let item = vec![
        ("sku".to_owned(), Type::String),
        ("quantity".to_owned(), Type::Int64),
        ("price".to_owned(), decimal(12, 2)),
        ("weight".to_owned(), Type::Float64),
        ("at".to_owned(), Type::Timestamp),
        ("marks".to_owned(), list(Type::Int64)),
    ];
    let geo = Type::Struct(vec![("lat".to_owned(), Type::Float64)]);
    vec![
        ("i", Type::Int64),
        ("j", Type::Int64),
        ("amount", decimal(12, 2)),
        ("big", decimal(38, 4)),
        ("f", Type::Float64),
        ("g", Type::Float64),
        ("s", Type::String),
        ("u", Type::String),
        ("b", Type::Bool),
        ("t", Type::Timestamp),
        ("day", Type::Date),
        ("items", list(Type::Struct(item))),
        ("nums", list(Type::Int64)),
        ("tags", list(Type::String)),
        ("address", Type::Struct(vec![("city".to_owned(), Type::String), ("geo".to_owned(), geo)])),
    ]
}

fn scope() -> Scope {
    let columns = columns().into_iter().map(|(name, ty)| ScopeColumn {
        name: name.to_owned(),
        column: format!("col_{name}"),
        ty,
    });
    Scope { columns: columns.collect() }
}

fn s<T>(value: T) -> Option<T> {
    Some(value)
}

/// Null, zero or empty, usual, negative or odd, extremes, and texts that are something else.
fn hostile() -> RecordBatch {
    let rows = r#"
{"items": null, "nums": null, "tags": null, "address": null}
{"items": [], "nums": [], "tags": [], "address": {}}
{"items": [{"sku": "A", "quantity": 2, "price": "10.50", "weight": 1.5, "at": "2024-01-01T00:00:00", "marks": [1, 2]}, {"sku": "B", "quantity": 1, "price": "0.01", "weight": 0.5, "at": "2024-01-02T00:00:00", "marks": []}], "nums": [3, 1, 2], "tags": ["x", "abc"], "address": {"city": "Riga", "geo": {"lat": 56.9}}}
{"items": [null, {"sku": "C", "price": "5.00", "marks": null}], "nums": [null, 5], "tags": [null, "ß"], "address": {"city": null, "geo": null}}
{"items": [{"sku": "A", "quantity": 9223372036854775807, "price": "9999999999.99", "weight": 1e308}, {"sku": "A", "quantity": 1, "price": "2.00", "weight": 1e308}], "nums": [9223372036854775807, 1], "tags": ["x", "x"], "address": {"city": "", "geo": {}}}
{"items": [{"sku": "D", "quantity": -1}], "nums": [-2, -2], "tags": [""], "address": {"city": "Oslo", "geo": {"lat": -0.0}}}
{"items": [{"sku": "E", "quantity": 3, "price": "-0.05", "at": "1969-12-31T23:59:59"}], "nums": [0], "tags": ["a,b"], "address": {"city": "a"}}
"#;
    let nested: Vec<Field> = columns()
        .into_iter()
        .filter(|(_, ty)| matches!(ty, Type::List(_) | Type::Struct(_)))
        .map(|(name, ty)| Field::new(name, ty.arrow(), true))
        .collect();
    let mut reader =
        ReaderBuilder::new(Arc::new(Schema::new(nested))).build(rows.trim().as_bytes()).unwrap();
    let nested = reader.next().unwrap().unwrap();
    let nested = |name: &str| Arc::clone(nested.column_by_name(name).unwrap());
    let ints = |v: [Option<i64>; 7]| Arc::new(Int64Array::from(v.to_vec())) as ArrayRef;
    let floats = |v: [Option<f64>; 7]| Arc::new(Float64Array::from(v.to_vec())) as ArrayRef;
    let texts = |v: [Option<&str>; 7]| Arc::new(StringArray::from(v.to_vec())) as ArrayRef;
    let decimals = |v: [Option<i128>; 7], p, s| {
        let array = Decimal128Array::from(v.to_vec());
        Arc::new(array.with_precision_and_scale(p, s).unwrap()) as ArrayRef
    };
    let columns_of_rows: Vec<ArrayRef> = vec![
        ints([None, s(0), s(7), s(-7), s(i64::MIN), s(i64::MAX), s(3)]),
        ints([s(2), s(0), s(2), s(2), s(-1), None, s(-3)]),
        decimals(
            [None, s(0), s(14_990), s(-14_995), s(999_999_999_999), s(-999_999_999_999), s(5)],
            12,
            2,
        ),
        decimals([None, s(0), s(10_000), s(-1), s(MAX_38), s(-MAX_38), s(12_345_678_901)], 38, 4),
        floats([None, s(-0.0), s(1.5), s(f64::NAN), s(f64::INFINITY), s(1e308), s(1.005)]),
        floats([s(2.0), s(0.0), s(2.0), s(1.0), s(f64::NEG_INFINITY), s(1e308), s(-2.5)]),
        texts([
            None,
            s(""),
            s("abc"),
            s("ÄÖß"),
            s("a,b,,c"),
            s("e\u{301}😀 "),
            s("2024-02-29T10:30:01.5+03:00"),
        ]),
        texts([s("b"), s(""), s("a"), s("Ö"), s(","), None, s("1.005")]),
        Arc::new(BooleanArray::from(vec![
            None,
            s(true),
            s(false),
            s(true),
            s(false),
            None,
            s(true),
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![
            None,
            s(0),
            s(LEAP),
            s(-1),
            s(253_402_300_799_999_999),
            s(-62_135_596_800_000_000),
            s(1_600_000_000_123_456),
        ])),
        Arc::new(Date32Array::from(vec![
            None,
            s(0),
            s(19_782),
            s(-1),
            s(2_932_896),
            s(-719_162),
            s(18_000),
        ])),
        nested("items"),
        nested("nums"),
        nested("tags"),
        nested("address"),
    ];
    let fields: Vec<Field> =
        scope().columns.iter().map(|c| Field::new(&c.column, c.ty.arrow(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns_of_rows).unwrap()
}

/// A value as both sides show it: decimals as digits, times as µs, dates as days.
fn shown(values: &dyn Array, row: usize, ty: &Type) -> String {
    if values.is_null(row) {
        return "null".to_owned();
    }
    match ty {
        Type::Int64 => values.as_primitive::<Int64Type>().value(row).to_string(),
        Type::Float64 => format!("{:?}", values.as_primitive::<Float64Type>().value(row)),
        Type::Decimal { .. } => values.as_primitive::<Decimal128Type>().value(row).to_string(),
        Type::Timestamp => values.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        Type::Date => values.as_primitive::<Date32Type>().value(row).to_string(),
        Type::Bool => values.as_boolean().value(row).to_string(),
        Type::String | Type::Json => values.as_string::<i32>().value(row).to_owned(),
        Type::List(_) | Type::Struct(_) => "some".to_owned(),
    }
}

fn of_sql(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Boolean(v) => v.to_string(),
        ValueRef::Int(v) => v.to_string(),
        ValueRef::BigInt(v) => v.to_string(),
        ValueRef::HugeInt(v) => v.to_string(),
        ValueRef::Double(v) => format!("{v:?}"),
        ValueRef::Text(v) => String::from_utf8_lossy(v).into_owned(),
        _ => "some".to_owned(),
    }
}

struct Bench {
    conn: Connection,
    rows: RecordBatch,
}

/// What became of a comparison.
#[derive(Debug, PartialEq, Eq, Clone, Copy, PartialOrd, Ord)]
enum Seen {
    /// The contract refuses the text.
    NoExpression,
    /// SQL cannot say it.
    Refused,
    /// DuckDB failed on at least one row, and agreed on the others.
    Failed,
    /// All rows agree.
    Same,
}

impl Bench {
    fn new() -> Self {
        let conn = Connection::open_in_memory().unwrap();
        let rows = hostile();
        let types: Vec<(String, Type)> =
            scope().columns.into_iter().map(|c| (c.column, c.ty)).collect();
        create_table(&conn, "t", &types);
        let mut appender = conn.appender("t").unwrap();
        appender.append_record_batch(rows.clone()).unwrap();
        appender.flush().unwrap();
        drop(appender);
        Self { conn, rows }
    }

    fn check(&self, text: &str) -> Seen {
        let Ok(expr) = Expr::compile(text, &scope(), None) else { return Seen::NoExpression };
        let by_name: BTreeMap<String, Type> =
            scope().columns.into_iter().map(|c| (c.column, c.ty)).collect();
        let column = |wanted: &str| {
            let ty = by_name.get(wanted)?.clone();
            Some(Column { text: name(wanted), ty, stored: true })
        };
        let sql = match emit(&expr, &column) {
            Ok(sql) => sql,
            Err(Refused(_)) => return Seen::Refused,
        };
        assert_eq!(sql.ty, *expr.ty(), "{text}");
        let expected = expr.evaluate(&self.rows);
        let mut seen = Seen::Same;
        for row in 0..self.rows.num_rows() {
            let one = format!("select {} from t where rowid = {row}", sql.text);
            let found = self.conn.query_row(&one, [], |row| Ok(of_sql(row.get_ref(0)?)));
            match found {
                Ok(found) => assert_eq!(
                    found,
                    shown(&expected, row, expr.ty()),
                    "row {row} of {text}\n{}",
                    sql.text
                ),
                Err(error) => {
                    let error = error.to_string();
                    let is_ours = ["Out of Range", "Invalid Input", "Conversion Error"]
                        .iter()
                        .any(|kind| error.contains(kind));
                    assert!(is_ours, "{text}: {error}\n{}", sql.text);
                    seen = Seen::Failed;
                }
            }
        }
        seen
    }
}

/// Forms of numbers, texts, bools and times. `{n} {m}` stand for numbers, `{s} {u}` for texts, `{b} {c}`
/// for bools, `{t} {v}` for times.
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
        "round({n})",
        "round({n}, -2)",
        "floor({n})",
        "ceil({n})",
        "cast({n} as int64)",
        "cast({n} as decimal(12,2))",
        "cast({n} as decimal(38,6))",
        "cast({n} as float64)",
        "cast({s} as int64)",
        "cast({s} as decimal(12,2))",
        "cast({s} as float64)",
        "length({s})",
        "length(items)",
        "strpos({s}, {u})",
        "case when {b} then {n} else {m} end",
        "case {n} when {m} then 1 end",
        "case {s} when {u} then {n} else {m} end",
        "coalesce({n}, {m})",
        "nullif({n}, {m})",
        "greatest({n}, {m})",
        "least({n}, {m})",
        "extract(week from {t})",
        "extract(hour from {t})",
        "extract(second from {t})",
        "extract(quarter from day)",
        "date_part('doy', {t})",
        "iso_weekday({t})",
        "seconds_between({t}, {v})",
        "minutes_between({t}, {v})",
        "sum_of(nums, item + {n})",
        "sum_of(items, quantity * price)",
        "sum_of(items, weight)",
        "max_of(items, price * {n})",
        "min_of(nums)",
        "avg_of(nums, item * {n})",
        "avg_of(items, price)",
        "avg_of(items, weight)",
        "count_of(items)",
        "count_of(items, {b} and price > {n})",
        "distinct_of(nums, item % {n})",
        "sum_of(items, sum_of(marks, item + {n}))",
        "nums[cast({n} as int64)]",
        "max_by_of(items, quantity, price)",
    ],
    &[
        "({s} || {u})",
        "lower({s})",
        "upper({s})",
        "trim({s})",
        "concat({s}, {u})",
        "replace({s}, {u}, 'xx')",
        "substr({s}, cast({n} as int64))",
        "substr({s}, 2, cast({n} as int64))",
        "left({s}, length({u}))",
        "right({s}, cast({n} as int64))",
        "split_part({s}, {u}, 2)",
        "cast({n} as string)",
        "cast({t} as string)",
        "cast(day as string)",
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
        "({n} not in ({m}, null))",
        "(cast({n} as int64) > 0)",
        "(7 <> cast({n} as decimal(12,2)))",
        "(cast({n} as int64) in (0, 7))",
        "(({n} * {m}) > 1)",
        "({s} not in ({u}, 'abc'))",
        "({s} like 'a%')",
        "({s} not like '%\\_%')",
        "({s} ilike 'A_C')",
        "contains({s}, {u})",
        "starts_with({s}, {u})",
        "ends_with({s}, {u})",
        "regexp_like({s}, '[a-c]')",
        "regexp_like({s}, '^\\w+$')",
        "any_of(items, price > {n})",
        "all_of(tags, item <> {s})",
        "contains(nums, {n})",
        "contains(tags, {s})",
        "case when {b} then {n} > 1 else {c} end",
        "(cast({s} as bool) is true)",
    ],
    &[
        "({t} + interval '1 month')",
        "({t} - interval '36 hours')",
        "date_trunc('month', {t})",
        "date_trunc('week', {t})",
        "date_trunc('hour', {t})",
        "cast(date_trunc('quarter', day) as timestamp)",
        "cast(day + interval '1 year 2 days' as timestamp)",
        "case when {b} then {t} else {v} end",
        "coalesce({t}, {v})",
        "least({t}, {v})",
        "cast({s} as timestamp)",
        "cast(cast({s} as date) as timestamp)",
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
    &["s", "u", "address.city", "''", "'abc'", "','", "'12.5'", "'o''k'", "items[1].sku"],
    &["b", "true", "false", "i > 0"],
    &["t", "timestamp '1969-12-31 23:59:59'", "items[1].at"],
];

fn grammar() -> impl Strategy<Value = String> {
    let pick = |from: [&'static [&'static str]; 4]| from.map(prop::sample::select);
    let leaf = pick(LEAVES).prop_map(|texts| texts.map(str::to_owned));
    let of_each = leaf.prop_recursive(3, 12, 2, move |inner| {
        (pick(FORMS), inner.clone(), inner).prop_map(|(forms, a, b)| {
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

/// Every form over every pair of leaves, and every function of the dialect by that.
#[test]
fn each_form_says_the_same_over_every_leaf() {
    let bench = Bench::new();
    let mut seen: BTreeMap<Seen, usize> = BTreeMap::new();
    let names = [("{n}", "{m}"), ("{s}", "{u}"), ("{b}", "{c}"), ("{t}", "{v}")];
    for form in FORMS.iter().flat_map(|forms| forms.iter()) {
        let longest = LEAVES.iter().map(|leaves| leaves.len()).max().unwrap();
        for at in 0..longest {
            let text =
                names.iter().zip(LEAVES).fold((*form).to_owned(), |text, (names, leaves)| {
                    let (a, b) = (leaves[at % leaves.len()], leaves[(at * 7 + 3) % leaves.len()]);
                    text.replace(names.0, a).replace(names.1, b)
                });
            *seen.entry(bench.check(&text)).or_default() += 1;
        }
    }
    let count = |what| seen.get(&what).copied().unwrap_or(0);
    assert!(count(Seen::Same) > 1_000, "{seen:?}");
    assert!(count(Seen::Refused) + count(Seen::Failed) < count(Seen::Same) / 4, "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("AGENTFLOW_VERIFY_EXPRESSIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
    ))]

    #[test]
    fn random_expressions_say_the_same(texts in prop::collection::vec(grammar(), 4)) {
        thread_local!(static BENCH: Bench = Bench::new());
        BENCH.with(|bench| texts.iter().for_each(|text| { bench.check(text); }));
    }
}
