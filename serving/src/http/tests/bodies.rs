//! The bodies of every route, over a real store that a real pipeline filled from posted events.

use std::thread::JoinHandle;

use axum::http::Method;
use pipeline::runner::{Runner, RunnerOptions, Stop};

use super::support::{Reply, World, check_golden, masked};
use crate::http::HttpOptions;

const EVENTS: &str = r#"
{"event_type":"sale.made","event_id":"e1","timestamp":"2026-01-31T09:10:00Z","sale_id":"s1","amount":12345678901234567.89,"channel":"web","town":"Riga"}
{"event_type":"sale.made","event_id":"e2","timestamp":"2026-01-31T09:20:00Z","sale_id":"s/2 é","amount":0.11,"channel":"shop","town":"Tartu"}
{"event_type":"sale.made","event_id":"e3","timestamp":"2026-01-31T09:30:00Z","sale_id":"s3","amount":5.00,"channel":"shop"}
{"event_type":"sale.made","event_id":"e1","timestamp":"2026-01-31T09:10:00Z","sale_id":"s1","amount":12345678901234567.89,"channel":"web","town":"Riga"}
{"event_type":"sale.made","event_id":"e4","timestamp":"2026-01-31T09:40:00Z","sale_id":"s4","amount":-1,"channel":"shop"}
{"event_type":"sale.undone","event_id":"e5","timestamp":"2026-01-31T09:50:00Z","sale_id":"s3","amount":5.00,"channel":"shop"}
{"event_type":"sale.lost","event_id":"e6","timestamp":"2026-01-31T09:51:00Z","sale_id":"s1"}
{broken
"#;

/// An API whose pipeline runs.
pub(super) struct Running {
    pub(super) world: World,
    stop: Stop,
    pipeline: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        Self::empty_with(HttpOptions::default())
    }

    /// With nothing in it yet.
    pub(super) fn empty_with(options: HttpOptions) -> Self {
        let file = ("sales/contracts.yaml".into(), include_str!("contracts.yaml").to_owned());
        let domain = contracts::load(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        Self::of_with(domain, options)
    }

    /// Of a domain, with nothing in it yet.
    pub(super) fn of(domain: contracts::model::Domain) -> Self {
        Self::of_with(domain, HttpOptions::default())
    }

    fn of_with(domain: contracts::model::Domain, options: HttpOptions) -> Self {
        let (world, source) = World::of(domain, options, Default::default());
        let state = world.state.clone();
        let options = RunnerOptions {
            on_commit: Some(Box::new(move |committed| {
                state.cache.committed(committed);
                state.streams.committed(committed);
                state.pipeline.committed(committed);
                state.telemetry.committed(&state.domain, committed, pipeline::clock::now());
            })),
            ..Default::default()
        };
        let writer = Box::new(world.store.writer().unwrap());
        let mut runner = Runner::new(world.state.domain.clone(), writer, options).unwrap();
        runner.add_source(Box::new(source)).unwrap();
        let stop = Stop::default();
        let stopped = stop.clone();
        let pipeline = std::thread::spawn(move || {
            runner.run(&stopped).unwrap();
        });
        Self { world, stop, pipeline: Some(pipeline) }
    }

    /// With [`EVENTS`] and a line that is not UTF-8 applied.
    pub(super) async fn filled() -> (Self, Reply) {
        let running = Self::start();
        let body = [EVENTS.as_bytes(), b"\xff\xfe\n"].concat();
        let reply = running.world.post("application/x-ndjson", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        (running, reply)
    }

    async fn check(&self, name: &str, path: &str) -> Reply {
        let reply = self.world.get(path).await;
        let body = format!("GET {path} {}\n{}", reply.status.as_u16(), masked(reply.json()));
        check_golden(name, &body);
        reply
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(pipeline) = self.pipeline.take() {
            let _ = pipeline.join();
        }
    }
}

#[tokio::test]
async fn posted_events_are_answered_one_by_one() {
    let (_running, reply) = Running::filled().await;
    check_golden("events_applied.json", &masked(reply.json()));
}

#[tokio::test]
async fn metrics_are_read_with_their_proof() {
    let (running, _) = Running::filled().await;
    let as_of = "as_of=2026-01-31T10:00:00Z";
    for (name, path) in [
        ("metric", format!("/v1/metrics/takings?{as_of}")),
        ("metric_filtered", format!("/v1/metrics/takings?window=24h&{as_of}&filter=town:Riga")),
        ("metric_grouped", format!("/v1/metrics/takings?window=24h&{as_of}&group_by=town,large")),
        ("metric_of_metrics", format!("/v1/metrics/average_sale?{as_of}")),
        ("metric_empty", "/v1/metrics/average_sale?as_of=2026-01-01".to_owned()),
        (
            "metric_before_undone",
            "/v1/metrics/takings?as_of=2026-01-31T09:45:00%2B00:00".to_owned(),
        ),
    ] {
        running.check(&format!("{name}.json"), &path).await;
    }
}

#[tokio::test]
async fn numbers_keep_all_their_digits() {
    let (running, _) = Running::filled().await;
    let reply = running.world.get("/v1/metrics/takings?window=now").await;
    assert!(reply.text.contains(r#""value":12345678901234568.00,"#), "{}", reply.text);
    let reply = running.world.get("/v1/entity/sale/s1").await;
    assert!(reply.text.contains(r#""amount":12345678901234567.89,"#), "{}", reply.text);
}

#[tokio::test]
async fn the_cache_says_hit_until_an_event_moves_the_metric() {
    let (running, _) = Running::filled().await;
    let world = &running.world;
    let path = "/v1/metrics/takings?window=now";
    let first = running.check("metric_live.json", path).await;
    assert_eq!(first.header("x-cache"), "MISS");
    let second = world.get(path).await;
    assert_eq!(second.header("x-cache"), "HIT");
    assert_eq!(second.json()["proof"]["cached"], true);
    assert_eq!(second.json()["computed_at"], first.json()["computed_at"]);

    let event = r#"{"event_type":"sale.made","event_id":"e9","timestamp":"2026-01-31T09:55:00Z","sale_id":"s9","amount":1.5,"channel":"web"}"#;
    let posted = world.post("application/json", event).await.json();
    let third = world.get(path).await;
    assert_eq!(third.header("x-cache"), "MISS");
    assert!(third.text.contains(r#""value":12345678901234569.50,"#), "{}", third.text);
    assert_eq!(third.json()["proof"]["position"], posted["position"]);
}

#[tokio::test]
async fn entities_are_read_now_and_as_of_a_time() {
    let (running, _) = Running::filled().await;
    let reply = running.check("entity.json", "/v1/entity/sale/s3").await;
    assert_eq!(reply.header("x-cache"), "MISS");
    assert_eq!(running.world.get("/v1/entity/sale/s3").await.header("x-cache"), "HIT");
    running.check("entity_as_of.json", "/v1/entity/sale/s3?as_of=2026-01-31T09:45:00Z").await;
    running.check("entity_encoded.json", "/v1/entity/sale/s%2F2%20%C3%A9").await;
    running.check("entity_missing.json", "/v1/entity/sale/s99").await;
    running.check("entity_not_yet.json", "/v1/entity/sale/s3?as_of=2026-01-31").await;
    running.check("entity_type_missing.json", "/v1/entity/sail/s3").await;
}

#[tokio::test]
async fn a_timeline_tells_stages_events_what_belongs_to_it_and_what_went_wrong() {
    let (running, _) = Running::filled().await;
    running.check("timeline.json", "/v1/entity/sale/s3/timeline").await;
    running.check("timeline_with_place.json", "/v1/entity/sale/s1/timeline").await;
    // Its only record was rejected, so it is not there; a sale that was rejected once is.
    running.check("timeline_missing.json", "/v1/entity/sale/s4/timeline").await;
    let event = r#"{"event_type":"sale.made","event_id":"e4b","timestamp":"2026-01-31T09:41:00Z","sale_id":"s4","amount":1,"channel":"shop"}"#;
    running.world.post("application/json", event).await;
    let body = running.world.get("/v1/entity/sale/s4/timeline").await.json();
    assert_eq!(body["exceptions"].as_array().unwrap().len(), 1, "{body}");
    assert_eq!(body["exceptions"][0]["event_id"], "e4");
    assert_eq!(body["exceptions"][0]["failure_reason"], "out_of_range");
    // An entity over an entity: the events of the sales that ever were there.
    let body = running.world.get("/v1/entity/town/Tartu/timeline").await.json();
    assert_eq!((&body["town"]["sales"], &body["stage"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(body["pipeline_trail"][0]["event_id"], "e2", "{body}");
}

#[tokio::test]
async fn entities_fields_and_metrics_are_found_by_words() {
    let (running, _) = Running::filled().await;
    running.check("search.json", "/v1/search?q=takings%20of%20riga").await;
    let first = running.world.get("/v1/search?q=tartu&limit=1&entity_types=sale").await.json();
    assert_eq!(first["results"][0]["endpoint"], "/v1/entity/sale/s%2F2%20%C3%A9", "{first}");
    assert_eq!(first["results"].as_array().unwrap().len(), 1);
    // Both forms of a list.
    for types in ["entity_types=sale,town", "entity_types=sale&entity_types=town"] {
        let found = running.world.get(&format!("/v1/search?q=tartu&{types}")).await.json();
        let kinds: Vec<&str> = found["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["entity_type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["town", "sale"], "{found}");
    }
    // A row that has gone is not shown.
    let event = r#"{"event_type":"sale.undone","event_id":"e8","timestamp":"2026-01-31T09:59:00Z","sale_id":"s1","amount":1,"channel":"web","town":"Tartu"}"#;
    running.world.post("application/json", event).await;
    let found = running.world.get("/v1/search?q=riga").await.json();
    assert_eq!(found["results"], serde_json::json!([]), "{found}");
    for (query, detail) in [
        ("", "`q` is missing"),
        ("?q=a", "`q` must have from 2 to 256 characters, not 1"),
        ("?q=ab&limit=0", "`limit` must be a whole number from 1 to 50, not `0`"),
        ("?q=ab&limit=51", "`limit` must be a whole number from 1 to 50, not `51`"),
        ("?q=ab&entity_types=", "`entity_types` names no entity type"),
        ("?q=ab&entity_types=sail", "`entity_types` names no entity type: `sail`"),
        ("?q=ab&q=cd", "`q` is given more than once"),
    ] {
        let reply = running.world.get(&format!("/v1/search{query}")).await;
        assert_eq!(reply.error(422, "invalid_parameter").0, detail);
    }
}

#[tokio::test]
async fn a_body_is_as_old_as_the_version_that_is_asked_for() {
    let (running, _) = Running::filled().await;
    for path in ["/v1/metrics/takings?window=now", "/v1/entity/sale/s1"] {
        let mut members = Vec::new();
        for version in ["2026-01-01", "2026-04-11", "2026-11-21"] {
            let headers = [("x-agentflow-version", version)];
            let reply = running.world.send(Method::GET, path, &headers, "").await;
            let body = reply.json();
            assert_eq!(reply.header("content-length"), reply.text.len().to_string());
            assert_eq!(reply.header("vary"), "x-agentflow-version");
            members
                .push((body["meta"].get("is_historical").is_some(), body.get("proof").is_some()));
            assert!(reply.text.contains("12345678901234567.89") || path.contains("metrics"));
        }
        assert_eq!(members, [(false, false), (true, false), (true, true)], "{path}");
    }
}

#[tokio::test]
async fn what_the_caller_has_already_is_not_sent_again() {
    let (running, _) = Running::filled().await;
    let world = &running.world;
    let again = async |path: &str, tag: &str| {
        world.send(Method::GET, path, &[("if-none-match", tag)], "").await
    };
    for path in [
        "/v1/metrics/takings?window=now",
        "/v1/entity/sale/s1",
        "/v1/metrics",
        "/v1/catalog",
        "/v1/changelog",
        "/v1/contracts",
        "/v1/contracts/sale",
        "/v1/contracts/visit/1",
        "/v1/contracts/visit/diff/1/2",
    ] {
        let first = world.get(path).await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        assert_eq!(first.header("cache-control"), "private, no-cache", "{path}");
        let second = again(path, &tag).await;
        assert_eq!((second.status.as_u16(), &*second.text), (304, ""), "{path}");
        assert_eq!(
            (second.header("etag"), second.header("cache-control")),
            (&*tag, "private, no-cache")
        );
        assert_eq!(again(path, "W/\"0\"").await.status, 200, "{path}");
    }
    let metric = world.get("/v1/metrics/takings?window=now").await.header("etag").to_owned();
    let sale = world.get("/v1/entity/sale/s1").await.header("etag").to_owned();
    let other = world.get("/v1/metrics/takings?window=24h").await;
    assert_ne!(other.header("etag"), metric);
    // In another version of the API it is another body.
    let older = [("x-agentflow-version", "2026-01-01"), ("if-none-match", &*metric)];
    let path = "/v1/metrics/takings?window=now";
    let older = world.send(Method::GET, path, &older, "").await;
    assert_eq!(older.status.as_u16(), 200);
    assert_ne!(older.header("etag"), metric);

    // Something happened, but not to this sale.
    let event = r#"{"event_type":"sale.made","event_id":"e9","timestamp":"2026-01-31T09:55:00Z","sale_id":"s9","amount":1.5,"channel":"web"}"#;
    world.post("application/json", event).await;
    assert_eq!(again("/v1/metrics/takings?window=now", &metric).await.status, 200);
    assert_eq!(again("/v1/entity/sale/s1", &sale).await.status, 304);
    let event = r#"{"event_type":"sale.undone","event_id":"e10","timestamp":"2026-01-31T09:56:00Z","sale_id":"s1","amount":1.5,"channel":"web"}"#;
    world.post("application/json", event).await;
    assert_eq!(again("/v1/entity/sale/s1", &sale).await.status, 200);
}

#[tokio::test]
async fn contracts_that_share_a_name_are_told_apart() {
    let (running, _) = Running::filled().await;
    let world = &running.world;
    let kind = async |path: &str| world.get(path).await.json()["kind"].clone();
    assert_eq!(kind("/v1/contracts/sale").await, "entity");
    for named in ["entity", "event"] {
        assert_eq!(kind(&format!("/v1/contracts/sale?kind={named}")).await, *named);
        assert_eq!(kind(&format!("/v1/contracts/sale/1?kind={named}")).await, *named);
    }
    let (detail, _) = world.get("/v1/contracts/sale?kind=metric").await.error(404, "not_found");
    assert_eq!(detail, "no contract of kind `metric` is named `sale`");
    let (detail, _) =
        world.get("/v1/contracts/sale?kind=table").await.error(422, "invalid_parameter");
    assert_eq!(detail, "`kind` must be `entity`, `event` or `metric`, not `table`");
    // Each that is listed can be read.
    let listed = world.get("/v1/contracts").await.json();
    for contract in listed["contracts"].as_array().unwrap() {
        let text = |name: &str| contract[name].as_str().unwrap();
        let (name, version, kind) = (text("entity"), text("version"), text("kind"));
        let path = format!("/v1/contracts/{name}/{version}?kind={kind}");
        let body = world.get(&path).await.json();
        assert_eq!((&body["kind"], &body["version"]), (&contract["kind"], &contract["version"]));
    }
}

#[tokio::test]
async fn a_contract_that_may_come_is_judged_in_both_forms() {
    let (running, _) = Running::filled().await;
    let send = async |name: &str, content_type: &str, body: &str| {
        let path = format!("/v1/contracts/{name}/validate");
        let headers = [("content-type", content_type)];
        running.world.send(Method::POST, &path, &headers, body.to_owned()).await
    };
    let json = "application/json";
    let fields = r#"{"fields": [
        {"name": "visit_id", "type": "string", "required": true, "description": "new words"},
        {"name": "page", "type": "float", "required": true},
        {"name": "device", "type": "enum", "required": false, "values": ["phone"]},
        {"name": "seen", "type": "string", "required": true, "default": "no"},
        {"name": "at", "type": "datetime", "required": true}
    ], "anything": 1}"#;
    let reply = send("visit", json, fields).await;
    check_golden("contract_validated.json", &masked(reply.json()));
    for (version, bump) in [("", true), ("\"version\": \"v2\",", true), ("\"version\": 3,", false)]
    {
        let body = fields.replacen('{', &format!("{{{version}"), 1);
        let body = send("visit", json, &body).await.json();
        assert_eq!(body["requires_version_bump"], bump, "{version}: {body}");
        assert_eq!(body["is_breaking"], true);
    }
    // A metric, and nothing that changes.
    let body = r#"{"entity": "metric.takings", "fields": [{"name": "value", "type": "float", "required": true}]}"#;
    let body = send("metric.takings", json, body).await.json();
    assert_eq!(body["breaking_changes"].as_array().unwrap().len(), 3, "{body}");

    // As it stands in a file: checked in full, beside the others.
    let yaml = "kind: event\nname: visit\nnames: [visit.seen]\nversion: 3\nfields: {visit_id: string, page: string, device: string}\n";
    let reply = send("visit", "application/yaml", yaml).await.json();
    assert_eq!(
        (&reply["candidate_version"], &reply["is_breaking"]),
        (&"3".into(), &true.into()),
        "{reply}"
    );
    let whole = r#"{"kind": "entity", "name": "sale", "from": ["sale.made"], "key": "sale_id", "fields": {"town": "last"}}"#;
    let (detail, _) = send("sale", json, whole).await.error(422, "invalid_parameter");
    assert!(detail.contains("would not load") && detail.contains("takings"), "{detail}");

    for (name, body, status, code, says) in [
        ("visit", "{broken", 400, "invalid_body", "no JSON"),
        ("visit", "[]", 400, "invalid_body", "no object"),
        ("visit", "\"x\"", 400, "invalid_body", "no object"),
        ("visit", "{}", 422, "invalid_parameter", "fields"),
        ("visit", r#"{"fields": [{"name": "a"}]}"#, 422, "invalid_parameter", "type"),
        ("visit", r#"{"fields": [], "version": "x"}"#, 422, "invalid_parameter", "version"),
        (
            "visit",
            r#"{"fields": [{"name":"a","type":"b"},{"name":"a","type":"b"}]}"#,
            422,
            "invalid_parameter",
            "twice",
        ),
        ("visit", r#"{"entity": "sale", "fields": []}"#, 400, "invalid_body", "`sale`"),
        ("visit", r#"{"kind": "entty"}"#, 422, "invalid_parameter", "entty"),
        ("visits", "{}", 404, "not_found", "visits"),
    ] {
        let (detail, hint) = send(name, json, body).await.error(status, code);
        assert!(detail.contains(says) && !hint.is_empty(), "{body}: {detail} ({hint})");
    }
}

#[tokio::test]
async fn what_does_not_fit_the_contract_is_said_with_what_would() {
    let (running, _) = Running::filled().await;
    for (name, path) in [
        ("metric_missing", "/v1/metrics/taking"),
        ("window_missing", "/v1/metrics/takings?window=2h"),
        ("dimension_missing", "/v1/metrics/takings?filter=city:Riga"),
        ("dimension_wrong_type", "/v1/metrics/takings?filter=large:perhaps"),
        ("group_missing", "/v1/metrics/takings?group_by=towns"),
    ] {
        running.check(&format!("error_{name}.json"), path).await;
    }
    // Its hint shows the clock, so it has no golden body.
    running.world.get("/v1/metrics/takings?as_of=2999-01-01").await.error(422, "invalid_parameter");
}

#[tokio::test]
async fn contracts_are_shown() {
    let (running, _) = Running::filled().await;
    for (name, path) in [
        ("metrics", "/v1/metrics"),
        ("catalog", "/v1/catalog"),
        ("contracts", "/v1/contracts"),
        ("contract", "/v1/contracts/sale"),
        ("contract_metric", "/v1/contracts/metric.takings/v1"),
        ("contract_diff", "/v1/contracts/visit/diff/1/v2"),
        ("contract_diff_missing", "/v1/contracts/visit/diff/1/7"),
        ("contract_visit", "/v1/contracts/visit"),
        ("changelog", "/v1/changelog"),
        ("contract_missing", "/v1/contracts/sales"),
        ("contract_version_missing", "/v1/contracts/sale/7"),
        ("lineage", "/v1/lineage/metric/average_sale"),
        ("lineage_ingest", "/v1/lineage/metric/rejected_share"),
        ("lineage_missing", "/v1/lineage/metric/averagesale"),
    ] {
        running.check(&format!("{name}.json"), path).await;
    }
}

#[tokio::test]
async fn dead_letters_come_newest_first_with_their_bytes() {
    let (running, _) = Running::filled().await;
    running.check("dead_letters.json", "/v1/deadletter").await;
    running.check("dead_letters_page.json", "/v1/deadletter?page=2&page_size=2").await;
    running.check("dead_letters_reason.json", "/v1/deadletter?reason=out_of_range").await;
    running.check("dead_letters_beyond.json", "/v1/deadletter?page=9").await;
}

#[tokio::test]
async fn health_and_gauges_show_what_was_applied() {
    let (running, _) = Running::filled().await;
    running.check("health.json", "/v1/health").await;
    let reply = running.world.send(Method::GET, "/metrics", &[], "").await;
    let lines: Vec<&str> = reply
        .text
        .lines()
        .filter(|line| line.starts_with("agentflow_") && !line.contains("_seconds"))
        .collect();
    check_golden("metrics.txt", &(lines.join("\n") + "\n"));
    for line in [
        "agentflow_metric_data_through_seconds{metric=\"takings\"} 1769853000\n",
        "agentflow_metric_last_event_seconds{metric=\"takings\"} 1769853000\n",
        "agentflow_metric_age_seconds{metric=\"takings\"} 0.",
        "agentflow_metric_freshness_seconds_count{metric=\"takings\"} 1\n",
        "agentflow_source_applied_seconds{partition=\"http\"} ",
        // The process has one of each: another test may have moved them on.
        "pipeline_watermark_seconds{partition=\"http\"} ",
        "pipeline_last_event_seconds{partition=\"http\"} ",
        "pipeline_append_to_applied_seconds_count{source=\"http\"} ",
    ] {
        assert!(reply.text.contains(line), "{line} is missing:\n{}", reply.text);
    }
}
