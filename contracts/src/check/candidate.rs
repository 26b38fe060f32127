//! A contract that may come, checked beside those that are there.

use std::path::PathBuf;

use crate::check::family::name_of;
use crate::check::load;
use crate::check::names::head;
use crate::diagnostic::{Diagnostic, Position, Report};
use crate::model::{Document, Domain, Kind};
use crate::raw::{self, Contract};
use crate::yaml;

/// Name of the candidate in messages.
const FILE: &str = "candidate";

/// What `text` (one contract in YAML or JSON) would be as a document, if it stood in the folder of
/// `domain` in the place of the same version, or beside the others.
///
/// # Errors
/// Everything that would be wrong with the folder then.
pub fn candidate(domain: &Domain, text: &str) -> Result<Document, Vec<Diagnostic>> {
    let mut report = Report::default();
    let written = read(text, &mut report);
    let Some((kind, name, version)) = written.filter(|_| report.is_empty()) else {
        return Err(report.into_diagnostics(&[PathBuf::from(FILE)]));
    };
    let is_it = |d: &Document| d.kind == kind && d.entity == name && d.version == version;
    let others = domain.documents.iter().filter(|document| !is_it(document));
    let others =
        others.map(|d| (PathBuf::from(format!("{}.v{}", d.entity, d.version)), d.yaml.clone()));
    let files: Vec<_> =
        [(PathBuf::from(FILE), text.to_owned())].into_iter().chain(others).collect();
    let documents = load(&files)?.documents;
    documents.into_iter().find(is_it).ok_or_else(|| {
        let mut report = Report::default();
        report.error(start(), "the contract gave no document", "declare some fields");
        report.into_diagnostics(&[PathBuf::from(FILE)])
    })
}

/// What the text is a contract of.
fn read(text: &str, report: &mut Report) -> Option<(Kind, String, u32)> {
    let documents = yaml::parse(0, text, report);
    let [document] = documents.as_slice() else {
        if report.is_empty() {
            report.error(
                start(),
                format!("expected one contract, found {}", documents.len()),
                "send one at a time",
            );
        }
        return None;
    };
    Some(match raw::read(&document.root, report)? {
        Contract::Event(event) => {
            let (version, _) = head(event.version, event.status, report);
            (Kind::Event, name_of(&event, report)?, version)
        }
        Contract::Entity(entity) => {
            let (version, _) = head(entity.version, entity.status, report);
            (Kind::Entity, entity.name.value.clone(), version)
        }
        Contract::Metric(metric) => {
            let (version, _) = head(metric.version, metric.status, report);
            (Kind::Metric, format!("metric.{}", metric.name.value), version)
        }
        Contract::Domain(settings) => {
            report.error(
                settings.at,
                "`kind: domain` has no versions",
                "send an event, entity or metric contract",
            );
            return None;
        }
    })
}

fn start() -> Position {
    Position { file: 0, line: 1, column: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "
kind: event
names: [sale.made]
fields: {id: string, amount: 'decimal(9,2)', town: {type: string, required: false}}
---
kind: entity
name: sale
from: [sale.made]
key: id
fields: {amount: last, town: last}
---
kind: metric
name: takings
unit: EUR
from: {entity: sale}
time: _updated_at
measure: sum(amount)
windows: [now]
moved_by: [sale.made]
";

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, u32, usize), &str>) {
        let domain = DOMAIN.replace("\ntime: _updated_at", "");
        let domain = crate::load(&[("d.yaml".into(), domain)]).unwrap_or_else(|e| panic!("{e:#?}"));
        match (candidate(&domain, text), expected) {
            (Ok(document), Ok(expected)) => {
                let got = (document.entity.as_str(), document.version, document.fields.len());
                assert_eq!(got, expected);
            }
            (Err(found), Err(expected)) => {
                let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
                assert!(text.contains(expected), "{text}");
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn it_is_checked_beside_the_others() {
        check(
            "{kind: entity, name: sale, version: 2, from: [sale.made], key: id, fields: {amount: last}}",
            Ok(("sale", 2, 2)),
        );
        check(
            r#"{"kind": "entity", "name": "sale", "from": ["sale.made"], "key": "id", "fields": {"amount": "last"}}"#,
            Ok(("sale", 1, 2)),
        );
        check(
            "kind: event\nnames: [sale.made]\nversion: 2\nfields: {id: string, amount: 'decimal(9,2)'}",
            Ok(("sale.made", 2, 2)),
        );
        // What stands on it is looked at too: the metric reads a field that goes.
        check(
            "{kind: entity, name: sale, from: [sale.made], key: id, fields: {town: last}}",
            Err("metric.takings.v1:"),
        );
        check(
            "kind: entity\nname: sale\nfrm: [sale.made]",
            Err("candidate:3:1: unknown key `frm`"),
        );
        check("kind: domain", Err("has no versions"));
        check("", Err("expected one contract, found 0"));
        check("kind: entity\n---\nkind: entity", Err("found 2"));
    }
}
