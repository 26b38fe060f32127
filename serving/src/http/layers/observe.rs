//! Counts and times every request by the template of its route.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::super::again::{AskAgain, Go};
use crate::telemetry::Telemetry;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// Also says in `X-Process-Time` how many seconds the answer took.
pub(in super::super) async fn observe(
    State(telemetry): State<Arc<Telemetry>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Go::begun(request.extensions());
    let may_go_on = Go::may_go_on(request.extensions());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known(request.method());
    let mut response = next.run(request).await;
    let took = started.elapsed();
    let route = route.as_ref().map_or("<unmatched>", MatchedPath::as_str);
    if !(may_go_on && response.extensions().get::<AskAgain>().is_some()) {
        telemetry.request(method, route, response.status().as_u16(), took);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{:.6}", took.as_secs_f64())) {
        response.headers_mut().insert(PROCESS_TIME, value);
    }
    response
}

/// The method as a label; callers may invent methods, labels stay bounded.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
