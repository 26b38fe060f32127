//! One version of an event contract: policies, fields, rules, enriched columns.

use std::collections::BTreeMap;

use crate::check::deprecated;
use crate::check::envelope::envelope;
use crate::check::fields::{self, CheckedField};
use crate::check::hash;
use crate::check::lake::lake;
use crate::check::money::{self, Amount};
use crate::check::names::{Item, Known, Names};
use crate::check::places;
use crate::check::relations::{Relations, add_envelope, expr_error};
use crate::check::topic::topics;
use crate::check::values::{EVENT_ALIASES, column_name, duration, phrases};
use crate::diagnostic::{Report, suggest};
use crate::expr::{Expr, Scope, ScopeColumn};
use crate::model::{
    Dedup, Enrich, EnrichValue, EventContract, Format, Late, OnConflict, Relation, Rule, Severity,
    TimePolicy,
};
use crate::raw::decode::{Text, shorten};
use crate::raw::event as raw;
use crate::types::Type;

const HOUR: i64 = 3_600_000_000;
/// Defaults of the policies, µs.
const HORIZON: i64 = 7 * 24 * HOUR;
const MAX_FUTURE: i64 = 5 * 60_000_000;
const ALLOWED_LATENESS: i64 = 60_000_000;

/// A checked version, and which of its columns are amounts.
#[derive(Debug)]
pub(crate) struct CheckedEvent {
    /// The contract of the model; its family index is set by the caller.
    pub(crate) contract: EventContract,
    /// Column → currency.
    pub(crate) amounts: BTreeMap<String, Amount>,
    /// Columns that allow one text only.
    pub(crate) constants: BTreeMap<String, String>,
}

/// Checks one version. The result may lack what was reported as wrong.
pub(crate) fn check(
    item: &Item<raw::Event>,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> CheckedEvent {
    let raw = &item.raw;
    let checked = fields::fields(&raw.fields, report);
    if raw.fields.0.is_empty() {
        report.error(raw.at, "the event contract has no fields", "declare at least one field");
    }
    let (mut amounts, constants) = currencies(&checked, report);
    let mut contract = EventContract {
        family: 0,
        name: item.name.clone(),
        names: raw.names.0.iter().map(|n| n.value.clone()).collect(),
        version: item.version,
        status: item.status,
        deprecation: deprecated::of(item.status, raw.deprecated.as_ref()),
        owner: raw.owner.as_ref().map(|t| t.value.clone()),
        description: raw.description.as_ref().map(|t| t.value.clone()),
        synonyms: phrases(raw.synonyms.as_deref(), report),
        topics: raw.topic.as_ref().map_or_else(Vec::new, |t| topics(t, raw.at, report)),
        format: format_of(raw),
        envelope: envelope(raw.envelope.as_ref(), report),
        key: None,
        dedup: dedup(raw.dedup.as_ref(), report),
        time_policy: time_policy(raw.time_policy.as_ref(), report),
        fields: checked.into_iter().map(|f| f.field).collect(),
        rules: Vec::new(),
        enrich: Vec::new(),
        lake: None,
        hash: 0,
        file: item.source.file.clone(),
    };
    places::check(&contract, raw, report);
    contract.key = raw.key.as_ref().and_then(|key| key_field(key, &contract, report));

    let mut scope = Scope::default();
    for field in &contract.fields {
        scope.columns.push(ScopeColumn {
            name: field.name.clone(),
            column: field.name.clone(),
            ty: field.ty.clone(),
        });
    }
    add_envelope(&mut scope, &contract);
    contract.rules = rules(raw.rules.as_deref().unwrap_or_default(), &contract, &scope, report);
    if let Some(enrich) = &raw.enrich {
        for (name, value) in &enrich.0 {
            let Some(column) = column_name(name, "an enriched column", report) else { continue };
            let taken = scope.columns.iter().any(|c| c.name.eq_ignore_ascii_case(&column))
                || EVENT_ALIASES.contains(&column.as_str());
            if taken {
                report.error(
                    name.at,
                    format!("the name `{column}` is taken by a field or the envelope"),
                    "choose another name for the enriched column",
                );
                continue;
            }
            let value = enriched(value, &scope, names, relations, report);
            let Some((ty, value)) = value else { continue };
            if let EnrichValue::Expr(expr) = &value
                && let Some(amount) = amount_of(expr, &amounts)
            {
                amounts.insert(column.clone(), amount);
            }
            scope.columns.push(ScopeColumn {
                name: column.clone(),
                column: column.clone(),
                ty: ty.clone(),
            });
            contract.enrich.push(Enrich { name: column, ty, value });
        }
    }
    let personal = contract.fields.iter().filter(|field| field.pii);
    let personal: Vec<String> = personal.map(|field| field.name.clone()).collect();
    let is_personal = |column: &str| personal.iter().any(|name| name == column);
    contract.lake = raw.lake.as_ref().map(|raw| lake(raw, &scope, &is_personal, report));
    contract.hash = hash::event(&contract, relations);
    CheckedEvent { contract, amounts, constants }
}

/// Which fields are amounts, and which texts are the same everywhere.
fn currencies(
    fields: &[CheckedField],
    report: &mut Report,
) -> (BTreeMap<String, Amount>, BTreeMap<String, String>) {
    let mut constants = BTreeMap::new();
    let mut codes = Vec::new();
    for field in fields {
        let Some(values) = &field.field.constraints.values else { continue };
        if let [one] = values.as_slice() {
            constants.insert(field.field.name.clone(), one.clone());
        }
        if values.iter().all(|v| money::is_currency_code(v)) {
            codes.push(field.field.name.clone());
        }
    }
    let mut amounts = BTreeMap::new();
    for field in fields {
        let currency = match &field.currency_field {
            Some(text) if text.value == "none" => None,
            Some(text) => {
                let target = fields.iter().find(|f| f.field.name == text.value);
                match target {
                    Some(target) if target.field.ty == Type::String => Some(text.value.clone()),
                    _ => {
                        let texts: Vec<&str> = fields
                            .iter()
                            .filter(|f| f.field.ty == Type::String)
                            .map(|f| f.field.name.as_str())
                            .collect();
                        report.error(
                            text.at,
                            format!(
                                "`{}` is not a text field of this contract",
                                shorten(&text.value)
                            ),
                            suggest(&text.value, texts, "text fields"),
                        );
                        None
                    }
                }
            }
            None if has_decimal(&field.field.ty) && codes.len() == 1 => Some(codes[0].clone()),
            None => None,
        };
        if let Some(currency) = currency {
            amounts.insert(field.field.name.clone(), Amount::In(currency));
        }
    }
    (amounts, constants)
}

fn has_decimal(ty: &Type) -> bool {
    match ty {
        Type::Decimal { .. } => true,
        Type::List(inner) => has_decimal(inner),
        Type::Struct(members) => members.iter().any(|(_, ty)| has_decimal(ty)),
        _ => false,
    }
}

fn amount_of(expr: &Expr, amounts: &BTreeMap<String, Amount>) -> Option<Amount> {
    if !matches!(expr.ty(), Type::Decimal { .. } | Type::Float64) && expr.as_column().is_none() {
        return None;
    }
    let mut found: Vec<Amount> = Vec::new();
    for column in expr.columns() {
        if let Some(amount) = amounts.get(column)
            && !found.contains(amount)
        {
            found.push(amount.clone());
        }
    }
    money::combined(&found)
}

/// The format that is written, or the default.
pub(crate) fn format_of(raw: &raw::Event) -> Format {
    match raw.format {
        None | Some(raw::Format::Json) => Format::Json,
        Some(raw::Format::Avro) => Format::Avro,
    }
}

fn dedup(raw: Option<&raw::Dedup>, report: &mut Report) -> Dedup {
    let horizon = raw.and_then(|d| d.horizon.as_ref());
    Dedup {
        horizon: horizon.and_then(|text| duration(text, false, report)).unwrap_or(HORIZON),
        on_conflict: match raw.and_then(|d| d.on_conflict) {
            None | Some(raw::OnConflict::DeadLetter) => OnConflict::DeadLetter,
            Some(raw::OnConflict::KeepFirst) => OnConflict::KeepFirst,
        },
    }
}

fn time_policy(raw: Option<&raw::TimePolicy>, report: &mut Report) -> TimePolicy {
    let length = |text: Option<&Text>, default: i64, report: &mut Report| {
        text.and_then(|text| duration(text, true, report)).unwrap_or(default)
    };
    TimePolicy {
        max_future: length(raw.and_then(|p| p.max_future.as_ref()), MAX_FUTURE, report),
        allowed_lateness: length(
            raw.and_then(|p| p.allowed_lateness.as_ref()),
            ALLOWED_LATENESS,
            report,
        ),
        late: match raw.and_then(|p| p.late) {
            None | Some(raw::Late::Restate) => Late::Restate,
            Some(raw::Late::DeadLetter) => Late::DeadLetter,
            Some(raw::Late::Drop) => Late::Drop,
        },
    }
}

fn key_field(key: &Text, contract: &EventContract, report: &mut Report) -> Option<String> {
    let Some(field) = contract.fields.iter().find(|f| f.name == key.value) else {
        report.error(
            key.at,
            format!("the key `{}` is not a field of this contract", shorten(&key.value)),
            suggest(&key.value, contract.fields.iter().map(|f| f.name.as_str()), "fields"),
        );
        return None;
    };
    if !matches!(field.ty, Type::String | Type::Int64) {
        report.error(
            key.at,
            format!("the key `{}` is {}; a key is a string or an int64", field.name, field.ty),
            "choose a field that identifies the thing that the event is about",
        );
    }
    Some(field.name.clone())
}

fn rules(
    raw: &[raw::Rule],
    contract: &EventContract,
    scope: &Scope,
    report: &mut Report,
) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for rule in raw {
        if rules.iter().any(|r| r.name == rule.name.value) {
            report.error(
                rule.name.at,
                format!("the rule `{}` stands here twice", shorten(&rule.name.value)),
                "rename one of them: dead letters name the rule that an event broke",
            );
        }
        let field = rule.field.as_ref().and_then(|field| {
            let found = contract.fields.iter().find(|f| f.name == field.value);
            if found.is_none() {
                report.error(
                    field.at,
                    format!("`{}` is not a field of this contract", shorten(&field.value)),
                    suggest(
                        &field.value,
                        contract.fields.iter().map(|f| f.name.as_str()),
                        "fields",
                    ),
                );
            }
            found.map(|f| f.name.clone())
        });
        match Expr::compile(&rule.check.value, scope, Some(&Type::Bool)) {
            Err(error) => expr_error(&rule.check, error, report),
            Ok(check) => {
                let mut read = contract.fields.iter().filter(|f| check.columns().contains(&f.name));
                let only = match (read.next(), read.next()) {
                    (Some(field), None) => Some(field.name.clone()),
                    _ => None,
                };
                rules.push(Rule {
                    name: rule.name.value.clone(),
                    check,
                    severity: match rule.severity {
                        None | Some(raw::Severity::Error) => Severity::Error,
                        Some(raw::Severity::Warning) => Severity::Warning,
                    },
                    field: field.or(only),
                });
            }
        }
    }
    rules
}

fn enriched(
    raw: &raw::Enrich,
    scope: &Scope,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Option<(Type, EnrichValue)> {
    let details = match raw {
        raw::Enrich::Expr(text) => {
            return compiled(text, None, scope, report);
        }
        raw::Enrich::Long(details) => details,
    };
    let ty = details.type_.as_ref().map(|text| fields::type_of(text, report));
    match (&details.expr, &details.lookup) {
        (Some(expr), None) => {
            for stray in [&details.key, &details.field].into_iter().flatten() {
                report.error(
                    stray.at,
                    "`key` and `field` belong to a lookup",
                    "remove them, or write `lookup` in place of `expr`",
                );
            }
            match ty {
                Some(None) => None,
                Some(Some(ty)) => compiled(expr, Some(&ty), scope, report),
                None => compiled(expr, None, scope, report),
            }
        }
        (None, Some(lookup)) => {
            let (Some(key), Some(field)) = (&details.key, &details.field) else {
                report.error(
                    details.at,
                    "a lookup needs `key` and `field`",
                    "write `{lookup: entity, key: \"expression\", field: name}`",
                );
                return None;
            };
            if let Some(text) = &details.type_ {
                report.error(
                    text.at,
                    "a lookup has the type of the field that it reads",
                    "remove `type`",
                );
            }
            let key = match Expr::compile(&key.value, scope, Some(&Type::String)) {
                Ok(key) => key,
                Err(error) => {
                    expr_error(key, error, report);
                    return None;
                }
            };
            let entity = match names.entity(&lookup.value, &relations.entities) {
                Known::Good(index) => index,
                Known::Broken => return None,
                Known::Missing => {
                    report.error(
                        lookup.at,
                        format!("there is no entity `{}`", shorten(&lookup.value)),
                        suggest(&lookup.value, names.entities(), "entities"),
                    );
                    return None;
                }
            };
            let target = &relations.entities[entity];
            let over = target.inputs.iter().find_map(|input| match input.relation {
                Relation::Entity(below) => Some(&relations.entities[below].name),
                _ => None,
            });
            if let Some(below) = over {
                // Its rows are known once those of the other entity are: behind the event, not before it.
                report.error(
                    lookup.at,
                    format!(
                        "the entity `{}` is folded from the entity `{below}` and cannot be looked up",
                        target.name
                    ),
                    format!("look up a field of `{below}`, or fold what is needed from events"),
                );
                return None;
            }
            let Some(found) = target.fields.iter().find(|f| f.name == field.value) else {
                report.error(
                    field.at,
                    format!(
                        "the entity `{}` has no field `{}`",
                        target.name,
                        shorten(&field.value)
                    ),
                    suggest(&field.value, target.fields.iter().map(|f| f.name.as_str()), "fields"),
                );
                return None;
            };
            if found.depends_on_closed {
                report.error(
                    field.at,
                    format!("`{}` depends on `closed` and cannot be looked up", found.name),
                    "it changes with time alone; look up what it is computed from",
                );
                return None;
            }
            let value = EnrichValue::Lookup { entity, key, field: found.name.clone() };
            Some((found.ty.clone(), value))
        }
        _ => {
            report.error(
                details.at,
                "an enriched column needs either `expr` or `lookup`",
                "write `expr: \"…\"`, or `lookup`, `key` and `field`",
            );
            None
        }
    }
}

fn compiled(
    text: &Text,
    want: Option<&Type>,
    scope: &Scope,
    report: &mut Report,
) -> Option<(Type, EnrichValue)> {
    match Expr::compile(&text.value, scope, want) {
        Ok(expr) => Some((expr.ty().clone(), EnrichValue::Expr(expr))),
        Err(error) => {
            expr_error(text, error, report);
            None
        }
    }
}
