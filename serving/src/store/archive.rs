//! Where the rows are that the journal has given up.
//!
//! A reader of the lake sees it as it was when it was opened. It is opened when somebody asks, and
//! again when the journal has given up more than it holds, or when its files are gone because a
//! maintenance replaced them.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use contracts::model::Domain;
use pipeline::sink::iceberg::{History, HistoryRange, HistoryTable, LakeConfig, LakeError, chain};
use pipeline::store::StoreError;

use super::from_lake::{rows, with_computed};
use super::schema::Tables;
use super::trimmed::Trimmed;

/// Why rows that were given up cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The lake cannot be read.
    #[error("read from the lake what the journal has given up: {}", chain(.0))]
    Lake(#[from] LakeError),
    /// The lake has not what was given up.
    #[error(
        "the lake holds table `{table}` up to position {found}, the journal has given up its rows up \
         to {wanted}: the lake was set back or is another one"
    )]
    Behind {
        /// The store's table.
        table: String,
        /// Up to where the lake has it.
        found: i64,
        /// Up to where it is needed.
        wanted: i64,
    },
    /// Rows of the lake do not fit the contracts.
    #[error("make journal rows of `{table}` from the lake: {source}")]
    Rows {
        /// The store's table.
        table: String,
        /// What does not fit.
        source: ArrowError,
    },
    /// The lake still has rows that were erased, and it is not known which.
    #[error("an erasure that is not done in the lake yet cannot be gone on with: {0}")]
    Erasing(pipeline::erase::EraseError),
    /// Whoever took the rows wants no more.
    #[error("the reader of the lake stopped")]
    Enough,
}

impl From<ArchiveError> for StoreError {
    fn from(error: ArchiveError) -> Self {
        // A lake that is away comes back, and one that was set back may be mended: nothing that waits
        // for it may be lost meanwhile.
        Self::Failed {
            context: "look up what the journal has given up".into(),
            message: error.to_string(),
            retry: true,
        }
    }
}

/// Takes rows as they come.
pub type Take<'a> = dyn FnMut(&RecordBatch) -> Result<(), ArchiveError> + 'a;

/// The rows that the journal has given up.
pub trait Archive: Send + Sync {
    /// Hands over rows of `table` within `range`, in no order, with the columns that the store's table
    /// has (of the dead letters those that `range` names). There may be rows beyond what the store
    /// has given up, but none of `trimmed` is missing.
    fn each(
        &self,
        trimmed: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError>;
}

/// The lake as an archive.
pub struct LakeArchive {
    config: LakeConfig,
    domain: Arc<Domain>,
    tables: Tables,
    opened: Mutex<Option<Arc<History>>>,
}

impl LakeArchive {
    /// The lake of `config`. It is opened when it is needed.
    pub fn new(config: LakeConfig, domain: Arc<Domain>) -> Self {
        let tables = Tables::of(&domain);
        Self { config, domain, tables, opened: Mutex::new(None) }
    }

    /// A look at the lake with all of `trimmed` in it; `anew`: not the one that is open.
    fn history(
        &self,
        trimmed: &Trimmed,
        table: HistoryTable,
        anew: bool,
    ) -> Result<Arc<History>, ArchiveError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, wanted) = self.wanted(trimmed, table);
        if let Some(history) = opened.as_ref().filter(|_| !anew)
            && history.end(table) >= wanted
        {
            return Ok(Arc::clone(history));
        }
        *opened = None;
        let history = Arc::new(History::open(&self.config, &self.domain)?);
        let found = history.end(table);
        if found < wanted {
            return Err(ArchiveError::Behind { table: name.to_owned(), found, wanted });
        }
        Ok(Arc::clone(opened.insert(history)))
    }

    /// The table's name in the store, and the position up to which the lake must have it.
    fn wanted(&self, trimmed: &Trimmed, table: HistoryTable) -> (&str, i64) {
        match table {
            HistoryTable::Family(family) => {
                let name = self.tables.families[family].name.as_str();
                (name, trimmed.families.get(name).map_or(0, |family| family.seq))
            }
            HistoryTable::Ingest => (&self.tables.ingest.name, trimmed.ingest_row),
            HistoryTable::DeadLetters => (&self.tables.dead_letters.name, trimmed.dead_letter),
        }
    }

    /// Rows of the lake as the store's table has them.
    fn stored(&self, table: HistoryTable, given: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        match table {
            HistoryTable::Family(family) => {
                rows::journal_rows(&self.domain.families[family], given)
            }
            HistoryTable::Ingest => with_computed(&self.domain, &self.tables.ingest, given)
                .map_err(|error| ArrowError::ExternalError(Box::new(error))),
            HistoryTable::DeadLetters => Ok(given.clone()),
        }
    }
}

impl Archive for LakeArchive {
    fn each(
        &self,
        trimmed: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError> {
        let mut taken = false;
        let mut made = |given: &RecordBatch| {
            taken = true;
            let rows = self.stored(table, given).map_err(|source| {
                let table = self.wanted(trimmed, table).0.to_owned();
                ArchiveError::Rows { table, source }
            })?;
            take(&rows)
        };
        let result = self.history(trimmed, table, false)?.each(table, range, &mut made);
        match result {
            Err(ArchiveError::Lake(_)) if !taken => {
                self.history(trimmed, table, true)?.each(table, range, &mut |given| {
                    take(&self.stored(table, given).map_err(|source| {
                        let table = self.wanted(trimmed, table).0.to_owned();
                        ArchiveError::Rows { table, source }
                    })?)
                })
            }
            Err(error) => {
                *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }
}
