//! Which columns an expression adds up.

use std::collections::BTreeSet;

use super::Scope;
use super::ast::{ArithmeticOp, Ast, AstKind};

/// The bare columns among the terms of each addition with more than one, longest additions whole: of
/// `(a + b + 2 * c) / (a + d)` the sets {a, b} and {a, d}.
pub(super) fn sums(ast: &Ast, scope: &Scope) -> Vec<BTreeSet<String>> {
    let mut found = Vec::new();
    visit(ast, scope, &mut found);
    found
}

fn visit(ast: &Ast, scope: &Scope, found: &mut Vec<BTreeSet<String>>) {
    let AstKind::Arithmetic(ArithmeticOp::Add, ..) = &ast.kind else {
        ast.kind.children().into_iter().for_each(|child| visit(child, scope, found));
        return;
    };
    let (mut open, mut terms) = (vec![ast], BTreeSet::new());
    while let Some(term) = open.pop() {
        match &term.kind {
            AstKind::Arithmetic(ArithmeticOp::Add, left, right) => open.extend([&**left, right]),
            AstKind::Name(name) => {
                let column = scope.columns.iter().find(|column| column.name == *name);
                terms.extend(column.map(|column| column.column.clone()));
            }
            _ => visit(term, scope, found),
        }
    }
    found.push(terms);
}
