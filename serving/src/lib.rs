//! The serving side: DuckDB store, metric engine, cache and HTTP API.

pub mod question;
pub mod store;
