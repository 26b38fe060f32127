//! Answers case by case: groups, empty windows, ratios, the proof, entities.

use std::sync::atomic::Ordering;

use contracts::model::{Measure, OnEmpty, column};
use contracts::types::Type;

use super::fixture::{
    Bench, CLOSES_AFTER, NOW, SECOND, TENANT, TRIPS, ask, ask_entity, event, expr, metric, row,
};
use crate::question::{EntityQuestion, MetricQuestion, Proof, ReadError};
use crate::value::Value;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn money(digits: i128) -> Value {
    Value::Decimal { digits, scale: 2 }
}

/// Three trips in the window, one before it.
fn three_trips(bench: &Bench) {
    bench.insert_events(
        TRIPS,
        &[
            event(
                1,
                NOW - 20 * SECOND,
                [("city", text("Ulm")), ("amount", money(1)), ("level", Value::Int(9))],
            ),
            event(
                2,
                NOW - 9 * SECOND,
                [("city", text("Ulm")), ("amount", money(250)), ("level", Value::Int(1))],
            ),
            event(3, NOW - 8 * SECOND, [("city", text("Bonn")), ("level", Value::Int(2))]),
            event(4, NOW + SECOND, [("amount", money(5)), ("level", Value::Int(3))]),
        ],
    );
}

fn grouped(metric: &str, names: &[&str]) -> MetricQuestion {
    let group_by = names.iter().map(|name| (*name).to_owned()).collect();
    MetricQuestion { group_by, ..ask(metric, "10s") }
}

/// Groups as `member,member=value`.
#[track_caller]
fn check_groups(bench: &Bench, question: &MetricQuestion, expected: &[&str], truncated: bool) {
    let answer = bench.engine.read(question).expect("the question fits");
    let groups: Vec<String> = answer
        .groups
        .expect("the question grouped")
        .iter()
        .map(|group| {
            let members: Vec<&str> =
                group.dimensions.iter().map(|(_, m)| m.as_deref().unwrap_or("-")).collect();
            format!("{}={}", members.join(","), group.value)
        })
        .collect();
    assert_eq!(groups, expected);
    assert_eq!(answer.groups_truncated, truncated);
    assert_eq!(answer.value, None);
}

#[test]
fn groups_come_in_order_with_the_nameless_one_last() {
    let bench = Bench::new(Vec::new());
    three_trips(&bench);
    check_groups(&bench, &grouped("trips", &["city"]), &["Bonn=1", "Ulm=1", "-=1"], false);
    check_groups(
        &bench,
        &grouped("sum_amount", &["city"]),
        &["Bonn=0.00", "Ulm=2.50", "-=0.05"],
        false,
    );
    check_groups(
        &bench,
        &grouped("trips", &["city", "level"]),
        &["Bonn,2=1", "Ulm,1=1", "-,__other__=1"],
        true,
    );
}

#[test]
fn max_cardinality_lets_out_the_first_values() {
    let bench = Bench::new(Vec::new());
    three_trips(&bench);
    check_groups(&bench, &grouped("trips", &["level"]), &["1=1", "2=1", "__other__=1"], true);
}

#[test]
fn an_empty_window_has_the_declared_value() {
    let mut nothing = metric("nothing", Measure::Count, Type::Int64);
    nothing.on_empty = OnEmpty::Null;
    nothing.inputs = vec![super::fixture::over(TRIPS, None)];
    let bench = Bench::new(vec![nothing]);
    let value = |name: &str| bench.engine.read(&ask(name, "10s")).expect("it fits").value;
    assert_eq!(value("trips"), Some(Value::Int(0)));
    assert_eq!(value("nothing"), Some(Value::Null));
    assert_eq!(value("sum_amount"), Some(money(0)));
    assert_eq!(value("sum_weight"), Some(Value::Float(0.0)));
    assert_eq!(value("avg_amount"), Some(Value::Null));
    assert_eq!(value("max_amount"), Some(Value::Null));
    check_groups(&bench, &grouped("trips", &["city"]), &[], false);
}

/// `amount_per_trip` = sum_amount / trips; `numbered_share` = numbered / trips.
fn ratios() -> Bench {
    let index = |name: &str| {
        super::fixture::domain(Vec::new()).metric(name).expect("the metric exists").index
    };
    let ratio = |name: &str, above: &str, below: &str| {
        metric(
            name,
            Measure::Ratio { numerator: index(above), denominator: index(below) },
            Type::Float64,
        )
    };
    Bench::new(vec![
        ratio("amount_per_trip", "sum_amount", "trips"),
        ratio("kept_share", "kept", "trips"),
    ])
}

#[test]
fn a_ratio_joins_the_groups_of_its_parts() {
    let bench = ratios();
    three_trips(&bench);
    bench.insert_events(
        TRIPS,
        &[event(5, NOW, [("city", text("Ulm")), ("keep", Value::Bool(true))])],
    );
    check_groups(&bench, &grouped("kept_share", &["city"]), &["Bonn=0", "Ulm=0.5", "-=0"], false);
    let answer = bench.engine.read(&ask("amount_per_trip", "10s")).expect("it fits");
    assert_eq!(answer.value, Some(Value::Float(2.55 / 4.0)));
    let components = answer.components.expect("a ratio shows its parts");
    assert_eq!(components["sum_amount"], money(255));
    assert_eq!(components["trips"], Value::Int(4));
}

#[test]
fn a_derived_metric_is_evaluated_per_group() {
    let domain = super::fixture::domain(Vec::new());
    let index = |name: &str| domain.metric(name).expect("the metric exists").index;
    let parts = vec![index("trips"), index("sum_amount")];
    let columns = [("trips@1", Type::Float64), ("sum_amount@1", Type::Float64)];
    let per_trip = r#"case when "trips@1" = 2 then 10 * "sum_amount@1" / "trips@1" end"#;
    let per_trip = expr(per_trip, &columns);
    let per_trip = Measure::Derived { parts, expr: per_trip };
    let bench = Bench::new(vec![metric("tenfold_per_trip", per_trip, Type::Float64)]);
    three_trips(&bench);
    bench.insert_events(TRIPS, &[event(5, NOW, [("city", text("Ulm"))])]);
    check_groups(
        &bench,
        &grouped("tenfold_per_trip", &["city"]),
        &["Bonn=null", "Ulm=12.5", "-=null"],
        false,
    );
    let answer = bench.engine.read(&ask("tenfold_per_trip", "10s")).expect("it fits");
    assert_eq!(answer.value, Some(Value::Null));
    assert_eq!(answer.components.expect("it shows its parts")["sum_amount"], money(255));
}

#[test]
fn a_ratio_over_nothing_is_null() {
    let answer = ratios().engine.read(&ask("amount_per_trip", "10s")).expect("it fits");
    assert_eq!(answer.value, Some(Value::Null));
}

#[test]
fn the_window_may_be_left_out() {
    let bench = Bench::new(Vec::new());
    let question = MetricQuestion { window: None, ..ask("trips", "10s") };
    assert_eq!(bench.engine.read(&question).expect("it fits").window, "1h");
}

#[test]
fn the_proof_says_what_is_missing_and_how_far_the_answer_goes() {
    let bench = Bench::new(Vec::new());
    three_trips(&bench);
    bench.insert_events(
        TRIPS,
        &[
            event(5, NOW - SECOND, [(column::LATE, Value::Bool(true))]),
            // The window of ten seconds begins in the minute before now.
            event(6, NOW - 60 * SECOND - 1, [(column::LATE, Value::Bool(true))]),
            event(7, NOW, [(column::LATE, Value::Bool(true)), (column::TENANT, text("other"))]),
        ],
    );
    let letter = |time: Option<i64>, tenant: &str| {
        row([
            ("tenant", text(tenant)),
            ("arrived_at", Value::Timestamp(NOW)),
            ("event_time", time.map_or(Value::Null, Value::Timestamp)),
            ("id", Value::Int(1)),
            ("partition", text("p")),
            ("offset", Value::Int(0)),
            ("stage", text("decode")),
            ("reason", text("not_json")),
            ("detail", text("")),
        ])
    };
    let columns = [
        ("tenant", Type::String),
        ("arrived_at", Type::Timestamp),
        ("event_time", Type::Timestamp),
        ("id", Type::Int64),
        ("partition", Type::String),
        ("offset", Type::Int64),
        ("stage", Type::String),
        ("reason", Type::String),
        ("detail", Type::String),
    ];
    bench.insert(
        "dead_letters",
        &columns,
        &[
            letter(None, TENANT),
            letter(Some(NOW - 60 * SECOND), TENANT),
            letter(Some(NOW - 60 * SECOND - 1), TENANT),
            letter(None, "other"),
        ],
    );
    bench.run(&format!(
        "insert into source_partitions (id, watermark, updated_at, last_seq) values \
         (1, {NOW}, {NOW}, 7), (2, {}, {NOW}, 5), (3, null, {NOW}, 0), (4, {}, {}, 3)",
        NOW - SECOND,
        NOW - 90 * SECOND,
        NOW - 60 * SECOND,
    ));
    let proof = bench.engine.read(&ask("trips", "10s")).expect("it fits").proof;
    assert_eq!(proof.late_in_window, 1);
    assert_eq!(proof.rejected_in_window, 2);
    bench.learn();
    let kept = bench.engine.read(&ask("trips", "10s")).expect("it fits").proof;
    let counts =
        |proof: &Proof| (proof.events_in_window, proof.late_in_window, proof.rejected_in_window);
    assert_eq!(counts(&kept), counts(&proof), "from state as from rows");
    let events = proof.events_in_window.expect("the window has a beginning");
    assert_eq!(proof.late_share(), Some(1.0 / events as f64));
    assert_eq!(proof.rejected_share(), Some(2.0 / (events + 2) as f64));
    // Those of all time are known from state, and not counted for an answer without it.
    let all = bench.engine.read(&ask("trips", "now")).expect("it fits").proof;
    assert_eq!((all.late_in_window, all.events_in_window), (2, Some(6)));
    bench.store.forget_state();
    let all = bench.engine.read(&ask("trips", "now")).expect("it fits").proof;
    assert_eq!((all.late_in_window, all.events_in_window, all.late_share()), (2, None, None));
    assert_eq!(proof.position, 7);
    assert_eq!(proof.data_through, Some(NOW - SECOND));
    assert_eq!(proof.contract_hash, "0000000000000abc");
    assert!(proof.exact && !proof.cached);

    let past = MetricQuestion { as_of: Some(NOW), ..ask("trips", "10s") };
    let proof = bench.engine.read(&past).expect("it fits").proof;
    assert_eq!((proof.as_of, proof.rejected_in_window), (Some(NOW), 1));
}

fn two_rides(bench: &Bench) {
    bench.insert_events(
        TRIPS,
        &[
            event(
                1,
                NOW - 30 * SECOND,
                [
                    ("ride_id", text("r1")),
                    ("rider_id", Value::Int(7)),
                    ("city", text("Ulm")),
                    ("amount", money(100)),
                ],
            ),
            event(
                2,
                NOW - 20 * SECOND,
                [("ride_id", text("r2")), ("rider_id", Value::Int(7)), ("amount", money(50))],
            ),
            event(
                3,
                NOW - 10 * SECOND,
                [
                    ("ride_id", text("r1")),
                    ("rider_id", Value::Int(8)),
                    ("city", text("Bonn")),
                    ("amount", money(1)),
                ],
            ),
        ],
    );
    bench.fold_entities(&[TENANT]);
}

#[track_caller]
fn check_entity(bench: &Bench, entity: &str, id: &str, as_of: Option<i64>, expected: &str) {
    let question = EntityQuestion { as_of, ..ask_entity(entity, id) };
    let shown = match bench.engine.entity(&question) {
        Ok(answer) => {
            let fields = answer.data.iter().filter(|(_, value)| value.get() != "null");
            let fields: Vec<String> =
                fields.map(|(name, value)| format!("{name}={}", value.get())).collect();
            fields.join(" ")
        }
        Err(ReadError::NotFound { message, .. }) => message,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(shown, expected);
}

#[test]
fn an_entity_is_shown_as_its_contract_orders_it() {
    let bench = Bench::new(Vec::new());
    two_rides(&bench);
    check_entity(
        &bench,
        "ride",
        "r1",
        None,
        r#"ride_id="r1" rider_id=8 city="Bonn" started_at="2027-01-15T07:59:30Z" amount=1.01 events=2 state="done""#,
    );
    check_entity(&bench, "rider", "7", None, "rider_id=7 rides=1 amount=0.50");
    check_entity(&bench, "ride", "r3", None, "no `ride` has the key `r3`");
}

#[test]
fn an_entity_closes_by_silence_alone() {
    let bench = Bench::new(Vec::new());
    bench.insert_events(TRIPS, &[event(1, NOW, [("ride_id", text("r1"))])]);
    bench.fold_entities(&[TENANT]);
    let state = |now: i64, as_of: Option<i64>| {
        bench.clock.store(now, Ordering::Relaxed);
        let question = EntityQuestion { as_of, ..ask_entity("ride", "r1") };
        let answer = bench.engine.entity(&question).expect("the ride is there");
        let state = answer.data.iter().find(|(name, _)| name == "state").expect("a field");
        state.1.get().to_owned()
    };
    let closes_at = NOW + CLOSES_AFTER;
    assert_eq!(state(closes_at - 1, None), r#""open""#);
    assert_eq!(state(closes_at, None), r#""done""#);
    assert_eq!(state(closes_at, Some(closes_at - 1)), r#""open""#);
    assert_eq!(state(closes_at, Some(closes_at)), r#""done""#);
}

#[test]
fn a_past_entity_knows_only_what_had_happened() {
    let bench = Bench::new(Vec::new());
    two_rides(&bench);
    let at = Some(NOW - 10 * SECOND);
    check_entity(
        &bench,
        "ride",
        "r1",
        at,
        r#"ride_id="r1" rider_id=7 city="Ulm" started_at="2027-01-15T07:59:30Z" amount=1.00 events=1 state="done""#,
    );
    // The ride that left for another rider later was still this one's.
    check_entity(&bench, "rider", "7", at, "rider_id=7 rides=2 amount=1.50");
    check_entity(&bench, "rider", "8", at, "no `rider` had the key `8` at that time");
    check_entity(&bench, "rider", "8", Some(NOW), "rider_id=8 rides=1 amount=1.01");
}
