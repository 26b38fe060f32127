//! What holds for any bytes, and that `apache-avro` means the same by what it writes.

use std::collections::HashMap;

use apache_avro::types::Value;
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use contracts::model::TimeForm;
use contracts::types::Type;
use proptest::prelude::*;
use serde_json::json;

use super::support::{
    Schemas, avro_batch, decode, decoder, event, event_schema, events, framed, of_contracts,
    written,
};
use crate::decode::accounts_for_all;
use crate::decode::tests::support::{contract, decimal, field, show};

/// A type in Avro, a value of it, and the JSON that stands for that value.
#[derive(Debug, Clone)]
struct Typed {
    ty: serde_json::Value,
    value: Value,
    json: serde_json::Value,
}

fn typed(ty: serde_json::Value, value: Value, json: impl Into<serde_json::Value>) -> Typed {
    Typed { ty, value, json: json.into() }
}

/// A number of that type as `serde_json` reads what it wrote. Two things differ from writer to writer
/// and from reader to reader, and are none of ours: which of two equally near shortest texts stands
/// for a number (1401184.25 is "1401184.2" or "1401184.3" as a float), and the last bit of a number
/// that was read in haste. So the text is asked to be exact, and read by the same reader.
fn number<N>(number: N) -> serde_json::Value
where
    N: serde::Serialize + std::str::FromStr<Err: std::fmt::Debug> + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string(&number).expect("JSON");
    assert_eq!(text.parse::<N>().expect("a number"), number);
    serde_json::from_str(&text).expect("JSON")
}

fn leaf() -> impl Strategy<Value = Typed> {
    let logical = |ty: &str, logical: &str| json!({"type": ty, "logicalType": logical});
    prop_oneof![
        Just(typed(json!("null"), Value::Null, json!(null))),
        any::<bool>().prop_map(|is| typed(json!("boolean"), Value::Boolean(is), is)),
        any::<i32>().prop_map(|n| typed(json!("int"), Value::Int(n), n)),
        any::<i64>().prop_map(|n| typed(json!("long"), Value::Long(n), n)),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| typed(
            json!("double"),
            Value::Double(n),
            number(n)
        )),
        any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| typed(
            json!("float"),
            Value::Float(n),
            number(n)
        )),
        "(\\PC|[\\x00-\\x1f\"\\\\]){0,12}".prop_map(|text| typed(
            json!("string"),
            Value::String(text.clone()),
            text
        )),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            typed(json!("bytes"), Value::Bytes(bytes), text)
        }),
        (-719_162_i32..2_932_896).prop_map(move |day| {
            let date = chrono::NaiveDate::from_num_days_from_ce_opt(day + 719_163).unwrap();
            typed(logical("int", "date"), Value::Date(day), date.format("%Y-%m-%d").to_string())
        }),
        (-62_135_596_800_000_i64..253_402_300_800_000).prop_map(move |count| {
            let at = chrono::DateTime::from_timestamp_millis(count).unwrap();
            let text = at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            typed(logical("long", "timestamp-millis"), Value::TimestampMillis(count), text)
        }),
    ]
}

fn any_typed() -> impl Strategy<Value = Typed> {
    leaf().prop_recursive(3, 24, 4, |inner| {
        let branch = |is_null: bool, inner: Typed| match (is_null, inner.ty.is_string()) {
            // A union in a union, or two nulls, is not allowed.
            _ if inner.ty == json!("null") || inner.ty.is_array() => inner,
            (true, _) => {
                let value = Value::Union(0, Box::new(Value::Null));
                typed(json!(["null", inner.ty]), value, json!(null))
            }
            (false, _) => {
                let value = Value::Union(1, Box::new(inner.value));
                typed(json!(["null", inner.ty]), value, inner.json)
            }
        };
        prop_oneof![
            (any::<bool>(), inner.clone()).prop_map(move |(null, inner)| branch(null, inner)),
            (inner.clone(), 0..4_usize).prop_map(|(item, n)| {
                let json = serde_json::Value::from(vec![item.json.clone(); n]);
                let value = Value::Array(vec![item.value.clone(); n]);
                typed(json!({"type": "array", "items": item.ty}), value, json)
            }),
            (inner.clone(), prop::collection::hash_set("\\PC{0,5}", 0..3)).prop_map(
                |(item, keys)| {
                    let json = keys.iter().map(|key| (key.clone(), item.json.clone())).collect();
                    let values = keys.into_iter().map(|key| (key, item.value.clone())).collect();
                    let ty = json!({"type": "map", "values": item.ty});
                    typed(ty, Value::Map(values), serde_json::Value::Object(json))
                }
            ),
            prop::collection::vec(inner, 0..4).prop_map(record),
        ]
    })
}

fn record(members: Vec<Typed>) -> Typed {
    let name = format!("R{}", uuid::Uuid::new_v4().simple());
    let fields: Vec<_> = members
        .iter()
        .enumerate()
        .map(|(at, member)| json!({"name": format!("m{at}"), "type": member.ty}))
        .collect();
    let json =
        members.iter().enumerate().map(|(at, member)| (format!("m{at}"), member.json.clone()));
    let json = serde_json::Value::Object(json.collect());
    let ty = json!({"type": "record", "name": name, "fields": fields});
    let values = members.into_iter().enumerate();
    let values = values.map(|(at, member)| (format!("m{at}"), member.value)).collect();
    typed(ty, Value::Record(values), json)
}

/// Schemas whose bytes can say much with little.
const NASTY: [&str; 5] = [
    r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N",{"type":"array","items":"N"}]}]}"#,
    r#"{"type":"record","name":"N","fields":[{"name":"event_type","type":["null","string","bytes"]},{"name":"a","type":{"type":"array","items":["null","int",{"type":"map","values":"double"}]}}]}"#,
    r#"{"type":"record","name":"N","fields":[{"name":"a","type":{"type":"array","items":"null"}},{"name":"amount","type":{"type":"bytes","logicalType":"big-decimal"}}]}"#,
    r#"[{"type":"record","name":"A","fields":[{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":9}}]},{"type":"record","name":"B","fields":[{"name":"event_id","type":"string"},{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-nanos"}}]}]"#,
    r#"{"type":"fixed","name":"f","size":3}"#,
];

fn nasty_events() -> contracts::model::Domain {
    let fields = || vec![field("amount", decimal(12, 2)), field("a", Type::Json)];
    let mut other = contract(&["B"], fields());
    other.envelope.time_form = TimeForm::EpochUs;
    of_contracts(vec![contract(&["A", "N", "e"], fields()), other])
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in any_typed()) {
        let schema = event_schema(&json!({"name": "v", "type": value.ty}).to_string());
        let record = written(1, &schema, event(vec![("v", value.value)]));
        let batch = decode(events(vec![]), Schemas::of(&[&schema]), &[record]);
        let shown = show(&batch, 0);
        let text = shown.strip_prefix(
            "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default _absent=0 _extra=",
        );
        let text = text.ok_or_else(|| TestCaseError::fail(shown.clone()))?;
        let is: serde_json::Value = serde_json::from_str(text).expect("JSON");
        prop_assert_eq!(is, json!({"v": value.json}));
    }

    #[test]
    fn doubles_come_back(number in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
        let schema = event_schema(r#"{"name":"v","type":"double"}"#);
        let record = written(1, &schema, event(vec![("v", Value::Double(number))]));
        let fields = vec![field("v", Type::Float64)];
        let batch = decode(events(fields), Schemas::of(&[&schema]), &[record]);
        let column = batch.rows[0].columns.column_by_name("v").expect("declared");
        prop_assert_eq!(column.as_primitive::<Float64Type>().value(0), number);
    }

    #[test]
    fn a_part_of_a_record_is_none(value in any_typed(), cut in any::<prop::sample::Index>()) {
        let schema = event_schema(&json!({"name": "v", "type": value.ty}).to_string());
        let record = written(1, &schema, event(vec![("v", value.value)]));
        let part = record[..cut.index(record.len())].to_vec();
        let mut more = record.clone();
        more.push(0);
        let records = [part, record, more];
        let batch = decode(events(vec![]), Schemas::of(&[&schema]), &records);
        prop_assert!(show(&batch, 0).starts_with("rejected not_avro"), "{}", show(&batch, 0));
        prop_assert!(show(&batch, 1).starts_with("e v1 "), "{}", show(&batch, 1));
        prop_assert!(show(&batch, 2).starts_with("rejected not_avro"), "{}", show(&batch, 2));
    }

    #[test]
    fn any_bytes_are_accounted_for_and_stand_alone(
        bodies in prop::collection::vec(
            (0..7_u32, prop::collection::vec(any::<u8>(), 0..40)), 1..8
        ),
    ) {
        let records: Vec<Vec<u8>> = bodies.iter().map(|(id, body)| framed(*id, body)).collect();
        let mut together = decoder(nasty_events(), Schemas::of(&NASTY));
        let all = together.decode(avro_batch(&records));
        prop_assert!(accounts_for_all(&all));
        for (ordinal, record) in records.iter().enumerate() {
            let alone = decode(nasty_events(), Schemas::of(&NASTY), std::slice::from_ref(record));
            prop_assert_eq!(show(&alone, 0), show(&all, ordinal as u32));
        }
    }

    #[test]
    fn almost_good_records_are_accounted_for(
        value in any_typed(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let schema = event_schema(&json!({"name": "v", "type": value.ty}).to_string());
        let mut record = written(1, &schema, event(vec![("v", value.value)]));
        for (at, byte) in changes {
            let at = 5 + at.index(record.len() - 5);
            record[at] = byte;
        }
        let batch = decode(events(vec![field("v", Type::Json)]), Schemas::of(&[&schema]), &[record]);
        prop_assert!(accounts_for_all(&batch));
        // Whatever came through is JSON.
        for rows in &batch.rows {
            let column = rows.columns.column_by_name("v").expect("declared");
            let text = arrow::util::display::array_value_to_string(column, 0).expect("shown");
            if !text.is_empty() {
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
        }
    }

    #[test]
    fn any_text_is_a_schema_or_refused(text in r#"[\{\}\[\]",: a-z]{0,40}"#) {
        let schemas = Schemas(HashMap::from([(1, crate::decode::WriterSchema::Avro {
            schema: text.into(),
            references: Default::default(),
        })]));
        let batch = decode(events(vec![]), schemas, &[framed(1, &[0, 0])]);
        prop_assert!(accounts_for_all(&batch));
    }
}
