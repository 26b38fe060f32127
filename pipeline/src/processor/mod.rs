//! Batches from decoded columns to one transaction of the serving store.
//!
//! ```text
//! decoded → admit (time policy, deduplicate) → route (enrich, computed columns) → fold → commit
//! ```
//!
//! The [`Processor`] is the pipeline's one writer: it owns the store's writing side. What it
//! remembers between batches (sequence number, watermarks, id filter, entity states) moves only
//! after the store committed, so a failed transaction leaves no trace and the batches can be given
//! again.
//!
//! What a transaction costs hardly depends on how much is in it, so batches that wait at the same
//! time are applied in one (group commit): the outcome is the same as one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;
use contracts::model::{Domain, Relation, column};
use hashbrown::{HashMap, HashSet};

use self::admission::{Admission, Candidates, admit};
use self::tally::{Tally, tally, tenants};
use crate::batch::{CANARY, DecodedBatch};
use crate::clock;
use crate::entity::{self, FoldError};
use crate::ingest;
use crate::membership::Membership;
use crate::metrics;
use crate::outcome::{Counts, Outcome, Rejection};
use crate::positions::Positions;
use crate::route::{self, Part};
use crate::stage_times::{CommitTimes, StageTimes};
use crate::store::{
    Backfill, Committed, DeadLetter, Effects, EventId, IdHash, PartitionEffects, PartitionState,
    ServingStore, StoreError,
};
use crate::touch::Touches;

mod admission;
mod tally;

/// Why batches were not applied. Nothing of them is visible.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The store refused; [`StoreError`] says whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows could not be folded or routed.
    #[error("apply {batches} batches, the first of `{partition}` at offset {offset}: {source}")]
    Fold {
        /// How many batches were applied at once.
        batches: usize,
        /// Source partition of the first.
        partition: String,
        /// Offset of its first record.
        offset: u64,
        /// What went wrong.
        source: FoldError,
    },
}

impl ProcessError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fold { source: FoldError::Store(error), .. } => Some(error),
            Self::Fold { .. } => None,
        }
    }

    /// Is it for want of space?
    pub fn is_disk_full(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::DiskFull { .. } | StoreError::DiskLow { .. }))
    }

    /// Can giving the same batch again help without anybody changing anything?
    pub fn retry(&self) -> bool {
        match self.of_store() {
            Some(StoreError::Failed { retry, .. }) => *retry,
            Some(StoreError::DiskFull { .. } | StoreError::DiskLow { .. }) => true,
            Some(StoreError::Corrupt(_)) | None => false,
        }
    }
}

/// What became of batches.
#[derive(Debug)]
pub struct Processed {
    /// For each batch one per record, in order.
    pub outcomes: Vec<Vec<Outcome>>,
    /// What became visible.
    pub committed: Committed,
    /// Counts of these batches.
    pub counts: Counts,
    /// Rejections by reason code, of these batches.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
}

/// What [`Processor::backfill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfilled {
    /// Nothing: everything follows the contracts.
    Nothing,
    /// Nothing at the moment; there is more to do.
    Waiting,
    /// A piece.
    Some,
}

/// The pipeline's one writer.
pub struct Processor {
    domain: Arc<Domain>,
    store: Box<dyn ServingStore + Send>,
    engine: entity::Engine,
    filter: Membership,
    last_seq: i64,
    positions: Positions,
    family_order: Vec<usize>,
    horizon: i64,
    commits_since_cleaning: u32,
    touches: Touches,
    /// Time spent per stage since the start.
    pub times: StageTimes,
}

impl Processor {
    /// Takes over a store: reads positions and fills the id filter.
    pub fn new(
        domain: Arc<Domain>,
        mut store: Box<dyn ServingStore + Send>,
    ) -> Result<Self, StoreError> {
        let contracts = domain.families.iter().flat_map(|family| &family.versions);
        let horizon = contracts.map(|contract| contract.dedup.horizon).max().unwrap_or(0);
        let positions = Positions::new(store.partitions()?);
        positions.with(|all| all.values().for_each(metrics::show_partition));
        let mut filter = Membership::default();
        let since = oldest_needed(&positions, horizon);
        store.scan_ids(since, &mut |ids| {
            // The exact event time is not needed here: `since` keeps these ids long enough.
            ids.iter().for_each(|id| filter.insert(id.hash64(), i64::MAX));
        })?;
        let last_seq = store.last_seq()?;
        let family_order = entity::family_order(&domain);
        let engine = entity::Engine::new(domain.clone(), &mut *store)?;
        let touches = Touches::new(Arc::clone(&domain));
        Ok(Self {
            domain,
            store,
            engine,
            filter,
            last_seq,
            positions,
            family_order,
            horizon,
            commits_since_cleaning: 0,
            touches,
            times: StageTimes::default(),
        })
    }

    /// All partitions, as committed.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Highest sequence number committed.
    pub fn last_seq(&self) -> i64 {
        self.last_seq
    }

    /// Where the time of all commits so far went.
    pub fn commit_times(&self) -> CommitTimes {
        self.store.commit_times()
    }

    /// Would the store refuse a batch now?
    pub fn ready(&mut self) -> Result<(), ProcessError> {
        Ok(self.store.ready()?)
    }

    /// Tells the store that no batch is waiting.
    pub fn idle(&mut self) -> Result<(), StoreError> {
        self.store.idle()
    }

    /// Lets the store do a short piece of what can wait; true when there is more.
    pub fn tidy(&mut self) -> Result<bool, StoreError> {
        let is_more = self.store.tidy();
        if self.store.take_rewritten() {
            // Keys that it has now may be new to the filter, which says of a key that it is surely new.
            self.engine.learn_anew(&mut *self.store)?;
        }
        is_more
    }

    /// Does a short piece of making stored rows follow the contracts.
    pub fn backfill(&mut self) -> Result<Backfilled, StoreError> {
        let stretch = match self.store.backfill()? {
            Backfill::Nothing => return Ok(Backfilled::Nothing),
            Backfill::Waiting => return Ok(Backfilled::Waiting),
            Backfill::Done => return Ok(Backfilled::Some),
            Backfill::Fold(stretch) => stretch,
        };
        let mut batch = self.engine.begin();
        let folded = self.engine.fold_stretch(&mut batch, &stretch, &mut *self.store);
        let committed = match folded {
            Ok(rows) => self.store.commit_stretch(&rows),
            Err(FoldError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Corrupt(format!("fold old rows: {error}"))),
        };
        match committed {
            Ok(()) => {
                self.engine.absorb(batch);
                self.engine.folded(&stretch);
                Ok(Backfilled::Some)
            }
            Err(error) => {
                self.engine.reset();
                Err(error)
            }
        }
    }

    /// Applies batches in one transaction, as if one after the other.
    pub fn process(&mut self, batches: &[&DecodedBatch]) -> Result<Processed, ProcessError> {
        let result = self.apply(batches);
        if result.is_err() {
            self.engine.reset();
        }
        result
    }

    fn apply(&mut self, batches: &[&DecodedBatch]) -> Result<Processed, ProcessError> {
        let start = Instant::now();
        let fold_error = |source| fold_error(batches, source);
        let rows: Vec<_> = batches.iter().map(|batch| Candidates::of(batch)).collect();
        let mut known = self.known(&rows)?;
        let mut last_seq = self.last_seq;
        let mut partitions = Touched::default();
        let mut admissions = Vec::with_capacity(batches.len());
        for (batch, rows) in batches.iter().zip(&rows) {
            let index = partitions.index(batch, &self.positions);
            let partition = &mut partitions.states[index].state;
            let admission = admit(batch, rows, partition, &mut known, &mut last_seq);
            admissions.push((index, admission));
        }
        let admitted_at = Instant::now();

        let mut entities = self.engine.begin();
        let mut journal = Vec::new();
        for family in &self.family_order {
            let family = &self.domain.families[*family];
            let parts: Vec<Part<'_>> = batches
                .iter()
                .zip(&admissions)
                .flat_map(|(batch, (partition, admission))| {
                    let partition = partitions.states[*partition].state.id;
                    let groups = batch.rows.iter().zip(&admission.admitted);
                    groups.map(move |(rows, admitted)| Part { rows, admitted, partition })
                })
                .filter(|part| {
                    part.rows.contract.family == family.index && !part.admitted.is_empty()
                })
                .collect();
            if parts.is_empty() {
                continue;
            }
            let rows = route::journal_rows(
                family,
                &parts,
                &journal,
                &mut self.engine,
                &mut entities,
                &mut *self.store,
            )
            .map_err(fold_error)?;
            journal.push((family.index, rows));
        }
        let routed_at = Instant::now();

        let changed =
            self.engine.finish(&mut entities, &journal, &mut *self.store).map_err(fold_error)?;
        let folded_at = Instant::now();

        let mut counts = Counts::default();
        let mut ingest = BTreeMap::new();
        let mut rejected_by_reason = BTreeMap::new();
        let mut tallies = Vec::with_capacity(batches.len());
        for (batch, (partition, admission)) in batches.iter().zip(&admissions) {
            let tally = tally(batch, admission, &mut ingest);
            partitions.states[*partition].add(batch, &tally);
            counts += tally.counts;
            for (reason, n) in &tally.rejected_by_reason {
                *rejected_by_reason.entry(*reason).or_insert(0) += n;
            }
            tallies.push(tally);
        }
        let ingest_rows =
            ingest::rows(&self.domain.ingest, last_seq, &ingest).map_err(|error| {
                let message = error.to_string();
                fold_error(FoldError::Column { column: "ingest".into(), message })
            })?;
        let effects = Effects {
            last_seq,
            dead_letters: batches
                .iter()
                .zip(&admissions)
                .flat_map(|(batch, (_, admission))| dead_letters(batch, admission))
                .collect(),
            ingest: ingest_rows,
            partitions: partitions.states,
            entities: changed,
            journal,
        };
        let before = self.store.commit_times();
        self.store.commit(&effects)?;
        let committed_at = Instant::now();
        let parts = self.store.commit_times().since(&before);
        let spent = [
            ("admit", admitted_at - start),
            ("enrich", routed_at - admitted_at),
            ("fold", folded_at - routed_at),
            ("commit", committed_at - folded_at),
            ("commit_append", parts.append),
            ("commit_replace", parts.replace),
            ("commit_log", parts.log),
            ("commit_checkpoint", parts.checkpoint),
        ];

        let touched = touched(&effects);
        let touches = Some(self.touches.of(&effects));
        let arrived_at = batches.iter().flat_map(|batch| &batch.raw.records).map(|r| r.arrived_at);
        let arrived_at = arrived_at.min().unwrap_or(0);
        let newest = newest(batches, &effects);
        let partitions = effects.partitions;
        self.engine.absorb(entities);
        self.last_seq = last_seq;
        let offsets = partitions.iter().map(|PartitionEffects { state, .. }| state);
        let offsets = offsets.map(|state| (state.name.clone(), state.next_offset)).collect();
        for PartitionEffects { state, .. } in partitions {
            metrics::show_partition(&state);
            self.positions.committed(state);
        }
        for (batch, tally) in batches.iter().zip(&tallies) {
            metrics::count_batch(batch, &tally.counts, &tally.rejected_by_reason);
        }
        let mut outcomes = Vec::with_capacity(batches.len());
        for (_, admission) in admissions {
            for (id, event_time) in admission.new_ids {
                self.filter.insert(id.hash64(), event_time);
            }
            outcomes.push(admission.outcomes);
        }
        self.forget_old_ids();
        self.times.commit(batches.len(), start, admitted_at, routed_at, folded_at, committed_at);
        metrics::count_transaction(&spent, start.elapsed());
        Ok(Processed {
            outcomes,
            committed: Committed { last_seq, touched, newest, touches, arrived_at, offsets },
            counts,
            rejected_by_reason,
        })
    }

    /// The ids of the batches that the journal has already: id → (body, position).
    fn known(
        &mut self,
        rows: &[Candidates<'_>],
    ) -> Result<HashMap<IdHash, (i64, i64)>, StoreError> {
        let oldest = oldest_needed(&self.positions, self.horizon);
        let given_up = self.store.given_up_until();
        let mut asked: Vec<IdHash> = Vec::new();
        // Those that may be among what the journal has given up. A fresh event never is.
        let mut old: Vec<EventId<'_>> = Vec::new();
        for group in rows.iter().flat_map(|rows| &rows.groups) {
            for (row, (id, event_time)) in group.ids.iter().zip(group.times).enumerate() {
                let is_old = given_up.is_some_and(|until| *event_time <= until);
                // Ids beyond the horizon may have been forgotten by the filter, and a filter that was
                // filled after a start has none of those that the journal gave up before.
                if is_old || *event_time < oldest || self.filter.may_contain(id.hash64()) {
                    asked.push(*id);
                }
                if is_old {
                    old.push(EventId { hash: *id, text: group.id_texts.value(row) });
                }
            }
        }
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        asked.sort_unstable();
        asked.dedup();
        let seen = self.store.find_seen(&asked)?;
        let mut known: HashMap<IdHash, (i64, i64)> =
            seen.into_iter().map(|seen| (seen.id, (seen.body, seen.seq))).collect();
        old.retain(|id| !known.contains_key(&id.hash));
        old.sort_unstable_by_key(|id| id.hash);
        old.dedup_by_key(|id| id.hash);
        if !old.is_empty() {
            let seen = self.store.find_given_up(&old)?;
            known.extend(seen.into_iter().map(|seen| (seen.id, (seen.body, seen.seq))));
        }
        Ok(known)
    }

    fn forget_old_ids(&mut self) {
        self.commits_since_cleaning += 1;
        if self.commits_since_cleaning >= 256 {
            self.commits_since_cleaning = 0;
            self.filter.forget_before(oldest_needed(&self.positions, self.horizon));
        }
    }
}

/// Event time (µs) from which on ids must be in the filter: the horizon behind the partition that
/// is furthest behind.
fn oldest_needed(positions: &Positions, horizon: i64) -> i64 {
    let behind = positions
        .with(|partitions| partitions.values().filter_map(|partition| partition.watermark).min());
    behind.map_or(i64::MIN, |mark| mark.saturating_sub(horizon))
}

/// The partitions that batches belong to, each as it is after those before.
#[derive(Default)]
struct Touched {
    states: Vec<PartitionEffects>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Touched {
    /// Where the partition of `batch` is.
    fn index(&mut self, batch: &DecodedBatch, positions: &Positions) -> usize {
        let name = &batch.raw.partition;
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let state = positions.get(name).unwrap_or_else(|| {
            let known = positions.with(|partitions| partitions.len());
            let new = self.states.iter().filter(|touched| touched.state.id as usize > known);
            PartitionState {
                id: (known + new.count()) as i64 + 1,
                name: name.to_string(),
                ..PartitionState::default()
            }
        });
        let index = self.states.len();
        self.states.push(PartitionEffects { state, by_reason: Vec::new() });
        self.by_name.insert(Arc::clone(name), index);
        index
    }
}

impl PartitionEffects {
    fn add(&mut self, batch: &DecodedBatch, tally: &Tally) {
        let state = &mut self.state;
        state.counts += tally.counts;
        state.next_offset = batch.raw.next_offset;
        state.fingerprint = batch.raw.fingerprint.clone();
        state.updated_at = clock::now();
        if let Some(last) = batch.raw.records.last() {
            state.last_arrived_at = Some(last.arrived_at);
        }
        for (outcome, reason, n) in &tally.by_reason {
            let same = self.by_reason.iter_mut().find(|(o, r, _)| (o, r) == (outcome, reason));
            match same {
                Some((_, _, sum)) => *sum += n,
                None => self.by_reason.push((outcome, reason, *n)),
            }
        }
    }
}

fn dead_letters<'a>(
    batch: &'a DecodedBatch,
    admission: &'a Admission,
) -> impl Iterator<Item = DeadLetter<'a>> {
    let mut all: Vec<&Rejection> = batch.rejected.iter().chain(&admission.rejected).collect();
    all.sort_unstable_by_key(|rejection| rejection.ordinal);
    let tenants = if all.is_empty() { Vec::new() } else { tenants(batch) };
    all.into_iter().map(move |rejection| {
        let record = &batch.raw.records[rejection.ordinal as usize];
        DeadLetter {
            partition: &batch.raw.partition,
            rejection,
            payload: batch.raw.payload(rejection.ordinal),
            tenant: tenants[rejection.ordinal as usize],
            offset: record.offset,
            arrived_at: record.arrived_at,
            key: batch.raw.key(rejection.ordinal),
            headers: batch.raw.headers(rejection.ordinal),
        }
    })
}

/// Relations whose rows changed, with the tenants concerned.
fn touched(effects: &Effects<'_>) -> Vec<(Relation, Vec<String>)> {
    let tenants = |rows: &arrow::array::RecordBatch| -> Vec<String> {
        let Some(column) = rows.column_by_name(column::TENANT) else { return vec![] };
        let names: HashSet<&str> = column.as_string::<i32>().iter().flatten().collect();
        names.into_iter().map(str::to_owned).collect()
    };
    let families = effects.journal.iter().map(|(i, rows)| (Relation::Family(*i), tenants(rows)));
    let entities = effects.entities.iter().map(|e| (Relation::Entity(e.entity), tenants(&e.rows)));
    let ingest =
        (effects.ingest.num_rows() > 0).then(|| (Relation::Ingest, tenants(&effects.ingest)));
    families.chain(entities).chain(ingest).collect()
}

/// Newest time in each relation that events went into: event time, for `ingest` arrival.
fn newest(batches: &[&DecodedBatch], effects: &Effects<'_>) -> Vec<(Relation, i64)> {
    let families = effects.journal.iter().filter_map(|(family, rows)| {
        let times = rows.column_by_name(column::TIME)?.as_primitive::<TimestampMicrosecondType>();
        Some((Relation::Family(*family), arrow::compute::max(times)?))
    });
    let real = batches.iter().filter(|batch| batch.raw.source != CANARY);
    let arrived = real.flat_map(|batch| &batch.raw.records).map(|record| record.arrived_at).max();
    let ingest = arrived.filter(|_| effects.ingest.num_rows() > 0);
    families.chain(ingest.map(|at| (Relation::Ingest, at))).collect()
}

fn fold_error(batches: &[&DecodedBatch], source: FoldError) -> ProcessError {
    let first = batches.first().map(|batch| &batch.raw);
    ProcessError::Fold {
        batches: batches.len(),
        partition: first.map_or_else(String::new, |raw| raw.partition.to_string()),
        offset: first.and_then(|raw| raw.records.first()).map_or(0, |record| record.offset),
        source,
    }
}

#[cfg(test)]
mod tests;
