//! Any filters, in any mixture, equal what the oracle says; and what means the same is one question.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::fixture::{Bench, FIXES, TRIPS, ask};
use super::oracle::World;
use super::properties::{check, journals};
use crate::question::{Condition, Filters, MetricQuestion};

/// Values that rows have, and some that none has.
fn values_of(dimension: &str) -> &'static [&'static str] {
    match dimension {
        "city" => &["", "Ulm", "köln", "O'Hara", "null", "__other__"],
        "vip" => &["true", "false"],
        "level" => &["-1", "0", "1", "2", "3", "9223372036854775807"],
        _ => &["2022-01-08", "2022-01-09", "2022-01-10", "2022-01-11", "2030-12-31"],
    }
}

fn a_condition() -> impl Strategy<Value = (&'static str, Condition)> {
    (select(&["city", "vip", "level", "day"][..]), 0usize..4, any::<bool>()).prop_flat_map(
        |(dimension, kind, or_equal)| {
            let known = values_of(dimension);
            let bound = select(known).prop_map(str::to_owned);
            let values = (subsequence(known.to_vec(), 0..=known.len()), any::<bool>());
            let values = values.prop_map(|(values, or_none)| {
                let mut values: Vec<Option<String>> =
                    values.into_iter().map(|value| Some(value.to_owned())).collect();
                if or_none || values.is_empty() {
                    values.push(None);
                }
                values
            });
            let condition = match kind {
                0 => values.prop_map(Condition::In).boxed(),
                2 if dimension != "vip" => {
                    bound.prop_map(move |bound| Condition::Above { bound, or_equal }).boxed()
                }
                3 if dimension != "vip" => {
                    bound.prop_map(move |bound| Condition::Below { bound, or_equal }).boxed()
                }
                _ => values.prop_map(Condition::NotIn).boxed(),
            };
            condition.prop_map(move |condition| (dimension, condition))
        },
    )
}

fn filters(conditions: &[(&str, Condition)]) -> Filters {
    let mut filters = Filters::default();
    for (dimension, condition) in conditions {
        filters.add(dimension, condition.clone());
    }
    filters
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn filters_equal_the_oracle(
        (trips, fixes) in journals(),
        asked in prop::collection::vec(prop::collection::vec(a_condition(), 1..4), 8),
        from_state in any::<bool>(),
    ) {
        let bench = Bench::new(Vec::new());
        bench.insert_events(TRIPS, &trips);
        bench.insert_events(FIXES, &fixes);
        if from_state {
            bench.learn();
        }
        let world = World::from([(TRIPS, trips), (FIXES, fixes)]);
        for conditions in asked {
            for (metric, group_by) in [("all", vec![]), ("sum_amount", vec!["city".to_owned()])] {
                let filters = filters(&conditions);
                let question = MetricQuestion { filters, group_by, ..ask(metric, "1h") };
                check(&bench, &world, &question)?;
                // What is not let in is let in by the opposite, and nothing is twice.
                let (dimension, condition) = &conditions[0];
                let opposite = match condition {
                    Condition::In(values) => Condition::NotIn(values.clone()),
                    Condition::NotIn(values) => Condition::In(values.clone()),
                    _ => continue,
                };
                let count = |conditions: &[(&str, Condition)]| {
                    let filters = self::filters(conditions);
                    let question = MetricQuestion { filters, ..ask("all", "1h") };
                    let value = bench.engine.read(&question).expect("it fits").value;
                    value.and_then(|value| value.as_f64()).expect("a count is a number")
                };
                let both = count(&[(dimension, condition.clone())]) + count(&[(dimension, opposite)]);
                prop_assert_eq!(both, count(&[]));
            }
        }
    }
}

#[test]
fn what_means_the_same_is_one_question() {
    let bench = Bench::new(Vec::new());
    let canonical = |texts: &[&str]| {
        let mut filters = Filters::default();
        texts.iter().for_each(|text| filters.add_text(text).expect("a filter"));
        let question = MetricQuestion { filters, ..ask("trips", "10s") };
        bench.engine.resolve(&question).expect("it fits").canonical()
    };
    for (some, same) in [
        (&["level:01"][..], &["level.in:1"][..]),
        (&["city.in:b,a,b"], &["city.in:a,b"]),
        (&["level.gte:+1", "level.lt:5"], &["level.lt:05", "level.gte:1"]),
        (&["level.between:1,5"], &["level.lte:5", "level.gte:1"]),
        (&["day.not:2026-01-31", "city:x"], &["city:x", "day.not_in:2026-01-31"]),
    ] {
        assert_eq!(canonical(some), canonical(same));
    }
    for (some, other) in [
        (&["level.gte:1"][..], &["level.gt:1"][..]),
        (&["city:null"], &["city.null:true"]),
        (&["city.not:a"], &["city:a"]),
        (&["city.in:a,b"], &["city.in:a\\,b"]),
    ] {
        assert_ne!(canonical(some), canonical(other));
    }
}
