//! Settings of the Kafka source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contracts::model::Format;
use rdkafka::ClientConfig;

use super::canary::{self, CanaryConfig};
use super::error::KafkaError;
use super::properties::{ClientKind, settings_for};
use super::start::{OutOfRange, StartAt};

/// Settings that exactly-once rests on, with the reason why they cannot be set.
const OWNED: [(&str, &str); 11] = [
    ("bootstrap.servers", "the source names the brokers"),
    ("group.id", "it is a setting of its own"),
    ("group.protocol", "partitions are handed over by the classic cooperative protocol"),
    ("enable.auto.commit", "positions are committed with their effects, in the serving store"),
    (
        "enable.auto.offset.store",
        "positions are committed with their effects, in the serving store",
    ),
    ("auto.offset.reset", "an offset out of range follows a policy of its own"),
    ("partition.assignment.strategy", "partitions are handed over cooperatively"),
    ("enable.partition.eof", "the end of a partition must be seen"),
    ("statistics.interval.ms", "lag is read from the statistics"),
    ("queued.max.messages.kbytes", "it is derived from the memory for records that wait"),
    ("isolation.level", "records of aborted transactions never happened"),
];

/// Topics to read, by name or by pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// A topic's name; starting with `^`, a pattern for names as Kafka clients take it.
    pub text: String,
    /// How its records are encoded.
    pub format: Format,
}

impl TopicSpec {
    /// Is it a pattern?
    pub fn is_pattern(&self) -> bool {
        self.text.starts_with('^')
    }

    /// Does it stand for the topic of that name?
    pub fn matches(&self, topic: &str) -> bool {
        match self.is_pattern() {
            false => self.text == topic,
            true => regex::Regex::new(&self.text).is_ok_and(|pattern| pattern.is_match(topic)),
        }
    }
}

/// What to read, from where and how.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Brokers to ask first: `host:port`, comma separated.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Topics.
    pub topics: Vec<TopicSpec>,
    /// Tenant of records that name none.
    pub tenant: Arc<str>,
    /// Group members in this process, each with threads of its own.
    pub members: usize,
    /// Where to start in a topic of which nothing was ever read.
    pub start: StartAt,
    /// What to do with a position that is not among the offsets.
    pub out_of_range: OutOfRange,
    /// End at the offsets that were the last ones when a partition was assigned, instead of
    /// waiting for more.
    pub until_end: bool,
    /// How long a partition that is taken away may wait for records on their way to the store.
    pub drain_within: Duration,
    /// Memory for records that were fetched and wait, over all partitions of a member.
    pub waiting_bytes: usize,
    /// Measures freshness with records of its own; `None`: not.
    pub canary: Option<CanaryConfig>,
    /// Settings of librdkafka: TLS, SASL and whatever else it knows; see [`settings_for`].
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The defaults, for a domain's topics.
    pub fn new(brokers: String, group: String, topics: Vec<TopicSpec>, tenant: Arc<str>) -> Self {
        Self {
            brokers,
            group,
            topics,
            tenant,
            members: 1,
            start: StartAt::default(),
            out_of_range: OutOfRange::default(),
            until_end: false,
            drain_within: Duration::from_secs(10),
            waiting_bytes: 64 << 20,
            canary: None,
            properties: BTreeMap::new(),
        }
    }

    /// Is it the topic of canaries?
    pub(super) fn is_canary(&self, topic: &str) -> bool {
        let ours = self.canary.as_ref().map_or(canary::TOPIC, |canary| canary.topic.as_str());
        topic == ours
    }

    /// Settings of a client that reads `partitions` partitions.
    pub(super) fn client(
        &self,
        member: usize,
        partitions: usize,
    ) -> Result<ClientConfig, KafkaError> {
        let mut client = ClientConfig::new();
        let waiting = (self.waiting_bytes / partitions.max(1)).clamp(1 << 20, 16 << 20);
        let defaults = [
            ("client.id", format!("agentflow-{member}")),
            // A lone record goes at once; 100 ms bound how long an idle fetch hides a new end.
            ("fetch.wait.max.ms", "100".to_owned()),
            // After a fetch that found the queue full: look again soon.
            ("fetch.queue.backoff.ms", "10".to_owned()),
            ("topic.metadata.refresh.interval.ms", "5000".to_owned()),
            // A process that was killed leaves its group only when its session is over, and until
            // then nobody has its partitions. The client's own default is 45 s.
            ("session.timeout.ms", "10000".to_owned()),
            ("allow.auto.create.topics", "false".to_owned()),
            ("reconnect.backoff.ms", "50".to_owned()),
            ("reconnect.backoff.max.ms", "2000".to_owned()),
        ];
        for (key, value) in defaults {
            client.set(key, value);
        }
        for (key, value) in settings_for(&self.properties, ClientKind::Consumer) {
            if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == key) {
                return Err(KafkaError::OwnedSetting { key: key.to_owned(), reason });
            }
            client.set(key, value);
        }
        let owned = [
            ("bootstrap.servers", self.brokers.clone()),
            ("group.id", self.group.clone()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("auto.offset.reset", "error".to_owned()),
            ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
            ("statistics.interval.ms", "1000".to_owned()),
            ("queued.max.messages.kbytes", (waiting >> 10).to_string()),
            ("isolation.level", "read_committed".to_owned()),
        ];
        for (key, value) in owned {
            client.set(key, value);
        }
        Ok(client)
    }

    /// The format of a topic that was subscribed to.
    pub(super) fn format(&self, topic: &str) -> Format {
        // A topic that is named goes before patterns that it matches too.
        let named = self.topics.iter().find(|spec| !spec.is_pattern() && spec.matches(topic));
        let spec = named.or_else(|| self.topics.iter().find(|spec| spec.matches(topic)));
        spec.map_or_else(Format::default, |spec| spec.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(topics: &[(&str, Format)]) -> KafkaConfig {
        let spec = |(text, format): &(&str, Format)| TopicSpec {
            text: (*text).to_owned(),
            format: *format,
        };
        let topics = topics.iter().map(spec).collect();
        KafkaConfig::new("127.0.0.1:9".to_owned(), "g".to_owned(), topics, "default".into())
    }

    #[test]
    fn settings_that_exactly_once_rests_on_are_refused() {
        for (key, _) in OWNED {
            let mut config = config(&[]);
            config.properties.insert(key.to_owned(), "x".to_owned());
            let error = config.client(0, 1).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn other_settings_go_before_the_defaults() {
        let mut config = config(&[]);
        config.properties.insert("client.id".to_owned(), "mine".to_owned());
        config.properties.insert("sasl.mechanism".to_owned(), "PLAIN".to_owned());
        config.properties.insert("consumer.fetch.min.bytes".to_owned(), "2".to_owned());
        config.properties.insert("producer.linger.ms".to_owned(), "20".to_owned());
        let client = config.client(0, 1).expect("allowed");
        assert_eq!(client.get("client.id"), Some("mine"));
        assert_eq!(client.get("sasl.mechanism"), Some("PLAIN"));
        assert_eq!(client.get("fetch.min.bytes"), Some("2"));
        assert_eq!(client.get("linger.ms"), None);
        config.properties.insert("consumer.group.id".to_owned(), "x".to_owned());
        assert!(config.client(0, 1).is_err(), "a prefix opens no door");
    }

    #[test]
    fn memory_is_shared_by_the_partitions() {
        let waiting = |partitions| {
            let client = config(&[]).client(0, partitions).expect("allowed");
            client.get("queued.max.messages.kbytes").map(str::to_owned)
        };
        assert_eq!(waiting(1).as_deref(), Some("16384"));
        assert_eq!(waiting(8).as_deref(), Some("8192"));
        assert_eq!(waiting(1_000).as_deref(), Some("1024"));
    }

    #[test]
    fn a_name_goes_before_a_pattern() {
        let config = config(&[("^orders\\..*", Format::Avro), ("orders.raw", Format::Json)]);
        assert_eq!(config.format("orders.raw"), Format::Json);
        assert_eq!(config.format("orders.new"), Format::Avro);
    }
}
