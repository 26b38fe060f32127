//! Functions on timestamps and dates. All times are UTC; a date is its midnight.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, NaiveDate};

use super::CallSite;
use crate::expr::bind::{Binder, Bound, Typed, cast};
use crate::expr::decimal;
use crate::expr::error::{ExprError, Pos};
use crate::expr::physical::{Call, Operand, Result as Evaluated, map, map2};
use crate::expr::suggest::nearest;
use crate::types::Type;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

const UNITS: [(&str, Unit); 8] = [
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("quarter", Unit::Quarter),
    ("year", Unit::Year),
];

/// A unit in quotes. `extra` names what only this function knows.
fn unit<T: Copy>(site: &CallSite<'_>, known: &[(&str, T)]) -> Result<T, ExprError> {
    let (name, pos) = site.quoted(0)?;
    let lower = name.to_ascii_lowercase();
    if let Some((_, unit)) = known.iter().find(|(name, _)| *name == lower) {
        return Ok(*unit);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let hint = match (lower.as_str(), nearest(&lower, names.iter().copied())) {
        ("dow" | "isodow" | "weekday", _) => {
            "write `iso_weekday(time)`: Monday is 1, Sunday is 7".to_owned()
        }
        ("epoch", _) => "write `seconds_between(timestamp '1970-01-01', time)`".to_owned(),
        (_, Some(near)) => format!("did you mean `{near}`?"),
        _ => format!("the units: {}", names.join(", ")),
    };
    Err(pos.error(format!("unknown unit `{name}`")).hint(hint))
}

pub(super) fn date_trunc(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let unit = unit(site, &UNITS)?;
    let value = site.time(binder, 1)?;
    let arrow = value.ty.arrow();
    let name = site.function.name;
    let node = if value.ty == Type::Date {
        if matches!(unit, Unit::Second | Unit::Minute | Unit::Hour) {
            return Err(value.pos.error("a date has no unit finer than a day"));
        }
        Call::node(name, vec![value.node], arrow.clone(), move |args, _| {
            map::<Date32Type, Date32Type>(&args[0], &arrow, |v| {
                let start = truncate(i64::from(v).checked_mul(DAY)?, unit)?;
                i32::try_from(start.div_euclid(DAY)).ok()
            })
        })
    } else {
        Call::node(name, vec![value.node], arrow.clone(), move |args, _| {
            map::<TimestampMicrosecondType, TimestampMicrosecondType>(&args[0], &arrow, |v| {
                truncate(v, unit)
            })
        })
    };
    Ok(Typed::new(node, value.ty, site.pos))
}

/// The start of the unit that `micros` lies in; weeks start on Monday.
fn truncate(micros: i64, unit: Unit) -> Option<i64> {
    let floor = |length: i64| micros.checked_sub(micros.rem_euclid(length));
    let first_of = |month: fn(u32) -> u32| {
        let date = DateTime::from_timestamp_micros(micros)?.date_naive();
        let first = NaiveDate::from_ymd_opt(date.year(), month(date.month()), 1)?;
        Some(first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
    };
    match unit {
        Unit::Second => floor(SECOND),
        Unit::Minute => floor(MINUTE),
        Unit::Hour => floor(HOUR),
        Unit::Day => floor(DAY),
        Unit::Week => {
            let days = micros.div_euclid(DAY);
            // Day 0, 1970-01-01, was a Thursday.
            (days - (days + 3).rem_euclid(7)).checked_mul(DAY)
        }
        Unit::Month => first_of(|month| month),
        Unit::Quarter => first_of(|month| (month - 1) / 3 * 3 + 1),
        Unit::Year => first_of(|_| 1),
    }
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Unit(Unit),
    DayOfYear,
}

const PARTS: [(&str, Part); 9] = [
    ("second", Part::Unit(Unit::Second)),
    ("minute", Part::Unit(Unit::Minute)),
    ("hour", Part::Unit(Unit::Hour)),
    ("day", Part::Unit(Unit::Day)),
    ("week", Part::Unit(Unit::Week)),
    ("month", Part::Unit(Unit::Month)),
    ("quarter", Part::Unit(Unit::Quarter)),
    ("year", Part::Unit(Unit::Year)),
    ("doy", Part::DayOfYear),
];

pub(super) fn date_part(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let part = unit(site, &PARTS)?;
    let value = site.time(binder, 1)?;
    Ok(int_of_time(value, site, move |micros| extract(micros, part)))
}

pub(super) fn iso_weekday(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    let value = site.time(binder, 0)?;
    Ok(int_of_time(value, site, |micros| Some((micros.div_euclid(DAY) + 3).rem_euclid(7) + 1)))
}

fn extract(micros: i64, part: Part) -> Option<i64> {
    let within = |unit: i64, of: i64| micros.rem_euclid(of) / unit;
    let unit = match part {
        // The clock needs no calendar.
        Part::Unit(Unit::Second) => return Some(within(SECOND, MINUTE)),
        Part::Unit(Unit::Minute) => return Some(within(MINUTE, HOUR)),
        Part::Unit(Unit::Hour) => return Some(within(HOUR, DAY)),
        Part::Unit(unit) => Some(unit),
        Part::DayOfYear => None,
    };
    let date = DateTime::from_timestamp_micros(micros)?.date_naive();
    Some(match unit {
        Some(Unit::Year) => i64::from(date.year()),
        Some(Unit::Quarter) => i64::from((date.month() - 1) / 3 + 1),
        Some(Unit::Month) => i64::from(date.month()),
        Some(Unit::Week) => i64::from(date.iso_week().week()),
        Some(_) => i64::from(date.day()),
        None => i64::from(date.ordinal()),
    })
}

fn int_of_time(
    value: Typed,
    site: &CallSite<'_>,
    f: impl Fn(i64) -> Option<i64> + Send + Sync + 'static,
) -> Typed {
    let arrow = Type::Int64.arrow();
    let is_date = value.ty == Type::Date;
    let node = Call::node(site.function.name, vec![value.node], arrow.clone(), move |args, _| {
        if is_date {
            map::<Date32Type, Int64Type>(&args[0], &arrow, |days| {
                f(i64::from(days).checked_mul(DAY)?)
            })
        } else {
            map::<TimestampMicrosecondType, Int64Type>(&args[0], &arrow, &f)
        }
    });
    Typed::new(node, Type::Int64, site.pos)
}

pub(super) fn seconds_between(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    between(binder, site, 1)
}

pub(super) fn minutes_between(binder: &mut Binder<'_>, site: &CallSite<'_>) -> Bound {
    between(binder, site, 60)
}

/// From the first to the second time, in units of so many seconds, with six digits.
fn between(binder: &mut Binder<'_>, site: &CallSite<'_>, seconds: i128) -> Bound {
    const PRECISION: u8 = 20;
    let ty = Type::Decimal { precision: PRECISION, scale: 6 };
    let mut nodes = Vec::with_capacity(2);
    for index in 0..2 {
        nodes.push(cast(site.time(binder, index)?, &Type::Timestamp, site.pos)?.node);
    }
    let arrow = ty.arrow();
    let run = move |args: &[Operand], rows: usize, arrow: &DataType| -> Evaluated<ArrayRef> {
        map2::<TimestampMicrosecondType, TimestampMicrosecondType, Decimal128Type>(
            &args[0],
            &args[1],
            rows,
            arrow,
            |start, end| {
                let micros = i128::from(end) - i128::from(start);
                decimal::fit(decimal::divide(micros, seconds, 0)?, PRECISION)
            },
        )
    };
    let node = Call::node(site.function.name, nodes, arrow.clone(), move |args, rows| {
        run(args, rows, &arrow)
    });
    Ok(Typed::new(node, ty, site.pos))
}

/// A span of time: calendar months, and an exact part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::expr) struct Interval {
    pub(in crate::expr) months: i32,
    pub(in crate::expr) micros: i64,
}

impl Interval {
    /// `30 minutes`, `1 day 12 hours`, `-3 months`.
    pub(in crate::expr) fn parse(text: &str, pos: Pos) -> Result<Self, ExprError> {
        let wrong = |what: String| {
            pos.error(what)
                .hint("write it as `interval '30 minutes'` or `interval '1 day 12 hours'`")
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(2) {
            return Err(wrong(format!("`{text}` is not an interval")));
        }
        let mut interval = Self { months: 0, micros: 0 };
        for pair in words.chunks_exact(2) {
            let count: i64 = pair[0]
                .parse()
                .map_err(|_| wrong(format!("`{}` is not a whole number", pair[0])))?;
            let unit = pair[1].to_ascii_lowercase();
            let unit = unit.strip_suffix('s').unwrap_or(&unit);
            let added = match unit {
                "second" => interval.add(0, count, SECOND),
                "minute" => interval.add(0, count, MINUTE),
                "hour" => interval.add(0, count, HOUR),
                "day" => interval.add(0, count, DAY),
                "week" => interval.add(0, count, 7 * DAY),
                "month" => interval.add(1, count, 0),
                "year" => interval.add(12, count, 0),
                _ => return Err(wrong(format!("unknown unit `{}`", pair[1]))),
            };
            interval = added.ok_or_else(|| wrong(format!("`{text}` is out of range")))?;
        }
        Ok(interval)
    }

    fn add(self, months: i64, count: i64, micros: i64) -> Option<Self> {
        let months = i32::try_from(months.checked_mul(count)?).ok()?;
        Some(Self {
            months: self.months.checked_add(months)?,
            micros: self.micros.checked_add(count.checked_mul(micros)?)?,
        })
        // Its negation must exist, too.
        .filter(|sum| sum.months != i32::MIN && sum.micros != i64::MIN)
    }

    pub(in crate::expr) fn negated(self) -> Self {
        Self { months: -self.months, micros: -self.micros }
    }
}
