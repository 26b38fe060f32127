//! Currencies of an entity's fields.

use crate::check::entity::folds::Folded;
use crate::check::entity::source::Input;
use crate::check::money::{self, Amount};
use crate::check::relations::Relations;
use crate::diagnostic::{Position, Report};
use crate::model::FoldOp;

/// A fold that makes one number of many amounts needs one currency.
pub(super) fn refuse_mixed(
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
        let mut pins = money::guarded(expr, &relations.scope(input.relation));
        pins.extend(input.pins.clone());
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
pub(super) fn amounts(
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
            let guarded = money::guarded(expr, &relations.scope(input.relation));
            for amount in money::of_expr(relations, input.relation, expr) {
                let amount = match amount {
                    Amount::In(column) => match input.pins.get(&column).or(guarded.get(&column)) {
                        Some(text) => Amount::Fixed(text.clone()),
                        // One entity per currency: its key says which.
                        None if input.key.name == column => Amount::In(key.to_owned()),
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
