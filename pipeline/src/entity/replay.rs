//! Folding journal rows from nothing: reads at a past time, and rebuilds.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::{Domain, Relation};
use hashbrown::HashSet;

use super::input::InputRows;
use super::state::{EntityState, KeyRef, Layout, Touched, TouchedState};
use super::{FoldError, rows};
use crate::store::EntityKey;

/// Rows per batch that [`Replay::finish`] returns.
const ROWS_PER_BATCH: usize = 65_536;

/// Folds one entity, and the entities below it, from journal rows.
///
/// Feed the rows of [`Self::wants`] in any batches; [`Self::finish`] gives the entity's rows. All
/// states are held in memory, so a caller that can name the keys it needs should feed only theirs.
#[derive(Debug)]
pub struct Replay {
    domain: Arc<Domain>,
    /// From the entity that is fed by families to the one asked for.
    chain: Vec<usize>,
    layout: Layout,
    states: Touched,
    /// Only these keys of the lowest entity are folded; all when `None`.
    only: Option<HashSet<EntityKey>>,
}

impl Replay {
    /// A replay of `keys` of `entity` alone, which must be folded from families.
    pub fn of_keys(domain: Arc<Domain>, entity: usize, keys: HashSet<EntityKey>) -> Self {
        Self { only: Some(keys), ..Self::new(domain, entity) }
    }

    /// A replay of `entity` (index in [`Domain::entities`]).
    pub fn new(domain: Arc<Domain>, entity: usize) -> Self {
        let mut chain = vec![entity];
        let mut lowest = entity;
        while let Some(below) =
            domain.entities[lowest].inputs.iter().find_map(|i| match i.relation {
                Relation::Entity(below) => Some(below),
                _ => None,
            })
        {
            chain.push(below);
            lowest = below;
        }
        chain.reverse();
        let layout = Layout::of(&domain.entities[lowest]);
        Self { domain, chain, layout, states: Touched::default(), only: None }
    }

    /// Indices of the families to feed.
    pub fn wants(&self) -> Vec<usize> {
        Self::wants_of(&self.domain, self.chain[0])
    }

    /// Indices of the families that an entity, or the lowest one below it, is folded from.
    pub fn wants_of(domain: &Domain, entity: usize) -> Vec<usize> {
        let mut inputs = &domain.entities[entity].inputs;
        while let Some(below) = inputs.iter().find_map(|input| match input.relation {
            Relation::Entity(below) => Some(below),
            _ => None,
        }) {
            inputs = &domain.entities[below].inputs;
        }
        let mut families: Vec<usize> = inputs
            .iter()
            .filter_map(|input| match input.relation {
                Relation::Family(family) => Some(family),
                _ => None,
            })
            .collect();
        families.dedup();
        families
    }

    /// Folds journal rows of a family (columns of [`contracts::model::Family::schema`], others
    /// ignored).
    pub fn feed(&mut self, family: usize, rows: &RecordBatch) -> Result<(), FoldError> {
        let entity = &self.domain.entities[self.chain[0]];
        for input in entity.inputs.iter().filter(|i| i.relation == Relation::Family(family)) {
            let view = InputRows::new(input, &self.layout, rows)?;
            fold_into(&mut self.states, &self.layout, &view, self.only.as_ref());
        }
        Ok(())
    }

    /// The rows of the entity, in [`contracts::model::Entity::schema`].
    pub fn finish(self) -> Result<Vec<RecordBatch>, FoldError> {
        let mut chain = self.chain.iter().copied();
        let mut entity = chain.next().unwrap_or_default();
        let mut rows = built(&self.domain, entity, &self.layout, &self.states)?;
        for above in chain {
            rows = fold_rows(&self.domain, above, entity, &rows, None)?;
            entity = above;
        }
        Ok(rows)
    }
}

/// Keys of `entity` that rows of the entity `below` name, each in its tenant.
pub fn keys_named(
    domain: &Domain,
    entity: usize,
    below: usize,
    rows: &[RecordBatch],
) -> Result<HashSet<EntityKey>, FoldError> {
    let entity = &domain.entities[entity];
    let layout = Layout::of(entity);
    let mut keys = HashSet::new();
    for input in entity.inputs.iter().filter(|i| i.relation == Relation::Entity(below)) {
        for rows in rows {
            let view = InputRows::new(input, &layout, rows)?;
            keys.extend((0..view.len()).filter_map(|row| view.named(row)).map(KeyRef::owned));
        }
    }
    Ok(keys)
}

/// Keys of `entity` that take something from journal rows of `family`.
pub fn keys_fed(
    domain: &Domain,
    entity: usize,
    family: usize,
    rows: &RecordBatch,
) -> Result<HashSet<EntityKey>, FoldError> {
    let entity = &domain.entities[entity];
    let layout = Layout::of(entity);
    let mut keys = HashSet::new();
    for input in entity.inputs.iter().filter(|i| i.relation == Relation::Family(family)) {
        let view = InputRows::new(input, &layout, rows)?;
        keys.extend((0..view.len()).filter_map(|row| view.key(row)).map(KeyRef::owned));
    }
    Ok(keys)
}

/// Rows of `entity` from all rows of the entity `below` that name one of their keys; only those of
/// `keys`, when there are any given.
pub fn fold_rows(
    domain: &Domain,
    entity: usize,
    below: usize,
    rows: &[RecordBatch],
    keys: Option<&HashSet<EntityKey>>,
) -> Result<Vec<RecordBatch>, FoldError> {
    let layout = Layout::of(&domain.entities[entity]);
    let mut states = Touched::default();
    let inputs = domain.entities[entity].inputs.iter();
    for input in inputs.filter(|input| input.relation == Relation::Entity(below)) {
        for rows in rows {
            let view = InputRows::new(input, &layout, rows)?;
            for row in 0..view.len() {
                let named = view.named(row);
                let Some(key) = named.filter(|key| keys.is_none_or(|keys| keys.contains(key)))
                else {
                    continue;
                };
                let slot = slot(&mut states, &layout, key);
                states.entries[slot as usize].state.add_source(&layout, &view, row);
            }
        }
    }
    built(domain, entity, &layout, &states)
}

/// States as rows of their entity.
fn built(
    domain: &Domain,
    entity: usize,
    layout: &Layout,
    states: &Touched,
) -> Result<Vec<RecordBatch>, FoldError> {
    let entity = &domain.entities[entity];
    let mut batches = Vec::new();
    for chunk in states.entries.chunks(ROWS_PER_BATCH) {
        let chunk: Vec<_> = chunk.iter().map(|entry| (&entry.key, &entry.state)).collect();
        batches.push(rows::build(entity, layout, &chunk)?);
    }
    Ok(batches)
}

fn fold_into(
    states: &mut Touched,
    layout: &Layout,
    view: &InputRows<'_>,
    only: Option<&HashSet<EntityKey>>,
) {
    for row in 0..view.len() {
        let key = view.key(row).filter(|key| only.is_none_or(|only| only.contains(key)));
        let Some(key) = key else { continue };
        let slot = slot(states, layout, key);
        let order = view.order(row);
        let state = &mut states.entries[slot as usize].state;
        for (fold, (op, _)) in layout.folds.iter().enumerate() {
            if let Some(given) = view.contribution(fold, row) {
                state.folds[fold].add(*op, order, &given);
            }
        }
        state.touch(order);
    }
}

fn slot(states: &mut Touched, layout: &Layout, key: KeyRef<'_>) -> u32 {
    states.slot(&key).unwrap_or_else(|| {
        let state = EntityState::empty(layout);
        states.insert(TouchedState { key: key.owned(), state, before: None, stored: false })
    })
}
