//! Questions that are not about one metric or one entity: callers' own SQL.
//!
//! ```text
//! text → guard (allow-list, tenant, columns) → one read-only snapshot, within limits → rows
//! ```
//!
//! Start at [`guard::check`] and [`Queries::page`].

mod beyond;
pub mod cursor;
pub mod guard;
pub mod metrics;
mod plan;
pub mod question;
mod rows;
mod run;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::{SqlPlan, Whose};
pub use rows::{Column, Row};
pub use run::{Queries, QueryError, QueryLimits, RowPage};
