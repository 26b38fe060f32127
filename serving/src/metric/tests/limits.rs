//! Windows to date, and values that outgrow their type.

use contracts::model::{Measure, Period, Window};
use contracts::types::Type;

use super::errors::check as check_error;
use super::fixture::{Bench, NOW, SECOND, TRIPS, ask, event, metric, over};
use crate::question::MetricQuestion;
use crate::value::{Value, parse_time};

const HOUR: i64 = 3600 * SECOND;

/// Trips counted since the start of the day in Berlin, and since ever.
fn to_date() -> Bench {
    let zone = "Europe/Berlin".parse().expect("a zone");
    let mut trips = metric("to_date", Measure::Count, Type::Int64);
    trips.inputs = vec![over(TRIPS, None)];
    trips.windows = vec![
        Window::to_date(Period::All),
        Window::to_date(Period::Day(zone)),
        Window::to_date(Period::Week(zone)),
        Window::to_date(Period::Month(zone)),
    ];
    Bench::new(vec![trips])
}

fn micros(text: &str) -> i64 {
    parse_time(text).expect("a time")
}

#[test]
fn a_window_to_date_begins_with_its_period_and_ends_with_what_is_known() {
    let bench = to_date();
    // Clocks went forward on Sunday 28 March 2027: the day had 23 hours.
    let times = [
        "2027-02-28T22:59:59Z", // the last second of February there
        "2027-02-28T23:00:00Z", // March
        "2027-03-21T23:00:00Z", // Monday
        "2027-03-27T22:59:59Z", // Saturday
        "2027-03-27T23:00:00Z", // Sunday
        "2027-03-28T21:59:59Z", // still Sunday
        "2027-03-28T22:00:00Z", // Monday
    ];
    let trips: Vec<_> =
        times.iter().zip(1..).map(|(time, seq)| event(seq, micros(time), [])).collect();
    bench.insert_events(TRIPS, &trips);
    let cases = [
        // window, as_of, count
        ("day", "2027-03-28T12:00:00Z", 1),
        ("day", "2027-03-28T22:00:00Z", 0), // the new day has just begun
        ("day", "2027-03-28T21:59:59.999Z", 2),
        ("day", "2027-03-28T22:00:01Z", 1),
        ("week", "2027-03-28T21:59:59.999Z", 4),
        ("week", "2027-03-28T22:00:01Z", 1),
        ("month", "2027-03-28T22:00:01Z", 6),
        ("month", "2027-02-28T22:59:59.5Z", 1),
        ("all", "2027-03-28T22:00:01Z", 7),
        ("all", "2027-03-28T22:00:00Z", 6),
    ];
    bench.clock.store(micros("2027-03-29T00:00:00Z"), std::sync::atomic::Ordering::Relaxed);
    for (window, as_of, expected) in cases {
        let as_of = Some(micros(as_of));
        let answer = bench.engine.read(&MetricQuestion { as_of, ..ask("to_date", window) });
        let answer = answer.expect("the question fits");
        assert_eq!(answer.value, Some(Value::Int(expected)), "{window} at {as_of:?}");
        assert_eq!(answer.window, window);
    }
    // Live there is no end: what is stamped slightly ahead counts.
    bench.insert_events(TRIPS, &[event(8, micros("2027-03-29T00:00:03Z"), [])]);
    for (window, expected) in [("day", 2), ("week", 2), ("month", 7), ("all", 8)] {
        let answer = bench.engine.read(&ask("to_date", window)).expect("the question fits");
        assert_eq!(answer.value, Some(Value::Int(expected)), "{window}");
    }
}

#[test]
fn a_clock_that_goes_back_moves_the_window_back() {
    let bench = to_date();
    bench.insert_events(TRIPS, &[event(1, NOW, [])]);
    let read = || bench.engine.read(&ask("to_date", "day")).expect("the question fits").value;
    assert_eq!(read(), Some(Value::Int(1)));
    // Before the event: a live window has no end.
    bench.clock.store(NOW - 48 * HOUR, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(read(), Some(Value::Int(1)));
    bench.clock.store(NOW + 48 * HOUR, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(read(), Some(Value::Int(0)));
}

/// Sums and means of a decimal that has all the digits there are, and of doubles.
fn huge() -> Bench {
    let wide = Type::Decimal { precision: 38, scale: 0 };
    let mut metrics = Vec::new();
    for (name, measure) in [("sum", Measure::Sum), ("avg", Measure::Avg), ("max", Measure::Max)] {
        for (of, ty) in [("wide", wide.clone()), ("weight", Type::Float64)] {
            let mut metric = metric(&format!("{name}_{of}"), measure.clone(), ty.clone());
            let mut input = over(TRIPS, Some("weight"));
            input.arg = Some(super::fixture::column(of, ty));
            metric.inputs = vec![input];
            metrics.push(metric);
        }
    }
    let bench = Bench::new(metrics);
    let table = crate::metric::quote(&bench.domain.families[0].table());
    bench.run(&format!("alter table {table} add column wide decimal(38, 0)"));
    bench
}

#[test]
fn a_sum_that_outgrows_its_type_is_an_error_that_names_the_metric() {
    let bench = huge();
    let value = |name: &str| bench.engine.read(&ask(name, "10s"));
    let trip = |seq| event(seq, NOW, [("weight", Value::Float(1.7e308))]);
    bench.insert_events(TRIPS, &[trip(1)]);
    let table = crate::metric::quote(&bench.domain.families[0].table());
    bench.run(&format!("update {table} set wide = 99999999999999999999999999999999999999"));
    let most = Value::Decimal { digits: 10_i128.pow(38) - 1, scale: 0 };
    assert_eq!(value("sum_wide").expect("it fits").value, Some(most.clone()));
    assert_eq!(value("sum_weight").expect("it fits").value, Some(Value::Float(1.7e308)));
    bench.insert_events(TRIPS, &[trip(2)]);
    bench.run(&format!("update {table} set wide = 99999999999999999999999999999999999999"));
    for name in ["sum_wide", "avg_wide", "sum_weight", "avg_weight"] {
        let ty = if name.ends_with("wide") { "decimal(38,0)" } else { "float64" };
        check_error(
            value(name).expect_err("it does not fit"),
            &format!(
                "overflow: the value of metric `{name}` does not fit into its type; \
                 ask for a shorter window or a filter; its values are {ty}"
            ),
        );
    }
    // What does not add still has its value, and so has a part that fits.
    assert_eq!(value("max_wide").expect("it fits").value, Some(most));
    let filters = [("city".to_owned(), "Ulm".to_owned())].into_iter().collect();
    let filtered = MetricQuestion { filters, ..ask("sum_wide", "10s") };
    assert!(bench.engine.read(&filtered).is_ok());
}
