//! Statements against a real store with the rows of two tenants, and a file on disk that nobody may
//! read.

mod apart;
mod corpus;
mod metrics;
mod mutations;
mod questions;
mod reads;
pub(crate) mod world;
