//! Instants, days and times of day from counts, as JSON.

use super::value;

const SECONDS_PER_DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31, as days since 1970.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// An instant in units of `10^-digits` seconds since 1970 as RFC 3339 in quotes; without an offset
/// when it is `local`. Says whether that could be done: outside the years 1 to 9999 there is no such
/// text, and nothing is written.
pub(super) fn instant(count: i64, digits: u32, local: bool, out: &mut Vec<u8>) -> bool {
    let unit = 10_i64.pow(digits);
    let (seconds, fraction) = (count.div_euclid(unit), count.rem_euclid(unit));
    let day = seconds.div_euclid(SECONDS_PER_DAY);
    if !DAYS.contains(&day) {
        return false;
    }
    out.push(b'"');
    date(day, out);
    out.push(b'T');
    clock(seconds.rem_euclid(SECONDS_PER_DAY), fraction, digits, out);
    out.extend_from_slice(if local { b"\"" } else { b"Z\"" });
    true
}

/// An instant in units of `10^-digits` seconds as a count of `10^-to` seconds.
pub(super) fn epoch(count: i64, digits: u32, to: u32, out: &mut Vec<u8>) {
    match to.checked_sub(digits) {
        Some(more) => value::scaled(i128::from(count) * 10_i128.pow(more), 0, out),
        None => value::scaled(i128::from(count), digits - to, out),
    }
}

/// Days since 1970 as a date in quotes; as for [`instant`] not for all of them.
pub(super) fn day(count: i64, out: &mut Vec<u8>) -> bool {
    if !DAYS.contains(&count) {
        return false;
    }
    out.push(b'"');
    date(count, out);
    out.push(b'"');
    true
}

/// A time of day in units of `10^-digits` seconds, in quotes; not where the day has no such time.
pub(super) fn time_of_day(count: i64, digits: u32, out: &mut Vec<u8>) -> bool {
    let unit = 10_i64.pow(digits);
    if !(0..SECONDS_PER_DAY * unit).contains(&count) {
        return false;
    }
    out.push(b'"');
    clock(count / unit, count % unit, digits, out);
    out.push(b'"');
    true
}

fn clock(second_of_day: i64, fraction: i64, digits: u32, out: &mut Vec<u8>) {
    padded(second_of_day / 3_600, 2, out);
    out.push(b':');
    padded(second_of_day / 60 % 60, 2, out);
    out.push(b':');
    padded(second_of_day % 60, 2, out);
    out.push(b'.');
    padded(fraction, digits as usize, out);
}

/// The date of a day, in the proleptic Gregorian calendar.
fn date(day: i64, out: &mut Vec<u8>) {
    // Days since 0000-03-01: years that begin in March have their leap day at the end.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year_of_era, month + 3);
    let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
    padded(year, 4, out);
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(day_of_month, 2, out);
}

/// A number that is not negative, with zeros in front.
fn padded(value: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;
    use crate::decode::time;

    fn shown(write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<String> {
        let mut out = Vec::new();
        let written = write(&mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(written, !text.is_empty());
        written.then_some(text)
    }

    #[test]
    fn instants_as_text() {
        #[track_caller]
        fn check(count: i64, digits: u32, local: bool, want: &str) {
            let shown = shown(|out| instant(count, digits, local, out));
            assert_eq!(shown.as_deref(), Some(want));
        }
        check(0, 3, false, "\"1970-01-01T00:00:00.000Z\"");
        check(-1, 3, false, "\"1969-12-31T23:59:59.999Z\"");
        check(1_769_853_600_123_456, 6, false, "\"2026-01-31T10:00:00.123456Z\"");
        check(1_769_853_600_123_456_789, 9, true, "\"2026-01-31T10:00:00.123456789\"");
        check(-62_135_596_800_000, 3, false, "\"0001-01-01T00:00:00.000Z\"");
        check(253_402_300_799_999, 3, false, "\"9999-12-31T23:59:59.999Z\"");
        for count in [-62_135_596_800_001, 253_402_300_800_000, i64::MIN, i64::MAX] {
            assert_eq!(shown(|out| instant(count, 3, false, out)), None);
        }
    }

    #[test]
    fn instants_as_counts() {
        #[track_caller]
        fn check(count: i64, digits: u32, to: u32, want: &str) {
            let mut out = Vec::new();
            epoch(count, digits, to, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        check(1_769_853_600_123, 3, 3, "1769853600123");
        check(1_769_853_600_123, 3, 0, "1769853600.123");
        check(1_769_853_600_123, 3, 6, "1769853600123000");
        check(-5, 3, 0, "-0.005");
        check(i64::MAX, 3, 9, "9223372036854775807000000");
    }

    #[test]
    fn times_of_day() {
        let text = |count| shown(|out| time_of_day(count, 3, out));
        assert_eq!(text(0).as_deref(), Some("\"00:00:00.000\""));
        assert_eq!(text(86_399_999).as_deref(), Some("\"23:59:59.999\""));
        assert_eq!(text(86_400_000), None);
        assert_eq!(text(-1), None);
    }

    proptest! {
        #[test]
        fn every_day_agrees_with_chrono(count in DAYS) {
            let chrono = NaiveDate::from_num_days_from_ce_opt(count as i32 + 719_163);
            let want = chrono.expect("in range").format("\"%Y-%m-%d\"").to_string();
            prop_assert_eq!(shown(|out| day(count, out)), Some(want));
        }

        #[test]
        fn every_instant_is_read_as_itself(
            count in -62_135_596_800_000_000_i64..253_402_300_800_000_000,
        ) {
            let text = shown(|out| instant(count, 6, false, out)).expect("in range");
            prop_assert_eq!(time::rfc3339(text.trim_matches('"')), Ok(count));
            let chrono = DateTime::from_timestamp_micros(count).expect("in range");
            let want = chrono.format("\"%Y-%m-%dT%H:%M:%S%.6fZ\"").to_string();
            prop_assert_eq!(text, want);
        }
    }
}
