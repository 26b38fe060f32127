//! A record on its way to a topic.

use std::fmt;

use rdkafka::message::{Header, OwnedHeaders};

/// Names of the headers that we add. A record that had one of these names already has both; ours
/// comes last, and the last one is what Kafka's clients give for a name.
pub mod header {
    /// Tenant.
    pub const TENANT: &str = "agentflow.tenant";
    /// Name of the event contract.
    pub const CONTRACT: &str = "agentflow.contract";
    /// Its version.
    pub const CONTRACT_VERSION: &str = "agentflow.contract_version";
    /// Event type.
    pub const EVENT_TYPE: &str = "agentflow.event_type";
    /// Of a validated event: journal sequence number.
    pub const SEQ: &str = "agentflow.seq";
    /// Of a validated event: `true` when it was late, else `false`.
    pub const LATE: &str = "agentflow.late";
    /// Of a validated event: the rules with severity `warning` that it broke, comma separated.
    pub const WARNINGS: &str = "agentflow.warnings";
    /// Of a dead letter: its id, as `agentflow deadletters` and the API show it.
    pub const ID: &str = "agentflow.id";
    /// Of a dead letter: the source partition, `kafka:TOPIC/NUMBER`, `file:PATH` or `http`.
    pub const SOURCE: &str = "agentflow.source";
    /// Of a dead letter from Kafka: its topic.
    pub const TOPIC: &str = "agentflow.topic";
    /// Of a dead letter from Kafka: its partition.
    pub const PARTITION: &str = "agentflow.partition";
    /// Of a dead letter: its offset in the source partition.
    pub const OFFSET: &str = "agentflow.offset";
    /// Of a dead letter: when it arrived, RFC 3339; of a Kafka record, the time that it carries,
    /// unless that lay in the future.
    pub const ARRIVED_AT: &str = "agentflow.arrived_at";
    /// Of a dead letter: the stage that decided.
    pub const STAGE: &str = "agentflow.stage";
    /// Of a dead letter: reason code.
    pub const REASON: &str = "agentflow.reason";
    /// Of a dead letter: the field concerned.
    pub const FIELD: &str = "agentflow.field";
    /// Of a dead letter: the rule concerned.
    pub const RULE: &str = "agentflow.rule";
    /// Of a dead letter: what was found and what was expected, for people.
    pub const DETAIL: &str = "agentflow.detail";
    /// Of a dead letter: event id, as far as it could be read.
    pub const EVENT_ID: &str = "agentflow.event_id";
    /// Of a dead letter: event time, as far as it could be read, RFC 3339.
    pub const EVENT_TIME: &str = "agentflow.event_time";
    /// Of a dead letter without its payload, which is longer than the topic takes: the payload's
    /// length in bytes.
    pub const LEFT_OUT: &str = "agentflow.payload_left_out";
}

/// A record.
#[derive(Debug)]
pub(super) struct Record<'a> {
    /// Journal sequence number, or a dead letter's id.
    pub(super) position: i64,
    pub(super) mark: Mark<'a>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers,
}

impl Record<'_> {
    /// Bytes of key, value and headers.
    pub(super) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.bytes
    }
}

/// What tells a row from every other that could stand at its position; see [`super::position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// The id hash of an event.
    Event { hi: i64, lo: i64 },
    /// Where a dead letter came from.
    DeadLetter { source: &'a str, offset: i64 },
}

impl fmt::Display for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { hi, lo } => write!(f, "{hi:016x}{lo:016x}"),
            Self::DeadLetter { source, offset } => write!(f, "{source}@{offset}"),
        }
    }
}

/// Headers under construction.
#[derive(Debug)]
pub(super) struct Headers {
    list: OwnedHeaders,
    bytes: usize,
}

impl Headers {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { list: OwnedHeaders::new_with_capacity(count), bytes: 0 }
    }

    /// Adds one; its name may not contain a zero byte and its value may be absent.
    pub(super) fn add(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.bytes += key.len() + value.map_or(0, <[u8]>::len);
        self.list = self.list.insert(Header { key, value });
        self
    }

    /// Adds a text.
    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.add(key, Some(value.as_bytes()))
    }

    /// Adds a text if there is one.
    pub(super) fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    pub(super) fn into_list(self) -> OwnedHeaders {
        self.list
    }
}
