//! `--from`: where events come from, as text, and what is opened for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ::contracts::model::Domain;
use clap::{Args, ValueEnum};
use pipeline::source::Source;
use pipeline::source::file::{AtEnd, FileOptions, FileSource};
use pipeline::source::kafka::{
    self, IfAbsent, KafkaConfig, KafkaProbe, OutOfRange, StartAt, TopicSpec,
};

use crate::failure::{Context, Failure, chain};

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

fn are_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    })
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
    #[command(flatten)]
    client: KafkaClientArgs,
}

/// How Kafka's brokers are talked to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub(crate) struct KafkaClientArgs {
    /// A setting of librdkafka, for instance `security.protocol=SASL_SSL`. May be repeated.
    #[arg(long = "kafka-set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// File with settings of librdkafka, `key=value` a line: the place for secrets.
    #[arg(long = "kafka-properties", value_name = "FILE", env = "AGENTFLOW_KAFKA_PROPERTIES")]
    properties: Option<PathBuf>,
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

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

impl KafkaClientArgs {
    /// Settings of librdkafka: the file's, then those of the command line.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut settings = match &self.properties {
            None => BTreeMap::new(),
            Some(path) => read_properties(path)?,
        };
        settings.extend(self.settings.iter().cloned());
        Ok(settings)
    }
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
        config.properties = self.settings()?;
        Ok(config)
    }
}

/// The topics that the contracts name, each once.
fn topics_of(domain: &Domain) -> Vec<TopicSpec> {
    let mut topics: Vec<TopicSpec> = Vec::new();
    for contract in domain.families.iter().flat_map(|family| &family.versions) {
        let Some(text) = &contract.topic else { continue };
        if !topics.iter().any(|known| known.text == *text) {
            topics.push(TopicSpec { text: text.clone(), format: contract.format });
        }
    }
    topics
}

/// Reads a file of settings: `key=value` a line, `#` begins a comment.
fn read_properties(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let text = std::fs::read_to_string(path).input(|| format!("read `{}`", path.display()))?;
    let mut settings = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with('!') {
            continue;
        }
        let (key, value) = setting(line).map_err(|hint| {
            // The line may hold a secret.
            Failure::input(format!("{}:{}: not a setting", path.display(), at + 1)).hint(hint)
        })?;
        settings.insert(key, value);
    }
    Ok(settings)
}

/// Sources that were opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// All of them.
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// To look at those that read Kafka.
    pub(crate) kafka: Vec<KafkaProbe>,
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

    #[test]
    fn settings_are_read_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "# TLS\nsecurity.protocol = SSL\n\nsasl.password=a=b\n")
            .expect("write");
        let settings = read_properties(file.path()).expect("good settings");
        assert_eq!(settings["security.protocol"], "SSL");
        assert_eq!(settings["sasl.password"], "a=b");
        std::fs::write(file.path(), "a=1\nsecret\n").expect("write");
        let failure = read_properties(file.path()).expect_err("no setting").text();
        assert!(failure.contains(":2: ") && !failure.contains("secret"), "{failure}");
    }
}
