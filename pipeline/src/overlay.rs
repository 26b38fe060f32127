//! Rows with some columns replaced.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, kernels::cmp, kernels::zip::zip};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use contracts::model::column;

/// Rows of a relation whose columns are being replaced one after the other, each computed from the
/// rows as they are by then.
#[derive(Debug)]
pub struct Overlay {
    batch: RecordBatch,
    changed: Vec<String>,
}

impl Overlay {
    /// Rows as they were. Columns that are given null values must be nullable.
    pub fn of(batch: RecordBatch) -> Self {
        Self { batch, changed: Vec::new() }
    }

    /// The rows as they are now.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Names of the columns that were replaced, in the order of the first time.
    pub fn changed(&self) -> &[String] {
        &self.changed
    }

    /// A column as it is now.
    pub fn column(&self, name: &str) -> Result<&ArrayRef, ArrowError> {
        self.batch
            .column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
    }

    /// A column of numbers.
    pub fn int64(&self, name: &str) -> Result<&Int64Array, ArrowError> {
        self.column(name)?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| ArrowError::SchemaError(format!("column `{name}` is not int64")))
    }

    /// A column of text.
    pub fn text(&self, name: &str) -> Result<&StringArray, ArrowError> {
        self.column(name)?
            .as_string_opt::<i32>()
            .ok_or_else(|| ArrowError::SchemaError(format!("column `{name}` is not text")))
    }

    /// The rows that were read with that version of the contract.
    pub fn of_version(&self, version: u32) -> Result<BooleanArray, ArrowError> {
        cmp::eq(self.int64(column::VERSION)?, &Int64Array::new_scalar(i64::from(version)))
    }

    /// Replaces a column; its type stays.
    pub fn set(&mut self, name: &str, values: ArrayRef) -> Result<(), ArrowError> {
        let place = self.batch.schema_ref().index_of(name)?;
        let mut columns = self.batch.columns().to_vec();
        columns[place] = cast(&values, self.batch.schema_ref().field(place).data_type())?;
        self.batch = RecordBatch::try_new(Arc::clone(self.batch.schema_ref()), columns)?;
        if !self.changed.iter().any(|changed| changed == name) {
            self.changed.push(name.to_owned());
        }
        Ok(())
    }

    /// Takes `values` where `mask` is true.
    pub fn set_where(
        &mut self,
        name: &str,
        mask: &BooleanArray,
        values: ArrayRef,
    ) -> Result<(), ArrowError> {
        let now = self.column(name)?;
        let values = cast(&values, now.data_type())?;
        let mixed = zip(mask, &values, now)?;
        self.set(name, mixed)
    }
}
