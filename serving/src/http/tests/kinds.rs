//! Kinds of metrics on both surfaces: the domain of the page that describes them, and a sum that
//! outgrows its type.

use std::path::PathBuf;

use super::bodies::Running;
use super::support::{check_golden, masked};

const HUGE: &str = "\
kind: event
names: [grain.counted]
key: board
fields: {board: string, grains: 'decimal(38,0)'}
---
kind: metric
name: grains
from: {event: grain.counted}
measure: sum(grains)
dimensions: [board]
windows: [all]
moved_by: [grain.counted]
";

const EVENTS: &str = r#"
{"event_type":"trial.started","event_id":"t1","timestamp":"2026-03-10T10:00:00Z","user_id":"a","channel":"web"}
{"event_type":"plan.bought","event_id":"p1","timestamp":"2026-03-10T11:00:00Z","user_id":"a","channel":"shop"}
{"event_type":"trial.started","event_id":"t2","timestamp":"2026-03-10T10:30:00Z","user_id":"b","channel":"web"}
{"event_type":"trial.started","event_id":"t3","timestamp":"2026-03-10T20:30:00Z","user_id":"c","channel":"shop"}
{"event_type":"plan.bought","event_id":"p3","timestamp":"2026-03-10T21:30:00Z","user_id":"c","channel":"shop"}
{"event_type":"bike.reported","event_id":"b1","timestamp":"2026-03-09T10:00:00Z","bike_id":"A","station":"north","rented":true,"charge":80.0}
{"event_type":"bike.reported","event_id":"b2","timestamp":"2026-03-10T09:00:00Z","bike_id":"A","station":"south","rented":false,"charge":20.0}
{"event_type":"grain.counted","event_id":"g1","timestamp":"2026-03-10T09:00:00Z","board":"one","grains":99999999999999999999999999999999999999}
{"event_type":"grain.counted","event_id":"g2","timestamp":"2026-03-10T09:00:00Z","board":"two","grains":99999999999999999999999999999999999999}
"#;

async fn filled() -> Running {
    let page = include_str!("../../../../docs/metrics.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let page = blocks.collect::<Vec<_>>().join("---\n");
    let files =
        [(PathBuf::from("metrics.yaml"), page), (PathBuf::from("huge.yaml"), HUGE.to_owned())];
    let domain = contracts::load(&files).unwrap_or_else(|found| panic!("{found:#?}"));
    let running = Running::of(domain);
    let reply = running.world.post("application/x-ndjson", EVENTS).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(reply.text.contains("\"accepted\":9,"), "{}", reply.text);
    running
}

#[tokio::test]
async fn every_kind_is_read_by_its_name() {
    let running = filled().await;
    let as_of = "as_of=2026-03-10T22:00:00Z";
    for (name, path) in [
        ("kind_conversion", format!("trial_conversion?{as_of}")),
        ("kind_conversion_grouped", format!("trial_conversion?{as_of}&group_by=channel")),
        ("kind_estimate", format!("users_estimated?{as_of}")),
        ("kind_time_weighted", "mean_charge?as_of=2026-03-10T09:15:00Z".to_owned()),
        ("kind_duration", "rented_time?window=day&as_of=2026-03-10T22:00:00Z".to_owned()),
        ("kind_to_date", format!("plans_sold?window=day&{as_of}")),
        ("kind_pinned", format!("plans_per_user?{as_of}")),
        ("kind_overflow", "grains".to_owned()),
    ] {
        let path = format!("/v1/metrics/{path}");
        let reply = running.world.get(&path).await;
        let body = format!("GET {path} {}\n{}", reply.status.as_u16(), masked(reply.json()));
        check_golden(&format!("{name}.json"), &body);
    }
    let part = running.world.get("/v1/metrics/grains?filter=board:one").await.text;
    assert!(part.contains(r#""value":99999999999999999999999999999999999999,"#), "{part}");
}

#[tokio::test]
async fn several_kinds_stand_side_by_side_and_in_a_series() {
    let running = filled().await;
    for (name, query) in [
        (
            "kinds_query",
            r#"{"metrics":["trial_conversion","active_users"],"dimensions":["channel"],"window":"7d",
                "as_of":"2026-03-10T22:00:00Z"}"#,
        ),
        (
            "kinds_series",
            r#"{"metrics":["rented_time","mean_charge"],"grain":"6h",
                "from":"2026-03-09T18:00:00Z","to":"2026-03-10T12:00:00Z"}"#,
        ),
        (
            "kinds_other_zone",
            r#"{"metrics":["rented_time","plans_sold"],"window":"day","as_of":"2026-03-10T22:00:00Z"}"#,
        ),
        ("kinds_overflow", r#"{"metrics":["grains"]}"#),
    ] {
        let reply = running.world.ask("/v1/query", query).await;
        let body = format!("POST /v1/query {}\n{}", reply.status.as_u16(), masked(reply.json()));
        check_golden(&format!("{name}.json"), &body);
    }
}
