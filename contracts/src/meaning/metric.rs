//! Changes of metrics.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{self, Said};
use super::{Class, Diff, Found, Read, Subject, named};
use crate::model::{Dimension, Domain, Metric};

pub(super) fn compare(diff: &mut Diff<'_>) {
    let (old, new) = (&diff.old.domain, &diff.new.domain);
    for before in &old.metrics {
        let subject = subject(before);
        match find(new, before) {
            None => {
                let affects = affected(diff, before);
                diff.add(
                    &subject,
                    Found::new(Class::Breaking, "metric_removed", &[]).affecting(affects),
                );
            }
            Some(after) => one(diff, &subject, before, after),
        }
    }
    for after in &new.metrics {
        if find(old, after).is_some() {
            continue;
        }
        let known = old.metric(&after.name).is_some();
        let answers = new.metric(&after.name).is_some_and(|m| m.version == after.version);
        let change = match (known, answers) {
            (false, _) => "metric_added",
            (true, true) => "metric_version_added",
            (true, false) => "metric_version_added_aside",
        };
        diff.add(&subject(after), Found::new(Class::Additive, change, &[]));
    }
    let names: BTreeSet<&str> = old.metrics.iter().map(|metric| metric.name.as_str()).collect();
    for name in names {
        let (Some(before), Some(after)) = (old.metric(name), new.metric(name)) else { continue };
        if before.version != after.version && find(old, after).is_some() {
            let affects = vec![named(name, before.version)];
            let found = Found::new(Class::Restating, "default_version_changed", &["status"])
                .from(named(name, before.version))
                .to(named(name, after.version));
            diff.add(&subject(after), found.affecting(affects));
        }
    }
}

fn subject(metric: &Metric) -> Subject {
    Subject { kind: "metric", name: metric.name.clone(), version: metric.version }
}

fn find<'a>(domain: &'a Domain, of: &Metric) -> Option<&'a Metric> {
    domain.metrics.iter().find(|m| m.name == of.name && m.version == of.version)
}

/// The metric and those that are made of it.
fn affected(diff: &Diff<'_>, metric: &Metric) -> Vec<String> {
    let this = named(&metric.name, metric.version);
    diff.affected(|read| matches!(read, Read::Metric(name) if *name == this))
}

fn one(diff: &mut Diff<'_>, subject: &Subject, before: &Metric, after: &Metric) {
    let affects = affected(diff, after);
    let found =
        |class, change, key: &[&str]| Found::new(class, change, key).affecting(affects.clone());
    if before.unit != after.unit {
        let change = found(Class::Breaking, "unit_changed", &["unit"]);
        diff.add(subject, change.from(&before.unit).to(&after.unit));
    }
    if before.value_type != after.value_type {
        let change = found(Class::Breaking, "value_type_changed", &["measure"]);
        diff.add(subject, change.from(&before.value_type).to(&after.value_type));
    }
    dimensions(diff, subject, (&before.dimensions, &after.dimensions), &affects);
    for window in &before.windows {
        if after.windows.iter().all(|other| other.length != window.length) {
            let change = found(Class::Breaking, "window_removed", &["windows"]);
            diff.add(subject, change.from(&window.text));
        }
    }
    for window in &after.windows {
        if before.windows.iter().all(|other| other.length != window.length) {
            let change = Found::new(Class::Additive, "window_added", &["windows"]);
            diff.add(subject, change.to(&window.text));
        }
    }
    let (was, is) = (said(&diff.old.domain, before), said(&diff.new.domain, after));
    let about: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    for about in about {
        let (was, is) = (was.get(about), is.get(about));
        // Told above, in their own words.
        if was == is || matches!(about.as_str(), "unit" | "type") {
            continue;
        }
        let (change, key): (_, Vec<&str>) = match about.split_once('.') {
            // One that came or went is told above.
            Some(("dimension", _)) if was.is_none() || is.is_none() => continue,
            Some(("dimension", name)) => ("dimension_changed", vec!["dimensions", name]),
            _ => match about.as_str() {
                "from" => ("source_changed", vec!["from"]),
                "where" => ("where_changed", vec!["where"]),
                "time" => ("time_changed", vec!["time"]),
                "on_empty" => ("on_empty_changed", vec!["on_empty"]),
                "measure" | "arg" => ("measure_changed", vec!["measure"]),
                "parts" => ("parts_changed", vec!["measure"]),
                other => ("measure_changed", vec![other]),
            },
        };
        let mut change = found(Class::Restating, change, &key);
        (change.before, change.after) = (facts::shown(was), facts::shown(is));
        diff.add(subject, change);
    }
    for_people(diff, subject, before, after);
}

/// What its facts say, with the metrics that it is made of by their names.
fn said(domain: &Domain, metric: &Metric) -> BTreeMap<String, Said> {
    let sources: Vec<facts::Source> = metric
        .inputs
        .iter()
        .map(|input| facts::source(domain, input.relation, &input.event_types))
        .collect();
    let parts = metric.measure.parts();
    // The hash of a part says that something below changed, which is told there.
    let own = |fact: &&Vec<String>| match fact.first().map(String::as_str) {
        Some("part") => false,
        Some("measure") => fact.get(1).is_none_or(|kind| kind != "ratio"),
        _ => true,
    };
    let facts: Vec<Vec<String>> = metric.facts.iter().filter(own).cloned().collect();
    let mut said = facts::by_subject(&facts, &sources, &facts::Names::of(domain));
    if !parts.is_empty() {
        let names = parts.iter().map(|part| {
            let part = &domain.metrics[*part];
            named(&part.name, part.version)
        });
        let names = names.collect::<Vec<_>>().join(", ");
        said.insert("parts".to_owned(), Said::from([(names.clone(), names)]));
    }
    said
}

fn dimensions(
    diff: &mut Diff<'_>,
    subject: &Subject,
    (before, after): (&[Dimension], &[Dimension]),
    affects: &[String],
) {
    for dimension in before {
        let name = dimension.name.as_str();
        let key = ["dimensions", name];
        let Some(other) = after.iter().find(|other| other.name == name) else {
            let found = Found::new(Class::Breaking, "dimension_removed", &key);
            diff.add(subject, found.affecting(affects.to_vec()));
            continue;
        };
        if dimension.ty != other.ty {
            let found = Found::new(Class::Breaking, "dimension_type_changed", &key);
            let found = found.from(&dimension.ty).to(&other.ty);
            diff.add(subject, found.affecting(affects.to_vec()));
        }
        let key = ["dimensions", name, "max_cardinality"];
        let most = |dimension: &Dimension| dimension.max_cardinality.unwrap_or(usize::MAX);
        let shown = |d: &Dimension| d.max_cardinality.map_or("any".to_owned(), |n| n.to_string());
        let (class, change) = match most(other).cmp(&most(dimension)) {
            std::cmp::Ordering::Less => (Class::Breaking, "cardinality_lowered"),
            _ => (Class::Additive, "cardinality_raised"),
        };
        let pair = (&most(dimension), &most(other));
        if pair.0 != pair.1 {
            let mut found = Found::new(class, change, &key).from(shown(dimension)).to(shown(other));
            if class == Class::Breaking {
                found.affects = affects.to_vec();
            }
            diff.add(subject, found);
        }
        let key = ["dimensions", name, "synonyms"];
        diff.words(subject, &key, &dimension.synonyms, &other.synonyms);
    }
    for dimension in after {
        let name = dimension.name.as_str();
        if before.iter().all(|other| other.name != name) {
            let key = ["dimensions", name];
            diff.add(subject, Found::new(Class::Additive, "dimension_added", &key));
        }
    }
}

/// What changes no number and no shape.
fn for_people(diff: &mut Diff<'_>, subject: &Subject, before: &Metric, after: &Metric) {
    diff.words(subject, &["owner"], &before.owner, &after.owner);
    diff.words(subject, &["description"], &before.description, &after.description);
    diff.words(subject, &["synonyms"], &before.synonyms, &after.synonyms);
    let gauge = (Class::Safe, "gauge_changed");
    diff.if_other(subject, gauge, &["gauge"], (&before.gauge, &after.gauge), |gauge| {
        Some(gauge.to_string())
    });
    let freshness = (Class::Safe, "freshness_changed");
    let ages = (&before.max_age, &after.max_age);
    diff.if_other(subject, freshness, &["freshness", "max_age"], ages, |age| {
        Some(format!("{} ms", age / 1_000))
    });
    diff.life_cycle(
        subject,
        (before.status, after.status),
        (&before.deprecation, &after.deprecation),
    );
    // Lines of the file are no part of an example.
    let examples = |metric: &Metric| -> Vec<String> {
        let all = metric.examples.iter();
        all.map(|e| format!("{:?} {:?} {:?}", e.name, e.given, e.expect)).collect()
    };
    diff.words(subject, &["examples"], &examples(before), &examples(after));
}
