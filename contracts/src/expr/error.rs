//! Errors of the dialect: what is wrong, where in the text, and the next step.

use std::fmt;

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

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pos {
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Pos {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    pub(super) fn error(self, message: impl fmt::Display) -> ExprError {
        ExprError { message: message.to_string(), hint: None, line: self.line, column: self.column }
    }
}

impl ExprError {
    pub(super) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    pub(super) fn hint_if(self, hint: Option<impl fmt::Display>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }
}
