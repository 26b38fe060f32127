//! This machine's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, µs since 1970; 0 on a machine that believes to be before that.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
