//! Freshness by request: `after` with `wait`, and `max_staleness`.

use pipeline::store::Committed;
use serde_json::{Value, json};

use super::bodies::Running;
use super::support::Reply;
use crate::http::HttpOptions;

fn event(id: &str) -> String {
    format!(
        r#"{{"event_type":"sale.made","event_id":"{id}","timestamp":"2026-01-31T09:55:00Z","sale_id":"{id}","amount":1.5,"channel":"web","town":"Riga"}}"#
    )
}

async fn post(running: &Running, id: &str) -> i64 {
    let reply = running.world.post("application/json", event(id)).await;
    reply.json()["position"].as_i64().expect("the event has a position")
}

/// Until so many reads wait for a commit.
async fn waiting(running: &Running, readers: usize) {
    while running.world.state.pipeline.waiting() < readers {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_read_after_a_write_has_it() {
    let (running, _) = Running::filled().await;
    let position = post(&running, "n1").await;
    for path in [
        format!("/v1/metrics/takings?window=now&after={position}"),
        format!("/v1/entity/sale/n1?after={position}"),
        format!("/v1/entity/sale/n1?after=0,{position}&after=1&wait=0"),
    ] {
        let reply = running.world.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        assert!(reply.json()["proof"]["position"].as_i64() >= Some(position), "{path}");
    }
    for after in [json!(position), json!(position.to_string()), json!([position, "0"])] {
        let body = json!({"metrics": ["takings"], "window": "now", "after": after});
        let reply = running.world.ask("/v1/query", &body).await;
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_read_waits_for_what_is_not_applied_yet() {
    let (running, _) = Running::filled().await;
    let next = post(&running, "n1").await + 1;
    let query = json!({"sql": "select count(*) as n from sale", "after": next, "wait": "15s"});
    let batch = json!({"requests": [
        {"type": "entity", "params": {"entity_type": "sale", "entity_id": "n2", "after": next, "wait": "15s"}},
    ]});
    let metric = format!("/v1/metrics/takings?window=now&after={next}&wait=15s");
    let entity = format!("/v1/entity/sale/n2?after={next}&wait=15s");
    let begun = std::time::Instant::now();
    let (metric, entity, query, batch, posted) = tokio::join!(
        running.world.get(&metric),
        running.world.get(&entity),
        running.world.ask("/v1/query", &query),
        running.world.ask("/v1/batch", &batch),
        async {
            waiting(&running, 4).await;
            post(&running, "n2").await
        },
    );
    assert_eq!(posted, next);
    assert!(begun.elapsed().as_secs() < 15, "a commit wakes them");
    assert!(metric.json()["proof"]["position"].as_i64() >= Some(next), "{}", metric.text);
    assert_eq!(entity.json()["data"]["sale_id"], "n2", "{}", entity.text);
    assert_eq!(query.json()["rows"], json!([{"n": 5}]), "{}", query.text);
    assert_eq!(batch.json()["results"][0]["data"]["sale_id"], "n2", "{}", batch.text);
    assert_eq!(running.world.state.pipeline.waiting(), 0);
}

/// An answer that does not come, and what it says.
#[track_caller]
fn not_caught_up(reply: &Reply, detail: &str) {
    let (found, hint) = reply.error(409, "not_caught_up");
    assert_eq!(found, detail);
    assert!(hint.contains("longer `wait`"), "{hint}");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn when_the_time_is_over_it_says_how_far_it_is() {
    let (running, _) = Running::filled().await;
    let position = post(&running, "n1").await;
    let detail =
        format!("position 1000 is not applied: after 20ms the store is at position {position}");
    for path in [
        "/v1/metrics/takings?after=1000&wait=20ms",
        "/v1/metrics/takings?after=0,1000&wait=20ms",
        // Whether it is there is not known yet.
        "/v1/entity/sale/n7?after=1000&wait=20ms",
    ] {
        not_caught_up(&running.world.get(path).await, &detail);
    }
    let query = json!({"metrics": ["takings"], "after": 1000, "wait": "20ms"});
    not_caught_up(&running.world.ask("/v1/query", &query).await, &detail);
    let never = running.world.get("/v1/metrics/takings?after=9223372036854775807&wait=0").await;
    never.error(409, "not_caught_up");

    // Items of a batch fail alone.
    let body = json!({"requests": [
        {"id": "a", "type": "metric", "params": {"name": "takings", "after": 1000, "wait": "20ms"}},
        {"id": "b", "type": "metric", "params": {"name": "takings", "after": position}},
        {"id": "c", "type": "query", "params": {"metrics": ["takings"], "after": "x"}},
        {"id": "d", "type": "metric", "params": {"name": "takings"}},
    ]});
    let results = running.world.ask("/v1/batch", &body).await.json()["results"].clone();
    let codes: Vec<&Value> =
        results.as_array().expect("a list").iter().map(|result| &result["code"]).collect();
    assert_eq!(
        codes,
        ["not_caught_up", "", "invalid_parameter", ""]
            .map(|code| match code {
                "" => Value::Null,
                code => json!(code),
            })
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(results[0]["error"], detail);
}

#[tokio::test]
async fn records_of_topics_are_positions_too() {
    let (running, _) = Running::filled().await;
    let pipeline = &running.world.state.pipeline;
    let told = |next| Committed {
        offsets: vec![("kafka:sales.raw/3".to_owned(), next)],
        ..Committed::default()
    };
    let path = "/v1/metrics/takings?window=now&wait=20ms&after=sales.raw:3";
    not_caught_up(
        &running.world.get(&format!("{path}:0")).await,
        "record sales.raw:3:0 is not applied: after 20ms nothing of its partition is",
    );
    pipeline.committed(&told(8));
    for (offset, status) in [(0, 200), (7, 200), (8, 409)] {
        assert_eq!(running.world.get(&format!("{path}:{offset}")).await.status, status, "{offset}");
    }
    not_caught_up(
        &running.world.get(&format!("{path}:12")).await,
        "record sales.raw:3:12 is not applied: after 20ms its partition is at offset 7",
    );
    let waits = format!("{}:8", path.replace("20ms", "15s"));
    let (reply, ()) = tokio::join!(running.world.get(&waits), async {
        waiting(&running, 1).await;
        // A commit of something else wakes it for nothing.
        pipeline.committed(&Committed::default());
        pipeline.committed(&told(9));
    });
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn who_waits_takes_no_place() {
    let options = HttpOptions { max_concurrent_requests: 1, ..HttpOptions::default() };
    let running = Running::empty_with(options);
    let next = post(&running, "n1").await + 1;
    let path = format!("/v1/metrics/takings?window=now&wait=15s&after={next}");
    let (first, second, ()) =
        tokio::join!(running.world.get(&path), running.world.get(&path), async {
            waiting(&running, 2).await;
            assert_eq!(running.world.get("/v1/metrics").await.status, 200);
            assert_eq!(post(&running, "n2").await, next);
        });
    for reply in [first, second] {
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert_eq!(running.world.get("/v1/metrics").await.status, 200);
}

#[tokio::test]
async fn what_is_no_position_and_no_duration_is_named() {
    let (running, _) = Running::filled().await;
    let long = "9".repeat(500);
    for (asked, code, detail) in [
        ("after=", "invalid_parameter", "`after` is not a position: ``"),
        ("after=-1", "invalid_parameter", "`after` is not a position: `-1`"),
        ("after=%2B1", "invalid_parameter", "not a position: `+1`"),
        ("after=1.5", "invalid_parameter", "not a position"),
        ("after=NaN", "invalid_parameter", "not a position"),
        ("after=1,,2", "invalid_parameter", "not a position: ``"),
        ("after=9223372036854775808", "invalid_parameter", "not a position"),
        (&format!("after={long}"), "invalid_parameter", "not a position: `9999"),
        ("after=a:1", "invalid_parameter", "not a position: `a:1`"),
        ("after=:0:1", "invalid_parameter", "not a position"),
        ("after=a:-1:1", "invalid_parameter", "not a position"),
        ("after=a:0:-1", "invalid_parameter", "not a position"),
        ("after=a:0:9223372036854775808", "invalid_parameter", "not a position"),
        ("after=a:2147483648:0", "invalid_parameter", "not a position"),
        ("after=a%20b:0:1", "invalid_parameter", "not a position"),
        (&format!("after={}:0:1", "t".repeat(250)), "invalid_parameter", "not a position"),
        (&format!("after={}", vec!["0"; 101].join(",")), "invalid_parameter", "101 positions"),
        ("wait=1s", "invalid_parameter", "there is no `after`"),
        ("after=0&wait=1s&wait=1s", "invalid_parameter", "`wait` is given more than once"),
        ("after=0&wait=", "invalid_parameter", "`wait` is not a duration: ``"),
        ("after=0&wait=5", "invalid_parameter", "`wait` is not a duration: `5`"),
        ("after=0&wait=-1s", "invalid_parameter", "`wait` is not a duration"),
        ("after=0&wait=1.5s", "invalid_parameter", "`wait` is not a duration"),
        ("after=0&wait=NaN", "invalid_parameter", "`wait` is not a duration"),
        ("after=0&wait=21s", "invalid_parameter", "`wait` must be at most 20s, not 21s"),
        ("after=0&wait=99999999999999999999s", "invalid_parameter", "not a duration"),
        ("max_staleness=", "invalid_parameter", "`max_staleness` is not a duration: ``"),
        ("max_staleness=-1s", "invalid_parameter", "`max_staleness` is not a duration"),
        ("max_staleness=soon", "invalid_parameter", "`max_staleness` is not a duration"),
        ("max_staleness=1s&max_staleness=1s", "invalid_parameter", "more than once"),
        ("afer=1", "unknown_parameter", "`afer`"),
    ] {
        let reply = running.world.get(&format!("/v1/metrics/takings?{asked}")).await;
        let (found, _) = reply.error(422, code);
        assert!(found.contains(detail), "{asked}: {found}");
    }
    for (members, detail) in [
        (json!({"after": true}), "`after` must be a text, a number or a list of them, not `true`"),
        (json!({"after": [[1]]}), "`after` must be"),
        (json!({"after": {"a": 1}}), "`after` must be"),
        (json!({"after": -1}), "`after` is not a position: `-1`"),
        (json!({"after": 1.5}), "`after` is not a position: `1.5`"),
        (json!({"after": 0, "wait": 5}), "`wait` must be a duration"),
        (json!({"after": 0, "wait": "21s"}), "`wait` must be at most 20s"),
        (json!({"wait": "1s"}), "there is no `after`"),
        (json!({"max_staleness": 7}), "`max_staleness` must be a duration"),
        (json!({"max_staleness": "7"}), "`max_staleness` is not a duration: `7`"),
    ] {
        let mut body = json!({"metrics": ["takings"]});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let (found, _) =
            running.world.ask("/v1/query", &body).await.error(422, "invalid_parameter");
        assert!(found.contains(detail), "{body}: {found}");
    }
    // Who may not ask learns it before anything is waited for.
    running.world.get("/v1/metrics/nothing?after=1000&wait=0").await.error(404, "not_found");
}

#[tokio::test]
async fn an_answer_may_be_as_old_as_the_reader_says() {
    let (running, _) = Running::filled().await;
    let world = &running.world;
    let path = "/v1/metrics/takings?window=now";
    assert_eq!(world.get(path).await.header("x-cache"), "MISS");
    let anew = world.get(&format!("{path}&max_staleness=0")).await;
    assert_eq!((anew.header("x-cache"), &anew.json()["proof"]["age_ms"]), ("MISS", &json!(0.0)));
    let before = world.get(path).await.json();
    post(&running, "n1").await;
    let old = world.get(&format!("{path}&max_staleness=10m")).await;
    assert_eq!(old.header("x-cache"), "HIT", "the contract allows an hour");
    assert_eq!(old.json()["proof"]["position"], before["proof"]["position"]);
    assert_eq!(world.get(path).await.header("x-cache"), "MISS");
    let body = json!({"metrics": ["takings"], "window": "now", "max_staleness": "10m"});
    assert_eq!(world.ask("/v1/query", &body).await.json()["proof"][0]["cached"], true);
    let body = json!({"metrics": ["takings"], "window": "now", "max_staleness": 0});
    assert_eq!(world.ask("/v1/query", &body).await.json()["proof"][0]["cached"], false);
}
