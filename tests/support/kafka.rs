//! A real broker for tests: topics, records in, committed records out.
//!
//! The address comes from the environment (`infra/test.sh` and `infra/kafka/broker.sh run` set it).
//! A test has topics of its own; one that stops or kills the broker starts a broker of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::proxy::{Network, Proxy};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A broker.
pub struct Kafka {
    pub address: String,
    /// Of a broker of its own: where its data are.
    own: Option<tempfile::TempDir>,
    /// What stands between it and its clients.
    pub proxy: Option<Proxy>,
}

/// One record to produce.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub payload: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    pub fn new(partition: i32, payload: impl Into<Vec<u8>>) -> Self {
        Self { partition, payload: Some(payload.into()), ..Self::default() }
    }
}

#[track_caller]
fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or `infra/kafka/broker.sh run -- cargo test …`")
    })
}

impl Kafka {
    /// The broker that all tests share.
    #[track_caller]
    pub fn shared() -> Self {
        Self { address: from_environment("AGENTFLOW_KAFKA"), own: None, proxy: None }
    }

    /// Some other address of a broker.
    pub fn at(address: &str) -> Self {
        Self { address: address.to_owned(), own: None, proxy: None }
    }

    /// A broker of the test's own, gone with this value.
    #[track_caller]
    pub fn own() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut kafka = Self { address: String::new(), own: Some(folder), proxy: None };
        kafka.start();
        kafka
    }

    /// The same behind a network that can fail.
    #[track_caller]
    pub fn own_behind_proxy() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let proxy = Some(Proxy::start());
        let mut kafka = Self { address: String::new(), own: Some(folder), proxy };
        kafka.start();
        kafka
    }

    /// Lets the network fail for a while.
    pub fn network(&self, network: Network, pause: Duration) {
        let proxy = self.proxy.as_ref().expect("a broker behind a proxy");
        proxy.set(network);
        std::thread::sleep(pause);
        proxy.set(Network::Works);
    }

    fn script(&self, action: &str) -> String {
        let script = from_environment("AGENTFLOW_KAFKA_SCRIPT");
        let folder = self.own.as_ref().expect("a broker of its own").path();
        let mut command = Command::new(script);
        if let Some(proxy) = &self.proxy {
            command.env("AGENTFLOW_KAFKA_ADVERTISED", format!("127.0.0.1:{}", proxy.port));
        }
        let output = command
            .arg(action)
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("the script starts");
        assert!(output.status.success(), "broker.sh {action}: {}", output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts it (again): same data, same port.
    pub fn start(&mut self) {
        self.address = self.script("start");
        if let Some(proxy) = &self.proxy {
            let port = self.address.rsplit_once(':').expect("a port").1;
            proxy.target(port.parse().expect("a number"));
            self.address = format!("127.0.0.1:{}", proxy.port);
        }
    }

    /// Stops it in good order.
    pub fn stop(&self) {
        self.script("stop");
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        self.script("kill");
    }

    /// `kafka:HOST:PORT`
    pub fn source(&self) -> String {
        format!("kafka:{}", self.address)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin<T>(
        &self,
        act: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> T,
    ) -> T {
        let admin: AdminClient<_> = self.client().create().expect("an admin client");
        let options = AdminOptions::new()
            .operation_timeout(Some(ANSWER_WITHIN))
            .request_timeout(Some(ANSWER_WITHIN));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(act(&admin, &options))
    }

    /// A new topic with a name that no other test has.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let topic = format!("{name}-{}-{number}", std::process::id());
        self.create(&topic, partitions);
        topic
    }

    /// Creates a topic; one that is still being deleted is waited for.
    #[track_caller]
    pub fn create(&self, topic: &str, partitions: i32) {
        super::wait_for("a new topic", || {
            let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            let made = self.admin(async |admin, options| {
                admin.create_topics(&[new], options).await.expect("the broker answers").remove(0)
            });
            match made {
                Ok(_) => Some(()),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => None,
                Err((topic, code)) => panic!("create `{topic}`: {code}"),
            }
        });
        // Every client may see it a moment later than the controller.
        super::wait_for("the topic to be seen", || {
            let metadata = self.reader().fetch_metadata(Some(topic), ANSWER_WITHIN).ok()?;
            let seen = metadata.topics().first()?;
            let has_leaders = seen.partitions().iter().all(|partition| partition.leader() >= 0);
            (seen.partitions().len() == partitions as usize && has_leaders).then_some(())
        });
    }

    /// Deletes a topic.
    #[track_caller]
    pub fn delete(&self, topic: &str) {
        let deleted = self.admin(async |admin, options| {
            admin.delete_topics(&[topic], options).await.expect("the broker answers").remove(0)
        });
        deleted.expect("the topic is deleted");
    }

    /// Adds partitions until there are `count`.
    #[track_caller]
    pub fn grow(&self, topic: &str, count: usize) {
        let grown = self.admin(async |admin, options| {
            let new = NewPartitions::new(topic, count);
            admin.create_partitions([&new], options).await.expect("the broker answers").remove(0)
        });
        grown.expect("partitions are added");
    }

    /// Deletes the records before `offset`, as retention would.
    #[track_caller]
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .expect("a valid offset");
        self.admin(async |admin, options| {
            admin.delete_records(&offsets, options).await.expect("records are deleted");
        });
    }

    /// Produces records, acknowledged by all replicas.
    #[track_caller]
    pub fn produce(&self, topic: &str, records: &[Record]) {
        self.produce_with(topic, records, &[]);
    }

    /// Produces with these settings of the client.
    #[track_caller]
    pub fn produce_with(&self, topic: &str, records: &[Record], settings: &[(&str, &str)]) {
        let mut config = self.client();
        config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "2");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let producer: ThreadedProducer<_> = config.create().expect("a producer");
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut message: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).partition(record.partition).headers(headers);
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(payload) = &record.payload {
                message = message.payload(payload);
            }
            loop {
                match producer.send(message) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        message = back;
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err((error, _)) => panic!("produce: {error}"),
                }
            }
        }
        producer.flush(Duration::from_secs(60)).expect("all records are acknowledged");
    }

    fn reader(&self) -> BaseConsumer {
        self.reader_of("read_committed")
    }

    fn reader_of(&self, isolation: &str) -> BaseConsumer {
        let mut config = self.client();
        config
            .set("group.id", format!("test-{}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer")
    }

    /// Offset after the last record of each partition.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        self.ends_of(topic, &self.reader())
    }

    /// Has the topic no open transaction? Then readers of committed records see it to its end.
    pub fn is_settled(&self, topic: &str) -> bool {
        self.ends(topic) == self.ends_of(topic, &self.reader_of("read_uncommitted"))
    }

    fn ends_of(&self, topic: &str, reader: &BaseConsumer) -> BTreeMap<i32, i64> {
        let metadata = reader.fetch_metadata(Some(topic), ANSWER_WITHIN).expect("metadata");
        let partitions = metadata.topics()[0].partitions().iter().map(|p| p.id());
        partitions
            .map(|partition| {
                // A topic that was made just now may have no leader yet.
                let range = super::wait_for("watermarks", || {
                    reader.fetch_watermarks(topic, partition, ANSWER_WITHIN).ok()
                });
                (partition, range.1)
            })
            .collect()
    }

    /// All records of a topic that a `read_committed` reader sees.
    pub fn committed(&self, topic: &str) -> Vec<OwnedMessage> {
        let reader = self.reader();
        let ends = self.ends(topic);
        let mut list = TopicPartitionList::new();
        for partition in ends.keys() {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
        }
        reader.assign(&list).expect("an assignment");
        let mut left = ends.len();
        let mut records = Vec::new();
        let started = Instant::now();
        while left > 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "the topic has no end");
            match reader.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => records.push(message.detach()),
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                Some(Err(error)) => panic!("read `{topic}`: {error}"),
                None => {}
            }
        }
        records
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.own.is_some() && !std::thread::panicking() {
            self.stop();
        } else if let (Some(folder), Ok(script)) =
            (&self.own, std::env::var("AGENTFLOW_KAFKA_SCRIPT"))
        {
            // A second panic would hide the first.
            let _ = Command::new(script).arg("kill").arg(folder.path()).output();
        }
    }
}

/// Header of a record as text.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(header.value?).into_owned())
}

/// A member of the group that is not ours: it takes partitions and commits nothing.
pub struct ForeignMember(BaseConsumer);

impl ForeignMember {
    /// Joins; waits until it has partitions of `topic`, or surely gets none because the others keep
    /// theirs.
    pub fn join(kafka: &Kafka, group: &str, topic: &str) -> Self {
        let mut config = kafka.client();
        let consumer: BaseConsumer = config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            // So that it learns soon when partitions are given to it.
            .set("heartbeat.interval.ms", "300")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            // Closed in the middle of a rebalance a client may not leave: then it is missed soon.
            .set("session.timeout.ms", "3000")
            .set("heartbeat.interval.ms", "500")
            .create()
            .expect("a consumer");
        consumer.subscribe(&[topic]).expect("a subscription");
        let member = Self(consumer);
        let started = Instant::now();
        while member.0.assignment().is_ok_and(|list| list.count() == 0)
            && started.elapsed() < Duration::from_secs(4)
        {
            member.poll();
        }
        member
    }

    /// Takes what there is, and forgets it.
    pub fn poll(&self) {
        while self.0.poll(Duration::from_millis(10)).is_some() {}
    }
}

/// Where `run` and `serve` find the properties of a client that logs in.
pub fn properties(folder: &Path, user: &str, password: &str) -> PathBuf {
    let path = folder.join("client.properties");
    let text = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username={user}\nsasl.password={password}\n"
    );
    std::fs::write(&path, text).expect("write properties");
    path
}

/// The address and the login of the shared broker's listener that asks for one.
pub fn sasl() -> (String, String, String) {
    (
        from_environment("AGENTFLOW_KAFKA_SASL"),
        from_environment("AGENTFLOW_KAFKA_SASL_USER"),
        from_environment("AGENTFLOW_KAFKA_SASL_PASSWORD"),
    )
}

/// The flight that a line is about, if it can be read.
pub fn key(line: &[u8]) -> Option<Vec<u8>> {
    let event: Value = serde_json::from_slice(line).ok()?;
    Some(event.get("flight_id")?.as_str()?.as_bytes().to_vec())
}

/// Where each record comes to lie in a topic that was empty: partition and offset.
pub fn offsets(records: &[Record]) -> Vec<(i32, i64)> {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    records
        .iter()
        .map(|record| {
            let end = ends.entry(record.partition).or_default();
            *end += 1;
            (record.partition, *end - 1)
        })
        .collect()
}

/// The lines of a sample as records: events of one flight in one partition, so that they keep their
/// order.
pub fn flight_records(lines: &[Vec<u8>], partitions: i32) -> Vec<Record> {
    let mut at = 0;
    lines
        .iter()
        .map(|line| {
            at += 1;
            let key = key(line);
            let hash = key.as_ref().map_or(at, |key| key.iter().map(|byte| i32::from(*byte)).sum());
            Record { partition: hash % partitions, key, ..Record::new(0, line.clone()) }
        })
        .collect()
}

/// Every record of the topic has exactly one outcome.
#[track_caller]
pub fn check_ledger(report: &Value, kafka: &Kafka, topic: &str) {
    check_ledger_without(report, kafka, topic, &BTreeMap::new());
}

/// The same of a topic with records that nobody could read, so many for each partition.
#[track_caller]
pub fn check_ledger_without(
    report: &Value,
    kafka: &Kafka,
    topic: &str,
    unread: &BTreeMap<i32, i64>,
) {
    for (partition, end) in kafka.ends(topic) {
        let received = end - unread.get(&partition).copied().unwrap_or_default();
        assert_eq!(outcomes(report, topic, partition), received, "{partition}: {report}");
    }
}

/// How many records of a partition were received; each of them has exactly one outcome.
#[track_caller]
pub fn outcomes(report: &Value, topic: &str, partition: i32) -> i64 {
    let counts = &report["total"]["by_partition"][format!("kafka:{topic}/{partition}")];
    let received = counts["received"].as_i64().unwrap_or_default();
    let outcomes = ["accepted", "duplicate", "rejected", "discarded"];
    let sum: i64 = outcomes.iter().filter_map(|name| counts[*name].as_i64()).sum();
    assert_eq!(sum, received, "{topic}/{partition}: {report}");
    received
}
