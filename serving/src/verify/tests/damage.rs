//! Damage done on purpose: each kind must be found.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::bench::{Bench, Given, assert_clean, domain};
use super::yard;
use crate::verify::{Report, VerifyOptions};

const NOW: i64 = 1_767_225_600_000_000;

fn filled() -> Bench {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut bench = Bench::new(&domain(yard::CONTRACTS));
    let given: Vec<Given> = (0..200).map(|number| yard::record(&mut rng, NOW, number)).collect();
    bench.give(0, &given);
    bench.at(NOW);
    bench
}

/// Damages a store and says what the verification found.
fn after(sql: &str) -> Report {
    let mut bench = filled();
    bench.damage(sql);
    bench.verify(&VerifyOptions::default())
}

#[track_caller]
fn check(sql: &str, what: &[&str]) {
    let report = after(sql);
    for what in what {
        assert!(
            report.differences.iter().any(|difference| difference.what.contains(what)),
            "{sql}: nothing about {what} in {:#?}",
            report.differences
        );
    }
}

#[test]
fn a_whole_store_has_no_differences() {
    let report = filled().verify(&VerifyOptions::default());
    assert_clean(&report, "whole");
    assert!(report.checked.values > 500, "{:?}", report.checked);
    assert!(report.checked.metrics >= 36 && report.checked.entities > 10, "{:?}", report.checked);
}

#[test]
fn each_damage_is_found() {
    let lift = "update en_lift_v1 set";
    let one = "where _key = (select min(_key) from en_lift_v1 where load is not null)";
    check(
        &format!("{lift} total = total + 0.001 {one}"),
        &["entity `lift` v1", "metric `lift_loads`"],
    );
    check(&format!("{lift} phase__closed = 'lost' {one}"), &["`phase (closed)`"]);
    check(&format!("delete from en_lift_v1 {one}"), &["entity `lift` v1", "metric `lift_loads`"]);
    check(
        "insert into en_yard_v1 select * replace ('99' as _key) from en_yard_v1 limit 1",
        &["key `99`"],
    );
    // A field that the recomputation starts from: everything that was made of it differs.
    check(
        "update ev_lift set load = load + 1 where _seq = (select min(_seq) from ev_lift where load > 1)",
        &["entity `lift` v1"],
    );
    check(
        "update ev_lift set mass = 1.5 where _seq = (select min(_seq) from ev_lift where mass > 2)",
        &["event `lift`, column `mass`"],
    );
    check(
        "update ev_lift set class = 'none' where _seq = (select max(_seq) from ev_lift where class is not null)",
        &["column `class`"],
    );
    let known = "where load > 1 and mass is not null";
    check(&format!("update ev_lift set mass = mass * 2 {known}"), &["metric `mass_over_time`"]);
    check("update ev_lift set heavy = not heavy", &["metric `heavy_again`", "metric `heavy_time`"]);
    check("update ev_lift set label = 'same'", &["metric `labels_estimated`"]);
    check("update ev_lift set share = share * 1.05", &["metric `share_estimated`"]);
    check(
        "delete from ev_gust where _seq = (select min(_seq) from ev_gust)",
        &["positions of the journal", "accepted records of type", "partition `"],
    );
    check(
        "insert into ev_gust select * replace (100000 as _seq) from ev_gust limit 1",
        &["event id `", "positions of the journal"],
    );
    check("update ingest set _n = _n + 1 where outcome = 'rejected'", &["records rejected as"]);
    // Whole in itself, so that only counting anew can tell: changes that were put in twice.
    check(
        "insert into metric_state_log select n + 1, changes, checksum from metric_state_log order by n desc limit 1",
        &["metric `"],
    );
    check("update source_partitions set accepted = accepted + 1", &["partition `test:0`"]);
    check(
        "delete from dead_letters where id = (select min(id) from dead_letters)",
        &["records rejected as"],
    );
}

fn give_more(bench: &mut Bench, first: u64) {
    let mut rng = SmallRng::seed_from_u64(first);
    let more: Vec<Given> = (first..first + 50).map(|n| yard::record(&mut rng, NOW, n)).collect();
    bench.give(1, &more);
}

#[test]
fn state_that_is_damaged_is_built_anew() {
    for sql in [
        "update metric_state_log set checksum = 0 where n = (select max(n) from metric_state_log)",
        "update metric_state_log set n = n + 1",
        "update metric_state_log set changes = '\\x00'::blob",
        "update metric_state set checksum = checksum - 1",
        "update metric_state set cells = '\\xff\\xff'::blob",
        "delete from metric_state_specs",
    ] {
        let mut bench = filled();
        for first in [300, 400, 500] {
            give_more(&mut bench, first);
        }
        let whole = bench.state();
        assert!(whole.all > 10 && whole.whole == whole.all, "{whole:?}");
        bench.damage(sql);
        let damaged = bench.state();
        assert!(damaged.whole < whole.whole, "{sql}: {damaged:?}");
        assert_clean(&bench.verify(&VerifyOptions::default()), sql);
        bench.tidy();
        assert_eq!(bench.state().whole, whole.whole, "{sql}");
        assert_clean(&bench.verify(&VerifyOptions::default()), sql);
        // It goes on from there.
        give_more(&mut bench, 600);
        bench.restart();
        assert_eq!(bench.state().whole, whole.whole, "{sql}");
        assert_clean(&bench.verify(&VerifyOptions::default()), sql);
    }
}

#[test]
fn one_metric_and_one_tenant_are_verified_alone() {
    let bench = filled();
    let options = VerifyOptions {
        metric: Some("open_lifts".to_owned()),
        tenant: Some("other".to_owned()),
        ..VerifyOptions::default()
    };
    let report = bench.verify(&options);
    assert!(report.agrees(), "{:#?}", report.differences);
    assert_eq!(report.checked.metrics, 1);
    assert!(report.checked.values > 0);
}

#[test]
fn estimates_are_held_against_their_bounds_where_only_what_is_made_of_them_is_verified() {
    let ratio = VerifyOptions { metric: Some("wind_per_label".into()), ..VerifyOptions::default() };
    let mut bench = filled();
    let report = bench.verify(&ratio);
    assert!(report.agrees() && report.checked.metrics == 1, "{report:#?}");
    bench.damage("update ev_lift set label = 'same'");
    let differ = |options: &VerifyOptions| -> Vec<String> {
        let differences = bench.verify(options).differences.into_iter();
        let named = differences.filter(|own| own.what.contains("`labels_estimated`"));
        named.map(|own| format!("{:?} {:?} {:?}", own.tenant, own.dimensions, own.window)).collect()
    };
    let found = differ(&ratio);
    assert!(!found.is_empty());
    // Each once, also where all are verified.
    let all = differ(&VerifyOptions::default());
    for found in [&found, &all] {
        let different: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!(different.len(), found.len(), "{found:#?}");
    }
}

/// DuckDB answers nothing more in a transaction in which a sum overflowed: the other metrics are verified
/// nevertheless, and what differs is found.
#[test]
fn one_metric_that_overflows_keeps_no_other_from_being_verified() {
    let domain = domain(
        "
kind: event
name: reading
names: [reading.taken]
key: meter
fields: {meter: string, load: {type: 'decimal(38,37)'}, level: int64}
---
kind: metric
name: a_load
version: 1
owner: tests
unit: kWh
from: {event: reading.taken}
measure: sum(load)
windows: [24h]
moved_by: [reading.taken]
freshness: {max_age: 1s}
---
kind: metric
name: levels
version: 1
owner: tests
unit: m
from: {event: reading.taken}
measure: max(level)
windows: [24h]
dimensions: {meter: {}}
moved_by: [reading.taken]
freshness: {max_age: 1s}
",
    );
    let mut bench = Bench::new(&domain);
    let time = 1_767_225_600_000_000;
    bench.at(time + 1_000_000);
    let reading = |id: usize| Given {
        line: serde_json::json!({
            "event_id": format!("r{id}"), "event_type": "reading.taken", "meter": "m", "load": 9.5,
            "level": id, "timestamp": crate::value::time_text(time),
        })
        .to_string()
        .into_bytes(),
        tenant: "default",
        arrived_at: time,
    };
    bench.give(0, &[reading(1), reading(2)]);
    let report = bench.verify(&VerifyOptions::default());
    let skipped: Vec<&str> = report.not_verified.iter().map(|one| &*one.what).collect();
    assert!(skipped.iter().all(|what| what.contains("`a_load`")), "{report:#?}");
    assert!(!skipped.is_empty() && report.agrees(), "{report:#?}");
    assert_eq!(report.checked.metrics, 1, "{report:#?}");
    // What differs is found, although that metric comes first.
    bench.damage("update ingest set _n = _n + 1");
    assert!(!bench.verify(&VerifyOptions::default()).agrees());
}

#[test]
fn what_the_time_does_not_suffice_for_is_told() {
    let options =
        VerifyOptions { time_limit: std::time::Duration::ZERO, ..VerifyOptions::default() };
    let report = filled().verify(&options);
    assert!(report.agrees());
    assert!(
        report.not_verified.iter().any(|skipped| skipped.why.contains("time was up")),
        "{report:?}"
    );
}
