//! The books of a store that was made from the lake: the ledger, and rows that are beyond it.
//!
//! A round of the lake that was cut off leaves events whose sources' positions are not known. They are
//! entered as what they are, accepted records of their partition, so that the books are right: accepted
//! equals rows. Where the source goes on is not changed by them; it may send them again.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use contracts::model::Domain;
use duckdb::{Connection, params};
use pipeline::source::http;
use pipeline::store::{Ledger, LedgerPartition, PartitionState, StoreError, ingest_schema};

use crate::store::bookkeeping;
use crate::store::error::failed;
use crate::store::rows::conversion;
use crate::store::schema::{Tables, quoted};

/// Rows beyond the ledger.
pub(super) struct Beyond {
    /// Accepted events by partition: how many, and the highest offset.
    accepted: BTreeMap<i64, (u64, i64)>,
    /// Dead letters by partition and reason.
    rejected: BTreeMap<(String, String), u64>,
    /// Accepted events that `ingest` does not have yet.
    received: Vec<Received>,
}

/// Events of `ingest`.
struct Received {
    tenant: String,
    arrived_at: i64,
    event_type: String,
    partition: i64,
    late: bool,
    count: i64,
}

impl Beyond {
    /// Looks for them in the new store.
    pub(super) fn find(
        conn: &Connection,
        tables: &Tables,
        ledger: &Ledger,
    ) -> Result<Self, StoreError> {
        Self::read(conn, tables, ledger).map_err(|e| failed("count rows beyond the ledger", &e))
    }

    fn read(conn: &Connection, tables: &Tables, ledger: &Ledger) -> duckdb::Result<Self> {
        let sql = "select coalesce(max(_seq), 0) from ingest";
        let counted: i64 = conn.query_row(sql, [], |row| row.get(0))?;
        let mut accepted: BTreeMap<i64, (u64, i64)> = BTreeMap::new();
        let mut received = Vec::new();
        for table in &tables.families {
            let name = quoted(&table.name);
            let sql = format!(
                "select _partition, count(*), max(_offset) from {name} where _seq > {} group by 1",
                ledger.last_seq
            );
            let mut statement = conn.prepare(&sql)?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            for row in rows {
                let (partition, count, offset): (i64, u64, i64) = row?;
                let entry = accepted.entry(partition).or_insert((0, i64::MIN));
                *entry = (entry.0 + count, entry.1.max(offset));
            }
            let sql = format!(
                "select _tenant, epoch_us(_arrived_at), _type, _partition, _late, count(*)
                 from {name} where _seq > {counted} group by all order by all"
            );
            let mut statement = conn.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Received {
                    tenant: row.get(0)?,
                    arrived_at: row.get(1)?,
                    event_type: row.get(2)?,
                    partition: row.get(3)?,
                    late: row.get(4)?,
                    count: row.get(5)?,
                })
            })?;
            for row in rows {
                received.push(row?);
            }
        }
        let mut rejected = BTreeMap::new();
        let sql = format!(
            "select partition, reason, count(*) from dead_letters where id > {} group by all",
            ledger.last_dead_letter
        );
        let mut statement = conn.prepare(&sql)?;
        let rows = statement
            .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, u64>(2)?)))?;
        for row in rows {
            let (key, count) = row?;
            rejected.insert(key, count);
        }
        Ok(Self { accepted, rejected, received })
    }

    /// Writes partitions, counts and the missing rows of `ingest` in the running transaction.
    pub(super) fn write(
        &self,
        conn: &Connection,
        domain: &Domain,
        tables: &Tables,
        ledger: &Ledger,
        last_seq: i64,
    ) -> duckdb::Result<()> {
        let partitions = self.partitions(ledger);
        for LedgerPartition { state, by_reason } in &partitions {
            bookkeeping::insert_partition(conn, state, last_seq)?;
            for (outcome, reason, count) in by_reason {
                conn.execute(
                    "insert into outcome_counts (partition, outcome, reason, n) values (?, ?, ?, ?)",
                    params![state.id, outcome, reason, count],
                )?;
            }
        }
        if self.received.is_empty() {
            return Ok(());
        }
        let sql =
            "select coalesce(max(_row), 0), coalesce(epoch_us(max(_applied_at)), 0) from ingest";
        let last: (i64, i64) = conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows = self.ingest_rows(domain, &partitions, last, last_seq)?;
        tables.ingest.append(conn, &super::with_computed(domain, &tables.ingest, &rows)?)
    }

    /// The ledger's partitions with what is beyond.
    fn partitions(&self, ledger: &Ledger) -> Vec<LedgerPartition> {
        let mut all = ledger.partitions.clone();
        for (id, (count, offset)) in &self.accepted {
            let at = match all.iter().position(|known| known.state.id == *id) {
                Some(at) => at,
                None => {
                    // First read in the round that was cut off: nobody knows its name any more, and
                    // its source begins it anew under another number.
                    let name = format!("unknown:{id}");
                    let state = PartitionState { id: *id, name, ..PartitionState::default() };
                    all.push(LedgerPartition { state, by_reason: Vec::new() });
                    all.len() - 1
                }
            };
            let partition = &mut all[at];
            partition.state.counts.received += count;
            partition.state.counts.accepted += count;
            if partition.state.name == http::PARTITION {
                // Posted events do not come again; their numbers must not be given twice.
                let next = u64::try_from(offset.saturating_add(1)).unwrap_or(0);
                partition.state.next_offset = partition.state.next_offset.max(next);
            }
            add(&mut partition.by_reason, "accepted", "", *count);
        }
        for ((name, reason), count) in &self.rejected {
            if let Some(partition) = all.iter_mut().find(|known| known.state.name == *name) {
                partition.state.counts.received += count;
                partition.state.counts.rejected += count;
                add(&mut partition.by_reason, "rejected", reason, *count);
            }
        }
        all.sort_by_key(|partition| partition.state.id);
        all
    }

    fn ingest_rows(
        &self,
        domain: &Domain,
        partitions: &[LedgerPartition],
        (last, last_applied_at): (i64, i64),
        last_seq: i64,
    ) -> duckdb::Result<RecordBatch> {
        let all = &self.received;
        let texts = |text: &dyn Fn(&Received) -> Option<String>| -> ArrayRef {
            Arc::new(all.iter().map(text).collect::<StringArray>())
        };
        // A partition is named after its source.
        let source = |id: i64| {
            let name = partitions.iter().find(|p| p.state.id == id).map(|p| p.state.name.as_str());
            name.and_then(|name| name.split(':').next()).unwrap_or("unknown").to_owned()
        };
        // When they were applied is not known; not before they arrived, and not before what was.
        let arrived = all.iter().map(|r| r.arrived_at).max().unwrap_or(0);
        let applied_at = arrived.max(last_applied_at);
        let schema = ingest_schema(&domain.ingest);
        let plain = schema.fields().len() - domain.ingest.computed.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values((last + 1..).take(all.len()))),
            Arc::new(TimestampMicrosecondArray::from(vec![applied_at; all.len()])),
            Arc::new(Int64Array::from(vec![last_seq; all.len()])),
            texts(&|r| Some(r.tenant.clone())),
            Arc::new(TimestampMicrosecondArray::from_iter_values(all.iter().map(|r| r.arrived_at))),
            texts(&|_| Some("accepted".to_owned())),
            texts(&|_| None),
            texts(&|r| Some(r.event_type.clone())),
            texts(&|r| Some(source(r.partition))),
            Arc::new(all.iter().map(|r| Some(r.late)).collect::<BooleanArray>()),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|r| r.count))),
        ];
        let schema = arrow::datatypes::Schema::new(schema.fields()[..plain].to_vec());
        RecordBatch::try_new(Arc::new(schema), columns).map_err(conversion)
    }
}

fn add(counts: &mut Vec<(String, String, u64)>, outcome: &str, reason: &str, count: u64) {
    match counts.iter_mut().find(|(o, r, _)| o == outcome && r == reason) {
        Some((_, _, n)) => *n += count,
        None => counts.push((outcome.to_owned(), reason.to_owned(), count)),
    }
}
