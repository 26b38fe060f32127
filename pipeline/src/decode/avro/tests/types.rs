//! Every type of Avro, as the text that it becomes and as what contracts make of it.

use apache_avro::types::Value;
use contracts::model::{Field, TimeForm};
use contracts::types::Type;

use super::support::{Schemas, decode, event, event_schema, events, written};
use crate::decode::tests::support::{decimal, field, show};

/// The member `v` of that type in Avro, read as `field`.
fn read(ty: &str, value: Value, field: Field) -> String {
    read_as(ty, ty, value, field)
}

/// The same where the schema that is told is not quite the one that wrote.
fn read_as(wrote: &str, told: &str, value: Value, field: Field) -> String {
    let schema = |ty: &str| event_schema(&format!(r#"{{"name":"v","type":{ty}}}"#));
    let record = written(1, &schema(wrote), event(vec![("v", value)]));
    show(&decode(events(vec![field]), Schemas::of(&[&schema(told)]), &[record]), 0)
}

#[track_caller]
fn check_field(ty: &str, value: Value, field: Field, want: &str) {
    let shown = read(ty, value, field);
    let row = shown.strip_prefix("e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default ");
    let is = row.and_then(|row| row.strip_suffix(" _absent=0 _extra=null"));
    assert_eq!(is, Some(format!("v={want}").as_str()), "{ty}: {shown}");
}

/// The text that a value becomes, as a member that is any JSON shows it.
#[track_caller]
fn check(ty: &str, value: Value, want: &str) {
    check_field(ty, value, field("v", Type::Json), want);
}

#[track_caller]
fn check_as(ty: &str, value: Value, contract: Type, want: &str) {
    check_field(ty, value, field("v", contract), want);
}

#[track_caller]
fn check_rejected(ty: &str, value: Value, field: Field, want: &str) {
    let shown = read(ty, value, field);
    let start = "rejected ";
    let envelope = " field=v id=1 type=e time=1769853600000000 contract=e v1: ";
    let is = shown.strip_prefix(start).map(|shown| shown.replace(envelope, ": "));
    assert_eq!(is.as_deref(), Some(want), "{ty}");
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn logical(ty: &str, logical: &str) -> String {
    format!(r#"{{"type":"{ty}","logicalType":"{logical}"}}"#)
}

fn fixed(size: usize, rest: &str) -> String {
    format!(r#"{{"type":"fixed","name":"F","size":{size}{rest}}}"#)
}

const DECIMAL: &str = r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#;

#[test]
fn primitive_types() {
    check("\"null\"", Value::Null, "null");
    check("\"boolean\"", Value::Boolean(true), "true");
    check("\"boolean\"", Value::Boolean(false), "false");
    check("\"int\"", Value::Int(i32::MIN), "-2147483648");
    check("\"long\"", Value::Long(i64::MAX), "9223372036854775807");
    check("\"float\"", Value::Float(0.1), "0.1");
    check("\"float\"", Value::Float(-16_777_216.0), "-16777216.0");
    check("\"double\"", Value::Double(0.1 + 0.2), "0.30000000000000004");
    check("\"double\"", Value::Double(5e-324), "5e-324");
    check("\"double\"", Value::Double(1e300), "1e+300");
    check("\"double\"", Value::Double(f64::NAN), "\"NaN\"");
    check("\"float\"", Value::Float(f32::INFINITY), "\"Infinity\"");
    check("\"double\"", Value::Double(f64::NEG_INFINITY), "\"-Infinity\"");
    check("\"string\"", text("ä\"\\\n\u{1}😀"), "\"ä\\\"\\\\\\n\\u0001😀\"");
    check("\"string\"", text(""), "\"\"");
    check("\"bytes\"", Value::Bytes(vec![0, 255, 16]), "\"AP8Q\"");
}

#[test]
fn named_and_nested_types() {
    let ty = r#"{"type":"enum","name":"E","symbols":["A","B"]}"#;
    check(ty, Value::Enum(1, "B".to_owned()), "\"B\"");
    check(&fixed(3, ""), Value::Fixed(3, vec![1, 2, 3]), "\"AQID\"");
    check(&fixed(0, ""), Value::Fixed(0, vec![]), "\"\"");
    let longs = r#"{"type":"array","items":"long"}"#;
    check(longs, Value::Array(vec![]), "[]");
    check(longs, Value::Array(vec![Value::Long(1), Value::Long(-2)]), "[1,-2]");
    let map = r#"{"type":"map","values":"int"}"#;
    check(map, Value::Map([("k\"".to_owned(), Value::Int(1))].into()), "{\"k\\\"\":1}");
    check(map, Value::Map(Default::default()), "{}");
    let record = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}"#;
    let value = |b| Value::Record(vec![("a".to_owned(), Value::Int(1)), ("b".to_owned(), b)]);
    let union = |branch, value| Value::Union(branch, Box::new(value));
    check(record, value(union(0, Value::Null)), "{\"a\":1,\"b\":null}");
    check(record, value(union(1, text("x"))), "{\"a\":1,\"b\":\"x\"}");
    check(r#"{"type":"record","name":"R","fields":[]}"#, Value::Record(vec![]), "{}");
    let tree =
        r#"{"type":"record","name":"Tree","fields":[{"name":"inner","type":["null","Tree"]}]}"#;
    let leaf = Value::Record(vec![("inner".to_owned(), union(0, Value::Null))]);
    let value = Value::Record(vec![("inner".to_owned(), union(1, leaf))]);
    check(tree, value, "{\"inner\":{\"inner\":null}}");
}

#[test]
fn a_string_for_json_is_the_text_of_a_value() {
    check("\"string\"", text(" {\"a\": [1, \"x\"]} "), "{\"a\":[1,\"x\"]}");
    check("\"string\"", text("1.50"), "1.50");
    check("\"string\"", text("\"x\""), "\"x\"");
    check("\"string\"", text("x"), "\"x\"");
    check("\"string\"", text("{} {}"), "\"{} {}\"");
    // What is nested too deeply to be read again stays a text.
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    check("\"string\"", text(&deep), &format!("\"{deep}\""));
    // Inside another value a text is a text.
    let texts = r#"{"type":"array","items":"string"}"#;
    check(texts, Value::Array(vec![text("1")]), "[\"1\"]");
    let list = field("v", Type::List(Box::new(Type::Json)));
    check_field(texts, Value::Array(vec![text("1"), text("x")]), list, "[1, \"x\"]");
}

#[test]
fn decimals_are_exact() {
    let value = |bytes: &[u8]| Value::Decimal(bytes.to_vec().into());
    check(DECIMAL, value(&[0x04, 0xD2]), "12.34");
    check(DECIMAL, value(&[0xFF]), "-0.01");
    check_as(DECIMAL, value(&[0x04, 0xD2]), decimal(12, 2), "12.34");
    check_as(DECIMAL, value(&[0x04, 0xB0]), Type::Int64, "12");
    let fixed = fixed(16, r#","logicalType":"decimal","precision":38,"scale":10"#);
    let most = (10_i128.pow(38) - 1).to_be_bytes();
    check_as(&fixed, value(&most), decimal(38, 10), "9999999999999999999999999999.9999999999");
    check_rejected(
        DECIMAL,
        value(&[0x04, 0xD2]),
        field("v", decimal(12, 1)),
        "wrong_type: expected at most 1 digits after the point (decimal(12,1)), found 12.34",
    );
    check_rejected(
        DECIMAL,
        value(&[0x04, 0xD2]),
        field("v", decimal(3, 2)),
        "out_of_range: does not fit decimal(3,2), found 12.34",
    );
    // Two to the power of 136.
    let mut huge = vec![1];
    huge.extend([0; 17]);
    check_rejected(
        DECIMAL,
        value(&huge),
        field("v", decimal(38, 2)),
        "out_of_range: does not fit decimal(38,2), found 871122859317602466466238995025326621327.…",
    );
    // A decimal without a precision is no decimal, so the specification.
    check(&logical("bytes", "decimal"), Value::Bytes(vec![1]), "\"AQ==\"");
    let negative = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":5}"#;
    check(negative, Value::Bytes(vec![1]), "\"AQ==\"");
}

#[test]
fn instants_have_the_form_that_the_contract_wants() {
    let at = |form| Field { time_form: form, ..field("v", Type::Timestamp) };
    let millis = logical("long", "timestamp-millis");
    let micros = logical("long", "timestamp-micros");
    let nanos = logical("long", "timestamp-nanos");
    let want = "2026-01-31T10:00:00.123";
    for form in [
        TimeForm::Rfc3339,
        TimeForm::EpochS,
        TimeForm::EpochMs,
        TimeForm::EpochUs,
        TimeForm::EpochNs,
    ] {
        let value = Value::TimestampMillis(1_769_853_600_123);
        check_field(&millis, value, at(form), want);
        let value = Value::TimestampMicros(1_769_853_600_123_000);
        check_field(&micros, value, at(form), want);
        let value = Value::TimestampNanos(1_769_853_600_123_000_000);
        check_field(&nanos, value, at(form), want);
        let value = Value::LocalTimestampMillis(1_769_853_600_123);
        check_field(&logical("long", "local-timestamp-millis"), value, at(form), want);
        let value = Value::TimestampMicros(-1);
        check_field(&micros, value, at(form), "1969-12-31T23:59:59.999999");
    }
    // Below a microsecond is cut, towards the past, as from any text.
    let value = Value::TimestampNanos(1_999);
    check_field(&nanos, value, at(TimeForm::EpochNs), "1970-01-01T00:00:00.000001");
    // Where the contract has no instant: a text, or the number under it.
    let value = || Value::TimestampMillis(1_769_853_600_123);
    check(&millis, value(), "\"2026-01-31T10:00:00.123Z\"");
    check_as(&millis, value(), Type::String, "2026-01-31T10:00:00.123Z");
    check_as(&millis, value(), Type::Int64, "1769853600123");
    let value = Value::LocalTimestampMicros(1);
    check(&logical("long", "local-timestamp-micros"), value, "\"1970-01-01T00:00:00.000001\"");
    let value = Value::LocalTimestampNanos(1);
    check(&logical("long", "local-timestamp-nanos"), value, "\"1970-01-01T00:00:00.000000001\"");
    // Numbers and texts without a meaning of their own are read as any other.
    check_field("\"long\"", Value::Long(1), at(TimeForm::EpochS), "1970-01-01T00:00:01");
    check_field(
        "\"string\"",
        text("1970-01-01T00:00:01Z"),
        at(TimeForm::Rfc3339),
        "1970-01-01T00:00:01",
    );
}

#[test]
fn instants_inside_lists_and_structs() {
    let item =
        Type::Struct(vec![("at".to_owned(), Type::Timestamp), ("n".to_owned(), Type::Int64)]);
    let mut wanted = field("v", Type::List(Box::new(item)));
    wanted.time_form = TimeForm::EpochS;
    let at = logical("long", "timestamp-millis");
    let record = format!(
        r#"{{"type":"record","name":"R","fields":[{{"name":"at","type":["null",{at}]}},{{"name":"n","type":{at}}},{{"name":"other","type":{at}}}]}}"#
    );
    let value = || {
        Value::Record(vec![
            ("at".to_owned(), Value::Union(1, Box::new(Value::TimestampMillis(1_500)))),
            ("n".to_owned(), Value::TimestampMillis(7)),
            ("other".to_owned(), Value::TimestampMillis(7)),
        ])
    };
    let ty = format!(r#"{{"type":"array","items":{record}}}"#);
    let want = "[{at: 1970-01-01T00:00:01.500, n: 7}]";
    check_field(&ty, Value::Array(vec![value()]), wanted.clone(), want);
    // A map stands for a record too: its keys are names.
    let item = Type::Struct(vec![("at".to_owned(), Type::Timestamp)]);
    let mut wanted = field("v", item);
    wanted.time_form = TimeForm::EpochMs;
    let ty = format!(r#"{{"type":"map","values":{at}}}"#);
    let value = Value::Map([("at".to_owned(), Value::TimestampMillis(1_500))].into());
    check_field(&ty, value, wanted, "{at: 1970-01-01T00:00:01.500}");
}

#[test]
fn days_times_and_the_rest() {
    let date = logical("int", "date");
    check(&date, Value::Date(20_484), "\"2026-01-31\"");
    check_as(&date, Value::Date(-1), Type::Date, "1969-12-31");
    check_as(&date, Value::Date(20_484), Type::Int64, "20484");
    let time = logical("int", "time-millis");
    check(&time, Value::TimeMillis(3_723_004), "\"01:02:03.004\"");
    check(&time, Value::TimeMillis(-1), "-1");
    check_as(&time, Value::TimeMillis(5), Type::Int64, "5");
    let value = Value::TimeMicros(86_399_999_999);
    check(&logical("long", "time-micros"), value, "\"23:59:59.999999\"");
    let id = "00112233-4455-6677-8899-aabbccddeeff";
    let uuid = uuid::Uuid::parse_str(id).expect("a UUID");
    check_as(&logical("string", "uuid"), Value::Uuid(uuid), Type::String, id);
    // `apache-avro` knows no UUIDs of 16 bytes, and checks the texts of the others.
    let told = fixed(16, r#","logicalType":"uuid""#);
    let value = Value::Fixed(16, uuid.as_bytes().to_vec());
    let shown = read_as(&fixed(16, ""), &told, value, field("v", Type::String));
    assert!(shown.contains(&format!(" v={id} ")), "{shown}");
    let told = logical("string", "uuid");
    let shown = read_as("\"string\"", &told, text("not one"), field("v", Type::String));
    assert!(shown.contains(" v=not one "), "{shown}");
    let told = fixed(12, r#","logicalType":"duration""#);
    let value = Value::Fixed(12, vec![1, 0, 0, 0, 2, 0, 0, 0, 0xDC, 5, 0, 0]);
    let shown = read_as(&fixed(12, ""), &told, value, field("v", Type::String));
    assert!(shown.contains(" v=P1M2DT1.500S "), "{shown}");
    let told = logical("bytes", "big-decimal");
    let value = Value::Bytes(vec![4, 0x04, 0xD2, 4]);
    let shown = read_as("\"bytes\"", &told, value, field("v", decimal(12, 2)));
    assert!(shown.contains(" v=12.34 "), "{shown}");
    // What says of itself something that is not known, or does not fit, is what it is underneath.
    check(&logical("long", "furlongs"), Value::Long(1), "1");
    check(&logical("int", "timestamp-millis"), Value::Int(1), "1");
    check(&logical("string", "date"), text("x"), "\"x\"");
}

#[test]
fn what_does_not_fit_the_contract_is_rejected_with_its_field() {
    let wanted = |ty| field("v", ty);
    check_rejected(
        "\"string\"",
        text("12"),
        wanted(Type::Int64),
        "wrong_type: expected int64, found text `12`",
    );
    check_rejected(
        "\"long\"",
        Value::Long(12),
        wanted(Type::String),
        "wrong_type: expected string, found 12",
    );
    check_rejected(
        "\"double\"",
        Value::Double(1.5),
        wanted(Type::Int64),
        "wrong_type: expected a whole number, found 1.5",
    );
    check_rejected(
        "\"double\"",
        Value::Double(1e300),
        wanted(Type::Int64),
        "out_of_range: does not fit int64, found 1e+300",
    );
    check_rejected(
        "\"bytes\"",
        Value::Bytes(vec![1]),
        wanted(decimal(12, 2)),
        "wrong_type: expected decimal(12,2), found text `AQ==`",
    );
    check_rejected(
        &logical("int", "date"),
        Value::Date(1),
        wanted(Type::Timestamp),
        "wrong_type: expected a time such as 2026-01-31T10:00:00Z, found text `1970-01-02`",
    );
    check_rejected(
        &logical("long", "timestamp-millis"),
        Value::TimestampMillis(1),
        wanted(Type::Date),
        "wrong_type: expected a day such as 2026-01-31, found text `1970-01-01T00:00:00.001Z`",
    );
    check_rejected(
        r#"["null","int"]"#,
        Value::Union(0, Box::new(Value::Null)),
        Field { required: true, ..wanted(Type::Int64) },
        "missing_field: required, but null",
    );
}

#[test]
fn values_without_a_json_of_their_type_are_out_of_range() {
    for (value, shown) in
        [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")]
    {
        for ty in [Type::Float64, decimal(12, 2), Type::Int64, Type::String, Type::Bool] {
            let want = format!("out_of_range: expected a finite number, found {shown}");
            check_rejected("\"double\"", Value::Double(value), field("v", ty), &want);
        }
    }
    let want = "out_of_range: outside the years 1 to 9999, found 253402300800000";
    let millis = logical("long", "timestamp-millis");
    let value = || Value::TimestampMillis(253_402_300_800_000);
    check_rejected(&millis, value(), field("v", Type::Timestamp), want);
    check(&millis, value(), "253402300800000");
    let form = Field { time_form: TimeForm::EpochS, ..field("v", Type::Timestamp) };
    let want = "out_of_range: outside the years 1 to 9999, found 253402300800.000";
    check_rejected(&millis, value(), form, want);
    let want = "out_of_range: outside the years 1 to 9999, found 2932897";
    check_rejected(&logical("int", "date"), Value::Date(2_932_897), field("v", Type::Date), want);
    // Deep inside, the place is told.
    let item = Type::Struct(vec![("x".to_owned(), Type::Float64)]);
    let ty = r#"{"type":"array","items":{"type":"record","name":"R","fields":[{"name":"x","type":"double"}]}}"#;
    let value = |x| Value::Record(vec![("x".to_owned(), Value::Double(x))]);
    let value = Value::Array(vec![value(1.0), value(f64::NAN)]);
    let shown = read(ty, value, field("v", Type::List(Box::new(item))));
    assert!(shown.starts_with("rejected out_of_range field=v[1].x id=1 type=e"), "{shown}");
    // And personal values are not.
    let field = Field { pii: true, ..field("v", Type::Float64) };
    let shown = read("\"double\"", Value::Double(f64::NAN), field);
    assert!(shown.ends_with(": expected a finite number"), "{shown}");
}
