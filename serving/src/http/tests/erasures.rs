//! Erasures over HTTP: what is asked and answered. What they do is tested where they are done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::http::Method;
use pipeline::source::http::QueueLimits;
use pipeline::store::ServingStore;

use super::support::{Reply, World};
use crate::http::HttpOptions;

/// Lets the writer do what it is asked, until it is dropped.
struct Writing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writing {
    fn over(world: &World) -> Self {
        let mut writer = world.store.writer().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                if !writer.tidy().unwrap() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn world() -> World {
    let file = ("sales/contracts.yaml".into(), include_str!("contracts.yaml").to_owned());
    let domain = contracts::load(&[file]).unwrap();
    World::of(domain, HttpOptions::default(), QueueLimits::default()).0
}

async fn post(world: &World, body: &str) -> Reply {
    let headers = [("content-type", "application/json")];
    world.send(Method::POST, "/v1/erasures", &headers, body.to_owned()).await
}

#[tokio::test]
async fn one_is_asked_for_and_looked_up() {
    let world = world();
    let writing = Writing::over(&world);
    assert_eq!(world.get("/v1/erasures").await.json(), serde_json::json!({"erasures": []}));
    let dry = post(&world, r#"{"entity": "sale", "key": "S-1", "dry_run": true}"#).await;
    assert_eq!((dry.status.as_u16(), &dry.json()["state"]), (200, &"dry_run".into()));
    assert_eq!(world.get("/v1/erasures").await.json(), serde_json::json!({"erasures": []}));

    let asked = post(&world, r#"{"entity": "sale", "key": "S-1", "reason": "ticket 42"}"#).await;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let asked = asked.json();
    assert_eq!(asked["state"], "lake_pending");
    assert_eq!(asked["key_digest"].as_str().unwrap().len(), 64);
    let path = format!("/v1/erasures/{}", asked["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.json(), asked);
    assert!(!world.get("/v1/erasures").await.text.contains("S-1"));

    world.state.erasures.set_problem(Some("the catalog is away".into()));
    assert_eq!(world.get(&path).await.json()["problem"], "the catalog is away");
    let id = asked["id"].as_str().unwrap().parse().unwrap();
    world.state.erasures.finish(id, [("sale".to_owned(), 3)].into()).unwrap();
    let done = world.get(&path).await.json();
    assert_eq!((&done["state"], &done["problem"]), (&"done".into(), &serde_json::Value::Null));
    assert_eq!(done["lake_rows"], serde_json::json!({"sale": 3}));
    drop(writing);
    // Nobody writes any more.
    post(&world, r#"{"entity": "sale", "key": "S-1"}"#).await.error(503, "unavailable");
}

#[tokio::test]
async fn what_does_not_fit_is_said() {
    let world = world();
    let _writing = Writing::over(&world);
    for (body, status, said) in [
        ("", 400, "the body is no JSON"),
        ("[]", 400, "the body must be a JSON object"),
        ("{", 400, "the body is no JSON"),
        (r#"{"entity": "sale"}"#, 422, "`key` is missing"),
        (r#"{"entity": "sale", "key": 7}"#, 422, "`key` must be a text, not `7`"),
        (r#"{"entity": "sale", "key": "S-1", "dry_run": 1}"#, 422, "`dry_run` must be"),
        (r#"{"entity": "sale", "key": "S-1", "mode": "delete"}"#, 422, "no member `mode`"),
    ] {
        let code = if status == 400 { "invalid_body" } else { "invalid_parameter" };
        let (detail, hint) = post(&world, body).await.error(status, code);
        assert!(detail.contains(said) && !hint.is_empty(), "{detail}; {hint}");
    }
    let (detail, hint) =
        post(&world, r#"{"entity": "sael", "key": "S-1"}"#).await.error(404, "not_found");
    assert!(detail.contains("`sael`") && hint.contains("sale"), "{detail}; {hint}");
    post(&world, r#"{"entity": "sale", "key": ""}"#).await.error(422, "invalid_parameter");
    let long = format!(r#"{{"entity": "sale", "key": "S", "reason": "{}"}}"#, "x".repeat(1_001));
    post(&world, &long).await.error(422, "invalid_parameter");
    world.get("/v1/erasures/x").await.error(404, "not_found");
    let other = format!("/v1/erasures/{}", uuid::Uuid::nil());
    world.get(&other).await.error(404, "not_found");
    world.get("/v1/erasures?key=S-1").await.error(422, "unknown_parameter");
}
