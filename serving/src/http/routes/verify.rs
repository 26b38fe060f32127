//! `/v1/verify`: every number is recomputed beside the running server, for whoever runs it.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Segments;
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::fields::Fields;
use crate::http::query::Parameters;
use crate::http::state::AppState;
use crate::http::time::Time;
use crate::metric::check_time;
use crate::verify::{Report, Verification, VerifyOptions};

/// Longest time that a verification may take, s.
const MOST_SECONDS: u64 = 6 * 3_600;

/// What is to be verified.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
pub(in super::super) struct VerifyRequest {
    /// Only this tenant; null: all.
    tenant: Option<String>,
    /// Only this metric, with what it stands on; null: all.
    metric: Option<String>,
    /// Answers as of this time instead of live ones.
    as_of: Option<String>,
    /// Longest time that it may take, in seconds; default 600.
    #[schema(minimum = 1, maximum = 21600)]
    time_limit_seconds: Option<u64>,
}

/// A verification.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct VerificationBody {
    /// Names it.
    pub id: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// When it was begun.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: String,
    /// What was found, once it is done.
    pub report: Option<Report>,
    /// Why it failed.
    pub problem: Option<String>,
}

impl From<Verification> for VerificationBody {
    fn from(verification: Verification) -> Self {
        let (state, report, problem) = match verification.outcome {
            None => ("running", None, None),
            Some(Ok(report)) => ("done", Some(report), None),
            Some(Err(error)) => ("failed", None, Some(error.to_string())),
        };
        Self {
            id: verification.id.to_string(),
            state: state.to_owned(),
            started_at: Time(verification.started_at).to_string(),
            report,
            problem,
        }
    }
}

/// Begins a verification: everything that is derived from the journal is computed again in plain SQL over
/// its rows and compared with what the store has and the engine answers.
///
/// One at a time. It sees one snapshot, so what comes in meanwhile makes no difference, and takes one read
/// connection.
#[utoipa::path(
    post,
    path = "/v1/verify",
    tag = "operations",
    request_body(content((VerifyRequest = "application/json"))),
    responses(
        (status = 202, description = "It runs.", body = VerificationBody),
        (status = 400, description = "The body is no such request.", body = ErrorBody),
        (status = 404, description = "There is no such metric.", body = ErrorBody),
        (status = 409, description = "Another one is under way.", body = ErrorBody),
        (status = 422, description = "A value does not fit.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn begin(
    State(state): State<AppState>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<VerificationBody>), ApiError> {
    parameters.only(&[])?;
    let form = r#"write {}, or with "tenant", "metric", "as_of", "time_limit_seconds""#;
    let fields = Fields::read_any(body, &headers, state.options.max_body_bytes).await;
    let fields =
        fields.and_then(|fields| fields.only(&["tenant", "metric", "as_of", "time_limit_seconds"]));
    let fields = fields.map_err(|error| error.or_hint(form))?;
    let seconds = fields.number("time_limit_seconds", 600, 1..=MOST_SECONDS)?;
    let (tenant, metric) = (fields.text("tenant")?, fields.text("metric")?);
    let engine = state.cache.engine();
    if let Some(metric) = &metric {
        engine.find_metric(metric, None)?;
    }
    let as_of = check_time("as_of", fields.time("as_of")?, engine.now())?;
    let options = VerifyOptions { tenant, metric, as_of, time_limit: Duration::from_secs(seconds) };
    match state.verifications.begin(engine, options) {
        Ok(begun) => Ok((StatusCode::ACCEPTED, Json(begun.into()))),
        Err(id) => {
            Err(ApiError::new(Code::Conflict, format!("the verification {id} is under way"))
                .hint("wait until it is done: `GET /v1/verify/{id}`"))
        }
    }
}

/// How a verification stands, and what it found. The newest one is kept.
#[utoipa::path(
    get,
    path = "/v1/verify/{id}",
    tag = "operations",
    params(("id" = String, Path, description = "The verification.")),
    responses(
        (status = 200, description = "How it stands.", body = VerificationBody),
        (status = 404, description = "There is none of that id.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    Segments(id): Segments<String>,
    parameters: Parameters,
) -> Result<Json<VerificationBody>, ApiError> {
    parameters.only(&[])?;
    let found = id.parse::<Uuid>().ok().and_then(|id| state.verifications.get(id));
    let found = found.ok_or_else(|| {
        ApiError::not_found(format!("there is no verification `{id}`"))
            .hint("`POST /v1/verify` begins one; the newest one is kept")
    })?;
    Ok(Json(found.into()))
}
