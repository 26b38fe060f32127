//! The events that are read: from a fixed seed, over as much event time as is asked for.
//!
//! A zone of 1,000 (the first ones are the most frequent), a channel and a status of ten each, five million
//! riders. A ride is changed about five times within 5,000 events, and one event in a hundred changes an
//! older ride. One event in a hundred is up to six hours late.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Rides that change at the same time, and how many changes there are of them.
const RIDES_AT_ONCE: u64 = 1_000;
const CHANGES: u64 = 5 * RIDES_AT_ONCE;

const HOUR: i64 = 3_600_000_000;

/// Writes the events with these numbers, evenly over these times (µs); none is before `earliest`.
pub(crate) fn write(path: &Path, numbers: Range<u64>, times: Range<i64>, earliest: i64) {
    let mut random = SmallRng::seed_from_u64(7 + numbers.start);
    let file = File::create(path).expect("a file");
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let count = (numbers.end - numbers.start) as f64;
    let step = (times.end - times.start) as f64 / count;
    for (place, number) in numbers.enumerate() {
        let mut at = times.start + (step * place as f64) as i64;
        if random.random_ratio(1, 100) {
            at = (at - random.random_range(0..6 * HOUR)).max(earliest);
        }
        let mut block = number / CHANGES;
        if random.random_ratio(1, 100) {
            block = block.saturating_sub(random.random_range(1..=20));
        }
        let ride = block * RIDES_AT_ONCE + random.random_range(0..RIDES_AT_ONCE);
        let zone = (random.random::<f64>().powi(3) * 1_000.0) as u32;
        let cents = random.random_range(100..20_000);
        writeln!(
            file,
            r#"{{"id":{number},"type":"ride.changed","at":{at},"ride_id":{ride},"zone":"z{zone:03}","channel":"c{}","status":"s{}","fare":{}.{:02},"seats":{},"rider_id":{}}}"#,
            random.random_range(0..10),
            random.random_range(0..10),
            cents / 100,
            cents % 100,
            random.random_range(1..=6),
            random.random_range(0..5_000_000),
        )
        .expect("write");
    }
    file.flush().expect("write");
}
