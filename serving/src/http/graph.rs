//! The graph behind a metric: which events, through which entities and metrics, feed it.
//!
//! Walked over the same relations that reads and invalidation use; nothing is declared by hand.
//! Start at [`Walk::over`].

use std::collections::BTreeSet;

use contracts::model::{Domain, Entity, Metric, Relation, Topic, ingest};
use serde::Serialize;
use utoipa::ToSchema;

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Node {
    /// `event:<type>`, `entity:<name>`, `metric:<name>` or `ingest`.
    pub(super) id: String,
    /// `event`, `entity`, `metric` or `ingest`.
    pub(super) kind: &'static str,
    /// Name of its contract under `/v1/contracts`; null for `ingest`.
    pub(super) contract: Option<String>,
    /// Versions of that contract that are in use.
    pub(super) versions: Vec<u32>,
    /// Table in the serving store; null for a metric made of metrics.
    pub(super) table: Option<String>,
    /// Topics that the contract names, with commas between them.
    pub(super) topic: Option<String>,
}

/// Who feeds whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Edge {
    /// A node's id.
    pub(super) from: String,
    /// A node's id.
    pub(super) to: String,
}

/// Tables that a metric reads, those of its parts included.
pub(super) fn tables(domain: &Domain, metric: &Metric) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![metric];
    while let Some(metric) = open.pop() {
        found.extend(metric.inputs.iter().map(|input| table(domain, input.relation)));
        open.extend(metric.measure.parts().iter().map(|&part| &domain.metrics[part]));
    }
    found.into_iter().collect()
}

/// Entities that metrics read, those of their parts included.
pub(super) fn entities<'a>(
    domain: &'a Domain,
    metrics: impl Iterator<Item = &'a Metric>,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Metric> = metrics.collect();
    while let Some(metric) = open.pop() {
        for input in &metric.inputs {
            if let Relation::Entity(entity) = input.relation {
                found.insert(domain.entities[entity].name.clone());
            }
        }
        open.extend(metric.measure.parts().iter().map(|&part| &domain.metrics[part]));
    }
    found.into_iter().collect()
}

/// Topics as one text; `None` when there are none.
fn listed(topics: &[Topic]) -> Option<String> {
    let texts: Vec<&str> = topics.iter().map(Topic::as_str).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn table(domain: &Domain, relation: Relation) -> String {
    match relation {
        Relation::Family(family) => domain.families[family].table(),
        Relation::Entity(entity) => domain.entities[entity].table(),
        Relation::Ingest => ingest::TABLE.to_owned(),
    }
}

/// The graph behind one metric: a node after all that feed it.
pub(super) struct Walk<'a> {
    domain: &'a Domain,
    /// Events, then entities, then metrics.
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Does one of the event contracts add columns?
    pub(super) enriched: bool,
}

impl<'a> Walk<'a> {
    /// The graph behind `metric`.
    pub(super) fn over(domain: &'a Domain, metric: &Metric) -> Self {
        let mut walk = Self { domain, nodes: Vec::new(), edges: Vec::new(), enriched: false };
        walk.metric(metric);
        let layer = |node: &Node| match node.kind {
            "event" | "ingest" => 0,
            "entity" => 1,
            _ => 2,
        };
        walk.nodes.sort_by_key(layer);
        walk
    }

    fn metric(&mut self, metric: &Metric) -> String {
        let id = format!("metric:{}", metric.name);
        if self.knows(&id) {
            return id;
        }
        for input in &metric.inputs {
            self.relation(input.relation, &input.event_types, &id);
        }
        for part in metric.measure.parts() {
            let domain = self.domain;
            let from = self.metric(&domain.metrics[part]);
            self.edge(from, &id);
        }
        let tables: Vec<String> =
            metric.inputs.iter().map(|input| table(self.domain, input.relation)).collect();
        self.nodes.push(Node {
            id: id.clone(),
            kind: "metric",
            contract: Some(format!("metric.{}", metric.name)),
            versions: vec![metric.version],
            table: (!tables.is_empty()).then(|| tables.join(",")),
            topic: None,
        });
        id
    }

    fn entity(&mut self, entity: &Entity) -> String {
        let id = format!("entity:{}", entity.name);
        if self.knows(&id) {
            return id;
        }
        for input in &entity.inputs {
            self.relation(input.relation, &input.event_types, &id);
        }
        self.nodes.push(Node {
            id: id.clone(),
            kind: "entity",
            contract: Some(entity.name.clone()),
            versions: vec![entity.version],
            table: Some(entity.table()),
            topic: None,
        });
        id
    }

    fn relation(&mut self, relation: Relation, event_types: &[String], to: &str) {
        let domain = self.domain;
        match relation {
            Relation::Family(family) => self.events(family, event_types, to),
            Relation::Entity(entity) => {
                let from = self.entity(&domain.entities[entity]);
                self.edge(from, to);
            }
            Relation::Ingest => {
                if !self.knows("ingest") {
                    self.nodes.push(Node {
                        id: "ingest".to_owned(),
                        kind: "ingest",
                        contract: None,
                        versions: Vec::new(),
                        table: Some(ingest::TABLE.to_owned()),
                        topic: None,
                    });
                }
                self.edge("ingest".to_owned(), to);
            }
        }
    }

    fn events(&mut self, family: usize, event_types: &[String], to: &str) {
        let family = &self.domain.families[family];
        let all: BTreeSet<&String> = family.versions.iter().flat_map(|v| &v.names).collect();
        let wanted: Vec<&String> = match event_types {
            [] => all.into_iter().collect(),
            types => types.iter().collect(),
        };
        for event_type in wanted {
            let id = format!("event:{event_type}");
            if !self.knows(&id) {
                let versions: Vec<_> =
                    family.versions.iter().filter(|v| v.names.contains(event_type)).collect();
                self.enriched |= versions.iter().any(|version| !version.enrich.is_empty());
                self.nodes.push(Node {
                    id: id.clone(),
                    kind: "event",
                    contract: Some(family.name.clone()),
                    versions: versions.iter().map(|version| version.version).collect(),
                    table: Some(family.table()),
                    topic: versions.last().and_then(|version| listed(&version.topics)),
                });
            }
            self.edge(id, to);
        }
    }

    fn edge(&mut self, from: String, to: &str) {
        let edge = Edge { from, to: to.to_owned() };
        if !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }

    fn knows(&self, id: &str) -> bool {
        self.nodes.iter().any(|node| node.id == id)
    }
}
