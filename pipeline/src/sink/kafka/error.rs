//! Why a topic is not published, for people, and whether trying again helps.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::context::Context;
use super::position::{Claim, Halt};
use crate::encode::event::WrongColumns;
use crate::source::kafka::{KafkaError, is_refusal};
use crate::store::StoreError;

/// Why a topic is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A setting is not accepted, or the brokers are away or refuse us.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A topic is not there and cannot be created.
    #[error("topic `{topic}` does not exist and cannot be created: {reason}")]
    CreateTopic {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// The topic of positions forgets positions.
    #[error(
        "topic `{topic}` has cleanup.policy={policy}, and positions in it would be forgotten: \
         everything would be published a second time"
    )]
    NotCompacted {
        /// The topic.
        topic: String,
        /// Its policy.
        policy: String,
    },
    /// Another publisher's transaction hides the end of the topic of positions.
    #[error("waiting for the end of another publisher's transaction in topic `{topic}`")]
    Held {
        /// The topic.
        topic: String,
    },
    /// A position was found that is none.
    #[error("the position of `{key}` in topic `{topic}` cannot be read: {message}")]
    UnreadablePosition {
        /// The topic of positions.
        topic: String,
        /// The transactional id.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// The journal could not be read.
    #[error("read the journal for topic `{topic}`")]
    Journal {
        /// The topic.
        topic: String,
        /// The cause.
        source: StoreError,
    },
    /// Journal rows are not as the contracts say.
    #[error("write records for topic `{topic}`")]
    Rows {
        /// The topic.
        topic: String,
        /// What is wrong.
        source: WrongColumns,
    },
    /// A record is longer than the topic takes.
    #[error("position {position} makes a record that is longer than topic `{topic}` takes")]
    TooLong {
        /// The topic.
        topic: String,
        /// Journal position of the record.
        position: i64,
    },
    /// A transaction came to nothing; the next one carries the same records.
    #[error("{action}: {message}")]
    Transaction {
        /// Verb and object.
        action: &'static str,
        /// What librdkafka said.
        message: String,
    },
    /// The client can do nothing any more.
    #[error("{action}: {message}")]
    Fatal {
        /// Verb and object.
        action: &'static str,
        /// What librdkafka said.
        message: String,
    },
    /// The brokers take nothing from this client any more: a newer one has its transactional id, or
    /// its transaction took too long. Which of the two, the topic of positions tells.
    #[error("{action}: {message}")]
    Overtaken {
        /// Verb and object.
        action: &'static str,
        /// What librdkafka said.
        message: String,
    },
    /// Another process publishes with the identity of this data directory.
    #[error("topic `{topic}` is published by another process with the same identity: {by}")]
    Fenced {
        /// The topic.
        topic: String,
        /// The other one.
        by: Claim,
    },
    /// What was published and what the journal holds do not belong together.
    #[error("topic `{topic}`: {halt}")]
    Halted {
        /// The topic.
        topic: String,
        /// What is wrong.
        halt: Halt,
    },
    /// The publisher has been told to stop, or has ended.
    #[error("the publisher of topic `{topic}` has stopped")]
    Stopped {
        /// The topic.
        topic: String,
    },
    /// A flush ended without all records in the topic.
    #[error("publish to topic `{topic}` up to position {until}: {message}")]
    Flush {
        /// The topic.
        topic: String,
        /// Position asked for.
        until: i64,
        /// The last failure.
        message: String,
    },
    /// A thread could not be started.
    #[error("start the thread of a publisher: {0}")]
    Thread(std::io::Error),
}

/// Does trying again help?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Yes, after a while, without starting the process anew.
    WithBackoff,
    /// No, a person has to act and start again.
    Never,
}

impl PublishError {
    /// Can trying again help?
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Kafka(KafkaError::OwnedSetting { .. } | KafkaError::Setting { .. })
            | Self::UnreadablePosition { .. }
            | Self::Rows { .. }
            | Self::Fenced { .. }
            | Self::Halted { .. }
            | Self::Stopped { .. }
            | Self::Thread(_) => Retry::Never,
            Self::Journal { source, .. } => match source {
                StoreError::Failed { retry: false, .. } | StoreError::Corrupt(_) => Retry::Never,
                _ => Retry::WithBackoff,
            },
            // A person may mend these at the brokers, and publishing goes on by itself.
            Self::Kafka(_)
            | Self::CreateTopic { .. }
            | Self::NotCompacted { .. }
            | Self::Held { .. }
            | Self::TooLong { .. }
            | Self::Transaction { .. }
            | Self::Fatal { .. }
            | Self::Overtaken { .. }
            | Self::Flush { .. } => Retry::WithBackoff,
        }
    }

    /// The next step, where there is one.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Kafka(error) => error.hint(),
            Self::CreateTopic { .. } => "create it, or let this user create topics",
            Self::NotCompacted { .. } => "set cleanup.policy=compact for it",
            Self::TooLong { .. } => "raise max.message.bytes of the topic",
            Self::Fenced { .. } => {
                "stop the other process; was the data directory copied? Each copy that publishes \
                 needs an identity of its own: delete `identity.json` in it"
            }
            Self::Halted { halt, .. } => halt.hint(),
            Self::UnreadablePosition { .. } => "who else writes to the topic of positions?",
            Self::Journal { .. }
            | Self::Rows { .. }
            | Self::Held { .. }
            | Self::Transaction { .. }
            | Self::Fatal { .. }
            | Self::Overtaken { .. }
            | Self::Stopped { .. }
            | Self::Flush { .. }
            | Self::Thread(_) => return None,
        })
    }

    /// Sorts what librdkafka says of a transaction by its own classes.
    pub(super) fn of_client(action: &'static str, error: &ClientError) -> Self {
        let message = error.to_string();
        let code = error.rdkafka_error_code();
        let overtaken = matches!(
            code,
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        );
        let is_fatal = match error {
            ClientError::Transaction(error) => error.is_fatal(),
            _ => code == Some(RDKafkaErrorCode::Fatal),
        };
        match is_fatal {
            _ if overtaken => Self::Overtaken { action, message },
            // Rights can be granted while we wait.
            true if !code.is_some_and(is_refusal) => Self::Fatal { action, message },
            _ => Self::Transaction { action, message },
        }
    }

    /// From a question to the brokers that got no answer.
    pub(super) fn unreachable(brokers: &str, context: &Context, error: &ClientError) -> Self {
        let heard = context.error();
        let (code, message) = heard.unwrap_or((error.rdkafka_error_code(), error.to_string()));
        let brokers = brokers.to_owned();
        match code {
            Some(code) if is_refusal(code) => KafkaError::Refused { brokers, message }.into(),
            _ => KafkaError::Unreachable { brokers, message }.into(),
        }
    }
}

/// An error with its causes, as one sentence.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
