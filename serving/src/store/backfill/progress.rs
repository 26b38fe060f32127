//! How far the backfill is, for readers: which metrics and entities are not whole yet.
//!
//! It is moved after the commit that it tells of. So who finds here that something is whole, and then
//! begins a snapshot, sees all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// How far something is, in positions of the journal over all that has to be done for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackfillProgress {
    /// Done.
    pub done: u64,
    /// Of so many.
    pub total: u64,
}

impl BackfillProgress {
    /// Whole percents, 100 only at the end.
    pub fn percent(self) -> u64 {
        if self.done >= self.total { 100 } else { self.done * 100 / self.total.max(1) }
    }
}

/// What is being backfilled. Clones look at the same.
#[derive(Debug, Clone, Default)]
pub struct Backfilling(Arc<RwLock<State>>);

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Each task; `None` when it is done.
    pub tasks: Vec<BackfillProgress>,
    pub ended: Vec<bool>,
    /// The tasks that each one stands on, by index in the domain.
    pub metrics: BTreeMap<usize, Vec<usize>>,
    pub entities: BTreeMap<usize, Vec<usize>>,
    /// Why it does not go on at the moment.
    pub problem: Option<String>,
}

impl State {
    fn of(&self, tasks: Option<&Vec<usize>>) -> Option<BackfillProgress> {
        let tasks = tasks.filter(|tasks| tasks.iter().any(|task| !self.ended[*task]))?;
        let mut sum = BackfillProgress::default();
        for task in tasks {
            sum.done += self.tasks[*task].done;
            sum.total += self.tasks[*task].total;
        }
        Some(sum)
    }
}

impl Backfilling {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    /// How far a metric (index in the domain) is; `None` when it is whole.
    pub fn metric(&self, metric: usize) -> Option<BackfillProgress> {
        self.look(|state| state.of(state.metrics.get(&metric)))
    }

    /// How far an entity (index in the domain) is; `None` when it is whole.
    pub fn entity(&self, entity: usize) -> Option<BackfillProgress> {
        self.look(|state| state.of(state.entities.get(&entity)))
    }

    /// How far all of it is; `None` when everything is whole.
    pub fn all(&self) -> Option<BackfillProgress> {
        self.look(|state| state.of(Some(&(0..state.tasks.len()).collect())))
    }

    /// Why it does not go on at the moment.
    pub fn problem(&self) -> Option<String> {
        self.look(|state| state.problem.clone())
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
