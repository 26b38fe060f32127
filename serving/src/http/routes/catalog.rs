//! `GET /v1/catalog`: entities and metrics with what they mean, for agents that look for a number.

use axum::extract::State;
use axum::response::Response;
use contracts::model::{Domain, Entity, Metric, Relationship, Stage, Stages};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::etag::Conditional;
use crate::http::graph::tables;
use crate::http::query::Parameters;
use crate::http::state::AppState;
use crate::http::warnings::DeprecationBody;
use crate::question::serialize_entries;

/// What can be asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Catalog {
    /// Name of the domain.
    domain: String,
    /// Entity type → what it is.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, CatalogEntity>)]
    entities: Vec<(String, CatalogEntity)>,
    /// Metric → what it is.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, CatalogMetric>)]
    metrics: Vec<(String, CatalogMetric)>,
    /// Streams of events that can be subscribed to.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, CatalogSource>)]
    streaming_sources: Vec<(String, CatalogSource)>,
    /// Where to see how an answer came about.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, CatalogSource>)]
    audit_sources: Vec<(String, CatalogSource)>,
}

/// An entity type.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogEntity {
    /// What it is.
    description: String,
    /// Field → what it is.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    fields: Vec<(String, String)>,
    /// The field that is its key.
    primary_key: String,
    /// Version that answers.
    contract_version: String,
    /// Dates and successor, when that version is deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<DeprecationBody>,
    /// What belongs to it → the other entity and the field with its key.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = std::collections::BTreeMap<String, CatalogRelationship>)]
    relationships: Vec<(String, CatalogRelationship)>,
    /// The stages that it goes through; null when the contract knows none.
    stages: Option<CatalogStages>,
    /// Where to read one.
    path: String,
    /// Where to see how one came to be what it is.
    timeline: String,
}

/// What belongs to an entity.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogRelationship {
    /// The other entity type.
    entity: String,
    /// The field with its key.
    key: String,
}

/// The stages that an entity goes through.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogStages {
    /// The field that says in which stage it is.
    field: String,
    /// In their usual order.
    ladder: Vec<CatalogStage>,
}

/// A stage.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogStage {
    /// Name.
    name: String,
    /// Minutes that an entity should stay in it at most.
    sla_minutes: Option<f64>,
    /// Is it the end?
    terminal: bool,
    /// What it means.
    description: Option<String>,
}

/// A metric.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogMetric {
    /// What it is.
    description: String,
    /// Unit of its value.
    unit: String,
    /// Windows that may be asked for.
    available_windows: Vec<String>,
    /// Version that answers.
    contract_version: String,
    /// Dates and successor, when that version is deprecated.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<DeprecationBody>,
    /// Event types that move it.
    source_events: Vec<String>,
    /// Tables that it reads, joined by commas.
    source_table: String,
    /// Dimensions for `filter` and `group_by`.
    dimensions: Vec<String>,
    /// May its values be added up?
    additive: CatalogAdditive,
    /// Is its value exact, or an estimate?
    exact: bool,
    /// Where to read it.
    path: String,
}

/// Whether the values of the parts of a whole add up to the value of the whole.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogAdditive {
    /// Parts are windows that do not overlap.
    time: bool,
    /// Parts are the values of a dimension.
    dimension: bool,
}

/// A place to read from.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogSource {
    /// Path template.
    path: String,
    /// How it is read.
    transport: &'static str,
    /// What it is.
    description: String,
    /// Kinds of nodes in the order of the flow (lineage).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<&'static str>,
    /// What a stream can be limited to.
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<CatalogFilters>,
}

/// What a stream of events can be limited to.
#[derive(Debug, Serialize, ToSchema)]
struct CatalogFilters {
    /// Words for `event_type`: families of event types.
    event_type: Vec<String>,
    /// What `entity_id` means.
    entity_id: &'static str,
}

/// What can be asked for, in one answer.
#[utoipa::path(
    get,
    path = "/v1/catalog",
    tag = "contracts",
    responses(
        (status = 200, description = "Entities and metrics.", body = Catalog),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    conditional: Conditional,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    parameters.only(&[])?;
    let (domain, engine) = (&state.domain, state.cache.engine());
    Ok(conditional.json(&Catalog {
        domain: domain.name.clone(),
        entities: named(domain.entities.iter().map(|entity| entity.name.as_str()), |name| {
            engine.answering_entity(name).map(CatalogEntity::from)
        }),
        metrics: named(domain.metrics.iter().map(|metric| metric.name.as_str()), |name| {
            engine.answering(name).map(|metric| CatalogMetric::new(domain, metric))
        }),
        streaming_sources: vec![("events".to_owned(), events(domain))],
        audit_sources: vec![
            (
                "lineage".to_owned(),
                lineage(
                    "/v1/lineage/{entity_type}/{entity_id}",
                    "which events are in an entity, where each came from and what has it",
                    &["source", "ingestion", "validation", "enrichment", "serving", "lake"],
                ),
            ),
            (
                "metric_lineage".to_owned(),
                lineage(
                    "/v1/lineage/metric/{name}",
                    "which events and entities a metric stands on",
                    &["event", "entity", "metric"],
                ),
            ),
        ],
    }))
}

fn lineage(path: &str, description: &str, layers: &[&'static str]) -> CatalogSource {
    CatalogSource {
        path: path.to_owned(),
        transport: "http",
        description: description.to_owned(),
        layers: layers.to_vec(),
        filters: None,
    }
}

/// The stream of events.
fn events(domain: &Domain) -> CatalogSource {
    CatalogSource {
        path: "/v1/stream/events".to_owned(),
        transport: "sse",
        description: "events as they are committed, with where they came from; goes on after \
                      `Last-Event-ID`"
            .to_owned(),
        layers: Vec::new(),
        filters: Some(CatalogFilters {
            event_type: domain.families.iter().map(|family| family.name.clone()).collect(),
            entity_id: "the value of the field that the event's contract calls `key`",
        }),
    }
}

/// One entry per name, in order of name; versions of one name share the entry of the newest.
fn named<'a, T>(
    names: impl Iterator<Item = &'a str>,
    find: impl Fn(&str) -> Option<T>,
) -> Vec<(String, T)> {
    let names: std::collections::BTreeSet<&str> = names.collect();
    names.into_iter().filter_map(|name| Some((name.to_owned(), find(name)?))).collect()
}

impl From<&Entity> for CatalogEntity {
    fn from(entity: &Entity) -> Self {
        let key = (entity.key.clone(), "key".to_owned());
        let fields = entity.fields.iter().map(|field| {
            let meaning = field.description.clone().unwrap_or_else(|| field.ty.to_string());
            (field.name.clone(), meaning)
        });
        Self {
            description: entity.description.clone().unwrap_or_default(),
            fields: std::iter::once(key).chain(fields).collect(),
            primary_key: entity.key.clone(),
            contract_version: entity.version.to_string(),
            deprecation: DeprecationBody::of(entity.deprecation.as_ref()),
            relationships: entity
                .relationships
                .iter()
                .map(|other| {
                    let Relationship { name, entity, key } = other.clone();
                    (name, CatalogRelationship { entity, key })
                })
                .collect(),
            stages: entity.stages.as_ref().map(CatalogStages::from),
            path: format!("/v1/entity/{}/{{id}}", entity.name),
            timeline: format!("/v1/entity/{}/{{id}}/timeline", entity.name),
        }
    }
}

impl From<&Stages> for CatalogStages {
    fn from(stages: &Stages) -> Self {
        let stage = |stage: &Stage| CatalogStage {
            name: stage.name.clone(),
            sla_minutes: stage.sla.map(|micros| micros as f64 / 60e6),
            terminal: stage.terminal,
            description: stage.description.clone(),
        };
        Self { field: stages.field.clone(), ladder: stages.ladder.iter().map(stage).collect() }
    }
}

/// Is nothing of it estimated?
fn is_exact(domain: &Domain, metric: &Metric) -> bool {
    let parts = metric.measure.parts();
    metric.measure.error().is_none() && parts.iter().all(|p| is_exact(domain, &domain.metrics[*p]))
}

impl CatalogMetric {
    fn new(domain: &Domain, metric: &Metric) -> Self {
        let additivity = metric.measure.additivity();
        Self {
            description: metric.description.clone().unwrap_or_default(),
            unit: metric.unit.clone(),
            available_windows: metric.windows.iter().map(|window| window.text.clone()).collect(),
            contract_version: metric.version.to_string(),
            deprecation: DeprecationBody::of(metric.deprecation.as_ref()),
            source_events: metric.moved_by.clone(),
            source_table: tables(domain, metric).join(","),
            dimensions: metric.dimensions.iter().map(|d| d.name.clone()).collect(),
            additive: CatalogAdditive { time: additivity.time, dimension: additivity.dimension },
            exact: is_exact(domain, metric),
            path: format!("/v1/metrics/{}", metric.name),
        }
    }
}

fn entries<S: Serializer, V: Serialize>(
    entries: &[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serialize_entries(entries, serializer)
}
