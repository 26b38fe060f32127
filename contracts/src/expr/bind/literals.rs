//! Literals: numbers keep every digit, times are UTC.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use datafusion_common::ScalarValue;
use datafusion_physical_expr::expressions::Literal;

use super::{Bound, Typed};
use crate::expr::decimal::{self, MAX_PRECISION};
use crate::expr::error::Pos;
use crate::types::Type;

fn literal(value: ScalarValue, ty: Type, pos: Pos) -> Typed {
    Typed::new(Arc::new(Literal::new(value)), ty, pos)
}

pub(super) fn boolean(value: bool, pos: Pos) -> Typed {
    literal(ScalarValue::Boolean(Some(value)), Type::Bool, pos)
}

pub(super) fn text(text: &str, pos: Pos) -> Typed {
    literal(ScalarValue::Utf8(Some(text.to_owned())), Type::String, pos)
}

/// Digits only: int64 (a decimal past its range). With a point: decimal. With an exponent: float64.
pub(super) fn number(text: &str, pos: Pos) -> Bound {
    if text.contains('e') {
        return match text.parse().ok().and_then(clean) {
            Some(value) => Ok(literal(ScalarValue::Float64(Some(value)), Type::Float64, pos)),
            None => Err(pos.error(format!("`{text}` is out of the range of float64"))),
        };
    }
    if let Ok(value) = text.parse::<i64>() {
        return Ok(literal(ScalarValue::Int64(Some(value)), Type::Int64, pos));
    }
    let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let too_long = || {
        pos.error(format!("a number has at most {MAX_PRECISION} digits"))
            .hint("write it with an exponent to make it a float64")
    };
    let scale = i8::try_from(scale).map_err(|_| too_long())?;
    let value = decimal::from_text(text, scale)
        .and_then(|value| decimal::fit(value, MAX_PRECISION))
        .filter(|_| scale <= MAX_PRECISION as i8)
        .ok_or_else(too_long)?;
    let precision = digits(value).max(scale as u8).max(1);
    Ok(literal(
        ScalarValue::Decimal128(Some(value), precision, scale),
        Type::Decimal { precision, scale },
        pos,
    ))
}

/// Decimal digits of a value; 1 for zero.
pub(super) fn digits(value: i128) -> u8 {
    value.unsigned_abs().checked_ilog10().unwrap_or(0) as u8 + 1
}

pub(super) fn timestamp(text: &str, pos: Pos) -> Bound {
    match parse_timestamp(text) {
        Some(micros) => {
            Ok(literal(ScalarValue::TimestampMicrosecond(Some(micros), None), Type::Timestamp, pos))
        }
        None => Err(pos
            .error(format!("`{text}` is not a timestamp"))
            .hint("write it as '2024-01-31 10:00:00' or '2024-01-31T10:00:00.5+03:00'")),
    }
}

pub(super) fn date(text: &str, pos: Pos) -> Bound {
    match parse_date(text) {
        Some(days) => Ok(literal(ScalarValue::Date32(Some(days)), Type::Date, pos)),
        None => Err(pos.error(format!("`{text}` is not a date")).hint("write it as '2024-01-31'")),
    }
}

/// A double as the dialect knows it: finite, and zero without a sign.
pub(super) fn clean(value: f64) -> Option<f64> {
    value.is_finite().then_some(value + 0.0)
}

/// `YYYY-MM-DD` to days since 1970-01-01.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    i32::try_from(day(text)?.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn day(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = number_at(text, 0, 4)?;
    NaiveDate::from_ymd_opt(
        i32::try_from(year).ok()?,
        number_at(text, 5, 7)?,
        number_at(text, 8, 10)?,
    )
}

/// The digits `from..to` as a number.
fn number_at(text: &str, from: usize, to: usize) -> Option<u32> {
    let part = text.get(from..to)?;
    if !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    part.parse().ok()
}

/// `YYYY-MM-DD[(T| )HH:MM[:SS[.ffffff]][Z|±HH:MM]]` to microseconds since 1970-01-01 in UTC.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let day = day(text.get(..10)?)?;
    let Some(time) = text[10..].strip_prefix(['T', 't', ' ']) else {
        let midnight = day.and_time(NaiveTime::MIN).and_utc();
        return text[10..].is_empty().then(|| midnight.timestamp_micros());
    };
    let zone_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let offset = offset_minutes(zone)?;
    let time = day.and_time(clock_time(clock)?).and_utc();
    let utc: DateTime<_> = time.checked_sub_signed(TimeDelta::minutes(offset))?;
    Some(utc.timestamp_micros())
}

fn clock_time(clock: &str) -> Option<NaiveTime> {
    let bytes = clock.as_bytes();
    if bytes.len() < 5 || bytes[2] != b':' {
        return None;
    }
    let (hour, minute) = (number_at(clock, 0, 2)?, number_at(clock, 3, 5)?);
    let (mut second, mut micros) = (0, 0);
    if let Some(rest) = clock.get(5..).filter(|rest| !rest.is_empty()) {
        let rest = rest.strip_prefix(':')?;
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
        if whole.len() != 2 || fraction.is_empty() || fraction.len() > 9 {
            return None;
        }
        second = number_at(whole, 0, 2)?;
        let nanos: u32 = number_at(fraction, 0, fraction.len())?
            .checked_mul(10_u32.pow(9 - fraction.len() as u32))?;
        // What is finer than a microsecond is cut off, not rounded into the next one.
        micros = nanos / 1000;
    }
    NaiveTime::from_hms_micro_opt(hour, minute, second, micros)
}

fn offset_minutes(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let bytes = zone.as_bytes();
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (number_at(zone, 1, 3)?, number_at(zone, 4, 6)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let total = i64::from(hours * 60 + minutes);
    Some(if bytes[0] == b'-' { -total } else { total })
}
