//! Topics of a Kafka cluster, read as a member of a consumer group.
//!
//! A [`KafkaSource`] is one member; [`open`] makes as many as are wanted. Which partitions a member
//! has changes while it runs. A batch is always of one partition, named `kafka:TOPIC/NUMBER`, and a
//! position is the offset of its next record, with the topic's id and the last leader epoch as its
//! fingerprint.
//!
//! What always holds: positions are those that the serving store committed with the records'
//! effects, looked up when a partition is assigned; what Kafka keeps as committed offsets is a copy
//! for displays of lag. A partition that is taken away is let go only when nothing of it is being
//! applied any more (see [`crate::lease`]). Records are skipped by a declared policy alone.
//!
//! Start at [`open`]; [`member`] is where the work is, [`start`] where its decisions are.

mod canary;
mod config;
mod context;
mod error;
mod group;
mod look;
mod member;
mod native;
mod partition;
mod properties;
mod start;
mod status;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tracing::warn;

use crate::batch::CANARY;
use crate::positions::Positions;

use super::{Limits, Next, Progress, Source, SourceError};
use canary::Canary;
use context::MemberContext;
use group::Group;
use member::{Client, Member};
use partition::{Assigned, Trouble};

pub use canary::{CanaryConfig, CanaryStatus, TOPIC as CANARY_TOPIC};
pub use config::{KafkaConfig, TopicSpec};
pub(crate) use error::is_refusal;
pub use error::{KafkaError, is_refused};
pub use properties::{ClientKind, settings_for};
pub use start::{OutOfRange, StartAt};
pub use status::{KafkaPartition, KafkaProbe, KafkaStatus, partition_name, partition_of_name};

/// What to do when brokers or topics are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfAbsent {
    /// Say so and give up.
    Fail,
    /// Say so and wait for them.
    Wait,
}

/// Looks at the brokers and makes the members. Nothing is read before their first
/// [`Source::next`].
pub fn open(
    config: KafkaConfig,
    if_absent: IfAbsent,
) -> Result<(Vec<KafkaSource>, KafkaProbe), KafkaError> {
    if config.topics.is_empty() {
        return Err(KafkaError::NoTopics);
    }
    let probe = KafkaProbe::new(&config.brokers, &config.group);
    let (partitions, missing) = match look::look(&config) {
        Ok(seen) => (seen.partitions, seen.missing),
        Err(error @ KafkaError::Unreachable { .. }) if if_absent == IfAbsent::Wait => {
            warn!(%error, "waiting for the brokers");
            probe.failed(error.to_string());
            (BTreeSet::new(), Vec::new())
        }
        Err(error) => return Err(error),
    };
    if let Some(topic) = missing.first() {
        let error = KafkaError::NoTopic { topic: topic.clone(), brokers: config.brokers.clone() };
        if if_absent == IfAbsent::Fail {
            return Err(error);
        }
        warn!(%error, "waiting for the topic");
    }
    let count = partitions.len();
    let members = config.members.max(1);
    let group = Arc::new(Group::new(config, probe.clone(), partitions, missing));
    let sources = (0..members).map(|number| KafkaSource::new(number, &group, count));
    Ok((sources.collect::<Result<_, _>>()?, probe))
}

/// One member of the group.
pub struct KafkaSource {
    name: String,
    group: Arc<Group>,
    member: Arc<Member>,
    /// Until the poll thread takes it.
    client: Option<Arc<Client>>,
    poll: Option<JoinHandle<()>>,
    canary: Option<Canary>,
}

impl KafkaSource {
    fn new(number: usize, group: &Arc<Group>, partitions: usize) -> Result<Self, KafkaError> {
        let member = Member::new(number, Arc::clone(group));
        let client: Client = group
            .config
            .client(number, partitions)?
            .create_with_context(MemberContext(Arc::clone(&member)))
            .map_err(KafkaError::of_settings)?;
        let client = Arc::new(client);
        member.attach(&client);
        Ok(Self {
            name: format!("kafka:{}#{number}", group.config.brokers),
            group: Arc::clone(group),
            member,
            client: Some(client),
            poll: None,
            canary: None,
        })
    }

    fn start(&mut self) -> Result<(), KafkaError> {
        let Some(client) = self.client.take() else { return Ok(()) };
        let config = &self.group.config;
        let action = "subscribe to topics";
        client
            .subscribe(&self.group.subscription())
            .map_err(|cause| KafkaError::Client { action, cause })?;
        let member = Arc::clone(&self.member);
        let thread = std::thread::Builder::new()
            .name(format!("kafka {}", member.number))
            .spawn(move || member.run(client))
            .map_err(KafkaError::Thread)?;
        self.poll = Some(thread);
        // One for all members.
        if let (Some(canary), 0) = (&config.canary, self.member.number) {
            self.canary = Some(Canary::spawn(&self.group, canary.clone())?);
        }
        Ok(())
    }

    fn trouble(&self, assigned: &Assigned, trouble: Trouble) {
        match trouble {
            Trouble::OutOfRange => self.member.out_of_range(assigned),
            // The topic is being deleted, or moved: what it is becomes clear when it is looked at.
            Trouble::Other(code) => {
                let what = match code {
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition => "the topic or partition is gone",
                    _ => "the partition cannot be read for now",
                };
                warn!(partition = &*assigned.name, %code, "{what}");
                self.group.probe.failed(format!("{}: {what}: {code}", assigned.name));
                self.member.ready(&assigned.topic, assigned.partition);
            }
        }
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn resume(&mut self, committed: &Positions) -> Result<(), SourceError> {
        self.group.set_positions(committed);
        Ok(())
    }

    fn next(&mut self, limits: Limits, timeout: Duration) -> Result<Next, SourceError> {
        self.start()?;
        if let Some(error) = self.member.take_failure() {
            return Err(error.into());
        }
        if self.group.is_over()? {
            return Ok(Next::End);
        }
        let Some(assigned) = self.member.next_ready(timeout) else {
            return Ok(Next::Idle);
        };
        let mut taken = assigned.take(limits);
        if let Some(batch) = &mut taken.batch
            && self.group.config.is_canary(&assigned.topic)
        {
            batch.source = CANARY;
        }
        if taken.is_full && taken.trouble.is_none() {
            // Behind the others: each partition gets its turn.
            self.member.ready(&assigned.topic, assigned.partition);
        }
        if let Some(trouble) = taken.trouble {
            self.trouble(&assigned, trouble);
        }
        if self.group.config.until_end && assigned.is_done() {
            self.group.finished(&assigned.topic, assigned.partition);
        }
        Ok(taken.batch.map_or(Next::Idle, |batch| Next::Batch(batch.into())))
    }

    fn progress(&self) -> Option<Progress> {
        if !self.group.config.until_end || self.member.number > 0 {
            return None;
        }
        let partitions = self.group.probe.status().partitions;
        let ends = partitions.iter().filter_map(|partition| partition.end);
        let positions = partitions.iter().map(|partition| partition.position);
        Some(Progress { done: positions.sum(), total: ends.sum() })
    }
}

impl Drop for KafkaSource {
    /// Leaves the group: waits for what was handed on, up to the deadline of a revocation.
    fn drop(&mut self) {
        self.canary = None;
        self.member.stop();
        if let Some(thread) = self.poll.take()
            && thread.join().is_err()
        {
            warn!("the poll thread of the Kafka source panicked");
        }
    }
}
