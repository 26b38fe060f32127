//! Where things stand in a folder of contracts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Subject;
use crate::check::event_name;
use crate::diagnostic::Report;
use crate::raw::Contract;
use crate::yaml::{self, Node, Value};

/// The trees of all contracts by kind, name and version.
#[derive(Debug, Default)]
pub(super) struct Places {
    files: Vec<PathBuf>,
    roots: BTreeMap<(&'static str, String, u32), Node>,
}

impl Places {
    /// Reads texts that load; what does not is left out.
    pub(super) fn of(texts: &[(PathBuf, String)]) -> Self {
        let mut places = Self {
            files: texts.iter().map(|(path, _)| path.clone()).collect(),
            roots: BTreeMap::new(),
        };
        let mut report = Report::default();
        for (file, (_, text)) in texts.iter().enumerate() {
            for document in yaml::parse(file as u32, text, &mut report) {
                let Some(contract) = crate::raw::read(&document.root, &mut report) else {
                    continue;
                };
                let version = |written: Option<crate::raw::decode::Whole>| {
                    written.and_then(|v| u32::try_from(v.value).ok()).unwrap_or(1)
                };
                let key = match contract {
                    Contract::Event(event) => match event_name(&event, &mut report) {
                        Some(name) => ("event", name, version(event.version)),
                        None => continue,
                    },
                    Contract::Entity(entity) => {
                        ("entity", entity.name.value, version(entity.version))
                    }
                    Contract::Metric(metric) => {
                        ("metric", metric.name.value, version(metric.version))
                    }
                    Contract::Domain(_) => ("domain", String::new(), 0),
                };
                places.roots.insert(key, document.root);
            }
        }
        places
    }

    /// File and line of the deepest of `keys` that is written in a contract; the contract's first line when
    /// none is. `None` when there is no such contract.
    pub(super) fn find(&self, subject: &Subject, keys: &[String]) -> Option<(PathBuf, u32)> {
        let name = if subject.kind == "domain" { "" } else { subject.name.as_str() };
        let root = self.roots.get(&(subject.kind, name.to_owned(), subject.version))?;
        let (mut node, mut at) = (root, root.at);
        for key in keys {
            match step(node, key) {
                Some((below, place)) => (node, at) = (below, place),
                None => break,
            }
        }
        Some((self.files.get(at.file as usize)?.clone(), at.line))
    }
}

/// What stands under `key`: a member of a mapping, or the item of a list that is called so.
fn step<'n>(node: &'n Node, key: &str) -> Option<(&'n Node, crate::diagnostic::Position)> {
    match &node.value {
        Value::Map(members) => {
            members.iter().find(|(name, _)| name.text == key).map(|(name, node)| (node, name.at))
        }
        Value::List(items) => items.iter().find(|item| is_called(item, key)).map(|i| (i, i.at)),
        Value::Scalar(_) => None,
    }
}

fn is_called(item: &Node, key: &str) -> bool {
    match &item.value {
        Value::Scalar(scalar) => scalar.text == key,
        Value::Map(members) => members.iter().any(|(name, value)| {
            name.text == "name" && matches!(&value.value, Value::Scalar(s) if s.text == key)
        }),
        Value::List(_) => false,
    }
}
