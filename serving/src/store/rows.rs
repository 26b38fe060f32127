//! Rows out of DuckDB as Arrow batches in a schema of ours.
//!
//! The wrapper's Arrow iterator panics when DuckDB fails half-way through a result, so results are
//! stepped through by hand here. DuckDB also has its own ideas about nested names (the element of
//! a list) and nullability; every batch leaves in exactly the schema that was asked for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::SchemaRef;
use duckdb::{Connection, Params, Statement};

/// Runs a query and returns its rows in one batch of `schema`, whose columns the query must select
/// in that order.
///
/// The connection keeps the statement prepared; see [`query_once`] for texts with values in them.
pub(crate) fn query(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    schema: &SchemaRef,
) -> duckdb::Result<RecordBatch> {
    run(&mut *conn.prepare_cached(sql)?, params, schema)
}

/// The same for a text that does not come again.
pub(crate) fn query_once(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    schema: &SchemaRef,
) -> duckdb::Result<RecordBatch> {
    run(&mut conn.prepare(sql)?, params, schema)
}

fn run(
    statement: &mut Statement<'_>,
    params: impl Params,
    schema: &SchemaRef,
) -> duckdb::Result<RecordBatch> {
    // The iterator would panic on an error and is dropped unused; `step` reads the same result.
    let _ = statement.query_arrow(params)?;
    let mut batches = Vec::new();
    while let Some(chunk) = statement.step()? {
        batches.push(conform(&chunk, schema)?);
    }
    match batches.len() {
        1 => Ok(batches.remove(0)),
        _ => concat_batches(schema, &batches).map_err(conversion),
    }
}

/// Runs a query and hands its rows over chunk by chunk, never holding all of them.
pub(crate) fn stream(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    schema: &SchemaRef,
    each: impl FnMut(&RecordBatch),
) -> duckdb::Result<()> {
    step_through(&mut conn.prepare(sql)?, params, schema, each)
}

/// The same; the connection keeps the statement prepared.
pub(crate) fn stream_again(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    schema: &SchemaRef,
    each: impl FnMut(&RecordBatch),
) -> duckdb::Result<()> {
    step_through(&mut *conn.prepare_cached(sql)?, params, schema, each)
}

fn step_through(
    statement: &mut Statement<'_>,
    params: impl Params,
    schema: &SchemaRef,
    mut each: impl FnMut(&RecordBatch),
) -> duckdb::Result<()> {
    let _ = statement.stream_arrow(params)?;
    while let Some(chunk) = statement.step()? {
        each(&conform(&chunk, schema)?);
    }
    Ok(())
}

/// The chunk in `schema`: same values, our names and types.
fn conform(chunk: &StructArray, schema: &SchemaRef) -> duckdb::Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = chunk
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| -> duckdb::Result<ArrayRef> {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast_with_options(column, field.data_type(), &strict).map_err(conversion)
            }
        })
        .collect::<duckdb::Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(conversion)
}

/// An Arrow error on the way out of DuckDB.
pub(super) fn conversion(error: arrow::error::ArrowError) -> duckdb::Error {
    duckdb::Error::FromSqlConversionFailure(0, duckdb::types::Type::Any, Box::new(error))
}
