//! Dimensions: columns of rows, or what all parts of a metric have in common.

use crate::check::hash::{self, Facts};
use crate::check::metric::Metrics;
use crate::check::relations::Relations;
use crate::check::values::{column_name, phrases};
use crate::diagnostic::{Report, suggest};
use crate::model::{ColumnRef, Dimension, Relation};
use crate::raw::decode::Text;
use crate::raw::metric as raw;
use crate::types::Type;

/// The dimensions' columns in one source; the first source decides their types.
pub(super) fn dimension_columns(
    raw: &raw::Metric,
    relation: Relation,
    first: bool,
    dimensions: &mut Vec<Dimension>,
    relations: &mut Relations,
    facts: &mut Facts,
    report: &mut Report,
) -> Vec<ColumnRef> {
    let mut columns = Vec::new();
    let source = hash::relation(relations, relation);
    for (name, text, cardinality, synonyms) in declared_dimensions(raw, report) {
        if column_name(&name, "a dimension", report).is_none() {
            continue;
        }
        let known = dimensions.iter().find(|d| d.name == name.value).map(|d| d.ty.clone());
        if first && known.is_some() {
            report.error(
                name.at,
                format!("the dimension `{}` stands here twice", name.value),
                "remove one of them",
            );
            continue;
        }
        let Some(compiled) = relations.compile(relation, &text, known.as_ref(), report) else {
            continue;
        };
        let ty = compiled.column.ty.clone();
        if !matches!(ty, Type::String | Type::Bool | Type::Int64 | Type::Date) {
            report.error(
                text.inside(1, 1),
                format!("the dimension `{}` is {ty}", name.value),
                "a dimension is a string, bool, int64 or date; use an expression that makes classes",
            );
            continue;
        }
        let what = hash::expression(relations, relation, &compiled.expr);
        facts.add(&["dimension", &name.value, &source, &what]);
        columns.push(compiled.column);
        if first {
            let max_cardinality = cardinality;
            dimensions.push(Dimension { name: name.value, ty, max_cardinality, synonyms });
        }
    }
    columns
}

/// The dimensions that all parts have; a declared one must be among them.
pub(super) fn common_dimensions(
    raw: &raw::Metric,
    parts: &[usize],
    metrics: &Metrics<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Vec<Dimension> {
    let in_all = |d: &Dimension| {
        parts.iter().all(|i| {
            metrics.compiled[*i].dimensions.iter().any(|o| o.name == d.name && o.ty == d.ty)
        })
    };
    let first = parts.first().map(|i| &metrics.compiled[*i]);
    let common: Vec<Dimension> = first
        .map(|m| m.dimensions.iter().filter(|d| in_all(d)).cloned().collect())
        .unwrap_or_default();
    let chosen: Vec<Dimension> = match &raw.dimensions {
        None => common,
        Some(_) => {
            let mut chosen = Vec::new();
            for (name, text, cardinality, synonyms) in declared_dimensions(raw, report) {
                if text.value != name.value {
                    report.error(
                        text.at,
                        "a metric that is made of others takes its dimensions from them",
                        format!("write `{}: {{}}`", name.value),
                    );
                }
                match common.iter().find(|d| d.name == name.value) {
                    Some(d) => chosen.push(Dimension {
                        max_cardinality: cardinality,
                        // Said nothing, its parts' words are its words.
                        synonyms: if synonyms.is_empty() { d.synonyms.clone() } else { synonyms },
                        ..d.clone()
                    }),
                    None => report.error(
                        name.at,
                        format!("not all parts of this metric have the dimension `{}`", name.value),
                        suggest(
                            &name.value,
                            common.iter().map(|d| d.name.as_str()),
                            "dimensions that all parts have",
                        ),
                    ),
                }
            }
            chosen
        }
    };
    for dimension in &chosen {
        facts.add(&["dimension", &dimension.name]);
    }
    chosen
}

type Declared = Vec<(Text, Text, Option<usize>, Vec<String>)>;

/// Name, text, cardinality and other words of each dimension.
fn declared_dimensions(raw: &raw::Metric, report: &mut Report) -> Declared {
    match &raw.dimensions {
        None => Vec::new(),
        Some(raw::Dimensions::Names(names)) => {
            names.iter().map(|name| (name.clone(), name.clone(), None, Vec::new())).collect()
        }
        Some(raw::Dimensions::Named(named)) => {
            let mut found = Vec::new();
            for (name, details) in &named.0 {
                if let (Some(_), Some(expr)) = (&details.field, &details.expr) {
                    report.error(
                        expr.at,
                        format!("the dimension `{}` has both `field` and `expr`", name.value),
                        "keep one of them",
                    );
                }
                let cardinality = details.max_cardinality.and_then(|n| {
                    if n.value == 0 {
                        report.error(n.at, "no group fits into 0", "write 1 or more");
                    }
                    usize::try_from(n.value).ok()
                });
                let text = details.expr.as_ref().or(details.field.as_ref()).unwrap_or(name);
                let synonyms = phrases(details.synonyms.as_deref(), report);
                found.push((name.clone(), text.clone(), cardinality, synonyms));
            }
            found
        }
    }
}
