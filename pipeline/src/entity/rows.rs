//! Fold states → rows of the entity's table.
//!
//! Derived fields and computed columns are evaluated over the whole batch of rows. What depends on
//! `closed` is evaluated twice, once for an open and once for a closed entity; a reader picks by
//! `_closes_at`, so that nothing has to happen at the moment of closing.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use contracts::model::{Computed, Entity, EntityFieldKind, column};

use super::FoldError;
use super::scalar;
use super::state::{EntityState, Layout};
use crate::store::EntityKey;

/// Rows of `entity` in [`Entity::schema`], one per state, in order.
pub(super) fn build(
    entity: &Entity,
    layout: &Layout,
    states: &[(&EntityKey, &EntityState)],
) -> Result<RecordBatch, FoldError> {
    let mut columns = columns(entity, layout, states)?;
    let mut bytes = BinaryBuilder::with_capacity(states.len(), 256 * states.len());
    let mut buffer = Vec::new();
    for (_, state) in states {
        buffer.clear();
        buffer = state.write_to(buffer, entity)?;
        bytes.append_value(&buffer);
    }
    columns.push(Arc::new(bytes.finish()));
    RecordBatch::try_new(entity.schema(), columns)
        .map_err(|error| FoldError::column(&entity.name, error))
}

/// Rows of `entity` made again from stored ones, of which keys and states are read: with the columns
/// that its contract has today.
pub fn from_states(entity: &Entity, stored: &RecordBatch) -> Result<RecordBatch, FoldError> {
    let column = |name: &str| {
        stored
            .column_by_name(name)
            .ok_or_else(|| FoldError::column(name, "it is not in the entity's rows"))
    };
    let tenants = column(column::TENANT)?.as_string::<i32>();
    let keys = column(column::KEY)?.as_string::<i32>();
    let states = column(column::STATE)?.as_binary::<i32>();
    let all = (0..stored.num_rows())
        .map(|row| {
            let key = EntityKey { tenant: tenants.value(row).into(), key: keys.value(row).into() };
            Ok((key, EntityState::from_bytes(states.value(row), entity)?))
        })
        .collect::<Result<Vec<_>, FoldError>>()?;
    let states: Vec<_> = all.iter().map(|(key, state)| (key, state)).collect();
    build(entity, &Layout::of(entity), &states)
}

/// The same without the states: for who reads the fields.
pub(super) fn fields(
    entity: &Entity,
    layout: &Layout,
    states: &[(&EntityKey, &EntityState)],
) -> Result<RecordBatch, FoldError> {
    let columns = columns(entity, layout, states)?;
    let fields = entity.schema().fields()[..columns.len()].to_vec();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| FoldError::column(&entity.name, error))
}

/// All columns but the last, which holds the states.
fn columns(
    entity: &Entity,
    layout: &Layout,
    states: &[(&EntityKey, &EntityState)],
) -> Result<Vec<ArrayRef>, FoldError> {
    let keys: ArrayRef =
        Arc::new(StringArray::from_iter_values(states.iter().map(|(key, _)| &*key.key)));
    let mut open = Variant::new(entity, keys.clone(), states.len(), false);
    let mut closed = entity
        .closes_after
        .is_some()
        .then(|| Variant::new(entity, keys.clone(), states.len(), true));

    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(states.iter().map(|(key, _)| key.hash64()))),
        Arc::new(StringArray::from_iter_values(states.iter().map(|(key, _)| &*key.tenant))),
        keys,
        Arc::new(Int64Array::from_iter_values(states.iter().map(|(_, s)| s.updated_seq))),
        times(states, |state| Some(state.updated_at)),
        times(states, |state| {
            entity.closes_after.map(|after| state.updated_at.saturating_add(after))
        }),
    ];
    let mut fold = 0;
    for field in &entity.fields {
        match &field.kind {
            EntityFieldKind::Fold(_) => {
                let (op, ty) = &layout.folds[fold];
                let results: Vec<_> =
                    states.iter().map(|(_, state)| state.folds[fold].result(*op, ty)).collect();
                let values = scalar::column(ty, results.iter());
                if let Some(closed) = &mut closed {
                    closed.push(&field.name, values.clone());
                }
                open.push(&field.name, values);
                fold += 1;
            }
            EntityFieldKind::Derived(expr) => {
                let values = expr.evaluate(&open.batch()?);
                let values = fit(values, &field.ty.arrow(), &field.name)?;
                if let Some(closed) = &mut closed {
                    let values = if field.depends_on_closed {
                        fit(expr.evaluate(&closed.batch()?), &field.ty.arrow(), &field.name)?
                    } else {
                        values.clone()
                    };
                    closed.push(&field.name, values);
                }
                open.push(&field.name, values);
            }
        }
        columns.push(open.last());
        if field.depends_on_closed {
            columns.push(closed.as_ref().unwrap_or(&open).last());
        }
    }
    let open_fields = open.batch()?;
    let closed_fields = closed.as_ref().map(Variant::batch).transpose()?;
    for Computed { name, expr, depends_on_closed } in &entity.computed {
        columns.push(fit(expr.evaluate(&open_fields), &expr.ty().arrow(), name)?);
        if *depends_on_closed {
            let fields = closed_fields.as_ref().unwrap_or(&open_fields);
            columns.push(fit(expr.evaluate(fields), &expr.ty().arrow(), name)?);
        }
    }

    Ok(columns)
}

/// The fields of all rows under one assumption about `closed`, as expressions see them.
struct Variant {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Variant {
    fn new(entity: &Entity, keys: ArrayRef, rows: usize, closed: bool) -> Self {
        let mut variant = Self { fields: Vec::new(), columns: Vec::new() };
        if !entity.fields.iter().any(|field| field.name == entity.key) {
            variant.push(&entity.key, keys);
        }
        variant.push("closed", Arc::new(BooleanArray::from(vec![closed; rows])));
        variant
    }

    fn push(&mut self, name: &str, values: ArrayRef) {
        self.fields.push(Field::new(name, values.data_type().clone(), true));
        self.columns.push(values);
    }

    /// The column pushed last.
    fn last(&self) -> ArrayRef {
        self.columns[self.columns.len() - 1].clone()
    }

    fn batch(&self) -> Result<RecordBatch, FoldError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields.clone())), self.columns.clone())
            .map_err(|error| FoldError::column("closed", error))
    }
}

fn fit(
    values: ArrayRef,
    wanted: &arrow::datatypes::DataType,
    name: &str,
) -> Result<ArrayRef, FoldError> {
    if values.data_type() == wanted {
        return Ok(values);
    }
    arrow::compute::cast(&values, wanted).map_err(|error| FoldError::column(name, error))
}

fn times(
    states: &[(&EntityKey, &EntityState)],
    time: impl Fn(&EntityState) -> Option<i64>,
) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(states.iter().map(|(_, state)| time(state))))
}
