//! The lake behind a REST catalog with its files in S3: real servers, read by others too.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use support::flights::Sample;
use support::http_faults::{Fault, FaultyHttp};
use support::lake_services::Service;
use support::rest_lake::{Rest, pieces, wait_for_rows};
use support::server::Server;
use support::{Place, command, wait_for};

#[test]
fn accepted_events_are_there_once_and_maintenance_changes_no_row() {
    let rest = Rest::new();
    let sample = Sample::new(701, 1_200, 4);
    for lines in pieces(&sample, 5) {
        rest.run(lines).succeeded();
    }
    rest.check(&sample);

    // A second data directory is not let into the tables of the first one.
    let other = Place::of("flights");
    let mut arguments = vec!["serve".to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
    arguments.extend(other.common(&other.data()));
    arguments.extend(rest.options.iter().cloned());
    let server = Server::spawn(arguments);
    wait_for("the refusal", || {
        let is_told = server.get("/v1/health").1.to_string().contains("no longer followed");
        (is_told && server.stderr().contains("belongs to the data directory")).then_some(())
    });
    assert!(server.stop().success());
    // Nor does it see or maintain them; nor does one that has no identity yet.
    let bare = Place::of("flights");
    std::fs::create_dir(bare.data()).expect("create");
    for place in [&other, &bare] {
        let data = place.data().display().to_string();
        for verb in ["tables", "maintain"] {
            let arguments = ["lake", verb, "--data", &data, "--output", "json"].map(str::to_owned);
            let found = place.agentflow(arguments.into_iter().chain(rest.options.iter().cloned()));
            assert_eq!(found.json(), json!([]), "{verb}");
        }
    }

    // What nobody needs is removed, everything else stays.
    let data = files_below(&rest.services.objects());
    let some = data.iter().find(|file| file.extension().is_some_and(|name| name == "parquet"));
    let stray = some.expect("a data file").with_file_name("stray.parquet");
    std::fs::write(&stray, "half a file").expect("write");
    let old = SystemTime::now() - Duration::from_secs(10 * 24 * 3_600);
    for file in data.iter().chain([&stray]) {
        let file = std::fs::File::options().write(true).open(file).expect("a file");
        file.set_modified(old).expect("the time is set");
    }
    let maintain = |more: &[&str]| {
        let arguments = ["maintain", "--min-files", "2", "--output", "json"];
        rest.lake(&[&arguments[..], more].concat()).json()
    };
    let sum = |reports: &Value, moment: &str| -> u64 {
        let tables = reports.as_array().expect("a list").iter();
        tables.map(|table| table[moment]["files"].as_u64().expect("a count")).sum()
    };
    let reports = maintain(&["--dry-run"]);
    assert_eq!(sum(&reports, "before"), sum(&reports, "after"), "a dry run changes nothing");
    assert!(stray.exists());
    let reports = maintain(&[]);
    assert!(sum(&reports, "after") * 2 < sum(&reports, "before"), "{reports}");
    assert!(!stray.exists(), "{reports}");
    rest.check(&sample);
    // The pipeline goes on where it was.
    rest.run(&sample.lines).succeeded();
    rest.check(&sample);
}

#[test]
fn a_new_machine_is_made_from_the_catalog_alone() {
    let rest = Rest::new();
    let sample = Sample::new(709, 2_000, 4);
    let (questions, expected): (Vec<Value>, Vec<Value>) =
        sample.questions(710, 30).into_iter().unzip();
    rest.run(pieces(&sample, 2)[0]).succeeded();
    let before = rest.place.read_batch(&rest.place.data(), &questions);
    let rebuild = |data: &Path| {
        let mut arguments = ["rebuild", "--from", "lake"].map(str::to_owned).to_vec();
        arguments.extend(rest.place.common(data));
        arguments.extend(rest.options.iter().cloned());
        rest.place.agentflow(arguments)
    };
    // A directory with a life of its own does not become another one.
    let other = Place::of("flights");
    other.run(&other.file("one.ndjson", &sample.lines[..1])).succeeded();
    std::fs::remove_file(other.data().join("serving.duckdb")).expect("remove");
    rebuild(&other.data()).failed(1, &["has the identity", "the lake belongs to", "hint:"]);

    let elsewhere = rest.place.path("elsewhere");
    rebuild(&elsewhere).succeeded();
    let value = |answers: &[Value]| -> Vec<(Value, Value)> {
        answers.iter().map(|a| (a["value"].clone(), a["groups"].clone())).collect()
    };
    assert_eq!(value(&rest.place.read_batch(&elsewhere, &questions)), value(&before));
    // It goes on, in the same tables.
    std::fs::remove_dir_all(rest.place.data()).expect("the first machine is gone");
    let file = rest.place.file("events.ndjson", &sample.lines);
    let mut arguments = rest.place.run_arguments(&file, &elsewhere);
    arguments.extend(rest.options.iter().cloned());
    let report = rest.place.agentflow(arguments).json();
    assert_eq!(report["total"]["accepted"], json!(sample.good.len()), "{report}");
    assert_eq!(report["total"]["received"], json!(sample.lines.len()), "{report}");
    let answers = rest.place.read_batch(&elsewhere, &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&expected) {
        support::check_answer(question, answer, expected);
    }
    std::fs::rename(&elsewhere, rest.place.data()).expect("move");
    rest.check(&sample);
}

#[test]
fn killed_around_each_commit_it_goes_on_with_every_event_once() {
    let rest = Rest::new();
    let sample = Sample::new(702, 900, 4);
    let points = ["lake_files_written", "lake_before_commit", "lake_after_commit"];
    let pieces = pieces(&sample, points.len() + 1);
    for (lines, point) in pieces.iter().zip(points) {
        let output = command(rest.run_arguments(lines))
            .env("AGENTFLOW_FAIL_POINT", format!("{point}:2"))
            .output()
            .expect("the binary starts");
        assert!(!output.status.success(), "it was to be killed at {point}");
    }
    rest.run(&sample.lines).succeeded();
    rest.check(&sample);

    // Maintenance, too.
    for point in ["lake_files_rewritten", "lake_before_replace", "lake_after_replace"] {
        let data = rest.place.data().display().to_string();
        let arguments = ["lake", "maintain", "--data", &data, "--min-files", "2"];
        let arguments = arguments.map(str::to_owned).into_iter();
        let output = command(arguments.chain(rest.options.iter().cloned()))
            .env("AGENTFLOW_FAIL_POINT", format!("{point}:1"))
            .output()
            .expect("the binary starts");
        assert!(!output.status.success(), "it was to be killed at {point}");
        rest.check(&sample);
    }
}

/// Answers get lost after the commit took effect, commits are refused, writes of objects fail.
#[test]
fn whatever_the_catalog_and_the_store_answer_each_event_is_there_once() {
    let mut rest = Rest::new();
    let sample = Sample::new(705, 1_200, 4);
    let commits = AtomicU64::new(0);
    let catalog =
        FaultyHttp::before(rest.services.url(Service::Catalog), move |method, path, _| {
            // A commit to a table, as appends and replacements are.
            if method != "POST" || !path.contains("/tables/") {
                return Fault::Pass;
            }
            let faults = [
                Fault::Lose,
                Fault::Pass,
                Fault::Pass,
                Fault::Answer(500),
                Fault::Pass,
                Fault::Refuse(503),
                Fault::Pass,
                Fault::Pass,
                Fault::Answer(504),
                Fault::Refuse(409),
                Fault::Answer(503),
            ];
            let at = commits.fetch_add(1, Ordering::Relaxed) as usize;
            faults[at % faults.len()]
        });
    let puts = AtomicU64::new(0);
    let s3 = FaultyHttp::before(rest.services.url(Service::S3), move |method, _, _| {
        let at = if method == "PUT" { puts.fetch_add(1, Ordering::Relaxed) } else { 0 };
        match at % 17 {
            7 => Fault::Refuse(403),
            15 => Fault::Lose,
            _ => Fault::Pass,
        }
    });
    let right = rest.options.clone();
    rest.options = rest.services.options(|properties| {
        properties.insert("s3.endpoint".to_owned(), s3.url());
    });
    rest.options[1] = catalog.url();
    for lines in pieces(&sample, 4) {
        rest.run(lines).succeeded();
    }
    let data = rest.place.data().display().to_string();
    let arguments = ["lake", "maintain", "--data", &data, "--min-files", "2"];
    let arguments = arguments.map(str::to_owned).into_iter();
    // What it could not do it says, and does the next time.
    let maintained = rest.place.agentflow(arguments.chain(rest.options.iter().cloned()));
    assert!(matches!(maintained.code, Some(0 | 2)), "{maintained:?}");
    let faults = (catalog.faults(), s3.faults());
    assert!(faults.0 >= 6 && faults.1 >= 4, "{faults:?}");
    rest.options = right;
    rest.check(&sample);
}

#[test]
fn services_that_are_away_delay_the_lake_and_nothing_else() {
    let mut rest = Rest::new();
    let sample = Sample::new(703, 600, 4);
    let (first, second) = sample.lines.split_at(sample.lines.len() / 2);
    // Neither is there at the start.
    rest.services.kill(Service::Catalog);
    rest.services.kill(Service::S3);
    let server = rest.serve();
    let post = |lines: &[Vec<u8>]| {
        for lines in lines.chunks(200) {
            let body = lines.join(&b'\n');
            let (status, answer) = server.post("/v1/events", "application/x-ndjson", body);
            assert_eq!(status, 200, "{answer}");
        }
    };
    post(first);
    let lake = |server: &Server| {
        let health = server.get("/v1/health").1;
        let components = health["components"].as_array().expect("a list");
        components.iter().find(|part| part["name"] == "lake").expect("the lake").clone()
    };
    wait_for("the lake to be told as away", || {
        (lake(&server)["status"] == "degraded").then_some(())
    });
    assert!(server.stderr().contains("the lake falls behind"), "{}", server.stderr());
    assert_eq!(server.received(), first.len() as u64);
    // With the catalog alone no table can be made.
    rest.services.begin(Service::Catalog);
    post(second);
    rest.services.begin(Service::S3);
    wait_for_rows(&server, &sample);
    wait_for("the lake to be healthy", || (lake(&server)["status"] == "healthy").then_some(()));
    assert!(server.stop().success());
    rest.check(&sample);
}

#[test]
fn a_wrong_secret_is_told_and_nothing_is_lost() {
    let rest = Rest::new();
    let sample = Sample::new(704, 200, 2);
    let wrong = rest.services.options(|properties| {
        properties.insert("s3.secret-access-key".to_owned(), "not-the-secret".to_owned());
    });
    let options: Vec<&str> = wrong.iter().map(String::as_str).collect();
    let server = Server::start(&rest.place, &options);
    let body = sample.lines.join(&b'\n');
    assert_eq!(server.post("/v1/events", "application/x-ndjson", body).0, 200);
    let told = wait_for("the reason", || {
        let told = server.stderr();
        (told.contains("SignatureDoesNotMatch") || told.contains("403")).then_some(told)
    });
    assert!(!told.contains("not-the-secret"), "{told}");
    wait_for("the lake to be told as behind", || {
        server.get("/v1/health").1.to_string().contains("the log says why").then_some(())
    });
    assert!(server.stop().success());
    let server = rest.serve();
    wait_for_rows(&server, &sample);
    assert!(server.stop().success());
    rest.check(&sample);
}

#[test]
fn options_that_cannot_be_are_refused_at_once() {
    let place = Place::of("flights");
    let file = place.file("events.ndjson", &[]);
    let run = |more: &[&str]| {
        let mut arguments = place.run_arguments(&file, &place.data());
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        place.agentflow(arguments)
    };
    run(&["--lake-catalog", "catalog.example.net"]).failed(1, &["http://HOST:PORT"]);
    run(&["--lake-warehouse", "lake"]).failed(1, &["--lake-catalog"]);
    run(&["--lake-catalog", "http://127.0.0.1:9", "--lake-properties", "nowhere.properties"])
        .failed(1, &["nowhere.properties"]);
    assert!(!place.data().exists(), "a typing error leaves nothing behind");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
