//! Reads what state keeps of single minutes and hours beside its cells: their rows, and their different values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use contracts::model::{Domain, Metric, Relation, ingest};
use contracts::types::Type;
use duckdb::{Connection, params_from_iter};

use super::check::Resolved;
use super::sql::{Bounds, Query, Source, quote, rows};
use super::unavailable;
use crate::question::ReadError;
use crate::state::{
    ARGUMENT, Ask, Block, Bucket, Distinct, Gathered, HOUR, Hours, Keeper, MINUTE, Piece, Spec,
    TIME, WEIGHT, dimension,
};
use crate::store;

/// The rows of a metric in a minute or hour; `None`: they are not as the state expects.
pub(super) fn block(
    conn: &Connection,
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    spec: &Spec,
    bucket: Bucket,
) -> Result<Option<Block>, ReadError> {
    let Some(span) = bucket.span() else { return Ok(None) };
    let (query, schema) = statement(domain, metric, question, span, spec.dimensions);
    let rows = store::rows::query(conn, &query.text, params_from_iter(query.values), &schema)
        .map_err(unavailable("read the rows of a span of time"))?;
    Ok(Block::of(spec, &rows))
}

/// How many different values there are in the window of `hours`; those of whole hours are kept.
pub(super) fn distinct(
    conn: &Connection,
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    keeper: &Keeper,
    (ask, mut hours): (&Ask<'_>, Hours),
) -> Result<Option<u64>, ReadError> {
    let argument = metric.inputs.iter().find_map(|input| input.arg.as_ref());
    let Some(ty) = argument.map(|argument| &argument.ty) else { return Ok(None) };
    // Hours next to one another are read at once.
    for run in hours.missing.chunk_by(|hour, next| hour + 1 == *next) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let ends = [Bucket::Hour(*first).span(), Bucket::Hour(*last).span()];
        let [Some((from, _)), Some((_, to))] = ends else { return Ok(None) };
        let found = gathered(conn, domain, metric, question, (from, to), ty, |time| {
            time.div_euclid(HOUR * MINUTE)
        })?;
        for (hour, values) in found {
            let values = Arc::new(values.finish());
            keeper.hold(ask, Bucket::Hour(hour), Piece::Values(Arc::clone(&values)));
            hours.held.push(values);
        }
    }
    let mut edges = Vec::new();
    for edge in hours.edges {
        let found = gathered(conn, domain, metric, question, edge, ty, |_| 0)?;
        edges.extend(found.into_values().map(Gathered::finish));
    }
    let sets = hours.held.iter().map(|values| &**values).chain(&edges);
    Ok(Some(Distinct::count(sets)))
}

/// The values of the rows of a span, apart by what `apart` makes of their times.
fn gathered(
    conn: &Connection,
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    span: (i64, i64),
    ty: &Type,
    apart: impl Fn(i64) -> i64,
) -> Result<BTreeMap<i64, Gathered>, ReadError> {
    let (query, schema) = statement(domain, metric, question, span, 0);
    let mut found = BTreeMap::new();
    let mut put = |rows: &RecordBatch| {
        let column = |name: &str| rows.column_by_name(name);
        let times = column(TIME).and_then(|times| times.as_primitive_opt::<Int64Type>());
        let (Some(times), Some(values)) = (times, column(ARGUMENT)) else { return };
        let mut latest: Option<(i64, Gathered)> = None;
        for row in (0..rows.num_rows()).filter(|row| times.is_valid(*row)) {
            let key = apart(times.value(row));
            if latest.as_ref().is_none_or(|(known, _)| *known != key) {
                found.extend(latest.take());
                latest = Some((key, found.remove(&key).unwrap_or_else(|| Gathered::new(ty))));
            }
            if let Some((_, own)) = &mut latest {
                own.put(values, row);
            }
        }
        found.extend(latest);
    };
    store::rows::stream_again(conn, &query.text, params_from_iter(query.values), &schema, &mut put)
        .map_err(unavailable("read the values of a span of time"))?;
    Ok(found)
}

/// The statement over the rows of a metric in a span, with `dimensions` of them, and the schema of its columns.
fn statement(
    domain: &Domain,
    metric: &Metric,
    question: &Resolved<'_>,
    (from, to): (i64, i64),
    dimensions: usize,
) -> (Query, SchemaRef) {
    let mut query = Query::default();
    let question = Resolved { span: Some((from, to)), as_of: None, ..question.clone() };
    let bounds = Bounds { start: Some(from), ends: vec![to] };
    let dimensions = || metric.dimensions.iter().take(dimensions);
    let is_weighted = metric.inputs.iter().any(|input| input.relation == Relation::Ingest);
    let mut selects = Vec::new();
    for input in &metric.inputs {
        let source = Source::of(input, &question);
        let mut columns =
            vec![format!("epoch_us({}) as {TIME}", source.column(&mut query, &input.time))];
        for (place, own) in dimensions().enumerate() {
            let value = source.dimension(&mut query, metric, input, &own.name);
            columns.push(format!("{value} as {}", dimension(place)));
        }
        if let Some(arg) = &input.arg {
            columns.push(format!("{} as {ARGUMENT}", source.column(&mut query, arg)));
        }
        if is_weighted {
            columns.push(format!("{} as {WEIGHT}", quote(ingest::N)));
        }
        selects.push(rows(&mut query, domain, input, &question, None, (&columns, &bounds)));
    }
    query.text = selects.join(" union all ");
    let mut fields = vec![Field::new(TIME, DataType::Int64, true)];
    // Of all inputs they have the same types.
    let columns = metric.inputs.first().map_or(&[][..], |input| &input.dimensions);
    let columns = columns.iter().zip(dimensions()).enumerate();
    fields.extend(columns.map(|(p, (own, _))| Field::new(dimension(p), own.ty.arrow(), true)));
    if let Some(arg) = metric.inputs.iter().find_map(|input| input.arg.as_ref()) {
        fields.push(Field::new(ARGUMENT, arg.ty.arrow(), true));
    }
    if is_weighted {
        fields.push(Field::new(WEIGHT, DataType::Int64, true));
    }
    (query, Arc::new(Schema::new(fields)))
}
