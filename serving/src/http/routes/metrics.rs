//! `GET /v1/metrics/{name}`: a metric's value. `GET /v1/metrics`: which metrics there are.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use contracts::model::{Metric, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::Segments;
use crate::http::after::After;
use crate::http::again::Begun;
use crate::http::body::{MetricBody, ProofBody};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::etag::{Conditional, Tag};
use crate::http::layers::limits::Place;
use crate::http::query::Parameters;
use crate::http::state::{AppState, Caller};
use crate::http::warnings::{self, DeprecationBody};
use crate::http::{ask, asked};
use crate::store::BackfillProgress;

/// `HIT` or `MISS`.
pub(super) const CACHE: HeaderName = HeaderName::from_static("x-cache");

pub(super) fn hit_or_miss(hit: bool) -> HeaderValue {
    HeaderValue::from_static(if hit { "HIT" } else { "MISS" })
}

/// A metric's value over a window, with its proof.
#[utoipa::path(
    get,
    path = "/v1/metrics/{name}",
    tag = "metrics",
    params(
        ("name" = String, Path, description = "Name of the metric."),
        ("version" = Option<u32>, Query,
            description = "Version of the contract. Default: the newest stable one that is complete."),
        ("window" = Option<String>, Query,
            description = "A window that the contract declares. Default: `1h`, else the first one."),
        ("as_of" = Option<String>, Query,
            description = "Answer as of this time: RFC 3339, a date, or seconds since 1970. \
                           Without it the window ends now."),
        ("known_at" = Option<String>, Query,
            description = "Leave out what was applied after this time: the answer that was true to \
                           what was known then."),
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
        ("compare" = Option<String>, Query,
            description = "`previous`: beside it the window of the same length before."),
        ("grain" = Option<String>, Query,
            description = "Cuts the window into parts, which stand in `series`: `5m`, `1h`, or `day`, \
                           `week`, `month`; at most 500."),
        ("zone" = Option<String>, Query,
            description = "Where days begin: `Europe/Moscow`. Default: UTC."),
        ("max_staleness" = Option<String>, Query,
            description = "Oldest answer to take from the cache, even if events have moved it since: \
                           `250ms`, `1s`, never more than the contract allows. `0`: compute it anew."),
        ("after" = Option<String>, Query,
            description = "Answer only once this is applied: `position` of the answer to \
                           `POST /v1/events`, or `topic:partition:offset` of a record; several are \
                           joined by commas."),
        ("wait" = Option<String>, Query,
            description = "For how long to wait for `after`: `250ms`, `2s`, at most `20s`. Default: `1s`."),
    ),
    responses(
        (status = 200, description = "The value.", body = MetricBody,
            headers(
                ("X-Cache" = String, description = "`HIT` or `MISS`"),
                ("ETag" = String, description = "For `If-None-Match`"),
                ("Deprecation" = Option<String>,
                    description = "The version that answered is deprecated since then: `@` and seconds \
                                   since 1970 (RFC 9745)"),
                ("Sunset" = Option<String>, description = "When it goes away (RFC 8594)"),
            )),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
        (status = 403, description = "The key may not read it.", body = ErrorBody),
        (status = 404, description = "No such metric or version.", body = ErrorBody),
        (status = 409, description = "What `after` names is not applied yet; `detail` says how far the \
                                      store is.", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
        (status = 422, description = "A parameter does not fit the contract.", body = ErrorBody),
        (status = 503, description = "The store cannot answer now, or the version is being backfilled.",
            body = ErrorBody),
    ),
)]
pub(in super::super) async fn read(
    State(state): State<AppState>,
    caller: Caller,
    conditional: Conditional,
    Begun(begun): Begun,
    place: Place,
    Segments(metric): Segments<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let parameters = parameters.only(&asked::PARAMETERS)?;
    let question = asked::of_parameters(metric, &caller.tenant, &parameters)?;
    let cut = asked::cut_of_parameters(&parameters)?;
    let after = After::of_parameters(&parameters)?;
    if let Some(after) = after {
        // Nobody waits for an answer that there will not be.
        ask::check_metric(&state, &caller, &question)?;
        after.reached(&state, &caller, &place, begun).await?;
    }
    let body = if let Some((grain, zone)) = cut {
        let read = move |state: &AppState| {
            ask::series(state, &caller, &question, (&grain, zone.as_deref()))
        };
        state.blocking(read).await?
    } else if let Some(answer) = ask::kept_metric(&state, &caller, &question)? {
        MetricBody::new(answer)
    } else {
        let read = move |state: &AppState| ask::metric(state, &caller, &question);
        MetricBody::new(state.blocking(read).await?)
    };
    let cached = body.proof.cached;
    let mut response = conditional.tagged(tag(&body), &body);
    response.headers_mut().insert(CACHE, hit_or_miss(cached));
    warnings::tell(response.headers_mut(), &body.warnings);
    Ok(response)
}

/// An answer is another one when its value is, or what it stands on; not when it is only older.
fn tag(body: &MetricBody) -> Tag {
    let ProofBody { contract, data_through, position, .. } = &body.proof;
    Tag::of(&(
        (&body.metric_name, &body.window, &body.meta.as_of, &body.meta.known_at),
        (&body.value, &body.components, &body.groups, body.groups_truncated, &body.previous),
        (&body.series, &contract.hash, data_through, position),
        (body.proof.rejected_in_window, body.proof.late_in_window, body.proof.events_in_window),
    ))
}

/// All metrics.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super) struct MetricList {
    /// In order of name.
    metrics: Vec<MetricSummary>,
}

/// What a metric means and how to ask for it.
#[derive(Debug, Serialize, ToSchema)]
struct MetricSummary {
    /// Name.
    name: String,
    /// What it is.
    description: Option<String>,
    /// Team that answers for it.
    owner: Option<String>,
    /// Unit of its value.
    unit: String,
    /// Version that answers.
    version: u32,
    /// `stable` or `deprecated`.
    status: &'static str,
    /// Dates and successor of a deprecated version.
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation: Option<DeprecationBody>,
    /// Windows that may be asked for.
    windows: Vec<String>,
    /// Dimensions for `filter` and `group_by`.
    dimensions: Vec<DimensionSummary>,
    /// Event types that move it.
    moved_by: Vec<String>,
    /// Oldest cached answer that the contract allows, in seconds.
    max_age_seconds: f64,
    /// Where to read it.
    path: String,
    /// Where its value comes from.
    lineage: String,
    /// Versions that do not answer yet, because old rows are being brought in line with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backfilling: Vec<BackfillingBody>,
}

/// A version that is being backfilled.
#[derive(Debug, Serialize, ToSchema)]
struct BackfillingBody {
    /// The version.
    version: u32,
    /// Positions of the journal that are done.
    done: u64,
    /// Of so many.
    total: u64,
}

/// A dimension.
#[derive(Debug, Serialize, ToSchema)]
struct DimensionSummary {
    /// Name.
    name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    ty: String,
    /// Most groups that an answer has.
    max_cardinality: Option<usize>,
}

/// All metrics with units, windows, dimensions and what moves them.
#[utoipa::path(
    get,
    path = "/v1/metrics",
    tag = "metrics",
    responses(
        (status = 200, description = "All metrics.", body = MetricList),
        (status = 304, description = "As `If-None-Match` says, the caller has it."),
    ),
)]
pub(in super::super) async fn list(
    State(state): State<AppState>,
    conditional: Conditional,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    parameters.only(&[])?;
    let mut names: Vec<&str> = state.domain.metrics.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let metrics = names
        .into_iter()
        .filter_map(|name| state.cache.engine().answering(name))
        .map(|metric| MetricSummary {
            backfilling: backfilling(&state, &metric.name),
            ..MetricSummary::from(metric)
        })
        .collect();
    Ok(conditional.json(&MetricList { metrics }))
}

/// The versions of a metric that are being backfilled, oldest first.
fn backfilling(state: &AppState, name: &str) -> Vec<BackfillingBody> {
    let all = state.domain.metrics.iter().filter(|metric| metric.name == name);
    let mut found: Vec<BackfillingBody> = all
        .filter_map(|metric| {
            let progress = state.readers.backfilling().metric(metric.index)?;
            let BackfillProgress { done, total } = progress;
            Some(BackfillingBody { version: metric.version, done, total })
        })
        .collect();
    found.sort_unstable_by_key(|body| body.version);
    found
}

impl From<&Metric> for MetricSummary {
    fn from(metric: &Metric) -> Self {
        Self {
            name: metric.name.clone(),
            description: metric.description.clone(),
            owner: metric.owner.clone(),
            unit: metric.unit.clone(),
            version: metric.version,
            status: status_text(metric.status),
            deprecation: DeprecationBody::of(metric.deprecation.as_ref()),
            windows: metric.windows.iter().map(|window| window.text.clone()).collect(),
            dimensions: metric
                .dimensions
                .iter()
                .map(|dimension| DimensionSummary {
                    name: dimension.name.clone(),
                    ty: dimension.ty.to_string(),
                    max_cardinality: dimension.max_cardinality,
                })
                .collect(),
            moved_by: metric.moved_by.clone(),
            max_age_seconds: metric.max_age as f64 / 1e6,
            path: format!("/v1/metrics/{}", metric.name),
            lineage: format!("/v1/lineage/metric/{}", metric.name),
            backfilling: Vec::new(),
        }
    }
}

/// As contracts write it.
pub(super) fn status_text(status: Status) -> &'static str {
    status.word()
}
