//! The reading side: a few connections that HTTP handlers, the lake follower and commands share.
//!
//! Each connection serves one reader at a time and sees committed rows only. A reader that runs
//! longer than the time limit is interrupted; its connection stays usable. Start at
//! [`Readers::with`] and [`Readers::snapshot`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contracts::model::Domain;
use duckdb::{Connection, InterruptHandle};
use pipeline::store::StoreError;

use super::Shared;
use super::archive::Archive;
use super::backfill::Backfilling;
use super::error::{failed, is_interrupted, refused};
use super::fresh::Fresh;
use super::schema::Tables;
use super::trimmed::Trimmed;
use crate::state::Keeper;

/// The reading side of a [`super::Store`]. Clones share the same connections.
#[derive(Clone)]
pub struct Readers {
    pool: Arc<Pool>,
}

struct Pool {
    domain: Arc<Domain>,
    tables: Arc<Tables>,
    idle: Mutex<Vec<Reader>>,
    returned: Condvar,
    time_limit: Duration,
    shared: Shared,
    archive: Option<Arc<dyn Archive>>,
    watch: Arc<Watch>,
}

/// A connection and its place in [`Watch`].
struct Reader {
    conn: Connection,
    place: usize,
}

/// Interrupts readers that run too long. One thread waits for the nearest deadline.
struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
}

struct WatchState {
    handles: Vec<Arc<InterruptHandle>>,
    /// When each busy reader must have finished. Set and cleared under the lock under which it is
    /// acted on, so an interrupt never meets the next reader of the same connection.
    deadlines: Vec<Option<Instant>>,
    stop: bool,
}

impl Readers {
    pub(super) fn new(
        domain: Arc<Domain>,
        tables: Arc<Tables>,
        connections: Vec<Connection>,
        shared: Shared,
        archive: Option<Arc<dyn Archive>>,
        time_limit: Duration,
    ) -> std::io::Result<Self> {
        let watch = Arc::new(Watch {
            state: Mutex::new(WatchState {
                handles: connections.iter().map(Connection::interrupt_handle).collect(),
                deadlines: vec![None; connections.len()],
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let watching = Arc::clone(&watch);
        std::thread::Builder::new().name("store-watch".into()).spawn(move || watching.run())?;
        let idle = connections
            .into_iter()
            .enumerate()
            .map(|(place, conn)| {
                conn.set_prepared_statement_cache_capacity(128);
                Reader { conn, place }
            })
            .collect();
        let pool = Pool {
            domain,
            tables,
            idle: Mutex::new(idle),
            returned: Condvar::new(),
            time_limit,
            shared,
            archive,
            watch,
        };
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Runs `read` on a connection of its own. `context` is verb and object, for errors.
    ///
    /// Each statement sees the newest commit; use [`Self::snapshot`] when several must agree.
    /// Waits for a free connection, and for `read`, no longer than the time limit each.
    pub fn with<T>(
        &self,
        context: &str,
        read: impl FnOnce(&Connection) -> duckdb::Result<T>,
    ) -> Result<T, StoreError> {
        let borrowed = self.pool.borrow(context)?;
        borrowed.limit(self.pool.time_limit);
        read(&borrowed.reader().conn).map_err(|error| self.explain(context, &error))
    }

    /// The same in one read-only transaction and within a time limit of its own: `Err` inside says why
    /// DuckDB did not answer, interrupted at the limit too ([`is_interrupted`]).
    pub(crate) fn snapshot_within<T>(
        &self,
        context: &str,
        limit: Duration,
        read: impl FnOnce(&Connection) -> T,
    ) -> Result<T, StoreError> {
        let borrowed = self.pool.borrow(context)?;
        let transaction = borrowed.begin().map_err(|error| self.explain(context, &error))?;
        borrowed.limit(limit);
        Ok(read(transaction.conn()))
    }

    /// Runs `read` in one read-only transaction: all its statements see the same commit.
    /// Temporary tables may be made; they belong to the connection, so name them uniquely or drop
    /// them.
    pub fn snapshot<T>(
        &self,
        context: &str,
        read: impl FnOnce(&Connection) -> duckdb::Result<T>,
    ) -> Result<T, StoreError> {
        let borrowed = self.pool.borrow(context)?;
        let transaction = borrowed.begin().map_err(|error| self.explain(context, &error))?;
        borrowed.limit(self.pool.time_limit);
        read(transaction.conn()).map_err(|error| self.explain(context, &error))
    }

    /// Waits until every commit of the time `at` (µs) or earlier is visible. Later ones are later.
    pub fn settle(&self, at: i64) -> Result<(), StoreError> {
        match self.pool.shared.applying.wait(at, self.pool.time_limit) {
            true => Ok(()),
            false => {
                Err(refused("find what was known", "a commit of that time is still under way"))
            }
        }
    }

    /// The domain whose tables these readers read.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.pool.domain
    }

    /// What the journal has given up: at least as much as a snapshot sees that has begun.
    pub fn trimmed(&self) -> Option<Arc<Trimmed>> {
        self.pool.shared.horizon.get()
    }

    /// The state of metrics.
    pub(crate) fn state(&self) -> &Keeper {
        &self.pool.shared.state
    }

    /// Rows of the newest commits.
    pub(crate) fn fresh(&self) -> &Fresh {
        &self.pool.shared.fresh
    }

    /// Which metrics and entities are not whole yet.
    pub fn backfilling(&self) -> &Backfilling {
        &self.pool.shared.backfilling
    }

    /// Where the rows are that the journal has given up.
    pub(crate) fn archive(&self) -> Option<&dyn Archive> {
        self.pool.archive.as_deref()
    }

    /// Connections that are at work, and all of them.
    pub fn busy(&self) -> (usize, usize) {
        let all = lock(&self.pool.watch.state).handles.len();
        (all.saturating_sub(lock(&self.pool.idle).len()), all)
    }

    /// Longest time that one read may take.
    pub(crate) fn time_limit(&self) -> Duration {
        self.pool.time_limit
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.pool.tables
    }

    fn explain(&self, context: &str, error: &duckdb::Error) -> StoreError {
        if is_interrupted(error) {
            return StoreError::Failed {
                context: context.to_owned(),
                message: format!("stopped after the time limit of {:?}", self.pool.time_limit),
                retry: true,
            };
        }
        failed(context, error)
    }
}

/// A read-only transaction, ended however its reader ends.
struct Transaction<'a>(&'a Borrowed<'a>);

impl Transaction<'_> {
    fn conn(&self) -> &Connection {
        &self.0.reader().conn
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // The time limit ends here: an interrupt of what follows would leave the transaction open, for
        // whoever gets the connection next.
        self.0.pool.watch.set(self.0.reader().place, None);
        // Nothing was written; after an error DuckDB may have ended it already.
        let rollback = || self.conn().execute_batch("rollback");
        if rollback().is_err_and(|error| is_interrupted(&error)) {
            // By an interrupt that came just before.
            let _ = rollback();
        }
    }
}

impl Pool {
    /// A free connection. Its reader has all the time there is until [`Borrowed::limit`].
    fn borrow(&self, context: &str) -> Result<Borrowed<'_>, StoreError> {
        let idle = lock(&self.idle);
        let (mut idle, _) = self
            .returned
            .wait_timeout_while(idle, self.time_limit, |idle| idle.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let Some(reader) = idle.pop() else {
            return Err(StoreError::Failed {
                context: context.to_owned(),
                message: "all read connections are busy".into(),
                retry: true,
            });
        };
        drop(idle);
        Ok(Borrowed { pool: self, reader: Some(reader) })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.watch.state).stop = true;
        self.watch.changed.notify_one();
    }
}

/// A reader on loan; gives itself back, after a panic too.
struct Borrowed<'a> {
    pool: &'a Pool,
    reader: Option<Reader>,
}

impl Borrowed<'_> {
    fn reader(&self) -> &Reader {
        self.reader.as_ref().expect("taken only when dropped")
    }

    /// From now on the reader is interrupted after `limit`.
    fn limit(&self, limit: Duration) {
        self.pool.watch.set(self.reader().place, Some(Instant::now() + limit));
    }

    /// Begins a transaction. Before the time limit, which is the reader's: what interrupts this is told as
    /// the store's fault.
    fn begin(&self) -> duckdb::Result<Transaction<'_>> {
        let conn = &self.reader().conn;
        let begin = || conn.execute_batch("begin transaction read only");
        begin().or_else(|_| {
            // Should an earlier one be open still, it is ended now and not in the way of all that come.
            let _ = conn.execute_batch("rollback");
            begin()
        })?;
        Ok(Transaction(self))
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.pool.watch.set(reader.place, None);
            lock(&self.pool.idle).push(reader);
            self.pool.returned.notify_one();
        }
    }
}

impl Watch {
    fn set(&self, place: usize, deadline: Option<Instant>) {
        let mut state = lock(&self.state);
        let nearest = state.deadlines.iter().flatten().min().copied();
        state.deadlines[place] = deadline;
        if deadline.is_some_and(|deadline| nearest.is_none_or(|nearest| deadline < nearest)) {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        /// A reader that goes on after an interrupt is interrupted again after this time.
        const AGAIN: Duration = Duration::from_millis(100);

        let mut state = lock(&self.state);
        while !state.stop {
            let now = Instant::now();
            let WatchState { handles, deadlines, .. } = &mut *state;
            for (handle, deadline) in handles.iter().zip(deadlines.iter_mut()) {
                if deadline.is_some_and(|deadline| deadline <= now) {
                    handle.interrupt();
                    *deadline = Some(now + AGAIN);
                }
            }
            let nearest = state.deadlines.iter().flatten().min().copied();
            state = match nearest {
                Some(at) => {
                    self.changed
                        .wait_timeout(state, at.saturating_duration_since(now))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// A panic of another reader leaves these structures whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
