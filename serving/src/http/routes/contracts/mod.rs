//! `GET /v1/contracts`, `/v1/contracts/{name}`, `/v1/contracts/{name}/{version}`: the contracts
//! that this server runs on. [`diff`] compares two versions, [`validate`] judges one that may come.

mod change;
pub(in super::super) mod diff;
pub(in super::super) mod validate;

use axum::extract::State;
use axum::response::Response;
use contracts::compare;
use contracts::model::{Document, DocumentField, Domain, Kind, Status};
use serde::Serialize;
use utoipa::ToSchema;

use change::ChangeBody;

use super::Segments;
use super::metrics::status_text;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::etag::Conditional;
use crate::http::graph::tables;
use crate::http::query::{Parameters, listed};
use crate::http::state::AppState;
use crate::http::warnings::DeprecationBody;
use crate::metric::hint;

/// All contracts.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ContractList {
    /// In order of name, then version.
    contracts: Vec<ContractSummary>,
}

/// Names a contract version.
#[derive(Debug, Serialize, ToSchema)]
struct ContractSummary {
    /// Name: an entity, an event contract, or `metric.<name>`.
    entity: String,
    /// Version.
    version: String,
    /// Day of release.
    released: String,
    /// `stable` or `deprecated`.
    status: &'static str,
    /// Dates and successor of a deprecated version.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<DeprecationBody>,
    /// `event`, `entity` or `metric`.
    kind: &'static str,
}

/// One contract version.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ContractBody {
    #[serde(flatten)]
    summary: ContractSummary,
    /// What clients read.
    fields: Vec<FieldBody>,
    /// What clients of the version before cannot take.
    breaking_changes: Vec<ChangeBody>,
    /// Event types that move it (metrics).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_events: Vec<String>,
    /// Tables that it reads, joined by commas (metrics).
    #[serde(skip_serializing_if = "Option::is_none")]
    source_table: Option<String>,
    /// How old an answer may be (metrics).
    #[serde(skip_serializing_if = "Option::is_none")]
    freshness: Option<FreshnessBody>,
    /// Hash over everything that changes the meaning.
    hash: String,
    /// The contract as written.
    yaml: String,
}

/// A field as clients read it; absent members are left out.
#[derive(Debug, Serialize, ToSchema)]
struct FieldBody {
    /// Name.
    name: String,
    /// string, float, integer, enum, datetime, boolean, list or object.
    #[serde(rename = "type")]
    ty: String,
    /// Always there?
    required: bool,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Allowed values.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    /// Unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

/// How old an answer may be.
#[derive(Debug, Serialize, ToSchema)]
struct FreshnessBody {
    /// Seconds.
    p95_staleness_budget_seconds: f64,
    /// Where the figure comes from.
    basis: &'static str,
}

/// All contracts.
#[utoipa::path(
    get,
    path = "/v1/contracts",
    tag = "contracts",
    responses(
        (status = 200, description = "All contracts.", body = ContractList),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    conditional: Conditional,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    parameters.only(&[])?;
    let mut documents: Vec<&Document> = state.domain.documents.iter().collect();
    documents.sort_by_key(|document| (&document.entity, document.version, rank(document.kind)));
    Ok(conditional.json(&ContractList { contracts: documents.into_iter().map(summary).collect() }))
}

/// The newest stable version of a contract, else its newest.
#[utoipa::path(
    get,
    path = "/v1/contracts/{name}",
    tag = "contracts",
    params(
        ("name" = String, Path, description = "An entity, an event contract, or `metric.<name>`."),
        ("kind" = Option<String>, Query,
            description = "`entity`, `event` or `metric`, where two share a name. Default: the entity."),
    ),
    responses(
        (status = 200, description = "The contract.", body = ContractBody),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
        (status = 404, description = "No such contract.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn newest(
    State(state): State<AppState>,
    conditional: Conditional,
    Segments(name): Segments<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["kind"])?;
    let documents = versions(&state.domain, &name, kind(&parameters)?)?;
    Ok(conditional.json(&body(&state.domain, newest_of(&documents))))
}

/// One version of a contract.
#[utoipa::path(
    get,
    path = "/v1/contracts/{name}/{version}",
    tag = "contracts",
    params(
        ("name" = String, Path, description = "An entity, an event contract, or `metric.<name>`."),
        ("version" = String, Path, description = "`1` or `v1`."),
        ("kind" = Option<String>, Query,
            description = "`entity`, `event` or `metric`, where two share a name. Default: the entity."),
    ),
    responses(
        (status = 200, description = "The contract.", body = ContractBody),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
        (status = 404, description = "No such contract or version.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn version(
    State(state): State<AppState>,
    conditional: Conditional,
    Segments((name, version)): Segments<(String, String)>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["kind"])?;
    let documents = versions(&state.domain, &name, kind(&parameters)?)?;
    Ok(conditional.json(&body(&state.domain, find(&documents, &name, &version)?)))
}

/// The version that a path names: `1` or `v1`.
fn find<'a>(
    documents: &[&'a Document],
    name: &str,
    version: &str,
) -> Result<&'a Document, ApiError> {
    let number = version.strip_prefix('v').unwrap_or(version);
    let found = documents.iter().find(|document| document.version.to_string() == number);
    found.copied().ok_or_else(|| {
        let known: Vec<String> = documents.iter().map(|d| d.version.to_string()).collect();
        ApiError::not_found(format!("contract `{name}` has no version `{version}`"))
            .hint(format!("there is {}", listed(&known)))
    })
}

/// The newest stable one, else the newest. There is one: [`versions`] gives no empty list.
fn newest_of<'a>(documents: &[&'a Document]) -> &'a Document {
    let best = documents.iter().max_by_key(|d| (d.status == Status::Stable, d.version));
    best.expect("`versions` gives at least one")
}

/// Which kind of contract is meant, where two share a name.
fn kind(parameters: &Parameters) -> Result<Option<Kind>, ApiError> {
    let Some(text) = parameters.one("kind")? else { return Ok(None) };
    let kinds = [Kind::Entity, Kind::Event, Kind::Metric];
    let found = kinds.into_iter().find(|kind| kind_text(*kind) == text);
    found.map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        ApiError::invalid(format!("`kind` must be `entity`, `event` or `metric`, not `{shown}`"))
    })
}

/// All versions under a name. An entity and an event contract may share one; then the entity, which
/// is what can be read, goes first, unless a kind is asked for.
fn versions<'a>(
    domain: &'a Domain,
    name: &str,
    kind: Option<Kind>,
) -> Result<Vec<&'a Document>, ApiError> {
    let named = domain.documents.iter().filter(|d| d.entity == name);
    let all: Vec<&Document> = named.filter(|d| kind.is_none_or(|kind| d.kind == kind)).collect();
    let first = all.iter().map(|document| rank(document.kind)).min();
    match first {
        Some(first) => Ok(all.into_iter().filter(|d| rank(d.kind) == first).collect()),
        None => Err(unknown(domain, name, kind)),
    }
}

fn unknown(domain: &Domain, name: &str, kind: Option<Kind>) -> ApiError {
    let documents = domain.documents.iter();
    let documents = documents.filter(|document| kind.is_none_or(|kind| document.kind == kind));
    let what = kind.map_or(String::new(), |kind| format!(" of kind `{}`", kind_text(kind)));
    ApiError {
        hint: hint(name, documents.map(|document| document.entity.as_str())),
        ..ApiError::not_found(format!("no contract{what} is named `{name}`"))
    }
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Entity => 0,
        Kind::Event => 1,
        Kind::Metric => 2,
    }
}

fn summary(document: &Document) -> ContractSummary {
    ContractSummary {
        entity: document.entity.clone(),
        version: document.version.to_string(),
        released: document.released.clone(),
        status: status_text(document.status),
        deprecation: DeprecationBody::of(document.deprecation.as_ref()),
        kind: kind_text(document.kind),
    }
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Event => "event",
        Kind::Entity => "entity",
        Kind::Metric => "metric",
    }
}

fn body(domain: &Domain, document: &Document) -> ContractBody {
    let metric = document.entity.strip_prefix("metric.").and_then(|name| {
        domain.metrics.iter().find(|m| m.name == name && m.version == document.version)
    });
    ContractBody {
        summary: summary(document),
        fields: document.fields.iter().map(FieldBody::from).collect(),
        breaking_changes: breaking_changes(domain, document),
        source_events: document.source_events.clone(),
        source_table: metric.map(|metric| tables(domain, metric).join(",")),
        freshness: document.max_age.map(|micros| FreshnessBody {
            p95_staleness_budget_seconds: micros as f64 / 1e6,
            basis: "freshness.max_age of the contract",
        }),
        hash: document.hash.clone(),
        yaml: document.yaml.clone(),
    }
}

/// Compared with the version before.
fn breaking_changes(domain: &Domain, document: &Document) -> Vec<ChangeBody> {
    let before = domain
        .documents
        .iter()
        .filter(|d| d.entity == document.entity && rank(d.kind) == rank(document.kind))
        .filter(|d| d.version < document.version)
        .max_by_key(|d| d.version);
    let changes = before.map(|before| compare::diff(&before.fields, &document.fields));
    change::split(changes.unwrap_or_default(), "non_breaking").0
}

impl From<&DocumentField> for FieldBody {
    fn from(field: &DocumentField) -> Self {
        let DocumentField { name, ty, required, description, values, unit } = field.clone();
        Self { name, ty, required, description, values, unit }
    }
}
