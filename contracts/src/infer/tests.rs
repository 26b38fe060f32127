use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn draft(samples: &[Value]) -> String {
    infer(samples, "sample")
}

#[track_caller]
fn loads(text: &str) {
    if let Err(found) = crate::load(&[(PathBuf::from("draft.yaml"), text.to_owned())]) {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        panic!("{}\n{text}", found.join("\n"));
    }
}

#[test]
fn the_draft_of_plain_events_says_what_they_have() {
    let samples: Vec<Value> = (0..20)
        .map(|i| {
            json!({
                "event_id": format!("id-{i}"), "event_type": "thing.made",
                "timestamp": "2025-01-01T00:00:00Z", "thing_id": format!("T-{:04}", i),
                "state": if i % 2 == 0 { "new" } else { "old" }, "price": 1.25, "n": i,
                "note": if i == 3 { Value::Null } else { json!("x y") },
            })
        })
        .collect();
    let text = draft(&samples);
    loads(&text);
    for line in [
        "names: [thing.made]",
        "envelope: {type: event_type, id: event_id, time: timestamp}",
        "key: thing_id",
        "  thing_id: {type: string, pattern: 'T-\\d{4}'}",
        "  state: {type: string, values: [new, old]}",
        "  price: 'decimal(18,2)'",
        "  n: int64",
        "  note: {type: string, values: ['x y'], required: false}",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn nested_envelopes_and_epoch_times_are_found() {
    let samples: Vec<Value> = (0..3)
        .map(|i| json!({"meta": {"type": "a", "id": i, "ts": 1_735_732_800_123_i64 + i}, "v": {"w": [i]}}))
        .collect();
    let text = draft(&samples);
    loads(&text);
    assert!(
        text.contains(
            "envelope: {type: meta.type, id: meta.id, time: {field: meta.ts, form: epoch_ms}}"
        ),
        "{text}"
    );
    assert!(text.contains("v: 'struct<w: list<int64>>'"), "{text}");
}

#[test]
fn no_samples_still_give_a_contract() {
    loads(&draft(&[]));
    loads(&draft(&[json!(1), json!({})]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("2025-01-01T00:00:00Z")),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z_. ]{0,6}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_draft_of_anything_loads(samples in prop::collection::vec(any_json(), 0..12), name in ".{0,10}") {
        loads(&infer(&samples, &name));
    }
}
