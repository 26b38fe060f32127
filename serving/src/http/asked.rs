//! A question to one metric, as query parameters and as members of a body: one place for both, so that no way
//! of asking can lag behind the other.

use super::error::ApiError;
use super::fields::Fields;
use super::query::Parameters;
use super::state::Caller;
use crate::question::MetricQuestion;

/// Query parameters of `GET /v1/metrics/{name}`.
pub(super) const PARAMETERS: [&str; 9] = [
    "version",
    "window",
    "as_of",
    "known_at",
    "filter",
    "group_by",
    "max_staleness",
    "after",
    "wait",
];

/// Those that make sense where answers come by themselves.
pub(super) const STREAM_PARAMETERS: [&str; 4] = ["version", "window", "filter", "group_by"];

/// The question that query parameters ask.
pub(super) fn of_parameters(
    metric: String,
    caller: &Caller,
    parameters: &Parameters,
) -> Result<MetricQuestion, ApiError> {
    Ok(MetricQuestion {
        metric,
        version: parameters.version("version")?,
        tenant: caller.tenant.to_string(),
        window: parameters.one("window")?.map(str::to_owned),
        span: None,
        as_of: parameters.time("as_of")?,
        known_at: parameters.time("known_at")?,
        filters: parameters.filters("filter")?,
        group_by: parameters.names("group_by")?,
        max_staleness: parameters.micros("max_staleness")?,
    })
}

/// The question that the members of a body ask.
pub(super) fn of_fields(caller: &Caller, fields: &Fields) -> Result<MetricQuestion, ApiError> {
    let filters = if fields.has("filter") { "filter" } else { "filters" };
    Ok(MetricQuestion {
        metric: fields.required("name")?,
        version: fields.version("version")?,
        tenant: caller.tenant.to_string(),
        window: fields.text("window")?,
        span: None,
        as_of: fields.time("as_of")?,
        known_at: fields.time("known_at")?,
        filters: fields.filters(filters)?,
        group_by: fields.names("group_by")?,
        max_staleness: fields.micros("max_staleness")?,
    })
}
