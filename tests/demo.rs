//! `agentflow demo`: starts from nothing, shows metrics that move, stops on Ctrl-C.

mod support;

use support::server::Server;
use support::wait_for;

#[test]
fn the_demo_says_what_to_try_moves_its_metrics_and_stops() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("demo").display().to_string();
    let demo = Server::spawn(
        ["demo", "--data", &data, "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec(),
    );
    let text = wait_for("three curl lines", || {
        let text = format!("{}{}", demo.stdout(), demo.stderr());
        (text.matches("curl ").count() >= 3).then_some(text)
    });
    for line in text.lines().filter(|line| line.trim_start().starts_with("curl ")) {
        assert!(line.contains(&demo.url), "{line}");
    }
    let key =
        text.split_once("X-API-Key: ").and_then(|(_, rest)| rest.split_once('\'')).map(|k| k.0);
    let key = key.expect("the demo prints its key");
    assert_eq!(demo.get("/v1/metrics/revenue").0, 401, "without a key");
    let demo = demo.with_key(key);
    let revenue = || {
        let (status, answer) = demo.get("/v1/metrics/revenue?window=1h");
        (status == 200).then(|| answer["value"].as_f64()).flatten()
    };
    let first = wait_for("revenue", || revenue().filter(|&value| value > 0.0));
    wait_for("revenue to move", || revenue().filter(|&value| value != first));
    assert_eq!(demo.get("/health/ready").0, 200);
    assert!(demo.stop().success());
}

#[test]
fn a_taken_port_makes_the_demo_take_a_free_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |name: &str| {
        let data = folder.path().join(name).display().to_string();
        Server::spawn(["demo", "--data", &data].map(str::to_owned).to_vec())
    };
    let first = start("first");
    let second = start("second");
    assert_ne!(first.url, second.url);
    assert!(first.stop().success());
    assert!(second.stop().success());
}
