//! Contracts change while a server takes events and answers: nothing is lost, nothing counts twice, nobody
//! who reads gets an error, and what cannot be taken up changes nothing.

// What it cost those who posted and read is a figure, not a promise.
#![allow(clippy::print_stdout)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::server::Server;
use support::trips::{self, TRIPS, km, trip};
use support::{Place, agentflow, wait_for};

const LONG: &str = "\
---
kind: metric
name: long
from: {event: trip.ended}
where: km > 10
measure: count
windows: [now]
moved_by: [trip.ended]
";

const LONGER: &str = "\
---
kind: metric
name: long
version: 2
from: {event: trip.ended}
where: km > 20
measure: count
windows: [now]
moved_by: [trip.ended]
";

fn trips() -> String {
    [TRIPS, LONG].concat()
}

const CARS: usize = 50;

fn lines(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(|i| trip(i, CARS).to_string().into_bytes()).collect()
}

/// Asks or posts again and again on a thread of its own, until it is stopped or an answer is none.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration, String>>,
}

impl Worker {
    fn start(mut turn: impl FnMut() -> Result<(), String> + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                turn()?;
                longest = longest.max(begun.elapsed());
            }
            Ok(longest)
        });
        Self { stop, thread }
    }

    /// The longest that one turn took.
    #[track_caller]
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic").expect("every turn was answered")
    }
}

fn client() -> reqwest::blocking::Client {
    let client = reqwest::blocking::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    client.build().expect("an HTTP client")
}

/// Posts five events at a time from `next` on; each post must be taken.
fn poster(server: &Server, next: &Arc<AtomicUsize>) -> Worker {
    let (url, next, http) = (format!("{}/v1/events", server.url), Arc::clone(next), client());
    Worker::start(move || {
        let from = next.load(Ordering::Relaxed);
        let body = lines(from..from + 5).join(&b'\n');
        let request = http.post(&url).header("content-type", "application/x-ndjson").body(body);
        let response = request.send().map_err(|error| error.to_string())?;
        let (status, text) = (response.status(), response.text().unwrap_or_default());
        if !status.is_success() || !text.contains("\"accepted\":5") {
            return Err(format!("{status} {text}"));
        }
        next.store(from + 5, Ordering::Relaxed);
        Ok(())
    })
}

/// Reads a metric; the count must be there each time and never fall.
fn reader(server: &Server) -> Worker {
    let (url, http) = (format!("{}/v1/metrics/trips", server.url), client());
    let mut last = 0;
    Worker::start(move || {
        let response = http.get(&url).send().map_err(|error| error.to_string())?;
        let status = response.status();
        let body: Value = response.json().map_err(|error| error.to_string())?;
        match body["value"].as_u64() {
            Some(value) if status == 200 && value >= last => last = value,
            _ => return Err(format!("{status} after {last}: {body}")),
        }
        Ok(())
    })
}

fn contracts(server: &Server) -> Value {
    let (_, health) = server.get("/v1/health");
    let components = health["components"].as_array().expect("components").clone();
    let found = components.into_iter().find(|component| component["name"] == "contracts");
    found.unwrap_or_else(|| panic!("no component: {health}"))
}

fn reloads(server: &Server) -> u64 {
    contracts(server)["metrics"]["reloads"].as_u64().expect("a count")
}

/// Waits until the folder's contracts are not taken up, for a reason that has these texts.
#[track_caller]
fn wait_for_refusal(server: &Server, texts: &[&str]) {
    wait_for("the refusal is told", || {
        let component = contracts(server);
        let message = component["message"].as_str().unwrap_or_default();
        let is_told =
            component["status"] == "degraded" && texts.iter().all(|t| message.contains(t));
        is_told.then_some(())
    });
}

#[track_caller]
fn wait_until_healthy(server: &Server) {
    wait_for("the contracts are healthy", || {
        (contracts(server)["status"] == "healthy").then_some(())
    });
}

#[track_caller]
fn value(server: &Server, path: &str) -> u64 {
    let (status, answer) = server.get(path);
    assert_eq!(status, 200, "{path}: {answer}");
    answer["value"].as_f64().unwrap_or_else(|| panic!("{path}: {answer}")) as u64
}

/// Everything that the first `count` events come to, told by nothing of the product.
#[track_caller]
fn check(server: &Server, count: usize) {
    wait_for("everything is applied", || {
        (value(server, "/v1/metrics/trips") >= count as u64).then_some(())
    });
    wait_for("everything is whole", || {
        let (_, health) = server.get("/v1/health");
        (!health.to_string().contains("\"backfill\"")).then_some(())
    });
    let over = |least: usize| (0..count).filter(|i| km(*i) > least).count() as u64;
    assert_eq!(value(server, "/v1/metrics/trips"), count as u64);
    assert_eq!(value(server, "/v1/metrics/long?version=1"), over(10));
    assert_eq!(value(server, "/v1/metrics/long"), over(20));
    let is_busy = |car: usize| (0..count).filter(|i| i % CARS == car).count() > 3;
    let busy: usize = (0..count).filter(|i| is_busy(i % CARS)).map(km).sum();
    assert_eq!(value(server, "/v1/metrics/busy"), busy as u64);
    assert_eq!(server.received(), count as u64, "each record was received once");
}

#[test]
fn contracts_change_while_events_come_in() {
    let place = Place::with_contracts(&[("trips.yaml", &trips())]);
    let file = place.file("events.ndjson", &lines(0..2_000));
    let from = format!("file:{}", file.display());
    let server = Server::start(&place, &["--from", &from, "--watch-contracts", "0.1"]);
    let next = Arc::new(AtomicUsize::new(2_000));
    let (posting, reading) = (poster(&server, &next), reader(&server));

    // A new version, a new entity and a new metric: with history.
    let write = |name: &str, text: &str| {
        std::fs::write(place.contracts.join(name), text).expect("write contracts");
    };
    write("more.yaml", &[trips::CARS, LONGER].concat());
    wait_for("the new metric answers", || (server.get("/v1/metrics/busy").0 == 200).then_some(()));
    assert_eq!(reloads(&server), 1);

    // A typo keeps the last good ones, and mending it heals.
    let since = server.received();
    write("typo.yaml", "kind: metric\nname: wrong\nmeasure: cuont\n");
    wait_for_refusal(&server, &["typo.yaml:", "not in use since"]);
    wait_for("events are still taken", || (server.received() > since + 50).then_some(()));
    assert_eq!(server.get("/v1/metrics/wrong").0, 404);
    write("typo.yaml", "# nothing yet\n");
    wait_until_healthy(&server);

    // Other numbers under the same name and version are refused until somebody allows them.
    write("trips.yaml", &trips().replace("where: km > 10", "where: km > 15"));
    wait_for_refusal(&server, &["trips.yaml:17", "where changed", "restating"]);
    let data = place.data().display().to_string();
    agentflow(["contracts", "reload", "--data", &data])
        .failed(1, &["where changed (restating)", "hint: add a version"]);
    write(
        "trips.yaml",
        &trips().replace("kind: event\nname: trip\n", "kind: event\nname: drive\n"),
    );
    wait_for_refusal(&server, &["event removed", "breaking"]);
    write("trips.yaml", &trips());
    wait_until_healthy(&server);

    // A field more has stored rows made anew: with few of them everything waits a moment.
    let before = reloads(&server);
    let more = "km: int64, toll: {type: int64, required: false}}";
    write("trips.yaml", &trips().replace("km: int64}", more));
    wait_for("the field is there", || {
        let (_, contract) = server.get("/v1/contracts/trip");
        contract["fields"].to_string().contains("toll").then_some(())
    });
    assert!(reloads(&server) > before);

    // What people asked for.
    let unchanged = agentflow(["contracts", "reload", "--data", &data]);
    assert_eq!(unchanged.succeeded().stdout, "unchanged\n");
    server.signal("HUP");

    let (posted, read) = (posting.stop(), reading.stop());
    let count = next.load(Ordering::Relaxed);
    println!("{count} events; longest post {posted:?}, longest read {read:?}");
    check(&server, count);
    assert!(server.stop().success());
    let server = Server::start(&place, &["--from", &from]);
    check(&server, count);
}

#[test]
fn a_process_that_is_killed_while_contracts_change_loses_nothing() {
    for point in ["reload_stopped:1", "reload_prepared:1"] {
        let place = Place::with_contracts(&[("trips.yaml", &trips())]);
        let file = place.file("events.ndjson", &lines(0..2_000));
        let from = format!("file:{}", file.display());
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(place.common(&place.data()));
        arguments.extend(["--listen", "127.0.0.1:0", "--from", &from].map(str::to_owned));
        arguments.extend(["--watch-contracts", "0.1"].map(str::to_owned));
        let server = Server::spawn_armed(arguments, point);
        wait_for("something is applied", || (server.received() > 0).then_some(()));
        std::fs::write(place.contracts.join("more.yaml"), [trips::CARS, LONGER].concat())
            .expect("write contracts");
        assert!(!server.wait().success(), "{point}");
        // Without a reload: the next start takes up what is there.
        let server = Server::start(&place, &["--from", &from]);
        check(&server, 2_000);
    }
}

#[test]
fn a_stream_goes_on_over_a_change_of_contracts() {
    use std::io::{BufRead, BufReader};
    let place = Place::with_contracts(&[("trips.yaml", &trips())]);
    let server = Server::start(&place, &["--watch-contracts", "0.1"]);
    let next = Arc::new(AtomicUsize::new(0));
    let posting = poster(&server, &next);
    let open = |after: i64| {
        let http = reqwest::blocking::Client::builder().no_proxy().timeout(None).build();
        let request = http.expect("a client").get(format!("{}/v1/stream/events", server.url));
        let response = request.header("last-event-id", after.to_string()).send().expect("a stream");
        assert_eq!(response.status(), 200);
        BufReader::new(response)
    };
    let mut seen: Vec<i64> = Vec::new();
    let mut stream = open(0);
    let (mut changed, mut ends) = (false, 0);
    while ends == 0 || seen.len() < 2_000 {
        let mut line = String::new();
        let read = stream.read_line(&mut line).unwrap_or(0);
        if read == 0 {
            // Its server's contracts changed: it is opened again where it ended.
            ends += 1;
            stream = open(seen.last().copied().unwrap_or(0));
            continue;
        }
        if let Some(id) = line.strip_prefix("id:") {
            seen.push(id.trim().parse().expect("a position"));
        }
        if seen.len() > 200 && !changed {
            changed = true;
            std::fs::write(place.contracts.join("more.yaml"), [trips::CARS, LONGER].concat())
                .expect("write contracts");
        }
    }
    posting.stop();
    assert_eq!(ends, 1);
    let wanted: Vec<i64> = (1..=seen.len() as i64).collect();
    assert_eq!(seen, wanted, "each once and in order");
}
