//! Followers of the journal that keep outside systems up to date.
//!
//! A sink reads committed journal rows at its own pace and keeps its own durable position in the
//! outside system, next to the data. So nothing here stands between an event and its metric, and a
//! sink that is down only falls behind.

mod backoff;
pub mod iceberg;
pub mod kafka;
