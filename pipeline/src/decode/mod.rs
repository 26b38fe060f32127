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
//! Records in Avro ([`avro`]) become the JSON text that stands for them and are judged like any
//! other; a value that no JSON stands for is reported after the version. Their schemas come from
//! outside, so [`Decoder::try_decode`] may wait.
//!
//! Decisions: `3.0` and `3e0` are the integer 3, for JSON has one kind of number; a decimal with
//! more digits than its scale (`1.005` in `decimal(12,2)`) is `wrong_type`, one that is too large is
//! `out_of_range`; numbers in quotes are texts, except epoch times.

mod avro;
mod column;
mod fault;
mod json;
mod number;
mod outside;
mod plan;
mod rows;
mod texts;
mod time;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::support;

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use contracts::model::{Domain, EventContract, Format, UnknownEvent};
use hashbrown::HashSet;

use crate::batch::{CANARY, ContractRows, DecodedBatch, Ignored, RawBatch, RawRecord};
use crate::headers::Headers;
use crate::outcome::{Reason, Rejection, Stage};
use crate::validate::Validator;

use avro::Avro;
use fault::Fault;
use json::{Kind, Member};
use outside::Outside;
use plan::{Found, Plan, TypeIndex, at_path};
use rows::{Rows, Scratch};
use texts::Texts;

pub use avro::{GaveUp, SchemaSource, WriterSchema};
pub(crate) use fault::clip;
pub(crate) use number::{around, exactly};
pub(crate) use time::date;

/// Limits of the decoder.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Longer records, headers included, are rejected as `too_large` without being read.
    ///
    /// Not more than 64 KiB by default: DuckDB holds the values of 2,048 rows of a column in memory
    /// at a time. With rows of 150 KB and a limit of 384 MiB its checkpoints fail (DuckDB 1.5.6).
    pub max_record_bytes: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_record_bytes: 64 << 10 }
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
    avro: Avro,
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
            avro: Avro::default(),
        }
    }

    /// The same decoder, which asks for the schemas of records in Avro there. Without it such
    /// records are rejected as `unknown_schema`.
    pub fn with_schemas(mut self, source: Arc<dyn SchemaSource>) -> Self {
        self.avro = Avro::new(source);
        self
    }

    /// Decodes and validates a batch, however long the schemas of its records take.
    pub fn decode(&mut self, raw: RawBatch) -> DecodedBatch {
        self.try_decode(raw, &|| true).expect("nobody calls the wait off")
    }

    /// Decodes and validates a batch. Where the schemas of records in Avro cannot be had it waits as
    /// long as `go_on` says so; then nothing is known about any record of the batch, and it must not
    /// be taken for read.
    pub fn try_decode(
        &mut self,
        raw: RawBatch,
        go_on: &dyn Fn() -> bool,
    ) -> Result<DecodedBatch, GaveUp> {
        if raw.format == Format::Avro && raw.source != CANARY {
            self.avro.prepare(&raw, go_on)?;
        }
        Ok(self.judge(raw))
    }

    fn judge(&mut self, raw: RawBatch) -> DecodedBatch {
        let mut run = Run {
            rows: self.plans.iter().map(|_| None).collect(),
            full: Vec::new(),
            scratch: Scratch::default(),
            names: HashSet::new(),
        };
        let mut rejected = Vec::new();
        let mut ignored = Vec::new();
        let mut sort = |ordinal, refused| match refused {
            Refused::Ignored(reason, event_type) => {
                ignored.push(Ignored { ordinal, reason, event_type });
            }
            Refused::Rejected(rejection) => rejected.push(*rejection),
        };
        let ordinals = 0..raw.records.len() as u32;
        match raw.format {
            _ if raw.source == CANARY => {
                ordinals.for_each(|ordinal| {
                    sort(ordinal, Refused::Ignored(Reason::Canary, String::new()));
                });
            }
            Format::Json => {
                let mut texts = Texts::new(&raw.bytes);
                let mut members = Vec::with_capacity(32);
                for ordinal in ordinals {
                    members.clear();
                    let record = &raw.records[ordinal as usize];
                    let result = match Outside::of(raw.headers(ordinal), &self.types.headers) {
                        None => {
                            self.json_record(record, ordinal, &mut texts, &mut members, &mut run)
                        }
                        Some(outside) => self.wrapped_record(outside, &raw, ordinal, &mut run),
                    };
                    if let Err(refused) = result {
                        sort(ordinal, refused);
                    }
                }
            }
            Format::Avro => {
                let mut avro = std::mem::take(&mut self.avro);
                for ordinal in ordinals {
                    if let Err(refused) = self.avro_record(&mut avro, &raw, ordinal, &mut run) {
                        sort(ordinal, refused);
                    }
                }
                self.avro = avro;
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

    fn json_record<'a>(
        &mut self,
        record: &RawRecord,
        ordinal: u32,
        texts: &mut Texts<'a>,
        members: &mut Vec<Member<'a>>,
        run: &mut Run,
    ) -> Result<(), Refused> {
        self.gate(record, ordinal)?;
        let text = texts
            .get(record.start..record.start + record.len)
            .map_err(|fault| self.refused(ordinal, &fault, members, None))?;
        let (plan, event_type) = self.read(text, ordinal, None, members, run)?;
        self.push(run, plan, members, &event_type, ordinal, record, text.len())
    }

    /// A record whose envelope stands outside of its body.
    #[cold]
    fn wrapped_record(
        &mut self,
        outside: Outside,
        raw: &RawBatch,
        ordinal: u32,
        run: &mut Run,
    ) -> Result<(), Refused> {
        let record = &raw.records[ordinal as usize];
        self.gate(record, ordinal)?;
        let text = Texts::new(raw.payload(ordinal))
            .get(0..record.len)
            .and_then(|payload| self.with_outside(outside, payload, raw.headers(ordinal)))
            .map_err(|fault| self.refused(ordinal, &fault, &[], None))?;
        let mut members = Vec::with_capacity(32);
        let (plan, event_type) = self.read(&text, ordinal, None, &mut members, run)?;
        self.drop_foreign_headers(plan, raw.headers(ordinal), &mut members);
        self.push(run, plan, &members, &event_type, ordinal, record, text.len())
    }

    /// The text that stands for a record with what stands outside of it.
    fn with_outside(
        &self,
        outside: Outside,
        payload: &str,
        headers: Headers<'_>,
    ) -> Result<String, Box<Fault>> {
        let envelope_of = |event_type: &str| {
            let plan = self.types.plan_of(event_type)?;
            Some(&self.plans[plan].0.contract.envelope)
        };
        outside::text(outside, payload, headers, &self.types.headers, envelope_of)
    }

    /// Forgets the headers that only envelopes of other contracts name: to this record they are no
    /// more than any other header, and no members that its producer sent.
    fn drop_foreign_headers(
        &self,
        plan: usize,
        headers: Headers<'_>,
        members: &mut Vec<Member<'_>>,
    ) {
        let envelope = &self.plans[plan].0.contract.envelope;
        let is_own = |name: &str| {
            let mut named = envelope.places().filter_map(|(_, place)| place.header());
            named.any(|own| own.eq_ignore_ascii_case(name))
        };
        let is_named =
            |name: &str| self.types.headers.iter().any(|known| known.eq_ignore_ascii_case(name));
        members.retain(|member| match member.name.strip_prefix(outside::HEADER) {
            Some(name) => is_own(name) || !is_named(name) || headers.get(name).is_none(),
            None => true,
        });
    }

    /// What is decided without a look at the payload.
    #[inline]
    fn gate(&self, record: &RawRecord, ordinal: u32) -> Result<(), Refused> {
        if record.attached.is_tombstone {
            return Err(Refused::Ignored(Reason::Tombstone, String::new()));
        }
        let len = record.len + record.attached.headers_len as usize;
        if len > self.options.max_record_bytes {
            let fault = Fault::too_large(len, self.options.max_record_bytes);
            return Err(self.refused(ordinal, &fault, &[], None));
        }
        Ok(())
    }

    /// The members of a record, the plan for it and its event type, which `record_name` stands for
    /// where no member does.
    #[inline]
    fn read<'a>(
        &self,
        text: &'a str,
        ordinal: u32,
        record_name: Option<[&'a str; 2]>,
        members: &mut Vec<Member<'a>>,
        run: &mut Run,
    ) -> Result<(usize, Cow<'a, str>), Refused> {
        if let Err(syntax) = json::members(text, members) {
            members.clear();
            return Err(self.refused(ordinal, &Box::<Fault>::from(syntax), members, None));
        }
        if let Some(name) = run.twice(members) {
            let fault = Fault::twice(name);
            return Err(self.refused(ordinal, &fault, members, None));
        }
        let (versions, event_type) = match self.types.find(members, record_name) {
            Ok(Found::Contract(versions, event_type)) => (versions, event_type),
            Ok(Found::Unknown(event_type)) => {
                if self.unknown_event == UnknownEvent::Ignore {
                    return Err(Refused::Ignored(Reason::UnknownEventType, clip(&event_type)));
                }
                let fault = Fault::unknown_type(&event_type);
                return Err(self.refused(ordinal, &fault, members, None));
            }
            Err(fault) => return Err(self.refused(ordinal, &fault, members, None)),
        };
        let fault = match versions.choose(members) {
            Ok(Ok(plan)) => return Ok((plan, event_type)),
            Ok(Err((path, version))) => {
                let known = versions.list();
                Fault::unknown_version(&path, &version, &event_type, &known)
            }
            Err(fault) => fault,
        };
        Err(self.refused(ordinal, &fault, members, None))
    }

    /// Makes a row of a record.
    #[allow(clippy::too_many_arguments)] // What is known of the record, all by name below.
    #[inline]
    fn push(
        &mut self,
        run: &mut Run,
        plan_at: usize,
        members: &[Member<'_>],
        event_type: &str,
        ordinal: u32,
        record: &RawRecord,
        text_len: usize,
    ) -> Result<(), Refused> {
        let plan = &mut self.plans[plan_at].0;
        let room = self.last_rows[plan_at];
        let rows = run.rows[plan_at].get_or_insert_with(|| Rows::new(&plan.contract, room));
        if rows.is_full() {
            let full = std::mem::replace(rows, Rows::new(&plan.contract, 0));
            run.full.push((plan_at, full));
        }
        rows.push(plan, members, &mut run.scratch, event_type, ordinal, record, text_len)
            .map_err(|fault| self.refused(ordinal, &fault, members, Some(plan_at)))
    }

    /// The rejection for a fault, as it is handed on.
    #[cold]
    fn refused(
        &self,
        ordinal: u32,
        fault: &Fault,
        members: &[Member<'_>],
        plan: Option<usize>,
    ) -> Refused {
        let plan = plan.map(|at| &self.plans[at].0);
        Refused::Rejected(rejection(ordinal, fault, members, plan, &self.types))
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
            id(&outside::path(&envelope.id)),
            value(&outside::path(&envelope.time))
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
