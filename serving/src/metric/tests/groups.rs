//! Orders, limits, what is gathered, and the window before, against the oracle over the same rows.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use contracts::model::Measure;
use contracts::types::Type;
use proptest::prelude::*;
use proptest::sample::select;

use super::fixture::{Bench, FIXES, NOW, SECOND, TRIPS, ask, event, metric};
use super::oracle::{self, World};
use super::properties::{journals, same};
use crate::metric::groups::{Groups, Member, empty_value};
use crate::question::{Group, GroupOrder, MetricQuestion, ReadError};
use crate::value::Value;

/// One of each way to measure: added up, and not.
const METRICS: [&str; 12] = [
    "trips",
    "numbered",
    "sum_amount",
    "sum_weight",
    "sum_n",
    "avg_amount",
    "min_level",
    "max_note",
    "latest_city",
    "distinct_note",
    "median_amount",
    "all_amount",
];

const GROUPINGS: [&[&str]; 6] = [
    &["city"],
    &["level"],
    &["day"],
    &["city", "level"],
    &["level", "vip"],
    &["vip", "day", "city"],
];

/// Only `level` has a `max_cardinality`.
const MOST_LEVELS: usize = 2;

type Shown = Vec<(Vec<Member>, Value)>;

/// Groups in the order asked for; those of the rest last.
fn in_order(groups: &Groups, order_by: GroupOrder) -> Shown {
    let mut shown: Shown = groups.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    // Whole numbers and decimals of one scale beyond the 53 bits of a double, too.
    let number = |value: &Value| match value {
        Value::Null => None,
        Value::Text(text) => Some((0, 0.0, text.clone())),
        Value::Int(value) => Some((*value, 0.0, String::new())),
        Value::Decimal { digits, .. } => Some((*digits, 0.0, String::new())),
        value => Some((0, value.as_f64().expect("a number"), String::new())),
    };
    shown.sort_by(|(left, a), (right, b)| {
        let last = |key: &Vec<Member>| key.contains(&Member::Other);
        let by_value = match (order_by, number(a), number(b)) {
            (GroupOrder::Dimensions, ..) => Ordering::Equal,
            (_, None, None) => Ordering::Equal,
            (_, None, _) => Ordering::Greater,
            (_, _, None) => Ordering::Less,
            (GroupOrder::Value { down }, a, b) => {
                let order = a.partial_cmp(&b).expect("they are ordered");
                if down { order.reverse() } else { order }
            }
        };
        last(left).cmp(&last(right)).then(by_value)
    });
    shown
}

/// What the rule says, written down a second time.
fn expected(bench: &Bench, world: &World, question: &MetricQuestion) -> (Shown, bool) {
    let metric = bench.domain.metric(&question.metric).expect("the metric exists");
    let all = in_order(&oracle::answer(metric, world, question, NOW), question.order_by);
    let level = question.group_by.iter().position(|name| name == "level");
    let mut levels = BTreeSet::new();
    if let Some(level) = level {
        for (key, _) in &all {
            if levels.len() < MOST_LEVELS {
                levels.insert(key[level].clone());
            }
        }
    }
    let capped = |mut key: Vec<Member>| {
        if let Some(level) = level
            && !levels.contains(&key[level])
        {
            key[level] = Member::Other;
        }
        key
    };
    let is_capped = all.iter().any(|(key, _)| capped(key.clone()) != *key);
    let named: BTreeSet<Vec<Member>> = all
        .iter()
        .map(|(key, _)| key.clone())
        .filter(|key| capped(key.clone()) == *key)
        .take(question.limit.unwrap_or(usize::MAX))
        .collect();
    let place = |key: Vec<Member>| match (question.other, named.contains(&key)) {
        (true, false) => vec![Member::Other; key.len()],
        (true, true) => key,
        (false, _) => capped(key),
    };
    let groups = oracle::answer_by(metric, world, question, NOW, place);
    let mut shown = in_order(&groups, question.order_by);
    let mut is_short = is_capped || (question.other && named.len() < all.len());
    if let (Some(limit), false) = (question.limit, question.other) {
        is_short |= shown.len() > limit;
        shown.truncate(limit);
    }
    (shown, is_short)
}

fn is_same(group: &Group, (key, value): &(Vec<Member>, Value)) -> bool {
    let texts: Vec<Option<String>> = key.iter().map(Member::text).collect();
    let found: Vec<Option<String>> =
        group.dimensions.iter().map(|(_, text)| text.clone()).collect();
    found == texts && group.is_other() == key.contains(&Member::Other) && same(&group.value, value)
}

fn an_order() -> impl Strategy<Value = GroupOrder> {
    select(
        &[
            GroupOrder::Dimensions,
            GroupOrder::Value { down: true },
            GroupOrder::Value { down: false },
        ][..],
    )
}

fn a_question() -> impl Strategy<Value = MetricQuestion> {
    let window = select(&["10s", "1h", "now"][..]);
    let as_of = select(&[None, Some(NOW), Some(NOW - 5 * SECOND)][..]);
    let limit = prop_oneof![Just(None), (1usize..6).prop_map(Some)];
    (select(&METRICS[..]), select(&GROUPINGS[..]), window, as_of, an_order(), limit, any::<bool>())
        .prop_map(|(metric, group_by, window, as_of, order_by, limit, other)| MetricQuestion {
            group_by: group_by.iter().map(|name| (*name).to_owned()).collect(),
            as_of,
            order_by,
            limit,
            other: other && limit.is_some(),
            ..ask(metric, window)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn groups_equal_the_oracle(
        (trips, fixes) in journals(),
        questions in prop::collection::vec(a_question(), 16),
        from_state in any::<bool>(),
    ) {
        let bench = Bench::new(Vec::new());
        bench.insert_events(TRIPS, &trips);
        bench.insert_events(FIXES, &fixes);
        if from_state {
            bench.learn();
        }
        let world = World::from([(TRIPS, trips), (FIXES, fixes)]);
        for question in questions {
            // Floats that are added up in another order differ in the last bit, and with it their order.
            if question.metric == "sum_weight" && question.order_by != GroupOrder::Dimensions {
                continue;
            }
            let answer = bench.engine.read(&question).expect("the question fits");
            let groups = answer.groups.expect("it grouped");
            let (expected, is_short) = expected(&bench, &world, &question);
            let equal = groups.len() == expected.len()
                && groups.iter().zip(&expected).all(|(a, b)| is_same(a, b));
            prop_assert!(equal, "{question:?}\n     got {groups:?}\nexpected {expected:?}");
            prop_assert_eq!(answer.groups_truncated, is_short, "{:?}", question);
        }
    }

    #[test]
    fn the_window_before_is_what_a_read_of_it_says(
        (trips, fixes) in journals(),
        asked in prop::collection::vec((select(&METRICS[..]), prop::option::of(select(&[NOW, NOW - 5 * SECOND][..]))), 6),
    ) {
        let bench = Bench::new(Vec::new());
        bench.insert_events(TRIPS, &trips);
        bench.insert_events(FIXES, &fixes);
        let world = World::from([(TRIPS, trips), (FIXES, fixes)]);
        for (name, as_of) in asked {
            let metric = bench.domain.metric(name).expect("the metric exists");
            let to = as_of.unwrap_or(NOW) - 10 * SECOND;
            let compared = MetricQuestion { as_of, compare: true, ..ask(name, "10s") };
            let before = MetricQuestion { span: Some((to - 10 * SECOND, to)), compare: false, ..compared.clone() };
            let answer = bench.engine.read(&compared).expect("the question fits");
            let now = oracle::answer(metric, &world, &MetricQuestion { compare: false, ..compared.clone() }, NOW);
            let then = oracle::answer(metric, &world, &before, NOW);
            let previous = answer.previous.expect("it was asked for");
            prop_assert_eq!((previous.from, previous.to), (to - 10 * SECOND, to));
            prop_assert!(same(&answer.value.expect("one"), &now[&vec![]]));
            prop_assert!(same(&previous.value.expect("one"), &then[&vec![]]));

            let by_city = |question: &MetricQuestion| MetricQuestion { group_by: vec!["city".into()], ..question.clone() };
            let groups = bench.engine.read(&by_city(&compared)).expect("it fits").groups.expect("grouped");
            let now = oracle::answer(metric, &world, &by_city(&MetricQuestion { compare: false, ..compared }), NOW);
            let then = oracle::answer(metric, &world, &by_city(&before), NOW);
            let keys: BTreeSet<&Vec<Member>> = now.keys().chain(then.keys()).collect();
            prop_assert_eq!(groups.len(), keys.len());
            for (group, key) in groups.iter().zip(keys) {
                let of = |groups: &Groups| groups.get(key).cloned().unwrap_or_else(|| empty_value(bench.engine.domain(), metric));
                prop_assert!(is_same(group, &(key.clone(), of(&now))), "{:?}", group);
                prop_assert!(same(group.previous.as_ref().expect("compared"), &of(&then)), "{:?}", group);
            }
        }
    }
}

/// `level` 1 to 4, with so many trips and amounts that neither order is that of the levels.
fn four_levels(bench: &Bench) {
    let mut rows = Vec::new();
    for (level, count, amount) in [(1, 1, 500), (2, 4, 100), (3, 2, 300), (4, 3, 50)] {
        for _ in 0..count {
            let (level, amount) = (Value::Int(level), Value::Decimal { digits: amount, scale: 2 });
            let seq = rows.len() as i128 + 1;
            rows.push(event(seq, NOW - SECOND, [("level", level), ("amount", amount)]));
        }
    }
    bench.insert_events(TRIPS, &rows);
}

#[track_caller]
fn check(bench: &Bench, question: &MetricQuestion, expected: &[&str]) {
    let answer = bench.engine.read(question).expect("the question fits");
    let groups = answer.groups.expect("it grouped");
    let shown: Vec<String> = groups
        .iter()
        .map(|group| {
            let members =
                group.dimensions.iter().map(|(_, member)| member.as_deref().unwrap_or("-"));
            format!("{}={}", members.collect::<Vec<_>>().join(","), group.value)
        })
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn the_largest_are_named_and_the_rest_is_one() {
    let index = |name: &str| {
        super::fixture::domain(Vec::new()).metric(name).expect("the metric exists").index
    };
    let (numerator, denominator) = (index("sum_amount"), index("trips"));
    let per_trip =
        metric("amount_per_trip", Measure::Ratio { numerator, denominator }, Type::Float64);
    let bench = Bench::new(vec![per_trip]);
    four_levels(&bench);
    let by = |name: &str, down: Option<bool>, limit: Option<usize>, other: bool| MetricQuestion {
        group_by: vec!["level".into()],
        order_by: down.map_or(GroupOrder::Dimensions, |down| GroupOrder::Value { down }),
        limit,
        other,
        ..ask(name, "10s")
    };
    // The dimension lets two values in: those that come first.
    check(&bench, &by("trips", None, None, false), &["1=1", "2=4", "__other__=5"]);
    check(&bench, &by("trips", Some(true), None, false), &["2=4", "4=3", "__other__=3"]);
    check(&bench, &by("trips", Some(false), None, false), &["1=1", "3=2", "__other__=7"]);
    check(&bench, &by("trips", Some(true), Some(1), true), &["2=4", "__other__=6"]);
    check(&bench, &by("trips", Some(true), Some(1), false), &["2=4"]);
    // 500, 100, 300 and 50 each; the rest is measured over its rows.
    check(
        &bench,
        &by("avg_amount", Some(true), Some(1), true),
        &["1=5", "__other__=1.2777777777777777"],
    );
    check(&bench, &by("median_amount", None, Some(1), true), &["1=5", "__other__=1"]);
    check(
        &bench,
        &by("amount_per_trip", Some(true), None, false),
        &["1=5", "3=3", "__other__=0.7857142857142857"],
    );
    let answer = bench.engine.read(&by("trips", None, None, false)).expect("it fits");
    let others: Vec<bool> =
        answer.groups.expect("it grouped").iter().map(Group::is_other).collect();
    assert_eq!(others, [false, false, true]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let bench = Bench::new(Vec::new());
    let grouped = MetricQuestion { group_by: vec!["city".into()], ..ask("trips", "10s") };
    for (question, expected) in [
        (MetricQuestion { limit: Some(3), ..ask("trips", "10s") }, ("limit", "nothing is grouped")),
        (MetricQuestion { other: true, ..ask("trips", "10s") }, ("other", "nothing is grouped")),
        (
            MetricQuestion { order_by: GroupOrder::Value { down: true }, ..ask("trips", "10s") },
            ("order_by", "nothing is grouped"),
        ),
        (MetricQuestion { other: true, ..grouped.clone() }, ("other", "there is no `limit`")),
        (
            MetricQuestion { other: true, limit: Some(1_001), ..grouped },
            ("limit", "from 1 to 1000, not 1001"),
        ),
        (MetricQuestion { compare: true, ..ask("trips", "now") }, ("compare", "has no length")),
    ] {
        match bench.engine.read(&question) {
            Err(ReadError::Invalid { message, parameter, .. }) => {
                assert_eq!(parameter, expected.0);
                assert!(message.contains(expected.1), "{message}");
            }
            other => panic!("{question:?}: {other:?}"),
        }
    }
}
