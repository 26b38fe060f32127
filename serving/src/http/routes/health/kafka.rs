//! The components `kafka` and `canary`: what the sources that read Kafka say of themselves.

use pipeline::source::kafka::{CanaryStatus, KafkaPartition, KafkaStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Component, Health};
use crate::http::time::Time;

/// A source that reads Kafka.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super::super) struct KafkaBody {
    /// Brokers as configured.
    brokers: String,
    /// Consumer group.
    group: String,
    /// Partitions that this process reads, and those that were stopped.
    partitions: Vec<KafkaPartitionBody>,
    /// Topics and patterns that stand for no topic yet.
    missing_topics: Vec<String>,
    /// Partitions (`topic/number`) that nobody reads though they are there.
    unread_partitions: Vec<String>,
    /// What went wrong last, until something goes well again.
    last_error: Option<String>,
}

/// A partition of a topic.
#[derive(Debug, Serialize, ToSchema)]
struct KafkaPartitionBody {
    /// Topic.
    topic: String,
    /// Number in the topic.
    partition: i32,
    /// Group member of this process that reads it.
    member: u64,
    /// Offset to continue from: everything before it is applied.
    position: u64,
    /// Offset after the last record that can be read; null until a broker told.
    end: Option<u64>,
    /// Records that are not applied yet.
    lag_records: Option<u64>,
    /// Seconds since the last applied record was appended; 0 while nothing waits. No record that
    /// waits is older.
    lag_seconds: Option<f64>,
    /// Highest accepted event time.
    watermark: Option<Time>,
    /// Event time of the last accepted record.
    last_event_at: Option<Time>,
    /// When its last batch was applied.
    applied_at: Option<Time>,
    /// Why it is not read any more, when it was stopped.
    halted: Option<String>,
}

impl From<KafkaPartition> for KafkaPartitionBody {
    fn from(partition: KafkaPartition) -> Self {
        Self {
            topic: partition.topic,
            partition: partition.partition,
            member: partition.member as u64,
            position: partition.position,
            end: partition.end,
            lag_records: partition.lag,
            lag_seconds: partition.lag_micros.map(seconds),
            watermark: partition.watermark.map(Time),
            last_event_at: partition.last_event_at.map(Time),
            applied_at: partition.applied_at.map(Time),
            halted: partition.halted,
        }
    }
}

impl From<KafkaStatus> for KafkaBody {
    fn from(status: KafkaStatus) -> Self {
        Self {
            brokers: status.brokers,
            group: status.group,
            partitions: status.partitions.into_iter().map(Into::into).collect(),
            missing_topics: status.missing_topics,
            unread_partitions: status.unread_partitions,
            last_error: status.last_error,
        }
    }
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// What the sources say, as one component.
pub(super) fn component(sources: Vec<KafkaStatus>) -> Component {
    let (status, message) = judge(&sources);
    let partitions = sources.iter().map(|source| source.partitions.len() as u64).sum::<u64>();
    let halted = sources.iter().map(|source| source.halted().count() as u64).sum::<u64>();
    let mut component = Component::new("kafka", "consumer groups")
        .status(status, message)
        .figure("partitions", partitions)
        .figure("halted_partitions", halted)
        .figure("lag_records", sources.iter().map(KafkaStatus::lag).sum::<u64>());
    if let Some(lag) = sources.iter().filter_map(KafkaStatus::lag_micros).max() {
        component = component.figure("lag_seconds", seconds(lag));
    }
    component.kafka = sources.into_iter().map(Into::into).collect();
    component
}

/// Oldest record on its way (µs) that is no reason to worry.
const CANARY_PATIENCE: i64 = 10_000_000;

/// How fresh the canary finds what it reads. Never worse than degraded: nothing depends on it.
pub(super) fn canary(status: &CanaryStatus, now: i64) -> Component {
    let mut component = Component::new("canary", "records of its own");
    let freshness = status.freshness(now);
    if let Some(freshness) = freshness {
        component = component.figure("freshness_seconds", seconds(freshness));
    }
    if let Some(at) = status.seen_at {
        let age = seconds(now.saturating_sub(at).max(0));
        component = component.figure("last_seen_age_seconds", age);
    }
    match (&status.trouble, freshness) {
        (Some(trouble), _) => component.status(Health::Degraded, trouble.as_str()),
        (None, None) => component.status(Health::Degraded, "nothing was measured yet"),
        (None, Some(freshness)) if freshness > CANARY_PATIENCE => {
            let age = freshness / 1_000_000;
            component
                .status(Health::Degraded, format!("a record takes {age} seconds to be visible"))
        }
        (None, Some(_)) => component,
    }
}

/// How the sources are, and why.
fn judge(sources: &[KafkaStatus]) -> (Health, String) {
    let halted: Vec<_> = sources.iter().flat_map(KafkaStatus::halted).collect();
    if let Some((partition, why)) = halted.first() {
        let others = match halted.len() {
            1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        let name = format!("{}/{}", partition.topic, partition.partition);
        return (Health::Unhealthy, format!("partition `{name}` is stopped{others}: {why}"));
    }
    if let Some(error) = sources.iter().find_map(|source| source.last_error.as_ref()) {
        return (Health::Degraded, error.clone());
    }
    if let Some(topic) = sources.iter().find_map(|source| source.missing_topics.first()) {
        return (Health::Degraded, format!("there is no topic `{topic}` yet"));
    }
    if let Some(name) = sources.iter().find_map(|source| source.unread_partitions.first()) {
        return (Health::Degraded, format!("nobody reads partition `{name}`"));
    }
    if sources.iter().any(|source| source.partitions.is_empty()) {
        return (Health::Degraded, "no partition is assigned yet".to_owned());
    }
    (Health::Healthy, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32, halted: Option<&str>) -> KafkaPartition {
        KafkaPartition {
            topic: "t".to_owned(),
            partition: number,
            position: 3,
            end: Some(5),
            lag: Some(2),
            lag_micros: Some(1_500_000),
            halted: halted.map(str::to_owned),
            ..KafkaPartition::default()
        }
    }

    fn source(
        partitions: Vec<KafkaPartition>,
        missing: &[&str],
        error: Option<&str>,
    ) -> KafkaStatus {
        KafkaStatus {
            partitions,
            missing_topics: missing.iter().map(|topic| (*topic).to_owned()).collect(),
            last_error: error.map(str::to_owned),
            ..KafkaStatus::default()
        }
    }

    #[track_caller]
    fn check(source: KafkaStatus, status: Health, message: &str) {
        let component = component(vec![source]);
        assert_eq!((component.status, &*component.message), (status, message));
    }

    #[test]
    fn the_worst_is_told_first() {
        let good = || vec![partition(0, None)];
        check(source(good(), &[], None), Health::Healthy, "");
        check(source(vec![], &[], None), Health::Degraded, "no partition is assigned yet");
        check(source(good(), &["x"], None), Health::Degraded, "there is no topic `x` yet");
        check(source(good(), &["x"], Some("down")), Health::Degraded, "down");
        check(
            source(
                vec![partition(0, None), partition(1, Some("it was made anew"))],
                &["x"],
                Some("down"),
            ),
            Health::Unhealthy,
            "partition `t/1` is stopped: it was made anew",
        );
        check(
            source(vec![partition(0, Some("a")), partition(1, Some("b"))], &[], None),
            Health::Unhealthy,
            "partition `t/0` is stopped (and 1 more): a",
        );
    }

    #[test]
    fn a_canary_is_never_worse_than_degraded() {
        #[track_caller]
        fn check(status: CanaryStatus, health: Health, message: &str) {
            let component = canary(&status, 100_000_000);
            assert_eq!((component.status, &*component.message), (health, message));
        }
        let good = CanaryStatus { last: Some(12_000), seen_at: Some(1), ..Default::default() };
        let waiting = Some(80_000_000);
        check(good.clone(), Health::Healthy, "");
        check(CanaryStatus::default(), Health::Degraded, "nothing was measured yet");
        check(
            CanaryStatus { waiting_since: waiting, ..good.clone() },
            Health::Degraded,
            "a record takes 20 seconds to be visible",
        );
        let trouble = Some("no broker".to_owned());
        check(CanaryStatus { trouble, ..good.clone() }, Health::Degraded, "no broker");
        let figures = serde_json::to_value(canary(&good, 3)).unwrap()["metrics"].clone();
        let expected =
            serde_json::json!({"freshness_seconds": 0.012, "last_seen_age_seconds": 0.000_002});
        assert_eq!(figures, expected);
    }

    #[test]
    fn the_figures_are_sums_and_the_worst() {
        let sources = vec![source(vec![partition(0, None), partition(1, None)], &[], None)];
        let component = serde_json::to_value(component(sources)).unwrap();
        let figures = serde_json::json!({
            "partitions": 2, "halted_partitions": 0, "lag_records": 4, "lag_seconds": 1.5,
        });
        assert_eq!(component["metrics"], figures);
        assert_eq!(component["kafka"][0]["partitions"][1]["lag_seconds"], 1.5);
        assert_eq!(component["kafka"][0]["partitions"][1]["watermark"], serde_json::Value::Null);
    }
}
