//! Columns as JSON: one value of an Arrow column as JSON text, with all its digits; and JSON objects whose
//! values stay as they are written.

use std::fmt;

use arrow::array::Array;
use contracts::model::TimeForm;
use contracts::types::Type;
use pipeline::encode::json;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The value in `row` of a column that holds values of `ty`; times are RFC 3339.
pub(crate) fn value(ty: &Type, column: &dyn Array, row: usize) -> Box<RawValue> {
    raw(|out| json::write(out, ty, TimeForm::Rfc3339, column, row))
}

/// A text as JSON.
pub(crate) fn text(text: &str) -> Box<RawValue> {
    raw(|out| json::write_text(out, text))
}

fn raw(write: impl FnOnce(&mut Vec<u8>)) -> Box<RawValue> {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok())
        .unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// All members of an object in their order, values as they are written: a name that stands there twice
/// too.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{DataType, Field};

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
