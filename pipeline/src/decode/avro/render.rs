//! One record: Avro's bytes in, JSON text out.
//!
//! What always holds, for any bytes: no panic; nothing is allocated for a length that the bytes do
//! not bear out; no more than the limit is written, and every item of a list writes something, so
//! a count of billions in a few bytes ends there; nothing is nested deeper than what the JSON decoder
//! reads. The text is JSON with every member once, and only complete records give one: a record that
//! ends early or late is broken, not shorter.
//!
//! A few values have no JSON that the contract's type could be: NaN and the infinities, instants and
//! days outside the years 1 to 9999. They are written as something else and noted; asked to be
//! strict, they are a fault with their place. So the envelope of such a record can still be read.

use super::program::{Binary, Number, Program, Record, Step, StepId};
use super::reader::Reader;
use super::schema::Name;
use super::{moment, value};
use crate::decode::fault::Fault;
use crate::decode::json::{MAX_DEPTH, is_value};
use crate::outcome::Reason;

/// What was written.
pub(super) struct Rendered<'p> {
    /// Name of the record's type.
    pub(super) name: &'p Name,
    /// A value of the contract was written as something else.
    pub(super) is_odd: bool,
}

/// Whether odd values are a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    Noted,
    Refused,
}

/// Writes the record `body` to `out`, which is emptied first. At most about `limit` bytes are
/// written. The text need not be UTF-8: strings are copied as they are.
pub(super) fn render<'p>(
    program: &'p Program,
    body: &[u8],
    limit: usize,
    odd: Odd,
    out: &mut Vec<u8>,
) -> Result<Rendered<'p>, Box<Fault>> {
    out.clear();
    let reader = Reader(body);
    let mut render = Render { steps: &program.steps, reader, out, limit, odd, is_odd: false };
    let root = match &program.steps[program.root] {
        Step::Union(branches) => render.branch(branches)?,
        _ => program.root,
    };
    let Step::Record(record) = &program.steps[root] else {
        return Err(Fault::not_avro("not a record, by its schema"));
    };
    render.record(record, 1)?;
    match render.reader.0.len() {
        0 => Ok(Rendered { name: &record.name, is_odd: render.is_odd }),
        left => Err(Fault::not_avro(format!("{left} bytes after the end of the record"))),
    }
}

struct Render<'p, 'b, 'o> {
    steps: &'p [Step],
    reader: Reader<'b>,
    out: &'o mut Vec<u8>,
    limit: usize,
    odd: Odd,
    is_odd: bool,
}

impl<'p> Render<'p, '_, '_> {
    /// One value; `depth` objects and lists are open around it.
    fn value(&mut self, step: StepId, depth: u32) -> Result<(), Box<Fault>> {
        match &self.steps[step] {
            Step::Null => self.out.extend_from_slice(b"null"),
            Step::Boolean => {
                let is = self.reader.boolean()?;
                self.out.extend_from_slice(if is { b"true" } else { b"false" });
            }
            Step::Int(number) => {
                let count = i64::from(self.reader.int()?);
                self.number(*number, count)?;
            }
            Step::Long(number) => {
                let count = self.reader.long()?;
                self.number(*number, count)?;
            }
            Step::Float { declared } => {
                let number = self.reader.float()?;
                match number.is_finite() {
                    true => json(&number, self.out),
                    false => self.not_finite(f64::from(number), *declared)?,
                }
            }
            Step::Double { declared } => {
                let number = self.reader.double()?;
                match number.is_finite() {
                    true => json(&number, self.out),
                    false => self.not_finite(number, *declared)?,
                }
            }
            Step::Bytes(binary) => {
                let bytes = self.reader.bytes()?;
                self.binary(*binary, bytes)?;
            }
            Step::Fixed(size, binary) => {
                let bytes = self.reader.take(*size)?;
                self.binary(*binary, bytes)?;
            }
            Step::Text => value::text(self.reader.bytes()?, self.out),
            Step::JsonText => {
                let text = self.reader.bytes()?;
                match std::str::from_utf8(text) {
                    Ok(json) if is_value(json, depth) => self.out.extend_from_slice(text),
                    _ => value::text(text, self.out),
                }
            }
            Step::Symbols(symbols) => {
                let index = self.reader.int()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| {
                    Fault::not_avro(format!("the enum has no symbol number {index}"))
                })?;
                self.out.extend_from_slice(symbol);
            }
            Step::Union(branches) => {
                let branch = self.branch(branches)?;
                self.value(branch, depth)?;
            }
            Step::Array(items) => self.array(*items, deeper(depth)?)?,
            Step::Map(named, others) => self.map(named, *others, deeper(depth)?)?,
            Step::Record(record) => self.record(record, deeper(depth)?)?,
        }
        Ok(())
    }

    fn branch(&mut self, branches: &[StepId]) -> Result<StepId, Box<Fault>> {
        let index = self.reader.long()?;
        let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
        branch
            .copied()
            .ok_or_else(|| Fault::not_avro(format!("the union has no branch number {index}")))
    }

    fn record(&mut self, record: &'p Record, depth: u32) -> Result<(), Box<Fault>> {
        if record.members.is_empty() {
            self.out.push(b'{');
        }
        for member in &record.members {
            self.check_len()?;
            self.out.extend_from_slice(&member.opening);
            self.value(member.step, depth).map_err(|fault| fault.inside(&member.name))?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, items: StepId, depth: u32) -> Result<(), Box<Fault>> {
        self.out.push(b'[');
        let mut at = 0_u64;
        loop {
            let block = self.reader.block()?;
            if block == 0 {
                break;
            }
            for _ in 0..block {
                self.check_len()?;
                if at > 0 {
                    self.out.push(b',');
                }
                self.value(items, depth).map_err(|fault| fault.inside(&format!("[{at}]")))?;
                at += 1;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(
        &mut self,
        named: &[(Box<str>, StepId)],
        others: StepId,
        depth: u32,
    ) -> Result<(), Box<Fault>> {
        self.out.push(b'{');
        let mut first = true;
        loop {
            let block = self.reader.block()?;
            if block == 0 {
                break;
            }
            for _ in 0..block {
                self.check_len()?;
                if !first {
                    self.out.push(b',');
                }
                first = false;
                let key = self.reader.bytes()?;
                value::text(key, self.out);
                self.out.push(b':');
                let known = named.iter().find(|(name, _)| name.as_bytes() == key);
                let step = known.map_or(others, |(_, step)| *step);
                self.value(step, depth).map_err(|fault| match known {
                    Some((name, _)) => fault.inside(name),
                    // Keys are data, which may be anything, personal things too.
                    None => fault.inside("[…]"),
                })?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, number: Number, count: i64) -> Result<(), Box<Fault>> {
        let (written, declared) = match number {
            Number::Digits => (false, false),
            Number::Epoch { digits, to } => {
                moment::epoch(count, digits, to, self.out);
                return Ok(());
            }
            Number::Instant { digits, local, declared } => {
                (moment::instant(count, digits, local, self.out), declared)
            }
            Number::Day { declared } => (moment::day(count, self.out), declared),
            Number::Clock { digits } => (moment::time_of_day(count, digits, self.out), false),
        };
        if written {
            return Ok(());
        }
        if declared {
            self.odd("outside the years 1 to 9999", || count.to_string())?;
        }
        value::whole(count, self.out);
        Ok(())
    }

    fn not_finite(&mut self, number: f64, declared: bool) -> Result<(), Box<Fault>> {
        // As Avro's own encoding in JSON has them.
        let name = match number {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        };
        if declared {
            self.odd("expected a finite number", || name.to_owned())?;
        }
        value::text(name.as_bytes(), self.out);
        Ok(())
    }

    fn odd(&mut self, expected: &str, found: impl FnOnce() -> String) -> Result<(), Box<Fault>> {
        self.is_odd = true;
        match self.odd {
            Odd::Noted => Ok(()),
            Odd::Refused => Err(Fault::odd(Reason::OutOfRange, expected, found())),
        }
    }

    fn binary(&mut self, binary: Binary, bytes: &[u8]) -> Result<(), Box<Fault>> {
        match binary {
            Binary::Base64 => value::base64(bytes, self.out),
            Binary::Decimal(scale) => value::decimal(bytes, i64::from(scale), self.out)?,
            Binary::BigDecimal => value::big_decimal(bytes, self.out)?,
            Binary::Uuid => value::uuid(bytes, self.out),
            Binary::Duration => value::duration(bytes, self.out),
        }
        Ok(())
    }

    #[inline]
    fn check_len(&self) -> Result<(), Box<Fault>> {
        if self.out.len() > self.limit {
            return Err(Fault::too_long_as_json(self.limit));
        }
        Ok(())
    }
}

/// The depth inside one more object or list.
fn deeper(depth: u32) -> Result<u32, Box<Fault>> {
    if depth >= MAX_DEPTH {
        return Err(Fault::not_avro(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(depth + 1)
}

fn json(number: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, number).expect("a vector takes everything");
}
