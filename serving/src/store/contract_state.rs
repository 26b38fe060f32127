//! Contracts that changed since the directory was written: what has to be done about it.
//!
//! The table `contract_state` records under which definitions the stored rows were made. [`plan`]
//! compares it with the contracts of today and decides, as a function of nothing else:
//!
//! - a column more, or computed otherwise: fill it from the stored rows ([`super::fill`]);
//! - another entity, or an entity defined otherwise: fold it again ([`super::rebuild`]);
//! - a column with another type: refuse, because values would be lost;
//! - a contract that is gone: forget it, but keep its table.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Computed, Domain, EnrichValue, Entity, Family, Relation, column};
use duckdb::{Connection, params};
use pipeline::store::StoreError;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

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

/// One thing to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Fill columns.
    Fill { relation: Filled, fill: Fill },
    /// Fold an entity again from the journal.
    Rebuild { entity: usize },
}

/// A table whose rows are kept for ever, so that columns are filled rather than rows made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// The journal of a family.
    Family(usize),
    /// Received records by outcome.
    Ingest,
}

/// What to fill in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fill {
    /// Columns that the table does not have yet.
    pub added: Vec<String>,
    /// Columns whose expressions are to be evaluated over stored rows.
    pub evaluate: BTreeSet<String>,
    /// The recorded fields in order, when the fields changed: values come out of `_extra`, and the
    /// bits of `_absent` follow.
    pub fields_before: Option<Vec<FieldBefore>>,
    /// Is the hash over the fields to be made again?
    pub body: bool,
}

/// A field as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldBefore {
    /// Its name.
    pub name: String,
    /// The contract's versions that had it.
    pub versions: BTreeSet<u32>,
}

impl Fill {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Does it change columns that rows had before?
    fn changes_values(&self) -> bool {
        self.evaluate.iter().any(|name| !self.added.contains(name))
    }
}

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
        let version = i64::from(metric.version);
        let key = Key { kind: METRIC, name: metric.name.clone(), version };
        all.insert(key, Definition { hash: hex(metric.hash), columns: Vec::new() });
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

/// What stored rows need to follow the contracts of today, or what they cannot follow.
pub(super) fn plan(recorded: &Definitions, domain: &Domain) -> Result<Vec<Step>, Vec<String>> {
    let wanted = definitions(domain);
    let mut steps = Vec::new();
    let mut refused = Vec::new();
    // Relations whose stored values change, so that what is folded from them must change too.
    let mut changed = BTreeSet::new();

    for family in &domain.families {
        let key = event_key(family);
        // Not recorded: the table is new and empty.
        let Some(before) = recorded.get(&key) else { continue };
        let fill = compare(&before.columns, &wanted[&key].columns, &mut |what| {
            refused.push(format!("event contract `{}`: {what}", family.name));
        });
        let fill = with_dependents(fill, family);
        if fill.changes_values() {
            changed.insert(Relation::Family(family.index));
        }
        if !fill.is_empty() {
            steps.push(Step::Fill { relation: Filled::Family(family.index), fill });
        }
    }
    if let Some(before) = recorded.get(&ingest_key()) {
        let fill = compare(&before.columns, &wanted[&ingest_key()].columns, &mut |what| {
            refused.push(format!("source `ingest`: {what}"));
        });
        if !fill.is_empty() {
            steps.push(Step::Fill { relation: Filled::Ingest, fill });
        }
    }
    for entity in &domain.entities {
        let key = entity_key(entity);
        let same = recorded.get(&key) == Some(&wanted[&key]);
        let inputs_same = entity.inputs.iter().all(|input| !changed.contains(&input.relation));
        if !(same && inputs_same) {
            changed.insert(Relation::Entity(entity.index));
            steps.push(Step::Rebuild { entity: entity.index });
        }
    }
    if refused.is_empty() { Ok(steps) } else { Err(refused) }
}

/// What differs between recorded and wanted columns of one table.
fn compare(before: &[Column], after: &[Column], refuse: &mut dyn FnMut(String)) -> Fill {
    let mut fill = Fill::default();
    for column in after {
        let old = before.iter().find(|old| old.name == column.name);
        match old {
            None => fill.added.push(column.name.clone()),
            Some(old) if old.ty != column.ty => {
                refuse(format!("column `{}` was {}, is now {}", column.name, old.ty, column.ty))
            }
            Some(_) => {}
        }
        if old.is_some_and(|old| old.definition == column.definition) {
            continue;
        }
        match column.role {
            Role::Field => {}
            Role::Body => fill.body = true,
            Role::Enriched | Role::Computed => {
                fill.evaluate.insert(column.name.clone());
            }
        }
    }
    let fields = |columns: &[Column]| -> Vec<FieldBefore> {
        let fields = columns.iter().filter(|column| column.role == Role::Field);
        fields
            .map(|column| FieldBefore {
                name: column.name.clone(),
                versions: column.definition.split(',').filter_map(|v| v.parse().ok()).collect(),
            })
            .collect()
    };
    let fields_before = fields(before);
    if fields_before != fields(after) {
        fill.fields_before = Some(fields_before);
    }
    fill
}

/// Adds the columns that are computed from columns to be evaluated.
fn with_dependents(mut fill: Fill, family: &Family) -> Fill {
    for version in &family.versions {
        for enrich in &version.enrich {
            if let EnrichValue::Expr(expr) = &enrich.value
                && !expr.columns().is_disjoint(&fill.evaluate)
            {
                fill.evaluate.insert(enrich.name.clone());
            }
        }
    }
    for computed in &family.computed {
        if !computed.expr.columns().is_disjoint(&fill.evaluate) {
            fill.evaluate.insert(computed.name.clone());
        }
    }
    fill
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

/// Records all definitions of the domain and forgets what is gone, in the running transaction.
/// Event contracts are never forgotten: their journal stays, and this tells what is in it.
pub(super) fn save_all(
    conn: &Connection,
    recorded: &Definitions,
    wanted: &Definitions,
) -> duckdb::Result<()> {
    for (key, definition) in wanted.iter().filter(|(key, now)| recorded.get(key) != Some(now)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, ty: &str, versions: &str) -> Column {
        column(name, ty, Role::Field, versions)
    }

    fn column(name: &str, ty: &str, role: Role, definition: &str) -> Column {
        Column { name: name.into(), ty: ty.into(), role, definition: definition.into() }
    }

    #[track_caller]
    fn check(before: &[Column], after: &[Column], expected: Result<Fill, &str>) {
        let mut refused = Vec::new();
        let fill = compare(before, after, &mut |what| refused.push(what));
        match expected {
            Ok(expected) => {
                assert_eq!(refused, Vec::<String>::new());
                assert_eq!(fill, expected);
            }
            Err(expected) => assert_eq!(refused.join("; "), expected),
        }
    }

    fn before(fields: &[(&str, &[u32])]) -> Option<Vec<FieldBefore>> {
        let field = |(name, versions): &(&str, &[u32])| FieldBefore {
            name: (*name).into(),
            versions: versions.iter().copied().collect(),
        };
        Some(fields.iter().map(field).collect())
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn equal_columns_need_nothing() {
        let columns = [field("a", "string", "1"), column("x_1", "bool", Role::Computed, "a = 'b'")];
        check(&columns, &columns, Ok(Fill::default()));
    }

    #[test]
    fn a_new_field_moves_values_and_bits() {
        check(
            &[field("a", "string", "1")],
            &[field("b", "int64", "1"), field("a", "string", "1")],
            Ok(Fill {
                added: vec!["b".into()],
                fields_before: before(&[("a", &[1])]),
                ..Fill::default()
            }),
        );
    }

    #[test]
    fn a_field_that_another_version_gains_is_no_new_column() {
        check(
            &[field("a", "string", "2")],
            &[field("a", "string", "1,2")],
            Ok(Fill { fields_before: before(&[("a", &[2])]), ..Fill::default() }),
        );
    }

    #[test]
    fn a_field_that_is_gone_only_moves_bits() {
        check(
            &[field("a", "string", "1"), field("b", "string", "1")],
            &[field("b", "string", "1")],
            Ok(Fill { fields_before: before(&[("a", &[1]), ("b", &[1])]), ..Fill::default() }),
        );
    }

    #[test]
    fn expressions_are_evaluated_when_new_or_different() {
        check(
            &[column("e", "int64", Role::Enriched, "v1(a) ")],
            &[
                column("e", "int64", Role::Enriched, "v1(b) "),
                column("x_2", "bool", Role::Computed, "a > 1"),
            ],
            Ok(Fill {
                added: vec!["x_2".into()],
                evaluate: names(&["e", "x_2"]),
                ..Fill::default()
            }),
        );
    }

    #[test]
    fn another_list_of_fields_makes_the_body_hash_again() {
        let body = |definition| column("_body", "int64", Role::Body, definition);
        check(&[body("v1(a) ")], &[body("v1(a,b) ")], Ok(Fill { body: true, ..Fill::default() }));
    }

    #[test]
    fn another_type_is_refused() {
        check(
            &[field("a", "string", "1"), field("b", "int64", "1")],
            &[field("a", "int64", "1"), field("b", "float64", "1")],
            Err("column `a` was string, is now int64; column `b` was int64, is now float64"),
        );
    }
}
