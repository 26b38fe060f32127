//! The work of a publisher: a thread that carries rows of the journal into one topic.
//!
//! While it is behind it publishes one full transaction after the other; otherwise it looks at the
//! journal's end ten times a second. It asks nothing of the brokers before there is something to
//! publish.
//!
//! Nothing waits for this thread. A failure is kept in the status and tried again with growing
//! pauses; it halts where going on could lose or double records.

mod takeover;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::SecondsFormat;
use contracts::model::Domain;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use uuid::Uuid;

use super::config::PublisherConfig;
use super::context::Context;
use super::error::{PublishError, Retry, chain};
use super::feed::Feed;
use super::position::{Claim, Stored};
use super::record::Record;
use super::session::Session;
use super::status::SharedStatus;
use crate::clock;
use crate::metrics::METRICS;
use crate::sink::backoff::Backoff;
use crate::source::Limits;
use crate::store::Journal;

/// Asks for an answer once everything is published that the journal has now.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) reply: Sender<Result<(), PublishError>>,
}

/// The work of a publisher's thread.
pub(super) struct Worker {
    config: PublisherConfig,
    feed: Feed,
    status: SharedStatus,
    stop: Arc<AtomicBool>,
    context: Context,
    /// The transactional id.
    key: String,
    claim: Claim,
    session: Option<Session>,
    /// Everything up to here is published; `None` until the brokers told.
    position: Option<i64>,
    /// The last position that is known to be there.
    end: i64,
    backoff: Backoff,
    halted: Option<String>,
    /// Did the last session end because the brokers took nothing from it any more?
    is_overtaken: bool,
    /// Did a client end itself since the last commit?
    has_died: bool,
    /// When the topic was last known to hold everything.
    complete_at: Instant,
}

impl Worker {
    pub(super) fn new(
        config: PublisherConfig,
        identity: Uuid,
        journal: Arc<dyn Journal>,
        domain: &Domain,
        status: SharedStatus,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            feed: Feed::new(config.content, &config.topic, journal, domain),
            status,
            stop: Arc::clone(stop),
            context: Context::default(),
            key: format!("agentflow-{identity}-{}", config.topic),
            claim: Claim {
                instance: Uuid::new_v4().to_string(),
                process: std::process::id(),
                claimed_at: now(),
            },
            session: None,
            position: None,
            end: 0,
            backoff: Backoff::default(),
            halted: None,
            is_overtaken: false,
            has_died: false,
            complete_at: Instant::now(),
            config,
        }
    }

    /// Works until the last sender of `inbox` is gone, or until it is told to stop.
    pub(super) fn run(mut self, inbox: &Receiver<Flush>) {
        loop {
            match inbox.recv_timeout(self.config.poll_interval) {
                Ok(Flush { reply }) => {
                    let result = self.flush();
                    // Nobody waits any more: then nobody needs the answer.
                    let _ = reply.send(result);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.halted.is_none() && self.backoff.is_over() {
                        // Told in the status.
                        let _ = self.round();
                    } else if self.look().is_ok() {
                        self.show();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.is_stopped() {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.abort();
        }
        self.status.update(|status| status.running = false);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> PublishError {
        PublishError::Stopped { topic: self.config.topic.clone() }
    }

    /// Rounds until everything is published that the journal has now.
    fn flush(&mut self) -> Result<(), PublishError> {
        let deadline = Instant::now() + self.config.flush_timeout;
        loop {
            let message = match &self.halted {
                Some(why) => why.clone(),
                None => match self.round() {
                    Ok(()) => return Ok(()),
                    Err(error) => chain(&error),
                },
            };
            if self.is_stopped() || self.halted.is_some() || Instant::now() >= deadline {
                let (topic, until) = (self.config.topic.clone(), self.end);
                return Err(PublishError::Flush { topic, until, message });
            }
            while !self.backoff.is_over() && !self.is_stopped() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Publishes what there is at its beginning, and sees to failures.
    fn round(&mut self) -> Result<(), PublishError> {
        let started = Instant::now();
        let result = self.catch_up();
        match &result {
            Ok(_) => {
                self.complete_at = started;
                self.backoff.reset();
                self.status.update(|status| status.last_error = None);
            }
            Err(PublishError::Stopped { .. }) => {}
            Err(error) => self.failed(error),
        }
        self.show();
        result
    }

    /// Looks at the end of the journal.
    fn look(&mut self) -> Result<i64, PublishError> {
        self.end = self.feed.end(self.end)?;
        Ok(self.end)
    }

    fn catch_up(&mut self) -> Result<(), PublishError> {
        let end = self.look()?;
        if let Some(session) = &self.session {
            session.hear();
        }
        if self.position.map_or(end == 0, |position| position >= end) {
            return Ok(());
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        while let Some(position) = self.position.filter(|position| *position < end) {
            if self.is_stopped() {
                self.session = Some(session);
                return Err(self.stopped());
            }
            match self.publish(&mut session, position, end) {
                Ok(()) => {}
                // The journal could not be read: nothing is wrong with the session.
                Err(error @ PublishError::Journal { .. }) => {
                    self.session = Some(session);
                    return Err(error);
                }
                Err(error) => {
                    session.abort();
                    return Err(error);
                }
            }
        }
        self.session = Some(session);
        Ok(())
    }

    fn stored(&self, position: i64, mark: Option<String>) -> Stored {
        Stored {
            position,
            mark,
            topic: self.config.topic.clone(),
            claim: self.claim.clone(),
            written_at: now(),
        }
    }

    /// Publishes one reading of the journal, in as many transactions as its bytes need.
    fn publish(
        &mut self,
        session: &mut Session,
        position: i64,
        end: i64,
    ) -> Result<(), PublishError> {
        let limits = Limits { records: self.config.max_rows, bytes: self.config.max_bytes };
        let rows = self.feed.read(position, end, limits)?;
        let longest = session.longest;
        let mut batch = Batch::default();
        let mut published = Vec::new();
        let (stop, this) = (Arc::clone(&self.stop), &*self);
        let is_stopped = move || stop.load(Ordering::Relaxed);
        let result = this
            .feed
            .each(&rows, longest, |record| {
                session.begin()?;
                batch.add(&record);
                session.send(record)?;
                if batch.bytes >= this.config.max_bytes {
                    published.push(batch.commit(this, session, &is_stopped)?);
                }
                Ok(())
            })
            .and_then(|()| {
                if batch.records > 0 {
                    published.push(batch.commit(this, session, &is_stopped)?);
                }
                Ok(())
            });
        for (position, records) in published {
            self.committed(position, records);
        }
        result?;
        self.position = Some(rows.reached);
        self.show();
        Ok(())
    }

    fn committed(&mut self, position: i64, records: u64) {
        self.position = Some(position);
        self.has_died = false;
        self.backoff.reset();
        METRICS.topic_records.with_label_values(&[&self.config.topic]).inc_by(records);
        self.status.update(|status| {
            status.records += records;
            status.transactions += 1;
            status.last_commit_at = Some(clock::now());
            status.last_error = None;
        });
    }

    fn failed(&mut self, error: &PublishError) {
        let topic = &self.config.topic;
        let mut message = chain(error);
        if let Some(hint) = error.hint() {
            message = format!("{message}; {hint}");
        }
        self.is_overtaken |= matches!(error, PublishError::Overtaken { .. });
        // A client that ended itself is replaced, for the next one begins behind what is known to be
        // published; but when that helps nothing, a person has to look.
        let has_died = matches!(error, PublishError::Fatal { .. });
        let is_over = error.retry() == Retry::Never || (has_died && self.has_died);
        self.has_died |= has_died;
        if is_over {
            tracing::error!(topic, error = message, "publishing halted");
            self.halted = Some(message.clone());
        } else {
            tracing::warn!(topic, error = message, "the topic falls behind");
            self.backoff.fail();
        }
        let halted = self.halted.clone();
        self.status.update(|status| {
            status.last_error = Some(message);
            status.halted = halted;
        });
    }

    /// Brings the status up to date.
    fn show(&self) {
        let (position, end) = (self.position, self.end);
        let behind_since = self.complete_at.elapsed().as_secs_f64();
        self.status.update(|status| {
            status.position = position;
            status.end = end;
            status.owed = position.map(|position| (end - position).max(0));
            let owed = status.owed.unwrap_or(end);
            status.owed_seconds = if owed > 0 { behind_since } else { 0.0 };
            METRICS.topic_owed.with_label_values(&[&status.topic]).set(owed);
        });
    }
}

/// Records of the open transaction.
#[derive(Default)]
struct Batch {
    records: u64,
    bytes: usize,
    last: i64,
    mark: String,
}

impl Batch {
    fn add(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.bytes += record.bytes();
        self.last = record.position;
        self.mark = record.mark.to_string();
    }

    /// Commits; gives the position and the number of records.
    fn commit(
        &mut self,
        worker: &Worker,
        session: &mut Session,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<(i64, u64), PublishError> {
        let Self { records, last, mark, .. } = std::mem::take(self);
        session.commit(&worker.stored(last, Some(mark)), is_stopped)?;
        Ok((last, records))
    }
}

/// Now, for people.
fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}
