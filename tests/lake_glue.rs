//! The lake in AWS Glue with its files in S3: moto stands for Glue and checks signatures, permissions and
//! versions (infra/glue), the S3 server is a real one. Read by PyIceberg with its own client of Glue.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use support::flights::Sample;
use support::http_faults::{Fault, FaultyHttp};
use support::lake_readers::Other;
use support::lake_services::{LakeServices, Service};
use support::rest_lake::{Rest, pieces, wait_for_events, wait_for_rows};
use support::server::Server;
use support::{Place, command, domain, wait_for};

/// A table of the flights.
const TABLE: &str = "flight_departed";

fn glue() -> Rest {
    Rest::with(Service::Glue, Place::of("flights"))
}

/// The flights with a lake of their own description.
fn laid_out(lake: &str) -> Place {
    let text = |name| std::fs::read_to_string(domain("flights").join(name)).expect("a contract");
    Place::with_contracts(&[
        ("events.yaml", &events(lake)),
        ("metrics.yaml", &text("metrics.yaml")),
    ])
}

fn events(lake: &str) -> String {
    let events = std::fs::read_to_string(domain("flights").join("events.yaml"));
    events
        .expect("a contract")
        .replace("\ntopic: flights\n", &format!("\ntopic: flights\nlake: {lake}\n"))
}

#[track_caller]
fn post(server: &Server, lines: &[Vec<u8>]) {
    for lines in lines.chunks(200) {
        let body = lines.join(&b'\n');
        let (status, answer) = server.post("/v1/events", "application/x-ndjson", body);
        assert_eq!(status, 200, "{answer}");
    }
}

/// Lets the tables that commit less often catch up: all do when a server starts.
#[track_caller]
fn settle(glue: &Rest, sample: &Sample) {
    let server = glue.serve();
    wait_for_rows(&server, sample);
    assert!(server.stop().success());
}

fn lake_health(server: &Server) -> Value {
    let health = server.get("/v1/health").1;
    let components = health["components"].as_array().expect("a list");
    components.iter().find(|part| part["name"] == "lake").expect("the lake").clone()
}

/// Live files over all tables.
fn files(reports: &Value, moment: &str) -> u64 {
    let reports = reports.as_array().expect("a list").iter();
    reports.map(|report| report[moment]["files"].as_u64().expect("a count")).sum()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn accepted_events_are_there_once_and_maintenance_changes_no_row() {
    let glue = glue();
    let sample = Sample::new(801, 1_200, 4);
    for lines in pieces(&sample, 5) {
        glue.run(lines).succeeded();
    }
    glue.check(&sample);

    // A second data directory is not let into the tables of the first one, sees none and maintains none.
    let other = Place::of("flights");
    let mut arguments = vec!["serve".to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
    arguments.extend(other.common(&other.data()));
    arguments.extend(glue.options.iter().cloned());
    let server = Server::spawn(arguments);
    wait_for("the refusal", || {
        server.stderr().contains("belongs to the data directory").then_some(())
    });
    assert!(server.stop().success());
    for verb in ["tables", "maintain"] {
        let data = other.data().display().to_string();
        let arguments = ["lake", verb, "--data", &data, "--output", "json"].map(str::to_owned);
        let found = other.agentflow(arguments.into_iter().chain(glue.options.iter().cloned()));
        assert_eq!(found.json(), json!([]), "{verb}");
    }

    // What nobody needs is removed, everything else stays.
    let data = files_below(&glue.services.objects());
    let some = data.iter().find(|file| file.extension().is_some_and(|name| name == "parquet"));
    let stray = some.expect("a data file").with_file_name("stray.parquet");
    std::fs::write(&stray, "half a file").expect("write");
    let old = SystemTime::now() - Duration::from_secs(10 * 24 * 3_600);
    for file in data.iter().chain([&stray]) {
        let file = std::fs::File::options().write(true).open(file).expect("a file");
        file.set_modified(old).expect("the time is set");
    }
    let reports = glue.lake(&["maintain", "--min-files", "2", "--output", "json"]).json();
    assert!(files(&reports, "after") * 2 < files(&reports, "before"), "{reports}");
    assert!(!stray.exists(), "{reports}");
    glue.check(&sample);

    // A machine is made from the catalog alone, and goes on in the same tables.
    let questions: Vec<Value> = sample.questions(811, 20).into_iter().map(|(q, _)| q).collect();
    let values = |data: &Path| -> Vec<(Value, Value)> {
        let answers = glue.place.read_batch(data, &questions);
        answers.iter().map(|a| (a["value"].clone(), a["groups"].clone())).collect()
    };
    let before = values(&glue.place.data());
    let elsewhere = glue.place.path("elsewhere");
    let mut rebuild = ["rebuild", "--from", "lake"].map(str::to_owned).to_vec();
    rebuild.extend(glue.place.common(&elsewhere));
    rebuild.extend(glue.options.iter().cloned());
    glue.place.agentflow(rebuild).succeeded();
    assert_eq!(values(&elsewhere), before);
    std::fs::remove_dir_all(glue.place.data()).expect("the first machine is gone");
    std::fs::rename(&elsewhere, glue.place.data()).expect("move");
    let more = sample.and(&Sample::new(812, 100, 2));
    glue.run(&more.lines).succeeded();
    glue.check(&more);
}

#[test]
fn killed_around_each_commit_it_goes_on_with_every_event_once() {
    let glue = glue();
    let sample = Sample::new(802, 900, 4);
    let killed = |arguments: Vec<String>, point: String| {
        let output = command(arguments).env("AGENTFLOW_FAIL_POINT", &point).output();
        assert!(!output.expect("the binary starts").status.success(), "killed at {point}");
    };
    let points = ["lake_files_written", "lake_before_commit", "lake_after_commit"];
    let pieces = pieces(&sample, points.len() + 1);
    for (lines, point) in pieces.iter().zip(points) {
        killed(glue.run_arguments(lines), format!("{point}:2"));
    }
    glue.run(&sample.lines).succeeded();
    glue.check(&sample);
    let data = glue.place.data().display().to_string();
    for point in ["lake_files_rewritten", "lake_before_replace", "lake_after_replace"] {
        let maintain = ["lake", "maintain", "--data", &data, "--min-files", "2"];
        let mut maintain = maintain.map(str::to_owned).to_vec();
        maintain.extend(glue.options.iter().cloned());
        killed(maintain, format!("{point}:1"));
        glue.check(&sample);
    }
}

/// Answers get lost after the commit took effect, commits are refused, calls are too many, writes of objects fail.
#[test]
fn whatever_glue_and_the_store_answer_each_event_is_there_once() {
    let mut glue = glue();
    let sample = Sample::new(803, 1_200, 4);
    let (commits, reads) = (AtomicU64::new(0), AtomicU64::new(0));
    let catalog = FaultyHttp::before(glue.services.url(Service::Glue), move |_, operation, _| {
        let at = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed) as usize;
        let commit = [
            Fault::Lose,
            Fault::Pass,
            Fault::RefuseAs("ConcurrentModificationException"),
            Fault::Pass,
            Fault::Answer(500),
            Fault::Pass,
            Fault::RefuseAs("ThrottlingException"),
            Fault::Pass,
            Fault::Refuse(503),
            Fault::Pass,
            Fault::Answer(504),
            Fault::RefuseAs("ResourceNotReadyException"),
            Fault::RefuseAs("AccessDeniedException"),
        ];
        let read = [Fault::Pass, Fault::Pass, Fault::Refuse(500), Fault::Pass, Fault::Refuse(429)];
        match operation {
            "AWSGlue.UpdateTable" => commit[at(&commits) % commit.len()],
            "AWSGlue.CreateTable" => [Fault::Lose, Fault::Pass][at(&commits) % 2],
            _ => read[at(&reads) % read.len()],
        }
    });
    let puts = AtomicU64::new(0);
    let s3 = FaultyHttp::before(glue.services.url(Service::S3), move |method, _, _| {
        let at = if method == "PUT" { puts.fetch_add(1, Ordering::Relaxed) } else { 0 };
        match at % 17 {
            7 => Fault::Refuse(403),
            15 => Fault::Lose,
            _ => Fault::Pass,
        }
    });
    let right = glue.options.clone();
    glue.options = glue.services.options(|properties| {
        properties.insert("s3.endpoint".to_owned(), s3.url());
        properties.insert("glue.endpoint".to_owned(), catalog.url());
    });
    for lines in pieces(&sample, 4) {
        glue.run(lines).succeeded();
    }
    // What it could not do it says, and does the next time.
    let maintained = glue.lake(&["maintain", "--min-files", "2"]);
    assert!(matches!(maintained.code, Some(0 | 2)), "{maintained:?}");
    let faults = (catalog.faults(), s3.faults());
    assert!(faults.0 >= 20 && faults.1 >= 4, "{faults:?}");
    glue.options = right;
    glue.check(&sample);
    glue.lake(&["maintain", "--min-files", "2"]).succeeded();
    glue.check(&sample);
}

#[test]
fn a_layout_changes_and_others_commit_meanwhile_and_every_event_is_there_once() {
    // A commit every second, so that they meet.
    let glue = Rest::with(Service::Glue, laid_out("{commit: {every: 1s}}"));
    let sample = Sample::new(804, 1_500, 4);
    let (first, second) = sample.lines.split_at(sample.lines.len() / 2);
    glue.run(first).succeeded();
    let partitioned = events("{commit: {every: 1s}, partition: [carrier], sort: [origin]}");
    std::fs::write(glue.place.contracts.join("events.yaml"), partitioned).expect("a new layout");

    let server = glue.serve();
    let are_over = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let maintainer = scope.spawn(|| {
            let mut rounds = 0;
            while !are_over.load(Ordering::Relaxed) {
                let maintained = glue.lake(&["maintain", "--min-files", "2"]);
                // What it could not do it says, and does the next time.
                assert!(matches!(maintained.code, Some(0 | 2)), "{maintained:?}");
                rounds += 1;
            }
            rounds
        });
        // One piece at a time, so that there are as many commits.
        let mut posted = first.len();
        for lines in second.chunks(second.len().div_ceil(6)) {
            post(&server, lines);
            posted += lines.len();
            wait_for_events(&server, &sample.only(|line| line < posted));
        }
        are_over.store(true, Ordering::Relaxed);
        maintainer.join().expect("no panic")
    });
    assert!(rounds >= 2, "maintenance met nobody");
    let lake = server.get("/v1/lake").1;
    assert_eq!(
        (&lake["catalog"]["kind"], &lake["catalog"]["uri"]),
        (&json!("glue"), &json!("glue:"))
    );
    let told = lake["tables"][0]["open_with"]["pyiceberg"].as_str().expect("text");
    assert!(told.contains(r#"load_catalog("agentflow", **{"type": "glue"})"#), "{told}");
    assert!(server.stop().success());
    settle(&glue, &sample);
    glue.check(&sample);
    let tables = glue.lake(&["tables", "--output", "json"]).json();
    let tables = tables.as_array().expect("a list").iter();
    let departed = tables.clone().find(|table| table["name"] == TABLE);
    assert_eq!(departed.expect("the table")["sort"], json!(["origin"]));
}

#[test]
fn services_that_are_away_at_the_start_delay_the_lake_and_nothing_else() {
    let mut glue = glue();
    let sample = Sample::new(805, 600, 4);
    let (first, second) = sample.lines.split_at(sample.lines.len() / 2);
    glue.services.kill(Service::Glue);
    glue.services.kill(Service::S3);
    let server = glue.serve();
    post(&server, first);
    wait_for("the lake to be told as away", || {
        (lake_health(&server)["status"] == "degraded").then_some(())
    });
    wait_for("the reason", || {
        let told = server.stderr();
        (told.contains("the lake falls behind") && told.contains("no answer from Glue"))
            .then_some(())
    });
    assert_eq!(server.received(), first.len() as u64);
    // With Glue alone no table can be made.
    glue.services.begin(Service::Glue);
    post(&server, second);
    glue.services.begin(Service::S3);
    wait_for_rows(&server, &sample);
    wait_for("the lake to be healthy", || {
        (lake_health(&server)["status"] == "healthy").then_some(())
    });
    assert!(server.stop().success());
    glue.check(&sample);
}

#[test]
fn wrong_credentials_are_told_with_what_to_do_and_nothing_is_lost() {
    let glue = glue();
    let sample = Sample::new(806, 200, 2);
    let cases = [
        ("glue.secret-access-key", "not-the-secret", "Glue refuses the credentials"),
        ("glue.access-key-id", "nobody", "Glue refuses the credentials"),
        // A key of somebody who may do nothing.
        (
            "glue.access-key-id",
            "stranger",
            "Glue does not permit it, grant what docs/glue.md lists",
        ),
        ("s3.secret-access-key", "not-the-secret", "SignatureDoesNotMatch"),
    ];
    let count = cases.len();
    let size = sample.lines.len().div_ceil(count);
    for ((key, value, reason), lines) in cases.into_iter().zip(sample.lines.chunks(size)) {
        let wrong = glue.services.options(|properties| {
            properties.insert(key.to_owned(), value.to_owned());
        });
        let options: Vec<&str> = wrong.iter().map(String::as_str).collect();
        let server = Server::start(&glue.place, &options);
        post(&server, lines);
        let told = wait_for("the reason", || {
            let told = server.stderr();
            told.contains(reason).then_some(told)
        });
        assert!(!told.contains("not-the-secret") && !told.contains("agentflow-test"), "{told}");
        wait_for("the lake to be told as behind", || {
            server.get("/v1/health").1.to_string().contains("the log says why").then_some(())
        });
        server.signal("KILL");
        server.wait();
    }
    let server = glue.serve();
    wait_for_rows(&server, &sample);
    assert!(server.stop().success());
    glue.check(&sample);
}

#[test]
fn the_environment_of_aws_is_enough() {
    let glue = glue();
    let sample = Sample::new(807, 200, 2);
    let call = |mut arguments: Vec<String>| -> Value {
        let options = ["--lake-catalog", "glue:", "--lake-set", "s3.path-style-access=true"];
        arguments.extend(options.map(str::to_owned));
        let mut program = command(&arguments);
        program.envs(glue.services.environment().filter(|(name, _)| name.starts_with("AWS_")));
        program.env("AWS_ENDPOINT_URL_S3", glue.services.url(Service::S3));
        program.env("AGENTFLOW_LAKE_WAREHOUSE", glue.services.glue_warehouse());
        let output = program.output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let file = glue.place.file("events.ndjson", &sample.lines);
    call(glue.place.run_arguments(&file, &glue.place.data()));
    let data = glue.place.data().display().to_string();
    let maintain = ["lake", "maintain", "--output", "json", "--data", &data].map(str::to_owned);
    assert!(files(&call(maintain.to_vec()), "after") > 0);
    glue.check(&sample);
}

/// Two processes that both believe to be the one writer of a journal.
#[test]
fn a_second_writer_of_the_same_journal_is_fenced() {
    let lake = "{commit: {every: 1s}}";
    let glue = Rest::with(Service::Glue, laid_out(lake));
    let sample = Sample::new(808, 900, 4);
    let pieces = pieces(&sample, 3);
    glue.run(pieces[0]).succeeded();
    let twin = Rest { place: laid_out(lake), services: glue.services, options: glue.options };
    copy(&glue.place.data(), &twin.place.data());
    let options: Vec<&str> = twin.options.iter().map(String::as_str).collect();
    let first = Server::start(&glue.place, &options);
    let second = Server::start(&twin.place, &options);
    for server in [&first, &second] {
        wait_for_events(server, &sample.only(|line| line < pieces[0].len()));
    }
    post(&second, &pieces[1][pieces[0].len()..]);
    wait_for_events(&second, &sample.only(|line| line < pieces[1].len()));
    post(&first, &pieces[2][pieces[1].len()..]);
    wait_for("the fence", || first.stderr().contains("was moved by another writer").then_some(()));
    // Metrics go on without the lake.
    assert!(first.received() > 0);
    drop(first);
    assert!(second.stop().success());
    let sample = sample.only(|line| line < pieces[1].len());
    settle(&twin, &sample);
    twin.check(&sample);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("create");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("copy");
        }
    }
}

#[test]
fn what_somebody_else_commits_through_glue_is_kept_and_what_they_set_back_is_written_again() {
    let other = Other::of(Service::Glue, TABLE).expect("PyIceberg is there for Glue");
    let glue = Rest::with(Service::Glue, laid_out("{commit: {every: 1s}}"));
    let services: &LakeServices = &glue.services;
    let sample = Sample::new(809, 900, 4);
    let pieces = pieces(&sample, 3);
    let upto = |piece: usize| sample.only(|line| line < pieces[piece].len());
    let server = glue.serve();
    post(&server, pieces[0]);
    wait_for_events(&server, &upto(0));
    other.does(services, &["add", "remark"]);
    post(&server, &pieces[1][pieces[0].len()..]);
    wait_for_events(&server, &upto(1));
    other.does(services, &["back", "1"]);
    post(&server, &pieces[2][pieces[1].len()..]);
    wait_for("the table to be told as set back", || {
        server.stderr().contains(&format!("lake table `{TABLE}` was set back")).then_some(())
    });
    server.stop();
    let server = glue.serve();
    wait_for_events(&server, &sample);
    assert!(server.stop().success());
    settle(&glue, &sample);
    let columns = other.does(services, &["show"])["columns"].to_string();
    assert!(columns.contains("remark"), "{columns}");
    glue.check(&sample);
    // They are still known as ours.
    let reports = glue.lake(&["maintain", "--min-files", "2", "--output", "json"]).json();
    assert!(reports.to_string().contains(TABLE), "{reports}");
    glue.check(&sample);
}

#[test]
fn options_that_cannot_be_are_refused_at_once() {
    let place = Place::of("flights");
    let file = place.file("events.ndjson", &[]);
    let run = |catalog: &str, more: &[&str]| {
        let mut arguments = place.run_arguments(&file, &place.data());
        arguments.extend(["--lake-catalog", catalog].map(str::to_owned));
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        let mut program = command(arguments);
        program.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION");
        let output = program.output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let region = ["--lake-set", "glue.region=eu-west-1"];
    let warehouse = ["--lake-warehouse", "s3://lake/warehouse"];
    let check = |said: String, wanted: &[&str]| {
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");
    };
    check(run("glue:", &region), &["--lake-warehouse s3://BUCKET/PATH"]);
    let here = [region[0], region[1], "--lake-warehouse", "lake"];
    check(run("glue:", &here), &["--lake-warehouse s3://BUCKET/PATH"]);
    check(run("glue:", &warehouse), &["which region", "glue.region=REGION"]);
    let all = [&region[..], &warehouse[..]].concat();
    check(run("glue:eu-west-1", &all), &["`eu-west-1` is no account of AWS"]);
    check(run("glue:eu-west-1://", &all), &["http://HOST:PORT"]);
    let half = [&all[..], &["--lake-set", "glue.access-key-id=a"]].concat();
    check(run("glue:", &half), &["only one of `glue.access-key-id`", "set both"]);
    assert!(!place.data().exists(), "a typing error leaves nothing behind");
}
