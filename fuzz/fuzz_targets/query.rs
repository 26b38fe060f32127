//! Callers' SQL through the guard, and what it lets through into DuckDB.

#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::processor::Processor;
use serving::access::{Caller, Scope};
use serving::metric::MetricEngine;
use serving::query::guard::{self, Relations};
use serving::query::{Queries, QueryError, QueryLimits};
use serving::store::Store;

/// Marks everything of the other tenant.
const MARK: &str = "OTHERSECRET";

/// 2026-01-01T12:00:00Z, µs.
const NOW: i64 = 1_767_268_800_000_000;

/// Longest time of a statement.
const LIMIT: Duration = Duration::from_millis(500);

/// What may come on top of it: long, because fuzzing is what a machine does beside other work.
const GRACE: Duration = Duration::from_secs(20);

struct World {
    engine: MetricEngine,
    queries: Queries,
    _store: Store,
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let world = world();
    let caller = Caller::with_key("acme".into(), "key".into(), Arc::new(Scope::default()));
    let relations = Relations::new(&world.engine, &caller, NOW);
    let guarded = match guard::check(&text, &relations) {
        Ok(guarded) => guarded,
        Err(refusal) => {
            assert!(!refusal.message.is_empty());
            return;
        }
    };
    let begun = std::time::Instant::now();
    match world.queries.page(&guarded, 20, 0) {
        Ok(page) => {
            for row in &page.rows {
                let row = serde_json::to_string(row).expect("a row is JSON");
                assert!(!row.contains(MARK), "another tenant's row: {row}");
            }
        }
        Err(QueryError::Store(error)) => panic!("not told apart: {error}\n{}", guarded.sql()),
        Err(error) => assert!(!error.to_string().contains(MARK), "{error}"),
    }
    assert!(begun.elapsed() < LIMIT + GRACE, "{:?}", begun.elapsed());
});

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let file = (PathBuf::from("visits.yaml"), include_str!("visits.yaml").to_owned());
        let domain = match contracts::load(&[file]) {
            Ok(domain) => Arc::new(domain),
            Err(problems) => panic!("{}", problems[0]),
        };
        let store = Store::in_memory(Arc::clone(&domain)).expect("a store");
        let writer = store.writer().expect("the writer");
        let mut processor = Processor::new(Arc::clone(&domain), Box::new(writer)).expect("stages");
        let mut decoder = Decoder::new(&domain);
        for (tenant, mark) in [("acme", ""), ("other", MARK)] {
            let batch = decoder.decode(visits(tenant, mark));
            processor.process(&[&batch]).expect("a commit");
        }
        let engine = MetricEngine::with_clock(domain, store.readers(), Arc::new(|| NOW));
        let limits = QueryLimits { time: LIMIT, ..QueryLimits::default() };
        let queries = Queries::new(store.readers(), limits);
        World { engine, queries, _store: store }
    })
}

/// Twenty visits of a tenant.
fn visits(tenant: &str, mark: &str) -> RawBatch {
    let (mut bytes, mut records) = (Vec::new(), Vec::new());
    for number in 0..20_u64 {
        let event = serde_json::json!({
            "event_type": if number % 2 == 0 { "visit.begun" } else { "visit.ended" },
            "event_id": format!("{mark}e{number}"),
            "timestamp": format!("2026-01-01T11:{number:02}:00Z"),
            "visit_id": format!("{mark}V-{}", number / 2),
            "guest": format!("{mark}guest {}", number % 3),
            "price": number * 10,
            "tags": [format!("{mark}tag")],
        });
        let start = bytes.len();
        bytes.extend_from_slice(event.to_string().as_bytes());
        records.push(RawRecord {
            start,
            len: bytes.len() - start,
            offset: number,
            arrived_at: NOW,
            tenant: tenant.into(),
            tenant_fixed: true,
            attached: Attached::default(),
        });
    }
    RawBatch {
        partition: format!("fuzz-{tenant}").into(),
        source: "fuzz",
        next_offset: records.len() as u64,
        bytes,
        records,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}
