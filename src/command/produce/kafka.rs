//! Produced events in Kafka: each in the topic that its contract names, keyed as the contract says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use ::contracts::model::{Domain, EventContract, Format, Topic};
use pipeline::registry::Registry;
use pipeline::source::kafka::{ClientKind, settings_for};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::Value;

use crate::failure::{Failure, chain};

use super::avro::AvroRecords;
use super::cloud_event;
use super::format::{Made, RecordFormat};

/// How long records that were handed to the client may take to be acknowledged at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);
/// Pause while the client's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What a Kafka sink is opened with.
pub(super) struct KafkaTo<'a> {
    pub(super) brokers: &'a str,
    pub(super) settings: BTreeMap<String, String>,
    /// For all records, instead of those that contracts name.
    pub(super) topic: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) format: RecordFormat,
    /// For records in Avro.
    pub(super) registry: Option<Registry>,
    pub(super) domain: &'a Domain,
}

/// Hands events to the client, which sends them in the background; every record must have been
/// acknowledged by all replicas at the end.
pub(super) struct KafkaSink {
    producer: ThreadedProducer<Deliveries>,
    routes: HashMap<String, Route>,
    topic: Option<String>,
    /// Where a record without a known type goes: to those that will say so.
    fallback: String,
    headers: Vec<(String, String)>,
    format: RecordFormat,
    avro: Option<AvroRecords>,
}

/// Where events of one type go.
#[derive(Clone)]
struct Route {
    topic: String,
    key: Option<String>,
    envelope: [String; 3],
}

/// The first record that was not delivered.
#[derive(Default)]
struct Deliveries(Mutex<Option<String>>);

impl Deliveries {
    fn failed(&self, message: String) {
        if let Ok(mut first) = self.0.lock() {
            first.get_or_insert(message);
        }
    }

    fn failure(&self) -> Option<String> {
        self.0.lock().ok().and_then(|first| first.clone())
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        // Brokers that are away are waited for until records time out; wrong credentials are not.
        if pipeline::source::kafka::is_refused(&error) {
            self.failed(reason.to_owned());
        }
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            self.failed(format!("a record for topic `{}` was not taken: {error}", message.topic()));
        }
    }
}

impl KafkaSink {
    pub(super) fn open(to: KafkaTo<'_>) -> Result<Self, Failure> {
        let mut config = ClientConfig::new();
        let defaults =
            [("linger.ms", "5"), ("compression.type", "lz4"), ("partitioner", "murmur2_random")];
        for (key, value) in defaults {
            config.set(key, value);
        }
        for (key, value) in settings_for(&to.settings, ClientKind::Producer) {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", to.brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all");
        let producer = config
            .create_with_context(Deliveries::default())
            .map_err(|error| Failure::input(format!("make a Kafka client: {}", chain(&error))))?;
        let routes = routes(to.domain);
        let fallback = routes.values().map(|route| route.topic.clone()).min();
        let Some(fallback) = to.topic.clone().or(fallback) else {
            return Err(Failure::input("no contract names a topic").hint("name one with --topic"));
        };
        let mut sink = Self {
            producer,
            routes,
            topic: to.topic,
            fallback,
            headers: to.headers,
            format: to.format,
            avro: None,
        };
        sink.check(to.brokers)?;
        if to.format == RecordFormat::Avro {
            let topic = sink.topic.as_deref();
            sink.avro = Some(AvroRecords::register(to.registry.as_ref(), to.domain, topic)?);
        }
        Ok(sink)
    }

    /// Are the brokers and the topics there? Records for a topic that is not would wait for minutes.
    fn check(&mut self, brokers: &str) -> Result<(), Failure> {
        let mut wanted: Vec<&str> =
            self.routes.values().map(|route| route.topic.as_str()).collect();
        if let Some(topic) = &self.topic {
            wanted = vec![topic];
        }
        let metadata = self.producer.client().fetch_metadata(None, Duration::from_secs(10));
        let metadata = metadata.map_err(|error| {
            let said = self.producer.context().failure().unwrap_or_else(|| chain(&error));
            Failure::input(format!("no Kafka broker at `{brokers}` answers: {said}"))
                .hint("is it running, and are the credentials right?")
        })?;
        let missing =
            wanted.iter().find(|topic| !metadata.topics().iter().any(|t| t.name() == **topic));
        match missing {
            None => Ok(()),
            Some(topic) => {
                Err(Failure::input(format!("topic `{topic}` does not exist on `{brokers}`"))
                    .hint("create it first, or name another one with --topic"))
            }
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        let event = serde_json::from_slice::<Value>(line).ok();
        let event_type = event.as_ref().and_then(|event| event.get("event_type")?.as_str());
        let route = event_type.and_then(|event_type| self.routes.get(event_type));
        let topic =
            self.topic.as_ref().or(route.map(|route| &route.topic)).unwrap_or(&self.fallback);
        let key = route.zip(event.as_ref()).and_then(|(route, event)| {
            let value = event.get(route.key.as_ref()?)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        let mut headers = OwnedHeaders::new();
        for (name, value) in &self.headers {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let made = match (self.format, route, &event) {
            (RecordFormat::Avro, ..) => {
                let avro = self.avro.as_ref().zip(event_type);
                avro.and_then(|(avro, event_type)| avro.record(event_type, line)).map(Made::body)
            }
            (RecordFormat::Json, ..) | (_, None, _) | (_, _, None) => None,
            (format, Some(route), Some(event)) => cloud_event::made(format, &route.envelope, event),
        };
        let payload = match &made {
            // As it is: most of what cannot be written otherwise is to be rejected anyway.
            None => line,
            Some(made) => {
                for (name, value) in &made.headers {
                    headers = headers.insert(Header { key: name, value: Some(value) });
                }
                &made.payload
            }
        };
        let mut record: BaseRecord<'_, str, [u8]> =
            BaseRecord::to(topic).payload(payload).headers(headers);
        if let Some(key) = &key {
            record = record.key(key);
        }
        loop {
            record = match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.deliveries()?;
                    std::thread::sleep(FULL_PAUSE);
                    back
                }
                Err((error, _)) => {
                    return Err(Failure::ours(format!("send to `{topic}`: {error}")));
                }
            };
        }
        self.deliveries()
    }

    fn deliveries(&self) -> Result<(), Failure> {
        match self.producer.context().failure() {
            None => Ok(()),
            Some(message) => Err(Failure::input(message)),
        }
    }

    /// Waits until everything is acknowledged.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.producer.flush(FLUSH_WITHIN).map_err(|error| {
            Failure::ours(format!("records were not acknowledged in time: {}", chain(&error)))
        })?;
        self.deliveries()
    }
}

/// Topic, key and envelope by event type; the newest version of a contract says.
fn routes(domain: &Domain) -> HashMap<String, Route> {
    let mut routes = HashMap::new();
    let contracts = domain.families.iter().flat_map(|family| &family.versions);
    for contract in contracts.filter(|contract| contract.format == Format::Json) {
        let Some(route) = route(contract) else { continue };
        for name in &contract.names {
            routes.insert(name.clone(), route.clone());
        }
    }
    routes
}

fn route(contract: &EventContract) -> Option<Route> {
    let envelope = &contract.envelope;
    let topic = topic_of(contract)?;
    let places = [&envelope.event_type, &envelope.id, &envelope.time];
    Some(Route { topic, key: contract.key.clone(), envelope: places.map(ToString::to_string) })
}

/// The first topic that a contract names as such, not by a pattern.
pub(super) fn topic_of(contract: &EventContract) -> Option<String> {
    contract.topics.iter().find_map(|topic| match topic {
        Topic::Name(name) => Some(name.clone()),
        Topic::Pattern(_) => None,
    })
}
