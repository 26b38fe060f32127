//! Reads over HTTP under load: a cached metric from 64 connections at 5,000 requests a second, with keys and
//! without, an entity by its key over a million that no cache has seen, and what the check of a key costs.
//!
//! `AGENTFLOW_BENCH_ENTITIES` sets the number of entities, `AGENTFLOW_BENCH_RATE` the rate,
//! `AGENTFLOW_BENCH_SECONDS` how long. The load comes from the same machine.

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use serving::access::digest::Pepper;
use serving::access::gate::Gate;
use serving::access::record::KeyRecord;
use serving::access::ring::KeyRing;

use support::load::Load;
use support::{Server, agentflow, client, measure, place, quantiles, setting, shop, tell};

const KEY: &str = "a key of the measurement";

fn main() {
    let entities = setting("ENTITIES", 1_000_000);
    let rate = setting("RATE", 5_000) as f64;
    let time = Duration::from_secs(setting("SECONDS", 20));
    let folder = place();
    let file = folder.path().join("products.ndjson");
    let data = folder.path().join("data");
    eprintln!("storing {entities} entities");
    write_products(&file, entities);
    let mut run = agentflow();
    run.args(["run", "--until-end", "--no-lake", "--contracts"])
        .arg(shop())
        .arg("--data")
        .arg(&data);
    run.arg("--from").arg(format!("file:{}", file.display()));
    measure(&mut run);

    let load = |server: &Server, headers: &str| {
        let load = Load {
            address: server.address.clone(),
            path: "/v1/metrics/revenue?window=24h".to_owned(),
            headers: headers.to_owned(),
            connections: 64,
            rate,
            time,
        };
        quantiles(&mut load.run())
    };
    let open = Server::start(&data);
    let without_keys = load(&open, "");
    let http = client();
    let mut by_key = Vec::new();
    for number in 0..5_000_u64 {
        // Far apart, and none twice.
        let product = number * 199_999 % entities;
        let url = open.url(&format!("/v1/entity/product/PROD-{product:07}"));
        let started = Instant::now();
        let answer = http.get(url).send().expect("an answer");
        assert!(answer.status().is_success(), "{:?}", answer.text());
        assert_eq!(answer.headers()["x-cache"], "MISS");
        drop(answer.text());
        by_key.push(started.elapsed());
    }
    drop(open);
    let locked =
        Server::start_with_keys(&data, &["--rate-limit-rpm", "10000000"], &format!("{KEY}:bench"));
    let with_keys = load(&locked, &format!("x-api-key: {KEY}\r\n"));
    tell(
        "http_load",
        &json!({
            "entities": entities,
            "requests_per_second": rate,
            "connections": 64,
            "cached_metric_without_keys": without_keys,
            "cached_metric_with_keys": with_keys,
            "entity_by_key_uncached": quantiles(&mut by_key),
            "key_check_us": key_check(),
            "peak_memory_mib": locked.peak_mib(),
        }),
    );
}

fn write_products(path: &std::path::Path, count: u64) {
    let file = std::fs::File::create(path).expect("a file");
    let mut file = std::io::BufWriter::new(file);
    for number in 0..count {
        writeln!(
            file,
            r#"{{"event_id":"00000000-0000-4000-8000-{number:012}","event_type":"product.updated","timestamp":"2026-01-01T00:00:00Z","source":"bench","product_id":"PROD-{number:07}","name":"Product {number}","category":"c{}","price":"{}.50","currency":"RUB","in_stock":true,"stock_quantity":{}}}"#,
            number % 50,
            number % 900 + 1,
            number % 100,
        )
        .expect("write");
    }
    file.flush().expect("write");
}

/// Microseconds from a header's text to the caller and the count against the budget, once the key's hash
/// was checked.
fn key_check() -> serde_json::Value {
    let folder = place();
    let file = serving::access::file::KeyFile::at(folder.path().join("keys.yaml"));
    let ring = KeyRing::open(Some(file), Vec::new(), Pepper::random(), None).expect("keys");
    let record =
        |name: &str| KeyRecord { rate_limit_rpm: Some(u32::MAX), ..KeyRecord::new(name, "t") };
    // Among others, as in life.
    for number in 0..20 {
        ring.create(record(&format!("other-{number}"))).expect("a key");
    }
    let (_, key) = ring.create(record("asked")).expect("a key");
    let gate = Gate::locked(Arc::new(ring));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut times = Vec::new();
    for number in 0..100_001_i64 {
        let started = Instant::now();
        let admitted = runtime.block_on(gate.admit(Some(&key), from)).expect("the key opens");
        let key = admitted.key.expect("a key");
        let verdict = runtime.block_on(gate.limiter().take(&key, 1, number / 1_000));
        times.push(started.elapsed());
        assert!(verdict.is_allowed);
    }
    let first = times.remove(0);
    times.sort_unstable();
    let at = |q: f64| times[(q * (times.len() - 1) as f64) as usize].as_nanos() as f64 / 1e3;
    json!({
        "samples": times.len(),
        "first_use_ms": first.as_secs_f64() * 1e3,
        "p50": at(0.5),
        "p99": at(0.99),
        "max": at(1.0),
    })
}
