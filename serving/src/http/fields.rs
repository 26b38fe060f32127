//! Members of JSON bodies, read one by one: a member of a wrong type is an error that names it, one
//! that is not known is left alone, because clients send more than servers know.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::after::duration;
use super::error::{ApiError, Code};
use super::routes::events;
use super::time;
use crate::metric::hint;
use crate::question::Filters;

/// An object none of whose members stands in it twice: which of them is meant, nobody should have to guess.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Once;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Once, A::Error> {
                let mut names = HashSet::new();
                while let Some((name, IgnoredAny)) = members.next_entry::<String, _>()? {
                    if let Some(name) = names.replace(name) {
                        return Err(A::Error::custom(format!("`{name}` is given more than once")));
                    }
                }
                Ok(Once)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A JSON object of a request, and what it is called in errors.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    members: Map<String, Value>,
    /// Stands before the names of members: empty, or `params.`.
    prefix: String,
}

impl Fields {
    /// The body of a request.
    pub(super) async fn read(
        body: Body,
        headers: &HeaderMap,
        limit: usize,
    ) -> Result<Self, ApiError> {
        let bytes = events::read(body, headers, limit).await.map_err(|error| match error.code {
            Code::BodyTooLarge => error.hint("ask for less at once"),
            _ => error,
        })?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            ApiError::new(Code::InvalidBody, format!("the body is no JSON: {error}"))
        })?;
        let fields = Self::of(value, "")
            .map_err(|_| ApiError::new(Code::InvalidBody, "the body must be a JSON object"))?;
        match serde_json::from_slice(&bytes) {
            Ok(Once) => Ok(fields),
            Err(error) => Err(ApiError::invalid(error.to_string())),
        }
    }

    /// The same of a request that may have no body.
    pub(super) async fn read_any(
        body: Body,
        headers: &HeaderMap,
        limit: usize,
    ) -> Result<Self, ApiError> {
        let bytes = events::read(body, headers, limit).await?;
        let bytes = if bytes.trim_ascii().is_empty() { b"{}".to_vec() } else { bytes };
        Self::read(Body::from(bytes), headers, limit).await
    }

    /// Refuses members other than these: where something is changed, a typo must not go unnoticed.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, ApiError> {
        match self.members.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some(name) => {
                let shown: String = name.chars().take(60).collect();
                let near = hint(name, known.iter().copied());
                let error =
                    ApiError::invalid(format!("there is no member `{}`", self.name(&shown)));
                Err(ApiError { hint: near, ..error })
            }
        }
    }

    /// An object inside another.
    pub(super) fn of(value: Value, prefix: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(members) => Ok(Self { members, prefix: prefix.to_owned() }),
            other => {
                let name = prefix.trim_end_matches('.');
                Err(unfit(name, "an object", &other))
            }
        }
    }

    /// Is the member there, and not null?
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(unfit(&self.name(name), "a text", other)),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: &str) -> Result<String, ApiError> {
        self.text(name)?
            .ok_or_else(|| ApiError::invalid(format!("`{}` is missing", self.name(name))))
    }

    /// `true` or `false`; false when it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(unfit(&self.name(name), "`true` or `false`", other)),
        }
    }

    /// A whole number.
    pub(super) fn number(
        &self,
        name: &str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<u64, ApiError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        match value.as_u64().filter(|number| bounds.contains(number)) {
            Some(number) => Ok(number),
            None => {
                let expected =
                    format!("a whole number from {} to {}", bounds.start(), bounds.end());
                Err(unfit(&self.name(name), &expected, value))
            }
        }
    }

    /// A whole number, if it is there.
    pub(super) fn maybe_number(
        &self,
        name: &str,
        bounds: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        self.has(name).then(|| self.number(name, 0, bounds)).transpose()
    }

    /// A version of a contract: 2, "2" or "v2".
    pub(super) fn version(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = scalar(value).unwrap_or_default();
        match text.strip_prefix('v').unwrap_or(&text).parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(unfit(&self.name(name), "a version such as 2 or v2", value)),
        }
    }

    /// A time: a text, or seconds since 1970.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = match value {
            Value::String(_) | Value::Number(_) => scalar(value).unwrap_or_default(),
            _ => String::new(),
        };
        match time::parse(&text) {
            Some(micros) => Ok(Some(micros)),
            None => Err(unfit(&self.name(name), "a time", value)
                .hint("write it as 2026-01-31T10:00:00Z, or as seconds since 1970")),
        }
    }

    /// A duration such as `2s`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value {
            Value::String(text) => duration(&self.name(name), text).map(Some),
            Value::Number(number) if number.as_u64() == Some(0) => Ok(Some(Duration::ZERO)),
            other => Err(unfit(&self.name(name), "a duration such as \"2s\"", other)),
        }
    }

    /// The same in µs.
    pub(super) fn micros(&self, name: &str) -> Result<Option<i64>, ApiError> {
        Ok(self.duration(name)?.map(|length| i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Texts or numbers, as they are: one, a list of them, or several joined by commas.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let of = |value: &Value| scalar(value).filter(|_| !value.is_boolean());
        let texts: Option<Vec<String>> = match value {
            Value::String(text) => Some(text.split(',').map(str::to_owned).collect()),
            Value::Array(items) => items.iter().map(of).collect(),
            other => of(other).map(|text| vec![text]),
        };
        texts.ok_or_else(|| unfit(&self.name(name), "a text, a number or a list of them", value))
    }

    /// A list of texts; one text is a list of one, or of several joined by commas.
    pub(super) fn names(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let of = |value: &Value| match value {
            Value::String(text) => Some(text.trim().to_owned()),
            _ => None,
        };
        let names = match self.get(name) {
            None => Some(Vec::new()),
            Some(Value::String(text)) => {
                Some(text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>())
            }
            Some(Value::Array(items)) => items.iter().map(of).collect(),
            Some(_) => None,
        };
        match (names, self.get(name)) {
            (Some(names), _) if names.iter().all(|name| !name.is_empty()) => Ok(names),
            (_, Some(value)) => Err(unfit(&self.name(name), "a list of names", value)),
            (_, None) => Ok(Vec::new()),
        }
    }

    /// What must hold of dimensions: an object, or texts as query parameters have them.
    pub(super) fn filters(&self, name: &str) -> Result<Filters, ApiError> {
        let Some(value) = self.get(name) else { return Ok(Filters::default()) };
        match Filters::of_json(value) {
            Some(read) => read.map_err(|error| ApiError::no_filter(&self.name(name), error)),
            None => Err(unfit(&self.name(name), "an object of dimensions and values", value).hint(
                r#"write {"dimension": "value"}, {"dimension": ["a", "b"]} or {"dimension": {"gte": 1}}"#,
            )),
        }
    }

    /// Columns to order by, each with "downwards?": `name`, `-name`, `name desc`.
    pub(super) fn order(&self, name: &str) -> Result<Vec<(String, bool)>, ApiError> {
        let mut order = Vec::new();
        for text in self.names(name)? {
            let (column, down) = match text.strip_prefix('-') {
                Some(column) => (column, true),
                None => match text.split_once(char::is_whitespace) {
                    None => (text.as_str(), false),
                    Some((column, way)) => match way.trim().to_ascii_lowercase().as_str() {
                        "asc" => (column, false),
                        "desc" => (column, true),
                        _ => {
                            return Err(ApiError::invalid(format!(
                                "`{}` has `{text}`, expected a column and `asc` or `desc`",
                                self.name(name)
                            )));
                        }
                    },
                },
            };
            order.push((column.to_owned(), down));
        }
        Ok(order)
    }

    /// A list of anything.
    pub(super) fn list(
        &self,
        name: &str,
        counts: RangeInclusive<usize>,
    ) -> Result<&[Value], ApiError> {
        let expected = format!("a list of {} to {} entries", counts.start(), counts.end());
        match self.get(name) {
            Some(Value::Array(items)) if counts.contains(&items.len()) => Ok(items),
            Some(Value::Array(items)) => Err(ApiError::invalid(format!(
                "`{}` must be {expected}, not {}",
                self.name(name),
                items.len()
            ))),
            Some(other) => Err(unfit(&self.name(name), &expected, other)),
            None => Err(ApiError::invalid(format!(
                "`{}` is missing: it must be {expected}",
                self.name(name)
            ))),
        }
    }

    /// An object inside; an empty one when it is not there.
    pub(super) fn object(&self, name: &str) -> Result<Self, ApiError> {
        let prefix = format!("{}{name}.", self.prefix);
        match self.get(name) {
            None => Ok(Self { members: Map::new(), prefix }),
            Some(value) => Self::of(value.clone(), &prefix),
        }
    }
}

/// The text of a value that a dimension, a version or a time may have.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn unfit(name: &str, expected: &str, found: &Value) -> ApiError {
    let found: String = found.to_string().chars().take(60).collect();
    ApiError::invalid(format!("`{name}` must be {expected}, not `{found}`"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of(value, "").unwrap()
    }

    #[test]
    fn members_are_read_by_their_type_and_named_when_they_do_not_fit() {
        let body = fields(json!({"a": "x", "n": 7, "t": 1767225600, "v": "v2", "nil": null}));
        assert_eq!(body.text("a").unwrap().as_deref(), Some("x"));
        assert_eq!(body.number("n", 1, 1..=10).unwrap(), 7);
        assert_eq!(body.time("t").unwrap(), Some(1_767_225_600_000_000));
        assert_eq!(body.version("v").unwrap(), Some(2));
        assert!(!body.has("nil") && body.text("nil").unwrap().is_none());
        for (error, detail) in [
            (body.text("n").unwrap_err(), "`n` must be a text, not `7`"),
            (
                body.number("n", 1, 1..=5).unwrap_err(),
                "`n` must be a whole number from 1 to 5, not `7`",
            ),
            (body.time("a").unwrap_err(), "`a` must be a time, not `\"x\"`"),
            (body.required("b").unwrap_err(), "`b` is missing"),
            (body.object("a").unwrap_err(), "`a` must be an object, not `\"x\"`"),
        ] {
            assert_eq!(error.detail, detail);
        }
    }

    #[test]
    fn lists_and_filters_have_short_forms() {
        let body = fields(json!({
            "names": ["a", "b"], "text": "a, b", "wrong": [1], "empty": ["a", ""],
            "filters": {"x": "1", "y": 2, "z": true}, "pairs": ["x:1:2"], "twice": ["x:1", "x:2"],
            "order": ["a", "-b", "c desc", "d ASC"], "odd": ["a sideways"],
        }));
        assert_eq!(body.names("names").unwrap(), ["a", "b"]);
        assert_eq!(body.names("text").unwrap(), ["a", "b"]);
        assert!(body.names("wrong").is_err() && body.names("empty").is_err());
        let pairs = |pairs: &[(&str, &str)]| -> Filters {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let filters = body.filters("filters").unwrap();
        assert_eq!(filters, pairs(&[("x", "1"), ("y", "2"), ("z", "true")]));
        assert_eq!(body.filters("pairs").unwrap(), pairs(&[("x", "1:2")]));
        assert!(body.filters("twice").is_err() && body.filters("names").is_err());
        let order = body.order("order").unwrap();
        let downs: Vec<bool> = order.iter().map(|(_, down)| *down).collect();
        assert_eq!(downs, [false, true, true, false]);
        assert!(body.order("odd").is_err());
    }
}
