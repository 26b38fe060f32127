//! What holds for any bytes.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::Domain;
use contracts::types::Type;
use proptest::prelude::*;
use serde_json::Value;

use super::support::{batch, contract, decimal, domain, field, required};
use crate::decode::{Decoder, accounts_for_all, json};

fn any_domain() -> Arc<Domain> {
    let item =
        Type::Struct(vec![("name".to_owned(), Type::String), ("count".to_owned(), Type::Int64)]);
    let fields = vec![
        required("key", Type::String),
        field("amount", decimal(12, 2)),
        field("weight", Type::Float64),
        field("items", Type::List(Box::new(item))),
        field("day", Type::Date),
        field("ok", Type::Bool),
        field("any", Type::Json),
    ];
    Arc::new(domain(vec![vec![contract(&["a", "b"], fields)]]))
}

/// JSON that is often, but not always, what the contract wants.
fn records() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |value| {
            serde_json::Number::from_f64(value).map(Value::Number)
        }),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("2026-01-31")),
        Just(Value::from("2026-01-31T10:00:00Z")),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("name|count|[a-z]{1,3}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    let name = "key|amount|weight|items|day|ok|any|event_id|timestamp|[a-z]{1,4}";
    (prop_oneof!["a", "b", "c"], "[a-z0-9]{0,8}", prop::collection::vec((name, value), 0..10))
        .prop_map(|(event_type, id, members)| {
            let mut record = serde_json::Map::new();
            record.insert("event_type".to_owned(), event_type.into());
            record.insert("event_id".to_owned(), id.into());
            record.insert("timestamp".to_owned(), "2026-01-31T10:00:00Z".into());
            record.insert("key".to_owned(), "k".into());
            record.extend(members);
            Value::Object(record)
        })
}

/// The same record with its members turned around and space between all tokens.
fn disguise(record: &Value, turn: usize) -> String {
    fn write(value: &Value, text: &mut String) {
        match value {
            Value::Array(values) => {
                text.push_str(" [ ");
                for (n, value) in values.iter().enumerate() {
                    text.push_str(if n == 0 { "\t" } else { " ,\r" });
                    write(value, text);
                }
                text.push_str(" ] ");
            }
            Value::Object(members) => {
                text.push_str(" { ");
                for (n, (name, value)) in members.iter().enumerate() {
                    text.push_str(if n == 0 { " " } else { " , " });
                    text.push_str(&Value::from(name.as_str()).to_string());
                    text.push_str(" : ");
                    write(value, text);
                }
                text.push_str(" } ");
            }
            other => text.push_str(&other.to_string()),
        }
    }
    let Value::Object(members) = record else { return record.to_string() };
    let mut members: Vec<_> = members.clone().into_iter().collect();
    let turn = turn % members.len();
    members.rotate_left(turn);
    let mut text = String::new();
    write(&Value::Object(members.into_iter().collect()), &mut text);
    text
}

/// Everything but `_extra`, which keeps the order of the members.
fn columns(batch: &RecordBatch) -> RecordBatch {
    let last = batch.num_columns() - 1;
    batch.project(&(0..last).collect::<Vec<_>>()).expect("columns exist")
}

fn check_any(lines: &[&[u8]]) {
    let decoded = Decoder::new(&any_domain()).decode(batch(lines));
    assert!(accounts_for_all(&decoded));
}

proptest! {
    #[test]
    fn any_bytes_are_accounted_for(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
    ) {
        check_any(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn almost_json_is_accounted_for(
        records in prop::collection::vec(records(), 1..6),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut lines: Vec<Vec<u8>> =
            records.iter().map(|record| record.to_string().into_bytes()).collect();
        for (at, byte) in cuts {
            let line = at.index(lines.len());
            let place = at.index(lines[line].len());
            lines[line][place] = byte;
        }
        check_any(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn order_and_space_make_no_difference(record in records(), turn in 0..12_usize) {
        let domain = any_domain();
        let decode = |text: &str| Decoder::new(&domain).decode(batch(&[text.as_bytes()]));
        let plain = decode(&record.to_string());
        let other = decode(&disguise(&record, turn));
        prop_assert_eq!(plain.rows.len(), other.rows.len());
        for (plain, other) in plain.rows.iter().zip(&other.rows) {
            prop_assert_eq!(columns(&plain.columns), columns(&other.columns));
        }
        let reasons = |rejected: &[crate::outcome::Rejection]| {
            rejected.iter().map(|one| (one.reason, one.field.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(reasons(&plain.rejected), reasons(&other.rejected));
    }

    #[test]
    fn neighbours_make_no_difference(records in prop::collection::vec(records(), 1..8)) {
        let domain = any_domain();
        let texts: Vec<String> = records.iter().map(Value::to_string).collect();
        let lines: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let mut decoder = Decoder::new(&domain);
        let together = decoder.decode(batch(&lines));
        for (ordinal, line) in lines.iter().enumerate() {
            let mut alone = decoder.decode(batch(&[line]));
            for rejection in &mut alone.rejected {
                rejection.ordinal = ordinal as u32;
            }
            let same = together.rejected.iter().filter(|one| one.ordinal == ordinal as u32);
            prop_assert!(alone.rejected.iter().eq(same));
            for rows in &alone.rows {
                let all = &together.rows[0];
                let row = all.ordinals.iter().position(|found| *found == ordinal as u32);
                prop_assert_eq!(&all.columns.slice(row.expect("a row too"), 1), &rows.columns);
            }
        }
    }

    #[test]
    fn the_scanner_agrees_with_serde(text in r#"[\{\}\[\]",:\\u0-9eE.+\- a-fntrlsD\t]{0,24}"#) {
        scanner_agrees(&text)?;
    }

    #[test]
    fn the_scanner_agrees_with_serde_near_json(
        record in records(),
        at in any::<prop::sample::Index>(),
        put in r#"[\{\}\[\]",:\\u0-9eE.+\- a-fntrls\t]{0,2}"#,
    ) {
        let mut text = record.to_string();
        let mut place = at.index(text.len());
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        text.insert_str(place, &put);
        scanner_agrees(&text)?;
    }
}

/// `serde_json` keeps the last of two equal members and refuses numbers beyond `f64`; apart from
/// that both must say the same.
fn scanner_agrees(text: &str) -> Result<(), TestCaseError> {
    let serde = serde_json::from_str::<Value>(text);
    let mut members = Vec::new();
    let ours = json::members(text, &mut members);
    match serde {
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Ok(Value::Object(object)) => {
            prop_assert!(ours.is_ok(), "{:?}", ours);
            for member in &members {
                prop_assert!(object.contains_key(&*member.name));
                let value: Value = serde_json::from_str(member.value.text).expect("scanned");
                if members.iter().filter(|other| other.name == member.name).count() == 1 {
                    prop_assert_eq!(&object[&*member.name], &value);
                }
                if let (Some(text), Some(same)) = (member.value.string(), value.as_str()) {
                    prop_assert_eq!(&*text, same);
                }
                let mut compact = String::new();
                json::compact(member.value.text, &mut compact);
                prop_assert_eq!(serde_json::from_str::<Value>(&compact).expect("compacted"), value);
            }
        }
        Ok(_) => prop_assert!(ours.is_err()),
        Err(_) => prop_assert!(ours.is_err(), "accepted {:?}", text),
    }
    Ok(())
}
