//! Settings of a publisher.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::Serialize;

use crate::source::kafka::{ClientKind, KafkaError, settings_for};

/// Settings that exactly-once rests on, with the reason why they cannot be set.
const OWNED: [(&str, &str); 8] = [
    ("bootstrap.servers", "the brokers are named by a setting of their own"),
    ("transactional.id", "it is derived from the data directory and the topic"),
    ("transaction.timeout.ms", "a publisher bounds its transactions itself"),
    ("enable.idempotence", "records must be written once"),
    ("acks", "a record must be on all replicas in sync before its position counts"),
    (
        "request.required.acks",
        "a record must be on all replicas in sync before its position counts",
    ),
    ("delivery.report.only.error", "failed records are told by their reports"),
    ("isolation.level", "records of aborted transactions never happened"),
];

/// What a topic is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Rejected records: the original key, bytes and headers, and why they were rejected.
    DeadLetters,
    /// Accepted events as JSON.
    ValidatedEvents,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeadLetters => "dead letters",
            Self::ValidatedEvents => "validated events",
        })
    }
}

/// Settings of one publisher. [`PublisherConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct PublisherConfig {
    /// Brokers to ask first: `host:port`, comma separated.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// What is published to it.
    pub content: Content,
    /// The compacted topic in which positions are kept. Publishers of several data directories may
    /// share it.
    pub positions: String,
    /// Partitions of the topic when it has to be created; by default as many as the brokers say.
    pub partitions: Option<u16>,
    /// Most rows in one transaction.
    pub max_rows: usize,
    /// A transaction is committed once it has this many bytes of keys, values and headers.
    pub max_bytes: usize,
    /// How often the publisher looks at the journal's end.
    pub poll_interval: Duration,
    /// After this time the brokers abort a transaction whose publisher says nothing any more. So
    /// long at most do readers of committed records wait for a publisher that died.
    pub transaction_timeout: Duration,
    /// How long [`super::PublisherHandle::flush`] keeps trying while the brokers refuse.
    pub flush_timeout: Duration,
    /// Settings of librdkafka: TLS, SASL and whatever else it knows; see [`settings_for`].
    pub properties: BTreeMap<String, String>,
}

impl PublisherConfig {
    /// Name of the dead-letter topic unless another is given.
    pub const DEAD_LETTERS: &str = "events.deadletter";
    /// Name of the topic of validated events that is proposed.
    pub const VALIDATED_EVENTS: &str = "events.validated";
    /// Name of the topic of positions unless another is given.
    pub const POSITIONS: &str = "agentflow.positions";

    /// The defaults.
    pub fn new(brokers: &str, topic: &str, content: Content) -> Self {
        Self {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            content,
            positions: Self::POSITIONS.to_owned(),
            partitions: None,
            max_rows: 5_000,
            max_bytes: 4 << 20,
            poll_interval: Duration::from_millis(100),
            transaction_timeout: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(60),
            properties: BTreeMap::new(),
        }
    }

    /// Are all settings known, and none of them ours?
    pub fn check(&self) -> Result<(), KafkaError> {
        self.producer("check")?.create_native_config().map_err(KafkaError::of_settings)?;
        Ok(())
    }

    /// Settings of any client.
    pub(super) fn client(&self, kind: ClientKind) -> Result<ClientConfig, KafkaError> {
        let mut client = ClientConfig::new();
        let defaults = [
            ("client.id", "agentflow-publisher"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "2000"),
            // A topic that is gone fails its transaction soon, and is looked at again.
            ("topic.metadata.propagation.max.ms", "5000"),
        ];
        for (key, value) in defaults {
            client.set(key, value);
        }
        for (key, value) in settings_for(&self.properties, kind) {
            if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == key) {
                return Err(KafkaError::OwnedSetting { key: key.to_owned(), reason });
            }
            client.set(key, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        Ok(client)
    }

    /// Settings of the client that publishes.
    pub(super) fn producer(&self, transactional_id: &str) -> Result<ClientConfig, KafkaError> {
        let mut client = self.client(ClientKind::Producer)?;
        let defaults = [
            // Where Java's clients put a key, so that topics of both can be joined.
            ("partitioner", "murmur2_random".to_owned()),
            ("compression.type", "lz4".to_owned()),
            // A transaction is sent at once; what waits longer only delays its commit.
            ("linger.ms", "2".to_owned()),
            // How long a record may be is for the brokers to say.
            ("message.max.bytes", (64 << 20).to_string()),
        ];
        for (key, value) in defaults {
            if client.get(key).is_none() {
                client.set(key, value);
            }
        }
        client
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", self.transaction_timeout.as_millis().to_string())
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("delivery.report.only.error", "true");
        Ok(client)
    }

    /// Settings of a client that reads the topic of positions.
    pub(super) fn consumer(&self, isolation: &str) -> Result<ClientConfig, KafkaError> {
        let mut client = self.client(ClientKind::Consumer)?;
        client
            // Partitions are assigned by hand: nobody joins this group, and it keeps no offsets.
            .set("group.id", "agentflow-positions")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "50")
            .set("isolation.level", isolation);
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> PublisherConfig {
        PublisherConfig::new("127.0.0.1:9", "t", Content::DeadLetters)
    }

    #[test]
    fn settings_that_exactly_once_rests_on_are_refused() {
        for (key, _) in OWNED {
            let mut config = config();
            config.properties.insert(key.to_owned(), "x".to_owned());
            let error = config.check().expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn other_settings_go_before_the_defaults() {
        let mut config = config();
        config.properties.insert("compression.type".to_owned(), "zstd".to_owned());
        config.properties.insert("producer.linger.ms".to_owned(), "20".to_owned());
        config.properties.insert("consumer.no.such.setting".to_owned(), "1".to_owned());
        config.check().expect("allowed");
        let client = config.producer("id").expect("allowed");
        assert_eq!(client.get("compression.type"), Some("zstd"));
        assert_eq!(client.get("linger.ms"), Some("20"));
        assert_eq!(client.get("transactional.id"), Some("id"));
        config.properties.insert("no.such.setting".to_owned(), "1".to_owned());
        assert!(config.check().expect_err("unknown").to_string().contains("no.such.setting"));
    }
}
