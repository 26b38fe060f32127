//! What moves the answer to a question: for those who wait for it to move.

use std::sync::Arc;

use contracts::model::Relation;

use super::{Cache, TenantEpochs};
use crate::question::{MetricQuestion, ReadError};

/// What an answer stands on, as of the moment it was asked for.
#[derive(Debug)]
pub struct Watched {
    canonical: MetricQuestion,
    relations: Box<[Relation]>,
    epochs: Arc<TenantEpochs>,
    epoch: u64,
    max_age: u64,
}

impl Cache {
    /// To be asked before the answer is read: what a commit touches in between has then moved.
    pub fn watch(&self, question: &MetricQuestion) -> Result<Watched, ReadError> {
        let resolved = self.engine.resolve(question)?;
        let relations = self.engine.domain().graph.relations_of.get(resolved.metric.index);
        let relations: Box<[Relation]> = relations.cloned().unwrap_or_default().into();
        let epochs = self.epochs.of(resolved.tenant);
        Ok(Watched {
            canonical: resolved.canonical(),
            epoch: epochs.sum(&relations),
            relations,
            epochs,
            max_age: u64::try_from(resolved.metric.max_age).unwrap_or(0),
        })
    }
}

impl Watched {
    /// Has a commit touched it?
    pub fn has_moved(&self) -> bool {
        self.epochs.sum(&self.relations) != self.epoch
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
