//! Examples: fills in the envelope that a file leaves out, so that each given event is what a
//! producer would send.
//!
//! Ids are counted. An event without a time comes a second after the one before it; without any time
//! at all the example plays on 2025-01-01. A reading without `as_of` is a millisecond after the last
//! event.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use crate::check::names::{Known, Names};
use crate::check::relations::Relations;
use crate::check::values::{parse_decimal, parse_duration};
use crate::diagnostic::{Report, suggest};
use crate::model::{self, EventContract, Example, Expectation, Metric, Place, Status, TimeForm};
use crate::raw::decode::{Json, Text, shorten};
use crate::raw::metric::{self as raw, GivenEvent};
use crate::types::Type;

const SECOND: i64 = 1_000_000;
/// 2025-01-01T12:00:00Z.
const BASE: i64 = 1_735_732_800 * SECOND;

/// Checks and completes the examples of a metric.
pub(crate) fn check(
    raw: &raw::Metric,
    metric: &Metric,
    names: &Names,
    relations: &Relations,
    report: &mut Report,
) -> Vec<Example> {
    let ingest = raw.moved_by.0.iter().any(|t| t.value == "ingest");
    let mut examples = Vec::new();
    for example in raw.examples.as_deref().unwrap_or_default() {
        let given: Vec<Option<Given<'_>>> = example
            .given
            .iter()
            .map(|event| read(event, names, relations, ingest, report))
            .collect();
        let Some(given) = given.into_iter().collect::<Option<Vec<Given<'_>>>>() else { continue };
        let times = times(&given);
        let last = times.iter().copied().max().unwrap_or(BASE);
        let expect = example
            .expect
            .0
            .iter()
            .filter_map(|expectation| expected(expectation, metric, last, report))
            .collect();
        examples.push(Example {
            name: example.name.as_ref().map(|t| t.value.clone()),
            given: given
                .iter()
                .zip(&times)
                .enumerate()
                .map(|(n, (event, time))| complete(event, n, *time))
                .collect(),
            expect,
            line: example.at.line,
        });
    }
    examples
}

/// A given event with its contract and what the file says about its time.
struct Given<'a> {
    event_type: String,
    contract: Option<&'a EventContract>,
    members: Map<String, Value>,
    headers: Vec<(String, String)>,
    time: Option<i64>,
}

fn read<'a>(
    event: &GivenEvent,
    names: &Names,
    relations: &'a Relations,
    ingest: bool,
    report: &mut Report,
) -> Option<Given<'a>> {
    let Some((_, json)) = event.members.iter().find(|(name, _)| name.value == "event") else {
        report.error(
            event.at,
            "a given event needs the key `event`",
            "write `{event: type, field: value}`",
        );
        return None;
    };
    let event_type = json.text.clone().unwrap_or_default();
    let contract = match names.family(&event_type) {
        Known::Good(family) => newest(relations, family, &event_type),
        Known::Broken => return None,
        // A metric over `ingest` may want to show what an unknown event does.
        Known::Missing if ingest => None,
        Known::Missing => {
            report.error(
                json.at,
                format!("no contract has the event type `{}`", shorten(&event_type)),
                suggest(&event_type, names.types(), "event types"),
            );
            return None;
        }
    };
    // A field of the contract may itself be called `at` or `headers`.
    let is_field = |name: &str| contract.is_some_and(|c| c.fields.iter().any(|f| f.name == name));
    let has_headers =
        contract.is_some_and(|c| c.envelope.places().any(|(_, place)| place.header().is_some()));
    let mut members = Map::new();
    let mut headers = Vec::new();
    let mut time = None;
    for (name, json) in &event.members {
        match name.value.as_str() {
            "event" => {}
            "at" if !is_field("at") => time = Some(moment(json, report)?),
            "headers" if has_headers && !is_field("headers") => {
                headers = given_headers(json, report)?;
            }
            other => {
                members.insert(other.to_owned(), json.value.clone());
            }
        }
    }
    if let (None, Some(contract)) = (time, contract) {
        let envelope = &contract.envelope;
        let written = match &envelope.time {
            Place::Path(path) => lookup(&members, path).map(text_of),
            Place::Header(name) => {
                let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, text)| text.clone())
            }
        };
        time = written.and_then(|text| instant(&text, envelope.time_form));
    }
    Some(Given { event_type, contract, members, headers, time })
}

/// `{name: text}`.
fn given_headers(json: &Json, report: &mut Report) -> Option<Vec<(String, String)>> {
    let headers = json.value.as_object().and_then(|headers| {
        let single = |value: &Value| !value.is_null() && !value.is_array() && !value.is_object();
        let one = |(name, value): (&String, &Value)| {
            single(value).then(|| (name.clone(), text_of(value)))
        };
        headers.iter().map(one).collect()
    });
    if headers.is_none() {
        report.error(
            json.at,
            "`headers` of a given event must be names with a text each",
            "write `headers: {name: text}`",
        );
    }
    headers
}

/// A single value as it stands in a header.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn newest<'a>(
    relations: &'a Relations,
    family: usize,
    event_type: &str,
) -> Option<&'a EventContract> {
    relations.families[family]
        .versions
        .iter()
        .filter(|c| c.names.iter().any(|n| n == event_type))
        .max_by_key(|c| (c.status == Status::Stable, c.version))
        .map(AsRef::as_ref)
}

/// The time that `at` says: RFC 3339.
fn moment(json: &Json, report: &mut Report) -> Option<i64> {
    let parsed = json.text.as_deref().and_then(|text| instant(text, TimeForm::Rfc3339));
    if parsed.is_none() {
        report.error(json.at, "`at` is not a time", "write it as 2025-01-01T12:00:00Z");
    }
    parsed
}

fn instant(text: &str, form: TimeForm) -> Option<i64> {
    let number = |unit: i128| -> Option<i64> {
        let (digits, scale) = parse_decimal(text)?;
        i64::try_from(digits.checked_mul(unit)?.checked_div(10_i128.checked_pow(scale)?)?).ok()
    };
    match form {
        TimeForm::Rfc3339 => {
            let zoned = DateTime::parse_from_rfc3339(text)
                .or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z")));
            zoned.ok().map(|t| t.timestamp_micros())
        }
        TimeForm::EpochS => number(1_000_000),
        TimeForm::EpochMs => number(1_000),
        TimeForm::EpochUs => number(1),
        TimeForm::EpochNs => number(1).map(|n| n / 1_000),
    }
}

/// A time for every event: its own, else a second after the one before it.
fn times(given: &[Given<'_>]) -> Vec<i64> {
    let first = given.iter().position(|g| g.time.is_some());
    let mut next = match first {
        Some(first) => given[first].time.unwrap_or(BASE).saturating_sub(first as i64 * SECOND),
        None => BASE,
    };
    given
        .iter()
        .map(|event| {
            let time = event.time.unwrap_or(next);
            next = time.saturating_add(SECOND);
            time
        })
        .collect()
}

/// The event as a producer would send it.
fn complete(event: &Given<'_>, n: usize, time: i64) -> model::GivenEvent {
    let mut members = event.members.clone();
    let mut headers = event.headers.clone();
    let envelope = event.contract.map(|c| &c.envelope);
    let form = envelope.map(|e| e.time_form).unwrap_or_default();
    let number_id = envelope.is_some_and(|e| match e.id.path().as_slice() {
        [name] => event
            .contract
            .is_some_and(|c| c.fields.iter().any(|f| f.name == *name && f.ty == Type::Int64)),
        _ => false,
    });
    // Shaped like a UUID, which is what a pattern on ids most often asks for.
    let id = match number_id {
        true => Value::from(n + 1),
        false => Value::from(format!("00000000-0000-4000-8000-{:012x}", n + 1)),
    };
    let mut fill = |place: Option<&Place>, default: &str, value: Value| match place {
        None => put(&mut members, &[default.to_owned()], value),
        Some(Place::Path(path)) => put(&mut members, path, value),
        Some(Place::Header(name)) => {
            if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                headers.push((name.clone(), text_of(&value)));
            }
        }
    };
    let event_type = Value::from(event.event_type.clone());
    fill(envelope.map(|e| &e.event_type), "event_type", event_type);
    fill(envelope.map(|e| &e.id), "event_id", id);
    fill(envelope.map(|e| &e.time), "timestamp", written(time, form));
    model::GivenEvent {
        event_type: event.event_type.clone(),
        record: Value::Object(members),
        headers,
    }
}

fn written(time: i64, form: TimeForm) -> Value {
    match form {
        TimeForm::Rfc3339 => {
            let moment = DateTime::<Utc>::from_timestamp_micros(time).unwrap_or_default();
            Value::from(moment.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        TimeForm::EpochS if time % SECOND == 0 => Value::from(time / SECOND),
        TimeForm::EpochS => Value::from(time as f64 / SECOND as f64),
        TimeForm::EpochMs => Value::from(time / 1_000),
        TimeForm::EpochUs => Value::from(time),
        TimeForm::EpochNs => Value::from(time.saturating_mul(1_000)),
    }
}

fn lookup<'a>(members: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(members.get(first)?, |value, name| value.get(name))
}

/// Puts a value at a path unless something stands there already.
fn put(members: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            members.entry(name.clone()).or_insert(value);
        }
        [name, rest @ ..] => {
            let inner = members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn expected(
    raw: &raw::Expectation,
    metric: &Metric,
    last: i64,
    report: &mut Report,
) -> Option<Expectation> {
    let window = match &raw.window {
        None => metric.windows.first()?.text.clone(),
        Some(text) if metric.windows.iter().any(|w| w.text == text.value) => text.value.clone(),
        Some(text) => {
            report.error(
                text.at,
                format!("the metric has no window `{}`", shorten(&text.value)),
                suggest(&text.value, metric.windows.iter().map(|w| w.text.as_str()), "windows"),
            );
            return None;
        }
    };
    let as_of = match &raw.as_of {
        None => last + 1_000,
        Some(text) => read_at(text, last, report)?,
    };
    let mut filters = BTreeMap::new();
    for (name, value) in raw.filters.iter().flat_map(|f| &f.0) {
        if !metric.dimensions.iter().any(|d| d.name == name.value) {
            report.error(
                name.at,
                format!("the metric has no dimension `{}`", shorten(&name.value)),
                suggest(
                    &name.value,
                    metric.dimensions.iter().map(|d| d.name.as_str()),
                    "dimensions",
                ),
            );
        }
        filters.insert(name.value.clone(), value.value.clone());
    }
    let value = &raw.value;
    let fits = match &value.value {
        Value::Null => true,
        Value::Number(_) => metric.value_type.is_numeric(),
        // Long decimals are written as text, to keep their digits.
        Value::String(text) => !metric.value_type.is_numeric() || parse_decimal(text).is_some(),
        Value::Bool(_) => !metric.value_type.is_numeric(),
        Value::Array(_) | Value::Object(_) => false,
    };
    if !fits {
        report.error(
            value.at,
            format!("the value of this metric is {}", metric.value_type),
            "write such a value, or null",
        );
    }
    Some(Expectation { window, as_of, filters, value: value.value.clone() })
}

/// `2025-01-01T12:00:00Z`, or `+31m` after the last event.
fn read_at(text: &Text, last: i64, report: &mut Report) -> Option<i64> {
    let relative = text.value.strip_prefix('+').and_then(parse_duration);
    let parsed = match relative {
        Some(length) => last.checked_add(length),
        None => instant(&text.value, TimeForm::Rfc3339),
    };
    if parsed.is_none() {
        report.error(
            text.at,
            format!("`{}` is not a time", shorten(&text.value)),
            "write 2025-01-01T12:00:00Z, or `+31m` after the last event",
        );
    }
    parsed
}
