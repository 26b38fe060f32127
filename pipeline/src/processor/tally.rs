//! How many records of a batch had each outcome.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use contracts::model::column;
use hashbrown::HashMap;

use super::admission::Admission;
use crate::batch::DecodedBatch;
use crate::ingest::IngestKey;
use crate::outcome::{Counts, Outcome, Reason};

/// Counts of one batch.
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) by_reason: Vec<(&'static str, &'static str, u64)>,
    pub(super) rejected_by_reason: BTreeMap<&'static str, u64>,
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

/// Whose each record is: the tenant that it names, where its contract says that it does and it could be
/// read so far; else that of its source.
pub(super) fn tenants(batch: &DecodedBatch) -> Vec<&str> {
    let mut all: Vec<&str> = batch.raw.records.iter().map(|record| &*record.tenant).collect();
    for rows in &batch.rows {
        let column = rows.columns.column_by_name(column::TENANT);
        let names = column.expect("the decoder gives every envelope column").as_string::<i32>();
        for (row, ordinal) in rows.ordinals.iter().enumerate() {
            all[*ordinal as usize] = names.value(row);
        }
    }
    all
}

/// Counts a batch; what `ingest` knows of it is added there.
pub(super) fn tally(
    batch: &DecodedBatch,
    admission: &Admission,
    ingest: &mut BTreeMap<IngestKey, i64>,
) -> Tally {
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
    let named = tenants(batch);
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
        let tenant = tenants.index(named[ordinal]);
        let event_type = types.index(type_of[ordinal].unwrap_or(""));
        let late = !admission.late.is_empty() && admission.late.contains(&(ordinal as u32));
        let group = (tenant, record.arrived_at, name, reason, event_type, late);
        *groups.entry(group).or_insert(0) += 1;
    }
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
            source: batch.raw.source,
            late,
        };
        *ingest.entry(key).or_insert(0) += count;
    }
    let rejected_by_reason = reasons
        .iter()
        .filter(|((outcome, _), _)| *outcome == "rejected")
        .map(|((_, reason), count)| (*reason, *count))
        .collect();
    let by_reason = reasons.into_iter().map(|((o, r), count)| (o, r, count)).collect();
    Tally { counts, by_reason, rejected_by_reason }
}
