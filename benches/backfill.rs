//! New versions of contracts over a store that is there already: how long the backfill beside what comes
//! in takes, and what happens meanwhile to the time from an event posted to its effect in a metric.
//!
//! `AGENTFLOW_BENCH_EVENTS` sets how many events the store has, `AGENTFLOW_BENCH_SAMPLES` the number of
//! samples before.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{Server, agentflow, client, place, produce, quantiles, setting, shop, tell};

/// A column of the journal, one of an entity's rows, an entity over events and one over an entity.
const MORE: &str = "\
kind: metric
name: dear_orders
unit: count
from: {event: order.created}
where: total_amount > 5000 and currency = 'RUB'
measure: count
windows: [1h]
moved_by: [order.created]
---
kind: metric
name: dear_open_orders
unit: count
from: {entity: order}
time: created_at
where: total_amount > 5000 and status <> 'cancelled'
measure: count
windows: [1h]
moved_by: [order.created, order.updated, order.cancelled]
---
kind: entity
name: buyer
from: [order.created]
key: user_id
fields: {orders: count, items: sum(item_count)}
---
kind: entity
name: town
from: {entity: order}
key: city
fields: {orders: count, items: sum(item_count)}
";

fn main() {
    let events = setting("EVENTS", 2_000_000);
    let samples = setting("SAMPLES", 300);
    let folder = place();
    let (data, file) = (folder.path().join("data"), folder.path().join("events.ndjson"));
    produce(&file, events, &[]);
    let status = agentflow()
        .args([
            "run",
            "--until-end",
            "--output",
            "json",
            "--from",
            &format!("file:{}", file.display()),
        ])
        .arg("--contracts")
        .arg(shop())
        .arg("--data")
        .arg(&data)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("the binary starts");
    assert!(status.success());

    let before = {
        let server = Server::start(&data);
        let mut number = 0;
        let mut visible = Vec::new();
        while number < samples {
            visible.push(sample(&server, number));
            number += 1;
        }
        quantiles(&mut visible)
    };
    let contracts = folder.path().join("contracts");
    copy(&shop(), &contracts);
    std::fs::write(contracts.join("more.yaml"), MORE).expect("write contracts");
    let started = Instant::now();
    let server = Server::start_under(&contracts, &data, &[]);
    let opened = started.elapsed();
    let mut visible = Vec::new();
    let mut number = samples;
    while is_backfilling(&server) {
        visible.push(sample(&server, number));
        number += 1;
    }
    let took = started.elapsed();
    let mut after: Vec<Duration> = (0..samples).map(|n| sample(&server, number + n)).collect();
    tell(
        "backfill",
        &json!({
            "events": events,
            "answering_after_s": opened.as_secs_f64(),
            "backfilled_after_s": took.as_secs_f64(),
            "posted_to_visible_before": before,
            "posted_to_visible_meanwhile": quantiles(&mut visible),
            "posted_to_visible_after": quantiles(&mut after),
            "peak_memory_mib": server.peak_mib(),
        }),
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("create a folder");
    for entry in std::fs::read_dir(from).expect("read the contracts") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copy a contract");
    }
}

/// Is there something that is not whole yet?
fn is_backfilling(server: &Server) -> bool {
    let health: Value = ask(server, "/v1/health");
    let components = health["components"].as_array().expect("components");
    components.iter().any(|component| component["name"] == "backfill")
}

fn ask(server: &Server, path: &str) -> Value {
    client().get(server.url(path)).send().and_then(|r| r.json()).expect("an answer")
}

/// From an order posted to a state of its own that shows it.
fn sample(server: &Server, number: u64) -> Duration {
    let http = client();
    let now = chrono::Utc::now();
    let id = format!("ORD-{}-{:06}", now.format("%Y%m%d"), 900_000 + number);
    let body = json!({
        "event_id": uuid::Uuid::new_v4().to_string(),
        "event_type": "order.created",
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "source": "bench",
        "order_id": id,
        "user_id": format!("USR-{number}"),
        "status": "confirmed",
        "items": [{"product_id": "PROD-1", "quantity": 1, "unit_price": 1.00}],
        "total_amount": 1.00,
        "currency": "RUB",
    });
    // Before the clock runs: making a connection is not what is measured.
    let url = server.url(&format!("/v1/entity/order/{id}"));
    drop(http.get(&url).send().and_then(|r| r.text()));
    let started = Instant::now();
    let response = http
        .post(server.url("/v1/events"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .expect("an answer");
    assert!(response.status().is_success(), "{:?}", response.text());
    drop(response.text());
    while !http.get(&url).send().expect("an answer").status().is_success() {
        assert!(started.elapsed() < Duration::from_secs(30), "order {number} never showed");
    }
    let took = started.elapsed();
    std::thread::sleep(Duration::from_millis(5));
    took
}
