//! A store on disk that is fed lines, restarted and verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use contracts::model::Domain;
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::processor::Processor;
use tempfile::TempDir;

use crate::metric::MetricEngine;
use crate::store::{Store, StoreOptions};
use crate::verify::{Report, VerifyOptions, verify};

/// The contracts of a folder of the repository.
pub(super) fn domain_of(folder: &str) -> Arc<Domain> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/domains").join(folder);
    Arc::new(contracts::load_dir(&root).expect("the contracts of the repository are good"))
}

/// Contracts from a text.
pub(super) fn domain(yaml: &str) -> Arc<Domain> {
    match contracts::load(&[(PathBuf::from("test.yaml"), yaml.to_owned())]) {
        Ok(domain) => Arc::new(domain),
        Err(errors) => {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", text.join("\n"))
        }
    }
}

/// One record as it is given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) line: Vec<u8>,
    pub(super) tenant: &'static str,
    /// µs.
    pub(super) arrived_at: i64,
}

pub(super) struct Bench {
    domain: Arc<Domain>,
    dir: PathBuf,
    /// Removes it in the end.
    _own: Option<TempDir>,
    open: Option<(Processor, Store)>,
    clock: Arc<AtomicI64>,
    offsets: [u64; 2],
}

impl Bench {
    pub(super) fn new(domain: &Arc<Domain>) -> Self {
        let own = TempDir::new().expect("a directory");
        let mut bench = Self::in_dir(domain, own.path());
        bench._own = Some(own);
        bench
    }

    /// A store in a directory that outlives it.
    pub(super) fn in_dir(domain: &Arc<Domain>, dir: &Path) -> Self {
        let mut bench = Self {
            domain: Arc::clone(domain),
            dir: dir.to_path_buf(),
            _own: None,
            open: None,
            clock: Arc::new(AtomicI64::new(0)),
            offsets: [0; 2],
        };
        bench.restart();
        bench
    }

    /// Closes the store and opens it again: what is in memory is lost.
    pub(super) fn restart(&mut self) {
        self.open = None;
        let options = StoreOptions { readers: 2, ..StoreOptions::default() };
        let store = Store::open(&self.dir, Arc::clone(&self.domain), options).expect("a store");
        let writer = store.writer().expect("a writer");
        let processor = Processor::new(Arc::clone(&self.domain), Box::new(writer));
        self.open = Some((processor.expect("a processor"), store));
    }

    /// Gives records to one of two partitions, as one batch.
    pub(super) fn give(&mut self, partition: usize, given: &[Given]) {
        let mut bytes = Vec::new();
        let mut records = Vec::with_capacity(given.len());
        for given in given {
            records.push(RawRecord {
                start: bytes.len(),
                len: given.line.len(),
                offset: self.offsets[partition] + records.len() as u64,
                arrived_at: given.arrived_at,
                tenant: given.tenant.into(),
                tenant_fixed: true,
                attached: Attached::default(),
            });
            bytes.extend_from_slice(&given.line);
        }
        self.offsets[partition] += given.len() as u64;
        let batch = RawBatch {
            partition: format!("test:{partition}").into(),
            source: ["one", "two"][partition],
            bytes,
            records,
            next_offset: self.offsets[partition],
            fingerprint: None,
            format: Default::default(),
            claim: None,
        };
        let decoded = Decoder::new(&self.domain).decode(batch);
        let (processor, _) = self.open.as_mut().expect("open");
        processor.process(&[&decoded]).expect("processed");
    }

    /// Does all that can wait.
    pub(super) fn tidy(&mut self) {
        let (processor, _) = self.open.as_mut().expect("open");
        while processor.tidy().expect("it can be done") {}
    }

    /// How much state is kept.
    pub(super) fn state(&self) -> crate::state::Size {
        let (_, store) = self.open.as_ref().expect("open");
        store.readers().state().size()
    }

    /// Sets the time that the engine reads, µs.
    pub(super) fn at(&self, micros: i64) {
        self.clock.store(micros, Ordering::Relaxed);
    }

    pub(super) fn verify(&self, options: &VerifyOptions) -> Report {
        let (_, store) = self.open.as_ref().expect("open");
        let clock = Arc::clone(&self.clock);
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let engine = MetricEngine::with_clock(Arc::clone(&self.domain), store.readers(), clock);
        verify(&engine, options).expect("verified")
    }

    /// Closes the store and changes it behind everybody's back.
    pub(super) fn damage(&mut self, sql: &str) {
        self.open = None;
        let file = self.dir.join("serving.duckdb");
        let conn = duckdb::Connection::open(file).expect("a database");
        conn.execute_batch(sql).expect("damaged");
        drop(conn);
        self.restart();
    }
}

/// Nothing differs, and nothing was passed over but what is expected.
#[track_caller]
pub(super) fn assert_clean(report: &Report, what: &str) {
    assert!(report.agrees(), "{what}: {:#?}", report.differences);
    assert!(report.not_verified.is_empty(), "{what}: {:#?}", report.not_verified);
}
