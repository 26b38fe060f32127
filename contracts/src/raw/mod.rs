//! Contracts as written: the grammar of the files, before anything is checked.
//!
//! One record per mapping of the grammar. Its doc comments become the descriptions in the editor
//! schema, so they are written for people who write contracts. Start at [`read`].

pub(crate) mod decode;
pub(crate) mod entity;
pub(crate) mod event;
pub(crate) mod metric;

use schemars::JsonSchema;

use crate::diagnostic::Report;
use crate::raw::decode::{Decode, Text, choice, record, word};
use crate::yaml::{Node, Value};

/// A contract of any kind.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Contract {
    /// An event contract.
    Event(Box<event::Event>),
    /// An entity contract.
    Entity(Box<entity::Entity>),
    /// A metric contract.
    Metric(Box<metric::Metric>),
    /// What holds for the whole folder.
    Domain(Box<DomainSettings>),
}

choice! {
    /// Life cycle of a contract version.
    Status, "a status", {
        /// In use.
        Stable = "stable",
        /// Still understood; producers and readers should move on.
        Deprecated = "deprecated",
    }
}

record! {
    /// Since when a version is deprecated, until when it is there, and what to use instead.
    Deprecated, "a deprecation", {
        /// Day from which on nobody should begin to use it, as `2026-10-01`.
        since: Option<Text>,
        /// Day on which it goes away.
        sunset: Option<Text>,
        /// What to use instead: `name` or `name vN` of the same kind.
        instead as "use": Option<Text>,
    }
}

choice! {
    /// Says that this is a domain's settings.
    DomainKind, "a kind", {
        /// Settings of the whole folder.
        Domain = "domain",
    }
}

choice! {
    /// What happens to a record whose type no contract names.
    UnknownEvent, "a policy for unknown events", {
        /// It becomes a dead letter with reason `unknown_event_type`.
        DeadLetter = "dead_letter",
        /// It is discarded and counted.
        Ignore = "ignore",
    }
}

record! {
    /// What holds for the whole folder; at most one per folder.
    DomainSettings, "a domain", {
        /// Says that this is a domain's settings.
        kind: DomainKind,
        /// Name of the domain; default: the name of the folder.
        name: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
        /// What happens to a record whose type no contract names; default `dead_letter`.
        unknown_event: Option<UnknownEvent>,
    }
}

/// Reads one document as a contract, by its `kind`.
pub(crate) fn read(root: &Node, report: &mut Report) -> Option<Contract> {
    const KINDS: &[&str] = &["event", "entity", "metric", "domain"];
    let Value::Map(entries) = &root.value else {
        report.error(
            root.at,
            format!("expected a contract, found {}", root.describe()),
            "start with `kind: event`, `kind: entity` or `kind: metric`",
        );
        return None;
    };
    let Some((_, kind)) = entries.iter().find(|(key, _)| key.text == "kind") else {
        report.error(
            root.at,
            "a contract needs the key `kind`",
            "start with `kind: event`, `kind: entity` or `kind: metric`",
        );
        return None;
    };
    match word(kind, "a kind of contract", KINDS, report)? {
        "event" => Decode::decode(root, report).map(|c| Contract::Event(Box::new(c))),
        "entity" => Decode::decode(root, report).map(|c| Contract::Entity(Box::new(c))),
        "metric" => Decode::decode(root, report).map(|c| Contract::Metric(Box::new(c))),
        _ => Decode::decode(root, report).map(|c| Contract::Domain(Box::new(c))),
    }
}
