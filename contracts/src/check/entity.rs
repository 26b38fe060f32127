//! Entities: sources, folds, derived fields.
//!
//! An input that does not have a fold's argument leaves the fold alone; at least one must have it.
//! Start at [`check`].

use std::collections::BTreeSet;

use crate::check::call::names_in;
use crate::check::family::is_optional;
use crate::check::fold::{self, FieldText};
use crate::check::hash::{self, Facts};
use crate::check::money::{self, Amount};
use crate::check::names::{Item, Known, Names};
use crate::check::relations::{Compiled, Relations, entity_scope_of, expr_error};
use crate::check::values::{column_name, duration};
use crate::diagnostic::{Position, Report, suggest};
use crate::expr::{Expr, Scope};
use crate::model::{
    ColumnRef, Entity, EntityField, EntityFieldKind, EntityInput, FoldArg, FoldOp, Relation, column,
};
use crate::raw::decode::{OneOrMany, Text, shorten};
use crate::raw::entity as raw;
use crate::types::Type;

/// One source of an entity, compiled.
struct Input {
    relation: Relation,
    event_types: Vec<String>,
    filter: Option<Compiled>,
    key: ColumnRef,
    pins: std::collections::BTreeMap<String, String>,
    args: Vec<Option<FoldArg>>,
}

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
    let closes_after =
        raw.closes_after.as_ref().and_then(|text| duration(text, false, report));
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
        owner: raw.owner.as_ref().map(|t| t.value.clone()),
        description: raw.description.as_ref().map(|t| t.value.clone()),
        key: raw.key.value.clone(),
        inputs: Vec::new(),
        fields: Vec::new(),
        closes_after,
        computed: Vec::new(),
        hash: 0,
        file: item.source.file.clone(),
    };
    column_name(&raw.key, "a key", report);
    let mut inputs: Vec<Input> = sources
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
    let mut folded: Vec<Folded> = Vec::new();
    for (name, field) in &raw.fields.0 {
        let (text, description) = match field {
            raw::EntityField::Short(text) => (text, None),
            raw::EntityField::Long(long) => (&long.value, long.description.as_ref()),
        };
        let Some(column) = column_name(name, "a field", report) else { continue };
        if !is_free(&entity, &fields, name, report) {
            continue;
        }
        let description = description.map(|t| t.value.clone());
        let placeholder = |ty: Type, kind: EntityFieldKind| EntityField {
            name: column.clone(),
            ty,
            kind,
            depends_on_closed: false,
            description: description.clone(),
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
                let Some(ty) = folds(
                    &column,
                    text,
                    op,
                    value.as_ref(),
                    by.as_ref(),
                    &mut inputs,
                    relations,
                    &mut facts,
                    &mut folded,
                    report,
                ) else {
                    continue;
                };
                fields.push(placeholder(ty, EntityFieldKind::Fold(op)));
            }
        }
    }
    if fields.is_empty() && report.count() == before {
        report.error(raw.at, "the entity has no fields", "declare at least one, such as `n: count`");
    }
    if report.count() != before {
        return;
    }
    let amounts = amounts(&entity.key, &folded, &inputs, relations);
    for (column, amount) in amounts {
        relations.amounts.insert((Relation::Entity(index), column), amount);
    }
    derive(&mut entity, fields, &derived, index, relations, &mut facts, report);
    if report.count() != before {
        relations.amounts.retain(|(relation, _), _| *relation != Relation::Entity(index));
        return;
    }
    entity.hash = facts.hash_unordered();
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
    relations.entities.push(entity);
}

type Sources = Vec<(Relation, Vec<String>)>;

fn sources(
    raw: &raw::EntitySource,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<Sources> {
    let details = match raw {
        raw::EntitySource::Events(types) => return event_sources(types, names, relations, report),
        raw::EntitySource::Details(details) => details,
    };
    match (&details.event, &details.entity) {
        (Some(types), None) => event_sources(types, names, relations, report),
        (None, Some(name)) => {
            let index = entity_source(name, names, relations, report)?;
            Some(vec![(Relation::Entity(index), Vec::new())])
        }
        _ => {
            report.error(
                details.at,
                "an entity has one source",
                "write `from: [event types]` or `from: {entity: name}`",
            );
            None
        }
    }
}

/// The entity that a contract names as its source.
pub(crate) fn entity_source(
    name: &Text,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<usize> {
    match names.entity(&name.value, &relations.entities) {
        Known::Good(index) => Some(index),
        Known::Broken => None,
        Known::Missing => {
            let hint = match names.event_types.contains_key(&name.value) {
                true => "this is an event type: write it under `event`".to_owned(),
                false => suggest(&name.value, names.entities(), "entities"),
            };
            let message = format!("there is no entity `{}`", shorten(&name.value));
            report.error(name.at, message, hint);
            None
        }
    }
}

/// Event types by family, in order of first appearance.
pub(crate) fn event_sources(
    types: &OneOrMany<Text>,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<Sources> {
    let mut found: Sources = Vec::new();
    let mut complete = true;
    for text in &types.0 {
        match names.family(&text.value) {
            Known::Good(family) => {
                let relation = Relation::Family(family);
                let slot = match found.iter().position(|(r, _)| *r == relation) {
                    Some(slot) => slot,
                    None => {
                        found.push((relation, Vec::new()));
                        found.len() - 1
                    }
                };
                if found[slot].1.contains(&text.value) {
                    report.error(
                        text.at,
                        format!("the event type `{}` stands here twice", shorten(&text.value)),
                        "remove one of them",
                    );
                } else {
                    found[slot].1.push(text.value.clone());
                }
            }
            Known::Broken => complete = false,
            Known::Missing => {
                let hint = match names.entity_versions.contains_key(&text.value) {
                    true => format!("to read the entity, write `{{entity: {}}}`", text.value),
                    false => suggest(&text.value, names.types(), "event types"),
                };
                report.error(
                    text.at,
                    format!("no contract has the event type `{}`", shorten(&text.value)),
                    hint,
                );
                complete = false;
            }
        }
    }
    for (relation, types) in &mut found {
        if let Relation::Family(family) = relation {
            let all: BTreeSet<&String> =
                relations.families[*family].versions.iter().flat_map(|v| &v.names).collect();
            if all.iter().all(|name| types.contains(name)) {
                types.clear();
            }
        }
    }
    (complete && !found.is_empty()).then_some(found)
}

fn input(
    raw: &raw::Entity,
    relation: Relation,
    event_types: Vec<String>,
    relations: &mut Relations,
    report: &mut Report,
) -> Option<Input> {
    let scope = relations.scope(relation);
    let key = match scope.columns.iter().find(|c| c.name == raw.key.value) {
        Some(column) if matches!(column.ty, Type::String | Type::Int64) => ColumnRef {
            name: match relation {
                Relation::Entity(i) if relations.entities[i].key == column.name => {
                    column::KEY.to_owned()
                }
                _ => column.column.clone(),
            },
            ty: column.ty.clone(),
            depends_on_closed: false,
        },
        Some(column) => {
            report.error(
                raw.key.at,
                format!("the key `{}` is {}; a key is a string or an int64", column.name, column.ty),
                "choose a field that identifies the entity",
            );
            return None;
        }
        None => {
            report.error(
                raw.key.at,
                format!(
                    "{} has no field `{}` that could be the key",
                    describe(relations, relation),
                    shorten(&raw.key.value)
                ),
                suggest(&raw.key.value, scope.columns.iter().map(|c| c.name.as_str()), "fields"),
            );
            return None;
        }
    };
    let filter = match &raw.filter {
        None => None,
        Some(text) => Some(relations.compile(relation, text, Some(&Type::Bool), report)?),
    };
    if let Some(text) = &raw.filter {
        refuse_closed(filter.as_ref(), text.at, report);
    }
    let pins = raw.filter.as_ref().map(|text| money::pinned(&text.value, &scope));
    Some(Input {
        relation,
        event_types,
        filter,
        key,
        pins: pins.unwrap_or_default(),
        args: Vec::new(),
    })
}

/// "the contract `x`" or "the entity `x`".
pub(crate) fn describe(relations: &Relations, relation: Relation) -> String {
    match relation {
        Relation::Family(i) => format!("the event contract `{}`", relations.families[i].name),
        Relation::Entity(i) => format!("the entity `{}`", relations.entities[i].name),
        Relation::Ingest => "the source `ingest`".to_owned(),
    }
}

fn refuse_closed(compiled: Option<&Compiled>, at: Position, report: &mut Report) {
    if compiled.is_some_and(|c| c.column.depends_on_closed) {
        report.error(
            at,
            "an entity cannot be folded from values that depend on `closed`",
            "closing happens when time passes, without an event; use such values in metrics instead",
        );
    }
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

/// A fold and what went into it, for the currency check.
struct Folded {
    column: String,
    op: FoldOp,
    /// Per input: the value's expression and what it is ordered by.
    args: Vec<Option<(Expr, Option<String>)>>,
}

/// Compiles one fold for every input; the type of its result.
#[allow(clippy::too_many_arguments, reason = "one step of `check`, split off for reading")]
fn folds(
    column: &str,
    text: &Text,
    op: FoldOp,
    value: Option<&Text>,
    by: Option<&Text>,
    inputs: &mut [Input],
    relations: &mut Relations,
    facts: &mut Facts,
    folded: &mut Vec<Folded>,
    report: &mut Report,
) -> Option<Type> {
    if matches!(inputs[0].relation, Relation::Entity(_)) && !fold::can_retract(op) {
        report.error(
            text.at,
            format!("`{}` cannot be used over an entity", fold::name(op)),
            "when a row of the source changes its old value is taken back: use arg_max(value, time), \
             arg_min(value, time), min, max, sum, count, count_distinct or mode",
        );
        return None;
    }
    let Some(value) = value else {
        inputs.iter_mut().for_each(|input| input.args.push(None));
        facts.add(&["fold", column, fold::name(op)]);
        return fold::result_type(op, None).ok();
    };
    let scopes: Vec<Scope> = inputs.iter().map(|i| relations.scope(i.relation)).collect();
    let mut ty: Option<Type> = None;
    let mut args = Vec::new();
    let mut compiled_args = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let one = |text: &Text, want: Option<&Type>, relations: &mut Relations, report: &mut Report| {
            match relations.try_compile(input.relation, text, want) {
                Ok(expr) => Some(Some(expr)),
                Err(_) if elsewhere(text, i, &scopes) => Some(None),
                Err(error) => {
                    expr_error(text, error, report);
                    None
                }
            }
        };
        let value = one(value, ty.as_ref(), relations, report)?;
        let order = match by {
            Some(by) => one(by, None, relations, report)?,
            None => None,
        };
        let Some(value) = value.filter(|_| by.is_none() || order.is_some()) else {
            args.push(None);
            compiled_args.push(None);
            continue;
        };
        ty.get_or_insert_with(|| value.ty().clone());
        facts.add(&[
            "fold",
            column,
            fold::name(op),
            &i.to_string(),
            &hash::expression(relations, input.relation, &value),
            &order.as_ref().map(|e| hash::expression(relations, input.relation, e)).unwrap_or_default(),
        ]);
        let absent_bit = absent_bit(relations, input.relation, &value);
        let kept = relations.keep(input.relation, value.clone());
        let kept_by = order.map(|expr| relations.keep(input.relation, expr));
        refuse_closed(Some(&kept), text.at, report);
        refuse_closed(kept_by.as_ref(), text.at, report);
        compiled_args.push(Some((value, kept_by.as_ref().map(|c| c.column.name.clone()))));
        args.push(Some(FoldArg {
            value: kept.column,
            by: kept_by.map(|c| c.column),
            absent_bit,
        }));
    }
    let Some(ty) = ty else {
        report.error(
            text.at,
            "no source of this entity has all names of this fold",
            "write an argument that one event type has in full, such as `last(field)`",
        );
        return None;
    };
    for (input, arg) in inputs.iter_mut().zip(args) {
        input.args.push(arg);
    }
    let result = match fold::result_type(op, Some(&ty)) {
        Ok(result) => result,
        Err(wanted) => {
            report.error(
                text.at,
                format!("`{}` cannot fold {ty}", fold::name(op)),
                format!("it takes {wanted}"),
            );
            return None;
        }
    };
    let folded_now = Folded { column: column.to_owned(), op, args: compiled_args };
    if matches!(op, FoldOp::Sum | FoldOp::Min | FoldOp::Max) {
        refuse_mixed(&folded_now, inputs, relations, text.at, report);
    }
    folded.push(folded_now);
    Some(result)
}

/// Does the text name something that this input lacks and another one has?
fn elsewhere(text: &Text, input: usize, scopes: &[Scope]) -> bool {
    let has = |scope: &Scope, name: &str| scope.columns.iter().any(|c| c.name == name);
    names_in(&text.value)
        .iter()
        .any(|name| !has(&scopes[input], name) && scopes.iter().any(|scope| has(scope, name)))
}

fn absent_bit(relations: &Relations, relation: Relation, expr: &Expr) -> Option<u32> {
    let Relation::Family(index) = relation else { return None };
    let family = &relations.families[index];
    let name = expr.as_column()?;
    let position = family.fields.iter().position(|f| f.name == name)?;
    is_optional(family, name).then(|| u32::try_from(position).ok()).flatten()
}

fn refuse_mixed(
    folded: &Folded,
    inputs: &[Input],
    relations: &Relations,
    at: Position,
    report: &mut Report,
) {
    let mut seen: Option<String> = None;
    for (input, arg) in inputs.iter().zip(&folded.args) {
        let Some((expr, _)) = arg else { continue };
        let amounts = money::of_expr(relations, input.relation, expr);
        let mut pins = input.pins.clone();
        pins.entry(input.key.name.clone()).or_insert_with(|| format!("`{}`", input.key.name));
        match money::one_currency(relations, input.relation, &amounts, &pins) {
            Err(mixed) => return report.error(at, mixed.message, mixed.hint),
            Ok(None) => {}
            Ok(Some(currency)) => {
                if seen.as_ref().is_some_and(|other| *other != currency) {
                    return report.error(
                        at,
                        "the sources of this fold have amounts in different currencies",
                        "declare one field per currency",
                    );
                }
                seen = Some(currency);
            }
        }
    }
}

/// In which currency each folded field is.
fn amounts(
    key: &str,
    folded: &[Folded],
    inputs: &[Input],
    relations: &Relations,
) -> Vec<(String, Amount)> {
    let mut found = Vec::new();
    for field in folded {
        if matches!(field.op, FoldOp::Count | FoldOp::CountDistinct) {
            continue;
        }
        let mut of_inputs: Vec<Amount> = Vec::new();
        for (i, (input, arg)) in inputs.iter().zip(&field.args).enumerate() {
            let Some((expr, by)) = arg else { continue };
            for amount in money::of_expr(relations, input.relation, expr) {
                let amount = match amount {
                    Amount::In(column) => match fixed_by(input, &column) {
                        Some(text) if input.key.name == column && text.starts_with('`') => {
                            Amount::In(key.clone())
                        }
                        Some(text) => Amount::Fixed(text),
                        None => beside(folded, field, i, by.as_deref(), &column)
                            .map_or(Amount::Unknown, Amount::In),
                    },
                    other => other,
                };
                if !of_inputs.contains(&amount) {
                    of_inputs.push(amount);
                }
            }
        }
        if let Some(amount) = money::combined(&of_inputs) {
            found.push((field.column.clone(), amount));
        }
    }
    found
}

/// The field that folds the currency of `field` in the same way, so that both come from one row.
fn beside(
    folded: &[Folded],
    field: &Folded,
    input: usize,
    by: Option<&str>,
    currency: &str,
) -> Option<String> {
    if !matches!(field.op, FoldOp::Last | FoldOp::First | FoldOp::ArgMax | FoldOp::ArgMin) {
        return None;
    }
    folded
        .iter()
        .find(|other| {
            other.op == field.op
                && other.args.get(input).and_then(Option::as_ref).is_some_and(|(expr, other_by)| {
                    expr.as_column() == Some(currency) && other_by.as_deref() == by
                })
        })
        .map(|other| other.column.clone())
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
                    error.hint = Some("derived fields may use only the derived fields above them".to_owned());
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
