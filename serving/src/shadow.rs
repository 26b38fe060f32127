//! How numbers would move if other contracts were in use: the same questions to one store under both.
//!
//! A copy of the store is opened under the contracts of before, asked, and opened again under the others,
//! which brings its rows in line the way a server does at its start; so nothing here computes a meaning of its
//! own. The clock stands still at the newest event (for metrics over received records at the newest
//! arrival), so that both answers are of the same moment. Start at [`Moment::of`] and [`ask`].

use std::collections::BTreeMap;
use std::sync::Arc;

use contracts::model::{Domain, Metric, Relation};
use serde::Serialize;

use crate::metric::MetricEngine;
use crate::question::{MetricQuestion, ReadError};
use crate::store::Readers;
use crate::value::Value;

/// Most dimension values that are told per metric, window and dimension.
const MOVERS: usize = 5;

/// The moment that is asked for, µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Newest event time.
    pub event: i64,
    /// Newest arrival.
    pub arrival: i64,
}

/// The answers to all questions under one set of contracts: metric `name vN` → window → answer.
pub type Answers = BTreeMap<String, Vec<Answer>>;

/// The answer over one window.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The window as the contract writes it.
    pub window: String,
    /// The value, or why there is none.
    pub value: Result<Value, String>,
    /// Dimension → its value → the group's value.
    pub groups: BTreeMap<String, BTreeMap<Option<String>, Value>>,
}

/// A metric whose answers were laid side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    /// `name vN`.
    pub metric: String,
    /// Its windows.
    pub windows: Vec<MovedWindow>,
}

/// The two answers over one window.
#[derive(Debug, Clone, Serialize)]
pub struct MovedWindow {
    /// The window.
    pub window: String,
    /// Under the contracts of before; null also where there is no answer.
    pub old: Value,
    /// Under the others.
    pub new: Value,
    /// `new − old` where both are numbers.
    pub difference: Value,
    /// Why one of them has no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The dimension values that move most, by dimension; those that do not move are left out.
    pub movers: BTreeMap<String, Vec<Mover>>,
}

/// A value of a dimension that moves.
#[derive(Debug, Clone, Serialize)]
pub struct Mover {
    /// The value; null for rows without one.
    pub value: Option<String>,
    /// As above.
    pub old: Value,
    /// As above.
    pub new: Value,
    /// As above.
    pub difference: Value,
}

impl Moment {
    /// The newest of a store; `None` while it has no event.
    pub fn of(readers: &Readers) -> Result<Option<Self>, pipeline::store::StoreError> {
        let partitions = readers.partitions()?;
        let newest = |of: fn(&pipeline::store::PartitionState) -> Option<i64>| {
            partitions.iter().filter_map(of).max()
        };
        let (event, arrival) = (newest(|p| p.watermark), newest(|p| p.last_arrived_at));
        Ok(event.or(arrival).map(|event| Self { event, arrival: arrival.unwrap_or(event) }))
    }
}

/// Asks for all windows and dimensions of these metrics (`name vN`) that the domain has.
pub fn ask(
    domain: &Arc<Domain>,
    readers: &Readers,
    metrics: &[String],
    tenant: &str,
    moment: Moment,
) -> Answers {
    let engine = |now: i64| {
        MetricEngine::with_clock(Arc::clone(domain), readers.clone(), Arc::new(move || now))
    };
    let (of_events, of_arrivals) = (engine(moment.event), engine(moment.arrival));
    let name = |metric: &Metric| format!("{} v{}", metric.name, metric.version);
    let asked = domain.metrics.iter().filter(|metric| metrics.contains(&name(metric)));
    asked
        .map(|metric| {
            let is_of_arrivals =
                domain.graph.relations_of[metric.index].contains(&Relation::Ingest);
            let engine = if is_of_arrivals { &of_arrivals } else { &of_events };
            let windows = metric.windows.iter();
            let answers = windows.map(|window| one(engine, metric, &window.text, tenant)).collect();
            (name(metric), answers)
        })
        .collect()
}

fn one(engine: &MetricEngine, metric: &Metric, window: &str, tenant: &str) -> Answer {
    let question = MetricQuestion {
        metric: metric.name.clone(),
        version: Some(metric.version),
        tenant: tenant.to_owned(),
        window: Some(window.to_owned()),
        ..MetricQuestion::default()
    };
    let told = |error: ReadError| error.to_string();
    let value = engine.read(&question).map_err(told).map(|a| a.value.unwrap_or(Value::Null));
    let mut groups = BTreeMap::new();
    for dimension in &metric.dimensions {
        let grouped = MetricQuestion { group_by: vec![dimension.name.clone()], ..question.clone() };
        let Ok(answer) = engine.read(&grouped) else { continue };
        let of = |group: crate::question::Group| {
            let value = group.dimensions.into_iter().next().and_then(|(_, value)| value);
            (value, group.value)
        };
        let all = answer.groups.unwrap_or_default().into_iter().map(of).collect();
        groups.insert(dimension.name.clone(), all);
    }
    Answer { window: window.to_owned(), value, groups }
}

/// The answers side by side, for metrics and windows that both have.
pub fn compare(old: &Answers, new: &Answers) -> Vec<Moved> {
    let both = old.iter().filter_map(|(metric, old)| Some((metric, old, new.get(metric)?)));
    both.map(|(metric, old, new)| {
        let windows = old.iter().filter_map(|old| {
            let new = new.iter().find(|new| new.window == old.window)?;
            Some(side_by_side(old, new))
        });
        Moved { metric: metric.clone(), windows: windows.collect() }
    })
    .collect()
}

fn side_by_side(old: &Answer, new: &Answer) -> MovedWindow {
    let value = |answer: &Answer| answer.value.clone().unwrap_or(Value::Null);
    let problem = old.value.as_ref().err().or(new.value.as_ref().err()).cloned();
    let (was, is) = (value(old), value(new));
    let mut movers = BTreeMap::new();
    for (dimension, was) in &old.groups {
        let Some(is) = new.groups.get(dimension) else { continue };
        let found = most_moved(was, is);
        if !found.is_empty() {
            movers.insert(dimension.clone(), found);
        }
    }
    let difference = difference(&was, &is);
    MovedWindow { window: old.window.clone(), old: was, new: is, difference, problem, movers }
}

fn most_moved(
    was: &BTreeMap<Option<String>, Value>,
    is: &BTreeMap<Option<String>, Value>,
) -> Vec<Mover> {
    let mut all: Vec<Mover> = was
        .keys()
        .chain(is.keys().filter(|key| !was.contains_key(*key)))
        .map(|key| {
            let of = |groups: &BTreeMap<Option<String>, Value>| groups.get(key).cloned();
            let (old, new) = (of(was).unwrap_or(Value::Null), of(is).unwrap_or(Value::Null));
            let difference = difference(&old, &new);
            Mover { value: key.clone(), old, new, difference }
        })
        .filter(|mover| mover.old != mover.new)
        .collect();
    // A group that comes or goes moves by all that it has.
    let size = |mover: &Mover| {
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        (number(&mover.new) - number(&mover.old)).abs()
    };
    all.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.value.cmp(&b.value)));
    all.truncate(MOVERS);
    all
}

/// `new − old`: exactly for whole numbers and decimals; null unless both are numbers.
fn difference(old: &Value, new: &Value) -> Value {
    let exact = |value: &Value| match value {
        Value::Int(value) => Some((*value, 0_i8)),
        Value::Decimal { digits, scale } => Some((*digits, *scale)),
        _ => None,
    };
    if let (Some((a, from)), Some((b, to))) = (exact(old), exact(new)) {
        let scale = from.max(to);
        let lift = |value: i128, of: i8| {
            let by = u32::try_from(scale - of).ok()?;
            value.checked_mul(10_i128.checked_pow(by)?)
        };
        if let (Some(a), Some(b)) = (lift(a, from), lift(b, to))
            && let Some(digits) = b.checked_sub(a)
        {
            return if scale == 0 { Value::Int(digits) } else { Value::Decimal { digits, scale } };
        }
    }
    match (old.as_f64(), new.as_f64()) {
        (Some(old), Some(new)) => Value::finite(new - old),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(digits: i128) -> Value {
        Value::Decimal { digits, scale: 2 }
    }

    #[test]
    fn differences_of_exact_numbers_are_exact() {
        for (old, new, expected) in [
            (Value::Int(3), Value::Int(1), Value::Int(-2)),
            (decimal(1_234_567_890_123_456_789), decimal(1_234_567_890_123_456_790), decimal(1)),
            (Value::Int(1), decimal(5), decimal(-95)),
            (Value::Float(0.5), Value::Int(2), Value::Float(1.5)),
            (Value::Null, Value::Int(2), Value::Null),
            (Value::Text("a".into()), Value::Text("b".into()), Value::Null),
            (Value::Int(i128::MIN), Value::Int(1), Value::Float(1.7014118346046923e38)),
        ] {
            assert_eq!(difference(&old, &new), expected, "{old} {new}");
        }
    }

    #[test]
    fn those_that_move_most_come_first_and_those_that_do_not_not_at_all() {
        let groups = |all: &[(&str, i128)]| -> BTreeMap<Option<String>, Value> {
            all.iter().map(|(name, n)| (Some((*name).to_owned()), Value::Int(*n))).collect()
        };
        let was = groups(&[("a", 1), ("b", 2), ("gone", 4), ("same", 9)]);
        let is = groups(&[("a", 2), ("b", 12), ("new", 3), ("same", 9)]);
        let found: Vec<String> =
            most_moved(&was, &is).into_iter().map(|m| m.value.unwrap_or_default()).collect();
        assert_eq!(found, ["b", "gone", "new", "a"]);
        let many: Vec<(String, i128)> = (0..20).map(|i| (format!("{i:02}"), i)).collect();
        let many: Vec<(&str, i128)> = many.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(most_moved(&groups(&many), &groups(&[])).len(), MOVERS);
    }
}
