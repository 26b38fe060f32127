//! `/v1/admin/keys`, `/v1/admin/usage`: API keys, for whoever runs the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Segments;
use crate::access::file::KeyFileError;
use crate::access::record::KeyRecord;
use crate::access::ring::{GRACE, Key, KeyRing, Refusal};
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::fields::Fields;
use crate::http::query::Parameters;
use crate::http::state::AppState;
use crate::http::time::{self, Time};

/// Longest grace of a rotation.
const MAX_GRACE: u64 = 30 * 86_400;

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
// It is read member by member; its description is made of these.
#[serde(deny_unknown_fields)]
pub(in super::super) struct NewKey {
    /// What it is for.
    name: String,
    /// Whose rows it opens.
    tenant: String,
    /// Requests a minute; default: the server's.
    #[serde(default)]
    #[schema(minimum = 1)]
    rate_limit_rpm: Option<u32>,
    /// Entity types that it may read; null: all.
    #[serde(default)]
    allowed_entity_types: Option<BTreeSet<String>>,
    /// Metrics that it may read; null: all that are made of its entities.
    #[serde(default)]
    allowed_metrics: Option<BTreeSet<String>>,
}

/// A key that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MadeKey {
    /// Its identifier.
    key_id: String,
    /// The key itself: shown this once.
    key: String,
    /// What it is for.
    name: String,
    /// Whose rows it opens.
    tenant: String,
    /// Requests a minute.
    rate_limit_rpm: u32,
    /// Entity types that it may read; null: all.
    allowed_entity_types: Option<BTreeSet<String>>,
    /// Metrics that it may read; null: all that are made of its entities.
    allowed_metrics: Option<BTreeSet<String>>,
    /// When it was made.
    created_at: Option<Time>,
}

/// All keys.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct KeyList {
    /// In the order in which they were made.
    keys: Vec<KeyBody>,
    /// Why the file of keys could not be read the last time, if it could not; the keys before that are in
    /// use.
    problem: Option<String>,
}

/// A key, without the key.
#[derive(Debug, Serialize, ToSchema)]
struct KeyBody {
    /// Its identifier.
    key_id: String,
    /// Is it kept as a hash? Else it stands in plain text in the file or the environment.
    key_hash_present: bool,
    /// What it is for.
    name: String,
    /// Whose rows it opens.
    tenant: String,
    /// Requests a minute.
    rate_limit_rpm: u32,
    /// Entity types that it may read; null: all.
    allowed_entity_types: Option<BTreeSet<String>>,
    /// Metrics that it may read; null: all that are made of its entities.
    allowed_metrics: Option<BTreeSet<String>>,
    /// When it was made.
    created_at: Option<Time>,
    /// Requests since the server started, at most 24 hours back.
    requests_last_24h: u64,
    /// `idle`, or `grace_period` while the key before it is still good.
    rotation_phase: &'static str,
    /// Until when the key before it is good.
    old_key_active_until: Option<Time>,
    /// Requests with the key before it in this hour and the last one.
    requests_on_old_key_last_hour: u64,
}

/// A new key in place of an old one.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Rotated {
    /// The new key: shown this once.
    new_key: String,
    /// Until when the old one is good.
    expires_at: Time,
}

/// How far a rotation is.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct RotationStatus {
    /// `idle` or `grace_period`.
    phase: &'static str,
    /// Until when the old key is good.
    old_key_active_until: Option<Time>,
    /// Requests with the old key in this hour and the last one.
    requests_on_old_key_last_hour: u64,
}

/// An old key that is good no more.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct Revoked {
    /// Always true.
    revoked: bool,
}

/// Requests by tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct UsageBody {
    /// In order of tenant.
    usage: Vec<TenantUsage>,
}

/// Requests of one tenant.
#[derive(Debug, Serialize, ToSchema)]
struct TenantUsage {
    /// The tenant.
    tenant: String,
    /// Requests since the server started, at most 24 hours back.
    requests_last_24h: u64,
}

/// Makes a key.
#[utoipa::path(
    post,
    path = "/v1/admin/keys",
    tag = "admin",
    request_body(content((NewKey = "application/json"))),
    responses(
        (status = 201, description = "The key; it is shown this once.", body = MadeKey),
        (status = 400, description = "The body is no such request.", body = ErrorBody),
        (status = 409, description = "There is such a key, or the tenant may have no more.",
            body = ErrorBody),
        (status = 422, description = "A field does not fit.", body = ErrorBody),
        (status = 503, description = "The server has no admin key, or the keys cannot be written.",
            body = ErrorBody),
    ),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn create(
    State(state): State<AppState>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<MadeKey>), ApiError> {
    parameters.only(&[])?;
    let asked = asked_key(body, &headers, state.options.max_body_bytes).await?;
    let domain = &state.domain;
    known(&asked.allowed_entity_types, "allowed_entity_types", |name| {
        domain.entities.iter().any(|entity| entity.name == *name)
    })?;
    known(&asked.allowed_metrics, "allowed_metrics", |name| {
        domain.metrics.iter().any(|metric| metric.name == *name)
    })?;
    let record = KeyRecord {
        rate_limit_rpm: asked.rate_limit_rpm,
        allowed_entity_types: asked.allowed_entity_types,
        allowed_metrics: asked.allowed_metrics,
        ..KeyRecord::new(&asked.name, &asked.tenant)
    };
    let (made, rpm, secret) = with_ring(&state, move |ring| {
        let (record, secret) = ring.create(record)?;
        let rpm = ring.rpm_of(&record);
        Ok((record, rpm, secret))
    })
    .await?;
    let body = MadeKey {
        key_id: made.id(),
        key: secret,
        name: made.name,
        tenant: made.tenant,
        rate_limit_rpm: rpm,
        allowed_entity_types: made.allowed_entity_types,
        allowed_metrics: made.allowed_metrics,
        created_at: made.created_at.map(moment),
    };
    Ok((StatusCode::CREATED, Json(body)))
}

async fn asked_key(body: Body, headers: &HeaderMap, limit: usize) -> Result<NewKey, ApiError> {
    let form = r#"write {"name": "…", "tenant": "…"}, with "rate_limit_rpm" if wanted"#;
    let hinted = |error: ApiError| error.or_hint(form);
    let fields = Fields::read(body, headers, limit).await.map_err(hinted)?;
    let fields = fields.only(&[
        "name",
        "tenant",
        "rate_limit_rpm",
        "allowed_entity_types",
        "allowed_metrics",
    ])?;
    let rpm = fields.maybe_number("rate_limit_rpm", 1..=u32::MAX.into())?;
    let names = |name: &str| -> Result<Option<BTreeSet<String>>, ApiError> {
        let names = fields.has(name).then(|| fields.names(name)).transpose()?;
        Ok(names.map(|names| names.into_iter().collect()))
    };
    Ok(NewKey {
        name: fields.required("name").map_err(hinted)?,
        tenant: fields.required("tenant").map_err(hinted)?,
        rate_limit_rpm: rpm.and_then(|rpm| u32::try_from(rpm).ok()),
        allowed_entity_types: names("allowed_entity_types")?,
        allowed_metrics: names("allowed_metrics")?,
    })
}

/// Refuses names that the contracts do not have: a key for them would open nothing.
fn known(
    names: &Option<BTreeSet<String>>,
    field: &str,
    is_known: impl Fn(&String) -> bool,
) -> Result<(), ApiError> {
    match names.iter().flatten().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(ApiError::invalid(format!("`{field}` names `{name}`, which is nothing"))
            .hint("`GET /v1/catalog` lists entities and metrics")),
    }
}

/// All keys, without the keys.
#[utoipa::path(
    get,
    path = "/v1/admin/keys",
    tag = "admin",
    responses((status = 200, description = "All keys.", body = KeyList)),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Json<KeyList>, ApiError> {
    parameters.only(&[])?;
    let ring = ring(&state)?;
    let now = time::seconds();
    let keys = ring.keys().iter().map(|key| KeyBody::new(key, now)).collect();
    Ok(Json(KeyList { keys, problem: ring.problem() }))
}

/// Gives a key a new secret; the old one is good for a while more.
#[utoipa::path(
    post,
    path = "/v1/admin/keys/{key_id}/rotate",
    tag = "admin",
    params(
        ("key_id" = String, Path, description = "The key's identifier."),
        ("grace_seconds" = Option<u64>, Query, maximum = 2_592_000,
            description = "How long the old key is good. Default: a day."),
    ),
    responses(
        (status = 200, description = "The new key; it is shown this once.", body = Rotated),
        (status = 404, description = "There is no such key.", body = ErrorBody),
        (status = 409, description = "Its last rotation is not over.", body = ErrorBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
    ),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn rotate(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<Rotated>, ApiError> {
    let parameters = parameters.only(&["grace_seconds"])?;
    let grace = parameters.number("grace_seconds", GRACE.as_secs(), 0..=MAX_GRACE)?;
    let rotate = move |ring: &KeyRing| ring.rotate(&id, Duration::from_secs(grace));
    let (new_key, expires_at) = with_ring(&state, rotate).await?;
    Ok(Json(Rotated { new_key, expires_at: moment(expires_at) }))
}

/// How far the rotation of a key is.
#[utoipa::path(
    get,
    path = "/v1/admin/keys/{key_id}/rotation-status",
    tag = "admin",
    params(("key_id" = String, Path, description = "The key's identifier.")),
    responses(
        (status = 200, description = "How far it is.", body = RotationStatus),
        (status = 404, description = "There is no such key.", body = ErrorBody),
    ),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn rotation(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<RotationStatus>, ApiError> {
    parameters.only(&[])?;
    let key = ring(&state)?.find(&id).ok_or_else(|| ApiError::from(Refusal::Unknown(id)))?;
    let body = KeyBody::new(&key, time::seconds());
    Ok(Json(RotationStatus {
        phase: body.rotation_phase,
        old_key_active_until: body.old_key_active_until,
        requests_on_old_key_last_hour: body.requests_on_old_key_last_hour,
    }))
}

/// Ends the time of the key before the last rotation.
#[utoipa::path(
    post,
    path = "/v1/admin/keys/{key_id}/revoke-old",
    tag = "admin",
    params(("key_id" = String, Path, description = "The key's identifier.")),
    responses(
        (status = 200, description = "The old key opens nothing any more.", body = Revoked),
        (status = 404, description = "There is no such key.", body = ErrorBody),
        (status = 409, description = "It has no old key that is still good.", body = ErrorBody),
    ),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn revoke_old(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<Revoked>, ApiError> {
    parameters.only(&[])?;
    with_ring(&state, move |ring| ring.revoke_old(&id)).await?;
    Ok(Json(Revoked { revoked: true }))
}

/// Removes a key: it opens nothing any more.
#[utoipa::path(
    delete,
    path = "/v1/admin/keys/{key_id}",
    tag = "admin",
    params(("key_id" = String, Path,
        description = "The key's identifier, or its stored hash. Never the key: URLs are logged.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "There is no such key.", body = ErrorBody),
        (status = 409, description = "It comes from the environment.", body = ErrorBody),
    ),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn revoke(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    parameters.only(&[])?;
    with_ring(&state, move |ring| {
        let id = ring.find(&id).map_or(id, |key| key.record.id());
        ring.revoke(&id)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Requests by tenant.
#[utoipa::path(
    get,
    path = "/v1/admin/usage",
    tag = "admin",
    responses((status = 200, description = "Tenants that have keys.", body = UsageBody)),
    security(("admin_key" = [])),
)]
pub(in super::super) async fn usage(
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Json<UsageBody>, ApiError> {
    parameters.only(&[])?;
    let now = time::seconds();
    let mut by_tenant: BTreeMap<String, u64> = BTreeMap::new();
    for key in ring(&state)?.keys() {
        *by_tenant.entry(key.record.tenant.clone()).or_default() += key.usage.last_day(now);
    }
    let usage = by_tenant
        .into_iter()
        .map(|(tenant, requests_last_24h)| TenantUsage { tenant, requests_last_24h })
        .collect();
    Ok(Json(UsageBody { usage }))
}

impl KeyBody {
    fn new(key: &Arc<Key>, now: i64) -> Self {
        let record = &key.record;
        let until = record.previous_key_active_until.filter(|until| until.timestamp() > now);
        Self {
            key_id: record.id(),
            key_hash_present: record.key_hash.is_some(),
            name: record.name.clone(),
            tenant: record.tenant.clone(),
            rate_limit_rpm: key.rpm,
            allowed_entity_types: record.allowed_entity_types.clone(),
            allowed_metrics: record.allowed_metrics.clone(),
            created_at: record.created_at.map(moment),
            requests_last_24h: key.usage.last_day(now),
            rotation_phase: if until.is_some() { "grace_period" } else { "idle" },
            old_key_active_until: until.map(moment),
            requests_on_old_key_last_hour: key.usage.old_last_hour(now),
        }
    }
}

fn moment(time: DateTime<Utc>) -> Time {
    Time(time.timestamp_micros())
}

fn ring(state: &AppState) -> Result<&Arc<KeyRing>, ApiError> {
    state.gate.ring().ok_or_else(|| {
        ApiError::new(Code::Conflict, "this server needs no keys, so it has none")
            .hint("start it without AGENTFLOW_AUTH_DISABLED")
    })
}

/// Hashing takes tens of milliseconds, and a file is written.
async fn with_ring<T: Send + 'static>(
    state: &AppState,
    call: impl FnOnce(&KeyRing) -> Result<T, KeyFileError> + Send + 'static,
) -> Result<T, ApiError> {
    let ring = Arc::clone(ring(state)?);
    state.blocking(move |_| call(&ring)).await
}

impl From<KeyFileError> for ApiError {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::Refused(refusal) => refusal.into(),
            error => Self {
                cause: Some(error.to_string()),
                ..Self::new(Code::Unavailable, "the keys cannot be written")
                    .hint("the server's log says why")
            },
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            // Not repeated: some send the key itself.
            Refusal::Unknown(_) => Self::not_found("there is no such key")
                .hint("`GET /v1/admin/keys` lists them by `key_id`"),
            Refusal::Name { .. } | Refusal::NoRequests => Self::invalid(text),
            Refusal::Exists(_) => Self::new(Code::Conflict, text)
                .hint("choose another name, or rotate that key: POST …/rotate"),
            Refusal::Rotating(_) => {
                Self::new(Code::Conflict, text).hint("end that first: POST …/revoke-old")
            }
            Refusal::NotRotating(_)
            | Refusal::TooMany { .. }
            | Refusal::OtherPepper
            | Refusal::NoFile => Self::new(Code::Conflict, text),
            Refusal::Hash(_) => Self::internal(text),
        }
    }
}
