//! `--from`: where events come from, as text, and what is opened for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::contracts::model::{Domain, Format, Topic};
use clap::{Args, ValueEnum};
use pipeline::registry::Registry;
use pipeline::source::Source;
use pipeline::source::file::{AtEnd, FileOptions, FileSource};
use pipeline::source::kafka::{
    self, CanaryConfig, IfAbsent, KafkaConfig, KafkaProbe, OutOfRange, StartAt, TopicSpec,
};

use crate::failure::{Failure, chain};
use crate::kafka_client::{KafkaClientArgs, are_brokers};
use crate::schema_registry::RegistryArgs;

/// The tenant of records that name none.
pub(crate) const TENANT: &str = "default";

/// A source as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceSpec {
    /// `file:PATH`: newline-delimited JSON, plain or compressed with gzip or zstd.
    File(PathBuf),
    /// `kafka:HOST:PORT[,HOST:PORT]`: the topics that the contracts name.
    Kafka(String),
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("kafka", brokers)) if are_brokers(brokers) => Ok(Self::Kafka(brokers.to_owned())),
            Some(("kafka", brokers)) => {
                Err(format!("`{brokers}` names no brokers; write kafka:HOST:PORT[,HOST:PORT]"))
            }
            _ => Err(format!("`{text}` names no source; write file:PATH or kafka:HOST:PORT")),
        }
    }
}

/// How Kafka sources are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub(crate) struct KafkaArgs {
    /// Consumer group. Default: `agentflow-` and the name of the contracts' folder.
    #[arg(long = "kafka-group", value_name = "NAME")]
    group: Option<String>,
    /// Topic to read, or a pattern that starts with `^`; instead of those that the contracts name.
    /// May be repeated.
    #[arg(long = "kafka-topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where to start in a topic of which nothing was ever read.
    #[arg(long = "kafka-start", value_enum, default_value_t = Start::Earliest)]
    start: Start,
    /// What to do when a position is not among the offsets of its partition any more.
    #[arg(long = "kafka-out-of-range", value_enum, default_value_t = Policy::Stop)]
    out_of_range: Policy,
    /// Group members in this process, each with threads of its own.
    #[arg(long = "kafka-members", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    members: u8,
    /// Topic of the records with which a server measures how long an event takes to be visible;
    /// created when it is missing. `off`: nothing is measured.
    #[arg(long = "kafka-canary", value_name = "off|TOPIC", default_value = kafka::CANARY_TOPIC)]
    canary: String,
    /// Seconds between two such records.
    #[arg(long = "kafka-canary-every", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    canary_every: u32,
    #[command(flatten)]
    client: KafkaClientArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Start {
    /// At the oldest record.
    Earliest,
    /// With records that come from now on.
    Latest,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    /// Stop reading that partition and say so.
    Stop,
    /// Go on with the oldest record.
    Earliest,
    /// Go on with records that come from now on.
    Latest,
}

impl KafkaArgs {
    /// Settings of librdkafka.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, String>, Failure> {
        self.client.settings()
    }

    /// The topics to read.
    pub(crate) fn topics(&self, domain: &Domain) -> Vec<TopicSpec> {
        let declared = topics_of(domain);
        if self.topics.is_empty() {
            return declared;
        }
        let format_of =
            |text: &String| declared.iter().find(|spec| spec.text == *text || spec.matches(text));
        let spec = |text: &String| TopicSpec {
            text: text.clone(),
            format: format_of(text).map(|spec| spec.format).unwrap_or_default(),
        };
        self.topics.iter().map(spec).collect()
    }

    fn config(
        &self,
        brokers: &str,
        domain: &Domain,
        until_end: bool,
    ) -> Result<KafkaConfig, Failure> {
        let topics = self.topics(domain);
        let group = self.group.clone().unwrap_or_else(|| format!("agentflow-{}", domain.name));
        let mut config = KafkaConfig::new(brokers.to_owned(), group, topics, Arc::from(TENANT));
        config.members = usize::from(self.members);
        config.start = match self.start {
            Start::Earliest => StartAt::Earliest,
            Start::Latest => StartAt::Latest,
        };
        config.out_of_range = match self.out_of_range {
            Policy::Stop => OutOfRange::Stop,
            Policy::Earliest => OutOfRange::Earliest,
            Policy::Latest => OutOfRange::Latest,
        };
        config.until_end = until_end;
        // A run that ends has nobody to tell.
        config.canary = (!until_end && self.canary != "off").then(|| CanaryConfig {
            topic: self.canary.clone(),
            every: Duration::from_secs(self.canary_every.into()),
        });
        config.properties = self.client.settings()?;
        Ok(config)
    }
}

/// The topics that the contracts name, each once.
fn topics_of(domain: &Domain) -> Vec<TopicSpec> {
    let spec = |(topic, format): (&Topic, Format)| TopicSpec { text: topic.to_string(), format };
    domain.topics().into_iter().map(spec).collect()
}

/// The schema registry, for topics of which some are in Avro.
fn registry(
    args: &RegistryArgs,
    topics: &[TopicSpec],
    domain: &Domain,
) -> Result<Option<Registry>, Failure> {
    let registry = args.open()?;
    let is_avro = |format: Format| format == Format::Avro;
    if registry.is_none() && topics.iter().any(|topic| is_avro(topic.format)) {
        let mut contracts = domain.families.iter().flat_map(|family| &family.versions);
        let contract = contracts.find(|contract| is_avro(contract.format));
        let name = contract.map_or("", |contract| contract.name.as_str());
        let message =
            format!("contract `{name}` is in Avro: name a schema registry with --schema-registry");
        return Err(
            Failure::input(message).hint("for instance --schema-registry http://127.0.0.1:8081")
        );
    }
    Ok(registry)
}

/// Sources that were opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// All of them.
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// To look at those that read Kafka.
    pub(crate) kafka: Vec<KafkaProbe>,
    /// Where the schemas of records in Avro come from.
    pub(crate) schemas: Option<Registry>,
}

/// Opens all sources. Records count as arrived at `now` (µs) unless they say themselves.
pub(crate) fn open(
    specs: &[SourceSpec],
    kafka: &KafkaArgs,
    domain: &Domain,
    at_end: AtEnd,
    now: i64,
) -> Result<Opened, Failure> {
    let mut opened = Opened::default();
    for spec in specs {
        match spec {
            SourceSpec::File(path) => {
                let options = FileOptions {
                    path: path.clone(),
                    tenant: Arc::from(TENANT),
                    arrived_at: now,
                    at_end,
                };
                let source =
                    FileSource::open(options).map_err(|error| Failure::input(chain(&error)))?;
                opened.sources.push(Box::new(source));
            }
            SourceSpec::Kafka(brokers) => {
                let until_end = at_end == AtEnd::Stop;
                let config = kafka.config(brokers, domain, until_end)?;
                if opened.schemas.is_none() {
                    opened.schemas = registry(&kafka.registry, &config.topics, domain)?;
                }
                // A server outlives its brokers; a run that should end must not wait for them.
                let if_absent = if until_end { IfAbsent::Fail } else { IfAbsent::Wait };
                let (sources, probe) = kafka::open(config, if_absent)
                    .map_err(|error| Failure::input(chain(&error)).hint(error.hint()))?;
                opened.kafka.push(probe);
                opened
                    .sources
                    .extend(sources.into_iter().map(|source| Box::new(source) as Box<dyn Source>));
            }
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<SourceSpec>) {
        assert_eq!(text.parse::<SourceSpec>().ok(), expected, "{text}");
    }

    #[test]
    fn a_file_is_named_by_its_path() {
        let file = |path: &str| Some(SourceSpec::File(path.into()));
        check("file:events.ndjson", file("events.ndjson"));
        check("file:/data/a:b.gz", file("/data/a:b.gz"));
        check("file:", None);
        check("events.ndjson", None);
        check("ftp:events", None);
    }

    #[test]
    fn kafka_is_named_by_its_brokers() {
        let kafka = |brokers: &str| Some(SourceSpec::Kafka(brokers.to_owned()));
        check("kafka:localhost:9092", kafka("localhost:9092"));
        check("kafka:a:1,[::1]:2", kafka("a:1,[::1]:2"));
        check("kafka:localhost", None);
        check("kafka:a:1,b", None);
        check("kafka::9092", None);
        check("kafka:", None);
    }
}
