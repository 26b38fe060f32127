//! What an entity's contract says for those who watch over it: stages and relationships. Neither changes
//! the entity's state, so neither is in its hash.

use std::collections::BTreeSet;

use crate::check::document::values_of;
use crate::check::names::Names;
use crate::check::relations::Relations;
use crate::check::values::{contract_name, duration};
use crate::diagnostic::{Report, suggest};
use crate::model::{Entity, Relationship, Stage, Stages};
use crate::raw::decode::{Text, shorten};
use crate::raw::entity as raw;
use crate::types::Type;

/// The stages; `None` after reporting what is wrong.
pub(super) fn stages(
    raw: &raw::Stages,
    entity: &Entity,
    relations: &Relations,
    report: &mut Report,
) -> Option<Stages> {
    let before = report.count();
    let field = field(&raw.field, entity, report);
    let values = field.and_then(|name| values_of(relations, entity, name));
    if raw.ladder.is_empty() {
        report.error(raw.at, "the ladder has no stages", "add `- {name: …, sla: 1h}`");
    }
    let mut seen = BTreeSet::new();
    let mut ladder = Vec::with_capacity(raw.ladder.len());
    for stage in &raw.ladder {
        let name = &stage.name.value;
        let shown = shorten(name);
        if !seen.insert(name) {
            report.error(
                stage.name.at,
                format!("the stage `{shown}` is there twice"),
                "remove one of them",
            );
        }
        if let Some(values) = &values
            && !values.contains(name)
        {
            report.error(
                stage.name.at,
                format!("`{}` never has the value `{shown}`", raw.field.value),
                suggest(name, values.iter().map(String::as_str), "values"),
            );
        }
        let terminal = stage.terminal.unwrap_or(false);
        let sla = stage.sla.as_ref().and_then(|text| duration(text, false, report));
        if let (true, Some(text)) = (terminal, &stage.sla) {
            report.error(
                text.at,
                format!("the stage `{shown}` is the end, so nothing can stay in it too long"),
                "remove `sla` or `terminal`",
            );
        }
        ladder.push(Stage {
            name: name.clone(),
            sla,
            terminal,
            description: stage.description.as_ref().map(|text| text.value.clone()),
        });
    }
    (report.count() == before).then(|| Stages { field: raw.field.value.clone(), ladder })
}

/// The field that says the stage.
fn field<'a>(text: &'a Text, entity: &Entity, report: &mut Report) -> Option<&'a str> {
    let found = entity.fields.iter().find(|field| field.name == text.value);
    match found {
        Some(field) if field.ty == Type::String => Some(&text.value),
        Some(field) => {
            report.error(
                text.at,
                format!("stages are told by a string, `{}` is {}", text.value, field.ty),
                "name a field that holds the name of the stage",
            );
            None
        }
        None => {
            let fields = || entity.fields.iter().map(|field| field.name.as_str());
            report.error(
                text.at,
                format!("the entity has no field `{}`", shorten(&text.value)),
                suggest(&text.value, fields().collect::<Vec<_>>(), "fields"),
            );
            None
        }
    }
}

/// The relationships that nothing is wrong with.
pub(super) fn relationships(
    raw: &raw::Entity,
    entity: &Entity,
    names: &Names,
    report: &mut Report,
) -> Vec<Relationship> {
    let mut found = Vec::new();
    for (name, relationship) in raw.relationships.iter().flat_map(|named| &named.0) {
        let (other, key) = match relationship {
            raw::Relationship::Short(key) => (name, key),
            raw::Relationship::Long(long) => (&long.entity, &long.key),
        };
        let checked = contract_name(name, "a relationship", false, report);
        let known = names.entity_versions.contains_key(&other.value);
        if !known && !names.unreadable.contains(&other.value) && !names.gaps {
            report.error(
                other.at,
                format!("there is no entity `{}`", shorten(&other.value)),
                suggest(&other.value, names.entities(), "entities"),
            );
        }
        let fields = entity.fields.iter().map(|field| (field.name.as_str(), &field.ty));
        let fields: Vec<(&str, &Type)> = fields.collect();
        match fields.iter().find(|(name, _)| *name == key.value) {
            Some((_, Type::String | Type::Int64)) => {}
            Some((_, ty)) => report.error(
                key.at,
                format!("a key is a string or int64, `{}` is {ty}", key.value),
                "name a field that holds the other's key",
            ),
            None => report.error(
                key.at,
                format!("the entity has no field `{}`", shorten(&key.value)),
                suggest(&key.value, fields.iter().map(|(name, _)| *name), "fields"),
            ),
        }
        found.extend(checked.map(|name| Relationship {
            name,
            entity: other.value.clone(),
            key: key.value.clone(),
        }));
    }
    found
}
