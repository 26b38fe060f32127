//! One client with a transactional id, and its transactions.
//!
//! A session that met an error is thrown away: the next one takes the transactional id over, which
//! aborts whatever this one left open, and reads the position anew. So no error needs a decision
//! about what may have become of a transaction.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::util::Timeout;

use super::config::PublisherConfig;
use super::context::Context;
use super::error::PublishError;
use super::ledger;
use super::position::Stored;
use super::record::Record;
use crate::fail_point;
use crate::source::kafka::KafkaError;

/// One step of a call that can be continued.
const STEP: Duration = Duration::from_secs(2);
/// Longest wait until the brokers have let us take the transactional id over.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for what is on its way when the publisher is to end, and for an abort.
const GRACE: Duration = Duration::from_secs(3);

/// A client that may publish.
pub(super) struct Session {
    producer: BaseProducer<Context>,
    context: Context,
    topic: String,
    positions: String,
    /// The transactional id, and the key of positions.
    key: String,
    /// Positions of the records in the open transaction.
    open: Option<Vec<i64>>,
    /// Longest record that the topic takes, bytes.
    pub(super) longest: usize,
}

impl Session {
    /// Takes the transactional id over: older clients are fenced, what they left open is ended.
    pub(super) fn open(
        config: &PublisherConfig,
        key: &str,
        longest: usize,
        context: &Context,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Self, PublishError> {
        let producer: BaseProducer<Context> = config
            .producer(key)?
            .create_with_context(context.clone())
            .map_err(KafkaError::of_settings)?;
        let deadline = Instant::now() + TAKEN_OVER_WITHIN;
        while let Err(error) = producer.init_transactions(STEP) {
            let goes_on = matches!(&error, ClientError::Transaction(error) if error.is_retriable());
            if is_stopped() {
                return Err(PublishError::Stopped { topic: config.topic.clone() });
            }
            if !goes_on || Instant::now() >= deadline {
                return Err(PublishError::of_client("take the transactional id over", &error));
            }
        }
        Ok(Self {
            producer,
            context: context.clone(),
            topic: config.topic.clone(),
            positions: config.positions.clone(),
            key: key.to_owned(),
            open: None,
            longest,
        })
    }

    /// Hears what the client has to say while there is nothing to publish.
    pub(super) fn hear(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Begins a transaction unless one is open.
    pub(super) fn begin(&mut self) -> Result<(), PublishError> {
        if self.open.is_none() {
            self.context.take_undelivered();
            self.producer
                .begin_transaction()
                .map_err(|error| PublishError::of_client("begin a transaction", &error))?;
            self.open = Some(Vec::new());
        }
        Ok(())
    }

    /// Adds a record to the open transaction.
    pub(super) fn send(&mut self, record: Record<'_>) -> Result<(), PublishError> {
        let positions = self.open.get_or_insert_default();
        let ordinal = positions.len();
        positions.push(record.position);
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.topic, ordinal).headers(record.headers.into_list());
        // No timestamp: the time of the event would let a broker delete old events at once.
        message.key = record.key;
        message.payload = record.value;
        self.enqueue(message)
    }

    fn enqueue(&self, mut message: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), PublishError> {
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(5));
                    message = back;
                }
                Err((error, back)) => return Err(self.undelivered(&error, back.delivery_opaque)),
            }
        }
    }

    /// Puts the position into the open transaction and commits it.
    pub(super) fn commit(
        &mut self,
        stored: &Stored,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(), PublishError> {
        let value = serde_json::to_vec(stored).expect("texts and numbers are JSON");
        let ordinal = self.open.as_ref().map_or(0, Vec::len);
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&self.positions, ordinal).partition(ledger::PARTITION);
        message.key = Some(self.key.as_bytes());
        message.payload = Some(&value);
        self.enqueue(message)?;
        self.deliver(is_stopped)?;
        fail_point::hit("topic_before_commit");
        // Without a limit of its own: it ends by the transaction's.
        let committed = self.producer.commit_transaction(Timeout::Never);
        if let Err(error) = committed {
            return Err(match self.context.take_undelivered() {
                Some((ordinal, code)) => {
                    self.undelivered(&ClientError::MessageProduction(code), ordinal)
                }
                None => PublishError::of_client("commit a transaction", &error),
            });
        }
        fail_point::hit("topic_after_commit");
        self.open = None;
        Ok(())
    }

    /// Waits until every record is delivered, or has failed. The client's own wait looks only ten
    /// times a second.
    fn deliver(&self, is_stopped: &dyn Fn() -> bool) -> Result<(), PublishError> {
        let mut deadline = None;
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
            if deadline.is_none() && is_stopped() {
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(PublishError::Stopped { topic: self.topic.clone() });
            }
        }
        Ok(())
    }

    fn undelivered(&self, error: &ClientError, ordinal: usize) -> PublishError {
        let position = self.open.as_ref().and_then(|positions| positions.get(ordinal)).copied();
        match (error.rdkafka_error_code(), position) {
            (
                Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize),
                Some(position),
            ) => PublishError::TooLong { topic: self.topic.clone(), position },
            _ => PublishError::of_client("deliver a record", error),
        }
    }

    /// Ends an open transaction without effect, so that readers need not wait until the brokers do.
    /// Whether it worked does not matter: the next session sees to it.
    pub(super) fn abort(mut self) {
        if self.open.take().is_none() {
            return;
        }
        // What was not delivered would be waited for.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        let deadline = Instant::now() + GRACE;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::from_millis(1));
        }
        if let Err(error) = self.producer.abort_transaction(GRACE) {
            tracing::debug!(topic = self.topic, %error, "a transaction was left to the brokers");
        }
    }
}
