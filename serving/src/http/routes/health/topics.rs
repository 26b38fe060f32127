//! The components `topics` and `schema_registry`: what is published, and where schemas come from.
//!
//! Neither is ever worse than degraded while the rest works: the journal keeps what a topic is
//! owed, and records that wait for a schema are not lost.

use pipeline::registry::RegistryStatus;
use pipeline::sink::kafka::{Content, PublisherStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Component, Health};
use crate::http::time::{Time, seconds_between};

/// A topic that is published from the journal.
#[derive(Debug, Serialize, ToSchema)]
pub(in super::super::super) struct TopicBody {
    /// Topic.
    topic: String,
    /// What is published: `dead_letters` or `validated_events`.
    content: &'static str,
    /// Brokers as configured.
    brokers: String,
    /// Records of the journal that are not in the topic yet; null until the brokers told.
    owed_records: Option<i64>,
    /// Seconds since the topic last held everything; 0 while it does.
    owed_seconds: f64,
    /// Records published since the start.
    published: u64,
    /// When the last transaction was committed.
    last_commit_at: Option<Time>,
    /// The last failure, until publishing goes on.
    last_error: Option<String>,
    /// Why nothing is published any more: a person has to act, then start again.
    halted: Option<String>,
}

impl From<PublisherStatus> for TopicBody {
    fn from(status: PublisherStatus) -> Self {
        Self {
            topic: status.topic,
            content: match status.content {
                Content::DeadLetters => "dead_letters",
                Content::ValidatedEvents => "validated_events",
            },
            brokers: status.brokers,
            owed_records: status.owed,
            owed_seconds: status.owed_seconds,
            published: status.records,
            last_commit_at: status.last_commit_at.map(Time),
            last_error: status.last_error,
            halted: status.halted,
        }
    }
}

/// What the publishers say, as one component.
pub(super) fn component(publishers: Vec<PublisherStatus>) -> Component {
    let (status, message) = judge(&publishers);
    let owed: i64 = publishers.iter().filter_map(|publisher| publisher.owed).sum();
    let longest = publishers.iter().map(|publisher| publisher.owed_seconds).fold(0.0, f64::max);
    let mut component = Component::new("topics", "publishers")
        .status(status, message)
        .figure("topics", publishers.len() as u64)
        .figure("owed_records", owed)
        .figure("owed_seconds", longest);
    component.topics = publishers.into_iter().map(Into::into).collect();
    component
}

fn judge(publishers: &[PublisherStatus]) -> (Health, String) {
    let told = |what: fn(&PublisherStatus) -> Option<&String>| {
        publishers.iter().find_map(|publisher| Some((publisher, what(publisher)?)))
    };
    if let Some((publisher, why)) = told(|publisher| publisher.halted.as_ref()) {
        let topic = &publisher.topic;
        return (Health::Degraded, format!("nothing is published to `{topic}` any more: {why}"));
    }
    if let Some(publisher) = publishers.iter().find(|publisher| !publisher.running) {
        let topic = &publisher.topic;
        return (Health::Degraded, format!("the publisher of `{topic}` has stopped"));
    }
    if let Some((publisher, why)) = told(|publisher| publisher.last_error.as_ref()) {
        let topic = &publisher.topic;
        return (Health::Degraded, format!("publishing to `{topic}` is tried again: {why}"));
    }
    if let Some(publisher) = publishers.iter().find(|publisher| publisher.position.is_none()) {
        let topic = &publisher.topic;
        return (Health::Degraded, format!("waiting for the brokers to say how far `{topic}` is"));
    }
    (Health::Healthy, String::new())
}

/// How the schema registry is. Records that wait for it hold their partitions up.
pub(super) fn registry(status: &RegistryStatus, now: i64) -> Component {
    let mut component = Component::new("schema_registry", "client")
        .figure("schemas", status.schemas as u64)
        .figure("waiting_for", status.waiting_for.len() as u64);
    if let Some(since) = status.waiting_since {
        component = component.figure("waiting_seconds", seconds_between(since, now).max(0.0));
    }
    if status.is_well() {
        return component;
    }
    let ids: Vec<String> = status.waiting_for.iter().map(ToString::to_string).collect();
    let why = status.last_error.as_deref().unwrap_or("it has not answered yet");
    let health = if status.refused { Health::Unhealthy } else { Health::Degraded };
    component.status(health, format!("records wait for schema {}: {why}", ids.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> PublisherStatus {
        PublisherStatus {
            topic: "t".to_owned(),
            content: Content::DeadLetters,
            brokers: "b:1".to_owned(),
            position: Some(3),
            end: 5,
            owed: Some(2),
            owed_seconds: 1.5,
            records: 3,
            transactions: 1,
            last_commit_at: Some(1),
            last_error: None,
            halted: None,
            running: true,
        }
    }

    #[test]
    fn the_worst_is_told_first() {
        #[track_caller]
        fn check(publishers: Vec<PublisherStatus>, health: Health, message: &str) {
            let component = component(publishers);
            assert_eq!((component.status, &*component.message), (health, message));
        }
        let error = Some("no broker".to_owned());
        let failing = PublisherStatus { last_error: error, ..publisher() };
        let halted = PublisherStatus { halted: Some("fenced".to_owned()), ..failing.clone() };
        check(vec![publisher()], Health::Healthy, "");
        check(
            vec![PublisherStatus { position: None, ..publisher() }],
            Health::Degraded,
            "waiting for the brokers to say how far `t` is",
        );
        check(
            vec![publisher(), failing.clone()],
            Health::Degraded,
            "publishing to `t` is tried again: no broker",
        );
        check(
            vec![PublisherStatus { running: false, ..failing.clone() }],
            Health::Degraded,
            "the publisher of `t` has stopped",
        );
        check(
            vec![failing, halted],
            Health::Degraded,
            "nothing is published to `t` any more: fenced",
        );
    }

    #[test]
    fn the_figures_are_sums_and_the_worst() {
        let slow = PublisherStatus { owed: None, owed_seconds: 9.0, ..publisher() };
        let component = serde_json::to_value(component(vec![publisher(), slow])).unwrap();
        let figures = serde_json::json!({"topics": 2, "owed_records": 2, "owed_seconds": 9.0});
        assert_eq!(component["metrics"], figures);
        assert_eq!(component["topics"][0]["content"], "dead_letters");
        assert_eq!(component["topics"][1]["owed_records"], serde_json::Value::Null);
    }

    #[test]
    fn a_registry_is_well_while_nothing_waits_for_it() {
        #[track_caller]
        fn check(status: RegistryStatus, health: Health, message: &str) {
            let component = registry(&status, 3_000_000);
            assert_eq!((component.status, &*component.message), (health, message));
        }
        check(RegistryStatus::default(), Health::Healthy, "");
        let away = RegistryStatus {
            waiting_for: [7, 9].into(),
            waiting_since: Some(1_000_000),
            last_error: Some("no answer".to_owned()),
            ..RegistryStatus::default()
        };
        check(away.clone(), Health::Degraded, "records wait for schema 7, 9: no answer");
        let figures = serde_json::to_value(registry(&away, 3_000_000)).unwrap();
        assert_eq!(figures["metrics"]["waiting_seconds"], 2.0);
        check(
            RegistryStatus { refused: true, ..away },
            Health::Unhealthy,
            "records wait for schema 7, 9: no answer",
        );
    }
}
