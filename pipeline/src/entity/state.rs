//! The state of one entity row, and the tables that hold states in memory.

use std::hash::{Hash, Hasher};

use contracts::model::{Entity, FoldOp};
use contracts::types::Type;
use hashbrown::{Equivalent, HashMap};
use serde::{Deserialize, Serialize};

use super::FoldError;
use super::fold::{FoldState, Order};
use super::input::InputRows;
use crate::store::EntityKey;

/// What an entity row remembers. Stored serialised in its `_state` column; the format is covered
/// by the store's format version and by the contract's hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntityState {
    /// One per fold of [`Entity::folds`].
    pub folds: Vec<FoldState>,
    /// Highest event time applied, µs.
    pub updated_at: i64,
    /// Sequence number of the last event applied.
    pub updated_seq: i64,
    /// Entities over another entity: how many of its current rows name this key, whether or not
    /// they pass the filter. A row that nothing names is taken out of the table.
    pub sources: i64,
}

impl EntityState {
    /// The state before the first row.
    pub fn empty(layout: &Layout) -> Self {
        Self {
            folds: layout.folds.iter().map(|(op, ty)| FoldState::empty(*op, ty)).collect(),
            updated_at: i64::MIN,
            updated_seq: 0,
            sources: 0,
        }
    }

    /// Notes that a row of that order touched the entity.
    pub fn touch(&mut self, order: Order) {
        self.updated_at = self.updated_at.max(order.time);
        self.updated_seq = self.updated_seq.max(order.seq);
    }

    /// Takes in a row of the source entity: what it gives if it passes, and that it names the key.
    pub(super) fn add_source(&mut self, layout: &Layout, view: &InputRows<'_>, row: usize) {
        let order = view.order(row);
        if view.passes(row) {
            for (fold, (op, _)) in layout.folds.iter().enumerate() {
                if let Some(given) = view.contribution(fold, row) {
                    self.folds[fold].add(*op, order, &given);
                }
            }
        }
        self.sources += 1;
        self.touch(order);
    }

    /// Reads a stored state.
    pub fn from_bytes(bytes: &[u8], entity: &Entity) -> Result<Self, FoldError> {
        postcard::from_bytes(bytes).map_err(|error| FoldError::State {
            entity: entity.name.clone(),
            message: error.to_string(),
        })
    }

    /// Writes the state for storage behind what `buffer` holds.
    pub fn write_to(&self, buffer: Vec<u8>, entity: &Entity) -> Result<Vec<u8>, FoldError> {
        postcard::to_extend(self, buffer).map_err(|error| FoldError::State {
            entity: entity.name.clone(),
            message: error.to_string(),
        })
    }
}

/// Operations and result types of an entity's folds.
#[derive(Debug)]
pub struct Layout {
    /// In the order of [`Entity::folds`].
    pub folds: Vec<(FoldOp, Type)>,
    /// For each fold: does it count rows? A `count` whose argument one source lacks does not: that
    /// source gives it nothing.
    pub(super) counts_rows: Vec<bool>,
}

impl Layout {
    /// The layout of an entity.
    pub fn of(entity: &Entity) -> Self {
        let folds: Vec<_> = entity.folds().map(|(_, op, ty)| (op, ty.clone())).collect();
        let counts_rows = folds.iter().enumerate().map(|(fold, (op, _))| {
            let mut args = entity.inputs.iter().map(|input| input.args.get(fold));
            *op == FoldOp::Count && args.all(|arg| matches!(arg, Some(None)))
        });
        Self { counts_rows: counts_rows.collect(), folds }
    }
}

/// An entity key that borrows its texts: looks up without allocating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRef<'a> {
    /// Tenant.
    pub tenant: &'a str,
    /// Key as text.
    pub key: &'a str,
}

impl Hash for KeyRef<'_> {
    // Field by field as the derived hash of `EntityKey`, which `Equivalent` requires.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tenant.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<EntityKey> for KeyRef<'_> {
    fn equivalent(&self, key: &EntityKey) -> bool {
        *self.tenant == *key.tenant && *self.key == *key.key
    }
}

impl KeyRef<'_> {
    /// An owned copy.
    pub fn owned(self) -> EntityKey {
        EntityKey { tenant: self.tenant.into(), key: self.key.into() }
    }
}

/// Recently used states, bounded in number.
///
/// Two generations: a state that is used moves to the young one; when that is full, the old one is
/// forgotten. So at least the `capacity / 2` states used last are always there, without a list to
/// maintain per access. Everything here is also in the store.
#[derive(Debug)]
pub struct StateCache {
    young: HashMap<EntityKey, EntityState>,
    old: HashMap<EntityKey, EntityState>,
    generation: usize,
}

impl StateCache {
    /// A cache of at most `capacity` states.
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation: (capacity / 2).max(1) }
    }

    /// Takes a state out, to change it. It is put back with [`Self::put`] after the commit, and
    /// otherwise read from the store again.
    pub fn take(&mut self, key: &KeyRef<'_>) -> Option<EntityState> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Puts in a state that the store has.
    pub fn put(&mut self, key: EntityKey, state: EntityState) {
        if self.young.len() >= self.generation {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, state);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

/// The states that one batch touches, by slot.
#[derive(Debug, Default)]
pub(super) struct Touched {
    slots: HashMap<EntityKey, u32>,
    /// The states, in order of first touch.
    pub entries: Vec<TouchedState>,
}

impl From<&KeyRef<'_>> for EntityKey {
    fn from(key: &KeyRef<'_>) -> Self {
        key.owned()
    }
}

/// One state that a batch touches.
#[derive(Debug)]
pub(super) struct TouchedState {
    /// Whose state.
    pub key: EntityKey,
    /// The state after the rows applied so far.
    pub state: EntityState,
    /// The state as stored before this batch; `None` for a new row. Kept only where another entity
    /// is folded from this one.
    pub before: Option<EntityState>,
    /// Does the store have a row for it?
    pub stored: bool,
}

impl Touched {
    /// The slot of a key, if the batch touched it.
    pub(super) fn slot(&self, key: &KeyRef<'_>) -> Option<u32> {
        self.slots.get(key).copied()
    }

    /// Adds a key that is not there yet; returns its slot.
    pub(super) fn insert(&mut self, entry: TouchedState) -> u32 {
        let slot = self.entries.len() as u32;
        self.slots.insert(entry.key.clone(), slot);
        self.entries.push(entry);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> EntityKey {
        EntityKey { tenant: "default".into(), key: format!("k{n}").into() }
    }

    fn state(seq: i64) -> EntityState {
        EntityState { folds: vec![], updated_at: 0, updated_seq: seq, sources: 0 }
    }

    #[test]
    fn a_borrowed_key_finds_what_an_owned_one_put() {
        let mut cache = StateCache::new(10);
        cache.put(key(1), state(1));
        let found = cache.take(&KeyRef { tenant: "default", key: "k1" });
        assert_eq!(found, Some(state(1)));
        assert_eq!(cache.take(&KeyRef { tenant: "default", key: "k1" }), None);
    }

    #[test]
    fn the_cache_keeps_the_states_used_last_and_stays_bounded() {
        let mut cache = StateCache::new(10);
        for n in 0..100 {
            cache.put(key(n), state(n as i64));
        }
        assert!(cache.young.len() + cache.old.len() <= 10);
        for n in 96..100 {
            let text = format!("k{n}");
            assert!(cache.take(&KeyRef { tenant: "default", key: &text }).is_some(), "{n}");
        }
    }
}
