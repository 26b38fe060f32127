//! An answer as a person reads it. The numbers are those of the JSON answer, digit by digit.

use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::output::table;

/// The part of the answer that is shown.
#[derive(Debug, Deserialize)]
struct Answer {
    metric_name: String,
    unit: String,
    window: String,
    value: Option<Box<RawValue>>,
    groups: Option<Vec<Group>>,
    #[serde(default)]
    groups_truncated: Option<bool>,
    meta: Meta,
}

#[derive(Debug, Deserialize)]
struct Group {
    dimensions: Map<String, serde_json::Value>,
    value: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    as_of: Option<String>,
}

/// The text of an answer in the API's JSON.
pub(super) fn of(json: &str) -> Result<String, Failure> {
    let answer: Answer = serde_json::from_str(json)
        .map_err(|error| Failure::ours(format!("the answer is not as expected: {error}")))?;
    let when = answer.meta.as_of.map_or("now".to_owned(), |at| format!("as of {at}"));
    let about = format!("{} over {}, {when}", answer.metric_name, answer.window);
    let Some(groups) = answer.groups else {
        return Ok(format!("{} {}  ({about})\n", number(answer.value.as_deref()), answer.unit));
    };
    let mut rows = Vec::with_capacity(groups.len() + 1);
    if let Some(first) = groups.first() {
        let mut names: Vec<String> = first.dimensions.keys().cloned().collect();
        names.push(answer.unit.clone());
        rows.push(names);
    }
    rows.extend(groups.iter().map(|group| {
        let mut cells: Vec<String> = group.dimensions.values().map(dimension).collect();
        cells.push(number(group.value.as_deref()));
        cells
    }));
    let mut text = format!("{about}: {} groups\n{}", groups.len(), table(&rows));
    if answer.groups_truncated == Some(true) {
        text.push_str("more groups exist than the contract lets out; add a filter\n");
    }
    Ok(text)
}

fn number(value: Option<&RawValue>) -> String {
    match value.map(RawValue::get) {
        None | Some("null") => "-".to_owned(),
        // A text (`latest` of a text) without its quotes.
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

fn dimension(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        assert_eq!(of(json).unwrap(), expected);
    }

    #[test]
    fn a_value_keeps_all_its_digits() {
        check(
            r#"{"metric_name":"m","unit":"RUB","window":"1h","value":12345678901234567.89,"meta":{"as_of":null}}"#,
            "12345678901234567.89 RUB  (m over 1h, now)\n",
        );
        check(
            r#"{"metric_name":"m","unit":"min","window":"1h","value":null,"meta":{"as_of":"2026-01-01T00:00:00Z"}}"#,
            "- min  (m over 1h, as of 2026-01-01T00:00:00Z)\n",
        );
    }

    #[test]
    fn groups_are_a_table() {
        check(
            r#"{"metric_name":"m","unit":"count","window":"1h","value":null,"groups":[{"dimensions":{"a":"x","b":null},"value":1},{"dimensions":{"a":"long","b":"y"},"value":20}],"meta":{"as_of":null}}"#,
            "m over 1h, now: 2 groups\na     b  count\nx     -  1\nlong  y  20\n",
        );
    }
}
