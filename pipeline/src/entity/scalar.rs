//! One value of a column: what a fold remembers.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int64Builder, ListArray, StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float64Type, Int64Type,
    TimestampMicrosecondType,
};
use contracts::types::Type;
use serde::{Deserialize, Serialize};

/// A value of any contract type. The scale of a decimal and the names of struct members stay with
/// the [`Type`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Scalar {
    /// No value.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int64`.
    Int(i64),
    /// `float64`.
    Float(f64),
    /// All digits of a `decimal`.
    Decimal(i128),
    /// `string` and `json`.
    Text(Box<str>),
    /// `timestamp`, µs UTC.
    Time(i64),
    /// `date`, days since 1970-01-01.
    Date(i32),
    /// `list`.
    List(Vec<Scalar>),
    /// Members of a `struct` in order.
    Struct(Vec<Scalar>),
}

impl Scalar {
    /// Is it [`Scalar::Null`]?
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) => 3,
            Self::Decimal(_) => 4,
            Self::Text(_) => 5,
            Self::Time(_) => 6,
            Self::Date(_) => 7,
            Self::List(_) => 8,
            Self::Struct(_) => 9,
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A total order, so that ties between folds never depend on the order of arrival. Values of one
/// column all have one type; the order between types only has to exist.
impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) | (Self::Struct(a), Self::Struct(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

/// The value in row `row` of `array`, which must have the Arrow form of a contract [`Type`].
pub(super) fn read(array: &dyn Array, row: usize) -> Scalar {
    if array.is_null(row) {
        return Scalar::Null;
    }
    match array.data_type() {
        DataType::Boolean => Scalar::Bool(array.as_boolean().value(row)),
        DataType::Int64 => Scalar::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Scalar::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            Scalar::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Utf8 => Scalar::Text(array.as_string::<i32>().value(row).into()),
        DataType::Timestamp(..) => {
            Scalar::Time(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Date32 => Scalar::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Scalar::List((0..items.len()).map(|i| read(&items, i)).collect())
        }
        DataType::Struct(_) => {
            let members = array.as_struct();
            Scalar::Struct(members.columns().iter().map(|column| read(column, row)).collect())
        }
        // `Type::arrow` gives no other type, and every stage casts to it.
        other => unreachable!("no contract type is held as {other}"),
    }
}

/// A column of `ty` from values; a value of another type becomes null.
pub(super) fn column<'a>(ty: &Type, values: impl Iterator<Item = &'a Scalar>) -> ArrayRef {
    macro_rules! build {
        ($builder:expr, $variant:path, $get:expr) => {{
            let mut builder = $builder;
            for value in values {
                match value {
                    $variant(v) => builder.append_value($get(v)),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    match ty {
        Type::Bool => build!(BooleanBuilder::new(), Scalar::Bool, |v: &bool| *v),
        Type::Int64 => build!(Int64Builder::new(), Scalar::Int, |v: &i64| *v),
        Type::Float64 => build!(Float64Builder::new(), Scalar::Float, |v: &f64| *v),
        Type::Decimal { .. } => {
            let builder = Decimal128Builder::new().with_data_type(ty.arrow());
            build!(builder, Scalar::Decimal, |v: &i128| *v)
        }
        Type::String | Type::Json => {
            let mut builder = StringBuilder::new();
            for value in values {
                match value {
                    Scalar::Text(text) => builder.append_value(text),
                    _ => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        Type::Timestamp => {
            build!(TimestampMicrosecondBuilder::new(), Scalar::Time, |v: &i64| *v)
        }
        Type::Date => build!(Date32Builder::new(), Scalar::Date, |v: &i32| *v),
        Type::List(inner) => {
            let values: Vec<&Scalar> = values.collect();
            let lengths = values.iter().map(|v| match v {
                Scalar::List(items) => items.len(),
                _ => 0,
            });
            let offsets = OffsetBuffer::from_lengths(lengths);
            let mut items = values.iter().flat_map(|v| match v {
                Scalar::List(items) => items.as_slice(),
                _ => &[],
            });
            // As a trait object, or the compiler would build one function per level for ever.
            let child = column(inner, &mut items as &mut dyn Iterator<Item = &'a Scalar>);
            let nulls: NullBuffer =
                values.iter().map(|v| matches!(v, Scalar::List(_))).collect::<Vec<_>>().into();
            let field = Arc::new(Field::new("element", inner.arrow(), true));
            Arc::new(ListArray::new(field, offsets, child, Some(nulls)))
        }
        Type::Struct(members) => {
            let values: Vec<&Scalar> = values.collect();
            let columns: Vec<ArrayRef> = members
                .iter()
                .enumerate()
                .map(|(i, (_, ty))| {
                    let mut values = values.iter().map(|v| match v {
                        Scalar::Struct(members) => members.get(i).unwrap_or(&Scalar::Null),
                        _ => &Scalar::Null,
                    });
                    column(ty, &mut values as &mut dyn Iterator<Item = &'a Scalar>)
                })
                .collect();
            let nulls: NullBuffer =
                values.iter().map(|v| matches!(v, Scalar::Struct(_))).collect::<Vec<_>>().into();
            let fields: Fields =
                members.iter().map(|(name, ty)| Field::new(name, ty.arrow(), true)).collect();
            match StructArray::try_new_with_length(fields, columns, Some(nulls), values.len()) {
                Ok(array) => Arc::new(array),
                Err(_) => arrow::array::new_null_array(&ty.arrow(), values.len()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(ty: &Type, values: Vec<Scalar>) {
        let array = column(ty, values.iter());
        assert_eq!(array.data_type(), &ty.arrow());
        let back: Vec<Scalar> = (0..array.len()).map(|row| read(&array, row)).collect();
        assert_eq!(back, values);
    }

    #[test]
    fn every_type_survives_the_way_through_a_column() {
        let money = Type::Decimal { precision: 12, scale: 2 };
        let line =
            Type::Struct(vec![("sku".into(), Type::String), ("price".into(), money.clone())]);
        round_trip(&Type::Bool, vec![Scalar::Bool(true), Scalar::Null]);
        round_trip(&Type::Int64, vec![Scalar::Int(i64::MIN), Scalar::Null, Scalar::Int(7)]);
        round_trip(&Type::Float64, vec![Scalar::Float(1.5), Scalar::Null]);
        round_trip(&money, vec![Scalar::Decimal(14900), Scalar::Null]);
        round_trip(&Type::String, vec![Scalar::Text("ä".into()), Scalar::Null]);
        round_trip(&Type::Timestamp, vec![Scalar::Time(-1), Scalar::Null]);
        round_trip(&Type::Date, vec![Scalar::Date(1), Scalar::Null]);
        let item = Scalar::Struct(vec![Scalar::Text("a".into()), Scalar::Decimal(1)]);
        round_trip(&line, vec![item.clone(), Scalar::Null]);
        round_trip(
            &Type::List(Box::new(line)),
            vec![Scalar::List(vec![item, Scalar::Null]), Scalar::Null, Scalar::List(vec![])],
        );
    }

    #[test]
    fn the_order_is_total_also_for_odd_floats() {
        assert!(Scalar::Float(f64::NAN) > Scalar::Float(f64::INFINITY));
        assert!(Scalar::Null < Scalar::Int(i64::MIN));
    }
}
