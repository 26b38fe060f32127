//! One entity by its key: the current row, or the row as it was at a time.
//!
//! The current row is read from the entity's table; a past one is folded again from the events
//! before the reference time, of that key only where that can be proven to suffice. Values that
//! depend on `closed` are those at the reference time, without anything having to happen at the
//! moment of closing.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use contracts::model::{Entity, Relation, column};
use contracts::types::Type;
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};
use pipeline::store::EntityKey;

use crate::json;
use crate::metric::{
    MetricEngine, Plan, Scope, check_time, fold, keys_for_one, known, progress, quote, unavailable,
};
use crate::question::{EntityAnswer, EntityQuestion, ReadError};
use crate::store::{self, Trimmed};

impl MetricEngine {
    /// Answers a question to an entity from the store.
    pub fn entity(&self, question: &EntityQuestion) -> Result<EntityAnswer, ReadError> {
        let now = self.now();
        let as_of = check_time("as_of", question.as_of, now)?;
        let known_at = check_time("known_at", question.known_at, now)?;
        let entity = self.find_entity(&question.entity, question.version)?;
        self.settle(known_at)?;
        let is_past = as_of.is_some() || known_at.is_some();
        let plan = |trimmed: &Trimmed| match is_past {
            true => Plan::of_entity(self.domain(), entity.index, trimmed),
            false => Plan::default(),
        };
        let concerns = |trimmed: &Trimmed| known_at.is_some() || !plan(trimmed).is_empty();
        let (batches, position) = self.across("read an entity", concerns, |conn, beyond| {
            let known = match beyond {
                Some(beyond) => beyond.known(conn, known_at)?,
                None => known(conn, known_at)?,
            };
            let both = match beyond.map(|beyond| (beyond, plan(&beyond.trimmed))) {
                Some((beyond, plan)) if !plan.is_empty() => {
                    Some(beyond.database(conn, &plan, &question.tenant, as_of)?)
                }
                _ => None,
            };
            let rows = match (as_of, known) {
                (None, None) => current(conn, entity, question)?,
                (before, known) => {
                    let keys = keys_for_one(self.domain(), entity, &question.id);
                    let scope = Scope { tenant: &question.tenant, before, known, keys };
                    let rows = both.as_deref().unwrap_or(conn);
                    fold(rows, self.domain(), entity.index, &scope)?
                }
            };
            let position = progress(conn, now)?.position;
            Ok((rows, known.map_or(position, |known| known.position.min(position))))
        })?;
        let found = batches.iter().find_map(|batch| Some((batch, find_row(batch, &question.id)?)));
        let (batch, row) = found.ok_or_else(|| not_found(question))?;
        let (data, last_updated) = show(entity, batch, row, as_of.or(known_at).unwrap_or(now))?;
        Ok(EntityAnswer {
            entity: entity.name.clone(),
            id: question.id.clone(),
            data,
            last_updated,
            as_of,
            known_at,
            contract_version: entity.version,
            contract_hash: format!("{:016x}", entity.hash),
            position,
            cached: false,
        })
    }
}

fn not_found(question: &EntityQuestion) -> ReadError {
    let EntityQuestion { entity, id, as_of, known_at, .. } = question;
    ReadError::NotFound {
        message: match as_of.or(*known_at) {
            None => format!("no `{entity}` has the key `{id}`"),
            Some(_) => format!("no `{entity}` had the key `{id}` at that time"),
        },
        hint: None,
    }
}

/// The row of the entity's table, none or one.
fn current(
    conn: &Connection,
    entity: &Entity,
    question: &EntityQuestion,
) -> Result<Vec<RecordBatch>, ReadError> {
    let stored = entity.schema();
    let shown = stored.fields().iter().filter(|field| field.name() != column::STATE);
    let schema = Arc::new(Schema::new(shown.cloned().collect::<Vec<_>>()));
    let columns: Vec<String> = schema.fields().iter().map(|field| quote(field.name())).collect();
    let text = format!(
        "select {} from {} where {} = $1 and {} = $2 and {} = $3",
        columns.join(", "),
        quote(&entity.table()),
        quote(column::KEY_HASH),
        quote(column::TENANT),
        quote(column::KEY),
    );
    let key =
        EntityKey { tenant: question.tenant.as_str().into(), key: question.id.as_str().into() };
    let values = [
        SqlValue::BigInt(key.hash64()),
        SqlValue::Text(question.tenant.clone()),
        SqlValue::Text(question.id.clone()),
    ];
    let context = format!("read entity `{}`", entity.name);
    let rows = store::rows::query(conn, &text, params_from_iter(values), &schema);
    Ok(vec![rows.map_err(unavailable(&context))?])
}

/// The row of that key.
pub(crate) fn find_row(batch: &RecordBatch, id: &str) -> Option<usize> {
    let keys = batch.column_by_name(column::KEY)?.as_string_opt::<i32>()?;
    (0..batch.num_rows()).find(|row| keys.value(*row) == id)
}

type Shown = (Vec<(String, Box<serde_json::value::RawValue>)>, Option<i64>);

/// The key and the declared fields of a row as JSON, and when it was last updated.
fn show(
    entity: &Entity,
    batch: &RecordBatch,
    row: usize,
    reference: i64,
) -> Result<Shown, ReadError> {
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .ok_or_else(|| format!("entity `{}` has no column `{name}`", entity.name))
            .map_err(unavailable("show entity"))
    };
    let time = |name: &str| -> Result<Option<i64>, ReadError> {
        let times = column(name)?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(times.filter(|times| times.is_valid(row)).map(|times| times.value(row)))
    };
    let closed = time(column::CLOSES_AT)?.is_some_and(|closes_at| closes_at <= reference);

    let mut data = Vec::with_capacity(entity.fields.len() + 1);
    if !entity.fields.iter().any(|field| field.name == entity.key) {
        let key = column(column::KEY)?.as_string_opt::<i32>().map_or("", |keys| keys.value(row));
        data.push((entity.key.clone(), show_key(entity, key)));
    }
    for field in &entity.fields {
        let values = if closed && field.depends_on_closed {
            column(&format!("{}{}", field.name, column::CLOSED_SUFFIX))?
        } else {
            column(&field.name)?
        };
        data.push((field.name.clone(), json::value(&field.ty, values, row)));
    }
    Ok((data, time(column::UPDATED_AT)?))
}

/// Keys are stored as text; one that events give as an integer is shown as one.
fn show_key(entity: &Entity, key: &str) -> Box<serde_json::value::RawValue> {
    let integer = entity.inputs.iter().any(|input| input.key.ty == Type::Int64);
    match key.parse::<i64>() {
        Ok(number) if integer => {
            let numbers = arrow::array::PrimitiveArray::<Int64Type>::from(vec![number]);
            json::value(&Type::Int64, &numbers, 0)
        }
        _ => json::text(key),
    }
}

/// The relations that an entity stands on, itself included: what moves an answer about it.
pub(crate) fn relations_below(domain: &contracts::model::Domain, entity: usize) -> Vec<Relation> {
    let mut found = vec![Relation::Entity(entity)];
    let mut next = 0;
    while let Some(relation) = found.get(next).copied() {
        next += 1;
        let Relation::Entity(entity) = relation else { continue };
        for input in &domain.entities[entity].inputs {
            if !found.contains(&input.relation) {
                found.push(input.relation);
            }
        }
    }
    found
}
