//! How many requests a key has left in the last minute.
//!
//! Counted by second over a sliding window of a minute: a key that has used its minute up gets the
//! second back that falls out of it. Where several replicas share a Redis server they share the counts;
//! while it does not answer each counts for itself.

mod shared;
mod window;

use std::sync::Arc;

pub use shared::SharedCounts;
pub use window::{Verdict, Window};

use super::ring::Key;

/// Counts requests.
#[derive(Debug, Default)]
pub struct Limiter {
    shared: Option<SharedCounts>,
}

impl Limiter {
    /// With counts that other replicas share.
    pub fn shared(counts: SharedCounts) -> Self {
        Self { shared: Some(counts) }
    }

    /// Takes `cost` requests from what the key has left, if it has so many; otherwise nothing.
    pub async fn take(&self, key: &Key, cost: u32, now: i64) -> Verdict {
        if let Some(shared) = &self.shared
            && let Some(verdict) = shared.take(&key.record.id(), key.rpm, cost).await
        {
            return verdict;
        }
        key.usage.window().take(key.rpm, cost, now)
    }
}

/// The budget of the key that a request came with: what costs more than one request takes the rest
/// here. Without a key everything is free.
#[derive(Debug, Clone, Default)]
pub struct Budget(Option<(Arc<Limiter>, Arc<Key>)>);

impl Budget {
    /// That of a key.
    pub fn of(limiter: Arc<Limiter>, key: Arc<Key>) -> Self {
        Self(Some((limiter, key)))
    }

    /// Takes `cost` more requests and tells what is left; `Err` when the key has not so many, and then
    /// nothing is taken.
    pub async fn take(&self, cost: u32, now: i64) -> Result<Option<Verdict>, Verdict> {
        let Some((limiter, key)) = &self.0 else { return Ok(None) };
        let verdict = limiter.take(key, cost, now).await;
        if verdict.is_allowed { Ok(Some(verdict)) } else { Err(verdict) }
    }
}
