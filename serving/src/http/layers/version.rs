//! Dated API versions: `X-AgentFlow-Version` pins one, every `/v1` answer names the one used, and
//! entity and metric bodies are made as old as the version. Which versions there are stands in
//! [`super::super::versions`].

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::error::{ApiError, Code};
use super::super::query::listed;
use super::super::versions::{self, ApiVersion, LATEST, VERSIONS};
use super::auth::VersionPin;

const VERSION: HeaderName = HeaderName::from_static("x-agentflow-version");
const LATEST_VERSION: HeaderName = HeaderName::from_static("x-agentflow-latest-version");
const DEPRECATED: HeaderName = HeaderName::from_static("x-agentflow-deprecated");
const WARNING: HeaderName = HeaderName::from_static("x-agentflow-deprecation-warning");

/// The routes whose bodies have changed between versions.
const DATED: [&str; 2] = ["/v1/entity/{type}/{id}", "/v1/metrics/{name}"];

/// Refuses a version that does not exist, names the one used, and answers as it would have.
pub(in super::super) async fn negotiate(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    let asked = request.headers().get(&VERSION).cloned();
    let used = match &asked {
        None => LATEST,
        Some(asked) => match versions::find(asked.as_bytes()) {
            Some(known) => known,
            None => {
                let asked = String::from_utf8_lossy(asked.as_bytes());
                let error = ApiError::new(
                    Code::UnsupportedVersion,
                    format!("Unsupported API version: {asked}"),
                );
                let known = VERSIONS.each_ref().map(|version| version.date);
                return error.hint(format!("there are {}", listed(&known))).into_response();
            }
        },
    };
    let route = request.extensions().get::<MatchedPath>();
    let is_dated = route.is_some_and(|route| DATED.contains(&route.as_str()));
    let mut response = next.run(request).await;
    // Whose tenant it is, is known only now.
    let pin = response.extensions_mut().remove::<VersionPin>();
    let pinned = pin.and_then(|pin| versions::find(pin.0.as_bytes()));
    let used = if asked.is_some() { used } else { pinned.unwrap_or(used) };
    if is_dated && !used.is_latest() && response.status() == StatusCode::OK {
        response = older(response, used).await;
    }
    let headers = response.headers_mut();
    if is_dated {
        headers.append(header::VARY, HeaderValue::from_static("x-agentflow-version"));
    }
    headers.insert(VERSION, HeaderValue::from_static(used.date));
    headers.insert(LATEST_VERSION, HeaderValue::from_static(LATEST.date));
    let warning = used.warning().and_then(|text| HeaderValue::from_str(&text).ok());
    let deprecated = if warning.is_some() { "true" } else { "false" };
    headers.insert(DEPRECATED, HeaderValue::from_static(deprecated));
    if let Some(warning) = warning {
        headers.insert(WARNING, warning);
    }
    response
}

/// The answer with the body that `version` had.
async fn older(response: Response, version: &ApiVersion) -> Response {
    let (mut parts, body) = response.into_parts();
    // The body is one that a handler has made as a whole.
    let bytes = match to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::internal(format!("read a body: {error}")).into_response(),
    };
    let older = std::str::from_utf8(&bytes).ok().and_then(|text| version.older(text));
    let body = match older {
        None => Body::from(bytes),
        Some(text) => {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
            Body::from(text)
        }
    };
    Response::from_parts(parts, body)
}
