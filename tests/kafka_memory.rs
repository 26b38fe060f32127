//! A slow store and a fast topic: what waits, waits in Kafka and not in the process.

mod support;

use support::flights::Sample;
use support::kafka::{Kafka, Record, flight_records};
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

fn serve(place: &Place, kafka: &Kafka, topic: &str, more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(["--listen", "127.0.0.1:0", "--kafka-canary", "off"].map(str::to_owned));
    arguments.extend(["--contracts".to_owned(), place.contracts.display().to_string()]);
    arguments.extend(["--data".to_owned(), place.data().display().to_string()]);
    arguments.extend(["--from".to_owned(), kafka.source()]);
    arguments.extend(["--kafka-topic".to_owned(), topic.to_owned()]);
    arguments.extend(["--kafka-group".to_owned(), format!("group-{topic}")]);
    arguments.extend(more.iter().map(|text| (*text).to_owned()));
    arguments
}

/// The process reads its topic; how much memory it has had until now.
fn idle(server: &Server) -> u64 {
    let assigned = || server.stderr().matches("partition assigned").count();
    wait_for("an assignment", || (assigned() == PARTITIONS as usize).then_some(()));
    peak(server)
}

#[test]
fn a_slow_store_leaves_what_waits_in_kafka() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let topic = kafka.topic("fast", PARTITIONS);
    let arguments = serve(&place, &kafka, &topic, &["--no-dead-letter-topic"]);
    let server = Server::spawn_armed(arguments, SLOW);
    let idle = idle(&server);
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

/// What a store may keep in memory (`StoreOptions::memory_limit_mib`).
const STORE: u64 = 384;
/// What a follower holds of the journal: what it has read (`LakeConfig::chunk_bytes`), the same in the
/// columns of a file, and what is encoded and waits; a publisher holds less.
const FOLLOWERS: u64 = 4 * 32;

/// About the longest record that a broker takes by default.
const HUGE: usize = 900_000;

/// Records of which all is kept: the store and its followers read and write them by their bytes.
#[test]
fn large_dead_letters_are_carried_in_pieces() {
    let kafka = Kafka::shared();
    let place = Place::of("flights");
    let topic = kafka.topic("large", PARTITIONS);
    let dead_letters = kafka.topic("large-letters", 1);
    let arguments = serve(&place, &kafka, &topic, &["--dead-letter-topic", &dead_letters]);
    let server = Server::spawn(arguments);
    let idle = idle(&server);
    let mut produced = 0;
    // More of each than the store may have in memory.
    for (size, count) in [(RECORD, 13_000), (HUGE, 500)] {
        let letter = vec![b'x'; size];
        let record = |n| Record::new(n % PARTITIONS, &*letter);
        let records: Vec<Record> = (0..count / 50).map(record).collect();
        (0..50).for_each(|_| kafka.produce(&topic, &records));
        produced += 50 * records.len() as u64;
    }
    wait_for("everything to be read", || (server.received() == produced).then_some(()));
    wait_for("everything to be published", || {
        (kafka.ends(&dead_letters)[&0] as u64 >= produced).then_some(())
    });
    wait_for("everything to be in the lake", || {
        let (_, lake) = server.get("/v1/lake");
        let tables = lake["tables"].as_array()?;
        let letters = tables.iter().find(|table| table["name"] == "dead_letters")?;
        (letters["rows"] == produced).then_some(())
    });
    let grown = peak(&server) - idle;
    eprintln!("idle {idle} MiB, grown by {grown} of {} MiB", ALLOWED + STORE + FOLLOWERS);
    assert!(server.stop().success());
    assert!(grown <= ALLOWED + STORE + FOLLOWERS, "grown by {grown} MiB");
}
