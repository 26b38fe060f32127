//! `POST /v1/admin/contracts/reload`: takes up changed contracts, for whoever runs the server.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contracts::meaning::{Change, Class};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::query::Parameters;
use crate::http::reload::{Refusal, ReloadResult};
use crate::http::state::AppState;

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ReloadBody {
    /// `reloaded`, `unchanged` or `refused`.
    result: &'static str,
    /// How often contracts were taken up since the start.
    reloads: u64,
    /// What changed in meaning, the worst first.
    #[schema(value_type = Vec<serde_json::Value>)]
    changes: Vec<Change>,
    /// Why it was refused.
    findings: Vec<FindingBody>,
    /// How long posted events waited, in milliseconds. Reads did not.
    paused_ms: f64,
}

/// Why contracts were refused.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct FindingBody {
    /// What is wrong, with file and line where it has one.
    message: String,
    /// The next step.
    hint: String,
}

impl From<Refusal> for FindingBody {
    fn from(refusal: Refusal) -> Self {
        Self { message: refusal.message, hint: refusal.hint }
    }
}

/// Takes up the contracts that are in the server's folder now.
///
/// They are read and checked whole. What is worse than `allow`, or cannot be done beside what comes in, is
/// refused, and those in use stay in use.
#[utoipa::path(
    post,
    path = "/v1/admin/contracts/reload",
    tag = "operations",
    params(
        ("allow" = Option<String>, Query,
            description = "The worst change that is fine: `safe`, `additive` (default), `restating` or \
                           `breaking`."),
    ),
    responses(
        (status = 200, description = "They are in use.", body = ReloadBody),
        (status = 404, description = "This server's contracts cannot be changed.", body = ErrorBody),
        (status = 409, description = "They are refused; the body says why.", body = ReloadBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<AppState>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["allow"])?;
    let allow = match parameters.one("allow")? {
        None => Class::Additive,
        Some(text) => Class::named(text).ok_or_else(|| {
            ApiError::invalid(format!("`allow` is `{text}`"))
                .hint("there are safe, additive, restating and breaking")
        })?,
    };
    let Some(live) = state.contracts.clone() else {
        return Err(ApiError::new(Code::NotFound, "the contracts of this server are part of it"));
    };
    let (reloaded, reloads) = state
        .blocking(move |_| {
            let reloaded = live.reload(allow);
            Ok::<_, ApiError>((reloaded, live.status().reloads))
        })
        .await?;
    let (status, result) = match reloaded.result {
        ReloadResult::Reloaded => (StatusCode::OK, "reloaded"),
        ReloadResult::Unchanged => (StatusCode::OK, "unchanged"),
        ReloadResult::Refused => (StatusCode::CONFLICT, "refused"),
    };
    let body = ReloadBody {
        result,
        reloads,
        changes: reloaded.changes,
        findings: reloaded.findings.into_iter().map(FindingBody::from).collect(),
        paused_ms: reloaded.paused as f64 / 1_000.0,
    };
    Ok((status, Json(body)).into_response())
}
