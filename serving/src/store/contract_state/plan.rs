//! What has to be done about contracts that changed:
//!
//! - a column more, or computed otherwise: fill it from the stored rows ([`super::super::fill`]);
//! - another entity, or an entity defined otherwise: fold it again ([`super::super::rebuild`]);
//! - a column with another type: refuse, because values would be lost;
//! - a contract that is gone: forget it, but keep its table.

use std::collections::BTreeSet;

use contracts::model::{Domain, EnrichValue, Entity, Family, Relation, column};

use super::{
    Column, Definition, Definitions, Role, definitions, entity_key, event_key, ingest_key,
};

/// One thing to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Step {
    /// Fill columns.
    Fill { relation: Filled, fill: Fill },
    /// Fold an entity again from the journal.
    Rebuild { entity: usize },
}

/// A table of which columns are filled rather than rows made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Filled {
    /// The journal of a family.
    Family(usize),
    /// Received records by outcome.
    Ingest,
    /// The current rows of an entity: columns over its fields come out of its states.
    Entity(usize),
}

/// What to fill in a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Fill {
    /// Columns that the table does not have yet.
    pub added: Vec<String>,
    /// Columns whose expressions are to be evaluated over stored rows.
    pub evaluate: BTreeSet<String>,
    /// The recorded fields in order, when the fields changed: values come out of `_extra`, and the
    /// bits of `_absent` follow.
    pub fields_before: Option<Vec<FieldBefore>>,
    /// Is the hash over the fields to be made again?
    pub body: bool,
}

/// A field as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct FieldBefore {
    /// Its name.
    pub name: String,
    /// The contract's versions that had it.
    pub versions: BTreeSet<u32>,
}

impl Fill {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Does it change columns that rows had before?
    fn changes_values(&self) -> bool {
        self.evaluate.iter().any(|name| !self.added.contains(name))
    }
}

/// What stored rows need to follow the contracts of today, or what they cannot follow.
pub(in crate::store) fn plan(
    recorded: &Definitions,
    domain: &Domain,
) -> Result<Vec<Step>, Vec<String>> {
    let wanted = definitions(domain);
    let mut steps = Vec::new();
    let mut refused = Vec::new();
    // Relations whose stored values change, so that what is folded from them must change too.
    let mut changed = BTreeSet::new();

    for family in &domain.families {
        let key = event_key(family);
        // Not recorded: the table is new and empty.
        let Some(before) = recorded.get(&key) else { continue };
        let fill = compare(&before.columns, &wanted[&key].columns, &mut |what| {
            refused.push(format!("event contract `{}`: {what}", family.name));
        });
        let fill = with_dependents(fill, family);
        if fill.changes_values() {
            changed.insert(Relation::Family(family.index));
        }
        if !fill.is_empty() {
            steps.push(Step::Fill { relation: Filled::Family(family.index), fill });
        }
    }
    if let Some(before) = recorded.get(&ingest_key()) {
        let fill = compare(&before.columns, &wanted[&ingest_key()].columns, &mut |what| {
            refused.push(format!("source `ingest`: {what}"));
        });
        if !fill.is_empty() {
            steps.push(Step::Fill { relation: Filled::Ingest, fill });
        }
    }
    for entity in &domain.entities {
        let key = entity_key(entity);
        let inputs_same = entity.inputs.iter().all(|input| !changed.contains(&input.relation));
        let before = recorded.get(&key).filter(|_| inputs_same);
        let columns = before.and_then(|before| columns_over_fields(before, &wanted[&key]));
        match columns {
            Some(columns) if columns.is_empty() => {}
            Some(columns) => {
                let evaluate = columns.iter().cloned().collect();
                let fill =
                    Fill { added: stored_names(entity, columns), evaluate, ..Fill::default() };
                steps.push(Step::Fill { relation: Filled::Entity(entity.index), fill });
            }
            None => {
                changed.insert(Relation::Entity(entity.index));
                steps.push(Step::Rebuild { entity: entity.index });
            }
        }
    }
    if refused.is_empty() { Ok(steps) } else { Err(refused) }
}

/// The columns that `after` has more over the same states; `None` when the states are others.
fn columns_over_fields(before: &Definition, after: &Definition) -> Option<Vec<String>> {
    let fields = |definition: &Definition| -> Vec<Column> {
        let columns = definition.columns.iter();
        columns.filter(|column| column.role != Role::Computed).cloned().collect()
    };
    if before.hash != after.hash || fields(before) != fields(after) {
        return None;
    }
    let new = after.columns.iter().filter(|column| !before.columns.contains(column));
    Some(new.map(|column| column.name.clone()).collect())
}

/// The columns of the entity's table that hold these computed ones, open and closed.
fn stored_names(entity: &Entity, computed: Vec<String>) -> Vec<String> {
    let is_twin = |name: &String| {
        let mut computed = entity.computed.iter();
        computed.any(|computed| computed.name == *name && computed.depends_on_closed)
    };
    computed
        .into_iter()
        .flat_map(|name| {
            let twin = is_twin(&name).then(|| format!("{name}{}", column::CLOSED_SUFFIX));
            [Some(name), twin]
        })
        .flatten()
        .collect()
}

/// What differs between recorded and wanted columns of one table.
fn compare(before: &[Column], after: &[Column], refuse: &mut dyn FnMut(String)) -> Fill {
    let mut fill = Fill::default();
    for column in after {
        let old = before.iter().find(|old| old.name == column.name);
        match old {
            None => fill.added.push(column.name.clone()),
            Some(old) if old.ty != column.ty => {
                refuse(format!("column `{}` was {}, is now {}", column.name, old.ty, column.ty))
            }
            Some(_) => {}
        }
        if old.is_some_and(|old| old.definition == column.definition) {
            continue;
        }
        match column.role {
            Role::Field => {}
            Role::Body => fill.body = true,
            Role::Enriched | Role::Computed => {
                fill.evaluate.insert(column.name.clone());
            }
        }
    }
    let fields = |columns: &[Column]| -> Vec<FieldBefore> {
        let fields = columns.iter().filter(|column| column.role == Role::Field);
        fields
            .map(|column| FieldBefore {
                name: column.name.clone(),
                versions: column.definition.split(',').filter_map(|v| v.parse().ok()).collect(),
            })
            .collect()
    };
    let fields_before = fields(before);
    if fields_before != fields(after) {
        fill.fields_before = Some(fields_before);
    }
    fill
}

/// Adds the columns that are computed from columns to be evaluated.
fn with_dependents(mut fill: Fill, family: &Family) -> Fill {
    for version in &family.versions {
        for enrich in &version.enrich {
            if let EnrichValue::Expr(expr) = &enrich.value
                && !expr.columns().is_disjoint(&fill.evaluate)
            {
                fill.evaluate.insert(enrich.name.clone());
            }
        }
    }
    for computed in &family.computed {
        if !computed.expr.columns().is_disjoint(&fill.evaluate) {
            fill.evaluate.insert(computed.name.clone());
        }
    }
    fill
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, ty: &str, versions: &str) -> Column {
        column(name, ty, Role::Field, versions)
    }

    fn column(name: &str, ty: &str, role: Role, definition: &str) -> Column {
        Column { name: name.into(), ty: ty.into(), role, definition: definition.into() }
    }

    #[track_caller]
    fn check(before: &[Column], after: &[Column], expected: Result<Fill, &str>) {
        let mut refused = Vec::new();
        let fill = compare(before, after, &mut |what| refused.push(what));
        match expected {
            Ok(expected) => {
                assert_eq!(refused, Vec::<String>::new());
                assert_eq!(fill, expected);
            }
            Err(expected) => assert_eq!(refused.join("; "), expected),
        }
    }

    fn before(fields: &[(&str, &[u32])]) -> Option<Vec<FieldBefore>> {
        let field = |(name, versions): &(&str, &[u32])| FieldBefore {
            name: (*name).into(),
            versions: versions.iter().copied().collect(),
        };
        Some(fields.iter().map(field).collect())
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn equal_columns_need_nothing() {
        let columns = [field("a", "string", "1"), column("x_1", "bool", Role::Computed, "a = 'b'")];
        check(&columns, &columns, Ok(Fill::default()));
    }

    #[test]
    fn a_new_field_moves_values_and_bits() {
        check(
            &[field("a", "string", "1")],
            &[field("b", "int64", "1"), field("a", "string", "1")],
            Ok(Fill {
                added: vec!["b".into()],
                fields_before: before(&[("a", &[1])]),
                ..Fill::default()
            }),
        );
    }

    #[test]
    fn a_field_that_another_version_gains_is_no_new_column() {
        check(
            &[field("a", "string", "2")],
            &[field("a", "string", "1,2")],
            Ok(Fill { fields_before: before(&[("a", &[2])]), ..Fill::default() }),
        );
    }

    #[test]
    fn a_field_that_is_gone_only_moves_bits() {
        check(
            &[field("a", "string", "1"), field("b", "string", "1")],
            &[field("b", "string", "1")],
            Ok(Fill { fields_before: before(&[("a", &[1]), ("b", &[1])]), ..Fill::default() }),
        );
    }

    #[test]
    fn expressions_are_evaluated_when_new_or_different() {
        check(
            &[column("e", "int64", Role::Enriched, "v1(a) ")],
            &[
                column("e", "int64", Role::Enriched, "v1(b) "),
                column("x_2", "bool", Role::Computed, "a > 1"),
            ],
            Ok(Fill {
                added: vec!["x_2".into()],
                evaluate: names(&["e", "x_2"]),
                ..Fill::default()
            }),
        );
    }

    #[test]
    fn another_list_of_fields_makes_the_body_hash_again() {
        let body = |definition| column("_body", "int64", Role::Body, definition);
        check(&[body("v1(a) ")], &[body("v1(a,b) ")], Ok(Fill { body: true, ..Fill::default() }));
    }

    #[test]
    fn another_type_is_refused() {
        check(
            &[field("a", "string", "1"), field("b", "int64", "1")],
            &[field("a", "int64", "1"), field("b", "float64", "1")],
            Err("column `a` was string, is now int64; column `b` was int64, is now float64"),
        );
    }
}
