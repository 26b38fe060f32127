//! What wraps every route, outermost first:
//!
//! 1. [`request_id`]: names the request, logs causes under that name, writes error bodies.
//! 2. [`observe`]: counts and times by route template.
//! 3. [`security`]: headers for browsers; refuses other sites while there are no keys.
//! 4. [`version`]: dated API versions.
//! 5. [`limits`]: how many requests at once, and for how long.
//! 6. panics become a 500.

pub(super) mod limits;
pub(super) mod observe;
pub(super) mod request_id;
pub(super) mod security;
pub(super) mod version;

use std::any::Any;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;

use super::error::ApiError;
use super::state::AppState;

/// Wraps the routes. The last layer added is the outermost.
pub(super) fn apply(router: Router, state: &AppState) -> Router {
    let limits = limits::Limits::new(&state.options);
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(limits, limits::limit))
        .layer(from_fn(version::negotiate))
        .layer(from_fn(security::protect))
        .layer(from_fn_with_state(state.telemetry.clone(), observe::observe))
        .layer(from_fn(request_id::name))
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::internal(format!("panic: {message}")).into_response()
}
