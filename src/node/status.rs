//! How the pipeline and the lake are, for health checks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pipeline::sink::iceberg::LakeHandle;
use serving::http::ports::{LakeStatus, PipelineState, PipelineStatus, Probe};

/// What the pipeline's thread notes about itself.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// µs; 0 before the first commit.
    last_commit_at: AtomicI64,
    /// Why the pipeline ended; `None` while it runs.
    ended: Mutex<Option<String>>,
}

impl Status {
    /// A batch was committed.
    pub(super) fn committed(&self) {
        self.last_commit_at.store(chrono::Utc::now().timestamp_micros(), Ordering::Relaxed);
    }

    /// The pipeline ended, with or without an error.
    pub(super) fn ended(&self, error: Option<String>) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended = Some(error.unwrap_or_else(|| "stopped".to_owned()));
    }

    /// For health checks.
    pub(super) fn probe(self: &Arc<Self>) -> Probe<PipelineStatus> {
        let status = Arc::clone(self);
        Arc::new(move || {
            let ended = status.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let last = status.last_commit_at.load(Ordering::Relaxed);
            PipelineStatus {
                state: ended.map_or(PipelineState::Running, PipelineState::Stopped),
                queued: 0,
                capacity: 0,
                last_commit_at: (last > 0).then_some(last),
            }
        })
    }
}

/// How the lake is, for health checks.
pub(super) fn lake_probe(lake: &Arc<LakeHandle>) -> Probe<LakeStatus> {
    // Weak: a health check that is still under way must not keep the follower alive.
    let lake = Arc::downgrade(lake);
    Arc::new(move || {
        let Some(lake) = lake.upgrade() else { return LakeStatus::default() };
        let status = lake.status();
        let halted = status.tables.iter().find_map(|table| table.halted.clone());
        LakeStatus {
            position: status.tables.iter().map(|table| table.position).min().unwrap_or(0),
            last_commit_at: status.last_commit_at,
            error: halted.or(status.last_error),
        }
    })
}
