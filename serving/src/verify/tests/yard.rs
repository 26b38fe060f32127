//! A domain made up so that every fold, measure, source and type of dimension occurs, and random records
//! of it.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use super::bench::Given;

pub(super) const CONTRACTS: &str = include_str!("yard.yaml");

const MINUTE: i64 = 60_000_000;

/// One record at about `now` (µs): late, early, odd and broken ones among them.
pub(super) fn record(rng: &mut SmallRng, now: i64, number: u64) -> Given {
    let back = match rng.random_range(0..10) {
        0 => rng.random_range(0..300),
        1..4 => rng.random_range(0..40),
        _ => 0,
    };
    // Round times are often the same: then the position decides.
    let at = now - back * MINUTE - rng.random_range(0..3) * 500_000;
    let mut body = match rng.random_range(0..12) {
        0 => crane(rng),
        1..3 => json!({
            "event_type": "gust.measured",
            "yard": rng.random_range(0..3),
            "speed": rng.random_range(0..220) as f64 / 3.0 + f64::from(rng.random_range(0..2)) * 120.0,
            "risky": maybe(rng, |rng| json!(rng.random_bool(0.5))),
            "load": maybe(rng, |rng| json!(format!("{}.{:04}", rng.random_range(0..9), rng.random_range(0..9999)))),
            "order": maybe(rng, |rng| json!(rng.random_range(-1..2))),
            "Select": maybe(rng, |rng| pick(rng, &["from", "where"])),
        }),
        _ => lift(rng, at),
    };
    body["event_id"] = json!(format!("e{number}"));
    body["timestamp"] = json!(crate::value::time_text(at));
    if rng.random_bool(0.03) {
        body["event_type"] = json!("lift.unheard_of");
    }
    if let Value::Object(members) = &mut body {
        // An absent member is something else than a null one.
        members.retain(|name, value| !value.is_null() || name == "crane");
    }
    let tenant = if rng.random_bool(0.2) { "other" } else { "default" };
    Given { line: body.to_string().into_bytes(), tenant, arrived_at: now }
}

fn maybe(rng: &mut SmallRng, value: impl Fn(&mut SmallRng) -> Value) -> Value {
    if rng.random_bool(0.7) { value(rng) } else { Value::Null }
}

fn pick(rng: &mut SmallRng, texts: &[&str]) -> Value {
    json!(texts[rng.random_range(0..texts.len())])
}

fn crane(rng: &mut SmallRng) -> Value {
    json!({
        "event_type": "crane.registered",
        "crane": format!("C{}", rng.random_range(0..4)),
        "class": maybe(rng, |rng| pick(rng, &["tower", "mobile", "köln"])),
        "limit": rng.random_range(1..60),
        "town": maybe(rng, |rng| pick(rng, &["Ulm", "Riga"])),
    })
}

fn lift(rng: &mut SmallRng, at: i64) -> Value {
    let kinds = ["lift.started", "lift.moved", "lift.moved", "lift.ended"];
    let parts: Vec<Value> = (0..rng.random_range(0..3))
        .map(|_| {
            json!({
                "name": pick(rng, &["beam", "plate"]),
                "pieces": maybe(rng, |rng| json!(rng.random_range(0..5))),
                "mass": maybe(rng, |rng| json!(f64::from(rng.random_range(0..900)) / 4.0)),
            })
        })
        .collect();
    let mut body = json!({
        "event_type": kinds[rng.random_range(0..kinds.len())],
        "lift_id": format!("L{}", rng.random_range(0..14)),
        "crane": maybe(rng, |rng| json!(format!("C{}", rng.random_range(0..5)))),
        "yard": maybe(rng, |rng| json!(rng.random_range(-1..3))),
        "load": maybe(rng, |rng| json!(format!("{}.{:03}", rng.random_range(0..30), rng.random_range(0..4) * 125))),
    });
    if rng.random_bool(0.8) {
        body["v"] = json!(2);
        body["wind"] = maybe(rng, |rng| json!(f64::from(rng.random_range(-300..300)) / 7.0));
        body["risky"] = maybe(rng, |rng| json!(rng.random_bool(0.5)));
        body["planned"] = maybe(rng, |rng| {
            json!(crate::value::time_text(at + rng.random_range(-90..90) * MINUTE))
        });
        body["day"] = maybe(rng, |rng| pick(rng, &["2026-01-01", "2026-01-02"]));
        body["parts"] = maybe(rng, |_| json!(parts));
        body["place"] = maybe(
            rng,
            |rng| json!({"row": rng.random_range(0..9), "label": pick(rng, &["a", "O'Hara", "z9"])}),
        );
        body["note"] = maybe(rng, |_| json!({"any": [1, "x"]}));
    } else {
        body["v"] = json!(1);
    }
    body
}
