//! Envelopes, names, aliases, and schemas that do not know what the contract does.

use apache_avro::types::Value;
use contracts::model::{TimeForm, UnknownEvent};
use contracts::types::Type;

use super::support::{
    Schemas, avro_batch, decode, decoder, event, event_schema, events, of_contracts, written,
};
use crate::decode::tests::support::{contract, domain, field, place, required, show};

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn member(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

#[test]
fn members_that_one_side_does_not_know() {
    let schema = event_schema(
        r#"{"name":"more","type":{"type":"map","values":"long"}},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}"#,
    );
    let more = Value::Map([("a".to_owned(), Value::Long(1))].into());
    let record =
        written(1, &schema, event(vec![("more", more), ("at", Value::TimestampMillis(0))]));
    let fields = || vec![field("may", Type::String)];
    let batch = decode(events(fields()), Schemas::of(&[&schema]), std::slice::from_ref(&record));
    assert_eq!(
        show(&batch, 0),
        "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default may=null _absent=1 \
         _extra={\"more\":{\"a\":1},\"at\":\"1970-01-01T00:00:00.000Z\"}"
    );
    let must = vec![required("must", Type::String)];
    let batch = decode(events(must), Schemas::of(&[&schema]), std::slice::from_ref(&record));
    assert_eq!(
        show(&batch, 0),
        "rejected missing_field field=must id=1 type=e time=1769853600000000 contract=e v1: \
         required, but absent"
    );
    let mut with_default = field("may", Type::String);
    with_default.default = Some("x".into());
    let batch = decode(events(vec![with_default]), Schemas::of(&[&schema]), &[record]);
    assert!(show(&batch, 0).contains(" may=x _absent=0 "));
}

#[test]
fn an_envelope_may_lie_deeper_and_have_its_own_form() {
    let schema = r#"{"type":"record","name":"Event","fields":[
        {"name":"meta","type":{"type":"record","name":"Meta","fields":[
            {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["made","changed"]}},
            {"name":"id","type":"long"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
            {"name":"v","type":"int"},
            {"name":"owner","type":["null","string"]}
        ]}}
    ]}"#;
    let version = |version| {
        let mut contract = contract(&["made", "changed"], vec![]);
        contract.version = version;
        contract.envelope.event_type = place("meta.kind");
        contract.envelope.id = place("meta.id");
        contract.envelope.time = place("meta.at");
        contract.envelope.version = Some(place("meta.v"));
        contract.envelope.tenant = Some(place("meta.owner"));
        contract.envelope.time_form =
            if version == 1 { TimeForm::EpochMs } else { TimeForm::Rfc3339 };
        contract
    };
    let record = |kind: u32, v, owner: Option<&str>| {
        let owner = match owner {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(owner) => Value::Union(1, Box::new(text(owner))),
        };
        let meta = Value::Record(vec![
            member("kind", Value::Enum(kind, ["made", "changed"][kind as usize].to_owned())),
            member("id", Value::Long(7)),
            member("at", Value::TimestampMicros(1_500_000)),
            member("v", Value::Int(v)),
            member("owner", owner),
        ]);
        written(1, schema, Value::Record(vec![member("meta", meta)]))
    };
    let records =
        [record(0, 1, None), record(1, 2, Some("b")), record(0, 1, Some("c")), record(0, 3, None)];
    let domain = domain(vec![vec![version(1), version(2)]]);
    let batch = decode(domain, Schemas::of(&[schema]), &records);
    let rows: Vec<String> = (0..4).map(|ordinal| show(&batch, ordinal)).collect();
    let start = "_id=7 _time=1970-01-01T00:00:01.500";
    assert!(
        rows[0].starts_with(&format!("made v1 _type=made {start} _tenant=default")),
        "{rows:?}"
    );
    assert!(rows[1].starts_with(&format!("made v2 _type=changed {start} _tenant=b")), "{rows:?}");
    assert!(rows[2].starts_with(&format!("made v1 _type=made {start} _tenant=c")), "{rows:?}");
    assert_eq!(
        rows[3],
        "rejected unknown_version field=meta.v id=7 type=made time=1500000: \
         event type `made` has versions 1, 2, not 3"
    );
}

#[test]
fn one_schema_for_contracts_with_other_forms() {
    let schema = event_schema("");
    let with_form = |name: &str, form| {
        let mut contract = contract(&[name], vec![]);
        contract.envelope.time_form = form;
        contract
    };
    let contracts = || {
        vec![
            with_form("text", TimeForm::Rfc3339),
            with_form("millis", TimeForm::EpochMs),
            with_form("nanos", TimeForm::EpochNs),
        ]
    };
    let record = |name: &str| {
        let Value::Record(mut members) = event(vec![]) else { panic!("a record") };
        members[0].1 = text(name);
        written(1, &schema, Value::Record(members))
    };
    let names = ["text", "millis", "other", "nanos", "text", "text", "nanos"];
    let records: Vec<Vec<u8>> = names.iter().map(|name| record(name)).collect();
    let batch = decode(of_contracts(contracts()), Schemas::of(&[&schema]), &records);
    for (ordinal, name) in names.iter().enumerate() {
        let shown = show(&batch, ordinal as u32);
        let want = match *name {
            "other" => "rejected unknown_event_type id=1 type=other time=1769853600000000: \
                        no contract names event type `other`"
                .to_owned(),
            name => format!(
                "{name} v1 _type={name} _id=1 _time=2026-01-31T10:00:00 _tenant=default \
                 _absent=0 _extra=null"
            ),
        };
        assert_eq!(shown, want);
    }
}

#[test]
fn unknown_types_may_be_ignored() {
    let schema = event_schema(r#"{"name":"x","type":"double"}"#);
    let mut domain = of_contracts(vec![contract(&["other"], vec![field("x", Type::Float64)])]);
    domain.unknown_event = UnknownEvent::Ignore;
    // Not even a value that its contract could not take is looked at.
    let record = written(1, &schema, event(vec![("x", Value::Double(f64::NAN))]));
    let batch = decode(domain, Schemas::of(&[&schema]), &[record]);
    assert_eq!(show(&batch, 0), "ignored e");
}

#[test]
fn the_name_of_the_record_stands_for_a_type_that_no_member_says() {
    let schema = |name: &str, more: &str| {
        format!(
            r#"{{"type":"record","name":"{name}","namespace":"shop","fields":[
                {{"name":"event_id","type":"string"}},
                {{"name":"timestamp","type":"string"}}{more}
            ]}}"#
        )
    };
    let record = |id, schema: &str| {
        let members =
            vec![member("event_id", text("1")), member("timestamp", text("2026-01-31T10:00:00Z"))];
        written(id, schema, Value::Record(members))
    };
    let texts = [schema("OrderMade", ""), schema("OrderGone", ""), schema("Other", "")];
    let either = format!("[{},{}]", texts[1], texts[0]);
    let mut records: Vec<Vec<u8>> =
        texts.iter().zip(1..).map(|(schema, id)| record(id, schema)).collect();
    // Several types in one topic are a union at the top.
    let mut in_union = records[0].clone();
    in_union.splice(1..5, [0, 0, 0, 4, 2]);
    records.push(in_union);
    let contracts = || {
        vec![
            contract(&["shop.OrderMade"], vec![]),
            contract(&["OrderGone"], vec![required("why", Type::String)]),
        ]
    };
    let schemas = || Schemas::of(&[&texts[0], &texts[1], &texts[2], &either]);
    let batch = decode(of_contracts(contracts()), schemas(), &records);
    let made = "shop.OrderMade v1 _type=shop.OrderMade _id=1 _time=2026-01-31T10:00:00 \
                _tenant=default _absent=0 _extra=null";
    assert_eq!(show(&batch, 0), made);
    assert_eq!(
        show(&batch, 1),
        "rejected missing_field field=why id=1 type=OrderGone time=1769853600000000 \
         contract=OrderGone v1: required, but absent"
    );
    assert_eq!(
        show(&batch, 2),
        "rejected missing_field field=event_type id=1 time=1769853600000000: required, but absent"
    );
    assert_eq!(show(&batch, 3), made);

    // A member that says a type goes first, whatever it says.
    let schema = schema("OrderMade", r#",{"name":"event_type","type":["null","string"]}"#);
    let record = |value| {
        let members = vec![
            member("event_id", text("1")),
            member("timestamp", text("2026-01-31T10:00:00Z")),
            member("event_type", value),
        ];
        written(1, &schema, Value::Record(members))
    };
    let records = [
        record(Value::Union(1, Box::new(text("OrderGone")))),
        record(Value::Union(1, Box::new(text("else")))),
        record(Value::Union(0, Box::new(Value::Null))),
    ];
    let batch = decode(of_contracts(contracts()), Schemas::of(&[&schema]), &records);
    assert!(show(&batch, 0).contains("contract=OrderGone v1"));
    assert!(show(&batch, 1).starts_with("rejected unknown_event_type"));
    assert!(show(&batch, 2).starts_with("rejected missing_field field=event_type"));
}

#[test]
fn a_member_is_found_under_a_name_that_it_once_had() {
    let schema = r#"{"type":"record","name":"E","fields":[
        {"name":"kind","type":"string","aliases":["event_type"]},
        {"name":"id","type":"string","aliases":["event_id","key"]},
        {"name":"time","type":{"type":"long","logicalType":"timestamp-millis"},"aliases":["timestamp"]},
        {"name":"total","type":"int","aliases":["amount","sum"]},
        {"name":"a","type":"int","aliases":["twice"]},
        {"name":"b","type":"int","aliases":["twice"]},
        {"name":"kept","type":"int","aliases":["given"]},
        {"name":"in","type":{"type":"record","name":"I","fields":[{"name":"y","type":"int","aliases":["x"]}]}}
    ]}"#;
    let record = written(
        1,
        schema,
        Value::Record(vec![
            member("kind", text("e")),
            member("id", text("1")),
            member("time", Value::TimestampMillis(1_769_853_600_000)),
            member("total", Value::Int(5)),
            member("a", Value::Int(6)),
            member("b", Value::Int(7)),
            member("kept", Value::Int(8)),
            member("in", Value::Record(vec![member("y", Value::Int(9))])),
        ]),
    );
    let int = |name: &str| field(name, Type::Int64);
    let inner = Type::Struct(vec![("x".to_owned(), Type::Int64)]);
    let fields = vec![int("amount"), int("twice"), int("given"), int("kept"), field("in", inner)];
    let batch = decode(events(fields), Schemas::of(&[schema]), &[record]);
    assert_eq!(
        show(&batch, 0),
        "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default amount=5 twice=null \
         given=null kept=8 in={x: 9} _absent=6 _extra={\"a\":6,\"b\":7}"
    );
}

#[test]
fn a_declared_member_of_the_envelope_has_the_envelopes_form() {
    let schema = event_schema("");
    let mut contract = contract(&["e"], vec![field("timestamp", Type::Int64)]);
    contract.envelope.time_form = TimeForm::EpochS;
    let record = written(1, &schema, event(vec![]));
    let batch = decode(of_contracts(vec![contract]), Schemas::of(&[&schema]), &[record]);
    assert_eq!(
        show(&batch, 0),
        "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default timestamp=1769853600 \
         _absent=0 _extra=null"
    );
}

#[test]
fn records_in_json_are_read_by_the_same_decoder() {
    let schema = event_schema("");
    let mut decoder = decoder(events(vec![]), Schemas::of(&[&schema]));
    let record = written(1, &schema, event(vec![]));
    let avro = decoder.decode(avro_batch(&[record]));
    let line = br#"{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00.000Z"}"#;
    let json = decoder.decode(crate::decode::tests::support::batch(&[line]));
    assert_eq!(show(&avro, 0), show(&json, 0));
    assert_eq!(avro.rows[0].columns, json.rows[0].columns);
}

#[test]
fn records_of_a_schema_that_we_export_are_read() {
    let contracts = r#"
kind: event
names: [parcel.sent]
version: 1
format: avro
envelope: {type: meta.kind, id: meta.id, time: {field: meta.at, form: epoch_ms}, version: v}
fields:
  name: string
  weight: {type: 'decimal(12,3)', required: false}
  ok: bool
  size: {type: float64, default: 1.5}
  at_s: {type: timestamp, form: epoch_s}
  at_us: {type: timestamp, form: epoch_us}
  at_ns: {type: timestamp, form: epoch_ns}
  at_text: timestamp
  day: date
  note: json
  items: {type: 'list<struct<sku: string, pieces: int64, at: timestamp>>'}
"#;
    let domain = match contracts::load(&[("parcels.yaml".into(), contracts.to_owned())]) {
        Ok(domain) => domain,
        Err(errors) => panic!("{}", errors[0]),
    };
    let contract = &domain.families[0].versions[0];
    let schema = contracts::export::avro(&domain, contract).expect("exported").to_string();
    let some = |branch, value| Value::Union(branch, Box::new(value));
    let meta = Value::Record(vec![
        member("kind", text("parcel.sent")),
        member("id", text("7")),
        member("at", Value::TimestampMillis(1_500)),
    ]);
    let item = Value::Record(vec![
        member("sku", some(1, text("a"))),
        member("pieces", some(0, Value::Null)),
        member("at", some(1, text("1970-01-01T00:00:01.5Z"))),
    ]);
    let record = Value::Record(vec![
        member("meta", meta),
        member("v", some(1, Value::Long(1))),
        member("name", text("n")),
        member("weight", some(1, Value::Decimal(vec![0x04, 0xD2].into()))),
        member("ok", Value::Boolean(true)),
        member("size", Value::Double(0.1)),
        member("at_s", Value::Long(1)),
        member("at_us", Value::TimestampMicros(1)),
        member("at_ns", Value::Long(1_000)),
        member("at_text", text("1970-01-01T00:00:01Z")),
        member("day", Value::Date(1)),
        member("note", text(r#"{"a":1}"#)),
        member("items", Value::Array(vec![item])),
    ]);
    let record = written(1, &schema, record);
    let batch = decode(domain, Schemas::of(&[&schema]), &[record]);
    assert_eq!(
        show(&batch, 0),
        "parcel.sent v1 _type=parcel.sent _id=7 _time=1970-01-01T00:00:01.500 _tenant=default name=n \
         weight=1.234 ok=true size=0.1 at_s=1970-01-01T00:00:01 at_us=1970-01-01T00:00:00.000001 \
         at_ns=1970-01-01T00:00:00.000001 at_text=1970-01-01T00:00:01 day=1970-01-02 \
         note={\"a\":1} items=[{sku: a, pieces: null, at: 1970-01-01T00:00:01.500}] _absent=0 \
         _extra={\"meta\":{\"kind\":\"parcel.sent\",\"id\":\"7\",\"at\":1500}}"
    );
}
