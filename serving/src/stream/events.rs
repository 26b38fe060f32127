//! One connection that gets events: first what it reads from the journal by itself, then what comes.
//!
//! ```text
//! newest N ──────────────┐
//!                        ├─► joined: read up to where it joined ─► as they come
//! after a position ─► far behind: page by page, as fast as its reader takes them
//! ```
//!
//! What always holds: every event it wants after its beginning is sent once, in order of position.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use futures::Stream;
use tokio::sync::Semaphore;

use super::filter::EventFilter;
use super::frame;
use super::hub::{Hub, Membership};
use super::outbox::{Chunk, End, Item, Outbox};
use super::pulse::Connection;
use super::slots::Slot;
use super::stats::OpenStream;
use crate::store::events::{EventPage, Heads, PageError};

/// Where a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the newest so many events, then what comes.
    Newest(usize),
    /// With the event after this position.
    After(i64),
}

/// A connection that is further behind reads on by itself: what came meanwhile would not wait in its
/// outbox.
const NEAR: i64 = 4_096;

/// How many positions the search for the newest events looks at, at the most.
const LOOK_BACK: i64 = 1 << 20;

/// The frames of one connection, until it ends or is dropped.
pub(crate) struct EventStream {
    phase: Phase,
    reader: Reader,
    /// Once it gets events as they come.
    membership: Option<Membership>,
    connection: Connection,
    open: OpenStream,
    _slot: Slot,
}

/// What a connection needs to read for itself.
#[derive(Clone)]
struct Reader {
    hub: Arc<Hub>,
    tenant: Arc<str>,
    filter: EventFilter,
    /// Limits how many read at once: others need the store, too.
    readers: Arc<Semaphore>,
}

enum Phase {
    /// Everything up to here was sent.
    Behind(i64),
    Reading(Pin<Box<dyn Future<Output = Result<Read, End>> + Send>>),
    Live,
    Ended,
}

/// What was read.
struct Read {
    chunk: Chunk,
    reached: i64,
}

impl EventStream {
    pub(crate) fn new(
        (hub, readers): (&Arc<Hub>, &Arc<Semaphore>),
        tenant: Arc<str>,
        filter: EventFilter,
        begin: Begin,
        (connection, open, slot): (Connection, OpenStream, Slot),
    ) -> Self {
        let reader = Reader { hub: Arc::clone(hub), tenant, filter, readers: Arc::clone(readers) };
        let mut stream =
            Self { phase: Phase::Ended, reader, membership: None, connection, open, _slot: slot };
        stream.phase = match begin {
            Begin::After(position) => Phase::Behind(position),
            Begin::Newest(count) => {
                let until = stream.join();
                Phase::Reading(Box::pin(stream.reader.clone().newest(until, count)))
            }
        };
        stream
    }

    /// From now on events are given to it. What comes up to the position returned it has to read.
    fn join(&mut self) -> i64 {
        let outbox = (self.connection.id(), self.connection.outbox());
        let membership = self.reader.hub.join(&self.reader.tenant, &self.reader.filter, outbox);
        self.membership.insert(membership).joined_at
    }

    /// What comes after `at`.
    fn after(&mut self, at: i64) -> Phase {
        let until = match &self.membership {
            Some(membership) => membership.joined_at,
            None => {
                let position = self.reader.hub.position();
                if position - at > NEAR { position } else { self.join() }
            }
        };
        if at >= until && self.membership.is_some() {
            return Phase::Live;
        }
        Phase::Reading(Box::pin(self.reader.clone().page(at, until)))
    }

    fn outbox(&self) -> &Outbox {
        self.connection.outbox()
    }

    fn last(&mut self, end: End) -> Poll<Option<Bytes>> {
        self.phase = Phase::Ended;
        self.membership = None;
        Poll::Ready(Some(Bytes::from(frame::last(end))))
    }
}

impl Stream for EventStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let this = &mut *self;
        loop {
            match &mut this.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Behind(at) => {
                    let at = *at;
                    this.phase = this.after(at);
                }
                Phase::Reading(reading) => match reading.as_mut().poll(cx) {
                    Poll::Ready(Ok(Read { chunk, reached })) => {
                        this.phase = Phase::Behind(reached);
                        if chunk.frames > 0 {
                            return match this.outbox().sends(chunk.frames) {
                                Ok(()) => Poll::Ready(Some(chunk.bytes)),
                                Err(end) => this.last(end),
                            };
                        }
                    }
                    Poll::Ready(Err(end)) => {
                        this.open.stats().ended(end);
                        return this.last(end);
                    }
                    Poll::Pending => match this.outbox().poll(cx, false) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Item::End(end)) => return this.last(end),
                        Poll::Ready(_) => return beat(),
                    },
                },
                Phase::Live => match this.outbox().poll(cx, true) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Item::Chunk(chunk)) => return Poll::Ready(Some(chunk.bytes)),
                    Poll::Ready(Item::Beat) => return beat(),
                    Poll::Ready(Item::End(end)) => return this.last(end),
                },
            }
        }
    }
}

pub(super) fn beat() -> Poll<Option<Bytes>> {
    Poll::Ready(Some(Bytes::from_static(frame::BEAT)))
}

impl Reader {
    async fn page(self, after: i64, until: i64) -> Result<Read, End> {
        self.read(move |reader| {
            let only = Some(reader.filter.only(&reader.tenant));
            let all = |heads: &Heads<'_>, picked: &mut Vec<i64>| picked.extend(heads.seqs);
            reader.hub.reader.page(reader.filter.families(), after, until, only, &all)
        })
        .await
    }

    async fn newest(self, until: i64, count: usize) -> Result<Read, End> {
        self.read(move |reader| {
            let only = reader.filter.only(&reader.tenant);
            let families = reader.filter.families();
            reader.hub.reader.newest(families, until, (count, LOOK_BACK), only)
        })
        .await
    }

    async fn read(
        self,
        read: impl FnOnce(&Self) -> Result<EventPage, PageError> + Send + 'static,
    ) -> Result<Read, End> {
        let Ok(_turn) = Arc::clone(&self.readers).acquire_owned().await else {
            return Err(End::Shutdown);
        };
        let reading = tokio::task::spawn_blocking(move || self.write(&read(&self)?));
        match reading.await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(PageError::Gone { .. })) => Err(End::Gone),
            Ok(Err(PageError::Store(error))) => {
                tracing::warn!(%error, "a stream was ended");
                Err(End::Unavailable)
            }
            Err(error) => {
                tracing::error!(%error, "a stream was ended");
                Err(End::Unavailable)
            }
        }
    }

    /// All frames of a page.
    fn write(&self, page: &EventPage) -> Result<Read, PageError> {
        let frames: Result<Vec<_>, _> =
            page.rows.iter().map(|rows| self.hub.writer.frames(rows)).collect();
        let frames = frames.map_err(|error| {
            PageError::Store(pipeline::store::StoreError::Corrupt(error.to_string()))
        })?;
        let order = page.in_order();
        let mut bytes = Vec::new();
        for (_, place, row) in &order {
            frames[*place].write(*row, page, &self.hub.reader, &mut bytes);
        }
        let frames = u32::try_from(order.len()).unwrap_or(u32::MAX);
        Ok(Read { chunk: Chunk { bytes: Bytes::from(bytes), frames }, reached: page.reached })
    }
}
