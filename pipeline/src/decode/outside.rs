//! Envelopes that do not stand in the body: in headers, as a contract says, or in CloudEvents.
//!
//! A record with such an envelope becomes the JSON text that the decoder would read if everything
//! stood in the body, and is judged like any other. A header that a contract names stands there as a
//! member `header:name`, in small letters; an attribute of CloudEvents at the place where the
//! contract of that type wants it, whatever place that is.
//!
//! CloudEvents 1.0 come in two ways (Kafka protocol binding, section 3): *binary*, with headers
//! `ce_specversion`, `ce_id`, `ce_type`, `ce_time` and the data as the payload; *structured*, with a
//! `content-type` of `application/cloudevents+json` and one document that has the data as a member.
//!
//! What always holds: what stands outside goes before a member of the body at the same place; a
//! record without headers takes the way it always took.

use chrono::DateTime;
use contracts::model::{Envelope, FieldPath, Place, TimeForm};
use serde_json::{Map, Value};

use crate::headers::Headers;
use crate::outcome::Reason;

use super::fault::Fault;
use super::json::{self, Kind, Member, Raw};

/// What the names of members begin with that stand for headers.
pub(super) const HEADER: &str = "header:";
const STRUCTURED: &str = "application/cloudevents+json";

/// The path at which the decoder looks for a part of the envelope.
pub(super) fn path(place: &Place) -> FieldPath {
    match place {
        Place::Path(path) => path.clone(),
        Place::Header(name) => vec![member(name)],
    }
}

/// The member that stands for a header.
fn member(name: &str) -> String {
    format!("{HEADER}{}", name.to_ascii_lowercase())
}

/// How a record's envelope stands outside of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    /// In headers that contracts name.
    Headers,
    /// In headers of CloudEvents.
    Binary,
    /// Around the body, as CloudEvents in JSON.
    Structured,
}

impl Outside {
    /// `None`: nothing of the envelope stands outside. `named` are the headers that contracts name.
    pub(super) fn of(headers: Headers<'_>, named: &[String]) -> Option<Self> {
        if headers.is_empty() {
            return None;
        }
        if headers.get("ce_specversion").is_some() {
            return Some(Self::Binary);
        }
        let content = headers.get("content-type").and_then(|value| value.get(..STRUCTURED.len()));
        if content.is_some_and(|kind| kind.eq_ignore_ascii_case(STRUCTURED.as_bytes())) {
            return Some(Self::Structured);
        }
        named.iter().any(|name| headers.get(name).is_some()).then_some(Self::Headers)
    }
}

/// An envelope as CloudEvents have it, each part as JSON.
#[derive(Debug, Default)]
struct Attributes {
    event_type: Option<Value>,
    id: Option<Value>,
    time: Option<Value>,
}

/// The text that stands for a record: what stands outside, then the members of the body.
/// `envelope_of` gives the envelope of the contract for an event type.
pub(super) fn text<'c>(
    outside: Outside,
    payload: &str,
    headers: Headers<'_>,
    named: &[String],
    envelope_of: impl Fn(&str) -> Option<&'c Envelope>,
) -> Result<String, Box<Fault>> {
    let mut put = Map::new();
    for name in named {
        if let Some(value) = headers.get(name) {
            let value = Value::String(utf8(name, value)?.to_owned());
            put.insert(member(name), value);
        }
    }
    let mut top = Vec::new();
    json::members(payload, &mut top)?;
    let mut inner = Vec::new();
    let attributes = match outside {
        Outside::Headers => Attributes::default(),
        Outside::Binary => {
            let attribute = |name: &str| -> Result<Option<Value>, Box<Fault>> {
                let header = format!("ce_{name}");
                let Some(value) = headers.get(&header) else { return Ok(None) };
                Ok(Some(Value::String(utf8(&header, value)?.to_owned())))
            };
            Attributes {
                event_type: attribute("type")?,
                id: attribute("id")?,
                time: attribute("time")?,
            }
        }
        Outside::Structured => {
            let member = |name: &str| top.iter().find(|member| member.name == name);
            let attribute = |name: &str| -> Option<Value> {
                serde_json::from_str(member(name)?.value.text).ok()
            };
            let attributes = Attributes {
                event_type: attribute("type"),
                id: attribute("id"),
                time: attribute("time"),
            };
            match member("data").map(|member| member.value) {
                Some(data @ Raw { kind: Kind::Object, .. }) => json::members(data.text, &mut inner)
                    .map_err(|syntax| Box::<Fault>::from(syntax).inside("data"))?,
                Some(other) => {
                    return Err(
                        Fault::new(Reason::WrongType, "expected an object", other).inside("data")
                    );
                }
                None => return Err(Fault::missing("data", false)),
            }
            attributes
        }
    };
    if let Some(event_type) = &attributes.event_type {
        let envelope = event_type.as_str().and_then(envelope_of);
        let default = Envelope::default();
        let envelope = envelope.unwrap_or(&default);
        insert(&mut put, &path(&envelope.event_type), event_type.clone());
        if let Some(id) = attributes.id {
            insert(&mut put, &path(&envelope.id), id);
        }
        if let Some(time) = attributes.time {
            insert(&mut put, &path(&envelope.time), in_form(time, envelope.time_form));
        }
    }
    let body = if outside == Outside::Structured { &inner } else { &top };
    Ok(joined(&put, body))
}

fn utf8<'v>(name: &str, value: &'v [u8]) -> Result<&'v str, Box<Fault>> {
    std::str::from_utf8(value).map_err(|_| {
        let text = Raw { text: "", kind: Kind::Null };
        Fault::new(Reason::WrongType, "expected UTF-8 text", text).inside(&format!("header:{name}"))
    })
}

/// Puts a value at a path of members; objects on the way are made.
fn insert(into: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => drop(into.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let next = into.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(next) = next {
                insert(next, rest, value);
            }
        }
    }
}

/// A time of CloudEvents (RFC 3339) as the contract writes times. What is no time stays as it is: the
/// decoder says so.
fn in_form(time: Value, form: TimeForm) -> Value {
    let Some(read) = time.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()) else {
        return time;
    };
    match form {
        TimeForm::Rfc3339 => time,
        // Seconds may have a fraction, and a text keeps all of it.
        TimeForm::EpochS => {
            let micros = read.timestamp_micros();
            format!("{}.{:06}", micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000)).into()
        }
        TimeForm::EpochMs => read.timestamp_millis().into(),
        TimeForm::EpochUs => read.timestamp_micros().into(),
        TimeForm::EpochNs => read.timestamp_nanos_opt().map_or(time, Into::into),
    }
}

/// One object of what stands outside and those members of the body that nothing outside replaces.
fn joined(put: &Map<String, Value>, body: &[Member<'_>]) -> String {
    let mut text = String::from("{");
    let mut member = |name: &str, value: &str| {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(name);
        text.push(':');
        text.push_str(value);
    };
    for (name, value) in put {
        member(&Value::from(name.as_str()).to_string(), &value.to_string());
    }
    for known in body.iter().filter(|known| !put.contains_key(&*known.name)) {
        member(known.name_text, known.value.text);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::push;

    fn envelope(event_type: &str, id: &str, time: &str, form: TimeForm) -> Envelope {
        let place = |text: &str| match text.strip_prefix("header:") {
            Some(name) => Place::Header(name.to_owned()),
            None => Place::Path(text.split('.').map(str::to_owned).collect()),
        };
        Envelope {
            event_type: place(event_type),
            id: place(id),
            time: place(time),
            time_form: form,
            version: None,
            tenant: None,
        }
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], payload: &str, envelope: &Envelope, expected: &str) {
        let mut bytes = Vec::new();
        headers.iter().for_each(|(name, value)| push(&mut bytes, name, Some(value.as_bytes())));
        let named: Vec<String> =
            envelope.places().filter_map(|(_, place)| place.header().map(str::to_owned)).collect();
        let headers = Headers::new(&bytes);
        let outside = Outside::of(headers, &named).expect("an envelope outside of the body");
        let found = text(outside, payload, headers, &named, |_| Some(envelope));
        assert_eq!(found.map_err(|fault| fault.detail(false)), Ok(expected.to_owned()));
    }

    #[test]
    fn headers_that_contracts_name_become_members() {
        let envelope = envelope("header:Kind", "id", "at", TimeForm::Rfc3339);
        check(
            &[("kind", "made"), ("other", "x")],
            r#"{"id":1, "header:kind":"no","n":[1]}"#,
            &envelope,
            r#"{"header:kind":"made","id":1,"n":[1]}"#,
        );
    }

    #[test]
    fn binary_cloud_events_keep_their_data() {
        let headers = [
            ("ce_specversion", "1.0"),
            ("ce_type", "made"),
            ("ce_id", "a\"b"),
            ("ce_time", "2026-01-01T00:00:00.25Z"),
        ];
        let plain = envelope("event_type", "event_id", "timestamp", TimeForm::Rfc3339);
        check(
            &headers,
            r#"{"n":1,"event_id":"the body's"}"#,
            &plain,
            r#"{"event_type":"made","event_id":"a\"b","timestamp":"2026-01-01T00:00:00.25Z","n":1}"#,
        );
        let nested = envelope("meta.kind", "meta.id", "header:at", TimeForm::EpochMs);
        check(
            &headers,
            r#"{"n":1}"#,
            &nested,
            r#"{"meta":{"kind":"made","id":"a\"b"},"header:at":1767225600250,"n":1}"#,
        );
    }

    #[test]
    fn structured_cloud_events_are_unwrapped() {
        let plain = envelope("event_type", "event_id", "timestamp", TimeForm::EpochS);
        check(
            &[("content-type", "application/CloudEvents+json; charset=UTF-8")],
            r#"{"specversion":"1.0","type":"made","id":"1","time":"2026-01-01T00:00:00Z","data":{"price":1.10}}"#,
            &plain,
            r#"{"event_type":"made","event_id":"1","timestamp":"1767225600.000000","price":1.10}"#,
        );
    }

    #[test]
    fn records_without_such_an_envelope_are_left_alone() {
        let mut bytes = Vec::new();
        push(&mut bytes, "trace", Some(b"1"));
        push(&mut bytes, "content-type", Some(b"application/json"));
        assert_eq!(Outside::of(Headers::new(&bytes), &["kind".to_owned()]), None);
        assert_eq!(Outside::of(Headers::new(&[]), &["kind".to_owned()]), None);
    }
}
