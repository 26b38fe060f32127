//! Filters as they are asked: what the value of a dimension must be, before a contract says of what type it is.
//!
//! Both written forms are read here and nowhere else:
//!
//! ```text
//! text   dimension:value        dimension.operator:value
//! JSON   {"dimension": value}   {"dimension": [value, null]}   {"dimension": {"operator": value}}
//! ```
//!
//! Everything that is said must hold. A value that is not there is told from every text: `dimension.null:true`,
//! and `null` in JSON, which is also how answers show it. An operator stands behind the name of the dimension,
//! because a name has no point in it, while a value may be anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::metric::hint;

/// Most values that the filters of one question name.
pub const MAX_VALUES: usize = 1_000;

/// Operators of both forms.
const OPERATORS: [&str; 10] =
    ["in", "in_or_null", "not", "not_in", "gt", "gte", "lt", "lte", "between", "null"];

/// Dimension → what must hold of its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filters(BTreeMap<String, Vec<Condition>>);

/// What must hold of a value. Values are texts as asked; `None` is the one that is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// It is one of these.
    In(Vec<Option<String>>),
    /// It is none of these. One that is not there is none of them, unless it is named.
    NotIn(Vec<Option<String>>),
    /// It is there and above this, or the same where `or_equal`.
    Above {
        /// The lower bound.
        bound: String,
        /// Does the bound itself fit?
        or_equal: bool,
    },
    /// It is there and below this, or the same where `or_equal`.
    Below {
        /// The upper bound.
        bound: String,
        /// Does the bound itself fit?
        or_equal: bool,
    },
}

/// Why a text or a JSON value is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NoFilter {
    /// What is wrong; begins with what was read, without the name of the parameter.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl Filters {
    /// Is nothing asked of any dimension?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each dimension with its conditions, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Condition])> {
        self.0.iter().map(|(name, conditions)| (name.as_str(), conditions.as_slice()))
    }

    /// Is something asked of this dimension?
    pub fn contains(&self, dimension: &str) -> bool {
        self.0.contains_key(dimension)
    }

    /// Bytes of all names and values, roughly.
    pub(crate) fn weight(&self) -> usize {
        let of = |value: &Option<String>| 32 + value.as_ref().map_or(0, String::len);
        let conditions = |(name, conditions): (&str, &[Condition])| {
            let weights = conditions.iter().map(|condition| match condition {
                Condition::In(values) | Condition::NotIn(values) => values.iter().map(of).sum(),
                Condition::Above { bound, .. } | Condition::Below { bound, .. } => 32 + bound.len(),
            });
            name.len() + 64 + weights.sum::<usize>()
        };
        self.iter().map(conditions).sum()
    }

    /// Adds a condition; one that is there already says nothing new.
    pub(crate) fn add(&mut self, dimension: &str, condition: Condition) {
        let conditions = self.0.entry(dimension.to_owned()).or_default();
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }

    /// One spelling for conditions that mean the same.
    pub(crate) fn sorted(mut self) -> Self {
        self.0.values_mut().for_each(|conditions| conditions.sort_unstable());
        self
    }

    /// Adds `dimension:value` or `dimension.operator:value`.
    pub fn add_text(&mut self, text: &str) -> Result<(), NoFilter> {
        let Some((name, value)) = text.split_once(':') else {
            return Err(no_filter(
                format!("has no colon: `{text}`"),
                "write it as dimension:value or dimension.operator:value",
            ));
        };
        self.add_named(name, value)
    }

    /// Adds what stands on the two sides of the colon.
    pub fn add_named(&mut self, name: &str, value: &str) -> Result<(), NoFilter> {
        let Some((dimension, operator)) = name.split_once('.') else {
            return self.add_in(name, vec![Some(value.to_owned())]);
        };
        let texts = || listed(value).into_iter().map(Some).collect::<Vec<_>>();
        let condition = match operator {
            "in" => return self.add_in(dimension, texts()),
            "in_or_null" => {
                return self.add_in(dimension, texts().into_iter().chain([None]).collect());
            }
            "not" => Condition::NotIn(vec![Some(value.to_owned())]),
            "not_in" => Condition::NotIn(texts()),
            "between" => match listed(value).as_slice() {
                [low, high] => return self.add_between(dimension, low, high),
                _ => {
                    return Err(no_filter(
                        format!("has no two bounds: `{name}:{value}`"),
                        "write it as dimension.between:low,high; both bounds fit",
                    ));
                }
            },
            "null" => match value {
                "true" => return self.add_in(dimension, vec![None]),
                "false" => Condition::NotIn(vec![None]),
                _ => {
                    return Err(no_filter(
                        format!("has neither `true` nor `false`: `{name}:{value}`"),
                        "write it as dimension.null:true or dimension.null:false",
                    ));
                }
            },
            _ => bound(operator, value.to_owned()).ok_or_else(|| unknown(operator))?,
        };
        self.add(dimension, condition);
        self.checked()
    }

    /// Reads an object of dimensions and what must hold of them, a text, or a list of texts. `None`: it is
    /// nothing of the kind.
    pub fn of_json(value: &Value) -> Option<Result<Self, NoFilter>> {
        let mut filters = Self::default();
        let read = match value {
            Value::Object(members) => {
                for (dimension, value) in members {
                    if let Err(error) = filters.add_json(dimension, value)? {
                        return Some(Err(error));
                    }
                }
                Ok(())
            }
            Value::String(text) => filters.add_text(text),
            Value::Array(items) => {
                for item in items {
                    if let Err(error) = filters.add_text(item.as_str()?) {
                        return Some(Err(error));
                    }
                }
                Ok(())
            }
            _ => return None,
        };
        Some(read.and_then(|()| filters.checked()).map(|()| filters))
    }

    /// Adds what a member says; `None` when it is of no form that says anything.
    fn add_json(&mut self, dimension: &str, value: &Value) -> Option<Result<(), NoFilter>> {
        let Value::Object(operators) = value else {
            let values = named(dimension, texts(value)?);
            return Some(values.and_then(|values| self.add_in(dimension, values)));
        };
        if operators.is_empty() {
            return Some(Err(no_filter(
                format!("says nothing of `{dimension}`"),
                &operators_hint(),
            )));
        }
        for (operator, value) in operators {
            let added = match operator.as_str() {
                "in" if !value.is_array() => return None,
                "in" => named(dimension, texts(value)?)
                    .and_then(|values| self.add_in(dimension, values)),
                "in_or_null" => named(dimension, texts(value)?).and_then(|mut values| {
                    if !values.contains(&None) {
                        values.push(None);
                    }
                    self.add_in(dimension, values)
                }),
                "not" | "not_in" => named(dimension, texts(value)?)
                    .map(|values| self.add(dimension, Condition::NotIn(values))),
                "between" => match texts(value)?.as_slice() {
                    [Some(low), Some(high)] => self.add_between(dimension, low, high),
                    _ => return None,
                },
                "null" if value.as_bool()? => self.add_in(dimension, vec![None]),
                "null" => {
                    self.add(dimension, Condition::NotIn(vec![None]));
                    Ok(())
                }
                "gt" | "gte" | "lt" | "lte" => bound(operator, text(value)??)
                    .ok_or_else(|| unknown(operator))
                    .map(|bound| self.add(dimension, bound)),
                _ => Err(unknown(operator)),
            };
            if added.is_err() {
                return Some(added);
            }
        }
        Some(Ok(()))
    }

    /// A dimension has one value, so two lists can only be a slip.
    fn add_in(&mut self, dimension: &str, values: Vec<Option<String>>) -> Result<(), NoFilter> {
        let wanted = Condition::In(values);
        let mut conditions = self.0.get(dimension).into_iter().flatten();
        if conditions.any(|known| matches!(known, Condition::In(_)) && *known != wanted) {
            return Err(no_filter(
                format!("names the dimension `{dimension}` twice with different values"),
                &format!("write {dimension}.in:a,b for several values, or group by the dimension"),
            ));
        }
        self.add(dimension, wanted);
        self.checked()
    }

    fn add_between(&mut self, dimension: &str, low: &str, high: &str) -> Result<(), NoFilter> {
        self.add(dimension, Condition::Above { bound: low.to_owned(), or_equal: true });
        self.add(dimension, Condition::Below { bound: high.to_owned(), or_equal: true });
        self.checked()
    }

    fn checked(&self) -> Result<(), NoFilter> {
        let counts = self.0.values().flatten().map(|condition| match condition {
            Condition::In(values) | Condition::NotIn(values) => values.len(),
            Condition::Above { .. } | Condition::Below { .. } => 1,
        });
        let count: usize = counts.sum();
        match count <= MAX_VALUES {
            true => Ok(()),
            false => Err(no_filter(
                format!("names {count} values, which is more than {MAX_VALUES}"),
                "group by the dimension, or ask in several requests",
            )),
        }
    }

    /// As texts that [`Self::add_text`] reads.
    pub fn to_texts(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (dimension, conditions) in self.iter() {
            for condition in conditions {
                match condition {
                    Condition::In(values) => match values.as_slice() {
                        [Some(value)] => found.push(format!("{dimension}:{value}")),
                        [None] => found.push(format!("{dimension}.null:true")),
                        _ if values.contains(&None) => {
                            found.push(format!("{dimension}.in_or_null:{}", joined(values)));
                        }
                        _ => found.push(format!("{dimension}.in:{}", joined(values))),
                    },
                    Condition::NotIn(values) => {
                        if values.contains(&None) {
                            found.push(format!("{dimension}.null:false"));
                        }
                        if values.iter().any(Option::is_some) {
                            found.push(format!("{dimension}.not_in:{}", joined(values)));
                        }
                    }
                    Condition::Above { bound, or_equal } => {
                        let operator = if *or_equal { "gte" } else { "gt" };
                        found.push(format!("{dimension}.{operator}:{bound}"));
                    }
                    Condition::Below { bound, or_equal } => {
                        let operator = if *or_equal { "lte" } else { "lt" };
                        found.push(format!("{dimension}.{operator}:{bound}"));
                    }
                }
            }
        }
        found
    }
}

/// A value per dimension, all of which must hold.
impl FromIterator<(String, String)> for Filters {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        let mut filters = Self::default();
        for (dimension, value) in pairs {
            filters.add(&dimension, Condition::In(vec![Some(value)]));
        }
        filters
    }
}

impl<const N: usize> From<[(String, String); N]> for Filters {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl From<BTreeMap<String, String>> for Filters {
    fn from(pairs: BTreeMap<String, String>) -> Self {
        pairs.into_iter().collect()
    }
}

fn bound(operator: &str, bound: String) -> Option<Condition> {
    Some(match operator {
        "gt" => Condition::Above { bound, or_equal: false },
        "gte" => Condition::Above { bound, or_equal: true },
        "lt" => Condition::Below { bound, or_equal: false },
        "lte" => Condition::Below { bound, or_equal: true },
        _ => return None,
    })
}

fn unknown(operator: &str) -> NoFilter {
    no_filter(
        format!("has the operator `{operator}`, which there is not"),
        &hint(operator, OPERATORS).unwrap_or_else(operators_hint),
    )
}

fn operators_hint() -> String {
    format!("operators are {}", OPERATORS.join(", "))
}

fn no_filter(message: String, hint: &str) -> NoFilter {
    NoFilter { message, hint: hint.to_owned() }
}

/// At least one value.
fn named(dimension: &str, values: Vec<Option<String>>) -> Result<Vec<Option<String>>, NoFilter> {
    match values.is_empty() {
        true => Err(no_filter(
            format!("names no value of `{dimension}`"),
            "a list has one value or more; leave the dimension out to let all in",
        )),
        false => Ok(values),
    }
}

/// The text of a value: `Some(None)` for `null`, `None` for what is no single value.
fn text(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        Value::Number(_) | Value::Bool(_) => Some(Some(value.to_string())),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The texts of a list; a single value is a list of one.
fn texts(value: &Value) -> Option<Vec<Option<String>>> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        _ => text(value).map(|text| vec![text]),
    }
}

/// Parts between commas. A backslash takes the next character as it is.
fn listed(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(char) = chars.next() {
        match char {
            ',' => parts.push(std::mem::take(&mut part)),
            '\\' => part.push(chars.next().unwrap_or('\\')),
            _ => part.push(char),
        }
    }
    parts.push(part);
    parts
}

/// What [`listed`] takes apart. What is not there has no text.
fn joined(values: &[Option<String>]) -> String {
    let mut text = String::new();
    for (place, value) in values.iter().flatten().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for char in value.chars() {
            if matches!(char, ',' | '\\') {
                text.push('\\');
            }
            // Writing to a text does not fail.
            let _ = text.write_char(char);
        }
    }
    text
}

#[cfg(test)]
mod tests;
