//! Which rows of a batch are accepted, in order of position.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use contracts::model::{EventContract, column};
use hashbrown::{HashMap, HashSet};

use crate::admit::{Facts, Verdict, judge};
use crate::batch::DecodedBatch;
use crate::deduplicate::hash;
use crate::outcome::{Outcome, Reason, Rejection};
use crate::route::Admitted;
use crate::store::{IdHash, PartitionState};

/// The decoded rows of a batch, addressable by ordinal.
pub(super) struct Candidates<'a> {
    /// Ordinal → (group, row).
    place: Vec<Option<(usize, usize)>>,
    pub(super) groups: Vec<Group<'a>>,
}

pub(super) struct Group<'a> {
    pub(super) ids: Vec<IdHash>,
    bodies: Vec<i64>,
    pub(super) times: &'a [i64],
    types: &'a arrow::array::StringArray,
    pub(super) id_texts: &'a arrow::array::StringArray,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(batch: &'a DecodedBatch) -> Self {
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

/// What became of the records of one batch.
pub(super) struct Admission {
    /// Per group of the batch, ascending by sequence number.
    pub(super) admitted: Vec<Vec<Admitted>>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) rejected: Vec<Rejection>,
    pub(super) late: HashSet<u32>,
    pub(super) new_ids: Vec<(IdHash, i64)>,
}

/// Judges every decoded row in order of position.
///
/// `known` are the ids that the journal has, and `last_seq` its end; both go on with each accepted
/// row.
pub(super) fn admit(
    batch: &DecodedBatch,
    rows: &Candidates<'_>,
    partition: &mut PartitionState,
    known: &mut HashMap<IdHash, (i64, i64)>,
    last_seq: &mut i64,
) -> Admission {
    let mut admission = Admission {
        admitted: batch.rows.iter().map(|rows| Vec::with_capacity(rows.ordinals.len())).collect(),
        outcomes: Vec::with_capacity(batch.raw.records.len()),
        rejected: Vec::new(),
        late: HashSet::new(),
        new_ids: Vec::new(),
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
                *last_seq += 1;
                let seq = *last_seq;
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
    admission
}

fn field_of(reason: Reason, contract: &EventContract) -> Option<String> {
    match reason {
        Reason::TooFarInFuture | Reason::Late | Reason::BeyondDedupHorizon => {
            Some(contract.envelope.time.to_string())
        }
        Reason::ConflictingDuplicate => Some(contract.envelope.id.to_string()),
        _ => None,
    }
}

fn detail(reason: Reason, facts: &Facts, contract: &EventContract) -> String {
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
