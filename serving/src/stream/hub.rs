//! Follows the journal for all connections that get events as they come.
//!
//! One thread looks at each stretch of the journal once, when a commit says that there is one, writes each
//! event that somebody wants once, and puts it into the outboxes of those who want it. It waits for no
//! connection, and the pipeline does not wait for it. The rows are those that the writer has just had in its
//! hands ([`EventReader::fresh`]); where the thread is too far behind for that, it reads the journal.
//!
//! Nothing is missed between what a connection reads for itself and what it is given: it is told at
//! which position it joined, which is never below the end of a stretch that is being read without it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use contracts::model::Relation;
use pipeline::store::{Committed, Journal, StoreError};

use super::beginnings::Beginnings;
use super::filter::EventFilter;
use super::frame::{FrameWriter, Frames};
use super::index::{GroupId, Index, Written};
use super::outbox::{End, Outbox};
use super::priority;
use super::stats::Stats;
use crate::store::Readers;
use crate::store::events::{EventPage, EventReader, Heads, PageError};
use crate::store::fresh::Follows;

/// Shortest time from the start of one stretch to the next: under load many commits go together.
const PACE: Duration = Duration::from_millis(5);

/// And for each event of a stretch: a pipeline that commits some ten thousand a second is busy, and what it
/// commits is given in few parts...
const PACE_EVENT: Duration = Duration::from_micros(20);

/// ...but no later than this.
const LONGEST_PACE_EVENTS: Duration = Duration::from_millis(50);

/// And for each connection that was given something: sending costs each some tens of microseconds, so
/// all of them together take no more than a part of a core, however often commits come.
const PACE_EACH: Duration = Duration::from_micros(100);

/// And so many times as long as reading the journal took: it takes a tenth of a core at the most...
const PACE_READING: u32 = 10;

/// ...unless that would take longer than this.
const LONGEST_PACE_READING: Duration = Duration::from_millis(50);

/// Bytes of frames, about, that are given at once: what waits for a slow reader is bounded, and a few of these
/// fit.
const PIECE_BYTES: usize = 1 << 20;

/// How long to wait before a store that could not answer is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// The follower, shared by its thread and all connections.
pub(crate) struct Hub {
    pub(crate) reader: EventReader,
    pub(crate) writer: FrameWriter,
    /// Everything up to here is committed.
    position: AtomicI64,
    /// Position of the last commit that brought events of a family.
    touched: Vec<AtomicI64>,
    /// How many connections get events as they come.
    members: AtomicUsize,
    closed: AtomicBool,
    thread: OnceLock<Thread>,
    live: Mutex<Live>,
    stats: Arc<Stats>,
    /// Connections that have not begun.
    pub(super) beginnings: Beginnings,
}

struct Live {
    index: Index,
    /// Everything up to here was given to those who want it.
    delivered: i64,
    /// End of the stretch that is being read, or was last.
    reading: i64,
}

/// Events that somebody wants.
#[derive(Default)]
struct Wanted {
    /// Position, place in the page, row, and who wants it, as a part of `groups`.
    events: Vec<(i64, usize, usize, Range<usize>)>,
    groups: Vec<GroupId>,
}

/// A connection that gets events as they come, until it is dropped.
pub(crate) struct Membership {
    hub: Arc<Hub>,
    group: GroupId,
    connection: u64,
    _follows: Follows,
    /// What comes up to here, it has to read for itself.
    pub(crate) joined_at: i64,
}

impl Hub {
    pub(crate) fn new(readers: Readers, stats: Arc<Stats>) -> Result<Self, StoreError> {
        let position = readers.last_seq()?;
        let families = readers.domain().families.len();
        let live = Live { index: Index::new(families), delivered: position, reading: position };
        Ok(Self {
            writer: FrameWriter::new(readers.domain()),
            reader: EventReader::new(readers),
            position: AtomicI64::new(position),
            touched: (0..families).map(|_| AtomicI64::new(position)).collect(),
            members: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            thread: OnceLock::new(),
            live: Mutex::new(live),
            stats,
            beginnings: Beginnings::default(),
        })
    }

    /// Everything up to here is committed.
    pub(crate) fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    /// To be called after each commit; costs next to nothing.
    pub(crate) fn committed(&self, committed: &Committed) {
        for (relation, _) in &committed.touched {
            if let Relation::Family(family) = relation {
                self.touched[*family].fetch_max(committed.last_seq, Ordering::Relaxed);
            }
        }
        self.position.fetch_max(committed.last_seq, Ordering::SeqCst);
        if self.members.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn join(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        filter: &EventFilter,
        (connection, outbox): (u64, &Arc<Outbox>),
    ) -> Membership {
        let follows = self.reader.follow();
        let mut live = self.lock();
        self.members.fetch_add(1, Ordering::SeqCst);
        if live.index.is_empty() {
            // Nobody cared for what came before.
            live.delivered = live.delivered.max(self.position.load(Ordering::SeqCst));
        }
        // A stretch that is being read was begun for others.
        let joined_at = live.delivered.max(live.reading);
        let outbox = Arc::clone(outbox);
        let group = live.index.join(tenant, filter, (connection, joined_at), outbox);
        drop(live);
        // What was committed since is to be read.
        self.wake();
        Membership { hub: Arc::clone(self), group, connection, _follows: follows, joined_at }
    }

    /// Follows until closed.
    pub(crate) fn run(&self) {
        priority::step_back();
        let _ = self.thread.set(std::thread::current());
        while !self.closed.load(Ordering::SeqCst) {
            let Some((after, until, families)) = self.next() else {
                std::thread::park();
                continue;
            };
            let started = Instant::now();
            let fresh = self.reader.fresh(&families, after, until);
            let is_fresh = fresh.is_some();
            match fresh.map_or_else(|| self.read(after, until, &families), Ok) {
                Ok(page) => {
                    let reading = if is_fresh { Duration::ZERO } else { started.elapsed() };
                    let given = self.deliver(&page);
                    let mut live = self.lock();
                    live.delivered = live.delivered.max(page.reached);
                    drop(live);
                    if page.reached >= until {
                        let each =
                            PACE_EACH.saturating_mul(u32::try_from(given).unwrap_or(u32::MAX));
                        let reading = (reading * PACE_READING).min(LONGEST_PACE_READING);
                        let events = u32::try_from(until - after).unwrap_or(u32::MAX);
                        let events = PACE_EVENT.saturating_mul(events).min(LONGEST_PACE_EVENTS);
                        let pace = PACE.max(each).max(reading).max(events);
                        std::thread::sleep(pace.saturating_sub(started.elapsed()));
                    }
                }
                Err(PageError::Gone { until: gone }) => {
                    tracing::warn!(
                        gone,
                        "streams were ended: the journal gave up what they are owed"
                    );
                    let mut live = self.lock();
                    let count = live.index.end_all(End::Gone);
                    live.delivered = until;
                    drop(live);
                    (0..count).for_each(|_| self.stats.ended(End::Gone));
                }
                Err(PageError::Store(error)) => {
                    tracing::warn!(%error, "streams wait for the store");
                    std::thread::park_timeout(AGAIN);
                }
            }
        }
    }

    /// What is to be read, if anything: after which position, up to which, and of which families.
    pub(super) fn next(&self) -> Option<(i64, i64, Vec<usize>)> {
        let mut live = self.lock();
        let until = self.position.load(Ordering::SeqCst);
        if live.index.is_empty() || until <= live.delivered {
            return None;
        }
        let after = live.delivered;
        live.reading = until;
        let has_news = |family: &usize| {
            live.index.wants(*family) && self.touched[*family].load(Ordering::Relaxed) > after
        };
        Some((after, until, (0..self.touched.len()).filter(has_news).collect()))
    }

    pub(super) fn read(
        &self,
        after: i64,
        until: i64,
        families: &[usize],
    ) -> Result<EventPage, PageError> {
        if families.is_empty() {
            return Ok(EventPage::empty(until));
        }
        let pick = |heads: &Heads<'_>, picked: &mut Vec<i64>| {
            let live = self.lock();
            let mut found = Vec::new();
            for (row, seq) in heads.seqs.iter().enumerate() {
                live.index.find(heads.row(row), &mut found);
                if !found.is_empty() {
                    picked.push(*seq);
                    found.clear();
                }
            }
        };
        self.reader.page(families, after, until, None, &pick)
    }

    /// Gives a page's events to those who want them. Returns how many connections have something to send.
    pub(super) fn deliver(&self, page: &EventPage) -> usize {
        let frames: Result<Vec<_>, _> =
            page.rows.iter().map(|rows| self.writer.frames(rows)).collect();
        let frames = match frames {
            Ok(frames) => frames,
            Err(error) => {
                tracing::error!(%error, "events cannot be streamed");
                return 0;
            }
        };
        let wanted = self.wanted(&frames);
        let mut given = 0;
        let mut bytes = Vec::new();
        let mut ends: Vec<(i64, usize)> = Vec::new();
        let mut picked: HashMap<GroupId, Vec<usize>> = HashMap::new();
        for (at, (seq, place, row, groups)) in wanted.events.iter().enumerate() {
            frames[*place].write(*row, page, &self.reader, &mut bytes);
            for group in &wanted.groups[groups.clone()] {
                picked.entry(*group).or_default().push(ends.len());
            }
            ends.push((*seq, bytes.len()));
            if bytes.len() >= PIECE_BYTES || at + 1 == wanted.events.len() {
                let bytes = Bytes::from(std::mem::take(&mut bytes));
                given += self.push(&picked, &Written { bytes, ends: std::mem::take(&mut ends) });
                picked.clear();
            }
        }
        given
    }

    /// The rows that somebody wants, in order of position.
    fn wanted(&self, frames: &[Frames<'_>]) -> Wanted {
        let mut wanted = Wanted::default();
        let live = self.lock();
        for (place, frames) in frames.iter().enumerate() {
            let heads = frames.heads();
            for (row, seq) in heads.seqs.iter().enumerate() {
                let before = wanted.groups.len();
                live.index.find(heads.row(row), &mut wanted.groups);
                if wanted.groups.len() > before {
                    wanted.events.push((*seq, place, row, before..wanted.groups.len()));
                }
            }
        }
        drop(live);
        wanted.events.sort_unstable_by_key(|(seq, ..)| *seq);
        wanted
    }

    /// Gives frames to those who want them. Returns how many connections have something to send.
    fn push(&self, picked: &HashMap<GroupId, Vec<usize>>, written: &Written) -> usize {
        let mut live = self.lock();
        let mut given = 0;
        for (group, at) in picked {
            let pushed = live.index.push(*group, at, written);
            given += pushed.given;
            (0..pushed.slow).for_each(|_| self.stats.ended(End::Slow));
        }
        given
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.lock().index.leave(self.group, self.connection);
        self.hub.members.fetch_sub(1, Ordering::SeqCst);
    }
}
