//! Guessing where the samples keep type, id and time.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::quoted;

/// Leaf names, best first; compared without case and underscores.
const TYPES: &[&str] = &["eventtype", "type", "event", "eventname", "kind", "action", "name"];
const IDS: &[&str] = &["eventid", "id", "uuid", "messageid", "msgid", "eid"];
const TIMES: &[&str] = &[
    "timestamp",
    "eventtime",
    "time",
    "ts",
    "occurredat",
    "at",
    "createdat",
    "datetime",
    "date",
    "eventts",
    "sentat",
];
/// More event types than this in one contract are no types.
const MAX_TYPES: usize = 40;

/// What the envelope seems to be.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// Event types seen.
    pub(super) names: Vec<String>,
    type_path: Option<Vec<String>>,
    id_path: Option<Vec<String>>,
    time: Option<(Vec<String>, &'static str)>,
}

impl Guess {
    pub(super) fn of(events: &[&Map<String, Value>]) -> Self {
        let mut guess = Self::default();
        let paths = events.first().map(|first| paths(first)).unwrap_or_default();
        let values = |path: &[String]| -> Option<Vec<&Value>> {
            events.iter().map(|event| at(event, path)).collect()
        };
        for path in ranked(&paths, TYPES) {
            let Some(values) = values(path) else { continue };
            let texts: Option<BTreeSet<&str>> = values.iter().map(|v| v.as_str()).collect();
            if let Some(texts) = texts
                && texts.len() <= MAX_TYPES
                && texts
                    .iter()
                    .all(|t| !t.is_empty() && t.len() <= 200 && !t.chars().any(char::is_control))
            {
                guess.names = texts.into_iter().map(str::to_owned).collect();
                guess.type_path = Some(path.clone());
                break;
            }
        }
        for path in ranked(&paths, IDS) {
            let Some(values) = values(path) else { continue };
            let texts: BTreeSet<String> = values.iter().map(ToString::to_string).collect();
            // Samples may hold repeats, so most ids being different is enough.
            let whole = values.iter().all(|v| v.is_string() || v.is_i64());
            if whole && texts.len() * 10 >= values.len() * 8 && guess.is_free(path) {
                guess.id_path = Some(path.clone());
                break;
            }
        }
        for path in ranked(&paths, TIMES) {
            let form = values(path).and_then(|values| form_of(&values));
            if let Some(form) = form
                && guess.is_free(path)
            {
                guess.time = Some((path.clone(), form));
                break;
            }
        }
        guess
    }

    fn is_free(&self, path: &[String]) -> bool {
        [&self.type_path, &self.id_path].iter().all(|taken| taken.as_deref() != Some(path))
    }

    fn taken(&self) -> impl Iterator<Item = &[String]> {
        let time = self.time.as_ref().map(|(path, _)| path.as_slice());
        [self.type_path.as_deref(), self.id_path.as_deref(), time].into_iter().flatten()
    }

    /// Is the top-level member nothing but envelope?
    pub(super) fn covers(&self, name: &str, value: &Value) -> bool {
        let below: Vec<&[String]> = self.taken().filter(|path| path[0] == name).collect();
        match value {
            Value::Object(members) if below.iter().all(|path| path.len() == 2) => {
                !below.is_empty() && members.keys().all(|k| below.iter().any(|path| path[1] == *k))
            }
            _ => below.iter().any(|path| path.len() == 1),
        }
    }

    /// Writes the `envelope` line, with a comment where the guess failed.
    pub(super) fn write(&self, out: &mut String) {
        let path = |path: Option<&[String]>, default: &str| {
            quoted(&path.map_or_else(|| default.to_owned(), |p| p.join(".")))
        };
        let missing: Vec<&str> = [
            ("type", self.type_path.is_none()),
            ("id", self.id_path.is_none()),
            ("time", self.time.is_none()),
        ]
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(what, _)| *what)
        .collect();
        if !missing.is_empty() {
            let _ = writeln!(
                out,
                "# Not found in the samples: {}; say where it is.",
                missing.join(", ")
            );
        }
        let (time, form) = match &self.time {
            Some((path, form)) => (Some(path.as_slice()), *form),
            None => (None, "rfc3339"),
        };
        let time = match form {
            "rfc3339" => path(time, "timestamp"),
            form => format!("{{field: {}, form: {form}}}", path(time, "timestamp")),
        };
        let _ = writeln!(
            out,
            "envelope: {{type: {}, id: {}, time: {time}}}",
            path(self.type_path.as_deref(), "event_type"),
            path(self.id_path.as_deref(), "event_id"),
        );
    }
}

/// All paths of single values, two levels deep; names with dots cannot be part of a path.
fn paths(event: &Map<String, Value>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let usable = |name: &String| !name.is_empty() && !name.contains('.');
    for (name, value) in event.iter().filter(|(name, _)| usable(name)) {
        match value {
            Value::Object(members) => {
                for (inner, value) in members.iter().filter(|(name, _)| usable(name)) {
                    if !value.is_object() && !value.is_array() {
                        found.push(vec![name.clone(), inner.clone()]);
                    }
                }
            }
            Value::Array(_) => {}
            _ => found.push(vec![name.clone()]),
        }
    }
    found
}

/// The paths whose last name is in `names`: better names first, then shallower paths.
fn ranked<'a>(paths: &'a [Vec<String>], names: &[&str]) -> Vec<&'a Vec<String>> {
    let mut ranked: Vec<(usize, usize, &Vec<String>)> = paths
        .iter()
        .filter_map(|path| {
            let leaf = path.last()?.to_lowercase().replace(['_', '-'], "");
            Some((names.iter().position(|n| *n == leaf)?, path.len(), path))
        })
        .collect();
    ranked.sort_by_key(|(rank, depth, _)| (*rank, *depth));
    ranked.into_iter().map(|(_, _, path)| path).collect()
}

fn at<'a>(event: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(event.get(first)?, |value, name| value.get(name))
}

/// The form of time that all values have. Epoch units are told apart by size: any time from 1973
/// to 5138 falls in exactly one.
fn form_of(values: &[&Value]) -> Option<&'static str> {
    let mut form = None;
    for value in values {
        let one = match value {
            Value::String(text) if is_rfc3339(text) => "rfc3339",
            Value::Number(n) => match n.as_f64()?.abs() {
                n if (1e8..1e11).contains(&n) => "epoch_s",
                n if (1e11..1e14).contains(&n) => "epoch_ms",
                n if (1e14..1e17).contains(&n) => "epoch_us",
                n if (1e17..1e19).contains(&n) => "epoch_ns",
                _ => return None,
            },
            _ => return None,
        };
        if form.is_some_and(|known| known != one) {
            return None;
        }
        form = Some(one);
    }
    form
}

/// Is it a time as RFC 3339 writes it, with or without an offset?
pub(super) fn is_rfc3339(text: &str) -> bool {
    text.len() <= 40
        && text.contains(':')
        && (chrono::DateTime::parse_from_rfc3339(text).is_ok()
            || chrono::DateTime::parse_from_rfc3339(&format!("{text}Z")).is_ok())
}
