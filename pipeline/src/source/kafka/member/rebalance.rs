//! Partitions come and go: callbacks of the client, on the poll thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::{Client, Key, Member, range};
use crate::lease::Revoked;
use crate::source::kafka::error::KafkaError;
use crate::source::kafka::partition::Assigned;
use crate::source::kafka::start::{Facts, Mark, Start, choose_start};
use crate::source::kafka::{native, partition_name};

impl Member {
    /// Takes over what the group gave to this member.
    pub(in super::super) fn assign(&self, client: &Client, partitions: &TopicPartitionList) {
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
        let (topic_known, known_ids) = self.group.known(topic);
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

    /// Gives back what the group takes from this member, or has taken from it (`lost`).
    pub(in super::super) fn revoke(
        &self,
        client: &Client,
        partitions: &TopicPartitionList,
        lost: bool,
    ) {
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
}
