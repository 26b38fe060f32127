//! One commit: finished data files become visible together with the new position, once.
//!
//! The catalog's answer to an append is never believed. A reply can be lost after the commit took
//! effect, and the SQL catalog reports success even when its database transaction failed. So after
//! each attempt the table is read again and [`settle`] decides from what it holds.

use std::collections::HashMap;

use iceberg::spec::DataFile;
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{Catalog, Error, ErrorKind};
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

use super::catalog::{Fence, Hooked};
use super::error::LakeError;
use super::lost;
use super::position::{self, Found, Settlement, contains_commit, settle};
use crate::fail_point;

/// Data files that wait to become part of their table.
pub(super) struct Pending {
    /// When its files were written.
    pub written_at: Instant,
    /// Identity of the commit over all attempts.
    pub commit_id: Uuid,
    /// The files, closed and durable.
    pub files: Vec<DataFile>,
    /// Rows in them.
    pub rows: u64,
    /// Position of the table before.
    pub previous: Option<i64>,
    /// Position of the table after.
    pub position: i64,
    /// Newest contract version of the rows.
    pub contract_version: Option<u32>,
    /// Highest event time in the table after the commit, µs.
    pub watermark: Option<i64>,
}

impl Pending {
    fn properties(&self) -> HashMap<String, String> {
        let mut properties = HashMap::from([
            (position::POSITION.to_owned(), self.position.to_string()),
            (
                position::PREVIOUS_POSITION.to_owned(),
                self.previous.map(|p| p.to_string()).unwrap_or_default(),
            ),
            (position::COMMIT_ID.to_owned(), self.commit_id.to_string()),
        ]);
        if let Some(version) = self.contract_version {
            properties.insert(position::CONTRACT_VERSION.to_owned(), version.to_string());
        }
        if let Some(watermark) = self.watermark {
            properties.insert(position::WATERMARK.to_owned(), watermark.to_string());
        }
        properties
    }
}

/// Tries to commit. After an error that can be retried, call it again with the same `pending`: it
/// finds out whether an earlier attempt took effect after all.
pub(super) async fn commit(
    catalog: &Arc<dyn Catalog>,
    table: &Table,
    pending: &Pending,
) -> Result<Table, LakeError> {
    let name = table.identifier().name();
    fail_point::hit("lake_before_commit");
    let attempt = append(catalog, table, pending).await;
    fail_point::hit("lake_after_commit");
    let now = catalog
        .load_table(table.identifier())
        .await
        .map_err(LakeError::catalog(format!("look for the commit in lake table `{name}`")))?;
    let found = Found::of(now.metadata());
    let committed = contains_commit(now.metadata(), &pending.commit_id.to_string());
    match settle(committed, pending.previous, found) {
        Settlement::Committed => Ok(now),
        Settlement::NotCommitted => {
            let before = table.metadata().current_schema();
            lost::refuse_gone(name, before, now.metadata().current_schema())?;
            let error = attempt.err().unwrap_or_else(|| {
                Error::new(ErrorKind::Unexpected, "the catalog reported success, the table says no")
            });
            Err(LakeError::catalog(format!("commit to lake table `{name}`"))(error))
        }
        Settlement::Fenced => Err(match found {
            Found::At(found) => {
                let (table, expected) = (name.to_owned(), pending.previous.unwrap_or(0));
                if found < expected {
                    LakeError::SetBack { table, expected, found }
                } else {
                    LakeError::Fenced { table, expected, found }
                }
            }
            Found::Empty | Found::Unmarked => LakeError::Foreign {
                table: name.to_owned(),
                problem: format!("has lost the position {:?} of its last commit", pending.previous),
            },
        }),
    }
}

async fn append(
    catalog: &Arc<dyn Catalog>,
    table: &Table,
    pending: &Pending,
) -> iceberg::Result<Table> {
    let schema = table.metadata().current_schema().clone();
    let hooks = Fence { expected: pending.previous, schema };
    let fenced = Hooked { inner: Arc::clone(catalog), hooks };
    let transaction = Transaction::new(table);
    // File names are unique by construction; the check would read every manifest.
    let append = transaction
        .fast_append()
        .with_check_duplicate(false)
        .set_snapshot_properties(pending.properties())
        .add_data_files(pending.files.clone());
    append.apply(transaction)?.commit(&fenced).await
}
