//! A span of time, cut into windows.
//!
//! Windows are consecutive and half open and begin at whole multiples of their length (UTC; weeks on Mondays), or
//! with the days, weeks and months of a named zone, whose days may have 23 or 25 hours. The first one begins
//! where the span does.

use contracts::model::Period;

use super::{MAX_WINDOWS, invalid};
use crate::question::ReadError;
use crate::value::time_text;

/// A week has no whole number of days since 1970-01-01, a Thursday, to a Monday.
const WEEK: i64 = 7 * 86_400_000_000;
const MONDAY: i64 = 4 * 86_400_000_000;

/// The length of each window.
#[derive(Debug, Clone, Copy)]
pub(super) enum Grain {
    /// µs.
    Length(i64),
    /// Of a calendar.
    Period(Period),
}

impl Grain {
    /// Reads `5m`, `1h` or `day`; `zone` is where days begin, UTC unless said.
    pub(super) fn of(text: &str, zone: Option<&str>) -> Result<Self, ReadError> {
        if let Some(utc) = Period::named(text, "UTC") {
            let Some(zone) = zone else { return Ok(Self::Period(utc)) };
            return Period::named(text, zone).map(Self::Period).ok_or_else(|| {
                let shown: String = zone.chars().take(60).collect();
                invalid("zone", format!("there is no zone `{shown}`")).hinted(
                    "write a name of the IANA time zone database, such as `Europe/Moscow`, or `UTC`",
                )
            });
        }
        let length = contracts::parse_duration(text).filter(|length| *length >= 1_000_000);
        let shown: String = text.chars().take(60).collect();
        let Some(length) = length else {
            return Err(invalid(
                "grain",
                format!("grain `{shown}` is no duration of a second or more"),
            )
            .hinted("write it as 5m, 1h or 1d, or as day, week or month"));
        };
        match zone {
            None => Ok(Self::Length(length)),
            Some(_) => Err(invalid(
                "zone",
                format!("`zone` says where days begin, but `{shown}` is a length"),
            )
            .hinted("write the grain as day, week or month")),
        }
    }

    /// The windows from `from` to `to`, none where both are the same; without an end the last one is that in which
    /// `reference` lies.
    pub(super) fn cut(
        self,
        from: i64,
        to: Option<i64>,
        reference: i64,
    ) -> Result<Vec<(i64, i64)>, ReadError> {
        let to = to.or_else(|| self.next(reference)).unwrap_or(reference);
        if from > to {
            return Err(invalid(
                "from",
                format!("from {} to {} is no span of time", time_text(from), time_text(to)),
            ));
        }
        let mut windows = Vec::new();
        let mut start = from;
        while start < to {
            if windows.len() as i64 == MAX_WINDOWS {
                return Err(invalid(
                    "grain",
                    format!("the span has more than {MAX_WINDOWS} windows of that grain"),
                )
                .hinted("ask for a coarser grain or a shorter span"));
            }
            let end = self.next(start).unwrap_or(to).min(to);
            windows.push((start, end));
            start = end;
        }
        Ok(windows)
    }

    /// The first begin of a window after `time`.
    fn next(self, time: i64) -> Option<i64> {
        match self {
            Self::Period(period) => period.next(time),
            Self::Length(length) => {
                let origin = if length % WEEK == 0 { MONDAY } else { 0 };
                let since = time.saturating_sub(origin);
                let multiples = since.div_euclid(length).saturating_add(1);
                Some(multiples.saturating_mul(length).saturating_add(origin))
            }
        }
    }
}
