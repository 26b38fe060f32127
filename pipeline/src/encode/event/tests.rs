//! What is written decodes to the row that it was written from.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use contracts::model::{Domain, EventContract, Field, Place, Status, TimeForm, column};
use contracts::types::Type;
use proptest::prelude::*;
use serde_json::Value;

use super::{EventRows, EventWriter};
use crate::batch::ContractRows;
use crate::decode::Decoder;
use crate::decode::support::{batch, contract, decimal, domain, field, place, required};

/// Decoded rows as the journal keeps them, as far as the writer looks at them.
fn journal_rows(domain: &Domain, rows: &ContractRows) -> RecordBatch {
    let family = &domain.families[rows.contract.family];
    let version = Int64Array::from(vec![i64::from(rows.contract.version); rows.ordinals.len()]);
    let mut fields = vec![ArrowField::new(column::VERSION, DataType::Int64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(version)];
    let decoded = rows.columns.schema();
    for (field, values) in decoded.fields().iter().zip(rows.columns.columns()) {
        fields.push((**field).clone());
        columns.push(Arc::clone(values));
    }
    for def in &family.fields {
        if decoded.column_with_name(&def.name).is_none() {
            fields.push(ArrowField::new(&def.name, def.ty.arrow(), true));
            columns.push(new_null_array(&def.ty.arrow(), rows.ordinals.len()));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// Writes the only record of a batch; `None` when it was rejected.
fn written(domain: &Arc<Domain>, record: &str) -> Option<(String, RecordBatch)> {
    let decoded = Decoder::new(domain).decode(batch(&[record.as_bytes()]));
    let rows = decoded.rows.first()?;
    let journal = journal_rows(domain, rows);
    let writer = EventWriter::new(&domain.families[rows.contract.family]);
    let mut out = Vec::new();
    EventRows::new(&writer, &journal).expect("the schema").write(0, &mut out);
    Some((String::from_utf8(out).expect("UTF-8"), journal))
}

#[track_caller]
fn check_versions(versions: Vec<EventContract>, record: &str, expected: &str) {
    let domain = Arc::new(domain(vec![versions]));
    let (text, row) = written(&domain, record).expect("a good record");
    assert_eq!(text, expected);
    let (again, same) = written(&domain, &text).expect("what was written is a good record");
    assert_eq!(again, text);
    assert_eq!(same, row);
}

#[track_caller]
fn check(contract: EventContract, record: &str, expected: &str) {
    check_versions(vec![contract], record, expected);
}

const HEAD: &str = r#""event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00.5Z""#;

#[track_caller]
fn check_fields(fields: Vec<Field>, members: &str, expected: &str) {
    let record = |members: &str| format!("{{{HEAD}{members}}}");
    check(contract(&["e"], fields), &record(members), &record(expected));
}

#[test]
fn values_keep_all_their_digits() {
    check_fields(
        vec![field("a", decimal(38, 2)), field("b", decimal(12, 3)), field("c", Type::Int64)],
        r#","a":12345678901234567.89,"b":1.005,"c":-9223372036854775808"#,
        r#","a":12345678901234567.89,"b":1.005,"c":-9223372036854775808"#,
    );
    check_fields(
        vec![field("a", decimal(12, 2)), field("f", Type::Float64), field("g", Type::Float64)],
        r#","a":149,"f":0.1,"g":-1.25"#,
        r#","a":149.00,"f":0.1,"g":-1.25"#,
    );
    check_fields(
        vec![field("t", Type::String), field("b", Type::Bool), field("d", Type::Date)],
        r#","t":"\"ä\n\u0001","b":false,"d":"2026-01-31""#,
        r#","t":"\"ä\n\u0001","b":false,"d":"2026-01-31""#,
    );
}

#[test]
fn absent_is_absent_and_null_is_null() {
    let fields =
        || vec![required("k", Type::String), field("a", Type::Int64), field("b", Type::Bool)];
    check_fields(fields(), r#","k":"x","b":null"#, r#","k":"x","b":null"#);
    check_fields(fields(), r#","a":null,"k":"x""#, r#","k":"x","a":null"#);
    let mut filled = field("d", Type::Int64);
    filled.default = Some(Value::from(7));
    check_fields(vec![filled], "", r#","d":7"#);
}

#[test]
fn lists_structs_and_texts_of_json_come_back() {
    let item = Type::Struct(vec![("n".into(), Type::Int64), ("t".into(), Type::Timestamp)]);
    let mut times = field("l", Type::List(Box::new(item)));
    times.time_form = TimeForm::EpochMs;
    check_fields(
        vec![times, field("j", Type::Json)],
        r#","l":[{"n":1,"t":1500.25},null,{"n":null,"t":null}],"j":{"x": [1.50, "é"]}"#,
        r#","l":[{"n":1,"t":1500.25},null,{"n":null,"t":null}],"j":{"x":[1.50,"é"]}"#,
    );
}

#[test]
fn members_that_the_contract_does_not_know_are_as_they_were_sent() {
    check_fields(
        vec![field("a", Type::Int64)],
        r#","z":1e2,"a":1,"b":{"c": "\u00e4"}"#,
        r#","a":1,"z":1e2,"b":{"c":"\u00e4"}"#,
    );
}

/// Two versions whose envelope lies in an object.
fn nested(fields: fn() -> Vec<Field>) -> Vec<EventContract> {
    let version = |version, status| {
        let mut contract = contract(&["made"], fields());
        contract.version = version;
        contract.status = status;
        contract.envelope.event_type = place("meta.kind");
        contract.envelope.id = place("meta.id");
        contract.envelope.time = place("at");
        contract.envelope.time_form = TimeForm::EpochS;
        contract.envelope.version = Some(place("meta.v"));
        contract.envelope.tenant = Some(place("owner"));
        contract
    };
    vec![version(1, Status::Deprecated), version(2, Status::Stable)]
}

#[test]
fn an_envelope_stands_where_the_contract_says() {
    // The object was kept as it was sent: it has members of its own.
    check_versions(
        nested(Vec::new),
        r#"{"meta":{"kind":"made","id":17,"v":"1","x":null},"at":1.25}"#,
        r#"{"at":1.25,"owner":"default","meta":{"kind":"made","id":17,"v":"1","x":null}}"#,
    );
    check_versions(
        nested(|| vec![field("meta", Type::Json)]),
        r#"{"meta":{"kind":"made","id":"a"},"at":1,"owner":"o"}"#,
        r#"{"at":1,"owner":"o","meta":{"kind":"made","id":"a"}}"#,
    );
}

#[test]
fn parts_of_the_envelope_in_a_declared_struct_are_not_lost() {
    fn fields() -> Vec<Field> {
        let meta = vec![("id".into(), Type::String), ("n".into(), Type::Int64)];
        vec![field("meta", Type::Struct(meta)), required("owner", Type::String)]
    }
    check_versions(
        nested(fields),
        r#"{"meta":{"kind":"made","id":"a","n":5,"v":1},"at":1,"owner":"o"}"#,
        r#"{"at":1,"meta":{"id":"a","n":5,"kind":"made","v":1},"owner":"o"}"#,
    );
}

#[test]
fn a_field_that_is_also_the_envelope_is_written_once_as_itself() {
    let mut contract = contract(&["e"], vec![required("number", Type::Int64)]);
    contract.envelope.id = place("number");
    let text = r#"{"event_type":"e","timestamp":"2026-01-31T10:00:00Z","number":5}"#;
    check(contract, text, text);
}

#[test]
fn parts_of_the_envelope_that_were_headers_are_headers_again() {
    let plain = || contract(&["e"], vec![field("a", Type::Int64)]);
    let record = format!(r#"{{{HEAD},"a":1}}"#);
    let in_body = Arc::new(domain(vec![vec![plain()]]));
    let (text, row) = written(&in_body, &record).expect("a good record");
    assert_eq!(text, record);
    let mut contract = plain();
    contract.envelope.id = Place::Header("ce_id".to_owned());
    contract.envelope.time = Place::Header("ce_time".to_owned());
    contract.envelope.time_form = TimeForm::EpochMs;
    let writer = EventWriter::new(&domain(vec![vec![contract]]).families[0]);
    let rows = EventRows::new(&writer, &row).expect("the schema");
    let mut out = Vec::new();
    rows.write(0, &mut out);
    assert_eq!(std::str::from_utf8(&out), Ok(r#"{"event_type":"e","a":1}"#));
    let headers: Vec<_> = rows.headers(0).collect();
    assert_eq!(headers, [("ce_id", "1".to_owned()), ("ce_time", "1769853600500".to_owned())]);
}

#[test]
fn a_row_is_written_by_its_own_version() {
    let mut second = contract(&["e"], vec![field("b", Type::Int64)]);
    second.version = 2;
    let mut versions = vec![contract(&["e"], vec![field("a", Type::Int64)]), second];
    for version in &mut versions {
        version.envelope.version = Some(place("v"));
    }
    let domain = Arc::new(domain(vec![versions]));
    let first = format!(r#"{{{HEAD},"v":1,"a":1,"b":2}}"#);
    let (text, row) = written(&domain, &first).expect("a good record");
    assert_eq!(text, first);
    assert_eq!(written(&domain, &text).expect("a good record").1, row);
}

fn any_domain() -> Arc<Domain> {
    let item = Type::Struct(vec![("name".into(), Type::String), ("day".into(), Type::Date)]);
    let mut fields = vec![
        required("key", Type::String),
        field("amount", decimal(20, 4)),
        field("weight", Type::Float64),
        field("items", Type::List(Box::new(item))),
        field("seen", Type::Timestamp),
        field("any", Type::Json),
        field("count", Type::Int64),
    ];
    fields[4].time_form = TimeForm::EpochNs;
    let mut contract = contract(&["a"], fields);
    contract.envelope.id = place("head.id");
    contract.envelope.time_form = TimeForm::EpochMs;
    Arc::new(domain(vec![vec![contract]]))
}

fn records() -> impl Strategy<Value = String> {
    let text = || "\\PC{0,8}".prop_map(|text| Value::from(text).to_string());
    let or_null =
        |value: BoxedStrategy<String>| prop_oneof![4 => value, 1 => Just("null".to_owned())];
    let item = (text(), -9_999..9_999_i32).prop_map(|(name, day)| {
        let day = crate::encode::text::date_text(day);
        format!(r#"{{"name":{name},"day":"{day}"}}"#)
    });
    let amount = (-999_999_999_999_i64..999_999_999_999, 0..10_000_u32)
        .prop_map(|(whole, fraction)| format!("{whole}.{fraction:04}"));
    let members = (
        prop::option::of(or_null(amount.boxed())),
        prop::option::of(or_null(
            any::<f64>()
                .prop_filter_map("finite", |value| value.is_finite().then(|| Value::from(value)))
                .prop_map(|value| value.to_string())
                .boxed(),
        )),
        prop::option::of(or_null(
            prop::collection::vec(or_null(item.boxed()), 0..3)
                .prop_map(|items| format!("[{}]", items.join(",")))
                .boxed(),
        )),
        prop::option::of(or_null(any::<i64>().prop_map(|ns| ns.to_string()).boxed())),
        prop::option::of(or_null(
            prop_oneof![text(), Just("[1.0,{\"a\":1E5}]".to_owned())].boxed(),
        )),
        prop::option::of(or_null(any::<i64>().prop_map(|n| n.to_string()).boxed())),
        prop::collection::btree_map("[x-z]{1,2}", text(), 0..3),
    );
    (text(), "[a-z0-9]{1,8}", 0..4_000_000_000_000_i64, members).prop_map(
        |(key, id, time, (amount, weight, items, seen, other, count, extra))| {
            let mut record = format!(r#"{{"event_type":"a","timestamp":{time},"key":{key}"#);
            let known = [
                ("amount", amount),
                ("weight", weight),
                ("items", items),
                ("seen", seen),
                ("any", other),
                ("count", count),
            ];
            for (name, value) in known {
                if let Some(value) = value {
                    record.push_str(&format!(",\"{name}\":{value}"));
                }
            }
            for (name, value) in extra {
                record.push_str(&format!(",\"{name}\":{value}"));
            }
            format!(r#"{record},"head":{{"id":"{id}"}}}}"#)
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_decodes_to_the_same_row(record in records()) {
        let domain = any_domain();
        let (text, row) = written(&domain, &record).expect("a good record");
        let (again, same) = written(&domain, &text).expect("what was written is a good record");
        prop_assert_eq!(again, text);
        prop_assert_eq!(same, row);
    }
}
