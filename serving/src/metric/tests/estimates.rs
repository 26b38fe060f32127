//! How far estimates are off, against exact values over rows of many shapes.

use contracts::model::{Measure, MetricInput};
use contracts::types::Type;

use super::fixture::{Bench, NOW, Row, TRIPS, ask, metric, over};
use super::properties::groups_of;
use crate::metric::quote;
use crate::question::MetricQuestion;
use crate::value::Value;

const QUANTILES: [f64; 6] = [0.0, 0.01, 0.5, 0.9, 0.999, 1.0];

fn bench() -> Bench {
    let mut metrics = Vec::new();
    let mut add = |name: String, measure, value_type, arg| {
        let mut metric = metric(&name, measure, value_type);
        metric.inputs = vec![MetricInput { ..over(TRIPS, Some(arg)) }];
        metrics.push(metric);
    };
    for arg in ["n", "note", "weight"] {
        add(format!("exact_{arg}"), Measure::CountDistinct, Type::Int64, arg);
        add(format!("approx_{arg}"), Measure::ApproxCountDistinct, Type::Int64, arg);
    }
    for q in QUANTILES {
        add(format!("exact_q{q}"), Measure::Quantile(q), Type::Float64, "weight");
        add(format!("approx_q{q}"), Measure::ApproxQuantile(q), Type::Float64, "weight");
    }
    Bench::new(metrics)
}

/// `count` rows in ten levels, their columns by SQL over the row's number `i`.
fn fill(bench: &Bench, count: u64, n: &str, note: &str, weight: &str) {
    let table = quote(&bench.domain.families[0].table());
    bench.run(&format!(
        "delete from {table};
         insert into {table} (_seq, _tenant, _type, _time, _late, level, n, note, weight)
         select i, 'default', 'ended', make_timestamp({NOW}), false, i % 2, {n}, {note}, {weight}
         from range({count}) t(i)"
    ));
}

fn number(bench: &Bench, question: &MetricQuestion) -> Vec<f64> {
    let answer = bench.engine.read(question).expect("the question fits");
    let is_approx = question.metric.starts_with("approx");
    assert_eq!(answer.proof.exact, !is_approx);
    assert_eq!(answer.proof.error_bounds.len(), usize::from(is_approx));
    groups_of(&answer).iter().map(|(_, value)| value.as_f64().expect("a number")).collect()
}

fn both(bench: &Bench, name: &str, group_by: &[&str]) -> Vec<(f64, f64)> {
    let group_by: Vec<String> = group_by.iter().map(|name| (*name).to_owned()).collect();
    let read = |kind: &str| {
        let group_by = group_by.clone();
        number(bench, &MetricQuestion { group_by, ..ask(&format!("{kind}_{name}"), "10s") })
    };
    let (exact, approx) = (read("exact"), read("approx"));
    assert_eq!(exact.len(), approx.len());
    exact.into_iter().zip(approx).collect()
}

#[test]
fn distinct_counts_keep_to_the_stated_error() {
    let bound = Measure::ApproxCountDistinct.error().expect("an estimate has an error");
    let bench = bench();
    let mut errors = Vec::new();
    for count in [1_u64, 10, 300, 5_000, 40_000, 100_000, 150_000, 300_000] {
        // Dense numbers, sparse ones, texts with much in common, doubles; some of them twice.
        for step in [1_u64, 1_000_003] {
            let n = format!("(i // 2) * {step}");
            let note = format!("'user-' || (i * {step})");
            let weight = format!("(i % 70000) / 4.0 + {step}");
            fill(&bench, count, &n, &note, &weight);
            for column in ["n", "note", "weight"] {
                for group_by in [&[][..], &["level"]] {
                    errors.extend(
                        both(&bench, column, group_by)
                            .iter()
                            .map(|(exact, approx)| (approx / exact - 1.0).abs()),
                    );
                }
            }
        }
    }
    let within = errors.iter().filter(|error| **error <= bound.relative).count() as f64;
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let squares: f64 = errors.iter().map(|error| error * error).sum();
    let rms = (squares / errors.len() as f64).sqrt();
    assert!(
        within / errors.len() as f64 >= bound.confidence,
        "{within} of {}, root mean square {rms:.4}",
        errors.len()
    );
    assert!(worst <= 2.0 * bound.relative, "{worst}");
}

#[test]
fn quantiles_keep_to_the_stated_error() {
    let bound = Measure::ApproxQuantile(0.5).error().expect("an estimate has an error");
    let bench = bench();
    let shapes = [
        "exp(hash(i) % 20000 / 1000.0 - 10)",
        "-exp(hash(i) % 20000 / 1000.0)",
        "(hash(i) % 1000)::double",
        "pow(10, (hash(i) % 600)::double - 300)",
        "5.0::double",
    ];
    let mut worst = 0.0_f64;
    for shape in shapes {
        for count in [1, 2, 7, 1_000, 50_000] {
            fill(&bench, count, "1", "'x'", shape);
            for q in QUANTILES {
                for group_by in [&[][..], &["level"]] {
                    for (exact, approx) in both(&bench, &format!("q{q}"), group_by) {
                        let error = (approx - exact).abs();
                        worst = worst.max(if exact == 0.0 { error } else { error / exact.abs() });
                    }
                }
            }
        }
    }
    assert!(worst <= bound.relative * (1.0 + 1e-9), "{worst}");
}

#[test]
fn an_estimate_does_not_depend_on_the_order_of_rows() {
    let bench = bench();
    let read = || ["approx_n", "approx_q0.9"].map(|name| number(&bench, &ask(name, "10s")));
    fill(&bench, 20_000, "i", "'x'", "ln(i + 1)");
    let forward = read();
    fill(&bench, 20_000, "19999 - i", "'x'", "ln(20000 - i)");
    assert_eq!(read(), forward);
}

#[test]
fn nothing_is_estimated_of_nothing() {
    let bench = bench();
    let value = |name: &str| bench.engine.read(&ask(name, "10s")).expect("it fits").value;
    assert_eq!(value("approx_n"), Some(Value::Int(0)));
    assert_eq!(value("approx_q0.5"), Some(Value::Null));
    // A group of which no row has the argument is there, as for exact measures.
    let nameless = Row::from([("level".to_owned(), Value::Int(1))]);
    bench.insert_events(TRIPS, &[event_of(nameless)]);
    assert_eq!(both(&bench, "n", &["level"]), [(0.0, 0.0)]);
}

fn event_of(row: Row) -> Row {
    let mut event = super::fixture::event(1, NOW, []);
    event.extend(row);
    event
}
