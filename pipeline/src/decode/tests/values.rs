//! Every type with good and bad texts.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use contracts::model::TimeForm;
use contracts::types::Type;

use super::support::{contract, decimal, decode, domain, field};
use crate::outcome::Reason;

#[track_caller]
fn check_form(ty: Type, form: TimeForm, text: &str, want: Result<&str, Reason>) {
    let mut value = field("value", ty.clone());
    value.time_form = form;
    let record = format!(
        r#"{{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00Z","value":{text}}}"#
    );
    let batch = decode(domain(vec![vec![contract(&["e"], vec![value])]]), &[record.as_bytes()]);
    let got = match batch.rejected.first() {
        Some(rejection) => Err(rejection.reason),
        None => {
            let options = FormatOptions::default().with_null("null");
            let column = batch.rows[0].columns.column_by_name("value").expect("declared");
            assert_eq!(column.data_type(), &ty.arrow());
            let formatter = ArrayFormatter::try_new(column, &options).expect("can be shown");
            Ok(formatter.value(0).to_string())
        }
    };
    assert_eq!(got.as_deref(), want.as_ref().copied(), "{ty} from {text}: {:?}", batch.rejected);
}

#[track_caller]
fn check(ty: Type, text: &str, want: Result<&str, Reason>) {
    check_form(ty, TimeForm::Rfc3339, text, want);
}

const WRONG: Result<&str, Reason> = Err(Reason::WrongType);
const RANGE: Result<&str, Reason> = Err(Reason::OutOfRange);
const BROKEN: Result<&str, Reason> = Err(Reason::NotJson);

#[test]
fn strings_are_texts() {
    check(Type::String, r#""a b""#, Ok("a b"));
    check(Type::String, r#""""#, Ok(""));
    check(Type::String, r#""\u00e9\n\"\\\/\ud83d\ude00""#, Ok("é\n\"\\/😀"));
    check(Type::String, "\"ключ 钥匙\"", Ok("ключ 钥匙"));
    check(Type::String, "null", Ok("null"));
    for text in ["1", "true", "[]", "{}"] {
        check(Type::String, text, WRONG);
    }
    for text in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#""\x""#, r#""\u12g4""#, "\"a\tb\"", "\"a"] {
        check(Type::String, text, BROKEN);
    }
}

#[test]
fn booleans_are_literals() {
    check(Type::Bool, "true", Ok("true"));
    check(Type::Bool, "false", Ok("false"));
    for text in [r#""true""#, "1", "0"] {
        check(Type::Bool, text, WRONG);
    }
    for text in ["True", "tru", "truely", "yes"] {
        check(Type::Bool, text, BROKEN);
    }
}

#[test]
fn integers_are_whole_numbers_of_64_bits() {
    check(Type::Int64, "0", Ok("0"));
    check(Type::Int64, "-0", Ok("0"));
    check(Type::Int64, "3.0", Ok("3"));
    check(Type::Int64, "3e2", Ok("300"));
    check(Type::Int64, "9223372036854775807", Ok("9223372036854775807"));
    check(Type::Int64, "-9223372036854775808", Ok("-9223372036854775808"));
    check(Type::Int64, "9223372036854775808", RANGE);
    check(Type::Int64, "1e30", RANGE);
    check(Type::Int64, "1e400", RANGE);
    for text in ["1.5", "1e-1", r#""12""#, "true", "[1]"] {
        check(Type::Int64, text, WRONG);
    }
    for text in ["01", "+1", ".5", "5.", "1e", "0x1", "NaN", "-", "1_000"] {
        check(Type::Int64, text, BROKEN);
    }
}

#[test]
fn floats_are_finite_and_know_one_zero() {
    check(Type::Float64, "0.1", Ok("0.1"));
    check(Type::Float64, "-0.0", Ok("0.0"));
    check(Type::Float64, "-0", Ok("0.0"));
    check(Type::Float64, "1e308", Ok("1e308"));
    check(Type::Float64, "1e-400", Ok("0.0"));
    check(Type::Float64, "1e309", RANGE);
    check(Type::Float64, "-1e309", RANGE);
    check(Type::Float64, r#""1.5""#, WRONG);
    check(Type::Float64, "Infinity", BROKEN);
}

#[test]
fn decimals_keep_the_digits_of_the_text() {
    let money = || decimal(12, 2);
    check(decimal(19, 2), "12345678901234567.89", Ok("12345678901234567.89"));
    check(money(), "1.1", Ok("1.10"));
    check(money(), "1.10000", Ok("1.10"));
    check(money(), "-0.05", Ok("-0.05"));
    check(money(), "1.5e3", Ok("1500.00"));
    check(money(), "1e-2", Ok("0.01"));
    check(money(), "9999999999.99", Ok("9999999999.99"));
    check(money(), "1.005", WRONG);
    check(money(), "1e-3", WRONG);
    check(money(), "10000000000", RANGE);
    check(money(), "1e40", RANGE);
    check(money(), "-1e999999999999", RANGE);
    check(money(), r#""1.10""#, Ok("1.10"));
    check(money(), r#""-12345678.9""#, Ok("-12345678.90"));
    check(money(), r#""1.005""#, WRONG);
    check(money(), r#""1e2""#, WRONG);
    check(money(), r#"" 1""#, WRONG);
    check(money(), r#""""#, WRONG);
    check(money(), r#""10000000000""#, RANGE);
    let widest = "99999999999999999999999999999999999999";
    check(decimal(38, 0), widest, Ok(widest));
    check(decimal(38, 0), "100000000000000000000000000000000000000", RANGE);
    check(decimal(38, 38), "0.5", Ok("0.50000000000000000000000000000000000000"));
    check(decimal(38, 38), "1", RANGE);
}

#[test]
fn timestamps_in_every_form() {
    let at = "2026-01-31T10:00:00";
    check(Type::Timestamp, r#""2026-01-31T12:00:00+02:00""#, Ok(at));
    check(Type::Timestamp, r#""2026-01-31 10:00:00""#, Ok(at));
    check(Type::Timestamp, r#""2026-01-31T10:00:00\u005a""#, Ok(at));
    check(Type::Timestamp, r#""0001-01-01T00:00:00+00:01""#, RANGE);
    check(Type::Timestamp, r#""31.01.2026""#, WRONG);
    check(Type::Timestamp, "1769853600", WRONG);
    for (form, text) in [
        (TimeForm::EpochS, "1769853600"),
        (TimeForm::EpochS, "1769853600.0"),
        (TimeForm::EpochS, r#""1769853600""#),
        (TimeForm::EpochMs, "1769853600000"),
        (TimeForm::EpochMs, r#""1769853600000.0""#),
        (TimeForm::EpochUs, "1769853600000000"),
        (TimeForm::EpochNs, "1769853600000000999"),
    ] {
        check_form(Type::Timestamp, form, text, Ok(at));
    }
    let form = TimeForm::EpochMs;
    check_form(Type::Timestamp, form, "1e18", RANGE);
    check_form(Type::Timestamp, form, r#""2026-01-31T10:00:00Z""#, WRONG);
    check_form(Type::Timestamp, form, r#""""#, WRONG);
    check_form(Type::Timestamp, form, "true", WRONG);
}

#[test]
fn dates_are_days() {
    check(Type::Date, r#""2024-02-29""#, Ok("2024-02-29"));
    check(Type::Date, r#""2023-02-29""#, WRONG);
    check(Type::Date, r#""2024-02-29T00:00:00Z""#, WRONG);
    check(Type::Date, r#""0000-01-01""#, RANGE);
    check(Type::Date, "19000", WRONG);
}

#[test]
fn lists_and_structs_nest() {
    let items = || {
        Type::List(Box::new(Type::Struct(vec![
            ("name".to_owned(), Type::String),
            ("prices".to_owned(), Type::List(Box::new(decimal(6, 2)))),
        ])))
    };
    check(items(), "[]", Ok("[]"));
    check(items(), r#"[{"name":"a","prices":[1,2.5]}]"#, Ok("[{name: a, prices: [1.00, 2.50]}]"));
    check(
        items(),
        r#" [ { "prices" : [ ] , "more" : { "x" : [ 1 ] } , "name" : "b" } , { } , null ] "#,
        Ok("[{name: b, prices: []}, {name: null, prices: null}, null]"),
    );
    check(items(), r#"[{"name":1}]"#, WRONG);
    check(items(), r#"[{"prices":[1,"two"]}]"#, WRONG);
    check(items(), r#"[{"prices":[99999]}]"#, RANGE);
    check(items(), r#"{"name":"a"}"#, WRONG);
    check(items(), r#"[["a"]]"#, WRONG);
    check(items(), r#"[{"name":"a","n\u0061me":"b"}]"#, Err(Reason::DuplicateKey));
    check(items(), r#"[{"more":1,"more":2}]"#, Ok("[{name: null, prices: null}]"));
    check(items(), r#"[1,]"#, BROKEN);
}

#[test]
fn json_is_kept_as_text_without_space() {
    check(Type::Json, r#" { "a" : [ 1.50 , "x \" y" ] } "#, Ok(r#"{"a":[1.50,"x \" y"]}"#));
    check(Type::Json, "1.10", Ok("1.10"));
    check(Type::Json, r#""text""#, Ok(r#""text""#));
    check(Type::Json, "null", Ok("null"));
}
