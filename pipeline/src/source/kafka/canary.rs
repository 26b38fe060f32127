//! The canary: how long a record takes from being produced to being visible, measured all the time.
//!
//! Every few seconds a small record goes to a topic of its own, acknowledged by all replicas. The
//! group reads that topic like any other; the decoder gives up its records with the reason `canary`,
//! and the batch goes through admission and one transaction of the store like every batch. Once the
//! store has committed the record's offset, the time since the record was handed to the client is
//! the freshness that an event gets now.
//!
//! What always holds: no metric, no row of `ingest` and no watermark comes from a canary; nothing
//! waits for it. If brokers are away or refuse the topic, its status says so and nothing else
//! changes. It produces only while this process reads the topic: another member of the group would
//! apply the record elsewhere.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde::Serialize;
use tracing::{debug, info, warn};

use super::config::KafkaConfig;
use super::error::KafkaError;
use super::group::Group;
use super::partition_name;
use super::properties::{ClientKind, settings_for};
use crate::clock;
use crate::metrics::METRICS;

/// Topic of canaries unless another one is named.
pub const TOPIC: &str = "agentflow.canary";
/// The topic has one partition, or this one is used.
const PARTITION: i32 = 0;
/// Longest wait for a topic to be made: the end of the source waits for it.
const CREATE_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for the acknowledgement of a record; librdkafka gives up a little earlier.
const SENT_WITHIN: Duration = Duration::from_secs(6);
/// A record that is not visible by then is counted as that old, and the next one is sent.
const VISIBLE_WITHIN: Duration = Duration::from_secs(60);
/// How long the broker keeps canaries.
const RETENTION_MS: &str = "3600000";

/// Where and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryConfig {
    /// Topic; created with one partition when it is missing.
    pub topic: String,
    /// Time between two records.
    pub every: Duration,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { topic: TOPIC.to_owned(), every: Duration::from_secs(5) }
    }
}

/// How the canary is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CanaryStatus {
    /// Its topic.
    pub topic: String,
    /// From produced to visible, µs, of the last record that came through.
    pub last: Option<i64>,
    /// When that one became visible, µs.
    pub seen_at: Option<i64>,
    /// When the record was produced that is on its way, µs.
    pub waiting_since: Option<i64>,
    /// Why nothing is measured.
    pub trouble: Option<String>,
}

impl CanaryStatus {
    /// The freshness that users get at `now` (µs), µs: that of the last record, or the age of the
    /// one that is on its way once it is older. `None` while nothing is measured.
    pub fn freshness(&self, now: i64) -> Option<i64> {
        if self.trouble.is_some() {
            return None;
        }
        self.last.max(self.waiting_since.map(|since| now.saturating_sub(since)))
    }
}

/// A running canary. Ends when dropped.
pub(super) struct Canary {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn requested(&self) -> bool {
        self.sleep(Duration::ZERO)
    }

    /// Sleeps, but not beyond the end; is it the end?
    fn sleep(&self, time: Duration) -> bool {
        let requested = self.requested.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(requested, time, |requested| !*requested);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Canary {
    pub(super) fn spawn(group: &Arc<Group>, config: CanaryConfig) -> Result<Self, KafkaError> {
        let stop = Arc::new(Stop::default());
        let work = Work { group: Arc::clone(group), config, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new()
            .name("kafka canary".to_owned())
            .spawn(move || work.run())
            .map_err(KafkaError::Thread)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        *self.stop.requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of the canary panicked");
        }
    }
}

/// What became of the record that is on its way: its offset, or why it could not be produced.
#[derive(Default)]
struct Reports(Mutex<Option<(usize, Result<i64, String>)>>);

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "canary's kafka client");
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(%error, reason, "canary's kafka client");
    }
}

impl ProducerContext for Reports {
    /// Number of the record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, result));
    }
}

struct Work {
    group: Arc<Group>,
    config: CanaryConfig,
    stop: Arc<Stop>,
}

/// What the canary keeps between two records.
#[derive(Default)]
struct Kept {
    producer: Option<BaseProducer<Reports>>,
    topic_is_there: bool,
    sent: usize,
}

impl Work {
    fn run(&self) {
        let mut kept = Kept::default();
        loop {
            let measured = self.beat(&mut kept);
            if self.stop.requested() {
                return;
            }
            match measured {
                Ok(took) => self.seen(took),
                Err(trouble) => {
                    // Made again, in case somebody removed it.
                    kept.topic_is_there = false;
                    self.failed(trouble);
                }
            }
            if self.stop.sleep(self.config.every) {
                return;
            }
        }
    }

    fn seen(&self, took: Duration) {
        METRICS.canary_seconds.observe(took.as_secs_f64());
        self.group.probe.canary(|status| {
            status.last = Some(took.as_micros() as i64);
            status.seen_at = Some(clock::now());
            status.waiting_since = None;
            status.trouble = None;
        });
    }

    fn failed(&self, trouble: String) {
        self.group.probe.canary(|status| {
            if status.trouble.as_ref() != Some(&trouble) {
                info!(topic = self.config.topic, trouble, "the canary measures nothing");
            }
            status.waiting_since = None;
            status.trouble = Some(trouble);
        });
    }

    /// One record: from produced to visible.
    fn beat(&self, kept: &mut Kept) -> Result<Duration, String> {
        let topic = self.config.topic.as_str();
        if !kept.topic_is_there {
            self.create_topic()?;
            kept.topic_is_there = true;
        }
        if !self.group.probe.reads(topic, PARTITION) {
            return Err(format!("this process does not read topic `{topic}` (yet)"));
        }
        let producer = match &mut kept.producer {
            Some(producer) => producer,
            None => {
                let made = settings(&self.group.config).create_with_context(Reports::default());
                kept.producer.insert(made.map_err(|error| format!("make a producer: {error}"))?)
            }
        };
        kept.sent += 1;
        let (sent_at, sent) = (clock::now(), Instant::now());
        self.group.probe.canary(|status| status.waiting_since = Some(sent_at));
        let payload = format!("{{\"sent_at\":{sent_at}}}");
        let record: BaseRecord<'_, (), str, usize> =
            BaseRecord::with_opaque_to(topic, kept.sent).partition(PARTITION).payload(&payload);
        producer.send(record).map_err(|(error, _)| format!("produce to `{topic}`: {error}"))?;
        let offset = self
            .acknowledged(producer, kept.sent, sent)
            .map_err(|error| format!("produce to `{topic}`: {error}"))?;
        self.visible(offset, sent_at, sent);
        Ok(sent.elapsed())
    }

    /// Waits for the acknowledgement of record `number`: its offset.
    fn acknowledged(
        &self,
        producer: &BaseProducer<Reports>,
        number: usize,
        sent: Instant,
    ) -> Result<i64, String> {
        while sent.elapsed() < SENT_WITHIN && !self.stop.requested() {
            // It polls for the whole time, whatever comes: the step is an error of the measurement.
            producer.poll(Duration::from_millis(1));
            let reports = producer.context();
            let report = reports.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A report that comes after we gave up is of an earlier record.
            if let Some((_, result)) = report.filter(|(of, _)| *of == number) {
                return result;
            }
        }
        Err("no broker acknowledges it".to_owned())
    }

    /// Waits until the store has committed `offset`, up to a limit.
    fn visible(&self, offset: i64, sent_at: i64, sent: Instant) {
        let name = partition_name(&self.config.topic, PARTITION);
        let wanted = u64::try_from(offset).unwrap_or(0);
        loop {
            let committed = self.group.positions().with(|partitions| {
                // A position from before is that of a topic that was made anew since.
                partitions
                    .get(&name)
                    .is_some_and(|state| state.next_offset > wanted && state.updated_at >= sent_at)
            });
            let waited = sent.elapsed();
            if committed || waited >= VISIBLE_WITHIN {
                return;
            }
            // Fine steps while they matter: the step is the error of the measurement.
            let step = match waited.as_millis() {
                0..250 => Duration::from_micros(250),
                250..5_000 => Duration::from_millis(5),
                _ => Duration::from_millis(100),
            };
            if self.stop.sleep(step) {
                return;
            }
        }
    }

    fn create_topic(&self) -> Result<(), String> {
        let topic = self.config.topic.as_str();
        let failed = |error: &dyn std::fmt::Display| format!("create topic `{topic}`: {error}");
        let admin: AdminClient<DefaultClientContext> =
            settings(&self.group.config).create().map_err(|error| failed(&error))?;
        // As many replicas as the brokers' default says.
        let new =
            NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("retention.ms", RETENTION_MS);
        let options = AdminOptions::new().request_timeout(Some(CREATE_WITHIN));
        let made = futures::executor::block_on(admin.create_topics([&new], &options));
        match made.map_err(|error| failed(&error))?.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
            Some(Err((_, code))) => Err(failed(&code)),
            Some(Ok(_)) => {
                info!(topic, "topic of the canary created");
                Ok(())
            }
        }
    }
}

/// Settings of the producer. Those of the source that only a consumer has are ignored by librdkafka,
/// which warns; `consumer.` before them keeps them away.
fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "agentflow-canary");
    for (key, value) in settings_for(&config.properties, ClientKind::Producer) {
        client.set(key, value);
    }
    let timeout = (SENT_WITHIN - Duration::from_secs(1)).as_millis().to_string();
    let owned = [
        ("bootstrap.servers", config.brokers.as_str()),
        ("acks", "all"),
        // The record goes at once: waiting for company would be measured too.
        ("linger.ms", "0"),
        ("message.timeout.ms", timeout.as_str()),
        ("reconnect.backoff.max.ms", "2000"),
    ];
    for (key, value) in owned {
        client.set(key, value);
    }
    client
}

#[cfg(test)]
mod tests {
    use super::super::config::TopicSpec;
    use super::super::status::KafkaProbe;
    use super::*;

    #[test]
    fn freshness_is_that_of_the_last_record_or_the_age_of_the_next() {
        #[track_caller]
        fn check(last: Option<i64>, waiting: Option<i64>, trouble: bool, expected: Option<i64>) {
            let status = CanaryStatus {
                last,
                waiting_since: waiting,
                trouble: trouble.then(|| "no broker".to_owned()),
                ..CanaryStatus::default()
            };
            assert_eq!(status.freshness(1_000), expected, "{status:?}");
        }
        check(None, None, false, None);
        check(Some(20), None, false, Some(20));
        check(Some(20), Some(990), false, Some(20));
        check(Some(20), Some(900), false, Some(100));
        check(None, Some(900), false, Some(100));
        check(Some(20), Some(900), true, None);
    }

    #[test]
    fn without_brokers_it_says_so_and_ends_when_told() {
        let topics = Vec::<TopicSpec>::new();
        let config = KafkaConfig::new("127.0.0.1:1".into(), "g".into(), topics, "default".into());
        let probe = KafkaProbe::new(&config.brokers, &config.group);
        let group = Arc::new(Group::new(config, probe.clone(), Default::default(), Vec::new()));
        let every = Duration::from_millis(10);
        let canary =
            Canary::spawn(&group, CanaryConfig { every, ..CanaryConfig::default() }).unwrap();
        let trouble = || probe.status().canary.and_then(|status| status.trouble);
        let start = Instant::now();
        while trouble().is_none() && start.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let trouble = trouble().expect("it says what is wrong");
        assert!(trouble.contains("create topic `agentflow.canary`"), "{trouble}");
        let start = Instant::now();
        drop(canary);
        assert!(start.elapsed() < CREATE_WITHIN * 3, "{:?}", start.elapsed());
    }
}
