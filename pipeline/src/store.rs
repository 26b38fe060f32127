//! What the pipeline asks of a serving store.
//!
//! [`ServingStore`] is the writer's side: one owner, one thread, one transaction at a time.
//! [`Journal`] is the reader's side that followers (the lake, rebuilds, replays) use.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::headers::Headers;
use crate::outcome::{Counts, Rejection};
use crate::source::Limits;
use crate::stage_times::CommitTimes;
use crate::touch::Moved;

/// Failure of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store could not do it; `retry` says whether trying again can help.
    #[error("{context}: {message}")]
    Failed {
        /// Verb and object: `commit batch`, `load entities of `x``.
        context: String,
        /// What the engine said.
        message: String,
        /// Can trying again help without anybody changing anything?
        retry: bool,
    },
    /// No space left on the device: reads go on, writes wait for space.
    #[error("{context}: no space left on the device")]
    DiskFull {
        /// Verb and object.
        context: String,
    },
    /// Less space is left on the device than has to be: reads go on, writes wait for space.
    #[error(
        "{context}: {} MiB are free on the disk of the data directory, {} MiB have to be",
        free_bytes >> 20,
        needed_bytes.div_ceil(1 << 20)
    )]
    DiskLow {
        /// Verb and object.
        context: String,
        /// What is left.
        free_bytes: u64,
        /// What has to be.
        needed_bytes: u64,
    },
    /// Stored data contradicts itself or this program.
    #[error("{0}")]
    Corrupt(String),
}

/// 128-bit hash of (tenant, event id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash {
    /// Upper half.
    pub hi: i64,
    /// Lower half.
    pub lo: i64,
}

impl IdHash {
    /// 64 bits of it, for filters.
    pub fn hash64(self) -> u64 {
        // Both halves are uniform already.
        (self.hi as u64) ^ (self.lo as u64).rotate_left(32)
    }
}

/// An event's id as its record has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId<'a> {
    /// Its hash, over tenant and id.
    pub hash: IdHash,
    /// The id.
    pub text: &'a str,
}

/// An event id that the journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its hash.
    pub id: IdHash,
    /// Hash over its decoded contract fields.
    pub body: i64,
    /// Journal sequence number.
    pub seq: i64,
}

/// An entity row's identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityKey {
    /// Tenant.
    pub tenant: Box<str>,
    /// Key as text.
    pub key: Box<str>,
}

impl EntityKey {
    /// 64-bit hash for joins; see [`contracts::model::column::KEY_HASH`].
    pub fn hash64(&self) -> i64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(self.tenant.as_bytes());
        hasher.update(&[0]);
        hasher.update(self.key.as_bytes());
        hasher.digest() as i64
    }
}

/// A source partition as the store knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Number of the partition in journal rows.
    pub id: i64,
    /// Stable name.
    pub name: String,
    /// Position to continue from.
    pub next_offset: u64,
    /// What the source must recognise when it continues.
    pub fingerprint: Option<String>,
    /// Highest accepted event time, µs; `None` before the first.
    pub watermark: Option<i64>,
    /// When its last batch was applied, µs of this machine's clock.
    pub updated_at: i64,
    /// Arrival time of its last applied record, µs; `None` before the first.
    pub last_arrived_at: Option<i64>,
    /// Event time of its last accepted record, µs: unlike the watermark it is not held high by one
    /// record that is ahead of the others. `None` before the first.
    pub last_event_at: Option<i64>,
    /// Counts since the store was made.
    pub counts: Counts,
}

/// A partition that delivered nothing for this long (µs) is idle: it holds nobody back.
pub const IDLE_AFTER: i64 = 30_000_000;

/// Event time (µs) up to which events have been applied: the lowest watermark over the partitions
/// that deliver, given as (watermark, `updated_at`). Idle partitions and those without an event do
/// not count; when all are idle, the highest watermark tells.
pub fn data_through(partitions: impl Iterator<Item = (Option<i64>, i64)>, now: i64) -> Option<i64> {
    let mut delivering: Option<i64> = None;
    let mut newest: Option<i64> = None;
    for (watermark, updated_at) in partitions {
        let Some(watermark) = watermark else { continue };
        newest = newest.max(Some(watermark));
        if now.saturating_sub(updated_at) <= IDLE_AFTER {
            delivering = Some(delivering.map_or(watermark, |lowest| lowest.min(watermark)));
        }
    }
    delivering.or(newest)
}

/// Everything one transaction changes. The store applies all of it or nothing.
#[derive(Debug)]
pub struct Effects<'a> {
    /// New journal rows: family index and rows in [`contracts::model::Family::schema`], each with
    /// ascending `_seq`.
    pub journal: Vec<(usize, RecordBatch)>,
    /// Highest sequence number afterwards.
    pub last_seq: i64,
    /// Entity rows afterwards.
    pub entities: Vec<EntityRows>,
    /// Records for the dead letters, within a partition in order of position.
    pub dead_letters: Vec<DeadLetter<'a>>,
    /// Rows of the built-in source `ingest` in [`contracts::model::Ingest::schema`].
    pub ingest: RecordBatch,
    /// The partitions concerned, each once.
    pub partitions: Vec<PartitionEffects>,
}

/// What a transaction changes of one partition.
#[derive(Debug)]
pub struct PartitionEffects {
    /// The partition afterwards.
    pub state: PartitionState,
    /// How many records had each outcome and reason: (outcome, reason code or empty, count), each
    /// pair once. Added to the partition's counts by reason.
    pub by_reason: Vec<(&'static str, &'static str, u64)>,
}

/// Changed rows of one entity.
#[derive(Debug)]
pub struct EntityRows {
    /// Index in [`contracts::model::Domain::entities`].
    pub entity: usize,
    /// One row per changed key in [`contracts::model::Entity::schema`].
    pub rows: RecordBatch,
    /// Keys that the table has already: their old rows are taken out before `rows` are put in. A
    /// key that is not among `rows` is taken out for good.
    pub replaced: Vec<EntityKey>,
    /// The old rows, without their states, where they are known.
    pub before: Option<RecordBatch>,
}

/// A rejected record with its bytes and place.
#[derive(Debug)]
pub struct DeadLetter<'a> {
    /// Source partition.
    pub partition: &'a str,
    /// Why.
    pub rejection: &'a Rejection,
    /// The original bytes.
    pub payload: &'a [u8],
    /// Tenant.
    pub tenant: &'a str,
    /// Offset in the source partition.
    pub offset: u64,
    /// Arrival time, µs.
    pub arrived_at: i64,
    /// The record's key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The record's headers.
    pub headers: Headers<'a>,
}

/// What a commit made visible.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Highest journal sequence number that is visible.
    pub last_seq: i64,
    /// Relations whose rows changed, with the tenants concerned.
    pub touched: Vec<(contracts::model::Relation, Vec<String>)>,
    /// Newest event time (µs) of its rows in each family it went into; for `ingest` the newest
    /// arrival.
    pub newest: Vec<(contracts::model::Relation, i64)>,
    /// What it may have moved of each metric; `None`: all of what stands on `touched`.
    pub touches: Option<Moved>,
    /// Arrival of its oldest record, µs; 0 when it had none.
    pub arrived_at: i64,
    /// Source partitions that moved, by name, with the offset of the first record that is not applied.
    pub offsets: Vec<(String, u64)>,
}

/// What [`ServingStore::backfill`] did, or wants done.
#[derive(Debug)]
pub enum Backfill {
    /// Everything follows the contracts.
    Nothing,
    /// There is more, but at the moment nothing can be done.
    Waiting,
    /// A piece was done.
    Done,
    /// These rows are to be folded.
    Fold(Stretch),
}

/// Old rows from which entities are to be folded beside what comes in. The state of an entity does
/// not depend on the order of its events, so it is folded from new events all the while.
#[derive(Debug)]
pub struct Stretch {
    /// The entity over these rows, then those above it, each after the one it stands on.
    pub entities: Vec<usize>,
    /// The rows.
    pub rows: StretchRows,
    /// What is left of the source entity's rows after this stretch, where there is one.
    pub left: Unfolded,
}

/// The rows of a [`Stretch`].
#[derive(Debug)]
pub enum StretchRows {
    /// Journal rows by family.
    Events(Vec<(usize, RecordBatch)>),
    /// Current rows of another entity, in [`contracts::model::Entity::schema`].
    Entity(usize, RecordBatch),
}

/// Rows of an entity, by the sequence number of the event that touched them last: after the one, up
/// to the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfolded {
    /// Not included.
    pub after: i64,
    /// Included.
    pub until: i64,
}

impl Unfolded {
    /// Is a row among them that an event of this sequence number touched last?
    pub fn contains(self, seq: i64) -> bool {
        self.after < seq && seq <= self.until
    }
}

/// The writer's side of a serving store. One owner; every method blocks.
pub trait ServingStore {
    /// Highest journal sequence number, 0 for an empty journal.
    fn last_seq(&mut self) -> Result<i64, StoreError>;

    /// The partition of that name.
    fn partition(&mut self, name: &str) -> Result<Option<PartitionState>, StoreError>;

    /// All partitions.
    fn partitions(&mut self) -> Result<Vec<PartitionState>, StoreError>;

    /// Which of these ids does the journal know? Exact, over all that it still holds.
    fn find_seen(&mut self, ids: &[IdHash]) -> Result<Vec<Seen>, StoreError>;

    /// Highest event time (µs) of the events that the journal has given up; `None` while it holds all.
    /// An event after it cannot be among them.
    fn given_up_until(&self) -> Option<i64> {
        None
    }

    /// Which of these ids are among the events that the journal has given up? It asks the lake, so it
    /// is slow: only for events at or before [`Self::given_up_until`].
    fn find_given_up(&mut self, ids: &[EventId<'_>]) -> Result<Vec<Seen>, StoreError> {
        let _ = ids;
        Ok(Vec::new())
    }

    /// Calls `each` with the ids of all journal rows whose event time is at or after `since` (µs),
    /// to fill the filter in memory after a start. In any order, in chunks.
    fn scan_ids(&mut self, since: i64, each: &mut dyn FnMut(&[IdHash])) -> Result<(), StoreError>;

    /// Calls `each` with [`EntityKey::hash64`] of every row of `entity`, to fill the filter in memory
    /// after a start. In any order, in chunks.
    fn scan_keys(&mut self, entity: usize, each: &mut dyn FnMut(&[i64])) -> Result<(), StoreError>;

    /// Serialised fold states, one per key, `None` where the entity has no such row.
    fn load_states(
        &mut self,
        entity: usize,
        keys: &[EntityKey],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// Current rows of `entity` whose `column` has one of `values` (within that value's tenant):
    /// used to recompute an extreme that a correction took away. Columns as in
    /// [`contracts::model::Entity::schema`].
    fn rows_where(
        &mut self,
        entity: usize,
        column: &str,
        values: &[EntityKey],
    ) -> Result<Vec<RecordBatch>, StoreError>;

    /// Applies all effects in one transaction. After an error nothing of them is visible.
    fn commit(&mut self, effects: &Effects<'_>) -> Result<(), StoreError>;

    /// Would a batch be refused now for a reason that passes? Asked about twice a second while none
    /// comes, so that it is known before the next one does.
    fn ready(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called when no batch is waiting: the moment for checkpoints.
    fn idle(&mut self) -> Result<(), StoreError>;

    /// Called between batches, also under load: a short piece of work that can wait for ever. True
    /// when there is more of it.
    fn tidy(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Did it change rows of entities by itself since it was last asked? Then what the caller remembers
    /// of their states may be wrong.
    fn take_rewritten(&mut self) -> bool {
        false
    }

    /// Called between batches: a short piece of making stored rows follow the contracts, beside what
    /// comes in. What it gives to fold is folded and handed to [`Self::commit_stretch`].
    fn backfill(&mut self) -> Result<Backfill, StoreError> {
        Ok(Backfill::Nothing)
    }

    /// For each entity that is folded beside from the rows of another one: which of those are not in
    /// it yet.
    fn unfolded(&self) -> Vec<(usize, Unfolded)> {
        Vec::new()
    }

    /// Applies what the stretch that [`Self::backfill`] gave last was folded to, in one transaction.
    fn commit_stretch(&mut self, entities: &[EntityRows]) -> Result<(), StoreError> {
        let _ = entities;
        Ok(())
    }

    /// Where the time of all commits so far went.
    fn commit_times(&self) -> CommitTimes {
        CommitTimes::default()
    }
}

/// Positions of a journal follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct JournalPosition(pub i64);

/// A stretch of the journal.
#[derive(Debug, Clone, Default)]
pub struct JournalRows {
    /// Rows in ascending order of `_seq`.
    pub batches: Vec<RecordBatch>,
    /// All rows of the family from the beginning of the stretch up to here are in it: as far as was
    /// asked for, unless limits cut it off.
    pub reached: i64,
}

/// The reader's side of the journal. Cheap to clone connections behind it; every method blocks and
/// sees only committed rows.
pub trait Journal: Send + Sync {
    /// Highest committed sequence number.
    fn last_seq(&self) -> Result<i64, StoreError>;

    /// Rows of a family with `after < _seq <= until`, ascending by `_seq`: about as many as `limits`
    /// allow, and at least one where there is one.
    fn rows(
        &self,
        family: usize,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<JournalRows, StoreError>;

    /// Dead letters with `after < id <= until`, ascending by id, as many as `limits` allow, and at
    /// least one where there is one; see [`dead_letter_schema`].
    fn dead_letters(
        &self,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<Vec<RecordBatch>, StoreError>;

    /// Rows of `ingest` with `after < _row <= until`, ascending by `_row`, as [`Self::rows`] gives
    /// those of a family. [`ingest_schema`] says what they hold.
    fn ingest(&self, after: i64, until: i64, limits: Limits) -> Result<JournalRows, StoreError>;

    /// Everything that a store knows besides its rows, as of one commit. Cheap when `known` was read
    /// not long ago.
    fn ledger(&self, known: Option<&Ledger>) -> Result<Ledger, StoreError>;

    /// Highest id of all dead letters, or `known` when none is higher. Cheap when `known` is an id
    /// that was the highest not long ago.
    fn last_dead_letter(&self, known: i64) -> Result<i64, StoreError>;
}

/// Where the sources are and what came of their records, as of one commit: with the rows up to its
/// ends it is all that a store needs to go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// Highest journal sequence number.
    pub last_seq: i64,
    /// Highest `_row` of `ingest`.
    pub last_ingest: i64,
    /// Highest id of the dead letters.
    pub last_dead_letter: i64,
    /// All source partitions, by id.
    pub partitions: Vec<LedgerPartition>,
}

/// A partition of a [`Ledger`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LedgerPartition {
    /// The partition.
    pub state: PartitionState,
    /// Its counts: (outcome, reason code or empty, count), in order.
    pub by_reason: Vec<(String, String, u64)>,
}

/// Number of a row of `ingest`, ascending without gaps (Int64).
pub const INGEST_ROW: &str = "_row";

/// When a row of `ingest` was committed (Timestamp µs); it never goes back from row to row.
pub const INGEST_APPLIED_AT: &str = "_applied_at";

/// Columns of the stored rows of `ingest`: their number, when they were committed, then those of
/// [`contracts::model::Ingest::schema`].
pub fn ingest_schema(ingest: &contracts::model::Ingest) -> arrow::datatypes::SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    let row = Field::new(INGEST_ROW, DataType::Int64, false);
    let at = DataType::Timestamp(TimeUnit::Microsecond, None);
    let at = Field::new(INGEST_APPLIED_AT, at, false);
    let columns = ingest.schema();
    let fields = [row, at].map(std::sync::Arc::new).into_iter();
    let fields = fields.chain(columns.fields().iter().cloned());
    std::sync::Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Columns of stored dead letters, in the serving store and in the lake.
///
/// `key` and `headers` are what came with the payload, null where nothing did; `headers` is the JSON
/// text of [`Headers::to_json`]. The time that a Kafka record carries is `arrived_at`, which is only
/// ever earlier: a record stamped in the future arrives now.
pub fn dead_letter_schema() -> arrow::datatypes::SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
    std::sync::Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("tenant", DataType::Utf8, false),
        Field::new("arrived_at", ts.clone(), false),
        Field::new("partition", DataType::Utf8, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("stage", DataType::Utf8, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("field", DataType::Utf8, true),
        Field::new("rule", DataType::Utf8, true),
        Field::new("detail", DataType::Utf8, false),
        Field::new("event_id", DataType::Utf8, true),
        Field::new("event_type", DataType::Utf8, true),
        Field::new("event_time", ts, true),
        Field::new("contract", DataType::Utf8, true),
        Field::new("contract_version", DataType::Int64, true),
        Field::new("payload", DataType::Binary, false),
        Field::new("key", DataType::Binary, true),
        Field::new("headers", DataType::Utf8, true),
    ]))
}

/// Totals by reason: outcome → reason code → count.
pub type CountsByReason = BTreeMap<String, BTreeMap<String, u64>>;

#[cfg(test)]
mod tests {
    use super::{IDLE_AFTER, data_through};

    #[track_caller]
    fn check(partitions: &[(Option<i64>, i64)], expected: Option<i64>) {
        let now = 10 * IDLE_AFTER;
        assert_eq!(data_through(partitions.iter().copied(), now), expected, "{partitions:?}");
    }

    #[test]
    fn data_are_through_to_the_lowest_watermark_of_those_that_deliver() {
        let (fresh, idle) = (10 * IDLE_AFTER, 9 * IDLE_AFTER - 1);
        check(&[], None);
        check(&[(None, fresh)], None);
        check(&[(Some(5), fresh)], Some(5));
        check(&[(Some(5), fresh), (Some(3), fresh), (None, fresh)], Some(3));
        check(&[(Some(5), fresh), (Some(3), idle)], Some(5));
        check(&[(Some(5), fresh), (Some(3), 9 * IDLE_AFTER)], Some(3));
        check(&[(Some(5), idle), (Some(3), idle)], Some(5));
        // A clock that was set back.
        check(&[(Some(5), fresh + 1), (Some(3), i64::MAX)], Some(3));
    }
}
