//! Instants and days from text.
//!
//! All times are microseconds since 1970 in UTC, between the years 1 and 9999; digits below a
//! microsecond are cut. Nothing here knows a time zone: a time without an offset means UTC.

use contracts::model::TimeForm;

use super::number::{self, Below, Misfit};

const US_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z.
const FIRST: i64 = -62_135_596_800 * US_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
const LAST: i64 = 253_402_300_800 * US_PER_SECOND - 1;

/// Why a text is not an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// It does not have the form.
    Form,
    /// It lies outside the years 1 to 9999.
    Range,
}

/// What a form looks like, for people.
pub(super) fn describe(form: TimeForm) -> &'static str {
    match form {
        TimeForm::Rfc3339 => "a time such as 2026-01-31T10:00:00Z",
        TimeForm::EpochS => "seconds since 1970",
        TimeForm::EpochMs => "milliseconds since 1970",
        TimeForm::EpochUs => "microseconds since 1970",
        TimeForm::EpochNs => "nanoseconds since 1970",
    }
}

/// Digits between the form's unit and a microsecond; `None` for RFC 3339.
pub(super) fn epoch_scale(form: TimeForm) -> Option<i32> {
    match form {
        TimeForm::Rfc3339 => None,
        TimeForm::EpochS => Some(6),
        TimeForm::EpochMs => Some(3),
        TimeForm::EpochUs => Some(0),
        TimeForm::EpochNs => Some(-3),
    }
}

/// An instant from the number `text`, which counts units of `10^(scale - 6)` seconds.
pub(super) fn epoch(text: &str, scale: i32) -> Result<i64, TimeError> {
    let us = number::unscaled(text, scale, Below::Cut).map_err(|misfit| match misfit {
        Misfit::Fraction => TimeError::Form,
        Misfit::Overflow => TimeError::Range,
    })?;
    in_range(i64::try_from(us).map_err(|_| TimeError::Range)?)
}

/// An instant from RFC 3339; `T` may be a space, and without an offset it is UTC.
pub(super) fn rfc3339(text: &str) -> Result<i64, TimeError> {
    let bytes = text.as_bytes();
    let (Some(date), Some(clock)) = (bytes.get(..10), bytes.get(10..19)) else {
        return Err(TimeError::Form);
    };
    let day = days(date).ok_or(TimeError::Form)?;
    let (b'T' | b't' | b' ', b':', b':') = (clock[0], clock[3], clock[6]) else {
        return Err(TimeError::Form);
    };
    let (hour, minute, second) = (two(&clock[1..])?, two(&clock[4..])?, two(&clock[7..])?);
    // Second 60 is a leap second: it falls on the first instant of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::Form);
    }
    let mut rest = &bytes[19..];
    let mut fraction = 0;
    if let [b'.', digits @ ..] = rest {
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 {
            return Err(TimeError::Form);
        }
        for digit in digits[..len].iter().chain(b"000000").take(6) {
            fraction = fraction * 10 + i64::from(digit - b'0');
        }
        rest = &digits[len..];
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(&[*h1, *h2])?, two(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return Err(TimeError::Form);
            }
            let seconds = (hours * 60 + minutes) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return Err(TimeError::Form),
    };
    let seconds = i64::from(day) * SECONDS_PER_DAY + (hour * 60 + minute) * 60 + second - offset;
    in_range(seconds * US_PER_SECOND + fraction)
}

/// Days since 1970 from `2026-01-31`.
pub(crate) fn date(text: &str) -> Result<i32, TimeError> {
    let day = days(text.as_bytes()).ok_or(TimeError::Form)?;
    if i64::from(day) * SECONDS_PER_DAY * US_PER_SECOND < FIRST {
        return Err(TimeError::Range);
    }
    Ok(day)
}

fn in_range(us: i64) -> Result<i64, TimeError> {
    if (FIRST..=LAST).contains(&us) { Ok(us) } else { Err(TimeError::Range) }
}

#[inline]
fn two(digits: &[u8]) -> Result<i64, TimeError> {
    match digits {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => {
            Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        }
        _ => Err(TimeError::Form),
    }
}

/// Days since 1970 of a date in the proleptic Gregorian calendar.
fn days(date: &[u8]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let year = two(&[y1, y2]).ok()? * 100 + two(&[y3, y4]).ok()?;
    let month = two(&[m1, m2]).ok()?;
    let day = two(&[d1, d2]).ok()?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // Years are counted from March, so that the leap day is the last day of a year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (century, of_century) = (year.div_euclid(100), year.rem_euclid(100));
    let days = century.div_euclid(4) * 146_097
        + century.rem_euclid(4) * 36_524
        + of_century * 1_461 / 4
        + (month * 153 + 2) / 5
        + day;
    // 1970-01-01 is day 719,469 of this count.
    i32::try_from(days - 719_469).ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<i64, TimeError>) {
        assert_eq!(rfc3339(text), want, "{text}");
    }

    #[test]
    fn offsets_and_their_absence() {
        let want = Ok(1_769_853_600_000_000);
        check("2026-01-31T10:00:00Z", want);
        check("2026-01-31t10:00:00z", want);
        check("2026-01-31 10:00:00", want);
        check("2026-01-31T10:00:00", want);
        check("2026-01-31T10:00:00+00:00", want);
        check("2026-01-31T15:30:00+05:30", want);
        check("2026-01-30T23:00:00-11:00", want);
    }

    #[test]
    fn fractions_are_cut_to_microseconds() {
        check("1970-01-01T00:00:00.5Z", Ok(500_000));
        check("1970-01-01T00:00:00.123456789Z", Ok(123_456));
        check("1970-01-01T00:00:00.999999999+00:00", Ok(999_999));
        check("1969-12-31T23:59:59.9999999Z", Ok(-1));
    }

    #[test]
    fn the_calendar_is_kept() {
        check("2024-02-29T00:00:00Z", Ok(1_709_164_800_000_000));
        check("2023-02-29T00:00:00Z", Err(TimeError::Form));
        check("1900-02-29T00:00:00Z", Err(TimeError::Form));
        check("2000-02-29T00:00:00Z", Ok(951_782_400_000_000));
        check("2026-04-31T00:00:00Z", Err(TimeError::Form));
        check("2016-12-31T23:59:60Z", Ok(1_483_228_800_000_000));
    }

    #[test]
    fn years_one_to_9999() {
        check("0001-01-01T00:00:00Z", Ok(FIRST));
        check("9999-12-31T23:59:59.999999Z", Ok(LAST));
        check("0000-12-31T23:59:59Z", Err(TimeError::Range));
        check("9999-12-31T23:59:59-00:01", Err(TimeError::Range));
        check("0001-01-01T00:00:00+00:01", Err(TimeError::Range));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T10:00Z",
            "2026-01-31T10:00:00.Z",
            "2026-01-31T10:00:00,5Z",
            "2026-01-31T10:00:00 Z",
            "2026-01-31T10:00:00+0530",
            "2026-01-31T10:00:00+05",
            "2026-01-31T10:00:00ZZ",
            "2026-1-31T10:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T10:60:00Z",
            "2026-01-31T10:00:61Z",
            "2026-01-31T10:00:00+24:00",
            "+026-01-31T10:00:00Z",
            "20260131T100000Z",
            "2026-01-31T1٠:00:00Z",
            "yesterday",
        ] {
            check(text, Err(TimeError::Form));
        }
    }

    #[test]
    fn epochs_in_all_units() {
        #[track_caller]
        fn check(form: TimeForm, text: &str, want: Result<i64, TimeError>) {
            let scale = epoch_scale(form).expect("an epoch form");
            assert_eq!(epoch(text, scale), want, "{text}");
        }
        check(TimeForm::EpochS, "1769853600", Ok(1_769_853_600_000_000));
        check(TimeForm::EpochS, "1769853600.1234567", Ok(1_769_853_600_123_456));
        check(TimeForm::EpochS, "-0.0000001", Ok(-1));
        check(TimeForm::EpochS, "1.7698536e9", Ok(1_769_853_600_000_000));
        check(TimeForm::EpochMs, "1769853600123", Ok(1_769_853_600_123_000));
        check(TimeForm::EpochMs, "1769853600123.5", Ok(1_769_853_600_123_500));
        check(TimeForm::EpochUs, "1769853600123456", Ok(1_769_853_600_123_456));
        check(TimeForm::EpochNs, "1769853600123456789", Ok(1_769_853_600_123_456));
        check(TimeForm::EpochS, "253402300800", Err(TimeError::Range));
        check(TimeForm::EpochMs, "1e40", Err(TimeError::Range));
        check(TimeForm::EpochS, "-62135596801", Err(TimeError::Range));
    }

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("0001-01-01"), Ok(-719_162));
        assert_eq!(date("0000-12-31"), Err(TimeError::Range));
        for text in ["2026-02-30", "2026-01-31T00:00:00Z", "31.01.2026", ""] {
            assert_eq!(date(text), Err(TimeError::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_day_agrees_with_chrono(day in -719_162_i32..2_932_896) {
            let chrono = NaiveDate::from_num_days_from_ce_opt(day + 719_163).expect("in range");
            let text = chrono.format("%Y-%m-%d").to_string();
            prop_assert_eq!(date(&text), Ok(chrono.num_days_from_ce() - 719_163));
        }

        #[test]
        fn every_instant_comes_back(us in FIRST..=LAST) {
            let text = DateTime::from_timestamp_micros(us)
                .expect("in range")
                .format("%Y-%m-%dT%H:%M:%S%.6f+00:00")
                .to_string();
            prop_assert_eq!(rfc3339(&text), Ok(us));
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,40}") {
            let _ = rfc3339(&text);
            let _ = date(&text);
        }
    }
}
