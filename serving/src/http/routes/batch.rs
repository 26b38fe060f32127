//! `POST /v1/batch`: several reads in one request, each as its own route would answer it.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use crate::access::rate::Budget;
use crate::http::after::After;
use crate::http::ask::{self, Query};
use crate::http::asked;
use crate::http::body::{EntityBody, MetricBody};
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::fields::Fields;
use crate::http::layers::auth;
use crate::http::layers::limits::Place;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::time;
use crate::question::EntityQuestion;

/// Most items of a batch.
const MAX_ITEMS: usize = 20;

/// Items that come up after this time are not begun: the request would be given up before its answer.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Several reads.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
pub(in super::super) struct BatchRequest {
    /// 1 to 20 of them.
    requests: Vec<BatchItem>,
}

/// One read.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
pub(in super::super) struct BatchItem {
    /// Names it in the answer. Default: its place, from 0.
    id: Option<String>,
    /// `entity`, `metric` or `query`.
    #[schema(rename = "type")]
    kind: String,
    /// `entity_type` and `entity_id`; `name` and what `GET /v1/metrics/{name}` takes, filters as an
    /// object; or the body of `POST /v1/query`.
    params: std::collections::BTreeMap<String, Value>,
}

/// The answers.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct BatchBody {
    /// In the order of the requests.
    results: Vec<BatchResult>,
    /// How long all of it took.
    duration_ms: f64,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
struct BatchResult {
    /// As in the request.
    id: String,
    /// `ok` or `error`.
    status: &'static str,
    /// Of an entity its row; of a metric and a query what their routes answer.
    #[schema(value_type = Option<Value>)]
    data: Option<Box<RawValue>>,
    /// What is wrong, for people.
    error: Option<String>,
    /// What kind of error it is, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// The next step after an error, when there is an obvious one.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Answers several reads; one that fails does not fail the others.
#[utoipa::path(
    post,
    path = "/v1/batch",
    tag = "queries",
    request_body = BatchRequest,
    responses(
        (status = 200, description = "The answers.", body = BatchBody),
        (status = 400, description = "The body is no JSON.", body = ErrorBody),
        (status = 422, description = "The list of requests does not fit.", body = ErrorBody),
        (status = 429, description = "The key has not so many requests left: each item is one.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    budget: Budget,
    place: Place,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    parameters.only(&[])?;
    let begun = Instant::now();
    let fields = Fields::read(body, &headers, state.options.max_body_bytes).await?;
    let items = fields.list("requests", 1..=MAX_ITEMS)?;
    let items: Vec<Fields> = items
        .iter()
        .enumerate()
        .map(|(place, item)| Fields::of(item.clone(), &format!("requests[{place}].")))
        .collect::<Result<_, _>>()?;
    // A list that is not one of reads is refused as a whole; what a read asks is its own matter.
    let mut ids = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        let id = item.text("id")?.unwrap_or_else(|| place.to_string());
        let kind = item.required("type")?;
        if !["entity", "metric", "query"].contains(&kind.as_str()) {
            return Err(ApiError::invalid(format!("`requests[{place}].type` is `{kind}`"))
                .hint("types are `entity`, `metric` and `query`"));
        }
        item.object("params")?;
        ids.push(id);
    }
    // The request itself has been counted.
    let more = u32::try_from(items.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let left = match budget.take(more, time::seconds()).await {
        Ok(left) => left,
        Err(verdict) => return Ok(auth::too_many(verdict)),
    };
    let ready = reached(&state, &caller, &place, &items, begun).await?;
    let results = state
        .blocking(move |state| {
            let items = items.iter().zip(ready);
            let answers = items.map(|(item, ready)| match begun.elapsed() > MAX_TIME {
                false => ready.and_then(|()| answer(state, &caller, item)),
                true => Err(ApiError::new(Code::Timeout, "the items before it took too long")
                    .hint("ask for it in a request of its own")),
            });
            let results = ids.into_iter().zip(answers).map(|(id, answer)| result(id, answer));
            Ok::<_, ApiError>(results.collect())
        })
        .await?;
    let duration_ms = begun.elapsed().as_micros() as f64 / 1_000.0;
    let mut response = Json(BatchBody { results, duration_ms }).into_response();
    if let Some(left) = left {
        auth::tell(response.headers_mut(), left);
    }
    Ok(response)
}

/// Of each item whether what it was to come after is applied. They wait at the same time; those that did not
/// see it come fail alone.
async fn reached(
    state: &AppState,
    caller: &Caller,
    place: &Place,
    items: &[Fields],
    begun: Instant,
) -> Result<Vec<Result<(), ApiError>>, ApiError> {
    let mut ready = Vec::with_capacity(items.len());
    for item in items {
        let after = item.object("params").and_then(|params| After::of_fields(&params));
        ready.push(match after {
            Ok(None) => Ok(()),
            Ok(Some(after)) => after.reached(state, caller, place, begun).await,
            Err(error) => Err(error),
        });
    }
    // Whoever waited in vain has given its place back.
    if ready.iter().any(Result::is_err) {
        place.take_again().await?;
    }
    Ok(ready)
}

fn answer(state: &AppState, caller: &Caller, item: &Fields) -> Result<Box<RawValue>, ApiError> {
    let params = item.object("params")?;
    let tenant = caller.tenant.to_string();
    match item.required("type")?.as_str() {
        "entity" => {
            let question = EntityQuestion {
                entity: params.required("entity_type")?,
                version: params.version("version")?,
                tenant,
                id: params.required("entity_id")?,
                as_of: params.time("as_of")?,
                known_at: params.time("known_at")?,
            };
            let body = EntityBody::new(ask::entity(state, caller, &question)?, time::now());
            json(&body.row())
        }
        "metric" => {
            let question = asked::of_fields(&caller.tenant, &params)?;
            let body = match asked::cut_of_fields(&params)? {
                Some((grain, zone)) => {
                    ask::series(state, caller, &question, (&grain, zone.as_deref()))?
                }
                None => MetricBody::new(ask::metric(state, caller, &question)?),
            };
            json(&body)
        }
        _ => {
            let query = Query::of(&params, caller)?;
            json(&ask::query(state, caller, &query)?)
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<Box<RawValue>, ApiError> {
    to_raw_value(value).map_err(|error| ApiError::internal(format!("write an answer: {error}")))
}

fn result(id: String, answer: Result<Box<RawValue>, ApiError>) -> BatchResult {
    match answer {
        Ok(data) => {
            BatchResult { id, status: "ok", data: Some(data), error: None, code: None, hint: None }
        }
        Err(error) => {
            if let Some(cause) = &error.cause {
                tracing::error!(%id, %cause, "an item of a batch failed");
            }
            BatchResult {
                id,
                status: "error",
                data: None,
                error: Some(error.detail),
                code: Some(error.code),
                hint: error.hint,
            }
        }
    }
}
