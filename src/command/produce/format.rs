//! The forms that records of Kafka can have.

use clap::ValueEnum;

/// How an event becomes a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RecordFormat {
    /// The event as JSON, as it would be posted.
    Json,
    /// CloudEvents in binary mode: the envelope in `ce_` headers, the rest as JSON.
    Cloudevents,
    /// CloudEvents in structured mode: one JSON document.
    CloudeventsStructured,
    /// Avro as Confluent's clients frame it, by the schema that the contract exports. The schema is
    /// registered under TOPIC-value, or under TOPIC-RECORD where several contracts share a topic
    /// (--topic). Events that are to be rejected and that no schema can hold go as they are, in JSON.
    Avro,
}

/// An event in the form of a record.
pub(super) struct Made {
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
}

impl Made {
    /// A record without headers.
    pub(super) fn body(payload: Vec<u8>) -> Self {
        Self { headers: Vec::new(), payload }
    }
}
