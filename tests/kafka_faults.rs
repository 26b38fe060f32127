//! The proof: whatever is killed, stopped, cut off or taken away, in whatever order, every record
//! that was produced counts exactly once.
//!
//! A schedule is told from its seed: a stream of numbered events with repeats, late and faulty ones
//! goes into a topic in pieces, and between the pieces faults happen to the process and its group.
//! At the end the oracle of the stream judges counts, metrics, dead letters, the lake and the published
//! topics.
//!
//! `AGENTFLOW_FAULT_SEEDS=FIRST..LAST` runs other schedules than the usual ones (`make soak`); a
//! schedule that fails names its seed, and `AGENTFLOW_FAULT_SEEDS=N..N+1` repeats it.

mod support;

use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use support::flights::Sample;
use support::kafka::{ForeignMember, Kafka, Record, flight_records};
use support::proxy::Network;
use support::server::{Server, wait_for_end};
use support::topics::Topics;
use support::{Place, agentflow, command};

/// Schedules of an ordinary run.
const USUAL: std::ops::Range<u64> = 0..25;
/// Schedules under way at the same time: they wait most of the time.
const AT_ONCE: usize = 3;
/// A group member that is not heard of for so long is put out.
const SESSION_MS: &str = "1500";
const LONGER_THAN_A_SESSION: Duration = Duration::from_millis(2_500);

/// What happens between two pieces of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The process is killed at a random moment.
    Kill,
    /// The process dies at a point beside a commit.
    AtPoint(&'static str, u64),
    /// The process is stopped for longer than its session and goes on.
    Freeze,
    /// A member of the group that is not ours takes partitions, commits nothing and leaves.
    Foreign,
    /// The process ends in good order.
    Stop,
    /// The broker is killed and started again.
    BrokerKilled,
    /// The broker is stopped for a while.
    BrokerStopped,
    /// Connections to the broker are cut for longer than a session.
    Cut,
    /// They stay open, and nothing passes for longer than a session.
    Stall,
}

/// Places beside every commit.
const POINTS: [&str; 7] = [
    "store_before_commit",
    "store_after_commit",
    "lake_files_written",
    "lake_before_commit",
    "lake_after_commit",
    "topic_before_commit",
    "topic_after_commit",
];

impl Fault {
    fn any(rng: &mut SmallRng, own_broker: bool) -> Self {
        match rng.random_range(0..if own_broker { 13 } else { 7 }) {
            0 | 1 => Self::Kill,
            2 | 3 => {
                Self::AtPoint(POINTS[rng.random_range(0..POINTS.len())], rng.random_range(1..4))
            }
            4 => Self::Freeze,
            5 => Self::Foreign,
            6 => Self::Stop,
            7 => Self::BrokerKilled,
            8 => Self::BrokerStopped,
            9 | 10 => Self::Cut,
            _ => Self::Stall,
        }
    }
}

/// One schedule on its own topic and data directory.
struct Schedule<'a> {
    seed: u64,
    rng: SmallRng,
    kafka: &'a Mutex<Kafka>,
    /// The broker's address, which does not change.
    source: String,
    place: Place,
    topic: String,
    topics: Topics,
    members: String,
}

impl Schedule<'_> {
    fn arguments(&self) -> Vec<String> {
        let mut arguments =
            vec!["--contracts".to_owned(), self.place.contracts.display().to_string()];
        arguments.extend(["--data".to_owned(), self.place.data().display().to_string()]);
        arguments.extend(["--from".to_owned(), self.source.clone()]);
        arguments.extend(["--kafka-topic".to_owned(), self.topic.clone()]);
        arguments.extend(["--kafka-group".to_owned(), format!("group-{}", self.topic)]);
        arguments.extend(["--kafka-members".to_owned(), self.members.clone()]);
        let session = format!("session.timeout.ms={SESSION_MS}");
        arguments.extend(["--kafka-set".to_owned(), session]);
        arguments.extend(["--kafka-set".to_owned(), "heartbeat.interval.ms=300".to_owned()]);
        // How long a rebalance waits for a member that does not answer: minutes by default.
        arguments.extend(["--kafka-set".to_owned(), "max.poll.interval.ms=10000".to_owned()]);
        arguments.extend(self.topics.flags().into_iter().map(str::to_owned));
        arguments
    }

    fn serve(&self) -> Server {
        let mut arguments =
            vec!["serve".to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
        arguments.extend(["--kafka-canary".to_owned(), "off".to_owned()]);
        arguments.extend(self.arguments());
        Server::spawn(arguments)
    }

    /// Runs until the armed point is reached; a point that is not reached is no fault.
    fn die_at(&self, point: &str, count: u64) {
        let mut arguments = vec!["run".to_owned(), "--until-end".to_owned()];
        arguments.extend(self.arguments());
        let mut child = command(arguments)
            .env("AGENTFLOW_FAIL_POINT", format!("{point}:{count}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        wait_for_end(&mut child);
    }

    fn kafka(&self) -> std::sync::MutexGuard<'_, Kafka> {
        self.kafka.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(milliseconds)));
    }

    fn produce(&self, records: &[Record]) {
        // Not under the lock: a producer waits while the broker is away, and that is the point.
        Kafka::at(&self.source["kafka:".len()..]).produce(&self.topic, records);
    }

    fn suffer(&mut self, server: Server, fault: Fault) -> Server {
        match fault {
            Fault::Kill => {
                self.pause(0..400);
                server.signal("KILL");
                server.wait();
                self.serve()
            }
            Fault::AtPoint(point, count) => {
                server.signal("KILL");
                server.wait();
                self.die_at(point, count);
                self.serve()
            }
            Fault::Freeze => {
                server.signal("STOP");
                std::thread::sleep(LONGER_THAN_A_SESSION);
                server.signal("CONT");
                server
            }
            Fault::Foreign => {
                let (group, topic) = (format!("group-{}", self.topic), self.topic.clone());
                let broker = Kafka::at(&self.source["kafka:".len()..]);
                let foreign = ForeignMember::join(&broker, &group, &topic);
                self.pause(0..300);
                foreign.poll();
                drop(foreign);
                server
            }
            Fault::Stop => {
                assert!(server.stop().success(), "seed {}", self.seed);
                self.serve()
            }
            Fault::BrokerKilled => {
                let mut kafka = self.kafka();
                kafka.kill();
                kafka.start();
                drop(kafka);
                server
            }
            Fault::Cut => {
                self.kafka().network(Network::Cut, LONGER_THAN_A_SESSION);
                server
            }
            Fault::Stall => {
                self.kafka().network(Network::Stalled, LONGER_THAN_A_SESSION);
                server
            }
            Fault::BrokerStopped => {
                let mut kafka = self.kafka();
                kafka.stop();
                std::thread::sleep(Duration::from_millis(1_000));
                kafka.start();
                drop(kafka);
                server
            }
        }
    }

    /// Everything that was produced is there once, and everything says so.
    fn judge(&self, sample: &Sample) {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(self.arguments());
        arguments.extend(["--until-end", "--output", "json"].map(str::to_owned));
        let report = agentflow(arguments).json();
        let total = &report["total"];
        assert_eq!(total["accepted"], json!(sample.good.len()), "{total}");
        assert_eq!(total["duplicate"], json!(sample.duplicates), "{total}");
        assert_eq!(total["rejected"], json!(sample.rejected_count()), "{total}");
        support::kafka::check_ledger(&report, &self.kafka(), &self.topic);
        self.topics.check(&self.kafka(), &[sample]);
        support::flights::check_all(&self.place, sample, self.seed);
    }
}

/// Runs the schedule of `seed`.
fn run(seed: u64, kafka: &Mutex<Kafka>, own_broker: bool) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let partitions = rng.random_range(1..5);
    let sample = Sample::new(1_000 + seed, rng.random_range(300..900), 4);
    let (topic, source, topics) = {
        let kafka = kafka.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (kafka.topic("faults", partitions), kafka.source(), Topics::new(&kafka))
    };
    let members = rng.random_range(1..3).to_string();
    let place = Place::of("flights");
    let mut schedule = Schedule { seed, rng, kafka, source, place, topic, topics, members };
    let records = flight_records(&sample.lines, partitions);
    let faults = schedule.rng.random_range(2..5);
    let piece = records.len().div_ceil(faults + 1);
    let mut server = schedule.serve();
    let mut told = Vec::new();
    for (at, records) in records.chunks(piece).enumerate() {
        schedule.produce(records);
        if at < faults {
            let fault = Fault::any(&mut schedule.rng, own_broker);
            told.push(fault);
            server = schedule.suffer(server, fault);
        }
    }
    let produced = records.len() as u64;
    let started = Instant::now();
    while server.received() != produced {
        let received = server.received();
        assert!(received <= produced, "seed {seed} {told:?}: {received} of {produced} received");
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "seed {seed} {told:?}: {received} of {produced} after two minutes\n{}\n{}",
            server.get("/v1/health").1,
            server.stderr(),
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.stop().success(), "seed {seed} {told:?}");
    schedule.judge(&sample);
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("AGENTFLOW_FAULT_SEEDS") else { return USUAL };
    let (first, last) = text.split_once("..").expect("FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

/// Runs all schedules of `seeds`, a few at a time; tells each that fails.
fn run_all(seeds: std::ops::Range<u64>, kafka: &Mutex<Kafka>, at_once: usize, own_broker: bool) {
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
                    let result = std::panic::catch_unwind(|| run(seed, kafka, own_broker));
                    if result.is_err() {
                        failed.lock().expect("lock").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("lock");
    assert!(failed.is_empty(), "schedules that failed: {failed:?}");
}

#[test]
fn nothing_is_lost_and_nothing_counts_twice() {
    let kafka = Mutex::new(Kafka::shared());
    run_all(seeds(), &kafka, AT_ONCE, false);
}

#[test]
fn a_broker_that_comes_and_goes_changes_nothing() {
    let kafka = Mutex::new(Kafka::own_behind_proxy());
    let seeds = seeds();
    // Of its own kind: one schedule at a time has the broker.
    let few = 10_000 + seeds.start
        ..10_000 + seeds.start + seeds.end.saturating_sub(seeds.start).div_ceil(5);
    run_all(few, &kafka, 1, true);
}
