//! `POST /v1/query`, `/v1/query/explain` and `/v1/batch`, over the store of [`super::bodies`].

use serde_json::{Value, json};

use super::bodies::Running;
use super::support::{Reply, check_golden, masked};

const MORNING: [&str; 2] = ["2026-01-31T09:00:00Z", "2026-01-31T10:00:00Z"];

async fn ask(running: &Running, body: Value) -> Reply {
    running.world.ask("/v1/query", body).await
}

async fn check(running: &Running, name: &str, path: &str, body: Value) {
    let reply = running.world.ask(path, &body).await;
    let text = format!("POST {path} {body} {}\n{}", reply.status.as_u16(), masked(reply.json()));
    check_golden(&format!("{name}.json"), &text);
}

#[tokio::test]
async fn queries_are_answered_with_rows_and_proof() {
    let (running, _) = Running::filled().await;
    let [from, to] = MORNING;
    for (name, body) in [
        (
            "metrics",
            json!({"metrics": ["takings", "sales", "average_sale"], "from": from, "to": to}),
        ),
        (
            "metrics_grouped",
            json!({"metrics": ["takings", "sales"], "dimensions": ["town"], "from": from, "to": to,
                "order_by": ["takings desc"], "limit": 2}),
        ),
        (
            "metrics_series",
            json!({"metrics": ["takings", "sales"], "from": from, "to": to, "grain": "15m"}),
        ),
        (
            "metrics_as_of",
            json!({"metrics": ["takings"], "window": "1h", "filters": {"town": "Riga"}, "as_of": to}),
        ),
        ("sql", json!({"sql": "select sale_id, amount, town, made_at from sale order by sale_id"})),
        (
            "sql_events",
            json!({"sql": "select event_type, count(*) as n, sum(amount) as total from sale_events \
                           group by 1 order by 1", "contract_version": "sale:v1"}),
        ),
    ] {
        check(&running, &format!("query_{name}"), "/v1/query", body).await;
    }
}

#[tokio::test]
async fn what_a_query_would_do_is_explained() {
    let (running, _) = Running::filled().await;
    let [from, to] = MORNING;
    for (name, body) in [
        ("sql", json!({"sql": "select town, count(*) from sale group by 1"})),
        ("metrics", json!({"metrics": ["average_sale"], "from": from, "to": to, "grain": "30m"})),
    ] {
        check(&running, &format!("explain_{name}"), "/v1/query/explain", body).await;
    }
}

#[tokio::test]
async fn pages_follow_their_cursor_and_no_other() {
    let (running, _) = Running::filled().await;
    let asked = json!({"sql": "select sale_id from sale order by sale_id", "limit": 2});
    let first = ask(&running, asked.clone()).await.json();
    assert_eq!(
        (&first["has_more"], &first["total_count"], &first["page_size"]),
        (&json!(true), &json!(3), &json!(2))
    );
    assert_eq!(first["metadata"]["next_cursor"], first["next_cursor"]);
    assert_eq!(first["answer"], first["rows"]);
    let with = |body: &Value, cursor: &Value| {
        let mut body = body.clone();
        body["cursor"] = cursor.clone();
        body
    };
    let second = ask(&running, with(&asked, &first["next_cursor"])).await.json();
    assert_eq!(second["rows"], json!([{"sale_id": "s3"}]));
    assert_eq!((&second["has_more"], &second["next_cursor"]), (&json!(false), &Value::Null));

    let other = json!({"sql": "select sale_id from sale order by sale_id desc", "limit": 2});
    for body in [
        with(&other, &first["next_cursor"]),
        with(&asked, &json!("nonsense")),
        with(&json!({"metrics": ["sales"]}), &first["next_cursor"]),
    ] {
        ask(&running, body).await.error(400, "invalid_cursor");
    }
    // Metrics turn pages too.
    let [from, to] = MORNING;
    let asked = json!({"metrics": ["sales"], "from": from, "to": to, "grain": "10m", "limit": 4});
    let first = ask(&running, asked.clone()).await.json();
    assert_eq!((&first["has_more"], &first["total_count"]), (&json!(true), &json!(6)));
    let second = ask(&running, with(&asked, &first["next_cursor"])).await.json();
    assert_eq!(second["rows"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_does_not_fit_is_named() {
    let (running, _) = Running::filled().await;
    let [from, to] = MORNING;
    for (body, status, code, detail) in [
        (json!({}), 422, "invalid_parameter", "missing"),
        (
            json!({"sql": "select 1", "metrics": ["sales"]}),
            422,
            "invalid_parameter",
            "exclude each other",
        ),
        (json!({"sql": 7}), 422, "invalid_parameter", "`sql` must be a text, not `7`"),
        (json!({"sql": "select 1", "limit": 0}), 422, "invalid_parameter", "`limit` must be"),
        (json!({"sql": "select 1", "limit": 1001}), 422, "invalid_parameter", "`limit` must be"),
        (json!({"sql": "select 1", "limit": "x"}), 422, "invalid_parameter", "`limit` must be"),
        (json!({"sql": "select 1", "cursor": 5}), 422, "invalid_parameter", "`cursor` must be"),
        (json!({"sql": "selct 1"}), 400, "invalid_query", "this is no SQL"),
        (json!({"sql": "select nothing from sale"}), 400, "invalid_query", "nothing"),
        (json!({"sql": "drop table sale"}), 403, "query_refused", "only `select`"),
        (json!({"sql": "select * from dead_letters"}), 403, "query_refused", "`dead_letters`"),
        (json!({"sql": "select read_text('/etc/passwd')"}), 403, "query_refused", "`read_text`"),
        (json!({"metrics": []}), 422, "invalid_parameter", "metrics"),
        (json!({"metrics": ["takngs"]}), 404, "not_found", "`takngs`"),
        (json!({"metrics": ["sales", "sales"]}), 422, "invalid_parameter", "twice"),
        (json!({"metrics": ["sales"], "window": "2h"}), 422, "invalid_parameter", "`2h`"),
        (
            json!({"metrics": ["sales"], "dimensions": ["large"]}),
            422,
            "invalid_parameter",
            "`large`",
        ),
        (json!({"metrics": ["sales"], "filters": [1]}), 422, "invalid_parameter", "`filters`"),
        (
            json!({"metrics": ["sales"], "window": "1h", "from": from}),
            422,
            "invalid_parameter",
            "exclude",
        ),
        (json!({"metrics": ["sales"], "to": to}), 422, "invalid_parameter", "`from`"),
        (
            json!({"metrics": ["sales"], "from": to, "to": from}),
            422,
            "invalid_parameter",
            "no span",
        ),
        (
            json!({"metrics": ["sales"], "from": "soon"}),
            422,
            "invalid_parameter",
            "`from` must be a time",
        ),
        (json!({"metrics": ["sales"], "grain": "1h"}), 422, "invalid_parameter", "`grain` needs"),
        (
            json!({"metrics": ["sales"], "window": "1h", "grain": "x"}),
            422,
            "invalid_parameter",
            "`x`",
        ),
        (
            json!({"metrics": ["sales"], "from": from, "to": to, "grain": "1s"}),
            422,
            "invalid_parameter",
            "500",
        ),
        (
            json!({"metrics": ["takings"], "window": "now", "grain": "1h"}),
            422,
            "invalid_parameter",
            "could be cut",
        ),
        (
            json!({"metrics": ["sales"], "order_by": ["town"]}),
            422,
            "invalid_parameter",
            "`order_by`",
        ),
        (json!({"metrics": ["sales"], "as_of": "2999-01-01"}), 422, "invalid_parameter", "future"),
    ] {
        let (found, _) = ask(&running, body.clone()).await.error(status, code);
        assert!(found.contains(detail), "{body}: {found}");
    }
    for (body, status) in [("{", 400), ("[]", 400), ("7", 400), ("", 400), ("\u{0}", 400)] {
        let reply = running.world.ask("/v1/query", body).await;
        reply.error(status, "invalid_body");
    }
    let big = format!("{{\"sql\": \"{}\"}}", "x".repeat(2 << 20));
    running.world.ask("/v1/query", big).await.error(413, "body_too_large");
}

#[tokio::test]
async fn a_batch_answers_each_item_as_its_route_does() {
    let (running, _) = Running::filled().await;
    let as_of = MORNING[1];
    let body = json!({"requests": [
        {"id": "a", "type": "entity", "params": {"entity_type": "sale", "entity_id": "s1"}},
        {"id": "b", "type": "metric", "params": {"name": "takings", "window": "1h", "as_of": as_of}},
        {"id": "c", "type": "metric", "params": {"name": "takings", "window": "2h"}},
        {"id": "d", "type": "entity", "params": {"entity_type": "sale", "entity_id": "s99"}},
        {"id": "e", "type": "query", "params": {"sql": "select count(*) as n from sale"}},
        {"type": "query", "params": {"sql": "select * from meta"}},
        {"id": "g", "type": "metric", "params": {"name": "takings", "as_of": as_of,
            "filters": {"town": "Riga"}, "group_by": ["town"]}},
        {"id": "h", "type": "entity", "params": {"entity_type": "sale"}},
    ]});
    check(&running, "batch", "/v1/batch", body).await;

    let item = json!({"id": "a", "type": "metric", "params": {"name": "takings"}});
    for (requests, detail) in [
        (json!([]), "`requests` must be a list of 1 to 20 entries, not 0"),
        (json!(vec![item.clone(); 21]), "not 21"),
        (json!({"a": 1}), "`requests` must be"),
        (json!([7]), "`requests[0]` must be an object"),
        (
            json!([item, {"id": "b", "type": "stream", "params": {}}]),
            "`requests[1].type` is `stream`",
        ),
        (json!([{"id": "b", "params": {}}]), "`requests[0].type` is missing"),
        (json!([{"id": 5, "type": "metric"}]), "`requests[0].id` must be a text"),
        (
            json!([{"id": "b", "type": "metric", "params": []}]),
            "`requests[0].params` must be an object",
        ),
    ] {
        let reply = running.world.ask("/v1/batch", json!({"requests": requests})).await;
        let (found, _) = reply.error(422, "invalid_parameter");
        assert!(found.contains(detail), "{requests}: {found}");
    }
    running.world.ask("/v1/batch", json!({})).await.error(422, "invalid_parameter");
}
