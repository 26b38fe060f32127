//! How many requests at once, and for how long.
//!
//! What watches the server (`/health`, `/v1/health`, `/metrics`) has no limit on numbers: a server
//! that is busy must still be able to say so.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::super::error::{ApiError, Code};
use super::super::state::HttpOptions;

/// The limits, shared by all requests.
#[derive(Clone)]
pub(in super::super) struct Limits {
    slots: Arc<Semaphore>,
    timeout: Duration,
}

impl Limits {
    pub(in super::super) fn new(options: &HttpOptions) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(options.max_concurrent_requests)),
            timeout: options.request_timeout,
        }
    }
}

/// Refuses what is too much at once, and ends what takes too long.
pub(in super::super) async fn limit(
    State(limits): State<Limits>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let free = path.starts_with("/health/") || path == "/v1/health" || path == "/metrics";
    let _slot = match (free, limits.slots.try_acquire()) {
        (false, Err(_)) => {
            return ApiError::busy("too many requests are under way")
                .hint("try again after `Retry-After` seconds")
                .into_response();
        }
        (_, slot) => slot.ok(),
    };
    let writes = request.method() == Method::POST;
    match tokio::time::timeout(limits.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = limits.timeout.as_secs_f64();
            let mut error =
                ApiError::new(Code::Timeout, format!("no answer within {seconds} seconds"));
            error.retry_after = Some(1);
            if writes {
                error = error.hint(
                    "the events may have been applied; sending them again is safe, known ids are \
                     answered as duplicates",
                );
            }
            error.into_response()
        }
    }
}
