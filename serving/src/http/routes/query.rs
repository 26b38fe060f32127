//! `POST /v1/query`: several metrics at once, SQL, or a plain question. `POST /v1/query/explain`: how it would be
//! answered.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::after::After;
use crate::http::ask::{self, Query};
use crate::http::body::QueryBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::fields::Fields;
use crate::http::layers::limits::Place;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::warnings;

/// A query. Exactly one of `question`, `metrics` and `sql` says what is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
pub(in super::super) struct QueryRequest {
    /// A plain question, 3 to 1000 characters, in the words of the contracts: metrics, dimensions,
    /// windows, entities and their fields, and their synonyms.
    question: Option<String>,
    /// One `select` over entities (by their names) and journals of accepted events
    /// (`<contract>_events`).
    sql: Option<String>,
    /// Rows of journals that only the lake still has, too? They take longer. Default: false.
    lake: Option<bool>,
    /// Metrics, one column each.
    metrics: Option<Vec<String>>,
    /// Dimensions to group by, which every metric has.
    dimensions: Option<Vec<String>>,
    /// Dimension → value, a list of values, or an object of operators: `in`, `not`, `gt`, `gte`, `lt`,
    /// `lte`, `between`, `null`. `null` is the value that is not there. All must hold.
    filters: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    /// A window that every metric declares. Default: each its own.
    window: Option<String>,
    /// Begin of the time asked about, in place of a window.
    from: Option<String>,
    /// Its end. Default: none.
    to: Option<String>,
    /// Cuts the time into consecutive windows of this length, at whole multiples of it in UTC, or into
    /// days, weeks or months (`day`, `week`, `month`).
    grain: Option<String>,
    /// Where days begin: `Europe/Moscow`. Default: UTC.
    zone: Option<String>,
    /// Names the first `limit` groups only, and puts all others into one row, `__other__`. All rows are
    /// on one page then.
    other: Option<bool>,
    /// `previous`: beside each metric its value in the window of the same length before, the change, and
    /// the change as a part of that value.
    compare: Option<String>,
    /// Only events before this time have happened.
    as_of: Option<String>,
    /// Only what was applied by this time is known.
    known_at: Option<String>,
    /// Oldest answer of a metric to take from the cache, even if events have moved it since: `250ms`, never
    /// more than its contract allows. `0`: computed anew.
    max_staleness: Option<String>,
    /// Answer only once this is applied: a position of the journal, or `topic:partition:offset`; one or a
    /// list of them.
    #[schema(value_type = Option<serde_json::Value>)]
    after: Option<serde_json::Value>,
    /// For how long to wait for `after`: `250ms`, `2s`, at most `20s`. Default: `1s`.
    wait: Option<String>,
    /// Columns to order by: `name`, `-name` or `name desc`.
    order_by: Option<Vec<String>>,
    /// Most rows of a page, 1 to 1000. Default 100.
    limit: Option<u64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Answers a query.
#[utoipa::path(
    post,
    path = "/v1/query",
    tag = "queries",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "The rows.", body = QueryBody),
        (status = 400, description = "The body is no JSON, the statement is no SQL, the question is not \
                                      understood, or the cursor is one of another query.",
            body = ErrorBody),
        (status = 403, description = "The key may not read it, or the statement is not let through.",
            body = ErrorBody),
        (status = 404, description = "No such metric.", body = ErrorBody),
        (status = 409, description = "What `after` names is not applied yet; `detail` says how far the \
                                      store is.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
        (status = 422, description = "A member does not fit, or the statement was stopped at its time \
                                      limit.", body = ErrorBody),
        (status = 503, description = "Enough statements are under way, or the store cannot answer \
                                      now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn post(
    State(state): State<AppState>,
    caller: Caller,
    place: Place,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    parameters.only(&[])?;
    let fields = Fields::read(body, &headers, state.options.max_body_bytes).await?;
    let query = Query::of(&fields, &caller)?;
    if let Some(after) = After::of_fields(&fields)? {
        after.reached(&state, &caller, &place, begun).await?;
    }
    let body = state.blocking(move |state| ask::query(state, &caller, &query)).await?;
    let mut response = Json(&body).into_response();
    warnings::tell(response.headers_mut(), &body.warnings);
    Ok(response)
}

/// How a query would be answered.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct ExplainBody {
    /// The question, or the statement as it was sent.
    question: String,
    /// The statements as they would run, over the rows of the caller's tenant only.
    sql: String,
    /// Relations or tables that would be read.
    tables_accessed: Vec<String>,
    /// Rows of the answer, as the store estimates them.
    estimated_rows: Option<u64>,
    /// `sql`, `metric`, or `rule_based` for a plain question.
    engine: &'static str,
    /// What should be thought of first.
    warning: Option<String>,
    /// The store's plans.
    plan: String,
    /// Metrics that would be asked.
    metrics: Vec<String>,
    /// Entities that would be read.
    entities: Vec<String>,
    /// How a plain question was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    interpretation: Option<serde_json::Value>,
}

/// Explains a query without running it.
#[utoipa::path(
    post,
    path = "/v1/query/explain",
    tag = "queries",
    request_body = QueryRequest,
    responses(
        (status = 200, description = "How it would be answered.", body = ExplainBody),
        (status = 400, description = "The body is no JSON, the statement is no SQL, or the question is \
                                      not understood.", body = ErrorBody),
        (status = 403, description = "The key may not read it, or the statement is not let through.",
            body = ErrorBody),
        (status = 404, description = "No such metric.", body = ErrorBody),
        (status = 422, description = "A member does not fit.", body = ErrorBody),
        (status = 503, description = "Enough statements are under way, or the store cannot answer \
                                      now.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn explain(
    State(state): State<AppState>,
    caller: Caller,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ExplainBody>, ApiError> {
    parameters.only(&[])?;
    let fields = Fields::read(body, &headers, state.options.max_body_bytes).await?;
    let query = Query::of(&fields, &caller)?;
    let question = query.shown();
    let explained = state.blocking(move |state| ask::explain(state, &caller, &query)).await?;
    Ok(Json(ExplainBody {
        question,
        sql: explained.sql,
        tables_accessed: explained.tables,
        estimated_rows: explained.estimated_rows,
        engine: explained.engine,
        warning: explained.warning,
        plan: explained.plan,
        metrics: explained.metrics,
        entities: explained.entities,
        interpretation: explained.interpretation,
    }))
}
