//! Changes of entities.

use std::collections::BTreeSet;

use super::facts;
use super::{Class, Diff, Found, Read, Subject, named};
use crate::model::{Domain, Entity};

pub(super) fn compare(diff: &mut Diff<'_>) {
    let (old, new) = (&diff.old.domain, &diff.new.domain);
    for before in &old.entities {
        let subject = subject(before);
        match find(new, before) {
            None => {
                let affects = affected_by_rows(diff, before);
                let found = Found::new(Class::Breaking, "entity_removed", &[]);
                diff.add(&subject, found.affecting(affects));
            }
            Some(after) => one(diff, &subject, before, after),
        }
    }
    for after in &new.entities {
        if find(old, after).is_some() {
            continue;
        }
        let change = match old.entity(&after.name) {
            Some(_) => "entity_version_added",
            None => "entity_added",
        };
        diff.add(&subject(after), Found::new(Class::Additive, change, &[]));
    }
}

fn subject(entity: &Entity) -> Subject {
    Subject { kind: "entity", name: entity.name.clone(), version: entity.version }
}

fn find<'a>(domain: &'a Domain, of: &Entity) -> Option<&'a Entity> {
    domain.entities.iter().find(|e| e.name == of.name && e.version == of.version)
}

fn affected_by_rows(diff: &Diff<'_>, entity: &Entity) -> Vec<String> {
    let this = named(&entity.name, entity.version);
    diff.affected(|read| matches!(read, Read::Rows(name) if *name == this))
}

fn affected_by_field(diff: &Diff<'_>, entity: &Entity, field: &str) -> Vec<String> {
    let this = named(&entity.name, entity.version);
    diff.affected(|read| matches!(read, Read::Field(name, of) if *name == this && of == field))
}

fn one(diff: &mut Diff<'_>, subject: &Subject, before: &Entity, after: &Entity) {
    let rows = affected_by_rows(diff, after);
    if before.key != after.key {
        let found = Found::new(Class::Breaking, "key_renamed", &["key"]);
        let found = found.from(&before.key).to(&after.key);
        diff.add(subject, found.affecting(rows.clone()));
    }
    fields(diff, subject, before, after);
    let sources = |domain: &Domain, entity: &Entity| -> Vec<facts::Source> {
        let inputs = entity.inputs.iter();
        inputs.map(|i| facts::source(domain, i.relation, &i.event_types)).collect()
    };
    let said = |domain: &Domain, entity: &Entity| {
        facts::by_subject(&entity.facts, &sources(domain, entity), &facts::Names::of(domain))
    };
    let (was, is) = (said(&diff.old.domain, before), said(&diff.new.domain, after));
    let about: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for about in about {
        let (was, is) = (was.get(about), is.get(about));
        if was == is {
            continue;
        }
        let (change, key, affects): (_, Vec<&str>, _) = match about.split_once('.') {
            // One that came or went is told with the fields.
            Some((_, field)) if !has(before, field) || !has(after, field) => continue,
            // A fold that became a derived field, or the other way round, is told once.
            Some(("fold", field)) if is.is_none() => {
                let affects = affected_by_field(diff, after, field);
                ("fold_changed", vec!["fields", field], affects)
            }
            Some((_, _)) if was.is_none() => continue,
            Some((_, field)) => {
                let affects = affected_by_field(diff, after, field);
                ("fold_changed", vec!["fields", field], affects)
            }
            None if about == "closes" => ("closes_changed", vec!["closes_after"], rows.clone()),
            None => ("source_changed", vec!["from"], rows.clone()),
        };
        let mut found = Found::new(Class::Restating, change, &key).affecting(affects);
        (found.before, found.after) = (facts::shown(was), facts::shown(is));
        diff.add(subject, found);
    }
    diff.words(subject, &["owner"], &before.owner, &after.owner);
    diff.words(subject, &["description"], &before.description, &after.description);
    diff.words(subject, &["synonyms"], &before.synonyms, &after.synonyms);
    let stages = (Class::Safe, "stages_changed");
    diff.if_other(subject, stages, &["stages"], (&before.stages, &after.stages), |_| None);
    let related = (Class::Safe, "relationships_changed");
    let pair = (&before.relationships, &after.relationships);
    diff.if_other(subject, related, &["relationships"], pair, |_| None);
    diff.life_cycle(
        subject,
        (before.status, after.status),
        (&before.deprecation, &after.deprecation),
    );
}

fn has(entity: &Entity, field: &str) -> bool {
    entity.fields.iter().any(|known| known.name == field)
}

fn fields(diff: &mut Diff<'_>, subject: &Subject, before: &Entity, after: &Entity) {
    for field in &before.fields {
        let name = field.name.as_str();
        let key = ["fields", name];
        let Some(other) = after.fields.iter().find(|other| other.name == name) else {
            let affects = affected_by_field(diff, before, name);
            let found = Found::new(Class::Breaking, "field_removed", &key);
            diff.add(subject, found.affecting(affects));
            continue;
        };
        if field.ty != other.ty {
            let affects = affected_by_field(diff, after, name);
            let found = Found::new(Class::Breaking, "type_changed", &key);
            diff.add(subject, found.from(&field.ty).to(&other.ty).affecting(affects));
        }
        let words = |f: &crate::model::EntityField| {
            (f.description.clone(), f.synonyms.clone(), f.opposites.clone())
        };
        diff.words(subject, &key, &words(field), &words(other));
    }
    for field in &after.fields {
        if !has(before, &field.name) {
            let key = ["fields", field.name.as_str()];
            diff.add(subject, Found::new(Class::Additive, "field_added", &key).to(&field.ty));
        }
    }
}
