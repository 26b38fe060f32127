//! The right to apply records of a partition that somebody else may take over.
//!
//! A source that can lose a partition (a member of a consumer group) holds a [`Lease`] on it and
//! puts a [`Claim`] into each batch that it hands on. The writer asks the claim before it commits.
//! Taking the partition away means [`Lease::revoke`]: it waits until the claims handed out have
//! been settled, and after its deadline makes those that are left worthless.
//!
//! What always holds: once `revoke` has returned, no batch of that lease is being applied and none
//! ever will be. So whoever takes the partition over finds the last word in the store.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The source's side: one for each time that a partition is assigned. A clone is the same lease.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Shared>);

/// A batch's share in a lease; settled when it is dropped.
#[derive(Debug)]
pub struct Claim(Arc<Shared>);

/// While it lives the batch is being applied and the lease cannot be revoked.
#[derive(Debug)]
pub struct Applying<'a>(&'a Shared);

/// How a revocation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Everything handed on before had been settled.
    Drained,
    /// The deadline passed: this many batches will change nothing.
    Abandoned(usize),
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    claims: usize,
    /// Batches that are being applied.
    applying: usize,
    /// No new claims.
    closing: bool,
    /// The claims that are left are worthless.
    revoked: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is three flags and a number: valid whoever panicked while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}

impl Lease {
    /// A lease that nobody has claims on.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// A claim for the next batch; `None` once the lease is being taken away.
    pub fn claim(&self) -> Option<Claim> {
        let mut state = self.0.lock();
        if state.closing {
            return None;
        }
        state.claims += 1;
        Some(Claim(Arc::clone(&self.0)))
    }

    /// Hands out no more claims.
    pub fn close(&self) {
        self.0.lock().closing = true;
    }

    /// Takes the lease away: no more claims, then up to `within` for those handed out. A batch that
    /// is being applied at the deadline is waited for, since a transaction cannot be taken back.
    pub fn revoke(&self, within: Duration) -> Revoked {
        let deadline = Instant::now() + within;
        let mut state = self.0.lock();
        state.closing = true;
        while state.claims > 0 && Instant::now() < deadline {
            state = self.0.wait(state, Some(deadline));
        }
        state.revoked = true;
        while state.applying > 0 {
            state = self.0.wait(state, None);
        }
        match state.claims {
            0 => Revoked::Drained,
            left => Revoked::Abandoned(left),
        }
    }
}

impl Claim {
    /// To be asked right before the batch's effects are made durable; `None` when the partition is
    /// no longer ours: then nothing of the batch may be applied.
    pub fn begin(&self) -> Option<Applying<'_>> {
        let mut state = self.0.lock();
        if state.revoked {
            return None;
        }
        state.applying += 1;
        Some(Applying(&self.0))
    }
}

impl Claim {
    /// Is the lease being taken away? Then work on the batch only holds up whoever gets the
    /// partition next, and may be left: no batch of the same lease comes after it.
    pub fn is_wanted_back(&self) -> bool {
        self.0.lock().closing
    }
}

impl Clone for Claim {
    fn clone(&self) -> Self {
        self.0.lock().claims += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.lock().claims -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Applying<'_> {
    fn drop(&mut self) {
        self.0.lock().applying -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const NOW: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_lease_without_claims_is_gone_at_once() {
        let lease = Lease::new();
        assert_eq!(lease.revoke(LONG), Revoked::Drained);
        assert!(lease.claim().is_none());
    }

    #[test]
    fn claims_that_outlive_the_deadline_are_worthless() {
        let lease = Lease::new();
        let (late, settled) = (lease.claim().expect("open"), lease.claim().expect("open"));
        drop(settled);
        assert_eq!(lease.revoke(NOW), Revoked::Abandoned(1));
        assert!(late.begin().is_none());
    }

    #[test]
    fn a_claim_knows_that_its_lease_is_wanted_back() {
        let lease = Lease::new();
        let claim = lease.claim().expect("open");
        assert!(!claim.is_wanted_back());
        lease.close();
        assert!(claim.is_wanted_back());
        assert!(lease.claim().is_none());
    }

    #[test]
    fn a_revocation_waits_for_what_was_handed_on() {
        let lease = Lease::new();
        let claim = lease.claim().expect("open");
        thread::scope(|scope| {
            let revoked = scope.spawn(|| lease.revoke(LONG));
            let applying = claim.begin().expect("not revoked yet");
            assert!(!revoked.is_finished());
            drop(applying);
            drop(claim);
            assert_eq!(revoked.join().expect("no panic"), Revoked::Drained);
        });
    }

    #[test]
    fn a_batch_that_is_being_applied_is_waited_for_past_the_deadline() {
        let lease = Lease::new();
        let claim = lease.claim().expect("open");
        let applying = claim.begin().expect("open");
        thread::scope(|scope| {
            let revoked = scope.spawn(|| lease.revoke(NOW));
            thread::sleep(Duration::from_millis(20));
            assert!(!revoked.is_finished());
            drop(applying);
            assert_eq!(revoked.join().expect("no panic"), Revoked::Abandoned(1));
        });
        assert!(claim.begin().is_none());
    }

    #[test]
    fn a_copy_of_a_batch_is_a_claim_of_its_own() {
        let lease = Lease::new();
        let claim = lease.claim().expect("open");
        let copy = claim.clone();
        drop(claim);
        assert_eq!(lease.revoke(NOW), Revoked::Abandoned(1));
        drop(copy);
        assert_eq!(lease.revoke(NOW), Revoked::Drained);
    }
}
