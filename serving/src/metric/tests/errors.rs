//! Questions that do not fit, and what the asker is told.

use super::fixture::{Bench, NOW, SECOND, ask, ask_entity};
use crate::metric::parse_at;
use crate::question::{Filters, MetricQuestion, ReadError};

#[track_caller]
pub(super) fn check(error: ReadError, expected: &str) {
    let shown = match error {
        ReadError::NotFound { message, hint } => {
            format!("not found: {message}; {}", hint.unwrap_or_default())
        }
        ReadError::Invalid { message, hint, parameter } => {
            format!("{parameter}: {message}; {}", hint.unwrap_or_default())
        }
        ReadError::Beyond { message, hint, .. } => format!("beyond: {message}; {hint}"),
        ReadError::Backfilling { message, hint } => format!("backfilling: {message}; {hint}"),
        ReadError::Overflow { message, hint } => format!("overflow: {message}; {hint}"),
        ReadError::Unavailable { message } => format!("unavailable: {message}"),
    };
    assert_eq!(shown, expected);
}

#[track_caller]
fn refused(question: MetricQuestion, expected: &str) {
    let bench = Bench::new(Vec::new());
    check(bench.engine.read(&question).expect_err("the question does not fit"), expected);
}

fn filtered(name: &str, value: &str) -> MetricQuestion {
    let filters = [(name.to_owned(), value.to_owned())].into_iter().collect();
    MetricQuestion { filters, ..ask("trips", "10s") }
}

fn grouped(names: &[&str]) -> MetricQuestion {
    let group_by = names.iter().map(|name| (*name).to_owned()).collect();
    MetricQuestion { group_by, ..ask("trips", "10s") }
}

#[test]
fn unknown_names_come_with_the_nearest_ones() {
    refused(ask("tripps", "10s"), "not found: no metric is named `tripps`; did you mean `trips`?");
    refused(
        ask("trips", "5m"),
        "window: metric `trips` has no window `5m`; its windows are `10s`, `1h`, `now`",
    );
    refused(
        filtered("citty", "Ulm"),
        "filter: metric `trips` has no dimension `citty`; did you mean `city`?",
    );
    refused(
        grouped(&["colour"]),
        "group_by: metric `trips` has no dimension `colour`; \
         known: `city`, `day`, `level`, `vip`",
    );
    refused(
        MetricQuestion {
            filters: [("city".into(), "x".into())].into_iter().collect(),
            ..ask("rider_amount", "now")
        },
        "filter: metric `rider_amount` has no dimension `city`; it declares no dimensions",
    );
}

#[test]
fn values_must_have_the_type_of_their_dimension() {
    refused(
        filtered("vip", "yes"),
        "filter: filter value `yes` does not fit dimension `vip` of type bool; \
         write `true` or `false`",
    );
    refused(
        filtered("level", "1.5"),
        "filter: filter value `1.5` does not fit dimension `level` of type int64; \
         write a whole number",
    );
    refused(
        filtered("day", "2026-02-30"),
        "filter: filter value `2026-02-30` does not fit dimension `day` of type date; \
         write a day such as `2026-01-31`",
    );
    refused(
        filtered("city", "a\0b"),
        "filter: filter value `a\0b` does not fit dimension `city` of type string; \
         write a text without NUL characters",
    );
}

#[test]
fn operators_take_values_of_the_dimension() {
    let filtered = |text: &str| {
        let mut filters = Filters::default();
        filters.add_text(text).expect("a filter");
        MetricQuestion { filters, ..ask("trips", "10s") }
    };
    for (text, expected) in [
        ("citty.not:Ulm", "filter: metric `trips` has no dimension `citty`; did you mean `city`?"),
        (
            "vip.gte:true",
            "filter: dimension `vip` is `true` or `false`: it has no above and below; write vip:true or vip.not:true",
        ),
        (
            "level.in:1,x",
            "filter: filter value `x` does not fit dimension `level` of type int64; write a whole number",
        ),
        (
            "level.lt:NaN",
            "filter: filter value `NaN` does not fit dimension `level` of type int64; write a whole number",
        ),
        (
            "level.gt:9223372036854775808",
            "filter: filter value `9223372036854775808` does not fit dimension `level` of type int64; write a whole number",
        ),
        (
            "day.between:2026-01-01,soon",
            "filter: filter value `soon` does not fit dimension `day` of type date; write a day such as `2026-01-31`",
        ),
    ] {
        refused(filtered(text), expected);
    }
}

#[test]
fn a_dimension_is_named_once() {
    refused(
        grouped(&["city", "city"]),
        "group_by: group_by names `city` twice; name each dimension once",
    );
}

#[test]
fn as_of_may_be_ahead_by_the_difference_of_clocks() {
    let bench = Bench::new(Vec::new());
    let at = |as_of| MetricQuestion { as_of: Some(as_of), ..ask("trips", "10s") };
    assert!(bench.engine.read(&at(NOW + 5 * SECOND)).is_ok());
    refused(
        at(NOW + 5 * SECOND + 1),
        "as_of: as_of 2027-01-15T08:00:05.000001Z lies in the future; \
         the clock here says 2027-01-15T08:00:00Z; leave as_of out to read what holds now",
    );
    refused(at(i64::MIN), "as_of: as_of -9223372036854775808 is outside the range of times; ");
    check(
        parse_at("as_of", "yesterday").expect_err("not a time"),
        "as_of: as_of `yesterday` is not a time; \
         write it in RFC 3339, for example `2026-01-31T10:00:00Z`",
    );
}

#[test]
fn unknown_entities_and_keys() {
    let bench = Bench::new(Vec::new());
    let entity = |question| bench.engine.entity(&question).expect_err("there is none");
    check(
        entity(ask_entity("rid", "r1")),
        "not found: no entity type is named `rid`; did you mean `ride`?",
    );
    check(entity(ask_entity("ride", "r1")), "not found: no `ride` has the key `r1`; ");
}
