//! What happened to one entity: the journal's events of its key, and the stage that each left it in.
//!
//! Only the journal is read. What it has given up to the lake is missing here, and [`History::is_whole`]
//! says so. Start at [`MetricEngine::history`].

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use contracts::model::{Entity, Relation, column};
use duckdb::{Connection, params, params_from_iter};
use pipeline::entity::Replay;
use pipeline::store::INGEST_APPLIED_AT;

use crate::entity::find_row;
use crate::metric::{
    Keys, MetricEngine, Scope, keys_for_one, lowest, quote, rows_to_fold, unavailable,
};
use crate::question::ReadError;
use crate::store;

/// Columns that are shown of an event.
const SHOWN: [&str; 7] = [
    column::ID,
    column::ARRIVED_AT,
    column::VERSION,
    column::LATE,
    column::PARTITION,
    column::OFFSET,
    column::WARNINGS,
];

/// Most events that one commit holds, about: where to look for the commit of an event.
const COMMIT_EVENTS: i64 = 1_000_000;

/// The events of one entity.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// In order of event time, then of position; the newest ones where there are more than were asked
    /// for.
    pub events: Vec<EntityEvent>,
    /// Are these all events that the entity was made of?
    pub is_whole: bool,
}

/// An event that changed an entity.
#[derive(Debug, Clone)]
pub struct EntityEvent {
    /// Journal sequence number.
    pub position: i64,
    /// Event id.
    pub id: String,
    /// Event type.
    pub event_type: String,
    /// Event time, µs.
    pub time: i64,
    /// When the record arrived, µs.
    pub arrived_at: i64,
    /// When it was applied, µs; `None` when that is no longer known.
    pub applied_at: Option<i64>,
    /// Version of the contract that it was read with.
    pub version: i64,
    /// Did it come late?
    pub is_late: bool,
    /// Rules of severity `warning` that it broke, with commas between them.
    pub warnings: Option<String>,
    /// Name of the source partition; empty when it is no longer known.
    pub partition: String,
    /// Offset in it.
    pub offset: i64,
    /// Index of its family.
    pub family: usize,
    /// The stage that the entity was in after this event and all before it; `None` without stages.
    pub stage: Option<String>,
}

/// One row of a family, with only the columns that are needed.
struct Row {
    family: usize,
    time: i64,
    position: i64,
    rows: RecordBatch,
}

impl MetricEngine {
    /// The newest `most` events of the entity with the key `id`.
    pub fn history(
        &self,
        entity: &Entity,
        tenant: &str,
        id: &str,
        most: usize,
    ) -> Result<History, ReadError> {
        let keys = keys_for_one(self.domain(), entity, id);
        if keys == Keys::All {
            // Its events cannot be told from those of others.
            return Ok(History::default());
        }
        let scope = Scope { tenant, before: None, known: None, keys };
        let partitions = self.partition_names()?;
        self.in_snapshot("read a history", |conn| {
            let (rows, is_cut) = self.rows(conn, entity, &scope, most)?;
            let stages = self.stages(entity, id, &rows)?;
            let mut events = Vec::with_capacity(rows.len());
            for (row, stage) in rows.iter().zip(stages) {
                let mut event = shown(row, stage, &partitions)?;
                event.applied_at = applied_at(conn, event.position)?;
                events.push(event);
            }
            let trimmed = store::trimmed::read(conn).map_err(unavailable("read a history"))?;
            let has_lost = trimmed.is_some_and(|trimmed| {
                let mut families = self.families(entity);
                families.any(|f| trimmed.families.contains_key(&self.domain().families[f].table()))
            });
            Ok(History { events, is_whole: !is_cut && !has_lost })
        })
    }

    /// The families whose events change an entity.
    fn families(&self, entity: &Entity) -> impl Iterator<Item = usize> {
        Replay::wants_of(self.domain(), entity.index).into_iter()
    }

    /// Source partitions by number.
    fn partition_names(&self) -> Result<Vec<(i64, String)>, ReadError> {
        let partitions = self.readers().partitions().map_err(unavailable("read a history"))?;
        Ok(partitions.into_iter().map(|partition| (partition.id, partition.name)).collect())
    }

    /// The newest rows in order, and whether there are more.
    fn rows(
        &self,
        conn: &Connection,
        entity: &Entity,
        scope: &Scope<'_>,
        most: usize,
    ) -> Result<(Vec<Row>, bool), ReadError> {
        let context = "read events";
        let lowest = lowest(self.domain(), entity.index);
        let mut found = Vec::new();
        for family in self.families(entity) {
            let (mut query, schema) = rows_to_fold(self.domain(), lowest, family, scope, &SHOWN)?;
            query.text.push_str(&format!(
                " order by {} desc, {} desc limit {}",
                quote(column::TIME),
                quote(column::SEQ),
                most + 1
            ));
            let values = params_from_iter(query.values);
            let rows = store::rows::query(conn, &query.text, values, &schema)
                .map_err(unavailable(context))?;
            let times = times(&rows, column::TIME).map_err(unavailable(context))?;
            let positions = numbers(&rows, column::SEQ).map_err(unavailable(context))?;
            found.extend((0..rows.num_rows()).map(|row| Row {
                family,
                time: times.value(row),
                position: positions.value(row),
                rows: rows.slice(row, 1),
            }));
        }
        found.sort_by_key(|row| (row.time, row.position));
        let more = found.len().saturating_sub(most);
        found.drain(..more);
        Ok((found, more > 0))
    }

    /// The stage after each row: the entity is folded from all rows up to it, by the folds that keep the
    /// live table.
    fn stages(
        &self,
        entity: &Entity,
        id: &str,
        rows: &[Row],
    ) -> Result<Vec<Option<String>>, ReadError> {
        let Some(stages) = &entity.stages else { return Ok(vec![None; rows.len()]) };
        let context = "fold events";
        let mut found = Vec::with_capacity(rows.len());
        for end in 1..=rows.len() {
            let mut replay = Replay::new(self.domain().clone(), entity.index);
            for row in &rows[..end] {
                replay.feed(row.family, &row.rows).map_err(unavailable(context))?;
            }
            let batches = replay.finish().map_err(unavailable(context))?;
            found.push(batches.iter().find_map(|batch| {
                let row = find_row(batch, id)?;
                let values = batch.column_by_name(&stages.field)?.as_string_opt::<i32>()?;
                values.is_valid(row).then(|| values.value(row).to_owned())
            }));
        }
        Ok(found)
    }
}

/// A row as it is shown.
fn shown(
    row: &Row,
    stage: Option<String>,
    partitions: &[(i64, String)],
) -> Result<EntityEvent, ReadError> {
    let rows = &row.rows;
    let read = || -> Result<EntityEvent, String> {
        let text = |name: &str| -> Result<Option<String>, String> {
            let values = column_of(rows, name)?.as_string_opt::<i32>().ok_or("not a text")?;
            Ok(values.is_valid(0).then(|| values.value(0).to_owned()))
        };
        let number = |name: &str| numbers(rows, name).map(|values| values.value(0));
        let is_late: &BooleanArray =
            column_of(rows, column::LATE)?.as_boolean_opt().ok_or("not a bool")?;
        let partition = number(column::PARTITION)?;
        let name = partitions.iter().find(|(id, _)| *id == partition);
        Ok(EntityEvent {
            position: row.position,
            id: text(column::ID)?.unwrap_or_default(),
            event_type: text(column::TYPE)?.unwrap_or_default(),
            time: row.time,
            arrived_at: times(rows, column::ARRIVED_AT)?.value(0),
            applied_at: None,
            version: number(column::VERSION)?,
            is_late: is_late.value(0),
            warnings: text(column::WARNINGS)?,
            partition: name.map(|(_, name)| name.clone()).unwrap_or_default(),
            offset: number(column::OFFSET)?,
            family: row.family,
            stage,
        })
    };
    read().map_err(unavailable("read events"))
}

/// When the commit with that position was applied, µs.
fn applied_at(conn: &Connection, position: i64) -> Result<Option<i64>, ReadError> {
    let sql = format!(
        "select epoch_us(min({})) from ingest where _seq >= ? and _seq < ?",
        quote(INGEST_APPLIED_AT)
    );
    conn.prepare_cached(&sql)
        .and_then(|mut statement| {
            let end = position.saturating_add(COMMIT_EVENTS);
            statement.query_row(params![position, end], |row| row.get(0))
        })
        .map_err(unavailable("find when an event was applied"))
}

fn column_of<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, String> {
    let found = rows.column_by_name(name).ok_or_else(|| format!("no column `{name}`"))?;
    Ok(found.as_ref())
}

fn numbers<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::Int64Array, String> {
    let found = column_of(rows, name)?.as_primitive_opt::<Int64Type>();
    found.ok_or_else(|| format!("column `{name}` holds no numbers"))
}

fn times<'a>(
    rows: &'a RecordBatch,
    name: &str,
) -> Result<&'a arrow::array::TimestampMicrosecondArray, String> {
    let found = column_of(rows, name)?.as_primitive_opt::<TimestampMicrosecondType>();
    found.ok_or_else(|| format!("column `{name}` holds no times"))
}

/// Columns of events that hold the key of an entity, with the contracts that have them.
pub(crate) fn key_columns<'a>(
    domain: &'a contracts::model::Domain,
    entity: &'a Entity,
) -> Vec<(usize, String)> {
    let lowest = lowest(domain, entity.index);
    let own = lowest.index == entity.index;
    let picked = match keys_for_one(domain, entity, "") {
        Keys::WithValue { columns, .. } => columns,
        _ => Vec::new(),
    };
    let inputs = lowest.inputs.iter().enumerate();
    inputs
        .filter_map(|(i, input)| {
            let Relation::Family(family) = input.relation else { return None };
            match own {
                true => Some((family, input.key.name.clone())),
                false => Some((family, picked.get(i)?.as_ref()?.name.clone())),
            }
        })
        .collect()
}
