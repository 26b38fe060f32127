//! What an expression adds up.

use std::collections::BTreeSet;

use super::Scope;
use super::ast::{ArithmeticOp, Ast, AstKind};

/// Functions whose value is one of their arguments.
const ONE_OF: [&str; 3] = ["coalesce", "greatest", "least"];
/// Functions whose value is about that of their first argument.
const NEARLY: [&str; 5] = ["abs", "ceil", "floor", "nullif", "round"];

/// A term of an addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// The columns that it may be, as they are, without their sign or rounded; none where it is anything else.
    pub(crate) columns: BTreeSet<String>,
    /// Is it taken off?
    pub(crate) is_negative: bool,
}

/// The terms of each addition and subtraction, longest ones whole: of `(a - b + 2 * c) / (a + d)` those of the
/// dividend and those of the divisor.
pub(super) fn sums(ast: &Ast, scope: &Scope) -> Vec<Vec<Term>> {
    let mut found = Vec::new();
    visit(ast, scope, &mut found);
    found
}

fn visit(ast: &Ast, scope: &Scope, found: &mut Vec<Vec<Term>>) {
    match &ast.kind {
        AstKind::Arithmetic(ArithmeticOp::Add | ArithmeticOp::Subtract, ..) => {
            let mut terms = Vec::new();
            collect(ast, false, scope, &mut terms, found);
            found.push(terms);
        }
        kind => kind.children().into_iter().for_each(|child| visit(child, scope, found)),
    }
}

/// Puts the terms that `ast` is made of to `terms`, and the additions within them to `found`.
fn collect(
    ast: &Ast,
    is_negative: bool,
    scope: &Scope,
    terms: &mut Vec<Term>,
    found: &mut Vec<Vec<Term>>,
) {
    match &ast.kind {
        AstKind::Arithmetic(op @ (ArithmeticOp::Add | ArithmeticOp::Subtract), left, right) => {
            let is_taken_off = is_negative != (*op == ArithmeticOp::Subtract);
            collect(left, is_negative, scope, terms, found);
            collect(right, is_taken_off, scope, terms, found);
        }
        AstKind::Negate(one) => collect(one, !is_negative, scope, terms, found),
        AstKind::Cast(one, _) => collect(one, is_negative, scope, terms, found),
        AstKind::Call(name, arguments) if NEARLY.contains(&name.as_str()) => {
            for (place, argument) in arguments.iter().enumerate() {
                match place {
                    0 => collect(argument, is_negative, scope, terms, found),
                    _ => visit(argument, scope, found),
                }
            }
        }
        kind => {
            let mut columns = BTreeSet::new();
            values(ast, scope, &mut columns);
            terms.push(Term { columns, is_negative });
            kind.children().into_iter().for_each(|child| visit(child, scope, found));
        }
    }
}

/// The columns that the value of `ast` may be.
fn values(ast: &Ast, scope: &Scope, columns: &mut BTreeSet<String>) {
    match &ast.kind {
        AstKind::Name(name) => {
            let column = scope.columns.iter().find(|column| column.name == *name);
            columns.extend(column.map(|column| column.column.clone()));
        }
        AstKind::Negate(one) | AstKind::Cast(one, _) => values(one, scope, columns),
        AstKind::Call(name, arguments) if NEARLY.contains(&name.as_str()) => {
            arguments.first().into_iter().for_each(|first| values(first, scope, columns));
        }
        AstKind::Call(name, arguments) if ONE_OF.contains(&name.as_str()) => {
            arguments.iter().for_each(|argument| values(argument, scope, columns));
        }
        AstKind::Case { branches, otherwise, .. } => {
            let results = branches.iter().map(|(_, result)| result);
            results.chain(otherwise.as_deref()).for_each(|result| values(result, scope, columns));
        }
        _ => {}
    }
}
