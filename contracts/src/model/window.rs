//! Windows: the last hour, since the start of the day in a zone, all time, now.

use super::period::Period;

/// What a read covers, seen from its reference time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// As written in the contract: `5m`, `24h`, `7d`, `day`, `all`, or `now`.
    pub text: String,
    /// Length of a trailing window in µs; `None` for the others.
    pub length: Option<i64>,
    /// A window to date: since when. `None` for trailing windows and for `now`.
    pub period: Option<Period>,
}

impl Window {
    /// The last `length` µs.
    pub fn trailing(text: impl Into<String>, length: i64) -> Self {
        Self { text: text.into(), length: Some(length), period: None }
    }

    /// All rows that hold at the moment of reading.
    pub fn now() -> Self {
        Self { text: "now".to_owned(), length: None, period: None }
    }

    /// From the start of a period until the moment of reading.
    pub fn to_date(period: Period) -> Self {
        Self { text: period.name().to_owned(), length: None, period: Some(period) }
    }

    /// Is it `now`, which is bounded by no time of the rows?
    pub fn is_now(&self) -> bool {
        self.length.is_none() && self.period.is_none()
    }

    /// Its first moment at a reference time, both µs; `None` when it has none.
    pub fn start(&self, reference: i64) -> Option<i64> {
        match (self.length, self.period) {
            (Some(length), _) => Some(reference.saturating_sub(length)),
            (None, Some(period)) => period.start(reference),
            (None, None) => None,
        }
    }
}
