//! How many plain questions are read as they are meant, over both domains.
//!
//! `shop.yaml` and `flights.yaml` came about together with the rules; `later_*.yaml` were written after
//! the rules were frozen, so they tell what a new question may expect.

use serde_json::Value;

use super::world::domain;
use crate::query::question::{Meaning, understand};
use crate::value::parse_time;

/// The lines of a file: each is a YAML entry in JSON's own form.
fn cases(text: &str) -> Vec<(String, Value)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("- "));
    lines
        .map(|line| {
            let case: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            (case["ask"].as_str().expect("a question").to_owned(), case["means"].clone())
        })
        .collect()
}

fn check(files: &[(&str, &str)], floor: usize) {
    let now = parse_time("2026-01-01T12:34:56Z").unwrap();
    let (mut all, mut wrong) = (0, Vec::new());
    for (name, text) in files {
        let domain = domain(name);
        for (ask, means) in cases(text) {
            all += 1;
            let found = understand(&domain, &ask, now);
            let found = found.map_or(Value::Null, |meaning| shown(&meaning));
            if sorted(found.clone()) != sorted(means.clone()) {
                wrong.push(format!("{name}: {ask}\n  meant {means}\n  read  {found}"));
            }
        }
    }
    let right = all - wrong.len();
    assert!(right * 100 >= all * floor, "{right} of {all}:\n{}", wrong.join("\n"));
}

fn shown(meaning: &Meaning) -> Value {
    meaning.to_json()
}

/// Metrics in any order.
fn sorted(mut value: Value) -> Value {
    if let Some(Value::Array(metrics)) = value.get_mut("metrics") {
        metrics.sort_by_key(ToString::to_string);
    }
    value
}

#[test]
fn the_questions_that_the_rules_were_made_for() {
    let files = [
        ("shop", include_str!("questions/shop.yaml")),
        ("flights", include_str!("questions/flights.yaml")),
    ];
    check(&files, 100);
}

#[test]
fn what_is_no_name_is_not_taken_for_one() {
    check(&[("shop", include_str!("questions/honest.yaml"))], 100);
}

#[test]
fn questions_that_came_after_the_rules() {
    let files = [
        ("shop", include_str!("questions/later_shop.yaml")),
        ("flights", include_str!("questions/later_flights.yaml")),
    ];
    check(&files, 90);
}
