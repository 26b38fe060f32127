//! Trips of cars: an event, what is counted of it, and more of both that may come later.

use serde_json::{Value, json};

/// The event, and a metric over it.
pub const TRIPS: &str = "\
kind: event
name: trip
names: [trip.ended]
key: trip_id
fields: {trip_id: string, car: string, km: int64}
---
kind: metric
name: trips
from: {event: trip.ended}
measure: count
windows: [now]
moved_by: [trip.ended]
";

/// An entity of the same events, and a metric over it.
pub const CARS: &str = "\
kind: entity
name: car
from: [trip.ended]
key: car
fields: {trips: count, km: sum(km)}
---
kind: metric
name: busy
from: {entity: car}
where: trips > 3
measure: sum(km)
windows: [now]
moved_by: [trip.ended]
";

/// Kilometres of a trip, by its number.
pub fn km(i: usize) -> usize {
    i * 31 % 40
}

/// A trip of one of so many cars, by its number.
pub fn trip(i: usize, cars: usize) -> Value {
    json!({
        "event_type": "trip.ended",
        "event_id": format!("e{i}"),
        "timestamp": "2026-01-01T00:00:00Z",
        "trip_id": format!("T{i}"),
        "car": format!("C{}", i % cars),
        "km": km(i),
    })
}
