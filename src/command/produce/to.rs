//! Where produced events go.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::KafkaOptions;
use super::kafka::{KafkaSink, KafkaTo};
use crate::domain;
use crate::failure::{Context, Failure, chain};
use crate::kafka_client::are_brokers;

/// Bytes per request to a server; well under the API's limit for a body.
const REQUEST_BYTES: usize = 256 << 10;

/// Where the key for a server is.
const API_KEY: &str = "AGENTFLOW_API_KEY";

/// How often a server that has no room is asked again.
const MAX_TRIES: u32 = 60;

/// `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    File(PathBuf),
    Server(String),
    Kafka(String),
}

impl To {
    /// Does it take events as they happen?
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Kafka(_))
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "-" => Ok(Self::Stdout),
            _ if text.starts_with("http://") || text.starts_with("https://") => {
                Ok(Self::Server(text.trim_end_matches('/').to_owned()))
            }
            _ if text.strip_prefix("kafka:").is_some_and(are_brokers) => {
                Ok(Self::Kafka(text["kafka:".len()..].to_owned()))
            }
            _ => match text.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
                _ => Err(format!(
                    "`{text}` is no place; write `-`, file:PATH, http://HOST:PORT or kafka:HOST:PORT"
                )),
            },
        }
    }
}

/// An open place.
pub(super) enum Sink {
    Writer { name: String, writer: Box<dyn Write> },
    Server(Server),
    Kafka(Box<KafkaSink>),
}

/// Collects events and posts them as NDJSON.
pub(super) struct Server {
    url: String,
    http: reqwest::blocking::Client,
    buffer: Vec<u8>,
}

impl Sink {
    pub(super) fn open(to: &To, kafka: &KafkaOptions) -> Result<Self, Failure> {
        match to {
            To::Kafka(brokers) => {
                let domain = domain::demo()?;
                let sink = KafkaSink::open(KafkaTo {
                    brokers,
                    settings: kafka.client.settings()?,
                    topic: kafka.topic.clone(),
                    headers: kafka.headers.clone(),
                    format: kafka.format,
                    registry: kafka.registry.open()?,
                    domain: &domain,
                })?;
                Ok(Self::Kafka(Box::new(sink)))
            }
            To::Stdout => Ok(Self::Writer {
                name: "stdout".to_owned(),
                writer: Box::new(BufWriter::new(io::stdout())),
            }),
            To::File(path) => {
                let name = path.display().to_string();
                let file = File::create(path).input(|| format!("create `{name}`"))?;
                Ok(Self::Writer { name, writer: Box::new(BufWriter::with_capacity(1 << 20, file)) })
            }
            To::Server(url) => {
                let http = reqwest::blocking::Client::builder()
                    .timeout(Duration::from_secs(60))
                    .build()
                    .map_err(|error| Failure::ours(chain(&error)))?;
                let url = format!("{url}/v1/events");
                Ok(Self::Server(Server { url, http, buffer: Vec::new() }))
            }
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Writer { name, writer } => {
                let written = writer.write_all(line).and_then(|()| writer.write_all(b"\n"));
                written.map_err(|error| failed(name, &error))
            }
            Self::Server(server) => {
                server.buffer.extend_from_slice(line);
                server.buffer.push(b'\n');
                if server.buffer.len() >= REQUEST_BYTES { server.post() } else { Ok(()) }
            }
            Self::Kafka(kafka) => kafka.write(line),
        }
    }

    /// Sends what is collected.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Writer { name, writer } => {
                let name = &*name;
                writer.flush().map_err(|error| failed(name, &error))
            }
            Self::Server(server) => server.post(),
            // The client sends in the background.
            Self::Kafka(_) => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        match self {
            Self::Kafka(kafka) => kafka.finish(),
            _ => Ok(()),
        }
    }
}

/// Nobody who listens any more is no failure.
fn failed(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(),
        _ => Failure::ours(format!("write to `{name}`: {error}")),
    }
}

impl Server {
    /// Posts the collected events; a server without room is asked again, since events sent twice
    /// count once.
    fn post(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let body = std::mem::take(&mut self.buffer);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut request = self.http.post(&self.url);
            if let Ok(key) = std::env::var(API_KEY) {
                request = request.header("x-api-key", key);
            }
            let response = request
                .header("content-type", "application/x-ndjson")
                .body(body.clone())
                .send()
                .map_err(|error| {
                    Failure::input(format!("post to {}: {}", self.url, chain(&error)))
                        .hint("is `agentflow serve` running there?")
                })?;
            let status = response.status().as_u16();
            if status == 200 {
                return Ok(());
            }
            if status == 401 {
                return Err(Failure::input(format!("{} wants an API key", self.url))
                    .hint(format!("set {API_KEY} to one: agentflow keys create")));
            }
            if !matches!(status, 429 | 503) || tries >= MAX_TRIES {
                let said = response.text().unwrap_or_default();
                return Err(Failure::input(format!("{} answered {status}: {said}", self.url)));
            }
            let wait = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .unwrap_or(1);
            std::thread::sleep(Duration::from_secs(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<To>) {
        assert_eq!(text.parse::<To>().ok(), expected, "{text}");
    }

    #[test]
    fn places_are_named_by_their_kind() {
        check("-", Some(To::Stdout));
        check("file:x", Some(To::File("x".into())));
        check("http://127.0.0.1:1/", Some(To::Server("http://127.0.0.1:1".to_owned())));
        check("x.ndjson", None);
        check("file:", None);
        check("kafka:h:1,i:2", Some(To::Kafka("h:1,i:2".to_owned())));
        check("kafka:x", None);
    }
}
