//! What the clients call back: log lines, errors, records that could not be delivered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tracing::{debug, info, warn};

use super::error::PublishError;
use crate::source::kafka::is_refusal;

/// Longest wait for an answer of the brokers.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long one question waits, so that a publisher that is to end does not wait for brokers.
const STEP: Duration = Duration::from_secs(1);

/// Asks the brokers until they answer, for [`ANSWER_WITHIN`] at most; `question` is given the time
/// that it may take.
pub(super) fn ask<T>(
    brokers: &str,
    context: &Context,
    is_stopped: &dyn Fn() -> bool,
    mut question: impl FnMut(Duration) -> Result<T, ClientError>,
) -> Result<T, PublishError> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        let asked_at = Instant::now();
        match question(STEP) {
            Ok(answer) => return Ok(answer),
            Err(_) if Instant::now() < deadline && !is_stopped() => {
                // Some failures come at once.
                std::thread::sleep((STEP / 10).saturating_sub(asked_at.elapsed()));
            }
            Err(error) => return Err(PublishError::unreachable(brokers, context, &error)),
        }
    }
}

/// One context for all clients of a publisher. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Context(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    error: Option<(Option<RDKafkaErrorCode>, String)>,
    undelivered: Option<(usize, RDKafkaErrorCode)>,
}

impl Context {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was heard.
    pub(super) fn clear(&self) {
        *self.lock() = Heard::default();
    }

    /// The last error of a client as a whole.
    pub(super) fn error(&self) -> Option<(Option<RDKafkaErrorCode>, String)> {
        self.lock().error.clone()
    }

    /// The first record that could not be delivered, by its number in the transaction.
    pub(super) fn take_undelivered(&self) -> Option<(usize, RDKafkaErrorCode)> {
        self.lock().undelivered.take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // Settings of readers that writers do not have, and the other way round.
            _ if facility == "CONFWARN" => debug!(facility, message, "kafka client"),
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(facility, message, "kafka client"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                info!(facility, message, "kafka client");
            }
            RDKafkaLogLevel::Debug => debug!(facility, message, "kafka client"),
        }
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(%error, reason, "kafka client");
        let mut heard = self.lock();
        // "All brokers are down" comes after what brought them down.
        let is_refused = |code: Option<RDKafkaErrorCode>| code.is_some_and(is_refusal);
        if heard.error.as_ref().is_none_or(|(code, _)| !is_refused(*code)) {
            heard.error = Some((error.rdkafka_error_code(), reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ordinal: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            // Those that are thrown away with an aborted transaction are not why it failed.
            if !matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) {
                self.lock().undelivered.get_or_insert((ordinal, code));
            }
        }
    }
}
