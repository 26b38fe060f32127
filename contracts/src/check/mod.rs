//! From contracts as written to a checked [`Domain`].
//!
//! The way: read all files; note all names; compile families and entities in the order of their
//! needs; compile metrics after their parts; derive the graph and hold `moved_by` and the examples
//! against it. Every step goes on after an error; what refers to something broken is skipped without
//! an error of its own. Start at [`load`].

mod call;
mod candidate;
mod deprecated;
mod document;
mod entity;
mod envelope;
mod event;
mod example;
mod family;
mod fields;
mod fold;
mod hash;
mod lake;
mod measure;
mod metric;
mod money;
mod moved_by;
mod names;
mod order;
mod places;
mod relations;
mod topic;
mod values;

pub use values::parse_duration;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Position, Report};
use crate::graph::Graph;
use crate::model::{Domain, Place, UnknownEvent};
use crate::raw::decode::Text;
use crate::raw::{self, Contract};
use crate::yaml;
use metric::Metrics;
use names::{Item, Names, Source, head};
use relations::Relations;
use values::contract_name;

pub use candidate::candidate;
pub(crate) use family::name_of as event_name;
pub(crate) use values::{compare, is_column_name, parse_decimal};

/// The contracts of a folder as written, by kind.
#[derive(Default)]
struct Written {
    events: Vec<(raw::event::Event, Source)>,
    entities: Vec<Item<raw::entity::Entity>>,
    metrics: Vec<Item<raw::metric::Metric>>,
    settings: Option<raw::DomainSettings>,
    names: Names,
}

/// Loads a domain from texts. The paths only name the files in messages.
///
/// # Errors
/// Everything that is wrong, in order of file and line.
pub fn load(files: &[(PathBuf, String)]) -> Result<Domain, Vec<Diagnostic>> {
    let mut report = Report::default();
    let domain = compile(files, &mut report);
    if report.is_empty()
        && let Some(domain) = domain
    {
        return Ok(domain);
    }
    let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
    Err(report.into_diagnostics(&paths))
}

fn compile(files: &[(PathBuf, String)], report: &mut Report) -> Option<Domain> {
    let Written { events, entities, metrics: metric_items, settings, mut names } =
        read(files, report);
    let drafts = family::drafts(events, &mut names, report);
    topic::formats(&drafts, report);
    let mut relations = Relations {
        families: drafts.iter().enumerate().map(|(i, d)| family::empty(i, &d.name)).collect(),
        ..Relations::default()
    };
    for item in &entities {
        let versions = names.entity_versions.entry(item.name.clone()).or_default();
        versions.push((item.status, item.version));
    }
    for node in compile_order(&drafts, &entities, &names, report) {
        match node.checked_sub(drafts.len()) {
            None => family::check(node, &drafts[node], &mut names, &mut relations, report),
            Some(i) => entity::check(&entities[i], &names, &mut relations, report),
        }
    }
    deprecated::successors(&drafts, &entities, &metric_items, report);
    let metrics = compile_metrics(&metric_items, &names, &mut relations, report);
    if relations.families.is_empty() && report.is_empty() {
        let at = Position { file: 0, line: 0, column: 0 };
        report.error(
            at,
            "there is no event contract",
            "add a file with `kind: event`; `agentflow contracts new` drafts one from samples",
        );
    }
    if !report.is_empty() {
        return None;
    }
    let mut type_places: Vec<Place> = Vec::new();
    for contract in relations.families.iter().flat_map(|f| &f.versions) {
        let place = &contract.envelope.event_type;
        if !type_places.iter().any(|known| known.is_same(place)) {
            type_places.push(place.clone());
        }
    }
    let documents = document::documents(&drafts, &entities, &metric_items, &relations, &metrics);
    let graph = Graph::derive(&relations.families, &relations.entities, &metrics);
    Some(Domain {
        name: settings
            .as_ref()
            .and_then(|s| s.name.as_ref())
            .map_or_else(|| folder_name(files), |t| t.value.clone()),
        families: relations.families,
        entities: relations.entities,
        metrics,
        ingest: relations.ingest,
        unknown_event: match settings.and_then(|s| s.unknown_event) {
            None | Some(raw::UnknownEvent::DeadLetter) => UnknownEvent::DeadLetter,
            Some(raw::UnknownEvent::Ignore) => UnknownEvent::Ignore,
        },
        graph,
        documents,
        type_places,
    })
}

/// Reads all documents of all files.
fn read(files: &[(PathBuf, String)], report: &mut Report) -> Written {
    let mut written = Written::default();
    for (index, (path, text)) in files.iter().enumerate() {
        let before = report.count();
        let documents = yaml::parse(index as u32, text, report);
        written.names.gaps |= report.count() != before;
        for document in documents {
            let source = Source { file: path.clone(), text: document.text, at: document.root.at };
            match raw::read(&document.root, report) {
                None => written.names.unreadable(&document.root),
                Some(Contract::Event(event)) => written.events.push((*event, source)),
                Some(Contract::Entity(entity)) => {
                    let status = deprecated::status(entity.status, &entity.deprecated, report);
                    let head = (entity.name.clone(), entity.version, status);
                    match item(*entity, head, "an entity", source, &written.entities, report) {
                        Ok(item) => written.entities.push(item),
                        Err(name) => drop(written.names.unreadable.insert(name)),
                    }
                }
                Some(Contract::Metric(metric)) => {
                    let status = deprecated::status(metric.status, &metric.deprecated, report);
                    let head = (metric.name.clone(), metric.version, status);
                    match item(*metric, head, "a metric", source, &written.metrics, report) {
                        Ok(item) => written.metrics.push(item),
                        Err(name) => drop(written.names.unreadable.insert(name)),
                    }
                }
                Some(Contract::Domain(settings)) => {
                    if written.settings.is_some() {
                        report.error(
                            settings.at,
                            "the folder has two contracts of `kind: domain`",
                            "remove one of them",
                        );
                    }
                    written.settings = Some(*settings);
                }
            }
        }
    }
    written.entities.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
    written.metrics.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
    written
}

type Head = (Text, Option<raw::decode::Whole>, Option<raw::Status>);

/// A contract with its head read; the name alone when the head is wrong.
fn item<T>(
    raw: T,
    (name, version, status): Head,
    what: &str,
    source: Source,
    others: &[Item<T>],
    report: &mut Report,
) -> Result<Item<T>, String> {
    let (version, status) = head(version, status, report);
    let checked = contract_name(&name, what, false, report).ok_or_else(|| name.value.clone())?;
    if let Some(other) = others.iter().find(|o| o.name == checked && o.version == version) {
        report.error(
            name.at,
            format!("{what} called `{checked}` with version {version} is already there"),
            format!(
                "give this one another name or `version`; the other is in {}:{}",
                other.source.file.display(),
                other.source.at.line
            ),
        );
        return Err(checked);
    }
    Ok(Item { raw, source, name: checked, version, status })
}

/// Families (by index) and entities (after them) in the order in which they can be compiled.
fn compile_order(
    drafts: &[family::Draft],
    entities: &[Item<raw::entity::Entity>],
    names: &Names,
    report: &mut Report,
) -> Vec<usize> {
    let entity_node = |name: &str| -> Option<usize> {
        let wanted = names::newest(names.entity_versions.get(name)?.iter().copied())?;
        entities
            .iter()
            .position(|e| e.name == name && (e.status, e.version) == wanted)
            .map(|i| drafts.len() + i)
    };
    let needs = |node: usize| -> Vec<usize> {
        let Some(i) = node.checked_sub(drafts.len()) else {
            return lookups(&drafts[node]).filter_map(|text| entity_node(&text.value)).collect();
        };
        let types = |types: &raw::decode::OneOrMany<Text>| -> Vec<usize> {
            types.0.iter().filter_map(|t| names.event_types.get(&t.value).copied()).collect()
        };
        match &entities[i].raw.from {
            raw::entity::EntitySource::Events(list) => types(list),
            raw::entity::EntitySource::Details(details) => {
                match (&details.event, &details.entity) {
                    (_, Some(name)) => entity_node(&name.value).into_iter().collect(),
                    (Some(list), None) => types(list),
                    (None, None) => Vec::new(),
                }
            }
        }
    };
    order::dependencies_first(drafts.len() + entities.len(), needs, |cycle| {
        let name = |node: usize| match node.checked_sub(drafts.len()) {
            None => format!("event contract `{}`", drafts[node].name),
            Some(i) => format!("entity `{}`", entities[i].name),
        };
        let path: Vec<String> = cycle.iter().chain(&cycle[..1]).map(|node| name(*node)).collect();
        let family = cycle.iter().find(|node| **node < drafts.len());
        let lookup = family.and_then(|node| {
            lookups(&drafts[*node])
                .find(|text| entity_node(&text.value).is_some_and(|n| cycle.contains(&n)))
        });
        match (lookup, cycle[0].checked_sub(drafts.len())) {
            (Some(text), _) => report.error(
                text.at,
                format!("a lookup goes in a circle: {}", path.join(" → ")),
                "look up only entities that the events of this contract do not change",
            ),
            (None, Some(i)) => report.error(
                entities[i].source.at,
                format!("an entity is folded from itself: {}", path.join(" → ")),
                "give one of them event types as its source",
            ),
            (None, None) => {}
        }
    })
}

fn lookups(draft: &family::Draft) -> impl Iterator<Item = &Text> {
    draft.versions.iter().flat_map(|v| v.raw.enrich.iter().flat_map(|e| &e.0)).filter_map(
        |(_, enrich)| match enrich {
            raw::event::Enrich::Long(details) => details.lookup.as_ref(),
            raw::event::Enrich::Expr(_) => None,
        },
    )
}

fn compile_metrics(
    items: &[Item<raw::metric::Metric>],
    names: &Names,
    relations: &mut Relations,
    report: &mut Report,
) -> Vec<crate::model::Metric> {
    let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for item in items {
        all.entry(&item.name).or_default().push((item.status, item.version));
    }
    let mut metrics = Metrics { all, compiled: Vec::new() };
    let mut written = Vec::new();
    for index in metric::order(items, report) {
        let item = &items[index];
        if let Some(metric) = metric::check(item, names, relations, &metrics, report) {
            metrics.compiled.push(metric);
            written.push(index);
        }
    }
    let mut metrics = metrics.compiled;
    let graph = Graph::derive(&relations.families, &relations.entities, &metrics);
    for (metric, index) in metrics.iter_mut().zip(written) {
        let raw = &items[index].raw;
        let origins = &graph.origins[metric.index];
        moved_by::check(raw, origins, names, report);
        metric.examples = example::check(raw, metric, names, relations, report);
    }
    metrics
}

/// The folder that all files stand in.
fn folder_name(files: &[(PathBuf, String)]) -> String {
    let mut common: Option<&Path> = None;
    for (path, _) in files {
        let parent = path.parent().unwrap_or(Path::new(""));
        common = Some(match common {
            None => parent,
            Some(known) => known
                .ancestors()
                .find(|candidate| parent.starts_with(candidate))
                .unwrap_or(Path::new("")),
        });
    }
    common
        .and_then(Path::file_name)
        .map_or_else(|| "domain".to_owned(), |name| name.to_string_lossy().into_owned())
}
