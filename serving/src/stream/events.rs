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

use super::beginnings;
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
#[derive(Debug)]
pub(super) struct Read {
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
                let Reader { hub, tenant, filter, readers } = stream.reader.clone();
                Phase::Reading(Box::pin(async move {
                    beginnings::newest((&hub, &readers), (tenant, filter), (until, count)).await
                }))
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

    async fn read(
        self,
        read: impl FnOnce(&Self) -> Result<EventPage, PageError> + Send + 'static,
    ) -> Result<Read, End> {
        let Ok(_turn) = Arc::clone(&self.readers).acquire_owned().await else {
            return Err(End::Shutdown);
        };
        let read = move || {
            let page = read(&self)?;
            Read::of(&self.hub, &page, None, page.reached)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read.map_err(End::of),
            Err(error) => {
                tracing::error!(%error, "a stream was ended");
                Err(End::Unavailable)
            }
        }
    }
}

impl Read {
    /// The frames of a page, or of `only` some of its events: their positions, ascending.
    pub(super) fn of(
        hub: &Hub,
        page: &EventPage,
        only: Option<&[i64]>,
        reached: i64,
    ) -> Result<Self, PageError> {
        let frames: Result<Vec<_>, _> =
            page.rows.iter().map(|rows| hub.writer.frames(rows)).collect();
        let frames = frames.map_err(|error| {
            PageError::Store(pipeline::store::StoreError::Corrupt(error.to_string()))
        })?;
        let mut order = page.in_order();
        if let Some(only) = only {
            order.retain(|(seq, ..)| only.binary_search(seq).is_ok() && *seq <= reached);
        }
        let mut bytes = Vec::new();
        for (_, place, row) in &order {
            frames[*place].write(*row, page, &hub.reader, &mut bytes);
        }
        let frames = u32::try_from(order.len()).unwrap_or(u32::MAX);
        Ok(Self { chunk: Chunk { bytes: Bytes::from(bytes), frames }, reached })
    }
}
