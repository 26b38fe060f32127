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

/// How many dead letters [`dead_letters_about`] looks at: the newest.
pub(super) const LETTERS_LOOKED_AT: i64 = 2_000;

/// A dead letter that is about an entity.
#[derive(Debug)]
pub(super) struct Letter {
    /// Its number.
    pub(super) id: i64,
    /// Event id, as far as it could be read.
    pub(super) event_id: Option<String>,
    /// Reason code.
    pub(super) reason: String,
    /// When it arrived, µs.
    pub(super) arrived_at: i64,
}

/// The newest dead letters whose record names `id` in a member called like one of `members`, or has it
/// as its key, newest first. A record is not one that was read as an event, so this is told from its
/// bytes, of a very long one only from its key.
pub(super) fn dead_letters_about(
    readers: &Readers,
    tenant: &str,
    id: &str,
    members: &[String],
) -> Result<Vec<Letter>, StoreError> {
    // An id of plain letters stands in JSON as it is, so most letters need not be parsed.
    let is_plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
    let needle = if is_plain { id } else { "" };
    readers.with("find dead letters of an entity", |conn| {
        let mut statement = conn.prepare_cached(
            "select id, event_id, reason, epoch_us(arrived_at), key, payload
             from (select * from dead_letters where tenant = ? order by id desc limit ?)
             where contains(hex(payload), hex(?)) or hex(key) = hex(?)
             order by id desc",
        )?;
        let mut rows = statement.query(params![tenant, LETTERS_LOOKED_AT, needle, id])?;
        let mut letters = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, payload): (Option<Vec<u8>>, Vec<u8>) = (row.get(4)?, row.get(5)?);
            if key.is_none_or(|key| key != id.as_bytes()) && !names(&payload, id, members) {
                continue;
            }
            letters.push(Letter {
                id: row.get(0)?,
                event_id: row.get(1)?,
                reason: row.get(2)?,
                arrived_at: row.get(3)?,
            });
        }
        Ok(letters)
    })
}

/// Has the record a member of one of these names, at any depth, whose value is the id?
fn names(record: &[u8], id: &str, members: &[String]) -> bool {
    fn has(value: &serde_json::Value, id: &str, members: &[String]) -> bool {
        match value {
            serde_json::Value::Object(object) => object.iter().any(|(name, value)| {
                let is_id = match value {
                    serde_json::Value::String(text) => text == id,
                    serde_json::Value::Number(number) => number.to_string() == id,
                    _ => false,
                };
                is_id && members.contains(name) || has(value, id, members)
            }),
            serde_json::Value::Array(values) => values.iter().any(|value| has(value, id, members)),
            _ => false,
        }
    }
    serde_json::from_slice(record).is_ok_and(|record| has(&record, id, members))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(record: &str, id: &str, expected: bool) {
        let members = ["sale_id".to_owned(), "n".to_owned()];
        assert_eq!(names(record.as_bytes(), id, &members), expected, "{record}");
    }

    #[test]
    fn a_record_names_an_entity_in_a_member_of_the_right_name() {
        check(r#"{"sale_id": "s1"}"#, "s1", true);
        check(r#"{"a": [{"sale_id": "s\u0031"}]}"#, "s1", true);
        check(r#"{"n": 7}"#, "7", true);
        check(r#"{"n": 7.0}"#, "7", false);
        check(r#"{"other": "s1", "sale_id": "s2"}"#, "s1", false);
        check(r#"{"sale_id": ["s1"]}"#, "s1", false);
        check(r#"{"sale_id": "s1""#, "s1", false);
    }
}
