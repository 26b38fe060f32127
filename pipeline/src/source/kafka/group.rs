//! What the members of this process share: settings, what is known of topics, the end of a bounded
//! run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::config::{KafkaConfig, TopicSpec};
use super::error::KafkaError;
use super::native::Topic;
use super::start::{Halt, Mark};
use super::status::{KafkaProbe, partition_name, partition_of_name};
use crate::lease::Lease;
use crate::positions::Positions;

/// Shared by all members.
pub(super) struct Group {
    pub(super) config: KafkaConfig,
    pub(super) probe: KafkaProbe,
    positions: OnceLock<Positions>,
    state: Mutex<State>,
    leases: Mutex<HashMap<(String, i32), Lease>>,
}

struct State {
    /// Names and patterns that stand for no topic yet.
    missing: Vec<String>,
    /// Of a bounded run: partitions that are not at their end yet.
    unfinished: BTreeSet<(String, i32)>,
    halted: Vec<(String, String)>,
}

impl Group {
    pub(super) fn new(
        config: KafkaConfig,
        probe: KafkaProbe,
        partitions: BTreeSet<(String, i32)>,
        missing: Vec<String>,
    ) -> Self {
        probe.missing(missing.clone());
        if let Some(canary) = &config.canary {
            probe.canary(|status| status.topic.clone_from(&canary.topic));
        }
        Self {
            config,
            probe,
            positions: OnceLock::new(),
            state: Mutex::new(State { missing, unfinished: partitions, halted: Vec::new() }),
            leases: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store has committed. Nothing is polled before it is known.
    pub(super) fn positions(&self) -> &Positions {
        self.positions.get_or_init(Positions::default)
    }

    pub(super) fn set_positions(&self, positions: &Positions) {
        self.probe.positions(positions.clone());
        // Every member sets the same.
        let _ = self.positions.set(positions.clone());
    }

    /// The encoding of a topic's records.
    pub(super) fn format(&self, topic: &str) -> contracts::model::Format {
        self.config.format(topic)
    }

    /// Takes a partition away from whichever member of this process still believes to have it. The
    /// broker has given it to another one, and a member that was not heard of for a while learns
    /// of that last: until then its batches would count beside those of the new one.
    pub(super) fn take_over(&self, topic: &str, partition: i32) {
        let key = (topic.to_owned(), partition);
        let before = self.leases().remove(&key);
        if let Some(before) = before {
            before.revoke(Duration::ZERO);
        }
    }

    /// Keeps the lease of a partition that was taken over.
    pub(super) fn holds(&self, topic: &str, partition: i32, lease: Lease) {
        self.leases().insert((topic.to_owned(), partition), lease);
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<(String, i32), Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What members subscribe to: names and patterns.
    pub(super) fn subscription(&self) -> Vec<&str> {
        let named = self.config.topics.iter().map(|spec| spec.text.as_str());
        named.chain(self.config.canary.iter().map(|canary| canary.topic.as_str())).collect()
    }

    /// Topics that should be read, as far as they are known by name: those that are named, and those
    /// that patterns stood for when something was read of them.
    pub(super) fn topics(&self) -> BTreeSet<String> {
        let named = self.subscription().into_iter().filter(|text| !text.starts_with('^'));
        let mut topics: BTreeSet<String> = named.map(str::to_owned).collect();
        let patterns: Vec<&TopicSpec> =
            self.config.topics.iter().filter(|spec| spec.is_pattern()).collect();
        if !patterns.is_empty() {
            self.positions().with(|partitions| {
                let known = partitions.keys().filter_map(|name| partition_of_name(name));
                let known: BTreeSet<&str> = known.map(|(topic, _)| topic).collect();
                let is_ours = |topic: &&str| patterns.iter().any(|spec| spec.matches(topic));
                topics.extend(known.into_iter().filter(is_ours).map(str::to_owned));
            });
        }
        topics
    }

    /// Does the store know partitions of the topic, and with which ids?
    pub(super) fn known(&self, topic: &str) -> (bool, BTreeSet<String>) {
        self.positions().with(|partitions| {
            let marks: Vec<Option<Mark>> = partitions
                .iter()
                .filter(|(name, _)| partition_of_name(name).is_some_and(|(of, _)| of == topic))
                .map(|(_, state)| state.fingerprint.as_deref().map(Mark::parse))
                .collect();
            let ids = marks.iter().flatten().map(|mark| mark.topic_id.clone());
            (!marks.is_empty(), ids.filter(|id| !id.is_empty()).collect())
        })
    }

    /// The stored position of a partition.
    pub(super) fn position(&self, (topic, partition): &(String, i32)) -> Option<u64> {
        let stored = self.positions().get(&partition_name(topic, *partition));
        stored.map(|stored| stored.next_offset)
    }

    /// Is it known that there is no such topic?
    pub(super) fn is_missing(&self, topic: &str) -> bool {
        self.lock().missing.iter().any(|text| text == topic)
    }

    /// Notes which of the topics are there.
    pub(super) fn found(&self, found: &BTreeMap<String, Topic>) {
        let assigned = self.probe.status().partitions;
        let is_there = |spec: &TopicSpec| match spec.is_pattern() {
            false => found.contains_key(&spec.text),
            true => {
                let mut known = found.keys().chain(assigned.iter().map(|known| &known.topic));
                known.any(|topic| spec.matches(topic))
            }
        };
        let missing = self.config.topics.iter().filter(|spec| !is_there(spec));
        let missing: Vec<String> = missing.map(|spec| spec.text.clone()).collect();
        let before = std::mem::replace(&mut self.lock().missing, missing.clone());
        for topic in missing.iter().filter(|topic| !before.contains(topic)) {
            warn!(topic, "there is no such topic any more");
        }
        self.probe.missing(missing);
    }

    /// A partition is not read any more.
    pub(super) fn halted(&self, topic: &str, partition: i32, halt: &Halt) {
        let mut state = self.lock();
        // Once, however often it is assigned and found to be what it was.
        let name = format!("{topic}/{partition}");
        if !state.halted.iter().any(|(halted, _)| *halted == name) {
            state.halted.push((name, halt.to_string()));
        }
        state.unfinished.remove(&(topic.to_owned(), partition));
    }

    /// A partition of a bounded run is at its end.
    pub(super) fn finished(&self, topic: &str, partition: i32) {
        self.lock().unfinished.remove(&(topic.to_owned(), partition));
    }

    /// Of a bounded run: is everything read? Partitions that were stopped are told as an error.
    pub(super) fn is_over(&self) -> Result<bool, KafkaError> {
        let mut state = self.lock();
        if !self.config.until_end || !state.unfinished.is_empty() {
            return Ok(false);
        }
        match std::mem::take(&mut state.halted) {
            halted if halted.is_empty() => Ok(true),
            halted => Err(KafkaError::Halted { halted }),
        }
    }
}
