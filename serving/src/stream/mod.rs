//! Streams: events as they are committed, and metrics whenever they move.
//!
//! ```text
//!              ┌─► hub: reads each stretch of the journal once ─► outbox of each connection ─┐
//! commit ──────┤                                                                             ├─► HTTP
//!              └─► feeds: one question each, asked once ────────► outbox of each connection ─┘
//! ```
//!
//! What always holds: a commit waits for no stream; a stream gets every event it asked for once and in
//! order of position, or is ended with a frame that says why; nobody gets another tenant's. Start at
//! [`Streams`].

mod beginnings;
mod events;
mod filter;
mod frame;
mod hub;
mod index;
mod metric;
mod outbox;
mod priority;
mod pulse;
pub(crate) mod slots;
mod stats;
#[cfg(test)]
mod tests;
mod unsent;
mod wire;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use contracts::model::Domain;
use futures::Stream;
use pipeline::store::{Committed, StoreError};
use tokio::sync::Semaphore;

pub use self::events::Begin;
pub use self::filter::EventFilter;
pub use self::slots::TooMany;
pub use self::stats::StreamStats;

use self::events::EventStream;
use self::hub::Hub;
use self::metric::Feeds;
use self::outbox::Outbox;
use self::pulse::{Connection, Pulse};
use self::slots::{Slot, Slots};
use self::stats::{Account, Kind, OpenStream, Stats};
pub(crate) use self::wire::Wire;
use crate::access::Pass;
use crate::cache::Cache;
use crate::question::{MetricQuestion, ReadError};
use crate::store::Readers;
use crate::store::events::PageError;

/// Streams that read the journal, or ask for a metric, at once: each takes one of the store's read
/// connections, which answers to requests need, too.
const READERS: usize = 2;

/// Limits of streams.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Most streams of one tenant at once.
    pub max_per_tenant: usize,
    /// Most streams at once.
    pub max_in_all: usize,
    /// Shortest time between two answers of one metric stream.
    pub min_interval: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { max_per_tenant: 5, max_in_all: 16_384, min_interval: Duration::from_millis(50) }
    }
}

/// All streams of a process. Clones are the same; the last one ends the threads.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    hub: Arc<Hub>,
    feeds: Arc<Feeds>,
    pulse: Arc<Pulse>,
    slots: Slots,
    stats: Arc<Stats>,
    readers: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Frames, until the stream ends.
pub struct Frames {
    frames: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    outbox: Arc<Outbox>,
}

impl Frames {
    fn new(outbox: &Arc<Outbox>, frames: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { frames: Box::pin(frames), outbox: Arc::clone(outbox) }
    }
}

impl Stream for Frames {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.frames.as_mut().poll_next(cx)
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// As many are open as may be.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// What it is to begin with is no longer in the journal.
    #[error(
        "events up to position {until} are no longer in the journal, and `{after}` is before it"
    )]
    Gone {
        /// The position asked for.
        after: i64,
        /// Highest position that is gone.
        until: i64,
    },
    /// It is to begin after a position that is not there yet.
    #[error("position `{after}` is ahead of the journal, whose last one is {last}")]
    Ahead {
        /// The position asked for.
        after: i64,
        /// The last one there is.
        last: i64,
    },
    /// The server ends.
    #[error("the server ends")]
    Ending,
    /// The question has no answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Streams {
    /// Starts the threads. They sleep while no stream is open.
    pub fn start(
        readers: Readers,
        cache: Arc<Cache>,
        options: &StreamOptions,
    ) -> Result<Self, StoreError> {
        let stats = Arc::new(Stats::default());
        let hub = Arc::new(Hub::new(readers, Arc::clone(&stats))?);
        let pulse = Arc::new(Pulse::default());
        let turns = Arc::new(Semaphore::new(READERS));
        let feeds = Feeds::new(cache, options.min_interval, Arc::clone(&turns));
        let (following, beating) = (Arc::clone(&hub), Arc::clone(&pulse));
        let threads =
            [spawn("streams", move || following.run()), spawn("pulse", move || beating.run())];
        let inner = Inner {
            hub,
            feeds,
            pulse,
            slots: Slots::new(options.max_per_tenant, options.max_in_all),
            stats,
            readers: turns,
            threads: Mutex::default(),
        };
        for thread in threads {
            let thread = thread.map_err(|error| StoreError::Failed {
                context: "start a thread for streams".to_owned(),
                message: error.to_string(),
                retry: false,
            })?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// To be called after each commit, when the cache knows of it. Quick: it is on the way of events.
    pub fn committed(&self, committed: &Committed) {
        self.0.hub.committed(committed);
        self.0.feeds.committed();
    }

    /// Everything up to here is committed, and the cache knows of it.
    pub(crate) fn position(&self) -> i64 {
        self.0.hub.position()
    }

    /// Events of a tenant, for as long as `pass` is good. Reads nothing yet, so it does not block. Needs
    /// a tokio runtime to be read.
    pub fn events(
        &self,
        (tenant, pass): (&Arc<str>, Pass),
        filter: EventFilter,
        begin: Begin,
    ) -> Result<Frames, StreamError> {
        let Inner { hub, readers, .. } = &*self.0;
        if let Begin::After(after) = begin {
            let last = hub.position();
            if after > last {
                return Err(StreamError::Ahead { after, last });
            }
            if let Err(PageError::Gone { until }) = hub.reader.check(filter.families(), after) {
                return Err(StreamError::Gone { after, until });
            }
        }
        let held = self.open(tenant, Kind::Events, pass)?;
        let (tenant, outbox) = (Arc::clone(tenant), Arc::clone(held.0.outbox()));
        let stream = EventStream::new((hub, readers), tenant, filter, begin, held);
        Ok(Frames::new(&outbox, stream))
    }

    /// A live question's answer, and again whenever it moves, for as long as `pass` is good. Blocks as a
    /// read does; within a runtime.
    pub fn metric(
        &self,
        (tenant, pass): (&Arc<str>, Pass),
        question: MetricQuestion,
    ) -> Result<Frames, StreamError> {
        let held = self.open(tenant, Kind::Metric, pass)?;
        let outbox = Arc::clone(held.0.outbox());
        let runtime = tokio::runtime::Handle::current();
        Ok(Frames::new(&outbox, self.0.feeds.subscribe(question, held, &runtime)?))
    }

    /// The contracts.
    pub fn domain(&self) -> &Arc<Domain> {
        self.0.hub.reader.domain()
    }

    /// Counts.
    pub fn stats(&self) -> StreamStats {
        self.0.stats.read()
    }

    /// Ends all streams, each with a last frame, and opens no more.
    pub fn close(&self) {
        self.0.pulse.close();
    }

    fn open(
        &self,
        tenant: &Arc<str>,
        kind: Kind,
        pass: Pass,
    ) -> Result<(Connection, OpenStream, Slot), StreamError> {
        let slot = self.0.slots.take(tenant)?;
        let account = Account::new(&self.0.stats, kind, pass);
        let connection = self.0.pulse.connect(account).ok_or(StreamError::Ending)?;
        Ok((connection, self.0.stats.open(kind), slot))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.pulse.close();
        self.hub.close();
        // The store must not be read any more when its directory is let go.
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}
