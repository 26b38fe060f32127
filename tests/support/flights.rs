//! A made-up stream of flights with every fault that a real one has, and what must come of it.
//!
//! The stream is told from a seed. The expectations are worked out here by plain loops over the
//! good events, so that nothing of the product takes part in judging the product.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2013-03-01T00:00:00Z, ms.
const START: i64 = 1_362_096_000_000;

/// How often neighbours may change places.
const REORDERINGS: usize = 5;

const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];
const CARRIERS: [&str; 5] = ["AA", "B6", "DL", "UA", "WN"];
const DESTINATIONS: [(&str, i64); 8] = [
    ("ATL", 762),
    ("BOS", 187),
    ("DEN", 1620),
    ("IAH", 1400),
    ("LAX", 2475),
    ("MIA", 1089),
    ("ORD", 719),
    ("SEA", 2402),
];

/// What happened to a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Departed,
    Arrived,
    Cancelled,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Departed => "flight.departed",
            Self::Arrived => "flight.arrived",
            Self::Cancelled => "flight.cancelled",
        }
    }
}

/// A good event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    pub kind: Kind,
    pub id: String,
    /// Event time, ms.
    pub at: i64,
    pub flight_id: String,
    pub number: i64,
    pub carrier: &'static str,
    pub origin: &'static str,
    pub destination: &'static str,
    pub distance: i64,
    pub delay: i64,
    pub tail: Option<String>,
}

/// What a line says, whatever came before it.
#[derive(Debug, Clone)]
enum Says {
    Event(Flight),
    /// Nothing that can be taken, for this reason.
    Nothing(&'static str),
}

/// The stream, and what must become of each line.
#[derive(Debug)]
pub struct Sample {
    /// In the order in which they arrive.
    pub lines: Vec<Vec<u8>>,
    /// What each of them says.
    says: Vec<Says>,
    /// Each good event once.
    pub good: Vec<Flight>,
    pub duplicates: u64,
    /// Reason → the lines.
    pub rejected: BTreeMap<&'static str, Vec<Vec<u8>>>,
}

impl Sample {
    /// About `flights` scheduled flights over `days` days.
    pub fn new(seed: u64, flights: usize, days: i64) -> Self {
        Maker::new(seed).stream(flights, days)
    }

    /// What must become of these lines, if they arrive in this order.
    fn of(told: Vec<(Vec<u8>, Says)>) -> Self {
        let mut first: BTreeMap<String, Flight> = BTreeMap::new();
        let mut good = Vec::new();
        let mut duplicates = 0;
        let mut rejected: BTreeMap<&'static str, Vec<Vec<u8>>> = BTreeMap::new();
        for (line, says) in &told {
            let reason = match says {
                Says::Nothing(reason) => reason,
                Says::Event(flight) => match first.get(&flight.id) {
                    None => {
                        first.insert(flight.id.clone(), flight.clone());
                        good.push(flight.clone());
                        continue;
                    }
                    Some(first) if first == flight => {
                        duplicates += 1;
                        continue;
                    }
                    Some(_) => "conflicting_duplicate",
                },
            };
            rejected.entry(reason).or_default().push(line.clone());
        }
        let (lines, says) = told.into_iter().unzip();
        Self { lines, says, good, duplicates, rejected }
    }

    fn told(&self) -> impl Iterator<Item = (Vec<u8>, Says)> {
        self.lines.iter().cloned().zip(self.says.iter().cloned())
    }

    /// The same stream without the lines that nobody could read: those that `is_read` does not
    /// want, by their number. A repeat of an event that is lost is the event then.
    pub fn only(&self, mut is_read: impl FnMut(usize) -> bool) -> Self {
        let kept = self.told().enumerate().filter(|(at, _)| is_read(*at));
        Self::of(kept.map(|(_, told)| told).collect())
    }

    /// This stream and another one, which has other events.
    pub fn and(&self, other: &Self) -> Self {
        Self::of(self.told().chain(other.told()).collect())
    }

    /// The same stream with neighbours that changed places, a few times over. Lines of one key keep
    /// their order, as they do in a partition.
    pub fn reordered(&self, rng: &mut SmallRng) -> Self {
        let mut told: Vec<_> =
            self.told().map(|(line, says)| (super::kafka::key(&line), line, says)).collect();
        for _ in 0..REORDERINGS {
            for at in 1..told.len() {
                let is_other = told[at - 1].0.is_none() || told[at - 1].0 != told[at].0;
                if is_other && rng.random_bool(0.3) {
                    told.swap(at - 1, at);
                }
            }
        }
        Self::of(told.into_iter().map(|(_, line, says)| (line, says)).collect())
    }

    pub fn rejected_count(&self) -> u64 {
        self.rejected.values().map(|lines| lines.len() as u64).sum()
    }

    /// All rejected lines, sorted.
    pub fn rejected_lines(&self) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = self.rejected.values().flatten().cloned().collect();
        lines.sort();
        lines
    }

    /// Questions over all metrics, windows and ways to ask, each with its expected answer.
    pub fn questions(&self, seed: u64, count: usize) -> Vec<(Value, Value)> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let windows = [("1h", HOUR), ("24h", DAY), ("7d", 7 * DAY)];
        (0..count)
            .map(|i| {
                let metric = METRICS[i % METRICS.len()];
                let (window, length) = windows[rng.random_range(0..windows.len())];
                let event = &self.good[rng.random_range(0..self.good.len())];
                // The edge itself, a millisecond on either side of it, or anywhere.
                let as_of = match rng.random_range(0..5) {
                    0 => event.at,
                    1 => event.at + 1,
                    2 => event.at + length,
                    3 => event.at + length + 1,
                    _ => event.at + rng.random_range(0..length),
                };
                let mut filters = BTreeMap::new();
                if rng.random_bool(0.4) {
                    filters.insert("origin", ORIGINS[rng.random_range(0..3)]);
                }
                if rng.random_bool(0.2) {
                    filters.insert("carrier", CARRIERS[rng.random_range(0..5)]);
                }
                let by: &[&str] = match rng.random_range(0..4) {
                    0 => &["origin"],
                    1 => &["carrier", "destination"],
                    _ => &[],
                };
                self.question(metric, (window, length), as_of, &filters, by)
            })
            .collect()
    }

    fn question(
        &self,
        metric: &str,
        (window, length): (&str, i64),
        as_of: i64,
        filters: &BTreeMap<&str, &str>,
        by: &[&str],
    ) -> (Value, Value) {
        let rows: Vec<&Flight> = self
            .good
            .iter()
            .filter(|flight| flight.at >= as_of - length && flight.at < as_of)
            .filter(|flight| filters.iter().all(|(name, value)| flight.dimension(name) == *value))
            .collect();
        let question = json!({
            "metric": metric,
            "window": window,
            "as_of": rfc3339(as_of),
            "filters": filters,
            "group_by": by,
        });
        if by.is_empty() {
            return (question, json!({"value": value(metric, &rows)}));
        }
        let mut groups: BTreeMap<Vec<&str>, Vec<&Flight>> = BTreeMap::new();
        for row in rows {
            groups
                .entry(by.iter().map(|name| row.dimension(name)).collect())
                .or_default()
                .push(row);
        }
        let groups: Vec<Value> = groups
            .into_iter()
            .map(|(key, rows)| {
                let dimensions: Map<String, Value> =
                    by.iter().zip(key).map(|(name, v)| ((*name).to_owned(), json!(v))).collect();
                json!({"dimensions": dimensions, "value": value(metric, &rows)})
            })
            .collect();
        (question, json!({"groups": groups}))
    }
}

impl Flight {
    fn dimension(&self, name: &str) -> &str {
        match name {
            "origin" => self.origin,
            "destination" => self.destination,
            "carrier" => self.carrier,
            other => panic!("no dimension `{other}`"),
        }
    }
}

/// The metrics of `contracts/domains/flights`.
pub const METRICS: [&str; 9] = [
    "departures",
    "cancellations",
    "cancellation_rate",
    "avg_departure_delay",
    "max_departure_delay",
    "on_time_rate",
    "miles_flown",
    "aircraft_in_service",
    "p90_departure_delay",
];

fn value(metric: &str, rows: &[&Flight]) -> Value {
    let of = |kind: Kind| rows.iter().filter(move |flight| flight.kind == kind);
    let count = |kind: Kind| of(kind).count() as f64;
    let mut delays: Vec<i64> = of(Kind::Departed).map(|flight| flight.delay).collect();
    delays.sort_unstable();
    match metric {
        "departures" => json!(count(Kind::Departed)),
        "cancellations" => json!(count(Kind::Cancelled)),
        "cancellation_rate" => {
            ratio(count(Kind::Cancelled), count(Kind::Cancelled) + count(Kind::Departed))
        }
        "avg_departure_delay" => ratio(delays.iter().sum::<i64>() as f64, delays.len() as f64),
        "max_departure_delay" => json!(delays.last()),
        "on_time_rate" => {
            let on_time = of(Kind::Arrived).filter(|flight| flight.delay < 15).count();
            ratio(on_time as f64, count(Kind::Arrived))
        }
        "miles_flown" => json!(of(Kind::Arrived).map(|flight| flight.distance).sum::<i64>()),
        "aircraft_in_service" => {
            let tails: BTreeSet<&String> =
                of(Kind::Departed).filter_map(|flight| flight.tail.as_ref()).collect();
            json!(tails.len())
        }
        "p90_departure_delay" => match delays.len() {
            0 => Value::Null,
            n => {
                let rank = 0.9 * (n - 1) as f64;
                let low = delays[rank.floor() as usize] as f64;
                let high = delays[rank.ceil() as usize] as f64;
                json!(low + (high - low) * rank.fract())
            }
        },
        other => panic!("no metric `{other}`"),
    }
}

fn ratio(numerator: f64, denominator: f64) -> Value {
    if denominator == 0.0 { Value::Null } else { json!(numerator / denominator) }
}

/// `2013-03-01T10:00:00.123Z`
pub fn rfc3339(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .expect("a time of this era")
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

/// Tells the stream.
struct Maker {
    rng: SmallRng,
    next_id: u64,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), next_id: 0 }
    }

    fn stream(mut self, flights: usize, days: i64) -> Sample {
        let good = self.good(flights, days);
        // (arrival, line): a repeat must come after the event it repeats, and a broken line with the
        // id of a good event before it.
        let mut told: Vec<(i64, Vec<u8>, Says)> = Vec::new();
        for flight in &good {
            let arrival = flight.at + self.delivery_delay();
            if self.rng.random_bool(0.006) {
                let (reason, line) = self.broken(flight);
                let before = arrival - self.rng.random_range(0..HOUR);
                told.push((before, line, Says::Nothing(reason)));
            }
            let line = self.line(&fields(flight));
            told.push((arrival, line, Says::Event(flight.clone())));
            if self.rng.random_bool(0.01) {
                let line = self.odd_line(&fields(flight));
                let after = arrival + self.rng.random_range(1000..5 * DAY);
                told.push((after, line, Says::Event(flight.clone())));
            }
            if self.rng.random_bool(0.001) {
                let mut other = flight.clone();
                other.distance += 1;
                let line = self.odd_line(&fields(&other));
                let after = arrival + self.rng.random_range(1000..DAY);
                told.push((after, line, Says::Event(other)));
            }
        }
        // In order of arrival; those that arrive together as they were told.
        told.sort_by_key(|(arrival, _, _)| *arrival);
        Sample::of(told.into_iter().map(|(_, line, says)| (line, says)).collect())
    }

    fn good(&mut self, flights: usize, days: i64) -> Vec<Flight> {
        let mut good = Vec::with_capacity(2 * flights);
        for number in 0..flights as i64 {
            let scheduled = START + self.rng.random_range(0..days * DAY);
            let carrier = CARRIERS[self.rng.random_range(0..CARRIERS.len())];
            let origin = ORIGINS[self.rng.random_range(0..ORIGINS.len())];
            let (destination, distance) =
                DESTINATIONS[self.rng.random_range(0..DESTINATIONS.len())];
            let tail = self
                .rng
                .random_bool(0.95)
                .then(|| format!("N{}{carrier}", self.rng.random_range(100..400)));
            let flight = Flight {
                kind: Kind::Cancelled,
                id: self.id(),
                at: scheduled,
                flight_id: format!("{carrier}{number}-20130301-{origin}"),
                number: number % 9000 + 1,
                carrier,
                origin,
                destination,
                distance,
                delay: 0,
                tail,
            };
            if self.rng.random_bool(0.03) {
                good.push(flight);
                continue;
            }
            let delay = self.rng.random_range(-15..=40) + self.rng.random_range(0..=1) * 60;
            let departed = scheduled + delay * MINUTE + self.rng.random_range(0..MINUTE);
            good.push(Flight { kind: Kind::Departed, at: departed, delay, ..flight.clone() });
            let delay = delay + self.rng.random_range(-10..=10);
            let at = departed + distance * 7 * 1000 + self.rng.random_range(0..MINUTE);
            good.push(Flight { kind: Kind::Arrived, id: self.id(), at, delay, ..flight });
        }
        good
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        let random: u64 = self.rng.random();
        format!("{random:016x}-{:08x}", self.next_id)
    }

    fn delivery_delay(&mut self) -> i64 {
        match self.rng.random_range(0..1000) {
            0..970 => self.rng.random_range(0..MINUTE),
            970..995 => self.rng.random_range(0..30 * MINUTE),
            _ => self.rng.random_range(2 * HOUR..26 * HOUR),
        }
    }

    /// A broken form of an event, with the event's own id: a rejected event must not mark its id.
    fn broken(&mut self, flight: &Flight) -> (&'static str, Vec<u8>) {
        let mut fields = fields(flight);
        let mut set = |name: &str, value: Value| {
            fields.iter_mut().find(|(n, _)| *n == name).expect("a field").1 = value;
        };
        let reason = match self.rng.random_range(0..9) {
            0 => {
                let line = self.odd_line(&fields);
                let cut = self.rng.random_range(line.len() / 2..line.len() - 1);
                return ("not_json", line[..cut].to_vec());
            }
            1 => {
                let mut line = self.odd_line(&fields);
                let at = line.iter().position(|&b| b == b'.').expect("the type has a dot");
                line.splice(at..at, [0xff, 0xfe]);
                return ("not_json", line);
            }
            2 => {
                fields.retain(|(name, _)| *name != "flight_id");
                "missing_field"
            }
            3 => {
                set("distance_miles", json!("far"));
                "wrong_type"
            }
            4 => {
                set("event_type", json!("flight.teleported"));
                "unknown_event_type"
            }
            5 => {
                set("origin", json!("nyc1"));
                "pattern_mismatch"
            }
            6 => {
                set("distance_miles", json!(-flight.distance));
                "out_of_range"
            }
            7 => {
                set("timestamp", json!(rfc3339(flight.at + 100 * 365 * DAY)));
                "too_far_in_future"
            }
            _ => {
                let line = self.line(&fields);
                let mut doubled = line[..line.len() - 1].to_vec();
                doubled.extend_from_slice(br#","origin":"JFK"}"#);
                return ("duplicate_key", doubled);
            }
        };
        (reason, self.odd_line(&fields))
    }

    fn line(&mut self, fields: &[(&'static str, Value)]) -> Vec<u8> {
        write(fields, ",", ":", false)
    }

    /// The same members in another order, with odd spaces or escaped letters.
    fn odd_line(&mut self, fields: &[(&'static str, Value)]) -> Vec<u8> {
        let mut fields = fields.to_vec();
        fields.shuffle(&mut self.rng);
        match self.rng.random_range(0..3) {
            0 => write(&fields, ", ", ": ", true),
            1 => {
                let mut line = vec![b' '];
                line.extend(write(&fields, " ,", " :", false));
                line
            }
            _ => write(&fields, ",", ":", true),
        }
    }
}

fn fields(flight: &Flight) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("event_id", json!(flight.id)),
        ("event_type", json!(flight.kind.name())),
        ("timestamp", json!(rfc3339(flight.at))),
        ("source", json!(format!("ops-{}", flight.origin.to_lowercase()))),
        ("flight_id", json!(flight.flight_id)),
        ("carrier", json!(flight.carrier)),
        ("flight_number", json!(flight.number)),
        ("origin", json!(flight.origin)),
        ("destination", json!(flight.destination)),
        ("scheduled_at", json!(rfc3339(flight.at - flight.delay * MINUTE))),
        ("distance_miles", json!(flight.distance)),
    ];
    if let Some(tail) = &flight.tail {
        fields.push(("tail_number", json!(tail)));
    }
    if flight.kind != Kind::Cancelled {
        fields.push(("delay_minutes", json!(flight.delay)));
    }
    if flight.kind == Kind::Arrived {
        fields.push(("air_time_minutes", json!(flight.distance / 8)));
    }
    fields
}

fn write(fields: &[(&str, Value)], comma: &str, colon: &str, escape: bool) -> Vec<u8> {
    let members: Vec<String> = fields
        .iter()
        .map(|(name, value)| {
            let text = value.to_string();
            let text = if escape { text.replace("ops-", "\\u006fps\\u002D") } else { text };
            format!("\"{name}\"{colon}{text}")
        })
        .collect();
    format!("{{{}}}", members.join(comma)).into_bytes()
}

/// Metrics, dead letters and the rows of the lake of a place hold what the stream says, and nothing else.
#[track_caller]
pub fn check_all(place: &super::Place, sample: &Sample, seed: u64) {
    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(seed, 60).into_iter().unzip();
    let answers = place.read_batch(&place.data(), &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&expected) {
        super::check_answer(question, answer, expected);
    }
    let mut letters: Vec<Vec<u8>> =
        place.dead_letters(&place.data()).iter().map(super::payload).collect();
    letters.sort();
    assert_eq!(letters, sample.rejected_lines());
    place.verify(&place.data(), &[super::Place::latest(&questions)]);
    let rows: u64 = place
        .lake_tables(&place.data())
        .iter()
        .filter(|(name, _)| super::holds_events(name))
        .map(|(_, table)| table["rows"].as_u64().expect("a count"))
        .sum();
    assert_eq!(rows, sample.good.len() as u64);
}
