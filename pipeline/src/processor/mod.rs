//! One batch from decoded columns to one transaction of the serving store.
//!
//! ```text
//! decoded → admit (time policy, deduplicate) → route (enrich, computed columns) → fold → commit
//! ```
//!
//! The [`Processor`] is the pipeline's one writer: it owns the store's writing side. What it
//! remembers between batches (sequence number, watermarks, id filter, entity states) moves only
//! after the store committed, so a failed transaction leaves no trace and the batch can be given
//! again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use contracts::model::{Domain, Relation, column};
use hashbrown::{HashMap, HashSet};

use crate::admit::{Facts, Verdict, judge};
use crate::batch::DecodedBatch;
use crate::clock;
use crate::deduplicate::hash;
use crate::entity::{self, FoldError};
use crate::ingest::{self, IngestKey};
use crate::membership::Membership;
use crate::metrics;
use crate::outcome::{Counts, Outcome, Reason, Rejection};
use crate::positions::Positions;
use crate::route::{self, Admitted};
use crate::stage_times::{CommitTimes, StageTimes};
use crate::store::{
    Committed, DeadLetter, Effects, IdHash, PartitionState, ServingStore, StoreError,
};

/// Why a batch was not applied. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The store refused; [`StoreError`] says whether trying again can help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Rows could not be folded or routed.
    #[error("apply batch of `{partition}` at offset {offset}: {source}")]
    Fold {
        /// Source partition.
        partition: String,
        /// Offset of the first record.
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
        matches!(self.of_store(), Some(StoreError::DiskFull { .. }))
    }

    /// Can giving the same batch again help without anybody changing anything?
    pub fn retry(&self) -> bool {
        match self.of_store() {
            Some(StoreError::Failed { retry, .. }) => *retry,
            Some(StoreError::DiskFull { .. }) => true,
            Some(StoreError::Corrupt(_)) | None => false,
        }
    }
}

/// What became of a batch.
#[derive(Debug)]
pub struct Processed {
    /// One per record, in order.
    pub outcomes: Vec<Outcome>,
    /// What became visible.
    pub committed: Committed,
    /// Counts of this batch.
    pub counts: Counts,
    /// Rejections by reason code, of this batch.
    pub rejected_by_reason: BTreeMap<&'static str, u64>,
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
    batches_since_cleaning: u32,
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
        Ok(Self {
            domain,
            store,
            engine,
            filter,
            last_seq,
            positions,
            family_order,
            horizon,
            batches_since_cleaning: 0,
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

    /// Tells the store that no batch is waiting.
    pub fn idle(&mut self) -> Result<(), StoreError> {
        self.store.idle()
    }

    /// Applies a batch in one transaction.
    pub fn process(&mut self, batch: &DecodedBatch) -> Result<Processed, ProcessError> {
        let result = self.apply(batch);
        if result.is_err() {
            self.engine.reset();
        }
        result
    }

    fn apply(&mut self, batch: &DecodedBatch) -> Result<Processed, ProcessError> {
        let start = Instant::now();
        let known = self.positions.get(&batch.raw.partition);
        let mut partition = known.unwrap_or_else(|| PartitionState {
            id: self.positions.with(|partitions| partitions.len() as i64 + 1),
            name: batch.raw.partition.to_string(),
            ..PartitionState::default()
        });
        let admission = self.admit(batch, &mut partition)?;
        let admitted_at = Instant::now();

        let mut entities = self.engine.begin();
        let mut journal = Vec::new();
        for family in &self.family_order {
            let family = &self.domain.families[*family];
            let versions: Vec<_> = batch
                .rows
                .iter()
                .zip(&admission.admitted)
                .filter(|(rows, admitted)| {
                    rows.contract.family == family.index && !admitted.is_empty()
                })
                .map(|(rows, admitted)| (rows, admitted.as_slice()))
                .collect();
            if versions.is_empty() {
                continue;
            }
            let rows = route::journal_rows(
                family,
                &versions,
                partition.id,
                &journal,
                &mut self.engine,
                &mut entities,
                &mut *self.store,
            )
            .map_err(|source| fold_error(batch, source))?;
            journal.push((family.index, rows));
        }
        let routed_at = Instant::now();

        let changed = self
            .engine
            .finish(&mut entities, &journal, &mut *self.store)
            .map_err(|source| fold_error(batch, source))?;
        let folded_at = Instant::now();

        let Tally { counts, ingest, by_reason, rejected_by_reason } = tally(batch, &admission);
        partition.counts += counts;
        partition.next_offset = batch.raw.next_offset;
        partition.fingerprint = batch.raw.fingerprint.clone();
        partition.updated_at = clock::now();
        if let Some(last) = batch.raw.records.last() {
            partition.last_arrived_at = Some(last.arrived_at);
        }
        let ingest_rows =
            ingest::rows(&self.domain.ingest, batch.raw.source, admission.last_seq, &ingest)
                .map_err(|error| {
                    let message = error.to_string();
                    fold_error(batch, FoldError::Column { column: "ingest".into(), message })
                })?;
        let effects = Effects {
            last_seq: admission.last_seq,
            dead_letters: dead_letters(batch, &admission),
            ingest: ingest_rows,
            partition: partition.clone(),
            by_reason,
            entities: changed,
            journal,
        };
        self.store.commit(&effects)?;

        let touched = touched(&effects);
        let newest = newest(batch, &effects);
        drop(effects);
        self.engine.absorb(entities);
        for (id, event_time) in admission.new_ids {
            self.filter.insert(id.hash64(), event_time);
        }
        self.last_seq = admission.last_seq;
        metrics::show_partition(&partition);
        self.positions.committed(partition);
        self.forget_old_ids();
        self.times.batch(start, admitted_at, routed_at, folded_at, Instant::now());
        metrics::count_batch(batch, &counts, &rejected_by_reason, start.elapsed());
        Ok(Processed {
            outcomes: admission.outcomes,
            committed: Committed { last_seq: self.last_seq, touched, newest },
            counts,
            rejected_by_reason,
        })
    }

    /// Judges every decoded row in order of position.
    fn admit(
        &mut self,
        batch: &DecodedBatch,
        partition: &mut PartitionState,
    ) -> Result<Admission, StoreError> {
        let rows = Candidates::of(batch);
        let mut known = self.known(&rows)?;
        let mut admission = Admission {
            admitted: batch
                .rows
                .iter()
                .map(|rows| Vec::with_capacity(rows.ordinals.len()))
                .collect(),
            outcomes: Vec::with_capacity(batch.raw.records.len()),
            rejected: Vec::new(),
            late: HashSet::new(),
            new_ids: Vec::new(),
            last_seq: self.last_seq,
        };
        let mut decoded_rejections: HashMap<u32, &Rejection> =
            batch.rejected.iter().map(|rejection| (rejection.ordinal, rejection)).collect();
        let mut ignored = batch.ignored.iter();
        for ordinal in 0..batch.raw.records.len() as u32 {
            let Some((group, row)) = rows.place[ordinal as usize] else {
                admission.outcomes.push(match decoded_rejections.remove(&ordinal) {
                    Some(rejection) => Outcome::Rejected(Box::new(rejection.clone())),
                    None => {
                        let ignored = ignored.next().filter(|ignored| ignored.ordinal == ordinal);
                        let reason = ignored.map(|ignored| ignored.reason);
                        Outcome::Discarded { reason: reason.unwrap_or(Reason::UnknownEventType) }
                    }
                });
                continue;
            };
            let record = &batch.raw.records[ordinal as usize];
            let contract = &batch.rows[group].contract;
            let columns = &rows.groups[group];
            let (id, body) = (columns.ids[row], columns.bodies[row]);
            let event_time = columns.times[row];
            let facts = Facts {
                event_time,
                arrived_at: record.arrived_at,
                body,
                known: known.get(&id).copied(),
                watermark: partition.watermark,
            };
            let outcome = match judge(contract, &facts) {
                Verdict::Accept { late } => {
                    admission.last_seq += 1;
                    let seq = admission.last_seq;
                    known.insert(id, (body, seq));
                    admission.new_ids.push((id, event_time));
                    partition.last_event_at = Some(event_time);
                    partition.watermark =
                        Some(partition.watermark.map_or(event_time, |mark| mark.max(event_time)));
                    if late {
                        admission.late.insert(ordinal);
                    }
                    admission.admitted[group].push(Admitted {
                        row: row as u32,
                        seq,
                        id,
                        body,
                        late,
                        arrived_at: record.arrived_at,
                        offset: record.offset,
                    });
                    Outcome::Accepted { seq }
                }
                Verdict::Duplicate { seq } => Outcome::Duplicate { seq },
                Verdict::Discard(reason) => Outcome::Discarded { reason },
                Verdict::Reject(stage, reason) => {
                    let rejection = Rejection {
                        ordinal,
                        stage,
                        reason,
                        field: field_of(reason, contract),
                        rule: None,
                        detail: detail(reason, &facts, contract),
                        event_id: Some(columns.id_texts.value(row).to_owned()),
                        event_type: Some(columns.types.value(row).to_owned()),
                        event_time: Some(event_time),
                        contract: Some((contract.name.clone(), contract.version)),
                    };
                    admission.rejected.push(rejection.clone());
                    Outcome::Rejected(Box::new(rejection))
                }
            };
            admission.outcomes.push(outcome);
        }
        Ok(admission)
    }

    /// The ids of the batch that the journal has already: id → (body, position).
    fn known(&mut self, rows: &Candidates<'_>) -> Result<HashMap<IdHash, (i64, i64)>, StoreError> {
        let oldest = oldest_needed(&self.positions, self.horizon);
        let mut asked: Vec<IdHash> = Vec::new();
        for group in &rows.groups {
            for (id, event_time) in group.ids.iter().zip(group.times) {
                // Ids beyond the horizon may have been forgotten by the filter.
                if *event_time < oldest || self.filter.may_contain(id.hash64()) {
                    asked.push(*id);
                }
            }
        }
        if asked.is_empty() {
            return Ok(HashMap::new());
        }
        asked.sort_unstable();
        asked.dedup();
        let seen = self.store.find_seen(&asked)?;
        Ok(seen.into_iter().map(|seen| (seen.id, (seen.body, seen.seq))).collect())
    }

    fn forget_old_ids(&mut self) {
        self.batches_since_cleaning += 1;
        if self.batches_since_cleaning >= 256 {
            self.batches_since_cleaning = 0;
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

/// The decoded rows of a batch, addressable by ordinal.
struct Candidates<'a> {
    /// Ordinal → (group, row).
    place: Vec<Option<(usize, usize)>>,
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    ids: Vec<IdHash>,
    bodies: Vec<i64>,
    times: &'a [i64],
    types: &'a arrow::array::StringArray,
    id_texts: &'a arrow::array::StringArray,
}

impl<'a> Candidates<'a> {
    fn of(batch: &'a DecodedBatch) -> Self {
        let mut place = vec![None; batch.raw.records.len()];
        let groups = batch
            .rows
            .iter()
            .enumerate()
            .map(|(group, rows)| {
                for (row, ordinal) in rows.ordinals.iter().enumerate() {
                    place[*ordinal as usize] = Some((group, row));
                }
                let text = |name| {
                    let column = rows.columns.column_by_name(name);
                    column.expect("the decoder gives every envelope column").as_string::<i32>()
                };
                let (tenants, id_texts) = (text(column::TENANT), text(column::ID));
                let times = rows.columns.column_by_name(column::TIME);
                Group {
                    ids: (0..tenants.len())
                        .map(|row| hash::id_hash(tenants.value(row), id_texts.value(row)))
                        .collect(),
                    bodies: hash::body_hashes(&rows.contract, &rows.columns),
                    times: times
                        .expect("the decoder gives every envelope column")
                        .as_primitive::<TimestampMicrosecondType>()
                        .values(),
                    types: text(column::TYPE),
                    id_texts,
                }
            })
            .collect();
        Self { place, groups }
    }
}

/// What [`Processor::admit`] decided.
struct Admission {
    /// Per group of the batch, ascending by sequence number.
    admitted: Vec<Vec<Admitted>>,
    outcomes: Vec<Outcome>,
    rejected: Vec<Rejection>,
    late: HashSet<u32>,
    new_ids: Vec<(IdHash, i64)>,
    last_seq: i64,
}

struct Tally {
    counts: Counts,
    ingest: BTreeMap<IngestKey, i64>,
    by_reason: Vec<(&'static str, &'static str, u64)>,
    rejected_by_reason: BTreeMap<&'static str, u64>,
}

/// Texts by number.
#[derive(Default)]
struct Distinct<'a> {
    numbers: HashMap<&'a str, u32>,
    texts: Vec<&'a str>,
}

impl<'a> Distinct<'a> {
    fn index(&mut self, text: &'a str) -> u32 {
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u32 - 1
        })
    }
}

fn tally(batch: &DecodedBatch, admission: &Admission) -> Tally {
    let mut type_of: Vec<Option<&str>> = vec![None; batch.raw.records.len()];
    for rows in &batch.rows {
        let column = rows.columns.column_by_name(column::TYPE);
        let names = column.expect("the decoder gives every envelope column").as_string::<i32>();
        for (row, ordinal) in rows.ordinals.iter().enumerate() {
            type_of[*ordinal as usize] = Some(names.value(row));
        }
    }
    for rejection in &batch.rejected {
        // A type that no contract names would make as many groups as there are typing errors.
        if rejection.contract.is_some() {
            type_of[rejection.ordinal as usize] = rejection.event_type.as_deref();
        }
    }
    let mut counts = Counts::default();
    // Counted under small keys first: almost all records of a batch share a handful of them.
    let mut groups: HashMap<(u32, i64, &'static str, &'static str, u32, bool), i64> =
        HashMap::new();
    let mut tenants = Distinct::default();
    let mut types = Distinct::default();
    for (ordinal, outcome) in admission.outcomes.iter().enumerate() {
        counts.received += 1;
        let (name, reason) = match outcome {
            Outcome::Accepted { .. } => {
                counts.accepted += 1;
                ("accepted", "")
            }
            Outcome::Duplicate { .. } => {
                counts.duplicate += 1;
                ("duplicate", "")
            }
            Outcome::Rejected(rejection) => {
                counts.rejected += 1;
                ("rejected", rejection.reason.code())
            }
            Outcome::Discarded { reason } => {
                counts.discarded += 1;
                ("discarded", reason.code())
            }
        };
        let record = &batch.raw.records[ordinal];
        let tenant = tenants.index(&record.tenant);
        let event_type = types.index(type_of[ordinal].unwrap_or(""));
        let late = !admission.late.is_empty() && admission.late.contains(&(ordinal as u32));
        let group = (tenant, record.arrived_at, name, reason, event_type, late);
        *groups.entry(group).or_insert(0) += 1;
    }
    let mut ingest = BTreeMap::new();
    let mut reasons: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for ((tenant, arrived_at, outcome, reason, event_type, late), count) in groups {
        *reasons.entry((outcome, reason)).or_insert(0) += count as u64;
        // Nobody sent it: it counts for its partition, but is no record that `ingest` knows of.
        if reason == Reason::Canary.code() {
            continue;
        }
        let key = IngestKey {
            tenant: tenants.texts[tenant as usize].into(),
            arrived_at,
            outcome,
            reason,
            event_type: types.texts[event_type as usize].into(),
            late,
        };
        ingest.insert(key, count);
    }
    let rejected_by_reason = reasons
        .iter()
        .filter(|((outcome, _), _)| *outcome == "rejected")
        .map(|((_, reason), count)| (*reason, *count))
        .collect();
    let by_reason = reasons.into_iter().map(|((o, r), count)| (o, r, count)).collect();
    Tally { counts, ingest, by_reason, rejected_by_reason }
}

fn dead_letters<'a>(batch: &'a DecodedBatch, admission: &'a Admission) -> Vec<DeadLetter<'a>> {
    let mut all: Vec<&Rejection> = batch.rejected.iter().chain(&admission.rejected).collect();
    all.sort_unstable_by_key(|rejection| rejection.ordinal);
    all.into_iter()
        .map(|rejection| {
            let record = &batch.raw.records[rejection.ordinal as usize];
            DeadLetter {
                rejection,
                payload: batch.raw.payload(rejection.ordinal),
                tenant: &record.tenant,
                offset: record.offset,
                arrived_at: record.arrived_at,
                key: batch.raw.key(rejection.ordinal),
                headers: batch.raw.headers(rejection.ordinal),
            }
        })
        .collect()
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
fn newest(batch: &DecodedBatch, effects: &Effects<'_>) -> Vec<(Relation, i64)> {
    let families = effects.journal.iter().filter_map(|(family, rows)| {
        let times = rows.column_by_name(column::TIME)?.as_primitive::<TimestampMicrosecondType>();
        Some((Relation::Family(*family), arrow::compute::max(times)?))
    });
    let arrived = batch.raw.records.iter().map(|record| record.arrived_at).max();
    let ingest = arrived.filter(|_| effects.ingest.num_rows() > 0);
    families.chain(ingest.map(|at| (Relation::Ingest, at))).collect()
}

fn field_of(reason: Reason, contract: &contracts::model::EventContract) -> Option<String> {
    match reason {
        Reason::TooFarInFuture | Reason::Late | Reason::BeyondDedupHorizon => {
            Some(contract.envelope.time.to_string())
        }
        Reason::ConflictingDuplicate => Some(contract.envelope.id.to_string()),
        _ => None,
    }
}

fn detail(reason: Reason, facts: &Facts, contract: &contracts::model::EventContract) -> String {
    let time = |micros: i64| {
        chrono::DateTime::from_timestamp_micros(micros).map_or_else(
            || format!("{micros} µs"),
            |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        )
    };
    let mark = facts.watermark.map_or_else(String::new, time);
    match reason {
        Reason::TooFarInFuture => format!(
            "event time {} is more than {} s ahead of the arrival at {}",
            time(facts.event_time),
            contract.time_policy.max_future / 1_000_000,
            time(facts.arrived_at),
        ),
        Reason::Late => format!(
            "event time {} is more than {} s behind the watermark {mark}",
            time(facts.event_time),
            contract.time_policy.allowed_lateness / 1_000_000,
        ),
        Reason::BeyondDedupHorizon => format!(
            "event time {} is more than {} s behind the watermark {mark}, beyond the deduplication \
             horizon, and the id is not known",
            time(facts.event_time),
            contract.dedup.horizon / 1_000_000,
        ),
        Reason::ConflictingDuplicate => format!(
            "the id is known with another body since position {}",
            facts.known.map_or(0, |(_, seq)| seq),
        ),
        other => other.code().to_owned(),
    }
}

fn fold_error(batch: &DecodedBatch, source: FoldError) -> ProcessError {
    ProcessError::Fold {
        partition: batch.raw.partition.to_string(),
        offset: batch.raw.records.first().map_or(0, |record| record.offset),
        source,
    }
}

#[cfg(test)]
mod tests;
