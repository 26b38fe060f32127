//! Which topics are published and where, as flags, and what is started for them.

use std::sync::Arc;

use ::contracts::model::Domain;
use clap::Args;
use pipeline::sink::kafka::{
    Content, Publisher, PublisherConfig, PublisherHandle, PublisherStatus,
};
use pipeline::store::Journal;
use serving::store::data_dir::DataDir;

use crate::failure::{Failure, chain};
use crate::opened;
use crate::source_spec::{KafkaArgs, SourceSpec};

/// What is published.
#[derive(Debug, Args)]
#[command(next_help_heading = "Topics to publish")]
pub(crate) struct PublishArgs {
    /// Brokers to publish to: `kafka:HOST:PORT`. Default: those that events are read from; without
    /// either nothing is published.
    #[arg(long = "publish-to", value_name = "BROKERS", value_parser = brokers)]
    to: Option<String>,
    /// Topic for rejected events. Default: `events.deadletter`.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    dead_letter_topic: Option<String>,
    /// Publish no rejected events.
    #[arg(long, conflicts_with = "dead_letter_topic")]
    no_dead_letter_topic: bool,
    /// Topic for accepted events, for instance `events.validated`. Without it none are published.
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    validated_topic: Option<String>,
    /// Compacted topic that keeps how far the others are published. Several data directories may
    /// share it.
    #[arg(long, value_name = "TOPIC", value_parser = topic, default_value = PublisherConfig::POSITIONS)]
    positions_topic: String,
    /// Partitions of topics that have to be created. Default: as many as the brokers say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    topic_partitions: Option<u16>,
}

/// Reads `kafka:HOST:PORT[,HOST:PORT]`.
pub(crate) fn brokers(text: &str) -> Result<String, String> {
    match text.parse()? {
        SourceSpec::Kafka(brokers) => Ok(brokers),
        SourceSpec::File(_) => Err("write kafka:HOST:PORT".to_owned()),
    }
}

/// A name that Kafka takes for a topic.
pub(crate) fn topic(text: &str) -> Result<String, String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > 249 || text == "." || text == ".." {
        return Err("a topic's name has 1 to 249 characters".to_owned());
    }
    match text.bytes().all(is_legal) {
        true => Ok(text.to_owned()),
        false => Err("a topic's name has letters, digits, `.`, `_` and `-`".to_owned()),
    }
}

impl PublishArgs {
    /// The publishers that are wanted beside these sources. Nothing is asked of the brokers yet.
    pub(crate) fn plan(
        &self,
        from: &[SourceSpec],
        kafka: &KafkaArgs,
        domain: &Domain,
    ) -> Result<Vec<PublisherConfig>, Failure> {
        let dead_letters = (!self.no_dead_letter_topic)
            .then(|| self.dead_letter_topic.as_deref().unwrap_or(PublisherConfig::DEAD_LETTERS));
        let wanted: Vec<(Content, &str)> = [
            (Content::DeadLetters, dead_letters),
            (Content::ValidatedEvents, self.validated_topic.as_deref()),
        ]
        .into_iter()
        .filter_map(|(content, topic)| Some((content, topic?)))
        .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let Some(brokers) = self.brokers(from)? else { return Ok(Vec::new()) };
        let mut names: Vec<&str> = wanted.iter().map(|(_, topic)| *topic).collect();
        names.push(&self.positions_topic);
        self.check_names(&names, &brokers, from, kafka, domain)?;
        let properties = kafka.settings()?;
        wanted
            .into_iter()
            .map(|(content, topic)| {
                let config = PublisherConfig {
                    positions: self.positions_topic.clone(),
                    partitions: self.topic_partitions,
                    properties: properties.clone(),
                    ..PublisherConfig::new(&brokers, topic, content)
                };
                config.check().map_err(|error| Failure::input(chain(&error)).hint(error.hint()))?;
                Ok(config)
            })
            .collect()
    }

    /// The brokers to publish to, if there are any.
    fn brokers(&self, from: &[SourceSpec]) -> Result<Option<String>, Failure> {
        if let Some(brokers) = &self.to {
            return Ok(Some(brokers.clone()));
        }
        let mut read: Vec<&String> = from
            .iter()
            .filter_map(|source| match source {
                SourceSpec::Kafka(brokers) => Some(brokers),
                SourceSpec::File(_) => None,
            })
            .collect();
        read.dedup();
        match read.as_slice() {
            [brokers] => Ok(Some((*brokers).clone())),
            [] if self.dead_letter_topic.is_none() && self.validated_topic.is_none() => Ok(None),
            [] => Err(Failure::input("there are topics to publish, but no brokers")
                .hint("name them with --publish-to kafka:HOST:PORT")),
            _ => Err(Failure::input(
                "events are read from several brokers; which ones to publish to?",
            )
            .hint(
                "name them with --publish-to kafka:HOST:PORT, or publish nothing with \
                     --no-dead-letter-topic",
            )),
        }
    }

    /// One topic has one purpose.
    fn check_names(
        &self,
        names: &[&str],
        brokers: &str,
        from: &[SourceSpec],
        kafka: &KafkaArgs,
        domain: &Domain,
    ) -> Result<(), Failure> {
        if let Some(twice) = names
            .iter()
            .enumerate()
            .find_map(|(at, name)| names[..at].contains(name).then_some(*name))
        {
            return Err(Failure::input(format!("topic `{twice}` is named for two purposes"))
                .hint("dead letters, validated events and positions need a topic each"));
        }
        let is_read_there = from.iter().any(|source| match source {
            SourceSpec::Kafka(read) => {
                read.split(',').any(|one| brokers.split(',').any(|other| one == other))
            }
            SourceSpec::File(_) => false,
        });
        if !is_read_there {
            return Ok(());
        }
        for spec in kafka.topics(domain) {
            if let Some(name) = names.iter().find(|name| spec.matches(name)) {
                return Err(Failure::input(format!(
                    "topic `{name}` is to be published, and it is read as `{}`: what comes out would \
                     go in again",
                    spec.text
                ))
                .hint("choose another name, or read topics that do not include it"));
            }
        }
        Ok(())
    }
}

/// Starts the publishers of a data directory.
pub(crate) fn start(
    configs: Vec<PublisherConfig>,
    directory: &DataDir,
    journal: &Arc<dyn Journal>,
    domain: &Domain,
) -> Result<Vec<PublisherHandle>, Failure> {
    if configs.is_empty() {
        return Ok(Vec::new());
    }
    let identity = directory.identity().map_err(|error| opened::refused(&error))?;
    configs
        .into_iter()
        .map(|config| {
            Publisher::spawn(config, identity, Arc::clone(journal), domain)
                .map_err(|error| Failure::ours(chain(&error)))
        })
        .collect()
}

/// Waits until everything is published that the journal has.
pub(crate) fn flush(publishers: &[PublisherHandle]) -> Result<(), Failure> {
    for publisher in publishers {
        publisher.flush().map_err(|error| {
            let flag = match publisher.status().content {
                Content::DeadLetters => "--no-dead-letter-topic does without the topic",
                Content::ValidatedEvents => "leave --validated-topic out to do without the topic",
            };
            Failure::ours(chain(&error)).hint(format!(
                "the journal keeps what was not published: run again to continue; {flag}"
            ))
        })?;
    }
    Ok(())
}

/// Ends all publishers, side by side; a transaction under way is finished where the brokers answer.
pub(crate) fn stop(publishers: Vec<PublisherHandle>) -> Vec<PublisherStatus> {
    publishers.iter().for_each(PublisherHandle::ask_to_stop);
    let states = publishers.iter().map(PublisherHandle::status).collect();
    drop(publishers);
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[arg(long)]
        from: Vec<SourceSpec>,
        #[command(flatten)]
        kafka: KafkaArgs,
        #[command(flatten)]
        publish: PublishArgs,
    }

    /// The planned topics with their brokers, or what is wrong.
    fn plan(arguments: &str) -> Result<Vec<String>, String> {
        let all = ["test"].into_iter().chain(arguments.split_whitespace());
        let command = <Command as clap::Parser>::try_parse_from(all).map_err(|e| e.to_string())?;
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/domains/shop");
        let domain = crate::domain::load(&folder).map_err(|failure| failure.text())?;
        let planned = command.publish.plan(&command.from, &command.kafka, &domain);
        let planned = planned.map_err(|failure| failure.text())?;
        Ok(planned.iter().map(|config| format!("{}@{}", config.topic, config.brokers)).collect())
    }

    #[track_caller]
    fn check(arguments: &str, expected: &[&str]) {
        assert_eq!(plan(arguments).expect(arguments), expected, "{arguments}");
    }

    #[track_caller]
    fn refused(arguments: &str, word: &str) {
        let text = plan(arguments).expect_err(arguments);
        assert!(text.contains(word), "{arguments}: {text}");
    }

    #[test]
    fn dead_letters_go_to_the_brokers_that_events_come_from() {
        check("", &[]);
        check("--from file:x", &[]);
        check("--from kafka:a:1", &["events.deadletter@a:1"]);
        check("--from kafka:a:1 --from file:x", &["events.deadletter@a:1"]);
        check("--from kafka:a:1 --no-dead-letter-topic", &[]);
        check("--from kafka:a:1 --dead-letter-topic dlq", &["dlq@a:1"]);
        check("--from kafka:a:1 --publish-to kafka:b:2", &["events.deadletter@b:2"]);
        check("--publish-to kafka:b:2 --from file:x", &["events.deadletter@b:2"]);
    }

    #[test]
    fn accepted_events_are_published_when_they_are_asked_for() {
        check("--from kafka:a:1 --validated-topic v", &["events.deadletter@a:1", "v@a:1"]);
        check("--publish-to kafka:b:2 --no-dead-letter-topic --validated-topic v", &["v@b:2"]);
        refused("--from file:x --validated-topic v", "--publish-to");
        refused("--dead-letter-topic v", "--publish-to");
        refused("--from kafka:a:1 --from kafka:b:2", "--publish-to");
        check("--from kafka:a:1 --from kafka:b:2 --no-dead-letter-topic", &[]);
    }

    #[test]
    fn a_topic_has_one_purpose() {
        refused("--from kafka:a:1 --validated-topic events.deadletter", "two purposes");
        refused("--from kafka:a:1 --validated-topic agentflow.positions", "two purposes");
        refused(
            "--from kafka:a:1,b:2 --publish-to kafka:b:2 --kafka-topic ^events.*",
            "go in again",
        );
        check(
            "--from kafka:a:1 --publish-to kafka:b:2 --kafka-topic ^events.*",
            &["events.deadletter@b:2"],
        );
        refused("--from kafka:a:1 --validated-topic a/b", "letters");
        refused("--from kafka:a:1 --kafka-set acks=1", "acks");
    }
}
