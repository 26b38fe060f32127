use super::{Expr, decimal, has_type, rows, scope, value};
use crate::types::Type;

#[test]
fn to_int64() {
    for (text, expected) in [
        ("cast(2.5 as int64)", "3"),
        ("cast(-2.5 as int64)", "-3"),
        ("cast(2.4e0 as int64)", "2"),
        ("cast(9223372036854775808 as int64)", "null"),
        ("cast(9.3e18 as int64)", "null"),
        ("cast('42' as int64)", "42"),
        ("cast('-42' as int64)", "-42"),
        ("cast('' as int64)", "null"),
        ("cast(' 7' as int64)", "null"),
        ("cast('1.5' as int64)", "null"),
        ("cast('1e3' as int64)", "null"),
        ("cast('9223372036854775808' as int64)", "null"),
    ] {
        has_type(text, "int64");
        value(text, expected);
    }
    rows("cast(f as int64)", ["null", "0", "2", "null", "null", "null"]);
    rows("cast(amount as int64)", ["null", "0", "150", "-150", "10000000000", "-10000000000"]);
    rows("cast(big as int64)", ["null", "0", "1", "-1", "null", "null"]);
}

#[test]
fn to_decimal() {
    for (text, expected) in [
        ("cast(1.005 as decimal(12,2))", "1.01"),
        ("cast(-1.005 as decimal(12,2))", "-1.01"),
        ("cast(1.005e0 as decimal(12,2))", "1.01"),
        ("cast(5 as decimal(12,2))", "5.00"),
        ("cast(99.995 as decimal(4,2))", "null"),
        ("cast('12345678901234567.89' as decimal(19,2))", "12345678901234567.89"),
        ("cast('1.005' as decimal(12,2))", "1.01"),
        ("cast('' as decimal(12,2))", "null"),
        ("cast('1,5' as decimal(12,2))", "null"),
        ("cast('1e2' as decimal(12,2))", "null"),
        ("cast('NaN' as decimal(12,2))", "null"),
    ] {
        value(text, expected);
    }
    rows("cast(i as decimal(12,2))", ["null", "0.00", "7.00", "-7.00", "null", "null"]);
    rows("cast(f as decimal(12,2))", ["null", "0.00", "1.50", "null", "null", "null"]);
    rows("cast(fine as decimal(2,1))", ["null", "0.0", "0.0", "0.0", "1.0", "-1.0"]);
}

#[test]
fn to_float64_and_bool() {
    for (text, expected) in [
        ("cast(1.1 as float64)", "1.1"),
        ("cast(7 as float64)", "7.0"),
        ("cast('1.5' as float64)", "1.5"),
        ("cast('1e3' as float64)", "1000.0"),
        ("cast('-0.0' as float64)", "0.0"),
        ("cast('nan' as float64)", "null"),
        ("cast('inf' as float64)", "null"),
        ("cast('1e999' as float64)", "null"),
        ("cast('.5' as float64)", "null"),
        ("cast('5.' as float64)", "null"),
        ("cast('5.e1' as float64)", "null"),
        ("cast('0x10' as float64)", "null"),
        ("cast('TRUE' as bool)", "true"),
        ("cast('false' as bool)", "false"),
        ("cast('yes' as bool)", "null"),
        ("cast('1' as bool)", "null"),
    ] {
        value(text, expected);
    }
}

#[test]
fn to_string() {
    for (text, expected) in [
        ("cast(42 as string)", "42"),
        ("cast(1.50 as string)", "1.50"),
        ("cast(-0.05 as string)", "-0.05"),
        ("cast(1e0 as string)", "1.0"),
        ("cast(1e300 as string)", "1e300"),
        ("cast(true as string)", "true"),
        ("cast(date '2024-02-29' as string)", "2024-02-29"),
        ("cast(timestamp '2024-02-29 10:00:00' as string)", "2024-02-29T10:00:00Z"),
        ("cast(timestamp '2024-02-29 10:00:00.5' as string)", "2024-02-29T10:00:00.500000Z"),
        ("cast(null as string)", "null"),
    ] {
        has_type(text, "string");
        value(text, expected);
    }
    rows("cast(raw as string)", ["null", "{}", "1", "\"x\"", "[]", "null"]);
    rows(
        "cast(t as string)",
        [
            "null",
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59.999999Z",
            "1969-12-31T23:59:59.999999Z",
            "null",
            "null",
        ],
    );
}

#[test]
fn to_times() {
    for (text, expected) in [
        ("cast('2024-02-29' as date)", "2024-02-29"),
        ("cast('2023-02-29' as date)", "null"),
        ("cast('2024-2-29' as date)", "null"),
        ("cast('2024-02-29T10:00:00Z' as timestamp)", "2024-02-29T10:00:00"),
        ("cast('2024-02-29 10:00' as timestamp)", "2024-02-29T10:00:00"),
        ("cast('2024-02-29T10:00:00.123456+03:30' as timestamp)", "2024-02-29T06:30:00.123456"),
        ("cast('2024-02-29T10:00:00.1234567Z' as timestamp)", "2024-02-29T10:00:00.123456"),
        ("cast('2024-02-29' as timestamp)", "2024-02-29T00:00:00"),
        ("cast('2024-02-29T25:00:00' as timestamp)", "null"),
        ("cast('2024-02-29T10:00:00+0300' as timestamp)", "null"),
        ("cast('ÄÖÜÄÖÜ' as timestamp)", "null"),
        ("cast('2024-02-29Ü' as timestamp)", "null"),
        ("cast(timestamp '1969-12-31 23:59:59' as date)", "1969-12-31"),
        ("cast(date '2024-02-29' as timestamp)", "2024-02-29T00:00:00"),
    ] {
        value(text, expected);
    }
    rows(
        "cast(cast(day as timestamp) as date) = day",
        ["null", "true", "true", "true", "null", "null"],
    );
}

#[track_caller]
fn wanted(text: &str, want: &Type, expected: Result<&str, &str>) {
    match (Expr::compile(text, &scope(), Some(want)), expected) {
        (Ok(expr), Ok(canonical)) => {
            assert_eq!(expr.ty(), want, "{text}");
            assert_eq!(expr.canonical(), canonical);
        }
        (Err(error), Err(message)) => {
            assert!(error.message.contains(message), "{text}: {error}");
            assert!(error.hint.is_some() || !message.contains("wanted"), "{text}: no hint");
        }
        (got, expected) => panic!("{text}: expected {expected:?}, got {got:?}"),
    }
}

#[test]
fn a_declared_type_widens_and_never_narrows() {
    wanted("i", &Type::Int64, Ok("i"));
    wanted("i", &Type::Float64, Ok("i"));
    wanted("i", &decimal(21, 2), Ok("i"));
    wanted("5", &decimal(12, 2), Ok("5"));
    wanted("1.5", &Type::Float64, Ok("1.5"));
    wanted("amount", &decimal(14, 4), Ok("amount"));
    wanted("null", &Type::Date, Ok("null"));
    wanted("i", &decimal(12, 2), Err("is wanted"));
    wanted("amount", &decimal(12, 1), Err("is wanted"));
    wanted("amount", &decimal(11, 2), Err("is wanted"));
    wanted("amount", &Type::Float64, Err("is wanted"));
    wanted("f", &decimal(12, 2), Err("is wanted"));
    wanted("1.5", &Type::Int64, Err("is wanted"));
    wanted("f", &Type::Int64, Err("is wanted"));
    wanted("s", &Type::Int64, Err("is wanted"));
    wanted("i", &Type::String, Err("is wanted"));
    wanted("t", &Type::Date, Err("is wanted"));
    wanted("items", &Type::Int64, Err("but int64"));
}
