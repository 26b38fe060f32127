//! What an entity was made of.

use serde_json::Value;

use super::bodies::Running;
use super::support::{check_golden, masked};

/// Times of applying differ from run to run.
fn settled(mut body: Value) -> String {
    for step in body["lineage"].as_array_mut().into_iter().flatten() {
        if !step["processed_at"].is_null() {
            step["processed_at"] = "<masked>".into();
        }
    }
    masked(body)
}

#[tokio::test]
async fn an_entity_tells_the_events_that_are_in_it() {
    let (running, _) = Running::filled().await;
    for (name, path) in [
        ("lineage_entity", "/v1/lineage/sale/s3"),
        ("lineage_entity_encoded", "/v1/lineage/sale/s%2F2%20%C3%A9"),
        ("lineage_entity_missing", "/v1/lineage/sale/s99"),
        ("lineage_entity_type_missing", "/v1/lineage/sail/s3"),
    ] {
        let reply = running.world.get(path).await;
        let body = format!("GET {path} {}\n{}", reply.status.as_u16(), settled(reply.json()));
        check_golden(&format!("{name}.json"), &body);
    }
    running.world.get("/v1/lineage/sale/s3?as_of=1").await.error(422, "unknown_parameter");
}

#[tokio::test]
async fn the_newest_are_shown_and_all_are_counted() {
    let (running, _) = Running::filled().await;
    let lines: Vec<String> = (0..60)
        .map(|n| {
            format!(
                r#"{{"event_type":"sale.made","event_id":"m{n}","timestamp":"2026-01-31T10:00:00Z","sale_id":"many","amount":{n},"channel":"web"}}"#
            )
        })
        .collect();
    // In two commits, each with its own time.
    for lines in lines.chunks(30) {
        let reply = running.world.post("application/x-ndjson", lines.join("\n")).await;
        assert_eq!(reply.json()["accepted"], 30, "{}", reply.text);
    }
    let reply = running.world.get("/v1/lineage/sale/many").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    assert_eq!((&body["events_total"], &body["position"]), (&60.into(), &64.into()));
    let events = body["events"].as_array().unwrap();
    let positions: Vec<i64> = events.iter().map(|e| e["position"].as_i64().unwrap()).collect();
    assert_eq!(positions, (15..=64).rev().collect::<Vec<_>>());
    let mut times: Vec<&str> = events.iter().map(|e| e["applied_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b));
    times.dedup();
    assert_eq!(times.len(), 2);
}
