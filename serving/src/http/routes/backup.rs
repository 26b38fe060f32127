//! `/v1/backup`: the lease under which another process copies the store's files.
//!
//! The server itself copies nothing and writes nowhere: it says up to where the files belong together,
//! and holds checkpoints back while the lease holds.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Segments;
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::query::Parameters;
use crate::http::state::AppState;
use crate::store::backup::{Backups, Held, Lost, Refused};

/// A lease on the files of the store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BackupBody {
    /// Names it.
    pub id: String,
    /// Checkpoints that the server had made before it.
    pub generation: u64,
    /// The first so many bytes of the log `serving.duckdb.wal` belong to it; 0: none.
    pub log_bytes: u64,
    /// Journal position of the last event in it.
    pub position: i64,
    /// It ends then unless it is renewed (RFC 3339, UTC).
    pub expires_at: String,
}

/// Begins a backup: until the lease ends, the database file `serving.duckdb` and the first `log_bytes`
/// of its log are together the store as of `position`.
///
/// One at a time. A process on the same machine copies the files; the server goes on taking events.
#[utoipa::path(
    post,
    path = "/v1/backup",
    tag = "operations",
    responses(
        (status = 200, description = "The lease.", body = BackupBody),
        (status = 404, description = "The store has no files.", body = ErrorBody),
        (status = 409, description = "Another backup is under way.", body = ErrorBody),
        (status = 503, description = "A checkpoint is being made; try again.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
    ),
)]
pub(in super::super) async fn begin(
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Json<BackupBody>, ApiError> {
    parameters.only(&[])?;
    match of(&state)?.begin() {
        Ok(held) => Ok(Json(held.into())),
        Err(Refused::Checkpoint) => {
            Err(ApiError::busy("a checkpoint is being made; no backup can begin meanwhile"))
        }
        Err(Refused::Taken { until }) => {
            let detail = format!("another backup is under way, at least until {}", at(until));
            Err(ApiError::new(Code::Conflict, detail).hint(
                "wait until it has finished; the lease of one that was killed ends by itself",
            ))
        }
    }
}

/// Renews a lease, and says thereby that it still holds.
#[utoipa::path(
    post,
    path = "/v1/backup/{id}",
    tag = "operations",
    params(("id" = String, Path, description = "The lease.")),
    responses(
        (status = 200, description = "It holds.", body = BackupBody),
        (status = 404, description = "There is no lease of that id.", body = ErrorBody),
        (status = 409, description = "It holds no more: what was copied is of no use.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn renew(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<BackupBody>, ApiError> {
    parameters.only(&[])?;
    match of(&state)?.renew(parse(&id)?) {
        Some(Ok(held)) => Ok(Json(held.into())),
        Some(Err(lost)) => Err(ApiError::new(Code::Conflict, why(lost)).hint("begin a new one")),
        None => Err(none(&id)),
    }
}

/// Ends a lease.
#[utoipa::path(
    delete,
    path = "/v1/backup/{id}",
    tag = "operations",
    params(("id" = String, Path, description = "The lease.")),
    responses(
        (status = 204, description = "It is ended."),
        (status = 404, description = "There is no lease of that id.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn end(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    parameters.only(&[])?;
    if of(&state)?.end(parse(&id)?) { Ok(StatusCode::NO_CONTENT) } else { Err(none(&id)) }
}

fn of(state: &AppState) -> Result<&Backups, ApiError> {
    state.backups.as_ref().ok_or_else(|| {
        ApiError::not_found("the store of this server is in memory: there are no files to copy")
    })
}

fn parse(id: &str) -> Result<Uuid, ApiError> {
    id.parse().map_err(|_| none(id))
}

fn none(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no backup `{id}` under way"))
        .hint("`POST /v1/backup` begins one")
}

fn why(lost: Lost) -> &'static str {
    match lost {
        Lost::Expired => "the lease was not renewed in time, and the log has been folded",
        Lost::LogFull => "the log had become too long and was folded",
        Lost::NoRoom => {
            "the disk was filling up, and the log was folded while there was room for it"
        }
    }
}

impl From<Held> for BackupBody {
    fn from(Held { id, cut, until }: Held) -> Self {
        Self {
            id: id.to_string(),
            generation: cut.generation,
            log_bytes: cut.log_bytes,
            position: cut.position,
            expires_at: at(until),
        }
    }
}

/// A moment of the monotonic clock as people read it.
fn at(moment: Instant) -> String {
    let left = moment.saturating_duration_since(Instant::now());
    let at: DateTime<Utc> = (std::time::SystemTime::now() + left).into();
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
