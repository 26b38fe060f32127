//! The second half of erasures: what the store has erased is erased in the lake.
//!
//! In a server a thread does it, one erasure after the other, as long as it takes: a catalog that is away
//! delays it, and a server that is ended goes on with it at its next start. The command does the same by
//! hand when no server runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::contracts::model::Domain;
use pipeline::erase::{Eraser, Order};
use pipeline::sink::iceberg::{self, EraseNote, EraseProgress, LakeConfig, LakeFlusher};
use serving::store::erase::{Erasure, Erasures, drop_unfinished_rebuild};
use serving::store::{Readers, Store};

use crate::failure::{Context, Failure, chain};

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Pauses after a failure, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The thread. Dropping it ends it after the file under way.
pub(crate) struct Erasing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Erasing {
    /// Starts it.
    pub(crate) fn start(
        store: &Store,
        lake: LakeFlusher,
        config: LakeConfig,
        domain: Arc<Domain>,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            readers: store.readers(),
            erasures: store.erasures(),
            lake,
            config,
            domain,
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new()
            .name("erasing".to_owned())
            .spawn(move || worker.run())
            .ours(|| "start the thread `erasing`".to_owned())?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Erasing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    readers: Readers,
    erasures: Erasures,
    lake: LakeFlusher,
    config: LakeConfig,
    domain: Arc<Domain>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        let mut pause = FIRST_PAUSE;
        // There may be one from before.
        let mut look = true;
        while !self.is_stopped() {
            if !look {
                look = self.erasures.wait(LOOK);
                continue;
            }
            match self.next() {
                Ok(()) => {
                    self.erasures.set_problem(None);
                    (look, pause) = (false, FIRST_PAUSE);
                }
                Err(_) if self.is_stopped() => return,
                Err(problem) => {
                    tracing::warn!(problem, "rows are not erased in the lake yet");
                    self.erasures.set_problem(Some(problem));
                    let until = Instant::now() + pause;
                    while Instant::now() < until && !self.is_stopped() {
                        std::thread::sleep(LOOK);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Does the erasures that are left, oldest first; one that cannot be done keeps no other waiting.
    fn next(&self) -> Result<(), String> {
        let pending = self.readers.pending_erasures().map_err(|error| chain(&error))?;
        let mut problem = None;
        for (erasure, order) in pending {
            let done = self.one(&erasure, &order);
            problem = problem.or(done.err());
        }
        problem.map_or(Ok(()), Err)
    }

    fn one(&self, erasure: &Erasure, order: &Order) -> Result<(), String> {
        self.lake.flush(order.until_seq).map_err(|error| chain(&error))?;
        let stop = || self.is_stopped();
        let mut note = |files| self.erasures.note(erasure.id, files).map_err(|error| chain(&error));
        match in_lake(&self.config, &self.domain, order, &stop, &mut note, &mut |_| {})? {
            None => Err("stopped".to_owned()),
            Some(rows) => self.erasures.finish(erasure.id, rows).map_err(|error| chain(&error)),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Erases in the lake, which must have all rows up to the order's; `None` when it was stopped.
pub(crate) fn in_lake(
    config: &LakeConfig,
    domain: &Arc<Domain>,
    order: &Order,
    stop: &dyn Fn() -> bool,
    note: &mut EraseNote<'_>,
    progress: &mut dyn FnMut(&EraseProgress),
) -> Result<Option<BTreeMap<String, u64>>, String> {
    let eraser = Eraser::resume(Arc::clone(domain), order.clone()).map_err(|error| {
        format!("{error}: it was there when the erasure was asked for; bring its contract back")
    })?;
    if let Some(data) = config.dir.parent() {
        drop_unfinished_rebuild(data)
            .map_err(|error| format!("remove what an unfinished rebuild has made: {error}"))?;
    }
    iceberg::erase(config, domain, &eraser, stop, note, progress).map_err(|error| chain(&error))
}
