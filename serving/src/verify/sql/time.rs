//! Timestamps as µs, dates as days, all in UTC.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use contracts::expr::{Ast, AstKind};
use contracts::types::Type;

use super::number::{fit, narrow, rounded};
use super::{Emitted, Emitter, Sql, decimal, refused};

const DAY: i64 = 86_400_000_000;

/// First and last instant of the calendar in which the dialect counts, µs.
const CALENDAR: (i64, i64) = (-8_334_601_228_800_000_000, 8_210_266_876_799_999_999);

pub(super) fn timestamp_literal(text: &str) -> Emitted {
    let spaced = text.replacen(['t', 'T'], " ", 1);
    let micros = instant(&spaced).or_else(|| {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
    });
    match micros {
        Some(micros) => Ok(Sql::new(format!("'{micros}'::bigint"), Type::Timestamp)),
        None => refused(format!("the timestamp `{text}`")),
    }
}

fn instant(text: &str) -> Option<i64> {
    for zoned in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M%:z"] {
        let text = text.replace(['z', 'Z'], "+00:00");
        if let Ok(time) = DateTime::<FixedOffset>::parse_from_str(&text, zoned) {
            return Some(time.timestamp_micros());
        }
    }
    ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"].iter().find_map(|form| {
        let time = NaiveDateTime::parse_from_str(text, form).ok()?;
        Some(time.and_utc().timestamp_micros())
    })
}

pub(super) fn date_literal(text: &str) -> Emitted {
    match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(day) => {
            let days = day.signed_duration_since(NaiveDate::default()).num_days();
            Ok(Sql::new(format!("'{days}'::bigint"), Type::Date))
        }
        Err(_) => refused(format!("the date `{text}`")),
    }
}

/// The µs of a time, those of its midnight for a date.
fn micros(value: &Sql) -> Emitted<String> {
    match value.ty {
        _ if value.is_null() => Ok("null::bigint".to_owned()),
        Type::Timestamp => Ok(value.text.clone()),
        Type::Date => Ok(format!("({} * {DAY})", value.text)),
        _ => refused("a time function of no time"),
    }
}

/// The largest multiple of `unit` that is not above `text`.
fn floored(emitter: &Emitter<'_>, text: &str, unit: i64) -> String {
    emitter.bind(text, |v| format!("({v} - (({v} % {unit}) + {unit}) % {unit})"))
}

/// The day of an instant.
pub(super) fn day_of(emitter: &Emitter<'_>, text: &str) -> String {
    format!("({} // {DAY})", floored(emitter, text, DAY))
}

/// `body` over a DuckDB timestamp of the instant; null outside of the calendar.
fn dated(emitter: &Emitter<'_>, text: &str, body: impl FnOnce(&str) -> String) -> String {
    let (first, last) = CALENDAR;
    emitter.bind(text, |v| {
        let body = body(&format!("make_timestamp({v})"));
        format!("(case when {v} between {first} and {last} then {body} end)")
    })
}

fn unit_micros(unit: &str) -> Option<i64> {
    Some(match unit {
        "second" => 1_000_000,
        "minute" => 60_000_000,
        "hour" => 3_600_000_000,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    })
}

/// `date_trunc`, `date_part`, `iso_weekday`.
pub(super) fn function(emitter: &mut Emitter<'_>, function: &str, args: &[Ast]) -> Emitted {
    let (unit, of) = match args {
        [of] if function == "iso_weekday" => ("isodow".to_owned(), of),
        [Ast { kind: AstKind::Text(unit), .. }, of] => (unit.to_ascii_lowercase(), of),
        _ => return refused(format!("`{function}` of a unit that is computed")),
    };
    let value = emitter.emit(of)?;
    let input = micros(&value)?;
    if function != "date_trunc" {
        let text = match unit.as_str() {
            // The clock needs no calendar.
            "second" | "minute" | "hour" => {
                let (small, large) = match unit.as_str() {
                    "second" => (1_000_000_i64, 60_000_000_i64),
                    "minute" => (60_000_000, 3_600_000_000),
                    _ => (3_600_000_000, DAY),
                };
                emitter
                    .bind(&input, |v| format!("((({v} % {large}) + {large}) % {large} // {small})"))
            }
            _ => dated(emitter, &input, |v| format!("date_part('{unit}', {v})")),
        };
        return Ok(Sql::new(text, Type::Int64));
    }
    let text = match (unit.as_str(), unit_micros(&unit)) {
        ("week", _) | (_, None) => {
            dated(emitter, &input, |v| format!("epoch_us(date_trunc('{unit}', {v}))"))
        }
        (_, Some(length)) => floored(emitter, &input, length),
    };
    let text = if value.ty == Type::Date { day_of(emitter, &text) } else { text };
    Ok(Sql::new(text, value.ty))
}

/// Months and µs of `1 day 12 hours`.
fn interval(text: &str) -> Option<(i64, i64)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (mut months, mut micros) = (0_i64, 0_i64);
    for pair in words.chunks(2) {
        let [count, unit] = pair else { return None };
        let count: i64 = count.parse().ok()?;
        let unit = unit.to_ascii_lowercase();
        match unit.strip_suffix('s').unwrap_or(&unit) {
            "month" => months += count,
            "year" => months += 12 * count,
            unit => micros += count.checked_mul(unit_micros(unit)?)?,
        }
    }
    Some((months, micros))
}

/// `time ± interval`: months first, which keep the day or take the last one of the month.
pub(super) fn shift(emitter: &mut Emitter<'_>, of: &Ast, text: &str, back: bool) -> Emitted {
    let value = emitter.emit(of)?;
    let Some((months, span)) = interval(text) else { return refused(format!("`{text}`")) };
    let (months, span) = if back { (-months, -span) } else { (months, span) };
    let mut moved = micros(&value)?;
    if months != 0 {
        moved = dated(emitter, &moved, |v| format!("epoch_us({v} + to_months({months}))"));
    }
    let moved = narrow(&format!("({moved}::hugeint + {span})")).text;
    let moved = if value.ty == Type::Date { day_of(emitter, &moved) } else { moved };
    Ok(Sql::new(moved, value.ty))
}

/// `seconds_between`, `minutes_between`: decimals of six digits.
pub(super) fn between(
    emitter: &mut Emitter<'_>,
    function: &str,
    start: &Ast,
    end: &Ast,
) -> Emitted {
    let (start, end) = (emitter.emit(start)?, emitter.emit(end)?);
    let span = format!("(({})::hugeint - ({})::hugeint)", micros(&end)?, micros(&start)?);
    let span = match function {
        "minutes_between" => rounded(emitter, &span, "60::hugeint"),
        _ => span,
    };
    Ok(Sql::new(fit(&span, 20), decimal(20, 6)))
}

/// `body` where the year has four digits; another year is written otherwise by DuckDB.
fn written(emitter: &Emitter<'_>, text: &str, body: impl FnOnce(&str) -> String) -> String {
    let (first, last) = (-62_135_596_800_000_000_i64, 253_402_300_799_999_999_i64);
    emitter.bind(text, |v| {
        let body = body(v);
        format!(
            "(case when {v} between {first} and {last} then {body} when {v} is not null \
             then error('the text of a time far off: ' || {v}::varchar) end)"
        )
    })
}

/// RFC 3339, the fraction only where there is one.
pub(super) fn text(emitter: &Emitter<'_>, value: &str) -> String {
    written(emitter, value, |v| {
        let time = format!("strftime(make_timestamp({v}), '%Y-%m-%dT%H:%M:%S')");
        let fraction = format!("lpad(((({v} % 1000000) + 1000000) % 1000000)::varchar, 6, '0')");
        format!("({time} || case when {v} % 1000000 = 0 then '' else '.' || {fraction} end || 'Z')")
    })
}

pub(super) fn date_text(emitter: &Emitter<'_>, value: &str) -> String {
    written(emitter, &format!("({value} * {DAY})"), |v| {
        format!("strftime(make_timestamp({v}), '%Y-%m-%d')")
    })
}

/// A text as an instant: a day, then optionally a time, then optionally an offset.
pub(super) fn parsed(emitter: &Emitter<'_>, value: &str) -> String {
    let day = "([0-9]{4}-[0-9]{2}-[0-9]{2})";
    let clock = "([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.]([0-9]{1,9}))?)?";
    let zone = "(?:[zZ]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))?";
    let pattern = format!("{day}(?:[tT ]{clock}{zone})?");
    emitter.bind(value, |v| {
        let part = |n: u8| {
            format!("coalesce(try_cast(regexp_extract({v}, '^{pattern}$', {n}) as bigint), 0)")
        };
        let days = format!("(try_cast(left({v}, 10) as date) - date '1970-01-01')");
        let fraction = format!(
            "coalesce(try_cast(left(rpad(regexp_extract({v}, '^{pattern}$', 5), 6, '0'), 6) \
             as bigint), 0)"
        );
        let sign =
            format!("(case regexp_extract({v}, '^{pattern}$', 6) when '-' then -1 else 1 end)");
        format!(
            "(case when regexp_full_match({v}, '{pattern}') then {days} * {DAY} \
             + {} * 3600000000 + {} * 60000000 + {} * 1000000 + {fraction} \
             - {sign} * ({} * 3600000000 + {} * 60000000) end)",
            part(2),
            part(3),
            part(4),
            part(7),
            part(8),
        )
    })
}
