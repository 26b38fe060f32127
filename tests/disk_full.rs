//! A disk that fills up while batches are committed: nothing is lost, reads go on, and with room
//! the rest is taken.
//!
//! The server runs in a mount namespace of its own with a small tmpfs as its data directory, which
//! the test makes larger while the server runs.

mod support;

use std::process::{Command, Stdio};

use serde_json::json;

use support::flights::Sample;
use support::server::Server;
use support::{Place, wait_for};

/// Room at first: enough to begin with, not for the events.
const SMALL: &str = "size=24m";
const LARGE: &str = "size=2g";

/// A program that starts the rest of its arguments in a mount namespace of its own; as another user
/// than root that takes a user namespace too.
fn own_mounts() -> Vec<&'static str> {
    vec!["unshare", "--user", "--map-root-user", "--mount"]
}

fn may_mount() -> bool {
    let words = own_mounts();
    let probe = Command::new(words[0])
        .args(&words[1..])
        .args(["sh", "-c", "mount -t tmpfs -o size=1m none /mnt"])
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => true,
        other => {
            // A container without the right to mount: said aloud, and a failure where it counts.
            let why = format!("no mount namespace to be had here: {other:?}");
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("NOT TESTED: {why}");
            false
        }
    }
}

fn count(server: &Server, name: &str) -> u64 {
    let (_, text) = server.get("/metrics");
    let text = text.as_str().expect("the text format");
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>() as u64
}

#[test]
fn a_full_disk_stops_writes_alone_and_room_lets_them_go_on() {
    if !may_mount() {
        return;
    }
    let place = Place::of("flights");
    let sample = Sample::new(301, 60_000, 5);
    let file = place.file("events.ndjson", &sample.lines);
    let data = place.data();
    std::fs::create_dir(&data).expect("the data directory");
    let mount = format!("mount -t tmpfs -o {SMALL} none \"$0\" && exec \"$@\"");
    let mut arguments: Vec<String> = own_mounts().iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(["sh".to_owned(), "-c".to_owned(), mount, data.display().to_string()]);
    arguments.push(env!("CARGO_BIN_EXE_agentflow").to_owned());
    arguments.extend(["serve", "--listen", "127.0.0.1:0"].map(str::to_owned));
    arguments.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
    arguments.extend(["--data".to_owned(), data.display().to_string()]);
    arguments.extend(["--from".to_owned(), format!("file:{}", file.display())]);
    let server = Server::spawn_program(arguments);

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

    let pid = server.pid().to_string();
    let grown = Command::new("nsenter")
        .args(["--target", &pid, "--user", "--preserve-credentials", "--mount"])
        .args(["mount", "-o", &format!("remount,{LARGE}"), &data.display().to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("nsenter is there");
    assert!(grown.status.success(), "{grown:?}");
    wait_for("all records", || (server.received() >= sample.lines.len() as u64).then_some(()));
    let accepted = count(&server, "agentflow_records_total{outcome=\"accepted\"");
    assert_eq!(accepted, sample.good.len() as u64);
    wait_for("the lake to have everything", || {
        (count(&server, "agentflow_lake_lag_events") == 0).then_some(())
    });
    let (_, health) = server.get("/health/ready");
    assert_eq!(server.get("/health/ready").0, 200, "{health}");
    assert!(server.stop().success());
}
