//! Type, version, id, time, tenant, defaults, absent and unknown members.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use contracts::model::{EventContract, Place, Status, TimeForm, UnknownEvent, column};
use contracts::types::Type;

use super::support::{batch, contract, decode, domain, field, place, required, show};
use crate::decode::{DecodeOptions, Decoder};

#[track_caller]
fn check(contracts: Vec<Vec<EventContract>>, record: &str, want: &str) {
    assert_eq!(show(&decode(domain(contracts), &[record.as_bytes()]), 0), want, "{record}");
}

/// A contract whose envelope lies in `meta`, with versions 1 (deprecated), 2 and 3.
fn nested() -> Vec<EventContract> {
    let version = |version, status, fields| {
        let mut contract = contract(&["made", "changed"], fields);
        contract.version = version;
        contract.status = status;
        contract.envelope.event_type = place("meta.kind");
        contract.envelope.id = place("meta.id");
        contract.envelope.time = place("at");
        contract.envelope.time_form = TimeForm::EpochMs;
        contract.envelope.version = Some(place("meta.v"));
        contract.envelope.tenant = Some(place("meta.owner"));
        contract
    };
    vec![
        version(1, Status::Stable, vec![field("old", Type::Int64)]),
        version(2, Status::Stable, vec![field("new", Type::Int64)]),
        version(3, Status::Deprecated, vec![field("new", Type::Int64)]),
    ]
}

#[test]
fn the_newest_stable_version_is_the_default() {
    check(
        vec![nested()],
        r#"{"meta":{"kind":"made","id":7},"at":1000,"new":1}"#,
        "made v2 _type=made _id=7 _time=1970-01-01T00:00:01 _tenant=default new=1 _absent=1 \
         _extra={\"meta\":{\"kind\":\"made\",\"id\":7}}",
    );
}

#[test]
fn a_record_may_name_its_version_and_tenant() {
    check(
        vec![nested()],
        r#"{"meta":{"kind":"changed","id":"a","v":"1","owner":"b"},"at":"1000","new":1}"#,
        "made v1 _type=changed _id=a _time=1970-01-01T00:00:01 _tenant=b old=null _absent=3 \
         _extra={\"meta\":{\"kind\":\"changed\",\"id\":\"a\",\"v\":\"1\",\"owner\":\"b\"},\"new\":1}",
    );
    check(
        vec![nested()],
        r#"{"meta":{"kind":"made","id":"a","v":9},"at":1000}"#,
        "rejected unknown_version field=meta.v id=a type=made time=1000000: \
         event type `made` has versions 1, 2, 3, not 9",
    );
    check(
        vec![nested()],
        r#"{"meta":{"kind":"made","id":"a","v":1.5},"at":1000}"#,
        "rejected wrong_type field=meta.v id=a type=made time=1000000: \
         expected a contract version (a whole number), found 1.5",
    );
}

#[test]
fn nested_envelopes_are_as_strict() {
    check(
        vec![nested()],
        r#"{"meta":{"kind":"made","id":1,"id":2},"at":1000}"#,
        "rejected duplicate_key field=meta.id type=made time=1000000 contract=made v2: \
         the member occurs twice",
    );
    check(
        vec![nested()],
        r#"{"meta":{"kind":"made"},"at":1000}"#,
        "rejected missing_field field=meta.id type=made time=1000000 contract=made v2: \
         required, but absent",
    );
    check(
        vec![nested()],
        r#"{"meta":"made","at":1000}"#,
        "rejected missing_field field=meta.kind time=1000000: required, but absent",
    );
}

#[test]
fn a_fixed_tenant_cannot_be_left() {
    let domain = Arc::new(domain(vec![nested()]));
    let record = br#"{"meta":{"kind":"made","id":"a","owner":"b"},"at":1000}"#;
    let mut raw = batch(&[record, record]);
    raw.records[1].tenant_fixed = true;
    let decoded = Decoder::new(&domain).decode(raw);
    assert!(show(&decoded, 0).contains("_tenant=b"));
    assert_eq!(
        show(&decoded, 1),
        "rejected wrong_tenant field=meta.owner id=a type=made time=1000000 contract=made v2: \
         the credential stands for tenant `default`, found text `b`"
    );
}

#[test]
fn several_places_for_the_type() {
    let contracts = || vec![vec![contract(&["plain"], vec![])], nested()];
    let plain = r#"{"event_type":"plain","event_id":"1","timestamp":"2026-01-31T10:00:00Z"}"#;
    check(
        contracts(),
        plain,
        "plain v1 _type=plain _id=1 _time=2026-01-31T10:00:00 _tenant=default _absent=0 _extra=null",
    );
    // Each contract's types are looked for in its own place only.
    check(
        contracts(),
        r#"{"event_type":"made","event_id":"1"}"#,
        "rejected unknown_event_type id=1 type=made: no contract names event type `made`",
    );
    check(
        contracts(),
        r#"{"event_type":5}"#,
        "rejected wrong_type field=event_type: expected string, found 5",
    );
    check(contracts(), "{}", "rejected missing_field field=event_type: required, but absent");
}

#[test]
fn ids_are_texts_or_whole_numbers() {
    #[track_caller]
    fn check_id(id: &str, want: &str) {
        let record =
            format!(r#"{{"event_type":"e","event_id":{id},"timestamp":"2026-01-31T10:00:00Z"}}"#);
        let shown =
            show(&decode(domain(vec![vec![contract(&["e"], vec![])]]), &[record.as_bytes()]), 0);
        assert!(shown.contains(want), "{id}: {shown}");
    }
    check_id("\"x\"", "_id=x ");
    check_id(r#""\u0078""#, "_id=x ");
    check_id("12345678901234567890123", "_id=12345678901234567890123 ");
    check_id(&format!("\"{}\"", "ü".repeat(256)), "_id=üü");
    check_id(&format!("\"{}\"", "ü".repeat(257)), "rejected out_of_range field=event_id type=e");
    check_id("\"\"", "rejected out_of_range field=event_id type=e");
    check_id("null", "rejected missing_field field=event_id type=e");
    for id in ["1.0", "1e3", "true", "[]", "{}"] {
        check_id(id, "rejected wrong_type field=event_id type=e");
    }
}

#[test]
fn absent_null_and_default_are_three_things() {
    let with_default = |name: &str, default: serde_json::Value| {
        let mut field = field(name, Type::String);
        field.default = Some(default);
        field
    };
    let fields = || {
        vec![
            required("must", Type::Int64),
            field("may", Type::Int64),
            with_default("unit", "RUB".into()),
            with_default("quoted", "a\"b".into()),
        ]
    };
    let record = |rest: &str| {
        format!(r#"{{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00Z"{rest}}}"#)
    };
    let row = "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default";
    for (rest, want) in [
        (
            r#","must":1"#,
            format!("{row} must=1 may=null unit=RUB quoted=a\"b _absent=2 _extra=null"),
        ),
        (
            r#","must":1,"may":null,"unit":null,"quoted":"c""#,
            format!("{row} must=1 may=null unit=null quoted=c _absent=0 _extra=null"),
        ),
    ] {
        check(vec![vec![contract(&["e"], fields())]], &record(rest), &want);
    }
    let rejected =
        "rejected missing_field field=must id=1 type=e time=1769853600000000 contract=e v1";
    let contracts = || vec![vec![contract(&["e"], fields())]];
    check(contracts(), &record(""), &format!("{rejected}: required, but absent"));
    check(contracts(), &record(r#","must":null"#), &format!("{rejected}: required, but null"));
}

#[test]
fn absent_bits_follow_the_family() {
    let mut second = contract(&["e"], vec![field("c", Type::Int64), field("a", Type::Int64)]);
    second.version = 2;
    let first = contract(
        &["e"],
        vec![field("a", Type::Int64), required("b", Type::Int64), field("c", Type::Int64)],
    );
    let record = br#"{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00Z","a":1}"#;
    let batch = decode(domain(vec![vec![first, second]]), &[record]);
    let absent = batch.rows[0].columns.column_by_name(column::ABSENT).expect("always there");
    // `b` is not known to version 2, `c` was not sent.
    assert_eq!(absent.as_primitive::<Int64Type>().value(0), 0b110);
}

#[test]
fn unknown_members_are_kept_as_sent() {
    check(
        vec![vec![contract(&["e"], vec![field("a", Type::Int64)])]],
        r#"{"z" : {"b": [1, 2.50]},"event_type":"e","event_id":"1","a":1, "\u0079":"\n", "timestamp":"2026-01-31T10:00:00Z"}"#,
        "e v1 _type=e _id=1 _time=2026-01-31T10:00:00 _tenant=default a=1 _absent=0 \
         _extra={\"z\":{\"b\":[1,2.50]},\"\\u0079\":\"\\n\"}",
    );
}

#[test]
fn unknown_types_may_be_ignored() {
    let mut domain = domain(vec![vec![contract(&["e"], vec![])]]);
    domain.unknown_event = UnknownEvent::Ignore;
    let batch = decode(domain, &[br#"{"event_type":"other"}"#, br#"{"event_type":1}"#, b"{"]);
    assert_eq!(show(&batch, 0), "ignored other");
    assert!(show(&batch, 1).starts_with("rejected wrong_type"));
    assert!(show(&batch, 2).starts_with("rejected not_json"));
}

#[test]
fn large_records_are_not_read() {
    let domain = Arc::new(domain(vec![vec![contract(&["e"], vec![])]]));
    let mut decoder = Decoder::with_options(&domain, DecodeOptions { max_record_bytes: 100 });
    let long = format!(r#"{{"event_type":"{}"}}"#, "x".repeat(100));
    let decoded = decoder.decode(batch(&[long.as_bytes(), br#"{"event_type":"f"}"#]));
    assert_eq!(show(&decoded, 0), "rejected too_large: 117 bytes, the limit for one record is 100");
    assert!(show(&decoded, 1).starts_with("rejected unknown_event_type"));
}

#[test]
fn personal_data_stays_out_of_messages() {
    let mut email = field("email", Type::String);
    email.pii = true;
    let record =
        br#"{"event_type":"e","event_id":"1","timestamp":"2026-01-31T10:00:00Z","email":12345}"#;
    let batch = decode(domain(vec![vec![contract(&["e"], vec![email])]]), &[record]);
    assert_eq!(batch.rejected[0].detail, "expected string");
}

#[test]
fn headers_of_other_contracts_are_no_members() {
    let named = |name: &str, header: &str| {
        let mut contract = contract(&[name], vec![field("n", Type::Int64)]);
        contract.envelope.id = Place::Header(header.to_owned());
        contract
    };
    let domain = domain(vec![vec![named("a", "Id-A")], vec![named("b", "id-b")]]);
    let line = br#"{"event_type":"a","timestamp":"2026-01-31T10:00:00Z","n":1,"header:x":2}"#;
    let mut raw = batch(&[line]);
    let start = raw.bytes.len() - 1;
    raw.bytes.truncate(start);
    for (name, value) in [("id-a", "1"), ("id-b", "2"), ("x", "3")] {
        crate::headers::push(&mut raw.bytes, name, Some(value.as_bytes()));
    }
    raw.records[0].attached.headers_len = (raw.bytes.len() - start) as u32;
    let decoded = Decoder::new(&Arc::new(domain)).decode(raw);
    assert_eq!(
        show(&decoded, 0),
        "a v1 _type=a _id=1 _time=2026-01-31T10:00:00 _tenant=default n=1 _absent=0 \
         _extra={\"header:x\":2}"
    );
}
