//! What a backup and the writer agree on: where the store can be cut, and that no checkpoint is made
//! while the files of that cut are copied.
//!
//! What always holds: the writer never waits for a backup. A lease ends by itself at its deadline,
//! and is broken earlier where the log would become too long or the disk too full for a checkpoint.
//! A lease holds exactly as long as no checkpoint was made since it began: one that is past its
//! deadline is as good as before until the writer makes use of that.
//! Start at [`Backups::begin`]; [`decide`] says when the writer goes first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// How long a lease holds after it was begun or renewed.
pub const LEASE: Duration = Duration::from_secs(60);

/// How many times the length at which a log is folded a backup may let it become.
const PATIENCE: u64 = 4;

/// A state of the store that its files can be cut at: a commit and all before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Checkpoints that this process made before it.
    pub generation: u64,
    /// Bytes of the log that belong to it. The rest of it is in the database file.
    pub log_bytes: u64,
    /// Journal position of its last event.
    pub position: i64,
}

/// A lease, as its holder sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Names it.
    pub id: Uuid,
    /// What may be copied.
    pub cut: Cut,
    /// When it ends unless it is renewed.
    pub until: Instant,
}

/// Why a lease holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It was not renewed in time.
    Expired,
    /// The log became too long.
    LogFull,
    /// The disk was about to have no room for a checkpoint.
    NoRoom,
}

/// Why no lease was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another backup has one.
    Taken {
        /// It ends then unless it is renewed.
        until: Instant,
    },
    /// A checkpoint is being made; it takes a moment.
    Checkpoint,
}

#[derive(Debug)]
struct Lease {
    held: Held,
    lost: Option<Lost>,
}

#[derive(Debug, Default)]
struct State {
    cut: Cut,
    is_checkpointing: bool,
    /// The last one, also when it is lost.
    lease: Option<Lease>,
}

/// The agreement of one store. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Backups {
    state: Arc<Mutex<State>>,
    most_log_bytes: u64,
}

/// What the writer does about a checkpoint that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It waits for the backup.
    Hold,
    /// It makes the checkpoint; a backup that still held has lost.
    LetGo(Option<Lost>),
}

/// The facts that a decision is made of.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// When the lease ends; `None` without one.
    deadline: Option<Instant>,
    now: Instant,
    log_bytes: u64,
    most_log_bytes: u64,
    /// What the disk has, and what a checkpoint needs of it now.
    free_bytes: Option<u64>,
    needed_bytes: u64,
}

fn decide(facts: Facts) -> Decision {
    let Some(deadline) = facts.deadline else { return Decision::LetGo(None) };
    let is_short = |free: u64| free < facts.needed_bytes.saturating_mul(2);
    if facts.now >= deadline {
        Decision::LetGo(Some(Lost::Expired))
    } else if facts.log_bytes >= facts.most_log_bytes {
        Decision::LetGo(Some(Lost::LogFull))
    } else if facts.free_bytes.is_some_and(is_short) {
        // Later there may be no room for a checkpoint at all.
        Decision::LetGo(Some(Lost::NoRoom))
    } else {
        Decision::Hold
    }
}

impl Backups {
    /// For a log that is folded at `checkpoint_bytes` when nobody makes a backup.
    pub(crate) fn new(checkpoint_bytes: u64) -> Self {
        let most_log_bytes = checkpoint_bytes.saturating_mul(PATIENCE);
        Self { state: Arc::default(), most_log_bytes }
    }

    /// Begins a lease on the state after the last commit.
    pub fn begin(&self) -> Result<Held, Refused> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(Lease { held, lost: None }) = &state.lease
            && now < held.until
        {
            return Err(Refused::Taken { until: held.until });
        }
        if state.is_checkpointing {
            return Err(Refused::Checkpoint);
        }
        let held = Held { id: Uuid::new_v4(), cut: state.cut, until: now + LEASE };
        state.lease = Some(Lease { held, lost: None });
        Ok(held)
    }

    /// Renews a lease if it still holds. `None`: there is none of that id.
    pub fn renew(&self, id: Uuid) -> Option<Result<Held, Lost>> {
        let mut state = self.state();
        let lease = state.lease.as_mut().filter(|lease| lease.held.id == id)?;
        if let Some(lost) = lease.lost {
            return Some(Err(lost));
        }
        lease.held.until = Instant::now() + LEASE;
        Some(Ok(lease.held))
    }

    /// Ends a lease. `false`: there is none of that id.
    pub fn end(&self, id: Uuid) -> bool {
        let mut state = self.state();
        state.lease.take_if(|lease| lease.held.id == id).is_some()
    }

    /// May the writer make the checkpoint that is due? If so it does, and then calls
    /// [`Self::checkpointed`].
    pub(crate) fn may_checkpoint(
        &self,
        log_bytes: u64,
        needed_bytes: u64,
        free_bytes: impl FnOnce() -> Option<u64>,
    ) -> bool {
        let mut state = self.state();
        let holding = state.lease.as_mut().filter(|lease| lease.lost.is_none());
        let decision = decide(Facts {
            deadline: holding.as_ref().map(|lease| lease.held.until),
            now: Instant::now(),
            log_bytes,
            most_log_bytes: self.most_log_bytes,
            free_bytes: holding.as_ref().and_then(|_| free_bytes()),
            needed_bytes,
        });
        let Decision::LetGo(lost) = decision else { return false };
        if let (Some(lease), Some(lost)) = (holding, lost) {
            tracing::warn!(?lost, log_bytes, "a checkpoint goes before the backup under way");
            lease.lost = Some(lost);
        }
        state.is_checkpointing = true;
        true
    }

    /// The writer made a checkpoint, or tried to.
    pub(crate) fn checkpointed(&self, log_bytes: u64) {
        let mut state = self.state();
        state.is_checkpointing = false;
        state.cut.generation += 1;
        state.cut.log_bytes = log_bytes;
    }

    /// The writer committed.
    pub(crate) fn committed(&self, log_bytes: u64, position: i64) {
        let mut state = self.state();
        state.cut.log_bytes = log_bytes;
        state.cut.position = position;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_waits_for_a_lease_that_holds_and_for_nothing_else() {
        let now = Instant::now();
        let (before, after) = (Some(now - LEASE), Some(now + LEASE));
        let plenty = Some(u64::MAX);
        for (deadline, log_bytes, free_bytes, expected) in [
            (None, 900, plenty, Decision::LetGo(None)),
            (None, 5_000, None, Decision::LetGo(None)),
            (after, 900, plenty, Decision::Hold),
            (after, 999, plenty, Decision::Hold),
            (after, 900, None, Decision::Hold),
            (after, 900, Some(200), Decision::Hold),
            (after, 900, Some(199), Decision::LetGo(Some(Lost::NoRoom))),
            (after, 1_000, plenty, Decision::LetGo(Some(Lost::LogFull))),
            (before, 900, plenty, Decision::LetGo(Some(Lost::Expired))),
            (Some(now), 900, plenty, Decision::LetGo(Some(Lost::Expired))),
            (before, 1_000, Some(0), Decision::LetGo(Some(Lost::Expired))),
        ] {
            let facts = Facts {
                deadline,
                now,
                log_bytes,
                most_log_bytes: 1_000,
                free_bytes,
                needed_bytes: 100,
            };
            assert_eq!(decide(facts), expected, "{facts:?}");
        }
    }

    fn may_checkpoint(backups: &Backups, log_bytes: u64) -> bool {
        backups.may_checkpoint(log_bytes, 0, || None)
    }

    #[test]
    fn one_backup_at_a_time_and_its_cut_is_the_last_commit() {
        let backups = Backups::new(100);
        backups.committed(70, 9);
        let held = backups.begin().unwrap();
        assert_eq!(held.cut, Cut { generation: 0, log_bytes: 70, position: 9 });
        assert_eq!(backups.begin(), Err(Refused::Taken { until: held.until }));
        backups.committed(200, 10);
        assert!(!may_checkpoint(&backups, 200));
        let renewed = backups.renew(held.id).unwrap().unwrap();
        assert_eq!((renewed.cut, renewed.id), (held.cut, held.id), "the cut stays");
        assert_eq!(backups.renew(Uuid::new_v4()), None);
        assert!(!backups.end(Uuid::new_v4()) && backups.end(held.id) && !backups.end(held.id));
        assert!(may_checkpoint(&backups, 200));
        assert_eq!(backups.begin(), Err(Refused::Checkpoint));
        backups.checkpointed(0);
        let cut = Cut { generation: 1, log_bytes: 0, position: 10 };
        assert_eq!(backups.begin().unwrap().cut, cut);
    }

    #[test]
    fn a_lease_that_the_log_outgrew_is_lost_and_the_next_one_begins() {
        let backups = Backups::new(100);
        let held = backups.begin().unwrap();
        assert!(!may_checkpoint(&backups, 399));
        assert!(may_checkpoint(&backups, 400));
        backups.checkpointed(0);
        assert_eq!(backups.renew(held.id), Some(Err(Lost::LogFull)));
        assert_eq!(backups.begin().unwrap().cut.generation, 1);
        assert_eq!(backups.renew(held.id), None);
    }
}
