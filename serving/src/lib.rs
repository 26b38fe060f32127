//! The serving side: DuckDB store, metric engine, cache and HTTP API.
//!
//! ```text
//! commit → [`store`] ← [`metric`] ← [`cache`] ← HTTP, command line
//! ```

pub mod access;
pub mod cache;
pub mod entity;
pub mod example_test;
pub mod filter;
pub mod history;
pub mod http;
mod json;
pub mod metric;
mod origin;
pub mod personal;
pub mod query;
pub mod question;
pub mod search;
pub mod shadow;
mod state;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod value;
pub mod verify;
