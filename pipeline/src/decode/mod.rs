//! Bytes to Arrow columns, by contract.
//!
//! [`Decoder::decode`] takes a batch of raw records and gives back columns per contract version and
//! one [`Rejection`] per record that did not pass: decode and validate in one go, since neither
//! makes sense alone.
//!
//! What always holds: every ordinal of the raw batch comes out exactly once, as a row, a rejection
//! or ignored; no bytes whatsoever make it panic; what a record becomes depends on that record
//! alone, not on its neighbours. When several things are wrong with a record, the first of these
//! is reported: not JSON, a member twice, event type, version, id, time, tenant, then absent or
//! ill-typed fields in the contract's order, then bounds in the contract's order, then rules.
//!
//! Decisions: `3.0` and `3e0` are the integer 3, for JSON has one kind of number; a decimal with
//! more digits than its scale (`1.005` in `decimal(12,2)`) is `wrong_type`, one that is too large is
//! `out_of_range`; numbers in quotes are texts, except epoch times.

mod column;
mod fault;
mod json;
mod number;
mod plan;
mod rows;
mod texts;
mod time;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::support;

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use contracts::model::{Domain, EventContract, UnknownEvent};
use hashbrown::HashSet;

use crate::batch::{CANARY, ContractRows, DecodedBatch, Ignored, RawBatch, RawRecord};
use crate::outcome::{Reason, Rejection, Stage};
use crate::validate::Validator;

use fault::Fault;
use json::{Kind, Member};
use plan::{Found, Plan, TypeIndex, at_path};
use rows::{Rows, Scratch};
use texts::Texts;

pub(crate) use fault::clip;
pub(crate) use number::around;

/// Limits of the decoder.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Longer records are rejected as `too_large` without being read.
    pub max_record_bytes: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_record_bytes: 1 << 20 }
    }
}

/// Decodes and validates records of one domain. Not shared between threads: each source has its own.
#[derive(Debug)]
pub struct Decoder {
    options: DecodeOptions,
    unknown_event: UnknownEvent,
    types: TypeIndex,
    /// One per contract version, with its validator.
    plans: Vec<(Plan, Validator)>,
    /// Rows of each plan in the last batch: how much room to make for the next.
    last_rows: Vec<usize>,
}

/// A record that did not become a row.
enum Refused {
    Rejected(Box<Rejection>),
    Ignored(Reason, String),
}

impl Decoder {
    /// A decoder with the default limits.
    pub fn new(domain: &Arc<Domain>) -> Self {
        Self::with_options(domain, DecodeOptions::default())
    }

    /// A decoder with other limits.
    pub fn with_options(domain: &Arc<Domain>, options: DecodeOptions) -> Self {
        let contracts: Vec<Arc<EventContract>> =
            domain.families.iter().flat_map(|family| &family.versions).cloned().collect();
        let plans: Vec<_> = contracts
            .iter()
            .map(|contract| (Plan::new(domain, contract), Validator::new(contract)))
            .collect();
        Self {
            options,
            unknown_event: domain.unknown_event,
            types: TypeIndex::new(domain, &contracts),
            last_rows: vec![0; plans.len()],
            plans,
        }
    }

    /// Decodes and validates a batch.
    pub fn decode(&mut self, raw: RawBatch) -> DecodedBatch {
        let mut run = Run {
            rows: self.plans.iter().map(|_| None).collect(),
            full: Vec::new(),
            scratch: Scratch::default(),
            names: HashSet::new(),
        };
        let mut rejected = Vec::new();
        let mut ignored = Vec::new();
        let mut texts = Texts::new(&raw.bytes);
        let mut members = Vec::with_capacity(32);
        let is_canary = raw.source == CANARY;
        for ordinal in 0..raw.records.len() as u32 {
            if is_canary {
                let (reason, event_type) = (Reason::Canary, String::new());
                ignored.push(Ignored { ordinal, reason, event_type });
                continue;
            }
            members.clear();
            match self.record(
                &raw.records[ordinal as usize],
                ordinal,
                &mut texts,
                &mut members,
                &mut run,
            ) {
                Ok(()) => {}
                Err(Refused::Ignored(reason, event_type)) => {
                    ignored.push(Ignored { ordinal, reason, event_type });
                }
                Err(Refused::Rejected(rejection)) => rejected.push(*rejection),
            }
        }
        let mut rows = Vec::new();
        let sets = run.full.into_iter().chain(
            run.rows
                .into_iter()
                .enumerate()
                .filter_map(|(plan, rows)| rows.map(|rows| (plan, rows))),
        );
        for (plan, set) in sets {
            let (contract, ordinals, columns) = set.finish();
            self.last_rows[plan] = ordinals.len();
            let validator = &mut self.plans[plan].1;
            let kept = validated(validator, contract, ordinals, columns, &mut rejected);
            rows.extend(kept);
        }
        rejected.sort_unstable_by_key(|rejection| rejection.ordinal);
        let decoded = DecodedBatch { raw, rows, rejected, ignored };
        debug_assert!(accounts_for_all(&decoded));
        decoded
    }

    fn record<'a>(
        &mut self,
        record: &RawRecord,
        ordinal: u32,
        texts: &mut Texts<'a>,
        members: &mut Vec<Member<'a>>,
        run: &mut Run,
    ) -> Result<(), Refused> {
        let reject = |fault: &Fault, members: &[Member<'_>], plan: Option<&Plan>, types| {
            Err(Refused::Rejected(rejection(ordinal, fault, members, plan, types)))
        };
        if record.attached.is_tombstone {
            return Err(Refused::Ignored(Reason::Tombstone, String::new()));
        }
        if record.len > self.options.max_record_bytes {
            let fault = Fault::too_large(record.len, self.options.max_record_bytes);
            return reject(&fault, members, None, &self.types);
        }
        let text = match texts.get(record.start..record.start + record.len) {
            Ok(text) => text,
            Err(fault) => return reject(&fault, members, None, &self.types),
        };
        if let Err(syntax) = json::members(text, members) {
            members.clear();
            return reject(&Box::<Fault>::from(syntax), members, None, &self.types);
        }
        if let Some(name) = run.twice(members) {
            let fault = Fault::twice(name);
            return reject(&fault, members, None, &self.types);
        }
        let (versions, event_type) = match self.types.find(members) {
            Ok(Found::Contract(versions, event_type)) => (versions, event_type),
            Ok(Found::Unknown(event_type)) => {
                if self.unknown_event == UnknownEvent::Ignore {
                    return Err(Refused::Ignored(Reason::UnknownEventType, clip(&event_type)));
                }
                let fault = Fault::unknown_type(&event_type);
                return reject(&fault, members, None, &self.types);
            }
            Err(fault) => return reject(&fault, members, None, &self.types),
        };
        let plan = match versions.choose(members) {
            Ok(Ok(plan)) => plan,
            Ok(Err((path, version))) => {
                let known = versions.list();
                let fault = Fault::unknown_version(&path, &version, &event_type, &known);
                return reject(&fault, members, None, &self.types);
            }
            Err(fault) => return reject(&fault, members, None, &self.types),
        };
        let (plan_at, plan) = (plan, &mut self.plans[plan].0);
        let room = self.last_rows[plan_at];
        let rows = run.rows[plan_at].get_or_insert_with(|| Rows::new(&plan.contract, room));
        if rows.is_full() {
            let full = std::mem::replace(rows, Rows::new(&plan.contract, 0));
            run.full.push((plan_at, full));
        }
        match rows.push(plan, members, &mut run.scratch, &event_type, ordinal, record) {
            Ok(()) => Ok(()),
            Err(fault) => reject(&fault, members, Some(plan), &self.types),
        }
    }
}

/// Does every ordinal of the raw batch occur exactly once?
fn accounts_for_all(batch: &DecodedBatch) -> bool {
    let mut ordinals: Vec<u32> =
        batch.rows.iter().flat_map(|rows| &rows.ordinals).copied().collect();
    ordinals.extend(batch.rejected.iter().map(|rejection| rejection.ordinal));
    ordinals.extend(batch.ignored.iter().map(|ignored| &ignored.ordinal));
    ordinals.sort_unstable();
    ordinals.into_iter().eq(0..batch.raw.records.len() as u32)
}

/// What one batch needs while it is decoded.
struct Run {
    rows: Vec<Option<Rows>>,
    full: Vec<(usize, Rows)>,
    scratch: Scratch,
    names: HashSet<String>,
}

impl Run {
    /// A name that two members have.
    fn twice<'m>(&mut self, members: &'m [Member<'_>]) -> Option<&'m str> {
        /// Up to here comparing all pairs is cheaper than hashing.
        const PAIRS: usize = 24;
        if members.len() <= PAIRS {
            for (at, member) in members.iter().enumerate() {
                let same =
                    |other: &Member<'_>| other.tag == member.tag && other.name == member.name;
                if members[..at].iter().any(same) {
                    return Some(&member.name);
                }
            }
            return None;
        }
        self.names.clear();
        members
            .iter()
            .find(|member| !self.names.insert(member.name.clone().into_owned()))
            .map(|member| &*member.name)
    }
}

/// A rejection with as much of the envelope as can be read. Off the fast path.
fn rejection(
    ordinal: u32,
    fault: &Fault,
    members: &[Member<'_>],
    plan: Option<&Plan>,
    types: &TypeIndex,
) -> Box<Rejection> {
    let value = |path: &[String]| at_path(members, path).ok().flatten();
    let id = |path: &[String]| {
        let raw = value(path)?;
        let id = match raw.kind {
            Kind::Number if rows::is_whole(raw.text) => raw.text.to_owned(),
            _ => raw.string()?.into_owned(),
        };
        rows::is_id(&id).then_some(id)
    };
    let envelope = plan.map(|plan| &plan.contract.envelope);
    let (event_id, event_time) = match envelope {
        Some(envelope) => (
            id(envelope.id.path()),
            value(envelope.time.path())
                .and_then(|raw| column::timestamp(raw, envelope.time_form).ok()),
        ),
        None => (
            types.ids.iter().find_map(|path| id(path)),
            types.times.iter().find_map(|(path, form)| column::timestamp(value(path)?, *form).ok()),
        ),
    };
    let private = plan.is_some_and(|plan| {
        let name = fault.path.split(['.', '[']).next().unwrap_or_default();
        plan.contract.fields.iter().any(|field| field.pii && field.name == name)
    });
    Box::new(Rejection {
        ordinal,
        stage: Stage::Decode,
        reason: fault.reason,
        field: Some(fault.path.clone()).filter(|path| !path.is_empty()),
        rule: None,
        detail: fault.detail(private),
        event_id,
        event_type: types.text(members).map(|text| clip(&text)),
        event_time,
        contract: plan.map(|plan| (plan.contract.name.clone(), plan.contract.version)),
    })
}

/// The rows that pass; the others become rejections.
fn validated(
    validator: &mut Validator,
    contract: Arc<EventContract>,
    ordinals: Vec<u32>,
    columns: arrow::array::RecordBatch,
    rejected: &mut Vec<Rejection>,
) -> Option<ContractRows> {
    let verdict = validator.check(&columns);
    if verdict.failures.is_empty() {
        let warnings = verdict.warnings;
        return (!ordinals.is_empty()).then_some(ContractRows {
            contract,
            ordinals,
            columns,
            warnings,
        });
    }
    let mut keep = vec![true; ordinals.len()];
    for failure in verdict.failures {
        keep[failure.row] = false;
        rejected.push(failure.into_rejection(&contract, &columns, &ordinals));
    }
    fn kept<T>(values: Vec<T>, keep: &[bool]) -> Vec<T> {
        let pairs = values.into_iter().zip(keep);
        pairs.filter_map(|(value, keep)| keep.then_some(value)).collect()
    }
    let ordinals = kept(ordinals, &keep);
    if ordinals.is_empty() {
        return None;
    }
    let mut warnings = kept(verdict.warnings, &keep);
    if warnings.iter().all(Option::is_none) {
        warnings.clear();
    }
    let columns = filter_record_batch(&columns, &BooleanArray::from(keep))
        .expect("the mask has one entry per row");
    Some(ContractRows { contract, ordinals, columns, warnings })
}
