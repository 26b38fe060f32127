//! What an entity's row was made of: the events that are in it, where each came from, and when it was
//! applied.

use std::fmt::Write;

use contracts::model::{Domain, Entity, EntityInput, Relation};
use duckdb::types::Value as SqlValue;
use duckdb::{Connection, Row, params_from_iter};
use pipeline::store::EntityKey;

use super::past::key_text;
use super::sql::{Query, of_types, quote};
use super::{MetricEngine, unavailable};
use crate::question::ReadError;

/// What an entity's row was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// Index of the entity.
    pub(crate) entity: usize,
    /// Position of the last event that changed it.
    pub(crate) updated_seq: i64,
    /// Highest event time that was applied, µs.
    pub(crate) updated_at: i64,
    /// How many events of the journal are in it.
    pub(crate) total: u64,
    /// The newest of them, newest first.
    pub(crate) events: Vec<BuiltOf>,
    /// Events up to this position may be in it that are in the lake only, and are not counted.
    pub(crate) given_up_until: Option<i64>,
}

/// An event that is in an entity's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltOf {
    pub(crate) seq: i64,
    pub(crate) family: usize,
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) version: u32,
    /// Number of its source partition.
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    /// µs.
    pub(crate) arrived_at: i64,
    /// µs; `None` when the commit's time is in the lake only.
    pub(crate) applied_at: Option<i64>,
}

impl MetricEngine {
    /// The row of an entity and the newest `most` events that are in it.
    pub(crate) fn built(
        &self,
        name: &str,
        tenant: &str,
        id: &str,
        most: usize,
    ) -> Result<Built, ReadError> {
        let entity = self.find_entity(name, None)?;
        let domain = self.domain();
        let mut built = self.in_snapshot("read what an entity is made of", |conn| {
            let (updated_seq, updated_at) =
                row(conn, entity, tenant, id)?.ok_or_else(|| ReadError::NotFound {
                    message: format!("no `{name}` has the key `{id}`"),
                    hint: None,
                })?;
            let (mut total, mut newest) = (0, Vec::new());
            for (family, mut query) in fed_by(domain, entity, tenant, id) {
                // DuckDB wants a constant here.
                query.text = query.text.replacen("{}", &format!("count(*), max(_seq, {most})"), 1);
                let (count, seqs) = counted(conn, &query).map_err(unavailable("count events"))?;
                total += count;
                newest.extend(seqs.into_iter().map(|seq| (seq, family)));
            }
            newest.sort_unstable_by(|a, b| b.cmp(a));
            newest.truncate(most);
            let events = events(conn, domain, &newest).map_err(unavailable("read events"))?;
            let entity = entity.index;
            Ok(Built { entity, updated_seq, updated_at, total, events, given_up_until: None })
        })?;
        // Asked afterwards: it is never behind what the snapshot saw.
        if let Some(trimmed) = self.readers.trimmed() {
            let families = families(domain, entity);
            let gone = families.iter().filter_map(|family| {
                Some(trimmed.families.get(&domain.families[*family].table())?.seq)
            });
            built.given_up_until = gone.max();
        }
        Ok(built)
    }
}

/// Last position and highest event time of the entity's row.
fn row(
    conn: &Connection,
    entity: &Entity,
    tenant: &str,
    id: &str,
) -> Result<Option<(i64, i64)>, ReadError> {
    let sql = format!(
        "select _updated_seq, epoch_us(_updated_at) from {}
         where _key_hash = $1 and _tenant = $2 and _key = $3",
        quote(&entity.table())
    );
    let key = EntityKey { tenant: tenant.into(), key: id.into() };
    let values = [
        SqlValue::BigInt(key.hash64()),
        SqlValue::Text(tenant.to_owned()),
        SqlValue::Text(id.to_owned()),
    ];
    let find = || -> duckdb::Result<Option<(i64, i64)>> {
        let mut statement = conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values.clone()))?;
        rows.next()?.map(|row| Ok((row.get(0)?, row.get(1)?))).transpose()
    };
    find().map_err(unavailable("read an entity"))
}

/// The families at the bottom of an entity.
fn families(domain: &Domain, entity: &Entity) -> Vec<usize> {
    let mut found = Vec::new();
    for input in &entity.inputs {
        match input.relation {
            Relation::Family(family) => found.push(family),
            Relation::Entity(below) => found.extend(families(domain, &domain.entities[below])),
            Relation::Ingest => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// By family, the statement over the events that are in the row of a key; `{}` stands for what it
/// selects. Of an entity over entities: the events of those that name the key now.
fn fed_by(domain: &Domain, entity: &Entity, tenant: &str, id: &str) -> Vec<(usize, Query)> {
    let statement = |family: usize| {
        let mut query = Query::default();
        let mut chosen = Vec::new();
        let key = |query: &mut Query| format!("= {}", query.bind(SqlValue::Text(id.to_owned())));
        chosen_by(&mut query, domain, entity, (family, tenant), &key, &mut chosen);
        let tenant = query.bind(SqlValue::Text(tenant.to_owned()));
        query.text = format!(
            "select {{}} from {} where _tenant = {tenant} and ({})",
            quote(&domain.families[family].table()),
            chosen.join(" or ")
        );
        (family, query)
    };
    families(domain, entity).into_iter().map(statement).collect()
}

/// Writes one condition for each way from the family to the keys of `entity` that `keys` names.
fn chosen_by(
    query: &mut Query,
    domain: &Domain,
    entity: &Entity,
    (family, tenant): (usize, &str),
    keys: &dyn Fn(&mut Query) -> String,
    chosen: &mut Vec<String>,
) {
    let is_named = |query: &mut Query, input: &EntityInput| {
        let mut text = format!("{} {}", key_text(&input.key), keys(query));
        if let Some(filter) = &input.filter {
            // Writing to a text does not fail.
            let _ = write!(text, " and {}", quote(&filter.name));
        }
        text
    };
    for input in &entity.inputs {
        match input.relation {
            Relation::Family(of) if of == family => {
                let named = is_named(query, input);
                let types = of_types(query, &input.event_types);
                chosen.push(format!("({named}{types})"));
            }
            Relation::Entity(below) => {
                let below = &domain.entities[below];
                let lower = |query: &mut Query| {
                    let named = is_named(query, input);
                    let tenant = query.bind(SqlValue::Text(tenant.to_owned()));
                    let table = quote(&below.table());
                    format!("in (select _key from {table} where _tenant = {tenant} and {named})")
                };
                chosen_by(query, domain, below, (family, tenant), &lower, chosen);
            }
            _ => {}
        }
    }
}

fn counted(conn: &Connection, query: &Query) -> duckdb::Result<(u64, Vec<i64>)> {
    let mut statement = conn.prepare(&query.text)?;
    statement.query_row(params_from_iter(query.values.clone()), |row| {
        let seqs = match row.get::<_, SqlValue>(1)? {
            SqlValue::List(seqs) => seqs
                .into_iter()
                .filter_map(|seq| match seq {
                    SqlValue::BigInt(seq) => Some(seq),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        Ok((row.get(0)?, seqs))
    })
}

/// The events at these positions, in their order.
fn events(
    conn: &Connection,
    domain: &Domain,
    newest: &[(i64, usize)],
) -> duckdb::Result<Vec<BuiltOf>> {
    let mut selects = Vec::new();
    for family in &domain.families {
        let of_family = newest.iter().filter(|(_, of)| *of == family.index);
        let seqs: Vec<String> = of_family.map(|(seq, _)| seq.to_string()).collect();
        if seqs.is_empty() {
            continue;
        }
        selects.push(format!(
            "select _seq, {} as family, _id, _type, _version, _partition, _offset, _arrived_at
             from {} where _seq in ({})",
            family.index,
            quote(&family.table()),
            seqs.join(",")
        ));
    }
    let Some((oldest, _)) = newest.last() else { return Ok(Vec::new()) };
    // The commit of an event is the first that ends at or after it.
    let sql = format!(
        "select e._seq, family, _id, _type, _version, _partition, _offset,
                epoch_us(_arrived_at), epoch_us(applied)
         from ({}) e asof left join
              (select _seq as ends, min(_applied_at) as applied from ingest where _seq >= {oldest}
               group by _seq) i
              on e._seq <= i.ends
         order by e._seq desc",
        selects.join(" union all ")
    );
    let mut statement = conn.prepare(&sql)?;
    let read = |row: &Row<'_>| {
        Ok(BuiltOf {
            seq: row.get(0)?,
            family: row.get::<_, i32>(1)? as usize,
            id: row.get(2)?,
            event_type: row.get(3)?,
            version: row.get::<_, i64>(4)? as u32,
            partition: row.get(5)?,
            offset: row.get(6)?,
            arrived_at: row.get(7)?,
            applied_at: row.get(8)?,
        })
    };
    statement.query_map([], read)?.collect()
}
