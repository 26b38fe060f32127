//! The answers of `GET /v1/metrics/{name}` without a server, for whoever has opened the store.

use super::asked;
use super::body::MetricBody;
use super::error::ApiError;
use super::query::Parameters;
use crate::cache::Cache;
use crate::query::metrics::series;

/// Answers what the query parameters ask of `metric` for `tenant`. There is nothing to wait for (`after`).
/// Blocks.
///
/// # Errors
/// A parameter does not fit, or the store cannot answer.
pub fn read_metric(
    cache: &Cache,
    tenant: &str,
    metric: &str,
    parameters: Vec<(String, String)>,
) -> Result<MetricBody, ApiError> {
    let parameters = Parameters::of(parameters).only(&asked::PARAMETERS)?;
    let question = asked::of_parameters(metric.to_owned(), tenant, &parameters)?;
    let Some((grain, zone)) = asked::cut_of_parameters(&parameters)? else {
        return Ok(MetricBody::new(cache.read(&question)?));
    };
    let (answer, points) = series::read(cache, &question, &grain, zone.as_deref())?;
    Ok(MetricBody::with_series(answer, points))
}
