//! What the members of this process share: settings, what is known of topics, the end of a bounded
//! run.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::config::KafkaConfig;
use super::error::KafkaError;
use super::member::Client;
use super::native;
use super::start::Halt;
use super::status::KafkaProbe;
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

    /// Looks whether topics that were missing are there now.
    pub(super) fn look_for_topics(&self, client: &Client) {
        let missing = self.lock().missing.clone();
        if missing.is_empty() {
            return;
        }
        let assigned = self.probe.status().partitions;
        let named: Vec<String> =
            missing.iter().filter(|text| !text.starts_with('^')).cloned().collect();
        let found = native::topic_ids(client, &named, super::member::ANSWER_WITHIN);
        let found = found.unwrap_or_default();
        let is_there = |text: &String| {
            found.get(text).is_some_and(Result::is_ok)
                || self.config.topics.iter().any(|spec| {
                    spec.text == *text && assigned.iter().any(|known| spec.matches(&known.topic))
                })
        };
        let missing: Vec<String> = missing.into_iter().filter(|text| !is_there(text)).collect();
        self.probe.missing(missing.clone());
        self.lock().missing = missing;
    }

    /// A partition is not read any more.
    pub(super) fn halted(&self, topic: &str, partition: i32, halt: &Halt) {
        let mut state = self.lock();
        state.halted.push((format!("{topic}/{partition}"), halt.to_string()));
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
