//! Records in JSON written in Avro, by the schemas that their contracts export.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use contracts::export;
use contracts::model::{Domain, Format};
use pipeline::batch::{RawBatch, RawRecord};
use pipeline::decode::{Decoder, GaveUp, SchemaSource, WriterSchema};
use serde_json::Value;
use std::sync::Arc;

/// The schemas of a domain: of each contract version one.
#[derive(Debug)]
pub(crate) struct Schemas {
    texts: Vec<Arc<str>>,
    parsed: Vec<Schema>,
    /// By event type and version: index of the schema.
    by_type: HashMap<(String, u64), usize>,
}

impl SchemaSource for Schemas {
    fn schema(&self, id: u32, _: &dyn Fn() -> bool) -> Result<WriterSchema, GaveUp> {
        let schema = Arc::clone(&self.texts[id as usize]);
        Ok(WriterSchema::Avro { schema, references: Arc::default() })
    }
}

/// Only those records of a batch that are accepted.
pub(crate) fn good_ones(domain: &Arc<Domain>, batch: RawBatch) -> RawBatch {
    let decoded = Decoder::new(domain).decode(batch);
    let mut ordinals: Vec<u32> =
        decoded.rows.iter().flat_map(|rows| rows.ordinals.iter().copied()).collect();
    ordinals.sort_unstable();
    let mut good = RawBatch { bytes: Vec::new(), records: Vec::new(), ..decoded.raw.clone() };
    for ordinal in ordinals {
        push(&mut good, &decoded.raw.records[ordinal as usize], decoded.raw.payload(ordinal));
        // As a file has it.
        good.bytes.push(b'\n');
    }
    good
}

fn push(batch: &mut RawBatch, like: &RawRecord, payload: &[u8]) {
    let (start, len) = (batch.bytes.len(), payload.len());
    batch.records.push(RawRecord { start, len, ..like.clone() });
    batch.bytes.extend_from_slice(payload);
}

impl Schemas {
    pub(crate) fn of(domain: &Domain) -> Self {
        let mut all = Self { texts: Vec::new(), parsed: Vec::new(), by_type: HashMap::new() };
        for contract in domain.families.iter().flat_map(|family| &family.versions) {
            let text = export::avro(domain, contract).expect("exported").to_string();
            for name in &contract.names {
                all.by_type.insert((name.clone(), contract.version.into()), all.texts.len());
            }
            all.parsed.push(Schema::parse_str(&text).expect("a schema"));
            all.texts.push(text.into());
        }
        all
    }

    /// The batch in Avro.
    pub(crate) fn written(&self, domain: &Domain, json: &RawBatch) -> RawBatch {
        let mut batch = RawBatch {
            bytes: Vec::new(),
            records: Vec::new(),
            format: Format::Avro,
            ..json.clone()
        };
        for (ordinal, record) in (0..).zip(&json.records) {
            let event: Value = serde_json::from_slice(json.payload(ordinal)).expect("JSON");
            let name = event["event_type"].as_str().expect("a type").to_owned();
            let newest = domain.event(&name, None).expect("known").version;
            let version = event["schema_version"].as_u64().unwrap_or(newest.into());
            let id = self.by_type[&(name, version)];
            let mut payload = vec![0];
            payload.extend((id as u32).to_be_bytes());
            let value = value(&self.parsed[id], &event);
            payload.extend(apache_avro::to_avro_datum(&self.parsed[id], value).expect("fits"));
            push(&mut batch, record, &payload);
        }
        batch
    }
}

/// A value in JSON as one of a type in Avro.
fn value(schema: &Schema, json: &Value) -> Avro {
    match schema {
        Schema::Union(union) => {
            let is = |schema: &Schema| matches!(schema, Schema::Null) == json.is_null();
            let at = union.variants().iter().position(is).expect("a branch");
            Avro::Union(at as u32, Box::new(value(&union.variants()[at], json)))
        }
        Schema::Null => Avro::Null,
        Schema::Boolean => Avro::Boolean(json.as_bool().expect("a boolean")),
        Schema::Long => Avro::Long(json.as_i64().expect("a whole number")),
        Schema::Double => Avro::Double(json.as_f64().expect("a number")),
        Schema::TimestampMillis => Avro::TimestampMillis(json.as_i64().expect("milliseconds")),
        Schema::TimestampMicros => Avro::TimestampMicros(json.as_i64().expect("microseconds")),
        Schema::Decimal(decimal) => {
            let scale = decimal.scale as i32;
            // Amounts of the shop are far below what a double holds exactly.
            let unscaled = (json.as_f64().expect("a number") * 10_f64.powi(scale)).round() as i64;
            Avro::Decimal(unscaled.to_be_bytes().to_vec().into())
        }
        Schema::Array(array) => {
            let items = json.as_array().expect("a list");
            Avro::Array(items.iter().map(|item| value(&array.items, item)).collect())
        }
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| {
                    let json = json.get(&field.name).unwrap_or(&Value::Null);
                    (field.name.clone(), value(&field.schema, json))
                })
                .collect(),
        ),
        Schema::String => Avro::String(match json {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        other => unknown_type(other),
    }
}

fn unknown_type(schema: &Schema) -> Avro {
    panic!("no contract of the shop exports {schema:?}")
}
