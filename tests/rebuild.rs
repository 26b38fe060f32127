//! A store that was lost is made again from the lake: the answers are those from before, and the sources
//! go on where they were.

mod support;

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use support::flights::Sample;
use support::server::{signal, wait_for_end};
use support::{Finished, Place, agentflow, check_answer, command, holds_events};

/// Loses the serving store of the place, and with it everything but the lake.
fn lose_the_store(data: &Path) {
    for name in ["serving.duckdb", "serving.duckdb.wal", "identity.json"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    assert!(!data.join("serving.duckdb").exists());
}

fn arguments(place: &Place) -> Vec<String> {
    let mut arguments = vec!["rebuild".to_owned(), "--from".into(), "lake".into()];
    arguments.extend(place.common(&place.data()));
    arguments
}

fn rebuild(place: &Place, more: &[&str]) -> Finished {
    agentflow(arguments(place).into_iter().chain(more.iter().map(|&text| text.to_owned())))
}

fn rfc3339_now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// What an answer says, without when it was said.
fn values(answers: &[Value]) -> Vec<(Value, Value)> {
    answers.iter().map(|answer| (answer["value"].clone(), answer["groups"].clone())).collect()
}

#[test]
fn answers_are_those_from_before_and_the_source_goes_on() {
    let place = Place::of("flights");
    let data = place.data();
    let sample = Sample::new(301, 20_000, 5);
    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(302, 60).into_iter().unzip();
    let half = sample.lines.len() / 2;
    place.run(&place.file("events.ndjson", &sample.lines[..half])).succeeded();
    let before = place.read_batch(&data, &questions);
    let letters = place.dead_letters(&data);
    let then = rfc3339_now();

    rebuild(&place, &[]).failed(1, &["there is a store in", "hint:", "--replace"]);
    lose_the_store(&data);
    let ahead = place.run(&place.file("events.ndjson", &sample.lines[..half]));
    assert!(ahead.stderr.contains("agentflow rebuild --from lake"), "{ahead:?}");
    lose_the_store(&data);

    let report = rebuild(&place, &["--output", "json"]).json();
    assert_eq!(values(&place.read_batch(&data, &questions)), values(&before));
    assert_eq!(place.dead_letters(&data), letters);
    place.verify(&data, &[Place::latest(&questions)]);
    assert_eq!(report["beyond_the_last_complete_point"], 0);
    assert_eq!(report["dead_letters"], json!(letters.len()));

    // The rest of the file, and nothing of what is known.
    let report = place.run(&place.file("events.ndjson", &sample.lines)).json();
    assert_eq!(report["total"]["received"], json!(sample.lines.len()), "{report}");
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()), "{report}");
    let answers = place.read_batch(&data, &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&expected) {
        check_answer(question, answer, expected);
    }
    // What was known when the first half had been read, asked of everything; and once more of a store
    // that knows both halves from the lake only.
    let known: Vec<Value> = questions
        .iter()
        .map(|question| {
            let mut question = question.clone();
            question["known_at"] = json!(then);
            question
        })
        .collect();
    assert_eq!(values(&place.read_batch(&data, &known)), values(&before));
    assert_ne!(values(&answers), values(&before), "the second half moved something");
    rebuild(&place, &["--replace"]).succeeded();
    assert_eq!(values(&place.read_batch(&data, &known)), values(&before));
    assert_eq!(values(&place.read_batch(&data, &questions)), values(&answers));
    place.verify(&data, &[Place::latest(&questions)]);

    let tables = place.lake_tables(&data);
    let events = tables.iter().filter(|(name, _)| holds_events(name));
    let rows: u64 = events.map(|(_, table)| table["rows"].as_u64().expect("a count")).sum();
    assert_eq!(rows, sample.good.len() as u64);
}

#[test]
fn a_rebuild_that_is_killed_goes_on_and_the_old_store_stays_until_the_end() {
    let place = Place::of("flights");
    let data = place.data();
    let sample = Sample::new(303, 60_000, 5);
    let (questions, _): (Vec<Value>, Vec<Value>) = sample.questions(304, 30).into_iter().unzip();
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    let before = place.read_batch(&data, &questions);

    let points = ["rebuild_step:1", "store_rebuild:1", "rebuild_before_swap:1"];
    for point in points {
        let ended = command(arguments(&place))
            .arg("--replace")
            .env("AGENTFLOW_FAIL_POINT", point)
            .output()
            .expect("the binary starts");
        assert!(!ended.status.success(), "{point}");
        assert_eq!(values(&place.read_batch(&data, &questions)), values(&before), "{point}");
    }
    // By the system, and by Ctrl-C: wherever it is.
    for name in ["KILL", "INT"] {
        let mut child = command(arguments(&place))
            .arg("--replace")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        signal(&child, name);
        wait_for_end(&mut child);
    }
    let text = rebuild(&place, &["--replace"]).succeeded().stdout.clone();
    assert!(text.contains("events up to position"), "{text}");
    assert_eq!(values(&place.read_batch(&data, &questions)), values(&before));
    // What was replaced is there, under another name.
    let kept = std::fs::read_dir(&data).expect("a folder").filter_map(Result::ok);
    let kept =
        kept.filter(|e| e.file_name().to_string_lossy().starts_with("serving.duckdb.before-"));
    assert!(kept.count() >= 1);
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let place = Place::of("flights");
    rebuild(&place, &[]).failed(1, &["there is no lake in", "hint:", "--lake-catalog"]);
    let sample = Sample::new(305, 100, 2);
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    std::fs::remove_file(place.data().join("serving.duckdb")).expect("remove");
    // The directory has the identity of the one that wrote the lake again.
    let identity = place.data().join("identity.json");
    let text = std::fs::read_to_string(&identity).expect("an identity");
    let id = text.split('"').find(|part| part.len() == 36).expect("a uuid").to_owned();
    std::fs::remove_file(&identity).expect("remove");
    rebuild(&place, &[]).succeeded();
    assert!(std::fs::read_to_string(&identity).expect("an identity").contains(&id));
    // Contracts of another domain.
    let mut other = vec!["rebuild", "--from", "lake", "--replace", "--data"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    other.push(place.data().display().to_string());
    other.extend(["--contracts".to_owned(), support::domain("shop").display().to_string()]);
    agentflow(other).failed(1, &["`shop`", "hint:"]);
}

/// A field that a contract gains is a column of the table at the next start, and of no file of it before
/// the next event.
#[test]
fn a_column_without_a_row_yet_is_in_nobodys_way() {
    let contracts = |more: &str| {
        format!(
            "kind: event\nname: visit\nnames: [visit]\nversion: {}\nfields:\n  user_id: string\n{more}",
            if more.is_empty() { 1 } else { 2 },
        )
    };
    let place = Place::with_contracts(&[("visits.yaml", &contracts(""))]);
    let line = |n: usize| {
        format!(
            r#"{{"event_type":"visit","event_id":"{n}","timestamp":"2026-01-30T10:00:00Z","user_id":"u{n}"}}"#
        )
        .into_bytes()
    };
    let file = place.file("events.ndjson", &(0..5).map(line).collect::<Vec<_>>());
    place.run(&file).succeeded();
    std::fs::write(
        place.contracts.join("second.yaml"),
        contracts("  country: {type: string, required: false}\n"),
    )
    .expect("a contract");
    place.run(&file).succeeded();
    let columns = place.lake_tables(&place.data())["visit"]["columns"].to_string();
    assert!(columns.contains("country"), "{columns}");
    lose_the_store(&place.data());
    let rebuilt = rebuild(&place, &["--output", "json"]).json();
    assert_eq!(rebuilt["events"], json!(5), "{rebuilt}");
}
