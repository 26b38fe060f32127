//! The columns of a relation: those that the store has, and those that are computed from them.

use std::collections::{BTreeMap, BTreeSet};

use contracts::expr::Expr;
use contracts::model::{Computed, EnrichValue, Relation, column};
use contracts::types::Type;

use super::session::{OF_EVERY_EVENT, Session};
use super::sql::{Column, Refused, Sql, emit, name};

/// A column to compute again.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) from: From,
}

/// Where its values come from.
pub(super) enum From {
    /// An expression.
    Expr(Expr),
    /// Of each version of the contract: its number and how it makes the column.
    Versions(Vec<(u32, EnrichValue)>),
}

/// The columns of a relation as the store has them.
pub(super) fn stored(session: &Session<'_>, relation: Relation) -> BTreeMap<String, Column> {
    let mut columns = BTreeMap::new();
    let mut add = |column: &str, ty: Type| {
        let held = Column { text: name(column), ty, stored: true };
        columns.entry(column.to_owned()).or_insert(held);
    };
    let (computed, every) = match relation {
        Relation::Family(index) => {
            let family = &session.domain.families[index];
            for def in family.fields.iter().chain(&family.enriched) {
                add(&def.name, def.ty.clone());
            }
            (&family.computed, OF_EVERY_EVENT.to_vec())
        }
        _ => (
            &session.domain.ingest.computed,
            vec![
                "_seq",
                "_tenant",
                "arrived_at",
                "outcome",
                "reason",
                "event_type",
                "source",
                "late",
            ],
        ),
    };
    for Computed { name, expr, .. } in computed {
        add(name, expr.ty().clone());
    }
    for name in every {
        let ty = match name {
            column::SEQ | column::VERSION => Type::Int64,
            column::TIME | column::ARRIVED_AT | "arrived_at" => Type::Timestamp,
            "late" => Type::Bool,
            _ => Type::String,
        };
        add(name, ty);
    }
    columns
}

pub(super) fn wanted(session: &Session<'_>, relation: Relation) -> Vec<Wanted> {
    let mut all = Vec::new();
    let computed = match relation {
        Relation::Family(index) => {
            let family = &session.domain.families[index];
            for def in &family.enriched {
                let versions = family.versions.iter().filter_map(|contract| {
                    let enrich = contract.enrich.iter().find(|e| e.name == def.name)?;
                    Some((contract.version, enrich.value.clone()))
                });
                let from = From::Versions(versions.collect());
                all.push(Wanted { name: def.name.clone(), ty: def.ty.clone(), from });
            }
            &family.computed
        }
        _ => &session.domain.ingest.computed,
    };
    for Computed { name, expr, .. } in computed {
        let (ty, from) = (expr.ty().clone(), From::Expr(expr.clone()));
        all.push(Wanted { name: name.clone(), ty, from });
    }
    all
}

pub(super) fn reads(wanted: &Wanted) -> BTreeSet<String> {
    match &wanted.from {
        From::Expr(expr) => expr.columns().clone(),
        From::Versions(versions) => versions
            .iter()
            .flat_map(|(_, value)| match value {
                EnrichValue::Expr(expr) => expr.columns().clone(),
                EnrichValue::Lookup { .. } => BTreeSet::new(),
            })
            .collect(),
    }
}

pub(super) fn sql_of(
    wanted: &Wanted,
    columns: &BTreeMap<String, Column>,
    seen: &BTreeMap<String, String>,
) -> Result<Sql, Refused> {
    let resolve = |name: &str| columns.get(name).cloned();
    match &wanted.from {
        From::Expr(expr) => emit(expr, &resolve),
        From::Versions(versions) => {
            let mut text = "(case _version".to_owned();
            for (version, value) in versions {
                let value = match value {
                    EnrichValue::Expr(expr) => {
                        let sql = emit(expr, &resolve)?;
                        if sql.ty != wanted.ty {
                            return Err(Refused("versions of different types".to_owned()));
                        }
                        sql.text
                    }
                    EnrichValue::Lookup { .. } => match seen.get(&wanted.name) {
                        Some(table) => name(&format!("{table}_value")),
                        None => return Err(Refused("a lookup".to_owned())),
                    },
                };
                text.push_str(&format!(" when {version} then {value}"));
            }
            text.push_str(" end)");
            Ok(Sql::new(text, wanted.ty.clone()))
        }
    }
}

impl Wanted {
    /// What people call it: computed columns have no name of their own.
    pub(super) fn title(&self) -> String {
        match &self.from {
            From::Expr(expr) => expr.canonical().to_owned(),
            From::Versions(_) => self.name.clone(),
        }
    }
}
