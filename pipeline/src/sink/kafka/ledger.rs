//! Reading the topic of positions.
//!
//! The topic has one partition (we write to the first of it, whatever it has), is compacted and may
//! be shared by publishers of many data directories. A reader of committed records gets no further
//! than the first open transaction, whoever's it is, and a position of ours may lie behind it. So what
//! lies there is looked through without regard to transactions; only if a record of ours is among it
//! are the transactions before it waited for.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::config::PublisherConfig;
use super::context::{ANSWER_WITHIN, Context, ask};
use super::error::PublishError;
use super::position::{Stored, stretches};
use crate::source::kafka::KafkaError;

/// The partition that holds all positions.
pub(super) const PARTITION: i32 = 0;

/// Longest wait for other publishers' transactions before it is told as a trouble.
const HELD_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Up to where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpTo {
    /// What any reader sees now. Says nothing of transactions that are still open.
    Visible,
    /// Everything that was written before, once its transactions have ended. To be called when
    /// no transaction of our own can be open.
    End,
}

/// The last position under `key`.
pub(super) fn read(
    config: &PublisherConfig,
    key: &str,
    up_to: UpTo,
    context: &Context,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<Stored>, PublishError> {
    let reader = Reader { config, key, context, is_stopped };
    let committed = reader.client("read_committed")?;
    let (low, mut end) = reader.range(&committed)?;
    if up_to == UpTo::End {
        let uncommitted = reader.client("read_uncommitted")?;
        let written = reader.range(&uncommitted)?.1;
        let since = Instant::now();
        while end < written && reader.last(&uncommitted, end)?.is_some() {
            if is_stopped() {
                return Err(PublishError::Stopped { topic: config.topic.clone() });
            }
            if since.elapsed() >= HELD_WITHIN {
                return Err(PublishError::Held { topic: config.positions.clone() });
            }
            std::thread::sleep(POLL / 2);
            end = reader.range(&committed)?.1;
        }
    }
    for start in stretches(low, end) {
        if let Some(value) = reader.last(&committed, start)? {
            return reader.parse(value.as_deref());
        }
    }
    Ok(None)
}

struct Reader<'a> {
    config: &'a PublisherConfig,
    key: &'a str,
    context: &'a Context,
    is_stopped: &'a dyn Fn() -> bool,
}

type Client = BaseConsumer<Context>;

impl Reader<'_> {
    fn client(&self, isolation: &str) -> Result<Client, PublishError> {
        let client = self.config.consumer(isolation)?.create_with_context(self.context.clone());
        Ok(client.map_err(KafkaError::of_settings)?)
    }

    /// Oldest offset and the one behind the newest that the client may see.
    fn range(&self, client: &Client) -> Result<(i64, i64), PublishError> {
        ask(&self.config.brokers, self.context, self.is_stopped, |timeout| {
            client.fetch_watermarks(&self.config.positions, PARTITION, timeout)
        })
    }

    /// The value of the last record under our key from `start` to the end.
    fn last(&self, client: &Client, start: i64) -> Result<Option<Option<Vec<u8>>>, PublishError> {
        let failed =
            |error: &ClientError| PublishError::of_client("read the topic of positions", error);
        let mut partitions = TopicPartitionList::with_capacity(1);
        partitions
            .add_partition_offset(&self.config.positions, PARTITION, Offset::Offset(start))
            .and_then(|()| client.assign(&partitions))
            .map_err(|error| failed(&error))?;
        let mut found = None;
        let mut heard_at = Instant::now();
        loop {
            match client.poll(POLL) {
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    if message.key() == Some(self.key.as_bytes()) {
                        found = Some(message.payload().map(<[u8]>::to_vec));
                    }
                }
                Some(Err(ClientError::PartitionEOF(_))) => return Ok(found),
                Some(Err(error)) if heard_at.elapsed() >= ANSWER_WITHIN => {
                    return Err(failed(&error));
                }
                // It tries again by itself, or says something of the group, which is a name only.
                Some(Err(_)) | None => {}
            }
            if (self.is_stopped)() {
                return Err(PublishError::Stopped { topic: self.config.topic.clone() });
            }
            if heard_at.elapsed() >= ANSWER_WITHIN {
                let error = ClientError::Global(RDKafkaErrorCode::OperationTimedOut);
                return Err(PublishError::unreachable(&self.config.brokers, self.context, &error));
            }
        }
    }

    /// Without a value a position was taken back by a person.
    fn parse(&self, value: Option<&[u8]>) -> Result<Option<Stored>, PublishError> {
        let Some(value) = value else { return Ok(None) };
        serde_json::from_slice(value).map(Some).map_err(|error| PublishError::UnreadablePosition {
            topic: self.config.positions.clone(),
            key: self.key.to_owned(),
            message: error.to_string(),
        })
    }
}
