//! The derived event → entity → metric graph: the one source of lineage, invalidation and of the
//! check of `moved_by`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Relation;

/// Who moves whom.
#[derive(Debug, Default, Clone)]
pub struct Graph {
    /// Metric index → origins (event types, or `ingest`), derived.
    pub origins: Vec<BTreeSet<String>>,
    /// Relation → indices of the metrics that stand on it, directly or through a ratio or derived
    /// metric.
    pub metrics_of: BTreeMap<Relation, Vec<usize>>,
    /// Relation → indices of the entities that are folded from it directly.
    pub entities_of: BTreeMap<Relation, Vec<usize>>,
    /// Metric index → all relations it stands on, with the chain below each (a metric over `user`
    /// over `order` over family `order` has three).
    pub relations_of: Vec<Vec<Relation>>,
}
