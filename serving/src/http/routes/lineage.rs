//! `GET /v1/lineage/metric/{name}`: from which events, through which entities, a metric's value
//! comes, with contract versions, tables and positions.
//!
//! The graph is walked over the same relations that reads and invalidation use; nothing here is
//! declared by hand. `lineage` repeats its nodes in the shape that published clients read.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use contracts::model::{Domain, Entity, Metric, Relation, ingest};
use pipeline::store::{Journal, PartitionState, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::Segments;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::query::Parameters;
use crate::http::state::AppState;
use crate::http::time::{self, Time, seconds_between};
use crate::metric::hint;

/// Where a metric's value comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct LineageBody {
    /// Always `metric`.
    entity_type: &'static str,
    /// Name of the metric.
    entity_id: String,
    /// Nodes in the order of the flow, in the shape that published clients read.
    lineage: Vec<LineageStep>,
    /// Seconds since `data_through`.
    freshness_seconds: Option<f64>,
    /// Every event passed its contract before it counted.
    validated: bool,
    /// Does one of the event contracts add columns?
    enriched: bool,
    /// Events, entities and metrics, in the order of the flow.
    nodes: Vec<Node>,
    /// Who feeds whom.
    edges: Vec<Edge>,
    /// Last journal sequence number.
    position: i64,
    /// Every active source partition has delivered its events up to this event time.
    data_through: Option<Time>,
    /// The source partitions, with how far each was read.
    partitions: Vec<PartitionBody>,
}

/// A node in the shape that published clients read.
#[derive(Debug, Serialize, ToSchema)]
struct LineageStep {
    /// `source`, `serving` or `metric`.
    layer: &'static str,
    /// What holds it.
    system: &'static str,
    /// Topic or table.
    table_or_topic: String,
    /// Event time up to which it is complete.
    processed_at: Option<Time>,
    /// Share of the received records that were not rejected.
    quality_score: f64,
}

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in super::super) struct Node {
    /// `event:<type>`, `entity:<name>`, `metric:<name>` or `ingest`.
    id: String,
    /// `event`, `entity`, `metric` or `ingest`.
    kind: &'static str,
    /// Name of its contract under `/v1/contracts`; null for `ingest`.
    contract: Option<String>,
    /// Versions of that contract that are in use.
    versions: Vec<u32>,
    /// Table in the serving store; null for a metric made of metrics.
    table: Option<String>,
    /// Topic that the contract names.
    topic: Option<String>,
}

/// Who feeds whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in super::super) struct Edge {
    /// A node's id.
    from: String,
    /// A node's id.
    to: String,
}

/// A source partition.
#[derive(Debug, Serialize, ToSchema)]
struct PartitionBody {
    /// Name.
    name: String,
    /// Position that it continues from.
    next_offset: u64,
    /// Highest accepted event time.
    watermark: Option<Time>,
}

/// From which events, through which entities, a metric's value comes.
#[utoipa::path(
    get,
    path = "/v1/lineage/metric/{name}",
    tag = "contracts",
    params(("name" = String, Path, description = "Name of the metric.")),
    responses(
        (status = 200, description = "The graph.", body = LineageBody),
        (status = 404, description = "No such metric.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    Segments(name): Segments<String>,
    parameters: Parameters,
) -> Result<Json<LineageBody>, ApiError> {
    parameters.only(&[])?;
    let domain = &state.domain;
    let Some(metric) = domain.metric(&name) else {
        return Err(ApiError {
            hint: hint(&name, domain.metrics.iter().map(|metric| metric.name.as_str())),
            ..ApiError::not_found(format!("no metric is named `{name}`"))
        });
    };
    let walk = Walk::over(domain, metric);
    let (position, partitions) = state
        .blocking(|AppState { readers, .. }| {
            Ok::<_, StoreError>((readers.last_seq()?, readers.partitions()?))
        })
        .await?;
    Ok(Json(LineageBody::new(&name, walk, position, &partitions)))
}

impl LineageBody {
    fn new(metric: &str, walk: Walk<'_>, position: i64, partitions: &[PartitionState]) -> Self {
        let data_through = partitions.iter().filter_map(|partition| partition.watermark).min();
        let mut total = pipeline::outcome::Counts::default();
        for partition in partitions {
            total += partition.counts;
        }
        let quality = match total.received {
            0 => 1.0,
            received => 1.0 - total.rejected as f64 / received as f64,
        };
        let step = |node: &Node| {
            let (layer, system) = match node.kind {
                "event" | "ingest" => ("source", "journal"),
                "entity" => ("serving", "duckdb"),
                _ => ("metric", "agentflow"),
            };
            let place = node.topic.as_ref().or(node.table.as_ref()).unwrap_or(&node.id);
            LineageStep {
                layer,
                system,
                table_or_topic: place.clone(),
                processed_at: data_through.map(Time),
                quality_score: (quality * 1e4).round() / 1e4,
            }
        };
        Self {
            entity_type: "metric",
            entity_id: metric.to_owned(),
            lineage: walk.nodes.iter().map(step).collect(),
            freshness_seconds: data_through
                .map(|through| seconds_between(through, time::now()).max(0.0)),
            validated: true,
            enriched: walk.enriched,
            nodes: walk.nodes,
            edges: walk.edges,
            position,
            data_through: data_through.map(Time),
            partitions: partitions
                .iter()
                .map(|partition| PartitionBody {
                    name: partition.name.clone(),
                    next_offset: partition.next_offset,
                    watermark: partition.watermark.map(Time),
                })
                .collect(),
        }
    }
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

fn table(domain: &Domain, relation: Relation) -> String {
    match relation {
        Relation::Family(family) => domain.families[family].table(),
        Relation::Entity(entity) => domain.entities[entity].table(),
        Relation::Ingest => ingest::TABLE.to_owned(),
    }
}

/// The graph behind one metric: a node after all that feed it.
struct Walk<'a> {
    domain: &'a Domain,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    enriched: bool,
}

impl<'a> Walk<'a> {
    fn over(domain: &'a Domain, metric: &Metric) -> Self {
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
                    topic: versions.last().and_then(|version| version.topic.clone()),
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
