//! Accepted rows → journal rows of their family, with enriched and computed columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow::datatypes::{Field, Schema};
use contracts::model::{EnrichValue, Family, column};

use crate::batch::ContractRows;
use crate::entity::{Batch, Engine, FoldError};
use crate::store::{IdHash, ServingStore};

/// An accepted row of a [`ContractRows`], with what the journal adds. In order of position.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    /// Row in the columns.
    pub row: u32,
    /// Journal sequence number.
    pub seq: i64,
    /// Hash of (tenant, event id).
    pub id: IdHash,
    /// Hash over the decoded fields.
    pub body: i64,
    /// Was it late?
    pub late: bool,
    /// Arrival time, µs.
    pub arrived_at: i64,
    /// Offset in the source partition.
    pub offset: u64,
}

/// Admitted rows of one contract version from one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// The decoded rows.
    pub rows: &'a ContractRows,
    /// Those of them that were admitted.
    pub admitted: &'a [Admitted],
    /// Number of the source partition.
    pub partition: i64,
}

/// Journal rows of one family, ascending by `_seq`, from admitted rows of its versions.
///
/// `journal` has the rows of the families that were routed before: those that feed the entities
/// this one looks up.
pub(crate) fn journal_rows(
    family: &Family,
    given: &[Part<'_>],
    journal: &[(usize, RecordBatch)],
    engine: &mut Engine,
    entities: &mut Batch,
    store: &mut dyn ServingStore,
) -> Result<RecordBatch, FoldError> {
    let mut parts = Vec::with_capacity(given.len());
    for Part { rows, admitted, partition } in given.iter().copied() {
        let mut columns = Columns::admitted(rows, admitted, partition)?;
        for enrich in &rows.contract.enrich {
            let values = match &enrich.value {
                EnrichValue::Expr(expr) => expr.evaluate(&columns.batch()?),
                EnrichValue::Lookup { entity, key, field } => {
                    let keys = key.evaluate(&columns.batch()?);
                    let tenants = columns.get(column::TENANT)?;
                    let seqs: Vec<i64> = admitted.iter().map(|row| row.seq).collect();
                    engine
                        .look_up(entities, *entity, field, &keys, &tenants, &seqs, journal, store)?
                }
            };
            columns.push(&enrich.name, fit(values, &enrich.ty.arrow(), &enrich.name)?);
        }
        parts.push(columns.of_family(family)?);
    }
    let rows = match parts.len() {
        1 => parts.swap_remove(0),
        _ => merged(&parts)?,
    };
    let mut columns = Columns::of(&rows);
    let before = columns.batch()?;
    for computed in &family.computed {
        let values = computed.expr.evaluate(&before);
        columns.push(&computed.name, fit(values, &computed.expr.ty().arrow(), &computed.name)?);
    }
    RecordBatch::try_new(family.schema(), columns.values)
        .map_err(|error| failed(&family.name, error))
}

/// Columns that grow while a batch is enriched.
struct Columns {
    fields: Vec<Field>,
    values: Vec<ArrayRef>,
    rows: usize,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Self {
        Self {
            fields: batch.schema().fields().iter().map(|field| (**field).clone()).collect(),
            values: batch.columns().to_vec(),
            rows: batch.num_rows(),
        }
    }

    /// The decoded columns of the admitted rows, and what the journal adds.
    fn admitted(
        rows: &ContractRows,
        admitted: &[Admitted],
        partition: i64,
    ) -> Result<Self, FoldError> {
        let mut columns = if admitted.len() == rows.columns.num_rows() {
            Self::of(&rows.columns)
        } else {
            let picks = UInt32Array::from_iter_values(admitted.iter().map(|row| row.row));
            let taken = arrow::compute::take_record_batch(&rows.columns, &picks)
                .map_err(|error| failed("rows", error))?;
            Self::of(&taken)
        };
        let int64 = |value: &dyn Fn(&Admitted) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(admitted.iter().map(value)))
        };
        columns.push(column::SEQ, int64(&|row| row.seq));
        columns.push(
            column::ARRIVED_AT,
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                admitted.iter().map(|row| row.arrived_at),
            )),
        );
        let version = i64::from(rows.contract.version);
        columns.push(column::VERSION, int64(&|_| version));
        columns.push(column::ID_HI, int64(&|row| row.id.hi));
        columns.push(column::ID_LO, int64(&|row| row.id.lo));
        columns.push(column::BODY, int64(&|row| row.body));
        columns.push(column::PARTITION, int64(&|_| partition));
        columns.push(column::OFFSET, int64(&|row| row.offset as i64));
        let late: BooleanArray = admitted.iter().map(|row| Some(row.late)).collect();
        columns.push(column::LATE, Arc::new(late));
        let warnings: StringArray = admitted
            .iter()
            .map(|row| rows.warnings.get(row.row as usize).and_then(Option::as_deref))
            .collect();
        columns.push(column::WARNINGS, Arc::new(warnings));
        Ok(columns)
    }

    fn push(&mut self, name: &str, values: ArrayRef) {
        self.fields.push(Field::new(name, values.data_type().clone(), true));
        self.values.push(values);
    }

    fn get(&self, name: &str) -> Result<ArrayRef, FoldError> {
        let position = self.fields.iter().position(|field| field.name() == name);
        match position {
            Some(position) => Ok(self.values[position].clone()),
            None => Err(failed(name, "it was not decoded")),
        }
    }

    fn batch(&self) -> Result<RecordBatch, FoldError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields.clone())), self.values.clone())
            .map_err(|error| failed("rows", error))
    }

    /// The columns of [`Family::schema`] up to the computed ones; what this version does not have
    /// is null.
    fn of_family(&self, family: &Family) -> Result<RecordBatch, FoldError> {
        let schema = family.schema();
        let known = schema.fields().len() - family.computed.len();
        let fields = schema.fields()[..known].to_vec();
        let values = fields
            .iter()
            .map(|field| match self.fields.iter().position(|own| own.name() == field.name()) {
                Some(position) => {
                    fit(self.values[position].clone(), field.data_type(), field.name())
                }
                None => Ok(new_null_array(field.data_type(), self.rows)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::new(Schema::new(fields)), values)
            .map_err(|error| failed(&family.name, error))
    }
}

/// Rows of several parts as one batch, ascending by `_seq`.
fn merged(parts: &[RecordBatch]) -> Result<RecordBatch, FoldError> {
    let Some(first) = parts.first() else {
        return Err(failed("rows", "no part has a row"));
    };
    let all = arrow::compute::concat_batches(&first.schema(), parts)
        .map_err(|error| failed("rows", error))?;
    let seqs = all.column_by_name(column::SEQ).ok_or_else(|| failed(column::SEQ, "missing"))?;
    let order = arrow::compute::sort_to_indices(seqs, None, None)
        .map_err(|error| failed(column::SEQ, error))?;
    arrow::compute::take_record_batch(&all, &order).map_err(|error| failed("rows", error))
}

fn fit(
    values: ArrayRef,
    wanted: &arrow::datatypes::DataType,
    name: &str,
) -> Result<ArrayRef, FoldError> {
    if values.data_type() == wanted {
        return Ok(values);
    }
    arrow::compute::cast(&values, wanted).map_err(|error| failed(name, error))
}

fn failed(column: &str, error: impl std::fmt::Display) -> FoldError {
    FoldError::Column { column: column.to_owned(), message: error.to_string() }
}
