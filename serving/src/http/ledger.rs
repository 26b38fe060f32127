//! What the API asks of the store beyond questions to metrics and entities.
//!
//! All of it blocks; handlers go through [`super::state::AppState::blocking`].

use duckdb::params;
use pipeline::outcome::{Counts, Reason};
use pipeline::store::StoreError;

use crate::store::{DeadLetterFilter, Page, Readers, StoredDeadLetter};

/// A page of dead letters.
#[derive(Debug)]
pub(super) struct DeadLetters {
    /// Newest first.
    pub(super) letters: Vec<StoredDeadLetter>,
    /// How many there are in all.
    pub(super) total: u64,
}

/// `limit` dead letters after the newest `skip`.
pub(super) fn dead_letters(
    readers: &Readers,
    tenant: &str,
    reason: Option<Reason>,
    skip: u64,
    limit: u64,
) -> Result<DeadLetters, StoreError> {
    let code = reason.map(Reason::code);
    let total: i64 = readers.with("count dead letters", |conn| {
        conn.prepare_cached(
            "select count(*) from dead_letters where tenant = ? and reason = coalesce(?, reason)",
        )?
        .query_row(params![tenant, code], |row| row.get(0))
    })?;
    let total = u64::try_from(total).unwrap_or(0);
    if skip >= total {
        return Ok(DeadLetters { letters: Vec::new(), total });
    }
    // Pages are counted from the newest; the store pages by id.
    let after: Option<i64> = match skip {
        0 => None,
        skip => Some(readers.with("find a page of dead letters", |conn| {
            conn.prepare_cached(
                "select id from dead_letters where tenant = ? and reason = coalesce(?, reason)
                 order by id desc limit 1 offset ?",
            )?
            .query_row(params![tenant, code, skip - 1], |row| row.get(0))
        })?),
    };
    let filter =
        DeadLetterFilter { tenant: Some(tenant.to_owned()), reason: code.map(str::to_owned) };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = Page { newest_first: true, after, limit };
    Ok(DeadLetters { letters: readers.dead_letters(&filter, &page)?, total })
}

/// Counts of the records that arrived at or after `since` (µs), over all tenants.
pub(super) fn counts_since(readers: &Readers, since: i64) -> Result<Counts, StoreError> {
    readers.with("count recent records", |conn| {
        let mut statement = conn.prepare_cached(
            "select outcome, sum(_n)::bigint from ingest
             where arrived_at >= make_timestamp(?) group by outcome",
        )?;
        let mut counts = Counts::default();
        for row in statement.query_map(params![since], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (outcome, count): (String, i64) = row?;
            let count = u64::try_from(count).unwrap_or(0);
            counts.received += count;
            match outcome.as_str() {
                "accepted" => counts.accepted += count,
                "duplicate" => counts.duplicate += count,
                "rejected" => counts.rejected += count,
                _ => counts.discarded += count,
            }
        }
        Ok(counts)
    })
}
