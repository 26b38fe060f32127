//! Entities after an erasure: folded again from the rows as they are now, key by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use contracts::model::{Domain, Entity, Relation, column};
use hashbrown::HashSet;
use pipeline::entity::{Replay, fold_rows, keys_named};
use pipeline::erase::Eraser;
use pipeline::store::{EntityKey, EntityRows};

use super::super::error::refused;
use super::super::schema::{Table, quoted};
use super::super::writer::{Match, Writer};
use super::super::{lookup, rows};
use super::EraseFailure;
use super::apply::{TouchedKeys, is_key, keys_table};

impl Writer {
    /// Folds the touched keys again, and then what is folded from their rows. Tells how many keys of
    /// each entity.
    pub(super) fn fold_again(
        &self,
        domain: &Arc<Domain>,
        eraser: &Eraser,
        touched: TouchedKeys,
    ) -> Result<BTreeMap<usize, u64>, EraseFailure> {
        let mut folded = BTreeMap::new();
        // Rows before and after, by entity.
        let mut changes: BTreeMap<usize, (Vec<RecordBatch>, Vec<RecordBatch>)> = BTreeMap::new();
        // One that is folded from another comes after it.
        for entity in &domain.entities {
            let below = entity.inputs.iter().find_map(|input| match input.relation {
                Relation::Entity(below) => Some(below),
                _ => None,
            });
            let (keys, after) = match below {
                None => {
                    let Some(keys) = touched.get(&entity.index) else { continue };
                    (keys.clone(), self.fold_events(domain, entity, eraser, keys)?)
                }
                Some(below) => {
                    let Some((before, after)) = changes.get(&below) else { continue };
                    let mut keys = keys_named(domain, entity.index, below, before)?;
                    keys.extend(keys_named(domain, entity.index, below, after)?);
                    let rows = self.rows_that_name(domain, entity, below, &keys)?;
                    (keys.clone(), fold_rows(domain, entity.index, below, &rows, Some(&keys))?)
                }
            };
            if keys.is_empty() {
                continue;
            }
            let before = self.put(entity, &keys, &after)?;
            folded.insert(entity.index, keys.len() as u64);
            changes.insert(entity.index, (before, after));
        }
        Ok(folded)
    }

    /// Rows of `keys`, from the events of today: those of the journal, which are erased already, and
    /// those that only the lake has, which are erased on the way.
    fn fold_events(
        &self,
        domain: &Arc<Domain>,
        entity: &Entity,
        eraser: &Eraser,
        keys: &HashSet<EntityKey>,
    ) -> Result<Vec<RecordBatch>, EraseFailure> {
        let mut replay = Replay::of_keys(Arc::clone(domain), entity.index, keys.clone());
        let tenant = &eraser.order().subject.tenant;
        let trimmed = self.horizon.get();
        for family in replay.wants() {
            let table = &self.tables.families[family];
            self.each_trimmed(trimmed.as_deref(), family, eraser.order(), &mut |rows| {
                match eraser.erase(family, rows)? {
                    Some(erased) => replay.feed(family, &erased.rows)?,
                    None => replay.feed(family, rows)?,
                }
                Ok(())
            })?;
            let texts: Box<dyn Iterator<Item = &str>> = Box::new(keys.iter().map(|key| &*key.key));
            keys_table(&self.conn, std::iter::once((0, texts)))?;
            let inputs = entity.inputs.iter();
            let inputs = inputs.filter(|input| input.relation == Relation::Family(family));
            let named: Vec<String> = inputs.map(|input| is_key(&input.key.name, 0)).collect();
            let sql = format!(
                "select {} from {} where _tenant = ? and ({})",
                table.columns,
                quoted(&table.name),
                named.join(" or ")
            );
            let mut failure = None;
            rows::stream(&self.conn, &sql, [tenant], &table.schema, |rows| {
                failure = failure.take().or(replay.feed(family, rows).err());
            })?;
            if let Some(failure) = failure {
                return Err(failure.into());
            }
        }
        Ok(replay.finish()?)
    }

    /// All rows of the entity `below` that name one of `keys`, as they are now.
    fn rows_that_name(
        &self,
        domain: &Domain,
        entity: &Entity,
        below: usize,
        keys: &HashSet<EntityKey>,
    ) -> Result<Vec<RecordBatch>, EraseFailure> {
        let table = &self.tables.entities[below];
        let inputs = domain.entities[entity.index].inputs.iter();
        let mut found = Vec::new();
        for input in inputs.filter(|input| input.relation == Relation::Entity(below)) {
            found.extend(self.entity_rows(table, &input.key.name, keys)?);
        }
        Ok(found)
    }

    fn entity_rows(
        &self,
        table: &Table,
        column: &str,
        keys: &HashSet<EntityKey>,
    ) -> Result<Vec<RecordBatch>, EraseFailure> {
        let context = || format!("find rows of `{}` by `{column}`", table.name);
        let Some((_, field)) = table.schema.column_with_name(column) else {
            return Err(refused(context(), "there is no such column").into());
        };
        let keys: Vec<EntityKey> = keys.iter().cloned().collect();
        Ok(lookup::rows_where(&self.conn, table, field, &keys)?)
    }

    /// Puts rows in the place of those that `keys` had, and returns the latter.
    fn put(
        &self,
        entity: &Entity,
        keys: &HashSet<EntityKey>,
        after: &[RecordBatch],
    ) -> Result<Vec<RecordBatch>, EraseFailure> {
        let table = &self.tables.entities[entity.index];
        let before = self.entity_rows(table, column::KEY, keys)?;
        let all: Vec<EntityKey> = keys.iter().cloned().collect();
        let states = lookup::load_states(&self.conn, table, &all)?;
        let stored = all.into_iter().zip(states);
        let change = EntityRows {
            entity: entity.index,
            rows: concat_batches(&table.schema, after)?,
            replaced: stored.filter_map(|(key, state)| state.map(|_| key)).collect(),
            before: None,
        };
        self.replace(&change, Match::Full).map_err(|e| e.into_error("fold entities again"))?;
        Ok(before)
    }
}
