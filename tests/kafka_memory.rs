//! A slow store and a fast topic: what waits, waits in Kafka and not in the process.

mod support;

use support::kafka::{Kafka, Record};
use support::server::Server;
use support::{Place, wait_for};

const MIB: u64 = 1 << 20;
const PARTITIONS: i32 = 4;
/// Records that are rejected, each with its bytes: nothing is made smaller on its way.
const RECORD: u64 = 32 << 10;
const RECORDS: u64 = 600 * MIB / RECORD;
/// Each commit takes so long: a few records a second.
const SLOW: &str = "store_before_commit:1:slow=2000";

/// What the settings allow to be in the process at the same time, in MiB.
const ALLOWED: u64 = {
    // Records that were fetched and wait, over all partitions of a member
    // (`KafkaConfig::waiting_bytes`); a fetch that was under way may put another 1 MiB for each
    // partition on top.
    let fetched = 64 + PARTITIONS as u64;
    // On their way to the writer (`CAPACITY` in `pipeline/src/queue.rs`), beside the batch that
    // waits for room there (`Limits::default`).
    let queue = 4 + 24;
    // What the writer took together: up to a queue and a batch, as bytes, as dead letters, and as
    // rows that are given to the store.
    let writer = 3 * (4 + 24);
    // The store's own buffers are bounded by its `memory_limit_mib`, of which the bytes of a
    // transaction under way are the part that grows here.
    let store = 2 * (4 + 24);
    // What the allocator keeps of all that after it was given back.
    let allocator = (fetched + queue + writer + store) / 4;
    fetched + queue + writer + store + allocator
};

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
    let record = |n: u64| Record::new((n % PARTITIONS as u64) as i32, vec![b'x'; RECORD as usize]);
    let records: Vec<Record> = (0..256).map(record).collect();
    for _ in 0..RECORDS / 256 {
        kafka.produce(&topic, &records);
    }

    // Some commits later everything that may wait in the process does.
    let mut commits = 0;
    let mut before = 0;
    let received = wait_for("some commits", || {
        let received = server.received();
        commits += u32::from(received > before);
        before = received;
        (commits >= 4).then_some(received)
    });
    let grown = peak(&server) - idle;
    let lag = wait_for("lag to be told", || {
        let lag = server.sum("agentflow_source_lag_records{");
        (lag + server.received() >= RECORDS).then_some(lag)
    });
    println!(
        "idle {idle} MiB, grown by {grown} MiB, allowed {ALLOWED} MiB; {received} received, {lag} wait"
    );
    assert!(lag * RECORD >= 300 * MIB, "the store was fast: {lag} records are left");
    assert!(grown <= ALLOWED, "grown by {grown} MiB");
    // Not in good order: that would wait for what is on its way.
    server.signal("KILL");
    server.wait();
}
