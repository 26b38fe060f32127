//! Who is called what: event types, entities and metrics by name, also the broken ones.
//!
//! A contract with an error of its own is remembered as broken: whoever refers to it gets no second
//! error for that, so each finding is about the place where something must change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::diagnostic::{Position, Report};
use crate::model::{Entity, Status};
use crate::raw;
use crate::raw::decode::Whole;
use crate::yaml::{Node, Value};

/// Where a contract came from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file.
    pub(crate) file: PathBuf,
    /// The lines of the YAML document.
    pub(crate) text: String,
    /// Where it starts.
    pub(crate) at: Position,
}

/// A contract as written, with its head read.
#[derive(Debug, Clone)]
pub(crate) struct Item<T> {
    /// The contract as written.
    pub(crate) raw: T,
    /// Where it came from.
    pub(crate) source: Source,
    /// Checked name.
    pub(crate) name: String,
    /// Checked version.
    pub(crate) version: u32,
    /// Status.
    pub(crate) status: Status,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known<T> {
    /// Something that was compiled without an error.
    Good(T),
    /// Something that has errors of its own, which are reported already.
    Broken,
    /// Nothing.
    Missing,
}

/// All names of a domain.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Event type → family.
    pub(crate) event_types: BTreeMap<String, usize>,
    /// Families with errors.
    pub(crate) broken_families: BTreeSet<usize>,
    /// Names of event types, entities and metrics in contracts that could not be read.
    pub(crate) unreadable: BTreeSet<String>,
    /// Entity name → versions.
    pub(crate) entity_versions: BTreeMap<String, Vec<(Status, u32)>>,
    /// Could a whole file or contract not be read? Then a missing name may stand there.
    pub(crate) gaps: bool,
}

impl Names {
    /// The family of an event type.
    pub(crate) fn family(&self, event_type: &str) -> Known<usize> {
        match self.event_types.get(event_type) {
            Some(family) if self.broken_families.contains(family) => Known::Broken,
            Some(family) => Known::Good(*family),
            None if self.unreadable.contains(event_type) || self.gaps => Known::Broken,
            None => Known::Missing,
        }
    }

    /// The newest stable version of an entity among those compiled so far.
    pub(crate) fn entity(&self, name: &str, compiled: &[Entity]) -> Known<usize> {
        let Some(versions) = self.entity_versions.get(name) else {
            return match self.unreadable.contains(name) || self.gaps {
                true => Known::Broken,
                false => Known::Missing,
            };
        };
        let wanted = newest(versions.iter().copied());
        match compiled.iter().find(|e| e.name == name && Some((e.status, e.version)) == wanted) {
            Some(entity) => Known::Good(entity.index),
            None => Known::Broken,
        }
    }

    /// All entity names.
    pub(crate) fn entities(&self) -> Vec<&str> {
        self.entity_versions.keys().map(String::as_str).collect()
    }

    /// All event types.
    pub(crate) fn types(&self) -> Vec<&str> {
        self.event_types.keys().map(String::as_str).collect()
    }

    /// Notes what a contract that could not be read would have declared.
    pub(crate) fn unreadable(&mut self, root: &Node) {
        let Value::Map(entries) = &root.value else {
            self.gaps = true;
            return;
        };
        let before = self.unreadable.len();
        for (key, value) in entries {
            let named = matches!(key.text.as_str(), "name" | "names");
            match &value.value {
                Value::Scalar(scalar) if named => {
                    self.unreadable.insert(scalar.text.clone());
                }
                Value::List(items) if named => {
                    for item in items {
                        if let Value::Scalar(scalar) = &item.value {
                            self.unreadable.insert(scalar.text.clone());
                        }
                    }
                }
                _ => {}
            }
        }
        self.gaps |= self.unreadable.len() == before;
    }
}

/// The newest stable version, else the newest.
pub(crate) fn newest(versions: impl Iterator<Item = (Status, u32)>) -> Option<(Status, u32)> {
    versions.max_by_key(|(status, version)| (*status == Status::Stable, *version))
}

/// Version and status of a contract; a bad version is reported and read as 1.
pub(crate) fn head(
    version: Option<Whole>,
    status: Option<raw::Status>,
    report: &mut Report,
) -> (u32, Status) {
    let status = match status {
        None | Some(raw::Status::Stable) => Status::Stable,
        Some(raw::Status::Deprecated) => Status::Deprecated,
    };
    let Some(version) = version else { return (1, status) };
    match u32::try_from(version.value).ok().filter(|v| (1..=1_000_000).contains(v)) {
        Some(version) => (version, status),
        None => {
            report.error(
                version.at,
                format!("{} is not a version", version.value),
                "versions count from 1",
            );
            (1, status)
        }
    }
}
