//! `GET /v1/lineage/{type}/{id}`: what truly happened to one entity: the events that are in it, where
//! each came from, by which contract it was read, when it was applied, and what has it in the lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use contracts::model::{Domain, EventContract};
use pipeline::outcome::Counts;
use pipeline::sink::iceberg::{TableInfo, table_of_events};
use pipeline::store::PartitionState;
use serde::Serialize;
use utoipa::ToSchema;

use super::Segments;
use super::lineage::{LineageStep, quality};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time::{self, Time, seconds_between};
use crate::metric::{Built, BuiltOf};
use crate::origin::Origin;

/// Most events that an answer shows.
const EVENTS: usize = 50;

/// What happened to an entity.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct EntityLineageBody {
    /// Entity type.
    entity_type: String,
    /// Key.
    entity_id: String,
    /// The way of the newest event that is in it, and of all others that are shown, in the shape that
    /// published clients read.
    lineage: Vec<LineageStep>,
    /// Seconds since the newest event that is in it happened.
    freshness_seconds: f64,
    /// Every event passed its contract before it counted.
    validated: bool,
    /// Were columns added to one of the events that are shown?
    enriched: bool,
    /// Version of the entity's contract.
    contract_version: u32,
    /// Position of the last event that changed it.
    position: i64,
    /// How many events of the journal are in it.
    events_total: u64,
    /// The newest of them, newest first; 50 at the most.
    events: Vec<EventLineage>,
    /// Events up to this position may be in it that only the lake has; they are not counted above.
    #[serde(skip_serializing_if = "Option::is_none")]
    lake_only_until: Option<i64>,
}

/// An event that is in an entity.
#[derive(Debug, Serialize, ToSchema)]
struct EventLineage {
    /// Event id.
    event_id: String,
    /// Event type.
    event_type: String,
    /// Position in the journal.
    position: i64,
    /// Kind of source: `kafka`, `http`, `file`, `generator`.
    source: String,
    /// Topic, where the source has topics.
    topic: Option<String>,
    /// Partition of the topic; of other sources the name of the partition.
    partition: String,
    /// Offset in it.
    offset: i64,
    /// When the record arrived.
    arrived_at: Time,
    /// When it was committed; null where only the lake knows it.
    applied_at: Option<Time>,
    /// Name of the event contract that it was read by.
    contract: String,
    /// Version of that contract.
    version: u32,
    /// What has it in the lake; null while nothing does.
    lake: Option<LakeLineage>,
}

/// Where an event is in the lake.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct LakeLineage {
    /// Table, with its namespace.
    table: String,
    /// Current snapshot, which has the event.
    snapshot_id: String,
}

/// What happened to one entity: recorded facts, not a template.
#[utoipa::path(
    get,
    path = "/v1/lineage/{type}/{id}",
    tag = "entities",
    params(
        ("type" = String, Path, description = "Entity type."),
        ("id" = String, Path, description = "Key."),
    ),
    responses(
        (status = 200, description = "The events that are in it, and their way.", body = EntityLineageBody),
        (status = 403, description = "The key may not read it.", body = ErrorBody),
        (status = 404, description = "No such entity type, or no such entity.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now, or the version is being backfilled.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Segments((entity, id)): Segments<(String, String)>,
    parameters: Parameters,
) -> Result<Json<EntityLineageBody>, ApiError> {
    parameters.only(&[])?;
    caller.entity(&entity)?;
    let body = state
        .blocking(move |state| {
            let built = state.cache.engine().built(&entity, &caller.tenant, &id, EVENTS)?;
            let partitions = state.readers.partitions()?;
            let lake = state.lake.as_ref().map(|lake| lake.tables()).unwrap_or_default();
            let facts = Facts::new(&state.domain, &partitions, &lake);
            Ok::<_, ApiError>(facts.body(&id, built))
        })
        .await?;
    Ok(Json(body))
}

/// What is known beside the events.
struct Facts<'a> {
    domain: &'a Domain,
    partitions: BTreeMap<i64, &'a PartitionState>,
    /// By family.
    lake: Vec<Option<&'a TableInfo>>,
}

impl<'a> Facts<'a> {
    fn new(domain: &'a Domain, partitions: &'a [PartitionState], lake: &'a [TableInfo]) -> Self {
        let table = |family: &contracts::model::Family| {
            let name = table_of_events(&family.name);
            lake.iter().find(|table| table.name == name)
        };
        Self {
            domain,
            partitions: partitions.iter().map(|state| (state.id, state)).collect(),
            lake: domain.families.iter().map(table).collect(),
        }
    }

    fn body(&self, id: &str, built: Built) -> EntityLineageBody {
        let entity = &self.domain.entities[built.entity];
        let enriched = built.events.iter().filter_map(|event| self.contract(event));
        EntityLineageBody {
            entity_type: entity.name.clone(),
            entity_id: id.to_owned(),
            lineage: self.steps(&built),
            freshness_seconds: seconds_between(built.updated_at, time::now()).max(0.0),
            validated: true,
            enriched: enriched.clone().any(|contract| !contract.enrich.is_empty()),
            contract_version: entity.version,
            position: built.updated_seq,
            events_total: built.total,
            events: built.events.iter().map(|event| self.event(event)).collect(),
            lake_only_until: built.given_up_until,
        }
    }

    fn contract(&self, event: &BuiltOf) -> Option<&'a Arc<EventContract>> {
        self.domain.families[event.family].version(Some(event.version))
    }

    fn partition(&self, event: &BuiltOf) -> &'a str {
        self.partitions.get(&event.partition).map_or("", |state| &state.name)
    }

    fn in_lake(&self, event: &BuiltOf) -> Option<LakeLineage> {
        let table = self.lake[event.family]?;
        let has_it = table.position.is_some_and(|position| position >= event.seq);
        let snapshot = table.snapshot.filter(|_| has_it)?;
        Some(LakeLineage {
            table: format!("{}.{}", table.namespace, table.name),
            snapshot_id: snapshot.to_string(),
        })
    }

    fn event(&self, event: &BuiltOf) -> EventLineage {
        let name = self.partition(event);
        let origin = Origin::of(name);
        EventLineage {
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            position: event.seq,
            source: origin.source.to_owned(),
            topic: origin.topic.map(str::to_owned),
            partition: origin.partition.map_or_else(|| name.to_owned(), |n| n.to_string()),
            offset: event.offset,
            arrived_at: Time(event.arrived_at),
            applied_at: event.applied_at.map(Time),
            contract: self.domain.families[event.family].name.clone(),
            version: event.version,
            lake: self.in_lake(event),
        }
    }

    /// The layers in the order of the flow; each place of one once, with the newest event that passed it.
    fn steps(&self, built: &Built) -> Vec<LineageStep> {
        let entity = &self.domain.entities[built.entity];
        let mut counts = Counts::default();
        let mut seen: Vec<i64> = built.events.iter().map(|event| event.partition).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.iter().filter_map(|id| self.partitions.get(id)).for_each(|p| counts += p.counts);
        let mut steps: Vec<LineageStep> = Vec::new();
        let mut step = |layer, system: &str, place: String, at: Option<i64>| {
            if !steps.iter().any(|s| s.layer == layer && s.table_or_topic == place) {
                steps.push(LineageStep {
                    layer,
                    system: system.to_owned().into(),
                    table_or_topic: place,
                    processed_at: at.map(Time),
                    quality_score: quality(counts),
                });
            }
        };
        for event in &built.events {
            let name = self.partition(event);
            let origin = Origin::of(name);
            let place = origin.topic.unwrap_or(name).to_owned();
            step("source", origin.source, place, Some(event.arrived_at));
        }
        for event in &built.events {
            let table = self.domain.families[event.family].table();
            step("ingestion", "journal", table, event.applied_at);
        }
        for event in &built.events {
            let name = &self.domain.families[event.family].name;
            let place = format!("{name} v{}", event.version);
            step("validation", "contract", place, event.applied_at);
        }
        for event in &built.events {
            let Some(contract) = self.contract(event).filter(|c| !c.enrich.is_empty()) else {
                continue;
            };
            let columns: Vec<&str> = contract.enrich.iter().map(|c| c.name.as_str()).collect();
            step("enrichment", "contract", columns.join(","), event.applied_at);
        }
        let applied_at = built.events.first().and_then(|event| event.applied_at);
        step("serving", "duckdb", entity.table(), applied_at);
        for event in &built.events {
            if let Some(LakeLineage { table, snapshot_id }) = self.in_lake(event) {
                step("lake", "iceberg", format!("{table}@{snapshot_id}"), event.applied_at);
            }
        }
        steps
    }
}
