//! `agentflow verify` through the real binary: as the README shows it, beside a server that takes events,
//! and over a store that was damaged.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use support::server::Server;
use support::{Finished, Place};

const PARCELS: &str = "\
kind: event
name: parcel
names: [parcel.sent, parcel.lost]
version: 1
key: parcel_id
fields: {parcel_id: string, grams: int64, town: {type: string, required: false}}
enrich: {heavy: grams > 1000}
---
kind: entity
name: parcel
version: 1
from: [parcel.sent, parcel.lost]
key: parcel_id
fields: {grams: last, town: last, sent_at: first(event_time), lost: max(case when event_type = 'parcel.lost' then 1 else 0 end)}
---
kind: metric
name: weight
from: {entity: parcel}
time: sent_at
where: lost = 0
measure: sum(grams)
dimensions: {town: {}, heavy: {expr: grams > 1000}}
windows: [1h, 24h]
moved_by: [parcel.sent, parcel.lost]
";

fn events(from: u64, count: u64) -> String {
    let now = chrono::Utc::now();
    let events = (from..from + count).map(|i| {
        let ty = if i % 7 == 6 { "parcel.lost" } else { "parcel.sent" };
        json!({
            "event_type": ty,
            "event_id": format!("e{i}"),
            "timestamp": (now - chrono::TimeDelta::seconds((i % 3_000) as i64)).to_rfc3339(),
            "parcel_id": format!("P{}", i % 40),
            "grams": 100 + i * 37 % 2_000,
            "town": (i % 3 > 0).then(|| ["Ulm", "Riga"][i as usize % 2]),
        })
    });
    Value::Array(events.collect()).to_string()
}

fn verify(place: &Place, more: &[&str]) -> Finished {
    let mut arguments = vec!["verify".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    place.agentflow(arguments)
}

fn filled() -> Place {
    let place = Place::with_contracts(&[("parcels.yaml", PARCELS)]);
    let server = Server::start(&place, &[]);
    let (status, answer) = server.post("/v1/events", "application/json", events(0, 300));
    assert_eq!((status, &answer["accepted"]), (200, &json!(300)), "{answer}");
    assert!(server.stop().success());
    place
}

#[test]
fn the_command_of_the_readme_finds_nothing() {
    let readme = std::fs::read_to_string("README.md").expect("the README");
    let command = "agentflow verify --contracts contracts/domains/shop --data data";
    assert!(readme.contains(&format!("$ {command}\n")), "the README shows it");
    let place = Place::of("shop");
    let file = place.path("shop.ndjson");
    let to = file.display().to_string();
    support::agentflow(["produce", "--events", "2000", "--to", &format!("file:{to}")]).succeeded();
    place.run(&file).succeeded();
    let found = verify(&place, &[]);
    assert!(found.succeeded().stdout.starts_with("no differences at position "), "{found:?}");
    place.verify(&place.data(), &[]);
}

#[test]
fn it_runs_beside_a_server_that_takes_events() {
    let place = filled();
    let server = Server::start(&place, &[]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 300;
            while !is_over.load(Ordering::Relaxed) {
                let body = events(next, 5);
                let (status, answer) = server.post("/v1/events", "application/json", body);
                assert_eq!(status, 200, "{answer}");
                next += 5;
            }
        });
        let found: Vec<Value> =
            (0..5).map(|_| verify(&place, &["--output", "json"]).json()).collect();
        is_over.store(true, Ordering::Relaxed);
        for report in &found {
            assert_eq!(report["differences"], json!([]), "{report}");
            assert_eq!(report["not_verified"], json!([]), "{report}");
        }
        let position = |report: &Value| report["position"].as_i64();
        assert!(position(&found[4]) > position(&found[0]), "events came in meanwhile");
    });
    // Only whoever runs the server may ask.
    let (status, answer) = server.post("/v1/verify", "application/json", "{\"metric\": \"wait\"}");
    assert!(status == 401 || status == 404, "{status} {answer}");
    assert!(server.stop().success());
}

#[test]
fn what_is_asked_wrongly_is_told() {
    let place = filled();
    verify(&place, &["--metric", "wight"]).failed(1, &["no metric is named `wight`", "weight"]);
    verify(&place, &["--as-of", "soon"]).failed(1, &["as_of `soon` is not a time", "hint:"]);
    verify(&place, &["--as-of", "2999-01-01"]).failed(1, &["lies in the future"]);
    let data = place.data().display().to_string();
    place.agentflow(["verify", "--data", &data]).failed(1, &["--contracts is needed", "hint:"]);
    place.agentflow(["verify", "--server", "nowhere"]).failed(1, &["no address", "hint:"]);
}
