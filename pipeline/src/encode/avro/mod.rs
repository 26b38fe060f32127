//! Records of JSON in Avro, by the schema that their contract exports.
//!
//! For producers: what is written here decodes to the same row as the JSON that it was written from,
//! but for members that the contract does not know, for which the schema has no place. A record that
//! the schema cannot hold (a text where a number belongs, a member twice) is not written at all.
//!
//! Start at [`AvroWriter::new`]; [`framed`] puts the frame of Confluent's clients around a body.

use std::sync::Arc;

use apache_avro::schema::{RecordSchema, Schema};
use apache_avro::types::Value;
use apache_avro::{Decimal, to_avro_datum};
use contracts::model::EventContract;
use contracts::types::Type;
use serde_json::value::RawValue;

use crate::decode::{date, exactly};

use super::members;

/// A schema that `apache-avro` cannot write by.
#[derive(Debug, thiserror::Error)]
#[error("the schema of contract `{contract}` cannot be used: {message}")]
pub struct UnusableSchema {
    /// The contract.
    pub contract: String,
    /// What is wrong with it.
    pub message: String,
}

/// A record that the schema has no place for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` does not fit the schema")]
pub struct DoesNotFit {
    /// Path of the member; the whole record when it is empty.
    pub member: String,
}

impl DoesNotFit {
    fn here() -> Self {
        Self { member: String::new() }
    }

    fn inside(self, name: &str) -> Self {
        let member = match self.member.as_str() {
            "" => name.to_owned(),
            inner => format!("{name}.{inner}"),
        };
        Self { member }
    }
}

/// Writes the records of one contract version.
#[derive(Debug)]
pub struct AvroWriter {
    schema: Schema,
    contract: Arc<EventContract>,
}

impl AvroWriter {
    /// A writer by the schema that `contracts::export::avro` gives for `contract`.
    pub fn new(contract: &Arc<EventContract>, schema: &str) -> Result<Self, UnusableSchema> {
        let schema = Schema::parse_str(schema).map_err(|error| UnusableSchema {
            contract: contract.name.clone(),
            message: error.to_string(),
        })?;
        Ok(Self { schema, contract: Arc::clone(contract) })
    }

    /// The body of a record, without a frame.
    pub fn write(&self, record: &[u8]) -> Result<Vec<u8>, DoesNotFit> {
        let Schema::Record(schema) = &self.schema else { return Err(DoesNotFit::here()) };
        let text = std::str::from_utf8(record).map_err(|_| DoesNotFit::here())?;
        let fields = &self.contract.fields;
        let declared = |name: &str| Some(&fields.iter().find(|field| field.name == name)?.ty);
        let value = object(schema, text, &declared)?;
        to_avro_datum(&self.schema, value).map_err(|_| DoesNotFit::here())
    }
}

/// A body in the frame of Confluent's clients: a zero, the schema's id, the body.
pub fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// An object as a record. `declared` is the contract's type of a member, where it declares one.
fn object<'t>(
    schema: &RecordSchema,
    text: &str,
    declared: &dyn Fn(&str) -> Option<&'t Type>,
) -> Result<Value, DoesNotFit> {
    let members = members::of(text).ok_or_else(DoesNotFit::here)?;
    for (at, (name, _)) in members.iter().enumerate() {
        if members[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(DoesNotFit::here().inside(name));
        }
    }
    let mut fields = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        let name = &field.name;
        let member = members.iter().find(|(member, _)| member == name).map(|(_, value)| *value);
        let written = match (member, &field.default) {
            (Some(value), _) => value_of(&field.schema, value, declared(name)),
            (None, Some(default)) => {
                let value = Value::from(default.clone());
                value.resolve(&field.schema).map_err(|_| DoesNotFit::here())
            }
            (None, None) => Err(DoesNotFit::here()),
        };
        fields.push((name.clone(), written.map_err(|misfit| misfit.inside(name))?));
    }
    Ok(Value::Record(fields))
}

fn value_of(schema: &Schema, raw: &RawValue, ty: Option<&Type>) -> Result<Value, DoesNotFit> {
    let text = raw.get();
    match schema {
        Schema::Union(union) => {
            let is_null = |branch: &Schema| matches!(branch, Schema::Null);
            let (at, branch) = union
                .variants()
                .iter()
                .enumerate()
                .find(|(_, branch)| is_null(branch) == (text == "null"))
                .ok_or_else(DoesNotFit::here)?;
            let value = match branch {
                Schema::Null => Value::Null,
                branch => value_of(branch, raw, ty)?,
            };
            Ok(Value::Union(at as u32, Box::new(value)))
        }
        Schema::Record(schema) => object(schema, text, &|name| match ty? {
            Type::Struct(members) => Some(&members.iter().find(|(member, _)| member == name)?.1),
            _ => None,
        }),
        Schema::Array(array) => {
            let inner = match ty {
                Some(Type::List(inner)) => Some(&**inner),
                _ => None,
            };
            let items: Vec<&RawValue> =
                serde_json::from_str(text).map_err(|_| DoesNotFit::here())?;
            let item = |(at, item): (usize, &&RawValue)| {
                value_of(&array.items, item, inner)
                    .map_err(|misfit| misfit.inside(&format!("[{at}]")))
            };
            items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Value::Array)
        }
        scalar => scalar_of(scalar, text, ty).ok_or_else(DoesNotFit::here),
    }
}

fn scalar_of(schema: &Schema, text: &str, ty: Option<&Type>) -> Option<Value> {
    let string = || serde_json::from_str::<String>(text).ok();
    Some(match schema {
        // A text of JSON keeps its quotes, which tell `"1"` from `1`.
        Schema::String if ty == Some(&Type::Json) => Value::String(text.to_owned()),
        // An id may be a number too.
        Schema::String if ty.is_none() && is_number(text) => Value::String(text.to_owned()),
        Schema::String => Value::String(string()?),
        Schema::Boolean => Value::Boolean(serde_json::from_str(text).ok()?),
        Schema::Double => Value::Double(number(text)?.parse().ok()?),
        Schema::Long => Value::Long(integer(text, ty)?),
        Schema::TimestampMillis => Value::TimestampMillis(integer(text, ty)?),
        Schema::TimestampMicros => Value::TimestampMicros(integer(text, ty)?),
        Schema::Date => Value::Date(date(&string()?).ok()?),
        Schema::Decimal(decimal) => {
            let digits = exactly(number(unquoted(text))?, i32::try_from(decimal.scale).ok()?)?;
            let limit = 10_i128.checked_pow(u32::try_from(decimal.precision).ok()?)?;
            let fits = digits > -limit && digits < limit;
            Value::Decimal(Decimal::from(shortest(fits.then_some(digits)?)))
        }
        _ => return None,
    })
}

/// Is a value in JSON, or the inside of a text in it, a number?
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
        && text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// The inside of a text; anything else as it is.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn number(text: &str) -> Option<&str> {
    is_number(text).then_some(text)
}

/// A whole number; a count of time may be a text.
fn integer(text: &str, ty: Option<&Type>) -> Option<i64> {
    let digits = if ty == Some(&Type::Int64) { text } else { unquoted(text) };
    let digits = number(digits)?;
    i64::try_from(exactly(digits, 0)?).ok()
}

/// A two's-complement number, most significant byte first, in as few bytes as it needs.
fn shortest(value: i128) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let sign: u8 = if value < 0 { 0xff } else { 0 };
    let is_spare = |at: usize| bytes[at] == sign && (bytes[at + 1] ^ sign) < 0x80;
    let first = (0..bytes.len() - 1).find(|at| !is_spare(*at)).unwrap_or(bytes.len() - 1);
    bytes[first..].to_vec()
}

#[cfg(test)]
mod tests;
