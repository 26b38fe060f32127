//! The topics that a publisher needs: looked for, created where the brokers let us.

use futures::executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use tracing::{info, warn};

use super::config::PublisherConfig;
use super::context::{ANSWER_WITHIN, Context, ask};
use super::error::PublishError;
use crate::source::kafka::{ClientKind, KafkaError};

/// As many as the brokers say.
const BROKER_DEFAULT: i32 = -1;

/// Longest record that a topic of ours takes: a record of the pipeline's limit grows when it is
/// written anew, and carries headers.
const LONGEST_RECORD: &str = "8388608";

/// Longest record (bytes) of a topic that nobody describes: Kafka's default for a batch, less what a
/// batch and a record have around their contents.
const LONGEST_BY_DEFAULT: usize = 1_048_588 - AROUND;
const AROUND: usize = 1_024;

/// Makes sure that the topic and the topic of positions are there. Gives the longest record (bytes
/// of key, value and headers) that the topic takes.
pub(super) fn ensure(
    config: &PublisherConfig,
    context: &Context,
    is_stopped: &dyn Fn() -> bool,
) -> Result<usize, PublishError> {
    let client: AdminClient<Context> = config
        .client(ClientKind::Admin)?
        .create_with_context(context.clone())
        .map_err(KafkaError::of_settings)?;
    // All topics: a question for one by its name would make some brokers create it their way.
    let metadata = ask(&config.brokers, context, is_stopped, |timeout| {
        client.inner().fetch_metadata(None, timeout)
    })?;
    let is_there = |name: &str| {
        metadata.topics().iter().any(|topic| topic.name() == name && topic.error().is_none())
    };
    if !is_there(&config.topic) {
        let partitions = config.partitions.map_or(BROKER_DEFAULT, i32::from);
        let topic =
            NewTopic::new(&config.topic, partitions, TopicReplication::Fixed(BROKER_DEFAULT))
                .set("max.message.bytes", LONGEST_RECORD);
        create(&client, &topic)?;
    }
    if !is_there(&config.positions) {
        // Small segments: compaction leaves the one that is written to alone, and every start reads
        // it.
        let topic = NewTopic::new(&config.positions, 1, TopicReplication::Fixed(BROKER_DEFAULT))
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        create(&client, &topic)?;
    }
    describe(config, &client)
}

fn create(client: &AdminClient<Context>, topic: &NewTopic<'_>) -> Result<(), PublishError> {
    let timeout = Some(ANSWER_WITHIN);
    let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    let failed =
        |reason: String| PublishError::CreateTopic { topic: topic.name.to_owned(), reason };
    let created = block_on(client.create_topics([topic], &options))
        .map_err(|error| failed(error.to_string()))?;
    match created.into_iter().next() {
        Some(Ok(_)) => {
            info!(topic = topic.name, "topic created");
            Ok(())
        }
        // Another publisher was quicker.
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(failed(code.to_string())),
        None => Err(failed("the broker did not answer".to_owned())),
    }
}

/// Refuses a topic of positions that forgets, and finds out how long records of the topic may be.
/// Who may not ask is not refused.
fn describe(
    config: &PublisherConfig,
    client: &AdminClient<Context>,
) -> Result<usize, PublishError> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
    let topics = [&config.positions, &config.topic].map(|name| ResourceSpecifier::Topic(name));
    let described = block_on(client.describe_configs(&topics, &options)).unwrap_or_else(|error| {
        warn!(topic = config.topic, %error, "the settings of the topics are not told");
        Vec::new()
    });
    let mut longest = LONGEST_BY_DEFAULT;
    for resource in described {
        let resource = match resource {
            Ok(resource) => resource,
            Err(code) => {
                warn!(topic = config.topic, %code, "the settings of a topic are not told");
                continue;
            }
        };
        let value = |key: &str| resource.get(key).and_then(|entry| entry.value.clone());
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        if *name == config.positions {
            let policy = value("cleanup.policy").filter(|policy| policy != "compact");
            if let Some(policy) = policy {
                return Err(PublishError::NotCompacted { topic: name.clone(), policy });
            }
        } else if let Some(bytes) = value("max.message.bytes").and_then(|bytes| bytes.parse().ok())
        {
            longest = usize::saturating_sub(bytes, AROUND);
        }
    }
    Ok(longest)
}
