//! Health, readiness and `/metrics`, and the headers of every answer.

use std::sync::Arc;

use axum::http::Method;
use pipeline::sink::iceberg::LakeStatus;
use pipeline::source::kafka::KafkaProbe;

use super::lake::FakeLake;
use super::support::{World, check_golden, masked};
use crate::http::router;

#[tokio::test]
async fn a_server_without_events_says_so() {
    let (world, _source) = World::empty();
    let reply = world.get("/v1/health").await;
    assert_eq!(reply.status, 200);
    check_golden("health_empty.json", &masked(reply.json()));
}

#[track_caller]
fn component<'a>(body: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let components = body["components"].as_array().unwrap();
    components.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name}: {body}"))
}

#[tokio::test]
async fn a_stopped_pipeline_is_unhealthy_and_not_ready() {
    let (world, _source) = World::empty();
    let ready = world.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &"ready".into()));

    world.state.pipeline.stopped("commit batch: the disk is gone");
    let health = world.get("/v1/health").await.json();
    assert_eq!(health["status"], "unhealthy");
    assert_eq!(component(&health, "pipeline")["message"], "commit batch: the disk is gone");
    let ready = world.get("/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (503, &"not_ready".into()));
    let live = world.get("/health/live").await;
    assert_eq!((live.status.as_u16(), &live.json()["status"]), (200, &"alive".into()));
}

#[tokio::test]
async fn a_lake_in_trouble_is_degraded_and_keeps_its_cause() {
    let (world, _source) = World::empty();
    let mut state = world.state.clone();
    let status = LakeStatus {
        lag_events: 12,
        lag_seconds: 3.5,
        running: true,
        last_error: Some("s3://secret-bucket: no".to_owned()),
        ..LakeStatus::default()
    };
    state.lake = Some(Arc::new(FakeLake { status, ..FakeLake::default() }));
    let api = router(state);
    let reply = world.send_to(api.clone(), Method::GET, "/v1/health", &[], "").await;
    let lake = component(&reply.json(), "lake").clone();
    assert_eq!(lake["status"], "degraded");
    assert_eq!(lake["metrics"]["lag_events"], 12);
    assert!(!reply.text.contains("secret"), "{}", reply.text);

    let reply = world.send_to(api, Method::GET, "/metrics", &[], "").await;
    assert!(reply.text.contains("\nagentflow_lake_lag_seconds 3.5\n"), "{}", reply.text);
}

#[tokio::test]
async fn a_source_that_reads_kafka_is_a_component() {
    let (world, _source) = World::empty();
    let mut state = world.state.clone();
    state.kafka = vec![KafkaProbe::default()];
    let api = router(state);
    let reply = world.send_to(api.clone(), Method::GET, "/v1/health", &[], "").await;
    let kafka = component(&reply.json(), "kafka").clone();
    assert_eq!(
        (&kafka["status"], &kafka["metrics"]["partitions"]),
        (&"degraded".into(), &0.into())
    );
    assert_eq!(kafka["message"], "no partition is assigned yet");
    assert_eq!(kafka["kafka"][0]["missing_topics"], serde_json::json!([]));
    let others = reply.json()["components"].as_array().unwrap().len();
    assert_eq!(others, 6, "no canary where there is none");

    let reply = world.send_to(api, Method::GET, "/metrics", &[], "").await;
    let line = "agentflow_component_healthy{component=\"kafka\"} 0\n";
    assert!(reply.text.contains(line), "{}", reply.text);
}

#[tokio::test]
async fn requests_are_counted_by_route_template() {
    let (world, _source) = World::empty();
    world.get("/v1/metrics/a").await;
    world.get("/v1/metrics/b").await;
    world.get("/v1/nothing").await;
    world.send(Method::from_bytes(b"BREW").unwrap(), "/v1/metrics", &[], "").await;
    let reply = world.get("/metrics").await;
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let requests: Vec<&str> = reply
        .text
        .lines()
        .filter(|line| line.starts_with("agentflow_http_requests_total"))
        .collect();
    assert_eq!(
        requests,
        [
            r#"agentflow_http_requests_total{method="GET",route="/v1/metrics/{name}",status="404"} 2"#,
            r#"agentflow_http_requests_total{method="GET",route="<unmatched>",status="404"} 1"#,
            r#"agentflow_http_requests_total{method="other",route="/v1/metrics",status="405"} 1"#,
        ]
    );
    for name in
        ["pipeline_apply_seconds", "agentflow_journal_position", "agentflow_cache_requests_total"]
    {
        assert!(reply.text.contains(name), "{name} is missing:\n{}", reply.text);
    }
}

#[tokio::test]
async fn every_answer_carries_the_headers_for_browsers() {
    let (world, _source) = World::empty();
    for path in ["/v1/metrics", "/v1/nothing", "/health/live", "/metrics", "/openapi.json"] {
        let reply = world.get(path).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("x-xss-protection", "1; mode=block"),
            ("strict-transport-security", "max-age=31536000; includeSubDomains"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(reply.header(name), value, "{path}");
        }
        assert!(reply.header("x-process-time").parse::<f64>().is_ok());
    }
}
