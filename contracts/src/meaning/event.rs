//! Changes of event contracts: what records may look like, which of them count, and what is added to them.

use std::cmp::Ordering;

use super::{Class, Diff, Found, Read, Subject};
use crate::check::{compare as compare_decimals, parse_decimal};
use crate::model::{
    Constraints, Domain, EnrichValue, EventContract, Field, OnConflict, Rule, Severity,
};

pub(super) fn compare(diff: &mut Diff<'_>) {
    let (old, new) = (&diff.old.domain, &diff.new.domain);
    for before in contracts(old) {
        let subject = subject(before);
        match find(new, before) {
            None => {
                let affects = affected_by_types(diff, before, &before.names);
                let found = Found::new(Class::Breaking, "event_removed", &[]);
                diff.add(&subject, found.affecting(affects));
            }
            Some(after) => one(diff, &subject, before, after),
        }
    }
    for after in contracts(new) {
        if find(old, after).is_some() {
            continue;
        }
        let change = match contracts(old).any(|contract| contract.name == after.name) {
            true => "event_version_added",
            false => "event_added",
        };
        diff.add(&subject(after), Found::new(Class::Additive, change, &[]));
    }
}

fn contracts(domain: &Domain) -> impl Iterator<Item = &EventContract> {
    domain.families.iter().flat_map(|family| &family.versions).map(AsRef::as_ref)
}

fn subject(contract: &EventContract) -> Subject {
    Subject { kind: "event", name: contract.name.clone(), version: contract.version }
}

fn find<'a>(domain: &'a Domain, of: &EventContract) -> Option<&'a EventContract> {
    contracts(domain).find(|c| c.name == of.name && c.version == of.version)
}

/// The metrics of before that some of these event types moved.
fn affected_by_types(diff: &Diff<'_>, of: &EventContract, types: &[String]) -> Vec<String> {
    let old = &diff.old.domain;
    let family = diff.affected_by_admission(&of.name);
    let moved = old
        .metrics
        .iter()
        .filter(|metric| types.iter().any(|name| old.graph.origins[metric.index].contains(name)));
    let moved: Vec<String> = moved.map(|m| super::named(&m.name, m.version)).collect();
    family.into_iter().filter(|name| moved.contains(name)).collect()
}

fn affected_by_column(diff: &Diff<'_>, of: &EventContract, column: &str) -> Vec<String> {
    diff.affected(
        |read| matches!(read, Read::Column(family, name) if *family == of.name && name == column),
    )
}

fn one(diff: &mut Diff<'_>, subject: &Subject, before: &EventContract, after: &EventContract) {
    for name in before.names.iter().filter(|name| !after.names.contains(name)) {
        let affects = affected_by_types(diff, before, std::slice::from_ref(name));
        let found = Found::new(Class::Breaking, "event_type_removed", &["names"]).from(name);
        diff.add(subject, found.affecting(affects));
    }
    for name in after.names.iter().filter(|name| !before.names.contains(name)) {
        let found = Found::new(Class::Additive, "event_type_added", &["names", name]);
        diff.add(subject, found.to(name));
    }
    let topics = |contract: &EventContract| -> Vec<String> {
        contract.topics.iter().map(|topic| topic.as_str().to_owned()).collect()
    };
    let (was, is) = (topics(before), topics(after));
    let admitted = diff.affected_by_admission(&before.name);
    for topic in was.iter().filter(|topic| !is.contains(topic)) {
        let found = Found::new(Class::Breaking, "topic_removed", &["topic"]).from(topic);
        diff.add(subject, found.affecting(admitted.clone()));
    }
    for topic in is.iter().filter(|topic| !was.contains(topic)) {
        diff.add(subject, Found::new(Class::Additive, "topic_added", &["topic"]).to(topic));
    }
    if before.format != after.format {
        let found = Found::new(Class::Breaking, "format_changed", &["format"])
            .from(before.format.as_str())
            .to(after.format.as_str());
        diff.add(subject, found.affecting(admitted.clone()));
    }
    if before.envelope != after.envelope {
        let shown = |contract: &EventContract| {
            let places = contract.envelope.places().map(|(what, place)| format!("{what}: {place}"));
            let form = contract.envelope.time_form.as_str();
            places.chain([format!("form of time: {form}")]).collect::<Vec<_>>().join(", ")
        };
        let found = Found::new(Class::Breaking, "envelope_changed", &["envelope"])
            .from(shown(before))
            .to(shown(after));
        diff.add(subject, found.affecting(admitted.clone()));
    }
    if before.key != after.key {
        let mut found = Found::new(Class::Breaking, "event_key_changed", &["key"]);
        (found.before, found.after) = (before.key.clone(), after.key.clone());
        diff.add(subject, found);
    }
    policies(diff, subject, before, after, &admitted);
    fields(diff, subject, before, after);
    rules(diff, subject, before, after, &admitted);
    enrich(diff, subject, before, after);
    let lake = (Class::Safe, "lake_layout_changed");
    let layouts = (format!("{:?}", before.lake), format!("{:?}", after.lake));
    diff.if_other(subject, lake, &["lake"], (&layouts.0, &layouts.1), |_| None);
    diff.words(subject, &["owner"], &before.owner, &after.owner);
    diff.words(subject, &["description"], &before.description, &after.description);
    diff.words(subject, &["synonyms"], &before.synonyms, &after.synonyms);
    diff.life_cycle(
        subject,
        (before.status, after.status),
        (&before.deprecation, &after.deprecation),
    );
}

/// Which events count.
fn policies(
    diff: &mut Diff<'_>,
    subject: &Subject,
    before: &EventContract,
    after: &EventContract,
    affects: &[String],
) {
    let conflict = |contract: &EventContract| match contract.dedup.on_conflict {
        OnConflict::DeadLetter => "dead_letter".to_owned(),
        OnConflict::KeepFirst => "keep_first".to_owned(),
    };
    let seconds = |micros: i64| format!("{} s", micros as f64 / 1e6);
    let (was, is) = (&before.time_policy, &after.time_policy);
    let policies: [(_, &[&str], _, _); 5] = [
        (
            "dedup_changed",
            &["dedup", "horizon"],
            seconds(before.dedup.horizon),
            seconds(after.dedup.horizon),
        ),
        ("dedup_changed", &["dedup", "on_conflict"], conflict(before), conflict(after)),
        (
            "time_policy_changed",
            &["time_policy", "max_future"],
            seconds(was.max_future),
            seconds(is.max_future),
        ),
        (
            "time_policy_changed",
            &["time_policy", "allowed_lateness"],
            seconds(was.allowed_lateness),
            seconds(is.allowed_lateness),
        ),
        (
            "time_policy_changed",
            &["time_policy", "late"],
            was.late.as_str().to_owned(),
            is.late.as_str().to_owned(),
        ),
    ];
    for (change, key, was, is) in policies {
        if was != is {
            let found = Found::new(Class::Restating, change, key).from(was).to(is);
            diff.add(subject, found.affecting(affects.to_vec()));
        }
    }
}

fn fields(diff: &mut Diff<'_>, subject: &Subject, before: &EventContract, after: &EventContract) {
    for field in &before.fields {
        match after.fields.iter().find(|other| other.name == field.name) {
            Some(other) => field_of_both(diff, subject, before, field, other),
            None => {
                let affects = affected_by_column(diff, before, &field.name);
                let key = ["fields", field.name.as_str()];
                let found = Found::new(Class::Breaking, "field_removed", &key);
                diff.add(subject, found.affecting(affects));
            }
        }
    }
    for field in &after.fields {
        if before.fields.iter().all(|other| other.name != field.name) {
            // Who does not send it gets the default.
            let (class, change) = match field.required && field.default.is_none() {
                true => (Class::Breaking, "required_field_added"),
                false => (Class::Additive, "field_added"),
            };
            let key = ["fields", field.name.as_str()];
            let mut found = Found::new(class, change, &key).to(&field.ty);
            if class == Class::Breaking {
                found.affects = diff.affected_by_admission(&before.name);
            }
            diff.add(subject, found);
        }
    }
}

fn field_of_both(
    diff: &mut Diff<'_>,
    subject: &Subject,
    of: &EventContract,
    was: &Field,
    is: &Field,
) {
    let name = was.name.as_str();
    // Whether an event is taken concerns all that it moves, another value only those who read it.
    let admitted = diff.affected_by_admission(&of.name);
    let readers = affected_by_column(diff, of, name);
    let add =
        |diff: &mut Diff<'_>, class, change: &'static str, part: &str, texts: (String, String)| {
            let key = ["fields", name, part];
            let found = Found::new(class, change, &key).from(texts.0).to(texts.1);
            let of_value = ["type_changed", "default_changed", "pii_changed"].contains(&change);
            let affects = if of_value { &readers } else { &admitted };
            diff.add(subject, found.affecting(affects.clone()));
        };
    if was.ty != is.ty {
        let texts = (was.ty.to_string(), is.ty.to_string());
        add(diff, Class::Breaking, "type_changed", "type", texts);
    }
    if was.time_form != is.time_form {
        let texts = (was.time_form.as_str().to_owned(), is.time_form.as_str().to_owned());
        add(diff, Class::Breaking, "time_form_changed", "format", texts);
    }
    if was.default != is.default {
        let shown = |field: &Field| field.default.as_ref().map_or("none".into(), |d| d.to_string());
        add(diff, Class::Restating, "default_changed", "default", (shown(was), shown(is)));
    }
    match (was.required, is.required) {
        (false, true) if is.default.is_none() => {
            add(
                diff,
                Class::Breaking,
                "field_became_required",
                "required",
                ("optional".into(), "required".into()),
            );
        }
        (true, false) => {
            let texts = ("required".into(), "optional".into());
            add(diff, Class::Additive, "field_became_optional", "required", texts);
        }
        _ => {}
    }
    if was.pii != is.pii {
        add(diff, Class::Breaking, "pii_changed", "pii", (was.pii.to_string(), is.pii.to_string()));
    }
    for (part, texts, tighter) in bounds(&was.constraints, &is.constraints) {
        let (class, change) = match tighter {
            true => (Class::Breaking, "bound_tightened"),
            false => (Class::Additive, "bound_loosened"),
        };
        add(diff, class, change, part, texts);
    }
    diff.words(subject, &["fields", name, "description"], &was.description, &is.description);
}

type Bound = (&'static str, (String, String), bool);

/// The bounds that differ, and whether they let fewer values through.
fn bounds(was: &Constraints, is: &Constraints) -> Vec<Bound> {
    let mut all = Vec::new();
    let mut add = |part, was: Option<String>, is: Option<String>, tighter: bool| {
        if was != is {
            let shown = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
            all.push((part, (shown(was), shown(is)), tighter));
        }
    };
    let pattern = |c: &Constraints| c.pattern.as_ref().map(|p| p.as_str().to_owned());
    // Which of two patterns matches more is not to be known.
    add("pattern", pattern(was), pattern(is), is.pattern.is_some());
    let values = |c: &Constraints| c.values.as_ref().map(|values| values.join(", "));
    let fewer = match (&was.values, &is.values) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(was), Some(is)) => was.iter().any(|value| !is.contains(value)),
    };
    let same = match (&was.values, &is.values) {
        (Some(was), Some(is)) => !fewer && was.len() == is.len(),
        (was, is) => was == is,
    };
    if !same {
        add("values", values(was), values(is), fewer);
    }
    let low = |was: &Option<String>, is: &Option<String>| is_beyond(was, is, Ordering::Less);
    let high = |was: &Option<String>, is: &Option<String>| is_beyond(was, is, Ordering::Greater);
    add("above", was.above.clone(), is.above.clone(), low(&was.above, &is.above));
    add("min", was.min.clone(), is.min.clone(), low(&was.min, &is.min));
    add("below", was.below.clone(), is.below.clone(), high(&was.below, &is.below));
    add("max", was.max.clone(), is.max.clone(), high(&was.max, &is.max));
    let count = |n: Option<usize>| n.map(|n| n.to_string());
    let sizes = [
        ("min_length", was.min_length, is.min_length, true),
        ("max_length", was.max_length, is.max_length, false),
        ("min_items", was.min_items, is.min_items, true),
        ("max_items", was.max_items, is.max_items, false),
    ];
    for (part, was, is, is_least) in sizes {
        let (was, is) = (count(was), count(is));
        let tighter = if is_least { low(&was, &is) } else { high(&was, &is) };
        add(part, was, is, tighter);
    }
    all
}

/// Does a bound shut out more than the one before? `order` is how the one before then stands to it.
fn is_beyond(was: &Option<String>, is: &Option<String>, order: Ordering) -> bool {
    let (Some(was), Some(is)) = (was, is) else { return is.is_some() };
    match (parse_decimal(was), parse_decimal(is)) {
        (Some(was), Some(is)) => compare_decimals(was, is) == order,
        // Bounds are numbers; of anything else the worse is assumed.
        _ => true,
    }
}

fn rules(
    diff: &mut Diff<'_>,
    subject: &Subject,
    before: &EventContract,
    after: &EventContract,
    affects: &[String],
) {
    let rejects = |rule: Option<&Rule>| rule.is_some_and(|r| r.severity == Severity::Error);
    let names = before.rules.iter().chain(&after.rules).map(|rule| rule.name.as_str());
    let names: std::collections::BTreeSet<&str> = names.collect();
    for name in names {
        let of = |contract: &'_ EventContract| -> Option<Rule> {
            contract.rules.iter().find(|rule| rule.name == name).cloned()
        };
        let (was, is) = (of(before), of(after));
        let check = |rule: &Option<Rule>| rule.as_ref().map(|r| r.check.canonical().to_owned());
        let same_check = check(&was) == check(&is);
        let (was_strict, is_strict) = (rejects(was.as_ref()), rejects(is.as_ref()));
        let (class, change) = match (was_strict, is_strict) {
            (true, true) if same_check => continue,
            (true, true) => (Class::Breaking, "rule_changed"),
            (false, true) => (Class::Breaking, "rule_added"),
            (true, false) => (Class::Additive, "rule_removed"),
            (false, false) if same_check => continue,
            (false, false) => (Class::Safe, "warning_changed"),
        };
        let key = ["rules", name, "check"];
        let key = if is.is_some() { &key[..] } else { &key[..1] };
        let mut found = Found::new(class, change, key);
        (found.before, found.after) = (check(&was), check(&is));
        if class != Class::Safe {
            found.affects = affects.to_vec();
        }
        // The place of what is gone is the list that it stood in; its name says which it was.
        if found.after.is_none() {
            found.before = found.before.map(|check| format!("{name}: {check}"));
        }
        diff.add(subject, found);
    }
}

fn enrich(diff: &mut Diff<'_>, subject: &Subject, before: &EventContract, after: &EventContract) {
    let said = |domain: &Domain, value: &EnrichValue| match value {
        EnrichValue::Expr(expr) => expr.canonical().to_owned(),
        EnrichValue::Lookup { entity, key, field } => {
            let entity = &domain.entities[*entity];
            let entity = super::named(&entity.name, entity.version);
            format!("lookup {field} of {entity} by {}", key.canonical())
        }
    };
    let (old, new) = (diff.old.domain.clone(), diff.new.domain.clone());
    for was in &before.enrich {
        let name = was.name.as_str();
        let key = ["enrich", name];
        let affects = affected_by_column(diff, before, name);
        let Some(is) = after.enrich.iter().find(|other| other.name == name) else {
            let found = Found::new(Class::Breaking, "column_removed", &key);
            diff.add(subject, found.affecting(affects));
            continue;
        };
        if was.ty != is.ty {
            let found = Found::new(Class::Breaking, "type_changed", &key);
            diff.add(subject, found.from(&was.ty).to(&is.ty).affecting(affects.clone()));
        }
        let texts = (said(&old, &was.value), said(&new, &is.value));
        if texts.0 != texts.1 {
            // A lookup is as known when the event was applied: it cannot be made again.
            let change = match is.value {
                EnrichValue::Expr(_) => "enrich_changed",
                EnrichValue::Lookup { .. } => "lookup_changed",
            };
            let found = Found::new(Class::Restating, change, &key).from(texts.0).to(texts.1);
            diff.add(subject, found.affecting(affects));
        }
    }
    for is in &after.enrich {
        if before.enrich.iter().all(|other| other.name != is.name) {
            let key = ["enrich", is.name.as_str()];
            diff.add(subject, Found::new(Class::Additive, "column_added", &key).to(&is.ty));
        }
    }
}
