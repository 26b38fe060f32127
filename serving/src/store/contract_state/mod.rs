//! Contracts that changed since the directory was written: what has to be done about it.
//!
//! The table `contract_state` records under which definitions the stored rows were made. [`plan()`]
//! compares it with the contracts of today and decides, as a function of nothing else, what has to be
//! done; [`beside`] which of it may be done while the store is in use.

pub(super) mod beside;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Computed, Domain, EnrichValue, Entity, Family, column};
use duckdb::{Connection, params};
use pipeline::store::StoreError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use self::beside::metric_key;
pub(super) use self::plan::{FieldBefore, Fill, Filled, Step, plan};
use super::error::failed;

/// Under what kind, name and version a definition is recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub kind: &'static str,
    pub name: String,
    /// 0 for an event contract: all versions share one table.
    pub version: i64,
}

/// What stored rows were made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    /// Hash of the contract, 16 hex digits.
    pub hash: String,
    /// Columns that the contract decides.
    pub columns: Vec<Column>,
}

/// A recorded column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: String,
    pub role: Role,
    /// Where its values come from; for a field of the record, which versions have it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub definition: String,
}

/// Who decides a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The record. The order of these is the order of the bits in `_absent`.
    Field,
    /// The hash over the record's fields.
    Body,
    /// The contract's `enrich`.
    Enriched,
    /// Metrics and entities that need an expression over the row.
    Computed,
}

pub(super) const EVENT: &str = "event";
pub(super) const ENTITY: &str = "entity";
pub(super) const METRIC: &str = "metric";
pub(super) const INGEST: &str = "ingest";

/// Definitions by key.
pub(super) type Definitions = BTreeMap<Key, Definition>;

/// The definitions of a domain.
pub(super) fn definitions(domain: &Domain) -> Definitions {
    let mut all = Definitions::new();
    for family in &domain.families {
        all.insert(event_key(family), of_family(family));
    }
    for entity in &domain.entities {
        all.insert(entity_key(entity), of_entity(entity));
    }
    for metric in &domain.metrics {
        all.insert(metric_key(metric), Definition { hash: hex(metric.hash), columns: Vec::new() });
    }
    let columns = domain.ingest.computed.iter().map(computed_column).collect();
    all.insert(ingest_key(), Definition { hash: String::new(), columns });
    all
}

pub(super) fn event_key(family: &Family) -> Key {
    Key { kind: EVENT, name: family.name.clone(), version: 0 }
}

pub(super) fn entity_key(entity: &Entity) -> Key {
    Key { kind: ENTITY, name: entity.name.clone(), version: i64::from(entity.version) }
}

pub(super) fn ingest_key() -> Key {
    Key { kind: INGEST, name: INGEST.into(), version: 0 }
}

fn of_family(family: &Family) -> Definition {
    let mut hashes = Vec::new();
    let mut body = String::new();
    for version in &family.versions {
        hashes.extend_from_slice(&version.hash.to_be_bytes());
        let fields: Vec<&str> = version.fields.iter().map(|field| field.name.as_str()).collect();
        body.push_str(&format!("v{}({}) ", version.version, fields.join(",")));
    }
    let plain = |name: &str, ty: String, role, definition| Column {
        name: name.to_owned(),
        ty,
        role,
        definition,
    };
    let mut columns: Vec<Column> = family
        .fields
        .iter()
        .map(|def| {
            plain(&def.name, def.ty.to_string(), Role::Field, versions_with(family, &def.name))
        })
        .collect();
    columns.push(plain(column::BODY, "int64".into(), Role::Body, body));
    columns.extend(family.enriched.iter().map(|def| {
        let definition = enrich_definition(family, &def.name);
        plain(&def.name, def.ty.to_string(), Role::Enriched, definition)
    }));
    columns.extend(family.computed.iter().map(computed_column));
    Definition { hash: hex(xxh3_64(&hashes)), columns }
}

/// The versions that have a field, comma separated.
fn versions_with(family: &Family, name: &str) -> String {
    let versions = family.versions.iter();
    let with = versions.filter(|version| version.fields.iter().any(|field| field.name == name));
    with.map(|version| version.version.to_string()).collect::<Vec<_>>().join(",")
}

/// How each version makes an enriched column. A lookup is as known when the event was applied, so
/// it cannot be made again and its text takes no part.
fn enrich_definition(family: &Family, name: &str) -> String {
    let mut text = String::new();
    for version in &family.versions {
        for enrich in version.enrich.iter().filter(|enrich| enrich.name == name) {
            let how = match &enrich.value {
                EnrichValue::Expr(expr) => expr.canonical(),
                EnrichValue::Lookup { .. } => "lookup",
            };
            text.push_str(&format!("v{}({how}) ", version.version));
        }
    }
    text
}

fn of_entity(entity: &Entity) -> Definition {
    let mut columns: Vec<Column> = entity
        .fields
        .iter()
        .map(|field| Column {
            name: field.name.clone(),
            ty: field.ty.to_string(),
            role: Role::Field,
            definition: String::new(),
        })
        .collect();
    columns.extend(entity.computed.iter().map(computed_column));
    Definition { hash: hex(entity.hash), columns }
}

fn computed_column(computed: &Computed) -> Column {
    Column {
        name: computed.name.clone(),
        ty: computed.expr.ty().to_string(),
        role: Role::Computed,
        definition: computed.expr.canonical().to_owned(),
    }
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Reads what is recorded.
pub(super) fn load(conn: &Connection) -> Result<Definitions, StoreError> {
    let context = "read which contracts the store was written with";
    let mut statement = conn
        .prepare("select kind, name, version, hash, columns from contract_state")
        .map_err(|e| failed(context, &e))?;
    let rows = statement
        .query_map([], |row| {
            let row: (String, String, i64, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            Ok(row)
        })
        .map_err(|e| failed(context, &e))?;
    let mut all = Definitions::new();
    for row in rows {
        let (kind, name, version, hash, columns) = row.map_err(|e| failed(context, &e))?;
        // A kind that this release does not know is none of its business.
        let Some(kind) = [EVENT, ENTITY, METRIC, INGEST].into_iter().find(|k| *k == kind) else {
            continue;
        };
        let columns = serde_json::from_str(&columns).map_err(|error| {
            StoreError::Corrupt(format!("recorded columns of {kind} `{name}`: {error}"))
        })?;
        all.insert(Key { kind, name, version }, Definition { hash, columns });
    }
    Ok(all)
}

/// Records one definition in the running transaction.
pub(super) fn save(conn: &Connection, key: &Key, definition: &Definition) -> duckdb::Result<()> {
    let columns = serde_json::to_string(&definition.columns)
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))?;
    conn.execute(
        "delete from contract_state where kind = ? and name = ? and version = ?",
        params![key.kind, key.name, key.version],
    )?;
    conn.execute(
        "insert into contract_state values (?, ?, ?, ?, ?)",
        params![key.kind, key.name, key.version, definition.hash, columns],
    )?;
    Ok(())
}

/// Records all definitions of the domain but those that are `waiting`, and forgets what is gone, in the
/// running transaction. Event contracts are never forgotten: their journal stays, and this tells what
/// is in it.
pub(super) fn save_all(
    conn: &Connection,
    recorded: &Definitions,
    wanted: &Definitions,
    waiting: &BTreeSet<Key>,
) -> duckdb::Result<()> {
    let changed = wanted.iter().filter(|(key, now)| recorded.get(key) != Some(now));
    for (key, definition) in changed.filter(|(key, _)| !waiting.contains(key)) {
        save(conn, key, definition)?;
    }
    for key in recorded.keys().filter(|key| key.kind != EVENT && !wanted.contains_key(key)) {
        conn.execute(
            "delete from contract_state where kind = ? and name = ? and version = ?",
            params![key.kind, key.name, key.version],
        )?;
    }
    Ok(())
}
