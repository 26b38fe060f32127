//! Kafka as a source, on a real broker: everything counted once, whatever the topic is like.

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::flights::{Sample, check_all};
use support::kafka::{
    ForeignMember, Kafka, Record, check_ledger, flight_records, properties, sasl,
};
use support::server::Server;
use support::{Finished, Place, agentflow, wait_for};

fn run(place: &Place, kafka: &Kafka, topic: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
    arguments.extend(["--data".to_owned(), place.data().display().to_string()]);
    arguments.extend(["--from".to_owned(), kafka.source()]);
    arguments.extend(["--kafka-topic".to_owned(), topic.to_owned()]);
    arguments.extend(["--kafka-group".to_owned(), format!("group-{topic}")]);
    arguments.extend(["--until-end", "--output", "json"].map(str::to_owned));
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    agentflow(arguments)
}

fn serve(place: &Place, kafka: &Kafka, topic: &str, more: &[&str]) -> Server {
    let (source, group) = (kafka.source(), format!("group-{topic}"));
    let mut arguments = vec![
        "--from",
        &source,
        "--kafka-topic",
        topic,
        "--kafka-group",
        &group,
        // Its records would be counted too.
        "--kafka-canary",
        "off",
    ];
    arguments.extend(more);
    Server::start(place, &arguments)
}

#[track_caller]
fn check_counts(total: &Value, sample: &Sample) {
    let expected = json!({
        "received": sample.lines.len(),
        "accepted": sample.good.len(),
        "duplicate": sample.duplicates,
        "rejected": sample.rejected_count(),
        "discarded": 0,
    });
    for (name, count) in expected.as_object().expect("an object") {
        assert_eq!(&total[name], count, "{name} of {total}");
    }
}

#[test]
fn topics_are_read_to_their_end_and_never_again() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(101, 3_000, 5);
    let topic = kafka.topic("flights", 3);
    let (first, rest) = sample.lines.split_at(sample.lines.len() / 3);
    kafka.produce(&topic, &flight_records(first, 3));
    let report = run(&place, &kafka, &topic, &[]).json();
    assert_eq!(report["received"], json!(first.len()));
    assert_eq!(report["complete"], json!(true));

    kafka.produce(&topic, &flight_records(rest, 3));
    let report = run(&place, &kafka, &topic, &[]).json();
    assert_eq!(report["received"], json!(rest.len()));
    check_counts(&report["total"], &sample);
    check_all(&place, &sample, 1);

    let started = Instant::now();
    let report = run(&place, &kafka, &topic, &[]).json();
    assert_eq!(report["received"], json!(0));
    check_counts(&report["total"], &sample);
    // A run that ends leaves the group: the next one need not wait for its session to time out.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn every_codec_and_several_members_give_the_same() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(102, 2_000, 4);
    let topic = kafka.topic("flights", 6);
    let records = flight_records(&sample.lines, 6);
    let part = records.len().div_ceil(5);
    for (codec, records) in
        ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().zip(records.chunks(part))
    {
        kafka.produce_with(&topic, records, &[("compression.type", codec)]);
    }
    let report = run(&place, &kafka, &topic, &["--kafka-members", "3"]).json();
    check_counts(&report["total"], &sample);
    check_all(&place, &sample, 2);
}

#[test]
fn a_poison_record_of_each_kind_loses_only_itself() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(103, 200, 2);
    let topic = kafka.topic("flights", 1);
    let mut records = flight_records(&sample.lines, 1);
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let poison: [Vec<u8>; 6] = [
        Vec::new(),
        vec![0, 255, 254],
        vec![b'{'; 900_000],
        deep.into_bytes(),
        b"{\"event_type\":\"flight.departed\"".to_vec(),
        b"{\"event_type\":\"nobody.knows.this\",\"event_id\":\"x\",\"timestamp\":\"2013-03-01T00:00:00Z\"}".to_vec(),
    ];
    for (at, payload) in poison.iter().enumerate() {
        let headers = vec![("trace".to_owned(), b"a-1".to_vec()), ("raw".to_owned(), vec![255])];
        let record = Record { key: Some(vec![1, 2]), headers, ..Record::new(0, payload.clone()) };
        records.insert(1 + at * 7, record);
    }
    // Tombstones are dropped by policy; a record without key is like any other.
    records.insert(3, Record { key: Some(b"gone".to_vec()), ..Record::default() });
    kafka.produce(&topic, &records);
    let report = run(&place, &kafka, &topic, &[]).json();
    let total = &report["total"];
    assert_eq!(total["received"], json!(records.len()));
    assert_eq!(total["accepted"], json!(sample.good.len()));
    assert_eq!(total["rejected"], json!(sample.rejected_count() + poison.len() as u64));
    assert_eq!(total["discarded_by_reason"], json!({"tombstone": 1}));
    let letters = place.dead_letters(&place.data());
    for payload in &poison {
        assert!(letters.iter().any(|letter| support::payload(letter) == *payload));
    }
    let partition = format!("kafka:{topic}/0");
    assert!(
        letters.iter().all(|letter| letter["place"]["partition"] == json!(partition)),
        "{letters:?}"
    );
}

#[test]
fn what_cannot_be_read_is_said_by_name() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    run(&place, &kafka, "no-such-topic", &[])
        .failed(1, &["no-such-topic", "does not exist", "hint:"]);
    let nobody = Kafka::at("127.0.0.1:1");
    run(&place, &nobody, "x", &[]).failed(1, &["127.0.0.1:1", "no Kafka broker answers", "hint:"]);
    let topic = kafka.topic("flights", 1);
    run(&place, &kafka, &topic, &["--kafka-set", "no.such.setting=1"])
        .failed(1, &["no.such.setting", "hint:"]);
    run(&place, &kafka, &topic, &["--kafka-set", "enable.auto.commit=true"])
        .failed(1, &["enable.auto.commit", "hint:"]);
    assert!(!place.data().exists(), "a typing error leaves nothing behind");
}

#[test]
fn a_login_is_passed_through_and_a_wrong_one_is_refused() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(104, 50, 1);
    let topic = kafka.topic("flights", 1);
    kafka.produce(&topic, &flight_records(&sample.lines, 1));
    let (address, user, password) = sasl();
    let guarded = Kafka::at(&address);
    let wrong = properties(&place.path(""), &user, "wrong-password");
    let wrong = wrong.display().to_string();
    let refused = run(&place, &guarded, &topic, &["--kafka-properties", &wrong]);
    refused.failed(1, &[&address, "refuse", "hint:"]);
    assert!(!refused.stderr.contains("wrong-password"), "{refused:?}");
    let right = properties(&place.path(""), &user, &password).display().to_string();
    let report = run(&place, &guarded, &topic, &["--kafka-properties", &right]).json();
    check_counts(&report["total"], &sample);
}

#[test]
fn new_partitions_and_new_topics_are_picked_up_while_it_runs() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(105, 600, 2);
    let prefix = kafka.topic("grow", 1);
    let pattern = format!("^{prefix}.*");
    // A member that asks for metadata often: the default is every five seconds.
    let often =
        ["--kafka-set", "topic.metadata.refresh.interval.ms=500", "--kafka-start", "latest"];
    let all = flight_records(&sample.lines, 1);
    let server = serve(&place, &kafka, &pattern, &often);
    wait_for("the first partition", || {
        let (_, health) = server.get("/v1/health");
        health.to_string().contains(&prefix).then_some(())
    });
    let part = all.len() / 3;
    kafka.produce(&prefix, &all[..part]);
    wait_for("the first third", || (server.received() == part as u64).then_some(()));
    // Records that are in a new partition before anybody sees it are not missed, although unknown
    // topics start at their end.
    kafka.grow(&prefix, 2);
    let moved = |records: &[Record], partition| -> Vec<Record> {
        records.iter().cloned().map(|record| Record { partition, ..record }).collect()
    };
    kafka.produce(&prefix, &moved(&all[part..2 * part], 1));
    wait_for("the second third", || (server.received() == 2 * part as u64).then_some(()));
    let other = format!("{prefix}-more");
    kafka.create(&other, 1);
    wait_for("the new topic", || {
        let (_, health) = server.get("/v1/health");
        health.to_string().contains(&other).then_some(())
    });
    kafka.produce(&other, &moved(&all[2 * part..], 0));
    wait_for("everything", || (server.received() == all.len() as u64).then_some(()));
    assert!(server.stop().success());
}

#[test]
fn a_topic_made_again_stops_loudly_and_alone() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(106, 300, 2);
    let (gone, stays) = (kafka.topic("gone", 1), kafka.topic("stays", 1));
    let all = flight_records(&sample.lines, 1);
    let half = all.len() / 2;
    kafka.produce(&gone, &all[..half]);
    let more = ["--kafka-topic", stays.as_str()];
    let server = serve(&place, &kafka, &gone, &more);
    wait_for("the first half", || (server.received() == half as u64).then_some(()));
    kafka.delete(&gone);
    kafka.create(&gone, 1);
    // More than the old one had: the old position is a valid offset of the new topic.
    let other = Sample::new(107, 2_000, 2);
    kafka.produce(&gone, &flight_records(&other.lines, 1));
    wait_for("the topic to be stopped", || {
        server.stderr().contains("partition stopped").then_some(())
    });
    kafka.produce(&stays, &all[half..]);
    wait_for("the other topic", || (server.received() >= all.len() as u64).then_some(()));
    let (_, health) = server.get("/v1/health");
    assert!(health.to_string().contains("made again"), "{health}");
    assert!(server.stop().success());
    // Nor is it read by the next process.
    run(&place, &kafka, &gone, &[]).failed(1, &["made again", "hint:"]);
}

#[test]
fn offsets_out_of_range_follow_the_policy() {
    let kafka = Kafka::shared();
    let sample = Sample::new(108, 300, 2);
    let topic = kafka.topic("flights", 1);
    let all = flight_records(&sample.lines, 1);
    let (third, most) = (all.len() / 3, all.len() * 2 / 3);
    kafka.produce(&topic, &all[..third]);
    let places: Vec<Place> = (0..3).map(|_| Place::of("flights")).collect();
    for place in &places {
        assert_eq!(run(place, &kafka, &topic, &[]).json()["received"], json!(third));
    }
    kafka.produce(&topic, &all[third..]);
    kafka.delete_before(&topic, 0, most as i64);
    run(&places[0], &kafka, &topic, &[]).failed(
        1,
        &[&format!("position {third} is not among the offsets {most} to {}", all.len()), "hint:"],
    );
    let report = run(&places[1], &kafka, &topic, &["--kafka-out-of-range", "earliest"]).json();
    assert_eq!(report["received"], json!(all.len() - most));
    let report = run(&places[2], &kafka, &topic, &["--kafka-out-of-range", "latest"]).json();
    assert_eq!(report["received"], json!(0));
}

#[test]
fn a_foreign_member_takes_partitions_and_nothing_is_lost() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(109, 2_000, 3);
    let topic = kafka.topic("flights", 4);
    let all = flight_records(&sample.lines, 4);
    let server = serve(&place, &kafka, &topic, &["--kafka-members", "2"]);
    let part = all.len().div_ceil(4);
    for records in all.chunks(part) {
        let foreign = ForeignMember::join(&kafka, &format!("group-{topic}"), &topic);
        kafka.produce(&topic, records);
        foreign.poll();
        drop(foreign);
    }
    wait_for("everything", || (server.received() == all.len() as u64).then_some(()));
    assert!(server.stop().success());
    let report = run(&place, &kafka, &topic, &[]).json();
    assert_eq!(report["received"], json!(0), "positions were kept");
    check_counts(&report["total"], &sample);
    check_all(&place, &sample, 3);
}

#[test]
fn a_second_process_on_the_directory_is_refused_by_name() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let topic = kafka.topic("flights", 1);
    let server = serve(&place, &kafka, &topic, &[]);
    let pid = server.pid().to_string();
    run(&place, &kafka, &topic, &[]).failed(1, &["data", "serve", &pid, "hint:"]);
    assert!(server.stop().success());
}

#[test]
fn the_ledger_holds_for_each_partition() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let sample = Sample::new(110, 800, 2);
    let topic = kafka.topic("flights", 3);
    kafka.produce(&topic, &flight_records(&sample.lines, 3));
    let report = run(&place, &kafka, &topic, &[]).json();
    check_ledger(&report, &kafka, &topic);
}

#[test]
fn cloud_events_are_the_same_events() {
    let kafka = Kafka::shared();
    let mut totals = Vec::new();
    for format in ["json", "cloudevents", "cloudevents-structured"] {
        let place = Place::of("shop");
        let topic = kafka.topic("shop", 2);
        let produced = agentflow([
            "produce",
            "--events",
            "2000",
            "--seed",
            "5",
            "--unpaced",
            "--bad",
            "0",
            "--format",
            format,
            "--header",
            "trace=1",
            "--topic",
            &topic,
            "--to",
            &kafka.source(),
        ]);
        produced.succeeded();
        let report = run(&place, &kafka, &topic, &[]).json();
        check_ledger(&report, &kafka, &topic);
        let total = &report["total"];
        totals.push((
            total["accepted"].clone(),
            total["duplicate"].clone(),
            total["rejected"].clone(),
        ));
    }
    assert_eq!(totals[0], totals[1]);
    assert_eq!(totals[0], totals[2]);
}
