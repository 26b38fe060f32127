//! The built-in source `ingest`: each record received, with its outcome, counted per commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::error::ArrowError;
use contracts::model::Ingest;

/// What records of one row have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IngestKey {
    /// Tenant.
    pub tenant: Arc<str>,
    /// Arrival time, µs.
    pub arrived_at: i64,
    /// accepted, duplicate, rejected or discarded.
    pub outcome: &'static str,
    /// Reason code; empty when accepted or duplicate.
    pub reason: &'static str,
    /// Short name of the source.
    pub source: &'static str,
    /// Event type; empty when it could not be read or is unknown.
    pub event_type: Arc<str>,
    /// Was it late?
    pub late: bool,
}

/// Rows in [`Ingest::schema`], one per key, with the number of records it stands for.
pub(crate) fn rows(
    ingest: &Ingest,
    seq: i64,
    counts: &BTreeMap<IngestKey, i64>,
) -> Result<RecordBatch, ArrowError> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let keys = || counts.keys();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![seq; counts.len()])),
        Arc::new(StringArray::from_iter_values(keys().map(|key| &*key.tenant))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(keys().map(|key| key.arrived_at))),
        Arc::new(StringArray::from_iter_values(keys().map(|key| key.outcome))),
        Arc::new(StringArray::from_iter(keys().map(|key| some(key.reason)))),
        Arc::new(StringArray::from_iter(keys().map(|key| some(&key.event_type)))),
        Arc::new(StringArray::from_iter_values(keys().map(|key| key.source))),
        Arc::new(BooleanArray::from_iter(keys().map(|key| Some(key.late)))),
        Arc::new(Int64Array::from_iter_values(counts.values().copied())),
    ];
    let schema = ingest.schema();
    let plain = arrow::datatypes::Schema::new(schema.fields()[..columns.len()].to_vec());
    let before = RecordBatch::try_new(Arc::new(plain), columns.clone())?;
    for computed in &ingest.computed {
        columns.push(computed.expr.evaluate(&before));
    }
    RecordBatch::try_new(schema, columns)
}
