//! A schedule of faults: a process that reads topics, what happens to it and its group, and how
//! everything is judged in the end.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::Place;
use super::faulty_lake::FaultyLake;
use super::flights::Sample;
use super::kafka::{ForeignMember, Kafka, Record};
use super::lake_readers;
use super::proxy::Network;
use super::server::{Server, wait_for_end};
use super::topics::Topics;

/// A group member that is not heard of for so long is put out.
const SESSION_MS: &str = "1500";
const LONGER_THAN_A_SESSION: Duration = Duration::from_millis(2_500);
/// How long everything may take to arrive once the last fault is over.
const ARRIVE_WITHIN: Duration = Duration::from_secs(120);

/// What happens to a process while it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
    /// The disk is full while records come, and nothing else happens.
    DiskFull,
    /// The process is killed on a full disk and cannot start again before there is room.
    DiskFullAndKill,
    /// It stands still on a full disk for longer than its session.
    DiskFullAndFreeze,
    /// Small files of the lake are merged, old snapshots expired, while the process goes on.
    Maintenance,
}

/// Which faults there are beside those that are always possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Usual,
    /// The broker is the schedule's own, behind a proxy.
    OwnBroker,
    /// The data are on a disk that can be filled.
    SmallDisk,
    /// The lake is behind a catalog and an object store that fail now and then.
    FaultyLake,
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

/// Room for what a schedule writes, several times over.
const DISK: &str = "192m";

impl Fault {
    fn any(rng: &mut SmallRng, kind: Kind) -> Self {
        let special: &[Self] = match kind {
            Kind::Usual => &[Self::Maintenance],
            Kind::FaultyLake => &[
                Self::Maintenance,
                Self::Maintenance,
                Self::AtPoint("lake_files_written", 2),
                Self::AtPoint("lake_before_commit", 2),
                Self::AtPoint("lake_before_commit", 4),
                Self::AtPoint("lake_after_commit", 1),
                Self::AtPoint("lake_after_commit", 3),
            ],
            Kind::OwnBroker => &[
                Self::BrokerKilled,
                Self::BrokerStopped,
                Self::Cut,
                Self::Cut,
                Self::Stall,
                Self::Stall,
            ],
            Kind::SmallDisk => &[
                Self::DiskFull,
                Self::DiskFull,
                Self::DiskFullAndKill,
                Self::DiskFullAndKill,
                Self::DiskFullAndFreeze,
                Self::DiskFullAndFreeze,
            ],
        };
        match rng.random_range(0..7 + special.len()) {
            0 | 1 => Self::Kill,
            2 | 3 => {
                Self::AtPoint(POINTS[rng.random_range(0..POINTS.len())], rng.random_range(1..4))
            }
            4 => Self::Freeze,
            5 => Self::Foreign,
            6 => Self::Stop,
            more => special[more - 7],
        }
    }
}

/// One schedule on its own topics and data directory.
pub struct Schedule<'a> {
    pub seed: u64,
    pub rng: SmallRng,
    kafka: &'a Mutex<Kafka>,
    kind: Kind,
    /// The broker's address, which does not change.
    source: String,
    pub place: Place,
    /// The topics that are read.
    pub reads: Vec<String>,
    topics: Topics,
    lake: Option<FaultyLake>,
    pub members: u8,
    /// More arguments for every process.
    pub more: Vec<&'static str>,
    /// Records that were produced for it to read.
    produced: u64,
    /// What happened so far, for whoever reads of a failure.
    pub told: Vec<String>,
}

impl<'a> Schedule<'a> {
    pub fn new(seed: u64, kafka: &'a Mutex<Kafka>, kind: Kind) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (source, topics) = {
            let kafka = lock(kafka);
            (kafka.source(), Topics::new(&kafka))
        };
        let members = rng.random_range(1..3);
        let place = match kind {
            Kind::SmallDisk => Place::on_small_disk("flights", DISK),
            Kind::Usual | Kind::OwnBroker | Kind::FaultyLake => Place::of("flights"),
        };
        let lake = (kind == Kind::FaultyLake).then(|| FaultyLake::start(seed));
        Self {
            seed,
            rng,
            kafka,
            kind,
            source,
            place,
            reads: Vec::new(),
            topics,
            lake,
            members,
            more: Vec::new(),
            produced: 0,
            told: Vec::new(),
        }
    }

    /// A new topic that is read, and a stream for it.
    pub fn reads_a_topic(&mut self, name: &str, sample_seed: u64) -> (String, i32, Sample) {
        let partitions = self.rng.random_range(1..5);
        let flights = self.rng.random_range(300..900);
        let sample = Sample::new(sample_seed, flights, 4).reordered(&mut self.rng);
        let topic = self.kafka().topic(name, partitions);
        self.reads.push(topic.clone());
        (topic, partitions, sample)
    }

    fn arguments(&self, reads: &[String]) -> Vec<String> {
        let mut arguments =
            vec!["--contracts".to_owned(), self.place.contracts.display().to_string()];
        arguments.extend(["--data".to_owned(), self.place.data().display().to_string()]);
        arguments.extend(["--from".to_owned(), self.source.clone()]);
        for topic in reads {
            arguments.extend(["--kafka-topic".to_owned(), topic.clone()]);
        }
        arguments.extend(["--kafka-group".to_owned(), self.group()]);
        arguments.extend(["--kafka-members".to_owned(), self.members.to_string()]);
        let session = format!("session.timeout.ms={SESSION_MS}");
        arguments.extend(["--kafka-set".to_owned(), session]);
        arguments.extend(["--kafka-set".to_owned(), "heartbeat.interval.ms=300".to_owned()]);
        // How long a rebalance waits for a member that does not answer: minutes by default.
        arguments.extend(["--kafka-set".to_owned(), "max.poll.interval.ms=10000".to_owned()]);
        arguments.extend(self.topics.flags().into_iter().map(str::to_owned));
        arguments.extend(self.more.iter().map(|&argument| argument.to_owned()));
        arguments.extend(self.lake.iter().flat_map(|lake| lake.options.clone()));
        arguments
    }

    /// Maintains the lake beside whoever writes to it. What it could not do it says by its exit code.
    fn maintain(&self) {
        let data = self.place.data().display().to_string();
        let arguments = ["lake", "maintain", "--min-files", "2", "--keep-snapshots", "3"];
        let arguments = arguments.into_iter().chain(["--keep-hours", "0", "--data", &data]);
        let options = self.lake.iter().flat_map(|lake| lake.options.iter().map(String::as_str));
        let done = self.place.agentflow(arguments.chain(options));
        assert!(matches!(done.code, Some(0 | 2)), "seed {} {:?}: {done:?}", self.seed, self.told);
        assert!(!done.stderr.contains("panicked"), "{done:?}");
    }

    /// Arguments of `run --until-end` over these topics.
    pub fn run_arguments(&self, reads: &[String]) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(self.arguments(reads));
        arguments.extend(["--until-end", "--output", "json"].map(str::to_owned));
        arguments
    }

    pub fn serve(&self) -> Server {
        let mut arguments =
            vec!["serve".to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
        arguments.extend(["--kafka-canary".to_owned(), "off".to_owned()]);
        if self.kind == Kind::SmallDisk {
            // It is to fill up.
            arguments.extend(["--min-free-mib".to_owned(), "0".to_owned()]);
        }
        arguments.extend(self.arguments(&self.reads));
        Server::spawn_in(&self.place, arguments)
    }

    /// Runs until the armed point is reached; a point that is not reached is no fault.
    fn die_at(&self, point: &str, count: u64) {
        let mut child = self
            .place
            .command(self.run_arguments(&self.reads))
            .env("AGENTFLOW_FAIL_POINT", format!("{point}:{count}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        wait_for_end(&mut child);
    }

    pub fn kafka(&self) -> std::sync::MutexGuard<'_, Kafka> {
        lock(self.kafka)
    }

    /// The same broker, not under the lock: a client that waits while the broker is away must not
    /// keep it away.
    pub fn client(&self) -> Kafka {
        Kafka::at(&self.source["kafka:".len()..])
    }

    pub fn group(&self) -> String {
        format!("group-{}", self.reads[0])
    }

    fn pause(&mut self, milliseconds: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(milliseconds)));
    }

    /// Draws a fault and lets it happen; `more` arrives before it, or in its midst.
    pub fn any_fault(&mut self, server: Server, more: &[(&str, &[Record])]) -> Server {
        let fault = Fault::any(&mut self.rng, self.kind);
        self.told.push(format!("{fault:?}"));
        let is_disk_full =
            matches!(fault, Fault::DiskFull | Fault::DiskFullAndKill | Fault::DiskFullAndFreeze);
        if is_disk_full {
            self.place.disk().fill();
        }
        self.produce(more);
        if is_disk_full { self.on_full_disk(server, fault) } else { self.suffer(server, fault) }
    }

    pub fn produce(&mut self, all: &[(&str, &[Record])]) {
        for (topic, records) in all {
            self.client().produce(topic, records);
            self.produced += records.len() as u64;
        }
    }

    fn suffer(&mut self, server: Server, fault: Fault) -> Server {
        match fault {
            Fault::Kill => {
                self.pause(0..400);
                kill(server);
                return self.serve();
            }
            Fault::AtPoint(point, count) => {
                kill(server);
                self.die_at(point, count);
                return self.serve();
            }
            Fault::Stop => {
                assert!(server.stop().success(), "seed {} {:?}", self.seed, self.told);
                return self.serve();
            }
            Fault::Freeze => freeze(&server),
            Fault::Maintenance => self.maintain(),
            Fault::Foreign => {
                let topic = self.reads[self.rng.random_range(0..self.reads.len())].clone();
                let foreign = ForeignMember::join(&self.client(), &self.group(), &topic);
                self.pause(0..300);
                foreign.poll();
            }
            Fault::BrokerKilled => {
                let mut kafka = self.kafka();
                kafka.kill();
                kafka.start();
            }
            Fault::BrokerStopped => {
                let mut kafka = self.kafka();
                kafka.stop();
                std::thread::sleep(Duration::from_millis(1_000));
                kafka.start();
            }
            Fault::Cut => self.kafka().network(Network::Cut, LONGER_THAN_A_SESSION),
            Fault::Stall => self.kafka().network(Network::Stalled, LONGER_THAN_A_SESSION),
            Fault::DiskFull | Fault::DiskFullAndKill | Fault::DiskFullAndFreeze => {
                unreachable!("a disk is filled before records come")
            }
        }
        server
    }

    /// Records came to a full disk: it is noticed, nothing is half done, and room mends it.
    fn on_full_disk(&mut self, mut server: Server, fault: Fault) -> Server {
        self.wait_until(&server, "the disk to be full", || {
            let (_, health) = server.get("/v1/health");
            // What few records need may fit into files that are there.
            health.to_string().contains("no space left") || server.received() == self.produced
        });
        match fault {
            Fault::DiskFullAndKill => {
                kill(server);
                // It may fail, by an exit code of its own, and it may not do harm by trying.
                let tried = self.place.agentflow(self.run_arguments(&self.reads));
                assert!(tried.code.is_some_and(|code| code <= 2), "{tried:?}");
                assert!(!tried.stderr.contains("panicked"), "{tried:?}");
                self.place.disk().make_room();
                server = self.serve();
            }
            Fault::DiskFullAndFreeze => {
                freeze(&server);
                self.place.disk().make_room();
            }
            _ => self.place.disk().make_room(),
        }
        server
    }

    /// Waits until `is_so`; what the process says of itself tells why it never is.
    #[track_caller]
    pub fn wait_until(&self, server: &Server, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(
                started.elapsed() < ARRIVE_WITHIN,
                "seed {} {:?}: waited {ARRIVE_WITHIN:?} for {what}\n{}\n{}",
                self.seed,
                self.told,
                server.get("/v1/health").1,
                server.stderr(),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until as many records were applied as can be.
    #[track_caller]
    pub fn wait_for_all(&self, server: &Server, expected: u64) {
        self.wait_until(server, "all records", || {
            let received = server.received();
            let who = (self.seed, &self.told);
            assert!(received <= expected, "{who:?}: {received} of {expected}");
            received == expected
        });
    }

    /// Position of each partition of a topic as committed.
    pub fn positions(&self, server: &Server, topic: &str, partitions: i32) -> BTreeMap<i32, u64> {
        let position = |partition| {
            server.sum(&format!(
                "agentflow_source_next_offset{{partition=\"kafka:{topic}/{partition}\"}}"
            ))
        };
        (0..partitions).map(|partition| (partition, position(partition))).collect()
    }

    /// The counts of all processes so far, once these topics are read to their end.
    pub fn report(&self, reads: &[String]) -> Value {
        self.place.agentflow(self.run_arguments(reads)).json()
    }

    /// Everything that could be read is there once, and everything says so.
    pub fn judge(&mut self, report: &Value, sample: &Sample) {
        let faults = self.lake.as_ref().map(|lake| format!("; lake {:?}", lake.faults()));
        let faults = faults.unwrap_or_default();
        eprintln!("schedule {}: {}{faults}", self.seed, self.told.join(", "));
        let total = &report["total"];
        assert_eq!(total["accepted"], json!(sample.good.len()), "{total}");
        assert_eq!(total["duplicate"], json!(sample.duplicates), "{total}");
        assert_eq!(total["rejected"], json!(sample.rejected_count()), "{total}");
        self.topics.check(&self.kafka(), &[sample]);
        self.place.lake = self.lake.iter().flat_map(|lake| lake.direct.clone()).collect();
        super::flights::check_all(&self.place, sample, self.seed);
        match &self.lake {
            Some(lake) => lake_readers::check_remote(&lake.services, sample),
            None => lake_readers::check_local(&self.place, sample),
        }
    }
}

fn lock(kafka: &Mutex<Kafka>) -> std::sync::MutexGuard<'_, Kafka> {
    kafka.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Ends a process as a power cut would.
pub fn kill(server: Server) {
    server.signal("KILL");
    server.wait();
}

fn freeze(server: &Server) {
    server.signal("STOP");
    std::thread::sleep(LONGER_THAN_A_SESSION);
    server.signal("CONT");
}
