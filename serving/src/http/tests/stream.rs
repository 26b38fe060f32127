//! Streams over HTTP: heads, parameters, and that they are no requests under way.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures::StreamExt;

use super::bodies::Running;
use super::support::{World, check_golden, masked};
use crate::http::HttpOptions;

/// Reads up to the end of the frame number `count`, signs of life left out.
async fn frames(body: &mut BodyDataStream, count: usize) -> Vec<String> {
    let mut text = String::new();
    loop {
        let frames: Vec<&str> = text.split_terminator("\n\n").collect();
        let whole = if text.ends_with("\n\n") { frames.len() } else { frames.len().max(1) - 1 };
        let found: Vec<&str> =
            frames[..whole].iter().copied().filter(|frame| !frame.starts_with(':')).collect();
        if found.len() >= count {
            return found[..count].iter().map(|&frame| frame.to_owned()).collect();
        }
        let more = tokio::time::timeout(Duration::from_secs(20), body.next()).await;
        let more = more.expect("a sign of life").expect("no end").unwrap();
        text.push_str(std::str::from_utf8(&more).unwrap());
    }
}

fn data(frame: &str) -> serde_json::Value {
    let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
}

#[tokio::test]
async fn events_come_with_a_head_that_nobody_keeps() {
    let (running, _) = Running::filled().await;
    let response = running.world.open("/v1/stream/events?event_type=sale", &[]).await;
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    let mut body = response.into_body().into_data_stream();
    let all = frames(&mut body, 4).await;
    let ids: Vec<&str> = all.iter().map(|frame| frame.lines().next().unwrap()).collect();
    assert_eq!(ids, ["id: 1", "id: 2", "id: 3", "id: 4"]);
    let mut shown = data(&all[1]);
    shown["latency_ms"] = "<masked>".into();
    shown["processed_at"] = "<masked>".into();
    check_golden("stream_event.json", &masked(shown));
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event() {
    let (running, _) = Running::filled().await;
    let header = |value| [("last-event-id", value)];
    for (path, headers, first) in [
        ("/v1/stream/events", &header("2")[..], 3),
        ("/v1/stream/events?last_event_id=1", &[], 2),
        // A browser that connects again asks for the same address.
        ("/v1/stream/events?last_event_id=1", &header("3"), 4),
        ("/v1/stream/events?last_event_id=3", &header(""), 4),
        ("/v1/stream/events?entity_id=s3&last_event_id=0", &[], 3),
        ("/v1/stream/events?event_type=sale.undone", &header("0"), 4),
        ("/v1/stream/events?entity_id=s%2F2%20%C3%A9", &[], 2),
    ] {
        let response = running.world.open(path, headers).await;
        assert_eq!(response.status(), 200, "{path}");
        let frame = frames(&mut response.into_body().into_data_stream(), 1).await.remove(0);
        assert_eq!(data(&frame)["position"], first, "{path} {headers:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_what_would() {
    let (running, _) = Running::filled().await;
    let world = &running.world;
    for (path, code, detail, hint) in [
        (
            "/v1/stream/events?event_typ=sale",
            "unknown_parameter",
            "unknown query parameter `event_typ`",
            "did you mean `event_type`?",
        ),
        (
            "/v1/stream/events?event_type=sal",
            "invalid_parameter",
            "no event type, and no family of them, is called `sal`",
            "did you mean `sale`?",
        ),
        (
            "/v1/stream/events?event_type=",
            "invalid_parameter",
            "`event_type` has an empty name",
            "write it as event_type=a,b",
        ),
        ("/v1/stream/events?entity_id=", "invalid_parameter", "`entity_id` is empty", ""),
        (
            "/v1/stream/events?entity_id=1&entity_id=2",
            "invalid_parameter",
            "`entity_id` is given more than once",
            "",
        ),
        (
            "/v1/stream/events?last_event_id=5",
            "invalid_parameter",
            "position `5` is ahead of the journal, whose last one is 4",
            "it is of another data directory; connect without `Last-Event-ID`",
        ),
        (
            "/v1/metrics/takings/stream?as_of=2026-01-01",
            "unknown_parameter",
            "unknown query parameter `as_of`",
            "known: `filter`, `group_by`, `limit`, `order_by`, `other`, `version`, `window`",
        ),
        (
            "/v1/metrics/takings/stream?filter=twn:Riga",
            "invalid_parameter",
            "metric `takings` has no dimension `twn`",
            "did you mean `town`?",
        ),
    ] {
        let error = world.get(path).await.error(422, code);
        assert_eq!((&*error.0, &*error.1), (detail, hint), "{path}");
    }
    for wrong in ["-1", "+1", "1.5", "x", "99999999999999999999", "0x1"] {
        let response = world.open("/v1/stream/events", &[("last-event-id", wrong)]).await;
        assert_eq!(response.status(), 422, "{wrong}");
    }
    let twice = [("last-event-id", "1"), ("last-event-id", "2")];
    assert_eq!(world.open("/v1/stream/events", &twice).await.status(), 422);
    world.get("/v1/metrics/taking/stream").await.error(404, "not_found");
    world.get("/v1/metrics/takings/stream?version=9").await.error(404, "not_found");
}

#[tokio::test]
async fn a_metric_is_sent_as_it_is_read() {
    let (running, _) = Running::filled().await;
    let path = "/v1/metrics/takings";
    let ask = "?window=now&group_by=town";
    let response = running.world.open(&format!("{path}/stream{ask}"), &[]).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let frame = frames(&mut response.into_body().into_data_stream(), 1).await.remove(0);
    assert!(frame.starts_with("id: 4\n"), "{frame}");
    let read = running.world.get(&format!("{path}{ask}")).await.json();
    let sent = data(&frame);
    assert_eq!((&sent["groups"], &sent["computed_at"]), (&read["groups"], &read["computed_at"]));
    assert_eq!(sent["proof"]["contract"], read["proof"]["contract"]);
}

#[tokio::test]
async fn a_tenant_has_so_many_streams_and_no_more() {
    let (world, _source) = World::empty();
    let mut open = Vec::new();
    for _ in 0..5 {
        let response = world.open("/v1/stream/events", &[]).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let reply = world.get("/v1/stream/events").await;
    let (detail, hint) = reply.error(429, "rate_limited");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(detail.contains("5 streams") && hint.contains("--max-streams-per-tenant"), "{detail}");
    open.pop();
    let again = world.open("/v1/stream/events", &[]).await;
    assert_eq!(again.status(), 200);
}

#[tokio::test]
async fn a_stream_is_no_request_under_way() {
    let options = HttpOptions {
        max_concurrent_requests: 1,
        request_timeout: Duration::from_millis(50),
        ..HttpOptions::default()
    };
    let (world, _source) = World::with(options, Default::default());
    let response = world.open("/v1/stream/events", &[]).await;
    let mut body = response.into_body().into_data_stream();
    for _ in 0..2 {
        assert_eq!(world.get("/v1/metrics").await.status, 200);
        // Long after the time that a request may take.
        let next = tokio::time::timeout(Duration::from_secs(5), body.next()).await;
        assert_eq!(&*next.unwrap().unwrap().unwrap(), b": keepalive\n\n");
    }
}
