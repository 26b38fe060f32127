//! Columns as JSON: one value of an Arrow column as JSON text, with all its digits.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use contracts::types::Type;
use serde_json::value::RawValue;

use crate::value::{date_text, decimal_text, time_text};

/// The value in `row` of a column that holds values of `ty`.
pub(crate) fn value(ty: &Type, column: &dyn Array, row: usize) -> Box<RawValue> {
    let mut text = String::new();
    write(&mut text, ty, column, row);
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A text as JSON.
pub(crate) fn text(text: &str) -> Box<RawValue> {
    let mut out = String::new();
    write_text(&mut out, text);
    RawValue::from_string(out).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn write(out: &mut String, ty: &Type, column: &dyn Array, row: usize) {
    if column.is_null(row) {
        return out.push_str("null");
    }
    match (ty, column.data_type()) {
        (Type::Bool, DataType::Boolean) => {
            out.push_str(if column.as_boolean().value(row) { "true" } else { "false" });
        }
        (Type::Int64, DataType::Int64) => {
            out.push_str(&column.as_primitive::<Int64Type>().value(row).to_string());
        }
        (Type::Float64, DataType::Float64) => {
            // NaN and infinities have no JSON form; `to_string` writes them as null.
            let value = column.as_primitive::<Float64Type>().value(row);
            out.push_str(&serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned()));
        }
        (Type::Decimal { .. }, DataType::Decimal128(_, scale)) => {
            let digits = column.as_primitive::<Decimal128Type>().value(row);
            out.push_str(&decimal_text(digits, *scale));
        }
        (Type::Timestamp, DataType::Timestamp(..)) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            write_text(out, &time_text(micros));
        }
        (Type::Date, DataType::Date32) => {
            write_text(out, &date_text(column.as_primitive::<Date32Type>().value(row)));
        }
        (Type::String, DataType::Utf8) => write_text(out, column.as_string::<i32>().value(row)),
        (Type::Json, DataType::Utf8) => {
            let stored = column.as_string::<i32>().value(row);
            match serde_json::from_str::<&RawValue>(stored) {
                Ok(raw) => out.push_str(raw.get()),
                Err(_) => write_text(out, stored),
            }
        }
        (Type::List(inner), DataType::List(_)) => {
            let items = column.as_list::<i32>().value(row);
            out.push('[');
            for item in 0..items.len() {
                if item > 0 {
                    out.push(',');
                }
                write(out, inner, &items, item);
            }
            out.push(']');
        }
        (Type::Struct(members), DataType::Struct(_)) => {
            let columns = column.as_struct().columns();
            out.push('{');
            for (i, ((name, ty), column)) in members.iter().zip(columns).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(out, name);
                out.push(':');
                write(out, ty, column, row);
            }
            out.push('}');
        }
        // The store holds every type as `Type::arrow` says.
        _ => out.push_str("null"),
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "null".to_owned()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[track_caller]
    fn check(ty: &Type, column: &dyn Array, row: usize, json: &str) {
        assert_eq!(value(ty, column, row).get(), json);
    }

    #[test]
    fn scalars_keep_their_digits() {
        let money = Type::Decimal { precision: 38, scale: 2 };
        let amounts = Decimal128Array::from(vec![Some(1_234_567_890_123_456_789), None])
            .with_data_type(money.arrow());
        check(&money, &amounts, 0, "12345678901234567.89");
        check(&money, &amounts, 1, "null");
        check(&Type::Int64, &Int64Array::from(vec![i64::MIN]), 0, "-9223372036854775808");
        check(&Type::Float64, &Float64Array::from(vec![f64::NAN, 0.1]), 0, "null");
        check(&Type::Float64, &Float64Array::from(vec![f64::NAN, 0.1]), 1, "0.1");
        let times = TimestampMicrosecondArray::from(vec![1_500_000]);
        check(&Type::Timestamp, &times, 0, r#""1970-01-01T00:00:01.5Z""#);
        check(&Type::String, &StringArray::from(vec!["a\"\n"]), 0, r#""a\"\n""#);
    }

    #[test]
    fn json_is_passed_on_as_written() {
        let stored = StringArray::from(vec![r#"{"a": 1.50}"#, "not json"]);
        check(&Type::Json, &stored, 0, r#"{"a": 1.50}"#);
        check(&Type::Json, &stored, 1, r#""not json""#);
    }

    #[test]
    fn lists_and_structs_nest() {
        let ty = Type::Struct(vec![("n".into(), Type::Int64)]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let items =
            StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers)]);
        let field = Arc::new(Field::new("element", ty.arrow(), true));
        let list = ListArray::new(field, OffsetBuffer::from_lengths([2]), Arc::new(items), None);
        check(&Type::List(Box::new(ty)), &list, 0, r#"[{"n":1},{"n":null}]"#);
    }
}
