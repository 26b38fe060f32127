//! Why a statement is not run.

/// Why a statement is not run, with what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// What is wrong, for people.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

/// Kinds of refusals: one per reaction that a caller may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It is no SQL, or DuckDB finds that it does not fit its relations.
    Invalid,
    /// It is SQL, but not of the kind that is let through.
    Refused,
    /// It names a relation that the caller may not read.
    Forbidden,
    /// It names an entity that is not whole yet.
    Backfilling,
}

impl Refusal {
    /// It is no SQL.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Invalid, message: message.into(), hint: None }
    }

    /// It is not let through.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Refused, message: message.into(), hint: None }
    }

    /// Adds the next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
