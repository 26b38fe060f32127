//! The poll thread: keeps the membership alive, and looks once a second whether everything that
//! should be read has a reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::{ANSWER_WITHIN, Client, Key, Member, POLL};
use crate::source::kafka::error::KafkaError;
use crate::source::kafka::native::{self, Topic};
use crate::source::kafka::partition::Assigned;
use crate::source::kafka::start::Halt;
use crate::source::kafka::watch::{self, Facts, Unread, Verdict};

/// How often topics are looked at and positions told.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The wait of one poll while the member leaves, so that it is seen soon that it has.
const LEAVE_POLL: Duration = Duration::from_millis(10);

impl Member {
    /// Polls until stopped, then leaves the group: what was handed on is waited for.
    pub(in super::super) fn run(&self, client: Arc<Client>) {
        let mut looked = Instant::now();
        let mut unread = Unread::default();
        while !self.stop.load(Ordering::Relaxed) {
            self.poll(&client, POLL);
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look(&client, &mut unread);
            }
        }
        self.leave(&client);
        // What is left holds the client.
        self.lock().assigned.clear();
    }

    /// Leaves the group, and waits until it has.
    fn leave(&self, client: &Client) {
        client.unsubscribe();
        let deadline = Instant::now() + self.group.config.drain_within + ANSWER_WITHIN;
        // A client that is closed while it gives its partitions back may forget to leave. The group
        // would wait for this member until its session times out, and with it whoever comes next.
        let is_left = || self.lock().assigned.is_empty() && !native::is_member(client);
        while !is_left() && Instant::now() < deadline {
            self.poll(client, LEAVE_POLL);
        }
    }

    fn poll(&self, client: &Client, timeout: Duration) {
        match client.poll(timeout) {
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

    /// Compares topic ids and tells the brokers how far we are; the first member looks after the
    /// topics that nobody reads, too.
    fn look(&self, client: &Client, unread: &mut Unread) {
        let assigned: Vec<Arc<Assigned>> = self.lock().assigned.values().cloned().collect();
        self.tell(client, &assigned);
        let mut topics: BTreeSet<String> = assigned.iter().map(|a| a.topic.clone()).collect();
        let named = if self.number == 0 { self.group.topics() } else { BTreeSet::new() };
        topics.extend(named.iter().cloned());
        let Some(found) = self.describe(client, topics) else { return };
        let mut is_new = false;
        for assigned in assigned {
            let Some(topic) = found.get(&assigned.topic) else { continue };
            if self.group.config.is_canary(&assigned.topic) {
                continue;
            }
            if assigned.topic_id.is_empty() || assigned.topic_id == topic.id {
                continue;
            }
            // One of which nothing was read yet is a new topic, whatever was there before. What is on its
            // way is committed before it is given back, and then it is known.
            let (is_known, _) = self.group.known(&assigned.topic);
            is_new |= !is_known;
            if is_known {
                let halt = Halt::Recreated {
                    was: assigned.topic_id.clone(),
                    is: topic.id.clone(),
                    position: assigned.next_offset().max(0) as u64,
                };
                self.halt(client, &[(assigned.topic.clone(), assigned.partition)], &halt);
            }
        }
        if is_new {
            info!("a topic was made again before anything was read of it: joining the group again");
            self.join_again(client);
        } else if self.number == 0 {
            self.group.found(&found);
            self.watch(client, &named, &found, unread);
        }
    }

    /// Looks for topics that are there and have no reader. A client that was forming its group just
    /// when a topic was deleted and made again may give it to nobody, and never know (ADR 0011).
    fn watch(
        &self,
        client: &Client,
        named: &BTreeSet<String>,
        found: &BTreeMap<String, Topic>,
        unread: &mut Unread,
    ) {
        let mut without: BTreeSet<Key> = BTreeSet::new();
        for (name, topic) in found.iter().filter(|(name, _)| named.contains(*name)) {
            let (_, known_ids) = self.group.known(name);
            let (read, halted) = self.group.probe.readers(name);
            let known_ids = match self.group.config.is_canary(name) {
                // It goes on whatever became of its topic.
                true => BTreeSet::new(),
                false => known_ids,
            };
            let facts = Facts { topic: topic.clone(), known_ids, read, halted };
            match watch::judge(&facts) {
                Verdict::Fine => {}
                Verdict::Recreated { was, partitions } => {
                    for partition in partitions {
                        let key = (name.clone(), partition);
                        let position = self.group.position(&key).unwrap_or(0);
                        let (was, is) = (was.clone(), topic.id.clone());
                        self.told_halted(&key, &Halt::Recreated { was, is, position });
                    }
                }
                Verdict::Unread(partitions) => {
                    without.extend(partitions.into_iter().map(|number| (name.clone(), number)));
                }
            }
        }
        let overdue = unread.note(without, Instant::now());
        // A group that is being formed, or one that cannot be asked, is looked at again.
        if !overdue.is_empty()
            && let Some(readers) = watch::readers(client, &self.group.config.group)
        {
            let nobodys = overdue.into_iter().filter(|key| !readers.contains(key));
            unread.asked(nobodys.collect(), Instant::now());
            let partitions = unread.shown();
            if !partitions.is_empty() {
                warn!(?partitions, "no member of the group reads these: joining it again");
                self.group.probe.unread(partitions);
                self.join_again(client);
                return;
            }
        }
        self.group.probe.unread(unread.shown());
    }

    /// Leaves the group and joins it again, so that the group is formed by what brokers say now.
    fn join_again(&self, client: &Client) {
        self.leave(client);
        let action = "subscribe to topics";
        if let Err(cause) = client.subscribe(&self.group.subscription()) {
            self.fail(KafkaError::Client { action, cause });
        }
    }

    /// What brokers say of topics; a topic that they do not know is left out. `None` when nobody
    /// answers.
    fn describe(
        &self,
        client: &Client,
        topics: BTreeSet<String>,
    ) -> Option<BTreeMap<String, Topic>> {
        let topics: Vec<String> = topics.into_iter().collect();
        match native::describe_topics(client, &topics, ANSWER_WITHIN) {
            Ok(described) => Some(
                described
                    .into_iter()
                    .filter_map(|(name, topic)| match topic {
                        Ok(topic) => Some((name, topic)),
                        Err(_) if self.group.is_missing(&name) => None,
                        Err(code) => {
                            self.group.probe.failed(format!("topic `{name}`: {code}"));
                            None
                        }
                    })
                    .collect(),
            ),
            // Found out late where there was no topic to ask for at the start.
            Err(code) if native::is_too_old(code) => {
                self.fail(KafkaError::TooOld { brokers: self.group.config.brokers.clone() });
                None
            }
            Err(code) => {
                self.group.probe.failed(format!("describe topics: {code}"));
                None
            }
        }
    }

    /// Topic ids by name; what no broker answers is left out.
    pub(super) fn ids(
        &self,
        client: &Client,
        topics: BTreeSet<String>,
    ) -> BTreeMap<String, String> {
        let found = self.describe(client, topics).unwrap_or_default();
        found.into_iter().map(|(name, topic)| (name, topic.id)).collect()
    }

    /// Commits positions to the brokers, for displays of lag only: the store's are the ones that
    /// count.
    pub(super) fn tell(&self, client: &Client, assigned: &[Arc<Assigned>]) {
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
