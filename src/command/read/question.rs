//! A question as it is written on the command line or in a batch file.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serving::question::Filters;

use super::reader::Refusal;
use crate::failure::Failure;

/// A question before its contract is known: all texts as given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) metric: String,
    pub(super) window: Option<String>,
    pub(super) as_of: Option<String>,
    pub(super) known_at: Option<String>,
    pub(super) filters: Filters,
    pub(super) group_by: Vec<String>,
}

/// A line of a batch file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    metric: String,
    #[serde(default)]
    window: Option<String>,
    #[serde(default)]
    as_of: Option<Value>,
    #[serde(default)]
    known_at: Option<Value>,
    #[serde(default)]
    filters: Option<Value>,
    #[serde(default)]
    group_by: Option<Vec<String>>,
    /// A file of questions with their expected answers can be asked as it is.
    #[serde(default, rename = "value")]
    _value: IgnoredAny,
    /// See `value`.
    #[serde(default, rename = "groups")]
    _groups: IgnoredAny,
}

impl Question {
    pub(super) fn of_arguments(
        metric: String,
        window: Option<String>,
        as_of: Option<String>,
        known_at: Option<String>,
        filters: &[String],
        group_by: Vec<String>,
    ) -> Result<Self, Failure> {
        let mut by_dimension = Filters::default();
        for filter in filters {
            let Some((dimension, value)) = filter.split_once('=') else {
                return Err(Failure::input(format!("--filter `{filter}` has no `=`"))
                    .hint("write it as --filter dimension=value or dimension.operator=value"));
            };
            by_dimension.add_named(dimension, value).map_err(|error| {
                Failure::input(format!("--filter {}", error.message)).hint(error.hint)
            })?;
        }
        Ok(Self { metric, window, as_of, known_at, filters: by_dimension, group_by })
    }

    pub(super) fn of_json(line: &[u8]) -> Result<Self, Refusal> {
        let refused = |message: String| Refusal::Question {
            message,
            hint: Some(
                r#"write {"metric":"…","window":"1h","as_of":"…","filters":{},"group_by":[]}"#
                    .to_owned(),
            ),
        };
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| refused(format!("the line is not a question: {error}")))?;
        let time = |name: &str, given: Option<Value>| match given {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match scalar(&value) {
                Some(text) => Ok(Some(text)),
                None => Err(refused(format!("{name} `{value}` is not a time"))),
            },
        };
        let as_of = time("as_of", line.as_of)?;
        let known_at = time("known_at", line.known_at)?;
        let filters = match line.filters.filter(|filters| !filters.is_null()) {
            None => Filters::default(),
            Some(value) => match Filters::of_json(&value) {
                Some(read) => read.map_err(|error| Refusal::Question {
                    message: format!("`filters` {}", error.message),
                    hint: Some(error.hint),
                })?,
                None => return Err(refused(format!("these are no filters: {value}"))),
            },
        };
        let group_by = line.group_by.unwrap_or_default();
        let Line { metric, window, .. } = line;
        Ok(Self { metric, window, as_of, known_at, filters, group_by })
    }

    /// As query parameters of `GET /v1/metrics/{name}`.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        parameters.extend(self.window.clone().map(|window| ("window", window)));
        parameters.extend(self.as_of.clone().map(|as_of| ("as_of", as_of)));
        parameters.extend(self.known_at.clone().map(|known_at| ("known_at", known_at)));
        parameters.extend(self.filters.to_texts().into_iter().map(|text| ("filter", text)));
        if !self.group_by.is_empty() {
            parameters.push(("group_by", self.group_by.join(",")));
        }
        parameters
    }
}

/// The text of a value that a dimension or a time may have.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(metric: &str, as_of: Option<&str>, filters: &[(&str, &str)]) -> Question {
        Question {
            metric: metric.to_owned(),
            window: Some("1h".to_owned()),
            as_of: as_of.map(str::to_owned),
            known_at: None,
            filters: filters.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
            group_by: vec![],
        }
    }

    #[track_caller]
    fn check(line: &str, expected: Option<Question>) {
        match (Question::of_json(line.as_bytes()), expected) {
            (Ok(got), Some(expected)) => assert_eq!(got, expected, "{line}"),
            (Err(Refusal::Question { .. }), None) => {}
            (got, _) => panic!("{line}: {got:?}"),
        }
    }

    #[test]
    fn a_line_is_a_question() {
        check(r#"{"metric":"m","window":"1h"}"#, Some(asked("m", None, &[])));
        check(
            r#"{"metric":"m","window":"1h","as_of":"2026-01-01","filters":{"a":"b","c":7},"group_by":[]}"#,
            Some(asked("m", Some("2026-01-01"), &[("a", "b"), ("c", "7")])),
        );
        check(
            r#"{"metric":"m","window":"1h","as_of":1767225600}"#,
            Some(asked("m", Some("1767225600"), &[])),
        );
        check(
            r#"{"metric":"m","window":"1h","as_of":null,"value":3,"groups":[1]}"#,
            Some(asked("m", None, &[])),
        );
    }

    #[test]
    fn anything_else_is_refused() {
        check("", None);
        check("{", None);
        check(r#"{"window":"1h"}"#, None);
        check(r#"{"metric":"m","windw":"1h"}"#, None);
        check(r#"{"metric":"m","filters":{"a":[[1]]}}"#, None);
        check(r#"{"metric":"m","filters":{"a":{"like":1}}}"#, None);
        check(r#"{"metric":"m","filters":7}"#, None);
        check(r#"{"metric":"m","as_of":[]}"#, None);
    }

    #[test]
    fn filters_are_split_at_the_first_equals_sign() {
        let of = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|&f| f.to_owned()).collect();
            Question::of_arguments("m".into(), Some("1h".into()), None, None, &filters, vec![])
        };
        assert_eq!(of(&["a=b=c"]).unwrap(), asked("m", None, &[("a", "b=c")]));
        assert!(of(&["a"]).unwrap_err().text().contains("hint: "));
        assert!(of(&["a=1", "a=2"]).is_err());
        assert!(of(&["a=1", "a=1"]).is_ok());
    }
}
