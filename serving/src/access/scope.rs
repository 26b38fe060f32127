//! What a key is limited to.

use std::collections::BTreeSet;

use contracts::model::{Domain, Metric, Relation};

/// The limits of a key; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Entity types that it may read; `None`: all.
    pub entities: Option<BTreeSet<String>>,
    /// Metrics that it may read; `None`: all that are made of its entities.
    pub metrics: Option<BTreeSet<String>>,
}

impl Scope {
    /// Is there no limit?
    pub fn is_everything(&self) -> bool {
        self.entities.is_none() && self.metrics.is_none()
    }

    /// See [`super::Caller::sees_metric`].
    pub(super) fn sees_metric(&self, domain: &Domain, metric: &Metric) -> bool {
        match (&self.metrics, &self.entities) {
            (Some(names), _) => names.contains(&metric.name),
            (None, None) => true,
            (None, Some(entities)) => made_of(domain, metric, entities),
        }
    }
}

/// Does the metric stand on entities of these types alone, its parts included?
fn made_of(domain: &Domain, metric: &Metric, entities: &BTreeSet<String>) -> bool {
    let inputs = metric.inputs.iter().all(|input| match input.relation {
        Relation::Entity(entity) => entities.contains(&domain.entities[entity].name),
        Relation::Family(_) | Relation::Ingest => false,
    });
    let parts = metric.measure.parts();
    inputs && parts.iter().all(|&part| made_of(domain, &domain.metrics[part], entities))
}
