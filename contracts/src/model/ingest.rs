//! The built-in source `ingest`: what became of each received record.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use super::{Computed, column};

/// Arrival time (Timestamp µs).
pub const ARRIVED_AT: &str = "arrived_at";
/// Tenant (Utf8).
pub const TENANT: &str = column::TENANT;
/// accepted, duplicate, rejected or discarded (Utf8).
pub const OUTCOME: &str = "outcome";
/// Reason code, null when accepted or duplicate (Utf8).
pub const REASON: &str = "reason";
/// Event type, null when it could not be read or is unknown (Utf8).
pub const EVENT_TYPE: &str = "event_type";
/// Source name (Utf8).
pub const SOURCE: &str = "source";
/// Was it late? (Boolean)
pub const LATE: &str = "late";
/// Number of records that the row stands for (Int64); never visible to contracts.
pub const N: &str = "_n";
/// Highest journal sequence number when the row was written (Int64).
pub const SEQ: &str = column::SEQ;
/// Table name in the serving store.
pub const TABLE: &str = "ingest";

/// The built-in source `ingest`: one row per received record (stored pre-counted).
///
/// Columns that expressions may use: `outcome` (accepted, duplicate, rejected, discarded),
/// `reason` (null when accepted or duplicate), `event_type` (null when unknown), `source`,
/// `late` (bool), `arrived_at`.
#[derive(Debug, Default)]
pub struct Ingest {
    /// Expressions that metrics need.
    pub computed: Vec<Computed>,
}

impl Ingest {
    /// Arrow schema of its rows.
    pub fn schema(&self) -> SchemaRef {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            ArrowField::new(SEQ, DataType::Int64, false),
            ArrowField::new(TENANT, DataType::Utf8, false),
            ArrowField::new(ARRIVED_AT, ts, false),
            ArrowField::new(OUTCOME, DataType::Utf8, false),
            ArrowField::new(REASON, DataType::Utf8, true),
            ArrowField::new(EVENT_TYPE, DataType::Utf8, true),
            ArrowField::new(SOURCE, DataType::Utf8, false),
            ArrowField::new(LATE, DataType::Boolean, false),
            ArrowField::new(N, DataType::Int64, false),
        ];
        for computed in &self.computed {
            fields.push(ArrowField::new(&computed.name, computed.expr.ty().arrow(), true));
        }
        Arc::new(Schema::new(fields))
    }
}
