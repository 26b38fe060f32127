//! What was sent before, for re-deliveries. Bounded: two rings of lines.

use rand::Rng;
use rand::rngs::SmallRng;

use super::HOUR;

const RECENT: usize = 256;
const SAMPLED: usize = 16_384;
/// Oldest re-delivery, µs of event time: a little under six days.
const OLDEST: i64 = 6 * 24 * HOUR - HOUR;

/// Lines that were sent.
#[derive(Debug)]
pub(super) struct Past {
    recent: Ring,
    sampled: Ring,
    /// Every so many events one goes to the sample.
    every: u64,
    events: u64,
}

/// The last so many lines, with the event time at which they were sent.
#[derive(Debug)]
struct Ring {
    lines: Vec<(i64, Vec<u8>)>,
    capacity: usize,
    next: usize,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self { lines: Vec::new(), capacity, next: 0 }
    }

    fn push(&mut self, line: &[u8], at: i64) {
        if self.lines.len() < self.capacity {
            self.lines.push((at, line.to_vec()));
            return;
        }
        let (old_at, old) = &mut self.lines[self.next];
        *old_at = at;
        old.clear();
        old.extend_from_slice(line);
        self.next = (self.next + 1) % self.capacity;
    }

    fn pick(&self, rng: &mut SmallRng) -> Option<&(i64, Vec<u8>)> {
        (!self.lines.is_empty()).then(|| &self.lines[rng.random_range(0..self.lines.len())])
    }
}

impl Past {
    pub(super) fn new(count: u64, step: f64) -> Self {
        let span = (OLDEST as f64 / step).min(count as f64);
        Self {
            recent: Ring::new(RECENT),
            sampled: Ring::new(SAMPLED),
            every: (span / SAMPLED as f64).ceil().max(1.0) as u64,
            events: 0,
        }
    }

    pub(super) fn remember(&mut self, line: &[u8], now: i64) {
        self.recent.push(line, now);
        self.events += 1;
        if self.events.is_multiple_of(self.every) {
            self.sampled.push(line, now);
        }
    }

    /// Appends a line that was sent before; false when there is none yet.
    pub(super) fn repeat(&self, rng: &mut SmallRng, now: i64, into: &mut Vec<u8>) -> bool {
        let old = if rng.random_bool(0.5) { self.sampled.pick(rng) } else { None };
        let old = old.filter(|(at, _)| now - at <= OLDEST);
        let Some((_, line)) = old.or_else(|| self.recent.pick(rng)) else {
            return false;
        };
        into.extend_from_slice(line);
        true
    }

    /// Appends a line with the id of one that was sent, but with another user; false when there is
    /// none yet.
    pub(super) fn conflict(&self, rng: &mut SmallRng, into: &mut Vec<u8>) -> bool {
        const USER: &[u8] = b"\"user_id\":\"USR-";
        for _ in 0..16 {
            let Some((_, line)) = self.recent.pick(rng) else { return false };
            let Some(at) = memchr::memmem::find(line, USER) else { continue };
            let digits = at + USER.len();
            into.extend_from_slice(&line[..digits]);
            // No user has this number, so the body surely differs.
            into.extend_from_slice(b"999999");
            into.extend_from_slice(&line[digits + 6..]);
            return true;
        }
        false
    }
}
