//! Where the writer's time goes, so that the next bottleneck is visible.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Time per stage of the pipeline's writer thread, and how much it did.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StageTimes {
    /// Time policy and deduplication.
    pub admit: Duration,
    /// Enriched and computed columns.
    pub enrich: Duration,
    /// Entity folds.
    pub fold: Duration,
    /// The store's transaction.
    pub commit: Duration,
    /// Waiting for a batch.
    pub waiting: Duration,
    /// Batches committed.
    pub batches: u64,
}

impl StageTimes {
    pub(crate) fn batch(
        &mut self,
        start: Instant,
        admitted: Instant,
        routed: Instant,
        folded: Instant,
        committed: Instant,
    ) {
        self.admit += admitted - start;
        self.enrich += routed - admitted;
        self.fold += folded - routed;
        self.commit += committed - folded;
        self.batches += 1;
    }
}
