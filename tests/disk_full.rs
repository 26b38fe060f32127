//! A disk that fills up while batches are committed: nothing is lost, reads go on, and with room
//! the rest is taken.
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
    let server = Server::start(&place, &["--from", &from]);

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
