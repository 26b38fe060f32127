//! Several metrics in one answer are what each of them answers alone, and a series adds up.

use super::world::World;
use crate::cache::Cache;
use crate::query::metrics::{self, MetricsQuery};
use crate::question::{MetricQuestion, ReadError, Value};
use crate::value::parse_time;

fn at(text: &str) -> i64 {
    parse_time(&format!("2026-01-01T{text}Z")).unwrap()
}

fn query(metrics: &[&str]) -> MetricsQuery {
    MetricsQuery {
        tenant: "acme".into(),
        metrics: metrics.iter().map(|name| (*name).to_owned()).collect(),
        ..MetricsQuery::default()
    }
}

fn texts(answer: &metrics::MetricsAnswer) -> Vec<String> {
    answer.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

#[test]
fn each_cell_is_what_the_metric_answers_alone() {
    let world = World::new();
    let cache = Cache::new(world.engine.clone());
    for as_of in [None, Some(at("11:45:00")), Some(at("12:00:00"))] {
        let asked = MetricsQuery {
            dimensions: vec!["city".into()],
            from: Some(at("11:03:00")),
            to: Some(at("11:52:00")),
            grain: Some("10m".into()),
            as_of,
            ..query(&["revenue", "order_count", "avg_order_value"])
        };
        let answer = metrics::read(&cache, &asked).unwrap();
        assert!(!answer.rows.is_empty());
        for row in &answer.rows {
            let text = |name: &str| row.get(name).unwrap().trim_matches('"').to_owned();
            let time = |name: &str| parse_time(&text(name)).unwrap();
            let span = Some((time("window_start"), time("window_end")));
            for metric in &asked.metrics {
                let question = MetricQuestion {
                    metric: metric.clone(),
                    tenant: "acme".into(),
                    span,
                    as_of,
                    filters: [("city".to_owned(), text("city"))].into_iter().collect(),
                    ..MetricQuestion::default()
                };
                let alone = world.engine.read(&question).unwrap().value.unwrap();
                let alone = serde_json::to_string(&alone).unwrap();
                assert_eq!(row.get(metric), Some(alone.as_str()), "{metric} {span:?} {as_of:?}");
            }
        }
    }
}

#[test]
fn a_series_adds_up_to_its_span() {
    let world = World::new();
    let cache = Cache::new(world.engine.clone());
    let span = (at("11:03:00"), at("11:52:00"));
    let asked = MetricsQuery {
        from: Some(span.0),
        to: Some(span.1),
        grain: Some("7m".into()),
        ..query(&["revenue", "order_count"])
    };
    let series = metrics::read(&cache, &asked).unwrap();
    // Consecutive, half open, cut at whole multiples.
    let starts: Vec<&str> = series.rows.iter().map(|r| r.get("window_start").unwrap()).collect();
    let ends: Vec<&str> = series.rows.iter().map(|r| r.get("window_end").unwrap()).collect();
    assert_eq!(starts[1..], ends[..ends.len() - 1]);
    assert_eq!(
        (starts[0], ends[ends.len() - 1]),
        ("\"2026-01-01T11:03:00Z\"", "\"2026-01-01T11:52:00Z\"")
    );
    for metric in &asked.metrics {
        let whole = MetricsQuery { grain: None, ..asked.clone() };
        let whole = metrics::read(&cache, &whole).unwrap();
        let number = |text: &str| text.replace('.', "").parse::<i64>().unwrap();
        let sum: i64 = series.rows.iter().map(|row| number(row.get(metric).unwrap())).sum();
        assert_eq!(sum, number(whole.rows[0].get(metric).unwrap()), "{metric}");
        assert!(sum > 0);
    }
    assert_eq!(series.metrics[0].window, "2026-01-01T11:03:00Z/2026-01-01T11:52:00Z");
}

#[test]
fn a_window_is_cut_up_to_now() {
    let world = World::new();
    let cache = Cache::new(world.engine.clone());
    let asked = MetricsQuery {
        window: Some("1h".into()),
        grain: Some("30m".into()),
        ..query(&["order_count"])
    };
    assert_eq!(
        texts(&metrics::read(&cache, &asked).unwrap()),
        [
            r#"{"window_start":"2026-01-01T11:00:00Z","window_end":"2026-01-01T11:30:00Z","order_count":24}"#,
            r#"{"window_start":"2026-01-01T11:30:00Z","window_end":"2026-01-01T12:00:00Z","order_count":8}"#,
            r#"{"window_start":"2026-01-01T12:00:00Z","window_end":"2026-01-01T12:30:00Z","order_count":0}"#,
        ]
    );
}

#[test]
fn groups_that_one_metric_lacks_are_its_empty_windows_and_rows_are_ordered() {
    let world = World::new();
    let cache = Cache::new(world.engine.clone());
    let asked = MetricsQuery {
        dimensions: vec!["status".into()],
        window: Some("24h".into()),
        order_by: vec![("revenue".into(), true)],
        ..query(&["order_count", "revenue"])
    };
    let rows = texts(&metrics::read(&cache, &asked).unwrap());
    assert_eq!(
        rows,
        [
            r#"{"status":"delivered","order_count":8,"revenue":964.00}"#,
            r#"{"status":"shipped","order_count":8,"revenue":956.00}"#,
            r#"{"status":"confirmed","order_count":8,"revenue":948.00}"#,
            r#"{"status":"pending","order_count":8,"revenue":940.00}"#,
        ]
    );
}

#[test]
fn a_span_without_end_is_live_and_one_of_the_past_is_not() {
    let world = World::new();
    let ask = |span, as_of| {
        let question = MetricQuestion {
            metric: "order_count".into(),
            tenant: "acme".into(),
            span: Some(span),
            as_of,
            ..MetricQuestion::default()
        };
        world.engine.read(&question).unwrap().value
    };
    assert_eq!(ask((at("11:00:00"), i64::MAX - 1), None), Some(Value::Int(32)));
    assert_eq!(ask((at("11:00:00"), at("11:10:00")), None), Some(Value::Int(8)));
    assert_eq!(ask((at("11:00:00"), at("11:10:00")), Some(at("11:05:00"))), Some(Value::Int(4)));
    let wrong = MetricQuestion {
        metric: "order_count".into(),
        span: Some((5, 5)),
        ..MetricQuestion::default()
    };
    assert!(matches!(world.engine.read(&wrong), Err(ReadError::Invalid { parameter: "from", .. })));
}
