//! Events on their way from a source through every stage to the stores.
//!
//! ```text
//! source → decode → validate → time policy → deduplicate → enrich → fold → commit
//! ```
//!
//! Start at [`batch`] for what moves, [`store`] for what the pipeline asks of a store.

pub mod batch;
pub mod fail_point;
pub mod outcome;
pub mod store;
