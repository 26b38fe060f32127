//! Which values of an entity are personal data: those that come from a field that declares `pii`, by
//! whatever way. An expression over a personal value is personal too.

use std::collections::BTreeSet;

use crate::model::{
    ColumnRef, Domain, EnrichValue, Entity, EntityFieldKind, Family, FoldOp, Relation,
};

/// What of an entity is personal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonalFields {
    /// Is it the key? Then it is in every path and text that names the entity.
    pub key: bool,
    /// Names of its fields.
    pub fields: BTreeSet<String>,
}

/// What of `entity` is personal by the contracts of `domain`.
pub fn of_entity(domain: &Domain, entity: &Entity) -> PersonalFields {
    let is_personal = |relation: Relation, column: &ColumnRef| match relation {
        Relation::Ingest => false,
        Relation::Family(family) => of_family(domain, family).contains(&column.name),
        Relation::Entity(index) => {
            let below = &domain.entities[index];
            let personal = of_entity(domain, below);
            match below.computed.iter().find(|computed| computed.name == column.name) {
                Some(computed) => {
                    reads(computed.expr.columns(), &personal.fields)
                        || personal.key && computed.expr.columns().contains(&below.key)
                }
                None if column.name == below.key => personal.key,
                None => personal.fields.contains(&column.name),
            }
        }
    };
    let key = entity.inputs.iter().any(|input| is_personal(input.relation, &input.key));
    let mut fields = BTreeSet::new();
    for (fold, (field, op, _)) in entity.folds().enumerate() {
        // A number of rows tells nothing about any one of them.
        if matches!(op, FoldOp::Count | FoldOp::CountDistinct) {
            continue;
        }
        let mut args = entity.inputs.iter().filter_map(|input| {
            let arg = input.args.get(fold)?.as_ref()?;
            Some((input.relation, &arg.value))
        });
        if args.any(|(relation, column)| is_personal(relation, column)) {
            fields.insert(entity.fields[field].name.clone());
        }
    }
    for field in &entity.fields {
        if let EntityFieldKind::Derived(expr) = &field.kind
            && (reads(expr.columns(), &fields) || key && expr.columns().contains(&entity.key))
        {
            fields.insert(field.name.clone());
        }
    }
    PersonalFields { key, fields }
}

/// The personal columns of a family: fields, what is made of them, what is looked up of a personal
/// field.
pub fn of_family(domain: &Domain, family: usize) -> BTreeSet<String> {
    let family: &Family = &domain.families[family];
    let mut personal: BTreeSet<String> = BTreeSet::new();
    for version in &family.versions {
        let declared = version.fields.iter().filter(|field| field.pii);
        personal.extend(declared.map(|field| field.name.clone()));
    }
    for enrich in family.versions.iter().flat_map(|version| &version.enrich) {
        let is_personal = match &enrich.value {
            EnrichValue::Expr(expr) => reads(expr.columns(), &personal),
            EnrichValue::Lookup { entity, field, .. } => {
                let entity = &domain.entities[*entity];
                let looked_up = of_entity(domain, entity);
                looked_up.fields.contains(field) || looked_up.key && *field == entity.key
            }
        };
        if is_personal {
            personal.insert(enrich.name.clone());
        }
    }
    for computed in &family.computed {
        if reads(computed.expr.columns(), &personal) {
            personal.insert(computed.name.clone());
        }
    }
    personal
}

fn reads(columns: &BTreeSet<String>, personal: &BTreeSet<String>) -> bool {
    columns.iter().any(|column| personal.contains(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "
kind: event
names: [visit]
fields:
  id: string
  mail: {type: string, pii: true}
  page: string
enrich: {host: \"lower(mail)\", place: \"lower(page)\"}
---
kind: entity
name: stay
from: [visit]
key: id
fields:
  mail: last
  page: last
  host: first
  place: first
  shouted: last(upper(mail))
  visits: count
  mails: count_distinct(mail)
  both: \"concat(page, shouted)\"
  twice: visits + visits
---
kind: entity
name: person
from: [visit]
key: mail
fields: {visits: count, page: last}
---
kind: entity
name: group_of_stays
from: {entity: stay}
key: page
fields: {stays: count, most: mode(mail), longest: max(visits)}
---
kind: event
names: [call]
fields: {id: string, stay_id: string}
enrich:
  mail: {lookup: stay, key: stay_id, field: mail}
  page: {lookup: stay, key: stay_id, field: page}
---
kind: entity
name: call
from: [call]
key: id
fields: {mail: last, page: last}
";

    #[track_caller]
    fn check(entity: &str, key: bool, fields: &[&str]) {
        let domain = crate::load(&[("d.yaml".into(), DOMAIN.to_owned())]);
        let domain = domain.unwrap_or_else(|errors| panic!("{errors:#?}"));
        let found = domain.entities.iter().find(|e| e.name == entity).unwrap();
        let personal = of_entity(&domain, found);
        assert_eq!(personal.fields.iter().map(String::as_str).collect::<Vec<_>>(), fields);
        assert_eq!(personal.key, key);
    }

    #[test]
    fn what_is_made_of_personal_data_is_personal() {
        check("stay", false, &["both", "host", "mail", "shouted"]);
        check("person", true, &[]);
        check("group_of_stays", false, &["most"]);
        check("call", false, &["mail"]);
    }
}
