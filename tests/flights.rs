//! Flights, end to end: every line accounted for, every answer as worked out by plain loops, the
//! dead letters with their original bytes, and a second run that changes nothing.

mod support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use support::flights::Sample;
use support::server::Server;
use support::{Place, check_answer};

#[test]
fn every_line_is_accounted_for_and_every_answer_is_right() {
    let place = Place::of("flights");
    let sample = Sample::new(1, 4_000, 6);
    let file = place.file("events.ndjson", &sample.lines);

    let report = place.run(&file).json();
    let counts = json!({
        "received": sample.lines.len(),
        "accepted": sample.good.len(),
        "duplicate": sample.duplicates,
        "rejected": sample.rejected_count(),
        "discarded": 0,
    });
    assert_counts(&report, &counts);
    assert_counts(&report["total"], &counts);
    for (reason, lines) in &sample.rejected {
        assert_eq!(report["rejected_by_reason"][reason], json!(lines.len()), "{reason}: {report}");
    }
    assert!(report["events_per_second"].as_f64().is_some_and(|rate| rate > 0.0));

    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(2, 900).into_iter().unzip();
    let answers = place.read_batch(&place.data(), &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&expected) {
        check_answer(question, answer, expected);
    }

    place.verify(&place.data(), &[Place::latest(&questions)]);
    let letters = place.dead_letters(&place.data());
    let mut payloads: Vec<Vec<u8>> = letters.iter().map(support::payload).collect();
    payloads.sort();
    assert!(payloads == sample.rejected_lines(), "the dead letters are the rejected lines");
    for letter in &letters {
        let reason = letter["reason"].as_str().expect("a reason");
        let lines = &sample.rejected[reason];
        assert!(lines.contains(&support::payload(letter)), "{reason}: {letter}");
    }
}

#[test]
fn a_second_run_over_the_same_file_changes_nothing() {
    let place = Place::of("flights");
    let sample = Sample::new(3, 500, 3);
    let file = place.file("events.ndjson", &sample.lines);
    let first = place.run(&file).json();
    let (questions, _): (Vec<Value>, Vec<Value>) = sample.questions(4, 60).into_iter().unzip();
    let before = values(&place.read_batch(&place.data(), &questions));
    let letters = place.dead_letters(&place.data()).len();
    let lake = rows(&place);

    let second = place.run(&file).json();
    assert_counts(&second, &json!({"received": 0, "accepted": 0, "duplicate": 0, "rejected": 0}));
    assert_eq!(second["total"]["received"], first["total"]["received"]);
    assert_eq!(second["total"]["accepted"], first["total"]["accepted"]);
    assert_eq!(values(&place.read_batch(&place.data(), &questions)), before);
    assert_eq!(place.dead_letters(&place.data()).len(), letters);
    assert_eq!(rows(&place), lake);
}

#[test]
fn a_compressed_copy_of_known_events_is_all_duplicates() {
    let place = Place::of("flights");
    let sample = Sample::new(5, 200, 2);
    let plain = place.file("events.ndjson", &sample.lines);
    let zipped = place.path("again.ndjson.gz");
    let text = std::fs::read(&plain).expect("read");
    let mut encoder = flate2::write::GzEncoder::new(
        std::fs::File::create(&zipped).expect("create"),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut encoder, &text).expect("write");
    encoder.finish().expect("finish");

    place.run(&plain).succeeded();
    let report = place.run(&zipped).json();
    assert_eq!(report["accepted"], json!(0), "{report}");
    assert_eq!(report["duplicate"], json!(sample.good.len() as u64 + sample.duplicates));
    assert_eq!(report["rejected"], json!(sample.rejected_count()));
}

/// The real stream, where it is at hand (`AGENTFLOW_FLIGHTS_DIR`): its own expectations, through
/// the command line and over HTTP.
#[test]
fn the_real_flights_give_the_published_answers() {
    let Some(folder) = std::env::var_os("AGENTFLOW_FLIGHTS_DIR").map(PathBuf::from) else {
        eprintln!("AGENTFLOW_FLIGHTS_DIR is not set: the real flights are not at hand");
        return;
    };
    let expected = read_json(&folder.join("expected.json"));
    let place = Place::of("flights");
    let report = place.run(&folder.join("events.ndjson.gz")).json();
    let counts = &expected["counts"];
    let rejected: u64 = counts
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(name, _)| *name != "valid" && *name != "duplicate")
        .map(|(_, count)| count.as_u64().expect("a count"))
        .sum();
    assert_counts(
        &report,
        &json!({
            "received": expected["lines"],
            "accepted": counts["valid"],
            "duplicate": counts["duplicate"],
            "rejected": rejected,
            "discarded": 0,
        }),
    );

    let mut payloads: Vec<Vec<u8>> =
        place.dead_letters(&place.data()).iter().map(support::payload).collect();
    payloads.sort();
    assert_eq!(sha256(&place, &payloads.join(&b'\n')), expected["dead_letters_sha256"]);

    let questions = expected["answers"].as_array().expect("an array");
    let answers = place.read_batch(&place.data(), questions);
    for (question, answer) in questions.iter().zip(&answers) {
        check_answer(question, answer, question);
    }
    let server = Server::start(&place, &[]);
    for question in questions {
        let metric = question["metric"].as_str().expect("a name");
        let (status, answer) =
            server.query(&format!("/v1/metrics/{metric}"), &parameters(question));
        assert_eq!(status, 200, "{question}: {answer}");
        check_answer(question, &answer, question);
    }
}

/// The SHA-256 of `bytes` in hex digits, by coreutils.
fn sha256(place: &Place, bytes: &[u8]) -> String {
    let file = place.path("bytes");
    std::fs::write(&file, bytes).expect("write");
    let output = Command::new("sha256sum").arg(&file).output().expect("sha256sum is there");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or("").to_owned()
}

/// A question as query parameters.
fn parameters(question: &Value) -> Vec<(String, String)> {
    let mut parameters = vec![
        ("window".to_owned(), question["window"].as_str().expect("a window").to_owned()),
        ("as_of".to_owned(), question["as_of"].as_str().expect("a time").to_owned()),
    ];
    for (name, value) in question["filters"].as_object().expect("an object") {
        parameters.push(("filter".into(), format!("{name}:{}", value.as_str().expect("a text"))));
    }
    if let Some(by) = question["group_by"].as_array() {
        let names: Vec<&str> = by.iter().filter_map(Value::as_str).collect();
        parameters.push(("group_by".into(), names.join(",")));
    }
    parameters
}

#[track_caller]
fn assert_counts(report: &Value, expected: &Value) {
    for (name, count) in expected.as_object().expect("an object") {
        assert_eq!(&report[name], count, "{name}: {report}");
    }
}

/// What an answer says, without when it was said.
fn values(answers: &[Value]) -> Vec<(Value, Value)> {
    answers.iter().map(|answer| (answer["value"].clone(), answer["groups"].clone())).collect()
}

fn rows(place: &Place) -> Vec<(String, Value)> {
    place
        .lake_tables(&place.data())
        .into_iter()
        .map(|(name, table)| (name, table["rows"].clone()))
        .collect()
}

fn read_json(path: &Path) -> Value {
    let mut text = String::new();
    std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).expect("read");
    serde_json::from_str(&text).expect("JSON")
}
