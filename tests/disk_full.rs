//! A disk that fills up while batches are committed, or that has less room than has to be left: nothing
//! is lost, reads go on, and with room the rest is taken.
//!
//! The server runs in a mount namespace of its own with a small tmpfs as its data directory, which
//! the test makes larger while the server runs.

mod support;

use serde_json::json;

use support::flights::Sample;
use support::server::Server;
use support::small_disk::SmallDisk;
use support::{Place, wait_for};

/// Room at first: enough to begin with, not for the events.
const SMALL: &str = "24m";
/// The same where 32 MiB of it have to stay free.
const WATERMARKED: &str = "48m";
const KEEP: [&str; 2] = ["--min-free-mib", "32"];
const LARGE: &str = "2g";

#[test]
fn a_full_disk_stops_writes_alone_and_room_lets_them_go_on() {
    if !SmallDisk::is_possible() {
        return;
    }
    let place = Place::on_small_disk("flights", SMALL);
    let sample = Sample::new(301, 60_000, 5);
    let file = place.file("events.ndjson", &sample.lines);
    let from = format!("file:{}", file.display());
    let server = Server::start(&place, &["--from", &from, "--min-free-mib", "0"]);

    let refused = wait_for("the disk to be full", || {
        let (_, health) = server.get("/v1/health");
        health.to_string().contains("no space left").then_some(health)
    });
    assert_ne!(refused["status"], json!("healthy"), "{refused}");
    assert_eq!(server.get("/health/ready").0, 503);
    assert_eq!(server.get("/health/live").0, 200);
    let taken = server.received();
    assert!(taken < sample.lines.len() as u64, "the disk was not full");
    let (status, answer) = server.get("/v1/metrics/departures?window=24h");
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = server.post("/v1/events", "application/json", &b"{}"[..]);
    assert_eq!(status, 503, "{answer}");

    place.disk().resize(LARGE);
    wait_for("all records", || (server.received() >= sample.lines.len() as u64).then_some(()));
    let accepted = server.sum("agentflow_records_total{outcome=\"accepted\"");
    assert_eq!(accepted, sample.good.len() as u64);
    wait_for("the lake to have everything", || {
        (server.sum("agentflow_lake_lag_events") == 0).then_some(())
    });
    let (_, health) = server.get("/health/ready");
    assert_eq!(server.get("/health/ready").0, 200, "{health}");
    assert!(server.stop().success());
}

/// What health says of the disk, once it does: how much is free and how much has to be.
#[track_caller]
fn wait_for_shortage(server: &Server) -> u64 {
    let health = wait_for("the shortage to be told", || {
        let (_, health) = server.get("/v1/health");
        health.to_string().contains("have to be").then_some(health)
    });
    assert_ne!(health["status"], json!("healthy"), "{health}");
    let text = health.to_string();
    assert!(text.contains(", 32 MiB have to be; free some space"), "{text}");
    let (before, _) = text.split_once(" MiB are free on the disk").expect("the figure");
    before.rsplit(' ').next().and_then(|free| free.parse().ok()).expect("a number")
}

/// Status and `Retry-After` of an event that is posted.
#[track_caller]
fn post(server: &Server, event: &[u8]) -> (u16, Option<String>) {
    let request = reqwest::blocking::Client::new().post(format!("{}/v1/events", server.url));
    let request = request.header("content-type", "application/json").body(event.to_vec());
    let answer = request.send().expect("an answer");
    let wait = answer.headers().get("retry-after").map(|text| text.to_str().expect("text").into());
    (answer.status().as_u16(), wait)
}

#[test]
fn below_the_watermark_a_source_pauses_and_room_lets_it_go_on() {
    if !SmallDisk::is_possible() {
        return;
    }
    let place = Place::on_small_disk("flights", WATERMARKED);
    let sample = Sample::new(302, 60_000, 5);
    let file = place.file("events.ndjson", &sample.lines);
    let from = format!("file:{}", file.display());
    let server = Server::start(&place, &["--from", &from, KEEP[0], KEEP[1]]);
    let free = wait_for_shortage(&server);
    assert!((8..32).contains(&free), "it went on down to {free} MiB");
    let taken = server.received();
    assert!(taken < sample.lines.len() as u64, "there was room");
    assert_eq!(server.get("/health/ready").0, 503);
    assert_eq!(server.get("/v1/metrics/departures?window=24h").0, 200);
    assert_eq!(post(&server, b"{}"), (503, Some("1".to_owned())));
    assert_eq!(server.received(), taken);

    place.disk().resize(LARGE);
    wait_for("all records", || (server.received() >= sample.lines.len() as u64).then_some(()));
    let accepted = server.sum("agentflow_records_total{outcome=\"accepted\"");
    assert_eq!(accepted, sample.good.len() as u64);
    wait_for("health", || (server.get("/health/ready").0 == 200).then_some(()));
    assert!(server.stop().success());
}

#[test]
fn a_shortage_is_told_before_an_event_comes_and_so_is_its_end() {
    if !SmallDisk::is_possible() {
        return;
    }
    let place = Place::on_small_disk("flights", WATERMARKED);
    let sample = Sample::new(303, 10, 1);
    let server = Server::start(&place, &KEEP);
    wait_for("health", || (server.get("/health/ready").0 == 200).then_some(()));
    place.disk().fill();
    assert_eq!(wait_for_shortage(&server), 0);
    assert_eq!(post(&server, &sample.lines[0]), (503, Some("1".to_owned())));
    assert_eq!(server.received(), 0);

    place.disk().make_room();
    // Nothing waits that could be committed.
    wait_for("health", || (server.get("/health/ready").0 == 200).then_some(()));
    let event = sample.lines.iter().find(|line| line.starts_with(b"{")).expect("an event");
    assert_eq!(post(&server, event), (200, None));
    assert_eq!(server.received(), 1);
    assert!(server.stop().success());
}
