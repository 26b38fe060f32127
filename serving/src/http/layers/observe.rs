//! Counts and times every request by the template of its route.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::Telemetry;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// Also says in `X-Process-Time` how many seconds the answer took.
pub(in super::super) async fn observe(
    State(telemetry): State<Arc<Telemetry>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known(request.method());
    let mut response = next.run(request).await;
    let took = started.elapsed();
    let route = route.as_ref().map_or("<unmatched>", MatchedPath::as_str);
    telemetry.request(method, route, response.status().as_u16(), took);
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
