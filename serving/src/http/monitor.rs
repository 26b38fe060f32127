//! What the pipeline tells the API about itself, for `/v1/health` and `/health/ready`.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::time;

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
}

impl Default for PipelineMonitor {
    fn default() -> Self {
        let state = PipelineState::Starting("the pipeline is starting".to_owned());
        Self {
            state: Mutex::new(state),
            last_commit_at: AtomicI64::new(0),
            refused: AtomicBool::new(false),
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
    pub fn committed(&self) {
        self.last_commit_at.store(time::now(), Ordering::Relaxed);
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
        monitor.committed();
        assert_eq!(monitor.state(), PipelineState::Running);
        assert!(monitor.last_commit_at().is_some());
        monitor.stopped("told to");
        monitor.committed();
        assert_eq!(monitor.state(), PipelineState::Stopped("told to".into()));
    }
}
