//! Exact deduplication by (tenant, event id).
//!
//! [`crate::membership::Membership`] in memory says "surely new" for almost every event; the journal decides
//! about the rest, so memory never decides that an event is a repeat and never shortens the
//! horizon. [`hash`] defines when two records are the same event.

pub mod hash;
