//! The relations that statements may name, and what stands in their place.
//!
//! A statement never names a table. It names an entity, or the journal of an event contract as
//! `<contract>_events`, and gets a sub-select over the table with the tenant's rows and the columns
//! that the contract declares. The sub-select ends in a `limit` that limits nothing: DuckDB moves no
//! condition of the caller below it, so nothing of the caller's is ever evaluated on a row of another
//! tenant. Without it a cast that fails would tell what the others' rows hold.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use contracts::model::{Domain, EnrichValue, Entity, Family, column};
use contracts::types::Type;

use super::refusal::{Refusal, RefusalKind};
use crate::access::Caller;
use crate::metric::{MetricEngine, hint, quote};
use crate::personal::HIDDEN;
use crate::question::ReadError;
use crate::value::time_text;

/// Ends the sub-select of a relation: more rows than any table has.
const FENCE: i64 = i64::MAX;

/// A relation as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Name in statements.
    pub name: String,
    /// What it shows.
    pub source: Source,
    /// Columns in order.
    pub columns: Vec<OfferedColumn>,
}

/// What a relation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The current rows of an entity, by its place in [`Domain::entities`].
    Entity(usize),
    /// The journal of a family, by its place in [`Domain::families`].
    Family(usize),
}

/// A column as callers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedColumn {
    /// Name in statements.
    pub name: String,
    /// Type of its values.
    pub ty: Type,
    /// Columns of the table that it is made of.
    pub stored: Vec<String>,
    /// How.
    sql: String,
    /// Is its value hidden?
    pub is_hidden: bool,
}

/// What one caller may name at one moment.
pub struct Relations<'a> {
    engine: &'a MetricEngine,
    caller: &'a Caller,
    /// The moment, µs: what `now()` means, and at which an entity is closed or not.
    pub(super) now: i64,
}

impl<'a> Relations<'a> {
    /// For a caller, as of `now` (µs).
    pub fn new(engine: &'a MetricEngine, caller: &'a Caller, now: i64) -> Self {
        Self { engine, caller, now }
    }

    /// The contracts.
    pub fn domain(&self) -> &Domain {
        self.engine.domain()
    }

    /// Whose rows are read.
    pub(super) fn tenant(&self) -> Arc<str> {
        Arc::clone(&self.caller.tenant)
    }

    /// Names that this caller may use, in order.
    pub fn names(&self) -> BTreeSet<String> {
        let domain = self.domain();
        let entities = domain.entities.iter().filter(|e| self.caller.sees_entity(&e.name));
        let families = domain.families.iter().filter(|_| self.caller.sees_events());
        let entities = entities.map(|entity| plain(&entity.name));
        entities.chain(families.map(|family| journal_name(&family.name))).collect()
    }

    /// Is it the name of a relation, whoever may read it?
    pub(super) fn is_name(&self, name: &str) -> bool {
        let domain = self.domain();
        domain.entities.iter().any(|entity| plain(&entity.name).eq_ignore_ascii_case(name))
            || domain.families.iter().any(|f| journal_name(&f.name).eq_ignore_ascii_case(name))
    }

    /// The relation of that name.
    pub fn find(&self, name: &str) -> Result<Offered, Refusal> {
        let domain = self.domain();
        let entity = domain.entities.iter().find(|e| plain(&e.name).eq_ignore_ascii_case(name));
        if let Some(entity) = entity {
            self.may_read(self.caller.sees_entity(&entity.name), name)?;
            let entity = self.engine.find_entity(&entity.name, None).map_err(refusal_of)?;
            return Ok(self.entity(entity));
        }
        let mut families = domain.families.iter();
        let family = families.find(|f| journal_name(&f.name).eq_ignore_ascii_case(name));
        if let Some(family) = family {
            self.may_read(self.caller.sees_events(), name)?;
            return Ok(journal(domain, family));
        }
        let names = self.names();
        let near = hint(name, names.iter().map(String::as_str));
        let refusal = Refusal::refused(format!("no relation is named `{name}`"));
        Err(refusal.hint(near.unwrap_or_else(|| "this domain has no relations".to_owned())))
    }

    fn may_read(&self, may: bool, name: &str) -> Result<(), Refusal> {
        if may {
            return Ok(());
        }
        let key = self.caller.key.as_deref().unwrap_or("none");
        Err(Refusal {
            kind: RefusalKind::Forbidden,
            message: format!("key `{key}` may not read relation `{name}`"),
            hint: Some("ask whoever made the key for a wider scope".to_owned()),
        })
    }

    /// The sub-select that stands for a relation.
    pub(super) fn select(&self, relation: &Offered) -> String {
        let table = match relation.source {
            Source::Entity(entity) => self.domain().entities[entity].table(),
            Source::Family(family) => self.domain().families[family].table(),
        };
        let mut text = String::from("(select ");
        for (i, column) in relation.columns.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{comma}{} as {}", column.sql, quote(&column.name));
        }
        let _ = write!(
            text,
            " from {} where {} = {} limit {FENCE})",
            quote(&table),
            quote(column::TENANT),
            literal(&self.caller.tenant),
        );
        text
    }

    /// The current rows of an entity: key and fields, as [`crate::entity`] shows them.
    fn entity(&self, entity: &Entity) -> Offered {
        let mut columns = Vec::with_capacity(entity.fields.len() + 1);
        if !entity.fields.iter().any(|field| field.name == entity.key) {
            let is_number = entity.inputs.iter().any(|input| input.key.ty == Type::Int64);
            let mut key = OfferedColumn::stored(&entity.key, column::KEY, Type::String);
            if is_number {
                key.sql = format!("try_cast({} as bigint)", key.sql);
                key.ty = Type::Int64;
            }
            columns.push(key);
        }
        for field in &entity.fields {
            let mut shown = OfferedColumn::stored(&field.name, &field.name, field.ty.clone());
            if field.depends_on_closed {
                let twin = format!("{}{}", field.name, column::CLOSED_SUFFIX);
                shown.sql = format!(
                    "case when {} <= timestamp {} then {} else {} end",
                    quote(column::CLOSES_AT),
                    literal(&timestamp_text(self.now)),
                    quote(&twin),
                    quote(&field.name),
                );
                shown.stored.extend([twin, column::CLOSES_AT.to_owned()]);
            }
            columns.push(shown);
        }
        Offered { name: plain(&entity.name), source: Source::Entity(entity.index), columns }
    }
}

impl OfferedColumn {
    fn stored(name: &str, stored: &str, ty: Type) -> Self {
        Self {
            name: name.to_owned(),
            ty,
            stored: vec![stored.to_owned()],
            sql: quote(stored),
            is_hidden: false,
        }
    }
}

/// The accepted events of a family: its envelope, then all fields of all versions, then what was
/// added to them. Personal fields, and what was made of them, are hidden.
fn journal(domain: &Domain, family: &Family) -> Offered {
    let hidden = hidden_columns(domain, family);
    let declared = family.fields.iter().chain(&family.enriched);
    let mut columns: Vec<OfferedColumn> = Vec::new();
    for (name, stored, ty) in [
        ("event_id", column::ID, Type::String),
        ("event_type", column::TYPE, Type::String),
        ("event_time", column::TIME, Type::Timestamp),
        ("received_at", column::ARRIVED_AT, Type::Timestamp),
        ("contract_version", column::VERSION, Type::Int64),
        ("position", column::SEQ, Type::Int64),
    ] {
        // A field of that name is what its contract says.
        if !declared.clone().any(|column| column.name == name) {
            columns.push(OfferedColumn::stored(name, stored, ty));
        }
    }
    for field in declared {
        let mut shown = OfferedColumn::stored(&field.name, &field.name, field.ty.clone());
        if hidden.contains(field.name.as_str()) {
            shown.sql = format!(
                "case when {} is not null then {} end",
                quote(&field.name),
                literal(HIDDEN)
            );
            shown.ty = Type::String;
            shown.is_hidden = true;
        }
        columns.push(shown);
    }
    Offered { name: journal_name(&family.name), source: Source::Family(family.index), columns }
}

/// Personal fields, and the columns that are made of them.
fn hidden_columns(domain: &Domain, family: &Family) -> BTreeSet<String> {
    let versions = family.versions.iter();
    let personal = versions.clone().flat_map(|version| &version.fields).filter(|field| field.pii);
    let mut hidden: BTreeSet<String> = personal.map(|field| field.name.clone()).collect();
    // What is looked up of a personal field is personal too.
    hidden.extend(contracts::personal::of_family(domain, family.index));
    // Each added column may use those before it, of its own version.
    for added in versions.flat_map(|version| &version.enrich) {
        let from = match &added.value {
            EnrichValue::Expr(expr) => expr,
            EnrichValue::Lookup { key, .. } => key,
        };
        if from.columns().iter().any(|name| hidden.contains(name)) {
            hidden.insert(added.name.clone());
        }
    }
    hidden
}

/// A contract's name as statements write it.
fn plain(name: &str) -> String {
    name.replace('.', "_")
}

/// Name of a family's journal in statements.
fn journal_name(family: &str) -> String {
    format!("{}_events", plain(family))
}

/// A text as SQL takes it literally.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An instant as a literal of type TIMESTAMP has it.
pub(super) fn timestamp_text(micros: i64) -> String {
    time_text(micros).trim_end_matches('Z').replace('T', " ")
}

fn refusal_of(error: ReadError) -> Refusal {
    let (kind, hint) = match &error {
        ReadError::Backfilling { hint, .. } => (RefusalKind::Backfilling, Some(hint.clone())),
        ReadError::NotFound { hint, .. } => (RefusalKind::Refused, hint.clone()),
        _ => (RefusalKind::Refused, None),
    };
    Refusal { kind, message: error.to_string(), hint }
}
