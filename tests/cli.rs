//! The surface of the command line: help, exit codes, and which stream says what.

mod support;

use support::{Place, agentflow};

#[test]
fn help_and_version_go_to_stdout_and_are_fine() {
    let help = agentflow(["--help"]);
    help.succeeded();
    for subcommand in [
        "serve",
        "demo",
        "run",
        "read",
        "deadletters",
        "lake",
        "backup",
        "restore",
        "contracts",
        "produce",
    ] {
        assert!(help.stdout.contains(&format!("\n  {subcommand}")), "{subcommand}: {help:?}");
    }
    assert_eq!(help.stderr, "");
    let version = agentflow(["--version"]);
    assert_eq!(version.succeeded().stdout, concat!("agentflow ", env!("CARGO_PKG_VERSION"), "\n"));
    agentflow(["read", "--help"]).succeeded();
}

#[test]
fn a_wrong_command_line_is_the_callers_input() {
    let check = |arguments: &[&str], says: &str| {
        let finished = agentflow(arguments);
        finished.failed(1, &[says]);
        assert_eq!(finished.stdout, "", "stdout is data");
    };
    check(&[], "Usage");
    check(&["reed"], "unrecognized subcommand");
    check(&["run"], "--contracts");
    check(&["read", "revenue", "--windows", "1h"], "--window");
    check(&["deadletters", "--data", "x", "--output", "xml"], "json");
    check(&["contracts"], "Usage");
}

#[test]
fn what_is_not_there_is_named_with_a_next_step() {
    let place = Place::of("flights");
    let contracts = place.contracts.display().to_string();
    let data = place.data().display().to_string();
    let nowhere = place.path("nowhere").display().to_string();
    let missing = format!("file:{nowhere}/events.ndjson");

    let run = |contracts: &str, from: &str| {
        agentflow(["run", "--contracts", contracts, "--data", &data, "--from", from, "--until-end"])
    };
    run(&nowhere, &missing).failed(1, &[&nowhere, "hint:"]);
    run(&contracts, &missing).failed(1, &["nowhere/events.ndjson"]);
    run(&contracts, "kafkaesque:topic").failed(1, &["kafkaesque", "file:PATH"]);

    // Reading makes no data directory.
    agentflow(["read", "departures", "--contracts", &contracts, "--data", &nowhere])
        .failed(1, &[&nowhere, "hint:"]);
    agentflow(["deadletters", "--data", &nowhere]).failed(1, &[&nowhere, "hint:"]);
    agentflow(["lake", "tables", "--data", &nowhere]).failed(1, &[&nowhere, "hint:"]);
    assert!(!place.path("nowhere").exists());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::io::Read;
    let place = Place::of("flights");
    let sample = support::flights::Sample::new(81, 3_000, 3);
    let file = place.file("events.ndjson", &sample.lines);
    place.run(&file).succeeded();
    let mut child = support::command(["deadletters", "--output", "json", "--data"])
        .arg(place.data())
        .arg("--contracts")
        .arg(&place.contracts)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("reads");
    assert!(child.wait().expect("ends").success(), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn event_contracts_are_exported_for_producers() {
    let contracts = support::domain("shop").display().to_string();
    let export = |arguments: &[&str]| {
        let mut all = vec!["contracts", "export", "--contracts", contracts.as_str()];
        all.extend(arguments);
        agentflow(all)
    };
    // With a name: the schema and nothing else, of the newest stable version.
    let avro = export(&["order", "--format", "avro"]).json();
    assert_eq!((&avro["name"], &avro["namespace"]), (&"order".into(), &"shop".into()));
    assert!(avro.to_string().contains("version 2"), "{avro}");
    let old = export(&["order", "--version", "1", "--format", "json-schema"]).json();
    assert_eq!(old["title"], "order v1");
    assert_eq!(old["properties"]["schema_version"]["const"], 1);

    let all = export(&["--format", "avro"]);
    let lines = all.succeeded().json_lines();
    let known: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {}", line["contract"].as_str().unwrap_or("?"), line["version"]))
        .collect();
    assert_eq!(known, ["click 1", "order 1", "order 2", "payment 1", "product 1"]);
    assert!(lines.iter().any(|line| line["schema"] == avro));

    export(&["ordr", "--format", "avro"]).failed(1, &["`ordr`", "did you mean `order`?"]);
    export(&["order.created", "--format", "avro"]).failed(1, &["the contract `order`"]);
    export(&["order", "--version", "9", "--format", "avro"]).failed(1, &["versions: 1, 2"]);
    export(&["--version", "1", "--format", "avro"]).failed(1, &["NAME"]);
    export(&["order"]).failed(1, &["--format"]);
    export(&["order", "--format", "protobuf"]).failed(1, &["json-schema"]);
    let header = "kind: event\nnames: [e]\nenvelope: {id: event-id}\nfields: {a: int64}\n";
    let place = Place::with_contracts(&[("e.yaml", header)]);
    let folder = place.contracts.display().to_string();
    agentflow(["contracts", "export", "--format", "avro", "--contracts", &folder])
        .failed(1, &["`event-id`", "hint:"]);
}

#[test]
fn records_in_avro_need_a_schema_registry() {
    let contract = "kind: event\nnames: [e]\ntopic: t\nformat: avro\nfields: {a: int64}\n";
    let place = Place::with_contracts(&[("e.yaml", contract)]);
    let run = |command: &str, more: &[&str], environment: &[(&str, &str)]| {
        let mut all = vec![command.to_owned()];
        all.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
        all.extend(["--data".to_owned(), place.data().display().to_string()]);
        // Nothing is asked of the broker before that is settled.
        all.extend(["--from", "kafka:127.0.0.1:1"].map(str::to_owned));
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        let mut command = support::command(all);
        command.envs(environment.iter().copied());
        let output = command.output().expect("the binary starts");
        support::Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    let missing = "error: contract `e` is in Avro: name a schema registry with --schema-registry";
    run("run", &["--until-end"], &[]).failed(1, &[missing, "hint: "]);
    run("serve", &["--listen", "127.0.0.1:0"], &[]).failed(1, &[missing]);
    run("run", &["--until-end"], &[("AGENTFLOW_SCHEMA_REGISTRY", "")]).failed(1, &[missing]);
    assert!(!place.data().exists());

    let url = ["--until-end", "--schema-registry"];
    let with = |value: &str| run("run", &[url[0], url[1], value], &[]);
    with("localhost:8081").failed(1, &["`localhost:8081` is no address", "hint: write it as"]);
    let secret = with("http://me:secret@r.example");
    secret.failed(1, &["would be seen by everybody"]);
    assert!(!secret.stderr.contains("secret"), "{secret:?}");
    // Once it is named the broker is asked.
    with("http://a.example,http://b.example/v7").failed(1, &["127.0.0.1:1"]);
    run("run", &["--until-end"], &[("AGENTFLOW_SCHEMA_REGISTRY", "http://a.example")])
        .failed(1, &["127.0.0.1:1"]);

    let bad = [
        ("AGENTFLOW_SCHEMA_REGISTRY", "http://a.example"),
        ("AGENTFLOW_SCHEMA_REGISTRY_AUTH", "two secret words"),
    ];
    let refused = run("run", &["--until-end"], &bad);
    refused.failed(1, &["`AGENTFLOW_SCHEMA_REGISTRY_AUTH`", "neither user:password nor a token"]);
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
    let file = place.file("registry.properties", &[b"basic.auth.user=secret".to_vec()]);
    let file = file.display().to_string();
    let properties = ["--schema-registry-properties", &file];
    let more = [url[0], url[1], "http://a.example", properties[0], properties[1]];
    let refused = run("run", &more, &[]);
    refused.failed(1, &["`basic.auth.user`", "hint: known are basic.auth.user.info"]);
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
}
