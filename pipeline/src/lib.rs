//! Events on their way from a source through every stage to the stores.
//!
//! ```text
//! source → decode → validate → time policy → deduplicate → enrich → fold → commit
//! ```
//!
//! Start at [`batch`] for what moves, [`store`] for what the pipeline asks of a store.

pub mod admit;
pub mod batch;
pub mod clock;
pub mod decode;
pub mod deduplicate;
pub mod encode;
pub mod entity;
pub mod erase;
pub mod fail_point;
pub mod headers;
mod ingest;
pub mod lease;
pub mod membership;
#[cfg(test)]
mod memory_store;
pub mod metrics;
pub mod outcome;
pub mod overlay;
mod pace;
pub mod positions;
pub mod processor;
mod queue;
pub mod registry;
mod route;
pub mod runner;
pub mod sink;
pub mod source;
pub mod stage_times;
pub mod store;
pub mod touch;
mod validate;
