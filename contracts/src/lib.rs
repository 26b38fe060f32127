//! What events, entities and metrics mean.
//!
//! This crate does no I/O beyond being handed texts: it parses contracts, checks them, derives the
//! event → metric graph and compiles expressions. Start at [`model::Domain`].

pub mod expr;
pub mod graph;
pub mod model;
pub mod types;
