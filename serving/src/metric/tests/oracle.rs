//! What a metric means, written down a second time, as plainly as possible and in no hurry.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Measure, Metric, Relation, column, ingest};

use super::fixture::Row;
use crate::metric::groups::{Groups, Member, settle};
use crate::question::{Condition, MetricQuestion};
use crate::value::{Value, date_text};

/// Rows by relation, as they are at the reference time.
pub(crate) type World = BTreeMap<Relation, Vec<Row>>;

/// The groups of an answer; ungrouped, one under the empty key.
pub(crate) fn answer(
    metric: &Metric,
    world: &World,
    question: &MetricQuestion,
    now: i64,
) -> Groups {
    answer_by(metric, world, question, now, |key| key)
}

/// The same, with each row put into the group that `place` says.
pub(crate) fn answer_by(
    metric: &Metric,
    world: &World,
    question: &MetricQuestion,
    now: i64,
    place: impl Fn(Vec<Member>) -> Vec<Member>,
) -> Groups {
    if metric.measure.follows_keys() {
        return super::followed::answer(metric, world, question, now);
    }
    let window = metric
        .windows
        .iter()
        .find(|window| Some(&window.text) == question.window.as_ref())
        .expect("the test asks for a declared window");
    let mut rows: BTreeMap<Vec<Member>, Vec<Measured>> = BTreeMap::new();
    if question.group_by.is_empty() {
        rows.insert(Vec::new(), Vec::new());
    }
    for input in &metric.inputs {
        let nothing = Vec::new();
        for row in world.get(&input.relation).unwrap_or(&nothing) {
            let get = |name: &str| row.get(name).cloned().unwrap_or(Value::Null);
            if get(column::TENANT) != Value::Text(question.tenant.clone()) {
                continue;
            }
            let ty = get(column::TYPE).to_string();
            if !input.event_types.is_empty() && !input.event_types.contains(&ty) {
                continue;
            }
            if input.filter.as_ref().is_some_and(|filter| get(&filter.name) != Value::Bool(true)) {
                continue;
            }
            let time = micros(&get(&input.time.name));
            if let (Some(length), None) = (window.length, question.span) {
                let start = question.as_of.unwrap_or(now) - length;
                if time.is_none_or(|time| time < start) {
                    continue;
                }
                if question.as_of.is_some_and(|end| time >= Some(end)) {
                    continue;
                }
            }
            if question.span.is_some_and(|(from, to)| time.is_none_or(|t| t < from || t >= to)) {
                continue;
            }
            let happened = match input.relation {
                Relation::Family(_) => micros(&get(column::TIME)),
                Relation::Ingest => micros(&get(ingest::ARRIVED_AT)),
                Relation::Entity(_) => None,
            };
            if question.as_of.is_some_and(|end| happened.is_some_and(|at| at >= end)) {
                continue;
            }
            let dimension = |name: &String| {
                let place =
                    metric.dimensions.iter().position(|d| d.name == *name).expect("a dimension");
                get(&input.dimensions[place].name)
            };
            let passes = |(name, conditions): (&str, &[Condition])| {
                let value = dimension(&name.to_owned());
                conditions.iter().all(|condition| holds(condition, &value))
            };
            if !question.filters.iter().all(passes) {
                continue;
            }
            let key = question.group_by.iter().map(|name| member(dimension(name))).collect();
            let key = place(key);
            let weight = match get(ingest::N) {
                Value::Int(n) => n,
                _ => 1,
            };
            let seq = match input.relation {
                Relation::Entity(_) => get(column::UPDATED_SEQ),
                _ => get(column::SEQ),
            };
            let arg = input.arg.as_ref().map(|arg| get(&arg.name));
            rows.entry(key).or_default().push(Measured { arg, time, seq: whole(&seq), weight });
        }
    }
    rows.into_iter()
        .map(|(key, rows)| (key, settle(metric, measure(&metric.measure, rows))))
        .collect()
}

/// Does the condition hold of the value?
pub(super) fn holds(condition: &Condition, value: &Value) -> bool {
    let text = shown(value);
    let compare = |bound: &String| {
        let text = text.as_ref()?;
        Some(match value {
            Value::Int(value) => value.cmp(&bound.parse().expect("a whole number")),
            // Days of four-digit years are in the order of their texts.
            _ => text.cmp(bound),
        })
    };
    match condition {
        Condition::In(values) => values.contains(&text),
        Condition::NotIn(values) => !values.contains(&text),
        Condition::Above { bound, or_equal: true } => compare(bound).is_some_and(|o| o.is_ge()),
        Condition::Above { bound, .. } => compare(bound).is_some_and(|o| o.is_gt()),
        Condition::Below { bound, or_equal: true } => compare(bound).is_some_and(|o| o.is_le()),
        Condition::Below { bound, .. } => compare(bound).is_some_and(|o| o.is_lt()),
    }
}

struct Measured {
    arg: Option<Value>,
    time: Option<i64>,
    seq: i128,
    weight: i128,
}

fn measure(measure: &Measure, rows: Vec<Measured>) -> Value {
    let rows: Vec<Measured> =
        rows.into_iter().filter(|row| row.arg.as_ref().is_none_or(|arg| !arg.is_null())).collect();
    if matches!(measure, Measure::Count) {
        return Value::Int(rows.iter().map(|row| row.weight).sum());
    }
    let args: Vec<&Value> = rows.iter().filter_map(|row| row.arg.as_ref()).collect();
    match measure {
        Measure::Sum => sum(&rows),
        Measure::Avg => {
            let count: i128 = rows.iter().map(|row| row.weight).sum();
            match sum(&rows).as_f64() {
                Some(sum) if count > 0 => Value::Float(sum / count as f64),
                _ => Value::Null,
            }
        }
        Measure::Min => args.into_iter().min_by(|a, b| order(a, b)).cloned().unwrap_or(Value::Null),
        Measure::Max => args.into_iter().max_by(|a, b| order(a, b)).cloned().unwrap_or(Value::Null),
        Measure::Latest => rows
            .iter()
            .filter(|row| row.time.is_some())
            .max_by_key(|row| (row.time, row.seq))
            .and_then(|row| row.arg.clone())
            .unwrap_or(Value::Null),
        Measure::CountDistinct | Measure::Active => {
            let distinct: BTreeSet<String> = args.iter().map(ToString::to_string).collect();
            Value::Int(distinct.len() as i128)
        }
        Measure::Quantile(q) => {
            let mut values: Vec<f64> = rows
                .iter()
                .flat_map(|row| {
                    let value = row.arg.as_ref().and_then(Value::as_f64).expect("a number");
                    std::iter::repeat_n(value, row.weight as usize)
                })
                .collect();
            values.sort_by(f64::total_cmp);
            if values.is_empty() {
                return Value::Null;
            }
            let position = q * (values.len() - 1) as f64;
            let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
            Value::Float(low + (high - low) * position.fract())
        }
        other => panic!("{other:?} reads no rows"),
    }
}

fn sum(rows: &[Measured]) -> Value {
    let mut total = Value::Null;
    for row in rows {
        let weight = row.weight;
        total = match (total, row.arg.clone().expect("a sum has an argument")) {
            (Value::Null, Value::Int(v)) => Value::Int(v * weight),
            (Value::Int(t), Value::Int(v)) => Value::Int(t + v * weight),
            (Value::Null, Value::Decimal { digits, scale }) => {
                Value::Decimal { digits: digits * weight, scale }
            }
            (Value::Decimal { digits: t, .. }, Value::Decimal { digits, scale }) => {
                Value::Decimal { digits: t + digits * weight, scale }
            }
            (Value::Null, Value::Float(v)) => Value::Float(v * weight as f64),
            (Value::Float(t), Value::Float(v)) => Value::Float(t + v * weight as f64),
            (total, arg) => panic!("cannot add {arg:?} to {total:?}"),
        };
    }
    total
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (Value::Date(a), Value::Date(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Decimal { digits: a, .. }, Value::Decimal { digits: b, .. }) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        _ => panic!("{a:?} and {b:?} have no order"),
    }
}

pub(super) fn micros(value: &Value) -> Option<i64> {
    match value {
        Value::Timestamp(micros) => Some(*micros),
        _ => None,
    }
}

fn whole(value: &Value) -> i128 {
    match value {
        Value::Int(value) => *value,
        _ => 0,
    }
}

pub(super) fn member(value: Value) -> Member {
    match value {
        Value::Bool(value) => Member::Bool(value),
        Value::Int(value) => Member::Int(value as i64),
        Value::Date(days) => Member::Date(days),
        Value::Text(text) => Member::Text(text),
        _ => Member::None,
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Date(days) => Some(date_text(*days)),
        other => Some(other.to_string()),
    }
}
