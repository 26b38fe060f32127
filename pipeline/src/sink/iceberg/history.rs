//! Reading the lake back: rows as the journal had them, and the point up to which they are complete.
//!
//! Rows come in stretches of positions, each in ascending order, under the journal's names and types.
//! A stretch touches only the files and row groups whose statistics say that they may have some of it.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use contracts::model::Domain;
use futures::TryStreamExt;
use iceberg::expr::Reference;
use iceberg::scan::{FileScanTask, TableScan};
use iceberg::spec::Datum;
use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableIdent};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::catalog;
use super::config::{LakeCatalog, LakeConfig};
use super::error::LakeError;
use super::ledger;
use super::position::{Found, OWNER};
use super::rows::Projection;
use super::schema::{RowSource, SOURCE_PARTITIONS, TableDefinition, sanitise, tables};
use crate::store::Ledger;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// A table that a store is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryTable {
    /// The events of a family (index in [`Domain::families`]), by sequence number.
    Family(usize),
    /// Received records by outcome, by their row number.
    Ingest,
    /// The dead letters, by id.
    DeadLetters,
}

/// What a lake holds. All methods block; they must not be called from async code.
#[derive(Debug)]
pub struct History {
    runtime: Runtime,
    tables: Vec<Kept>,
    ledger: Ledger,
    owner: Option<Uuid>,
}

/// A table of the lake as it was when the history was opened.
#[derive(Debug)]
struct Kept {
    definition: TableDefinition,
    table: Table,
    /// Its rows under the journal's names and types.
    schema: SchemaRef,
    projection: Projection,
}

impl History {
    /// Opens the lake of `config` under the contracts of `domain`. Changes nothing.
    ///
    /// Fails when there is no lake of that domain, when its tables belong to several owners, and when
    /// no point is known at which it was complete.
    pub fn open(config: &LakeConfig, domain: &Domain) -> Result<Self, LakeError> {
        let file = config.catalog_file();
        if config.catalog == LakeCatalog::Local && !file.exists() {
            return Err(LakeError::NoHistory {
                problem: format!("there is no lake in `{}`", config.dir.display()),
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lake-reader")
            .enable_all()
            .build()
            .map_err(|source| LakeError::Io {
                action: "start a runtime to read",
                path: file,
                source,
            })?;
        let (tables, owner) = runtime.block_on(load(config, domain))?;
        let mut history = Self { runtime, tables, ledger: Ledger::default(), owner };
        history.ledger = history.newest_point(&domain.name)?;
        Ok(history)
    }

    /// The newest point at which the lake is known to be complete.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Identity of the data directory that wrote the tables.
    pub fn owner(&self) -> Option<Uuid> {
        self.owner
    }

    /// Position of the table's last row that is known to be complete, 0 without rows: at or beyond
    /// what the ledger says.
    pub fn end(&self, table: HistoryTable) -> i64 {
        self.kept(table.source())
            .and_then(|kept| Found::of(kept.table.metadata()).position())
            .unwrap_or(0)
    }

    /// Rows with `after < position <= until`, ascending. They have the columns that the store has,
    /// but for those that can be computed from the others; `None` where there is no such table.
    pub fn rows(
        &self,
        table: HistoryTable,
        after: i64,
        until: i64,
    ) -> Result<Option<RecordBatch>, LakeError> {
        let Some(kept) = self.kept(table.source()) else { return Ok(None) };
        let batches = self.runtime.block_on(kept.scan(after, until))?;
        kept.in_order(&batches).map(Some).map_err(LakeError::rows(&kept.definition.name))
    }

    fn kept(&self, source: RowSource) -> Option<&Kept> {
        self.tables.iter().find(|kept| kept.definition.source == source)
    }

    fn newest_point(&self, domain: &str) -> Result<Ledger, LakeError> {
        let none = || LakeError::NoHistory {
            problem: format!(
                "the lake of domain `{domain}` tells no point at which it was complete: its table \
                 `{SOURCE_PARTITIONS}` has no rows"
            ),
        };
        let kept = self.kept(RowSource::Ledger).ok_or_else(none)?;
        let end = Found::of(kept.table.metadata()).position().ok_or_else(none)?;
        let rows = self.runtime.block_on(kept.scan(end - 1, end))?;
        let newest = ledger::newest(&rows).map_err(LakeError::rows(SOURCE_PARTITIONS))?;
        newest.ok_or_else(none)
    }
}

impl HistoryTable {
    fn source(self) -> RowSource {
        match self {
            Self::Family(family) => RowSource::Family(family),
            Self::Ingest => RowSource::Ingest,
            Self::DeadLetters => RowSource::DeadLetters,
        }
    }
}

/// The tables of the domain that the catalog has, and whose they are.
async fn load(
    config: &LakeConfig,
    domain: &Domain,
) -> Result<(Vec<Kept>, Option<Uuid>), LakeError> {
    let catalog = catalog::open(config).await?;
    let namespace = NamespaceIdent::new(sanitise(&domain.name));
    let mut kept = Vec::new();
    let mut owner = None;
    for definition in tables(domain) {
        let name = definition.name.clone();
        let failed = |verb| LakeError::catalog(format!("{verb} lake table `{name}`"));
        let ident = TableIdent::new(namespace.clone(), name.clone());
        if !catalog.table_exists(&ident).await.map_err(failed("look for"))? {
            continue;
        }
        let table = catalog.load_table(&ident).await.map_err(failed("load"))?;
        let told = table.metadata().properties().get(OWNER);
        if let Some(told) = told.and_then(|text| Uuid::from_str(text).ok()) {
            if owner.is_some_and(|owner| owner != told) {
                return Err(LakeError::NoHistory {
                    problem: format!("table `{name}` has another owner than the tables before it"),
                });
            }
            owner = Some(told);
        }
        kept.push(Kept::new(definition, table));
    }
    Ok((kept, owner))
}

impl Kept {
    fn new(definition: TableDefinition, table: Table) -> Self {
        let fields: Vec<Field> = definition
            .columns
            .iter()
            // Whatever the table promises, a column that it gained later has rows without a value.
            .map(|column| Field::new(&column.journal, column.ty.clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let projection = Projection::new(Arc::clone(&schema), |journal| {
            let column = definition.columns.iter().find(|column| column.journal == journal)?;
            Some(column.name.clone())
        });
        Self { definition, table, schema, projection }
    }

    /// Rows with `after < position <= until`, in any order, in the shape of the journal.
    async fn scan(&self, after: i64, until: i64) -> Result<Vec<RecordBatch>, LakeError> {
        let name = &self.definition.name;
        let failed = || LakeError::catalog(format!("read lake table `{name}`"));
        let Some(snapshot) = self.table.metadata().current_snapshot_id() else {
            return Ok(Vec::new());
        };
        let position = self.definition.source.position_column();
        let column = self.definition.columns.iter().find(|column| column.journal == position);
        let position = column.map_or(position, |column| column.name.as_str());
        let known = self.table.current_schema_ref();
        let wanted = self.definition.columns.iter().map(|column| &column.name);
        let there: Vec<&String> =
            wanted.filter(|name| known.field_by_name(name).is_some()).collect();
        let filter = Reference::new(position)
            .greater_than(Datum::long(after))
            .and(Reference::new(position).less_than_or_equal_to(Datum::long(until)));
        let scan = self
            .table
            .scan()
            .snapshot_id(snapshot)
            .select(there)
            .with_filter(filter)
            .with_batch_size(Some(BATCH_ROWS))
            .with_row_group_filtering_enabled(true)
            .build()
            .map_err(failed())?;
        let read = async { scan.to_arrow().await?.try_collect().await };
        let rows: Vec<RecordBatch> = match read.await {
            Ok(rows) => rows,
            // The library does not say which file it was.
            Err(error) => {
                return Err(match self.damaged(&scan).await {
                    Some(file) => {
                        LakeError::NoHistory { problem: format!("lake table `{name}`: {file}") }
                    }
                    None => failed()(error),
                });
            }
        };
        let shaped = rows.iter().map(|rows| self.projection.apply(rows));
        shaped.collect::<Result<_, _>>().map_err(LakeError::rows(name))
    }

    /// The first file of a scan that is not what its manifest says.
    async fn damaged(&self, scan: &TableScan) -> Option<String> {
        let tasks: Vec<FileScanTask> = scan.plan_files().await.ok()?.try_collect().await.ok()?;
        for task in tasks {
            let path = &task.data_file_path;
            let file = match self.table.file_io().new_input(path) {
                Ok(input) => input.metadata().await,
                Err(error) => Err(error),
            };
            match file {
                Ok(file) if file.size == task.file_size_in_bytes => {}
                Ok(file) => {
                    return Some(format!(
                        "file `{path}` has {} bytes, its manifest says {}: put it back from a copy, or \
                         set the table to a snapshot without it",
                        file.size, task.file_size_in_bytes
                    ));
                }
                Err(error) => {
                    return Some(format!(
                        "file `{path}` cannot be read ({error}): put it back from a copy, or set the \
                         table to a snapshot without it"
                    ));
                }
            }
        }
        None
    }

    fn in_order(&self, batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let rows = concat_batches(&self.schema, batches)?;
        let position = self.definition.source.position_column();
        let missing = || ArrowError::SchemaError(format!("there is no column `{position}`"));
        let positions = rows.column_by_name(position).ok_or_else(missing)?;
        let order = sort_to_indices(positions, None, None)?;
        take_record_batch(&rows, &order)
    }
}
