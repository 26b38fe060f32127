//! Statements over journals that have given up rows: a private database with all that they read.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use contracts::model::{Entity, column};
use duckdb::Connection;

use super::guard::{Guarded, Source};
use crate::metric::{Beyond, Plan, Timed, quote, unavailable};
use crate::question::ReadError;
use crate::store::{self, Readers};

/// A database with the rows of all relations of `statement`; `None` when the reader's snapshot has all of
/// them. Rows of journals come from the lake and from `conn`, which is a snapshot of the store.
pub(super) fn database(
    conn: &Connection,
    readers: &Readers,
    statement: &Guarded,
    limit: Duration,
) -> Result<Option<Timed>, ReadError> {
    let context = "read what the journal has given up";
    let Some(trimmed) = store::trimmed::read(conn).map_err(unavailable(context))? else {
        return Ok(None);
    };
    let journals = statement.relations.iter().filter_map(|relation| match relation.source {
        Source::Family(family) => {
            let columns = relation.columns.iter().flat_map(|column| &column.stored);
            Some((family, columns.map(String::as_str).collect()))
        }
        Source::Entity(_) => None,
    });
    let plan = Plan::of_journals(journals);
    let beyond = Beyond::within(limit, readers.domain(), readers, trimmed);
    let database = beyond
        .database(conn, &plan, &statement.tenant, None)
        .map_err(|error| beyond.explain(error))?;
    for relation in &statement.relations {
        if let Source::Entity(index) = relation.source {
            let stored = relation.columns.iter().flat_map(|column| &column.stored);
            let columns: Vec<&str> = stored.map(String::as_str).collect();
            let entity = &readers.domain().entities[index];
            load(conn, &database, entity, &columns, &statement.tenant)
                .map_err(|error| beyond.explain(error))?;
        }
    }
    Ok(Some(database))
}

/// The current rows of an entity as they are in the store.
fn load(
    conn: &Connection,
    database: &Connection,
    entity: &Entity,
    columns: &[&str],
    tenant: &str,
) -> Result<(), ReadError> {
    let context = format!("load entity `{}`", entity.name);
    let schema = part_of(&entity.schema(), columns);
    let table = entity.table();
    let create = store::create_table(&table, &schema).map_err(unavailable(&context))?;
    database.execute_batch(&create).map_err(unavailable(&context))?;
    let names: Vec<String> = schema.fields().iter().map(|field| quote(field.name())).collect();
    let sql = format!(
        "select {} from {} where {} = ?",
        names.join(", "),
        quote(&table),
        quote(column::TENANT)
    );
    let mut appender = database.appender(&table).map_err(unavailable(&context))?;
    let mut failed = Ok(());
    store::rows::stream(conn, &sql, [tenant], &schema, |rows: &RecordBatch| {
        if failed.is_ok() {
            failed = appender.append_record_batch(rows.clone());
        }
    })
    .and(failed)
    .and_then(|()| appender.flush())
    .map_err(unavailable(&context))
}

/// The tenant and these columns.
fn part_of(schema: &Schema, columns: &[&str]) -> SchemaRef {
    let wanted = |name: &str| name == column::TENANT || columns.contains(&name);
    let fields = schema.fields().iter().filter(|field| wanted(field.name())).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
