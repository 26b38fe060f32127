//! The commit that is under way, for readers who ask what was known at a time.
//!
//! A commit carries its time before it is visible. A reader that asks for a time in between would get
//! one answer now and another one in a moment; so it waits until no commit of that time or earlier is
//! under way. After that none can come: times of commits ascend, and the next one lies after the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// No commit is under way.
const NONE: i64 = i64::MAX;

/// Time of the commit under way. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Applying(Arc<AtomicI64>);

impl Default for Applying {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(NONE)))
    }
}

impl Applying {
    /// A commit begins; it has ended when the guard is dropped. Its time (µs) is asked for only once
    /// everybody waits for it: a reader in between would take the time for settled.
    pub(super) fn begin(&self, at: impl FnOnce() -> i64) -> Guard<'_> {
        self.0.store(i64::MIN, Ordering::SeqCst);
        self.0.store(at(), Ordering::SeqCst);
        Guard(self)
    }

    /// Waits until no commit of `at` or earlier is under way; false when it took longer than `limit`.
    pub(super) fn wait(&self, at: i64, limit: Duration) -> bool {
        let started = Instant::now();
        while self.0.load(Ordering::SeqCst) <= at {
            if started.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

/// A commit under way.
pub(super) struct Guard<'a>(&'a Applying);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.0.store(NONE, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_the_time_of_a_commit_under_way_waits_for_its_end() {
        let applying = Applying::default();
        let moment = Duration::from_millis(5);
        assert!(applying.wait(i64::MAX - 1, moment));
        let commit = applying.begin(|| {
            assert!(!applying.wait(1, moment), "its time may be anything yet");
            10
        });
        assert!(applying.wait(9, moment));
        assert!(!applying.wait(10, moment));
        drop(commit);
        assert!(applying.wait(10, moment));
    }
}
