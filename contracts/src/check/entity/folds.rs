//! Folds of an entity: one argument column per source.

use crate::check::call::names_in;
use crate::check::entity::currency::refuse_mixed;
use crate::check::entity::source::{Input, refuse_closed};
use crate::check::family::is_optional;
use crate::check::fold;
use crate::check::hash::{self, Facts};
use crate::check::relations::{Relations, expr_error};
use crate::diagnostic::Report;
use crate::expr::{Expr, Scope};
use crate::model::{FoldArg, FoldOp, Relation};
use crate::raw::decode::Text;
use crate::types::Type;

/// A fold and what went into it, for the currency check.
pub(super) struct Folded {
    pub(super) column: String,
    pub(super) op: FoldOp,
    /// Per input: the value's expression and what it is ordered by.
    pub(super) args: Vec<Option<(Expr, Option<String>)>>,
}

/// A fold as written.
pub(super) struct Fold<'a> {
    /// The entity's field.
    pub(super) column: &'a str,
    /// The whole text, for messages.
    pub(super) text: &'a Text,
    pub(super) op: FoldOp,
    pub(super) value: Option<Text>,
    pub(super) by: Option<Text>,
}

/// The folds of an entity, as far as they are compiled.
pub(super) struct Folds {
    pub(super) inputs: Vec<Input>,
    pub(super) folded: Vec<Folded>,
    /// What goes into the entity's hash.
    pub(super) facts: Facts,
}

impl Folds {
    /// Compiles one fold for every input; the type of its result.
    pub(super) fn add(
        &mut self,
        fold: &Fold<'_>,
        relations: &mut Relations,
        report: &mut Report,
    ) -> Option<Type> {
        let Fold { column, text, op, ref value, ref by } = *fold;
        if matches!(self.inputs[0].relation, Relation::Entity(_)) && !fold::can_retract(op) {
            report.error(
                text.at,
                format!("`{}` cannot be used over an entity", fold::name(op)),
                "when a row of the source changes its old value is taken back: use arg_max(value, time), \
                 arg_min(value, time), min, max, sum, count, count_distinct or mode",
            );
            return None;
        }
        let Some(value) = value else {
            self.inputs.iter_mut().for_each(|input| input.args.push(None));
            self.facts.add(&["fold", column, fold::name(op)]);
            return fold::result_type(op, None).ok();
        };
        let scopes: Vec<Scope> = self.inputs.iter().map(|i| relations.scope(i.relation)).collect();
        let mut ty: Option<Type> = None;
        let mut args = Vec::new();
        let mut compiled_args = Vec::new();
        for (i, input) in self.inputs.iter().enumerate() {
            let one = |text: &Text,
                       want: Option<&Type>,
                       relations: &mut Relations,
                       report: &mut Report| {
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
                if op == FoldOp::Count {
                    // Rows of such a source were counted once; entities that hold such counts have
                    // another hash now and are folded again.
                    self.facts.add(&["fold", column, fold::name(op), &i.to_string(), "nothing"]);
                }
                args.push(None);
                compiled_args.push(None);
                continue;
            };
            ty.get_or_insert_with(|| value.ty().clone());
            self.facts.add(&[
                "fold",
                column,
                fold::name(op),
                &i.to_string(),
                &hash::expression(relations, input.relation, &value),
                &order
                    .as_ref()
                    .map(|e| hash::expression(relations, input.relation, e))
                    .unwrap_or_default(),
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
        for (input, arg) in self.inputs.iter_mut().zip(args) {
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
            refuse_mixed(&folded_now, &self.inputs, relations, text.at, report);
        }
        self.folded.push(folded_now);
        Some(result)
    }
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
