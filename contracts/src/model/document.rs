//! Contracts as `/v1/contracts` shows them.

use super::{Deprecation, Status};

/// A contract version as `/v1/contracts` shows it.
#[derive(Debug, Clone)]
pub struct Document {
    /// event, entity or metric.
    pub kind: Kind,
    /// Name: entity name, event contract name, or `metric.<name>`.
    pub entity: String,
    /// Version.
    pub version: u32,
    /// Day of release as written, else an empty text.
    pub released: String,
    /// Stable or deprecated.
    pub status: Status,
    /// Dates and successor of a deprecated version.
    pub deprecation: Option<Deprecation>,
    /// Fields as clients read them.
    pub fields: Vec<DocumentField>,
    /// Event types that move it (metrics).
    pub source_events: Vec<String>,
    /// Declared `freshness.max_age` (µs; metrics).
    pub max_age: Option<i64>,
    /// Hash of the contract, 16 hex digits.
    pub hash: String,
    /// The contract as written.
    pub yaml: String,
}

/// Kind of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Event contract.
    Event,
    /// Entity contract.
    Entity,
    /// Metric contract.
    Metric,
}

/// A field as clients read it.
#[derive(Debug, Clone)]
pub struct DocumentField {
    /// Name.
    pub name: String,
    /// string, float, integer, enum, datetime, boolean, list, object.
    pub ty: String,
    /// Must it be there?
    pub required: bool,
    /// What it is.
    pub description: Option<String>,
    /// Allowed values.
    pub values: Option<Vec<String>>,
    /// Unit.
    pub unit: Option<String>,
}
