//! Dated API versions: `X-AgentFlow-Version` pins one, every `/v1` answer names the one used.
//!
//! All changes so far only added members, headers and routes, so a body is the same under every
//! version; a pinned client ignores what it does not know.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::error::{ApiError, Code};
use super::super::query::listed;
use super::auth::VersionPin;

const VERSION: HeaderName = HeaderName::from_static("x-agentflow-version");
const LATEST_VERSION: HeaderName = HeaderName::from_static("x-agentflow-latest-version");
const DEPRECATED: HeaderName = HeaderName::from_static("x-agentflow-deprecated");

/// All versions, oldest first. The first two are those of the published clients; the newest added
/// `proof`, `filter` and `group_by` to metrics, and `POST /v1/events`.
const VERSIONS: [&str; 3] = ["2026-01-01", "2026-04-11", "2026-11-21"];
const LATEST: &str = VERSIONS[VERSIONS.len() - 1];

/// Refuses a version that does not exist, and names the one used.
pub(in super::super) async fn negotiate(request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    let asked = request.headers().get(&VERSION).cloned();
    let used = match &asked {
        None => LATEST,
        Some(asked) => match VERSIONS.iter().find(|known| asked == *known) {
            Some(known) => known,
            None => {
                let asked = String::from_utf8_lossy(asked.as_bytes());
                let error = ApiError::new(
                    Code::UnsupportedVersion,
                    format!("Unsupported API version: {asked}"),
                );
                return error.hint(format!("there are {}", listed(&VERSIONS))).into_response();
            }
        },
    };
    let mut response = next.run(request).await;
    // Whose tenant it is, is known only now.
    let pin = response.extensions_mut().remove::<VersionPin>();
    let pinned = pin.and_then(|pin| VERSIONS.into_iter().find(|known| **known == *pin.0));
    let used = if asked.is_some() { used } else { pinned.unwrap_or(used) };
    let headers = response.headers_mut();
    headers.insert(VERSION, HeaderValue::from_static(used));
    headers.insert(LATEST_VERSION, HeaderValue::from_static(LATEST));
    headers.insert(DEPRECATED, HeaderValue::from_static("false"));
    response
}
