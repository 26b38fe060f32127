//! Event contracts as Avro and JSON Schema: what they look like, that Avro's own parser takes them,
//! and that records which the contracts describe fit them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::Schema as Avro;
use apache_avro::types::Value as AvroValue;
use contracts::export::{avro, json_schema};
use contracts::model::{Domain, EventContract};
use serde_json::{Map, Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn loaded(result: Result<Domain, Vec<contracts::Diagnostic>>) -> Domain {
    result.unwrap_or_else(|found| {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn domain(text: &str) -> Domain {
    loaded(contracts::load(&[(PathBuf::from("test.yaml"), text.to_owned())]))
}

/// The two domains of the repository, and one that has every type and place.
fn domains() -> Vec<(&'static str, Domain)> {
    let shipped = |name: &str| loaded(contracts::load_dir(&root().join("domains").join(name)));
    let depot = fs::read_to_string(root().join("tests/cases/export/depot.yaml"));
    vec![
        ("shop", shipped("shop")),
        ("flights", shipped("flights")),
        ("depot", domain(&depot.expect("a readable case"))),
    ]
}

fn versions(domain: &Domain) -> impl Iterator<Item = &EventContract> {
    domain.families.iter().flat_map(|family| &family.versions).map(AsRef::as_ref)
}

#[track_caller]
fn parsed(domain: &Domain, contract: &EventContract) -> Avro {
    let schema = avro(domain, contract).expect("an Avro schema");
    Avro::parse(&schema).unwrap_or_else(|error| panic!("{error}: {schema:#}"))
}

#[test]
fn schemas_look_as_expected() {
    let mut wrong = Vec::new();
    for (name, domain) in domains() {
        let all = |schema: &dyn Fn(&EventContract) -> Value| -> Value {
            let key = |c: &EventContract| format!("{} v{}", c.name, c.version);
            Value::Object(versions(&domain).map(|c| (key(c), schema(c))).collect())
        };
        for (language, schemas) in [
            ("avro", all(&|c| avro(&domain, c).expect("an Avro schema"))),
            ("json_schema", all(&|c| json_schema(&domain, c))),
        ] {
            let golden = root().join(format!("tests/cases/export/{name}.{language}.json"));
            let got = serde_json::to_string_pretty(&schemas).expect("JSON") + "\n";
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&golden, &got).expect("a writable expectation");
            } else if fs::read_to_string(&golden).unwrap_or_default() != got {
                wrong.push(format!("--- {} should be:\n{got}", golden.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 rewrites the expectations\n{}", wrong.join("\n"));
}

#[test]
fn every_avro_schema_parses_and_takes_what_it_describes() {
    for (_, domain) in domains() {
        for contract in versions(&domain) {
            let schema = parsed(&domain, contract);
            for full in [false, true] {
                round_trip(&schema, any(&schema, full));
            }
        }
    }
}

#[test]
fn events_of_the_examples_fit_the_schemas() {
    let mut seen = BTreeSet::new();
    for (name, domain) in domains() {
        let examples = domain.metrics.iter().flat_map(|metric| &metric.examples);
        for event in examples.flat_map(|example| &example.given) {
            let Some(contract) = domain.event(&event.event_type, None) else { continue };
            seen.insert((name, contract.name.clone()));
            let schema = parsed(&domain, contract);
            round_trip(&schema, avro_value(Some(&event.record), &schema));
            let mut faults = Vec::new();
            judge(&event.record, &json_schema(&domain, contract), "", &mut faults);
            assert_eq!(faults, Vec::<String>::new(), "{}", event.record);
        }
    }
    for (name, contract) in [("shop", "order"), ("shop", "click"), ("flights", "flight_departed")] {
        assert!(seen.contains(&(name, contract.to_owned())), "{seen:?}");
    }
}

#[test]
fn a_record_that_breaks_its_contract_breaks_the_schema() {
    let domain = domain(
        "
kind: event
names: [a.made, a.lost]
version: 1
status: deprecated
envelope: {id: meta.id, version: v}
fields: {code: string}
---
kind: event
names: [a.made, a.lost]
version: 2
envelope: {id: meta.id, version: v}
fields:
  code: {type: string, pattern: '[A-Z]{2}', max_length: 4}
  state: {type: string, values: [new, old], default: new}
  n: {type: int64, required: false, min: 1, below: 10}
  price: {type: 'decimal(6,2)', above: 0.5}
  items: {type: 'list<struct<sku: string>>', min_items: 1}
",
    );
    let family = &domain.families[0];
    let good = json!({
        "event_type": "a.made", "meta": {"id": "1", "x": 0}, "timestamp": "2026-01-31T10:00:00Z",
        "code": "AB", "price": 0.51, "items": [{"sku": null}, {"other": 1}, null], "more": true,
    });
    let faults = |version: u32, change: &dyn Fn(&mut Map<String, Value>)| -> Vec<String> {
        let mut record = good.clone();
        change(record.as_object_mut().expect("a record"));
        let contract = family.version(Some(version)).expect("this version");
        let mut faults = Vec::new();
        judge(&record, &json_schema(&domain, contract), "", &mut faults);
        faults
    };
    let set = |name: &str, value: Value| {
        faults(2, &|record| {
            record.insert(name.to_owned(), value.clone());
        })
    };
    assert_eq!(faults(2, &|_| {}), Vec::<String>::new());
    for (name, value, expected) in [
        ("event_type", json!("b.made"), "event_type enum"),
        ("event_type", json!(null), "event_type type"),
        ("meta", json!({"x": 0}), "meta.id required"),
        ("meta", json!({"id": ""}), "meta.id minLength"),
        ("meta", json!("1"), "meta type"),
        ("timestamp", json!(1_769_853_600), "timestamp type"),
        ("v", json!(1), "v enum"),
        ("code", json!("ab"), "code pattern"),
        ("code", json!("ABC"), "code pattern"),
        ("state", json!("worn"), "state enum"),
        ("state", json!(null), "state type"),
        ("n", json!(0), "n minimum"),
        ("n", json!(10), "n exclusiveMaximum"),
        ("n", json!(1.5), "n type"),
        ("price", json!(0.5), "price exclusiveMinimum"),
        ("price", json!(true), "price type"),
        ("items", json!([]), "items minItems"),
        ("items", json!([{"sku": 1}]), "items[0].sku type"),
    ] {
        let found = set(name, value);
        assert!(found.iter().any(|fault| fault == expected), "{expected}: {found:?}");
    }
    for (name, value) in [
        ("meta", json!({"id": 7})),
        ("v", json!(2)),
        ("v", json!(null)),
        ("n", json!(null)),
        ("n", json!(9)),
        // As a text it keeps its digits.
        ("price", json!("0.51")),
        ("state", json!("old")),
    ] {
        assert_eq!(set(name, value), Vec::<String>::new(), "{name}");
    }
    let without = |name: &str| {
        faults(2, &|record| {
            record.remove(name);
        })
    };
    for name in ["event_type", "meta", "timestamp", "code", "price", "items"] {
        assert_eq!(without(name), [format!("{name} required")]);
    }
    // A record without a version is one of the newest stable version.
    assert_eq!(faults(1, &|_| {}), ["v required"]);
}

#[test]
fn what_avro_cannot_name_is_refused_with_a_next_step() {
    for (contract, named) in [
        ("envelope: {id: '@id'}\nfields: {a: int64}", "`@id`"),
        ("envelope: {id: meta.event-id}\nfields: {a: int64}", "`event-id`"),
        ("fields: {a: 'struct<1st: int64>'}", "`1st`"),
    ] {
        let domain = domain(&format!("kind: event\nnames: [e.made]\n{contract}\n"));
        let contract = &domain.families[0].versions[0];
        let error = avro(&domain, contract).expect_err(named);
        assert!(error.message.contains(named) && error.message.contains("e.made"), "{error:?}");
        assert!(error.hint.contains("header"), "{error:?}");
        json_schema(&domain, contract);
    }
}

/// Written and read again, the value is the same.
#[track_caller]
fn round_trip(schema: &Avro, value: AvroValue) {
    let bytes = apache_avro::to_avro_datum(schema, value.clone())
        .unwrap_or_else(|error| panic!("{error}: {value:?}"));
    let read = apache_avro::from_avro_datum(schema, &mut bytes.as_slice(), None);
    assert_eq!(read.expect("what was written"), value);
}

/// Some value of a schema: with everything that may be null present, or null.
fn any(schema: &Avro, full: bool) -> AvroValue {
    match schema {
        Avro::Null => AvroValue::Null,
        Avro::Boolean => AvroValue::Boolean(true),
        Avro::Long => AvroValue::Long(-7),
        Avro::Double => AvroValue::Double(0.25),
        Avro::String => AvroValue::String("text".to_owned()),
        Avro::Date => AvroValue::Date(20_484),
        Avro::TimestampMillis => AvroValue::TimestampMillis(1_769_853_600_123),
        Avro::TimestampMicros => AvroValue::TimestampMicros(1_769_853_600_123_456),
        Avro::Decimal(_) => unscaled(-12_345),
        Avro::Array(array) => AvroValue::Array((0..2).map(|_| any(&array.items, full)).collect()),
        Avro::Union(union) => {
            let null = |schema: &Avro| matches!(schema, Avro::Null);
            let at = union.variants().iter().position(|variant| null(variant) != full);
            let at = at.expect("a type and null");
            AvroValue::Union(at as u32, Box::new(any(&union.variants()[at], full)))
        }
        Avro::Record(record) => AvroValue::Record(
            record.fields.iter().map(|f| (f.name.clone(), any(&f.schema, full))).collect(),
        ),
        other => panic!("no contract has {other:?}"),
    }
}

/// A record of JSON as a producer would write it in Avro.
fn avro_value(json: Option<&Value>, schema: &Avro) -> AvroValue {
    let json = json.unwrap_or(&Value::Null);
    match schema {
        Avro::Union(union) => {
            let is_null = |variant: &Avro| matches!(variant, Avro::Null) == json.is_null();
            let at = union.variants().iter().position(is_null).expect("a type and null");
            let inner = avro_value(Some(json), &union.variants()[at]);
            AvroValue::Union(at as u32, Box::new(inner))
        }
        Avro::Null => AvroValue::Null,
        Avro::Record(record) => AvroValue::Record(
            record
                .fields
                .iter()
                .map(|field| {
                    let given = json.get(&field.name).or(field.default.as_ref());
                    (field.name.clone(), avro_value(given, &field.schema))
                })
                .collect(),
        ),
        Avro::Array(array) => AvroValue::Array(
            json.as_array()
                .expect("a list")
                .iter()
                .map(|item| avro_value(Some(item), &array.items))
                .collect(),
        ),
        Avro::String => {
            AvroValue::String(json.as_str().map_or_else(|| json.to_string(), str::to_owned))
        }
        Avro::Boolean => AvroValue::Boolean(json.as_bool().expect("true or false")),
        Avro::Long => AvroValue::Long(json.as_i64().expect("a whole number")),
        Avro::Double => AvroValue::Double(json.as_f64().expect("a number")),
        Avro::Decimal(decimal) => {
            let text = json.to_string();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let digits = format!("{whole}{fraction:0<width$}", width = decimal.scale);
            unscaled(digits.parse().expect("digits"))
        }
        other => panic!("no contract of the repository has {other:?}"),
    }
}

/// A decimal from its digits, in as few bytes as hold them.
fn unscaled(digits: i128) -> AvroValue {
    let bytes = digits.to_be_bytes();
    let sign = if digits < 0 { 0xff } else { 0 };
    let mut from = 0;
    while from < 15 && bytes[from] == sign && (bytes[from + 1] ^ sign) & 0x80 == 0 {
        from += 1;
    }
    AvroValue::Decimal(bytes[from..].into())
}

/// The keywords that our schemas use, as the specification reads them; formats are not checked.
/// Every fault is the path of the value and the keyword.
fn judge(value: &Value, schema: &Value, path: &str, faults: &mut Vec<String>) {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    };
    let inner = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let number = |against: &Value, fits: fn(f64, f64) -> bool| {
        value.as_f64().is_none_or(|n| fits(n, against.as_f64().expect("a number")))
    };
    let length = |of: Option<usize>, against: &Value, fits: fn(u64, u64) -> bool| {
        of.is_none_or(|n| fits(n as u64, against.as_u64().expect("a length")))
    };
    let characters = value.as_str().map(|text| text.chars().count());
    let items = value.as_array().map(Vec::len);
    for (keyword, against) in schema.as_object().expect("a schema") {
        let holds = match keyword.as_str() {
            "$schema" | "$comment" | "title" | "description" | "default" | "format" => true,
            "additionalProperties" => *against == json!(true),
            "type" => match against {
                Value::Array(names) => names.iter().any(|name| is(name.as_str().expect("a name"))),
                name => is(name.as_str().expect("a name")),
            },
            "enum" => against.as_array().expect("values").contains(value),
            "const" => value == against,
            "pattern" => value.as_str().is_none_or(|text| {
                let pattern = against.as_str().expect("a pattern");
                regex::Regex::new(pattern).expect("a pattern").is_match(text)
            }),
            "minimum" => number(against, |n, bound| n >= bound),
            "maximum" => number(against, |n, bound| n <= bound),
            "exclusiveMinimum" => number(against, |n, bound| n > bound),
            "exclusiveMaximum" => number(against, |n, bound| n < bound),
            "minLength" => length(characters, against, |n, bound| n >= bound),
            "maxLength" => length(characters, against, |n, bound| n <= bound),
            "minItems" => length(items, against, |n, bound| n >= bound),
            "maxItems" => length(items, against, |n, bound| n <= bound),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    judge(item, against, &format!("{path}[{i}]"), faults);
                }
                true
            }
            "properties" => {
                for (name, schema) in against.as_object().expect("schemas") {
                    if let Some(member) = value.get(name) {
                        judge(member, schema, &inner(name), faults);
                    }
                }
                true
            }
            "required" => {
                for name in against.as_array().expect("names") {
                    let name = name.as_str().expect("a name");
                    if value.is_object() && value.get(name).is_none() {
                        faults.push(format!("{} required", inner(name)));
                    }
                }
                true
            }
            other => panic!("no schema of ours has the keyword {other}"),
        };
        if !holds {
            faults.push(format!("{path} {keyword}"));
        }
    }
}
