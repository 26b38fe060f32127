//! One assigned partition: its queue, its lease, and how its records become batches.
//!
//! A partition has a queue of its own in the client, which fetches ahead until that queue is full
//! and then stops: the bounded window of the partition, with the pause built in. Nothing is taken
//! from it but for a batch that is wanted.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contracts::model::Format;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};

use super::context::MemberContext;
use super::native;
use super::start::Mark;
use crate::batch::{Attached, RawBatch, RawRecord};
use crate::lease::Lease;
use crate::source::Limits;
use crate::{clock, headers};

/// A partition while it is ours.
pub(super) struct Assigned {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Name in the store.
    pub(super) name: Arc<str>,
    pub(super) lease: Lease,
    pub(super) topic_id: String,
    /// In a bounded run: the offset to end at, if a broker told.
    pub(super) end: Option<i64>,
    format: Format,
    tenant: Arc<str>,
    queue: Mutex<PartitionQueue<MemberContext>>,
    next_offset: AtomicI64,
    epoch: AtomicI32,
    /// The end was seen since the partition was assigned.
    pub(super) reached_end: AtomicBool,
    /// Last position that was told to the brokers, for displays of lag.
    pub(super) told: AtomicI64,
}

/// What a partition gave.
pub(super) struct Taken {
    pub(super) batch: Option<RawBatch>,
    /// There may be more.
    pub(super) is_full: bool,
    pub(super) trouble: Option<Trouble>,
}

/// What a partition's queue says instead of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The position is not among the offsets, or the log was cut back.
    OutOfRange,
    /// Something else; the client goes on by itself.
    Other(RDKafkaErrorCode),
}

/// Stands for "the broker did not tell".
const NO_EPOCH: i32 = -1;

impl Assigned {
    #[allow(clippy::too_many_arguments)] // Each is a fact of the assignment, all by name below.
    pub(super) fn new(
        (topic, partition): (&str, i32),
        queue: PartitionQueue<MemberContext>,
        (topic_id, epoch): (String, Option<i32>),
        start: i64,
        end: Option<i64>,
        format: Format,
        tenant: Arc<str>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            name: super::partition_name(topic, partition).into(),
            lease: Lease::new(),
            topic_id,
            end,
            format,
            tenant,
            queue: Mutex::new(queue),
            next_offset: AtomicI64::new(start),
            epoch: AtomicI32::new(epoch.unwrap_or(NO_EPOCH)),
            reached_end: AtomicBool::new(false),
            told: AtomicI64::new(-1),
        }
    }

    /// Offset of the next record to take.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    /// Is everything up to the end of a bounded run taken?
    pub(super) fn is_done(&self) -> bool {
        self.reached_end.load(Ordering::Relaxed)
            || self.end.is_some_and(|end| self.next_offset() >= end)
    }

    /// Takes what waits, up to about `limits`.
    pub(super) fn take(&self, limits: Limits) -> Taken {
        let mut taken = Taken { batch: None, is_full: false, trouble: None };
        let Some(claim) = self.lease.claim() else { return taken };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = RawBatch {
            partition: Arc::clone(&self.name),
            source: "kafka",
            bytes: Vec::new(),
            records: Vec::new(),
            next_offset: 0,
            fingerprint: None,
            format: self.format,
            claim: Some(claim),
        };
        let now = clock::now();
        loop {
            if batch.records.len() >= limits.records || batch.bytes.len() >= limits.bytes {
                taken.is_full = true;
                break;
            }
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => self.push(&mut batch, &message, now),
                Some(Err(ClientError::PartitionEOF(_))) => {
                    self.reached_end.store(true, Ordering::Relaxed);
                }
                Some(Err(error)) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    taken.trouble = Some(match code {
                        RDKafkaErrorCode::AutoOffsetReset
                        | RDKafkaErrorCode::OffsetOutOfRange
                        | RDKafkaErrorCode::LogTruncation => Trouble::OutOfRange,
                        other => Trouble::Other(other),
                    });
                    taken.is_full = true;
                    break;
                }
            }
        }
        if !batch.records.is_empty() {
            let epoch = Some(self.epoch.load(Ordering::Relaxed)).filter(|epoch| *epoch != NO_EPOCH);
            let mark = Mark { topic_id: self.topic_id.clone(), epoch };
            batch.next_offset = self.next_offset() as u64;
            batch.fingerprint = Some(mark.to_string());
            taken.batch = Some(batch);
        }
        taken
    }

    fn push(&self, batch: &mut RawBatch, message: &BorrowedMessage<'_>, now: i64) {
        // A record that the client delivers again, after a seek for instance.
        if message.offset() < self.next_offset() {
            return;
        }
        if batch.bytes.capacity() == 0 {
            batch.bytes.reserve(64 << 10);
        }
        let payload = message.payload();
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(payload.unwrap_or_default());
        let len = batch.bytes.len() - start;
        let key = message.key();
        batch.bytes.extend_from_slice(key.unwrap_or_default());
        let before = batch.bytes.len();
        if let Some(all) = message.headers() {
            all.iter().for_each(|header| headers::push(&mut batch.bytes, header.key, header.value));
        }
        // The time that the record says, but never later than now: a clock ahead must not make
        // events of the future acceptable.
        let written_at = message.timestamp().to_millis().map(|millis| millis.saturating_mul(1_000));
        batch.records.push(RawRecord {
            start,
            len,
            offset: message.offset() as u64,
            arrived_at: written_at.map_or(now, |written_at| written_at.min(now)),
            tenant: Arc::clone(&self.tenant),
            tenant_fixed: false,
            attached: Attached {
                // librdkafka's lengths are at most 2^31.
                key_len: key.map(|key| key.len() as u32),
                headers_len: (batch.bytes.len() - before) as u32,
                is_tombstone: payload.is_none(),
            },
        });
        self.next_offset.store(message.offset() + 1, Ordering::Relaxed);
        if let Some(epoch) = native::leader_epoch(message) {
            self.epoch.store(epoch, Ordering::Relaxed);
        }
    }

    /// Records from `offset` on are wanted: those before were skipped by policy.
    pub(super) fn skip_to(&self, offset: i64) {
        self.next_offset.store(offset, Ordering::Relaxed);
    }
}
