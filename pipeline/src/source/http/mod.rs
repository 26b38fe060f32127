//! Records posted over HTTP, as a source in this process.
//!
//! [`Ingress::submit`] is the handler's side: it queues the records of one request and gives a
//! receiver for their outcomes. [`HttpSource`] is the pipeline's side: it joins the requests that
//! wait into one batch of partition `http` and numbers their records on.
//!
//! What always holds: a request is never split over two batches; outcomes are sent only after the
//! commit; a request that gets no outcomes (its receiver reports a closed channel) may be sent
//! again, deduplication sees to the rest. The queue is bounded in requests and bytes: when it is
//! full a request is refused at once, nothing waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use tokio::sync::oneshot;

use crate::batch::{Attached, RawBatch, RawRecord};
use crate::outcome::Outcome;
use crate::positions::Positions;

use super::{Delivery, Limits, Next, Source, SourceError};

/// Name of the partition.
pub const PARTITION: &str = "http";

/// Name of the source in what is kept of each record.
pub const SOURCE: &str = "http";

/// Size of the queue between HTTP handlers and the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most requests.
    pub requests: usize,
    /// Most bytes of records.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { requests: 4_096, bytes: 64 << 20 }
    }
}

/// Why a request was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; try again shortly.
    #[error("the ingest queue is full, try again shortly")]
    Full,
    /// The pipeline has stopped.
    #[error("the pipeline has stopped")]
    Stopped,
}

/// Outcomes of a request's records, in its order. An error means that the pipeline stopped before
/// it committed them.
pub type Outcomes = oneshot::Receiver<Vec<Outcome>>;

/// Queue of requests, the handlers' side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ingress {
    queue: Sender<Request>,
    queued: Arc<AtomicUsize>,
    limits: QueueLimits,
}

/// The pipeline's side.
#[derive(Debug)]
pub struct HttpSource {
    queue: Receiver<Request>,
    queued: Arc<AtomicUsize>,
    next_offset: u64,
    /// Taken from the queue, but too large for the batch it would have joined.
    held: Option<Request>,
}

#[derive(Debug)]
struct Request {
    tenant: Arc<str>,
    payloads: Vec<Vec<u8>>,
    bytes: usize,
    arrived_at: i64,
    reply: oneshot::Sender<Vec<Outcome>>,
}

/// Both sides of a new queue. The source ends when the last clone of the ingress is dropped.
pub fn queue(limits: QueueLimits) -> (Ingress, HttpSource) {
    let (sender, receiver) = crossbeam_channel::bounded(limits.requests.max(1));
    let queued = Arc::new(AtomicUsize::new(0));
    let ingress = Ingress { queue: sender, queued: Arc::clone(&queued), limits };
    (ingress, HttpSource { queue: receiver, queued, next_offset: 0, held: None })
}

impl Ingress {
    /// Queues the records of one request. `arrived_at` is its receipt in µs; the tenant is that of
    /// its credential, and records cannot name another.
    pub fn submit(
        &self,
        tenant: Arc<str>,
        payloads: Vec<Vec<u8>>,
        arrived_at: i64,
    ) -> Result<Outcomes, SubmitError> {
        let (reply, outcomes) = oneshot::channel();
        if payloads.is_empty() {
            // Nothing to commit, nothing to wait for. The receiver is alive: this cannot fail.
            let _ = reply.send(Vec::new());
            return Ok(outcomes);
        }
        let bytes = payloads.iter().map(Vec::len).sum();
        // A request larger than the whole limit passes when the queue is empty.
        let before = self.queued.fetch_add(bytes, Ordering::Relaxed);
        let result = if before > 0 && before + bytes > self.limits.bytes {
            Err(SubmitError::Full)
        } else {
            let request = Request { tenant, payloads, bytes, arrived_at, reply };
            self.queue.try_send(request).map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::Full,
                TrySendError::Disconnected(_) => SubmitError::Stopped,
            })
        };
        match result {
            Ok(()) => Ok(outcomes),
            Err(error) => {
                self.queued.fetch_sub(bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

impl Source for HttpSource {
    fn name(&self) -> &str {
        PARTITION
    }

    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError> {
        self.next_offset = committed.get(PARTITION).map_or(0, |state| state.next_offset);
        Ok(())
    }

    fn next(&mut self, limits: Limits, timeout: Duration) -> Result<Next, SourceError> {
        let first = match self.held.take() {
            Some(request) => request,
            None => match self.queue.recv_timeout(timeout) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => return Ok(Next::Idle),
                Err(RecvTimeoutError::Disconnected) => return Ok(Next::End),
            },
        };
        let mut records = first.payloads.len();
        let mut bytes = first.bytes;
        let mut requests = vec![first];
        while let Ok(request) = self.queue.try_recv() {
            records += request.payloads.len();
            bytes += request.bytes;
            if records > limits.records || bytes > limits.bytes {
                self.held = Some(request);
                break;
            }
            requests.push(request);
        }
        Ok(Next::Batch(self.join(requests)))
    }
}

impl Drop for HttpSource {
    /// The channel keeps what is queued until its last sender is gone; whoever waits for outcomes
    /// must learn at once that none will come.
    fn drop(&mut self) {
        while self.queue.try_recv().is_ok() {}
    }
}

impl HttpSource {
    /// One batch of all requests.
    fn join(&mut self, requests: Vec<Request>) -> Delivery {
        let size = requests.iter().map(|request| request.bytes).sum();
        let mut bytes = Vec::with_capacity(size);
        let mut records = Vec::new();
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            for payload in &request.payloads {
                records.push(RawRecord {
                    start: bytes.len(),
                    len: payload.len(),
                    offset: self.next_offset,
                    arrived_at: request.arrived_at,
                    tenant: Arc::clone(&request.tenant),
                    tenant_fixed: true,
                    attached: Attached::default(),
                });
                bytes.extend_from_slice(payload);
                self.next_offset += 1;
            }
            waiting.push((request.payloads.len(), request.reply));
        }
        self.queued.fetch_sub(size, Ordering::Relaxed);
        let batch = RawBatch {
            partition: PARTITION.into(),
            source: SOURCE,
            bytes,
            records,
            next_offset: self.next_offset,
            fingerprint: None,
            format: Default::default(),
            claim: None,
        };
        Delivery { batch, reply: Some(ReplyTo { waiting }) }
    }
}

/// The requests of one batch that wait for their outcomes. Dropped without a word, it closes their
/// channels.
#[derive(Debug)]
pub struct ReplyTo {
    /// Number of records and channel of each request, in the order of the batch.
    waiting: Vec<(usize, oneshot::Sender<Vec<Outcome>>)>,
}

impl ReplyTo {
    /// Sends the outcomes of the batch's records, one per ordinal, to the requests they came with.
    /// To be called after the commit.
    pub fn complete(self, outcomes: Vec<Outcome>) {
        let expected: usize = self.waiting.iter().map(|(records, _)| records).sum();
        debug_assert_eq!(outcomes.len(), expected, "one outcome per record");
        let mut outcomes = outcomes.into_iter();
        for (records, reply) in self.waiting {
            // A caller that went away has nobody to tell; its records are committed all the same.
            let _ = reply.send(outcomes.by_ref().take(records).collect());
        }
    }
}

#[cfg(test)]
mod tests;
