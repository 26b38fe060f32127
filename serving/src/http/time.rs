//! Times as clients write and read them. Inside they are µs UTC.

use utoipa::ToSchema;

use crate::value::time_text;

pub use pipeline::clock::now;

/// Seconds between two times, to the microsecond.
pub(super) fn seconds_between(earlier: i64, later: i64) -> f64 {
    later.saturating_sub(earlier) as f64 / 1e6
}

/// Seconds since 1970.
pub(super) fn seconds() -> i64 {
    now().div_euclid(1_000_000)
}

pub use crate::value::parse_moment as parse;

/// A time in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Time(pub i64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&time_text(self.0))
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time_text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).map(time_text).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn all_forms_of_a_time_are_read() {
        check("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z");
        check("2026-01-31T10:00:00.5Z", "2026-01-31T10:00:00.5Z");
        check("2026-01-31T10:00:00.123456Z", "2026-01-31T10:00:00.123456Z");
        check("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z");
        check("2026-01-31T12:00:00 02:00", "2026-01-31T10:00:00Z");
        check("2026-01-31T10:00:00", "2026-01-31T10:00:00Z");
        check("2026-01-31 10:00:00.25", "2026-01-31T10:00:00.25Z");
        check("2026-01-31T10:00", "2026-01-31T10:00:00Z");
        check("2026-01-31", "2026-01-31T00:00:00Z");
        check("1769853600", "2026-01-31T10:00:00Z");
        check("1769853600000", "2026-01-31T10:00:00Z");
        check("1769853600.5", "2026-01-31T10:00:00.5Z");
        check("-1", "1969-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "yesterday", "2026-13-01", "nan", "inf", "1e300", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("9223372036854775807"), None);
    }
}
