//! The ledger in the lake: where each source partition was when, as rows of a table.
//!
//! Its rows are written last in a round, when every other table holds everything up to the ends that
//! they name. So the newest of them is a point from which a store can be made again and its sources can
//! go on. All rows of one point are in one file of one commit.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::outcome::Counts;
use crate::store::{INGEST_ROW, Ledger, LedgerPartition, PartitionState};

/// When the point was taken (Timestamp µs); the table is partitioned by its day.
pub(super) const RECORDED_AT: &str = "recorded_at";

const LAST_SEQ: &str = "last_seq";
const LAST_DEAD_LETTER: &str = "last_dead_letter";

/// Numbers of a partition: name, reader, writer.
type Number = (&'static str, fn(&PartitionState) -> i64, fn(&mut PartitionState, i64));

// Offsets and counts are unsigned in the store and fit in an `i64` for longer than there will be events.
const NUMBERS: [Number; 7] = [
    ("partition_id", |p| p.id, |p, n| p.id = n),
    ("next_offset", |p| p.next_offset as i64, |p, n| p.next_offset = n as u64),
    ("received", |p| p.counts.received as i64, |p, n| p.counts.received = n as u64),
    ("accepted", |p| p.counts.accepted as i64, |p, n| p.counts.accepted = n as u64),
    ("duplicate", |p| p.counts.duplicate as i64, |p, n| p.counts.duplicate = n as u64),
    ("rejected", |p| p.counts.rejected as i64, |p, n| p.counts.rejected = n as u64),
    ("discarded", |p| p.counts.discarded as i64, |p, n| p.counts.discarded = n as u64),
];

type Time =
    (&'static str, fn(&PartitionState) -> Option<i64>, fn(&mut PartitionState, Option<i64>));

const TIMES: [Time; 4] = [
    ("watermark", |p| p.watermark, |p, t| p.watermark = t),
    ("updated_at", |p| Some(p.updated_at), |p, t| p.updated_at = t.unwrap_or(0)),
    ("last_arrived_at", |p| p.last_arrived_at, |p, t| p.last_arrived_at = t),
    ("last_event_at", |p| p.last_event_at, |p, t| p.last_event_at = t),
];

/// Columns of the table: a row per partition and point.
pub(super) fn schema() -> SchemaRef {
    let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = vec![
        Field::new(INGEST_ROW, DataType::Int64, false),
        Field::new(LAST_SEQ, DataType::Int64, false),
        Field::new(LAST_DEAD_LETTER, DataType::Int64, false),
        Field::new(RECORDED_AT, ts.clone(), false),
        Field::new("partition", DataType::Utf8, false),
        Field::new("fingerprint", DataType::Utf8, true),
        // JSON: [[outcome, reason, count], …].
        Field::new("by_reason", DataType::Utf8, false),
    ];
    fields.extend(NUMBERS.iter().map(|(name, ..)| Field::new(*name, DataType::Int64, false)));
    fields.extend(TIMES.iter().map(|(name, ..)| Field::new(*name, ts.clone(), true)));
    Arc::new(Schema::new(fields))
}

/// The rows of a point.
pub(super) fn rows(ledger: &Ledger, recorded_at: i64) -> Result<RecordBatch, ArrowError> {
    let all = &ledger.partitions;
    let same = |number: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![number; all.len()])) };
    let texts = |text: &dyn Fn(&LedgerPartition) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(text).collect::<StringArray>())
    };
    let by_reason = |p: &LedgerPartition| serde_json::to_string(&p.by_reason).ok();
    let mut columns = vec![
        same(ledger.last_ingest),
        same(ledger.last_seq),
        same(ledger.last_dead_letter),
        Arc::new(TimestampMicrosecondArray::from(vec![recorded_at; all.len()])) as ArrayRef,
        texts(&|p| Some(p.state.name.clone())),
        texts(&|p| p.state.fingerprint.clone()),
        texts(&by_reason),
    ];
    columns.extend(NUMBERS.iter().map(|(_, get, _)| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(all.iter().map(|p| get(&p.state))))
    }));
    columns.extend(TIMES.iter().map(|(_, get, _)| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter(all.iter().map(|p| get(&p.state))))
    }));
    RecordBatch::try_new(schema(), columns)
}

/// The point with the highest end among `rows`, which have the columns of [`schema`].
pub(super) fn newest(rows: &[RecordBatch]) -> Result<Option<Ledger>, ArrowError> {
    let mut newest: Option<Ledger> = None;
    for rows in rows {
        for row in 0..rows.num_rows() {
            let end = number(rows, INGEST_ROW, row)?;
            if newest.as_ref().is_none_or(|ledger| ledger.last_ingest < end) {
                newest = Some(Ledger {
                    last_seq: number(rows, LAST_SEQ, row)?,
                    last_ingest: end,
                    last_dead_letter: number(rows, LAST_DEAD_LETTER, row)?,
                    partitions: Vec::new(),
                });
            }
            if let Some(ledger) = &mut newest
                && ledger.last_ingest == end
            {
                ledger.partitions.push(partition(rows, row)?);
            }
        }
    }
    if let Some(ledger) = &mut newest {
        ledger.partitions.sort_by_key(|partition| partition.state.id);
    }
    Ok(newest)
}

fn partition(rows: &RecordBatch, row: usize) -> Result<LedgerPartition, ArrowError> {
    let mut state = PartitionState {
        name: text(rows, "partition", row)?.unwrap_or_default().to_owned(),
        fingerprint: text(rows, "fingerprint", row)?.map(str::to_owned),
        counts: Counts::default(),
        ..PartitionState::default()
    };
    for (name, _, set) in NUMBERS {
        set(&mut state, number(rows, name, row)?);
    }
    for (name, _, set) in TIMES {
        let times = column(rows, name)?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| other_type(name))?;
        set(&mut state, times.is_valid(row).then(|| times.value(row)));
    }
    let by_reason = text(rows, "by_reason", row)?.unwrap_or("[]");
    let by_reason = serde_json::from_str(by_reason)
        .map_err(|error| ArrowError::ParseError(format!("column `by_reason`: {error}")))?;
    Ok(LedgerPartition { state, by_reason })
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("there is no column `{name}`"));
    rows.column_by_name(name).ok_or_else(missing)
}

fn number(rows: &RecordBatch, name: &str, row: usize) -> Result<i64, ArrowError> {
    let numbers = column(rows, name)?.as_primitive_opt::<Int64Type>();
    Ok(numbers.ok_or_else(|| other_type(name))?.value(row))
}

fn text<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Result<Option<&'a str>, ArrowError> {
    let texts = column(rows, name)?.as_string_opt::<i32>().ok_or_else(|| other_type(name))?;
    Ok(texts.is_valid(row).then(|| texts.value(row)))
}

fn other_type(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("column `{name}` has another type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(end: i64, partitions: usize) -> Ledger {
        let partition = |n: usize| LedgerPartition {
            state: PartitionState {
                id: n as i64 + 1,
                name: format!("file:/{n}"),
                next_offset: 17 * n as u64 + end as u64,
                fingerprint: (n == 0).then(|| "print".to_owned()),
                watermark: (n > 0).then_some(5),
                updated_at: 7,
                last_arrived_at: Some(-1),
                last_event_at: None,
                counts: Counts {
                    received: 6,
                    accepted: 1,
                    duplicate: 2,
                    rejected: 3,
                    discarded: 0,
                },
            },
            by_reason: vec![("rejected".into(), "not_json".into(), 3)],
        };
        let partitions = (0..partitions).map(partition).collect();
        Ledger { last_seq: 2 * end, last_ingest: end, last_dead_letter: 3, partitions }
    }

    #[test]
    fn the_newest_point_comes_back_whole() {
        let points: Vec<_> =
            [(4, 1), (9, 3), (7, 2)].map(|(end, n)| rows(&ledger(end, n), 1).unwrap()).to_vec();
        assert_eq!(newest(&points).unwrap(), Some(ledger(9, 3)));
        let together = arrow::compute::concat_batches(&schema(), points.iter().rev()).unwrap();
        assert_eq!(newest(&[together]).unwrap(), Some(ledger(9, 3)));
        assert_eq!(newest(&[]).unwrap(), None);
    }
}
