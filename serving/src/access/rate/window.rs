//! A sliding minute in memory.

/// Seconds that count: a whole minute and the second that has begun.
const SECONDS: usize = 61;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// May it go on?
    pub is_allowed: bool,
    /// Requests a minute.
    pub limit: u32,
    /// How many are left.
    pub remaining: u32,
    /// When (seconds since 1970) the oldest that counts does so no more.
    pub reset: i64,
}

/// Requests by second.
#[derive(Debug)]
pub struct Window {
    counts: [u32; SECONDS],
    /// The second of the newest entry.
    newest: i64,
}

impl Default for Window {
    fn default() -> Self {
        Self { counts: [0; SECONDS], newest: i64::MIN / 2 }
    }
}

impl Window {
    /// Takes `cost` of `limit` a minute at `now` (seconds since 1970), all or nothing.
    pub fn take(&mut self, limit: u32, cost: u32, now: i64) -> Verdict {
        // A clock that goes back must not give anything back.
        if self.newest - now > SECONDS as i64 {
            // It was ahead by more than a minute, or it is now back to stay: begin anew.
            *self = Self::default();
        }
        let now = now.max(self.newest);
        for back in 0..(now - self.newest).min(SECONDS as i64) {
            self.counts[place(now - back)] = 0;
        }
        self.newest = now;
        let used: u32 = self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count));
        let is_allowed = used.checked_add(cost).is_some_and(|all| all <= limit);
        if is_allowed {
            self.counts[place(now)] += cost;
        }
        let used = if is_allowed { used + cost } else { used };
        let oldest = (0..SECONDS as i64).rev().find(|back| self.counts[place(now - back)] > 0);
        Verdict {
            is_allowed,
            limit,
            remaining: limit.saturating_sub(used),
            reset: now - oldest.unwrap_or(0) + SECONDS as i64,
        }
    }
}

fn place(second: i64) -> usize {
    second.rem_euclid(SECONDS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_limit_holds_for_a_sliding_minute() {
        let mut window = Window::default();
        for nth in 0..120 {
            let verdict = window.take(120, 1, 1_000 + nth / 4);
            assert!(verdict.is_allowed && verdict.remaining == 119 - nth as u32, "{verdict:?}");
        }
        let full = window.take(120, 1, 1_030);
        assert!(!full.is_allowed && full.remaining == 0 && full.reset == 1_061, "{full:?}");
        assert!(!window.take(120, 1, 1_060).is_allowed);
        // The first second had four.
        assert!(!window.take(120, 5, 1_061).is_allowed);
        assert!(window.take(120, 4, 1_061).is_allowed);
        assert!(!window.take(120, 1, 1_040).is_allowed, "the clock went back");
        assert!(!window.take(120, 121, 9_000).is_allowed, "more than a minute has");
        assert!(window.take(120, 120, 9_000).is_allowed);
    }

    proptest! {
        /// Never more than the limit within any minute, whatever comes when.
        #[test]
        fn no_minute_has_more(
            limit in 1u32..20,
            asked in prop::collection::vec((0i64..30, 1u32..4), 1..200),
        ) {
            let mut window = Window::default();
            let mut taken: Vec<(i64, u32)> = Vec::new();
            let mut now = 0;
            for (step, cost) in asked {
                now += step;
                let before: u32 = taken.iter().filter(|(at, _)| now - at < 61).map(|t| t.1).sum();
                let verdict = window.take(limit, cost, now);
                prop_assert_eq!(verdict.is_allowed, before + cost <= limit);
                if verdict.is_allowed {
                    taken.push((now, cost));
                }
            }
        }
    }
}
