//! A draft event contract from sample events.
//!
//! What it writes loads; whether it says what the team means is for the team to read. It guesses
//! where the envelope is (also epoch times), types, which fields are required, patterns of ids and
//! small sets of values. Start at [`infer`].

mod envelope;
mod shape;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::check::is_column_name;
use envelope::Guess;
use shape::Shape;

/// Drafts an event contract called `name` from sample events; values that are not JSON objects are
/// passed over.
pub fn infer(samples: &[Value], name: &str) -> String {
    let events: Vec<&Map<String, Value>> = samples.iter().filter_map(Value::as_object).collect();
    let guess = Guess::of(&events);
    let name = contract_name(name);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "# Drafted from {} sample events. Read every line before you use it.",
        events.len()
    );
    let _ = writeln!(out, "kind: event\nname: {name}");
    let names: Vec<String> = match guess.names.as_slice() {
        [] => vec![name],
        names => names.iter().map(|n| quoted(n)).collect(),
    };
    let _ = writeln!(out, "names: [{}]", names.join(", "));
    let _ = writeln!(out, "version: 1\nowner: ''");
    guess.write(&mut out);
    let fields = fields(&events, &guess);
    if let Some(key) = key(&fields) {
        let _ = writeln!(out, "key: {key}");
    }
    let _ = writeln!(out, "dedup: {{horizon: 7d, on_conflict: dead_letter}}");
    let _ = writeln!(out, "time_policy: {{max_future: 5m, late: restate}}");
    let _ = writeln!(out, "fields:");
    for (name, shape) in &fields {
        let _ = writeln!(out, "  {name}: {}", shape.contract());
    }
    if fields.is_empty() {
        let _ = writeln!(
            out,
            "  # No member of the samples can be a field; this one is a placeholder."
        );
        let _ = writeln!(out, "  payload: {{type: json, required: false}}");
    }
    out
}

/// All members of the samples that can be fields, in order of first appearance, with what their
/// values look like.
fn fields(events: &[&Map<String, Value>], guess: &Guess) -> Vec<(String, Shape)> {
    let mut found: Vec<(String, Shape)> = Vec::new();
    for event in events {
        for (name, value) in *event {
            if guess.covers(name, value) || !is_column_name(name) {
                continue;
            }
            match found.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((known, shape)) if known == name => shape.add(value),
                // Tables do not tell names apart by case: the second one stays among the extras.
                Some(_) => {}
                None => {
                    let mut shape = Shape::new(name);
                    shape.add(value);
                    found.push((name.clone(), shape));
                }
            }
        }
    }
    for (_, shape) in &mut found {
        shape.out_of(events.len());
    }
    found
}

/// The first required field whose name ends in `id`.
fn key(fields: &[(String, Shape)]) -> Option<&str> {
    fields
        .iter()
        .find(|(name, shape)| name.to_lowercase().ends_with("id") && shape.can_be_key())
        .map(|(name, _)| name.as_str())
}

/// The nearest valid name.
fn contract_name(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().take(60) {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() => out.push(c),
            c if c.is_ascii_digit() && !out.is_empty() && !out.ends_with('.') => out.push(c),
            '.' if !out.is_empty() && !out.ends_with('.') => out.push('.'),
            _ if !out.is_empty() && !out.ends_with(['_', '.']) => out.push('_'),
            _ => {}
        }
    }
    let out = out.trim_end_matches('.');
    if out.is_empty() { "event".to_owned() } else { out.to_owned() }
}

/// A text as a YAML scalar.
pub(crate) fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_lowercase().as_str());
    if plain {
        text.to_owned()
    } else if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        // JSON text is a double-quoted YAML scalar once everything unusual is escaped.
        let mut out = String::from('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                ' '..='~' => out.push(c),
                c => {
                    let _ = write!(out, "\\U{:08x}", u32::from(c));
                }
            }
        }
        out.push('"');
        out
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
