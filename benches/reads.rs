//! Time of a metric read over stored events: the first `agentflow read` of a process, and reads
//! over HTTP that the cache answers and that it does not.
//!
//! `AGENTFLOW_BENCH_STORED` sets the number of stored events.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;

use support::{Server, agentflow, client, measure, place, produce, quantiles, setting, shop, tell};

fn main() {
    let events = setting("STORED", 1_000_000);
    let folder = place();
    let file = folder.path().join("events.ndjson");
    let data = folder.path().join("data");
    let rate = (events as f64 / (8.0 * 86_400.0)).max(0.1);
    eprintln!("generating and storing {events} events");
    produce(&file, events, &["--seed", "7", "--rate", &format!("{rate:.3}")]);
    let mut run = agentflow();
    run.args(["run", "--until-end", "--contracts"]).arg(shop()).arg("--data").arg(&data);
    run.arg("--from").arg(format!("file:{}", file.display()));
    measure(&mut run);

    let mut first = Vec::new();
    for _ in 0..5 {
        let mut read = agentflow();
        read.args(["read", "revenue", "--window", "24h", "--contracts"]).arg(shop());
        read.arg("--data").arg(&data);
        first.push(measure(&mut read).wall);
    }

    let server = Server::start(&data);
    let http = client();
    let time = |path: &str, count: u32| -> Vec<Duration> {
        let mut times = Vec::new();
        for number in 0..count {
            // A reference time of its own makes a question that no cache has seen.
            let path = path.replace("{n}", &number.to_string());
            let started = Instant::now();
            let response = http.get(server.url(&path)).send().expect("an answer");
            assert!(response.status().is_success(), "{path}: {:?}", response.text());
            drop(response.text());
            times.push(started.elapsed());
        }
        times
    };
    let day = "2026-01-08T10:00:00.{n}Z";
    let mut cached = time("/v1/metrics/revenue?window=24h", 2_000);
    let mut events_as_of = time(&format!("/v1/metrics/error_rate?window=24h&as_of={day}"), 200);
    let mut entities_as_of = time(&format!("/v1/metrics/revenue?window=1h&as_of={day}"), 10);
    tell(
        "reads",
        &json!({
            "stored_events": events,
            "first_read_of_a_process": quantiles(&mut first),
            "http_live_cached": quantiles(&mut cached),
            "http_as_of_over_events": quantiles(&mut events_as_of),
            "http_as_of_over_entities": quantiles(&mut entities_as_of),
            "peak_memory_mib": server.peak_mib(),
        }),
    );
}
