//! Erasure: which events and dead letters belong to one key of an entity, and what is left of them.
//!
//! An erased event stays an event. It counts where it counted, its id stays known and its place in every
//! ledger stays taken; what is made null is what tells about the person: the fields that a contract
//! declares `pii`, the columns that name the key, members that no contract knows, what was looked up in
//! that entity, and whatever is computed from those. The rule is here once, for rows of the journal and
//! for rows of the lake under the journal's names.
//!
//! An event belongs to the key
//!
//! - when a column names it: the one that the entity is keyed by, down the chain of entities that it is
//!   folded from, or one that is called like the entity's key;
//! - when it belongs to something of that key, an order of that user, say, and names nobody itself.
//!
//! An event of somebody else only loses what was looked up in what belongs to the key.
//!
//! Start at [`Eraser::new`]; [`letters`] has the rule for dead letters.

pub mod letters;
mod naming;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use contracts::model::{Domain, Family};
use serde::{Deserialize, Serialize};

pub use self::rows::{ErasedRows, body_hashes, is_erased};

use self::naming::Naming;

/// Stands among the warnings of an event that was erased.
pub const MARK: &str = "_erased";

/// Body hash of an event that was erased: the body that it had is known to nobody, so whatever comes
/// with its id is the same event.
pub const ERASED_BODY: i64 = 0;

/// Whose rows are to be erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Tenant.
    pub tenant: String,
    /// Name of the entity; all its versions are meant.
    pub entity: String,
    /// The key as text.
    pub key: String,
}

/// All that is to be known to erase the same rows again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose.
    pub subject: Subject,
    /// Events up to this sequence number. What comes later came after the erasure.
    pub until_seq: i64,
    /// Dead letters up to this id.
    pub until_letter: i64,
    /// Keys of the entities below that belong to the subject, by level.
    pub below: Vec<BTreeSet<String>>,
    /// Files of the lake that are to be removed once nothing leads to them.
    #[serde(default)]
    pub files: BTreeSet<String>,
}

/// Why nothing can be erased.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum EraseError {
    /// No contract has the entity.
    #[error("there is no entity `{0}`")]
    UnknownEntity(String),
    /// The key of the entity is computed from things that no event shows.
    #[error(
        "no column of any event names a key of entity `{0}`, so its events cannot be told from others"
    )]
    Untraceable(String),
    /// The key is a part of the envelope.
    #[error(
        "events name a key of entity `{0}` by their envelope (id, type, time or tenant), which an erasure \
         leaves as it is"
    )]
    Envelope(String),
    /// The entity is folded from others than it was when the erasure was asked for.
    #[error("entity `{0}` is folded from others than when the erasure was asked for")]
    Changed(String),
    /// An empty key.
    #[error("the key is empty")]
    NoKey,
}

/// Tells whose rows are whose, and erases them.
#[derive(Debug, Clone)]
pub struct Eraser {
    domain: Arc<Domain>,
    order: Order,
    /// Entities by level: the one named, then what it is folded from.
    chain: Vec<BTreeSet<usize>>,
    /// By family.
    naming: Vec<Naming>,
}

impl Eraser {
    /// An eraser that knows the subject and nothing below it yet.
    pub fn new(
        domain: Arc<Domain>,
        subject: Subject,
        until_seq: i64,
        until_letter: i64,
    ) -> Result<Self, EraseError> {
        let order =
            Order { subject, until_seq, until_letter, below: Vec::new(), files: BTreeSet::new() };
        Self::resume(domain, order)
    }

    /// An eraser that knows what `order` tells, under the contracts of today.
    pub fn resume(domain: Arc<Domain>, mut order: Order) -> Result<Self, EraseError> {
        let Subject { entity, key, .. } = &order.subject;
        if key.is_empty() {
            return Err(EraseError::NoKey);
        }
        let chain = naming::chain(&domain, entity);
        if chain.is_empty() {
            return Err(EraseError::UnknownEntity(entity.clone()));
        }
        let naming: Vec<Naming> =
            domain.families.iter().map(|family| Naming::of(&domain, &chain, family)).collect();
        if naming.iter().all(|naming| naming.levels[0].is_empty()) {
            return Err(EraseError::Untraceable(entity.clone()));
        }
        let is_envelope = |(family, naming): (&Family, &Naming)| {
            naming.levels[0].iter().any(|name| rows::sources(family, name).is_empty())
        };
        if domain.families.iter().zip(&naming).any(is_envelope) {
            return Err(EraseError::Envelope(entity.clone()));
        }
        if !order.below.is_empty() && order.below.len() != chain.len() - 1 {
            return Err(EraseError::Changed(entity.clone()));
        }
        order.below.resize_with(chain.len() - 1, BTreeSet::new);
        Ok(Self { domain, order, chain, naming })
    }

    /// What has to be erased, for somebody who goes on elsewhere.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Levels below the subject, each of whose keys are found by the level above.
    pub fn levels_below(&self) -> usize {
        self.chain.len() - 1
    }

    /// Can events of this family belong to the subject at all?
    pub fn concerns(&self, family: usize) -> bool {
        let Naming { levels, lookups, .. } = &self.naming[family];
        levels.iter().any(|columns| !columns.is_empty()) || !lookups.is_empty()
    }

    /// Columns of the family that hold what was looked up in the subject's entities.
    pub fn looked_up_columns(&self, family: usize) -> impl Iterator<Item = &str> {
        self.naming[family].lookups.iter().map(|lookup| lookup.column.as_str())
    }

    /// Columns of the family, level by level, whose text may be a key of that level.
    pub fn key_columns(&self, family: usize) -> impl Iterator<Item = (usize, &str)> {
        let levels = self.naming[family].levels.iter().enumerate();
        levels.flat_map(|(level, columns)| columns.iter().map(move |c| (level, c.as_str())))
    }

    /// The keys of a level.
    pub fn keys(&self, level: usize) -> Box<dyn Iterator<Item = &str> + '_> {
        match level.checked_sub(1) {
            None => Box::new(std::iter::once(self.order.subject.key.as_str())),
            Some(below) => Box::new(self.order.below[below].iter().map(String::as_str)),
        }
    }

    fn has_key(&self, level: usize, text: &str) -> bool {
        match level.checked_sub(1) {
            None => self.order.subject.key == text,
            Some(below) => self.order.below[below].contains(text),
        }
    }
}
