//! What became of a record: accepted, duplicate, rejected or discarded.
//!
//! At all times, per source partition: `received = accepted + duplicate + rejected + discarded`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a record was rejected. The codes are part of the product's surface: they stand in dead
/// letters, counts, metrics over `ingest` and HTTP answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Not a JSON object: cut off, trailing text, not UTF-8, empty, or nested too deeply.
    NotJson,
    /// Not a record in Avro: without the frame of a schema id, cut off, followed by more, with a value
    /// that its schema does not allow; or its id stands for a schema that is not one in Avro.
    NotAvro,
    /// The schema registry has no schema with the record's id.
    UnknownSchema,
    /// Longer than the limit for one record.
    TooLarge,
    /// A member occurs twice.
    DuplicateKey,
    /// A required member is absent or null.
    MissingField,
    /// A member has the wrong type or form.
    WrongType,
    /// A number, length or count is outside its bounds, or does not fit its type.
    OutOfRange,
    /// A text does not match its pattern.
    PatternMismatch,
    /// A text is not among the allowed values.
    NotAllowed,
    /// No contract names the event type.
    UnknownEventType,
    /// The record names a version that the contract does not have.
    UnknownVersion,
    /// A rule with severity `error` is false.
    RuleFailed,
    /// A rule with severity `error` is null.
    RuleUndecided,
    /// The event time is further ahead of the arrival time than `max_future`.
    TooFarInFuture,
    /// Behind the watermark by more than `allowed_lateness`, where the policy says so.
    Late,
    /// Older than the deduplication horizon and not known: it cannot be told from a repeat.
    BeyondDedupHorizon,
    /// A known event id with another body.
    ConflictingDuplicate,
    /// The record names another tenant than its credential.
    WrongTenant,
    /// A record without a payload: it says that its key is gone, which no event contract reads.
    Tombstone,
    /// A record of our own that only measures how long records take.
    Canary,
}

impl Reason {
    /// All reasons, for tables of counters.
    pub const ALL: [Self; 21] = [
        Self::NotJson,
        Self::NotAvro,
        Self::UnknownSchema,
        Self::TooLarge,
        Self::DuplicateKey,
        Self::MissingField,
        Self::WrongType,
        Self::OutOfRange,
        Self::PatternMismatch,
        Self::NotAllowed,
        Self::UnknownEventType,
        Self::UnknownVersion,
        Self::RuleFailed,
        Self::RuleUndecided,
        Self::TooFarInFuture,
        Self::Late,
        Self::BeyondDedupHorizon,
        Self::ConflictingDuplicate,
        Self::WrongTenant,
        Self::Tombstone,
        Self::Canary,
    ];

    /// The code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAvro => "not_avro",
            Self::UnknownSchema => "unknown_schema",
            Self::TooLarge => "too_large",
            Self::DuplicateKey => "duplicate_key",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::PatternMismatch => "pattern_mismatch",
            Self::NotAllowed => "not_allowed",
            Self::UnknownEventType => "unknown_event_type",
            Self::UnknownVersion => "unknown_version",
            Self::RuleFailed => "rule_failed",
            Self::RuleUndecided => "rule_undecided",
            Self::TooFarInFuture => "too_far_in_future",
            Self::Late => "late",
            Self::BeyondDedupHorizon => "beyond_dedup_horizon",
            Self::ConflictingDuplicate => "conflicting_duplicate",
            Self::WrongTenant => "wrong_tenant",
            Self::Tombstone => "tombstone",
            Self::Canary => "canary",
        }
    }

    /// The reason with that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The stage that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Bytes to columns.
    Decode,
    /// Field bounds and rules.
    Validate,
    /// Late and future policy.
    TimePolicy,
    /// Comparison with known ids.
    Deduplicate,
}

impl Stage {
    /// The name in counters and dead letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Validate => "validate",
            Self::TimePolicy => "time_policy",
            Self::Deduplicate => "deduplicate",
        }
    }
}

/// A rejection before it becomes a dead letter: everything but the bytes and the place, which the
/// batch still has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index of the record in its [`crate::batch::RawBatch`].
    pub ordinal: u32,
    /// Who decided.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// The field concerned (`items[0].quantity`), if one is.
    pub field: Option<String>,
    /// The rule concerned, if one is.
    pub rule: Option<String>,
    /// For people: what was found and what was expected. Never the whole record.
    pub detail: String,
    /// Event id, as far as it could be read.
    pub event_id: Option<String>,
    /// Event type, as far as it could be read.
    pub event_type: Option<String>,
    /// Event time in µs, as far as it could be read.
    pub event_time: Option<i64>,
    /// Contract name and version that it was judged by.
    pub contract: Option<(String, u32)>,
}

/// What became of one record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In the journal at this sequence number.
    Accepted {
        /// Journal sequence number.
        seq: i64,
    },
    /// Known already, since this sequence number.
    Duplicate {
        /// Journal sequence number of the first one.
        seq: i64,
    },
    /// In the dead letters.
    Rejected(Box<Rejection>),
    /// Dropped by a declared policy.
    Discarded {
        /// The policy: `late`, `unknown_event_type`, `tombstone` or `canary`.
        reason: Reason,
    },
}

/// Counts of outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records seen.
    pub received: u64,
    /// In the journal.
    pub accepted: u64,
    /// Known already.
    pub duplicate: u64,
    /// In the dead letters.
    pub rejected: u64,
    /// Dropped by a declared policy.
    pub discarded: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.rejected += other.rejected;
        self.discarded += other.discarded;
    }
}

impl Counts {
    /// Does every received record have exactly one outcome?
    pub fn balanced(&self) -> bool {
        self.received == self.accepted + self.duplicate + self.rejected + self.discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_code_everywhere() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
        }
    }
}
