//! `POST /v1/events`: events in, an answer per event out, once they are durable and visible.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use pipeline::outcome::Outcome;
use pipeline::source::http::SubmitError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::quota::{self, Posting};
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::monitor::PipelineState;
use crate::http::query::Parameters;
use crate::http::split::{SplitError, split};
use crate::http::state::{AppState, Caller};
use crate::http::time;

/// What became of the events of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct EventsBody {
    /// Events in the request.
    received: usize,
    /// New ones.
    accepted: usize,
    /// Known already; as good as accepted.
    duplicate: usize,
    /// In the dead letters.
    rejected: usize,
    /// Dropped by a policy of their contract.
    discarded: usize,
    /// Highest journal position among the accepted and known ones.
    position: Option<i64>,
    /// One entry per event, in the order of the request.
    results: Vec<EventResult>,
}

/// What became of one event.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct EventResult {
    /// `accepted`, `duplicate`, `rejected` or `discarded`.
    status: &'static str,
    /// Event id of a rejected event, as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Journal position: its own, or for a duplicate that of the first one.
    position: Option<i64>,
    /// Reason code of a rejected or discarded event.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Field concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Rule concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// What was found and what was expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Sends events: one JSON object, a JSON array, or NDJSON.
///
/// The answer comes once every event is durable and visible to reads. An event that its contract
/// refuses is in the dead letters with its original bytes; that is an answer, not an error.
#[utoipa::path(
    post,
    path = "/v1/events",
    tag = "events",
    request_body(
        description = "An event, an array of events, or one event per line. NDJSON is recognised \
                       by its content type or by a first line that is a whole JSON value.",
        content((serde_json::Value = "application/json"), (String = "application/x-ndjson")),
    ),
    responses(
        (status = 200, description = "An answer per event.", body = EventsBody),
        (status = 400, description = "The body holds no events.", body = ErrorBody),
        (status = 403, description = "The key is limited to entities or metrics.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 429, description = "The key has no requests left in this minute, or its tenant no events in \
                                      this day.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
        (status = 503, description = "The pipeline is full, or the store refuses; nothing was taken.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EventsBody>, ApiError> {
    parameters.only(&[])?;
    caller.send()?;
    let bytes = read(body, &headers, state.options.max_body_bytes).await?;
    let records = split(&bytes, says_lines(&headers), state.options.max_events_per_request)?;
    // They would wait behind a batch that the store does not take, for nobody knows how long.
    if let PipelineState::Refused(why) = state.pipeline.state() {
        return Err(ApiError::busy(format!(
            "the store takes nothing now, nor these events: {why}"
        ))
        .hint("send the same events again after `Retry-After` seconds"));
    }
    let posting = take(&state, &caller, records.len()).await?;
    let records = records.into_iter().map(<[u8]>::to_vec).collect();
    let outcomes = match state.ingress.submit(caller.tenant, records, time::now()) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            // Nothing was taken.
            posting.into_iter().for_each(|posting| posting.accepted(0));
            return Err(error.into());
        }
    };
    match outcomes.await {
        Ok(outcomes) => {
            let body = EventsBody::new(outcomes);
            posting.into_iter().for_each(|posting| posting.accepted(body.accepted as u64));
            Ok(Json(body))
        }
        Err(_) => Err(ApiError::unavailable("the pipeline stopped before it committed").hint(
            "send the same events again; those that were applied are answered as duplicates",
        )),
    }
}

/// Takes room for events in the tenant's day, where it has so many only.
async fn take(
    state: &AppState,
    caller: &Caller,
    events: usize,
) -> Result<Option<Posting>, ApiError> {
    let Some(most) = caller.max_events_per_day else { return Ok(None) };
    let (daily, tenant, now) = (state.gate.daily_events(), &caller.tenant, time::seconds());
    if !daily.knows(tenant, now) {
        let (tenant, since) = (Arc::clone(tenant), quota::day_begins(now));
        let posted = state.blocking(move |state| state.readers.posted(&tenant, since)).await?;
        daily.begin(&caller.tenant, now, posted);
    }
    let taken = daily.take(tenant, most, events as u64, now);
    taken.map(Some).map_err(|exceeded| {
        let used = exceeded.used;
        let detail = format!(
            "tenant `{tenant}` may post {most} events a day and has posted {used}: nothing of these \
             {events} was taken"
        );
        ApiError {
            retry_after: Some(exceeded.retry_after),
            ..ApiError::new(Code::RateLimited, detail)
                .hint("the day ends at midnight UTC, after `Retry-After` seconds")
        }
    })
}

pub(in super::super) async fn read(
    body: Body,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let too_large = || {
        ApiError::new(Code::BodyTooLarge, format!("the body has more than {limit} bytes"))
            .hint("send the events in several requests")
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    match to_bytes(body, limit).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(inner) = cause {
                // What `to_bytes` says when it stopped at the limit; the type is not public.
                if inner.to_string() == "length limit exceeded" {
                    return Err(too_large());
                }
                cause = inner.source();
            }
            let detail = "the body ended before all of it had arrived";
            Err(ApiError::new(Code::InvalidBody, detail))
        }
    }
}

fn says_lines(headers: &HeaderMap) -> bool {
    let Some(text) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(
        kind.as_str(),
        "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "application/jsonlines"
    )
}

impl From<SplitError> for ApiError {
    fn from(error: SplitError) -> Self {
        match error {
            SplitError::Empty => Self::new(Code::InvalidBody, error.to_string())
                .hint("send a JSON object, an array of objects, or one object per line"),
            SplitError::NotAnArray(_) => Self::new(Code::InvalidBody, error.to_string()).hint(
                "nothing was taken; send one event per line (NDJSON) to have each judged alone",
            ),
            SplitError::TooMany(_) => Self::new(Code::BodyTooLarge, error.to_string())
                .hint("send the events in several requests"),
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full => Self::busy("the pipeline is full; nothing was taken")
                .hint("send the same events again after `Retry-After` seconds"),
            SubmitError::Stopped => Self::busy("the pipeline has stopped; nothing was taken")
                .hint("`/v1/health` says why; send the same events again once it runs"),
        }
    }
}

impl EventsBody {
    fn new(outcomes: Vec<Outcome>) -> Self {
        let results: Vec<EventResult> = outcomes.into_iter().map(EventResult::from).collect();
        let count = |status| results.iter().filter(|result| result.status == status).count();
        Self {
            received: results.len(),
            accepted: count("accepted"),
            duplicate: count("duplicate"),
            rejected: count("rejected"),
            discarded: count("discarded"),
            position: results.iter().filter_map(|result| result.position).max(),
            results,
        }
    }
}

impl From<Outcome> for EventResult {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted { seq } => {
                Self { status: "accepted", position: Some(seq), ..Self::default() }
            }
            Outcome::Duplicate { seq } => {
                Self { status: "duplicate", position: Some(seq), ..Self::default() }
            }
            Outcome::Rejected(rejection) => Self {
                status: "rejected",
                event_id: rejection.event_id,
                position: None,
                reason: Some(rejection.reason.code()),
                field: rejection.field,
                rule: rejection.rule,
                detail: Some(rejection.detail),
            },
            Outcome::Discarded { reason } => {
                Self { status: "discarded", reason: Some(reason.code()), ..Self::default() }
            }
        }
    }
}
