//! Every error is a JSON object of one shape, whoever made it, and causes stay inside.

use axum::Router;
use axum::http::Method;
use axum::routing::get;
use futures::StreamExt;

use super::support::World;
use crate::http::error::ApiError;
use crate::http::{HttpOptions, layers};

#[tokio::test]
async fn what_does_not_exist_is_404() {
    let (world, _source) = World::empty();
    for path in [
        "/",
        "/nothing",
        "/v1",
        "/v1/nothing",
        "/v1/metrics/revenue",
        "/v1/metrics/%FF",
        "/v1/entity/order/1",
        "/v1/contracts/order",
        "/v1/contracts/order/1",
        "/v1/lineage/metric/revenue",
        "/docs/nothing.js",
    ] {
        world.get(path).await.error(404, "not_found");
    }
    let (detail, hint) = world.get("/v1/nothing").await.error(404, "not_found");
    assert_eq!((&*detail, &*hint), ("no route `GET /v1/nothing`", "`/docs` shows all routes"));
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let (world, _source) = World::empty();
    let reply = world.send(Method::DELETE, "/v1/metrics", &[], "").await;
    reply.error(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "GET,HEAD");
    let reply = world.send(Method::GET, "/v1/events", &[], "").await;
    reply.error(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");

    let reply = world.send(Method::OPTIONS, "/v1/events", &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (200, "POST"));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let (world, _source) = World::empty();
    let reply = world.send(Method::HEAD, "/v1/metrics", &[], "").await;
    assert_eq!((reply.status.as_u16(), &*reply.text), (200, ""));
    assert_eq!(reply.header("content-type"), "application/json");
    let reply = world.send(Method::HEAD, "/v1/metrics/nothing", &[], "").await;
    assert_eq!((reply.status.as_u16(), &*reply.text), (404, ""));
    assert_eq!(reply.header("content-type"), "application/json");
}

#[tokio::test]
async fn a_parameter_that_a_route_does_not_have_is_422() {
    let (world, _source) = World::empty();
    for (path, detail, hint) in [
        (
            "/v1/metrics/revenue?windw=1h",
            "unknown query parameter `windw`",
            "did you mean `window`?",
        ),
        (
            "/v1/entity/order/1?window=1h",
            "unknown query parameter `window`",
            "known: `after`, `as_of`, `known_at`, `version`, `wait`",
        ),
        (
            "/v1/metrics?window=1h",
            "unknown query parameter `window`",
            "this route takes no query parameters",
        ),
        (
            "/v1/deadletter?pagesize=3",
            "unknown query parameter `pagesize`",
            "did you mean `page_size`?",
        ),
    ] {
        let error = world.get(path).await.error(422, "unknown_parameter");
        assert_eq!((&*error.0, &*error.1), (detail, hint), "{path}");
    }
    for path in
        ["/v1/catalog", "/v1/contracts", "/v1/contracts/a", "/v1/contracts/a/1", "/v1/health"]
    {
        world.get(&format!("{path}?x=1")).await.error(422, "unknown_parameter");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_422() {
    let (world, _source) = World::empty();
    for (path, detail) in [
        ("/v1/metrics/m?as_of=soon", "`as_of` is not a time: `soon`"),
        ("/v1/metrics/m?as_of=1&as_of=2", "`as_of` is given more than once"),
        ("/v1/metrics/m?filter=city", "`filter` has no colon: `city`"),
        ("/v1/metrics/m?group_by=a,,b", "`group_by` has an empty name"),
        ("/v1/metrics/m?group_by=a,a", "`group_by` names `a` twice"),
        ("/v1/entity/e/1?as_of=", "`as_of` is not a time: ``"),
        ("/v1/deadletter?page=0", "`page` must be a whole number from 1 to 1000000000, not `0`"),
        (
            "/v1/deadletter?page_size=101",
            "`page_size` must be a whole number from 1 to 100, not `101`",
        ),
        ("/v1/deadletter?reason=late_night", "`reason` names no reason: `late_night`"),
    ] {
        let error = world.get(path).await.error(422, "invalid_parameter");
        assert_eq!(error.0, detail, "{path}");
    }
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_400() {
    let (world, _source) = World::empty();
    let send = async |version: &str| {
        let headers = [("x-agentflow-version", version)];
        world.send(Method::GET, "/v1/metrics", &headers, "").await
    };
    let reply = send("2020-01-01").await;
    let (detail, _) = reply.error(400, "unsupported_version");
    assert_eq!(detail, "Unsupported API version: 2020-01-01");
    assert!(reply.headers.get("x-agentflow-version").is_none());

    for version in ["2026-01-01", "2026-04-11", "2026-11-21"] {
        let reply = send(version).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("x-agentflow-version"), version);
        assert_eq!(reply.header("x-agentflow-latest-version"), "2026-11-21");
        let is_deprecated = version != "2026-11-21";
        assert_eq!(reply.header("x-agentflow-deprecated"), is_deprecated.to_string());
        let warning = reply.headers.get("x-agentflow-deprecation-warning");
        assert_eq!(warning.is_some_and(|w| w.to_str().unwrap().contains(version)), is_deprecated);
    }
    let reply = world.get("/v1/nothing").await;
    assert_eq!(reply.header("x-agentflow-version"), "2026-11-21");
}

#[tokio::test]
async fn a_request_keeps_its_name() {
    let (world, _source) = World::empty();
    let headers = [("x-request-id", "abc-1"), ("x-correlation-id", "trace-7")];
    let reply = world.send(Method::GET, "/v1/nothing", &headers, "").await;
    reply.error(404, "not_found");
    assert_eq!(reply.header("x-request-id"), "abc-1");
    assert_eq!(reply.header("x-correlation-id"), "trace-7");

    let long = "x".repeat(129);
    for unfit in ["", "a b", "a\tb", long.as_str()] {
        let reply = world.send(Method::GET, "/health/live", &[("x-request-id", unfit)], "").await;
        assert_eq!(reply.header("x-request-id").len(), 36, "{unfit}");
        assert_eq!(reply.header("x-correlation-id"), reply.header("x-request-id"));
    }
}

#[tokio::test]
async fn other_sites_are_refused() {
    let (world, _source) = World::empty();
    for header in [("host", "example.org"), ("origin", "https://example.org"), ("origin", "null")] {
        let reply = world.send(Method::POST, "/v1/events", &[header], "{}").await;
        reply.error(403, "foreign_origin");
    }
    let headers = [("host", "localhost:8080"), ("origin", "http://localhost:3000")];
    assert_eq!(world.send(Method::GET, "/v1/metrics", &headers, "").await.status, 200);
}

/// Routes that misbehave, in the layers of the API.
fn trouble(world: &World) -> Router {
    let routes = Router::new()
        .route("/panic", get(async || -> &'static str { panic!("secret of the house") }))
        .route("/store", get(async || ApiError::unavailable("secret of the store")))
        .route("/slow", get(async || tokio::time::sleep(std::time::Duration::from_secs(60)).await))
        .route("/plain", get(async || (axum::http::StatusCode::BAD_GATEWAY, "a library's text")));
    let kept = layers::Kept::new(&world.state.options);
    layers::apply(routes, &world.state, &kept)
}

#[tokio::test]
async fn causes_stay_inside() {
    let (world, _source) = World::empty();
    for (path, status, code) in
        [("/panic", 500, "internal"), ("/store", 503, "unavailable"), ("/plain", 502, "internal")]
    {
        let reply = world.send_to(trouble(&world), Method::GET, path, &[], "").await;
        reply.error(status, code);
        assert!(
            !reply.text.contains("secret") && !reply.text.contains("library"),
            "{}",
            reply.text
        );
    }
    let reply = world.send_to(trouble(&world), Method::GET, "/store", &[], "").await;
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn what_takes_too_long_is_ended() {
    let request_timeout = std::time::Duration::from_millis(20);
    let options = HttpOptions { request_timeout, ..HttpOptions::default() };
    let (world, _source) = World::with(options, Default::default());
    let reply = world.send_to(trouble(&world), Method::GET, "/slow", &[], "").await;
    let (detail, _) = reply.error(503, "timeout");
    assert_eq!(detail, "no answer within 0.02 seconds");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_the_callers_fault() {
    let request_timeout = std::time::Duration::from_millis(50);
    let options = HttpOptions { request_timeout, ..HttpOptions::default() };
    let (world, _source) = World::with(options, Default::default());
    for path in ["/v1/query", "/v1/events", "/v1/batch"] {
        let some = futures::stream::iter([Ok::<_, std::io::Error>("{\"q")]);
        let body = axum::body::Body::from_stream(some.chain(futures::stream::pending()));
        let headers = [("content-type", "application/json")];
        let reply = world.send(Method::POST, path, &headers, body).await;
        let (detail, hint) = reply.error(408, "body_timeout");
        assert_eq!(detail, "the body did not come within 0.05 seconds", "{path}");
        assert_eq!(hint, "nothing of it was taken: send it again, whole");
    }
}

#[tokio::test]
async fn a_query_string_must_be_percent_encoded_utf_8() {
    let (world, _source) = World::empty();
    for (query, name) in [
        ("q=ab%ff", "q"),
        ("q=%zz", "q"),
        ("q=%4", "q"),
        ("q=%", "q"),
        ("q=ok&limit=%e9%zz", "limit"),
        ("q%c3=1", "q%c3"),
        ("q=%c3%28", "q"),
        ("q=%+41", "q"),
    ] {
        let reply = world.get(&format!("/v1/search?{query}")).await;
        let (detail, _) = reply.error(422, "invalid_parameter");
        assert_eq!(detail, format!("`{name}` is not percent-encoded UTF-8"), "{query}");
    }
    for query in ["q=a%20b", "q=a+b", "q=%C3%A9t", "q=aa%25", "q=aa&", "&q=aa", "q=a=b"] {
        let reply = world.get(&format!("/v1/search?{query}")).await;
        assert_eq!(reply.status.as_u16(), 200, "{query}: {}", reply.text);
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused_but_health_is_not() {
    let options = HttpOptions { max_concurrent_requests: 0, ..HttpOptions::default() };
    let (world, _source) = World::with(options, Default::default());
    let reply = world.get("/v1/metrics").await;
    reply.error(503, "busy");
    assert_eq!(reply.header("retry-after"), "1");
    for path in ["/health/live", "/health/ready", "/v1/health", "/metrics"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
}
