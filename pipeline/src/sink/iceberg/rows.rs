//! Journal rows in the shape of a table, and back.
//!
//! A table may have columns and struct members that the rows lack (a contract dropped a field, or
//! somebody added a column): they become null. The other way round cannot happen, the table has
//! gained what the rows have before any row is written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Fields, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;

/// How journal rows become rows of a table.
#[derive(Debug, Clone)]
pub(super) struct Projection {
    /// The table's Arrow schema, with field ids.
    table: SchemaRef,
    /// For each column of the table its name in the journal rows.
    journal: Vec<Option<String>>,
}

impl Projection {
    /// A projection to `table`; `journal` gives a table column's name in the journal rows.
    pub(super) fn new(table: SchemaRef, journal: impl Fn(&str) -> Option<String>) -> Self {
        let journal = table.fields().iter().map(|field| journal(field.name())).collect();
        Self { table, journal }
    }

    /// The rows in the table's shape.
    pub(super) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = self
            .table
            .fields()
            .iter()
            .zip(&self.journal)
            .map(|(field, journal)| {
                match journal.as_deref().and_then(|name| rows.column_by_name(name)) {
                    Some(column) => adapt(column, field.data_type()).map_err(|error| {
                        ArrowError::CastError(format!("column `{}`: {error}", field.name()))
                    }),
                    None => Ok(new_null_array(field.data_type(), rows.num_rows())),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.table), columns)
    }
}

/// The same values under the exact Arrow type of the table: field ids, zone and names included.
/// Copies no values; a type with another meaning is an error.
pub(super) fn adapt(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (array.data_type(), to) {
        (from, to) if from == to => Ok(Arc::clone(array)),
        (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(_, zone)) => {
            let times = array.as_primitive::<TimestampMicrosecondType>().clone();
            Ok(Arc::new(times.with_timezone_opt(zone.clone())))
        }
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(element),
                list.offsets().clone(),
                adapt(list.values(), element.data_type())?,
                list.nulls().cloned(),
            )?))
        }
        (DataType::Struct(_), DataType::Struct(members)) => {
            Ok(Arc::new(adapt_struct(array.as_struct(), members)?))
        }
        // Other layouts of the same values.
        (DataType::LargeUtf8 | DataType::Utf8View, DataType::Utf8)
        | (DataType::LargeBinary | DataType::BinaryView, DataType::LargeBinary)
        | (DataType::Binary | DataType::BinaryView, DataType::Binary)
        | (DataType::Binary, DataType::LargeBinary)
        | (DataType::LargeBinary, DataType::Binary) => {
            cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() })
        }
        (from, to) => Err(ArrowError::CastError(format!("holds {from}, the table has {to}"))),
    }
}

fn adapt_struct(array: &StructArray, members: &Fields) -> Result<StructArray, ArrowError> {
    let columns = members
        .iter()
        .map(|member| match array.column_by_name(member.name()) {
            Some(column) => adapt(column, member.data_type()),
            None => Ok(new_null_array(member.data_type(), array.len())),
        })
        .collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(members.clone(), columns, array.nulls().cloned(), array.len())
}
