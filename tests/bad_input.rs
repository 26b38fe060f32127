//! Hostile lines, lying contracts, impossible questions: each gets a clear answer that names the
//! place and the next step, nothing panics, nothing is lost, and good events beside them count.

mod support;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use support::flights::{Sample, rfc3339};
use support::{Place, agentflow};

const EVENT: &str = "\
kind: event
name: reading
names: [meter.reading]
version: 1
envelope: {type: type, id: id, time: at}
key: meter
fields:
  meter: {type: string}
  amount: {type: 'decimal(12,2)', above: 0}
  parts: {type: int64, required: false}
rules:
  - {name: small_share, check: 'amount / parts < 100', severity: error}
";

const METRIC: &str = "\
kind: metric
name: consumption
version: 1
unit: kWh
from: {event: meter.reading}
measure: sum(amount)
dimensions: {meter: {}}
windows: [1h, 24h]
moved_by: [meter.reading]
examples:
  - given: [{event: meter.reading, meter: m1, amount: 10.50, parts: 2}]
    expect: {window: 1h, value: 10.50}
";

fn meters() -> Place {
    Place::with_contracts(&[("reading.yaml", EVENT), ("consumption.yaml", METRIC)])
}

fn reading(id: &str, amount: &str, parts: &str) -> Vec<u8> {
    format!(
        r#"{{"type":"meter.reading","id":"{id}","at":"2026-01-01T10:00:00Z","meter":"m1","amount":{amount},"parts":{parts}}}"#
    )
    .into_bytes()
}

#[test]
fn hostile_lines_become_dead_letters_and_cost_nobody_else() {
    let deep = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
    let mut big = br#"{"type":"meter.reading","id":"big","junk":""#.to_vec();
    big.resize(10 << 20, b'x');
    big.extend_from_slice(br#""}"#);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not_json", b"".to_vec()),
        ("not_json", b"null".to_vec()),
        ("not_json", b"[1,2]".to_vec()),
        ("not_json", vec![0, 159, 146, 150, 255, 7]),
        ("not_json", reading("cut", "1", "1")[..40].to_vec()),
        ("not_json", [reading("tail", "1", "1"), b" x".to_vec()].concat()),
        ("not_json", deep),
        ("too_large", big),
        ("wrong_type", reading("nan", "\"NaN\"", "1")),
        ("out_of_range", reading("range", "12345678901234567890.5", "1")),
        ("out_of_range", reading("zero", "0", "1")),
        ("out_of_range", reading("int", "1", "9223372036854775808")),
        ("rule_undecided", reading("division", "1", "0")),
        ("rule_failed", reading("share", "5000", "2")),
        (
            "duplicate_key",
            br#"{"type":"meter.reading","id":"k","id":"k2","at":"2026-01-01T10:00:00Z","meter":"m","amount":1}"#
                .to_vec(),
        ),
        (
            "unknown_event_type",
            br#"{"type":"meter.removed","id":"u","at":"2026-01-01T10:00:00Z"}"#.to_vec(),
        ),
        ("missing_field", br#"{"id":"u","at":"2026-01-01T10:00:00Z"}"#.to_vec()),
        ("wrong_type", br#"{"type":"meter.reading","id":"t","at":"yesterday","meter":"m","amount":1,"parts":1}"#.to_vec()),
    ];
    let place = meters();
    let mut lines = Vec::new();
    for (i, (_, line)) in cases.iter().enumerate() {
        lines.push(reading(&format!("good-{i}"), "1.50", "2"));
        lines.push(line.clone());
    }
    let report = place.run(&place.file("events.ndjson", &lines)).json();
    assert_eq!(report["accepted"], json!(cases.len()), "{report}");
    assert_eq!(report["rejected"], json!(cases.len()), "{report}");
    assert_eq!(report["received"], json!(2 * cases.len()), "{report}");

    let letters = place.dead_letters(&place.data());
    let got: Vec<&str> = letters.iter().filter_map(|letter| letter["reason"].as_str()).collect();
    let want: Vec<&str> = cases.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(got, want);
    for letter in &letters {
        let place = &letter["place"];
        assert!(place["partition"].is_string() && place["offset"].is_u64(), "{letter}");
    }

    let answer =
        place.read(&["consumption", "--window", "1h", "--as-of", "2026-01-01T10:30:00Z"]).json();
    assert_eq!(answer["value"].as_f64(), Some(1.5 * cases.len() as f64), "{answer}");
}

#[test]
fn a_file_without_events_is_fine() {
    let place = meters();
    let file = place.path("empty.ndjson");
    std::fs::write(&file, b"").expect("write");
    let report = place.run(&file).json();
    assert_eq!(report["received"], json!(0));
    let answer = place.read(&["consumption", "--window", "24h"]).json();
    assert_eq!(answer["value"].as_f64(), Some(0.0), "{answer}");
}

#[test]
fn decimals_keep_all_their_digits() {
    let event = EVENT.replace("decimal(12,2)", "decimal(38,2)").replace(
        "rules:\n  - {name: small_share, check: 'amount / parts < 100', severity: error}\n",
        "",
    );
    let place = Place::with_contracts(&[("reading.yaml", &event), ("consumption.yaml", METRIC)]);
    let lines = [reading("a", "12345678901234567.89", "1"), reading("b", "1.00", "1")];
    place.run(&place.file("events.ndjson", &lines)).succeeded();
    let answer = place.read(&["consumption", "--window", "1h", "--as-of", "2026-01-01T10:30:00Z"]);
    assert!(answer.succeeded().stdout.contains("12345678901234568.89"), "{answer:?}");
}

/// A contract with `from` replaced by `to`, and what `check` must say about it.
#[track_caller]
fn lies(from: &str, to: &str, says: &[&str]) {
    let event = EVENT.replace(from, to);
    let metric = METRIC.replace(from, to);
    assert!(event != EVENT || metric != METRIC, "`{from}` is in a contract");
    let place = Place::with_contracts(&[("reading.yaml", &event), ("consumption.yaml", &metric)]);
    let contracts = place.contracts.display().to_string();
    let check = agentflow(["contracts", "check", "--contracts", &contracts]);
    check.failed(1, says).failed(1, &[".yaml:", "error:", "hint:"]);
    // Whatever needs the contracts says the same and touches nothing.
    place.run(&place.path("none.ndjson")).failed(1, says);
    assert!(!place.data().exists());
}

#[test]
fn contracts_that_lie_are_refused_with_their_place() {
    lies(
        "measure: sum(amount)",
        "mesure: sum(amount)",
        &["mesure", "measure", "consumption.yaml:6"],
    );
    lies("unit: kWh", "unit: [kWh]", &["expected a text", "consumption.yaml:4"]);
    lies("version: 1\nunit", "version: one\nunit", &["whole number", "consumption.yaml:3"]);
    lies("{event: meter.reading}\n", "{event: meter.readings}\n", &["meter.readings"]);
    lies("sum(amount)", "sum(amuont)", &["amuont", "amount"]);
    lies("sum(amount)", "sum(meter)", &["cannot be taken of string"]);
    lies("moved_by: [meter.reading]", "moved_by: []", &["moved_by", "meter.reading"]);
    lies(
        "from: {event: meter.reading}\nmeasure: sum(amount)",
        "measure: ratio(consumption, consumption)",
        &["consumption"],
    );
    lies("amount / parts < 100", "amount / parts", &["bool is wanted", "reading.yaml:12"]);
    lies("type: 'decimal(12,2)'", "type: 'decimal(99,2)'", &["decimal"]);
    lies("kind: metric", "kind: metrik", &["metrik", "metric"]);
    lies("windows: [1h, 24h]", "windows: [1h, soon]", &["soon"]);
}

#[test]
fn several_errors_come_at_once() {
    let event = EVENT.replace("severity: error", "severity: fatal");
    let metric = METRIC.replace("mesure", "x").replace("unit: kWh", "unti: kWh");
    let place = Place::with_contracts(&[("reading.yaml", &event), ("consumption.yaml", &metric)]);
    let contracts = place.contracts.display().to_string();
    agentflow(["contracts", "check", "--contracts", &contracts])
        .failed(1, &["reading.yaml:", "fatal", "consumption.yaml:", "unti"]);
}

#[test]
fn an_example_that_does_not_hold_is_shown_with_both_values() {
    let metric = METRIC.replace("value: 10.50", "value: 11");
    let place = Place::with_contracts(&[("reading.yaml", EVENT), ("consumption.yaml", &metric)]);
    let contracts = place.contracts.display().to_string();
    let test = agentflow(["contracts", "test", "--contracts", &contracts]);
    assert_eq!(test.code, Some(1), "{test:?}");
    assert!(test.stdout.contains("10.5") && test.stdout.contains("11"), "{test:?}");
    let good = meters();
    agentflow(["contracts", "test", "--contracts", &good.contracts.display().to_string()])
        .succeeded();
}

#[test]
fn the_contracts_of_the_repository_are_sound_and_their_examples_hold() {
    for name in ["shop", "flights"] {
        let folder = support::domain(name).display().to_string();
        agentflow(["contracts", "check", "--contracts", &folder]).succeeded();
        let tests =
            agentflow(["contracts", "test", "--contracts", &folder, "--output", "json"]).json();
        assert!(tests["failed"] == json!(0) && tests["passed"].as_u64() > Some(0), "{tests}");
        agentflow(["contracts", "graph", "--contracts", &folder]).succeeded();
    }
}

#[test]
fn impossible_questions_say_what_would_fit() {
    let place = Place::of("flights");
    let sample = Sample::new(91, 100, 2);
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    let check = |arguments: &[&str], says: &[&str]| {
        let finished = place.read(arguments);
        finished.failed(1, says).failed(1, &["error:", "hint:"]);
        assert_eq!(finished.stdout, "");
    };
    check(&["departure", "--window", "1h"], &["departure", "departures"]);
    check(&["departures", "--window", "2h"], &["2h", "1h"]);
    check(&["departures", "--filter", "gate=7"], &["gate", "origin"]);
    check(&["departures", "--filter", "origin"], &["origin", "="]);
    check(&["departures", "--group-by", "gate"], &["gate", "origin"]);
    check(&["departures", "--as-of", "soon"], &["soon"]);
    check(&["departures", "--as-of", "2113-01-01T00:00:00Z"], &["2113"]);
    check(&["departures", "--as-of", "99999999999999999999"], &["as_of"]);
    // A value that no row has is a question like any other.
    let answer = place.read(&["departures", "--window", "1h", "--filter", "origin=XXX"]).json();
    assert_eq!(answer["value"], json!(0));
}

#[test]
fn a_bad_question_in_a_batch_costs_only_its_own_line() {
    let place = Place::of("flights");
    let sample = Sample::new(92, 100, 2);
    place.run(&place.file("events.ndjson", &sample.lines)).succeeded();
    let good =
        json!({"metric": "departures", "window": "24h", "as_of": rfc3339(sample.good[0].at + 1)});
    let lines: Vec<Vec<u8>> = [
        good.to_string(),
        json!({"metric": "nothing"}).to_string(),
        "{broken".to_owned(),
        json!({"metric": "departures", "windw": "1h"}).to_string(),
        good.to_string(),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect();
    let file = place.file("questions.ndjson", &lines).display().to_string();
    let finished = place.read(&["--batch", &file]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let answers = finished.json_lines();
    assert_eq!(answers.len(), 5);
    let failed: Vec<bool> = answers.iter().map(|answer| answer.get("error").is_some()).collect();
    assert_eq!(failed, [false, true, true, true, false], "{answers:?}");
    assert_eq!(answers[0]["value"], answers[4]["value"]);
}

#[test]
fn data_of_other_contracts_or_a_newer_format_is_refused_or_rebuilt_never_mixed() {
    let place = meters();
    place.run(&place.file("events.ndjson", &[reading("a", "5", "1")])).succeeded();
    // A metric that changed its meaning answers by its new meaning.
    std::fs::write(
        place.contracts.join("consumption.yaml"),
        METRIC.replace("measure: sum(amount)", "measure: max(amount)"),
    )
    .expect("write");
    let answer = place.read(&["consumption", "--window", "1h", "--as-of", "2026-01-01T10:30:00Z"]);
    match answer.code {
        Some(0) => assert_eq!(answer.json()["value"].as_f64(), Some(5.0)),
        _ => {
            answer.failed(1, &["consumption", "hint:"]);
        }
    }
    // Another domain altogether.
    let other = Place::of("flights");
    let arguments = [
        "read".to_owned(),
        "departures".to_owned(),
        "--contracts".to_owned(),
        other.contracts.display().to_string(),
        "--data".to_owned(),
        place.data().display().to_string(),
    ];
    let finished = agentflow(arguments);
    assert_ne!(finished.code, Some(2), "{finished:?}");
    assert!(!finished.stderr.contains("panicked"), "{finished:?}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let place = meters();
    let file = place.file("events.ndjson", &[reading("a", "5", "1")]);
    // A file where the directory should be: true for every user, root included.
    std::fs::write(place.data(), b"not a directory").expect("write");
    place.run(&file).failed(1, &["data", "hint:"]);
    std::fs::remove_file(place.data()).expect("remove");

    std::fs::create_dir(place.data()).expect("create");
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o555)).expect("chmod");
    let probe = place.data().join("probe");
    if std::fs::write(&probe, b"").is_ok() {
        // Root may write everywhere.
        std::fs::remove_file(probe).expect("remove");
    } else {
        place.run(&file).failed(1, &["data", "hint:"]);
    }
    std::fs::set_permissions(place.data(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn a_draft_contract_of_sample_events_is_sound() {
    let place = Place::of("flights");
    let sample = Sample::new(93, 200, 2);
    let departed: Vec<Vec<u8>> = sample
        .lines
        .iter()
        .filter(|line| {
            serde_json::from_slice::<Value>(line)
                .is_ok_and(|event| event["event_type"] == json!("flight.departed"))
        })
        .cloned()
        .collect();
    let file = place.file("sample.ndjson", &departed).display().to_string();
    let draft = agentflow(["contracts", "new", "departure", "--from", &file]);
    draft.succeeded();
    assert!(draft.stdout.contains("flight.departed"), "{draft:?}");
    let drafts = Place::with_contracts(&[("departure.yaml", &draft.stdout)]);
    agentflow(["contracts", "check", &drafts.contracts.display().to_string()]).succeeded();

    let empty = place.file("empty.ndjson", &[b"not json".to_vec()]).display().to_string();
    agentflow(["contracts", "new", "nothing", "--from", &empty]).failed(1, &["hint:"]);
}
