//! One member of the consumer group: what it was assigned, and the thread that polls it.
//!
//! ```text
//! poll thread:    rebalances, errors, statistics; every second: topic ids, lag displays
//! source thread:  waits for a partition that has records, takes a batch, decodes, hands it on
//! ```
//!
//! The poll thread never waits for the store but when a partition is taken away: then it waits, up
//! to a deadline, for what was handed on. So heartbeats and rebalances go on while a slow store
//! holds the source thread back.
//!
//! What always holds: a partition is read from where the store has committed, looked up at the
//! moment of its assignment; after a revocation has returned nothing of it is applied any more.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{error, info, warn};

use super::context::MemberContext;
use super::error::KafkaError;
use super::group::Group;
use super::native;
use super::partition::Assigned;
use super::partition_name;
use super::start::{Facts, Halt, Mark, Start, choose_start};
use crate::lease::Revoked;
use crate::metrics::METRICS;

/// Longest wait for a broker's answer when a partition is assigned.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often topic ids are compared and positions told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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

    // ---- callbacks, on the poll thread ----

    pub(super) fn assign(&self, client: &Client, partitions: &TopicPartitionList) {
        let keys: Vec<Key> = partitions
            .elements()
            .iter()
            .map(|element| (element.topic().to_owned(), element.partition()))
            .collect();
        if keys.is_empty() {
            // An empty assignment must be answered too.
            self.incremental(client.incremental_assign(partitions), "take partitions over");
            return;
        }
        let Some(this) = self.client.get().and_then(Weak::upgrade) else {
            // The client is being closed.
            return;
        };
        let topics: BTreeSet<String> = keys.iter().map(|(topic, _)| topic.clone()).collect();
        let ids = self.ids(client, topics);
        let mut wanted = TopicPartitionList::with_capacity(keys.len());
        let mut halted = Vec::new();
        for (topic, partition) in keys {
            // Before its position is looked up.
            self.group.take_over(&topic, partition);
            let (start, facts) = self.start_of(client, &topic, partition, ids.get(&topic));
            let (offset, next, epoch) = match start {
                // A canary has nothing to lose: whatever became of its topic, it goes on.
                Start::Halt(_) if self.group.config.is_canary(&topic) => {
                    (Offset::Beginning, 0, None)
                }
                Start::Halt(halt) => {
                    halted.push(((topic, partition), halt));
                    continue;
                }
                Start::At { offset, epoch } => (Offset::Offset(offset), offset, epoch),
                Start::Skip { position, offset } => {
                    self.skipped(&topic, partition, position, offset);
                    (Offset::Offset(offset), offset, None)
                }
                Start::Beginning => (Offset::Beginning, 0, None),
                Start::End => (Offset::End, 0, None),
            };
            // Before the assignment: from the first record on, its records stay in its own queue.
            let Some(mut queue) = this.split_partition_queue(&topic, partition) else {
                let message = "a partition has no queue".to_owned();
                self.fail(KafkaError::Client {
                    action: "take a partition over",
                    cause: ClientError::ClientCreation(message),
                });
                continue;
            };
            let (member, name) = (Weak::clone(&self.this), topic.clone());
            queue.set_nonempty_callback(move || {
                if let Some(member) = member.upgrade() {
                    member.ready(&name, partition);
                }
            });
            if let Err(error) = wanted.add_partition_offset(&topic, partition, offset) {
                self.fail(KafkaError::Client { action: "position a partition", cause: error });
                continue;
            }
            if let Some(epoch) = epoch {
                native::set_leader_epoch(&mut wanted, &topic, partition, epoch);
            }
            let end = facts.range.map(|(_, high)| high);
            let id = facts.id();
            let assigned = Assigned::new(
                (&topic, partition),
                queue,
                (id, epoch),
                next,
                end.filter(|_| self.group.config.until_end),
                self.group.format(&topic),
                Arc::clone(&self.group.config.tenant),
            );
            info!(topic, partition, offset = ?offset, member = self.number, "partition assigned");
            let begin = match offset {
                Offset::Offset(offset) => Some(offset),
                Offset::Beginning => facts.range.map(|(low, _)| low),
                _ => end,
            };
            let shown = |offset: Option<i64>| offset.and_then(|offset| u64::try_from(offset).ok());
            let range = (shown(begin), shown(end));
            self.group.probe.assigned(&topic, partition, self.number, range);
            self.group.holds(&topic, partition, assigned.lease.clone());
            self.lock().assigned.insert((topic, partition), Arc::new(assigned));
        }
        self.incremental(client.incremental_assign(&wanted), "take partitions over");
        for (key, halt) in halted {
            self.told_halted(&key, &halt);
        }
        let keys: Vec<Key> = self.lock().assigned.keys().cloned().collect();
        for (topic, partition) in keys {
            self.ready(&topic, partition);
        }
    }

    fn start_of(
        &self,
        client: &Client,
        topic: &str,
        partition: i32,
        id: Option<&String>,
    ) -> (Start, Facts) {
        let name = partition_name(topic, partition);
        let stored = self.group.positions().get(&name);
        let (topic_known, known_ids) = self.known(topic);
        let facts = Facts {
            stored: stored
                .map(|state| (state.next_offset, state.fingerprint.as_deref().map(Mark::parse))),
            topic_known,
            known_ids,
            topic_id: id.cloned(),
            range: range(client, topic, partition),
        };
        let config = &self.group.config;
        (choose_start(&facts, config.start, config.out_of_range), facts)
    }

    /// Does the store know partitions of the topic, and with which ids?
    fn known(&self, topic: &str) -> (bool, BTreeSet<String>) {
        let prefix = partition_name(topic, 0);
        let prefix = prefix.trim_end_matches('0');
        self.group.positions().with(|partitions| {
            let marks: Vec<Option<Mark>> = partitions
                .iter()
                .filter(|(name, _)| {
                    name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<i32>().is_ok())
                })
                .map(|(_, state)| state.fingerprint.as_deref().map(Mark::parse))
                .collect();
            let ids = marks.iter().flatten().map(|mark| mark.topic_id.clone());
            (!marks.is_empty(), ids.filter(|id| !id.is_empty()).collect())
        })
    }

    pub(super) fn revoke(&self, client: &Client, partitions: &TopicPartitionList, lost: bool) {
        let within = if lost { Duration::ZERO } else { self.group.config.drain_within };
        let deadline = Instant::now() + within;
        let mut ours = TopicPartitionList::new();
        let mut revoked = Vec::new();
        {
            let mut state = self.lock();
            for element in partitions.elements() {
                let key = (element.topic().to_owned(), element.partition());
                self.group.probe.revoked(&key.0, key.1);
                // Those that were halted were never taken over.
                if let Some(assigned) = state.assigned.remove(&key) {
                    ours.add_partition(&key.0, key.1);
                    revoked.push(assigned);
                }
            }
        }
        // First all of them stop, then each is waited for.
        revoked.iter().for_each(|assigned| assigned.lease.close());
        for assigned in &revoked {
            let left = deadline.saturating_duration_since(Instant::now());
            let how = assigned.lease.revoke(left);
            let name = &*assigned.name;
            match how {
                Revoked::Drained => info!(partition = name, lost, "partition given back"),
                Revoked::Abandoned(batches) => warn!(
                    partition = name,
                    lost, batches, "partition given back; batches on their way will not be applied"
                ),
            }
        }
        if !lost {
            // Not waited for: it is for displays alone, and the brokers may be away.
            self.tell(client, &revoked);
        }
        drop(revoked);
        self.incremental(client.incremental_unassign(&ours), "give partitions back");
    }

    fn incremental(&self, result: Result<(), ClientError>, action: &'static str) {
        if let Err(cause) = result {
            self.fail(KafkaError::Client { action, cause });
        }
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

    // ---- the poll thread ----

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Polls until stopped, then leaves the group: what was handed on is waited for.
    pub(super) fn run(&self, client: Arc<Client>) {
        let mut looked = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            self.poll(&client);
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look(&client);
            }
        }
        client.unsubscribe();
        let deadline = Instant::now() + self.group.config.drain_within + ANSWER_WITHIN;
        while !self.lock().assigned.is_empty() && Instant::now() < deadline {
            self.poll(&client);
        }
        // What is left holds the client.
        self.lock().assigned.clear();
    }

    fn poll(&self, client: &Client) {
        match client.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                // Every partition has a queue of its own from before its first record.
                self.fail(KafkaError::Client {
                    action: "read a partition's queue",
                    cause: ClientError::Seek(format!(
                        "record {} of {}/{} came outside of it",
                        message.offset(),
                        message.topic(),
                        message.partition()
                    )),
                });
            }
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                let cause = ClientError::MessageConsumptionFatal(code);
                self.fail(KafkaError::Client { action: "read from Kafka", cause });
            }
            Some(Err(error)) => self.failed(&error, &error.to_string()),
        }
    }

    /// Compares topic ids and tells the brokers how far we are.
    fn look(&self, client: &Client) {
        let assigned: Vec<Arc<Assigned>> = self.lock().assigned.values().cloned().collect();
        self.tell(client, &assigned);
        self.group.look_for_topics(client);
        let topics: BTreeSet<String> = assigned.iter().map(|a| a.topic.clone()).collect();
        let ids = self.ids(client, topics);
        for assigned in assigned {
            let Some(is) = ids.get(&assigned.topic) else { continue };
            if self.group.config.is_canary(&assigned.topic) {
                continue;
            }
            if !assigned.topic_id.is_empty() && assigned.topic_id != *is {
                let halt = Halt::Recreated {
                    was: assigned.topic_id.clone(),
                    is: is.clone(),
                    position: assigned.next_offset().max(0) as u64,
                };
                self.halt(client, &[(assigned.topic.clone(), assigned.partition)], &halt);
            }
        }
    }

    /// Topic ids by name; what no broker answers is left out.
    fn ids(&self, client: &Client, topics: BTreeSet<String>) -> BTreeMap<String, String> {
        let topics: Vec<String> = topics.into_iter().collect();
        match native::topic_ids(client, &topics, ANSWER_WITHIN) {
            Ok(described) => described
                .into_iter()
                .filter_map(|(topic, id)| match id {
                    Ok(id) => Some((topic, id)),
                    Err(code) => {
                        self.group.probe.failed(format!("topic `{topic}`: {code}"));
                        None
                    }
                })
                .collect(),
            Err(code) => {
                self.group.probe.failed(format!("describe topics: {code}"));
                BTreeMap::new()
            }
        }
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

    /// Commits positions to the brokers, for displays of lag only: the store's are the ones that
    /// count.
    fn tell(&self, client: &Client, assigned: &[Arc<Assigned>]) {
        let mut list = TopicPartitionList::new();
        for assigned in assigned {
            let Some(state) = self.group.positions().get(&assigned.name) else { continue };
            let Ok(offset) = i64::try_from(state.next_offset) else { continue };
            if assigned.told.swap(offset, Ordering::Relaxed) != offset {
                let to = Offset::Offset(offset);
                // Names come from the client itself.
                let _ = list.add_partition_offset(&assigned.topic, assigned.partition, to);
            }
        }
        if list.count() == 0 {
            return;
        }
        if let Err(error) = client.commit(&list, CommitMode::Async) {
            info!(%error, "positions not told to the brokers; displays of lag are behind");
        }
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
