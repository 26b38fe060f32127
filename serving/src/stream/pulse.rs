//! A sign of life on every connection that has nothing else to say: one timer for all of them.
//!
//! Each connection has its moment, so that ten thousand of them are not woken at once.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::outbox::{End, Outbox, TICKS};
use super::stats::Account;

/// Time from one tick of a connection to the next: [`TICKS`] of them are a little less than the second
/// in which clients expect something.
const PERIOD: Duration = Duration::from_millis(950 / TICKS as u64);

/// Moments within it.
const MOMENTS: u32 = 19;

/// All open connections.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    state: Mutex<State>,
    changed: Condvar,
    in_all: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    moments: [HashMap<u64, Arc<Outbox>>; MOMENTS as usize],
    closed: bool,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    pulse: Arc<Pulse>,
    id: u64,
    outbox: Arc<Outbox>,
}

impl Pulse {
    /// A new connection; `None` once the server ends.
    pub(crate) fn connect(self: &Arc<Self>, account: Account) -> Option<Connection> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let outbox = Arc::new(Outbox::new(Arc::clone(&self.in_all), account));
        state.moments[moment(id)].insert(id, Arc::clone(&outbox));
        drop(state);
        self.changed.notify_one();
        Some(Connection { pulse: Arc::clone(self), id, outbox })
    }

    /// Ends all connections, and takes no new ones.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for outbox in state.moments.iter().flat_map(HashMap::values) {
            outbox.end(End::Shutdown);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Runs until closed; sleeps for as long as there is no connection.
    pub(crate) fn run(&self) {
        let mut due = Instant::now();
        let mut due_now: Vec<Arc<Outbox>> = Vec::new();
        for at in (0..MOMENTS as usize).cycle() {
            let is_empty =
                |state: &mut State| !state.closed && state.moments.iter().all(HashMap::is_empty);
            let state = self.changed.wait_while(self.lock(), is_empty);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
            // Ticks write to sockets, which takes some microseconds each: nobody shall wait for all of them.
            due_now.extend(state.moments[at].values().cloned());
            drop(state);
            due_now.drain(..).for_each(|outbox| outbox.tick());
            // A moment that comes late does not put off those after it: they would be late, too, and each
            // connection's second is nearly over when its own comes. Only a long pause is not made up for.
            let now = Instant::now();
            due += PERIOD / MOMENTS;
            if now.saturating_duration_since(due) > PERIOD {
                due = now;
            }
            std::thread::sleep(due.saturating_duration_since(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pulse.lock().moments[moment(self.id)].remove(&self.id);
    }
}

fn moment(id: u64) -> usize {
    (id % u64::from(MOMENTS)) as usize
}
