//! What belongs to one key is erased while the server goes on, from every answer and from the lake, and
//! nothing else changes.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use support::lake_readers::{python, script};
use support::server::Server;
use support::{Finished, Place, wait_for};

const LIBRARY: &str = "\
kind: event
name: loan
names: [loan.made, loan.returned]
version: 1
key: loan_id
fields:
  loan_id: string
  reader: {type: string, required: false}
  email: {type: string, required: false, pii: true}
  days: {type: int64, required: false, min: 0}
---
kind: event
name: visit
names: [visit.seen]
version: 1
fields:
  reader: {type: string, required: false}
  email: {type: string, required: false, pii: true}
  branch: string
---
kind: entity
name: loan
version: 1
from: [loan.made, loan.returned]
key: loan_id
fields: {reader: last, email: last, days: last, changes: count, made_at: first(event_time)}
---
kind: entity
name: reader
version: 1
from: {entity: loan}
key: reader
fields: {loans: count, days: sum(days)}
---
kind: metric
name: days_lent
version: 1
unit: d
from: {entity: loan}
time: made_at
measure: sum(days)
dimensions: {reader: {}}
windows: [24h]
moved_by: [loan.made, loan.returned]
---
kind: metric
name: readers
version: 1
unit: count
from: {entity: loan}
time: made_at
measure: count_distinct(reader)
windows: [24h]
moved_by: [loan.made, loan.returned]
";

/// Readers, each with as many loans.
const READERS: u64 = 9;
const LOANS: u64 = 6;

fn lines(events: &[Value]) -> Vec<Vec<u8>> {
    events.iter().map(|event| event.to_string().into_bytes()).collect()
}

fn place() -> Place {
    Place::with_contracts(&[("library.yaml", LIBRARY)])
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn loan(reader: u64, number: u64) -> Value {
    json!({
        "event_type": "loan.made", "event_id": format!("L{reader}-{number}"), "timestamp": now(),
        "loan_id": format!("LOAN-{reader}-{number}"), "reader": format!("R-{reader}"),
        "email": format!("mail{reader}@example.org"), "days": reader, "phone": format!("0731-{reader}"),
    })
}

/// A later event of the same loan, which does not say whose it is but has their address.
fn returned(reader: u64, number: u64) -> Value {
    json!({
        "event_type": "loan.returned", "event_id": format!("B{reader}-{number}"), "timestamp": now(),
        "loan_id": format!("LOAN-{reader}-{number}"), "email": format!("mail{reader}@example.org"),
    })
}

fn visit(reader: u64) -> Value {
    json!({
        "event_type": "visit.seen", "event_id": format!("V{reader}"), "timestamp": now(),
        "reader": format!("R-{reader}"), "email": format!("mail{reader}@example.org"), "branch": "north",
    })
}

fn events() -> Vec<Value> {
    (0..READERS)
        .flat_map(|reader| {
            let loans = (0..LOANS).flat_map(move |n| [loan(reader, n), returned(reader, n)]);
            loans.chain([visit(reader)])
        })
        .collect()
}

/// What no contract takes: of the reader, and by a loan of theirs.
fn refused(reader: u64) -> Vec<Value> {
    let mut bad = loan(reader, 99);
    bad["days"] = json!(-1);
    let mut hidden = returned(reader, 0);
    hidden["event_id"] = json!(format!("X{reader}"));
    hidden["days"] = json!("many");
    vec![bad, hidden]
}

#[track_caller]
fn post(server: &Server, events: &[Value]) -> Value {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let (status, body) = server.post("/v1/events", "application/x-ndjson", lines.join("\n"));
    assert_eq!(status, 200, "{body}");
    body
}

fn erase(place: &Place, reader: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["erase".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(["--entity", "reader", "--key", reader].map(str::to_owned));
    arguments.extend(more.iter().map(|&text| text.to_owned()));
    place.agentflow(arguments)
}

#[track_caller]
fn metric(server: &Server, question: &str) -> Value {
    let (status, body) = server.get(&format!("/v1/metrics/{question}"));
    assert_eq!(status, 200, "{body}");
    body
}

fn by_reader(server: &Server) -> BTreeMap<String, Value> {
    let answer = metric(server, "days_lent?window=24h&group_by=reader");
    let groups = answer["groups"].as_array().expect("groups").iter();
    let name =
        |group: &Value| group["dimensions"]["reader"].as_str().unwrap_or("nobody").to_owned();
    groups.map(|group| (name(group), group["value"].clone())).collect()
}

fn letters(server: &Server) -> Vec<Value> {
    let (status, body) = server.get("/v1/deadletter?page_size=100");
    assert_eq!(status, 200, "{body}");
    body["items"].as_array().expect("letters").clone()
}

/// Every file of the data directory's lake that holds rows.
fn data_files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(data_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.insert(path.display().to_string());
        }
    }
    found
}

/// Reader and email by event id.
type Told = BTreeMap<String, (Value, Value)>;

/// Events of the lake as PyIceberg reads them, and the texts of dead letters.
fn lake(place: &Place) -> Option<(Told, Vec<String>)> {
    let python = python()?;
    let lake = place.data().join("lake");
    let read = |arguments: &[&str]| {
        let mut reader = Command::new(&python);
        reader.arg(script("pyiceberg_reader.py")).arg(&lake).args(arguments);
        let output = reader.output().expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let events: Value =
        serde_json::from_str(&read(&["--events", "_event_id", "reader", "email"])).expect("JSON");
    let rows = events["events"].as_array().expect("rows").iter();
    let id = |row: &Value| row[0].as_str().expect("an id").to_owned();
    let rows = rows.map(|row| (id(row), (row[1].clone(), row[2].clone()))).collect();
    let letters = ["payload", "detail", "headers"]
        .into_iter()
        .flat_map(|column| {
            read(&["dead_letters", column]).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    Some((rows, letters))
}

/// Nothing of reader 3 is left, and all of the others.
#[track_caller]
fn check_lake(place: &Place) {
    let Some((rows, letters)) = lake(place) else { return };
    assert_eq!(rows.iter().filter(|(id, _)| !id.starts_with('T')).count(), events().len());
    let unknown = |value: &Value| value.is_null() || value == "None";
    for (id, (reader, email)) in &rows {
        let number: u64 = id[1..].split('-').next().expect("a reader").parse().expect("a number");
        if id.starts_with('T') {
            continue;
        }
        if number == 3 {
            assert!(unknown(reader) && unknown(email), "{id}: {reader} {email}");
        } else {
            assert_eq!(*email, format!("mail{number}@example.org"), "{id}");
        }
    }
    let told = letters.join("\n");
    assert!(!told.contains("R-3") && !told.contains("mail3"), "{told}");
    assert!(told.contains("R-4"), "{told}");
}

#[test]
fn what_a_person_left_is_gone_while_the_server_goes_on() {
    let place = place();
    let original = events();
    let mut lines = lines(&original);
    lines.extend([3, 4].into_iter().flat_map(refused).map(|event| event.to_string().into_bytes()));
    lines.push(br#"{"reader": "R-3", "cut"#.to_vec());
    // The lake has it all at the end of a run, so that there is something to be erased.
    let report = place.run(&place.file("events.ndjson", &lines)).json();
    assert_eq!(report["accepted"], json!(original.len()), "{report}");
    assert_eq!(report["rejected"], json!(5), "{report}");
    let server = Server::start(&place, &[]);
    let files = data_files(&place.data().join("lake"));
    let before = by_reader(&server);
    assert_eq!(before["R-3"], json!(18));
    let total = metric(&server, "days_lent?window=24h")["value"].clone();
    assert_eq!(metric(&server, "readers?window=24h")["value"], json!(READERS));

    // Listings do not show personal data, of anybody.
    let shown = Value::from(letters(&server)).to_string();
    assert!(!shown.contains("mail4") && shown.contains("R-4") && shown.contains("***"), "{shown}");

    let dry = erase(&place, "R-3", &["--dry-run", "--output", "json"]).json();
    assert_eq!(dry["state"], "dry_run");
    assert_eq!(by_reader(&server), before);

    // While events of others come.
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = sent.load(Ordering::Relaxed);
                let mut event = visit(8);
                event["event_id"] = json!(format!("T{number}"));
                assert_eq!(post(&server, &[event])["accepted"], json!(1));
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_for("the other events", || (sent.load(Ordering::Relaxed) > 3).then_some(()));
        let done = erase(&place, "R-3", &["--reason", "ticket 42", "--output", "json"]).json();
        stop.store(true, Ordering::Relaxed);
        done
    });
    assert_eq!((&done["state"], &done["problem"]), (&json!("done"), &Value::Null), "{done}");
    assert_eq!(done["store_rows"], dry["store_rows"]);
    let rows = |side: &str, table: &str| done[side][table].clone();
    assert_eq!((rows("store_rows", "ev_loan"), rows("lake_rows", "loan")), (json!(12), json!(12)));
    assert_eq!((rows("store_rows", "ev_visit"), rows("lake_rows", "visit")), (json!(1), json!(1)));
    let of_letters = (rows("store_rows", "dead_letters"), rows("lake_rows", "dead_letters"));
    assert_eq!(of_letters, (json!(3), json!(3)));

    // Nobody sees it, and what is counted is counted as before.
    let after = by_reader(&server);
    assert!(!after.contains_key("R-3"), "{after:?}");
    assert_eq!(after["R-4"], before["R-4"]);
    assert_eq!(metric(&server, "days_lent?window=24h")["value"], total);
    assert_eq!(metric(&server, "readers?window=24h")["value"], json!(READERS - 1));
    assert_eq!(server.get("/v1/entity/reader/R-3").0, 404);
    let (_, loan_of) = server.get("/v1/entity/loan/LOAN-3-0");
    assert_eq!(
        (&loan_of["data"]["reader"], &loan_of["data"]["email"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(loan_of["data"]["changes"], json!(2), "{loan_of}");
    let (_, loan_of) = server.get("/v1/entity/loan/LOAN-4-0");
    assert_eq!(loan_of["data"]["email"], "mail4@example.org");
    let told = letters(&server);
    assert_eq!(told.len(), 5);
    let told = Value::from(told).to_string();
    assert!(!told.contains("R-3") && told.contains("R-4"), "{told}");

    // None of the old files is left, and others read the new ones.
    let left = data_files(&place.data().join("lake"));
    assert!(!files.iter().any(|file| left.contains(file) && file.contains("loan")), "{left:?}");
    check_lake(&place);

    // What comes again is known, and brings nothing back.
    let again: Vec<Value> = original.into_iter().filter(|e| e["reader"] == "R-3").collect();
    assert_eq!(post(&server, &again)["duplicate"], json!(again.len()));
    assert_eq!(server.get("/v1/entity/reader/R-3").0, 404);
    // A new event of the same person is one.
    assert_eq!(post(&server, &[loan(3, 77)])["accepted"], json!(1));
    assert_eq!(server.get("/v1/entity/reader/R-3").1["data"]["loans"], json!(1));

    place.verify(&place.data(), &[]);

    let history = erase(&place, "R-3", &["--history"]);
    assert!(history.succeeded().stdout.contains("ticket 42"), "{history:?}");
    assert!(!history.stdout.contains("R-3"), "{history:?}");
    let nothing = erase(&place, "R-4", &["--history"]);
    assert!(nothing.succeeded().stdout.contains("nothing was erased"), "{nothing:?}");
    assert!(server.stop().success());
}

#[test]
fn one_that_was_cut_off_is_ended_by_the_next_start() {
    let points = [
        ("erase_before_commit:1", false),
        ("erase_after_commit:1", true),
        ("lake_files_erased:2", true),
        ("lake_erased:1", true),
        ("lake_before_forget:2", true),
        ("erase_finished:1", true),
    ];
    let place = place();
    let mut all = events();
    all.extend([3, 4].into_iter().flat_map(refused));
    place.run(&place.file("events.ndjson", &lines(&all))).succeeded();
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(place.common(&place.data()));
    arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
    for (point, is_begun) in points {
        let server = Server::spawn_armed(arguments.clone(), point);
        let pending = || server.get("/v1/erasures").1["erasures"].as_array().map(Vec::len);
        if pending() == Some(0) {
            // The answer is lost with the server.
            erase(&place, "R-3", &[]);
        }
        assert!(!server.wait().success(), "{point}");
        if !is_begun {
            continue;
        }
        let server = Server::start(&place, &[]);
        let data = server.get("/v1/entity/reader/R-3").0;
        assert_eq!(data, 404, "{point}");
        let state = || {
            let (_, body) = server.get("/v1/erasures");
            (body["erasures"][0]["state"] == "done").then_some(())
        };
        // Only the last one is let through to the end.
        if point == "erase_finished:1" {
            wait_for("the end of the erasure", state);
            assert!(server.stop().success());
            continue;
        }
        server.signal("KILL");
        server.wait();
    }
    let server = Server::start(&place, &[]);
    wait_for("the end of the erasure", || {
        (server.get("/v1/erasures").1["erasures"][0]["state"] == "done").then_some(())
    });
    assert_eq!(server.get("/v1/erasures").1["erasures"].as_array().map(Vec::len), Some(1));
    assert!(server.stop().success());
    check_lake(&place);
    place.verify(&place.data(), &[]);
}

#[test]
fn without_a_server_the_command_does_it_all() {
    let place = place();
    let mut all = events();
    all.extend([3, 4].into_iter().flat_map(refused));
    place.run(&place.file("events.ndjson", &lines(&all))).succeeded();

    // Mistakes change nothing.
    let mut arguments = vec!["erase".to_owned()];
    arguments.extend(place.common(&place.data()));
    let with = |more: &[&str]| {
        let more = more.iter().map(|&text| text.to_owned());
        place.agentflow(arguments.iter().cloned().chain(more))
    };
    with(&["--entity", "raeder", "--key", "R-3"]).failed(1, &["no entity `raeder`", "hint:"]);
    with(&["--entity", "reader", "--key", ""]).failed(1, &["the key is empty"]);
    with(&["--entity", "reader"]).failed(1, &["--key"]);
    let data = place.data().display().to_string();
    place
        .agentflow(["erase", "--data", &data, "--entity", "reader", "--key", "R-3"])
        .failed(1, &["--contracts is needed"]);
    let nothing = with(&["--entity", "reader", "--key", "R-99"]);
    assert!(nothing.succeeded().stdout.contains("nothing of that key"), "{nothing:?}");

    // Killed in the lake, then a store made anew would have it all back: it is refused.
    let mut armed = support::command(
        arguments.iter().cloned().chain(["--entity", "reader", "--key", "R-3"].map(str::to_owned)),
    );
    let output = armed.env("AGENTFLOW_FAIL_POINT", "lake_files_erased:1").output().expect("starts");
    assert!(!output.status.success());
    let mut rebuild =
        vec!["rebuild".to_owned(), "--from".into(), "lake".into(), "--replace".into()];
    rebuild.extend(place.common(&place.data()));
    place.agentflow(rebuild.clone()).failed(1, &["an erasure is not done", "hint:"]);

    // The next one ends the first.
    let done = with(&["--entity", "reader", "--key", "R-3", "--output", "json"]).json();
    assert_eq!((&done["state"], &done["store_rows"]), (&json!("done"), &json!({})), "{done}");
    check_lake(&place);
    let shown = Value::from(place.dead_letters(&place.data())).to_string();
    assert!(!shown.contains("R-3") && !shown.contains("mail4") && shown.contains("R-4"), "{shown}");
    let revealed =
        place.agentflow(["deadletters", "--data", &data, "--reveal", "--output", "json"]);
    assert!(
        revealed.stdout.contains("mail4") && !revealed.stdout.contains("mail3"),
        "{revealed:?}"
    );
    place.agentflow(["deadletters", "--data", &data]).failed(1, &["personal data", "--reveal"]);

    // A store from the lake knows nothing of them either.
    place.agentflow(rebuild).succeeded();
    let groups = place.read(&["days_lent", "--window", "24h", "--group-by", "reader"]);
    assert!(!groups.succeeded().stdout.contains("R-3"), "{groups:?}");
    let total = place.read(&["days_lent", "--window", "24h"]).json();
    let expected: u64 = (0..READERS).map(|reader| reader * LOANS).sum();
    assert_eq!(total["value"], json!(expected), "{total}");
}
