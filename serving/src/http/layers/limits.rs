//! How many requests at once, and for how long.
//!
//! What watches the server (`/health`, `/v1/health`, `/metrics`) has places of its own: a server that is
//! busy must still be able to say so, and who needs no key must not keep out those who have one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::super::error::{ApiError, Code};
use super::super::state::HttpOptions;

/// Most requests of those who watch at once.
const MAX_WATCHERS: usize = 32;

/// The limits, shared by all requests.
#[derive(Clone)]
pub(in super::super) struct Limits {
    slots: Arc<Semaphore>,
    /// Of those that need no key: they must not take the places of those that do.
    watchers: Arc<Semaphore>,
    timeout: Duration,
}

impl Limits {
    pub(in super::super) fn new(options: &HttpOptions) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(options.max_concurrent_requests)),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
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
    let slots = match path {
        // Asks nobody.
        "/health/live" => None,
        "/health/ready" | "/v1/health" | "/metrics" => Some(&limits.watchers),
        _ => Some(&limits.slots),
    };
    let _slot = match slots.map(|slots| slots.try_acquire()) {
        Some(Err(_)) => {
            return ApiError::busy("too many requests are under way")
                .hint("try again after `Retry-After` seconds")
                .into_response();
        }
        slot => slot,
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
