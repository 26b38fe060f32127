//! From an event posted to its effect in `GET /v1/metrics/revenue`: one event at a time on an idle
//! server, on one connection, the clock running from before the POST until a read shows it.
//!
//! `AGENTFLOW_BENCH_SAMPLES` sets the number of events.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{Server, client, place, quantiles, setting, tell};

fn main() {
    let samples = setting("SAMPLES", 500);
    let folder = place();
    let server = Server::start(&folder.path().join("data"));
    let http = client();
    let revenue = || -> f64 {
        let url = server.url("/v1/metrics/revenue?window=1h");
        let answer: Value = http.get(url).send().and_then(|r| r.json()).expect("an answer");
        answer["value"].as_f64().expect("a number")
    };
    let mut expected = revenue();
    let mut answered = Vec::new();
    let mut visible = Vec::new();
    for number in 0..samples {
        let body = order(number).to_string();
        let started = Instant::now();
        let response = http
            .post(server.url("/v1/events"))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .expect("an answer");
        assert!(response.status().is_success(), "{:?}", response.text());
        drop(response.text());
        answered.push(started.elapsed());
        expected += 1.0;
        while revenue() < expected {
            assert!(started.elapsed() < Duration::from_secs(10), "event {number} never showed");
        }
        visible.push(started.elapsed());
        // Idle: the next event comes after the last one has settled.
        std::thread::sleep(Duration::from_millis(5));
    }
    tell(
        "freshness",
        &json!({
            "posted_to_visible": quantiles(&mut visible),
            "posted_to_answered": quantiles(&mut answered),
            "peak_memory_mib": server.peak_mib(),
        }),
    );
}

/// An order of one rouble, now.
fn order(number: u64) -> Value {
    let now = chrono::Utc::now();
    json!({
        "event_id": uuid::Uuid::new_v4().to_string(),
        "event_type": "order.created",
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "source": "bench",
        "order_id": format!("ORD-{}-{:06}", now.format("%Y%m%d"), number),
        "user_id": format!("USR-{number}"),
        "status": "confirmed",
        "items": [{"product_id": "PROD-1", "quantity": 1, "unit_price": 1.00}],
        "total_amount": 1.00,
        "currency": "RUB",
    })
}
