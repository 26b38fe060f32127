//! The store's own small tables: source partitions and counts by reason.
//!
//! `source_partitions` also holds the journal's highest sequence number as of each partition's last
//! batch, so that one row update per commit keeps position, watermark, counts and `last_seq`, and a
//! reader sees all of them as of the same commit.

use std::collections::HashSet;

use duckdb::{Connection, params};
use pipeline::outcome::Counts;
use pipeline::store::{CountsByReason, PartitionState};

/// Which bookkeeping rows exist, so that a commit knows whether to update or insert.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    partitions: HashSet<i64>,
    outcomes: HashSet<(i64, String, String)>,
}

impl Known {
    /// Reads which rows exist.
    pub(super) fn load(conn: &Connection) -> duckdb::Result<Self> {
        let mut known = Self::default();
        let mut statement = conn.prepare("select id from source_partitions")?;
        for id in statement.query_map([], |row| row.get(0))? {
            known.partitions.insert(id?);
        }
        let mut statement =
            conn.prepare("select partition, outcome, reason from outcome_counts")?;
        for key in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            known.outcomes.insert(key?);
        }
        Ok(known)
    }

    /// Remembers the rows of a commit that succeeded.
    pub(super) fn add(&mut self, partition: i64, by_reason: &[(&str, &str, u64)]) {
        self.partitions.insert(partition);
        for (outcome, reason, _) in by_reason {
            let key = (partition, (*outcome).to_owned(), (*reason).to_owned());
            self.outcomes.insert(key);
        }
    }

    /// Writes the partition's row in the running transaction.
    pub(super) fn save_partition(
        &self,
        conn: &Connection,
        partition: &PartitionState,
        last_seq: i64,
    ) -> duckdb::Result<()> {
        let sql = if self.partitions.contains(&partition.id) {
            "update source_partitions set name = ?, next_offset = ?, fingerprint = ?, watermark = ?,
             updated_at = ?, received = ?, accepted = ?, duplicate = ?, rejected = ?, discarded = ?, last_seq = ?,
             last_arrived_at = ?, last_event_at = ?
             where id = ?"
        } else {
            "insert into source_partitions (name, next_offset, fingerprint, watermark, updated_at,
             received, accepted, duplicate, rejected, discarded, last_seq, last_arrived_at,
             last_event_at, id)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        };
        let counts = &partition.counts;
        conn.prepare_cached(sql)?.execute(params![
            partition.name,
            partition.next_offset,
            partition.fingerprint,
            partition.watermark,
            partition.updated_at,
            counts.received,
            counts.accepted,
            counts.duplicate,
            counts.rejected,
            counts.discarded,
            last_seq,
            partition.last_arrived_at,
            partition.last_event_at,
            partition.id,
        ])?;
        Ok(())
    }

    /// Adds to the partition's counts by reason in the running transaction.
    pub(super) fn add_outcomes(
        &self,
        conn: &Connection,
        partition: i64,
        by_reason: &[(&str, &str, u64)],
    ) -> duckdb::Result<()> {
        for (outcome, reason, n) in by_reason {
            let key = (partition, (*outcome).to_owned(), (*reason).to_owned());
            let sql = if self.outcomes.contains(&key) {
                "update outcome_counts set n = n + ? where partition = ? and outcome = ? and reason = ?"
            } else {
                "insert into outcome_counts (n, partition, outcome, reason) values (?, ?, ?, ?)"
            };
            conn.prepare_cached(sql)?.execute(params![n, partition, outcome, reason])?;
        }
        Ok(())
    }
}

/// Highest committed journal sequence number, 0 for an empty journal.
pub(super) fn last_seq(conn: &Connection) -> duckdb::Result<i64> {
    conn.prepare_cached("select coalesce(max(last_seq), 0) from source_partitions")?
        .query_row([], |row| row.get(0))
}

/// All partitions, by id; or the one of that name.
pub(super) fn partitions(
    conn: &Connection,
    name: Option<&str>,
) -> duckdb::Result<Vec<PartitionState>> {
    let mut statement = conn.prepare_cached(
        "select id, name, next_offset, fingerprint, watermark, updated_at,
                received, accepted, duplicate, rejected, discarded, last_arrived_at, last_event_at
         from source_partitions where name = coalesce(?, name) order by id",
    )?;
    let rows = statement.query_map([name], |row| {
        Ok(PartitionState {
            id: row.get(0)?,
            name: row.get(1)?,
            next_offset: row.get(2)?,
            fingerprint: row.get(3)?,
            watermark: row.get(4)?,
            updated_at: row.get(5)?,
            counts: Counts {
                received: row.get(6)?,
                accepted: row.get(7)?,
                duplicate: row.get(8)?,
                rejected: row.get(9)?,
                discarded: row.get(10)?,
            },
            last_arrived_at: row.get(11)?,
            last_event_at: row.get(12)?,
        })
    })?;
    rows.collect()
}

/// Counts over all partitions, by outcome and reason.
pub(super) fn counts_by_reason(conn: &Connection) -> duckdb::Result<CountsByReason> {
    let mut statement = conn.prepare_cached(
        "select outcome, reason, cast(sum(n) as ubigint) from outcome_counts group by all",
    )?;
    let mut counts = CountsByReason::new();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for row in rows {
        let (outcome, reason, n): (String, String, u64) = row?;
        counts.entry(outcome).or_default().insert(reason, n);
    }
    Ok(counts)
}
