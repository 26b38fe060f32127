//! Maintenance by the clock, on a thread of its own beside the follower.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Maintenance, maintain};
use crate::clock;
use crate::sink::iceberg::config::LakeConfig;
use crate::sink::iceberg::error::{LakeError, chain};
use crate::sink::iceberg::status::{MaintenanceStatus, SharedStatus};

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// A running schedule; ends when dropped, after the merge under way.
#[derive(Debug)]
pub(in crate::sink::iceberg) struct Schedule {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Schedule {
    /// Runs `maintenance` every so often; the first time after one such pause, so that a process that
    /// is started again and again does not begin with it each time.
    pub(in crate::sink::iceberg) fn start(
        config: LakeConfig,
        every: Duration,
        maintenance: Maintenance,
        status: SharedStatus,
    ) -> Result<Self, LakeError> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let path = config.dir.clone();
        let thread = std::thread::Builder::new()
            .name("lake maintenance".to_owned())
            .spawn(move || {
                let mut last = Instant::now();
                while !asked.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK.min(every));
                    if last.elapsed() >= every && !asked.load(Ordering::Relaxed) {
                        let stop = || asked.load(Ordering::Relaxed);
                        let outcome = run(&config, &maintenance, &stop);
                        status.update(|status| status.maintenance = Some(outcome));
                        last = Instant::now();
                    }
                }
            })
            .map_err(|source| LakeError::Io {
                action: "start the thread for maintenance of",
                path,
                source,
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Asks for the end without waiting for it.
    pub(in crate::sink::iceberg) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the maintenance of the lake ended with a panic");
        }
    }
}

fn run(
    config: &LakeConfig,
    maintenance: &Maintenance,
    stop: &dyn Fn() -> bool,
) -> MaintenanceStatus {
    let started = Instant::now();
    let result = maintain(config, maintenance, None, stop, &mut |_| ());
    let mut outcome = MaintenanceStatus {
        ended_at: clock::now(),
        seconds: started.elapsed().as_secs_f64(),
        ..MaintenanceStatus::default()
    };
    match result {
        Ok(reports) => {
            for report in &reports {
                outcome.merged_files += report.merged_files;
                outcome.expired_snapshots += report.expired_snapshots;
                outcome.removed_files += report.removed_files;
                for skipped in &report.skipped {
                    tracing::warn!(table = report.table, "lake maintenance: {skipped}");
                    let message = format!("table `{}`: {skipped}", report.table);
                    outcome.last_error.get_or_insert(message);
                }
            }
            tracing::info!(
                merged_files = outcome.merged_files,
                expired_snapshots = outcome.expired_snapshots,
                removed_files = outcome.removed_files,
                seconds = outcome.seconds,
                "the lake was maintained"
            );
        }
        Err(error) => {
            let message = chain(&error);
            tracing::warn!(error = message, "the lake was not maintained; tried again next time");
            outcome.last_error = Some(message);
        }
    }
    outcome
}
