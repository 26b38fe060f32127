//! What the pipeline tells the API about itself, for `/v1/health`, `/health/ready` and `/metrics`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contracts::model::Relation;
use pipeline::store::{Committed, PartitionState};
use tokio::sync::watch;

use super::time;
use crate::stream::TooMany;
use crate::stream::slots::{Slot, Slots};

/// How the pipeline is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipelineState {
    /// It is not taking records yet: what it does meanwhile.
    Starting(String),
    /// It applies records.
    Running,
    /// The store refuses what comes, and the pipeline tries again and again: why.
    Refused(String),
    /// It has stopped: why.
    Stopped(String),
}

/// Written by whoever runs the pipeline, read by the API. One per process.
#[derive(Debug)]
pub struct PipelineMonitor {
    state: Mutex<PipelineState>,
    /// µs; 0 before the first commit.
    last_commit_at: AtomicI64,
    /// Was the last batch refused?
    refused: AtomicBool,
    touches: Mutex<BTreeMap<Relation, Touch>>,
    /// Moves with each commit.
    commits: watch::Sender<()>,
    gives_way: watch::Sender<bool>,
    offsets: Mutex<Offsets>,
    /// Reads that wait for a commit.
    waiters: Slots,
}

/// How far source partitions are applied.
#[derive(Debug, Default)]
struct Offsets {
    /// Partition → offset of the first record that is not applied.
    next: HashMap<String, u64>,
    /// Are those among them that no commit of this process has told?
    is_whole: bool,
}

/// Most reads of one tenant that wait at once.
const WAITERS_PER_TENANT: usize = 128;

/// Most reads that wait at once.
const WAITERS: usize = 1_024;

/// What commits did to a relation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Touch {
    /// When one last changed its rows, µs; `None` before the first of this process.
    pub(super) applied_at: Option<i64>,
    /// Newest event time in it (of `ingest`: arrival), µs; `None` while none was seen.
    pub(super) newest: Option<i64>,
}

impl Default for PipelineMonitor {
    fn default() -> Self {
        let state = PipelineState::Starting("the pipeline is starting".to_owned());
        Self {
            state: Mutex::new(state),
            last_commit_at: AtomicI64::new(0),
            refused: AtomicBool::new(false),
            touches: Mutex::default(),
            commits: watch::Sender::new(()),
            gives_way: watch::Sender::new(false),
            offsets: Mutex::default(),
            waiters: Slots::new(WAITERS_PER_TENANT, WAITERS),
        }
    }
}

impl PipelineMonitor {
    /// It takes records from now on.
    pub fn running(&self) {
        self.set(PipelineState::Running);
    }

    /// It takes no records any more.
    pub fn stopped(&self, why: impl Into<String>) {
        self.set(PipelineState::Stopped(why.into()));
    }

    /// The store has just refused a batch; it will be tried again.
    pub fn refused(&self, why: impl Into<String>) {
        self.refused.store(true, Ordering::Relaxed);
        self.set(PipelineState::Refused(why.into()));
    }

    /// It has just committed.
    pub fn committed(&self, committed: &Committed) {
        let now = time::now();
        self.last_commit_at.store(now, Ordering::Relaxed);
        {
            let mut touches = self.touches();
            for (relation, _) in committed.touched.iter().filter(|(_, rows)| !rows.is_empty()) {
                touches.entry(*relation).or_default().applied_at = Some(now);
            }
            for (relation, newest) in &committed.newest {
                let touch = touches.entry(*relation).or_default();
                touch.newest = touch.newest.max(Some(*newest));
            }
        }
        self.told(committed.offsets.iter().cloned());
        self.commits.send_replace(());
        self.ready();
    }

    /// Does it give way to a pipeline under other contracts? Then reads that wait for its commits ask again.
    pub(super) fn give_way(&self, gives_way: bool) {
        self.gives_way.send_replace(gives_way);
    }

    /// Ends once it gives way.
    pub(super) async fn giving_way(&self) {
        let mut gives_way = self.gives_way.subscribe();
        // The sender lives as long as this does.
        let _ = gives_way.wait_for(|gives_way| *gives_way).await;
    }

    /// Changes with each commit from now on.
    pub(super) fn commits(&self) -> watch::Receiver<()> {
        self.commits.subscribe()
    }

    /// A place among the reads that wait.
    pub(super) fn waiter(&self, tenant: &Arc<str>) -> Result<Slot, TooMany> {
        self.waiters.take(tenant)
    }

    /// Reads that wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiters.open()
    }

    /// Were the offsets told that the store had when this process began?
    pub(super) fn knows_offsets(&self) -> bool {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).is_whole
    }

    /// What the store has of all partitions.
    pub(super) fn found_offsets(&self, partitions: Vec<PartitionState>) {
        self.told(partitions.into_iter().map(|state| (state.name, state.next_offset)));
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).is_whole = true;
    }

    /// Offset of the first record of a partition that is not applied; `None` before its first commit.
    pub(super) fn offset(&self, partition: &str) -> Option<u64> {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.next.get(partition).copied()
    }

    /// What was read before a commit may be told after it: offsets only grow.
    fn told(&self, told: impl Iterator<Item = (String, u64)>) {
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, next) in told {
            let known = offsets.next.entry(partition).or_insert(next);
            *known = next.max(*known);
        }
    }

    /// The store takes batches, again if it did not before.
    pub fn ready(&self) {
        if self.refused.swap(false, Ordering::Relaxed) {
            self.running();
        }
    }

    /// How it is.
    pub fn state(&self) -> PipelineState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When it last committed, µs; `None` before the first commit of this process.
    pub fn last_commit_at(&self) -> Option<i64> {
        Some(self.last_commit_at.load(Ordering::Relaxed)).filter(|&at| at != 0)
    }

    /// What commits did to a relation.
    pub(super) fn touch(&self, relation: Relation) -> Touch {
        self.touches().get(&relation).copied().unwrap_or_default()
    }

    /// The newest event time that the store had of a relation, µs.
    pub(super) fn found(&self, relation: Relation, newest: i64) {
        let mut touches = self.touches();
        let touch = touches.entry(relation).or_default();
        touch.newest = touch.newest.max(Some(newest));
    }

    fn touches(&self) -> MutexGuard<'_, BTreeMap<Relation, Touch>> {
        self.touches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: PipelineState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_ends_a_refusal_and_nothing_else() {
        let monitor = PipelineMonitor::default();
        monitor.running();
        monitor.refused("no space left on the device");
        assert_eq!(monitor.state(), PipelineState::Refused("no space left on the device".into()));
        assert_eq!(monitor.last_commit_at(), None);
        monitor.committed(&Committed::default());
        assert_eq!(monitor.state(), PipelineState::Running);
        assert!(monitor.last_commit_at().is_some());
        monitor.stopped("told to");
        monitor.committed(&Committed::default());
        assert_eq!(monitor.state(), PipelineState::Stopped("told to".into()));
    }

    #[test]
    fn a_relation_knows_its_newest_event_and_its_last_commit() {
        let monitor = PipelineMonitor::default();
        let (family, entity) = (Relation::Family(0), Relation::Entity(0));
        let commit = |newest| Committed {
            touched: vec![(family, vec!["default".into()]), (entity, vec![])],
            newest: vec![(family, newest)],
            ..Committed::default()
        };
        monitor.committed(&commit(5));
        // A late event is no newer.
        monitor.committed(&commit(3));
        let touch = monitor.touch(family);
        assert_eq!((touch.newest, touch.applied_at), (Some(5), monitor.last_commit_at()));
        assert_eq!(monitor.touch(entity), Touch::default());
        monitor.found(family, 7);
        assert_eq!(monitor.touch(family).newest, Some(7));
    }
}
