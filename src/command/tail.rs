//! `agentflow tail`: published events and dead letters as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use clap::Args;
use pipeline::encode::text::time_text;
use pipeline::sink::kafka::{
    PublishError, Published, PublisherConfig, ReadFrom, TopicReader, header,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::{Failure, chain};
use crate::kafka_client::KafkaClientArgs;
use crate::output::{self, Output, OutputArgs};
use crate::publish_args::{brokers, topic};
use crate::{logging, signals};

/// How long one wait for a record lasts at most.
const POLL: Duration = Duration::from_millis(100);

/// Headers of ours begin with this.
const OURS: &str = "agentflow.";

#[derive(Debug, Args)]
#[command(
    after_help = "Shows what is published from now on, of all partitions, and only what was \
committed. Without --validated and --dead-letters it shows both. Ctrl-C ends it."
)]
pub(super) struct Tail {
    /// Brokers of the topics.
    #[arg(long, value_name = "BROKERS", value_parser = brokers, default_value = "kafka:127.0.0.1:9092")]
    from: String,
    /// Show accepted events.
    #[arg(long)]
    validated: bool,
    /// Show rejected events.
    #[arg(long)]
    dead_letters: bool,
    /// Topic of accepted events.
    #[arg(long, value_name = "TOPIC", value_parser = topic, default_value = PublisherConfig::VALIDATED_EVENTS)]
    validated_topic: String,
    /// Topic of rejected events.
    #[arg(long, value_name = "TOPIC", value_parser = topic, default_value = PublisherConfig::DEAD_LETTERS)]
    dead_letter_topic: String,
    /// Begin with the oldest record.
    #[arg(long)]
    since_beginning: bool,
    #[command(flatten)]
    client: KafkaClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Tail {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start("warn");
        let both = self.validated == self.dead_letters;
        let topics: Vec<String> = [
            (both || self.validated, &self.validated_topic),
            (both || self.dead_letters, &self.dead_letter_topic),
        ]
        .into_iter()
        .filter(|(is_wanted, _)| *is_wanted)
        .map(|(_, topic)| topic.clone())
        .collect();
        let ended = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&ended);
        signals::on_end(move || asked.store(true, Ordering::Relaxed))?;
        let from = if self.since_beginning { ReadFrom::Beginning } else { ReadFrom::Now };
        let properties = self.client.settings()?;
        let mut reader =
            TopicReader::open(&self.from, &topics, from, properties).map_err(|error| {
                let hint = error.hint().map(str::to_owned);
                Failure::input(chain(&error)).maybe_hint(hint)
            })?;
        eprintln!("following {} at {}; Ctrl-C ends it", topics.join(", "), self.from);
        for missing in reader.missing() {
            eprintln!("topic `{missing}` is not there yet; waiting for it");
        }
        while !ended.load(Ordering::Relaxed) {
            if let Some(published) = reader.next(POLL).map_err(|error| failed(&error))? {
                self.tell(&published)?;
            }
        }
        Ok(())
    }

    fn tell(&self, published: &Published) -> Result<(), Failure> {
        let is_event = published.topic == self.validated_topic;
        match self.output.output {
            Output::Text if is_event => output::line(&event_text(published)),
            Output::Text => output::line(&dead_letter_text(published)),
            Output::Json => output::json(&Shown::new(published, is_event)),
        }
    }
}

fn failed(error: &PublishError) -> Failure {
    Failure::ours(chain(error)).maybe_hint(error.hint().map(str::to_owned))
}

fn event_text(published: &Published) -> String {
    let header = |name| published.header(name).unwrap_or("?");
    let late = if published.header(header::LATE) == Some("true") { "  late" } else { "" };
    one_line(&format!(
        "{}  {}  {}{late}  {}",
        when(published),
        header(header::EVENT_TYPE),
        text(published.key.as_deref()),
        text(published.value.as_deref()),
    ))
}

fn dead_letter_text(published: &Published) -> String {
    let header = |name| published.header(name).unwrap_or("?");
    let concerned = published.header(header::RULE).or(published.header(header::FIELD));
    let concerned = concerned.map_or(String::new(), |name| format!(" `{name}`"));
    let payload = match published.header(header::LEFT_OUT) {
        Some(bytes) => format!("({bytes} bytes, left out)"),
        None => text(published.value.as_deref()),
    };
    one_line(&format!(
        "{}  dead letter {}  {}@{}  {}{concerned}: {}  {payload}",
        when(published),
        header(header::ID),
        header(header::SOURCE),
        header(header::OFFSET),
        header(header::REASON),
        header(header::DETAIL),
    ))
}

fn when(published: &Published) -> String {
    published.published_at.map_or_else(|| "?".to_owned(), |millis| time_text(millis * 1_000))
}

/// Bytes for people.
fn text(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "-".to_owned(),
        Some(Ok(text)) => text.to_owned(),
        Some(Err(_)) => "(bytes that are not UTF-8)".to_owned(),
    }
}

/// The text without characters that would break a line or drive a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other if other.is_control() => line.extend(other.escape_unicode()),
            other => line.push(other),
        }
    }
    line
}

/// A record as JSON.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    kind: &'static str,
    topic: &'a str,
    partition: i32,
    offset: i64,
    published_at: Option<String>,
    #[serde(flatten)]
    key: Bytes<'a>,
    /// What we say of it: our headers without their prefix.
    agentflow: serde_json::Map<String, serde_json::Value>,
    /// The other headers, in their order.
    headers: Vec<HeaderShown<'a>>,
    /// An accepted event as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(flatten)]
    payload: Option<Payload<'a>>,
}

/// Bytes as text where they are one.
#[derive(Debug, Serialize)]
enum Bytes<'a> {
    #[serde(rename = "key")]
    Text(Option<&'a str>),
    #[serde(rename = "key_base64")]
    Base64(String),
}

#[derive(Debug, Serialize)]
enum Payload<'a> {
    #[serde(rename = "payload")]
    Text(Option<&'a str>),
    #[serde(rename = "payload_base64")]
    Base64(String),
}

#[derive(Debug, Serialize)]
struct HeaderShown<'a> {
    name: &'a str,
    #[serde(flatten)]
    value: HeaderValue<'a>,
}

#[derive(Debug, Serialize)]
enum HeaderValue<'a> {
    #[serde(rename = "value")]
    Text(Option<&'a str>),
    #[serde(rename = "value_base64")]
    Base64(String),
}

/// The text, or else the bytes in base64.
fn split(bytes: Option<&[u8]>) -> Result<Option<&str>, String> {
    let Some(bytes) = bytes else { return Ok(None) };
    std::str::from_utf8(bytes)
        .map(Some)
        .map_err(|_| base64::engine::general_purpose::STANDARD.encode(bytes))
}

impl<'a> Shown<'a> {
    fn new(published: &'a Published, is_event: bool) -> Self {
        let mut agentflow = serde_json::Map::new();
        let mut headers = Vec::new();
        for (name, value) in &published.headers {
            let value = split(value.as_deref());
            match (name.strip_prefix(OURS), value) {
                (Some(name), Ok(text)) => {
                    agentflow.insert(name.to_owned(), text.into());
                }
                (_, Ok(text)) => {
                    headers.push(HeaderShown { name, value: HeaderValue::Text(text) });
                }
                (_, Err(text)) => {
                    headers.push(HeaderShown { name, value: HeaderValue::Base64(text) });
                }
            }
        }
        let event = published.value.as_deref().filter(|_| is_event);
        let event = event.and_then(|value| serde_json::from_slice(value).ok());
        let payload = event.is_none().then(|| match split(published.value.as_deref()) {
            Ok(text) => Payload::Text(text),
            Err(text) => Payload::Base64(text),
        });
        Self {
            kind: if is_event { "event" } else { "dead_letter" },
            topic: &published.topic,
            partition: published.partition,
            offset: published.offset,
            published_at: published.published_at.map(|millis| time_text(millis * 1_000)),
            key: match split(published.key.as_deref()) {
                Ok(text) => Bytes::Text(text),
                Err(text) => Bytes::Base64(text),
            },
            agentflow,
            headers,
            event,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(headers: &[(&str, Option<&[u8]>)], value: Option<&[u8]>) -> Published {
        Published {
            topic: "t".to_owned(),
            partition: 2,
            offset: 5,
            published_at: Some(1_500),
            key: Some(b"k".to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    #[track_caller]
    fn check(published: &Published, is_event: bool, expected: &str) {
        let json = serde_json::to_string(&Shown::new(published, is_event)).expect("JSON");
        assert_eq!(json, expected);
    }

    #[test]
    fn an_event_is_shown_as_it_is() {
        let event = published(&[("agentflow.seq", Some(b"7"))], Some(br#"{"a":1.50}"#));
        check(
            &event,
            true,
            r#"{"kind":"event","topic":"t","partition":2,"offset":5,"published_at":"1970-01-01T00:00:01.5Z","key":"k","agentflow":{"seq":"7"},"headers":[],"event":{"a":1.50}}"#,
        );
    }

    #[test]
    fn a_dead_letter_keeps_its_bytes_and_headers() {
        let headers: &[(&str, Option<&[u8]>)] = &[
            ("a", None),
            ("b", Some(&[255])),
            ("agentflow.reason", Some(b"old")),
            ("agentflow.reason", Some(b"not_json")),
        ];
        let mut letter = published(headers, Some(&[255]));
        letter.key = Some(vec![255]);
        check(
            &letter,
            false,
            r#"{"kind":"dead_letter","topic":"t","partition":2,"offset":5,"published_at":"1970-01-01T00:00:01.5Z","key_base64":"/w==","agentflow":{"reason":"not_json"},"headers":[{"name":"a","value":null},{"name":"b","value_base64":"/w=="}],"payload_base64":"/w=="}"#,
        );
        check(
            &published(&[], None),
            false,
            r#"{"kind":"dead_letter","topic":"t","partition":2,"offset":5,"published_at":"1970-01-01T00:00:01.5Z","key":"k","agentflow":{},"headers":[],"payload":null}"#,
        );
    }

    #[test]
    fn people_get_one_line_per_record() {
        let headers: &[(&str, Option<&[u8]>)] = &[
            (header::ID, Some(b"3")),
            (header::SOURCE, Some(b"kafka:orders/1")),
            (header::OFFSET, Some(b"9")),
            (header::REASON, Some(b"rule_failed")),
            (header::RULE, Some(b"total")),
            (header::DETAIL, Some(b"it is false")),
        ];
        assert_eq!(
            dead_letter_text(&published(headers, Some(b"{\n\x1b[0m}"))),
            "1970-01-01T00:00:01.5Z  dead letter 3  kafka:orders/1@9  rule_failed `total`: it is false  \
             {\\n\\u{1b}[0m}"
        );
        assert_eq!(
            event_text(&published(
                &[(header::EVENT_TYPE, Some(b"e")), (header::LATE, Some(b"true"))],
                Some(b"{}")
            )),
            "1970-01-01T00:00:01.5Z  e  k  late  {}"
        );
    }
}
