//! Names of the columns that the product itself adds to a journal row.

/// Journal sequence number (Int64), ascending without gaps over all families.
pub const SEQ: &str = "_seq";
/// Tenant (Utf8).
pub const TENANT: &str = "_tenant";
/// Event type (Utf8).
pub const TYPE: &str = "_type";
/// Event id (Utf8).
pub const ID: &str = "_id";
/// Event time (Timestamp µs, UTC).
pub const TIME: &str = "_time";
/// When the record arrived (Timestamp µs, UTC).
pub const ARRIVED_AT: &str = "_arrived_at";
/// Version of the contract that the record was read with (Int64).
pub const VERSION: &str = "_version";
/// Upper and lower half of the 128-bit hash of (tenant, event id) (Int64 each).
pub const ID_HI: &str = "_id_hi";
/// See [`ID_HI`].
pub const ID_LO: &str = "_id_lo";
/// Hash over the decoded contract fields (Int64): equal bodies, equal hash.
pub const BODY: &str = "_body";
/// Bit `i` is set when the optional field `i` of the family ([`super::Family::fields`]) was
/// absent from the record, as opposed to null (Int64).
pub const ABSENT: &str = "_absent";
/// Row of `source_partitions` that the record came from (Int64).
pub const PARTITION: &str = "_partition";
/// Offset of the record in its source partition (Int64).
pub const OFFSET: &str = "_offset";
/// Was it behind its partition's watermark by more than the allowed lateness? (Boolean)
pub const LATE: &str = "_late";
/// JSON object of the members that the contract does not know, or null (Utf8).
pub const EXTRA: &str = "_extra";
/// Names of the rules with severity `warning` that the event broke, comma separated, or null
/// (Utf8).
pub const WARNINGS: &str = "_warnings";

/// Entity tables: the entity key as text (Utf8).
pub const KEY: &str = "_key";
/// Entity tables: 64-bit hash of (tenant, key) (Int64), for joins; keys are compared in full.
pub const KEY_HASH: &str = "_key_hash";
/// Entity tables: the serialised fold state (Binary).
pub const STATE: &str = "_state";
/// Entity tables: sequence number of the last event that changed the row (Int64).
pub const UPDATED_SEQ: &str = "_updated_seq";
/// Entity tables: highest event time applied (Timestamp µs).
pub const UPDATED_AT: &str = "_updated_at";
/// Entity tables with `closes_after`: when the entity counts as closed (Timestamp µs).
pub const CLOSES_AT: &str = "_closes_at";
/// Entities with `closes_after`: name of the boolean that derived fields and metrics read.
/// Expressions are given it as a batch column, beside the key under its own name and the
/// fields; it is never stored.
pub const CLOSED: &str = "closed";
/// Suffix of the second column of a value that depends on `closed`: the value once closed.
pub const CLOSED_SUFFIX: &str = "__closed";
