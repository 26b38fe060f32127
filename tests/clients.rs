//! The reference system's published Python client against `agentflow serve` with the shop's contracts:
//! every public method, synchronous and asynchronous. The checks are in `clients/suite.py`.
//!
//! `make test` installs the client and names the interpreter in `AGENTFLOW_CLIENTS_PYTHON`; without it these
//! checks say that they were left out.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Place;
use support::server::Server;

/// One for both servers: so the keys of one are good in the other's file.
const PEPPER: (&str, &str) = ("AGENTFLOW_KEY_LOOKUP_PEPPER", "the pepper of both servers");

/// Makes a key and returns it.
fn key(place: &Place, file: &Path, more: &[&str]) -> String {
    let file = file.display().to_string();
    let all = ["keys", "create", "--keys-file", &file].into_iter().chain(more.iter().copied());
    let all: Vec<String> = all.map(str::to_owned).collect();
    let output = place.command(&all).env(PEPPER.0, PEPPER.1).output().expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A server that wants the keys of a file.
fn start(place: &Place, keys: &Path) -> Server {
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(["--listen", "127.0.0.1:0", "--keys-file"].map(str::to_owned));
    arguments.push(keys.display().to_string());
    let mut command = place.command(&arguments);
    command.env_remove("AGENTFLOW_AUTH_DISABLED").env(PEPPER.0, PEPPER.1);
    Server::spawn_command(command, &arguments)
}

#[track_caller]
fn check(kind: &str) {
    let Some(python) = std::env::var_os("AGENTFLOW_CLIENTS_PYTHON") else {
        eprintln!("AGENTFLOW_CLIENTS_PYTHON is not set: `make test` drives the published client");
        return;
    };
    let (place, locked) = (Place::of("shop"), Place::of("shop"));
    let keys = place.data().with_file_name("keys.yaml");
    let plenty = ["--rate-limit-rpm", "100000"];
    let main = key(&place, &keys, &[&["--name", "main"][..], &plenty].concat());
    let narrow = ["--name", "narrow", "--entity", "product"];
    let narrow = key(&place, &keys, &[&narrow[..], &plenty].concat());
    let slow = key(&place, &keys, &["--name", "slow", "--rate-limit-rpm", "2"]);
    let other = ["--name", "other", "--tenant", "acme"];
    let other = key(&place, &keys, &[&other[..], &plenty].concat());
    let server = start(&place, &keys);
    let locked_keys: PathBuf = locked.data().with_file_name("keys.yaml");
    let without_keys = start(&locked, &locked_keys);

    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/suite.py");
    let output = Command::new(python)
        .arg(suite)
        .arg(kind)
        .env("SUITE_URL", &server.url)
        .env("SUITE_KEY", main)
        .env("SUITE_NARROW_KEY", narrow)
        .env("SUITE_SLOW_KEY", slow)
        .env("SUITE_OTHER_KEY", other)
        .env("SUITE_LOCKED_URL", &without_keys.url)
        .env("SUITE_LOCKED_KEYS", &locked_keys)
        .env("SUITE_KEYS", &keys)
        .env("NO_PROXY", "*")
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}\n{}", server.stderr());
    eprintln!("{said}");
    assert!(server.stop().success());
    assert!(without_keys.stop().success());
}

#[test]
fn every_method_of_the_synchronous_client_works() {
    check("sync");
}

#[test]
fn every_method_of_the_asynchronous_client_works() {
    check("async");
}
