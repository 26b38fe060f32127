//! Schemas from a table, and records that are written with them.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::types::Value;
use contracts::model::{Domain, EventContract, Field, Format};

use crate::batch::{DecodedBatch, RawBatch};
use crate::decode::tests::support::{batch, contract, domain};
use crate::decode::{Decoder, GaveUp, SchemaSource, WriterSchema};

/// Schemas by id; an id that is not there is unknown.
#[derive(Debug, Default)]
pub(super) struct Schemas(pub(super) HashMap<u32, WriterSchema>);

impl Schemas {
    /// Texts, counted from 1.
    pub(super) fn of(texts: &[&str]) -> Self {
        let all = texts.iter().zip(1..).map(|(text, id)| {
            let references = Arc::default();
            (id, WriterSchema::Avro { schema: (*text).into(), references })
        });
        Self(all.collect())
    }
}

impl SchemaSource for Schemas {
    fn schema(&self, id: u32, _: &dyn Fn() -> bool) -> Result<WriterSchema, GaveUp> {
        let unknown = || WriterSchema::Unknown { missing: format!("no schema {id}") };
        Ok(self.0.get(&id).cloned().unwrap_or_else(unknown))
    }
}

/// A record's body with the frame around it.
pub(super) fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A record as `apache-avro` writes it.
pub(super) fn written(id: u32, schema: &str, value: Value) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    framed(id, &apache_avro::to_avro_datum(&schema, value).expect("a record"))
}

pub(super) fn avro_batch(records: &[Vec<u8>]) -> RawBatch {
    let lines: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    RawBatch { format: Format::Avro, ..batch(&lines) }
}

pub(super) fn decoder(domain: Domain, schemas: Schemas) -> Decoder {
    Decoder::new(&Arc::new(domain)).with_schemas(Arc::new(schemas))
}

pub(super) fn decode(domain: Domain, schemas: Schemas, records: &[Vec<u8>]) -> DecodedBatch {
    decoder(domain, schemas).decode(avro_batch(records))
}

/// A schema with the envelope and these members.
pub(super) fn event_schema(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(
        r#"{{"type":"record","name":"Event","namespace":"t","fields":[
            {{"name":"event_type","type":"string"}},
            {{"name":"event_id","type":"string"}},
            {{"name":"timestamp","type":{{"type":"long","logicalType":"timestamp-millis"}}}}{comma}
            {members}
        ]}}"#
    )
}

/// Members for [`event_schema`]: event `e` with id `1`.
pub(super) fn event(members: Vec<(&str, Value)>) -> Value {
    let mut all = vec![
        ("event_type".to_owned(), Value::String("e".to_owned())),
        ("event_id".to_owned(), Value::String("1".to_owned())),
        ("timestamp".to_owned(), Value::TimestampMillis(1_769_853_600_000)),
    ];
    all.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Record(all)
}

/// A domain with event `e` of these fields.
pub(super) fn events(fields: Vec<Field>) -> Domain {
    of_contracts(vec![contract(&["e"], fields)])
}

/// A domain with these contracts, each a family of its own.
pub(super) fn of_contracts(contracts: Vec<EventContract>) -> Domain {
    domain(contracts.into_iter().map(|contract| vec![contract]).collect())
}
