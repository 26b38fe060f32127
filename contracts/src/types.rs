//! The closed set of field types, and how each is held in Arrow.
//!
//! One table for the whole product: the decoder, the journal, entities, expressions and the lake
//! all go through [`Type::arrow`].

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// The type of a contract's field or of an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// UTF-8 text (`string`).
    String,
    /// `true` or `false` (`bool`).
    Bool,
    /// Signed 64-bit integer (`int64`).
    Int64,
    /// IEEE 754 double (`float64`).
    Float64,
    /// Exact decimal with `precision` digits in all (1..=38), `scale` of them after the point
    /// (`decimal(12,2)`).
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// An instant in UTC with microseconds (`timestamp`).
    Timestamp,
    /// A calendar day (`date`).
    Date,
    /// A list (`list<T>`).
    List(Box<Type>),
    /// A record with named members (`struct<a: T, b: T>`); every member may be null.
    Struct(Vec<(String, Type)>),
    /// Any JSON value, kept as its text (`json`).
    Json,
}

impl Type {
    /// The Arrow type that holds it. Members of lists and structs are nullable; the element of a
    /// list is named `element`, as Parquet and Iceberg name it.
    pub fn arrow(&self) -> DataType {
        match self {
            Self::String | Self::Json => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Date => DataType::Date32,
            Self::List(inner) => {
                DataType::List(Arc::new(Field::new("element", inner.arrow(), true)))
            }
            Self::Struct(members) => DataType::Struct(Fields::from(
                members
                    .iter()
                    .map(|(name, ty)| Field::new(name, ty.arrow(), true))
                    .collect::<Vec<_>>(),
            )),
        }
    }

    /// Can values of this type be added up?
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Int64 | Self::Float64 | Self::Decimal { .. })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("string"),
            Self::Bool => f.write_str("bool"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
            Self::List(inner) => write!(f, "list<{inner}>"),
            Self::Struct(members) => {
                f.write_str("struct<")?;
                for (i, (name, ty)) in members.iter().enumerate() {
                    write!(f, "{}{name}: {ty}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(">")
            }
            Self::Json => f.write_str("json"),
        }
    }
}
