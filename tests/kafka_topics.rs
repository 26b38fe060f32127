//! Topics published from the journal, on a real broker: a reader of committed records sees every
//! accepted event and every dead letter exactly once, whatever is killed, stopped or taken away.

mod support;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use support::flights::Sample;
use support::kafka::Kafka;
use support::server::{Server, signal, wait_for_end};
use support::topics::{Tail, Topics, copy, value};
use support::{Finished, Place, agentflow, command, wait_for};

fn run(topics: &Topics, place: &Place, file: &Path) -> Finished {
    agentflow(topics.run_arguments(place, file, &place.data()))
}

/// Posts lines; every one of them gets its answer.
#[track_caller]
fn post(server: &Server, lines: &[Vec<u8>]) {
    for lines in lines.chunks(200) {
        let body = lines.join(&b'\n');
        let (status, answer) = server.post("/v1/events", "application/x-ndjson", body);
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn what_the_journal_holds_is_published_once_and_topics_are_made() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let sample = Sample::new(201, 4_000, 4);
    let file = place.file("events.ndjson", &sample.lines);
    let mut arguments = topics.run_arguments(&place, &file, &place.data());
    arguments.extend(["--topic-partitions".to_owned(), "3".to_owned()]);
    let report = agentflow(&arguments).json();
    let published = json!([
        {"topic": topics.dead_letters, "records": sample.rejected_count(),
         "position": sample.rejected_count()},
        {"topic": topics.validated, "records": sample.good.len(), "position": sample.good.len()},
    ]);
    assert_eq!(report["topics"], published);
    assert_eq!(kafka.ends(&topics.validated).len(), 3);
    assert_eq!(kafka.ends(&topics.positions).len(), 1);
    topics.check(&kafka, &[&sample]);

    // Run again: nothing is owed.
    let report = run(&topics, &place, &file).json();
    assert_eq!(report["topics"][1]["records"], json!(0));
    topics.check(&kafka, &[&sample]);
}

/// The process aborts right before and right after its transactions, at several of them.
#[test]
fn a_crash_beside_a_transaction_loses_nothing_and_doubles_nothing() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let sample = Sample::new(211, 8_000, 4);
    let file = place.file("events.ndjson", &sample.lines);
    let mut crashes = 0;
    for point in [
        "topic_before_commit:1",
        "topic_after_commit:1",
        "topic_before_commit:2",
        "topic_before_commit:4",
        "topic_after_commit:4",
        "topic_before_commit:3",
        "topic_after_commit:3",
        "topic_after_commit:5",
        "topic_before_commit:6",
    ] {
        let status = command(topics.run_arguments(&place, &file, &place.data()))
            .env("AGENTFLOW_FAIL_POINT", point)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the binary starts");
        // A point that is never reached lets the run end.
        assert!(status.success() || status.code().is_none(), "{point}: {status}");
        crashes += u32::from(!status.success());
    }
    assert!(crashes >= 6, "only {crashes} runs crashed");
    run(&topics, &place, &file).succeeded();
    topics.check(&kafka, &[&sample]);
}

#[test]
fn kills_at_random_moments_lose_nothing_and_double_nothing() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let sample = Sample::new(221, 20_000, 5);
    let file = place.file("events.ndjson", &sample.lines);
    let start = || -> Child {
        command(topics.run_arguments(&place, &file, &place.data()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts")
    };
    let mut rng = SmallRng::seed_from_u64(222);
    for _ in 0..10 {
        let mut child = start();
        std::thread::sleep(Duration::from_millis(rng.random_range(300..2_500)));
        signal(&child, "KILL");
        wait_for_end(&mut child);
    }
    run(&topics, &place, &file).succeeded();
    topics.check(&kafka, &[&sample]);
}

/// The brokers give up a transaction that takes too long. To librdkafka that looks as if another
/// process had taken over.
#[test]
fn a_transaction_that_took_too_long_is_published_anew() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let sample = Sample::new(226, 2_000, 3);
    let file = place.file("events.ndjson", &sample.lines);
    let child = command(topics.run_arguments(&place, &file, &place.data()))
        // The first two are those with which the publishers say that it is them.
        .env("AGENTFLOW_FAIL_POINT", "topic_before_commit:4:freeze")
        .env("AGENTFLOW_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let state = format!("/proc/{}/stat", child.id());
    wait_for("the freeze", || {
        let state = std::fs::read_to_string(&state).ok()?;
        state.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
    // Readers of committed records get no further than the open transaction.
    wait_for("the brokers to give the transaction up", || {
        kafka.is_settled(&topics.positions).then_some(())
    });
    signal(&child, "CONT");
    let output = child.wait_with_output().expect("the end of the process");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("falls behind") && !stderr.contains("halted"), "{stderr}");
    topics.check(&kafka, &[&sample]);
}

#[test]
fn a_second_process_with_the_same_identity_fences_the_first() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let sample = Sample::new(231, 200, 2);
    run(&topics, &place, &place.file("events.ndjson", &sample.lines)).succeeded();
    let other = place.path("copy");
    copy(&place.data(), &other);

    let first = topics.serve(&place, &place.data());
    let second = topics.serve(&place, &other);
    let (lost, kept) = (Sample::new(232, 5, 1), Sample::new(233, 5, 1));
    post(&first, &lost.lines);
    wait_for("the first to halt", || {
        first.stderr().contains("another process with the same identity").then_some(())
    });
    post(&second, &kept.lines);
    topics.wait_for_events(&kafka, sample.good.len() + kept.good.len());
    assert!(!second.stderr().contains("publishing halted"), "{}", second.stderr());
    // Events go on being taken by the one that publishes no more.
    post(&first, &Sample::new(234, 5, 1).lines);
    drop((first, second));
    topics.check(&kafka, &[&sample, &kept]);
}

#[test]
fn while_the_broker_is_away_events_are_taken_and_follow_later() {
    let mut kafka = Kafka::own();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let samples: Vec<Sample> = (241..245).map(|seed| Sample::new(seed, 300, 2)).collect();
    let server = topics.serve_whatever(&place, &place.data());
    post(&server, &samples[0].lines);
    topics.wait_for_events(&kafka, samples[0].good.len());

    kafka.stop();
    let started = Instant::now();
    post(&server, &samples[1].lines);
    assert!(started.elapsed() < Duration::from_secs(10), "nothing waits for the broker");
    wait_for("the publisher to notice", || {
        server.stderr().contains("the topic falls behind").then_some(())
    });
    wait_for("health to say so", || {
        let (_, health) = server.get("/v1/health");
        let components = health["components"].as_array().expect("a list");
        let topics = components.iter().find(|component| component["name"] == "topics")?;
        let owes = topics["metrics"]["owed_records"].as_i64()? > 0;
        (owes && topics["status"] == "degraded").then_some(())
    });
    kafka.start();
    topics.wait_for_events(&kafka, samples[0].good.len() + samples[1].good.len());

    // In the middle of it, and as a crash.
    post(&server, &samples[2].lines);
    kafka.kill();
    post(&server, &samples[3].lines);
    kafka.start();
    let (events, letters) = samples.iter().fold((0, 0), |(events, letters), sample| {
        (events + sample.good.len(), letters + sample.rejected_count())
    });
    topics.wait_for_events(&kafka, events);
    topics.wait_for_letters(&kafka, letters);
    assert!(server.stop().success());
    topics.check(&kafka, &samples.iter().collect::<Vec<_>>());
}

#[test]
fn without_the_topic_of_positions_a_process_goes_on_and_a_new_one_begins_anew() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let (one, two) = (Sample::new(251, 100, 2), Sample::new(252, 100, 2));
    let server = topics.serve_whatever(&place, &place.data());
    post(&server, &one.lines);
    topics.wait_for_events(&kafka, one.good.len());
    topics.wait_for_letters(&kafka, one.rejected_count());
    kafka.delete(&topics.positions);
    post(&server, &two.lines);
    let all = one.good.len() + two.good.len();
    topics.wait_for_events(&kafka, all);
    topics.wait_for_letters(&kafka, one.rejected_count() + two.rejected_count());
    topics.check(&kafka, &[&one, &two]);
    assert!(server.stop().success());

    // Nobody knows any more what was published: rather twice than not at all.
    kafka.delete(&topics.positions);
    let server = topics.serve(&place, &place.data());
    topics.wait_for_events(&kafka, 2 * all);
    assert!(server.stop().success());
    let mut ids: Vec<String> = kafka
        .committed(&topics.validated)
        .iter()
        .map(|m| value(m)["event_id"].to_string())
        .collect();
    ids.sort();
    assert!(ids.chunks(2).all(|pair| pair[0] == pair[1]) && ids.len() == 2 * all);
}

#[test]
fn a_topic_of_positions_that_forgets_is_refused() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    kafka.create(&topics.positions, 1);
    let server = topics.serve_whatever(&place, &place.data());
    let sample = Sample::new(261, 20, 1);
    post(&server, &sample.lines);
    wait_for("the reason", || server.stderr().contains("cleanup.policy=delete").then_some(()));
    assert_eq!(kafka.committed(&topics.validated).len(), 0);
}

/// A reader of committed records sees nothing behind an open transaction, and our position may lie
/// there.
#[test]
fn somebody_elses_open_transaction_hides_no_position() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let samples: Vec<Sample> = (271..274).map(|seed| Sample::new(seed, 100, 2)).collect();
    let lines = |count: usize| -> Vec<Vec<u8>> {
        samples[..count].iter().flat_map(|sample| sample.lines.clone()).collect()
    };
    run(&topics, &place, &place.file("events.ndjson", &lines(1))).succeeded();

    let foreign: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.address)
        .set("transactional.id", &topics.positions)
        .set("transaction.timeout.ms", "12000")
        .create()
        .expect("a producer");
    foreign.init_transactions(Duration::from_secs(20)).expect("transactions");
    foreign.begin_transaction().expect("a transaction");
    foreign
        .send(BaseRecord::to(&topics.positions).partition(0).key("somebody").payload("{}"))
        .expect("enqueued");
    foreign.flush(Duration::from_secs(20)).expect("delivered");

    // Our position is before it: nobody waits.
    let started = Instant::now();
    run(&topics, &place, &place.file("events.ndjson", &lines(2))).succeeded();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // Now it is behind it.
    run(&topics, &place, &place.file("events.ndjson", &lines(3))).succeeded();
    topics.check(&kafka, &samples.iter().collect::<Vec<_>>());
}

#[test]
fn an_older_copy_of_the_data_directory_publishes_nothing() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let (one, two) = (Sample::new(281, 100, 2), Sample::new(282, 100, 2));
    run(&topics, &place, &place.file("events.ndjson", &one.lines)).succeeded();
    let older = place.path("older");
    copy(&place.data(), &older);
    let all: Vec<Vec<u8>> = one.lines.iter().chain(&two.lines).cloned().collect();
    run(&topics, &place, &place.file("events.ndjson", &all)).succeeded();

    let server = topics.serve_whatever(&place, &older);
    wait_for("the halt", || server.stderr().contains("is an older copy, or").then_some(()));
    // It goes on past the position.
    post(&server, &Sample::new(283, 400, 2).lines);
    assert!(server.stop().success());
    let server = topics.serve_whatever(&place, &older);
    wait_for("the halt", || {
        (server.stderr().matches("an older copy that went on").count() >= 2).then_some(())
    });
    assert!(server.stop().success());
    topics.check(&kafka, &[&one, &two]);
}

#[test]
fn tail_shows_what_is_published() {
    let kafka = Kafka::shared();
    let (topics, place) = (Topics::new(&kafka), Place::of("flights"));
    let before = Sample::new(291, 50, 2);
    run(&topics, &place, &place.file("events.ndjson", &before.lines)).succeeded();

    let live = Tail::start(&topics, &["--output", "json"]);
    let text = Tail::start(&topics, &["--dead-letters"]);
    let server = topics.serve(&place, &place.data());
    let after = Sample::new(292, 400, 2);
    post(&server, &after.lines);
    let (events, letters) = (after.good.len(), after.rejected_count() as usize);
    let shown: Vec<Value> = live
        .lines(events + letters)
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |kind: &str| shown.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    assert_eq!((of("event").len(), of("dead_letter").len()), (events, letters));
    let event = of("event")[0];
    assert_eq!(event["key"], event["event"]["flight_id"]);
    assert_eq!(event["agentflow"]["tenant"], "default");
    let letter = of("dead_letter")[0];
    assert_eq!(letter["agentflow"]["source"], "http");
    assert!(letter["agentflow"]["reason"].is_string() && letter.get("event").is_none(), "{letter}");
    let lines = text.lines(letters);
    assert!(lines.len() == letters && lines[0].contains("dead letter"), "{lines:?}");
    assert!(live.stop().success());
    assert!(text.stop().success());

    let all = Tail::start(&topics, &["--validated", "--since-beginning"]);
    assert_eq!(all.lines(before.good.len() + events).len(), before.good.len() + events);
    assert!(all.stop().success());
}
