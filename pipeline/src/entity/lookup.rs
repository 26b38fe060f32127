//! Lookups: a field of another entity "as known when applied".
//!
//! A row sees what the rows before it made of the looked-up entity, also those of its own batch, so
//! the result does not depend on where batches begin. For that, an entity that is looked up keeps
//! its versions within a transaction.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::DataType;
use contracts::model::{Domain, EnrichValue, Relation};
use hashbrown::HashMap;

use super::engine::{Batch, Engine};
use super::state::{EntityState, KeyRef, Touched};
use super::{FoldError, rows};
use crate::store::{EntityKey, ServingStore};

/// For each entity: does an enriched column look it up?
pub(super) fn looked_up(domain: &Domain) -> Vec<bool> {
    let mut found = vec![false; domain.entities.len()];
    for (entity, _) in lookups(domain) {
        found[entity] = true;
    }
    found
}

/// (entity that is looked up, family that looks it up)
fn lookups(domain: &Domain) -> impl Iterator<Item = (usize, usize)> {
    domain.families.iter().flat_map(|family| {
        family.versions.iter().flat_map(|c| &c.enrich).filter_map(|e| match &e.value {
            EnrichValue::Lookup { entity, .. } => Some((*entity, family.index)),
            EnrichValue::Expr(_) => None,
        })
    })
}

/// Families in an order in which each comes after those that feed the entities it looks up. The
/// contract checker admits no cycle.
pub fn family_order(domain: &Domain) -> Vec<usize> {
    let needs: Vec<(usize, usize)> = lookups(domain)
        .flat_map(|(entity, family)| {
            let inputs = &domain.entities[entity].inputs;
            inputs.iter().filter_map(move |input| match input.relation {
                Relation::Family(feeding) => Some((family, feeding)),
                _ => None,
            })
        })
        .collect();
    let mut order: Vec<usize> = Vec::with_capacity(domain.families.len());
    while order.len() < domain.families.len() {
        let before = order.len();
        for family in 0..domain.families.len() {
            let ready =
                needs.iter().all(|(who, feeding)| *who != family || order.contains(feeding));
            if !order.contains(&family) && ready {
                order.push(family);
            }
        }
        if order.len() == before {
            order.extend(
                (0..domain.families.len()).filter(|f| !order.contains(f)).collect::<Vec<_>>(),
            );
        }
    }
    order
}

/// The states of a looked-up entity within one transaction, by key and sequence number.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Per slot: the state before the transaction, then (sequence number, state) of each change.
    slots: HashMap<u32, Vec<(i64, EntityState)>>,
}

impl Versions {
    /// Starts with the states as they were before the transaction.
    pub(super) fn starting(touched: &Touched) -> Self {
        let slots = touched
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.stored)
            .map(|(slot, entry)| (slot as u32, vec![(i64::MIN, entry.state.clone())]))
            .collect();
        Self { slots }
    }

    /// Notes the state after a row.
    pub(super) fn record(&mut self, slot: u32, seq: i64, state: &EntityState) {
        let versions = self.slots.entry(slot).or_default();
        let at = versions.partition_point(|(held, _)| *held <= seq);
        versions.insert(at, (seq, state.clone()));
    }

    fn before(&self, slot: u32, seq: i64) -> Option<&EntityState> {
        let versions = self.slots.get(&slot)?;
        let at = versions.partition_point(|(held, _)| *held < seq);
        Some(&versions[at.checked_sub(1)?].1)
    }
}

impl Engine {
    /// Field `field` of `entity` for each row: by key, as known just before the row's sequence
    /// number. Null where there is no key or no such entity.
    ///
    /// `journal` must have all rows of this transaction of the families that feed the entity
    /// ([`family_order`]).
    #[allow(clippy::too_many_arguments)]
    pub fn look_up(
        &mut self,
        batch: &mut Batch,
        entity: usize,
        field: &str,
        keys: &ArrayRef,
        tenants: &ArrayRef,
        seqs: &[i64],
        journal: &[(usize, RecordBatch)],
        store: &mut dyn ServingStore,
    ) -> Result<ArrayRef, FoldError> {
        self.fold(batch, entity, journal, store)?;
        let keys = arrow::compute::cast(keys, &DataType::Utf8)
            .map_err(|error| FoldError::column(field, error))?;
        let keys = keys.as_string::<i32>();
        let tenants = tenants.as_string::<i32>();

        // The distinct states that the rows see, as rows of the entity's table.
        let own = &batch.entities[entity];
        let mut seen: Vec<(EntityKey, EntityState)> = Vec::new();
        let mut unknown: HashMap<EntityKey, Vec<usize>> = HashMap::new();
        let mut picks: Vec<Option<u32>> = vec![None; keys.len()];
        let mut by_version: HashMap<(u32, i64), u32> = HashMap::new();
        for row in 0..keys.len() {
            if keys.is_null(row) {
                continue;
            }
            let key = KeyRef { tenant: tenants.value(row), key: keys.value(row) };
            let Some(slot) = own.touched.slot(&key) else {
                unknown.entry_ref(&key).or_default().push(row);
                continue;
            };
            let state = match &own.versions {
                Some(versions) => versions.before(slot, seqs[row]),
                None => Some(&own.touched.entries[slot as usize].state),
            };
            if let Some(state) = state {
                let pick = *by_version.entry((slot, state.updated_seq)).or_insert_with(|| {
                    seen.push((key.owned(), state.clone()));
                    seen.len() as u32 - 1
                });
                picks[row] = Some(pick);
            }
        }
        let wanted: Vec<EntityKey> = unknown.keys().cloned().collect();
        let mut missing = Vec::new();
        for key in wanted {
            let rows = &unknown[&key];
            let key_ref = KeyRef { tenant: &key.tenant, key: &key.key };
            match self.cached(entity, &key_ref) {
                Some(state) => {
                    let pick = seen.len() as u32;
                    rows.iter().for_each(|row| picks[*row] = Some(pick));
                    seen.push((key, state));
                }
                None if self.may_be_stored(entity, &key) => missing.push(key),
                None => {}
            }
        }
        if !missing.is_empty() {
            let found = store.load_states(entity, &missing)?;
            for (key, bytes) in missing.into_iter().zip(found) {
                let Some(bytes) = bytes else { continue };
                let state = EntityState::from_bytes(&bytes, &self.domain.entities[entity])?;
                self.remember(entity, key.clone(), state.clone());
                let pick = seen.len() as u32;
                unknown[&key].iter().for_each(|row| picks[*row] = Some(pick));
                seen.push((key, state));
            }
        }

        let states: Vec<_> = seen.iter().map(|(key, state)| (key, state)).collect();
        let table = rows::fields(&self.domain.entities[entity], &self.layouts[entity], &states)?;
        let values = table
            .column_by_name(field)
            .ok_or_else(|| FoldError::column(field, "the entity has no such field"))?;
        let picks: UInt32Array = picks.into_iter().collect();
        arrow::compute::take(values, &picks, None)
            .map_err(|error| FoldError::column(field, error))
            .map(|values| Arc::clone(&values))
    }
}
