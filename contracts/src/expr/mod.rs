//! The expression dialect: a small, closed part of SQL.
//!
//! A text is parsed with `sqlparser`, typed against a [`Scope`] when the contract is loaded, and
//! compiled once to DataFusion physical expressions. [`Expr::evaluate`] is total: an evaluation
//! error (division by zero, overflow, a cast that fails) gives null in its own row and touches no
//! other row. `docs/expressions.md` is the reference page.
//!
//! Nothing is ever emitted as SQL text for another engine: predicates, measure arguments and
//! dimensions are evaluated when an event is applied and stored as columns.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, RecordBatch};

use crate::types::Type;

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

/// Why a text is not a valid expression.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// The next step, when there is an obvious one.
    pub hint: Option<String>,
    /// Line inside the text, from 1.
    pub line: u32,
    /// Column (in characters) inside that line, from 1.
    pub column: u32,
}

/// A parsed, typed and compiled expression.
#[derive(Debug, Clone)]
pub struct Expr {}

impl Expr {
    /// Parses, types and compiles `text`. With `want`, the result is cast to that type, or the
    /// text is refused when the cast would lose meaning.
    pub fn compile(_text: &str, _scope: &Scope, _want: Option<&Type>) -> Result<Self, ExprError> {
        todo!()
    }

    /// The type of its values. Values may always be null.
    pub fn ty(&self) -> &Type {
        todo!()
    }

    /// One spelling for all texts that mean the same typed expression; input of contract hashes.
    pub fn canonical(&self) -> &str {
        todo!()
    }

    /// The batch columns it reads.
    pub fn columns(&self) -> &BTreeSet<String> {
        todo!()
    }

    /// The batch column it is, when it is nothing but a column.
    pub fn as_column(&self) -> Option<&str> {
        todo!()
    }

    /// Its values, one per row of `batch`, which must have the columns of [`Self::columns`] by name
    /// with the Arrow types of the scope (other columns are ignored). Never fails: an evaluation
    /// error is null in its row.
    pub fn evaluate(&self, _batch: &RecordBatch) -> ArrayRef {
        todo!()
    }
}
