//! Folding journal rows from nothing: reads at a past time, and rebuilds.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::{Domain, Relation};

use super::input::InputRows;
use super::state::{EntityState, KeyRef, Layout, Touched, TouchedState};
use super::{FoldError, rows};

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
}

impl Replay {
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
        Self { domain, chain, layout, states: Touched::default() }
    }

    /// Indices of the families to feed.
    pub fn wants(&self) -> Vec<usize> {
        let inputs = &self.domain.entities[self.chain[0]].inputs;
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
            fold_into(&mut self.states, &self.layout, &view);
        }
        Ok(())
    }

    /// The rows of the entity, in [`contracts::model::Entity::schema`].
    pub fn finish(self) -> Result<Vec<RecordBatch>, FoldError> {
        let mut states = self.states;
        let mut layout = self.layout;
        let mut chain = self.chain.iter().copied();
        let mut entity = &self.domain.entities[chain.next().unwrap_or_default()];
        loop {
            let mut batches = Vec::new();
            for chunk in states.entries.chunks(ROWS_PER_BATCH) {
                let chunk: Vec<_> = chunk.iter().map(|entry| (&entry.key, &entry.state)).collect();
                batches.push(rows::build(entity, &layout, &chunk)?);
            }
            let Some(next) = chain.next() else { return Ok(batches) };
            let above = &self.domain.entities[next];
            let above_layout = Layout::of(above);
            let mut above_states = Touched::default();
            let source = Relation::Entity(entity.index);
            for input in above.inputs.iter().filter(|input| input.relation == source) {
                for rows in &batches {
                    let view = InputRows::new(input, &above_layout, rows)?;
                    for row in 0..view.len() {
                        if let Some(key) = view.named(row) {
                            let slot = slot(&mut above_states, &above_layout, key);
                            let state = &mut above_states.entries[slot as usize].state;
                            state.add_source(&above_layout, &view, row);
                        }
                    }
                }
            }
            (entity, layout, states) = (above, above_layout, above_states);
        }
    }
}

fn fold_into(states: &mut Touched, layout: &Layout, view: &InputRows<'_>) {
    for row in 0..view.len() {
        let Some(key) = view.key(row) else { continue };
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
