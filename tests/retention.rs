//! A journal that gives up its rows to the lake: the answers stay, and what was taken stays known.

mod support;

use serde_json::{Value, json};

use support::flights::Sample;
use support::server::Server;
use support::{Place, check_answer, wait_for};

/// Gives up everything that the lake has.
const AT_ONCE: [&str; 4] = ["--keep-days", "0.0000001", "--trim-grace-minutes", "0"];

/// A figure of the component `serving` in `/v1/health`.
fn figure(server: &Server, name: &str) -> Option<i64> {
    let (_, health) = server.get("/v1/health");
    let components = health["components"].as_array().expect("components").clone();
    let serving = components.into_iter().find(|component| component["name"] == "serving")?;
    serving["metrics"][name].as_i64()
}

/// What an answer says and how many late, rejected and accepted events it tells of, without when it was said.
fn said(answers: &[Value]) -> Vec<[Value; 5]> {
    let of = |answer: &Value| {
        let proof = &answer["proof"];
        let counts = ["rejected_in_window", "late_in_window", "events_in_window"];
        let [rejected, late, events] = counts.map(|name| proof[name].clone());
        [answer["value"].clone(), answer["groups"].clone(), rejected, late, events]
    };
    answers.iter().map(of).collect()
}

#[test]
fn answers_stay_and_what_was_taken_stays_known() {
    let place = Place::of("flights");
    let data = place.data();
    let sample = Sample::new(401, 1_500, 5);
    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(402, 30).into_iter().unzip();
    let events = i64::try_from(sample.good.len()).expect("a count");
    let half = sample.lines.len() / 2;
    place.run(&place.file("events.ndjson", &sample.lines[..half])).succeeded();
    let then = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    let known: Vec<Value> = questions
        .iter()
        .map(|question| {
            let mut question = question.clone();
            question["known_at"] = json!(then);
            question
        })
        .collect();
    let all = || [place.read_batch(&data, &questions), place.read_batch(&data, &known)].concat();
    let before = all();
    let halves = before.split_at(questions.len());
    assert_ne!(said(halves.0), said(halves.1), "the second half moved something");
    let check = |answers: Vec<Value>| {
        for ((question, answer), expected) in questions.iter().zip(&answers).zip(&expected) {
            check_answer(question, answer, expected);
        }
    };
    check(place.read_batch(&data, &questions));
    let rejected = before.iter().any(|answer| answer["proof"]["rejected_in_window"] != json!(0));
    assert!(rejected, "a window has dead letters");

    let server = Server::start(&place, &AT_ONCE);
    wait_for("everything is in the lake only", || {
        (figure(&server, "trimmed_events") == Some(events)).then_some(())
    });
    assert_eq!(figure(&server, "oldest_position"), Some(events + 1));
    assert_eq!(server.sum("agentflow_journal_trimmed_events"), sample.good.len() as u64);
    check(place.read_batch(&data, &questions));
    assert_eq!(said(&all()), said(&before));
    let duplicates = || server.sum("agentflow_records_total{outcome=\"duplicate\"");
    let counted = duplicates();
    let id = sample.good[0].id.as_bytes();
    let has_id = |line: &&Vec<u8>| line.windows(id.len()).any(|part| part == id);
    let known = sample.lines.iter().find(has_id).expect("its line").clone();
    let (status, answer) = server.post("/v1/events", "application/json", known);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.to_string().contains("duplicate"), "{answer}");
    assert_eq!(duplicates(), counted + 1);
    assert!(server.stop().success());

    // Nobody holds the directory now.
    assert_eq!(said(&all()), said(&before));
    // The whole file once more, under another name: nothing of it is new.
    let report = place.run(&place.file("again.ndjson", &sample.lines)).json();
    assert_eq!(report["accepted"], json!(0), "{report}");
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()), "{report}");

    // Without the lake there is no answer, and no smaller one.
    std::fs::rename(data.join("lake"), data.join("away")).expect("rename");
    let metric = questions[0]["metric"].as_str().expect("a name");
    let as_of = questions.iter().find_map(|question| question["as_of"].as_str());
    if let Some(as_of) = as_of {
        let read = place.read(&[metric, "--as-of", as_of]);
        read.failed(2, &["only the lake has", "there is no lake in", "hint:", "--keep-days"]);
    }
}
