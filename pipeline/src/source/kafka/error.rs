//! Why Kafka cannot be read, for people.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

/// Why Kafka cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// A setting that exactly-once rests on.
    #[error("the Kafka setting `{key}` cannot be changed: {reason}")]
    OwnedSetting {
        /// The setting.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// librdkafka does not take a setting.
    #[error("the Kafka setting `{key}` = `{value}` is not accepted: {message}")]
    Setting {
        /// The setting.
        key: String,
        /// Its value.
        value: String,
        /// What librdkafka said.
        message: String,
    },
    /// No contract names a topic.
    #[error("no event contract names a topic")]
    NoTopics,
    /// A topic that is not there.
    #[error("topic `{topic}` does not exist on `{brokers}`")]
    NoTopic {
        /// The topic or pattern.
        topic: String,
        /// The brokers.
        brokers: String,
    },
    /// No broker answered.
    #[error("no Kafka broker answers at `{brokers}`: {message}")]
    Unreachable {
        /// The brokers.
        brokers: String,
        /// What was seen last.
        message: String,
    },
    /// The brokers refuse us.
    #[error("the Kafka brokers at `{brokers}` refuse the connection: {message}")]
    Refused {
        /// The brokers.
        brokers: String,
        /// What they said.
        message: String,
    },
    /// The brokers are too old.
    #[error(
        "the Kafka brokers at `{brokers}` are too old: they do not know topic ids (Kafka 2.8 or newer)"
    )]
    TooOld {
        /// The brokers.
        brokers: String,
    },
    /// Topics whose reading was stopped.
    #[error("{}", .halted.iter().map(|(what, why)| format!("`{what}`: {why}")).collect::<Vec<_>>().join("; "))]
    Halted {
        /// Partition or topic, and why.
        halted: Vec<(String, String)>,
    },
    /// The client cannot go on.
    #[error("{action}: {cause}")]
    Client {
        /// Verb and object.
        action: &'static str,
        /// What librdkafka said.
        cause: ClientError,
    },
    /// A thread could not be started.
    #[error("start a thread for the Kafka source: {0}")]
    Thread(std::io::Error),
}

impl KafkaError {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::OwnedSetting { .. } => "leave it out",
            Self::Setting { .. } => {
                "the settings and their values are listed in librdkafka's CONFIGURATION.md"
            }
            Self::NoTopics => {
                "add `topic:` to the event contracts, or name topics on the command line"
            }
            Self::NoTopic { .. } => "create it, or correct `topic:` in the contract",
            Self::Unreachable { .. } => {
                "is the broker running, and is the address the one it advertises?"
            }
            Self::Refused { .. } => {
                "check security.protocol, sasl.mechanism, user name, password and certificates"
            }
            Self::TooOld { .. } => "update the brokers",
            Self::Halted { .. } => {
                "give the data a new topic name or a new data directory, or choose what to do with \
                 offsets out of range"
            }
            Self::Client { .. } | Self::Thread(_) => "see the log for what went before",
        }
    }

    /// From the making of a client.
    pub(crate) fn of_settings(error: ClientError) -> Self {
        match error {
            ClientError::ClientConfig(_, message, key, value) => {
                Self::Setting { value: masked(&key, value), key, message }
            }
            cause => Self::Client { action: "make a Kafka client", cause },
        }
    }
}

/// Secrets never stand in a message.
fn masked(key: &str, value: String) -> String {
    let is_secret =
        ["password", "secret", "key", "token", "jaas"].iter().any(|word| key.contains(word));
    if is_secret { "…".to_owned() } else { value }
}

/// Does the error say that credentials or certificates are wrong, which waiting does not mend?
pub fn is_refused(error: &ClientError) -> bool {
    error.rdkafka_error_code().is_some_and(is_refusal)
}

/// Does the code say that credentials or certificates are wrong, which waiting does not mend?
pub(crate) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        assert_eq!(masked("sasl.password", "x".to_owned()), "…");
        assert_eq!(masked("ssl.key.pem", "x".to_owned()), "…");
        assert_eq!(masked("sasl.mechanism", "x".to_owned()), "x");
    }
}
