//! Pauses between attempts, twice as long each time.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The pause after failures.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// Another failure: the next attempt waits.
    pub(super) fn fail(&mut self) {
        let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        self.pause = Some(pause);
        self.until = Some(Instant::now() + pause);
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// May the next attempt begin?
    pub(super) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }
}
