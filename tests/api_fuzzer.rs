//! Schemathesis against the running server: thousands of requests that the API's own description allows, and
//! as many that it does not. None may end in a 5xx, in a body of another kind or in one of another shape.

mod support;

use std::process::Command;

use support::Place;
use support::server::Server;

const KEY: &str = "the-key-of-the-fuzzer";
const ADMIN_KEY: &str = "the-admin-key-of-the-fuzzer";

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
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    let more = ["--listen", "127.0.0.1:0", "--rate-limit-rpm", "10000000"];
    arguments.extend(more.map(str::to_owned));
    let mut command = place.command(&arguments);
    command.env_remove("AGENTFLOW_AUTH_DISABLED");
    command
        .env("AGENTFLOW_API_KEYS", format!("{KEY}:fuzzer"))
        .env("AGENTFLOW_ADMIN_KEY", ADMIN_KEY);
    let server = Server::spawn_command(command, &arguments);
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
        .args(["-H", &format!("X-API-Key: {KEY}"), "-H", &format!("X-Admin-Key: {ADMIN_KEY}")])
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
