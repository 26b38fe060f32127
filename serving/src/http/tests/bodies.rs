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
        let file = ("sales/contracts.yaml".into(), include_str!("contracts.yaml").to_owned());
        Self::of(contracts::load(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}")))
    }

    /// Of a domain, with nothing in it yet.
    pub(super) fn of(domain: contracts::model::Domain) -> Self {
        let (world, source) = World::of(domain, HttpOptions::default(), Default::default());
        let state = world.state.clone();
        let options = RunnerOptions {
            on_commit: Some(Box::new(move |committed| {
                state.cache.committed(committed);
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
        "pipeline_watermark_seconds{partition=\"http\"} 1769853000\n",
        "pipeline_last_event_seconds{partition=\"http\"} 1769853000\n",
        "pipeline_append_to_applied_seconds_count{source=\"http\"} ",
    ] {
        assert!(reply.text.contains(line), "{line} is missing:\n{}", reply.text);
    }
}
