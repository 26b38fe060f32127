//! `POST /v1/events`: bytes in, outcomes out, and what happens when the pipeline does not answer.

use axum::body::Body;
use axum::http::Method;
use futures::stream;
use pipeline::batch::RawBatch;
use pipeline::outcome::{Outcome, Reason, Rejection, Stage};
use pipeline::source::http::QueueLimits;

use super::support::{World, answer_one, check_golden, masked};
use crate::http::HttpOptions;

fn accepted(batch: &RawBatch) -> Vec<Outcome> {
    (1..=batch.records.len() as i64).map(|seq| Outcome::Accepted { seq }).collect()
}

#[tokio::test]
async fn every_event_is_answered_in_order() {
    let (world, source) = World::empty();
    let pipeline = answer_one(source, |_| {
        vec![
            Outcome::Accepted { seq: 7 },
            Outcome::Duplicate { seq: 3 },
            Outcome::Rejected(Box::new(Rejection {
                ordinal: 2,
                stage: Stage::Validate,
                reason: Reason::RuleFailed,
                field: Some("total".to_owned()),
                rule: Some("total_is_the_sum".to_owned()),
                detail: "the total is 3, the items add up to 4".to_owned(),
                event_id: Some("e-3".to_owned()),
                event_type: None,
                event_time: None,
                contract: None,
            })),
            Outcome::Discarded { reason: Reason::Late },
        ]
    });
    let reply = world.post("application/json", "[{},{},{},{}]").await;
    assert_eq!(reply.status, 200);
    check_golden("events.json", &masked(reply.json()));
    pipeline.join().unwrap();
}

#[tokio::test]
async fn records_reach_the_pipeline_byte_by_byte() {
    let (world, source) = World::empty();
    let pipeline = answer_one(source, |batch| {
        let payloads: Vec<&[u8]> =
            (0..batch.records.len() as u32).map(|i| batch.payload(i)).collect();
        assert_eq!(payloads, [&b"{\"a\": 1.50, \"a\":\"\xc3\xa9\"}"[..], b"\xff\xfe", b"{"]);
        assert!(batch.records.iter().all(|r| &*r.tenant == "default" && r.tenant_fixed));
        accepted(batch)
    });
    let body = b"{\"a\": 1.50, \"a\":\"\xc3\xa9\"}\r\n\n\xff\xfe\n{".to_vec();
    let reply = world.post("application/x-ndjson; charset=utf-8", body).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["accepted"]), (200, &3.into()));
    pipeline.join().unwrap();
}

#[tokio::test]
async fn an_empty_array_is_answered_at_once() {
    let (world, _source) = World::empty();
    let reply = world.post("application/json", "[]").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["received"]), (200, &0.into()));
}

#[tokio::test]
async fn a_body_that_holds_no_events_is_400() {
    let (world, _source) = World::empty();
    for body in ["", "  \n", "[{}", "[{},]", "[1] 2"] {
        world.post("application/json", body).await.error(400, "invalid_body");
    }
    let broken = Body::from_stream(stream::iter([Ok("{\"a\":"), Err("the line went dead")]));
    world.post("application/json", broken).await.error(400, "invalid_body");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let options =
        HttpOptions { max_body_bytes: 100, max_events_per_request: 3, ..HttpOptions::default() };
    let (world, _source) = World::with(options, QueueLimits::default());
    let large = "x".repeat(101);
    world.post("application/json", large.clone()).await.error(413, "body_too_large");
    let pieces = stream::iter([Ok::<_, String>(large)]);
    let unannounced = Body::from_stream(pieces);
    let (detail, hint) =
        world.post("application/json", unannounced).await.error(413, "body_too_large");
    assert_eq!(detail, "the body has more than 100 bytes");
    assert_eq!(hint, "send the events in several requests");
    for many in ["[1,2,3,4]", "1\n2\n3\n4"] {
        let (detail, _) = world.post("", many).await.error(413, "body_too_large");
        assert_eq!(detail, "the body has more than 3 events");
    }
}

#[tokio::test]
async fn a_full_pipeline_is_503_and_takes_nothing() {
    let (world, source) =
        World::with(HttpOptions::default(), QueueLimits { requests: 1, bytes: 1 << 20 });
    let first = world.state.ingress.submit("default".into(), vec![b"{}".to_vec()], 0).unwrap();
    let reply = world.post("application/json", "{}").await;
    let (detail, _) = reply.error(503, "busy");
    assert_eq!(detail, "the pipeline is full; nothing was taken");
    assert_eq!(reply.header("retry-after"), "1");

    let pipeline = answer_one(source, accepted);
    assert_eq!(first.await.unwrap(), [Outcome::Accepted { seq: 1 }]);
    let source = pipeline.join().unwrap();
    drop(source);
    world.post("application/json", "{}").await.error(503, "busy");
}

#[tokio::test]
async fn a_pipeline_that_stops_before_the_commit_is_503() {
    let (world, source) = World::empty();
    let (reply, ()) = tokio::join!(world.post("application/json", "{}"), async { drop(source) });
    assert_eq!(reply.status, 503);
    let hint = &reply.json()["hint"];
    assert!(hint.as_str().unwrap().contains("send the same events again"), "{hint}");
}

#[tokio::test]
async fn parameters_are_refused() {
    let (world, _source) = World::empty();
    let reply = world.send(Method::POST, "/v1/events?sync=1", &[], "{}").await;
    reply.error(422, "unknown_parameter");
}
