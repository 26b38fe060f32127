//! The record of erasures: who asked for what, when, and what became of it.
//!
//! The key itself is kept only as long as there is something left to erase. What stays is a digest:
//! whoever knows a key can tell whether it was erased, and nobody can tell a key from it.

use std::collections::BTreeMap;
use std::fmt::Write;

use duckdb::{Connection, Row, params};
use pipeline::erase::{Order, Subject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureState {
    /// Only counted: nothing was changed.
    DryRun,
    /// Done in the store; the lake still has the rows.
    LakePending,
    /// Done.
    Done,
}

/// An erasure, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Names it.
    pub id: Uuid,
    /// When it was asked for, µs since 1970.
    pub requested_at: i64,
    /// When all was done, µs since 1970.
    pub finished_at: Option<i64>,
    /// Tenant.
    pub tenant: String,
    /// The entity.
    pub entity: String,
    /// SHA-256 over id, tenant, entity and key, in hexadecimal digits.
    pub key_digest: String,
    /// Why, as whoever asked said it.
    pub reason: Option<String>,
    /// How far it is.
    pub state: ErasureState,
    /// Rows that were erased in the store, by table. Rows of entities were folded again, or are gone.
    pub store_rows: BTreeMap<String, u64>,
    /// Rows that were erased in the lake, by table.
    pub lake_rows: BTreeMap<String, u64>,
}

/// What digests are made of; see [`Erasure::key_digest`].
pub(super) fn digest(id: Uuid, subject: &Subject) -> String {
    let Subject { tenant, entity, key } = subject;
    Erasure::digest_of(&id.to_string(), tenant, entity, key)
}

fn sha256(parts: [&str; 4]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        // With the length, so that no two subjects give the same bytes.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Erasure {
    /// The digest that the erasure of a key has; see [`Self::key_digest`].
    pub fn digest_of(id: &str, tenant: &str, entity: &str, key: &str) -> String {
        sha256([id, tenant, entity, key])
    }

    /// Was it this key that was erased?
    pub fn is_of(&self, key: &str) -> bool {
        let id = self.id.to_string();
        Self::digest_of(&id, &self.tenant, &self.entity, key) == self.key_digest
    }
}

const COLUMNS: &str = "id, requested_at, finished_at, tenant, entity, key_digest, reason, state, \
                       store_rows, lake_rows";

/// Writes a new erasure, with what is left to be done, in the running transaction.
pub(super) fn insert(conn: &Connection, erasure: &Erasure, left: &Order) -> duckdb::Result<()> {
    let sql = format!("insert into erasures ({COLUMNS}, work) values (?,?,?,?,?,?,?,?,?,?,?)");
    conn.execute(
        &sql,
        params![
            erasure.id.to_string(),
            erasure.requested_at,
            erasure.finished_at,
            erasure.tenant,
            erasure.entity,
            erasure.key_digest,
            erasure.reason,
            json(&erasure.state)?,
            json(&erasure.store_rows)?,
            json(&erasure.lake_rows)?,
            json(left)?,
        ],
    )?;
    Ok(())
}

/// Which files of the lake are to be removed before it is done.
pub(super) fn note(
    conn: &Connection,
    id: Uuid,
    files: std::collections::BTreeSet<String>,
) -> duckdb::Result<()> {
    let sql = "select work from erasures where id = ? and work is not null";
    let work: String = conn.query_row(sql, [id.to_string()], |row| row.get(0))?;
    let order = Order { files, ..parsed(&work)? };
    let sql = "update erasures set work = ? where id = ?";
    conn.execute(sql, params![json(&order)?, id.to_string()])?;
    Ok(())
}

/// Nothing is left to be done: the key is forgotten.
pub(super) fn finish(
    conn: &Connection,
    id: Uuid,
    finished_at: i64,
    lake_rows: &BTreeMap<String, u64>,
) -> duckdb::Result<()> {
    conn.execute(
        "update erasures set work = null, state = ?, finished_at = ?, lake_rows = ? where id = ?",
        params![json(&ErasureState::Done)?, finished_at, json(lake_rows)?, id.to_string()],
    )?;
    Ok(())
}

/// Newest first; only the one of that id, if one is given.
pub(super) fn read(conn: &Connection, id: Option<Uuid>) -> duckdb::Result<Vec<Erasure>> {
    let sql = format!(
        "select {COLUMNS} from erasures where id = coalesce(?, id) order by requested_at desc, id"
    );
    let id = id.map(|id| id.to_string());
    conn.prepare(&sql)?.query_map([id], erasure)?.collect()
}

/// Erasures that are not done, oldest first, and what is left of each.
pub(super) fn pending(conn: &Connection) -> duckdb::Result<Vec<(Erasure, Order)>> {
    let sql = format!(
        "select {COLUMNS}, work from erasures where work is not null order by requested_at, id"
    );
    let row = |row: &Row<'_>| Ok((erasure(row)?, parsed(&row.get::<_, String>(10)?)?));
    conn.prepare(&sql)?.query_map([], row)?.collect()
}

fn erasure(row: &Row<'_>) -> duckdb::Result<Erasure> {
    let text = |at: usize| row.get::<_, String>(at);
    Ok(Erasure {
        id: parsed_id(&text(0)?)?,
        requested_at: row.get(1)?,
        finished_at: row.get(2)?,
        tenant: text(3)?,
        entity: text(4)?,
        key_digest: text(5)?,
        reason: row.get(6)?,
        state: parsed(&text(7)?)?,
        store_rows: parsed(&text(8)?)?,
        lake_rows: parsed(&text(9)?)?,
    })
}

fn parsed_id(text: &str) -> duckdb::Result<Uuid> {
    text.parse().map_err(|error| unreadable(Box::new(error)))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> duckdb::Result<T> {
    serde_json::from_str(text).map_err(|error| unreadable(Box::new(error)))
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> duckdb::Error {
    duckdb::Error::FromSqlConversionFailure(0, duckdb::types::Type::Text, error)
}

fn json<T: Serialize>(value: &T) -> duckdb::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| duckdb::Error::ToSqlConversionFailure(Box::new(error)))
}
