//! Rows of any types as JSON, with all their digits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use contracts::types::Type;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type of its values, as contracts write types.
    pub ty: String,
}

/// A row of an answer; serialises as an object with its columns in order.
#[derive(Debug, Clone)]
pub struct Row {
    pub(crate) names: Arc<[String]>,
    pub(crate) values: Vec<Box<RawValue>>,
}

impl Row {
    /// The JSON of a column.
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.names.iter().position(|known| known == name)?;
        Some(self.values.get(place)?.get())
    }

    /// Bytes of its JSON, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|name| name.len() + 4).sum();
        names + self.values.iter().map(|value| value.get().len()).sum::<usize>()
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (name, value) in self.names.iter().zip(&self.values) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// How the columns of a result are shown.
pub(super) struct Shapes {
    pub(super) names: Arc<[String]>,
    types: Vec<Type>,
}

impl Shapes {
    /// For the columns of a result. Two of one name cannot both be members of an object, so the later
    /// one gets a number.
    pub(super) fn of(schema: &Schema) -> Self {
        let mut names: Vec<String> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let mut name = field.name().clone();
            let mut number = 2;
            while names.contains(&name) {
                name = format!("{}_{number}", field.name());
                number += 1;
            }
            names.push(name);
        }
        let types = schema.fields().iter().map(|field| shown(field.data_type())).collect();
        Self { names: names.into(), types }
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        let pairs = self.names.iter().zip(&self.types);
        pairs.map(|(name, ty)| Column { name: name.clone(), ty: ty.to_string() }).collect()
    }

    /// The columns of a chunk in the types that they are shown in.
    pub(super) fn conform(
        &self,
        chunk: &[ArrayRef],
    ) -> Result<Vec<ArrayRef>, arrow::error::ArrowError> {
        let columns = chunk.iter().zip(&self.types);
        columns
            .map(|(column, ty)| match column.data_type() {
                given if is_alike(given, &ty.arrow()) => Ok(Arc::clone(column)),
                _ => cast(column, &ty.arrow()),
            })
            .collect()
    }

    pub(super) fn row(&self, columns: &[ArrayRef], row: usize) -> Row {
        let values = columns.iter().zip(&self.types);
        let values = values.map(|(column, ty)| json::value(ty, column.as_ref(), row)).collect();
        Row { names: Arc::clone(&self.names), values }
    }
}

/// Are two types the same but for names inside lists, and for what may be null?
fn is_alike(one: &DataType, other: &DataType) -> bool {
    match (one, other) {
        (DataType::List(one), DataType::List(other)) => {
            is_alike(one.data_type(), other.data_type())
        }
        (DataType::Struct(ones), DataType::Struct(others)) => {
            ones.len() == others.len()
                && ones.iter().zip(others).all(|(one, other)| {
                    one.name() == other.name() && is_alike(one.data_type(), other.data_type())
                })
        }
        _ => one == other,
    }
}

/// The contract type that a result's column is shown as.
fn shown(ty: &DataType) -> Type {
    match ty {
        DataType::Boolean => Type::Bool,
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => Type::Int64,
        DataType::UInt64 => Type::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Type::Float64,
        DataType::Decimal128(precision, scale) => {
            Type::Decimal { precision: *precision, scale: *scale }
        }
        DataType::Timestamp(
            TimeUnit::Microsecond | TimeUnit::Millisecond | TimeUnit::Second,
            _,
        )
        | DataType::Timestamp(TimeUnit::Nanosecond, _) => Type::Timestamp,
        DataType::Date32 | DataType::Date64 => Type::Date,
        DataType::List(element) => Type::List(Box::new(shown(element.data_type()))),
        DataType::Struct(members) => {
            Type::Struct(members.iter().map(|m| (m.name().clone(), shown(m.data_type()))).collect())
        }
        _ => Type::String,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, ListArray, StructArray};
    use arrow::datatypes::{Field, Int16Type};

    use super::*;

    #[test]
    fn members_of_records_are_shown_whatever_their_type() {
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int16Type, _, _>([
            Some(vec![Some(2), None]),
            None,
        ]));
        let field =
            |name, values: &ArrayRef| Arc::new(Field::new(name, values.data_type().clone(), true));
        let record: ArrayRef = Arc::new(StructArray::from(vec![
            (field("a", &numbers), Arc::clone(&numbers)),
            (field("b", &lists), Arc::clone(&lists)),
        ]));
        let shapes = Shapes::of(&Schema::new(vec![field("r", &record)]));
        let columns = shapes.conform(&[record]).unwrap();
        let shown = |row| serde_json::to_string(&shapes.row(&columns, row)).unwrap();
        assert_eq!(shown(0), r#"{"r":{"a":1,"b":[2,null]}}"#);
        assert_eq!(shown(1), r#"{"r":{"a":null,"b":null}}"#);
        assert_eq!(shapes.columns()[0].ty, "struct<a: int64, b: list<int64>>");
    }
}
