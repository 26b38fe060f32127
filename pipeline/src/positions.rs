//! Source partitions as committed, shared between the writer and the sources.
//!
//! The writer puts a partition's state here right after its transaction; a source that is handed a
//! partition while the pipeline runs continues from what it finds. Nobody else writes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::store::PartitionState;

/// What the store has committed, by partition name. Cheap to clone: all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Positions(Arc<RwLock<HashMap<String, PartitionState>>>);

impl Positions {
    /// The partitions that the store knows.
    pub fn new(partitions: impl IntoIterator<Item = PartitionState>) -> Self {
        let named = partitions.into_iter().map(|state| (state.name.clone(), state));
        Self(Arc::new(RwLock::new(named.collect())))
    }

    /// The partition of that name.
    pub fn get(&self, name: &str) -> Option<PartitionState> {
        self.with(|partitions| partitions.get(name).cloned())
    }

    /// All partitions.
    pub fn all(&self) -> Vec<PartitionState> {
        self.with(|partitions| partitions.values().cloned().collect())
    }

    /// Looks at all of them without copying.
    pub fn with<T>(&self, look: impl FnOnce(&HashMap<String, PartitionState>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To be called after the transaction that stored `state`.
    pub(crate) fn committed(&self, state: PartitionState) {
        let mut partitions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        partitions.insert(state.name.clone(), state);
    }
}
