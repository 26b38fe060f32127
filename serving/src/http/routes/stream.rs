//! `GET /v1/stream/events`: events as they are committed. `GET /v1/metrics/{name}/stream`: a metric
//! whenever it moves. Both are server-sent events.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;

use super::Segments;
use crate::access::Pass;
use crate::http::body::MetricBody;
use crate::http::error::{ApiError, Code, ErrorBody};
use crate::http::handover::Handover;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::warnings;
use crate::http::{ask, asked};
use crate::stream::{Begin, EventFilter, Frames, StreamError, TooMany};

/// How many events a stream that does not resume begins with.
const NEWEST: usize = 10;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Parameter for clients that cannot set the header.
const LAST_EVENT_ID_PARAMETER: &str = "last_event_id";

/// Tells proxies not to hold frames back.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Events as they are committed, as server-sent events.
///
/// Each frame has the event's position as its `id`; `data` is one JSON object with the event and where
/// it came from, personal fields hidden. Without `Last-Event-ID` the newest 10 come first. With it the
/// stream goes on after that position: nothing is left out and nothing comes twice. A comment comes each
/// second in which nothing else does. A stream that is read too slowly ends with `event: error`.
#[utoipa::path(
    get,
    path = "/v1/stream/events",
    tag = "events",
    params(
        ("event_type" = Option<String>, Query,
            description = "Event types joined by commas: each a whole one, the name of an event \
                           contract, a synonym of it, or what stands before the dot in several."),
        ("entity_id" = Option<String>, Query,
            description = "Only events with this value in the field that their contract calls `key`."),
        ("last_event_id" = Option<i64>, Query,
            description = "As the header `Last-Event-ID`, which goes first."),
        ("Last-Event-ID" = Option<i64>, Header,
            description = "Position of the last event that was read; 0 for the journal's beginning."),
    ),
    responses(
        (status = 200, description = "Frames, until either side ends it.", body = String,
            content_type = "text/event-stream"),
        (status = 403, description = "The key is limited.", body = ErrorBody),
        (status = 410, description = "The journal no longer has what comes after `Last-Event-ID`.",
            body = ErrorBody),
        (status = 422, description = "A parameter does not fit.", body = ErrorBody),
        (status = 429, description = "Too many streams are open.", body = ErrorBody),
    ),
)]
pub(in super::super) async fn events(
    State(state): State<AppState>,
    caller: Caller,
    pass: Pass,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&["event_type", "entity_id", LAST_EVENT_ID_PARAMETER])?;
    caller.events("the stream of events")?;
    let types = parameters.names("event_type")?;
    let filter = EventFilter::new(&state.domain, &types, parameters.one("entity_id")?)?;
    let asked = parameters.one(LAST_EVENT_ID_PARAMETER)?;
    let begin = match (last_event_id(&headers)?, asked) {
        (Some(text), _) => Begin::After(position("Last-Event-ID", text)?),
        (None, Some(text)) => Begin::After(position(LAST_EVENT_ID_PARAMETER, text)?),
        (None, None) => Begin::Newest(NEWEST),
    };
    let frames = state.streams.events((&caller.tenant, pass), filter, begin)?;
    Ok(streamed(frames))
}

/// A metric's value at once and then whenever it moves, as server-sent events.
///
/// Each frame has the applied position as its `id`; `data` is the body that `GET /v1/metrics/{name}`
/// has. Values in quick succession are joined. Whoever connects again gets the value of the moment.
#[utoipa::path(
    get,
    path = "/v1/metrics/{name}/stream",
    tag = "metrics",
    params(
        ("name" = String, Path, description = "Name of the metric."),
        ("version" = Option<u32>, Query,
            description = "Version of the contract. Default: the newest stable one that is complete."),
        ("window" = Option<String>, Query,
            description = "A window that the contract declares. Default: `1h`, else the first one."),
        ("filter" = Option<Vec<String>>, Query,
            description = "`dimension:value`, or `dimension.operator:value` with `in`, `in_or_null`, `not`, \
                           `not_in`, `gt`, `gte`, `lt`, `lte`, `between` and `null`; all that are given must hold."),
        ("group_by" = Option<String>, Query,
            description = "Dimensions joined by commas; the answer then has `groups`."),
        ("order_by" = Option<String>, Query,
            description = "Order of the groups: `dimension` (default), `value`, or `-value` for the \
                           largest first."),
        ("limit" = Option<u64>, Query, description = "Most groups to show by name, 1 to 10000."),
        ("other" = Option<bool>, Query,
            description = "All other groups as one, `__other__`, in place of leaving them out."),
    ),
    responses(
        (status = 200, description = "Frames, until either side ends it.", body = MetricBody,
            content_type = "text/event-stream"),
        (status = 403, description = "The key may not read it.", body = ErrorBody),
        (status = 404, description = "No such metric or version.", body = ErrorBody),
        (status = 422, description = "A parameter does not fit the contract.", body = ErrorBody),
        (status = 429, description = "Too many streams are open.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now, or the version is being backfilled.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn metric(
    State(state): State<AppState>,
    caller: Caller,
    pass: Pass,
    Segments(metric): Segments<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&asked::STREAM_PARAMETERS)?;
    let question = asked::of_parameters(metric, &caller.tenant, &parameters)?;
    ask::may_read(&state, &caller, &question.metric, question.version)?;
    let tenant = caller.tenant.clone();
    let warnings = warnings::of_metric(&state, &question.metric, question.version);
    let open = move |state: &AppState| state.streams.metric((&tenant, pass), question);
    let mut response = streamed(state.blocking(open).await?);
    warnings::tell(response.headers_mut(), &warnings);
    Ok(response)
}

/// The header; browsers send it when they connect again.
fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::invalid("`Last-Event-ID` is given more than once"));
    }
    match first.map(|value| value.to_str().map(str::trim)) {
        None => Ok(None),
        Some(Ok("")) => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(ApiError::invalid("`Last-Event-ID` is not a position")),
    }
}

fn position(name: &str, text: &str) -> Result<i64, ApiError> {
    match text.parse::<i64>() {
        Ok(position) if position >= 0 && !text.starts_with('+') => Ok(position),
        _ => Err(ApiError::invalid(format!("`{name}` is not a position: `{text}`"))
            .hint("take the `id` of the last event that was read, or leave it out")),
    }
}

/// An answer whose body are frames.
fn streamed(frames: Frames) -> Response {
    let handover = Handover::new(frames);
    let mut response = Response::new(handover.body());
    response.extensions_mut().insert(handover);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (BUFFERING, "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> Self {
        let detail = error.to_string();
        match error {
            StreamError::TooMany(which) => Self {
                retry_after: Some(1),
                ..Self::new(Code::RateLimited, detail).hint(match which {
                    TooMany::OfTenant(_) => {
                        "close one, or start the server with a higher `--max-streams-per-tenant`"
                    }
                    TooMany::InAll(_) => {
                        "try again later, or start the server with a higher `--max-streams`"
                    }
                })
            },
            StreamError::Gone { .. } => Self::new(Code::Gone, detail).hint(
                "connect without `Last-Event-ID`; the lake has what came before, see `/v1/lake`",
            ),
            StreamError::Ahead { .. } => Self::invalid(detail)
                .hint("it is of another data directory; connect without `Last-Event-ID`"),
            StreamError::Ending => Self::busy(detail).hint("try again after `Retry-After` seconds"),
            StreamError::Read(error) => error.into(),
        }
    }
}
