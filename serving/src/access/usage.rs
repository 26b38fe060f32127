//! How often a key was used: counts by hour, for a day, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rate::Window;

const HOURS: usize = 24;
const HOUR_SECONDS: i64 = 3_600;

/// The use of one key.
#[derive(Debug, Default)]
pub struct Usage {
    counts: Mutex<Counts>,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Requests in the hour `index % HOURS`.
    all: [u64; HOURS],
    /// Of those, how many showed the key before a rotation.
    old: [u64; HOURS],
    /// The hour, since 1970, of the last entry.
    newest: i64,
}

impl Usage {
    /// The last minute.
    pub fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request at `now` (seconds since 1970).
    pub fn count(&self, is_old: bool, now: i64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = counts.turn_to(now);
        counts.all[place] += 1;
        counts.old[place] += u64::from(is_old);
    }

    /// Requests in the last 24 hours, the current one included, since the process began.
    pub fn last_day(&self, now: i64) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.turn_to(now);
        counts.all.iter().sum()
    }

    /// Requests with the key before a rotation in this hour and the one before.
    pub fn old_last_hour(&self, now: i64) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let place = counts.turn_to(now);
        counts.old[place] + counts.old[(place + HOURS - 1) % HOURS]
    }
}

impl Counts {
    /// Empties what is older than a day; a clock that goes back counts for the newest hour.
    fn turn_to(&mut self, now: i64) -> usize {
        let hour = now.div_euclid(HOUR_SECONDS).max(self.newest);
        let stale = (hour - self.newest).min(HOURS as i64);
        for back in 0..stale {
            let place = (hour - back).rem_euclid(HOURS as i64) as usize;
            self.all[place] = 0;
            self.old[place] = 0;
        }
        self.newest = hour;
        hour.rem_euclid(HOURS as i64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_remembered() {
        let usage = Usage::default();
        for hour in 0..30 {
            usage.count(hour == 28, hour * HOUR_SECONDS + 5);
        }
        assert_eq!(usage.last_day(29 * HOUR_SECONDS), 24);
        assert_eq!(usage.old_last_hour(29 * HOUR_SECONDS), 1);
        assert_eq!(usage.last_day(40 * HOUR_SECONDS), 13);
        assert_eq!(usage.old_last_hour(40 * HOUR_SECONDS), 0);
        assert_eq!(usage.last_day(0), 13, "the clock went back");
        assert_eq!(usage.last_day(400 * HOUR_SECONDS), 0);
    }
}
