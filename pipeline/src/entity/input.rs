//! Rows of a relation as an entity sees them: key, order, and what each fold is given.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use contracts::model::{ColumnRef, EntityInput, FoldOp, Relation, column};

use super::FoldError;
use super::fold::{Contribution, Order};
use super::scalar::{self, Scalar};
use super::state::{KeyRef, Layout};

/// A view on a batch of a relation through one input of an entity.
pub(super) struct InputRows<'a> {
    tenants: &'a StringArray,
    keys: KeyColumn<'a>,
    times: Option<&'a [i64]>,
    seqs: &'a [i64],
    types: Option<(&'a StringArray, &'a [String])>,
    filter: Option<&'a BooleanArray>,
    absent: Option<&'a [i64]>,
    folds: Vec<FoldColumns>,
    rows: usize,
}

enum KeyColumn<'a> {
    Text(&'a StringArray),
    // Integer keys are shown and stored as text; they are few enough to be written out at once.
    Other(StringArray),
}

enum FoldColumns {
    /// This input gives the fold nothing.
    Nothing,
    /// The fold counts rows.
    Row,
    /// The fold takes a value.
    Value { value: ArrayRef, by: Option<ArrayRef>, absent_bit: Option<u32>, picks: bool },
}

impl<'a> InputRows<'a> {
    /// Looks at `batch` through `input`.
    pub(super) fn new(
        input: &'a EntityInput,
        layout: &Layout,
        batch: &'a RecordBatch,
    ) -> Result<Self, FoldError> {
        let of_family = matches!(input.relation, Relation::Family(_));
        let (seq, time) = if of_family {
            (column::SEQ, column::TIME)
        } else {
            (column::UPDATED_SEQ, column::UPDATED_AT)
        };
        let key = find(batch, &input.key.name)?;
        let keys = match key.data_type() {
            DataType::Utf8 => KeyColumn::Text(key.as_string::<i32>()),
            _ => {
                let text = arrow::compute::cast(key, &DataType::Utf8)
                    .map_err(|error| FoldError::column(&input.key.name, error))?;
                KeyColumn::Other(text.as_string::<i32>().clone())
            }
        };
        let folds = input
            .args
            .iter()
            .zip(layout.folds.iter().zip(&layout.counts_rows))
            .map(|(arg, ((op, _), counts_rows))| match arg {
                None if *counts_rows => Ok(FoldColumns::Row),
                None => Ok(FoldColumns::Nothing),
                Some(arg) => Ok(FoldColumns::Value {
                    value: find_ref(batch, &arg.value)?,
                    by: arg.by.as_ref().map(|by| find_ref(batch, by)).transpose()?,
                    absent_bit: arg.absent_bit,
                    picks: matches!(op, FoldOp::First | FoldOp::Last),
                }),
            })
            .collect::<Result<_, FoldError>>()?;
        Ok(Self {
            tenants: find(batch, column::TENANT)?.as_string::<i32>(),
            keys,
            times: find(batch, time)
                .ok()
                .map(|c| &**c.as_primitive::<TimestampMicrosecondType>().values()),
            seqs: find(batch, seq)?.as_primitive::<Int64Type>().values(),
            types: if of_family && !input.event_types.is_empty() {
                Some((find(batch, column::TYPE)?.as_string::<i32>(), &input.event_types))
            } else {
                None
            },
            filter: match &input.filter {
                Some(filter) => Some(find(batch, &filter.name)?.as_boolean()),
                None => None,
            },
            absent: if of_family {
                Some(find(batch, column::ABSENT)?.as_primitive::<Int64Type>().values())
            } else {
                None
            },
            folds,
            rows: batch.num_rows(),
        })
    }

    /// Number of rows of the batch.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Number of folds.
    pub(super) fn folds(&self) -> usize {
        self.folds.len()
    }

    /// The key of a row; `None` when the row does not take part (other type, filter not true, no
    /// key).
    pub(super) fn key(&self, row: usize) -> Option<KeyRef<'_>> {
        self.passes(row).then(|| self.named(row)).flatten()
    }

    /// Is it of a wanted type, and is the filter true?
    pub(super) fn passes(&self, row: usize) -> bool {
        if let Some((types, wanted)) = self.types {
            let found = types.value(row);
            if !wanted.iter().any(|ty| ty == found) {
                return false;
            }
        }
        self.filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    }

    /// The key that a row names, whether or not it passes.
    pub(super) fn named(&self, row: usize) -> Option<KeyRef<'_>> {
        let keys = match &self.keys {
            KeyColumn::Text(keys) => keys,
            KeyColumn::Other(keys) => keys,
        };
        if keys.is_null(row) {
            return None;
        }
        Some(KeyRef { tenant: self.tenants.value(row), key: keys.value(row) })
    }

    /// The order of a row within its key.
    pub(super) fn order(&self, row: usize) -> Order {
        Order { time: self.times.map_or(0, |times| times[row]), seq: self.seqs[row] }
    }

    /// What a row gives to fold number `fold`; `None` when it gives nothing.
    ///
    /// An absent field gives nothing, an explicit null does. The null of an expression counts as
    /// absent for `first` and `last`: it says that the event does not know.
    pub(super) fn contribution(&self, fold: usize, row: usize) -> Option<Contribution> {
        match &self.folds[fold] {
            FoldColumns::Nothing => None,
            FoldColumns::Row => Some(Contribution { value: Scalar::Bool(true), by: Scalar::Null }),
            FoldColumns::Value { value, by, absent_bit, picks } => {
                if let (Some(bit), Some(absent)) = (absent_bit, self.absent)
                    && absent[row] & (1i64 << bit) != 0
                {
                    return None;
                }
                if *picks && absent_bit.is_none() && value.is_null(row) {
                    return None;
                }
                Some(Contribution {
                    value: scalar::read(value, row),
                    by: by.as_ref().map_or(Scalar::Null, |by| scalar::read(by, row)),
                })
            }
        }
    }
}

fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, FoldError> {
    batch.column_by_name(name).ok_or_else(|| FoldError::Column {
        column: name.to_owned(),
        message: "it is not in the batch".to_owned(),
    })
}

fn find_ref(batch: &RecordBatch, column: &ColumnRef) -> Result<ArrayRef, FoldError> {
    let found = find(batch, &column.name)?;
    let wanted = column.ty.arrow();
    if *found.data_type() == wanted {
        return Ok(found.clone());
    }
    arrow::compute::cast(found, &wanted).map_err(|error| FoldError::column(&column.name, error))
}
