//! A generator inside the pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Generator, GeneratorOptions};
use crate::batch::{Attached, RawBatch, RawRecord};
use crate::positions::Positions;
use crate::source::{Limits, Next, Progress, Source, SourceError};

/// Name of the partition.
const PARTITION: &str = "generator";

/// Generated events at their rate. An offset is the number of an event.
///
/// The generator stands for an outside world that goes on while the program is down: after a
/// restart the stream continues with other events (seeded with the position), with order numbers
/// past all earlier ones, from the start time it is given then.
#[derive(Debug)]
pub struct GeneratorSource {
    options: GeneratorOptions,
    tenant: Arc<str>,
    generator: Generator,
    /// What a new store is given at once.
    history: Duration,
    /// Events before this run.
    first: u64,
    started: Option<Instant>,
    now: fn() -> i64,
}

impl GeneratorSource {
    /// A source of generated events; `now` gives the time of arrival in µs.
    pub fn new(options: GeneratorOptions, tenant: Arc<str>, now: fn() -> i64) -> Self {
        let generator = Generator::new(options.clone());
        let history = Duration::ZERO;
        Self { options, tenant, generator, history, first: 0, started: None, now }
    }

    /// Gives a new store the events of the time before the start, as fast as it takes them, so that
    /// windows are not empty. (At a speed of 1; others have no time before.)
    pub fn with_history(mut self, history: Duration) -> Self {
        self.history = history;
        self
    }

    /// Events that are due by now and not sent yet.
    fn due(&mut self) -> u64 {
        let started = self.started.get_or_insert_with(Instant::now);
        let elapsed = self.history + started.elapsed();
        let due = (elapsed.as_secs_f64() * self.options.rate) as u64;
        due.saturating_sub(self.generator.summary().events)
    }

    fn batch(&mut self, most: u64, most_bytes: usize) -> Option<RawBatch> {
        let arrived_at = (self.now)();
        let mut bytes = Vec::new();
        let mut records = Vec::new();
        while (records.len() as u64) < most && bytes.len() < most_bytes {
            let (start, offset) = (bytes.len(), self.position());
            if !self.generator.next_line(&mut bytes) {
                break;
            }
            records.push(RawRecord {
                start,
                len: bytes.len() - start,
                offset,
                arrived_at,
                tenant: Arc::clone(&self.tenant),
                tenant_fixed: false,
                attached: Attached::default(),
            });
        }
        (!records.is_empty()).then(|| RawBatch {
            partition: PARTITION.into(),
            source: PARTITION,
            bytes,
            records,
            next_offset: self.position(),
            fingerprint: None,
            format: Default::default(),
            claim: None,
        })
    }

    /// Number of the next event.
    fn position(&self) -> u64 {
        self.first + self.generator.summary().events
    }
}

impl Source for GeneratorSource {
    fn name(&self) -> &str {
        PARTITION
    }

    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError> {
        self.first = committed.get(PARTITION).map_or(0, |state| state.next_offset);
        if self.first > 0 {
            self.history = Duration::ZERO;
        }
        let mut options = self.options.clone();
        options.start -= self.history.as_micros() as i64;
        options.count = options.count.map(|count| count.saturating_sub(self.first));
        self.generator = Generator::numbered(options, self.first);
        Ok(())
    }

    fn next(&mut self, limits: Limits, timeout: Duration) -> Result<Next, SourceError> {
        let mut due = self.due();
        if due == 0 {
            let until_next = Duration::from_secs_f64(1.0 / self.options.rate.max(0.001));
            std::thread::sleep(until_next.min(timeout));
            due = self.due();
        }
        let ended = self.options.count.is_some_and(|count| self.position() >= count);
        if ended {
            return Ok(Next::End);
        }
        if due == 0 {
            return Ok(Next::Idle);
        }
        let batch = self.batch(due.min(limits.records.max(1) as u64), limits.bytes);
        Ok(batch.map_or(Next::End, |batch| Next::Batch(batch.into())))
    }

    fn progress(&self) -> Option<Progress> {
        self.options.count.map(|total| Progress { done: self.position().min(total), total })
    }
}
