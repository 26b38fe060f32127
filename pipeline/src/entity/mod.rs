//! Entities: the current state of things, folded from events or from other entities.
//!
//! [`Engine`] holds what one writer needs: recently used states. [`Batch`] folds the rows of one
//! transaction and yields the changed rows; nothing of it is remembered until the transaction
//! committed ([`Engine::absorb`]). [`Replay`] folds journal rows from nothing, for reads at a past
//! time and for rebuilds, through the same folds.
//!
//! Invariant: the state of an entity is a function of the accepted rows of its key, whatever the
//! batches they came in and the order they came in.

mod engine;
mod fold;
mod input;
mod lookup;
mod replay;
mod rows;
mod scalar;
mod state;

pub use engine::{Batch, Engine};
pub use fold::{Contribution, FoldState, Order, Removed};
pub use lookup::family_order;
pub use replay::{Replay, fold_rows, keys_fed, keys_named};
pub use rows::from_states;
pub use scalar::Scalar;
pub use state::{EntityState, StateCache};

use crate::store::StoreError;

/// Why rows could not be folded. None of these is the fault of an event.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A batch does not have the columns that its contract promises.
    #[error("column `{column}`: {message}")]
    Column {
        /// The column.
        column: String,
        /// What is wrong with it.
        message: String,
    },
    /// A stored state cannot be read or written.
    #[error("state of entity `{entity}`: {message}")]
    State {
        /// The entity.
        entity: String,
        /// What is wrong with it.
        message: String,
    },
    /// The store could not give what the fold needs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FoldError {
    fn column(column: &str, error: impl std::fmt::Display) -> Self {
        Self::Column { column: column.to_owned(), message: error.to_string() }
    }
}
