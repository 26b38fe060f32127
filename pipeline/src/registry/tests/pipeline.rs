//! Records in Avro through the runner, the processor and a store, while the registry comes and goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::types::Value;
use contracts::model::{Domain, Format};
use serde_json::json;

use super::server::Server;
use super::{NO_SUCH_ID, config, everywhere, subject};
use crate::batch::{Attached, RawBatch, RawRecord};
use crate::clock;
use crate::lease::{Lease, Revoked};
use crate::memory_store::Shared;
use crate::outcome::Counts;
use crate::positions::Positions;
use crate::registry::{Registry, RegistryProbe};
use crate::runner::{RunError, RunReport, Runner, RunnerOptions, Stop};
use crate::source::{Limits, Next, Source, SourceError};

const CONTRACTS: &str = "
kind: event
names: [parcel.sent]
version: 1
topic: parcels
format: avro
fields: {parcel_id: string, weight: 'decimal(10,3)'}
";

const SCHEMA: &str = r#"{"type":"record","name":"Sent","namespace":"parcel","fields":[
    {"name":"event_type","type":"string"},
    {"name":"event_id","type":"string"},
    {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"parcel_id","type":"string"},
    {"name":"weight","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}}
]}"#;

fn domain() -> Arc<Domain> {
    match contracts::load(&[(PathBuf::from("parcels.yaml"), CONTRACTS.to_owned())]) {
        Ok(domain) => Arc::new(domain),
        Err(errors) => panic!("{}", errors[0]),
    }
}

/// A record with the frame for `id`.
fn record(id: u32, n: usize) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(SCHEMA).expect("a schema");
    let text = |text: String| Value::String(text);
    let value = Value::Record(vec![
        ("event_type".to_owned(), text("parcel.sent".to_owned())),
        ("event_id".to_owned(), text(format!("id-{n}"))),
        ("timestamp".to_owned(), Value::TimestampMicros(1_769_853_600_000_000 + n as i64)),
        ("parcel_id".to_owned(), text(format!("P{n}"))),
        ("weight".to_owned(), Value::Decimal(vec![0x04, 0xD2].into())),
    ]);
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(apache_avro::to_avro_datum(&schema, value).expect("a record"));
    bytes
}

/// Batches of records, each delivered once, then an end; it continues from what was committed.
struct Batches {
    batches: Vec<Vec<Vec<u8>>>,
    at: u64,
    lease: Option<Arc<Lease>>,
}

impl Source for Batches {
    fn name(&self) -> &str {
        "kafka:parcels/0"
    }

    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError> {
        self.at = committed.get(self.name()).map_or(0, |state| state.next_offset);
        Ok(())
    }

    fn next(&mut self, _: Limits, _: Duration) -> Result<Next, SourceError> {
        let mut before = 0;
        let Some(records) = self.batches.iter().find(|records| {
            before += records.len() as u64;
            before > self.at
        }) else {
            return Ok(Next::End);
        };
        let claim = match &self.lease {
            None => None,
            Some(lease) => match lease.claim() {
                Some(claim) => Some(claim),
                None => return Ok(Next::End),
            },
        };
        let first = before - records.len() as u64;
        let mut batch = RawBatch {
            partition: self.name().into(),
            source: "kafka",
            bytes: Vec::new(),
            records: Vec::new(),
            next_offset: before,
            fingerprint: None,
            format: Format::Avro,
            claim,
        };
        for (n, record) in records.iter().enumerate() {
            batch.records.push(RawRecord {
                start: batch.bytes.len(),
                len: record.len(),
                offset: first + n as u64,
                arrived_at: clock::now(),
                tenant: "default".into(),
                tenant_fixed: false,
                attached: Attached::default(),
            });
            batch.bytes.extend_from_slice(record);
        }
        self.at = before;
        Ok(Next::Batch(batch.into()))
    }
}

struct Run {
    store: Shared,
    lease: Option<Arc<Lease>>,
    give_up_after: Option<Duration>,
}

impl Run {
    fn new() -> Self {
        Self { store: Shared::default(), lease: None, give_up_after: None }
    }

    fn run(
        &self,
        registry: &Registry,
        batches: &[Vec<Vec<u8>>],
        stop: &Stop,
    ) -> Result<RunReport, RunError> {
        let options = RunnerOptions {
            schemas: Some(Arc::new(registry.clone())),
            give_up_after: self.give_up_after,
            ..Default::default()
        };
        let store = Box::new(self.store.clone());
        let mut runner = Runner::new(domain(), store, options).expect("a store");
        let lease = self.lease.clone();
        let source = Batches { batches: batches.to_vec(), at: 0, lease };
        runner.add_source(Box::new(source)).expect("a source");
        runner.run(stop)
    }

    fn run_all(&self, registry: &Registry, batches: &[Vec<Vec<u8>>]) -> RunReport {
        self.run(registry, batches, &Stop::default()).expect("runs to its end")
    }

    fn committed(&self) -> u64 {
        self.store.with(|store| {
            store.partitions.get("kafka:parcels/0").map_or(0, |state| state.next_offset)
        })
    }
}

fn counts(accepted: u64, rejected: u64) -> Counts {
    Counts { received: accepted + rejected, accepted, rejected, ..Default::default() }
}

/// Waits until records wait for a schema.
fn until_waiting(probe: &RegistryProbe) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while probe.status().is_well() {
        assert!(Instant::now() < deadline, "nothing waits");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn records(id: u32, numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(|n| record(id, n)).collect()
}

#[test]
fn bad_records_lose_themselves_only() {
    everywhere(|registry| {
        let id = registry.register(&subject("parcels"), SCHEMA, &[]).expect("registered");
        let mut batch = records(id, 0..8);
        batch[1][0] = 7;
        batch[2] = record(NO_SUCH_ID, 2);
        batch[3].pop();
        batch[4].push(0);
        batch[5] = br#"{"event_type":"parcel.sent"}"#.to_vec();
        batch[6] = vec![0, 0, 0];
        let run = Run::new();
        let report = run.run_all(registry, &[batch.clone(), records(id, 8..10)]);
        assert_eq!(report.counts, counts(4, 6));
        let reasons: Vec<_> = report.rejected_by_reason.into_iter().collect();
        assert_eq!(reasons, [("not_avro", 5), ("unknown_schema", 1)]);
        let letters = run.store.with(|store| store.dead_letters.clone());
        let payloads: Vec<_> = letters.into_iter().map(|(_, _, payload)| payload).collect();
        assert_eq!(payloads, batch[1..7]);
    });
}

#[test]
fn records_wait_for_a_registry_that_is_away() {
    let mut server = Server::start();
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let id = server.put("parcels-value", json!({"schema": SCHEMA}));
    server.down();
    let run = Run::new();
    let probe = registry.probe();
    std::thread::scope(|scope| {
        let runs =
            scope.spawn(|| run.run_all(&registry, &[records(id, 0..50), records(id, 50..60)]));
        until_waiting(&probe);
        let status = probe.status();
        assert_eq!(status.waiting_for, [id].into());
        assert!(status.waiting_since.is_some() && !status.refused);
        assert!(
            status.last_error.is_some_and(|error| error.contains("no schema registry answers"))
        );
        assert_eq!(run.committed(), 0);
        server.up();
        assert_eq!(runs.join().expect("no panic").counts, counts(60, 0));
    });
    assert_eq!(run.committed(), 60);
    let status = probe.status();
    assert!(status.is_well() && status.last_error.is_none() && status.waiting_since.is_none());
}

#[test]
fn records_wait_while_we_are_refused() {
    let server = Server::start();
    let id = server.put("parcels-value", json!({"schema": SCHEMA}));
    server.with(|state| state.authorization = Some("Bearer right".to_owned()));
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let run = Run::new();
    let probe = registry.probe();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| run.run_all(&registry, &[records(id, 0..5)]));
        until_waiting(&probe);
        assert!(probe.status().refused);
        // As somebody mends it at the registry's side.
        server.with(|state| state.authorization = None);
        assert_eq!(runs.join().expect("no panic").counts, counts(5, 0));
    });
    assert!(!probe.status().refused);
}

#[test]
fn a_stop_while_records_wait_loses_none_and_commits_none() {
    let mut server = Server::start();
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let known = server.put("a-value", json!({"schema": SCHEMA}));
    let later = server.put("b-value", json!({"schema": SCHEMA, "doc": 1}));
    let batches = [records(known, 0..10), records(later, 10..20), records(known, 20..30)];
    let run = Run::new();
    registry.look_up(known).expect("answers");
    server.down();
    let (stop, probe) = (Stop::default(), registry.probe());
    let report = std::thread::scope(|scope| {
        let runs = scope.spawn(|| run.run(&registry, &batches, &stop));
        until_waiting(&probe);
        stop.request();
        runs.join().expect("no panic").expect("a clean end")
    });
    assert_eq!(report.counts, counts(10, 0));
    assert!(report.failed_sources.is_empty());
    assert_eq!(run.committed(), 10);
    assert!(probe.status().is_well());
    // The next run continues where the last commit ended.
    server.up();
    assert_eq!(run.run_all(&registry, &batches).counts, counts(20, 0));
    assert_eq!(run.committed(), 30);
    let journal: usize =
        run.store.with(|store| store.journal.values().flatten().map(|rows| rows.num_rows()).sum());
    assert_eq!(journal, 30);
}

#[test]
fn a_bounded_run_gives_up_after_its_time() {
    let mut server = Server::start();
    server.down();
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let run = Run { give_up_after: Some(Duration::from_millis(200)), ..Run::new() };
    let report = run.run_all(&registry, &[records(1, 0..5)]);
    assert_eq!(report.counts, counts(0, 0));
    assert_eq!(run.committed(), 0);
    let [(source, error)] = report.failed_sources.as_slice() else { panic!("{report:?}") };
    assert_eq!(source, "kafka:parcels/0");
    let text = error.to_string();
    let want = "records cannot be read: schema 1 did not come: no schema registry answers at";
    assert!(text.starts_with(want), "{text}");
}

#[test]
fn a_partition_that_is_wanted_back_is_not_waited_with() {
    let mut server = Server::start();
    server.down();
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let lease = Arc::new(Lease::new());
    let run = Run { lease: Some(Arc::clone(&lease)), ..Run::new() };
    let probe = registry.probe();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| run.run_all(&registry, &[records(1, 0..5)]));
        until_waiting(&probe);
        // Without waiting for the deadline: what waits is left, for whoever comes next.
        let start = Instant::now();
        assert_eq!(lease.revoke(Duration::from_secs(60)), Revoked::Drained);
        assert!(start.elapsed() < Duration::from_secs(30));
        let report = runs.join().expect("no panic");
        assert_eq!(report.counts, counts(0, 0));
        assert!(report.failed_sources.is_empty());
    });
    assert_eq!(run.committed(), 0);
}

#[test]
fn a_schema_that_comes_too_late_does_not_bring_its_dead_letters_back() {
    let server = Server::start();
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let run = Run::new();
    let id = 1;
    let batches = [records(id, 0..3)];
    assert_eq!(run.run_all(&registry, &batches).counts, counts(0, 3));
    assert_eq!(server.put("parcels-value", json!({"schema": SCHEMA})), id);
    // A process that starts later knows nothing of the ids that were missing.
    let registry = Registry::new(config(&[server.url()])).expect("good");
    let more = [batches[0].clone(), records(id, 0..6)];
    let report = run.run_all(&registry, &more);
    // Rejected events do not mark their ids: sent again, they are as good as new.
    assert_eq!(report.counts, counts(6, 0));
    assert_eq!(run.store.with(|store| store.dead_letters.len()), 3);
}
