//! Records on their way through the stages.
//!
//! [`RawBatch`] is what a source delivers: bytes with places. [`DecodedBatch`] is the same records
//! as Arrow columns, grouped by contract, plus the rejections so far. Both live in memory only.

use std::sync::Arc;

use arrow::array::RecordBatch;
use contracts::model::EventContract;

use crate::outcome::Rejection;

/// Consecutive records of one source partition.
///
/// A batch is the unit of work of the pipeline: one batch, one transaction.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Stable name of the source partition, for example `file:/data/events.ndjson` or `http`.
    /// Positions, watermarks and counts are kept under this name.
    pub partition: Arc<str>,
    /// Short name of the source for counts by source: `file`, `http`, `kafka`.
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
}

impl RawBatch {
    /// The bytes of record `ordinal`.
    pub fn payload(&self, ordinal: u32) -> &[u8] {
        let record = &self.records[ordinal as usize];
        &self.bytes[record.start..record.start + record.len]
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
    /// Ordinals of records whose type no contract names, where the domain says to ignore them,
    /// with that type.
    pub ignored: Vec<(u32, String)>,
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
