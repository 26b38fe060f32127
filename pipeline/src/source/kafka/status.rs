//! How the Kafka source is, for `/v1/health` and the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::positions::Positions;

/// A look at the source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KafkaStatus {
    /// Brokers as configured.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Partitions that are ours, and those that were stopped.
    pub partitions: Vec<KafkaPartition>,
    /// Topics and patterns that stand for no topic yet.
    pub missing_topics: Vec<String>,
    /// What went wrong last, until something goes well again.
    pub last_error: Option<String>,
}

impl KafkaStatus {
    /// Partitions that were stopped and need a person.
    pub fn halted(&self) -> impl Iterator<Item = (&KafkaPartition, &str)> {
        self.partitions
            .iter()
            .filter_map(|partition| Some((partition, partition.halted.as_deref()?)))
    }

    /// Records behind, over all partitions whose end is known.
    pub fn lag(&self) -> u64 {
        self.partitions.iter().filter_map(|partition| partition.lag).sum()
    }
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KafkaPartition {
    /// Topic.
    pub topic: String,
    /// Number in the topic.
    pub partition: i32,
    /// Group member of this process that reads it.
    pub member: usize,
    /// Offset to continue from: everything before it is applied.
    pub position: u64,
    /// Offset after the last record that can be read; `None` until a broker told.
    pub end: Option<u64>,
    /// Records that are not applied yet.
    pub lag: Option<u64>,
    /// Highest accepted event time, µs.
    pub watermark: Option<i64>,
    /// When its last batch was applied, µs.
    pub applied_at: Option<i64>,
    /// Why it is not read.
    pub halted: Option<String>,
}

/// Name of a partition in the store: positions, watermarks and counts are kept under it.
pub fn partition_name(topic: &str, partition: i32) -> String {
    format!("kafka:{topic}/{partition}")
}

/// Topic and number of a partition by its name in the store; `None` when it is not one of Kafka.
pub fn partition_of_name(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.strip_prefix("kafka:")?.rsplit_once('/')?;
    Some((topic, number.parse().ok()?))
}

/// Handle to look at a source from outside. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KafkaProbe(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    brokers: String,
    group: String,
    positions: Positions,
    partitions: BTreeMap<(String, i32), Known>,
    missing: Vec<String>,
    last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Known {
    member: usize,
    is_ours: bool,
    end: Option<u64>,
    halted: Option<String>,
}

impl KafkaProbe {
    pub(super) fn new(brokers: &str, group: &str) -> Self {
        let probe = Self::default();
        let mut state = probe.lock();
        state.brokers = brokers.to_owned();
        state.group = group.to_owned();
        drop(state);
        probe
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn positions(&self, positions: Positions) {
        self.lock().positions = positions;
    }

    pub(super) fn assigned(&self, topic: &str, partition: i32, member: usize, end: Option<u64>) {
        let mut state = self.lock();
        let known = state.partitions.entry((topic.to_owned(), partition)).or_default();
        *known = Known { member, is_ours: true, end: end.max(known.end), halted: None };
        state.last_error = None;
    }

    pub(super) fn revoked(&self, topic: &str, partition: i32) {
        if let Some(known) = self.lock().partitions.get_mut(&(topic.to_owned(), partition)) {
            known.is_ours = false;
        }
    }

    pub(super) fn end(&self, topic: &str, partition: i32, end: u64) {
        if let Some(known) = self.lock().partitions.get_mut(&(topic.to_owned(), partition)) {
            known.end = Some(end);
        }
    }

    pub(super) fn halted(&self, topic: &str, partition: i32, member: usize, why: String) {
        let mut state = self.lock();
        let known = state.partitions.entry((topic.to_owned(), partition)).or_default();
        *known = Known { member, is_ours: true, end: known.end, halted: Some(why) };
    }

    pub(super) fn missing(&self, topics: Vec<String>) {
        self.lock().missing = topics;
    }

    pub(super) fn failed(&self, message: String) {
        self.lock().last_error = Some(message);
    }

    pub(super) fn works(&self) {
        self.lock().last_error = None;
    }

    /// How it is now.
    pub fn status(&self) -> KafkaStatus {
        let state = self.lock();
        let partitions = state
            .partitions
            .iter()
            .filter(|(_, known)| known.is_ours)
            .map(|((topic, partition), known)| {
                let stored = state.positions.get(&partition_name(topic, *partition));
                let position = stored.as_ref().map_or(0, |stored| stored.next_offset);
                KafkaPartition {
                    topic: topic.clone(),
                    partition: *partition,
                    member: known.member,
                    position,
                    end: known.end,
                    lag: known.end.map(|end| end.saturating_sub(position)),
                    watermark: stored.as_ref().and_then(|stored| stored.watermark),
                    applied_at: stored.as_ref().map(|stored| stored.updated_at),
                    halted: known.halted.clone(),
                }
            })
            .collect();
        KafkaStatus {
            brokers: state.brokers.clone(),
            group: state.group.clone(),
            partitions,
            missing_topics: state.missing.clone(),
            last_error: state.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_found_again_by_its_name() {
        for (topic, number) in [("orders.raw", 0), ("a-b_c", 17)] {
            assert_eq!(partition_of_name(&partition_name(topic, number)), Some((topic, number)));
        }
        for other in ["http", "file:/data/kafka:x/1", "kafka:orders", "kafka:orders/x"] {
            assert_eq!(partition_of_name(other), None, "{other}");
        }
    }
}
