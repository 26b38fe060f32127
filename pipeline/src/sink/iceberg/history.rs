//! Reading the lake back: rows as the journal had them, and the point up to which they are complete.
//!
//! Rows come in stretches of positions, each in ascending order, under the journal's names and types.
//! A stretch touches only the files and row groups whose statistics say that they may have some of it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use contracts::model::{Domain, column};
use futures::TryStreamExt;
use iceberg::expr::{Predicate, Reference};
use iceberg::scan::{ArrowRecordBatchStream, FileScanTask, TableScan};
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

/// Which rows of a table to read, all bounds together. Names of columns are those of the journal.
#[derive(Debug, Clone, Default)]
pub struct HistoryRange<'a> {
    /// Only rows after this position (sequence number, row number or id), of which the first is 1.
    pub after: i64,
    /// Only rows up to this position.
    pub until: i64,
    /// Only this tenant's.
    pub tenant: Option<&'a str>,
    /// Only rows whose time in this column is at or after the first and before the second bound, µs.
    /// Days of the table's partitions outside of them are not read.
    pub time: Option<(&'a str, Option<i64>, Option<i64>)>,
    /// Only events with one of these ids.
    pub ids: Option<&'a [&'a str]>,
    /// Only these columns; all when `None`.
    pub columns: Option<&'a [&'a str]>,
    /// Give up when the rows are not there by then.
    pub deadline: Option<Instant>,
}

/// What a lake holds. All methods block; they must not be called from async code.
#[derive(Debug)]
pub struct History {
    /// Until the end: a runtime must not be waited for where it may be dropped.
    runtime: Option<Runtime>,
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
        let runtime = Some(runtime);
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
        let batches = self.block_on(kept.scan(after, until))?;
        kept.in_order(&batches).map(Some).map_err(LakeError::rows(&kept.definition.name))
    }

    /// Calls `take` with the rows of `range` in batches, in no order and never holding all of them; an
    /// error of `take` ends it. Columns that the table does not have yet are null.
    pub fn each<E: From<LakeError>>(
        &self,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut dyn FnMut(&RecordBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(kept) = self.kept(table.source()) else { return Ok(()) };
        let Some(projection) = kept.projection_of(range.columns) else { return Ok(()) };
        let predicate = kept.predicate(range);
        self.block_on(async {
            let Some(mut rows) = kept.stream(predicate, range.columns).await? else {
                return Ok(());
            };
            let name = &kept.definition.name;
            let failed = || LakeError::catalog(format!("read lake table `{name}`"));
            loop {
                let next = rows.try_next();
                let next = match range.deadline {
                    None => next.await,
                    Some(at) => match tokio::time::timeout_at(at.into(), next).await {
                        Ok(next) => next,
                        Err(_) => return Err(kept.too_slow().into()),
                    },
                };
                let Some(batch) = next.map_err(failed())? else { return Ok(()) };
                take(&projection.apply(&batch).map_err(LakeError::rows(name))?)?;
            }
        })
    }

    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("taken only when dropped").block_on(work)
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
        let rows = self.block_on(kept.scan(end - 1, end))?;
        let newest = ledger::newest(&rows).map_err(LakeError::rows(SOURCE_PARTITIONS))?;
        newest.ok_or_else(none)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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
        let projection = projection(&definition, Arc::clone(&schema));
        Self { definition, table, schema, projection }
    }

    /// Rows with `after < position <= until`, in any order, in the shape of the journal.
    async fn scan(&self, after: i64, until: i64) -> Result<Vec<RecordBatch>, LakeError> {
        let name = &self.definition.name;
        let position = self.lake_name(self.definition.source.position_column());
        let predicate = Reference::new(position)
            .greater_than(Datum::long(after))
            .and(Reference::new(position).less_than_or_equal_to(Datum::long(until)));
        let Some(scan) = self.plan(predicate, None)? else { return Ok(Vec::new()) };
        let read = async { scan.to_arrow().await?.try_collect().await };
        let rows: Vec<RecordBatch> = match read.await {
            Ok(rows) => rows,
            // The library does not say which file it was.
            Err(error) => {
                return Err(match self.damaged(&scan).await {
                    Some(file) => {
                        LakeError::NoHistory { problem: format!("lake table `{name}`: {file}") }
                    }
                    None => LakeError::catalog(format!("read lake table `{name}`"))(error),
                });
            }
        };
        let shaped = rows.iter().map(|rows| self.projection.apply(rows));
        shaped.collect::<Result<_, _>>().map_err(LakeError::rows(name))
    }

    /// What is to be read; `None` when the table has no rows. `columns`: the journal's names of those
    /// wanted.
    fn plan(
        &self,
        predicate: Predicate,
        columns: Option<&[&str]>,
    ) -> Result<Option<TableScan>, LakeError> {
        let failed = || LakeError::catalog(format!("read lake table `{}`", self.definition.name));
        let metadata = self.table.metadata();
        let Some(snapshot) = metadata.current_snapshot() else { return Ok(None) };
        // The snapshot's own: a column that was added since, or dropped, is of no file of it.
        let known = snapshot.schema(metadata).map_err(failed())?;
        let wanted = self.definition.columns.iter().filter(|column| {
            columns.is_none_or(|columns| columns.contains(&column.journal.as_str()))
        });
        let there: Vec<&String> = wanted
            .map(|column| &column.name)
            .filter(|name| known.field_by_name(name).is_some())
            .collect();
        let scan = self
            .table
            .scan()
            .snapshot_id(snapshot.snapshot_id())
            .select(there)
            .with_filter(predicate)
            .with_batch_size(Some(BATCH_ROWS))
            .with_row_group_filtering_enabled(true)
            .build()
            .map_err(failed())?;
        Ok(Some(scan))
    }

    /// Rows of the table, under its own names; `None` when it has none.
    async fn stream(
        &self,
        predicate: Predicate,
        columns: Option<&[&str]>,
    ) -> Result<Option<ArrowRecordBatchStream>, LakeError> {
        let failed = LakeError::catalog(format!("read lake table `{}`", self.definition.name));
        match self.plan(predicate, columns)? {
            Some(scan) => scan.to_arrow().await.map(Some).map_err(failed),
            None => Ok(None),
        }
    }

    /// The table's name of a column of the journal.
    fn lake_name<'a>(&'a self, journal: &'a str) -> &'a str {
        let column = self.definition.columns.iter().find(|column| column.journal == journal);
        column.map_or(journal, |column| column.name.as_str())
    }

    fn too_slow(&self) -> LakeError {
        LakeError::Rows {
            table: self.definition.name.clone(),
            message: "the rows did not come in time".to_owned(),
        }
    }

    fn predicate(&self, range: &HistoryRange<'_>) -> Predicate {
        let column = |journal| Reference::new(self.lake_name(journal));
        let position = self.definition.source.position_column();
        let mut all = column(position).less_than_or_equal_to(Datum::long(range.until));
        if range.after > 0 {
            all = all.and(column(position).greater_than(Datum::long(range.after)));
        }
        if let Some(tenant) = range.tenant {
            // The dead letters have it under another name than the journal.
            let name = match self.definition.source {
                RowSource::DeadLetters => "tenant",
                _ => column::TENANT,
            };
            all = all.and(column(name).equal_to(Datum::string(tenant)));
        }
        if let Some((time, from, before)) = range.time {
            if let Some(from) = from {
                let from = Datum::timestamptz_micros(from);
                all = all.and(column(time).greater_than_or_equal_to(from));
            }
            if let Some(before) = before {
                all = all.and(column(time).less_than(Datum::timestamptz_micros(before)));
            }
        }
        if let Some(ids) = range.ids {
            all = all.and(column(column::ID).is_in(ids.iter().map(Datum::string)));
        }
        all
    }

    /// `None` when the table has none of the columns.
    fn projection_of(&self, columns: Option<&[&str]>) -> Option<Projection> {
        let Some(columns) = columns else { return Some(self.projection.clone()) };
        let fields = columns.iter().map(|name| self.schema.field_with_name(name).ok().cloned());
        let schema = Schema::new(fields.collect::<Option<Vec<Field>>>()?);
        Some(projection(&self.definition, Arc::new(schema)))
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

/// From the table's names to the journal's.
fn projection(definition: &TableDefinition, journal: SchemaRef) -> Projection {
    Projection::new(journal, |journal| {
        let column = definition.columns.iter().find(|column| column.journal == journal)?;
        Some(column.name.clone())
    })
}
