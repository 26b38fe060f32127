//! What is written in Avro decodes to the row that its JSON decodes to.

use std::sync::Arc;

use contracts::model::{Domain, EventContract, Format, TimeForm};
use contracts::types::Type;

use super::{AvroWriter, DoesNotFit, framed, shortest};
use crate::batch::{DecodedBatch, RawBatch};
use crate::decode::support::{batch, contract, decimal, domain, field, required};
use crate::decode::{Decoder, GaveUp, SchemaSource, WriterSchema};

/// One schema for all ids.
#[derive(Debug)]
struct One(String);

impl SchemaSource for One {
    fn schema(&self, _id: u32, _go_on: &dyn Fn() -> bool) -> Result<WriterSchema, GaveUp> {
        Ok(WriterSchema::Avro { schema: self.0.as_str().into(), references: [].into() })
    }
}

const HEAD: &str = r#""event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00.5Z""#;

fn with_head(members: &str) -> String {
    format!("{{{HEAD},{members}}}")
}

fn written(domain: &Domain, record: &str) -> (String, Result<Vec<u8>, DoesNotFit>) {
    let contract: &Arc<EventContract> = &domain.families[0].versions[0];
    let schema = contracts::export::avro(domain, contract).expect("a schema").to_string();
    let body = AvroWriter::new(contract, &schema).expect("a writer").write(record.as_bytes());
    (schema, body)
}

#[track_caller]
fn check(contract: EventContract, members: &str) {
    let record = with_head(members);
    // A decoder goes by the format of the batch.
    let domain = Arc::new(domain(vec![vec![contract]]));
    let (schema, body) = written(&domain, &record);
    let body = framed(7, &body.expect("it fits"));
    let json = Decoder::new(&domain).decode(batch(&[record.as_bytes()]));
    let avro = decode(&domain, One(schema), &body);
    assert!(json.rejected.is_empty() && avro.rejected.is_empty(), "{:?}", avro.rejected);
    assert_eq!(avro.rows[0].columns, json.rows[0].columns);
}

#[track_caller]
fn misfit(contract: EventContract, members: &str, member: &str) {
    let domain = domain(vec![vec![contract]]);
    let found = written(&domain, &with_head(members)).1;
    assert_eq!(found, Err(DoesNotFit { member: member.to_owned() }));
}

fn decode(domain: &Arc<Domain>, schemas: One, record: &[u8]) -> DecodedBatch {
    let raw = RawBatch { format: Format::Avro, ..batch(&[record]) };
    Decoder::new(domain).with_schemas(Arc::new(schemas)).decode(raw)
}

#[test]
fn values_of_every_type_come_back() {
    let numbers = || {
        let fields = [("a", decimal(38, 2)), ("b", Type::Int64), ("c", Type::Float64)];
        let flags = [("d", Type::Bool), ("e", Type::Date), ("f", Type::String)];
        contract(&["e"], fields.into_iter().chain(flags).map(|(n, t)| required(n, t)).collect())
    };
    check(numbers(), r#""a":149,"b":-7,"c":0.1,"d":true,"e":"2026-02-28","f":"ä\n""#);
    check(numbers(), r#""a":"-0.01","b":3.0,"c":1e3,"d":false,"e":"1969-12-31","f":"""#);
    check(
        numbers(),
        r#""a":-123456789012345678901234567890123456.78,"b":9223372036854775807,"c":-0.0,"d":false,"e":"0001-01-01","f":"x""#,
    );
}

#[test]
fn structs_lists_and_json_come_back() {
    let item = Type::Struct(vec![
        ("price".to_owned(), decimal(12, 2)),
        ("tags".to_owned(), Type::List(Box::new(Type::String))),
        ("more".to_owned(), Type::Json),
    ]);
    let fields = vec![required("items", Type::List(Box::new(item))), required("note", Type::Json)];
    check(
        contract(&["e"], fields),
        r#""items":[{"price":1.5,"tags":["a","b"],"more":{"x":[1,"2"]}},{"price":null,"tags":[],"more":"1"}],"note":"true""#,
    );
}

#[test]
fn times_come_back_in_every_form() {
    for (form, text) in [
        (TimeForm::Rfc3339, r#""2026-01-31T10:00:00+02:00""#),
        (TimeForm::EpochS, "1769853600"),
        (TimeForm::EpochMs, r#""1769853600123""#),
        (TimeForm::EpochUs, "1769853600123456"),
        (TimeForm::EpochNs, "1769853600123456000"),
    ] {
        let mut at = required("at", Type::Timestamp);
        at.time_form = form;
        check(contract(&["e"], vec![at]), &format!(r#""at":{text}"#));
    }
}

#[test]
fn an_absent_member_is_its_default_or_null() {
    let mut unit = required("unit", Type::String);
    unit.default = Some("RUB".into());
    let domain = domain(vec![vec![contract(&["e"], vec![unit, field("n", Type::Int64)])]]);
    let bare = written(&domain, &format!("{{{HEAD}}}")).1;
    let full = written(&domain, &with_head(r#""unit":"RUB","n":null"#)).1;
    assert!(bare.is_ok());
    assert_eq!(bare, full);
}

#[test]
fn what_the_schema_cannot_hold_is_not_written() {
    let price = || contract(&["e"], vec![required("price", decimal(4, 2))]);
    misfit(price(), r#""price":1.005"#, "price");
    misfit(price(), r#""price":100.00"#, "price");
    misfit(price(), r#""price":"one""#, "price");
    misfit(price(), r#""price":null"#, "price");
    misfit(price(), r#""other":1"#, "price");
    misfit(price(), r#""price":1,"price":2"#, "price");
    misfit(price(), r#""price":1} {"#, "");
    let rows = Type::List(Box::new(Type::Struct(vec![("n".to_owned(), Type::Int64)])));
    let rows = contract(&["e"], vec![required("rows", rows)]);
    misfit(rows, r#""rows":[{"n":1},{"n":0.5}]"#, "rows.[1].n");
}

#[test]
fn numbers_take_no_spare_bytes() {
    for (value, bytes) in [
        (0, &[0][..]),
        (127, &[127]),
        (128, &[0, 128]),
        (-1, &[255]),
        (-128, &[128]),
        (-129, &[255, 127]),
        (65_535, &[0, 255, 255]),
    ] {
        assert_eq!(shortest(value), bytes, "{value}");
    }
}
