//! Reads that wait for what a Kafka producer was told: `after=topic:partition:offset`, also while contracts change.

// What a change of contracts costs a reader is a figure, not a promise.
#![allow(clippy::print_stdout)]

mod support;

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::kafka::{Kafka, Record};
use support::server::Server;
use support::trips::{self, TRIPS, km};
use support::{Place, wait_for};

const CARS: usize = 7;

fn record(partition: i32, i: usize) -> Record {
    Record::new(partition, trips::trip(i, CARS).to_string())
}

fn serve(place: &Place, kafka: &Kafka, topic: &str) -> Server {
    let (source, group) = (kafka.source(), format!("group-{topic}"));
    let from = ["--from", &source, "--kafka-topic", topic, "--kafka-group", &group];
    let more = ["--kafka-canary", "off", "--watch-contracts", "0.1"];
    Server::start(place, &[&from[..], &more].concat())
}

fn after(server: &Server, metric: &str, positions: &str, wait: &str) -> (u16, Value) {
    server.get(&format!("/v1/metrics/{metric}?max_staleness=0&after={positions}&wait={wait}"))
}

#[test]
fn a_read_waits_for_what_a_producer_was_told() {
    let kafka = Kafka::shared();
    let place = Place::with_contracts(&[("trips.yaml", TRIPS)]);
    let topic = kafka.topic("trips", 2);
    let server = serve(&place, &kafka, &topic);
    let sent: Vec<Record> = (0..200).map(|i| record((i % 2) as i32, i)).collect();
    kafka.produce(&topic, &sent);
    let (status, answer) = after(&server, "trips", &format!("{topic}:0:99,{topic}:1:99"), "20s");
    assert_eq!((status, &answer["value"]), (200, &200.into()), "{answer}");

    // Over what is not there it says how far it is, and has no value.
    let begun = Instant::now();
    let (status, answer) = after(&server, "trips", &format!("{topic}:1:100"), "300ms");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!((status, &answer["code"]), (409, &"not_caught_up".into()), "{answer}");
    let detail = answer["detail"].as_str().expect("a text");
    assert!(detail.contains("its partition is at offset 99"), "{detail}");
    assert_eq!(answer.get("value"), None);
    let (status, answer) = after(&server, "trips", "nowhere:0:0", "10ms");
    assert_eq!(status, 409);
    let detail = answer["detail"].as_str().expect("a text");
    assert!(detail.contains("nothing of its partition is"), "{detail}");

    // Who asks before the record is there gets its answer once it is.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| after(&server, "trips", &format!("{topic}:0:100"), "20s"));
        kafka.produce(&topic, &[record(0, 200)]);
        let (status, answer) = waits.join().expect("no panic");
        assert_eq!((status, &answer["value"]), (200, &201.into()), "{answer}");
    });
    assert!(server.stop().success());
}

/// Someone who reads each record that he produces never misses one, whatever happens to the contracts meanwhile.
#[test]
fn each_record_is_read_while_contracts_change() {
    let kafka = Kafka::shared();
    let place = Place::with_contracts(&[("trips.yaml", TRIPS)]);
    let topic = kafka.topic("trips", 1);
    let server = serve(&place, &kafka, &topic);
    let mut sent = 0;
    let mut longest = Duration::ZERO;
    let mut round = |metric: &str, expected: &dyn Fn(usize) -> usize| {
        kafka.produce(&topic, &[record(0, sent)]);
        let begun = Instant::now();
        let (status, answer) = after(&server, metric, &format!("{topic}:0:{sent}"), "20s");
        longest = longest.max(begun.elapsed());
        sent += 1;
        assert_eq!(
            (status, answer["value"].as_f64()),
            (200, Some(expected(sent) as f64)),
            "{answer}"
        );
        sent
    };
    let trips = |sent: usize| sent;
    (0..20).for_each(|_| {
        round("trips", &trips);
    });
    let write = |name: &str, text: &str| {
        std::fs::write(place.contracts.join(name), text).expect("write contracts");
    };
    write("more.yaml", trips::CARS);
    let refused = Cell::new(0);
    // The new entity is folded from what had been there, and goes on with what comes.
    wait_for("the new metric answers", || {
        round("trips", &trips);
        let (status, answer) = server.get("/v1/metrics/busy");
        refused.set(refused.get() + u64::from(status == 503));
        (status == 200 && !answer["value"].is_null()).then_some(())
    });
    wait_for("everything is whole", || {
        (!server.get("/v1/health").1.to_string().contains("\"backfill\"")).then_some(())
    });
    let busy = |sent: usize| {
        let is_busy = |car: usize| (0..sent).filter(|i| i % CARS == car).count() > 3;
        (0..sent).filter(|i| is_busy(i % CARS)).map(km).sum()
    };
    (0..5).for_each(|_| {
        round("busy", &busy);
    });
    // A field more has stored rows made anew.
    write(
        "trips.yaml",
        &TRIPS.replace("km: int64}", "km: int64, toll: {type: int64, required: false}}"),
    );
    wait_for("the field is there", || {
        round("busy", &busy);
        let (_, contract) = server.get("/v1/contracts/trip");
        contract["fields"].to_string().contains("toll").then_some(())
    });
    let sent = round("trips", &trips);
    assert_eq!(server.received(), sent as u64, "each record was received once");
    // What was asked again under new contracts is one request, with the answer that its caller saw.
    let reads = "agentflow_http_requests_total{method=\"GET\",route=\"/v1/metrics/{name}\"";
    let answers = |status: u16| server.sum(&format!("{reads},status=\"{status}\""));
    assert!(answers(200) >= sent as u64);
    assert_eq!(answers(503), refused.get());
    println!("{sent} records; the longest wait for one: {longest:?}");
    assert!(server.stop().success());
}
