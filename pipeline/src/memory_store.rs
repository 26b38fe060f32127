//! A serving store in memory, for the tests of this crate: the plainest thing that keeps the
//! promises of [`ServingStore`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use contracts::model::{Domain, column};
use hashbrown::{HashMap, HashSet};

use crate::store::{
    Effects, EntityKey, IdHash, PartitionEffects, PartitionState, Seen, ServingStore, StoreError,
};

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    pub(crate) journal: BTreeMap<usize, Vec<RecordBatch>>,
    pub(crate) entities: BTreeMap<usize, HashMap<EntityKey, RecordBatch>>,
    pub(crate) dead_letters: Vec<(String, Option<String>, Vec<u8>)>,
    /// Key and headers of each dead letter.
    pub(crate) attached: Vec<(Option<Vec<u8>>, String)>,
    pub(crate) ingest: Vec<RecordBatch>,
    pub(crate) partitions: BTreeMap<String, PartitionState>,
    pub(crate) last_seq: i64,
    /// Fails the next commits, to test that a failed transaction leaves no trace.
    pub(crate) failing_commits: u32,
}

/// A store that a test can look into while a processor owns the other handle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(pub(crate) Arc<std::sync::Mutex<MemoryStore>>);

impl Shared {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut MemoryStore) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    /// Current rows of an entity as text, by key, without the product's bookkeeping columns.
    pub(crate) fn entity_rows(&self, domain: &Domain, name: &str) -> BTreeMap<String, String> {
        let entity = domain.entity(name).unwrap();
        self.with(|store| {
            let rows = store.entities.entry(entity.index).or_default();
            rows.iter()
                .map(|(key, row)| {
                    let schema = row.schema();
                    let shown = schema.fields().iter().zip(row.columns()).filter(|(field, _)| {
                        ![column::STATE, column::KEY_HASH].contains(&field.name().as_str())
                    });
                    let text: Vec<String> = shown
                        .map(|(field, values)| {
                            let value = arrow::util::display::array_value_to_string(values, 0);
                            format!("{}={}", field.name(), value.unwrap())
                        })
                        .collect();
                    (format!("{}/{}", key.tenant, key.key), text.join(" "))
                })
                .collect()
        })
    }
}

impl ServingStore for Shared {
    fn last_seq(&mut self) -> Result<i64, StoreError> {
        Ok(self.with(|store| store.last_seq))
    }

    fn partition(&mut self, name: &str) -> Result<Option<PartitionState>, StoreError> {
        Ok(self.with(|store| store.partitions.get(name).cloned()))
    }

    fn partitions(&mut self) -> Result<Vec<PartitionState>, StoreError> {
        Ok(self.with(|store| store.partitions.values().cloned().collect()))
    }

    fn find_seen(&mut self, ids: &[IdHash]) -> Result<Vec<Seen>, StoreError> {
        let wanted: HashSet<IdHash> = ids.iter().copied().collect();
        let mut found = Vec::new();
        self.with(|store| {
            for rows in store.journal.values().flatten() {
                for (id, body, seq) in journal_ids(rows) {
                    if wanted.contains(&id) {
                        found.push(Seen { id, body, seq });
                    }
                }
            }
        });
        Ok(found)
    }

    fn scan_ids(&mut self, _since: i64, each: &mut dyn FnMut(&[IdHash])) -> Result<(), StoreError> {
        self.with(|store| {
            for rows in store.journal.values().flatten() {
                let ids: Vec<IdHash> = journal_ids(rows).map(|(id, ..)| id).collect();
                each(&ids);
            }
        });
        Ok(())
    }

    fn scan_keys(&mut self, entity: usize, each: &mut dyn FnMut(&[i64])) -> Result<(), StoreError> {
        self.with(|store| {
            let rows = store.entities.entry(entity).or_default();
            let hashes: Vec<i64> = rows.keys().map(EntityKey::hash64).collect();
            each(&hashes);
        });
        Ok(())
    }

    fn load_states(
        &mut self,
        entity: usize,
        keys: &[EntityKey],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        Ok(self.with(|store| {
            let rows = store.entities.entry(entity).or_default();
            keys.iter()
                .map(|key| {
                    let row = rows.get(key)?;
                    let state = row.column_by_name(column::STATE)?;
                    Some(state.as_binary::<i32>().value(0).to_vec())
                })
                .collect()
        }))
    }

    fn rows_where(
        &mut self,
        entity: usize,
        column: &str,
        values: &[EntityKey],
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let wanted: HashSet<&EntityKey> = values.iter().collect();
        Ok(self.with(|store| {
            let rows = store.entities.entry(entity).or_default();
            rows.iter()
                .filter(|(key, row)| {
                    let values = row.column_by_name(column).unwrap();
                    let text = arrow::compute::cast(values, &DataType::Utf8).unwrap();
                    let found = EntityKey {
                        tenant: key.tenant.clone(),
                        key: text.as_string::<i32>().value(0).into(),
                    };
                    !text.is_null(0) && wanted.contains(&found)
                })
                .map(|(_, row)| row.clone())
                .collect()
        }))
    }

    fn commit(&mut self, effects: &Effects<'_>) -> Result<(), StoreError> {
        self.with(|store| {
            if store.failing_commits > 0 {
                store.failing_commits -= 1;
                return Err(StoreError::Failed {
                    context: "commit batch".into(),
                    message: "made to fail".into(),
                    retry: true,
                });
            }
            for (family, rows) in &effects.journal {
                store.journal.entry(*family).or_default().push(rows.clone());
            }
            for change in &effects.entities {
                let table = store.entities.entry(change.entity).or_default();
                let text = |name| change.rows.column_by_name(name).unwrap().as_string::<i32>();
                let (tenants, keys) = (text(column::TENANT), text(column::KEY));
                for key in &change.replaced {
                    assert!(table.remove(key).is_some(), "replaced, but not there: {key:?}");
                }
                for row in 0..change.rows.num_rows() {
                    let key = EntityKey {
                        tenant: tenants.value(row).into(),
                        key: keys.value(row).into(),
                    };
                    let there = table.insert(key.clone(), change.rows.slice(row, 1)).is_some();
                    assert!(!there, "there, but not replaced: {key:?}");
                }
            }
            for letter in &effects.dead_letters {
                let rejection = letter.rejection;
                store.dead_letters.push((
                    rejection.reason.code().into(),
                    rejection.field.clone(),
                    letter.payload.to_vec(),
                ));
                let headers = letter.headers.to_json().to_string();
                store.attached.push((letter.key.map(<[u8]>::to_vec), headers));
            }
            store.ingest.push(effects.ingest.clone());
            for PartitionEffects { state, .. } in &effects.partitions {
                assert!(state.counts.balanced(), "{:?}", state.counts);
                store.partitions.insert(state.name.clone(), state.clone());
            }
            store.last_seq = effects.last_seq;
            Ok(())
        })
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn journal_ids(rows: &RecordBatch) -> impl Iterator<Item = (IdHash, i64, i64)> {
    let int64 =
        |name| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
    let (hi, lo) = (int64(column::ID_HI), int64(column::ID_LO));
    let (body, seq) = (int64(column::BODY), int64(column::SEQ));
    (0..hi.len()).map(move |row| (IdHash { hi: hi[row], lo: lo[row] }, body[row], seq[row]))
}
