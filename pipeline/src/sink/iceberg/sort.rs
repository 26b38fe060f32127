//! Rows in the sort order of their table.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{
    SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch,
};
use arrow::error::ArrowError;
use iceberg::spec::{NullOrder, SortDirection, TableMetadata, Transform};
use std::sync::Arc;

/// Rows of a batch that is handed on: a file is closed between two batches.
const BATCH_ROWS: usize = 16_384;

/// Sorts rows as a table's metadata say.
pub(super) struct Sorter {
    /// Index of each column, first the one that counts most.
    columns: Vec<(usize, SortOptions)>,
}

impl Sorter {
    /// For the default sort order of a table. Of an order that somebody else gave it, only what stands
    /// before the first transform or member of a struct counts.
    pub(super) fn of(metadata: &TableMetadata) -> Self {
        let columns = metadata.current_schema().as_struct().fields();
        let sort = metadata.default_sort_order().fields.iter();
        let plain = sort.map_while(|field| {
            let index = columns.iter().position(|column| column.id == field.source_id)?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            (field.transform == Transform::Identity).then_some((index, options))
        });
        Self { columns: plain.collect() }
    }

    /// Is the order in which rows come the right one?
    pub(super) fn is_unsorted(&self) -> bool {
        self.columns.is_empty()
    }

    /// All the rows, sorted; rows that are equal in it keep their order, which is that of the journal.
    pub(super) fn sort(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
        let Some(first) = batches.first() else { return Ok(batches) };
        if self.is_unsorted() {
            return Ok(batches);
        }
        let rows = concat_batches(&first.schema(), &batches)?;
        drop(batches);
        let column = |(index, options): &(usize, SortOptions)| SortColumn {
            values: Arc::clone(rows.column(*index)),
            options: Some(*options),
        };
        let mut columns: Vec<SortColumn> = self.columns.iter().map(column).collect();
        // The sort is not stable by itself.
        let numbers: ArrayRef =
            Arc::new(UInt32Array::from_iter_values((0u32..).take(rows.num_rows())));
        columns.push(SortColumn { values: numbers, options: None });
        let order = lexsort_to_indices(&columns, None)?;
        let sorted = take_record_batch(&rows, &order)?;
        let starts = (0..sorted.num_rows()).step_by(BATCH_ROWS);
        Ok(starts
            .map(|start| sorted.slice(start, BATCH_ROWS.min(sorted.num_rows() - start)))
            .collect())
    }
}
