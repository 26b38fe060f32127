//! The store's own small tables: source partitions and counts by reason.
//!
//! `source_partitions` also holds the journal's highest sequence number as of each partition's last
//! batch, so that one row update per commit keeps position, watermark, counts and `last_seq`, and a
//! reader sees all of them as of the same commit.

use std::collections::{HashMap, HashSet};

use duckdb::{Connection, params};
use pipeline::outcome::Counts;
use pipeline::source::http;
use pipeline::store::{CountsByReason, PartitionEffects, PartitionState, StoreError};

use super::Readers;

impl Readers {
    /// How many new events a tenant has posted since a time (seconds since 1970).
    pub(crate) fn posted(&self, tenant: &str, since: i64) -> Result<u64, StoreError> {
        self.with("count what a tenant has posted", |conn| {
            let mut statement = conn.prepare_cached(
                "select coalesce(sum(_n), 0)::ubigint from ingest
                 where _tenant = ? and outcome = 'accepted' and source = ?
                   and arrived_at >= make_timestamp(? * 1000000)",
            )?;
            statement.query_row(params![tenant, http::SOURCE, since], |row| row.get(0))
        })
    }
}

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

    /// Writes the rows of partitions and their counts by reason in the running transaction.
    ///
    /// A lone partition takes statements that are planned once. Many take one statement each for all
    /// of them: sixteen partitions cost 20 ms of a commit otherwise.
    pub(super) fn save(
        &self,
        conn: &Connection,
        partitions: &[PartitionEffects],
        last_seq: i64,
    ) -> duckdb::Result<()> {
        let is_known = |effects: &&PartitionEffects| self.partitions.contains(&effects.state.id);
        let (known, new): (Vec<_>, Vec<_>) = partitions.iter().partition(is_known);
        for effects in new {
            write(conn, INSERT_PARTITION, &effects.state, last_seq)?;
        }
        match known[..] {
            [] => {}
            [effects] => write(conn, UPDATE_PARTITION, &effects.state, last_seq)?,
            _ => conn.execute_batch(&update_partitions(&known, last_seq))?,
        }
        let counts = partitions.iter().flat_map(|effects| {
            effects.by_reason.iter().map(|(outcome, reason, n)| Count {
                partition: effects.state.id,
                outcome,
                reason,
                n: *n,
            })
        });
        let (known, new): (Vec<_>, Vec<_>) =
            counts.partition(|count| self.outcomes.contains(&count.key()));
        for count in new {
            count.write(conn, INSERT_COUNT)?;
        }
        if known.len() > FEW {
            return conn.execute_batch(&update_counts(&known));
        }
        for count in known {
            count.write(conn, UPDATE_COUNT)?;
        }
        Ok(())
    }
}

/// Up to this many statements that are planned already are faster than a new one.
const FEW: usize = 2;

const UPDATE_PARTITION: &str = "update source_partitions set name = ?, next_offset = ?,
     fingerprint = ?, watermark = ?, updated_at = ?, received = ?, accepted = ?, duplicate = ?,
     rejected = ?, discarded = ?, last_seq = ?, last_arrived_at = ?, last_event_at = ?
     where id = ?";
const INSERT_PARTITION: &str = "insert into source_partitions (name, next_offset, fingerprint,
     watermark, updated_at, received, accepted, duplicate, rejected, discarded, last_seq,
     last_arrived_at, last_event_at, id)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const UPDATE_COUNT: &str =
    "update outcome_counts set n = n + ? where partition = ? and outcome = ? and reason = ?";
const INSERT_COUNT: &str =
    "insert into outcome_counts (n, partition, outcome, reason) values (?, ?, ?, ?)";

/// Records of a partition that had the same outcome.
#[derive(Debug, Clone, Copy)]
struct Count<'a> {
    partition: i64,
    outcome: &'a str,
    reason: &'a str,
    n: u64,
}

impl Count<'_> {
    fn key(&self) -> (i64, String, String) {
        (self.partition, self.outcome.to_owned(), self.reason.to_owned())
    }

    /// Runs [`INSERT_COUNT`] or [`UPDATE_COUNT`].
    fn write(&self, conn: &Connection, sql: &str) -> duckdb::Result<()> {
        let Self { partition, outcome, reason, n } = self;
        conn.prepare_cached(sql)?.execute(params![n, partition, outcome, reason])?;
        Ok(())
    }
}

/// Runs [`INSERT_PARTITION`] or [`UPDATE_PARTITION`].
fn write(
    conn: &Connection,
    sql: &str,
    partition: &PartitionState,
    last_seq: i64,
) -> duckdb::Result<()> {
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

/// Writes a partition that has no row yet, in the running transaction.
pub(super) fn insert_partition(
    conn: &Connection,
    partition: &PartitionState,
    last_seq: i64,
) -> duckdb::Result<()> {
    write(conn, INSERT_PARTITION, partition, last_seq)
}

fn update_partitions(partitions: &[&PartitionEffects], last_seq: i64) -> String {
    let time = |time: Option<i64>| time.map_or("null::bigint".to_owned(), bigint);
    let mut rows = Vec::with_capacity(partitions.len());
    for PartitionEffects { state, .. } in partitions {
        let counts = &state.counts;
        let values = [
            bigint(state.id),
            literal(&state.name),
            ubigint(state.next_offset),
            state.fingerprint.as_deref().map_or("null::varchar".to_owned(), literal),
            time(state.watermark),
            bigint(state.updated_at),
            ubigint(counts.received),
            ubigint(counts.accepted),
            ubigint(counts.duplicate),
            ubigint(counts.rejected),
            ubigint(counts.discarded),
            time(state.last_arrived_at),
            time(state.last_event_at),
        ];
        rows.push(format!("({})", values.join(", ")));
    }
    format!(
        "update source_partitions set name = v.name, next_offset = v.next_offset,
         fingerprint = v.fingerprint, watermark = v.watermark, updated_at = v.updated_at,
         received = v.received, accepted = v.accepted, duplicate = v.duplicate,
         rejected = v.rejected, discarded = v.discarded, last_seq = {last_seq},
         last_arrived_at = v.last_arrived_at, last_event_at = v.last_event_at
         from (values {}) as v (id, name, next_offset, fingerprint, watermark, updated_at, received,
         accepted, duplicate, rejected, discarded, last_arrived_at, last_event_at)
         where source_partitions.id = v.id",
        rows.join(", ")
    )
}

fn update_counts(counts: &[Count<'_>]) -> String {
    let rows: Vec<String> = counts
        .iter()
        .map(|Count { partition, outcome, reason, n }| {
            let (outcome, reason) = (literal(outcome), literal(reason));
            format!("({}, {outcome}, {reason}, {})", bigint(*partition), ubigint(*n))
        })
        .collect();
    format!(
        "update outcome_counts set n = outcome_counts.n + v.n
         from (values {}) as v (partition, outcome, reason, n)
         where outcome_counts.partition = v.partition and outcome_counts.outcome = v.outcome
         and outcome_counts.reason = v.reason",
        rows.join(", ")
    )
}

/// A number as SQL has it. As a text that is cast: a literal's type goes by its size, and its sign is
/// an operator.
fn bigint(number: i64) -> String {
    format!("'{number}'::bigint")
}

fn ubigint(number: u64) -> String {
    format!("'{number}'::ubigint")
}

/// A text as SQL has it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
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

/// Outcome, reason code or empty, count.
type ByReason = Vec<(String, String, u64)>;

/// Counts of each partition: (outcome, reason, count), in order.
pub(super) fn counts_by_partition(conn: &Connection) -> duckdb::Result<HashMap<i64, ByReason>> {
    let mut statement = conn.prepare_cached(
        "select partition, outcome, reason, n from outcome_counts order by outcome, reason",
    )?;
    let mut counts: HashMap<i64, Vec<_>> = HashMap::new();
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    for row in rows {
        let (partition, outcome, reason, n): (i64, String, String, u64) = row?;
        counts.entry(partition).or_default().push((outcome, reason, n));
    }
    Ok(counts)
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
