//! Entities: sources, folds, derived fields.
//!
//! An input that does not have a fold's argument leaves the fold alone; at least one must have it.
//! Start at [`check`].

mod currency;
mod folds;
mod source;
mod stages;

use crate::check::call::names_in;
use crate::check::deprecated;
use crate::check::fold::{self, FieldText};
use crate::check::hash::{self, Facts};
use crate::check::money;
use crate::check::names::{Item, Names};
use crate::check::relations::{Relations, entity_scope_of, expr_error};
use crate::check::values::{column_name, duration, phrases};
use crate::diagnostic::Report;
use crate::expr::Expr;
use crate::model::{Entity, EntityField, EntityFieldKind, EntityInput, FoldOp, Relation, column};
use crate::raw::decode::{Text, shorten};
use crate::raw::entity as raw;
use crate::types::Type;
use folds::{Fold, Folds};
use source::{Input, input, sources};

pub(crate) use source::{entity_source, event_sources};

/// Compiles an entity and adds it to `relations` if nothing is wrong with it.
pub(crate) fn check(
    item: &Item<raw::Entity>,
    names: &Names,
    relations: &mut Relations,
    report: &mut Report,
) {
    let before = report.count();
    let raw = &item.raw;
    let index = relations.entities.len();
    let Some(sources) = sources(&raw.from, names, relations, report) else { return };
    let closes_after = raw.closes_after.as_ref().and_then(|text| duration(text, false, report));
    if let (Some(text), [(Relation::Entity(_), _)]) = (&raw.closes_after, sources.as_slice()) {
        report.error(
            text.at,
            "`closes_after` needs events: an entity that is folded from another one never falls silent",
            "declare it on the entity that is folded from the events",
        );
    }
    let mut entity = Entity {
        index,
        name: item.name.clone(),
        version: item.version,
        status: item.status,
        deprecation: deprecated::of(item.status, raw.deprecated.as_ref()),
        owner: raw.owner.as_ref().map(|t| t.value.clone()),
        description: raw.description.as_ref().map(|t| t.value.clone()),
        synonyms: phrases(raw.synonyms.as_deref(), report),
        key: raw.key.value.clone(),
        inputs: Vec::new(),
        fields: Vec::new(),
        closes_after,
        stages: None,
        relationships: Vec::new(),
        computed: Vec::new(),
        hash: 0,
        facts: Vec::new(),
        file: item.source.file.clone(),
    };
    column_name(&raw.key, "a key", report);
    let inputs: Vec<Input> = sources
        .into_iter()
        .filter_map(|(relation, types)| input(raw, relation, types, relations, report))
        .collect();
    if report.count() != before {
        return;
    }

    let mut facts = Facts::default();
    for input in &inputs {
        facts.add(&[
            "from",
            &hash::relation(relations, input.relation),
            &input.event_types.join("\u{1d}"),
            &hash::compiled(relations, input.relation, input.filter.as_ref()),
            &input.key.name,
        ]);
    }
    facts.add(&["closes", &format!("{closes_after:?}")]);

    let mut fields = Vec::new();
    let mut derived: Vec<(String, Text, usize)> = Vec::new();
    let mut folds = Folds { inputs, folded: Vec::new(), facts };
    for (name, field) in &raw.fields.0 {
        let (text, long) = match field {
            raw::EntityField::Short(text) => (text, None),
            raw::EntityField::Long(long) => (&long.value, Some(long)),
        };
        let Some(column) = column_name(name, "a field", report) else { continue };
        if !is_free(&entity, &fields, name, report) {
            continue;
        }
        let description = long.and_then(|long| Some(long.description.as_ref()?.value.clone()));
        let synonyms = phrases(long.and_then(|long| long.synonyms.as_deref()), report);
        let opposites = phrases(long.and_then(|long| long.opposites.as_deref()), report);
        let placeholder = |ty: Type, kind: EntityFieldKind| EntityField {
            name: column.clone(),
            ty,
            kind,
            depends_on_closed: false,
            description: description.clone(),
            synonyms: synonyms.clone(),
            opposites: opposites.clone(),
        };
        match fold::read(&column, text) {
            FieldText::WrongArguments(usage) => report.error(
                text.at,
                format!("this fold has a wrong number of arguments: `{}`", shorten(&text.value)),
                format!("it takes {usage}"),
            ),
            FieldText::Derived => {
                derived.push((column.clone(), text.clone(), fields.len()));
                // Type and expression follow once all folds are known.
                fields.push(placeholder(Type::Json, EntityFieldKind::Fold(FoldOp::Last)));
            }
            FieldText::Fold { op, value, by } => {
                let fold = Fold { column: &column, text, op, value, by };
                let Some(ty) = folds.add(&fold, relations, report) else { continue };
                fields.push(placeholder(ty, EntityFieldKind::Fold(op)));
            }
        }
    }
    if fields.is_empty() && report.count() == before {
        report.error(
            raw.at,
            "the entity has no fields",
            "declare at least one, such as `n: count`",
        );
    }
    if report.count() != before {
        return;
    }
    let Folds { inputs, folded, mut facts } = folds;
    let amounts = currency::amounts(&entity.key, &folded, &inputs, relations);
    for (column, amount) in amounts {
        relations.amounts.insert((Relation::Entity(index), column), amount);
    }
    derive(&mut entity, fields, &derived, index, relations, &mut facts, report);
    entity.inputs = inputs
        .into_iter()
        .map(|input| EntityInput {
            relation: input.relation,
            event_types: input.event_types,
            filter: input.filter.map(|f| f.column),
            key: input.key,
            args: input.args,
        })
        .collect();
    if report.count() == before {
        let stages = raw.stages.as_ref();
        entity.stages = stages.and_then(|raw| stages::stages(raw, &entity, relations, report));
        entity.relationships = stages::relationships(raw, &entity, names, report);
    }
    if report.count() != before {
        relations.amounts.retain(|(relation, _), _| *relation != Relation::Entity(index));
        return;
    }
    entity.hash = facts.hash_unordered();
    entity.facts = facts.into_parts();
    relations.entities.push(entity);
}

fn is_free(entity: &Entity, fields: &[EntityField], name: &Text, report: &mut Report) -> bool {
    let text = name.value.as_str();
    let (message, hint) = if text.eq_ignore_ascii_case(&entity.key) {
        (format!("`{text}` is the key, which every entity shows"), "remove the field")
    } else if text == column::CLOSED && entity.closes_after.is_some() {
        ("`closed` is given by `closes_after`".to_owned(), "choose another name")
    } else if fields.iter().any(|f| f.name.eq_ignore_ascii_case(text)) {
        (format!("another field is called `{text}`, in this or another case"), "rename one of them")
    } else {
        return true;
    };
    report.error(name.at, message, hint);
    false
}

/// Compiles the derived fields over the folds and the derived fields before them.
fn derive(
    entity: &mut Entity,
    mut fields: Vec<EntityField>,
    derived: &[(String, Text, usize)],
    index: usize,
    relations: &mut Relations,
    facts: &mut Facts,
    report: &mut Report,
) {
    for (name, text, slot) in derived {
        // Later derived fields are not there yet, so that a cycle cannot be written.
        let later: Vec<&str> = derived
            .iter()
            .skip_while(|(other, _, _)| other != name)
            .map(|(other, _, _)| other.as_str())
            .collect();
        let scope = entity_scope_of(
            fields.iter().filter(|f| !later.contains(&f.name.as_str())),
            &entity.key,
            entity.closes_after.is_some(),
        );
        let expr = match Expr::compile(&text.value, &scope, None) {
            Ok(expr) => expr,
            Err(mut error) => {
                if later.iter().skip(1).any(|l| names_in(&text.value).contains(*l)) {
                    error.hint = Some(
                        "derived fields may use only the derived fields above them".to_owned(),
                    );
                } else if looks_like_fold(&text.value) {
                    error.hint = Some(
                        "a fold stands alone: give it a field of its own and use that field's name here"
                            .to_owned(),
                    );
                }
                expr_error(text, error, report);
                continue;
            }
        };
        facts.add(&["derived", name, expr.canonical(), &expr.ty().to_string()]);
        let depends_on_closed = expr.columns().iter().any(|column| {
            column == column::CLOSED
                || fields.iter().any(|f| f.name == *column && f.depends_on_closed)
        });
        let amounts = money::of_expr(relations, Relation::Entity(index), &expr);
        if let Some(amount) = money::combined(&amounts) {
            relations.amounts.insert((Relation::Entity(index), name.clone()), amount);
        }
        let field = &mut fields[*slot];
        field.ty = expr.ty().clone();
        field.depends_on_closed = depends_on_closed;
        field.kind = EntityFieldKind::Derived(expr);
    }
    entity.fields = fields;
}

fn looks_like_fold(text: &str) -> bool {
    ["last(", "first(", "min(", "max(", "count(", "sum(", "count_distinct(", "mode("]
        .iter()
        .any(|fold| text.contains(fold))
}
