//! A question to one metric, as query parameters and as members of a body: one place for both, so that no way
//! of asking can lag behind the other.

use super::error::ApiError;
use super::fields::Fields;
use super::query::Parameters;
use crate::query::metrics::series;
use crate::question::{GroupOrder, MetricQuestion};

/// Query parameters of `GET /v1/metrics/{name}`.
pub(super) const PARAMETERS: [&str; 15] = [
    "version",
    "window",
    "as_of",
    "known_at",
    "filter",
    "group_by",
    "order_by",
    "limit",
    "other",
    "compare",
    "grain",
    "zone",
    "max_staleness",
    "after",
    "wait",
];

/// Those that make sense where answers come by themselves.
pub(super) const STREAM_PARAMETERS: [&str; 7] =
    ["version", "window", "filter", "group_by", "order_by", "limit", "other"];

/// Most groups of one answer.
const LIMIT: std::ops::RangeInclusive<u64> = 1..=10_000;

/// The question that query parameters ask.
pub(super) fn of_parameters(
    metric: String,
    tenant: &str,
    parameters: &Parameters,
) -> Result<MetricQuestion, ApiError> {
    Ok(MetricQuestion {
        metric,
        version: parameters.version("version")?,
        tenant: tenant.to_owned(),
        window: parameters.one("window")?.map(str::to_owned),
        span: None,
        as_of: parameters.time("as_of")?,
        known_at: parameters.time("known_at")?,
        filters: parameters.filters("filter")?,
        group_by: parameters.names("group_by")?,
        order_by: group_order(parameters.one("order_by")?)?,
        limit: limited(parameters.number("limit", 0, LIMIT)?),
        other: parameters.flag("other")?,
        compare: compared(parameters.one("compare")?)?,
        named: None,
        max_staleness: parameters.micros("max_staleness")?,
    })
}

/// The question that the members of a body ask.
pub(super) fn of_fields(tenant: &str, fields: &Fields) -> Result<MetricQuestion, ApiError> {
    let filters = if fields.has("filter") { "filter" } else { "filters" };
    Ok(MetricQuestion {
        metric: fields.required("name")?,
        version: fields.version("version")?,
        tenant: tenant.to_owned(),
        window: fields.text("window")?,
        span: None,
        as_of: fields.time("as_of")?,
        known_at: fields.time("known_at")?,
        filters: fields.filters(filters)?,
        group_by: fields.names("group_by")?,
        order_by: group_order(fields.text("order_by")?.as_deref())?,
        limit: limited(fields.number("limit", 0, LIMIT)?),
        other: fields.flag("other")?,
        compare: compared(fields.text("compare")?.as_deref())?,
        named: None,
        max_staleness: fields.micros("max_staleness")?,
    })
}

/// How the window is to be cut: grain and zone.
pub(super) type Cut = (String, Option<String>);

/// How query parameters say that the window is to be cut; `None`: not at all.
pub(super) fn cut_of_parameters(parameters: &Parameters) -> Result<Option<Cut>, ApiError> {
    let own = |text: Option<&str>| text.map(str::to_owned);
    cut(own(parameters.one("grain")?), own(parameters.one("zone")?))
}

/// How the members of a body say it.
pub(super) fn cut_of_fields(fields: &Fields) -> Result<Option<Cut>, ApiError> {
    cut(fields.text("grain")?, fields.text("zone")?)
}

fn cut(grain: Option<String>, zone: Option<String>) -> Result<Option<Cut>, ApiError> {
    let Some(grain) = grain else {
        return match zone {
            None => Ok(None),
            Some(_) => {
                Err(ApiError::invalid("`zone` says where days begin, but there is no `grain`")
                    .hint("add `grain=day`, or leave `zone` out"))
            }
        };
    };
    series::check(&grain, zone.as_deref())?;
    Ok(Some((grain, zone)))
}

/// Zero stands for a number that was not given: it is out of bounds.
fn limited(limit: u64) -> Option<usize> {
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// `value`, `-value` or `dimension`.
fn group_order(text: Option<&str>) -> Result<GroupOrder, ApiError> {
    match text {
        None | Some("dimension") => Ok(GroupOrder::Dimensions),
        Some("value") => Ok(GroupOrder::Value { down: false }),
        Some("-value") => Ok(GroupOrder::Value { down: true }),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            Err(ApiError::invalid(format!("`order_by` is no order of groups: `{shown}`"))
                .hint("write `value`, `-value` for the largest first, or `dimension`"))
        }
    }
}

/// Is the window before wanted?
pub(super) fn compared(text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None => Ok(false),
        Some("previous") => Ok(true),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            Err(ApiError::invalid(format!("`compare` names nothing to compare with: `{shown}`"))
                .hint("write `previous`: the window of the same length before"))
        }
    }
}
