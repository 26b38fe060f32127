//! Killed, continued, refused: what holds when a process ends where nobody planned it.

mod support;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use support::flights::Sample;
use support::server::{Server, signal, wait_for_end};
use support::{Place, agentflow, command, holds_events};

/// Everything that a run leaves and that must not depend on how often it was killed.
#[derive(Debug, PartialEq)]
struct Outcome {
    total: Value,
    values: Vec<(Value, Value)>,
    letters: Vec<(Value, Value, Value)>,
    lake: Vec<(String, Value)>,
}

impl Outcome {
    /// `total` is that of the last run's report.
    fn of(place: &Place, data: &Path, total: &Value, questions: &[Value]) -> Self {
        let answers = place.read_batch(data, questions);
        let letters = place.dead_letters(data);
        let lake = place.lake_tables(data);
        Self {
            total: total.clone(),
            values: answers.iter().map(|a| (a["value"].clone(), a["groups"].clone())).collect(),
            letters: letters
                .iter()
                .map(|l| (l["reason"].clone(), l["payload"].clone(), l["payload_base64"].clone()))
                .collect(),
            // How often was committed depends on the kills, and with it the tables that say so.
            lake: lake
                .into_iter()
                .filter(|(name, _)| name == "dead_letters" || holds_events(name))
                .map(|(name, table)| (name, table["rows"].clone()))
                .collect(),
        }
    }
}

fn start(place: &Place, file: &Path, data: &Path) -> Child {
    command(place.run_arguments(file, data))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

#[test]
fn ten_kills_change_nothing_and_progress_is_kept() {
    let place = Place::of("flights");
    let sample = Sample::new(11, 60_000, 6);
    let file = place.file("events.ndjson", &sample.lines);
    let (questions, _): (Vec<Value>, Vec<Value>) = sample.questions(12, 60).into_iter().unzip();

    let straight = place.path("straight");
    let started = Instant::now();
    let report = agentflow(place.run_arguments(&file, &straight)).json();
    let duration = started.elapsed();
    let undisturbed = Outcome::of(&place, &straight, &report["total"], &questions);
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()));

    let seed = 13;
    let mut rng = SmallRng::seed_from_u64(seed);
    let killed = place.path("killed");
    let mut kills = 0;
    while kills < 10 {
        let mut child = start(&place, &file, &killed);
        std::thread::sleep(duration.mul_f64(rng.random_range(0.1..0.95)));
        if child.try_wait().expect("wait").is_some() {
            // It got to the end: the next kills hit a run over a fresh directory.
            check_end(&place, &file, &killed, &questions, &undisturbed);
            std::fs::remove_dir_all(&killed).expect("start afresh");
        } else {
            kills += 1;
            signal(&child, "KILL");
            wait_for_end(&mut child);
        }
    }
    let last = check_end(&place, &file, &killed, &questions, &undisturbed);
    let received = last["received"].as_u64().expect("a count");
    assert!(received < sample.lines.len() as u64, "the last run started from zero (seed {seed})");
}

/// Lets the run come to its end and compares what is there with an undisturbed one.
#[track_caller]
fn check_end(
    place: &Place,
    file: &Path,
    data: &Path,
    questions: &[Value],
    undisturbed: &Outcome,
) -> Value {
    let report = agentflow(place.run_arguments(file, data)).json();
    let outcome = Outcome::of(place, data, &report["total"], questions);
    assert_eq!(&outcome, undisturbed);
    place.verify(data, &[Place::latest(questions)]);
    report
}

#[test]
fn an_interrupted_run_stops_cleanly_and_is_continued() {
    let place = Place::of("flights");
    let sample = Sample::new(21, 60_000, 6);
    let file = place.file("events.ndjson", &sample.lines);
    let mut child = start(&place, &file, &place.data());
    support::wait_for("the run to hold the directory", || {
        place.data().join("LOCK").exists().then_some(())
    });
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "INT");
    let status = wait_for_end(&mut child);
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
    let report = place.run(&file).json();
    assert_eq!(report["total"]["received"], json!(sample.lines.len()));
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()));
}

#[test]
fn a_second_process_on_the_directory_is_refused_by_name() {
    let place = Place::of("flights");
    let sample = Sample::new(31, 50, 2);
    let file = place.file("events.ndjson", &sample.lines);
    let server = Server::start(&place, &[]);
    let pid = server.pid().to_string();
    place.run(&file).failed(1, &["data", "serve", &pid, "hint:"]);
    // The one that was refused took nothing away from the one that holds it.
    assert_eq!(server.get("/health/live").0, 200);
}

#[test]
fn a_replaced_file_is_refused_and_an_appended_one_continues() {
    let place = Place::of("flights");
    let sample = Sample::new(41, 400, 3);
    let (first, rest) = sample.lines.split_at(sample.lines.len() / 2);
    let file = place.file("events.ndjson", first);
    place.run(&file).succeeded();

    let all = place.file("events.ndjson", &sample.lines);
    assert_eq!(all, file);
    let report = place.run(&file).json();
    assert_eq!(report["received"], json!(rest.len()));
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()));

    place.file("events.ndjson", &Sample::new(42, 400, 3).lines);
    place.run(&file).failed(1, &["events.ndjson", "hint:"]);
    place.file("events.ndjson", &sample.lines[..10]);
    place.run(&file).failed(1, &["events.ndjson", "hint:"]);
}

#[test]
fn the_last_line_needs_no_line_end() {
    let place = Place::of("flights");
    let sample = Sample::new(51, 300, 2);
    let file = place.path("events.ndjson");
    std::fs::write(&file, sample.lines.join(&b'\n')).expect("write");
    let report = place.run(&file).json();
    assert_eq!(report["received"], json!(sample.lines.len()));
    assert_eq!(report["accepted"], json!(sample.good.len()));
}

/// The process aborts right before and right after its commits, at several of them.
#[test]
fn a_crash_beside_a_commit_loses_nothing_and_doubles_nothing() {
    let place = Place::of("flights");
    let sample = Sample::new(61, 30_000, 6);
    let file = place.file("events.ndjson", &sample.lines);
    let (questions, _): (Vec<Value>, Vec<Value>) = sample.questions(62, 30).into_iter().unzip();
    let straight = place.path("straight");
    let report = agentflow(place.run_arguments(&file, &straight)).json();
    let undisturbed = Outcome::of(&place, &straight, &report["total"], &questions);

    let crashed = place.path("crashed");
    let mut crashes = 0;
    for point in [
        "store_before_commit:1",
        "store_after_commit:1",
        "store_before_commit:2",
        "store_after_commit:2",
        "lake_files_written:1",
        "lake_before_commit:2",
        "lake_after_commit:1",
    ] {
        let status = command(place.run_arguments(&file, &crashed))
            .env("AGENTFLOW_FAIL_POINT", point)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the binary starts");
        // A point that is never reached (everything is in the lake already) lets the run end.
        assert!(status.success() || status.code().is_none(), "{point}: {status}");
        crashes += u32::from(!status.success());
    }
    assert!(crashes >= 4, "only {crashes} runs crashed");
    check_end(&place, &file, &crashed, &questions, &undisturbed);
}
