//! From a record produced to Kafka (acknowledged by all replicas) to its effect in
//! `GET /v1/metrics/revenue`.
//!
//! Server, broker, load and this program, which produces and reads, are processes of their own on
//! one machine. One sample: wait a random moment, start the clock, produce one order of a town that
//! nobody else orders from, read the town's revenue until it shows. A sample that does not show
//! within ten seconds is a miss.
//!
//! Arms: `idle`; `load` (the generator produces `AGENTFLOW_BENCH_LOAD` events a second beside it);
//! `no_cache` (every read is computed); `ttl_only` (an answer is good for five seconds, whatever
//! happens). Needs a broker (`AGENTFLOW_KAFKA`); `make bench-freshness` starts one and leaves a page
//! with the plot, the percentiles and the conditions beside the samples.

mod support;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};

use support::plot::{Series, cumulative};
use support::{Server, agentflow, client, place, quantiles, setting, tell};

/// A sample that takes longer is a miss.
const MISS_AFTER: Duration = Duration::from_secs(10);
const TOPICS: [&str; 4] = ["orders.raw", "payments.raw", "clicks.raw", "products.cdc"];
const TOWN: &str = "Bench";

struct Arm {
    name: &'static str,
    samples: u64,
    /// Events a second beside the samples.
    load: u64,
    cache: &'static str,
}

/// Tells when a record was acknowledged.
struct Acknowledged(mpsc::Sender<Instant>);

impl rdkafka::ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        // One that was not taken is missed: nobody tells when it was.
        if result.is_ok() {
            let _ = self.0.send(Instant::now());
        }
    }
}

/// The generator, ended when dropped.
struct Load(Child);

impl Load {
    fn start(broker: &str, rate: u64) -> Self {
        let child = agentflow()
            .args(["produce", "--rate", &rate.to_string(), "--to", &format!("kafka:{broker}")])
            .args(["--late", "0", "--repeated", "0.01", "--bad", "0.005"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Self(child)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Outcome {
    visible: Vec<Duration>,
    acknowledged: Vec<Duration>,
    misses: u64,
    events_per_second: f64,
    peak_mib: f64,
}

fn main() {
    let Ok(broker) = std::env::var("AGENTFLOW_KAFKA") else {
        panic!("AGENTFLOW_KAFKA is not set: run it by `make bench-freshness`");
    };
    let samples = setting("SAMPLES", 2_000);
    let arms = [
        Arm { name: "idle", samples, load: 0, cache: "invalidated" },
        Arm {
            name: "load",
            samples: samples / 4,
            load: setting("LOAD", 10_000),
            cache: "invalidated",
        },
        Arm { name: "no_cache", samples: samples / 4, load: 0, cache: "off" },
        Arm { name: "ttl_only", samples: (samples / 100).max(4), load: 0, cache: "ttl:5" },
    ];
    for topic in TOPICS {
        support::kafka::create(&broker, topic, 4);
    }
    let mut figures = serde_json::Map::new();
    let mut series = Vec::new();
    let only = std::env::var("AGENTFLOW_BENCH_ARM").ok();
    for arm in arms.iter().filter(|arm| only.as_deref().is_none_or(|only| only == arm.name)) {
        eprintln!("{}: {} samples", arm.name, arm.samples);
        let mut outcome = measure(&broker, arm);
        outcome.visible.sort_unstable();
        let kept: Vec<f64> = outcome.visible.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        figures.insert(
            arm.name.to_owned(),
            json!({
                "produced_to_visible": quantiles(&mut outcome.visible),
                "produced_to_acknowledged": quantiles(&mut outcome.acknowledged),
                "misses": outcome.misses,
                "load_asked_per_second": arm.load,
                "load_applied_per_second": outcome.events_per_second,
                "cache": arm.cache,
                "peak_memory_mib": outcome.peak_mib,
                "samples_ms": kept,
            }),
        );
        series.push(Series { name: arm.name.to_owned(), times: outcome.visible });
    }
    let mut shown = figures.clone();
    for arm in shown.values_mut() {
        arm.as_object_mut().expect("an object").remove("samples_ms");
    }
    tell("kafka_freshness", &Value::Object(shown.clone()));
    let samples: serde_json::Map<String, Value> =
        figures.into_iter().map(|(name, arm)| (name, arm["samples_ms"].clone())).collect();
    let file = results().join("kafka_freshness_samples.json");
    std::fs::write(&file, Value::Object(samples).to_string()).expect("write the samples");
    page(&series, &shown);
}

fn measure(broker: &str, arm: &Arm) -> Outcome {
    let folder = place();
    let source = format!("kafka:{broker}");
    let group = format!("bench-{}-{}", arm.name, std::process::id());
    let more = [
        "--from",
        &source,
        "--kafka-group",
        &group,
        "--kafka-start",
        "latest",
        "--kafka-canary",
        "off",
        "--cache",
        arm.cache,
    ];
    let server = Server::start_with(&folder.path().join("data"), &more);
    let (tell, acknowledged) = mpsc::channel();
    let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("acks", "all")
        .set("linger.ms", "0")
        .create_with_context(Acknowledged(tell))
        .expect("a producer");
    let http = client();
    let get = |path: &str| -> Value {
        http.get(server.url(path)).send().and_then(|r| r.json()).expect("an answer")
    };
    let path = format!("/v1/metrics/revenue?window=1h&filter=city:{TOWN}");
    let revenue = || get(&path)["value"].as_f64().unwrap_or(0.0);
    let applied = || -> f64 {
        let text =
            http.get(server.url("/metrics")).send().and_then(|r| r.text()).expect("an answer");
        text.lines()
            .filter(|line| line.starts_with("agentflow_records_total{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    let mut rng = SmallRng::seed_from_u64(7);
    let mut outcome = Outcome {
        visible: vec![],
        acknowledged: vec![],
        misses: 0,
        events_per_second: 0.0,
        peak_mib: 0.0,
    };
    let send = |number: u64| {
        let order = order(arm.name, number);
        let payload = order.to_string();
        let key = order["order_id"].as_str().expect("a text").to_owned();
        let record = BaseRecord::to("orders.raw").key(&key).payload(&payload);
        assert!(producer.send(record).is_ok(), "the queue is empty");
    };
    // The server has its partitions once a first record shows.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut number = 0;
    while revenue() == 0.0 {
        assert!(Instant::now() < deadline, "the server reads nothing");
        send(number);
        acknowledged.recv_timeout(MISS_AFTER).expect("the record is acknowledged");
        number += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    std::thread::sleep(Duration::from_secs(6));
    let load = (arm.load > 0).then(|| Load::start(broker, arm.load));
    if load.is_some() {
        std::thread::sleep(Duration::from_secs(5));
    }
    let (before, began) = (applied(), Instant::now());
    let mut said = Duration::ZERO;
    for number in number..number + arm.samples {
        if began.elapsed() > said + Duration::from_secs(10) {
            said = began.elapsed();
            eprintln!("{}: {} of {} samples", arm.name, outcome.visible.len(), arm.samples);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..40_000)));
        let baseline = revenue();
        let started = Instant::now();
        send(number);
        loop {
            if revenue() > baseline {
                outcome.visible.push(started.elapsed());
                break;
            }
            if started.elapsed() > MISS_AFTER {
                outcome.misses += 1;
                break;
            }
            // A client that asks a thousand times a second: more would measure its own load.
            std::thread::sleep(Duration::from_millis(1));
        }
        let at = acknowledged.recv_timeout(MISS_AFTER).expect("the record is acknowledged");
        outcome.acknowledged.push(at.duration_since(started));
    }
    outcome.events_per_second = ((applied() - before) / began.elapsed().as_secs_f64()).round();
    outcome.peak_mib = server.peak_mib();
    drop(load);
    outcome
}

/// An order of one rouble from a town of its own, now.
fn order(arm: &str, number: u64) -> Value {
    let now = chrono::Utc::now();
    json!({
        "event_id": format!("{arm}-{}-{number}", uuid::Uuid::new_v4()),
        "event_type": "order.created",
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "source": "bench",
        "order_id": format!("ORD-{}-{:06}", now.format("%Y%m%d"), number + 900_000_000),
        "user_id": format!("USR-{number}"),
        "status": "confirmed",
        "items": [{"product_id": "PROD-1", "quantity": 1, "unit_price": 1.00}],
        "total_amount": 1.00,
        "currency": "RUB",
        "city": TOWN,
    })
}

/// A page with the plot and what it holds under.
fn page(series: &[Series], figures: &serde_json::Map<String, Value>) {
    let mut rows = String::new();
    for (name, arm) in figures {
        let times = &arm["produced_to_visible"];
        rows.push_str(&format!(
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            times["samples"], arm["misses"], times["p50_ms"], times["p95_ms"], times["p99_ms"],
            times["max_ms"], arm["load_applied_per_second"],
        ));
    }
    let run = |program: &str, arguments: &[&str]| -> String {
        let output = std::process::Command::new(program).args(arguments).output();
        output.map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Freshness</title>\
         <style>body{{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}}\
         td:first-child,th:first-child{{text-align:left}}</style>\
         <h1>From a record produced to Kafka to its metric over HTTP</h1>\
         <p>Records acknowledged by all replicas; broker, server, load and reader on one machine, each a \
         process of its own. Times in milliseconds.</p>{}\
         <table><tr><th>arm</th><th>samples</th><th>misses</th><th>p50</th><th>p95</th><th>p99</th><th>max</th>\
         <th>events/s beside</th></tr>{rows}</table>\
         <p>{cores} cores, {cpu}; {}; version {}, commit {}; {}.</p></html>",
        cumulative(series),
        run("uname", &["-sr"]),
        env!("CARGO_PKG_VERSION"),
        run("git", &["rev-parse", "--short", "HEAD"]),
        chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    );
    let file = results().join("kafka_freshness.html");
    std::fs::write(&file, page).expect("write the page");
    eprintln!("→ {}", file.display());
}

/// Where results are kept.
fn results() -> PathBuf {
    std::env::var_os("AGENTFLOW_BENCH_RESULTS")
        .map_or_else(|| PathBuf::from("target/bench-results"), PathBuf::from)
}
