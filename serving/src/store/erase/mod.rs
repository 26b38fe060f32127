//! Erasing what belongs to one key of an entity: from the journal, the entities, the dead letters, and
//! with that from every answer.
//!
//! One transaction of the writer does it, between two batches, so nobody sees a part of it, and it also
//! notes what is left: the rows in the lake, which are written anew by
//! [`pipeline::sink::iceberg::erase`] once the lake has all rows up to the erasure. Until then the order
//! is kept in the store, so a process that dies goes on with it.
//!
//! The rules whose rows are whose are in [`pipeline::erase`]. Here: [`apply`] finds and changes rows,
//! [`entities`] folds again what was folded from them, [`audit`] keeps the record.

mod apply;
mod archive;
mod audit;
mod entities;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contracts::model::Domain;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use duckdb::Connection;
use pipeline::entity::FoldError;
use pipeline::erase::{EraseError, Eraser, Order, Subject};
use pipeline::store::{Committed, StoreError};
use uuid::Uuid;

use super::archive::ArchiveError;
use super::error::{OpenError, failed};
use super::readers::Readers;
use super::schema::BOOKKEEPING;
use super::{StoreOptions, database};

pub(super) use self::archive::ErasedArchive;
pub use self::audit::{Erasure, ErasureState};

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraseRequest {
    /// Whose rows.
    pub subject: Subject,
    /// Why, for the record.
    pub reason: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// Why nothing was erased. The store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum EraseFailure {
    /// The request cannot be met.
    #[error(transparent)]
    Request(#[from] EraseError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows that only the lake has are needed and cannot be had.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Entities could not be folded again.
    #[error("fold entities again without what was erased: {0}")]
    Fold(#[from] FoldError),
    /// Rows do not fit their contracts.
    #[error("erase columns: {0}")]
    Rows(#[from] arrow::error::ArrowError),
    /// Old events are being folded into new versions, so no one knows yet which of them an entity has.
    #[error("new versions are being backfilled, and nothing is erased meanwhile")]
    Backfilling,
    /// Nobody takes requests: the pipeline has ended.
    #[error("nobody writes to the store")]
    NoWriter,
    /// The writer did not come to it in time; it may still do it.
    #[error("the writer did not come to it within {} s", .0.as_secs())]
    Late(Duration),
}

impl From<duckdb::Error> for EraseFailure {
    fn from(error: duckdb::Error) -> Self {
        Self::Store(failed("erase rows", &error))
    }
}

/// What the writer is asked to do.
enum Asked {
    /// With whether whoever asked has given up waiting.
    Erase(EraseRequest, Arc<AtomicBool>, Sender<Result<Erasure, EraseFailure>>),
    Note(Uuid, BTreeSet<String>, Sender<Result<(), StoreError>>),
    Finish(Uuid, BTreeMap<String, u64>, Sender<Result<(), StoreError>>),
}

/// Told what an erasure touched, after it is visible and before whoever asked for it is told.
pub type OnErased = Arc<dyn Fn(&Committed) + Send + Sync>;

/// The way for requests to the writer of a store. Clones are the same one.
#[derive(Clone)]
pub struct Erasures {
    domain: Arc<Domain>,
    inner: Arc<Mutex<Inner>>,
    /// Wakes whoever does the rest in the lake.
    done: (Sender<()>, Receiver<()>),
}

#[derive(Default)]
struct Inner {
    asked: VecDeque<Asked>,
    on_erased: Option<OnErased>,
    problem: Option<String>,
    /// Those that the lake has still rows of.
    pending: Vec<Eraser>,
    unknown: Option<EraseError>,
    is_closed: bool,
}

impl std::fmt::Debug for Erasures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erasures").finish_non_exhaustive()
    }
}

impl Erasures {
    pub(super) fn new(domain: Arc<Domain>) -> Self {
        Self { domain, inner: Arc::default(), done: bounded(1) }
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Who has to know of each erasure.
    pub fn on_erased(&self, told: OnErased) {
        self.lock().on_erased = Some(told);
    }

    /// Asks the writer and waits for it, `patience` at the longest.
    pub fn ask(&self, request: EraseRequest, patience: Duration) -> Result<Erasure, EraseFailure> {
        let (reply, answer) = bounded(1);
        let given_up = Arc::new(AtomicBool::new(false));
        let asked = Asked::Erase(request, Arc::clone(&given_up), reply);
        self.push(asked).map_err(|()| EraseFailure::NoWriter)?;
        match answer.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                given_up.store(true, Ordering::Relaxed);
                Err(EraseFailure::Late(patience))
            }
            Err(RecvTimeoutError::Disconnected) => Err(EraseFailure::NoWriter),
        }
    }

    /// Has the writer keep which files of the lake are to be removed.
    pub fn note(&self, id: Uuid, files: BTreeSet<String>) -> Result<(), EraseFailure> {
        let (reply, answer) = bounded(1);
        self.push(Asked::Note(id, files, reply)).map_err(|()| EraseFailure::NoWriter)?;
        Ok(answer.recv().map_err(|_| EraseFailure::NoWriter)??)
    }

    /// Tells the writer that the lake has nothing of it any more.
    pub fn finish(&self, id: Uuid, lake_rows: BTreeMap<String, u64>) -> Result<(), EraseFailure> {
        let (reply, answer) = bounded(1);
        self.push(Asked::Finish(id, lake_rows, reply)).map_err(|()| EraseFailure::NoWriter)?;
        Ok(answer.recv().map_err(|_| EraseFailure::NoWriter)??)
    }

    /// What the lake has not erased yet. At least as much as any reader sees as erased.
    pub(super) fn pending(&self) -> Vec<Eraser> {
        self.lock().pending.clone()
    }

    pub(super) fn set_pending(&self, pending: Vec<Eraser>) {
        self.lock().pending = pending;
    }

    /// Reads what the lake has not erased yet. As long as a contract that one was asked under is not there,
    /// nothing that only the lake has is shown ([`ErasedArchive`]).
    pub(super) fn load_pending(&self, conn: &Connection) -> duckdb::Result<()> {
        let orders = audit::pending(conn)?.into_iter().map(|(_, order)| order);
        let resumed: Vec<_> =
            orders.map(|order| Eraser::resume(Arc::clone(&self.domain), order)).collect();
        let mut inner = self.lock();
        inner.unknown = resumed.iter().find_map(|resumed| resumed.as_ref().err()).cloned();
        inner.pending = resumed.into_iter().flatten().collect();
        Ok(())
    }

    /// Why one of those that are pending cannot be gone on with.
    pub(super) fn unknown(&self) -> Option<EraseError> {
        self.lock().unknown.clone()
    }

    /// What is in the way of the lake, if anything.
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Says what is in the way of the lake, or that nothing is.
    pub fn set_problem(&self, problem: Option<String>) {
        self.lock().problem = problem;
    }

    fn push(&self, asked: Asked) -> Result<(), ()> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(());
        }
        inner.asked.push_back(asked);
        Ok(())
    }

    fn next(&self) -> Option<Asked> {
        self.lock().asked.pop_front()
    }

    /// No writer takes requests any more; those that wait are answered so.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.asked.clear();
        // It holds readers of the store, which would keep the store open.
        let told = inner.on_erased.take();
        drop(inner);
        drop(told);
    }

    /// Waits until something was erased in the store, `patience` at the longest; tells whether it was.
    pub fn wait(&self, patience: Duration) -> bool {
        self.done.1.recv_timeout(patience).is_ok()
    }

    fn tell(&self, committed: &Committed) {
        // Whoever was not woken yet will be.
        let _ = self.done.0.try_send(());
        let told = self.lock().on_erased.clone();
        if let Some(told) = told {
            told(committed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is an erasure of the store in `dir` not done in the lake yet? The caller holds the directory.
pub fn is_pending_in(dir: &Path) -> Result<bool, OpenError> {
    let conn = database::open(dir, &StoreOptions::default())?;
    database::check_format(&conn, dir)?;
    let is_pending = conn
        .execute_batch(BOOKKEEPING)
        .and_then(|()| audit::pending(&conn))
        .map_err(|error| failed("read erasures", &error))?;
    Ok(!is_pending.is_empty())
}

/// Removes what an unfinished rebuild has made in `dir`: it may hold what was erased since it was begun.
pub fn drop_unfinished_rebuild(dir: &Path) -> std::io::Result<()> {
    let file = database::unfinished(dir);
    for file in [database::log_of(&file), file] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Readers {
    /// Erasures so far, newest first.
    pub fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        self.with("read erasures", |conn| audit::read(conn, None))
    }

    /// The erasure of that id.
    pub fn erasure(&self, id: Uuid) -> Result<Option<Erasure>, StoreError> {
        Ok(self.with("read an erasure", |conn| audit::read(conn, Some(id)))?.pop())
    }

    /// The erasures that the lake has still rows of, oldest first, and which.
    pub fn pending_erasures(&self) -> Result<Vec<(Erasure, Order)>, StoreError> {
        self.with("read erasures", audit::pending)
    }
}
