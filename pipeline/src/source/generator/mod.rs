//! Made-up events of a shop: sessions that move through a funnel, the orders that follow from
//! them, their updates and payments, and product updates.
//!
//! Here, and only here, the program knows the words of a domain: this module is a producer, it
//! stands in for the outside world in the demo, in benchmarks and in tests.
//!
//! What always holds: the same options give the same bytes; memory is bounded by the options and
//! does not grow with the number of events; every faulty event is counted by its kind, so that
//! whoever reads the stream can be checked against [`Summary`].
//!
//! How the past is kept for re-deliveries: two rings of sent lines. One has the last few hundred
//! events, the other a sample of the last six days of event time, one line every so many events so
//! that the ring always spans about six days (or the whole run, if that is shorter).
//!
//! Start at [`Generator`]; [`GeneratorSource`] lets one run inside the pipeline.

mod fault;
mod orders;
mod past;
mod sessions;
mod source;
mod stock;
mod text;

#[cfg(test)]
mod tests;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub use fault::Fault;
pub use source::GeneratorSource;

use orders::Orders;
use past::Past;
use sessions::Sessions;
use stock::Stock;
use text::Line;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// Same seed, same events.
    pub seed: u64,
    /// Number of events; `None` for no end.
    pub count: Option<u64>,
    /// Events per second.
    pub rate: f64,
    /// Seconds of event time that pass in one second: with 60, an hour's events come in a minute.
    pub speed: f64,
    /// Event time of the first event, µs.
    pub start: i64,
    /// Share of events that come late: 5 minutes to 26 hours behind.
    pub late: f64,
    /// Share of exact re-deliveries, up to 6 days old.
    pub repeated: f64,
    /// Share of events that must be rejected, all kinds alike.
    pub bad: f64,
    /// Number of users; the first ones come far more often than the last (Zipf).
    pub users: u32,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            count: None,
            rate: 100.0,
            speed: 1.0,
            // 2026-01-01T00:00:00Z
            start: 1_767_225_600_000_000,
            late: 0.01,
            repeated: 0.01,
            bad: 0.005,
            users: 200_000,
        }
    }
}

/// What was generated so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All events, faulty ones and re-deliveries included.
    pub events: u64,
    /// Events that came late.
    pub late: u64,
    /// Exact re-deliveries.
    pub repeated: u64,
    /// Events that must be rejected, by kind, in the order of [`Fault::ALL`].
    pub bad: [u64; Fault::ALL.len()],
    /// Sessions begun.
    pub sessions: u64,
    /// Orders created.
    pub orders: u64,
    /// Order events after the creation.
    pub order_updates: u64,
    /// Payment events.
    pub payments: u64,
    /// Product events.
    pub products: u64,
    /// Page views, clicks and additions to the cart.
    pub clicks: u64,
}

/// Kinds of events, as the mix draws them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draw {
    Click,
    Order,
    Payment,
    Product,
}

/// Makes events, one line of JSON each.
#[derive(Debug)]
pub struct Generator {
    options: GeneratorOptions,
    rng: SmallRng,
    /// Event time now, µs.
    clock: f64,
    /// Mean event time between two events, µs.
    step: f64,
    line: Line,
    stock: Stock,
    sessions: Sessions,
    orders: Orders,
    past: Past,
    summary: Summary,
}

impl Generator {
    /// A generator at its first event.
    pub fn new(options: GeneratorOptions) -> Self {
        Self::numbered(options, 0)
    }

    /// A generator whose order numbers begin past `first`, for a stream that goes on after another.
    fn numbered(options: GeneratorOptions, first: u64) -> Self {
        let mut rng =
            SmallRng::seed_from_u64(options.seed ^ first.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let rate = if options.rate > 0.0 { options.rate } else { 1.0 };
        let speed = if options.speed > 0.0 { options.speed } else { 1.0 };
        let step = speed / rate * 1e6;
        let count = options.count.unwrap_or(u64::MAX);
        Self {
            stock: Stock::new(&mut rng),
            sessions: Sessions::new(&options, step),
            orders: Orders::new(count, first),
            past: Past::new(count, step),
            rng,
            clock: options.start as f64,
            step,
            line: Line::default(),
            summary: Summary::default(),
            options,
        }
    }

    /// What was generated so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Event time of the last event, µs.
    pub fn clock(&self) -> i64 {
        self.clock as i64
    }

    /// Appends the next event to `into`, without a line feed. False when there are no more.
    pub fn next_line(&mut self, into: &mut Vec<u8>) -> bool {
        if self.options.count.is_some_and(|count| self.summary.events >= count) {
            return false;
        }
        self.summary.events += 1;
        self.clock += self.step * self.rng.random_range(0.5..1.5);
        let now = self.clock as i64;
        let lot: f64 = self.rng.random();
        let GeneratorOptions { late, repeated, bad, .. } = self.options;
        if lot < bad {
            self.faulty(now, into);
        } else if lot < bad + repeated && self.past.repeat(&mut self.rng, now, into) {
            self.summary.repeated += 1;
        } else if lot >= bad + repeated && lot < bad + repeated + late {
            self.late(now);
            into.extend_from_slice(self.line.bytes());
        } else {
            self.ordinary(now);
            self.past.remember(self.line.bytes(), now);
            into.extend_from_slice(self.line.bytes());
        }
        true
    }

    /// An event of the usual mix. Where the drawn kind has nothing to tell yet (no order is open, no
    /// payment waits) it is a click.
    fn ordinary(&mut self, now: i64) {
        let Self { rng, line, stock, sessions, orders, summary, .. } = self;
        let draw = match rng.random_range(0..100) {
            0..15 => Draw::Order,
            15..25 => Draw::Payment,
            25..30 => Draw::Product,
            _ => Draw::Click,
        };
        line.begin(rng);
        match draw {
            Draw::Order if orders.wants_more() => {
                if let Some(checkout) = sessions.checkout() {
                    orders.create(rng, now, &checkout, stock, line);
                    summary.orders += 1;
                    return;
                }
            }
            Draw::Order => {
                orders.update(rng, now, line);
                summary.order_updates += 1;
                return;
            }
            Draw::Payment => {
                if orders.pay(rng, now, line) {
                    summary.payments += 1;
                    return;
                }
            }
            Draw::Product => {
                stock.update(rng, now, line);
                summary.products += 1;
                return;
            }
            Draw::Click => {}
        }
        summary.sessions += u64::from(sessions.click(rng, now, stock, line));
        summary.clicks += 1;
    }

    /// An event that happened long before it arrives: clicks of a device that was offline, a payment
    /// or product update that was held up.
    fn late(&mut self, now: i64) {
        let Self { rng, line, stock, sessions, orders, summary, .. } = self;
        summary.late += 1;
        let then = now - rng.random_range(5 * MINUTE..26 * HOUR);
        line.begin(rng);
        match rng.random_range(0..10) {
            0..2 if orders.pay(rng, then, line) => summary.payments += 1,
            2..4 => {
                stock.update(rng, then, line);
                summary.products += 1;
            }
            _ => {
                sessions.offline_click(rng, then, stock, line);
                summary.sessions += 1;
                summary.clicks += 1;
            }
        }
    }

    /// An event that must be rejected.
    fn faulty(&mut self, now: i64, into: &mut Vec<u8>) {
        let Self { rng, line, stock, orders, past, summary, .. } = self;
        let drawn = rng.random_range(0..Fault::ALL.len());
        let mut fault = Fault::ALL[drawn];
        if fault == Fault::Conflict && !past.conflict(rng, into) {
            fault = Fault::MissingField;
        }
        if fault != Fault::Conflict {
            let at = if fault == Fault::FarFuture { now + 100 * 365 * 24 * HOUR } else { now };
            line.begin(rng);
            orders.unrelated(rng, at, stock, line);
            fault.spoil(rng, line.bytes(), into);
        }
        summary.bad[fault as usize] += 1;
    }
}
