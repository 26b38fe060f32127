//! What moves the answer to a question: for those who wait for it to move.

use std::sync::Arc;

use contracts::model::Domain;

use super::Cache;
use super::moves::{Ground, Seen};
use crate::question::{MetricQuestion, ReadError};

/// What an answer stands on, as of the moment it was asked for.
#[derive(Debug)]
pub struct Watched {
    canonical: MetricQuestion,
    ground: Ground<Arc<Domain>>,
    seen: Seen,
    asked_at: i64,
    max_age: u64,
}

impl Cache {
    /// To be asked before the answer is read: what a commit touches in between has then moved.
    pub fn watch(&self, question: &MetricQuestion) -> Result<Watched, ReadError> {
        let resolved = self.engine.resolve(question)?;
        let ground = self.moves.ground(Arc::clone(self.engine.domain()), &resolved);
        Ok(Watched {
            canonical: resolved.canonical(),
            seen: ground.seen(),
            asked_at: resolved.reference,
            ground,
            max_age: u64::try_from(resolved.metric.max_age).unwrap_or(0),
        })
    }
}

impl Watched {
    /// May a commit have moved it?
    pub fn has_moved(&self) -> bool {
        self.ground.has_moved(&self.seen, self.asked_at)
    }

    /// Oldest answer that the contract allows, µs.
    pub fn max_age(&self) -> u64 {
        self.max_age
    }

    /// One spelling for all questions that mean the same. One that names no version goes on naming none:
    /// another may answer later.
    pub fn same_question(&self, asked: &MetricQuestion) -> MetricQuestion {
        MetricQuestion { version: asked.version, ..self.canonical.clone() }
    }
}
