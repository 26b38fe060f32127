//! What every command that talks to Kafka takes on the command line: settings of the client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Context, Failure};

/// Settings of librdkafka.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub(crate) struct KafkaClientArgs {
    /// A setting of librdkafka, for instance `security.protocol=SASL_SSL`. May be repeated. It is for
    /// every client of the command; `consumer.KEY=VALUE` is for those that read and
    /// `producer.KEY=VALUE` for those that write, for instance `consumer.fetch.min.bytes=1`.
    #[arg(long = "kafka-set", value_name = "KEY=VALUE", value_parser = setting)]
    kafka_settings: Vec<(String, String)>,
    /// File with such settings, `key=value` a line: the place for secrets.
    #[arg(long = "kafka-properties", value_name = "FILE", env = "AGENTFLOW_KAFKA_PROPERTIES")]
    kafka_properties: Option<PathBuf>,
}

impl KafkaClientArgs {
    /// The file's settings, then those of the command line.
    pub(crate) fn settings(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut settings = match &self.kafka_properties {
            None => BTreeMap::new(),
            Some(path) => read_properties(path)?,
        };
        settings.extend(self.kafka_settings.iter().cloned());
        Ok(settings)
    }
}

/// Is the text `HOST:PORT[,HOST:PORT]`?
pub(crate) fn are_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    })
}

/// `KEY=VALUE`.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Reads a file of settings: `key=value` a line, `#` begins a comment.
pub(crate) fn read_properties(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
