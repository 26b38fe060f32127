//! Hashes over what a contract means.
//!
//! The input is a canonical text with one line per fact, names sorted where their order means
//! nothing. Descriptions, owners, topics, file names and examples are not in it; neither are
//! spellings, since expressions enter in canonical form. What another contract contributes enters by
//! that contract's hash or by the definition of the column that is read. The hash is stored with the state
//! that it stands for, so changing this text is a change of the store's format.

use xxhash_rust::xxh3::xxh3_64;

use crate::check::relations::{Compiled, Relations};
use crate::expr::Expr;
use crate::model::{EnrichValue, Envelope, EventContract, Field, Place, Relation};

/// Collects facts.
#[derive(Debug, Default)]
pub(crate) struct Facts(Vec<Vec<String>>);

impl Facts {
    /// One fact; `parts` must not be ambiguous when joined by a unit separator.
    pub(crate) fn add(&mut self, parts: &[&str]) {
        self.0.push(parts.iter().map(|part| (*part).to_owned()).collect());
    }

    /// The hash over the facts in any order.
    pub(crate) fn hash_unordered(&self) -> u64 {
        let mut facts: Vec<String> = self.0.iter().map(|parts| parts.join("\u{1f}")).collect();
        facts.sort();
        xxh3_64(facts.join("\u{1e}").as_bytes())
    }

    /// The facts, each in its parts: what it is about comes first. [`crate::meaning`] tells from them what
    /// was changed.
    pub(crate) fn into_parts(self) -> Vec<Vec<String>> {
        self.0
    }
}

/// Everything that changes what a record becomes.
pub(crate) fn event(contract: &EventContract, relations: &Relations) -> u64 {
    let mut facts = Facts::default();
    for name in &contract.names {
        facts.add(&["type", name]);
    }
    facts.add(&["envelope", &envelope_text(&contract.envelope)]);
    facts.add(&["format", &format!("{:?}", contract.format)]);
    facts.add(&["key", &format!("{:?}", contract.key)]);
    facts.add(&["dedup", &format!("{:?}", contract.dedup)]);
    facts.add(&["time", &format!("{:?}", contract.time_policy)]);
    for field in &contract.fields {
        facts.add(&["field", &field_text(field)]);
    }
    for rule in &contract.rules {
        let severity = format!("{:?}", rule.severity);
        facts.add(&["rule", &rule.name, rule.check.canonical(), &severity]);
    }
    for enrich in &contract.enrich {
        facts.add(&["enrich", &enrich.name, &enrich_text(&enrich.value, relations)]);
    }
    facts.hash_unordered()
}

/// The words are those of the first version of the model: stored state stands under this hash.
fn envelope_text(envelope: &Envelope) -> String {
    let place = |place: &Place| match place {
        Place::Path(path) => format!("{path:?}"),
        Place::Header(name) => format!("Header({name:?})"),
    };
    let optional = |optional: Option<&Place>| match optional {
        None => "None".to_owned(),
        Some(known) => format!("Some({})", place(known)),
    };
    format!(
        "Envelope {{ type_path: {}, id_path: {}, time_path: {}, time_form: {:?}, \
         version_path: {}, tenant_path: {} }}",
        place(&envelope.event_type),
        place(&envelope.id),
        place(&envelope.time),
        envelope.time_form,
        optional(envelope.version.as_ref()),
        optional(envelope.tenant.as_ref()),
    )
}

fn field_text(field: &Field) -> String {
    let c = &field.constraints;
    let pattern = c.pattern.as_ref().map(regex::Regex::as_str);
    format!(
        "{}\u{1f}{}\u{1f}{}\u{1f}{:?}\u{1f}{:?}\u{1f}{:?}\u{1f}{:?}\u{1f}{:?}\u{1f}{:?}",
        field.name,
        field.ty,
        field.required,
        field.default.as_ref().map(ToString::to_string),
        field.time_form,
        pattern,
        c.values,
        (&c.above, &c.below, &c.min, &c.max),
        (c.min_length, c.max_length, c.min_items, c.max_items),
    )
}

fn enrich_text(value: &EnrichValue, relations: &Relations) -> String {
    match value {
        EnrichValue::Expr(expr) => format!("{}\u{1f}{}", expr.canonical(), expr.ty()),
        EnrichValue::Lookup { entity, key, field } => {
            let entity = &relations.entities[*entity];
            format!("{:016x}\u{1f}{}\u{1f}{field}", entity.hash, key.canonical())
        }
    }
}

/// What a compiled expression over `relation` means: its canonical text and the definitions of the
/// enriched columns behind it.
pub(crate) fn expression(relations: &Relations, relation: Relation, expr: &Expr) -> String {
    let mut text = format!("{}\u{1f}{}", expr.canonical(), expr.ty());
    if let Relation::Family(index) = relation {
        let family = &relations.families[index];
        for contract in &family.versions {
            for enrich in contract.enrich.iter().filter(|e| reaches(contract, expr, &e.name)) {
                text += &format!(
                    "\u{1d}{}\u{1f}{}\u{1f}{}",
                    contract.version,
                    enrich.name,
                    enrich_text(&enrich.value, relations)
                );
            }
        }
    }
    text
}

/// Does `expr` read the enriched column, itself or through another one?
fn reaches(contract: &EventContract, expr: &Expr, name: &str) -> bool {
    let mut needed: Vec<&str> = expr.columns().iter().map(String::as_str).collect();
    // An enriched column reads only those before it, so one pass backwards finds them all.
    for enrich in contract.enrich.iter().rev() {
        if needed.contains(&enrich.name.as_str()) {
            let read = match &enrich.value {
                EnrichValue::Expr(expr) => expr.columns(),
                EnrichValue::Lookup { key, .. } => key.columns(),
            };
            needed.extend(read.iter().map(String::as_str));
        }
    }
    needed.contains(&name)
}

/// [`expression`] of something compiled, or nothing.
pub(crate) fn compiled(
    relations: &Relations,
    relation: Relation,
    compiled: Option<&Compiled>,
) -> String {
    compiled.map(|c| expression(relations, relation, &c.expr)).unwrap_or_default()
}

/// What a relation contributes to the hash of what stands on it.
pub(crate) fn relation(relations: &Relations, relation: Relation) -> String {
    match relation {
        Relation::Family(index) => format!("events {}", relations.families[index].name),
        Relation::Entity(index) => format!("entity {:016x}", relations.entities[index].hash),
        Relation::Ingest => "ingest".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TimeForm;

    #[test]
    fn an_envelope_in_the_body_keeps_the_hash_that_stores_know() {
        let member = |name: &str| Place::Path(vec![name.to_owned()]);
        let envelope = Envelope {
            event_type: member("event_type"),
            id: Place::Path(vec!["meta".to_owned(), "id".to_owned()]),
            time: member("timestamp"),
            time_form: TimeForm::Rfc3339,
            version: Some(member("v")),
            tenant: None,
        };
        assert_eq!(
            envelope_text(&envelope),
            "Envelope { type_path: [\"event_type\"], id_path: [\"meta\", \"id\"], time_path: \
             [\"timestamp\"], time_form: Rfc3339, version_path: Some([\"v\"]), tenant_path: None }"
        );
        let header = Envelope { id: Place::Header("meta".to_owned()), ..envelope.clone() };
        assert_ne!(envelope_text(&header), envelope_text(&envelope));
    }
}
