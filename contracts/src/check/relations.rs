//! What expressions over rows can see, and the columns that hold their results.
//!
//! Families, entities and `ingest` are all rows with columns. [`Relations`] gives the scope of each
//! and turns a contract's expression into a [`ColumnRef`]: the column itself when it is nothing
//! more, else a computed column, one per canonical text however many contracts use it.

use std::collections::{BTreeMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::check::money::Amount;
use crate::diagnostic::Report;
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::model::{
    ColumnRef, Computed, Entity, EntityField, EventContract, Family, Ingest, Relation, column,
    ingest,
};
use crate::raw::decode::Text;
use crate::types::Type;

/// Everything that has rows, as far as it is compiled.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Families, by index.
    pub(crate) families: Vec<Family>,
    /// Entities, by index.
    pub(crate) entities: Vec<Entity>,
    /// The built-in source.
    pub(crate) ingest: Ingest,
    /// Columns that hold amounts in a currency.
    pub(crate) amounts: BTreeMap<(Relation, String), Amount>,
    /// Columns whose value is the same text in every row (`values` with one entry).
    pub(crate) constants: BTreeMap<(Relation, String), String>,
}

/// A compiled expression and the column that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    /// The column.
    pub(crate) column: ColumnRef,
    /// The expression.
    pub(crate) expr: Expr,
}

impl Relations {
    /// The names that an expression over rows of `relation` may use.
    pub(crate) fn scope(&self, relation: Relation) -> Scope {
        match relation {
            Relation::Family(i) => family_scope(&self.families[i]),
            Relation::Entity(i) => entity_scope(&self.entities[i]),
            Relation::Ingest => ingest_scope(),
        }
    }

    /// Compiles `text` over `relation` without keeping it.
    pub(crate) fn try_compile(
        &self,
        relation: Relation,
        text: &Text,
        want: Option<&Type>,
    ) -> Result<Expr, crate::expr::ExprError> {
        Expr::compile(&text.value, &self.scope(relation), want)
    }

    /// Compiles `text` over `relation` and gives the column that holds it.
    pub(crate) fn compile(
        &mut self,
        relation: Relation,
        text: &Text,
        want: Option<&Type>,
        report: &mut Report,
    ) -> Option<Compiled> {
        match self.try_compile(relation, text, want) {
            Ok(expr) => Some(self.keep(relation, expr)),
            Err(error) => {
                expr_error(text, error, report);
                None
            }
        }
    }

    /// The column that holds `expr`: an existing one, or a new computed one.
    pub(crate) fn keep(&mut self, relation: Relation, expr: Expr) -> Compiled {
        let closed: HashSet<String> = match relation {
            Relation::Entity(i) => {
                let fields = self.entities[i].fields.iter().filter(|f| f.depends_on_closed);
                fields.map(|f| f.name.clone()).collect()
            }
            Relation::Family(_) | Relation::Ingest => HashSet::new(),
        };
        let depends_on_closed =
            expr.columns().iter().any(|c| closed.contains(c) || c == column::CLOSED);
        if let Some(name) = expr.as_column()
            && name != column::CLOSED
        {
            let name = match relation {
                Relation::Entity(i) if self.entities[i].key == name => column::KEY,
                _ => name,
            };
            let column =
                ColumnRef { name: name.to_owned(), ty: expr.ty().clone(), depends_on_closed };
            return Compiled { column, expr };
        }
        let name = computed_name(&expr);
        let column = ColumnRef { name: name.clone(), ty: expr.ty().clone(), depends_on_closed };
        let computed = match relation {
            Relation::Family(i) => &mut self.families[i].computed,
            Relation::Entity(i) => &mut self.entities[i].computed,
            Relation::Ingest => &mut self.ingest.computed,
        };
        if !computed.iter().any(|c| c.name == name) {
            computed.push(Computed { name, expr: expr.clone(), depends_on_closed });
        }
        Compiled { column, expr }
    }
}

/// `x_` and 12 hex digits of the hash of the canonical text.
fn computed_name(expr: &Expr) -> String {
    format!("x_{:012x}", xxh3_64(expr.canonical().as_bytes()) >> 16)
}

/// Reports an expression's error at its place in the file.
pub(crate) fn expr_error(text: &Text, error: crate::expr::ExprError, report: &mut Report) {
    let hint = error
        .hint
        .unwrap_or_else(|| "docs/expressions.md lists what an expression may say".to_owned());
    report.error(text.inside(error.line, error.column), error.message, hint);
}

fn add(scope: &mut Scope, name: &str, column: &str, ty: Type) {
    if !scope.columns.iter().any(|c| c.name == name) {
        scope.columns.push(ScopeColumn { name: name.to_owned(), column: column.to_owned(), ty });
    }
}

/// Names of a record's envelope: the product's own, and the members that the contract names.
/// Declared fields come first, so a field of the same name wins.
pub(crate) fn add_envelope(scope: &mut Scope, contract: &EventContract) {
    add(scope, "event_type", column::TYPE, Type::String);
    add(scope, "event_id", column::ID, Type::String);
    add(scope, "event_time", column::TIME, Type::Timestamp);
    add(scope, "tenant", column::TENANT, Type::String);
    let envelope = &contract.envelope;
    let members = [
        (Some(&envelope.time), column::TIME, Type::Timestamp),
        (Some(&envelope.event_type), column::TYPE, Type::String),
        (Some(&envelope.id), column::ID, Type::String),
        (envelope.tenant.as_ref(), column::TENANT, Type::String),
    ];
    for (place, column, ty) in members {
        if let Some([name]) = place.map(|place| place.path().as_slice()) {
            add(scope, name, column, ty);
        }
    }
}

fn family_scope(family: &Family) -> Scope {
    let mut scope = Scope::default();
    for def in family.fields.iter().chain(&family.enriched) {
        add(&mut scope, &def.name, &def.name, def.ty.clone());
    }
    for contract in &family.versions {
        add_envelope(&mut scope, contract);
    }
    scope
}

fn entity_scope(entity: &Entity) -> Scope {
    entity_scope_of(entity.fields.iter(), &entity.key, entity.closes_after.is_some())
}

/// Names over rows of an entity with these fields.
pub(crate) fn entity_scope_of<'a>(
    fields: impl Iterator<Item = &'a EntityField>,
    key: &str,
    closes: bool,
) -> Scope {
    let mut scope = Scope::default();
    for field in fields {
        add(&mut scope, &field.name, &field.name, field.ty.clone());
    }
    // Expressions are given the key under the name that people see.
    add(&mut scope, key, key, Type::String);
    if closes {
        add(&mut scope, column::CLOSED, column::CLOSED, Type::Bool);
    }
    scope
}

fn ingest_scope() -> Scope {
    let mut scope = Scope::default();
    add(&mut scope, "outcome", ingest::OUTCOME, Type::String);
    add(&mut scope, "reason", ingest::REASON, Type::String);
    add(&mut scope, "event_type", ingest::EVENT_TYPE, Type::String);
    add(&mut scope, "source", ingest::SOURCE, Type::String);
    add(&mut scope, "late", ingest::LATE, Type::Bool);
    add(&mut scope, "arrived_at", ingest::ARRIVED_AT, Type::Timestamp);
    add(&mut scope, "tenant", ingest::TENANT, Type::String);
    scope
}
