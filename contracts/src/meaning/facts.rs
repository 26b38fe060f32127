//! Facts of two hashes laid side by side.
//!
//! What a contract says itself is told apart from what comes from below: hashes of other contracts become
//! their names, and definitions of enriched columns are cut off. So a fact differs only where this
//! contract says something else. That a fact comes from this source or that is told by `from` alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::named;
use crate::model::{Domain, Relation};

/// What is said about one thing: each text as it is compared and as it is shown.
pub(super) type Said = BTreeSet<(String, String)>;

/// What a contract says, by what it is about: `where`, `dimension.city`, …. `sources` are what its facts
/// `from` are about, in their order: two contracts that mean the same have one hash, and all types of an
/// event contract are written as none.
pub(super) fn by_subject(
    facts: &[Vec<String>],
    sources: &[Source],
    names: &Names,
) -> BTreeMap<String, Said> {
    let is_from = |fact: &Vec<String>| fact.first().is_some_and(|about| about == "from");
    let hashed: BTreeSet<&String> =
        facts.iter().filter(|fact| is_from(fact)).filter_map(|fact| fact.get(1)).collect();
    let mut sources = sources.iter();
    let mut all: BTreeMap<String, Said> = BTreeMap::new();
    for fact in facts {
        let Some((about, parts)) = fact.split_first() else { continue };
        let (about, parts) = match (about.as_str(), parts.split_first()) {
            ("dimension" | "fold" | "derived", Some((name, rest))) => {
                (format!("{about}.{name}"), rest)
            }
            _ => (about.clone(), parts),
        };
        let from = if is_from(fact) { sources.next() } else { None };
        let own = parts.iter().enumerate().filter_map(|(i, part)| match (from, i) {
            (Some(source), 0) => Some(source.name.clone()),
            (Some(source), 1) => Some(source.types.clone()),
            (_, _) if hashed.contains(part) => None,
            (_, _) => part.split('\u{1d}').next().map(|text| names.put_into(text)),
        });
        let own: Vec<String> = own.collect();
        let shown = own
            .iter()
            .filter_map(|part| part.split('\u{1f}').next())
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        all.entry(about).or_default().insert((own.join("\u{1f}"), shown));
    }
    all
}

/// Where rows come from.
pub(super) struct Source {
    name: String,
    types: String,
}

/// The source of an input with these event types.
pub(super) fn source(domain: &Domain, relation: Relation, types: &[String]) -> Source {
    let (name, types) = match relation {
        Relation::Family(family) => {
            let family = &domain.families[family];
            let all = family.versions.iter().flat_map(|version| &version.names);
            let types: BTreeSet<&String> =
                if types.is_empty() { all.collect() } else { types.iter().collect() };
            let types = types.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            (format!("event {}", family.name), types)
        }
        Relation::Entity(entity) => {
            let entity = &domain.entities[entity];
            (format!("entity {}", named(&entity.name, entity.version)), String::new())
        }
        Relation::Ingest => ("ingest".to_owned(), String::new()),
    };
    Source { name, types }
}

/// How it is shown to people.
pub(super) fn shown(said: Option<&Said>) -> Option<String> {
    let texts: BTreeSet<&str> = said?.iter().map(|(_, shown)| shown.as_str()).collect();
    Some(texts.into_iter().collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
}

/// The names behind hashes.
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    pub(super) fn of(domain: &Domain) -> Self {
        let entities = domain.entities.iter().map(|e| (e.hash, &e.name, e.version));
        let metrics = domain.metrics.iter().map(|m| (m.hash, &m.name, m.version));
        let all = entities.chain(metrics);
        Self(all.map(|(hash, name, v)| (format!("{hash:016x}"), named(name, v))).collect())
    }

    fn put_into(&self, text: &str) -> String {
        static HASH: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\b[0-9a-f]{16}\b").expect("a good pattern"));
        let name = |found: &Captures<'_>| {
            let hash = &found[0];
            self.0.get(hash).cloned().unwrap_or_else(|| hash.to_owned())
        };
        HASH.replace_all(text, name).into_owned()
    }
}
