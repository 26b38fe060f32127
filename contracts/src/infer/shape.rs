//! What the values of one member look like.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::envelope::is_rfc3339;
use super::quoted;

/// Fewer values than this are no ground for a list of allowed ones or a pattern.
const ENOUGH: usize = 8;
/// More different texts than this are no enumeration.
const MAX_VALUES: usize = 8;
/// Texts remembered per member.
const MAX_TEXTS: usize = 1_000;

/// The values seen so far.
#[derive(Debug)]
pub(super) struct Shape {
    name: String,
    ty: Option<Guess>,
    present: usize,
    nulls: usize,
    total: usize,
    texts: BTreeMap<String, usize>,
    many_texts: bool,
}

/// A type as far as the samples tell.
#[derive(Debug, Clone, PartialEq)]
enum Guess {
    Bool,
    Int,
    /// Digits after the point.
    Number(usize),
    Text,
    Timestamp,
    Date,
    List(Option<Box<Guess>>),
    Struct(Vec<(String, Option<Guess>)>),
    Json,
}

impl Shape {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ty: None,
            present: 0,
            nulls: 0,
            total: 0,
            texts: BTreeMap::new(),
            many_texts: false,
        }
    }

    pub(super) fn add(&mut self, value: &Value) {
        self.present += 1;
        if value.is_null() {
            self.nulls += 1;
            return;
        }
        if let Value::String(text) = value {
            if self.texts.len() < MAX_TEXTS || self.texts.contains_key(text) {
                *self.texts.entry(text.clone()).or_default() += 1;
            } else {
                self.many_texts = true;
            }
        }
        self.ty = join(self.ty.take(), guess(value));
    }

    /// Says how many samples there were in all.
    pub(super) fn out_of(&mut self, total: usize) {
        self.total = total;
    }

    fn required(&self) -> bool {
        self.present == self.total && self.nulls == 0
    }

    pub(super) fn can_be_key(&self) -> bool {
        self.required() && matches!(self.ty, Some(Guess::Text | Guess::Int))
    }

    /// The field as a contract writes it.
    pub(super) fn contract(&self) -> String {
        let ty = written(self.ty.as_ref());
        let mut details = Vec::new();
        if self.ty == Some(Guess::Text) {
            if let Some(values) = self.values() {
                details.push(format!("values: [{}]", values.join(", ")));
            } else if let Some(pattern) = self.pattern() {
                details.push(format!("pattern: {}", quoted(&pattern)));
            }
        }
        if !self.required() {
            details.push("required: false".to_owned());
        }
        let ty = match ty.contains(['(', '<']) {
            true => format!("'{ty}'"),
            false => ty,
        };
        match details.as_slice() {
            [] => ty,
            details => format!("{{type: {ty}, {}}}", details.join(", ")),
        }
    }

    /// Few texts, each seen often: an enumeration.
    fn values(&self) -> Option<Vec<String>> {
        let count: usize = self.texts.values().sum();
        let few = !self.many_texts && self.texts.len() <= MAX_VALUES;
        (few && count >= ENOUGH && self.texts.len() * 4 <= count)
            .then(|| self.texts.keys().map(|t| quoted(t)).collect())
    }

    /// A pattern for ids: UUIDs, or letters and digits in a fixed arrangement.
    fn pattern(&self) -> Option<String> {
        let id = self.name.to_lowercase().ends_with("id");
        if !id || self.texts.len() < 2 || self.many_texts {
            return None;
        }
        let texts: Vec<&str> = self.texts.keys().map(String::as_str).collect();
        const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        let uuid = Regex::new(&format!("^{UUID}$")).ok()?;
        if texts.iter().all(|t| uuid.is_match(t)) {
            return Some(UUID.to_owned());
        }
        let runs: Vec<Vec<Run>> = texts.iter().map(|t| runs(t)).collect();
        let mut pattern = String::new();
        let first = runs.first()?;
        if runs.iter().any(|r| r.len() != first.len()) || first.len() < 2 {
            return None;
        }
        for i in 0..first.len() {
            let column: Vec<&Run> = runs.iter().map(|r| &r[i]).collect();
            match column[0] {
                Run::Text(text) => {
                    if column.iter().any(|r| *r != column[0]) {
                        return None;
                    }
                    // The hyphen is special in classes only, and there is none here.
                    pattern += &regex::escape(text).replace("\\-", "-");
                }
                Run::Digits(length) => {
                    if column.iter().any(|r| matches!(r, Run::Text(_))) {
                        return None;
                    }
                    let same = column.iter().all(|r| *r == column[0]);
                    pattern += &if same { format!("\\d{{{length}}}") } else { "\\d+".to_owned() };
                }
            }
        }
        pattern.contains("\\d").then_some(pattern)
    }
}

#[derive(Debug, PartialEq)]
enum Run {
    Digits(usize),
    Text(String),
}

fn runs(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for c in text.chars().take(64) {
        match (c.is_ascii_digit(), runs.last_mut()) {
            (true, Some(Run::Digits(n))) => *n += 1,
            (true, _) => runs.push(Run::Digits(1)),
            (false, Some(Run::Text(t))) => t.push(c),
            (false, _) => runs.push(Run::Text(c.to_string())),
        }
    }
    runs
}

fn guess(value: &Value) -> Option<Guess> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => Guess::Bool,
        Value::Number(n) if n.is_i64() => Guess::Int,
        Value::Number(n) => {
            let text = n.to_string();
            match text.contains(['e', 'E']) {
                true => Guess::Number(usize::MAX),
                false => Guess::Number(text.split_once('.').map_or(0, |(_, f)| f.len())),
            }
        }
        Value::String(text) if is_rfc3339(text) => Guess::Timestamp,
        Value::String(text)
            if text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() =>
        {
            Guess::Date
        }
        Value::String(_) => Guess::Text,
        Value::Array(items) => {
            let inner = items.iter().fold(None, |known, item| join(known, guess(item)));
            Guess::List(inner.map(Box::new))
        }
        Value::Object(members) => {
            let plain = members.keys().all(|name| crate::check::is_column_name(name));
            let mut names: Vec<String> = members.keys().map(|n| n.to_lowercase()).collect();
            names.sort();
            let unique = names.windows(2).all(|pair| pair[0] != pair[1]);
            if members.is_empty() || !plain || !unique {
                Guess::Json
            } else {
                Guess::Struct(members.iter().map(|(n, v)| (n.clone(), guess(v))).collect())
            }
        }
    })
}

/// The narrowest type that holds both.
fn join(a: Option<Guess>, b: Option<Guess>) -> Option<Guess> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return one.or(other),
    };
    Some(match (a, b) {
        (a, b) if a == b => a,
        (Guess::Int, Guess::Number(n)) | (Guess::Number(n), Guess::Int) => Guess::Number(n),
        (Guess::Number(a), Guess::Number(b)) => Guess::Number(a.max(b)),
        (
            Guess::Text | Guess::Timestamp | Guess::Date,
            Guess::Text | Guess::Timestamp | Guess::Date,
        ) => Guess::Text,
        (Guess::List(a), Guess::List(b)) => {
            Guess::List(join(a.map(|g| *g), b.map(|g| *g)).map(Box::new))
        }
        (Guess::Struct(mut members), Guess::Struct(others)) => {
            for (name, ty) in others {
                match members.iter_mut().find(|(m, _)| m.eq_ignore_ascii_case(&name)) {
                    Some((known, own)) if *known == name => *own = join(own.take(), ty),
                    // Members are not told apart by case.
                    Some(_) => return Some(Guess::Json),
                    None => members.push((name, ty)),
                }
            }
            Guess::Struct(members)
        }
        _ => Guess::Json,
    })
}

fn written(ty: Option<&Guess>) -> String {
    written_at(ty, 0)
}

fn written_at(ty: Option<&Guess>, depth: usize) -> String {
    // The inner part of very deep records stays JSON text.
    if depth > 6 {
        return "json".to_owned();
    }
    match ty {
        None | Some(Guess::Json) | Some(Guess::List(None)) => "json".to_owned(),
        Some(Guess::Bool) => "bool".to_owned(),
        Some(Guess::Int) => "int64".to_owned(),
        Some(Guess::Number(digits)) if *digits <= 2 => "decimal(18,2)".to_owned(),
        Some(Guess::Number(_)) => "float64".to_owned(),
        Some(Guess::Text) => "string".to_owned(),
        Some(Guess::Timestamp) => "timestamp".to_owned(),
        Some(Guess::Date) => "date".to_owned(),
        Some(Guess::List(Some(inner))) => format!("list<{}>", written_at(Some(inner), depth + 1)),
        Some(Guess::Struct(members)) => {
            let members: Vec<String> = members
                .iter()
                .map(|(name, ty)| format!("{name}: {}", written_at(ty.as_ref(), depth + 1)))
                .collect();
            format!("struct<{}>", members.join(", "))
        }
    }
}
