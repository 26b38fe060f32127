//! Giving up the oldest rows of the journal, in small transactions between batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duckdb::Connection;
use pipeline::store::StoreError;
use pipeline::{clock, fail_point};

use super::error::failed;
use super::retention::{Cut, Facts, Retention, decide};
use super::schema::quoted;
use super::trimmed::{self, FAR_AHEAD, Trimmed};
use super::writer::Writer;
use super::{bookkeeping, in_transaction};

/// Most sequence numbers in one transaction.
const SEQS_PER_SLICE: i64 = if cfg!(test) { 40 } else { 65_536 };
/// Most dead letters in one transaction: each may have a megabyte.
const LETTERS_PER_SLICE: i64 = if cfg!(test) { 5 } else { 1_024 };
/// When it is asked again what may go, after nothing did and after something did: a commit for every few
/// rows would cost more than it frees.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const GO_ON: Duration = Duration::from_secs(60);

/// The trimming of a writer.
#[derive(Default)]
pub(super) struct Trimming {
    pub(super) retention: Option<Retention>,
    /// What is being given up.
    cut: Option<Cut>,
    /// When it is asked next what may go.
    next: Option<Instant>,
    /// Rows were deleted since the last vacuum, so the size of the database tells nothing yet.
    pub(super) unvacuumed: bool,
}

impl Writer {
    /// From now on the journal gives up what it need not keep. Without it everything is kept.
    pub fn retain(&mut self, retention: Retention) {
        self.trimming.retention = Some(retention);
    }

    /// One slice of what is to go, if anything is; true when there is more.
    pub(super) fn trim(&mut self) -> Result<bool, StoreError> {
        let Some(retention) = self.trimming.retention.clone() else { return Ok(false) };
        let cut = match self.trimming.cut {
            Some(cut) => cut,
            None => {
                let now = Instant::now();
                if self.trimming.next.is_some_and(|next| now < next) {
                    return Ok(false);
                }
                self.trimming.next = Some(now + LOOK_AGAIN);
                let facts = self.facts(&retention).map_err(|e| failed("look what may go", &e))?;
                let Some(cut) = decide(&retention.policy, &facts) else { return Ok(false) };
                tracing::info!(from = facts.trimmed, until = cut.seq, "trimming the journal");
                cut
            }
        };
        let is_more = self.trim_slice(cut)?;
        self.trimming.cut = is_more.then_some(cut);
        self.trimming.next = Some(Instant::now() + GO_ON);
        Ok(is_more)
    }

    /// Gives up everything up to a sequence number, whoever follows.
    #[cfg(test)]
    pub(crate) fn trim_until(&mut self, seq: i64) -> Result<(), StoreError> {
        let cut = Cut { seq, ingest_row: i64::MAX, dead_letter: i64::MAX };
        while self.trim_slice(cut)? {}
        Ok(())
    }

    fn facts(&self, retention: &Retention) -> duckdb::Result<Facts> {
        let now = clock::now();
        let aged = match retention.policy.keep_for {
            None => 0,
            Some(keep_for) => {
                let kept = i64::try_from(keep_for.as_micros()).unwrap_or(i64::MAX);
                // Not before 1970, where nothing was applied.
                let before = now.saturating_sub(kept).max(0);
                // In the text, because DuckDB skips row groups by constants: as long as nothing is that
                // old, nothing is read.
                let sql = format!(
                    "select coalesce(max(_seq), 0) from ingest
                     where _applied_at <= make_timestamp({before})"
                );
                self.conn.query_row(&sql, [], |row| row.get(0))?
            }
        };
        let bytes = match (self.trimming.unvacuumed, retention.policy.keep_bytes) {
            (false, Some(_)) => {
                let sql = "select used_blocks * block_size from pragma_database_size()
                           where database_name = current_database()";
                let bytes: i64 = self.conn.query_row(sql, [], |row| row.get(0))?;
                Some(bytes.unsigned_abs())
            }
            _ => None,
        };
        Ok(Facts {
            now,
            trimmed: self.horizon.get().map_or(0, |trimmed| trimmed.seq),
            last_seq: bookkeeping::last_seq(&self.conn)?,
            aged,
            bytes,
            followed: (retention.followed)(),
        })
    }

    /// Gives up the next rows towards `cut` in one transaction; true when more is left.
    pub(super) fn trim_slice(&mut self, cut: Cut) -> Result<bool, StoreError> {
        let before = self.horizon.get();
        let mut trimmed = before.as_deref().cloned().unwrap_or_default();
        let until = cut.seq.min(trimmed.seq.saturating_add(SEQS_PER_SLICE));
        let mut deleted = 0;
        let mut is_more = until < cut.seq;
        let context = "trim the journal";
        let outcome = in_transaction(&self.conn, context, || {
            for table in &self.tables.families {
                deleted += events(&self.conn, &table.name, until, &mut trimmed)?;
            }
            trimmed.seq = until;
            deleted += ingest(&self.conn, until, cut.ingest_row, &mut trimmed)?;
            let (letters, more_letters) = letters(&self.conn, cut.dead_letter, &mut trimmed)?;
            deleted += letters;
            is_more |= more_letters;
            trimmed::write(&self.conn, &trimmed)?;
            // Before it is visible: see `trimmed.rs`.
            self.horizon.set(Some(Arc::new(trimmed.clone())));
            fail_point::hit("trim_before_commit");
            Ok(())
        });
        if let Err(error) = outcome {
            self.horizon.set(before);
            return Err(error);
        }
        fail_point::hit("trim_after_commit");
        self.count_deleted(deleted);
        self.trimming.unvacuumed |= deleted > 0;
        Ok(is_more)
    }
}

/// Deletes the events of a family up to `until`.
fn events(
    conn: &Connection,
    table: &str,
    until: i64,
    trimmed: &mut Trimmed,
) -> duckdb::Result<usize> {
    let name = quoted(table);
    // The bound stands in the text because DuckDB skips row groups by constants.
    let sql = format!(
        "select count(*), max(_seq), epoch_us(max(_time)) from {name} where _seq <= {until}"
    );
    let (count, last, latest): (u64, Option<i64>, Option<i64>) =
        conn.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (Some(last), Some(latest)) = (last, latest) else { return Ok(0) };
    let late = by_tenant(
        conn,
        &format!("select _tenant, count(*) from {name} where _seq <= {until} and _late group by 1"),
    )?;
    let family = trimmed.families.entry(table.to_owned()).or_default();
    // Times before 1970 are negative.
    family.latest = if family.seq == 0 { latest } else { family.latest.max(latest) };
    family.seq = last;
    add(&mut family.late, late);
    trimmed.events += count;
    trimmed.latest_event_time = trimmed.latest_event_time.max(Some(latest));
    conn.execute(&format!("delete from {name} where _seq <= {until}"), [])
}

/// Deletes rows of `ingest` that tell of events up to `until`, but for the last row of all: numbers and
/// times go on after it.
fn ingest(
    conn: &Connection,
    until: i64,
    most: i64,
    trimmed: &mut Trimmed,
) -> duckdb::Result<usize> {
    let these =
        format!("_seq <= {until} and _row <= {most} and _row < (select max(_row) from ingest)");
    let sql = format!(
        "select max(_row), max(_seq), epoch_us(max(_applied_at)), epoch_us(max(arrived_at))
         from ingest where {these}"
    );
    type Ends = (Option<i64>, Option<i64>, Option<i64>, Option<i64>);
    let ends: Ends =
        conn.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let (Some(row), Some(seq), Some(applied_at), arrived_at) = ends else { return Ok(0) };
    (trimmed.ingest_row, trimmed.ingest_seq, trimmed.applied_at) = (row, seq, applied_at);
    trimmed.latest_arrived_at = trimmed.latest_arrived_at.max(arrived_at);
    conn.execute(&format!("delete from ingest where {these}"), [])
}

/// Deletes dead letters up to the first that arrived after what is left of `ingest` began, but for the
/// last one of all. Returns how many, and whether there are more.
fn letters(conn: &Connection, most: i64, trimmed: &mut Trimmed) -> duckdb::Result<(usize, bool)> {
    let sql = format!(
        "select coalesce(min(id) filter (where epoch_us(arrived_at) > {}), max(id)) - 1
         from dead_letters",
        trimmed.applied_at
    );
    let old: Option<i64> = conn.query_row(&sql, [], |row| row.get(0))?;
    let all = old.unwrap_or(0).min(most);
    let until = all.min(trimmed.dead_letter + LETTERS_PER_SLICE);
    if until <= trimmed.dead_letter {
        return Ok((0, false));
    }
    let these = format!(
        "id > {} and id <= {until} and coalesce(epoch_us(event_time), epoch_us(arrived_at))
         <= epoch_us(arrived_at) + {FAR_AHEAD}",
        trimmed.dead_letter
    );
    let latest = format!(
        "select epoch_us(max(coalesce(event_time, arrived_at))) from dead_letters where {these}"
    );
    let latest: Option<i64> = conn.query_row(&latest, [], |row| row.get(0))?;
    let gone = by_tenant(
        conn,
        &format!("select tenant, count(*) from dead_letters where {these} group by 1"),
    )?;
    conn.execute(
        &format!(
            "delete from dead_letter_pieces where id in (select id from dead_letters where {these})"
        ),
        [],
    )?;
    let deleted = conn.execute(&format!("delete from dead_letters where {these}"), [])?;
    trimmed.latest_letter = trimmed.latest_letter.max(latest);
    add(&mut trimmed.letters, gone);
    trimmed.dead_letter = until;
    Ok((deleted, until < all))
}

fn by_tenant(conn: &Connection, sql: &str) -> duckdb::Result<BTreeMap<String, u64>> {
    let mut statement = conn.prepare(sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn add(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (tenant, n) in more {
        *counts.entry(tenant).or_insert(0) += n;
    }
}
