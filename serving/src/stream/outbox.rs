//! What waits to be sent on one connection: a bounded queue, and how the connection ends.
//!
//! Whoever puts something in never waits. What does not fit ends the connection: its reader is slower
//! than what it asked for, and can resume where it was. All queues together are bounded too: beyond
//! that, a queue may hold little.
//!
//! Where the connection is a bare socket ([`Outbox::attach`]) whose task has nothing left to do, whoever
//! puts something in writes it there and then: no task is woken for it. What the socket does not take is
//! left to the task, and what comes after that waits in the queue, so the order stays.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use tokio::net::TcpStream;

use super::frame;
use super::stats::Account;
use super::unsent::Unsent;
use crate::store::events::PageError;

/// Most bytes that wait on one connection: some thousand events, so a reader that keeps up is not
/// ended because a large commit came.
const MOST: usize = 4 << 20;

/// Bytes that may wait on all connections before each may hold only [`FEW`].
const MOST_IN_ALL: usize = 64 << 20;

/// A connection that sends nothing for so many ticks, or one less and a part, sends a sign of life.
pub(crate) const TICKS: u8 = 2;

/// See [`MOST_IN_ALL`].
const FEW: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Its reader is too slow.
    Slow,
    /// What it is to get is in the lake only.
    Gone,
    /// The store cannot answer.
    Unavailable,
    /// The server ends.
    Shutdown,
    /// Its key opens it no more.
    Revoked,
}

impl End {
    /// Of a connection whose events could not be read.
    pub(crate) fn of(error: PageError) -> Self {
        match error {
            PageError::Gone { .. } => Self::Gone,
            PageError::Store(error) => {
                tracing::warn!(%error, "a stream was ended");
                Self::Unavailable
            }
        }
    }
}

/// One or more whole frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) frames: u32,
}

/// What a connection sends next.
#[derive(Debug)]
pub(crate) enum Item {
    Chunk(Chunk),
    /// Nothing was sent for a while.
    Beat,
    End(End),
}

/// What came of writing to a socket at once.
enum Direct {
    /// Nothing was written: it is not free.
    Refused,
    Written,
    /// The rest, or the end, is for the task.
    Left,
}

/// The queue of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    in_all: Arc<AtomicUsize>,
    account: Account,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    end: Option<End>,
    /// Ticks until a sign of life is due.
    ticks: u8,
    /// A sign of life is due.
    beat: bool,
    waker: Option<Waker>,
    /// Does whoever waits take events?
    takes_events: bool,
    socket: Option<Arc<TcpStream>>,
    /// Nobody else writes to the socket now, and nothing is left from before.
    is_free: bool,
    /// What the socket did not take.
    unsent: Unsent,
}

impl Outbox {
    /// An empty one; `in_all` counts the bytes of all that share it.
    pub(crate) fn new(in_all: Arc<AtomicUsize>, account: Account) -> Self {
        let state = State {
            chunks: VecDeque::new(),
            bytes: 0,
            end: None,
            ticks: TICKS,
            beat: false,
            waker: None,
            takes_events: false,
            socket: None,
            is_free: false,
            unsent: Unsent::default(),
        };
        Self { state: Mutex::new(state), in_all, account }
    }

    /// From now on what comes may be written to this socket, whenever it is free ([`Self::free`]).
    pub(crate) fn attach(&self, socket: Arc<TcpStream>) {
        self.lock().socket = Some(socket);
    }

    /// The caller writes to the socket until it says [`Self::free`], and begins with what is left.
    pub(crate) fn take_socket(&self) -> Unsent {
        let mut state = self.lock();
        state.is_free = false;
        std::mem::take(&mut state.unsent)
    }

    /// The caller has written everything, and waits: its last [`Self::poll`] was pending.
    pub(crate) fn free(&self) {
        self.lock().is_free = true;
    }

    /// Adds to what waits. False when it did not fit, and the connection ends.
    pub(crate) fn push(&self, chunk: Chunk) -> bool {
        let mut state = self.lock();
        if let Some(end) = state.end {
            return end != End::Slow;
        }
        let most = if self.in_all.load(Ordering::Relaxed) > MOST_IN_ALL { FEW } else { MOST };
        let fits = state.chunks.is_empty() || state.bytes + chunk.bytes.len() <= most;
        if fits && state.takes_events {
            match self.write(&mut state, &chunk) {
                Direct::Refused => {}
                Direct::Written => return true,
                Direct::Left => {
                    wake(state);
                    return true;
                }
            }
        }
        if fits {
            state.bytes += chunk.bytes.len();
            self.in_all.fetch_add(chunk.bytes.len(), Ordering::Relaxed);
            state.chunks.push_back(chunk);
        } else {
            self.clear(&mut state);
            state.end = Some(End::Slow);
        }
        wake(state);
        fits
    }

    /// Puts the newest in the place of what waits.
    pub(crate) fn replace(&self, chunk: Chunk) {
        let mut state = self.lock();
        if state.end.is_none() {
            self.clear(&mut state);
            if state.takes_events {
                match self.write(&mut state, &chunk) {
                    Direct::Refused => {}
                    Direct::Written => return,
                    Direct::Left => return wake(state),
                }
            }
            state.bytes = chunk.bytes.len();
            self.in_all.fetch_add(state.bytes, Ordering::Relaxed);
            state.chunks.push_back(chunk);
            wake(state);
        }
    }

    /// Ends the connection; what waits is not sent any more.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            self.clear(&mut state);
            state.end = Some(end);
            wake(state);
        }
    }

    /// To be called in equal intervals.
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        state.ticks = state.ticks.saturating_sub(1);
        if state.ticks == 0 && state.end.is_none() {
            state.ticks = TICKS;
            match self.write(&mut state, &beat()) {
                Direct::Refused => state.beat = true,
                Direct::Written => return,
                Direct::Left => {}
            }
            wake(state);
        }
    }

    /// What is next; events only with `events`, otherwise they go on waiting.
    pub(crate) fn poll(&self, cx: &Context<'_>, events: bool) -> Poll<Item> {
        let mut state = self.lock();
        let has_something = state.beat || (events && !state.chunks.is_empty());
        if has_something {
            self.check(&mut state);
        }
        if let Some(end) = state.end {
            return Poll::Ready(Item::End(end));
        }
        if events && let Some(chunk) = state.chunks.pop_front() {
            state.bytes -= chunk.bytes.len();
            self.in_all.fetch_sub(chunk.bytes.len(), Ordering::Relaxed);
            self.count(&mut state, chunk.frames);
            return Poll::Ready(Item::Chunk(chunk));
        }
        if std::mem::take(&mut state.beat) {
            return Poll::Ready(Item::Beat);
        }
        state.takes_events = events;
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// So many frames are sent that did not wait here; an error when they must not be.
    pub(crate) fn sends(&self, frames: u32) -> Result<(), End> {
        let mut state = self.lock();
        self.check(&mut state);
        self.count(&mut state, frames);
        state.end.map_or(Ok(()), Err)
    }

    /// Writes to the socket if it is free. Never waits: what the socket does not take is left to its task.
    fn write(&self, state: &mut State, chunk: &Chunk) -> Direct {
        let State { is_free: true, socket: Some(socket), .. } = state else {
            return Direct::Refused;
        };
        if !state.chunks.is_empty() || state.beat {
            // Its task was woken for them and is about to come.
            return Direct::Refused;
        }
        let socket = Arc::clone(socket);
        self.check(state);
        if state.end.is_none() {
            state.unsent = Unsent::after_sending(&socket, &chunk.bytes);
            self.count(state, chunk.frames);
            if state.unsent.is_empty() {
                return Direct::Written;
            }
        }
        state.is_free = false;
        Direct::Left
    }

    /// Ends the connection if its key does not open it any more.
    fn check(&self, state: &mut State) {
        if state.end.is_none() && !self.account.is_good() {
            self.clear(state);
            state.end = Some(End::Revoked);
        }
    }

    fn count(&self, state: &mut State, frames: u32) {
        (state.ticks, state.beat) = (TICKS, false);
        self.account.sent(frames);
    }

    fn clear(&self, state: &mut State) {
        state.chunks = VecDeque::new();
        self.in_all.fetch_sub(std::mem::take(&mut state.bytes), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.in_all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn beat() -> Chunk {
    Chunk { bytes: Bytes::from_static(frame::BEAT), frames: 0 }
}

/// Wakes whoever waits, after the lock is gone.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(length: usize) -> Chunk {
        Chunk { bytes: Bytes::from(vec![b'x'; length]), frames: 1 }
    }

    fn next(outbox: &Outbox) -> Option<Item> {
        match outbox.poll(&Context::from_waker(Waker::noop()), true) {
            Poll::Ready(item) => Some(item),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_does_not_fit_ends_the_connection_and_frees_what_waited() {
        let in_all = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox::new(Arc::clone(&in_all), Account::default());
        assert!(outbox.push(chunk(MOST)), "one chunk always fits");
        assert_eq!(in_all.load(Ordering::Relaxed), MOST);
        assert!(!outbox.push(chunk(1)));
        assert_eq!(in_all.load(Ordering::Relaxed), 0);
        assert!(matches!(next(&outbox), Some(Item::End(End::Slow))));
        assert!(!outbox.push(chunk(1)), "nothing is taken any more");
        outbox.end(End::Shutdown);
        assert!(matches!(next(&outbox), Some(Item::End(End::Slow))), "the first reason stays");
    }

    #[test]
    fn when_all_hold_much_each_may_hold_little() {
        let in_all = Arc::new(AtomicUsize::new(MOST_IN_ALL + 1));
        let outbox = Outbox::new(Arc::clone(&in_all), Account::default());
        assert!(outbox.push(chunk(FEW - 1)) && outbox.push(chunk(1)));
        assert!(!outbox.push(chunk(1)));
        let outbox = Outbox::new(Arc::clone(&in_all), Account::default());
        assert!(outbox.push(chunk(7)));
        drop(outbox);
        assert_eq!(in_all.load(Ordering::Relaxed), MOST_IN_ALL + 1);
    }

    #[test]
    fn a_beat_is_sent_only_where_nothing_else_was() {
        let outbox = Outbox::new(Arc::default(), Account::default());
        let ticks = || {
            let counted = (1..10).find(|_| {
                outbox.tick();
                matches!(next(&outbox), Some(Item::Beat))
            });
            counted.unwrap()
        };
        assert_eq!([ticks(), ticks()], [2, 2]);
        outbox.tick();
        outbox.push(chunk(1));
        assert!(matches!(next(&outbox), Some(Item::Chunk(_))));
        assert_eq!(ticks(), 2, "something was sent");
        outbox.tick();
        outbox.sends(1).unwrap();
        assert_eq!(ticks(), 2);
    }

    #[test]
    fn the_newest_takes_the_place_of_what_waits() {
        let outbox = Outbox::new(Arc::default(), Account::default());
        outbox.replace(chunk(1));
        outbox.replace(chunk(2));
        assert!(matches!(next(&outbox), Some(Item::Chunk(chunk)) if chunk.bytes.len() == 2));
        assert!(next(&outbox).is_none());
    }
}
