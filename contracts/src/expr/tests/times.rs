use super::{has_type, rows, value};

#[test]
fn literals_are_utc() {
    value("timestamp '2024-01-31T10:00:00+03:00'", "2024-01-31T07:00:00");
    value("timestamp '2024-01-31'", "2024-01-31T00:00:00");
    value("date '2024-01-31'", "2024-01-31");
    has_type("timestamp", "timestamp");
}

#[test]
fn intervals_move_times() {
    for (text, expected) in [
        ("timestamp '2024-02-28 23:45:00' + interval '30 minutes'", "2024-02-29T00:15:00"),
        ("interval '1 day 12 hours' + timestamp '2024-02-28'", "2024-02-29T12:00:00"),
        ("timestamp '2024-03-31' - interval '1 month'", "2024-02-29T00:00:00"),
        ("timestamp '2024-02-29' + interval '1 year'", "2025-02-28T00:00:00"),
        ("timestamp '2024-02-29' + interval '-2 weeks'", "2024-02-15T00:00:00"),
        ("date '2024-02-28' + interval '2 days'", "2024-03-01"),
        ("date '2024-01-31' + interval '1 month'", "2024-02-29"),
        ("date '2024-02-28' + interval '24 hours'", "2024-02-29"),
    ] {
        value(text, expected);
    }
    rows("t + interval '1 second' > t", ["null", "true", "true", "true", "null", "true"]);
    rows("t - interval '1 month' < t", ["null", "true", "true", "true", "null", "null"]);
    rows("day + interval '1 day' > day", ["null", "true", "true", "true", "null", "null"]);
}

#[test]
fn truncation() {
    for (unit, expected) in [
        ("second", "2024-05-15T13:45:59"),
        ("minute", "2024-05-15T13:45:00"),
        ("hour", "2024-05-15T13:00:00"),
        ("day", "2024-05-15T00:00:00"),
        ("week", "2024-05-13T00:00:00"),
        ("month", "2024-05-01T00:00:00"),
        ("quarter", "2024-04-01T00:00:00"),
        ("year", "2024-01-01T00:00:00"),
    ] {
        value(&format!("date_trunc('{unit}', timestamp '2024-05-15 13:45:59.999')"), expected);
    }
    value("date_trunc('HOUR', timestamp '1969-12-31 23:59:59')", "1969-12-31T23:00:00");
    value("date_trunc('week', date '1970-01-01')", "1969-12-29");
    value("date_trunc('month', date '2024-05-15')", "2024-05-01");
    rows("date_trunc('day', t) <= t", ["null", "true", "true", "true", "true", "null"]);
    rows("date_trunc('year', t) <= t", ["null", "true", "true", "true", "null", "null"]);
    has_type("date_trunc('hour', t)", "timestamp");
    has_type("date_trunc('month', day)", "date");
}

#[test]
fn parts() {
    for (text, expected) in [
        ("extract(hour from timestamp '2024-05-15 13:45:59.9')", "13"),
        ("extract(SECOND from timestamp '2024-05-15 13:45:59.9')", "59"),
        ("date_part('minute', timestamp '2024-05-15 13:45:59.9')", "45"),
        ("extract(year from date '2024-05-15')", "2024"),
        ("extract(quarter from date '2024-05-15')", "2"),
        ("extract(month from date '2024-05-15')", "5"),
        ("extract(week from date '2021-01-03')", "53"),
        ("extract(day from date '2024-05-15')", "15"),
        ("extract(doy from date '2024-12-31')", "366"),
        ("extract(hour from date '2024-12-31')", "0"),
        ("extract(hour from timestamp '1969-12-31 23:59:59')", "23"),
        ("iso_weekday(date '2024-05-13')", "1"),
        ("iso_weekday(timestamp '2024-05-19 23:59:59')", "7"),
        ("iso_weekday(date '1969-12-31')", "3"),
    ] {
        has_type(text, "int64");
        value(text, expected);
    }
    rows("extract(year from t)", ["null", "1970", "2024", "1969", "null", "null"]);
    rows("extract(day from day)", ["null", "1", "29", "31", "null", "null"]);
}

#[test]
fn spans_between_times_are_exact() {
    value("seconds_between(timestamp '2024-01-01', timestamp '2024-01-01 00:00:01.5')", "1.500000");
    value("seconds_between(timestamp '2024-01-02', timestamp '2024-01-01')", "-86400.000000");
    value("minutes_between(timestamp '2024-01-01', timestamp '2024-01-01 00:01:30')", "1.500000");
    value("minutes_between(timestamp '2024-01-01', timestamp '2024-01-01 00:00:01')", "0.016667");
    value("seconds_between(date '2024-01-01', timestamp '2024-01-01 00:01:00')", "60.000000");
    rows(
        "seconds_between(t, timestamp)",
        ["null", "0.000000", "0.000000", "0.000000", "0.000000", "0.000000"],
    );
    rows(
        "seconds_between(timestamp '1970-01-01', t)",
        [
            "null",
            "0.000000",
            "1709251199.999999",
            "-0.000001",
            "9223372036854.775807",
            "-9223372036854.775808",
        ],
    );
    has_type("seconds_between(t, t)", "decimal(20,6)");
    has_type("seconds_between(day, t)", "decimal(20,6)");
}
