//! Published topics, read as anybody may read them: committed records only, without a consumer
//! group, all partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::config::{Content, PublisherConfig};
use super::context::{ANSWER_WITHIN, Context};
use super::error::PublishError;
use crate::source::kafka::KafkaError;

/// How often topics and partitions that came since are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where to begin in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// With the oldest record.
    Beginning,
    /// With what is published from now on. A topic that comes later is read from its beginning.
    Now,
}

/// A record of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// When it was published, ms since 1970.
    pub published_at: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Published {
    /// The text of the last header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(known, _)| known == name);
        std::str::from_utf8(found?.1.as_deref()?).ok()
    }
}

/// Reads topics.
pub struct TopicReader {
    client: BaseConsumer<Context>,
    context: Context,
    brokers: String,
    topics: Vec<String>,
    /// The offset to read next, by partition.
    next: BTreeMap<(String, i32), Offset>,
    looked_at: Instant,
}

impl TopicReader {
    /// Asks the brokers which of the topics there are.
    pub fn open(
        brokers: &str,
        topics: &[String],
        from: ReadFrom,
        properties: BTreeMap<String, String>,
    ) -> Result<Self, PublishError> {
        let mut config = PublisherConfig::new(brokers, "", Content::DeadLetters);
        config.properties = properties;
        let context = Context::default();
        let client = config.consumer("read_committed")?.create_with_context(context.clone());
        let mut reader = Self {
            client: client.map_err(KafkaError::of_settings)?,
            context,
            brokers: brokers.to_owned(),
            topics: topics.to_vec(),
            next: BTreeMap::new(),
            looked_at: Instant::now(),
        };
        reader.look(from)?;
        Ok(reader)
    }

    /// Topics that are not there yet.
    pub fn missing(&self) -> Vec<&str> {
        let there: BTreeSet<&str> = self.next.keys().map(|(topic, _)| topic.as_str()).collect();
        let topics = self.topics.iter().map(String::as_str);
        topics.filter(|topic| !there.contains(topic)).collect()
    }

    /// The next record; `None` when none came within `timeout`. Brokers that go away are waited for.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Published>, PublishError> {
        if self.looked_at.elapsed() >= LOOK_EVERY {
            // Brokers that do not answer now are asked again.
            let _ = self.look(ReadFrom::Beginning);
        }
        match self.client.poll(timeout) {
            Some(Ok(message)) => {
                let published = published(&message);
                let place = (published.topic.clone(), published.partition);
                self.next.insert(place, Offset::Offset(published.offset + 1));
                Ok(Some(published))
            }
            Some(Err(error @ ClientError::MessageConsumptionFatal(_))) => {
                Err(PublishError::of_client("read topics", &error))
            }
            Some(Err(ClientError::MessageConsumption(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopicOrPartition),
            ))) => {
                let error = ClientError::MessageConsumption(code);
                Err(PublishError::of_client("read topics", &error))
            }
            // The end of a partition, or something that the client tries again by itself.
            Some(Err(_)) | None => Ok(None),
        }
    }

    /// Takes partitions up that were not there before.
    fn look(&mut self, from: ReadFrom) -> Result<(), PublishError> {
        self.looked_at = Instant::now();
        let unreachable =
            |error: &ClientError| PublishError::unreachable(&self.brokers, &self.context, error);
        // All topics: a question for one by its name would make some brokers create it.
        let metadata = self.client.fetch_metadata(None, ANSWER_WITHIN);
        let metadata = metadata.map_err(|error| unreachable(&error))?;
        let mut found = Vec::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            if !self.topics.iter().any(|wanted| wanted == topic.name()) {
                continue;
            }
            for partition in topic.partitions() {
                let place = (topic.name().to_owned(), partition.id());
                if self.next.contains_key(&place) {
                    continue;
                }
                let offset = match from {
                    ReadFrom::Beginning => Offset::Beginning,
                    ReadFrom::Now => {
                        let (_, end) = self
                            .client
                            .fetch_watermarks(topic.name(), partition.id(), ANSWER_WITHIN)
                            .map_err(|error| unreachable(&error))?;
                        Offset::Offset(end)
                    }
                };
                found.push((place, offset));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        self.next.extend(found);
        let mut all = TopicPartitionList::with_capacity(self.next.len());
        for ((topic, partition), offset) in &self.next {
            all.add_partition_offset(topic, *partition, *offset)
                .map_err(|error| PublishError::of_client("position a partition", &error))?;
        }
        self.client
            .assign(&all)
            .map_err(|error| PublishError::of_client("take partitions up", &error))
    }
}

fn published(message: &BorrowedMessage<'_>) -> Published {
    let headers = message.headers().map(|headers| {
        let owned = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        };
        headers.iter().map(owned).collect()
    });
    Published {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        published_at: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
