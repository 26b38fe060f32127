//! The proof: whatever is killed, stopped, cut off or taken away, in whatever order, every record
//! that could be read counts exactly once.
//!
//! A schedule is told from its seed: a stream of numbered events with repeats, late, reordered and
//! faulty ones goes into topics in pieces, and between the pieces faults happen to the process, its
//! group, its disk, its broker and the topics. At the end the oracle of the stream judges counts,
//! metrics, dead letters, the published topics and the lake, which PyIceberg and ClickHouse read event by
//! event.
//!
//! `AGENTFLOW_FAULT_SEEDS=FIRST..LAST` runs other schedules than the usual ones (`make soak`); a
//! schedule that fails names its seed, and `AGENTFLOW_FAULT_SEEDS=N..N+1` repeats it.

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::json;

use support::flights::Sample;
use support::kafka::{
    ForeignMember, Kafka, Record, check_ledger, check_ledger_without, flight_records, offsets,
    outcomes,
};
use support::schedule::{Kind, Schedule, kill};
use support::small_disk::SmallDisk;
use support::wait_for;

/// Schedules of an ordinary run.
const USUAL: Range<u64> = 0..25;
/// Schedules under way at the same time: they wait most of the time.
const AT_ONCE: usize = 3;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("AGENTFLOW_FAULT_SEEDS") else { return USUAL };
    let (first, last) = text.split_once("..").expect("FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// Of schedules of another kind, one for every five of the usual ones. Their seeds tell the kind.
fn few(kind: u64) -> Range<u64> {
    let seeds = seeds();
    let first = kind * 10_000 + seeds.start;
    first..first + seeds.end.saturating_sub(seeds.start).div_ceil(5)
}

/// Runs the schedules of all `seeds`, a few at a time; tells each that fails.
fn run_all(
    seeds: Range<u64>,
    at_once: usize,
    run: impl Fn(u64) + Sync + std::panic::RefUnwindSafe,
) {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if std::panic::catch_unwind(|| run(seed)).is_err() {
                        eprintln!("schedule {seed} failed");
                        failed.lock().expect("lock").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("lock");
    assert!(failed.is_empty(), "schedules that failed: {failed:?}");
}

/// One topic, some faults, and everything is read.
fn faults_alone(seed: u64, kafka: &Mutex<Kafka>, kind: Kind) {
    let mut schedule = Schedule::new(seed, kafka, kind);
    let (topic, partitions, sample) = schedule.reads_a_topic("faults", 1_000 + seed);
    let records = flight_records(&sample.lines, partitions);
    let faults = schedule.rng.random_range(2..5);
    let mut pieces = records.chunks(records.len().div_ceil(faults + 1));
    let last = pieces.next_back().expect("a piece");
    let mut server = schedule.serve();
    for piece in pieces {
        server = schedule.any_fault(server, &[(&topic, piece)]);
    }
    schedule.produce(&[(&topic, last)]);
    schedule.wait_for_all(&server, records.len() as u64);
    assert!(server.stop().success(), "seed {seed} {:?}", schedule.told);
    let report = schedule.report(&schedule.reads);
    check_ledger(&report, &schedule.kafka(), &topic);
    schedule.judge(&report, &sample);
}

/// One of two topics is deleted and made again with other records: what was read of it counts, the
/// topic of that name is not read whatever happens, and the other one is.
fn a_topic_made_again(seed: u64, kafka: &Mutex<Kafka>) {
    let mut schedule = Schedule::new(seed, kafka, Kind::Usual);
    let (gone, partitions, lost) = schedule.reads_a_topic("gone", 100_000 + seed);
    let (stays, others, kept) = schedule.reads_a_topic("stays", 200_000 + seed);
    let (fresh, few, first) = schedule.reads_a_topic("fresh", 500_000 + seed);
    let reads = schedule.reads.clone();
    let before = flight_records(&lost.lines, partitions);
    let all = flight_records(&kept.lines, others);
    let (early, late) = all.split_at(all.len() / 2);
    let faults = schedule.rng.random_range(1..3);
    let mut server = schedule.serve();
    let part = |records: &[Record]| records.len().div_ceil(faults);
    for (a, b) in before.chunks(part(&before)).zip(early.chunks(part(early))) {
        server = schedule.any_fault(server, &[(&gone, a), (&stays, b)]);
    }
    // A topic of which nothing was read yet is like any other new one.
    schedule.wait_until(&server, "the first records", || {
        schedule.positions(&server, &gone, partitions).values().any(|at| *at > 0)
    });
    if schedule.rng.random_bool(0.5) {
        schedule.wait_for_all(&server, (before.len() + early.len()) as u64);
    }
    // More than the first topic had, so that the positions are valid offsets of the second.
    let other = Sample::new(300_000 + seed, 1_200, 4);
    let other = flight_records(&other.lines, partitions);
    // Another one of which nothing was read yet is like any new topic, and is read.
    let again = |schedule: &Schedule<'_>| {
        let topics = [(&gone, partitions), (&fresh, few)];
        topics.iter().for_each(|(topic, _)| schedule.client().delete(topic));
        topics.iter().for_each(|(topic, count)| schedule.client().create(topic, *count));
    };
    let is_running = schedule.rng.random_bool(0.5);
    schedule.told.push(format!("made again while running: {is_running}"));
    if is_running {
        again(&schedule);
        schedule.wait_until(&server, "the topic to be stopped", || {
            let series = format!("agentflow_source_halted{{partition=\"kafka:{gone}/");
            server.sum(&series) == partitions as u64
        });
        schedule.client().produce(&gone, &other);
    } else {
        kill(server);
        again(&schedule);
        schedule.client().produce(&gone, &other);
        server = schedule.serve();
    }
    let new = flight_records(&first.lines, few);
    for (a, b) in late.chunks(late.len().div_ceil(2)).zip(new.chunks(new.len().div_ceil(2))) {
        server = schedule.any_fault(server, &[(&stays, a), (&fresh, b)]);
    }
    for (topic, count) in [(&stays, others), (&fresh, few)] {
        let ends = schedule.kafka().ends(topic);
        let ends: BTreeMap<i32, u64> = ends.into_iter().map(|(at, end)| (at, end as u64)).collect();
        schedule.wait_until(&server, &format!("`{topic}` to be read"), || {
            schedule.positions(&server, topic, count) == ends
        });
    }
    schedule.wait_until(&server, "the topic to be stopped", || {
        server.get("/v1/health").1.to_string().contains("made again")
    });
    assert!(server.stop().success(), "seed {seed} {:?}", schedule.told);
    schedule
        .place
        .agentflow(schedule.run_arguments(&reads))
        .failed(1, &["made again", &gone, "hint:"]);

    let report = schedule.report(&[stays.clone(), fresh.clone()]);
    check_ledger(&report, &schedule.kafka(), &stays);
    check_ledger(&report, &schedule.kafka(), &fresh);
    let read: BTreeMap<i32, i64> =
        (0..partitions).map(|partition| (partition, outcomes(&report, &gone, partition))).collect();
    let places = offsets(&before);
    let read = lost.only(|line| places[line].1 < read[&places[line].0]);
    schedule.judge(&report, &read.and(&kept).and(&first));
}

/// Records are deleted while nobody reads, some before they were read. With the policy `earliest`
/// they are the only ones that are missing.
fn offsets_out_of_range(seed: u64, kafka: &Mutex<Kafka>) {
    let mut schedule = Schedule::new(seed, kafka, Kind::Usual);
    schedule.more = vec!["--kafka-out-of-range", "earliest"];
    let (topic, partitions, sample) = schedule.reads_a_topic("trimmed", 400_000 + seed);
    let records = flight_records(&sample.lines, partitions);
    let mut pieces = records.chunks(records.len().div_ceil(5));
    let mut lost: Vec<(i32, Range<i64>)> = Vec::new();
    let mut produced = 0;
    let mut server = schedule.serve();
    let missing = |lost: &[(i32, Range<i64>)]| -> u64 {
        lost.iter().map(|(_, range)| range.end - range.start).sum::<i64>() as u64
    };
    for turn in 0..2 {
        let piece = pieces.next().expect("a piece");
        server = schedule.any_fault(server, &[(&topic, piece)]);
        produced += piece.len() as u64;
        // So that it is known what was read.
        schedule.wait_for_all(&server, produced - missing(&lost));
        let read = schedule.kafka().ends(&topic);
        kill(server);
        let piece = pieces.next().expect("a piece");
        schedule.produce(&[(&topic, piece)]);
        produced += piece.len() as u64;
        let ends = schedule.client().ends(&topic);
        for (partition, end) in ends {
            let from = read[&partition];
            // Often some of the new ones; sometimes only what was read already, or everything.
            let to = match schedule.rng.random_range(0..4) {
                0 => from - (from - lost_before(&lost, partition)) / 2,
                1 => end,
                _ => schedule.rng.random_range(from..=end),
            };
            schedule.client().delete_before(&topic, partition, to);
            schedule.told.push(format!("turn {turn}: {partition} from {from} to {to} of {end}"));
            if to > from {
                lost.push((partition, from..to));
            }
        }
        server = schedule.serve();
    }
    let last = pieces.next().expect("a piece");
    server = schedule.any_fault(server, &[(&topic, last)]);
    produced += last.len() as u64;
    schedule.wait_for_all(&server, produced - missing(&lost));
    assert!(server.stop().success(), "seed {seed} {:?}", schedule.told);

    let report = schedule.report(&schedule.reads);
    let mut unread: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, range) in &lost {
        *unread.entry(*partition).or_default() += range.end - range.start;
    }
    check_ledger_without(&report, &schedule.kafka(), &topic, &unread);
    let places = offsets(&records);
    let is_lost = |(partition, offset): (i32, i64)| {
        lost.iter().any(|(of, range)| *of == partition && range.contains(&offset))
    };
    schedule.judge(&report, &sample.only(|line| !is_lost(places[line])));
}

/// Up to which offset records of a partition were deleted for sure.
fn lost_before(lost: &[(i32, Range<i64>)], partition: i32) -> i64 {
    lost.iter().filter(|(of, _)| *of == partition).map(|(_, range)| range.end).max().unwrap_or(0)
}

#[test]
fn nothing_is_lost_and_nothing_counts_twice() {
    let kafka = Mutex::new(Kafka::shared());
    run_all(seeds(), AT_ONCE, |seed| faults_alone(seed, &kafka, Kind::Usual));
}

#[test]
fn a_broker_that_comes_and_goes_changes_nothing() {
    let kafka = Mutex::new(Kafka::own_behind_proxy());
    // One schedule at a time has the broker.
    run_all(few(1), 1, |seed| faults_alone(seed, &kafka, Kind::OwnBroker));
}

#[test]
fn a_disk_that_fills_up_changes_nothing() {
    if !SmallDisk::is_possible() {
        return;
    }
    let kafka = Mutex::new(Kafka::shared());
    run_all(few(2), AT_ONCE, |seed| faults_alone(seed, &kafka, Kind::SmallDisk));
}

#[test]
fn a_lake_whose_catalog_and_store_fail_has_every_event_once() {
    let kafka = Mutex::new(Kafka::shared());
    // Each has a catalog and a store of its own.
    run_all(few(5), 2, |seed| faults_alone(seed, &kafka, Kind::FaultyLake));
}

#[test]
fn a_topic_made_again_is_not_read_and_hinders_no_other() {
    let kafka = Mutex::new(Kafka::shared());
    run_all(few(3), AT_ONCE, |seed| a_topic_made_again(seed, &kafka));
}

#[test]
fn only_records_that_were_deleted_unread_are_missing() {
    let kafka = Mutex::new(Kafka::shared());
    run_all(few(4), AT_ONCE, |seed| offsets_out_of_range(seed, &kafka));
}

/// A member of the group that `has_taken` partitions from the others. A broker that has much else to do may lose it
/// while it joins: then there is none.
fn taking(
    client: &Kafka,
    group: &str,
    topic: &str,
    has_taken: impl Fn() -> bool,
) -> Option<ForeignMember> {
    let foreign = ForeignMember::join(client, group, topic);
    let until = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        // A member that asks for nothing agrees to nothing, and the group waits for it.
        foreign.poll();
        if has_taken() {
            return Some(foreign);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn twenty_rebalances_change_nothing() {
    let kafka = Mutex::new(Kafka::shared());
    let mut schedule = Schedule::new(0, &kafka, Kind::Usual);
    schedule.members = 2;
    let sample = Sample::new(500_000, 4_000, 4);
    let topic = schedule.kafka().topic("rebalanced", 6);
    schedule.reads.push(topic.clone());
    let records = flight_records(&sample.lines, 6);
    let server = schedule.serve();
    let (client, group) = (schedule.client(), schedule.group());
    let count = |text: &str| server.stderr().matches(text).count();
    let held = || count("partition assigned") - count("partition given back");
    wait_for("an assignment", || (held() == 6).then_some(()));
    let are_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !are_over.load(Ordering::Relaxed) && at < records.len() {
                let piece = &records[at..records.len().min(at + 100)];
                client.produce(&topic, piece);
                at += piece.len();
            }
            client.produce(&topic, &records[at..]);
        });
        for _ in 0..10 {
            // The first rebalance takes partitions away, the second one gives them back: each is
            // seen by the process before the next one.
            let foreign = (0..4).find_map(|_| taking(&client, &group, &topic, || held() < 6));
            drop(foreign.unwrap_or_else(|| panic!("nothing was taken away:\n{}", server.stderr())));
            wait_for("partitions to be given back", || (held() == 6).then_some(()));
        }
        are_over.store(true, Ordering::Relaxed);
    });
    assert!(count("partition given back") >= 10);
    schedule.wait_for_all(&server, records.len() as u64);
    assert!(server.stop().success());
    let report = schedule.report(&schedule.reads);
    assert_eq!(report["received"], json!(0), "positions were kept");
    check_ledger(&report, &schedule.kafka(), &topic);
    schedule.judge(&report, &sample);
}
