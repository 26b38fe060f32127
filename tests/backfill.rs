//! Contracts gain versions while events come in: what answered before goes on answering, and what is new
//! answers once it is whole, whatever happens to the process meanwhile.

// What it cost those who posted is a figure, not a promise.
#![allow(clippy::print_stdout)]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::server::Server;
use support::{Place, wait_for};

const EVENTS: &str = "\
kind: event
name: trip
names: [trip.begun, trip.ended]
version: 1
key: trip_id
fields: {trip_id: string, car: string, km: int64}
---
kind: entity
name: trip
version: 1
from: [trip.begun, trip.ended]
key: trip_id
fields: {car: last, km: last}
---
kind: metric
name: long
version: 1
unit: count
from: {event: trip.ended}
where: km > 10
measure: count
windows: [now]
moved_by: [trip.ended]
---
kind: metric
name: far
version: 1
unit: km
from: {entity: trip}
where: km > 10
measure: sum(km)
windows: [now]
moved_by: [trip.begun, trip.ended]
";

const MORE: &str = "\
kind: metric
name: long
version: 2
unit: count
from: {event: trip.ended}
where: km > 20
measure: count
windows: [now]
moved_by: [trip.ended]
---
kind: metric
name: far
version: 2
unit: km
from: {entity: trip}
where: km > 20
measure: sum(km)
windows: [now]
moved_by: [trip.begun, trip.ended]
---
kind: entity
name: car
version: 1
from: {entity: trip}
key: car
fields: {trips: count, km: sum(km), longest: max(km)}
---
kind: entity
name: visit
version: 1
from: [trip.ended]
key: car
fields: {ends: count, km: sum(km)}
---
kind: metric
name: busy
version: 1
unit: count
from: {entity: visit}
where: ends > 3
measure: count
windows: [now]
moved_by: [trip.ended]
";

const CARS: usize = 500;

/// Event `i`: each trip is begun and ended, its length corrected at the end.
fn event(i: usize) -> Value {
    let trip = i / 2;
    json!({
        "event_type": if i.is_multiple_of(2) { "trip.begun" } else { "trip.ended" },
        "event_id": format!("e{i}"),
        "timestamp": "2026-01-01T00:00:00Z",
        "trip_id": format!("T{trip}"),
        "car": format!("C{}", (trip * 7 + i) % CARS),
        "km": (i * 31) % 40,
    })
}

/// What the events of these numbers come to, told by nothing of the product.
#[derive(Debug, Default, PartialEq)]
struct Oracle {
    long: [usize; 2],
    far: [usize; 2],
    busy: usize,
    /// Trips, length and longest of car 7; ends there.
    car: [usize; 4],
}

impl Oracle {
    fn of(events: &BTreeSet<usize>) -> Self {
        let mut oracle = Self::default();
        let mut trips: std::collections::BTreeMap<usize, (usize, usize)> = Default::default();
        let mut ends = vec![0; CARS];
        for i in events.iter().copied() {
            let (trip, km) = (i / 2, (i * 31) % 40);
            let car = (trip * 7 + i) % CARS;
            trips.insert(trip, (car, km));
            if i % 2 == 1 {
                ends[car] += 1;
                oracle.long[0] += usize::from(km > 10);
                oracle.long[1] += usize::from(km > 20);
            }
        }
        for (car, km) in trips.values().copied() {
            oracle.far[0] += if km > 10 { km } else { 0 };
            oracle.far[1] += if km > 20 { km } else { 0 };
            if car == 7 {
                oracle.car[0] += 1;
                oracle.car[1] += km;
                oracle.car[2] = oracle.car[2].max(km);
            }
        }
        oracle.busy = ends.iter().filter(|ends| **ends > 3).count();
        oracle.car[3] = ends[7];
        oracle
    }
}

/// Posts events from `next` on, ten at a time, until it is told to stop or nobody answers.
struct Poster {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Vec<Duration>>>,
}

impl Poster {
    fn start(url: &str, next: &Arc<AtomicUsize>, taken: &Arc<Mutex<BTreeSet<usize>>>) -> Self {
        let url = format!("{url}/v1/events");
        let (next, taken, stop) =
            (Arc::clone(next), Arc::clone(taken), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client");
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let from = next.load(Ordering::Relaxed);
                let lines: Vec<String> = (from..from + 10).map(|i| event(i).to_string()).collect();
                let started = Instant::now();
                let request = http.post(&url).header("content-type", "application/x-ndjson");
                match request.body(lines.join("\n")).send() {
                    Ok(response) if response.status().is_success() => {
                        took.push(started.elapsed());
                        taken.lock().expect("lock").extend(from..from + 10);
                        next.store(from + 10, Ordering::Relaxed);
                    }
                    // It is gone; who comes next posts the same ones again.
                    _ => break,
                }
            }
            took
        });
        Self { stop, thread: Some(thread) }
    }

    /// How long each post took from its sending to its being applied.
    fn stop(mut self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("runs").join().expect("no panic")
    }
}

fn backfill(server: &Server) -> Option<Value> {
    let (_, health) = server.get("/v1/health");
    let components = health["components"].as_array().expect("components").clone();
    components.into_iter().find(|component| component["name"] == "backfill")
}

#[track_caller]
fn check(server: &Server, events: &BTreeSet<usize>) {
    let expected = Oracle::of(events);
    let value = |path: &str| {
        let (status, answer) = server.get(path);
        assert_eq!(status, 200, "{path}: {answer}");
        let version = answer["proof"]["contract"]["version"].as_u64().expect("a version");
        (version as usize, answer["value"].as_f64().expect("a number") as usize)
    };
    let [old, new] = [0, 1].map(|version| (expected.long[version], expected.far[version]));
    assert_eq!(value("/v1/metrics/long?version=1"), (1, old.0));
    assert_eq!(value("/v1/metrics/far?version=1"), (1, old.1));
    assert_eq!(value("/v1/metrics/long"), (2, new.0));
    assert_eq!(value("/v1/metrics/far"), (2, new.1));
    assert_eq!(value("/v1/metrics/busy"), (1, expected.busy));
    let (_, car) = server.get("/v1/entity/car/C7");
    let (_, visit) = server.get("/v1/entity/visit/C7");
    let number = |of: &Value, name: &str| of["data"][name].as_f64().map(|n| n as usize);
    let found = [
        number(&car, "trips"),
        number(&car, "km"),
        number(&car, "longest"),
        number(&visit, "ends"),
    ];
    assert_eq!(found, expected.car.map(Some), "{car} {visit}");
}

#[test]
fn the_live_version_answers_until_the_new_one_is_whole_whatever_happens() {
    let place = Place::with_contracts(&[("trips.yaml", EVENTS)]);
    let before = 30_000;
    let lines: Vec<Vec<u8>> = (0..before).map(|i| event(i).to_string().into_bytes()).collect();
    place.run(&place.file("events.ndjson", &lines)).succeeded();
    let taken = Arc::new(Mutex::new((0..before).collect::<BTreeSet<usize>>()));
    let next = Arc::new(AtomicUsize::new(before));
    std::fs::write(place.contracts.join("more.yaml"), MORE).expect("write contracts");
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));

    // Slowly, to look at it.
    let server = Server::spawn_armed(arguments.clone(), "backfill_before_commit:1:slow=5");
    let (status, answer) = server.get("/v1/metrics/long");
    assert_eq!((status, &answer["proof"]["contract"]["version"]), (200, &json!(1)), "{answer}");
    assert_eq!(
        answer["value"].as_f64(),
        Some(Oracle::of(&taken.lock().expect("lock")).long[0] as f64)
    );
    for path in ["/v1/metrics/long?version=2", "/v1/metrics/busy", "/v1/entity/visit/C7"] {
        let url = format!("{}{path}", server.url);
        let response = reqwest::blocking::get(url).expect("an answer");
        assert_eq!(response.status().as_u16(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        let body: Value = response.json().expect("JSON");
        assert_eq!(body["code"], "backfilling", "{body}");
        assert!(body["detail"].as_str().is_some_and(|text| text.contains(" of ")), "{body}");
    }
    let (status, answer) = server.get("/v1/metrics/long?version=3");
    assert_eq!(status, 404, "{answer}");
    let figures = backfill(&server).expect("a component")["metrics"].clone();
    assert!(figures["done"].as_u64() < figures["total"].as_u64(), "{figures}");
    let (_, list) = server.get("/v1/metrics");
    let listed = list["metrics"].as_array().expect("metrics").clone();
    let long = listed.iter().find(|metric| metric["name"] == "long").expect("it is there");
    assert_eq!((&long["version"], &long["backfilling"][0]["version"]), (&json!(1), &json!(2)));
    assert!(server.sum("agentflow_backfill_total_positions{kind=\"metric\",name=\"long\"") > 0);
    drop(server);

    // Killed around its commits while events come in.
    for point in ["backfill_after_commit:2", "backfill_before_commit:6", "backfill_after_commit:9"]
    {
        let server = Server::spawn_armed(arguments.clone(), point);
        let poster = Poster::start(&server.url, &next, &taken);
        assert!(!server.wait().success(), "{point}");
        poster.stop();
    }

    let server = Server::start(&place, &[]);
    let poster = Poster::start(&server.url, &next, &taken);
    let mut versions = BTreeSet::new();
    wait_for("everything is whole", || {
        let (status, answer) = server.get("/v1/metrics/long");
        assert_eq!(status, 200, "{answer}");
        versions.insert(answer["proof"]["contract"]["version"].as_u64().expect("a version"));
        backfill(&server).is_none().then_some(())
    });
    let mut took = poster.stop();
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    println!("posted to applied meanwhile: p50 {:?}, p95 {:?}, {}", at(50), at(95), took.len());
    assert!(
        versions.last() == Some(&2)
            || server.get("/v1/metrics/long").1["proof"]["contract"]["version"] == 2
    );
    check(&server, &taken.lock().expect("lock"));
    // The next start has nothing left to do.
    assert!(server.stop().success());
    let server = Server::start(&place, &[]);
    assert_eq!(backfill(&server), None);
    check(&server, &taken.lock().expect("lock"));
    // Beside the server, while it goes on.
    place.verify(&place.data(), &[]);
    assert!(server.stop().success());
    place.verify(&place.data(), &[]);
}
