//! What events, entities and metrics mean.
//!
//! Parses contracts, checks them, derives the event → metric graph and compiles expressions. Only
//! [`files`] touches the disk; everything else is handed texts. Start at [`load`] and
//! [`model::Domain`].
//!
//! The way of a file: `yaml` (a tree with places) → `raw` (the grammar) → `check` (meaning) →
//! [`model`]. `docs/contracts.md` is the reference for people who write contracts.

mod check;
pub mod compare;
pub mod diagnostic;
pub mod export;
pub mod expr;
pub mod files;
pub mod graph;
pub mod infer;
pub mod meaning;
pub mod model;
pub mod personal;
mod plain;
mod raw;
pub mod schema;
pub mod type_text;
pub mod types;
mod yaml;

pub use check::{candidate, load, parse_duration};
pub use diagnostic::Diagnostic;
pub use files::load_dir;
pub use infer::infer;
pub use plain::yaml_to_json;
