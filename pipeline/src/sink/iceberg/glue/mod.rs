//! AWS Glue as the catalog, with the files in S3.
//!
//! ```text
//! follower ──▶ catalog ──metadata file──▶ S3
//!                 │
//!                 └──UpdateTable, naming the version that was read──▶ client ──▶ Glue
//! ```
//!
//! Glue keeps the place of a table's newest metadata among the table's parameters, and numbers the
//! versions of a table. A commit reads both, writes new metadata beside the old ones and asks Glue to name them
//! if the version is still the one that was read: of two commits on the same head one wins, the
//! other is refused. An answer that got lost leaves it open, and the table is asked, as with any catalog.
//!
//! Start at `catalog`; `client` signs and sends, `credentials` says as whom, `wire` and `schema` say what a
//! table looks like to Glue. The settings ([`GlueCatalogConfig`]) are always there, so that what is asked for
//! in a program without the feature `glue` can be refused in good words.

#[cfg(feature = "glue")]
mod catalog;
#[cfg(feature = "glue")]
mod client;
mod config;
#[cfg(feature = "glue")]
mod credentials;
#[cfg(feature = "glue")]
mod error;
#[cfg(feature = "glue")]
mod schema;
#[cfg(feature = "glue")]
mod settings;
#[cfg(feature = "glue")]
mod wire;

#[cfg(not(feature = "glue"))]
mod absent;

#[cfg(not(feature = "glue"))]
pub(super) use absent::{GlueCatalog, bucket};
#[cfg(feature = "glue")]
pub(super) use catalog::{GlueCatalog, bucket};
pub use config::GlueCatalogConfig;
