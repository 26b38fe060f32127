//! Taking a topic over: nobody else publishes it from here on, and it is known up to where it is
//! published.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Worker;
use crate::sink::kafka::error::PublishError;
use crate::sink::kafka::ledger::{self, UpTo};
use crate::sink::kafka::position::{Facts, Start, Stored, choose_position};
use crate::sink::kafka::session::Session;
use crate::sink::kafka::topics;

/// A newer process needs a moment to say in the topic of positions that it publishes.
const OTHER_CLAIMS_WITHIN: Duration = Duration::from_secs(2);

impl Worker {
    /// Takes the topic over and finds out up to where it is published.
    pub(super) fn open(&mut self) -> Result<Session, PublishError> {
        self.context.clear();
        if self.is_overtaken {
            self.pause(OTHER_CLAIMS_WITHIN);
        }
        let (stop, context) = (Arc::clone(&self.stop), self.context.clone());
        let is_stopped = move || stop.load(Ordering::Relaxed);
        let longest = topics::ensure(&self.config, &context, &is_stopped)?;
        let read = |this: &Self, up_to| {
            ledger::read(&this.config, &this.key, up_to, &context, &is_stopped)
        };
        // First without fencing anybody: a directory that must not publish takes nothing from the
        // one that does.
        let seen = read(self, UpTo::Visible)?;
        if let Some(other) = seen.as_ref().filter(|stored| stored.claim != self.claim)
            && self.is_overtaken
        {
            let by = other.claim.clone();
            return Err(PublishError::Fenced { topic: self.config.topic.clone(), by });
        }
        self.start_behind(seen)?;
        let mut session =
            Session::open(&self.config, &self.key, longest, &self.context, &is_stopped)?;
        let stored = read(self, UpTo::End)?;
        let position = self.start_behind(stored.clone())?;
        let mark = self.feed.mark(position)?.or_else(|| {
            // A row that the journal does not keep any more.
            stored.filter(|stored| stored.position == position)?.mark
        });
        // Says that it is us who publish now, before there is anything to publish.
        session.begin()?;
        session.commit(&self.stored(position, mark), &is_stopped)?;
        self.is_overtaken = false;
        self.position = Some(position);
        tracing::info!(topic = self.config.topic, position, "publishing");
        Ok(session)
    }

    /// Where to begin, given what the topic of positions says.
    fn start_behind(&self, stored: Option<Stored>) -> Result<i64, PublishError> {
        let end = self.feed.end(0)?;
        let mark = match &stored {
            Some(stored) if (1..=end).contains(&stored.position) => {
                self.feed.mark(stored.position)?
            }
            _ => None,
        };
        let facts = Facts {
            stored: stored.map(|stored| (stored.position, stored.mark)),
            remembered: self.position,
            end,
            mark,
        };
        match choose_position(&facts) {
            Start::Beginning => Ok(0),
            Start::After(position) => Ok(position),
            Start::Halt(halt) => {
                Err(PublishError::Halted { topic: self.config.topic.clone(), halt })
            }
        }
    }

    fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while Instant::now() < until && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
