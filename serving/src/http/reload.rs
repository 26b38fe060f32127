//! What the API knows of contracts that can change while it answers.

use contracts::meaning::{Change, Class};

/// The contracts of a running server.
pub trait LiveContracts: Send + Sync {
    /// How they are.
    fn status(&self) -> ContractsStatus;

    /// Takes up what is in the folder now, if nothing in it is worse than `allow`. Blocks until it is in
    /// use or refused.
    fn reload(&self, allow: Class) -> Reloaded;
}

/// How the contracts of a server are.
#[derive(Debug, Clone, Default)]
pub struct ContractsStatus {
    /// How often others were taken up since the start.
    pub reloads: u64,
    /// When those in use were taken up, µs.
    pub loaded_at: i64,
    /// Why those in the folder are not in use; `None` when they are.
    pub problem: Option<Problem>,
}

/// Why contracts are not taken up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Since when, µs.
    pub since: i64,
    /// What was refused, each with its place and its hint.
    pub findings: Vec<Refusal>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with file and line where it has one.
    pub message: String,
    /// The next step.
    pub hint: String,
}

/// What came of a reload.
#[derive(Debug, Clone)]
pub struct Reloaded {
    /// What.
    pub result: ReloadResult,
    /// What changed in meaning, if it was looked at.
    pub changes: Vec<Change>,
    /// Why it was refused.
    pub findings: Vec<Refusal>,
    /// How long posted events waited, µs.
    pub paused: i64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// The folder has what is in use.
    Unchanged,
    /// The new contracts are in use.
    Reloaded,
    /// Those before stay in use.
    Refused,
}
