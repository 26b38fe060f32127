//! What was read of single minutes and hours lately, kept until a commit touches them.
//!
//! What always holds: a piece says what the rows of its span are in every state from the one it was read at up
//! to the newest, because a commit that changes one of them removes it before it is visible, and one that was read
//! before such a commit is not taken. A reader of an older state sees for itself whether something came since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::block::Block;
use super::delta::{Bucket, Run};
use super::distinct::Distinct;

/// Bytes of all pieces together; those that were used least lately go.
const MOST_BYTES: usize = if cfg!(test) { 16 << 10 } else { 96 << 20 };

/// Pieces, and spans that were asked for once.
const MOST: usize = if cfg!(test) { 64 } else { 8_192 };

/// Rows of a span that are kept; a span with more is read by statements.
pub(super) const MOST_ROWS: i64 = 131_072;

/// What is kept of a span.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Rows(Arc<Block>),
    Values(Arc<Distinct>),
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Rows(block) => block.bytes(),
            Self::Values(values) => values.bytes(),
        }
    }
}

/// The pieces of all cubes.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By spec and tenant.
    of: HashMap<i64, HashMap<Box<str>, Vec<Held>>>,
    count: usize,
    bytes: usize,
    /// Number of uses so far.
    uses: u64,
}

#[derive(Debug)]
struct Held {
    bucket: Bucket,
    /// `None`: it was asked for.
    piece: Option<Piece>,
    /// Number of its latest use.
    used: u64,
}

/// What there is of a span.
#[derive(Debug)]
pub(super) enum Found {
    Piece(Piece),
    /// Nothing, but it was asked for before, and nothing changed in it since: reading it pays.
    Asked,
    Nothing,
}

impl Pieces {
    /// What there is of a span; that it was asked for is remembered.
    pub(super) fn find(&self, spec: i64, tenant: &str, bucket: Bucket) -> Found {
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        let cubes = state.of.entry(spec).or_default();
        let known =
            cubes.get_mut(tenant).and_then(|own| own.iter_mut().find(|h| h.bucket == bucket));
        if let Some(held) = known {
            held.used = used;
            return held.piece.clone().map_or(Found::Asked, Found::Piece);
        }
        state.push(spec, tenant, Held { bucket, piece: None, used });
        Found::Nothing
    }

    /// What there is of spans, in their order.
    pub(super) fn find_all(
        &self,
        spec: i64,
        tenant: &str,
        buckets: impl Iterator<Item = Bucket>,
    ) -> Vec<Option<Piece>> {
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        let mut own = state.of.get_mut(&spec).and_then(|cubes| cubes.get_mut(tenant));
        let mut find = |bucket: Bucket| {
            let held = own.as_mut()?.iter_mut().find(|held| held.bucket == bucket)?;
            held.used = used;
            held.piece.clone()
        };
        buckets.map(&mut find).collect()
    }

    /// Keeps what was read, in place of what there is.
    pub(super) fn put(&self, spec: i64, tenant: &str, bucket: Bucket, piece: Piece) {
        if piece.bytes() > MOST_BYTES / 4 {
            return;
        }
        let mut state = self.lock();
        state.uses += 1;
        let used = state.uses;
        state.remove(spec, tenant, |own| own == bucket);
        state.push(spec, tenant, Held { bucket, piece: Some(piece), used });
        if state.bytes > MOST_BYTES {
            state.shrink();
        }
    }

    /// Removes what a commit changes.
    pub(super) fn touch(&self, spec: i64, tenant: &str, runs: &[Run]) {
        self.lock().remove(spec, tenant, |own| runs.iter().any(|run| run.bucket.meets(own)));
    }

    /// Removes what there is of a spec.
    pub(super) fn forget(&self, spec: i64) {
        let mut state = self.lock();
        let gone = state.of.remove(&spec).into_iter().flat_map(HashMap::into_values).flatten();
        let (mut count, mut bytes) = (0, 0);
        for held in gone {
            count += 1;
            bytes += held.bytes();
        }
        state.count -= count;
        state.bytes -= bytes;
    }

    /// Bytes of all pieces.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.piece.as_ref().map_or(0, Piece::bytes)
    }
}

impl State {
    fn push(&mut self, spec: i64, tenant: &str, held: Held) {
        if self.count >= MOST {
            self.shrink();
        }
        self.count += 1;
        self.bytes += held.bytes();
        let cubes = self.of.entry(spec).or_default();
        match cubes.get_mut(tenant) {
            Some(own) => own.push(held),
            None => {
                cubes.insert(tenant.into(), vec![held]);
            }
        }
    }

    fn remove(&mut self, spec: i64, tenant: &str, is_gone: impl Fn(Bucket) -> bool) {
        let Some(cubes) = self.of.get_mut(&spec) else { return };
        let Some(own) = cubes.get_mut(tenant) else { return };
        let (mut count, mut bytes) = (0, 0);
        own.retain(|held| {
            let is_gone = is_gone(held.bucket);
            if is_gone {
                count += 1;
                bytes += held.bytes();
            }
            !is_gone
        });
        if own.is_empty() {
            cubes.remove(tenant);
        }
        self.count -= count;
        self.bytes -= bytes;
    }

    /// Gives up the older half of them.
    fn shrink(&mut self) {
        let all = self.of.values().flat_map(HashMap::values).flatten();
        let mut used: Vec<u64> = all.map(|held| held.used).collect();
        let middle = used.len() / 2;
        let Some((_, oldest, _)) = (!used.is_empty()).then(|| used.select_nth_unstable(middle))
        else {
            return;
        };
        let oldest = *oldest;
        let (mut count, mut bytes) = (0, 0);
        for cubes in self.of.values_mut() {
            for own in cubes.values_mut() {
                own.retain(|held| held.used >= oldest);
                count += own.len();
                bytes += own.iter().map(Held::bytes).sum::<usize>();
            }
            cubes.retain(|_, own| !own.is_empty());
        }
        (self.count, self.bytes) = (count, bytes);
    }
}
