//! Search over many entities of one type: what an index costs to make, to keep and to bring up to date, and
//! how long a question takes.
//!
//! In process, over a store in memory that a pipeline fills with the shop's orders. The index is told to know
//! all of them, not the newest 10,000. `AGENTFLOW_BENCH_ENTITIES` sets how many there are.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipeline::runner::{Runner, RunnerOptions, Stop};
use pipeline::source::http::{Ingress, QueueLimits, queue};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use serving::access::Caller;
use serving::metric::MetricEngine;
use serving::search::{Search, SearchOptions, SearchQuestion};
use serving::store::Store;

use support::{quantiles, setting, shop, tell};

fn main() {
    let entities = setting("ENTITIES", 100_000) as u32;
    let domain = Arc::new(contracts::load_dir(&shop()).expect("the shop's contracts"));
    let store = Store::in_memory(domain.clone()).expect("a store");
    let engine = Arc::new(MetricEngine::new(domain.clone(), store.readers()));
    let (ingress, source) = queue(QueueLimits::default());
    let writer = Box::new(store.writer().expect("the writer"));
    let mut runner =
        Runner::new(domain.clone(), writer, RunnerOptions::default()).expect("a pipeline");
    runner.add_source(Box::new(source)).expect("a source");
    let stop = Stop::default();
    let stopped = stop.clone();
    let running = std::thread::spawn(move || runner.run(&stopped));

    let mut shop = Shop { ingress, random: SmallRng::seed_from_u64(7), sent: 0 };
    let all: Vec<u32> = (0..entities).collect();
    all.chunks(5_000).for_each(|orders| shop.send(orders));
    let options = SearchOptions { rows_per_type: 100_000_000, most_documents: 100_000_000 };
    let caller = Caller::with_key("default".into(), "bench".into(), Arc::default());
    let ask = |search: &Search, text: &str| {
        let question = SearchQuestion { text, entity_types: None, most: 10 };
        let started = Instant::now();
        let answer = search.ask(&caller, &question).expect("an answer");
        assert!(!answer.hits.is_empty(), "{text}");
        (started.elapsed(), answer.documents)
    };

    // The first one also pays for what the store reads for the first time. What one takes is the growth over
    // several that are kept: the store's own memory comes and goes.
    let new = || Search::new(engine.clone(), options);
    let first = new();
    ask(&first, "pending");
    let before = memory_mib();
    let more: Vec<Search> = (0..8).map(|_| new()).collect();
    for search in &more {
        ask(search, "pending");
    }
    let index_mib = (memory_mib() - before) / more.len() as f64;
    drop((first, more));
    let search = new();
    let (made, documents) = ask(&search, "pending");

    let times = |texts: &[&str]| {
        let mut times: Vec<Duration> =
            (0..200).map(|n| ask(&search, texts[n % texts.len()]).0).collect();
        quantiles(&mut times)
    };
    let rare = times(&["ORD-20260404-100007", "USR-77", "revenue"]);
    let common = times(&["pending moscow", "large order kazan", "confirmed"]);
    let mut after = |count: u32| {
        let mut times = Vec::new();
        for _ in 0..50 {
            let changed: Vec<u32> =
                (0..count).map(|_| shop.random.random_range(0..entities)).collect();
            shop.send(&changed);
            times.push(ask(&search, "ORD-20260404-100007").0);
        }
        quantiles(&mut times)
    };
    let (after_one, after_thousand) = (after(1), after(1_000));
    tell(
        "search",
        &json!({
            "entities": entities,
            "documents": documents,
            "index_made_ms": made.as_secs_f64() * 1e3,
            "index_mib": (index_mib * 10.0).round() / 10.0,
            "ask_rare_words": rare,
            "ask_common_words": common,
            "ask_after_1_changed": after_one,
            "ask_after_1000_changed": after_thousand,
        }),
    );
    stop.request();
    running.join().expect("the pipeline's thread").expect("the pipeline ended well");
}

/// Sends orders.
struct Shop {
    ingress: Ingress,
    random: SmallRng,
    sent: u64,
}

impl Shop {
    /// An event for each of these orders, applied.
    fn send(&mut self, orders: &[u32]) {
        let records: Vec<Vec<u8>> = orders.iter().map(|order| self.event(*order)).collect();
        let now = pipeline::clock::now();
        let outcomes = self.ingress.submit("default".into(), records, now).expect("room");
        let outcomes = outcomes.blocking_recv().expect("outcomes");
        let accepted = |outcome: &pipeline::outcome::Outcome| {
            matches!(outcome, pipeline::outcome::Outcome::Accepted { .. })
        };
        assert!(outcomes.iter().all(accepted), "{:?}", outcomes.iter().find(|o| !accepted(o)));
    }

    fn event(&mut self, order: u32) -> Vec<u8> {
        const STATUS: [&str; 4] = ["pending", "confirmed", "shipped", "delivered"];
        const CITY: [&str; 5] = ["Moscow", "Kazan", "Perm", "Omsk", "Tula"];
        self.sent += 1;
        let at = chrono::DateTime::from_timestamp_micros(1_780_000_000_000_000 + self.sent as i64);
        let amount = self.random.random_range(10..200_000);
        json!({
            "event_id": format!("e{}", self.sent), "event_type": "order.updated",
            "timestamp": at.expect("a time").to_rfc3339(), "source": "bench", "schema_version": 2,
            "order_id": format!("ORD-20260404-{}", 100_000 + order),
            "user_id": format!("USR-{}", order % 20_000),
            "status": STATUS[self.random.random_range(0..4)],
            "city": CITY[self.random.random_range(0..5)],
            "items": [{"product_id": "P-1", "quantity": 1, "unit_price": amount}],
            "total_amount": amount, "currency": "RUB",
        })
        .to_string()
        .into_bytes()
    }
}

/// Resident memory of this process.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1_024.0
}
