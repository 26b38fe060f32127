//! Decimals, instants and days as text.

use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike};

/// A decimal with exactly `scale` digits after the point: `149.00`, `-0.05`.
pub fn decimal_text(digits: i128, scale: i8) -> String {
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        // A negative scale stands for trailing zeros; contract types have none.
        let zeros = usize::from(scale.unsigned_abs());
        return format!("{digits}{}", "0".repeat(if digits == 0 { 0 } else { zeros }));
    };
    let sign = if digits < 0 { "-" } else { "" };
    let padded = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// An instant as RFC 3339 with `Z`; fractions of a second only as far as they are not zero.
pub fn time_text(micros: i64) -> String {
    let Some(time) = DateTime::from_timestamp_micros(micros) else {
        // Beyond the calendar's years: the number is still exact.
        return micros.to_string();
    };
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let mut text = if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    } else {
        time.format("%Y-%m-%dT%H:%M:%S").to_string()
    };
    let fraction = micros.rem_euclid(1_000_000);
    if fraction != 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// A day as `2026-01-31`.
pub fn date_text(days: i32) -> String {
    let epoch = NaiveDate::default();
    let count = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 { epoch.checked_sub_days(count) } else { epoch.checked_add_days(count) };
    date.map_or_else(|| days.to_string(), |date| date.format("%Y-%m-%d").to_string())
}
