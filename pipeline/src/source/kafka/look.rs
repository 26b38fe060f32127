//! A first look at the brokers, before anything is read: are they there, do they take us, are they
//! new enough, which topics are there?

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use tracing::debug;

use super::config::KafkaConfig;
use super::error::{KafkaError, is_refusal};
use super::native;

/// Longest wait for a first answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(500);

/// What was seen.
pub(super) struct Seen {
    /// Partitions of all topics that are there.
    pub(super) partitions: BTreeSet<(String, i32)>,
    /// Names and patterns that stand for no topic.
    pub(super) missing: Vec<String>,
}

/// Keeps the last error of the client.
#[derive(Default)]
struct Listener {
    last: Mutex<Option<(Option<RDKafkaErrorCode>, String)>>,
}

/// One context for the client and for us.
#[derive(Clone, Default)]
struct Shared(Arc<Listener>);

impl ClientContext for Shared {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "kafka client");
    }

    fn error(&self, error: ClientError, reason: &str) {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_refused = |code: Option<RDKafkaErrorCode>| code.is_some_and(is_refusal);
        // "All brokers are down" comes after what brought them down.
        if last.as_ref().is_none_or(|(code, _)| !is_refused(*code)) {
            *last = Some((error.rdkafka_error_code(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Shared {}

/// Asks for the topics of `config`.
pub(super) fn look(config: &KafkaConfig) -> Result<Seen, KafkaError> {
    let context = Shared::default();
    let client: BaseConsumer<Shared> = config
        .client(0, 1)?
        .create_with_context(context.clone())
        .map_err(KafkaError::of_settings)?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    let metadata = loop {
        let answer = client.fetch_metadata(None, STEP);
        // Errors come with a poll.
        let polled = client.poll(Duration::ZERO);
        drop(polled);
        let heard = context.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let error = match answer {
            Ok(metadata) => break metadata,
            Err(error) => error,
        };
        let (code, message) = heard.unwrap_or((error.rdkafka_error_code(), error.to_string()));
        let brokers = config.brokers.clone();
        if code.is_some_and(is_refusal) {
            return Err(KafkaError::Refused { brokers, message });
        }
        if Instant::now() >= deadline {
            return Err(KafkaError::Unreachable { brokers, message });
        }
    };
    let there: Vec<(&str, usize)> = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none())
        .map(|topic| (topic.name(), topic.partitions().len()))
        .collect();
    let mut seen = Seen { partitions: BTreeSet::new(), missing: Vec::new() };
    for spec in &config.topics {
        let mut is_there = false;
        for (name, count) in there.iter().filter(|(name, _)| spec.matches(name)) {
            is_there = true;
            let numbers = 0..i32::try_from(*count).unwrap_or(i32::MAX);
            seen.partitions.extend(numbers.map(|number| ((*name).to_owned(), number)));
        }
        if !is_there {
            seen.missing.push(spec.text.clone());
        }
    }
    if let Some((name, _)) = there.first() {
        let asked = native::describe_topics(&client, &[(*name).to_owned()], ANSWER_WITHIN);
        if asked.is_err_and(native::is_too_old) {
            return Err(KafkaError::TooOld { brokers: config.brokers.clone() });
        }
    }
    Ok(seen)
}
