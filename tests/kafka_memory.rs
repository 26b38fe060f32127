//! A slow store and a fast topic: what waits, waits in Kafka and not in the process.

mod support;

use support::flights::Sample;
use support::kafka::{Kafka, flight_records};
use support::server::Server;
use support::{Place, wait_for};

const MIB: u64 = 1 << 20;
const PARTITIONS: i32 = 4;
/// Each record has so many bytes, most of them spaces: what is kept of it in the store is small,
/// so what grows is what waits.
const RECORD: usize = 32 << 10;
const BACKLOG: u64 = 600 * MIB;
/// Each commit takes so long that few of them happen while the backlog is produced, on a slow machine
/// too.
const SLOW: &str = "store_before_commit:1:slow=8000";

/// What the settings allow to be in the process at the same time, in MiB.
const ALLOWED: u64 = {
    // Records that were fetched and wait, over all partitions of a member
    // (`KafkaConfig::waiting_bytes`); a fetch that was under way may put another 1 MiB for each
    // partition on top.
    let fetched = 64 + PARTITIONS as u64;
    // On their way to the writer (`CAPACITY` in `pipeline/src/queue.rs`), beside the batch that
    // waits for room there (`Limits::default`).
    let queue = 4 + 24;
    // What the writer took together: up to a queue and a batch.
    let writer = 4 + 24;
    // A buffer that grows is up to twice as large as what is in it, and for a moment there beside
    // the one that it replaces.
    let batches = 3 * (queue + writer);
    // What the rows take in the store, its log and the lake.
    let rows = 64;
    fetched + batches + rows
};

/// The same event with many spaces before it.
fn pad(line: &[u8]) -> Vec<u8> {
    let mut padded = vec![b' '; RECORD.saturating_sub(line.len())];
    padded.extend_from_slice(line);
    padded
}

/// Most memory that the process has had, in MiB.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib >> 10
}

fn serve(place: &Place, kafka: &Kafka, topic: &str) -> Server {
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(["--listen", "127.0.0.1:0", "--kafka-canary", "off"].map(str::to_owned));
    arguments.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
    arguments.extend(["--data".to_owned(), place.data().display().to_string()]);
    arguments.extend(["--from".to_owned(), kafka.source()]);
    arguments.extend(["--kafka-topic".to_owned(), topic.to_owned()]);
    arguments.extend(["--kafka-group".to_owned(), format!("group-{topic}")]);
    arguments.push("--no-dead-letter-topic".to_owned());
    Server::spawn_armed(arguments, SLOW)
}

#[test]
fn a_slow_store_leaves_what_waits_in_kafka() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let topic = kafka.topic("fast", PARTITIONS);
    let server = serve(&place, &kafka, &topic);
    let assigned = |server: &Server| server.stderr().matches("partition assigned").count();
    wait_for("an assignment", || (assigned(&server) == PARTITIONS as usize).then_some(()));
    let idle = peak(&server);
    let sample = Sample::new(600_000, BACKLOG as usize / RECORD / 2, 5);
    let produced = sample.lines.len() as u64;
    for lines in sample.lines.chunks(1_000) {
        let padded: Vec<Vec<u8>> = lines.iter().map(|line| pad(line)).collect();
        kafka.produce(&topic, &flight_records(&padded, PARTITIONS));
    }

    // Some commits later everything that may wait in the process does.
    let mut commits = 0;
    let mut before = 0;
    let received = wait_for("some commits", || {
        let received = server.received();
        commits += u32::from(received > before);
        before = received;
        (commits >= 2).then_some(received)
    });
    let grown = peak(&server) - idle;
    let lag = wait_for("lag to be told", || {
        let lag = server.sum("agentflow_source_lag_records{");
        (lag + server.received() >= produced).then_some(lag)
    });
    eprintln!(
        "idle {idle} MiB, grown by {grown} of {ALLOWED} MiB; {received} received, {lag} wait"
    );
    assert!(lag * RECORD as u64 >= BACKLOG / 4, "the store was fast: {lag} records are left");
    assert!(grown <= ALLOWED, "grown by {grown} MiB");
    // Not in good order: that would wait for what is on its way.
    server.signal("KILL");
    server.wait();
}
