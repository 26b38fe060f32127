//! One value of an Arrow column as JSON text, with all its digits.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use contracts::model::TimeForm;
use contracts::types::Type;
use serde_json::value::RawValue;

use super::text::{date_text, decimal_text, time_text};

/// Appends the value in `row` of a column that holds values of `ty`; its timestamps are written in
/// `form`. What has no form in JSON (NaN, a column of another type) becomes null.
pub fn write(out: &mut Vec<u8>, ty: &Type, form: TimeForm, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match (ty, column.data_type()) {
        (Type::Bool, DataType::Boolean) => {
            let value: &[u8] = if column.as_boolean().value(row) { b"true" } else { b"false" };
            out.extend_from_slice(value);
        }
        (Type::Int64, DataType::Int64) => {
            write_number(out, column.as_primitive::<Int64Type>().value(row));
        }
        (Type::Float64, DataType::Float64) => {
            // NaN and infinities have no JSON form; serde writes them as null.
            let value = column.as_primitive::<Float64Type>().value(row);
            serde_json::to_writer(out, &value).expect("writes to memory");
        }
        (Type::Decimal { .. }, DataType::Decimal128(_, scale)) => {
            let digits = column.as_primitive::<Decimal128Type>().value(row);
            out.extend_from_slice(decimal_text(digits, *scale).as_bytes());
        }
        (Type::Timestamp, DataType::Timestamp(..)) => {
            write_time(out, column.as_primitive::<TimestampMicrosecondType>().value(row), form);
        }
        (Type::Date, DataType::Date32) => {
            write_text(out, &date_text(column.as_primitive::<Date32Type>().value(row)));
        }
        (Type::String, DataType::Utf8) => write_text(out, column.as_string::<i32>().value(row)),
        (Type::Json, DataType::Utf8) => {
            let stored = column.as_string::<i32>().value(row);
            match serde_json::from_str::<&RawValue>(stored) {
                Ok(raw) => out.extend_from_slice(raw.get().as_bytes()),
                Err(_) => write_text(out, stored),
            }
        }
        (Type::List(inner), DataType::List(_)) => {
            let list = column.as_list::<i32>();
            let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
            out.push(b'[');
            for item in start..end {
                if item > start {
                    out.push(b',');
                }
                write(out, inner, form, list.values(), item as usize);
            }
            out.push(b']');
        }
        (Type::Struct(members), DataType::Struct(_)) => {
            let columns = column.as_struct().columns();
            out.push(b'{');
            for (i, ((name, ty), column)) in members.iter().zip(columns).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(out, name);
                out.push(b':');
                write(out, ty, form, column, row);
            }
            out.push(b'}');
        }
        // The store holds every type as `Type::arrow` says.
        _ => out.extend_from_slice(b"null"),
    }
}

/// Appends a text as JSON.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writes to memory");
}

/// Appends an instant (µs since 1970) in `form`: a text for RFC 3339, else a number with as many
/// digits as the microseconds need.
pub fn write_time(out: &mut Vec<u8>, micros: i64, form: TimeForm) {
    match form {
        TimeForm::Rfc3339 => {
            // Nothing in it needs an escape.
            out.push(b'"');
            out.extend_from_slice(time_text(micros).as_bytes());
            out.push(b'"');
        }
        TimeForm::EpochS => write_scaled(out, micros, 6),
        TimeForm::EpochMs => write_scaled(out, micros, 3),
        TimeForm::EpochUs => write_number(out, micros),
        TimeForm::EpochNs => write_number(out, i128::from(micros) * 1_000),
    }
}

/// `value` × 10^−`scale` without zeros at the end of its fraction.
fn write_scaled(out: &mut Vec<u8>, value: i64, scale: i8) {
    let text = decimal_text(i128::from(value), scale);
    out.extend_from_slice(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
}

fn write_number(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    write!(out, "{number}").expect("writes to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_in_every_form() {
        #[track_caller]
        fn check(form: TimeForm, micros: i64, expected: &str) {
            let mut out = Vec::new();
            write_time(&mut out, micros, form);
            assert_eq!(std::str::from_utf8(&out), Ok(expected));
        }
        check(TimeForm::Rfc3339, 1_500_000, r#""1970-01-01T00:00:01.5Z""#);
        check(TimeForm::Rfc3339, -62_135_596_800_000_000, r#""0001-01-01T00:00:00Z""#);
        check(TimeForm::EpochS, 1_769_853_600_000_000, "1769853600");
        check(TimeForm::EpochS, 1_769_853_600_120_000, "1769853600.12");
        check(TimeForm::EpochS, -1, "-0.000001");
        check(TimeForm::EpochS, 0, "0");
        check(TimeForm::EpochS, 10_000_000, "10");
        check(TimeForm::EpochMs, 1_769_853_600_123_000, "1769853600123");
        check(TimeForm::EpochMs, 1_500, "1.5");
        check(TimeForm::EpochUs, -7, "-7");
        check(TimeForm::EpochNs, 7, "7000");
    }
}
