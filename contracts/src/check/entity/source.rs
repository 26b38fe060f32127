//! Where the rows of entities and metrics come from.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::money;
use crate::check::names::{Known, Names};
use crate::check::relations::{Compiled, Relations};
use crate::diagnostic::{Position, Report, suggest};
use crate::model::{ColumnRef, FoldArg, Relation, column};
use crate::raw::decode::{OneOrMany, Text, shorten};
use crate::raw::entity as raw;
use crate::types::Type;

/// One source of an entity, compiled.
pub(super) struct Input {
    pub(super) relation: Relation,
    pub(super) event_types: Vec<String>,
    pub(super) filter: Option<Compiled>,
    pub(super) key: ColumnRef,
    pub(super) pins: BTreeMap<String, String>,
    pub(super) args: Vec<Option<FoldArg>>,
}

/// Relations with the event types that count; none means all of them.
pub(super) type Sources = Vec<(Relation, Vec<String>)>;

/// The rows that an entity contract names.
pub(super) fn sources(
    raw: &raw::EntitySource,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<Sources> {
    let details = match raw {
        raw::EntitySource::Events(types) => return event_sources(types, names, relations, report),
        raw::EntitySource::Details(details) => details,
    };
    match (&details.event, &details.entity) {
        (Some(types), None) => event_sources(types, names, relations, report),
        (None, Some(name)) => {
            let index = entity_source(name, names, relations, report)?;
            Some(vec![(Relation::Entity(index), Vec::new())])
        }
        _ => {
            report.error(
                details.at,
                "an entity has one source",
                "write `from: [event types]` or `from: {entity: name}`",
            );
            None
        }
    }
}

/// The entity that a contract names as its source.
pub(crate) fn entity_source(
    name: &Text,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<usize> {
    match names.entity(&name.value, &relations.entities) {
        Known::Good(index) => Some(index),
        Known::Broken => None,
        Known::Missing => {
            let hint = match names.event_types.contains_key(&name.value) {
                true => "this is an event type: write it under `event`".to_owned(),
                false => suggest(&name.value, names.entities(), "entities"),
            };
            let message = format!("there is no entity `{}`", shorten(&name.value));
            report.error(name.at, message, hint);
            None
        }
    }
}

/// Event types by family, in order of first appearance.
pub(crate) fn event_sources(
    types: &OneOrMany<Text>,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<Sources> {
    let mut found: Sources = Vec::new();
    let mut complete = true;
    for text in &types.0 {
        match names.family(&text.value) {
            Known::Good(family) => {
                let relation = Relation::Family(family);
                let slot = match found.iter().position(|(r, _)| *r == relation) {
                    Some(slot) => slot,
                    None => {
                        found.push((relation, Vec::new()));
                        found.len() - 1
                    }
                };
                if found[slot].1.contains(&text.value) {
                    report.error(
                        text.at,
                        format!("the event type `{}` stands here twice", shorten(&text.value)),
                        "remove one of them",
                    );
                } else {
                    found[slot].1.push(text.value.clone());
                }
            }
            Known::Broken => complete = false,
            Known::Missing => {
                let hint = match names.entity_versions.contains_key(&text.value) {
                    true => format!("to read the entity, write `{{entity: {}}}`", text.value),
                    false => suggest(&text.value, names.types(), "event types"),
                };
                report.error(
                    text.at,
                    format!("no contract has the event type `{}`", shorten(&text.value)),
                    hint,
                );
                complete = false;
            }
        }
    }
    for (relation, types) in &mut found {
        if let Relation::Family(family) = relation {
            let all: BTreeSet<&String> =
                relations.families[*family].versions.iter().flat_map(|v| &v.names).collect();
            if all.iter().all(|name| types.contains(name)) {
                types.clear();
            }
        }
    }
    (complete && !found.is_empty()).then_some(found)
}

/// Key and condition of one source.
pub(super) fn input(
    raw: &raw::Entity,
    relation: Relation,
    event_types: Vec<String>,
    relations: &mut Relations,
    report: &mut Report,
) -> Option<Input> {
    let scope = relations.scope(relation);
    let key = match scope.columns.iter().find(|c| c.name == raw.key.value) {
        Some(column) if matches!(column.ty, Type::String | Type::Int64) => ColumnRef {
            name: match relation {
                Relation::Entity(i) if relations.entities[i].key == column.name => {
                    column::KEY.to_owned()
                }
                _ => column.column.clone(),
            },
            ty: column.ty.clone(),
            depends_on_closed: false,
        },
        Some(column) => {
            report.error(
                raw.key.at,
                format!(
                    "the key `{}` is {}; a key is a string or an int64",
                    column.name, column.ty
                ),
                "choose a field that identifies the entity",
            );
            return None;
        }
        None => {
            report.error(
                raw.key.at,
                format!(
                    "{} has no field `{}` that could be the key",
                    describe(relations, relation),
                    shorten(&raw.key.value)
                ),
                suggest(&raw.key.value, scope.columns.iter().map(|c| c.name.as_str()), "fields"),
            );
            return None;
        }
    };
    let filter = match &raw.filter {
        None => None,
        Some(text) => Some(relations.compile(relation, text, Some(&Type::Bool), report)?),
    };
    if let Some(text) = &raw.filter {
        refuse_closed(filter.as_ref(), text.at, report);
    }
    let pins = raw.filter.as_ref().map(|text| money::pinned(&text.value, &scope));
    Some(Input {
        relation,
        event_types,
        filter,
        key,
        pins: pins.unwrap_or_default(),
        args: Vec::new(),
    })
}

/// "the contract `x`" or "the entity `x`".
fn describe(relations: &Relations, relation: Relation) -> String {
    match relation {
        Relation::Family(i) => format!("the event contract `{}`", relations.families[i].name),
        Relation::Entity(i) => format!("the entity `{}`", relations.entities[i].name),
        Relation::Ingest => "the source `ingest`".to_owned(),
    }
}

/// Nothing is folded when an entity closes, so its values must not depend on that.
pub(super) fn refuse_closed(compiled: Option<&Compiled>, at: Position, report: &mut Report) {
    if compiled.is_some_and(|c| c.column.depends_on_closed) {
        report.error(
            at,
            "an entity cannot be folded from values that depend on `closed`",
            "closing happens when time passes, without an event; use such values in metrics instead",
        );
    }
}
