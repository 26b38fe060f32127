//! Folding the rows of one transaction.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use contracts::model::{Domain, Entity, EntityInput, Relation, column};
use hashbrown::HashSet;

use super::fold::{Contribution, Order, Removed};
use super::input::InputRows;
use super::lookup::Versions;
use super::state::{EntityState, KeyRef, Layout, StateCache, Touched, TouchedState};
use super::{FoldError, rows};
use crate::membership::Membership;
use crate::store::{
    EntityKey, EntityRows, ServingStore, StoreError, Stretch, StretchRows, Unfolded,
};

/// States kept in memory per entity. About 0.3–1 KiB each.
const CACHED_STATES: usize = 65_536;

/// What one writer remembers between transactions.
#[derive(Debug)]
pub struct Engine {
    pub(super) domain: Arc<Domain>,
    pub(super) layouts: Vec<Layout>,
    /// Does somebody need the rows as they were: another entity that is folded from this one, or those who
    /// tell which answers hold?
    keeps_before: Vec<bool>,
    /// Does an enriched column look this one up?
    looked_up: Vec<bool>,
    caches: Vec<StateCache>,
    /// Keys that the store has a row for, or had one.
    known: Vec<Membership>,
    /// For an entity over another one: rows of that one that it is not folded from yet. They are as
    /// good as not there until a [`Stretch`] brings them.
    unfolded: Vec<Unfolded>,
}

/// The entity changes of one transaction.
#[derive(Debug)]
pub struct Batch {
    pub(super) entities: Vec<EntityBatch>,
}

/// The changes of one entity in one transaction.
#[derive(Debug, Default)]
pub(super) struct EntityBatch {
    pub(super) touched: Touched,
    pub(super) folded: bool,
    pub(super) versions: Option<Versions>,
    /// Rows before and after, where somebody needs them.
    before: Option<RecordBatch>,
    after: Option<RecordBatch>,
}

impl Engine {
    /// An engine with empty caches over what the store has.
    pub fn new(domain: Arc<Domain>, store: &mut dyn ServingStore) -> Result<Self, StoreError> {
        let layouts = domain.entities.iter().map(Layout::of).collect();
        let source_of = |index: usize| {
            domain
                .entities
                .iter()
                .flat_map(|entity| &entity.inputs)
                .any(|input| input.relation == Relation::Entity(index))
        };
        let is_read = |index: usize| {
            let mut inputs = domain.metrics.iter().flat_map(|metric| &metric.inputs);
            inputs.any(|input| input.relation == Relation::Entity(index) && input.is_steady())
        };
        let needed = |index| source_of(index) || is_read(index);
        let keeps_before = (0..domain.entities.len()).map(needed).collect();
        let looked_up = super::lookup::looked_up(&domain);
        let caches = domain.entities.iter().map(|_| StateCache::new(CACHED_STATES)).collect();
        let known = (0..domain.entities.len()).map(|entity| known_keys(entity, store));
        let known = known.collect::<Result<_, _>>()?;
        let mut unfolded = vec![Unfolded::default(); domain.entities.len()];
        for (entity, rows) in store.unfolded() {
            unfolded[entity] = rows;
        }
        Ok(Self { domain, layouts, keeps_before, looked_up, caches, known, unfolded })
    }

    /// May the store have a row for this key? `false` is certain.
    pub(super) fn may_be_stored(&self, entity: usize, key: &EntityKey) -> bool {
        self.known[entity].may_contain(key.hash64() as u64)
    }

    /// Starts the entity changes of a transaction.
    pub fn begin(&self) -> Batch {
        Batch { entities: self.domain.entities.iter().map(|_| EntityBatch::default()).collect() }
    }

    /// Remembers the states of a transaction that committed.
    pub fn absorb(&mut self, batch: Batch) {
        for (index, entity) in batch.entities.into_iter().enumerate() {
            let over_entity = is_over_entity(&self.domain.entities[index]);
            let cache = &mut self.caches[index];
            for entry in entity.touched.entries {
                if !entry.stored {
                    self.known[index].insert(entry.key.hash64() as u64, 0);
                }
                // A state that nothing names any more has no row in the store.
                if !over_entity || entry.state.sources > 0 {
                    cache.put(entry.key, entry.state);
                }
            }
        }
    }

    /// Takes the store as it is now: it has changed otherwise than by what was folded here.
    pub fn learn_anew(&mut self, store: &mut dyn ServingStore) -> Result<(), StoreError> {
        self.reset();
        for entity in 0..self.known.len() {
            self.known[entity] = known_keys(entity, store)?;
        }
        Ok(())
    }

    /// Forgets everything that may be ahead of the store. Called when a transaction failed.
    pub fn reset(&mut self) {
        self.caches.iter_mut().for_each(StateCache::clear);
    }

    /// A state that the cache has, for a lookup.
    pub(super) fn cached(&mut self, entity: usize, key: &KeyRef<'_>) -> Option<EntityState> {
        let state = self.caches[entity].take(key)?;
        self.caches[entity].put(key.owned(), state.clone());
        Some(state)
    }

    /// Puts a state that was read from the store into the cache.
    pub(super) fn remember(&mut self, entity: usize, key: EntityKey, state: EntityState) {
        self.caches[entity].put(key, state);
    }

    /// Folds every entity from the journal rows of the transaction and returns the changed rows.
    pub fn finish(
        &mut self,
        batch: &mut Batch,
        journal: &[(usize, RecordBatch)],
        store: &mut dyn ServingStore,
    ) -> Result<Vec<EntityRows>, FoldError> {
        let domain = self.domain.clone();
        let mut changed = Vec::new();
        for entity in &domain.entities {
            self.fold(batch, entity.index, journal, store)?;
            if let Some(rows) = self.changed_rows(batch, entity)? {
                changed.push(rows);
            }
        }
        Ok(changed)
    }

    /// Folds old rows, and returns the rows of its entities that changed. When the transaction
    /// committed, [`Self::folded`] is to be told.
    pub fn fold_stretch(
        &mut self,
        batch: &mut Batch,
        stretch: &Stretch,
        store: &mut dyn ServingStore,
    ) -> Result<Vec<EntityRows>, FoldError> {
        let domain = self.domain.clone();
        let events = match &stretch.rows {
            StretchRows::Events(events) => events.as_slice(),
            StretchRows::Entity(source, rows) => {
                batch.entities[*source].after = Some(rows.clone());
                &[]
            }
        };
        let before = self.set_left(stretch, stretch.left);
        let mut changed = Ok(Vec::new());
        for entity in &stretch.entities {
            let entity = &domain.entities[*entity];
            let rows = self
                .fold(batch, entity.index, events, store)
                .and_then(|()| self.changed_rows(batch, entity));
            match (&mut changed, rows) {
                (Ok(changed), Ok(rows)) => changed.extend(rows),
                (_, Err(error)) => {
                    changed = Err(error);
                    break;
                }
                (Err(_), Ok(_)) => {}
            }
        }
        self.set_left(stretch, before);
        changed
    }

    /// Remembers what a stretch left, once it committed.
    pub fn folded(&mut self, stretch: &Stretch) {
        self.set_left(stretch, stretch.left);
    }

    fn set_left(&mut self, stretch: &Stretch, left: Unfolded) -> Unfolded {
        match stretch.entities.first() {
            Some(entity) => std::mem::replace(&mut self.unfolded[*entity], left),
            None => left,
        }
    }

    /// Folds one entity from its source rows, once per transaction.
    pub(super) fn fold(
        &mut self,
        batch: &mut Batch,
        entity: usize,
        journal: &[(usize, RecordBatch)],
        store: &mut dyn ServingStore,
    ) -> Result<(), FoldError> {
        if std::mem::replace(&mut batch.entities[entity].folded, true) {
            return Ok(());
        }
        let domain = self.domain.clone();
        let entity = &domain.entities[entity];
        let mut views = Vec::new();
        for input in &entity.inputs {
            match input.relation {
                Relation::Family(family) => {
                    for (_, rows) in journal.iter().filter(|(index, _)| *index == family) {
                        views.push(InputRows::new(input, &self.layouts[entity.index], rows)?);
                    }
                }
                Relation::Entity(source) => {
                    self.fold_entity(batch, entity, input, source, store)?
                }
                // The contract checker admits no entity over `ingest`.
                Relation::Ingest => {}
            }
        }
        self.fold_events(batch, entity.index, &views, store)
    }

    fn fold_events(
        &mut self,
        batch: &mut Batch,
        entity: usize,
        views: &[InputRows<'_>],
        store: &mut dyn ServingStore,
    ) -> Result<(), FoldError> {
        let own = &mut batch.entities[entity];
        let mut rows: Vec<(Order, u32, usize, usize)> = Vec::new();
        for (number, view) in views.iter().enumerate() {
            let keys = (0..view.len()).map(|row| view.key(row));
            let slots = self.slots(&mut own.touched, entity, keys, store)?;
            rows.extend(
                slots
                    .into_iter()
                    .enumerate()
                    .filter_map(|(row, slot)| Some((view.order(row), slot?, number, row))),
            );
        }
        // Rows of one view are in order already; several families interleave.
        if views.len() > 1 {
            rows.sort_unstable_by_key(|(order, ..)| order.seq);
        }
        if self.looked_up[entity] {
            own.versions = Some(Versions::starting(&own.touched));
        }
        let layout = &self.layouts[entity];
        for (order, slot, view, row) in rows {
            let state = &mut own.touched.entries[slot as usize].state;
            for (fold, (op, _)) in layout.folds.iter().enumerate() {
                if let Some(given) = views[view].contribution(fold, row) {
                    state.folds[fold].add(*op, order, &given);
                }
            }
            state.touch(order);
            if let Some(versions) = &mut own.versions {
                versions.record(slot, order.seq, state);
            }
        }
        Ok(())
    }

    /// Folds an entity from the changed rows of another: what a row gave before is taken out, what
    /// it gives now is put in.
    fn fold_entity(
        &mut self,
        batch: &mut Batch,
        entity: &Entity,
        input: &EntityInput,
        source: usize,
        store: &mut dyn ServingStore,
    ) -> Result<(), FoldError> {
        let index = entity.index;
        let EntityBatch { before, after, .. } = &batch.entities[source];
        let Some(after) = after.clone() else { return Ok(()) };
        let layout = Layout::of(entity);
        let new = InputRows::new(input, &layout, &after)?;
        let old = before.clone();
        let old = old.as_ref().map(|rows| InputRows::new(input, &layout, rows)).transpose()?;
        let entries = &batch.entities[source].touched.entries;
        let unfolded = self.unfolded[index];
        let pairs = pairs(&self.domain.entities[source], entries, new.len());
        let changes: Vec<Change> = pairs
            .into_iter()
            .map(|(before, after)| Change {
                before: old.as_ref().zip(before).and_then(|(old, row)| given(old, row, unfolded)),
                after: after.and_then(|row| given(&new, row, unfolded)),
            })
            .collect();
        let keys = changes
            .iter()
            .flat_map(|change| [&change.before, &change.after])
            .map(|given| given.as_ref().map(|given| given.key.as_ref()));
        let touched = &mut batch.entities[index].touched;
        let slots = self.slots(touched, index, keys, store)?;

        let mut again: HashSet<u32> = HashSet::new();
        for (change, slots) in changes.iter().zip(slots.chunks_exact(2)) {
            let same = match (&change.before, &change.after) {
                (Some(before), Some(after)) => before.key == after.key,
                _ => false,
            };
            let same_folds = same
                && change.before.as_ref().map(|given| &given.folds)
                    == change.after.as_ref().map(|given| &given.folds);
            if let (Some(given), Some(slot)) = (&change.before, slots[0]) {
                let state = &mut touched.entries[slot as usize].state;
                for (fold, given) in given.folds.iter().enumerate().filter(|_| !same_folds) {
                    if let Some(given) = given
                        && state.folds[fold].remove(given) == Removed::Recompute
                    {
                        again.insert(slot);
                    }
                }
                state.sources -= 1;
                // Who was updated last among the rows that stay is known to the store alone. A row that stays may
                // be older than it was: where it stands on an entity itself, a row of that has left it.
                let newest =
                    given.order.seq == state.updated_seq || given.order.time == state.updated_at;
                let is_no_older = change.after.as_ref().is_some_and(|after| {
                    after.order.seq >= given.order.seq && after.order.time >= given.order.time
                });
                if newest && !(same && is_no_older) {
                    again.insert(slot);
                }
            }
            if let (Some(given), Some(slot)) = (&change.after, slots[1]) {
                let state = &mut touched.entries[slot as usize].state;
                let before = change.before.as_ref().map(|before| before.order);
                for (fold, op) in layout.folds.iter().map(|(op, _)| *op).enumerate() {
                    let Some(given_fold) = &given.folds[fold] else { continue };
                    let state = &mut state.folds[fold];
                    match before.filter(|_| same_folds) {
                        None => state.add(op, given.order, given_fold),
                        // What is equal stands in the order in which the rows changed last.
                        Some(before) => {
                            let orders = (before, given.order);
                            if state.reorder(op, orders, given_fold) == Removed::Recompute {
                                again.insert(slot);
                            }
                        }
                    }
                }
                state.sources += 1;
                state.touch(given.order);
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        let mut again: Vec<u32> = again.into_iter().collect();
        again.sort_unstable();
        // Also rows that are gone: the store still has them.
        let entries = &batch.entities[source].touched.entries;
        let superseded: HashSet<EntityKey> =
            entries.iter().map(|entry| entry.key.clone()).collect();
        let touched = &mut batch.entities[index].touched;
        refold(touched, &again, &layout, input, source, &after, superseded, unfolded, store)
    }

    /// The slot of each key's state in `touched`; states that are not there are taken from the
    /// cache, the store, or start empty.
    fn slots<'k>(
        &mut self,
        touched: &mut Touched,
        entity: usize,
        keys: impl Iterator<Item = Option<KeyRef<'k>>>,
        store: &mut dyn ServingStore,
    ) -> Result<Vec<Option<u32>>, FoldError> {
        let keep_before = self.keeps_before[entity];
        let mut missing = Vec::new();
        let slots = keys
            .map(|key| {
                let key = key?;
                if let Some(slot) = touched.slot(&key) {
                    return Some(slot);
                }
                let cached = self.caches[entity].take(&key);
                let stored = cached.is_some();
                let before = if keep_before { cached.clone() } else { None };
                let state = cached.unwrap_or_else(|| EntityState::empty(&self.layouts[entity]));
                let key = key.owned();
                let may_be_stored = !stored && self.may_be_stored(entity, &key);
                let slot = touched.insert(TouchedState { key, state, before, stored });
                if may_be_stored {
                    missing.push(slot);
                }
                Some(slot)
            })
            .collect();
        if missing.is_empty() {
            return Ok(slots);
        }
        let wanted: Vec<EntityKey> =
            missing.iter().map(|slot| touched.entries[*slot as usize].key.clone()).collect();
        let found = store.load_states(entity, &wanted)?;
        for (slot, bytes) in missing.into_iter().zip(found) {
            if let Some(bytes) = bytes {
                let state = EntityState::from_bytes(&bytes, &self.domain.entities[entity])?;
                let entry = &mut touched.entries[slot as usize];
                entry.before = keep_before.then(|| state.clone());
                entry.state = state;
                entry.stored = true;
            }
        }
        Ok(slots)
    }

    fn changed_rows(
        &self,
        batch: &mut Batch,
        entity: &Entity,
    ) -> Result<Option<EntityRows>, FoldError> {
        let layout = &self.layouts[entity.index];
        let own = &mut batch.entities[entity.index];
        if own.touched.entries.is_empty() {
            return Ok(None);
        }
        let over_entity = is_over_entity(entity);
        let stays = |entry: &&TouchedState| !over_entity || entry.state.sources > 0;
        let states: Vec<_> =
            own.touched.entries.iter().filter(stays).map(|e| (&e.key, &e.state)).collect();
        let rows = rows::build(entity, layout, &states)?;
        if self.keeps_before[entity.index] {
            let before: Vec<_> = own
                .touched
                .entries
                .iter()
                .filter_map(|entry| Some((&entry.key, entry.before.as_ref()?)))
                .collect();
            own.before = Some(rows::fields(entity, layout, &before)?);
            own.after = Some(rows.clone());
        }
        let replaced = own.touched.entries.iter().filter(|e| e.stored).map(|e| e.key.clone());
        let (replaced, before) = (replaced.collect(), own.before.clone());
        Ok(Some(EntityRows { entity: entity.index, rows, replaced, before }))
    }
}

/// The keys of an entity that the store has a row for.
fn known_keys(entity: usize, store: &mut dyn ServingStore) -> Result<Membership, StoreError> {
    let mut known = Membership::default();
    store.scan_keys(entity, &mut |hashes| {
        hashes.iter().for_each(|hash| known.insert(*hash as u64, 0));
    })?;
    Ok(known)
}

fn is_over_entity(entity: &Entity) -> bool {
    entity.inputs.iter().any(|input| matches!(input.relation, Relation::Entity(_)))
}

/// Which row before and which row after each changed row of `entity` has: not every one was there, and one
/// that nothing names any more is gone. Rows that were not changed but are given, `count` of them, have
/// no row before.
fn pairs(
    entity: &Entity,
    entries: &[TouchedState],
    count: usize,
) -> Vec<(Option<usize>, Option<usize>)> {
    if entries.is_empty() {
        return (0..count).map(|row| (None, Some(row))).collect();
    }
    let over_entity = is_over_entity(entity);
    let (mut before, mut after) = (0.., 0..);
    entries
        .iter()
        .map(|entry| {
            let stays = !over_entity || entry.state.sources > 0;
            let before = entry.before.is_some().then(|| before.next()).flatten();
            (before, stays.then(|| after.next()).flatten())
        })
        .collect()
}

/// What a changed source row gave before and gives now.
struct Change {
    before: Option<Given>,
    after: Option<Given>,
}

/// What one source row gives: to whom, and to each fold. A row that does not pass the filter names
/// its key and gives nothing.
struct Given {
    key: OwnedKey,
    folds: Vec<Option<Contribution>>,
    order: Order,
}

#[derive(PartialEq)]
struct OwnedKey {
    tenant: String,
    key: String,
}

impl OwnedKey {
    fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { tenant: &self.tenant, key: &self.key }
    }
}

fn given(view: &InputRows<'_>, row: usize, unfolded: Unfolded) -> Option<Given> {
    if unfolded.contains(view.order(row).seq) {
        return None;
    }
    let key = view.named(row)?;
    let passes = view.passes(row);
    let contribution = |fold| passes.then(|| view.contribution(fold, row)).flatten();
    Some(Given {
        key: OwnedKey { tenant: key.tenant.to_owned(), key: key.key.to_owned() },
        folds: (0..view.folds()).map(contribution).collect(),
        order: view.order(row),
    })
}

/// Folds the states in `slots` again from all current rows of the source entity: those of this
/// transaction (`after`), and for all but the `superseded` what the store has.
#[allow(clippy::too_many_arguments)]
fn refold(
    touched: &mut Touched,
    slots: &[u32],
    layout: &Layout,
    input: &EntityInput,
    source: usize,
    after: &RecordBatch,
    mut superseded: HashSet<EntityKey>,
    unfolded: Unfolded,
    store: &mut dyn ServingStore,
) -> Result<(), FoldError> {
    let keys: Vec<EntityKey> =
        slots.iter().map(|slot| touched.entries[*slot as usize].key.clone()).collect();
    let wanted: HashSet<u32> = slots.iter().copied().collect();
    for slot in slots {
        touched.entries[*slot as usize].state = EntityState::empty(layout);
    }
    let column_of = |rows: &RecordBatch, name: &str| {
        rows.column_by_name(name)
            .map(|column| column.as_string::<i32>().clone())
            .ok_or_else(|| FoldError::column(name, "it is not in the entity's rows"))
    };
    let (tenants, own_keys) = (column_of(after, column::TENANT)?, column_of(after, column::KEY)?);
    let given = (0..after.num_rows())
        .map(|row| KeyRef { tenant: tenants.value(row), key: own_keys.value(row) }.owned());
    superseded.extend(given);

    let mut fold = |rows: &RecordBatch, skip_superseded: bool| -> Result<(), FoldError> {
        let view = InputRows::new(input, layout, rows)?;
        let (tenants, own_keys) = (column_of(rows, column::TENANT)?, column_of(rows, column::KEY)?);
        for row in 0..view.len() {
            let own = KeyRef { tenant: tenants.value(row), key: own_keys.value(row) };
            if skip_superseded && superseded.contains(&own) {
                continue;
            }
            if unfolded.contains(view.order(row).seq) {
                continue;
            }
            let Some(slot) = view.named(row).and_then(|key| touched.slot(&key)) else { continue };
            if wanted.contains(&slot) {
                let state = &mut touched.entries[slot as usize].state;
                state.add_source(layout, &view, row);
            }
        }
        Ok(())
    };
    for rows in store.rows_where(source, &input.key.name, &keys)? {
        fold(&rows, true)?;
    }
    fold(after, false)
}
