//! The expression dialect: a small, closed part of SQL.
//!
//! A text is parsed, typed against a [`Scope`] when the contract is loaded, and compiled once to
//! DataFusion physical expressions. [`Expr::evaluate`] is total: an evaluation error (division by
//! zero, overflow, a cast that fails) gives null in its own row and touches no other row.
//! `docs/expressions.md` is the reference page.
//!
//! Nothing is emitted as SQL text to answer with: predicates, measure arguments and dimensions are
//! evaluated when an event is applied and stored as columns. Only `agentflow verify` computes them a
//! second time from [`Expr::tree`], on purpose by other means.
//!
//! The way of a text: `lexer` (sqlparser's tokenizer) → `parser` → `ast` (canonical text) →
//! `bind` (types and coercions) with `functions` (the closed table) → `physical` (evaluation).

mod ast;
mod bind;
mod decimal;
mod error;
mod functions;
mod lexer;
mod parser;
mod physical;
mod suggest;
pub(crate) mod sums;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};

pub use ast::{ArithmeticOp, Ast, AstKind, CompareOp, IsTest};
pub use error::ExprError;

use crate::types::Type;
use bind::{Input, bind_root};
use physical::Program;
use sums::Term;

/// One name that an expression may use.
#[derive(Debug, Clone)]
pub struct ScopeColumn {
    /// The name in the contract's text.
    pub name: String,
    /// The column of the batch that holds it.
    pub column: String,
    /// Its type.
    pub ty: Type,
}

/// The names that an expression may use, with their types.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// All names. Several names may stand for one column.
    pub columns: Vec<ScopeColumn>,
}

/// A parsed, typed and compiled expression. Clones share it.
#[derive(Clone)]
pub struct Expr(Arc<Compiled>);

struct Compiled {
    program: Program,
    /// The batch columns in the order of the program's schema.
    reads: Vec<String>,
    columns: BTreeSet<String>,
    ty: Type,
    canonical: String,
    is_column: bool,
    sums: Vec<Vec<Term>>,
    tree: Ast,
    names: Vec<ScopeColumn>,
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({}: {})", self.0.canonical, self.0.ty)
    }
}

impl Expr {
    /// Parses, types and compiles `text`. With `want`, the result is cast to that type, or the
    /// text is refused when the cast would lose meaning.
    pub fn compile(text: &str, scope: &Scope, want: Option<&Type>) -> Result<Self, ExprError> {
        let ast = parser::parse(text)?;
        let (program, ty, inputs) = bind_root(&ast, scope, want)?;
        // The outermost frame reads nothing but columns of the batch.
        let reads: Vec<String> = inputs
            .into_iter()
            .filter_map(|input| match input {
                Input::Batch(column) => Some(column),
                _ => None,
            })
            .collect();
        Ok(Self(Arc::new(Compiled {
            program,
            columns: reads.iter().cloned().collect(),
            is_column: is_column(&ast.kind, scope, &ty),
            names: scope.columns.iter().filter(|c| reads.contains(&c.column)).cloned().collect(),
            reads,
            ty,
            canonical: ast.to_string(),
            sums: sums::sums(&ast, scope),
            tree: ast,
        })))
    }

    /// The type of its values. Values may always be null.
    pub fn ty(&self) -> &Type {
        &self.0.ty
    }

    /// One spelling for all texts that mean the same typed expression; input of contract hashes.
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// What was written, as a tree: for who computes it by other means.
    pub fn tree(&self) -> &Ast {
        &self.0.tree
    }

    /// The names of the scope that stand for columns it reads.
    pub fn names(&self) -> &[ScopeColumn] {
        &self.0.names
    }

    /// The batch columns it reads.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.0.columns
    }

    /// The batch column it is, when it is nothing but a column.
    pub fn as_column(&self) -> Option<&str> {
        match self.0.reads.as_slice() {
            [column] if self.0.is_column => Some(column),
            _ => None,
        }
    }

    /// The terms of each addition and subtraction in it.
    pub(crate) fn sums(&self) -> &[Vec<Term>] {
        &self.0.sums
    }

    /// Its values, one per row of `batch`, which must have the columns of [`Self::columns`] by name
    /// with the Arrow types of the scope (other columns are ignored). Never fails: an evaluation
    /// error is null in its row.
    pub fn evaluate(&self, batch: &RecordBatch) -> ArrayRef {
        let rows = batch.num_rows();
        let Some(columns) = self.columns_of(batch) else {
            debug_assert!(false, "{self:?} misses a column of {:?}", batch.schema());
            return new_null_array(&self.0.program.ty, rows);
        };
        self.0.program.run_total(columns, rows)
    }

    fn columns_of(&self, batch: &RecordBatch) -> Option<Vec<ArrayRef>> {
        let fields = self.0.program.schema.fields();
        self.0
            .reads
            .iter()
            .zip(fields)
            .map(|(name, field)| {
                let column = batch.column_by_name(name)?;
                (column.data_type() == field.data_type()).then(|| Arc::clone(column))
            })
            .collect()
    }
}

/// Is it a bare name whose column already has the type of the result?
fn is_column(kind: &AstKind, scope: &Scope, ty: &Type) -> bool {
    let AstKind::Name(name) = kind else {
        return false;
    };
    let column = scope.columns.iter().find(|column| column.name == *name);
    column.is_some_and(|column| column.ty == *ty)
}
