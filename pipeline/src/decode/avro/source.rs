//! Where the schemas of writers come from: the trait that a registry implements.

use std::fmt;
use std::sync::Arc;

/// What the id in a record stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriterSchema {
    /// A schema in Avro.
    Avro {
        /// Its text.
        schema: Arc<str>,
        /// Texts of the schemas that it uses by name, each behind those that it uses itself.
        references: Arc<[Arc<str>]>,
    },
    /// There is no such id now; there may be later.
    Unknown {
        /// What is missing, for people.
        missing: String,
    },
    /// The id stands for something that no record in Avro can be read with, and always will.
    Unusable {
        /// Why, for people.
        why: String,
    },
}

/// Gives the schemas of writers.
pub trait SchemaSource: fmt::Debug + Send + Sync {
    /// What an id stands for. Where nobody can tell for now, it waits and asks again as long as
    /// `go_on` says so: whether a record is good must not depend on an outage.
    fn schema(&self, id: u32, go_on: &dyn Fn() -> bool) -> Result<WriterSchema, GaveUp>;
}

/// A schema was waited for, and the wait was called off. Nothing is known about the records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schema {id} did not come{}", .cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
pub struct GaveUp {
    /// Id of the schema.
    pub id: u32,
    /// Why it could not be had.
    pub cause: Option<String>,
}
