//! Periods of a calendar in a named zone: when did the day begin there?
//!
//! The first moment of a local date is looked for, not computed: where clocks go forward at
//! midnight the day begins at one o'clock, and a zone has once left a whole date out.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeZone};
use chrono_tz::Tz;

/// Since when a window to date counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// Since ever.
    All,
    /// Since the start of the day.
    Day(Tz),
    /// Since the start of Monday (ISO 8601).
    Week(Tz),
    /// Since the start of the month's first day.
    Month(Tz),
}

impl Period {
    /// The word in contracts and questions.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Day(_) => "day",
            Self::Week(_) => "week",
            Self::Month(_) => "month",
        }
    }

    /// First moment of the period that `reference` lies in, both µs UTC; `None` for all time, and
    /// for times that no calendar knows.
    pub fn start(self, reference: i64) -> Option<i64> {
        let now = DateTime::from_timestamp_micros(reference)?;
        let local = |zone: Tz| now.with_timezone(&zone).date_naive();
        match self {
            Self::All => None,
            Self::Day(zone) => first_moment(zone, local(zone)),
            Self::Week(zone) => {
                let day = local(zone);
                let since_monday = day.weekday().num_days_from_monday();
                first_moment(zone, day.checked_sub_days(Days::new(since_monday.into()))?)
            }
            Self::Month(zone) => first_moment(zone, local(zone).with_day(1)?),
        }
    }
}

/// The first moment of a date in a zone, or of the next date when the zone left it out.
fn first_moment(zone: Tz, mut date: NaiveDate) -> Option<i64> {
    /// Clocks have never been set forward by more than a day.
    const MINUTES: u32 = 24 * 60;
    for _ in 0..2 {
        for minute in 0..MINUTES {
            let time = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0)?;
            // Twice is the same clock face after clocks went back: the first one begins the day.
            if let Some(moment) = zone.from_local_datetime(&date.and_time(time)).earliest() {
                return Some(moment.timestamp_micros());
            }
        }
        date = date.succ_opt()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[track_caller]
    fn check(period: fn(Tz) -> Period, zone: &str, at: &str, expected: &str) {
        let start = period(zone.parse().unwrap()).start(micros(at));
        assert_eq!(start, Some(micros(expected)), "{zone} at {at}");
    }

    #[test]
    fn a_day_begins_at_midnight_there() {
        check(Period::Day, "Europe/Moscow", "2026-03-10T20:59:59Z", "2026-03-09T21:00:00Z");
        check(Period::Day, "Europe/Moscow", "2026-03-10T21:00:00Z", "2026-03-10T21:00:00Z");
        check(Period::Day, "UTC", "2026-03-10T21:00:00Z", "2026-03-10T00:00:00Z");
        check(Period::Day, "Asia/Kathmandu", "2026-03-10T18:14:00Z", "2026-03-09T18:15:00Z");
    }

    #[test]
    fn days_of_23_and_25_hours_begin_where_they_begin() {
        // Clocks go forward on 29 March and back on 25 October 2026.
        check(Period::Day, "Europe/Berlin", "2026-03-29T21:59:00Z", "2026-03-28T23:00:00Z");
        check(Period::Day, "Europe/Berlin", "2026-03-29T22:00:00Z", "2026-03-29T22:00:00Z");
        check(Period::Day, "Europe/Berlin", "2026-10-25T22:59:00Z", "2026-10-24T22:00:00Z");
        check(Period::Day, "Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-25T23:00:00Z");
        // A week and a month that such a day lies in.
        check(Period::Week, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-22T23:00:00Z");
        check(Period::Month, "Europe/Berlin", "2026-03-31T12:00:00Z", "2026-02-28T23:00:00Z");
    }

    #[test]
    fn midnights_that_are_missing_or_come_twice() {
        // In Beirut clocks go from 00:00 to 01:00, in Havana from 01:00 back to 00:00.
        check(Period::Day, "Asia/Beirut", "2025-03-30T12:00:00Z", "2025-03-29T22:00:00Z");
        check(Period::Day, "America/Havana", "2025-11-02T12:00:00Z", "2025-11-02T04:00:00Z");
        // Samoa left out 30 December 2011.
        check(Period::Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Period::Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z");
    }

    #[test]
    fn weeks_begin_on_mondays_and_months_on_their_first_day() {
        check(Period::Week, "UTC", "2026-03-15T23:59:59Z", "2026-03-09T00:00:00Z");
        check(Period::Week, "UTC", "2026-03-16T00:00:00Z", "2026-03-16T00:00:00Z");
        check(Period::Week, "UTC", "2026-01-01T00:00:00Z", "2025-12-29T00:00:00Z");
        check(Period::Month, "Europe/Moscow", "2026-02-28T21:00:00Z", "2026-02-28T21:00:00Z");
        check(Period::Month, "Europe/Moscow", "2026-02-28T20:59:59Z", "2026-01-31T21:00:00Z");
    }

    #[test]
    fn a_period_holds_its_reference_and_nothing_of_the_one_before() {
        // Every quarter of an hour of a year with its clock changes, in zones of all kinds.
        let zones = ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Tehran"];
        for zone in zones.map(|name| name.parse::<Tz>().unwrap()) {
            let mut last = i64::MIN;
            for quarter in 0..366 * 96 {
                let at = micros("2026-01-01T00:00:00Z") + quarter * 900_000_000;
                let start = Period::Day(zone).start(at).unwrap();
                let day = |at| {
                    DateTime::from_timestamp_micros(at).unwrap().with_timezone(&zone).date_naive()
                };
                assert!(start <= at && last <= start);
                assert_eq!((day(start), day(start - 1)), (day(at), day(at) - Days::new(1)));
                last = start;
            }
        }
    }

    #[test]
    fn all_time_has_no_start_and_far_times_do_no_harm() {
        assert_eq!(Period::All.start(0), None);
        for at in [i64::MIN, i64::MAX] {
            assert_eq!(Period::Month(Tz::UTC).start(at), None);
        }
    }
}
