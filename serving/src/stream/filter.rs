//! Which events a connection gets.

use std::collections::BTreeSet;
use std::sync::Arc;

use contracts::model::{Domain, Family};

use crate::metric::hint;
use crate::question::ReadError;
use crate::store::events::Only;

/// Which events of a tenant are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    /// Event types in order; `None`: all.
    types: Option<Arc<[String]>>,
    /// Families that have such events.
    families: Arc<[usize]>,
    /// The value of the contract's `key`; `None`: any.
    entity: Option<Arc<str>>,
}

impl EventFilter {
    /// Events whose type is one of `types` (none: all), about `entity`.
    ///
    /// A type may be a whole one, else the name of an event contract or another word for it, or what stands
    /// before the dot in several: whole ones go first.
    pub fn new(domain: &Domain, types: &[String], entity: Option<&str>) -> Result<Self, ReadError> {
        if entity == Some("") {
            return Err(invalid("`entity_id` is empty".to_owned(), None, "entity_id"));
        }
        let mut wanted = BTreeSet::new();
        for asked in types {
            let found = resolve(domain, asked);
            if found.is_empty() {
                return Err(invalid(
                    format!("no event type, and no family of them, is called `{asked}`"),
                    hint(asked, known(domain)),
                    "event_type",
                ));
            }
            wanted.extend(found);
        }
        let has_some = |family: &Family| {
            let mut names = family.versions.iter().flat_map(|version| &version.names);
            wanted.is_empty() || names.any(|name| wanted.contains(name.as_str()))
        };
        let families = domain.families.iter().filter(|family| has_some(family));
        Ok(Self {
            families: families.map(|family| family.index).collect(),
            types: (!types.is_empty()).then(|| wanted.into_iter().map(str::to_owned).collect()),
            entity: entity.map(Arc::from),
        })
    }

    /// Is an event of this type wanted?
    pub(crate) fn has_type(&self, event_type: &str) -> bool {
        let Some(types) = &self.types else { return true };
        types.iter().any(|wanted| wanted == event_type)
    }

    pub(crate) fn families(&self) -> &[usize] {
        &self.families
    }

    pub(crate) fn entity(&self) -> Option<&Arc<str>> {
        self.entity.as_ref()
    }

    /// For the store.
    pub(crate) fn only<'a>(&'a self, tenant: &'a str) -> Only<'a> {
        Only { tenant, types: self.types.as_deref(), entity: self.entity.as_deref() }
    }
}

/// All words for `event_type`.
pub(crate) fn known(domain: &Domain) -> impl Iterator<Item = &str> {
    let names = all_types(domain);
    let prefixes = all_types(domain).filter_map(|name| Some(name.split_once('.')?.0));
    let versions = domain.families.iter().flat_map(|family| &family.versions);
    let synonyms = versions.flat_map(|version| &version.synonyms).map(String::as_str);
    names
        .chain(prefixes)
        .chain(domain.families.iter().map(|family| family.name.as_str()))
        .chain(synonyms)
}

fn resolve<'a>(domain: &'a Domain, asked: &str) -> Vec<&'a str> {
    let whole: Vec<&str> = all_types(domain).filter(|name| *name == asked).collect();
    if !whole.is_empty() {
        return whole;
    }
    let of_contract = domain.families.iter().filter(|family| is_called(family, asked));
    let of_contract = of_contract.flat_map(|family| &family.versions).flat_map(|v| &v.names);
    let before_the_dot =
        all_types(domain).filter(|name| name.split_once('.').is_some_and(|(p, _)| p == asked));
    of_contract.map(String::as_str).chain(before_the_dot).collect()
}

fn is_called(family: &Family, asked: &str) -> bool {
    let mut synonyms = family.versions.iter().flat_map(|version| &version.synonyms);
    family.name == asked || synonyms.any(|synonym| synonym == asked)
}

fn all_types(domain: &Domain) -> impl Iterator<Item = &str> {
    let versions = domain.families.iter().flat_map(|family| &family.versions);
    versions.flat_map(|version| &version.names).map(String::as_str)
}

fn invalid(message: String, hint: Option<String>, parameter: &'static str) -> ReadError {
    ReadError::Invalid { message, hint, parameter }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> Domain {
        let event = |name: &str, types: &str| {
            format!(
                "kind: event\nname: {name}\nnames: [{types}]\nsynonyms: [any {name}]\nfields:\n  a: string\n"
            )
        };
        let text = [
            event("sale", "sale.made, sale.undone"),
            event("visit", "visit, click, page.seen"),
            event("page", "page.left"),
        ];
        let file = ("d/c.yaml".into(), text.join("---\n"));
        contracts::load(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    #[track_caller]
    fn check(asked: &[&str], types: &[&str], families: &[&str]) {
        let domain = domain();
        let asked: Vec<String> = asked.iter().map(|&text| text.to_owned()).collect();
        let filter = EventFilter::new(&domain, &asked, None).unwrap();
        assert_eq!(filter.types.as_deref().unwrap_or_default(), types);
        let names = filter.families.iter().map(|family| domain.families[*family].name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), families);
    }

    #[test]
    fn a_type_a_contract_or_what_is_before_the_dot() {
        check(&[], &[], &["page", "sale", "visit"]);
        check(&["sale.made"], &["sale.made"], &["sale"]);
        check(&["sale"], &["sale.made", "sale.undone"], &["sale"]);
        check(&["visit"], &["visit"], &["visit"]);
        check(&["page"], &["page.left", "page.seen"], &["page", "visit"]);
        check(&["any page"], &["page.left"], &["page"]);
        check(&["click", "sale.made"], &["click", "sale.made"], &["sale", "visit"]);
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_nearest() {
        let error = |types: &[&str], entity| {
            let types: Vec<String> = types.iter().map(|&text| text.to_owned()).collect();
            match EventFilter::new(&domain(), &types, entity) {
                Err(ReadError::Invalid { message, hint, .. }) => (message, hint),
                other => panic!("{other:?}"),
            }
        };
        let (message, hint) = error(&["sale.mode"], None);
        assert_eq!(message, "no event type, and no family of them, is called `sale.mode`");
        assert_eq!(hint.as_deref(), Some("did you mean `sale.made`?"));
        assert_eq!(error(&[], Some("")).0, "`entity_id` is empty");
    }
}
