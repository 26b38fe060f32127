//! What wraps every route, outermost first:
//!
//! 1. CORS: what pages of other sites may do; compression of what is long.
//! 2. [`request_id`]: names the request, logs causes under that name, writes error bodies.
//! 3. [`observe`]: counts and times by route template.
//! 4. [`security`]: headers for browsers; refuses what is too long, and other sites where no key is
//!    needed.
//! 5. [`version`]: dated API versions.
//! 6. [`auth`]: who asks, and the budget of their key.
//! 7. [`limits`]: how many requests at once, and for how long.
//! 8. [`idempotency`]: a write that is sent again gets the answer of the first time.
//! 9. panics become a 500.

pub(super) mod auth;
pub(super) mod idempotency;
pub(super) mod limits;
pub(super) mod observe;
pub(super) mod request_id;
pub(super) mod security;
pub(super) mod version;

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::error::ApiError;
use super::state::{AppState, HttpOptions};

/// What layers remember of requests, whatever contracts answer them.
#[derive(Clone)]
pub(super) struct Kept {
    limits: limits::Limits,
    answers: idempotency::Answers,
}

impl Kept {
    pub(super) fn new(options: &HttpOptions) -> Self {
        Self {
            limits: limits::Limits::new(options),
            answers: idempotency::Answers::new(options.max_body_bytes),
        }
    }
}

/// Wraps the routes. The last layer added is the outermost.
pub(super) fn apply(router: Router, state: &AppState, kept: &Kept) -> Router {
    let Kept { limits, answers } = kept.clone();
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(answers, idempotency::replay))
        .layer(from_fn_with_state(limits, limits::limit))
        .layer(from_fn_with_state(state.clone(), auth::admit))
        .layer(from_fn(version::negotiate))
        .layer(from_fn_with_state(state.gate.clone(), security::protect))
        .layer(from_fn_with_state(state.telemetry.clone(), observe::observe))
        .layer(from_fn(request_id::name))
        .layer(CompressionLayer::new().compress_when(worth_it()))
        .layer(cors(&state.options.cors_origins))
}

/// Short answers gain nothing, and an event of a stream must not wait for the next one.
fn worth_it() -> impl Predicate {
    SizeAbove::new(1_024).and(NotForContentType::SSE).and(NotForContentType::IMAGES)
}

/// What pages of these sites may do.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let named = |names: &[&'static str]| -> Vec<HeaderName> {
        names.iter().map(|name| HeaderName::from_static(name)).collect()
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(named(&[
            "authorization",
            "content-type",
            "idempotency-key",
            "if-none-match",
            "last-event-id",
            "x-agentflow-version",
            "x-api-key",
            "x-correlation-id",
            "x-request-id",
        ]))
        .expose_headers(named(&[
            "deprecation",
            "etag",
            "link",
            "retry-after",
            "sunset",
            "x-agentflow-deprecated",
            "x-agentflow-deprecation-warning",
            "x-agentflow-latest-version",
            "x-agentflow-version",
            "x-cache",
            "x-correlation-id",
            "x-process-time",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-request-id",
        ]))
        .max_age(Duration::from_secs(600))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::internal(format!("panic: {message}")).into_response()
}
