//! How the Kafka source is, for `/v1/health` and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::canary::CanaryStatus;
use crate::clock;
use crate::positions::Positions;
use crate::store::PartitionState;

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
    /// Partitions (`topic/number`) that nobody reads though they are there, and have been for a
    /// while; the source joins its group again on their account.
    pub unread_partitions: Vec<String>,
    /// What went wrong last, until something goes well again.
    pub last_error: Option<String>,
    /// How the canary is, where there is one.
    pub canary: Option<CanaryStatus>,
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

    /// How far the partition that is furthest behind is, µs; `None` while that is known of none.
    pub fn lag_micros(&self) -> Option<i64> {
        self.partitions.iter().filter_map(|partition| partition.lag_micros).max()
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
    /// How long ago, µs, the last applied record was appended, or everything that there was had been
    /// applied; 0 while nothing waits. No record that waits is older. `None` while the end is not
    /// known, and before the first record of a partition that was never caught up.
    pub lag_micros: Option<i64>,
    /// Highest accepted event time, µs.
    pub watermark: Option<i64>,
    /// Event time of the last accepted record, µs.
    pub last_event_at: Option<i64>,
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
    unread: Vec<String>,
    last_error: Option<String>,
    canary: Option<CanaryStatus>,
}

#[derive(Debug, Default)]
struct Known {
    member: usize,
    is_ours: bool,
    /// Where reading began, and the stored position that it began with: they differ when nothing
    /// was stored and when a policy skipped records.
    begun: Option<(u64, Option<u64>)>,
    end: Option<u64>,
    /// When nothing waited last, µs.
    caught_up_at: Option<i64>,
    halted: Option<String>,
}

impl Known {
    fn position(&self, stored: Option<&PartitionState>) -> u64 {
        let stored = stored.map(|stored| stored.next_offset);
        match self.begun {
            Some((start, before)) if before == stored => start,
            _ => stored.unwrap_or(0),
        }
    }

    /// Notes the end of the partition.
    fn seen_end(&mut self, end: u64, stored: Option<&PartitionState>, now: i64) {
        self.end = Some(end);
        if self.position(stored) >= end {
            self.caught_up_at = Some(now);
        }
    }

    fn shown(
        &self,
        (topic, partition): (&str, i32),
        stored: Option<&PartitionState>,
        now: i64,
    ) -> KafkaPartition {
        let position = self.position(stored);
        let lag = self.end.map(|end| end.saturating_sub(position));
        // An idle partition got its last record long ago; one that just came is not that old.
        let since = stored.and_then(|stored| stored.last_arrived_at).max(self.caught_up_at);
        let lag_micros = match lag {
            Some(0) => Some(0),
            Some(_) => since.map(|since| now.saturating_sub(since).max(0)),
            None => None,
        };
        KafkaPartition {
            topic: topic.to_owned(),
            partition,
            member: self.member,
            position,
            end: self.end,
            lag,
            lag_micros,
            watermark: stored.and_then(|stored| stored.watermark),
            last_event_at: stored.and_then(|stored| stored.last_event_at),
            applied_at: stored.map(|stored| stored.updated_at),
            halted: self.halted.clone(),
        }
    }
}

impl KafkaProbe {
    /// How many partitions have records that are not applied yet, as far as brokers told.
    pub fn partitions_behind(&self) -> usize {
        self.status().partitions.iter().filter(|partition| partition.lag > Some(0)).count()
    }

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

    /// A partition is read from `start` on; `None` when no broker tells where that is.
    pub(super) fn assigned(
        &self,
        topic: &str,
        partition: i32,
        member: usize,
        (start, end): (Option<u64>, Option<u64>),
    ) {
        let mut state = self.lock();
        let stored = state.positions.get(&partition_name(topic, partition));
        let known = state.partitions.entry((topic.to_owned(), partition)).or_default();
        let before = stored.as_ref().map(|stored| stored.next_offset);
        let begun = start.map(|start| (start, before));
        let end = end.max(known.end);
        *known = Known { member, is_ours: true, begun, ..Known::default() };
        if let Some(end) = end {
            known.seen_end(end, stored.as_ref(), clock::now());
        }
        state.last_error = None;
    }

    /// A policy skipped records: reading goes on at `offset`.
    pub(super) fn moved(&self, topic: &str, partition: i32, offset: u64) {
        let mut state = self.lock();
        let stored = state.positions.get(&partition_name(topic, partition));
        if let Some(known) = state.partitions.get_mut(&(topic.to_owned(), partition)) {
            known.begun = Some((offset, stored.map(|stored| stored.next_offset)));
        }
    }

    pub(super) fn revoked(&self, topic: &str, partition: i32) {
        if let Some(known) = self.lock().partitions.get_mut(&(topic.to_owned(), partition)) {
            known.is_ours = false;
        }
    }

    pub(super) fn end(&self, topic: &str, partition: i32, end: u64) {
        let mut state = self.lock();
        let stored = state.positions.get(&partition_name(topic, partition));
        if let Some(known) = state.partitions.get_mut(&(topic.to_owned(), partition)) {
            known.seen_end(end, stored.as_ref(), clock::now());
        }
    }

    pub(super) fn halted(&self, topic: &str, partition: i32, member: usize, why: String) {
        let mut state = self.lock();
        let known = state.partitions.entry((topic.to_owned(), partition)).or_default();
        known.member = member;
        known.is_ours = true;
        known.halted = Some(why);
    }

    pub(super) fn missing(&self, topics: Vec<String>) {
        self.lock().missing = topics;
    }

    /// Partitions that nobody reads.
    pub(super) fn unread(&self, partitions: Vec<String>) {
        self.lock().unread = partitions;
    }

    /// Partitions of a topic that this process reads, and those that it has stopped.
    pub(super) fn readers(&self, topic: &str) -> (BTreeSet<i32>, BTreeSet<i32>) {
        let state = self.lock();
        let (mut read, mut halted) = (BTreeSet::new(), BTreeSet::new());
        for ((_, number), known) in state.partitions.iter().filter(|((of, _), _)| of == topic) {
            match known.halted {
                Some(_) => halted.insert(*number),
                None => known.is_ours && read.insert(*number),
            };
        }
        (read, halted)
    }

    pub(super) fn failed(&self, message: String) {
        self.lock().last_error = Some(message);
    }

    /// Changes what is known of the canary.
    pub(super) fn canary(&self, change: impl FnOnce(&mut CanaryStatus)) {
        change(self.lock().canary.get_or_insert_default());
    }

    /// Is the partition ours?
    pub(super) fn reads(&self, topic: &str, partition: i32) -> bool {
        let state = self.lock();
        let known = state.partitions.get(&(topic.to_owned(), partition));
        known.is_some_and(|known| known.is_ours && known.halted.is_none())
    }

    pub(super) fn works(&self) {
        self.lock().last_error = None;
    }

    /// How it is now.
    pub fn status(&self) -> KafkaStatus {
        let now = clock::now();
        let state = self.lock();
        let partitions = state
            .partitions
            .iter()
            .filter(|(_, known)| known.is_ours)
            .map(|((topic, partition), known)| {
                let stored = state.positions.get(&partition_name(topic, *partition));
                known.shown((topic, *partition), stored.as_ref(), now)
            })
            .collect();
        KafkaStatus {
            brokers: state.brokers.clone(),
            group: state.group.clone(),
            partitions,
            missing_topics: state.missing.clone(),
            unread_partitions: state.unread.clone(),
            last_error: state.last_error.clone(),
            canary: state.canary.clone(),
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

    const NOW: i64 = 1_000_000_000;

    fn stored(next_offset: u64, last_arrived_at: i64) -> PartitionState {
        let last_arrived_at = Some(last_arrived_at);
        PartitionState { next_offset, last_arrived_at, ..PartitionState::default() }
    }

    #[track_caller]
    fn check(known: &Known, stored: Option<&PartitionState>, expected: (u64, Option<i64>)) {
        let shown = known.shown(("t", 0), stored, NOW);
        assert_eq!((shown.position, shown.lag_micros), expected, "{known:?} {stored:?}");
    }

    #[test]
    fn time_behind_is_that_of_the_last_applied_record() {
        let known = Known { end: Some(10), ..Known::default() };
        check(&known, Some(&stored(4, NOW - 7)), (4, Some(7)));
        check(&known, Some(&stored(10, NOW - 7)), (10, Some(0)));
        check(&known, None, (0, None));
        check(&Known::default(), Some(&stored(4, NOW - 7)), (4, None));
        // A clock that was set back.
        check(&known, Some(&stored(4, NOW + 7)), (4, Some(0)));
    }

    #[test]
    fn a_record_after_a_long_pause_is_not_as_old_as_the_pause() {
        let mut known = Known::default();
        let before = stored(4, 5);
        known.seen_end(4, Some(&before), NOW - 100);
        known.seen_end(5, Some(&before), NOW - 1);
        check(&known, Some(&before), (4, Some(100)));
    }

    #[test]
    fn a_partition_of_which_nothing_is_stored_is_where_its_reading_began() {
        let begun = |start, before| Known {
            begun: Some((start, before)),
            end: Some(10),
            caught_up_at: Some(NOW),
            ..Known::default()
        };
        check(&begun(10, None), None, (10, Some(0)));
        check(&begun(3, None), Some(&stored(4, NOW)), (4, Some(0)));
        // Records were skipped: the stored position is overtaken until the next batch.
        check(&begun(8, Some(4)), Some(&stored(4, NOW)), (8, Some(0)));
        check(&begun(8, Some(4)), Some(&stored(9, NOW)), (9, Some(0)));
    }

    #[test]
    fn a_halted_partition_keeps_its_place_and_says_why() {
        let probe = KafkaProbe::new("b:1", "g");
        probe.assigned("t", 1, 0, (Some(3), Some(9)));
        probe.halted("t", 1, 0, "recreated".to_owned());
        let status = probe.status();
        assert_eq!(
            status.halted().map(|(p, why)| (p.position, why)).collect::<Vec<_>>(),
            [(3, "recreated")]
        );
        assert_eq!(status.lag(), 6);
        probe.assigned("t", 1, 0, (Some(3), None));
        assert_eq!(probe.status().halted().count(), 0);
        assert_eq!(probe.status().partitions[0].end, Some(9), "the end is not forgotten");
        probe.revoked("t", 1);
        assert_eq!(probe.status().partitions, []);
    }
}
