//! Records on their way through the stages.
//!
//! [`RawBatch`] is what a source delivers: bytes with places. [`DecodedBatch`] is the same records
//! as Arrow columns, grouped by contract, plus the rejections so far. Both live in memory only.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::{EventContract, Format};

use crate::headers::Headers;
use crate::lease::Claim;
use crate::outcome::{Reason, Rejection};

/// [`RawBatch::source`] of canaries: records that a source itself produced to measure how long they
/// take. They are discarded with [`Reason::Canary`] and stand in no `ingest`.
pub const CANARY: &str = "canary";

/// Consecutive records of one source partition.
///
/// The unit that a source delivers and that is applied whole or not at all; batches that wait at the same
/// time may share a transaction.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Stable name of the source partition, for example `file:/data/events.ndjson` or `http`.
    /// Positions, watermarks and counts are kept under this name.
    pub partition: Arc<str>,
    /// Short name of the source for counts by source: `file`, `http`, `kafka`, [`CANARY`].
    pub source: &'static str,
    /// The bytes of all records.
    pub bytes: Vec<u8>,
    /// Where each record lies in `bytes`, in order of position.
    pub records: Vec<RawRecord>,
    /// Position to continue from once this batch is committed.
    pub next_offset: u64,
    /// What the source must recognise when it continues (for a file: length and hash of its
    /// beginning). Stored with the position, compared by the source.
    pub fingerprint: Option<String>,
    /// How the records are encoded.
    pub format: Format,
    /// Of a source that can lose the partition: says whether the batch may still be applied.
    pub claim: Option<Claim>,
}

/// One record of a [`RawBatch`].
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// First byte in [`RawBatch::bytes`].
    pub start: usize,
    /// Number of bytes.
    pub len: usize,
    /// Offset in the source partition.
    pub offset: u64,
    /// Arrival time, µs UTC: Kafka timestamp capped by now, HTTP receipt, start of the file run.
    pub arrived_at: i64,
    /// Tenant that the source gives the record.
    pub tenant: Arc<str>,
    /// May the record name a tenant of its own (`envelope.tenant`)? Over HTTP it may not.
    pub tenant_fixed: bool,
    /// What comes with the payload.
    pub attached: Attached,
}

/// What a record has beside its payload. Key and headers lie in [`RawBatch::bytes`] right behind
/// the payload, the key first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attached {
    /// Length of the key; `None` when there is none.
    pub key_len: Option<u32>,
    /// Length of the encoded headers, see [`crate::headers`].
    pub headers_len: u32,
    /// There is no payload at all, which is more than an empty one: the record only says that its
    /// key is gone.
    pub is_tombstone: bool,
}

impl RawBatch {
    /// The bytes of record `ordinal`.
    pub fn payload(&self, ordinal: u32) -> &[u8] {
        let record = &self.records[ordinal as usize];
        &self.bytes[record.start..record.start + record.len]
    }

    /// The key of record `ordinal`, if it has one.
    pub fn key(&self, ordinal: u32) -> Option<&[u8]> {
        let record = &self.records[ordinal as usize];
        let start = record.start + record.len;
        record.attached.key_len.map(|len| &self.bytes[start..start + len as usize])
    }

    /// The headers of record `ordinal`.
    pub fn headers(&self, ordinal: u32) -> Headers<'_> {
        let record = &self.records[ordinal as usize];
        let start = record.start + record.len + record.attached.key_len.unwrap_or(0) as usize;
        Headers::new(&self.bytes[start..start + record.attached.headers_len as usize])
    }
}

/// The records of a [`RawBatch`] after decode and validate.
///
/// Every ordinal of the raw batch occurs exactly once: as a row, a rejection, or in `discarded`.
#[derive(Debug)]
pub struct DecodedBatch {
    /// The raw records; dead letters take their bytes from here.
    pub raw: RawBatch,
    /// Rows that passed, grouped by contract version.
    pub rows: Vec<ContractRows>,
    /// Records that did not pass.
    pub rejected: Vec<Rejection>,
    /// Records that a declared policy drops before they become rows, ascending by ordinal.
    pub ignored: Vec<Ignored>,
}

/// A record that is dropped by a declared policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Index of the record in its [`RawBatch`].
    pub ordinal: u32,
    /// The policy: `unknown_event_type`, `tombstone` or `canary`.
    pub reason: Reason,
    /// Its type, where it has one.
    pub event_type: String,
}

/// Rows of one contract version.
#[derive(Debug)]
pub struct ContractRows {
    /// The contract.
    pub contract: Arc<EventContract>,
    /// For each row its ordinal in the raw batch, ascending.
    pub ordinals: Vec<u32>,
    /// [`EventContract::decoded_schema`].
    pub columns: RecordBatch,
    /// For each row the names of the `warning` rules it broke, comma separated. Empty when no row
    /// broke one.
    pub warnings: Vec<Option<String>>,
}
