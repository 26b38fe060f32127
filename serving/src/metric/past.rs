//! Entities as they were: folded again from the events before a reference time, or from those that were
//! known at a time.
//!
//! The journal rows are read from the asker's snapshot and go through the same folds that keep the
//! live tables ([`pipeline::entity::Replay`]). For a metric the resulting rows are put into a
//! private DuckDB in memory, where the same statement runs that a live read runs. Nothing is
//! written to the store.
//!
//! Only rows of keys that can matter are folded, where that can be proven; see [`Keys`].

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use contracts::model::{
    ColumnRef, Domain, Entity, EntityFieldKind, EntityInput, FoldOp, MetricInput, Relation, column,
};
use contracts::types::Type;
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, params_from_iter};
use pipeline::entity::Replay;

use super::check::{Resolved, timestamp};
use super::known::Known;
use super::sql::{Query, of_types, quote, sql_type};
use super::unavailable;
use crate::question::ReadError;
use crate::store;

/// Most memory that the private database of one read may take.
const MEMORY_LIMIT: &str = "512MB";

/// The end of a window without an end, µs: beyond the latest time that can be stored.
const FOREVER: i64 = 9_223_372_036_854_775_806;

/// Which keys of the lowest entity of a chain are folded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    /// All.
    All,
    /// Those with an event in the half-open window. Enough for a metric whose time is the event
    /// time of one of the entity's own events (`first`, `last`, `min` or `max` of it): if none of
    /// them lies in the window, neither does the metric's time.
    WithEventIn {
        /// Start, µs.
        start: i64,
        /// End, µs, not included.
        end: i64,
    },
    /// This one.
    One(String),
    /// Those that had an event whose column, per input of the entity, was this text. Enough for one
    /// key of an entity over an entity when the upper key is a value picked from the lower's
    /// events.
    WithValue {
        /// One column per input of the lower entity; `None` when the input has no such column.
        columns: Vec<Option<ColumnRef>>,
        /// The key of the upper entity.
        text: String,
    },
}

/// Journal rows to fold.
#[derive(Debug, Clone)]
pub(crate) struct Scope<'a> {
    /// Tenant that asks.
    pub(crate) tenant: &'a str,
    /// Only events before this time, µs.
    pub(crate) before: Option<i64>,
    /// Only events that were known then.
    pub(crate) known: Option<Known>,
    /// Which keys.
    pub(crate) keys: Keys,
}

/// Rows of `entity` folded from the events in `scope`, in [`Entity::schema`].
pub(crate) fn fold(
    conn: &Connection,
    domain: &Arc<Domain>,
    entity: usize,
    scope: &Scope<'_>,
) -> Result<Vec<RecordBatch>, ReadError> {
    let mut replay = Replay::new(domain.clone(), entity);
    let lowest = lowest(domain, entity);
    for family in replay.wants() {
        let (query, schema) = rows_to_fold(domain, lowest, family, scope, &[])?;
        let mut folded = Ok(());
        let values = params_from_iter(query.values);
        store::rows::stream(conn, &query.text, values, &schema, |rows| {
            if folded.is_ok() {
                folded = replay.feed(family, rows);
            }
        })
        .map_err(unavailable("read events"))?;
        folded.map_err(unavailable("fold events"))?;
    }
    replay.finish().map_err(unavailable("fold events"))
}

/// The entity at the bottom of the chain, which is folded from events.
pub(crate) fn lowest(domain: &Domain, mut entity: usize) -> &Entity {
    loop {
        let inputs = &domain.entities[entity].inputs;
        match inputs.iter().find_map(|input| match input.relation {
            Relation::Entity(below) => Some(below),
            _ => None,
        }) {
            Some(below) => entity = below,
            None => return &domain.entities[entity],
        }
    }
}

/// The rows of `family` that `entity` is folded from, with only the columns that the fold reads, and
/// `more` of those that every journal row has.
pub(crate) fn rows_to_fold(
    domain: &Domain,
    entity: &Entity,
    family: usize,
    scope: &Scope<'_>,
    more: &[&'static str],
) -> Result<(Query, SchemaRef), ReadError> {
    let relation = Relation::Family(family);
    let inputs: Vec<&EntityInput> =
        entity.inputs.iter().filter(|input| input.relation == relation).collect();
    let mut columns = columns_to_fold(entity, family);
    columns.extend(more);
    let stored = domain.families[family].schema();
    let indices: Vec<usize> = columns
        .iter()
        .map(|name| stored.index_of(name))
        .collect::<Result<_, _>>()
        .map_err(unavailable("read events"))?;
    let schema = stored.project(&indices).map_err(unavailable("read events"))?;
    let columns: Vec<String> = columns.into_iter().map(quote).collect();

    let mut query = Query::default();
    let tenant = query.bind(SqlValue::Text(scope.tenant.to_owned()));
    let bounds = bounds(&mut query, scope);
    // No order is asked for: a fold does not depend on it, and sorting would hold all rows at once.
    query.text = format!(
        "select {} from {} where {} = {tenant}{bounds}",
        columns.join(", "),
        quote(&domain.families[family].table()),
        quote(column::TENANT),
    );
    if scope.keys != Keys::All {
        let mut chosen = Vec::with_capacity(inputs.len());
        for input in &inputs {
            let keys = keys(&mut query, domain, entity, scope);
            let types = of_types(&mut query, &input.event_types);
            chosen.push(format!("({} {keys}{types})", key_text(&input.key)));
        }
        query.text.push_str(&format!(" and ({})", chosen.join(" or ")));
    }
    Ok((query, Arc::new(schema)))
}

/// The columns of `family` that the fold of `entity` reads.
pub(crate) fn columns_to_fold(entity: &Entity, family: usize) -> BTreeSet<&str> {
    let mut columns: BTreeSet<&str> =
        [column::SEQ, column::TENANT, column::TYPE, column::TIME, column::ABSENT].into();
    for input in entity.inputs.iter().filter(|i| i.relation == Relation::Family(family)) {
        columns.insert(&input.key.name);
        columns.extend(input.filter.iter().map(|filter| filter.name.as_str()));
        for arg in input.args.iter().flatten() {
            columns.insert(&arg.value.name);
            columns.extend(arg.by.iter().map(|by| by.name.as_str()));
        }
    }
    columns
}

/// `and …` for each bound of `scope`.
fn bounds(query: &mut Query, scope: &Scope<'_>) -> String {
    let mut text = String::new();
    if let Some(before) = scope.before {
        let before = query.bind(timestamp(before));
        text.push_str(&format!(" and {} < {before}", quote(column::TIME)));
    }
    if let Some(known) = scope.known {
        let position = query.bind(SqlValue::BigInt(known.position));
        text.push_str(&format!(" and {} <= {position}", quote(column::SEQ)));
    }
    text
}

/// `= …` or `in (…)`: the keys of `scope`.
fn keys(query: &mut Query, domain: &Domain, entity: &Entity, scope: &Scope<'_>) -> String {
    let mut selects = Vec::new();
    for (i, input) in entity.inputs.iter().enumerate() {
        let Relation::Family(family) = input.relation else { continue };
        let chosen = match &scope.keys {
            Keys::One(key) => return format!("= {}", query.bind(SqlValue::Text(key.clone()))),
            Keys::All => "true".to_owned(),
            Keys::WithEventIn { start, end } => {
                let time = quote(column::TIME);
                let (start, end) = (query.bind(timestamp(*start)), query.bind(timestamp(*end)));
                format!("{time} >= {start} and {time} < {end}")
            }
            Keys::WithValue { columns, text } => match columns.get(i) {
                Some(Some(column)) => {
                    let text = query.bind(SqlValue::Text(text.clone()));
                    format!("{} = {text}", key_text(column))
                }
                _ => continue,
            },
        };
        let tenant = query.bind(SqlValue::Text(scope.tenant.to_owned()));
        let bounds = bounds(query, scope);
        let types = of_types(query, &input.event_types);
        selects.push(format!(
            "select {} from {} where {} = {tenant}{bounds}{types} and {chosen}",
            key_text(&input.key),
            quote(&domain.families[family].table()),
            quote(column::TENANT),
        ));
    }
    if selects.is_empty() {
        return "is null and false".to_owned();
    }
    format!("in ({})", selects.join(" union all "))
}

/// A key column as text, as the fold writes it.
pub(super) fn key_text(column: &ColumnRef) -> String {
    match column.ty {
        Type::String => quote(&column.name),
        _ => format!("{}::varchar", quote(&column.name)),
    }
}

/// The keys that can matter to all of `inputs`, which stand on `entity`.
pub(crate) fn keys_for_metrics<'a>(
    entity: &Entity,
    mut inputs: impl Iterator<Item = &'a MetricInput>,
    question: &Resolved<'_>,
) -> Keys {
    let over_events = entity.inputs.iter().all(|i| matches!(i.relation, Relation::Family(_)));
    match (question.start(), question.as_of.or(question.known_at.map(|_| FOREVER))) {
        (Some(start), Some(end))
            if over_events && inputs.all(|input| is_event_time(entity, &input.time)) =>
        {
            Keys::WithEventIn { start, end }
        }
        _ => Keys::All,
    }
}

/// Is the column the event time of one of the entity's own events?
fn is_event_time(entity: &Entity, time: &ColumnRef) -> bool {
    use FoldOp::{First, Last, Max, Min};
    if time.name == column::UPDATED_AT {
        return true;
    }
    let Some((fold, (_, op, _))) =
        entity.folds().enumerate().find(|(_, (field, ..))| entity.fields[*field].name == time.name)
    else {
        return false;
    };
    matches!(op, First | Last | Min | Max)
        && entity.inputs.iter().all(|input| match input.args.get(fold) {
            Some(Some(arg)) => arg.value.name == column::TIME,
            _ => true,
        })
}

/// The keys at the bottom that can matter to one key of `entity`.
pub(crate) fn keys_for_one(domain: &Domain, entity: &Entity, key: &str) -> Keys {
    let mut above = entity.inputs.iter().filter_map(|input| match input.relation {
        Relation::Entity(below) => Some((below, &input.key)),
        _ => None,
    });
    let Some((below, upper_key)) = above.next() else { return Keys::One(key.to_owned()) };
    let below = &domain.entities[below];
    let picked = below.fields.iter().find(|field| field.name == upper_key.name).is_some_and(|f| {
        // A sum or a count is no value of any one event.
        matches!(
            f.kind,
            EntityFieldKind::Fold(
                FoldOp::First
                    | FoldOp::Last
                    | FoldOp::Min
                    | FoldOp::Max
                    | FoldOp::Mode
                    | FoldOp::ArgMax
                    | FoldOp::ArgMin
            )
        )
    });
    let over_events = below.inputs.iter().all(|i| matches!(i.relation, Relation::Family(_)));
    if !picked || !over_events || above.next().is_some() {
        return Keys::All;
    }
    let fold = below.folds().position(|(field, ..)| below.fields[field].name == upper_key.name);
    let columns = below
        .inputs
        .iter()
        .map(|input| {
            fold.and_then(|fold| input.args.get(fold)?.as_ref()).map(|arg| arg.value.clone())
        })
        .collect();
    Keys::WithValue { columns, text: key.to_owned() }
}

/// A private database in memory for the folded rows of one read.
pub(crate) fn database() -> Result<Connection, ReadError> {
    let config = duckdb::Config::default()
        .max_memory(MEMORY_LIMIT)
        .and_then(|config| config.threads(1))
        .and_then(|config| config.enable_external_access(false))
        .and_then(|config| config.enable_autoload_extension(false))
        .map_err(unavailable("configure a database in memory"))?;
    Connection::open_in_memory_with_flags(config).map_err(unavailable("open a database in memory"))
}

/// Puts folded rows into a table of the entity's name, without the state.
pub(crate) fn load(
    database: &Connection,
    entity: &Entity,
    batches: &[RecordBatch],
) -> Result<(), ReadError> {
    let context = "load folded rows";
    let mut columns = vec![
        (column::TENANT.to_owned(), Type::String),
        (column::KEY.to_owned(), Type::String),
        (column::UPDATED_AT.to_owned(), Type::Timestamp),
        (column::UPDATED_SEQ.to_owned(), Type::Int64),
        (column::CLOSES_AT.to_owned(), Type::Timestamp),
    ];
    let fields = entity.fields.iter().map(|f| (&f.name, &f.ty, f.depends_on_closed));
    let computed = entity.computed.iter().map(|c| (&c.name, c.expr.ty(), c.depends_on_closed));
    for (name, ty, twin) in fields.chain(computed) {
        columns.push((name.clone(), ty.clone()));
        if twin {
            columns.push((format!("{name}{}", column::CLOSED_SUFFIX), ty.clone()));
        }
    }
    let definitions: Vec<String> =
        columns.iter().map(|(name, ty)| format!("{} {}", quote(name), sql_type(ty))).collect();
    let table = entity.table();
    database
        .execute_batch(&format!("create table {} ({})", quote(&table), definitions.join(", ")))
        .map_err(unavailable(context))?;
    let mut appender = database.appender(&table).map_err(unavailable(context))?;
    for batch in batches {
        let indices = columns
            .iter()
            .map(|(name, _)| batch.schema().index_of(name))
            .collect::<Result<Vec<_>, _>>()
            .map_err(unavailable(context))?;
        let batch = batch.project(&indices).map_err(unavailable(context))?;
        appender.append_record_batch(batch).map_err(unavailable(context))?;
    }
    appender.flush().map_err(unavailable(context))
}
