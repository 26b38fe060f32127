//! Rows of `ingest` stand for many records.

use contracts::model::{Measure, MetricInput, Relation, column, ingest};
use contracts::types::Type;
use proptest::prelude::*;

use super::fixture::{Bench, MONEY, NOW, Row, SECOND, TENANT, ask, column as col, metric, row};
use super::oracle::{self, World};
use crate::question::MetricQuestion;
use crate::value::Value;

/// Columns of `ingest` for these tests: numbers stand where a contract has computed columns.
fn columns() -> Vec<(&'static str, Type)> {
    vec![
        (ingest::SEQ, Type::Int64),
        (ingest::TENANT, Type::String),
        (ingest::ARRIVED_AT, Type::Timestamp),
        (ingest::OUTCOME, Type::String),
        (ingest::REASON, Type::String),
        (ingest::SOURCE, Type::String),
        (ingest::LATE, Type::Bool),
        (ingest::N, Type::Int64),
        ("x_int", Type::Int64),
        ("x_money", MONEY),
        ("x_float", Type::Float64),
    ]
}

pub(super) fn over_ingest(arg: Option<(&str, Type)>) -> MetricInput {
    MetricInput {
        relation: Relation::Ingest,
        event_types: Vec::new(),
        time: col(ingest::ARRIVED_AT, Type::Timestamp),
        filter: None,
        arg: arg.map(|(name, ty)| col(name, ty)),
        dimensions: vec![
            col(ingest::OUTCOME, Type::String),
            col(ingest::LATE, Type::Bool),
            col("x_int", Type::Int64),
            col(ingest::REASON, Type::String),
        ],
        followed: None,
    }
}

fn bench() -> Bench {
    use Measure::{Avg, Count, CountDistinct, Latest, Max, Min, Quantile, Sum};
    let mut metrics = Vec::new();
    let mut add = |name: &str, measure, arg: Option<(&str, Type)>| {
        let mut metric = metric(name, measure, Type::Float64);
        metric.value_type = Type::Int64;
        metric.inputs = vec![over_ingest(arg)];
        metrics.push(metric);
    };
    add("records", Count, None);
    add("with_reason", Count, Some((ingest::REASON, Type::String)));
    add("reasons", CountDistinct, Some((ingest::REASON, Type::String)));
    add("latest_source", Latest, Some((ingest::SOURCE, Type::String)));
    for (name, ty) in [("x_int", Type::Int64), ("x_money", MONEY), ("x_float", Type::Float64)] {
        add(&format!("sum_{name}"), Sum, Some((name, ty.clone())));
        add(&format!("avg_{name}"), Avg, Some((name, ty.clone())));
        add(&format!("min_{name}"), Min, Some((name, ty.clone())));
        add(&format!("max_{name}"), Max, Some((name, ty.clone())));
        add(&format!("median_{name}"), Quantile(0.5), Some((name, ty.clone())));
        add(&format!("p95_{name}"), Quantile(0.95), Some((name, ty)));
    }
    let bench = Bench::new(metrics);
    bench.run(
        "alter table ingest add column x_int bigint; alter table ingest add column x_float double;
         alter table ingest add column x_money decimal(12,2);",
    );
    bench
}

fn a_row() -> impl Strategy<Value = Row> {
    let some = |value: Value, there: bool| if there { value } else { Value::Null };
    (0i64..20, 1i128..6, 0usize..3, any::<bool>(), -20i128..20, any::<bool>(), 1i128..4).prop_map(
        move |(age, n, outcome, late, x, there, seq)| {
            row([
                (ingest::SEQ, Value::Int(seq)),
                (column::TENANT, Value::Text(TENANT.into())),
                (ingest::ARRIVED_AT, Value::Timestamp(NOW - age * SECOND)),
                (
                    ingest::OUTCOME,
                    Value::Text(["accepted", "rejected", "duplicate"][outcome].into()),
                ),
                (ingest::REASON, some(Value::Text("late".into()), outcome == 1)),
                // Where times and positions tie, the greater text is the latest.
                (ingest::SOURCE, Value::Text(format!("s{age}"))),
                (ingest::LATE, Value::Bool(late)),
                (ingest::N, Value::Int(n)),
                ("x_int", some(Value::Int(x), there)),
                ("x_money", some(Value::Decimal { digits: x, scale: 2 }, there)),
                ("x_float", some(Value::Float(x as f64 / 4.0), there)),
            ])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_row_counts_as_often_as_it_says(
        rows in prop::collection::vec(a_row(), 0..30),
        from_state in any::<bool>(),
    ) {
        let bench = bench();
        bench.insert(ingest::TABLE, &columns(), &rows);
        if from_state {
            bench.learn();
        }
        let world = World::from([(Relation::Ingest, rows)]);
        let ours = bench.domain.metrics.iter().filter(|metric| {
            metric.inputs.iter().any(|input| input.relation == Relation::Ingest)
        });
        for metric in ours {
            for group_by in [vec![], vec!["city".to_owned()], vec!["vip".to_owned(), "city".to_owned()]] {
                let question = MetricQuestion { group_by, ..ask(&metric.name, "10s") };
                let answer = bench.engine.read(&question).expect("the question fits");
                let expected = oracle::answer(metric, &world, &question, NOW);
                let got: Vec<Value> = match answer.groups {
                    Some(groups) => groups.into_iter().map(|group| group.value).collect(),
                    None => answer.value.into_iter().collect(),
                };
                let expected: Vec<Value> = expected.into_values().collect();
                let close = |a: &Value, b: &Value| match (a, b) {
                    (Value::Float(a), Value::Float(b)) => (a - b).abs() < 1e-9,
                    (a, b) => a == b,
                };
                prop_assert!(
                    got.len() == expected.len() && got.iter().zip(&expected).all(|(a, b)| close(a, b)),
                    "{question:?}\n     got {got:?}\nexpected {expected:?}"
                );
            }
        }
    }
}
