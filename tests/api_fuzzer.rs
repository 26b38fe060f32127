//! Schemathesis against the running server: thousands of requests that the API's own description allows, and
//! as many that it does not. None may end in a 5xx, in a body of another kind or in one of another shape.

mod support;

use std::process::Command;

use support::Place;
use support::server::Server;

#[test]
fn nothing_that_a_caller_sends_is_an_error_of_the_server() {
    let Some(python) = std::env::var_os("AGENTFLOW_API_FUZZER") else {
        assert!(std::env::var_os("CI").is_none(), "no Schemathesis");
        eprintln!("no Schemathesis (infra/setup/python.sh): not run");
        return;
    };
    let place = Place::of("shop");
    let events = place.file("events.ndjson", &[]);
    let produce = ["produce", "--events", "2000", "--to", &format!("file:{}", events.display())];
    place.agentflow(produce).succeeded();
    place.run(&events).succeeded();
    let server = Server::start(&place, &[]);
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli", "run", &format!("{}/openapi.json", server.url)])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--seed", "1"])
        .args(["--continue-on-failure", "--no-color", "--request-timeout", "20"])
        .args([
            "--checks",
            "not_a_server_error,content_type_conformance,response_schema_conformance",
        ])
        // Streams do not end by themselves; they have a suite of their own.
        .args(["--exclude-path-regex", "/stream"])
        .args(["--suppress-health-check", "all"])
        .current_dir(place.path("."))
        .output()
        .expect("Schemathesis starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}\n{}", server.stderr());
    assert!(text.contains("generated"), "{text}");
    assert!(!server.stderr().contains("panic"), "{}", server.stderr());
    assert!(server.stop().success());
}
