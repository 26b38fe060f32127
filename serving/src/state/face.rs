//! By which dimensions the groups of a cube are told apart.
//!
//! A cube begins with one face, that of all its dimensions, which answers every question. With more than
//! [`MOST_TOGETHER`] groups it would be read through for each of them, and most of its cells would stand for a row
//! or two; then it has a face for each dimension by itself, and what concerns several at once is read from rows.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::delta::FaceDelta;
use crate::metric::Member;

/// The values of some dimensions in one group.
pub(crate) type Key = Box<[Member]>;

/// Groups of a face of several dimensions.
pub(super) const MOST_TOGETHER: usize = if cfg!(test) { 30 } else { 4_096 };

/// Groups of a face of one dimension. With more of them they are not told apart: state must not be larger than
/// the rows that it stands for.
pub(super) const MOST_GROUPS: usize = if cfg!(test) { 40 } else { 65_536 };

/// Groups by the values of some dimensions.
#[derive(Debug, Clone)]
pub(crate) struct Face {
    dimensions: Vec<u8>,
    keys: Vec<Key>,
    numbers: HashMap<Key, u32>,
    /// Keys that the store has.
    stored: usize,
    is_kept: bool,
}

/// A face as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredFace {
    dimensions: Vec<u8>,
    is_kept: bool,
    keys: Vec<Vec<Member>>,
}

/// There are more groups than a face may have.
pub(super) struct TooMany;

impl Face {
    pub(super) fn new(dimensions: Vec<u8>) -> Self {
        let is_kept = !dimensions.is_empty();
        Self { dimensions, keys: Vec::new(), numbers: HashMap::new(), stored: 0, is_kept }
    }

    /// The places of its dimensions among those of the cube.
    pub(crate) fn dimensions(&self) -> &[u8] {
        &self.dimensions
    }

    /// The values of its dimensions in each group, by number.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Are groups told apart?
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Does it tell groups of these dimensions apart?
    pub(super) fn has(&self, dimensions: &BTreeSet<usize>) -> bool {
        let has = |wanted: &usize| self.dimensions.iter().any(|own| usize::from(*own) == *wanted);
        dimensions.is_empty() || (self.is_kept && dimensions.iter().all(has))
    }

    /// Its part of a key of all dimensions.
    pub(super) fn part(&self, key: &Key) -> Key {
        let member = |place: &u8| key.get(usize::from(*place)).cloned().unwrap_or(Member::None);
        self.dimensions.iter().map(member).collect()
    }

    /// The number of a group, which it gets when it is new.
    pub(super) fn number(&mut self, key: Key) -> Result<u32, TooMany> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let most = if self.dimensions.len() > 1 { MOST_TOGETHER } else { MOST_GROUPS };
        if self.keys.len() >= most {
            return Err(TooMany);
        }
        let number = self.keys.len() as u32;
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// From now on groups are not told apart.
    pub(super) fn give_up(&mut self) {
        (self.is_kept, self.stored) = (false, 0);
        self.keys.clear();
        self.numbers.clear();
    }

    /// Does the store lack keys?
    pub(super) fn has_new(&self) -> bool {
        self.stored < self.keys.len()
    }

    /// The store has all keys.
    pub(super) fn is_stored(&mut self) {
        self.stored = self.keys.len();
    }

    pub(super) fn to_store(&self) -> StoredFace {
        let keys = self.keys.iter().map(|key| key.to_vec()).collect();
        StoredFace { dimensions: self.dimensions.clone(), is_kept: self.is_kept, keys }
    }

    pub(super) fn of_store(stored: StoredFace) -> Self {
        let keys: Vec<Key> = stored.keys.into_iter().map(Vec::into_boxed_slice).collect();
        Self {
            dimensions: stored.dimensions,
            numbers: (0..).zip(&keys).map(|(number, key)| (key.clone(), number)).collect(),
            stored: keys.len(),
            keys,
            is_kept: stored.is_kept,
        }
    }

    /// What the store lacks.
    pub(super) fn delta(&self) -> FaceDelta {
        let keys = self.keys.get(self.stored..).unwrap_or_default();
        FaceDelta {
            dimensions: self.dimensions.clone(),
            is_kept: self.is_kept,
            first_key: self.stored as u32,
            keys: keys.iter().map(|key| key.to_vec()).collect(),
        }
    }

    /// Takes in what the store has more. False: it does not go on from here.
    pub(super) fn load(&mut self, delta: &FaceDelta) -> bool {
        let first = delta.first_key as usize;
        if self.keys.len() < first {
            return false;
        }
        let known = self.keys.len() - first;
        let new = delta.keys.iter().skip(known).map(|key| key.clone().into_boxed_slice());
        for key in new {
            if self.number(key).is_err() {
                return false;
            }
        }
        self.stored = self.keys.len();
        true
    }
}
