//! Rows of entities as documents: which of their values are words, and which rows have changed.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use contracts::model::{Domain, Entity, column};
use contracts::personal::{self, PersonalFields};
use contracts::types::Type;
use duckdb::params;
use pipeline::store::{EntityKey, StoreError};

use super::tokens::words;
use crate::metric::quote;
use crate::store::{self, Readers};

/// Most words of one value: a long text is told by its beginning.
const MOST_WORDS: usize = 32;

/// How the rows of one entity are read.
#[derive(Debug)]
pub(super) struct RowReader {
    schema: SchemaRef,
    table: String,
    columns: String,
    /// Words of the entity's name.
    name: Vec<String>,
}

/// A row as a document.
#[derive(Debug)]
pub(super) struct RowDocument {
    pub(super) key: String,
    /// Sequence number of the last event that changed it.
    pub(super) updated: i64,
    pub(super) words: Vec<String>,
}

impl RowReader {
    /// Reads an entity's texts and truths that are not personal; `None` when its key is personal: such a
    /// row cannot be named.
    pub(super) fn new(domain: &Domain, entity: &Entity) -> Option<Self> {
        let PersonalFields { key, fields: personal } = personal::of_entity(domain, entity);
        if key {
            return None;
        }
        let stored = entity.schema();
        let is_read = |name: &str| {
            let shown = entity.fields.iter().find(|field| field.name == name);
            name == column::KEY
                || name == column::UPDATED_SEQ
                || shown.is_some_and(|field| {
                    matches!(field.ty, Type::String | Type::Bool) && !personal.contains(name)
                })
        };
        let fields = stored.fields().iter().filter(|field| is_read(field.name()));
        let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let columns: Vec<String> = schema.fields().iter().map(|f| quote(f.name())).collect();
        Some(Self {
            columns: columns.join(", "),
            schema,
            table: quote(&entity.table()),
            name: words(&entity.name).collect(),
        })
    }

    /// The newest `most` rows of a tenant that an event after `since` has changed, newest first.
    pub(super) fn changed(
        &self,
        readers: &Readers,
        tenant: &str,
        since: i64,
        most: usize,
    ) -> Result<Vec<RowDocument>, StoreError> {
        let Self { columns, table, .. } = self;
        let updated = quote(column::UPDATED_SEQ);
        let sql = format!(
            "select {columns} from {table} where {} = ? and {updated} > ?
             order by {updated} desc limit ?",
            quote(column::TENANT),
        );
        readers.with("read changed entities", |conn| {
            let values = params![tenant, since, i64::try_from(most).unwrap_or(i64::MAX)];
            let rows = store::rows::query(conn, &sql, values, &self.schema)?;
            Ok(self.documents(&rows))
        })
    }

    /// The row of one key.
    pub(super) fn one(
        &self,
        readers: &Readers,
        tenant: &str,
        key: &str,
    ) -> Result<Option<RowDocument>, StoreError> {
        let Self { columns, table, .. } = self;
        let sql = format!(
            "select {columns} from {table} where {} = ? and {} = ? and {} = ?",
            quote(column::KEY_HASH),
            quote(column::TENANT),
            quote(column::KEY),
        );
        let hash = EntityKey { tenant: tenant.into(), key: key.into() }.hash64();
        readers.with("read an entity", |conn| {
            let values = params![hash, tenant, key];
            let rows = store::rows::query(conn, &sql, values, &self.schema)?;
            Ok(self.documents(&rows).pop())
        })
    }

    fn documents(&self, rows: &RecordBatch) -> Vec<RowDocument> {
        let mut documents = Vec::with_capacity(rows.num_rows());
        let column = |name: &str| rows.column_by_name(name);
        let keys = column(column::KEY).and_then(|keys| keys.as_string_opt::<i32>());
        let updated = column(column::UPDATED_SEQ);
        let updated = updated.and_then(|numbers| numbers.as_primitive_opt::<Int64Type>());
        let (Some(keys), Some(updated)) = (keys, updated) else { return documents };
        for row in 0..rows.num_rows() {
            let key = keys.value(row);
            let mut all: Vec<String> = self.name.clone();
            all.extend(words(key).take(MOST_WORDS));
            for (field, values) in self.schema.fields().iter().zip(rows.columns()) {
                if field.name().starts_with('_') || !values.is_valid(row) {
                    continue;
                }
                if let Some(texts) = values.as_string_opt::<i32>() {
                    all.extend(words(texts.value(row)).take(MOST_WORDS));
                } else if values.as_boolean_opt().is_some_and(|truths| truths.value(row)) {
                    // What is true of it is said by the field's name.
                    all.extend(words(field.name()));
                }
            }
            documents.push(RowDocument {
                key: key.to_owned(),
                updated: updated.value(row),
                words: all,
            });
        }
        documents
    }
}
