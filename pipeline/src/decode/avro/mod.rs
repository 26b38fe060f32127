//! Records in Avro, framed as Confluent's clients frame them.
//!
//! A record is turned into the JSON text that stands for it, by the schema of its writer, and judged
//! by the decoder for JSON: there is one set of rules for what a contract accepts. [`wire`] takes the
//! frame off, [`schema`] reads the schema, [`program`] works out how its records become the text that
//! a contract reads, [`render()`] writes it, byte by byte and without a tree in between.
//!
//! What stands for what: `int` and `long` their digits; `float` and `double` the shortest number that
//! reads back as the same; `decimal` and `big-decimal` their exact digits; `string`, `enum` and `uuid`
//! a text (a `string` for a contract's `json` the value that it is the text of, if it is one, as the
//! schemas that we export have it); `bytes` and `fixed` base64; `date` and `timestamp-*` what the contract wants at that place
//! ([`want`]), else a text; `time-*` and `duration` a text; a union the value in it. A null is a null
//! and not an absence, for a record in Avro leaves nothing out. A member that the contract asks for
//! under an older name of its own (an alias) gets that name. Where the contracts' places for the event
//! type are all absent, the name of the record's type stands for it, with or without its namespace.
//!
//! What always holds: all schemas of a batch are known before the first of its records is judged; a
//! record costs no other one; what it becomes depends on its bytes and its schema alone.

mod moment;
mod program;
mod reader;
mod render;
mod schema;
mod source;
#[cfg(test)]
mod tests;
mod value;
mod want;
mod wire;

use std::sync::Arc;

use hashbrown::HashMap;
use tracing::warn;

use crate::batch::RawBatch;

use super::fault::{Fault, clip};
use super::outside::Outside;
use super::{Decoder, Refused, Run};
use program::Program;
use render::{Odd, render};
use schema::Schema;
use want::Want;

pub use source::{GaveUp, SchemaSource, WriterSchema};

/// Schemas that are kept ready. Past that all are forgotten and made anew when they are met.
const MOST_SCHEMAS: usize = 1_000;
/// How often a record is written anew because it is of another contract than was thought: its type
/// shows with the first text, its version with the second at the latest.
const ROUNDS: u32 = 3;
/// The text of a record may be this many times longer than a record may be: names of members stand
/// in it.
const LONGER: usize = 8;

/// What is known of schemas. Not shared between threads, as its decoder is not.
#[derive(Debug, Default)]
pub(super) struct Avro {
    source: Option<Arc<dyn SchemaSource>>,
    known: HashMap<u32, Known>,
    /// Ids of the batch under way that nobody knows now.
    unknown: HashMap<u32, Box<Fault>>,
    /// The text of one record.
    text: Vec<u8>,
}

/// What an id stands for, for ever.
#[derive(Debug)]
enum Known {
    Schema(Box<Writer>),
    Unusable(Box<Fault>),
}

/// A schema, ready to decode with.
#[derive(Debug)]
struct Writer {
    schema: Schema,
    /// By plan; `None` for records of no known contract.
    programs: Vec<(Option<usize>, Program)>,
    /// The plan of the last record: most schemas belong to one.
    last: Option<usize>,
}

impl Writer {
    /// The program for a plan's contract, or for none.
    fn program(&mut self, plan: Option<usize>, want: impl FnOnce() -> Want) -> &Program {
        let at = match self.programs.iter().position(|(known, _)| *known == plan) {
            Some(at) => at,
            None => {
                self.programs.push((plan, Program::new(&self.schema, &want())));
                self.programs.len() - 1
            }
        };
        &self.programs[at].1
    }
}

impl Avro {
    pub(super) fn new(source: Arc<dyn SchemaSource>) -> Self {
        Self { source: Some(source), ..Default::default() }
    }

    /// Sees to it that every schema of the batch is known, or known not to be.
    pub(super) fn prepare(
        &mut self,
        raw: &RawBatch,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), GaveUp> {
        self.unknown.clear();
        if self.known.len() > MOST_SCHEMAS {
            self.known.clear();
        }
        let mut last = None;
        for (ordinal, record) in raw.records.iter().enumerate() {
            if record.attached.is_tombstone {
                continue;
            }
            let Ok((id, _)) = wire::split(raw.payload(ordinal as u32)) else { continue };
            if last.replace(id) == Some(id)
                || self.known.contains_key(&id)
                || self.unknown.contains_key(&id)
            {
                continue;
            }
            let found = match &self.source {
                Some(source) => source.schema(id, go_on)?,
                None => WriterSchema::Unknown { missing: "no schema registry is named".to_owned() },
            };
            match found {
                WriterSchema::Unknown { missing } => {
                    self.unknown.insert(id, Fault::unknown_schema(missing));
                }
                WriterSchema::Unusable { why } => {
                    self.known.insert(id, Known::Unusable(Fault::not_avro(why)));
                }
                WriterSchema::Avro { schema, references } => {
                    self.known.insert(id, parsed(id, &schema, &references));
                }
            }
        }
        Ok(())
    }
}

fn parsed(id: u32, schema: &str, references: &[Arc<str>]) -> Known {
    match Schema::parse(schema, references.iter().map(|text| &**text)) {
        Ok(schema) => Known::Schema(Box::new(Writer { schema, programs: Vec::new(), last: None })),
        Err(error) => {
            warn!(schema = id, error, "a schema in the registry is not one in Avro");
            Known::Unusable(Fault::not_avro(format!("schema {id} cannot be read: {error}")))
        }
    }
}

impl Decoder {
    /// One record in Avro. Its schema must have been asked for.
    pub(super) fn avro_record(
        &mut self,
        avro: &mut Avro,
        raw: &RawBatch,
        ordinal: u32,
        run: &mut Run,
    ) -> Result<(), Refused> {
        let record = &raw.records[ordinal as usize];
        self.gate(record, ordinal)?;
        let (id, body) = wire::split(raw.payload(ordinal))
            .map_err(|fault| self.refused(ordinal, &fault, &[], None))?;
        let writer = match avro.known.get_mut(&id) {
            Some(Known::Schema(writer)) => writer,
            Some(Known::Unusable(fault)) => return Err(self.refused(ordinal, fault, &[], None)),
            None => {
                let fault = avro.unknown.get(&id).cloned();
                let fault = fault.unwrap_or_else(|| Fault::unknown_schema("not asked for"));
                return Err(self.refused(ordinal, &fault, &[], None));
            }
        };
        let limit = self.options.max_record_bytes.saturating_mul(LONGER);
        // Which form instants have depends on the contract, which the text tells: it is written for
        // the contract of the record before, and again if it turns out to be of another.
        let mut plan = writer.last;
        for round in 0.. {
            let contract = plan.map(|at: usize| Arc::clone(&self.plans[at].0.contract));
            let program = writer.program(plan, || match &contract {
                Some(contract) => Want::of_contract(contract),
                None => Want::of_envelopes(self.plans.iter().map(|(plan, _)| &*plan.contract)),
            });
            let written = match render(program, body, limit, Odd::Noted, &mut avro.text) {
                // What is said of a broken record must not depend on the one before it.
                Err(_) if plan.is_some() && round == 0 => {
                    plan = None;
                    continue;
                }
                other => other.map_err(|fault| self.refused(ordinal, &fault, &[], None))?,
            };
            let text = simdutf8::basic::from_utf8(&avro.text).map_err(|_| {
                let fault = Fault::not_avro("a string that is not UTF-8");
                self.refused(ordinal, &fault, &[], None)
            })?;
            let headers = raw.headers(ordinal);
            let joined;
            let text = match Outside::of(headers, &self.types.headers) {
                None => text,
                Some(outside) => {
                    joined = self
                        .with_outside(outside, text, headers)
                        .map_err(|fault| self.refused(ordinal, &fault, &[], None))?;
                    &joined
                }
            };
            let names = [written.name.full.as_str(), written.name.short()];
            let mut members = Vec::with_capacity(32);
            let read = self.read(text, ordinal, Some(names), &mut members, run);
            let is = read.as_ref().ok().map(|(plan, _)| *plan);
            if is != plan && round < ROUNDS {
                plan = is;
                continue;
            }
            let (at, event_type) = read?;
            self.drop_foreign_headers(at, headers, &mut members);
            let strictly = if written.is_odd {
                render(program, body, limit, Odd::Refused, &mut Vec::new()).map(drop)
            } else {
                Ok(())
            };
            let pushed = match strictly {
                Ok(()) => self.push(run, at, &members, &event_type, ordinal, record, text.len()),
                Err(fault) => Err(self.refused(ordinal, &fault, &members, Some(at))),
            };
            let pushed = pushed.map_err(|refused| refused.of_type(&event_type));
            writer.last = is;
            return pushed;
        }
        unreachable!("the last round returns")
    }
}

impl Refused {
    /// The event type that the record's name stood for.
    fn of_type(mut self, event_type: &str) -> Self {
        if let Self::Rejected(rejection) = &mut self {
            rejection.event_type.get_or_insert_with(|| clip(event_type));
        }
        self
    }
}
