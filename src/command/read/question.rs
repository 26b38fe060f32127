//! A question as it is written on the command line or in a batch file.

use clap::Args;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serving::question::Filters;

use super::reader::Refusal;
use crate::failure::Failure;

/// What is asked of a metric, on the command line. What the values may be is known to who answers.
#[derive(Debug, Default, Args)]
pub(super) struct QuestionArgs {
    /// A window that the contract declares. Default: `1h`, else the first one.
    #[arg(long, conflicts_with = "batch")]
    window: Option<String>,
    /// Answer as of this time (RFC 3339, a date, or seconds since 1970). Without it: now.
    #[arg(long, value_name = "TIME", conflicts_with = "batch")]
    as_of: Option<String>,
    /// Leave out what was applied after this time: the answer that was true to what was known then.
    #[arg(long, value_name = "TIME", conflicts_with = "batch")]
    known_at: Option<String>,
    /// Version of the contract. Default: the newest stable one that is complete.
    #[arg(long, value_name = "N", conflicts_with = "batch")]
    version: Option<u32>,
    /// Only rows with this value of a dimension, or `DIMENSION.OPERATOR=VALUE` with in, not, not_in, gt, gte,
    /// lt, lte, between or null. May be repeated; all must hold.
    #[arg(long, value_name = "DIMENSION=VALUE", conflicts_with = "batch")]
    filter: Vec<String>,
    /// One value per value of these dimensions.
    #[arg(long, value_name = "A,B", value_delimiter = ',', conflicts_with = "batch")]
    group_by: Vec<String>,
    /// Order of the groups: `dimension` (the default), `value`, or `-value` for the largest first.
    #[arg(long, value_name = "ORDER", allow_hyphen_values = true, conflicts_with = "batch")]
    order_by: Option<String>,
    /// Most groups to show by name, 1 to 10000: the first ones in the order.
    #[arg(long, value_name = "N", conflicts_with = "batch")]
    limit: Option<u64>,
    /// All other groups as one, `__other__`, in place of leaving them out.
    #[arg(long, conflicts_with = "batch")]
    other: bool,
    /// `previous`: beside it the window of the same length before.
    #[arg(long, value_name = "WITH", conflicts_with = "batch")]
    compare: Option<String>,
    /// Cut the window into parts of this length: `5m`, `1h`, or `day`, `week`, `month`; at most 500.
    #[arg(long, value_name = "LENGTH", conflicts_with = "batch")]
    grain: Option<String>,
    /// Where the days of `--grain` begin: `Europe/Moscow`. Default: UTC.
    #[arg(long, value_name = "ZONE", requires = "grain", conflicts_with = "batch")]
    zone: Option<String>,
}

/// A question before its contract is known: all texts as given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) metric: String,
    /// Query parameters of `GET /v1/metrics/{name}`.
    pub(super) parameters: Vec<(&'static str, String)>,
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
    version: Option<u32>,
    #[serde(default)]
    filters: Option<Value>,
    #[serde(default)]
    group_by: Option<Vec<String>>,
    #[serde(default)]
    order_by: Option<String>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    other: Option<bool>,
    #[serde(default)]
    compare: Option<String>,
    #[serde(default)]
    grain: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    /// A file of questions with their expected answers can be asked as it is.
    #[serde(default, rename = "value")]
    _value: IgnoredAny,
    /// See `value`.
    #[serde(default, rename = "groups")]
    _groups: IgnoredAny,
}

impl Question {
    pub(super) fn of_arguments(metric: String, given: QuestionArgs) -> Result<Self, Failure> {
        let mut filters = Filters::default();
        for filter in &given.filter {
            let Some((dimension, value)) = filter.split_once('=') else {
                return Err(Failure::input(format!("--filter `{filter}` has no `=`"))
                    .hint("write it as --filter dimension=value or dimension.operator=value"));
            };
            filters.add_named(dimension, value).map_err(|error| {
                Failure::input(format!("--filter {}", error.message)).hint(error.hint)
            })?;
        }
        Ok(Self { metric, parameters: given.parameters(&filters) })
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
        let given = QuestionArgs {
            window: line.window,
            as_of: time("as_of", line.as_of)?,
            known_at: time("known_at", line.known_at)?,
            version: line.version,
            filter: Vec::new(),
            group_by: line.group_by.unwrap_or_default(),
            order_by: line.order_by,
            limit: line.limit,
            other: line.other.unwrap_or_default(),
            compare: line.compare,
            grain: line.grain,
            zone: line.zone,
        };
        Ok(Self { metric: line.metric, parameters: given.parameters(&filters) })
    }
}

impl QuestionArgs {
    /// As query parameters, with these filters.
    fn parameters(self, filters: &Filters) -> Vec<(&'static str, String)> {
        let group_by = (!self.group_by.is_empty()).then(|| self.group_by.join(","));
        let single = [
            ("window", self.window),
            ("as_of", self.as_of),
            ("known_at", self.known_at),
            ("version", self.version.map(|version| version.to_string())),
            ("group_by", group_by),
            ("order_by", self.order_by),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("other", self.other.then(|| true.to_string())),
            ("compare", self.compare),
            ("grain", self.grain),
            ("zone", self.zone),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let filters = filters.to_texts().into_iter().map(|text| ("filter", text));
        single.chain(filters).collect()
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

    fn asked(parameters: &[(&'static str, &str)]) -> Question {
        let parameters = parameters.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Question { metric: "m".to_owned(), parameters: parameters.collect() }
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
        check(r#"{"metric":"m","window":"1h"}"#, Some(asked(&[("window", "1h")])));
        check(
            r#"{"metric":"m","as_of":"2026-01-01","filters":{"a":"b","c":7},"group_by":[]}"#,
            Some(asked(&[("as_of", "2026-01-01"), ("filter", "a:b"), ("filter", "c:7")])),
        );
        check(
            r#"{"metric":"m","filters":{"a":["x",null],"b":[null]}}"#,
            Some(asked(&[("filter", "a.in_or_null:x"), ("filter", "b.null:true")])),
        );
        check(r#"{"metric":"m","as_of":1767225600}"#, Some(asked(&[("as_of", "1767225600")])));
        check(r#"{"metric":"m","as_of":null,"value":3,"groups":[1]}"#, Some(asked(&[])));
        check(
            r#"{"metric":"m","version":2,"group_by":["a","b"],"order_by":"-value","limit":3,"other":true,"compare":"previous","grain":"day","zone":"Europe/Riga"}"#,
            Some(asked(&[
                ("version", "2"),
                ("group_by", "a,b"),
                ("order_by", "-value"),
                ("limit", "3"),
                ("other", "true"),
                ("compare", "previous"),
                ("grain", "day"),
                ("zone", "Europe/Riga"),
            ])),
        );
    }

    #[test]
    fn anything_else_is_refused() {
        check("", None);
        check("{", None);
        check(r#"{"window":"1h"}"#, None);
        check(r#"{"metric":"m","windw":"1h"}"#, None);
        check(r#"{"metric":"m","limit":-1}"#, None);
        check(r#"{"metric":"m","filters":{"a":[[1]]}}"#, None);
        check(r#"{"metric":"m","filters":{"a":{"like":1}}}"#, None);
        check(r#"{"metric":"m","filters":7}"#, None);
        check(r#"{"metric":"m","as_of":[]}"#, None);
    }

    #[test]
    fn filters_are_split_at_the_first_equals_sign() {
        let of = |filters: &[&str]| {
            let filter = filters.iter().map(|&f| f.to_owned()).collect();
            Question::of_arguments("m".into(), QuestionArgs { filter, ..Default::default() })
        };
        assert_eq!(of(&["a=b=c"]).unwrap(), asked(&[("filter", "a:b=c")]));
        assert!(of(&["a"]).unwrap_err().text().contains("hint: "));
        assert!(of(&["a=1", "a=2"]).is_err());
        assert!(of(&["a=1", "a=1"]).is_ok());
    }
}
