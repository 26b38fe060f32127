//! One member of the consumer group: what it was assigned, and the thread that polls it.
//!
//! ```text
//! poll thread:    rebalances, errors, statistics; every second: topics, lag displays
//! source thread:  waits for a partition that has records, takes a batch, decodes, hands it on
//! ```
//!
//! The poll thread never waits for the store but when a partition is taken away: then it waits, up
//! to a deadline, for what was handed on. So heartbeats and rebalances go on while a slow store
//! holds the source thread back.
//!
//! What always holds: a partition is read from where the store has committed, looked up at the
//! moment of its assignment; after a revocation has returned nothing of it is applied any more.

mod poll;
mod rebalance;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{error, warn};

use super::context::MemberContext;
use super::error::KafkaError;
use super::group::Group;
use super::partition::Assigned;
use super::start::{Facts, Halt, Mark, Start, choose_start};
use crate::metrics::METRICS;

/// Longest wait for a broker's answer when a partition is assigned.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The same trouble is logged again after this long.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

pub(super) type Client = BaseConsumer<MemberContext>;

type Key = (String, i32);

/// Shared between the poll thread, its callbacks and the source thread.
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) group: Arc<Group>,
    this: Weak<Self>,
    client: OnceLock<Weak<Client>>,
    state: Mutex<State>,
    has_records: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    assigned: HashMap<Key, Arc<Assigned>>,
    /// Partitions that have records, each once, in the order in which they got them.
    ready: VecDeque<Key>,
    failure: Option<KafkaError>,
    /// The last trouble that was logged.
    logged: Option<(String, Instant)>,
}

impl Member {
    pub(super) fn new(number: usize, group: Arc<Group>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            number,
            this: Weak::clone(this),
            group,
            client: OnceLock::new(),
            state: Mutex::default(),
            has_records: Condvar::new(),
            stop: AtomicBool::new(false),
        })
    }

    /// The client whose callbacks end here. To be called once.
    pub(super) fn attach(&self, client: &Arc<Client>) {
        // A second client would be a mistake of this module; the first one stays.
        let _ = self.client.set(Arc::downgrade(client));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the source thread's side ----

    /// Waits for a partition that has records.
    pub(super) fn next_ready(&self, timeout: Duration) -> Option<Arc<Assigned>> {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            while let Some(key) = state.ready.pop_front() {
                if let Some(assigned) = state.assigned.get(&key) {
                    return Some(Arc::clone(assigned));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.failure.is_some() {
                return None;
            }
            let waited = self.has_records.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says that a partition has records, or may have.
    pub(super) fn ready(&self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        let mut state = self.lock();
        if !state.ready.contains(&key) {
            state.ready.push_back(key);
            self.has_records.notify_one();
        }
    }

    /// Why the member cannot go on, told once.
    pub(super) fn take_failure(&self) -> Option<KafkaError> {
        self.lock().failure.take()
    }

    fn fail(&self, error: KafkaError) {
        self.lock().failure.get_or_insert(error);
        self.has_records.notify_all();
    }

    /// The position of a partition turned out not to be among its offsets: decides again.
    pub(super) fn out_of_range(&self, assigned: &Assigned) {
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        let mark = Mark { topic_id: assigned.topic_id.clone(), epoch: None };
        let facts = Facts {
            stored: Some((assigned.next_offset().max(0) as u64, Some(mark))),
            topic_known: true,
            known_ids: BTreeSet::new(),
            topic_id: self.ids(&client, [assigned.topic.clone()].into()).remove(&assigned.topic),
            range: range(&client, &assigned.topic, assigned.partition),
        };
        let config = &self.group.config;
        let offset = match choose_start(&facts, config.start, config.out_of_range) {
            Start::Halt(_) if config.is_canary(&assigned.topic) => {
                let oldest = facts.range.map_or(0, |(oldest, _)| oldest);
                assigned.skip_to(oldest);
                oldest
            }
            Start::Halt(halt) => {
                self.halt(&client, &[(assigned.topic.clone(), assigned.partition)], &halt);
                return;
            }
            Start::Skip { position, offset } => {
                self.skipped(&assigned.topic, assigned.partition, position, offset);
                assigned.skip_to(offset);
                offset
            }
            // It is in range by now, or nobody could tell: try it again.
            Start::At { offset, .. } => offset,
            Start::Beginning | Start::End => assigned.next_offset(),
        };
        let to = Offset::Offset(offset);
        if let Err(error) = client.seek(&assigned.topic, assigned.partition, to, ANSWER_WITHIN) {
            self.group.probe.failed(format!("seek `{}` to {offset}: {error}", assigned.name));
            // The source thread asks again when it finds the partition in the same trouble.
            std::thread::sleep(POLL);
        }
        self.ready(&assigned.topic, assigned.partition);
    }

    fn skipped(&self, topic: &str, partition: i32, position: u64, offset: i64) {
        let skipped = (offset - i64::try_from(position).unwrap_or(offset)).max(0);
        METRICS.skipped_offsets.with_label_values(&[topic]).inc_by(skipped.unsigned_abs());
        self.group.probe.moved(topic, partition, offset.max(0).unsigned_abs());
        warn!(
            topic,
            partition,
            position,
            offset,
            "offset out of range: going on elsewhere, as the policy says"
        );
    }

    /// An error of the client as a whole. It tries again by itself unless it says otherwise.
    pub(super) fn failed(&self, error: &ClientError, reason: &str) {
        // The end of a partition is told here too, but is no error.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        self.group.probe.failed(reason.to_owned());
        // While brokers are away the client says so many times a second.
        let mut state = self.lock();
        let is_news = state
            .logged
            .as_ref()
            .is_none_or(|(said, at)| *said != reason || at.elapsed() >= SAY_AGAIN_AFTER);
        if is_news {
            state.logged = Some((reason.to_owned(), Instant::now()));
            drop(state);
            warn!(%error, reason, member = self.number, "kafka");
        }
    }

    pub(super) fn statistics(&self, statistics: &Statistics) {
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                // The last stable offset: what a reader of committed records can get to.
                if let Ok(end) = u64::try_from(partition.ls_offset) {
                    self.group.probe.end(&topic.topic, partition.partition, end);
                }
            }
        }
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.group.probe.works();
        }
    }

    /// Ends [`Self::run`].
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops partitions for good; the client fetches nothing more of them.
    fn halt(&self, client: &Client, keys: &[Key], halt: &Halt) {
        let mut list = TopicPartitionList::new();
        for key in keys {
            let removed = self.lock().assigned.remove(key);
            let Some(assigned) = removed else { continue };
            assigned.lease.revoke(Duration::ZERO);
            list.add_partition(&key.0, key.1);
            self.told_halted(key, halt);
        }
        if let Err(error) = client.incremental_unassign(&list) {
            warn!(%error, "a halted partition could not be given up");
        }
    }

    fn told_halted(&self, (topic, partition): &Key, halt: &Halt) {
        error!(topic, partition, reason = %halt, "partition stopped");
        self.group.probe.halted(topic, *partition, self.number, halt.to_string());
        self.group.halted(topic, *partition, halt);
    }
}

/// Oldest offset and the one after the newest, if a broker answers.
fn range(client: &Client, topic: &str, partition: i32) -> Option<(i64, i64)> {
    match client.fetch_watermarks(topic, partition, ANSWER_WITHIN) {
        Ok(range) => Some(range),
        Err(error) => {
            warn!(topic, partition, %error, "no broker tells which offsets there are");
            None
        }
    }
}
