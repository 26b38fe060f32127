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
    /// Transactions that they were committed in.
    pub commits: u64,
}

/// Where the time of [`StageTimes::commit`] goes, as far as the store tells.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct CommitTimes {
    /// New rows: journal, dead letters, counts.
    pub append: Duration,
    /// Entity rows: old ones out, new ones in.
    pub replace: Duration,
    /// The commit itself: the write-ahead log made durable.
    pub log: Duration,
    /// The log folded into the database file.
    pub checkpoint: Duration,
}

impl CommitTimes {
    /// What was spent after `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            append: self.append.saturating_sub(before.append),
            replace: self.replace.saturating_sub(before.replace),
            log: self.log.saturating_sub(before.log),
            checkpoint: self.checkpoint.saturating_sub(before.checkpoint),
        }
    }
}

impl StageTimes {
    pub(crate) fn commit(
        &mut self,
        batches: usize,
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
        self.batches += batches as u64;
        self.commits += 1;
    }
}
