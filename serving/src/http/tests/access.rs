//! Keys: who is let in, to what, and how often.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::support::{Reply, World};
use crate::access::digest::Pepper;
use crate::access::file::KeyFile;
use crate::access::gate::{Gate, TrustedProxies};
use crate::access::record::KeyRecord;
use crate::access::ring::KeyRing;
use crate::http::router;

const ADMIN: &str = "an admin key of the tests";

/// A server with a file of keys, and one key from the environment.
struct Locked {
    world: World,
    router: Router,
    _folder: tempfile::TempDir,
}

impl Locked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let given = KeyRecord {
            key: Some("the given key".to_owned()),
            ..KeyRecord::new("given", "default")
        };
        let file = KeyFile::at(folder.path().join("keys.yaml"));
        let ring = KeyRing::open(Some(file), vec![given], Pepper::random(), None).unwrap();
        let gate = Gate::locked(Arc::new(ring))
            .with_admin_key(Some(ADMIN))
            .with_operator_token("a token")
            .with_proxies(TrustedProxies::new(vec!["10.0.0.1".parse().unwrap()]));
        let (mut world, _) = World::empty();
        world.state.gate = Arc::new(gate);
        let router = router(world.state.clone());
        Self { world, router, _folder: folder }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let body = body.to_owned();
        self.world.send_to(self.router.clone(), method, path, headers, body).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(Method::GET, path, headers, "").await
    }

    async fn admin(&self, method: Method, path: &str, body: &str) -> Reply {
        self.send(method, path, &[("x-admin-key", ADMIN)], body).await
    }

    /// Makes a key.
    async fn make(&self, body: serde_json::Value) -> (String, String) {
        let made = self.admin(Method::POST, "/v1/admin/keys", &body.to_string()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let made = made.json();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("key_id"), text("key"))
    }

    /// The same as seen from another address.
    fn from(&self, address: &str) -> Router {
        let peer: SocketAddr = format!("{address}:1234").parse().unwrap();
        self.router.clone().layer(axum::Extension(ConnectInfo(peer)))
    }
}

#[tokio::test]
async fn without_a_right_key_nobody_is_let_in() {
    let server = Locked::new();
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", "the given kez")], 401),
        (&[("x-api-key", "")], 401),
        (&[("x-api-key", "\u{e9}")], 401),
        (&[("authorization", "Basic dGhlIGdpdmVuIGtleQ==")], 401),
        (&[("x-admin-key", ADMIN)], 401),
        (&[("x-api-key", "the given key")], 200),
        (&[("authorization", "Bearer the given key")], 200),
        (&[("authorization", "bearer a token")], 200),
    ] {
        let reply = server.get("/v1/metrics", headers).await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?} {}", reply.text);
        if status == 401 {
            let body = reply.json();
            assert_eq!(body["code"], "unauthorized");
            assert!(body["hint"].is_string(), "{body}");
            assert!(!reply.text.contains("kez"), "a key in an error: {body}");
            assert_eq!(
                reply.header("x-agentflow-version"),
                reply.header("x-agentflow-latest-version")
            );
        }
    }
    for open in ["/v1/health", "/health/live", "/openapi.json", "/metrics"] {
        assert_ne!(server.get(open, &[]).await.status, StatusCode::UNAUTHORIZED, "{open}");
    }
    for closed in ["/v1/events", "/v1/nothing", "/", "/v1/metrics/"] {
        assert_eq!(server.get(closed, &[]).await.status, StatusCode::UNAUTHORIZED, "{closed}");
    }
    // A name from elsewhere is fine where keys are.
    let host = [("host", "metrics.example.org"), ("x-api-key", "the given key")];
    assert_eq!(server.get("/v1/metrics", &host).await.status, StatusCode::OK);
}

#[tokio::test]
async fn several_keys_are_not_chosen_from() {
    let server = Locked::new();
    for headers in [
        [("x-api-key", "the given key"), ("x-api-key", "another one")],
        [("authorization", "Bearer the given key"), ("authorization", "Bearer another")],
        [("x-admin-key", ADMIN), ("x-admin-key", "another one")],
    ] {
        let reply = server.get("/v1/metrics", &headers).await;
        let (detail, _) = reply.error(422, "invalid_parameter");
        assert_eq!(detail, format!("the header `{}` is given more than once", headers[0].0));
    }
    // The same twice is one, and a proxy may have a token of its own.
    for headers in [
        [("x-api-key", "the given key"), ("x-api-key", "the given key")],
        [("x-api-key", "the given key"), ("authorization", "Bearer of a proxy")],
    ] {
        assert_eq!(server.get("/v1/metrics", &headers).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_key_where_a_name_belongs_is_not_repeated() {
    let server = Locked::new();
    let (_, key) = server.make(json!({"name": "own", "tenant": "default"})).await;
    let bearer = format!("Bearer {key}");
    for headers in [[("x-api-key", &*key)], [("authorization", &*bearer)]] {
        let reply = server.get(&format!("/v1/metrics/{key}"), &headers).await;
        assert_eq!(reply.error(404, "not_found").0, "no metric is named `***`");
        for (path, status) in [
            (format!("/v1/entity/order/{key}"), 404),
            (format!("/v1/{key}"), 404),
            (format!("/v1/metrics?{key}=1"), 422),
        ] {
            let reply = server.get(&path, &headers).await;
            assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
            assert!(!reply.text.contains(&key), "{}", reply.text);
        }
    }
}

#[tokio::test]
async fn a_key_in_the_url_is_refused_and_not_repeated() {
    let server = Locked::new();
    for path in ["/v1/metrics?api_key=the-secret", "/v1/metrics?window=1h&ACCESS_TOKEN=the-secret"]
    {
        let reply = server.get(path, &[("x-api-key", "the given key")]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!reply.text.contains("the-secret"), "{}", reply.text);
    }
}

#[tokio::test]
async fn keys_are_made_listed_rotated_and_ended() {
    let server = Locked::new();
    let (id, key) = server.make(json!({"name": "board", "tenant": "acme"})).await;
    assert!(key.starts_with("af-acme-board-") && key.len() > 50, "{key}");
    let ask = async |key: &str| server.get("/v1/metrics", &[("x-api-key", key)]).await.status;
    assert_eq!(ask(&key).await, StatusCode::OK);

    let path = |rest: &str| format!("/v1/admin/keys/{id}{rest}");
    let again = server.admin(Method::POST, "/v1/admin/keys", r#"{"name":"board","tenant":"acme"}"#);
    assert_eq!(again.await.status, StatusCode::CONFLICT);

    let rotated = server.admin(Method::POST, &path("/rotate"), "").await;
    assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
    let new = rotated.json()["new_key"].as_str().unwrap().to_owned();
    assert_ne!(new, key);
    assert_eq!((ask(&key).await, ask(&new).await), (StatusCode::OK, StatusCode::OK));
    assert_eq!(server.admin(Method::POST, &path("/rotate"), "").await.status, StatusCode::CONFLICT);
    let status = server.admin(Method::GET, &path("/rotation-status"), "").await.json();
    assert_eq!(status["phase"], "grace_period");
    assert_eq!(status["requests_on_old_key_last_hour"], 1);

    let revoked = server.admin(Method::POST, &path("/revoke-old"), "").await;
    assert_eq!(revoked.json(), json!({"revoked": true}));
    assert_eq!((ask(&key).await, ask(&new).await), (StatusCode::UNAUTHORIZED, StatusCode::OK));
    assert_eq!(
        server.admin(Method::POST, &path("/revoke-old"), "").await.status,
        StatusCode::CONFLICT
    );

    let list = server.admin(Method::GET, "/v1/admin/keys", "").await;
    assert!(!list.text.contains(&new) && !list.text.contains("argon2"), "{}", list.text);
    let listed = &list.json()["keys"];
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1]["key_id"], json!(id));
    assert_eq!(listed[1]["requests_last_24h"], 4);
    assert_eq!(listed[1]["key_hash_present"], true);
    let usage = server.admin(Method::GET, "/v1/admin/usage", "").await.json();
    assert_eq!(usage["usage"][0], json!({"tenant": "acme", "requests_last_24h": 4}));

    assert_eq!(server.admin(Method::DELETE, &path(""), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(ask(&new).await, StatusCode::UNAUTHORIZED);
    assert_eq!(server.admin(Method::DELETE, &path(""), "").await.status, StatusCode::NOT_FOUND);
    let given = server.admin(Method::DELETE, "/v1/admin/keys/default-given", "").await;
    assert_eq!(given.status, StatusCode::CONFLICT, "{}", given.text);
}

#[tokio::test]
async fn a_rotation_without_grace_ends_the_old_key_at_once() {
    let server = Locked::new();
    let (id, key) = server.make(json!({"name": "a", "tenant": "t"})).await;
    let path = format!("/v1/admin/keys/{id}/rotate?grace_seconds=0");
    assert_eq!(server.admin(Method::POST, &path, "").await.status, StatusCode::OK);
    let old = server.get("/v1/metrics", &[("x-api-key", &key)]).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_requests_for_keys_say_what_is_wrong() {
    let server = Locked::new();
    for (body, status, said) in [
        ("", 400, "the body is no JSON"),
        ("[]", 400, "the body must be a JSON object"),
        (r#"{"name": "a"}"#, 422, "`tenant` is missing"),
        (r#"{"name": 7, "tenant": "t"}"#, 422, "`name` must be a text, not `7`"),
        (r#"{"name": "a b", "tenant": "t"}"#, 422, "`name` is `a b`"),
        (r#"{"name": "a", "tenant": "../t"}"#, 422, "`tenant`"),
        (r#"{"name": "a", "tenant": "t", "rate_limit_rpm": 0}"#, 422, "rate_limit_rpm"),
        (r#"{"name": "a", "tenant": "t", "rate_limit_rpm": -1}"#, 422, "`rate_limit_rpm` must be"),
        (
            r#"{"name": "a", "tenant": "t", "allowed_metrics": [7]}"#,
            422,
            "`allowed_metrics` must be a list",
        ),
        (r#"{"name": "a", "tenant": "t", "allowed_metrics": ["x"]}"#, 422, "`x`"),
        (
            r#"{"name": "a", "tenant": "t", "allowed_entities": ["x"]}"#,
            422,
            "no member `allowed_entities`",
        ),
    ] {
        let reply = server.admin(Method::POST, "/v1/admin/keys", body).await;
        assert_eq!(reply.status.as_u16(), status, "{body} {}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(said), "{body} {}", reply.text);
    }
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-admin-key", "wrong")], 401),
        (&[("x-api-key", "the given key")], 401),
        (&[("authorization", "Bearer a token")], 200),
    ] {
        let reply = server.get("/v1/admin/keys", headers).await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?}");
    }
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_a_right_key_opens_all_the_same() {
    let server = Locked::new();
    let (_, key) = server.make(json!({"name": "a", "tenant": "t"})).await;
    let ask = async |router: Router, headers: &[(&str, &str)]| {
        server.world.send_to(router, Method::GET, "/v1/metrics", headers, "").await
    };
    let wrong = [("x-api-key", "wrong")];
    for nth in 0..12 {
        let reply = ask(server.from("192.0.2.1"), &wrong).await;
        let expected = if nth < 10 { 401 } else { 429 };
        assert_eq!(reply.status.as_u16(), expected, "{nth}: {}", reply.text);
        if expected == 429 {
            assert_eq!(reply.header("retry-after"), "3600");
        }
    }
    // A key that was never shown before has its hash checked even now.
    let right = ask(server.from("192.0.2.1"), &[("x-api-key", &key)]).await;
    assert_eq!(right.status, StatusCode::OK);
    assert_eq!(ask(server.from("192.0.2.2"), &wrong).await.status, StatusCode::UNAUTHORIZED);
    // Behind the proxy each caller counts for itself; without it nobody may say who they are.
    let behind = [("x-api-key", "wrong"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(ask(server.from("10.0.0.1"), &behind).await.status.as_u16(), 429);
    assert_eq!(ask(server.from("192.0.2.3"), &behind).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_has_so_many_requests_a_minute() {
    let server = Locked::new();
    let (_, key) = server.make(json!({"name": "a", "tenant": "t", "rate_limit_rpm": 3})).await;
    let key = [("x-api-key", key.as_str())];
    for left in ["2", "1", "0"] {
        // What is refused for another reason counts as well.
        let reply = server.get("/v1/nothing", &key).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.header("x-ratelimit-limit"), "3");
        assert_eq!(reply.header("x-ratelimit-remaining"), left);
    }
    let reply = server.get("/v1/metrics", &key).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.json()["detail"], "Rate limit exceeded: 3 requests/minute");
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(server.get("/v1/health", &key).await.status, StatusCode::OK, "health is free");
}

#[tokio::test]
async fn a_write_that_is_sent_again_gets_the_first_answer() {
    let server = Locked::new();
    let make = async |idempotency: &str, name: &str| {
        let headers = [("x-admin-key", ADMIN), ("idempotency-key", idempotency)];
        let body = json!({"name": name, "tenant": "t"}).to_string();
        server.send(Method::POST, "/v1/admin/keys", &headers, &body).await
    };
    let first = make("one", "a").await;
    let again = make("one", "a").await;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.json()["key"], again.json()["key"]);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let other = make("one", "b").await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json()["code"], "key_reused");
    // "Try again" is not remembered: a conflict may be over the next time.
    assert_eq!(make("two", "a").await.status, StatusCode::CONFLICT);
    server.admin(Method::DELETE, "/v1/admin/keys/t-a", "").await;
    assert_eq!(make("two", "a").await.status, StatusCode::CREATED);
    let bad = make(" ", "c").await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn reads_by_post_are_answered_anew() {
    let server = Locked::new();
    let ask = async |body: &str| {
        let headers = [("x-api-key", "the given key"), ("idempotency-key", "one")];
        server.send(Method::POST, "/v1/batch", &headers, body).await
    };
    let first =
        ask(r#"{"requests": [{"id": "a", "type": "metric", "params": {"name": "x"}}]}"#).await;
    let other =
        ask(r#"{"requests": [{"id": "b", "type": "metric", "params": {"name": "x"}}]}"#).await;
    assert_eq!((first.status, other.status), (StatusCode::OK, StatusCode::OK), "{}", other.text);
    assert!(!other.headers.contains_key("idempotency-replayed"));
}

#[tokio::test]
async fn a_batch_costs_its_items() {
    let server = Locked::new();
    let (_, key) = server.make(json!({"name": "a", "tenant": "t", "rate_limit_rpm": 5})).await;
    let item = json!({"type": "metric", "params": {"name": "x"}});
    let ask = async |count: usize| {
        let body = json!({"requests": vec![item.clone(); count]}).to_string();
        server.send(Method::POST, "/v1/batch", &[("x-api-key", key.as_str())], &body).await
    };
    let reply = ask(3).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-ratelimit-remaining")), (200, "2"));
    let reply = ask(3).await;
    assert_eq!(reply.status.as_u16(), 429, "{}", reply.text);
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_stream_ends_with_its_key() {
    let server = Locked::new();
    let (id, key) = server.make(json!({"name": "a", "tenant": "t"})).await;
    let request = axum::http::Request::builder()
        .uri("/v1/stream/events")
        .header("x-api-key", &key)
        .body(axum::body::Body::empty())
        .unwrap();
    let response = tower::ServiceExt::oneshot(server.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let read = tokio::spawn(axum::body::to_bytes(response.into_body(), 1 << 20));
    let revoked = server.admin(Method::DELETE, &format!("/v1/admin/keys/{id}"), "").await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    let text = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
    let text = text.expect("it ends").unwrap().unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.ends_with("\"unauthorized\"}\n\n"), "{text}");
}

#[tokio::test]
async fn without_keys_the_door_stays_shut_and_says_how_to_open_it() {
    let (mut world, _) = World::empty();
    let ring = KeyRing::open(None, Vec::new(), Pepper::random(), None).unwrap();
    world.state.gate = Arc::new(Gate::locked(Arc::new(ring)));
    let router = router(world.state.clone());
    for headers in [&[][..], &[("x-api-key", "anything")]] {
        let path = "/v1/metrics";
        let reply = world.send_to(router.clone(), Method::GET, path, headers, "").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.text);
        assert!(reply.json()["hint"].as_str().unwrap().contains("agentflow keys create"));
    }
    let reply = world.send_to(router, Method::GET, "/v1/admin/keys", &[], "").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "there is no admin key either");
}

#[tokio::test]
async fn what_is_too_long_is_refused_before_anything_else() {
    let server = Locked::new();
    let long = format!("/v1/metrics?window={}", "x".repeat(9_000));
    let reply = server.get(&long, &[]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()["code"].clone()),
        (414, json!("target_too_long"))
    );
    let value = "x".repeat(40_000);
    let reply = server.get("/v1/metrics", &[("x-something", &value)]).await;
    assert_eq!(reply.status.as_u16(), 431);
}

#[tokio::test]
async fn pages_of_named_sites_may_ask() {
    let server = Locked::new();
    let origin = ("origin", "http://localhost:3000");
    let preflight = [origin, ("access-control-request-method", "GET")];
    let reply = server.send(Method::OPTIONS, "/v1/metrics", &preflight, "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("access-control-allow-origin"), origin.1);
    assert!(reply.header("access-control-allow-headers").contains("x-api-key"));
    let reply = server.get("/v1/metrics", &[origin]).await;
    assert_eq!(reply.header("access-control-allow-origin"), origin.1, "errors too");
    let reply = server.get("/v1/metrics", &[("origin", "https://example.org")]).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    assert!(reply.header("vary").to_ascii_lowercase().contains("origin"));
}

#[tokio::test]
async fn long_answers_are_compressed_when_asked() {
    let server = Locked::new();
    for coding in ["gzip", "br", "zstd"] {
        let reply = server.get("/openapi.json", &[("accept-encoding", coding)]).await;
        assert_eq!(reply.header("content-encoding"), coding);
    }
    assert!(!server.get("/openapi.json", &[]).await.headers.contains_key("content-encoding"));
    let error = server.get("/v1/metrics", &[("accept-encoding", "gzip")]).await;
    assert!(!error.headers.contains_key("content-encoding"), "short");
}
