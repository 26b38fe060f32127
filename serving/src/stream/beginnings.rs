//! What connections begin with: the newest events, read for all that wait at once.
//!
//! Whoever opens a stream is answered at once while few do. When many do, those that come while the journal is read
//! are served together by the next reading, and from one to the next there is a pause: ten thousand that come
//! back after a break take a part of a core for a moment, not the store for minutes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use super::events::Read;
use super::filter::EventFilter;
use super::hub::Hub;
use super::outbox::End;
use crate::store::events::Newest;

/// How many positions the search for the newest events looks at, at the most.
const LOOK_BACK: i64 = 1 << 20;

/// Most connections of one reading: their frames are in memory at once.
const MOST: usize = 4_096;

/// The pause after a reading, as a multiple of how long it took: it takes a quarter of a core at the most...
const PAUSE: u32 = 3;

/// ...unless the pause would be longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Connections that have not begun.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Somebody reads, and looks again after that.
    is_read: bool,
}

#[derive(Debug)]
struct Waiting {
    tenant: Arc<str>,
    filter: EventFilter,
    until: i64,
    count: usize,
    answer: oneshot::Sender<Result<Read, End>>,
}

/// The newest `count` events up to `until`. Needs a tokio runtime.
pub(super) async fn newest(
    (hub, readers): (&Arc<Hub>, &Arc<Semaphore>),
    (tenant, filter): (Arc<str>, EventFilter),
    (until, count): (i64, usize),
) -> Result<Read, End> {
    let (answer, answered) = oneshot::channel();
    let is_first = hub.beginnings.wait(Waiting { tenant, filter, until, count, answer });
    if is_first {
        tokio::spawn(run(Arc::clone(hub), Arc::clone(readers)));
    }
    answered.await.unwrap_or(Err(End::Unavailable))
}

/// Reads until nobody waits.
async fn run(hub: Arc<Hub>, readers: Arc<Semaphore>) {
    loop {
        let Ok(turn) = Arc::clone(&readers).acquire_owned().await else { return };
        let Some(waiting) = hub.beginnings.take() else { return };
        let started = Instant::now();
        let reading = Arc::clone(&hub);
        let read = tokio::task::spawn_blocking(move || serve(&reading, waiting));
        if let Err(error) = read.await {
            // Whoever waited is told by what they wait on.
            tracing::error!(%error, "streams were ended");
        }
        drop(turn);
        tokio::time::sleep((started.elapsed() * PAUSE).min(LONGEST_PAUSE)).await;
    }
}

fn serve(hub: &Hub, mut waiting: Vec<Waiting>) {
    // Who has gone meanwhile wants nothing.
    waiting.retain(|one| !one.answer.is_closed());
    let wants: Vec<Newest<'_>> = waiting.iter().map(Waiting::newest).collect();
    let found = hub.reader.newest(&wants, LOOK_BACK);
    match found {
        Ok(found) => {
            for (one, found) in waiting.into_iter().zip(found) {
                let read = Read::of(hub, &found.page, Some(&found.seqs), found.reached);
                let _ = one.answer.send(read.map_err(End::of));
            }
        }
        Err(error) => {
            tracing::warn!(%error, count = waiting.len(), "streams were ended");
            for one in waiting {
                let _ = one.answer.send(Err(End::Unavailable));
            }
        }
    }
}

impl Waiting {
    fn newest(&self) -> Newest<'_> {
        Newest {
            only: self.filter.only(&self.tenant),
            families: self.filter.families(),
            until: self.until,
            count: self.count,
        }
    }
}

impl Beginnings {
    /// Is it the first one, and has somebody to read now?
    fn wait(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push(waiting);
        !std::mem::replace(&mut state.is_read, true)
    }

    /// Those whose turn it is; `None` when nobody waits, and whoever read reads no more.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        let count = state.waiting.len().min(MOST);
        state.is_read = count > 0;
        (count > 0).then(|| state.waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
