//! `GET /v1/lineage/metric/{name}`: from which events, through which entities, a metric's value
//! comes, with contract versions, tables and positions.
//!
//! `lineage` repeats the nodes of the graph in the shape that published clients read.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use pipeline::outcome::Counts;
use pipeline::store::{Journal, PartitionState, StoreError, data_through};
use serde::Serialize;
use utoipa::ToSchema;

use super::Segments;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::graph::{Edge, Node, Walk};
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
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
pub(super) struct LineageStep {
    /// Of a metric `source`, `serving` or `metric`; of an entity `source`, `ingestion`, `validation`,
    /// `enrichment`, `serving` or `lake`.
    pub(super) layer: &'static str,
    /// What holds it.
    pub(super) system: Cow<'static, str>,
    /// Topic or table, contract, columns.
    pub(super) table_or_topic: String,
    /// Of a metric the event time up to which it is complete; of an entity when its newest event was
    /// there.
    pub(super) processed_at: Option<Time>,
    /// Share of the received records that were not rejected.
    pub(super) quality_score: f64,
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
        (status = 403, description = "The key may not read this metric.", body = ErrorBody),
        (status = 404, description = "No such metric.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Segments(name): Segments<String>,
    parameters: Parameters,
) -> Result<Json<LineageBody>, ApiError> {
    parameters.only(&[])?;
    let domain = &state.domain;
    let Some(metric) = state.cache.engine().answering(&name) else {
        return Err(ApiError {
            hint: hint(&name, domain.metrics.iter().map(|metric| metric.name.as_str())),
            ..ApiError::not_found(format!("no metric is named `{name}`"))
        });
    };
    caller.metric(domain, metric)?;
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
        let marks = partitions.iter().map(|partition| (partition.watermark, partition.updated_at));
        let data_through = data_through(marks, time::now());
        let mut total = Counts::default();
        for partition in partitions {
            total += partition.counts;
        }
        let step = |node: &Node| {
            let (layer, system) = match node.kind {
                "event" | "ingest" => ("source", "journal"),
                "entity" => ("serving", "duckdb"),
                _ => ("metric", "agentflow"),
            };
            let place = node.topic.as_ref().or(node.table.as_ref()).unwrap_or(&node.id);
            LineageStep {
                layer,
                system: system.into(),
                table_or_topic: place.clone(),
                processed_at: data_through.map(Time),
                quality_score: quality(total),
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

/// Share of the records that were not rejected.
pub(super) fn quality(counts: Counts) -> f64 {
    let share = match counts.received {
        0 => 1.0,
        received => 1.0 - counts.rejected as f64 / received as f64,
    };
    (share * 1e4).round() / 1e4
}
