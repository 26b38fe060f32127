//! When the writer does the next piece of what is done beside the batches.
//!
//! A piece is short, and a batch that comes meanwhile waits for its end. While batches come, pieces take
//! a fifth of the writer's time; while none does, half of it, which leaves the readers the other.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::processor::Backfilled;
use crate::store::StoreError;

/// How long after a piece that could not be done the next one is tried.
const WAIT: Duration = Duration::from_millis(50);
const AFTER_AN_ERROR: Duration = Duration::from_secs(5);
/// Shortest pause.
const SHORTEST: Duration = Duration::from_millis(1);

/// Paces the pieces.
pub(crate) struct Pace {
    /// Everything is done; nothing more comes in the life of a process.
    is_done: bool,
    ended: Instant,
    /// Pause when no batch comes, and when some do.
    quiet: Duration,
    busy: Duration,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { is_done: false, ended: Instant::now(), quiet: SHORTEST, busy: SHORTEST }
    }

    /// How long to wait for a batch before the next piece.
    pub(crate) fn pause(&self) -> Option<Duration> {
        (!self.is_done).then(|| self.quiet.saturating_sub(self.ended.elapsed()).max(SHORTEST))
    }

    /// Is it time for a piece?
    pub(crate) fn is_due(&self, is_quiet: bool) -> bool {
        let pause = if is_quiet { self.quiet } else { self.busy };
        !self.is_done && self.ended.elapsed() >= pause
    }

    /// Does a piece; true when something was done.
    pub(crate) fn run(&mut self, piece: impl FnOnce() -> Result<Backfilled, StoreError>) -> bool {
        let started = Instant::now();
        let outcome = piece();
        self.ended = Instant::now();
        let took = (self.ended - started).max(SHORTEST);
        (self.quiet, self.busy) = match &outcome {
            Ok(Backfilled::Waiting) => (WAIT, WAIT),
            Ok(_) => (took, 4 * took),
            Err(error) => {
                warn!(%error, "old rows could not be brought in line with the contracts, trying again");
                (AFTER_AN_ERROR, AFTER_AN_ERROR)
            }
        };
        self.is_done = matches!(outcome, Ok(Backfilled::Nothing));
        matches!(outcome, Ok(Backfilled::Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(3);

    #[test]
    fn batches_get_more_of_the_time_than_pieces() {
        let mut pace = Pace::new();
        let slow = || {
            std::thread::sleep(SHORT);
            Ok(Backfilled::Some)
        };
        assert!(pace.run(slow));
        assert!(pace.quiet >= SHORT && pace.busy == 4 * pace.quiet, "{:?}", pace.quiet);
        assert!(pace.pause().is_some_and(|pause| pause <= pace.quiet));
    }

    #[test]
    fn what_cannot_be_done_now_is_tried_again_and_what_is_done_is_not() {
        let mut pace = Pace::new();
        assert!(!pace.run(|| Ok(Backfilled::Waiting)));
        assert_eq!((pace.quiet, pace.is_due(true)), (WAIT, false));
        assert!(!pace.run(|| Err(StoreError::Corrupt("x".into()))));
        assert_eq!((pace.busy, pace.is_due(false)), (AFTER_AN_ERROR, false));
        assert!(!pace.run(|| Ok(Backfilled::Nothing)));
        assert_eq!((pace.pause(), pace.is_due(true)), (None, false));
    }
}
