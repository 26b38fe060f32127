//! From event contracts to families: all versions of one contract, sharing a journal table.

use std::collections::BTreeMap;

use crate::check::names::{Item, Names, Source, head};
use crate::check::relations::Relations;
use crate::check::values::{contract_name, is_contract_name};
use crate::check::{deprecated, event};
use crate::diagnostic::Report;
use crate::model::{ColumnDef, EventContract, Family, Relation};
use crate::raw::decode::shorten;
use crate::raw::event as raw;
use std::sync::Arc;

/// Optional fields that a journal row can mark as absent: one bit each in a signed 64-bit column.
const MAX_OPTIONAL: usize = 63;

/// The versions of one event contract, as written.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The contract's name.
    pub(crate) name: String,
    /// Versions, oldest first.
    pub(crate) versions: Vec<Item<raw::Event>>,
}

/// Groups event contracts by name and notes their event types.
pub(crate) fn drafts(
    contracts: Vec<(raw::Event, Source)>,
    names: &mut Names,
    report: &mut Report,
) -> Vec<Draft> {
    let mut groups: BTreeMap<String, Vec<Item<raw::Event>>> = BTreeMap::new();
    for (raw, source) in contracts {
        let status = deprecated::status(raw.status, &raw.deprecated, report);
        let (version, status) = head(raw.version, status, report);
        let Some(name) = name_of(&raw, report) else {
            names.unreadable.extend(raw.names.0.iter().map(|n| n.value.clone()));
            continue;
        };
        let versions = groups.entry(name.clone()).or_default();
        if let Some(other) = versions.iter().find(|v| v.version == version) {
            report.error(
                source.at,
                format!("the event contract `{name}` has two versions {version}"),
                format!(
                    "give this one another `version`; the other is in {}",
                    place(&other.source)
                ),
            );
            continue;
        }
        versions.push(Item { raw, source, name, version, status });
    }
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    let mut drafts = Vec::new();
    for (name, mut versions) in groups {
        versions.sort_by_key(|v| v.version);
        if let Some(other) = tables.insert(name.replace('.', "_"), name.clone()) {
            report.error(
                versions[0].source.at,
                format!("the event contracts `{other}` and `{name}` would share one table"),
                "rename one of them: dots become underscores in table names",
            );
        }
        for version in &versions {
            for event_type in &version.raw.names.0 {
                let first = names.event_types.insert(event_type.value.clone(), drafts.len());
                if first.is_some_and(|first| first != drafts.len()) {
                    report.error(
                        event_type.at,
                        format!(
                            "the event type `{}` has two contracts",
                            shorten(&event_type.value)
                        ),
                        "an event type belongs to one contract; give versions of one contract the \
                         same `name`",
                    );
                }
            }
        }
        drafts.push(Draft { name, versions });
    }
    drafts
}

fn place(source: &Source) -> String {
    format!("{}:{}", source.file.display(), source.at.line)
}

/// The name that is written, or what all event types begin with.
pub(crate) fn name_of(raw: &raw::Event, report: &mut Report) -> Option<String> {
    let types = &raw.names.0;
    if types.is_empty() {
        report.error(raw.at, "`names` is empty", "name at least one event type");
        return None;
    }
    for (i, name) in types.iter().enumerate() {
        let text = name.value.as_str();
        if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
            report.error(
                name.at,
                format!("`{}` cannot be an event type", shorten(text)),
                "event types are texts of 1 to 200 bytes without control characters",
            );
            return None;
        }
        if types[..i].iter().any(|other| other.value == text) {
            report.error(
                name.at,
                format!("the event type `{}` stands here twice", shorten(text)),
                "remove one of them",
            );
        }
    }
    if let Some(name) = &raw.name {
        return contract_name(name, "an event contract", true, report);
    }
    let name = common_prefix(types.iter().map(|t| t.value.as_str()));
    if !is_contract_name(&name, true) {
        report.error(
            raw.at,
            "the event types have no common beginning that could name the contract",
            "add `name: …` to the contract",
        );
        return None;
    }
    Some(name)
}

/// The longest dotted beginning that all names share; a single name is its own.
fn common_prefix<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    let mut common: Vec<&str> = names.next().unwrap_or_default().split('.').collect();
    for name in names {
        let same = common.iter().zip(name.split('.')).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    common.join(".")
}

/// Compiles a family into its place in `relations`; errors make it broken.
pub(crate) fn check(
    index: usize,
    draft: &Draft,
    names: &mut Names,
    relations: &mut Relations,
    report: &mut Report,
) {
    let before = report.count();
    let mut family = empty(index, &draft.name);
    for item in &draft.versions {
        let mut checked = event::check(item, names, relations, report);
        checked.contract.family = index;
        merge(&mut family, &checked.contract, item, report);
        for (column, amount) in checked.amounts {
            relations.amounts.insert((Relation::Family(index), column), amount);
        }
        relations.constants.retain(|(r, c), v| {
            *r != Relation::Family(index) || checked.constants.get(c) == Some(v)
        });
        if family.versions.is_empty() {
            for (column, text) in checked.constants {
                relations.constants.insert((Relation::Family(index), column), text);
            }
        }
        family.versions.push(Arc::new(checked.contract));
    }
    let optional = family.fields.iter().filter(|f| is_optional(&family, &f.name)).count();
    if optional > MAX_OPTIONAL {
        report.error(
            draft.versions[0].raw.at,
            format!("`{}` has {optional} optional fields, {MAX_OPTIONAL} are possible", draft.name),
            "make some of them required, or keep rare members in one `json` or struct field",
        );
    }
    // The bit of a field is its position, so optional fields come first when there are many.
    if family.fields.len() > MAX_OPTIONAL {
        let optional: Vec<bool> =
            family.fields.iter().map(|f| is_optional(&family, &f.name)).collect();
        let mut order: Vec<usize> = (0..family.fields.len()).collect();
        order.sort_by_key(|i| !optional[*i]);
        family.fields = order.iter().map(|i| family.fields[*i].clone()).collect();
    }
    if report.count() != before {
        names.broken_families.insert(index);
    }
    relations.families[index] = family;
}

/// A family without versions, to be filled.
pub(crate) fn empty(index: usize, name: &str) -> Family {
    Family {
        index,
        name: name.to_owned(),
        versions: Vec::new(),
        fields: Vec::new(),
        enriched: Vec::new(),
        computed: Vec::new(),
    }
}

/// Can a row of the family lack this field?
pub(crate) fn is_optional(family: &Family, field: &str) -> bool {
    family.versions.iter().any(|contract| {
        contract
            .fields
            .iter()
            .find(|f| f.name == field)
            .is_none_or(|f| !f.required && f.default.is_none())
    })
}

/// Adds the columns of one more version; a name keeps its type and its role over all versions.
fn merge(
    family: &mut Family,
    contract: &EventContract,
    item: &Item<raw::Event>,
    report: &mut Report,
) {
    let place = |name: &str| {
        let raw = &item.raw;
        let of_fields = raw.fields.0.iter().map(|(key, _)| key);
        let of_enrich = raw.enrich.iter().flat_map(|e| &e.0).map(|(key, _)| key);
        of_fields.chain(of_enrich).find(|key| key.value == name).map_or(raw.at, |key| key.at)
    };
    let fields = contract.fields.iter().map(|f| (&f.name, &f.ty, false));
    let enriched = contract.enrich.iter().map(|e| (&e.name, &e.ty, true));
    for (name, ty, is_enriched) in fields.chain(enriched) {
        let (own, other) = match is_enriched {
            false => (&mut family.fields, &family.enriched),
            true => (&mut family.enriched, &family.fields),
        };
        if other.iter().any(|c| c.name.eq_ignore_ascii_case(name)) {
            report.error(
                place(name),
                format!("`{name}` is a field in one version and enriched in another"),
                "choose another name for the enriched column: versions share one table",
            );
            continue;
        }
        match own.iter().find(|c| c.name.eq_ignore_ascii_case(name)) {
            None => own.push(ColumnDef { name: name.clone(), ty: ty.clone() }),
            Some(known) if known.name != *name => report.error(
                place(name),
                format!("`{name}` is written `{}` in another version", known.name),
                "use one spelling: versions share one table",
            ),
            Some(known) if known.ty != *ty => report.error(
                place(name),
                format!("`{name}` is {ty} here and {} in another version", known.ty),
                "keep the type, or give the field a new name: versions share one table",
            ),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: &str) {
        assert_eq!(common_prefix(names.iter().copied()), expected);
    }

    #[test]
    fn a_contract_is_named_after_what_its_types_share() {
        check(&["a.created", "a.updated"], "a");
        check(&["a.b.created", "a.b.updated", "a.b.x.y"], "a.b");
        check(&["a.created"], "a.created");
        check(&["ab.x", "abc.y"], "");
        check(&["click", "view"], "");
    }
}
