//! What a running publisher shows of itself.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::config::{Content, PublisherConfig};

/// State of a publisher, for health, metrics and people.
#[derive(Debug, Clone, Serialize)]
pub struct PublisherStatus {
    /// The topic.
    pub topic: String,
    /// What is published to it.
    pub content: Content,
    /// Brokers as configured.
    pub brokers: String,
    /// Position up to which the topic is complete (a journal sequence number, or a dead letter's
    /// id); `None` until the brokers told.
    pub position: Option<i64>,
    /// The last position that there is.
    pub end: i64,
    /// Records that are not in the topic yet; `None` until the brokers told.
    pub owed: Option<i64>,
    /// Seconds since the topic last held everything that there was; 0 while it does.
    pub owed_seconds: f64,
    /// Records published since the start.
    pub records: u64,
    /// Transactions committed since the start.
    pub transactions: u64,
    /// Time of the last commit, µs since 1970.
    pub last_commit_at: Option<i64>,
    /// The last failure, until publishing goes on.
    pub last_error: Option<String>,
    /// Why nothing is published any more; a person has to act, then start again.
    pub halted: Option<String>,
    /// Does the publisher run?
    pub running: bool,
}

/// The status, shared between a publisher and its handle.
#[derive(Debug, Clone)]
pub(super) struct SharedStatus(Arc<Mutex<PublisherStatus>>);

impl SharedStatus {
    pub(super) fn new(config: &PublisherConfig) -> Self {
        Self(Arc::new(Mutex::new(PublisherStatus {
            topic: config.topic.clone(),
            content: config.content,
            brokers: config.brokers.clone(),
            position: None,
            end: 0,
            owed: None,
            owed_seconds: 0.0,
            records: 0,
            transactions: 0,
            last_commit_at: None,
            last_error: None,
            halted: None,
            running: true,
        })))
    }

    pub(super) fn read(&self) -> PublisherStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut PublisherStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
