//! `/v1/erasures`: what belongs to one key of an entity is erased, and the record of what was.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use pipeline::erase::{EraseError, Subject};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Segments;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::fields::Fields;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time::Time;
use crate::metric::hint;
use crate::store::erase::{EraseFailure, EraseRequest, Erasure, ErasureState};

/// How long the writer may take to come to it, a scan of the lake included.
const PATIENCE: Duration = Duration::from_secs(25);

/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 1_000;

/// What is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
// It is read member by member; its description is made of these.
#[serde(deny_unknown_fields)]
pub(in super::super) struct ErasureRequest {
    /// Name of the entity.
    entity: String,
    /// Its key.
    key: String,
    /// Why, for the record. It is kept, so it should not name anybody.
    #[serde(default)]
    reason: Option<String>,
    /// Only count what would be erased.
    #[serde(default)]
    dry_run: bool,
}

/// An erasure. The key is not told: it was erased too.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErasureBody {
    /// Names it.
    pub id: String,
    /// `dry_run`, `lake_pending` (done in every answer, not yet in the lake) or `done`.
    pub state: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: String,
    /// When all was done.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<String>,
    /// The entity.
    pub entity: String,
    /// SHA-256 over id, tenant, entity and key, each behind its length in 8 bytes: tells whoever knows a
    /// key whether it was erased.
    pub key_digest: String,
    /// Why.
    pub reason: Option<String>,
    /// Rows that were erased in the store, by table; of entities those that were folded again.
    pub store_rows: BTreeMap<String, u64>,
    /// Rows that were erased in the lake, by table.
    pub lake_rows: BTreeMap<String, u64>,
    /// Why the lake is not done yet, when something is in the way. It is tried again.
    pub problem: Option<String>,
}

/// Erasures so far.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ErasuresBody {
    /// Newest first.
    erasures: Vec<ErasureBody>,
}

impl ErasureBody {
    /// As the API shows it.
    pub fn new(erasure: Erasure, problem: Option<String>) -> Self {
        let is_pending = erasure.state == ErasureState::LakePending;
        Self {
            id: erasure.id.to_string(),
            state: match erasure.state {
                ErasureState::DryRun => "dry_run",
                ErasureState::LakePending => "lake_pending",
                ErasureState::Done => "done",
            }
            .to_owned(),
            requested_at: Time(erasure.requested_at).to_string(),
            finished_at: erasure.finished_at.map(|at| Time(at).to_string()),
            entity: erasure.entity,
            key_digest: erasure.key_digest,
            reason: erasure.reason,
            store_rows: erasure.store_rows,
            lake_rows: erasure.lake_rows,
            problem: problem.filter(|_| is_pending),
        }
    }
}

/// Erases what belongs to one key of an entity.
///
/// The answer comes once no read shows it any more: events keep their place and lose their personal
/// fields, entities are folded again, dead letters lose their bytes. The lake follows; the state says when
/// it is done. What cannot be reached: backups, Kafka topics, and copies that others made.
#[utoipa::path(
    post,
    path = "/v1/erasures",
    tag = "operations",
    request_body(content((ErasureRequest = "application/json"))),
    responses(
        (status = 200, description = "What would be erased (`dry_run`).", body = ErasureBody),
        (status = 202, description = "Erased in the store; the lake follows.", body = ErasureBody),
        (status = 400, description = "The body is no such request.", body = ErrorBody),
        (status = 403, description = "The key is limited to entities or metrics.", body = ErrorBody),
        (status = 404, description = "There is no such entity.", body = ErrorBody),
        (status = 422, description = "It cannot be erased by that key.", body = ErrorBody),
        (status = 503, description = "The store cannot do it now; nothing was erased.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ErasureBody>), ApiError> {
    parameters.only(&[])?;
    caller.events("erasures")?;
    let form = r#"write {"entity": "…", "key": "…"}, with "reason" and "dry_run" if wanted"#;
    let fields = Fields::read(body, &headers, state.options.max_body_bytes).await;
    let fields = fields.and_then(|fields| fields.only(&["entity", "key", "reason", "dry_run"]));
    let asked = fields.and_then(|fields| {
        Ok(ErasureRequest {
            entity: fields.required("entity")?,
            key: fields.required("key")?,
            reason: fields.text("reason")?,
            dry_run: fields.flag("dry_run")?,
        })
    });
    let asked = asked.map_err(|error| error.or_hint(form))?;
    if asked.reason.as_ref().is_some_and(|reason| reason.chars().count() > LONGEST_REASON) {
        return Err(ApiError::invalid(format!(
            "`reason` has more than {LONGEST_REASON} characters"
        )));
    }
    let request = EraseRequest {
        subject: Subject {
            tenant: caller.tenant.to_string(),
            entity: asked.entity,
            key: asked.key,
        },
        reason: asked.reason,
        dry_run: asked.dry_run,
    };
    let erasure = state
        .blocking(move |state| {
            state.erasures.ask(request, PATIENCE).map_err(|error| refused(state, error))
        })
        .await?;
    let status = match asked.dry_run {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok((status, Json(ErasureBody::new(erasure, None))))
}

fn refused(state: &AppState, error: EraseFailure) -> ApiError {
    match error {
        EraseFailure::Request(error) => match &error {
            EraseError::UnknownEntity(name) => {
                let known = state.domain.entities.iter().map(|entity| entity.name.as_str());
                ApiError { hint: hint(name, known), ..ApiError::not_found(error.to_string()) }
            }
            EraseError::Untraceable(_)
            | EraseError::Envelope(_)
            | EraseError::Changed(_)
            | EraseError::NoKey => ApiError::invalid(error.to_string()),
        },
        EraseFailure::Late(_) => {
            ApiError { cause: Some(error.to_string()), ..ApiError::busy("the writer is busy") }
                .hint("ask again: an erasure that was done meanwhile finds nothing more to erase")
        }
        EraseFailure::Backfilling => {
            ApiError::busy(error.to_string()).hint("`GET /v1/health` shows how far it is")
        }
        error => ApiError::unavailable(error.to_string()),
    }
}

/// Erasures so far, newest first.
#[utoipa::path(
    get,
    path = "/v1/erasures",
    tag = "operations",
    responses(
        (status = 200, description = "All of the tenant.", body = ErasuresBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
) -> Result<Json<ErasuresBody>, ApiError> {
    parameters.only(&[])?;
    caller.events("erasures")?;
    let all = state.blocking(|state| state.readers.erasures()).await?;
    let own = all.into_iter().filter(|erasure| *erasure.tenant == *caller.tenant);
    let problem = state.erasures.problem();
    let erasures = own.map(|erasure| ErasureBody::new(erasure, problem.clone())).collect();
    Ok(Json(ErasuresBody { erasures }))
}

/// One erasure.
#[utoipa::path(
    get,
    path = "/v1/erasures/{id}",
    tag = "operations",
    params(("id" = String, Path, description = "The erasure.")),
    responses(
        (status = 200, description = "How far it is.", body = ErasureBody),
        (status = 403, description = "The key is limited to entities or metrics.", body = ErrorBody),
        (status = 404, description = "There is none of that id.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<ErasureBody>, ApiError> {
    parameters.only(&[])?;
    caller.events("erasures")?;
    let none = || {
        ApiError::not_found(format!("there is no erasure `{id}`"))
            .hint("`GET /v1/erasures` lists them")
    };
    let parsed: Uuid = id.parse().map_err(|_| none())?;
    let found = state.blocking(move |state| state.readers.erasure(parsed)).await?;
    let found = found.filter(|erasure| *erasure.tenant == *caller.tenant).ok_or_else(none)?;
    Ok(Json(ErasureBody::new(found, state.erasures.problem())))
}
