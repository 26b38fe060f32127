//! Frames and bodies that are no records: each loses itself only, with its reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::types::Value;
use contracts::types::Type;

use super::support::{Schemas, avro_batch, decode, event, event_schema, events, framed, written};
use crate::decode::tests::support::{field, show};
use crate::decode::{DecodeOptions, Decoder, WriterSchema};

fn schema() -> String {
    event_schema(
        r#"{"name":"n","type":["null","long"]},
           {"name":"items","type":{"type":"array","items":{"type":"enum","name":"E","symbols":["A","B"]}}},
           {"name":"ok","type":"boolean"},
           {"name":"s","type":"string"}"#,
    )
}

fn good() -> Vec<u8> {
    let items = vec![Value::Enum(0, "A".to_owned()), Value::Enum(1, "B".to_owned())];
    let members = vec![
        ("n", Value::Union(1, Box::new(Value::Long(5)))),
        ("items", Value::Array(items)),
        ("ok", Value::Boolean(true)),
        ("s", Value::String("ä".to_owned())),
    ];
    written(1, &schema(), event(members))
}

/// A good record with one byte changed, counted from the end.
fn with(at_from_end: usize, byte: u8) -> Vec<u8> {
    let mut record = good();
    let at = record.len() - at_from_end;
    record[at] = byte;
    record
}

#[track_caller]
fn check(record: Vec<u8>, want: &str) {
    let fields = || vec![field("n", Type::Int64)];
    let batch = decode(events(fields()), Schemas::of(&[&schema()]), &[good(), record, good()]);
    assert_eq!(show(&batch, 1), want);
    for ordinal in [0, 2] {
        assert!(
            show(&batch, ordinal).starts_with("e v1 _type=e _id=1 "),
            "{}",
            show(&batch, ordinal)
        );
    }
}

#[test]
fn frames() {
    check(vec![], "rejected not_avro: empty, without a schema id");
    check(vec![0], "rejected not_avro: ends inside the schema id");
    check(vec![0, 0, 0, 0], "rejected not_avro: ends inside the schema id");
    check(
        br#"{"event_type":"e"}"#.to_vec(),
        "rejected not_avro: begins with byte 123, not with 0 and a schema id",
    );
    check(framed(7, &[1, 2]), "rejected unknown_schema: no schema 7");
    check(framed(u32::MAX, &[]), "rejected unknown_schema: no schema 4294967295");
}

#[test]
fn bodies() {
    // The end of a good record: union 1, long 5, a block of two symbols, the last block, a boolean,
    // a string of two bytes.
    let record = good();
    assert_eq!(record[record.len() - 10..], [2, 10, 4, 0, 2, 0, 1, 4, 0xC3, 0xA4]);
    let mut long = record.clone();
    long.push(0);
    check(long, "rejected not_avro: 1 bytes after the end of the record");
    check(framed(1, &[]), "rejected not_avro field=event_type: ends too early");
    check(with(10, 1), "rejected not_avro field=n: the union has no branch number -1");
    check(with(10, 4), "rejected not_avro field=n: the union has no branch number 2");
    check(with(6, 4), "rejected not_avro field=items[1]: the enum has no symbol number 2");
    check(with(6, 1), "rejected not_avro field=items[1]: the enum has no symbol number -1");
    check(with(4, 2), "rejected not_avro field=ok: a boolean that is neither 0 nor 1");
    check(with(3, 3), "rejected not_avro field=s: a negative length");
    check(with(3, 6), "rejected not_avro field=s: ends too early");
    check(with(2, 0xFF), "rejected not_avro: a string that is not UTF-8");
    // What `apache-avro` takes for null or empty: an end in the middle of a union, text or boolean.
    for missing in 1..record.len() - 5 {
        let cut = record[..record.len() - missing].to_vec();
        let batch = decode(events(vec![]), Schemas::of(&[&schema()]), &[cut]);
        let shown = show(&batch, 0);
        let fits = shown.starts_with("rejected not_avro") && shown.ends_with("ends too early");
        assert!(fits, "{missing}: {shown}");
    }
}

#[test]
fn schemas_that_are_none() {
    let mut schemas = Schemas::of(&["\"string\"", "[\"null\",\"int\"]", "{\"type\":\"nonsense\"}"]);
    let why = "schema 4 is of type PROTOBUF, not AVRO".to_owned();
    schemas.0.insert(4, WriterSchema::Unusable { why });
    let records = [
        framed(1, &[2, b'x']),
        framed(2, &[0]),
        framed(2, &[2, 2]),
        framed(3, &[]),
        framed(4, &[]),
    ];
    let batch = decode(events(vec![]), schemas, &records);
    let shown: Vec<String> = (0..5).map(|ordinal| show(&batch, ordinal)).collect();
    assert_eq!(
        shown,
        [
            "rejected not_avro: not a record, by its schema",
            "rejected not_avro: not a record, by its schema",
            "rejected not_avro: not a record, by its schema",
            "rejected not_avro: schema 3 cannot be read: unknown type `nonsense`",
            "rejected not_avro: schema 4 is of type PROTOBUF, not AVRO",
        ]
    );
}

#[test]
fn without_a_registry_no_schema_is_known() {
    let decoded = Decoder::new(&Arc::new(events(vec![]))).decode(avro_batch(&[good()]));
    assert_eq!(show(&decoded, 0), "rejected unknown_schema: no schema registry is named");
}

#[test]
fn large_records_are_not_read() {
    let options = DecodeOptions { max_record_bytes: 60 };
    let schema = event_schema(
        r#"{"name":"a_long_name_of_a_member","type":{"type":"array","items":"null"}}"#,
    );
    let nulls = |n: usize| {
        let value = Value::Array(vec![Value::Null; n]);
        written(1, &schema, event(vec![("a_long_name_of_a_member", value)]))
    };
    let mut decoder = Decoder::with_options(&Arc::new(events(vec![])), options)
        .with_schemas(Arc::new(Schemas::of(&[&schema])));
    let mut long = nulls(1);
    long.resize(61, 0);
    let decoded = decoder.decode(avro_batch(&[nulls(1), long, nulls(200)]));
    assert!(show(&decoded, 0).starts_with("e v1 "));
    assert_eq!(show(&decoded, 1), "rejected too_large: 61 bytes, the limit for one record is 60");
    assert_eq!(
        show(&decoded, 2),
        "rejected too_large field=a_long_name_of_a_member: \
         as JSON longer than 480 bytes, the limit for one record"
    );
}

/// Bytes that promise much more than they are.
#[test]
fn bombs() {
    let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let recursive = r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N"]}]}"#;
    let endless = r#"{"type":"record","name":"N","fields":[{"name":"n","type":"N"}]}"#;
    let nulls = r#"{"type":"record","name":"N","fields":[{"name":"n","type":{"type":"array","items":"null"}}]}"#;
    let empties = r#"{"type":"record","name":"N","fields":[{"name":"n","type":{"type":"array","items":{"type":"record","name":"E","fields":[]}}}]}"#;
    let texts = r#"{"type":"record","name":"N","fields":[{"name":"n","type":{"type":"map","values":"bytes"}}]}"#;
    // Thirty types, each with two of the next: a thousand million nulls in no byte at all.
    let mut doubling = "\"null\"".to_owned();
    for level in 0..30 {
        let inner = if level == 0 { "\"null\"".to_owned() } else { format!("\"N{}\"", level - 1) };
        doubling = format!(
            r#"{{"type":"record","name":"N{level}","fields":[{{"name":"a","type":{doubling}}},{{"name":"b","type":{inner}}}]}}"#
        );
    }
    let deep = [2; 60_000];
    let cases: [(&str, &[u8], &str); 7] = [
        (recursive, &deep, "nested deeper than 100 levels"),
        (endless, &[], "nested deeper than 100 levels"),
        (nulls, &huge, "as JSON longer than"),
        (empties, &huge, "as JSON longer than"),
        (texts, &huge, "ends too early"),
        (texts, &[2, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F], "ends too early"),
        (&doubling, &[], "as JSON longer than"),
    ];
    let start = Instant::now();
    for (schema, body, want) in cases {
        let batch = decode(events(vec![]), Schemas::of(&[schema]), &[framed(1, body)]);
        let shown = show(&batch, 0);
        assert!(shown.contains(want), "{schema}: {shown}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}
