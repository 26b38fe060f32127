//! An answer as a person reads it. The numbers are those of the JSON answer, digit by digit.

use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use serving::question::OTHER;

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
    previous: Option<Previous>,
    change: Option<Box<RawValue>>,
    series: Option<Vec<Point>>,
    meta: Meta,
}

#[derive(Debug, Deserialize)]
struct Group {
    dimensions: Map<String, serde_json::Value>,
    value: Option<Box<RawValue>>,
    previous: Option<Previous>,
    change: Option<Box<RawValue>>,
}

/// The window before.
#[derive(Debug, Deserialize)]
struct Previous {
    value: Option<Box<RawValue>>,
}

/// A part of the window.
#[derive(Debug, Deserialize)]
struct Point {
    from: String,
    value: Option<Box<RawValue>>,
    groups: Option<Vec<Group>>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    as_of: Option<String>,
}

/// The text of an answer in the API's JSON.
pub(super) fn of(json: &str) -> Result<String, Failure> {
    let answer: Answer = serde_json::from_str(json)
        .map_err(|error| Failure::ours(format!("the answer is not as expected: {error}")))?;
    let when = answer.meta.as_of.as_ref().map_or("now".to_owned(), |at| format!("as of {at}"));
    let about = format!("{} over {}, {when}", answer.metric_name, answer.window);
    let mut text = match &answer.groups {
        None => {
            let value = number(answer.value.as_deref());
            let mut text = format!("{value} {}  ({about})\n", answer.unit);
            if let Some(previous) = &answer.previous {
                let before = number(previous.value.as_deref());
                let change = number(answer.change.as_deref());
                text.push_str(&format!("{before} {} before, change {change}\n", answer.unit));
            }
            text
        }
        Some(groups) => {
            let table = table(&rows_of_groups(&answer, groups));
            format!("{about}: {} groups\n{table}", groups.len())
        }
    };
    if answer.groups_truncated == Some(true) && !answer.has_other() {
        text.push_str("more groups exist than are shown; add a filter, or --other\n");
    }
    if let Some(series) = &answer.series {
        text.push_str(&table(&rows_of_series(&answer, series)));
    }
    Ok(text)
}

impl Answer {
    fn has_other(&self) -> bool {
        let groups = self.groups.iter().flatten();
        groups.flat_map(|group| group.dimensions.values()).any(|value| value == OTHER)
    }
}

fn rows_of_groups(answer: &Answer, groups: &[Group]) -> Vec<Vec<String>> {
    let Some(first) = groups.first() else { return Vec::new() };
    let is_compared = answer.previous.is_some();
    let mut names: Vec<String> = first.dimensions.keys().cloned().collect();
    names.push(answer.unit.clone());
    if is_compared {
        names.extend(["before", "change"].map(str::to_owned));
    }
    let cells = |group: &Group| {
        let mut cells: Vec<String> = group.dimensions.values().map(dimension).collect();
        cells.push(number(group.value.as_deref()));
        if is_compared {
            let before = group.previous.as_ref().and_then(|previous| previous.value.as_deref());
            cells.extend([number(before), number(group.change.as_deref())]);
        }
        cells
    };
    std::iter::once(names).chain(groups.iter().map(cells)).collect()
}

fn rows_of_series(answer: &Answer, series: &[Point]) -> Vec<Vec<String>> {
    let first = series.iter().flat_map(|point| point.groups.iter().flatten()).next();
    let names = first.into_iter().flat_map(|group| group.dimensions.keys().cloned());
    let mut rows: Vec<Vec<String>> =
        vec![["from".to_owned()].into_iter().chain(names).chain([answer.unit.clone()]).collect()];
    for point in series {
        let Some(groups) = &point.groups else {
            rows.push(vec![point.from.clone(), number(point.value.as_deref())]);
            continue;
        };
        rows.extend(groups.iter().map(|group| {
            let members = group.dimensions.values().map(dimension);
            let value = number(group.value.as_deref());
            [point.from.clone()].into_iter().chain(members).chain([value]).collect()
        }));
    }
    rows
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

    #[test]
    fn what_was_before_stands_beside_it() {
        check(
            r#"{"metric_name":"m","unit":"RUB","window":"1h","value":30,"previous":{"value":20.5},"change":9.5,"meta":{"as_of":null}}"#,
            "30 RUB  (m over 1h, now)\n20.5 RUB before, change 9.5\n",
        );
        check(
            r#"{"metric_name":"m","unit":"RUB","window":"1h","value":null,"previous":{"value":null},"groups":[{"dimensions":{"a":"x"},"value":3,"previous":{"value":1},"change":2},{"dimensions":{"a":"__other__"},"value":4,"previous":{"value":null},"change":null}],"groups_truncated":true,"meta":{"as_of":null}}"#,
            "m over 1h, now: 2 groups\na          RUB  before  change\nx          3    1       2\n__other__  4    -       -\n",
        );
    }

    #[test]
    fn parts_of_the_window_are_a_table() {
        check(
            r#"{"metric_name":"m","unit":"s","window":"2h","value":3,"series":[{"from":"2026-01-01T00:00:00Z","value":1},{"from":"2026-01-01T01:00:00Z","value":2}],"meta":{"as_of":null}}"#,
            "3 s  (m over 2h, now)\nfrom                  s\n2026-01-01T00:00:00Z  1\n2026-01-01T01:00:00Z  2\n",
        );
        check(
            r#"{"metric_name":"m","unit":"s","window":"1h","value":null,"groups":[{"dimensions":{"a":"x"},"value":1}],"series":[{"from":"2026-01-01T00:00:00Z","value":null,"groups":[{"dimensions":{"a":"x"},"value":1}]}],"meta":{"as_of":null}}"#,
            "m over 1h, now: 1 groups\na  s\nx  1\nfrom                  a  s\n2026-01-01T00:00:00Z  x  1\n",
        );
    }
}
