//! One table following the journal: open it, write what is new, commit, go on.
//!
//! Invariant: the rows of the table are exactly the journal rows up to the position of its head
//! snapshot. Files that are finished but not known to be committed are kept in `pending`; nothing
//! else is written for the table until they are settled.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use contracts::model::Domain;
use iceberg::arrow::schema_to_arrow_schema;
use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::transaction::{ApplyTransactionAction, Transaction};
use iceberg::{Catalog, NamespaceIdent, TableCreation, TableIdent};
use uuid::Uuid;

use super::cadence::Cadence;
use super::commit::{Pending, commit};
use super::config::LakeConfig;
use super::error::{LakeError, Retry};
use super::layout;
use super::position::{self, Found, OWNER, Start, choose_start};
use super::rows::Projection;
use super::schema::{RowSource, TableDefinition};
use super::writer::{TableWriter, remove};
use super::{ledger, lost, nulls};
use crate::source::Limits;
use crate::store::{Journal, Ledger};
use crate::{clock, fail_point};

/// What the tables of a lake share.
pub(super) struct Shared {
    pub config: LakeConfig,
    pub journal: Arc<dyn Journal>,
    pub domain: Arc<Domain>,
    pub stop: Arc<AtomicBool>,
}

impl Shared {
    fn check_stop(&self) -> Result<(), LakeError> {
        if self.stop.load(Ordering::Relaxed) { Err(LakeError::Stopped) } else { Ok(()) }
    }
}

/// A table and how far it is.
pub(super) struct TableFollower {
    definition: TableDefinition,
    ident: TableIdent,
    opened: Option<Opened>,
    pending: Option<Pending>,
    /// Snapshots committed by this follower.
    pub commits: u64,
}

/// A table as it was last seen, with what follows from its schema.
struct Opened {
    table: Table,
    projection: Projection,
    /// Position of the head snapshot.
    committed: Option<i64>,
    /// All journal rows up to here are committed: at or after `committed`, because stretches
    /// without a row for this table make no snapshot.
    covered: i64,
    watermark: Option<i64>,
}

impl Opened {
    /// The table as it is after a commit. Somebody may have given it other columns meanwhile.
    fn changes_to(&mut self, table: Table, definition: &TableDefinition) -> Result<(), LakeError> {
        let (before, now) = (self.table.metadata(), table.metadata());
        if before.current_schema_id() != now.current_schema_id() {
            lost::refuse_gone(&definition.name, before.current_schema(), now.current_schema())?;
            self.projection = projection(definition, now)?;
        }
        self.table = table;
        Ok(())
    }
}

/// Rows of one read of the journal.
struct Chunk {
    batches: Vec<RecordBatch>,
    /// All rows up to here are in `batches` or earlier chunks.
    covered: i64,
    more: bool,
}

impl TableFollower {
    pub(super) fn new(namespace: &NamespaceIdent, definition: TableDefinition) -> Self {
        let ident = TableIdent::new(namespace.clone(), definition.name.clone());
        Self { definition, ident, opened: None, pending: None, commits: 0 }
    }

    /// Table name.
    pub(super) fn name(&self) -> &str {
        &self.definition.name
    }

    /// Where its rows come from.
    pub(super) fn source(&self) -> RowSource {
        self.definition.source
    }

    /// When it is to be brought up to date.
    pub(super) fn cadence(&self, config: &LakeConfig) -> Cadence {
        let layout = &self.definition.layout;
        Cadence {
            every: layout.every.unwrap_or(config.interval),
            rows: config.commit_rows,
            bytes: layout.commit_bytes.map(|bytes| bytes as u64),
        }
    }

    /// All rows up to this position are in the table; 0 while the table is not open.
    pub(super) fn covered(&self) -> i64 {
        self.opened.as_ref().map_or(0, |opened| opened.covered)
    }

    /// The table as last seen.
    pub(super) fn table(&self) -> Option<&Table> {
        self.opened.as_ref().map(|opened| &opened.table)
    }

    /// Its metadata.
    pub(super) fn metadata(&self) -> Option<&TableMetadata> {
        self.opened.as_ref().map(|opened| opened.table.metadata())
    }

    /// Brings the table up to the ends that `ledger` names.
    pub(super) async fn advance(
        &mut self,
        shared: &Shared,
        catalog: &Arc<dyn Catalog>,
        ledger: &Ledger,
    ) -> Result<(), LakeError> {
        shared.check_stop()?;
        if self.opened.is_none() {
            let end = self.definition.source.end(ledger);
            self.opened = Some(open(shared, catalog, &self.definition, &self.ident, end).await?);
        }
        self.give_up_old(shared, catalog).await?;
        self.commit_pending(shared, catalog).await?;
        loop {
            let Some(opened) = &mut self.opened else { return Ok(()) };
            let (pending, covered, more) =
                write_files(shared, &self.definition, opened, ledger).await?;
            match pending {
                Some(pending) => {
                    self.pending = Some(pending);
                    self.commit_pending(shared, catalog).await?;
                }
                None => opened.covered = opened.covered.max(covered),
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Gives up files that waited too long for their commit, unless it took effect after all.
    async fn give_up_old(
        &mut self,
        shared: &Shared,
        catalog: &Arc<dyn Catalog>,
    ) -> Result<(), LakeError> {
        let (Some(opened), Some(pending)) = (&self.opened, &self.pending) else { return Ok(()) };
        if pending.written_at.elapsed() <= shared.config.pending_for {
            return Ok(());
        }
        let name = &self.definition.name;
        let action = format!("look for a commit in lake table `{name}`");
        let now = catalog.load_table(&self.ident).await.map_err(LakeError::catalog(action))?;
        if !position::contains_commit(now.metadata(), &pending.commit_id.to_string()) {
            tracing::warn!(table = %name, "files that waited too long are written anew");
            remove(opened.table.file_io(), &pending.files).await;
            self.pending = None;
        }
        Ok(())
    }

    async fn commit_pending(
        &mut self,
        shared: &Shared,
        catalog: &Arc<dyn Catalog>,
    ) -> Result<(), LakeError> {
        let (Some(opened), Some(pending)) = (&mut self.opened, &self.pending) else {
            return Ok(());
        };
        match commit(catalog, &opened.table, pending).await {
            Ok(table) => {
                tracing::debug!(
                    table = %self.definition.name,
                    rows = pending.rows,
                    files = pending.files.len(),
                    position = pending.position,
                    "committed to the lake"
                );
                opened.changes_to(table, &self.definition)?;
                opened.committed = Some(pending.position);
                opened.covered = opened.covered.max(pending.position);
                opened.watermark = pending.watermark;
                self.pending = None;
                self.commits += 1;
                shared.check_stop()
            }
            Err(error) => {
                // Nobody tries again with these files. When a column is gone an attempt without
                // an answer may still take effect, on the head that we know: then they are needed.
                if error.retry() == Retry::Never {
                    if !matches!(error, LakeError::LostColumn { .. }) {
                        remove(opened.table.file_io(), &pending.files).await;
                    }
                    self.pending = None;
                }
                Err(error)
            }
        }
    }
}

/// Writes new rows into files until a commit is due or there are no more: the files, up to where
/// they are complete, and whether there is more to read.
async fn write_files(
    shared: &Shared,
    definition: &TableDefinition,
    opened: &Opened,
    ledger: &Ledger,
) -> Result<(Option<Pending>, i64, bool), LakeError> {
    let commit_id = Uuid::now_v7();
    let mut covered = opened.covered;
    let mut more = true;
    let mut writer: Option<TableWriter> = None;
    let result: Result<(), LakeError> = async {
        while more {
            shared.check_stop()?;
            let chunk = read(shared, definition, covered, ledger)?;
            for rows in &chunk.batches {
                if rows.num_rows() == 0 {
                    continue;
                }
                let rows =
                    opened.projection.apply(rows).map_err(LakeError::rows(&definition.name))?;
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(TableWriter::new(
                        &shared.config,
                        definition,
                        &opened.table,
                        commit_id,
                    )?),
                };
                writer.write(rows).await?;
            }
            (covered, more) = (chunk.covered, chunk.more);
            if let Some(writer) = &writer
                && (writer.rows() >= shared.config.commit_rows
                    || writer.encoded_bytes() >= definition.commit_bytes(&shared.config))
            {
                break;
            }
        }
        Ok(())
    }
    .await;
    let Some(writer) = writer else { return result.map(|()| (None, covered, more)) };
    if let Err(error) = result {
        writer.abandon().await;
        return Err(error);
    }
    let rows = writer.rows() as u64;
    let watermark = opened.watermark.max(writer.watermark());
    let files = writer.finish().await?;
    fail_point::hit("lake_files_written");
    let pending = Pending {
        written_at: Instant::now(),
        commit_id,
        files,
        rows,
        previous: opened.committed,
        position: covered,
        contract_version: definition.contract_version,
        watermark,
    };
    Ok((Some(pending), covered, more))
}

fn read(
    shared: &Shared,
    definition: &TableDefinition,
    after: i64,
    ledger: &Ledger,
) -> Result<Chunk, LakeError> {
    let config = &shared.config;
    let limits = Limits { records: config.chunk_rows.max(1), bytes: config.chunk_bytes };
    let journal = &shared.journal;
    let until = definition.source.end(ledger);
    let failed = |source| LakeError::Journal { table: definition.name.clone(), source };
    let rows = LakeError::rows(&definition.name);
    if until <= after {
        return Ok(Chunk { batches: Vec::new(), covered: after, more: false });
    }
    let (batches, reached) = match definition.source {
        RowSource::Family(family) => {
            let found = journal.rows(family, after, until, limits).map_err(failed)?;
            let family = &shared.domain.families[family];
            let named = found.batches.iter().map(|rows| nulls::with_names(family, rows));
            (named.collect::<Result<_, _>>().map_err(rows)?, found.reached)
        }
        RowSource::DeadLetters => {
            let batches = journal.dead_letters(after, until, limits).map_err(failed)?;
            let reached = last_position(definition, &batches)?.unwrap_or(until);
            (batches, reached)
        }
        RowSource::Ingest => {
            let found = journal.ingest(after, until, limits).map_err(failed)?;
            (found.batches, found.reached)
        }
        RowSource::Ledger => (vec![ledger::rows(ledger, clock::now()).map_err(rows)?], until),
    };
    if reached <= after {
        return Err(LakeError::Rows {
            table: definition.name.clone(),
            message: format!("the journal returned rows at or before position {after} again"),
        });
    }
    Ok(Chunk { batches, covered: reached, more: reached < until })
}

/// Position of the last row.
fn last_position(
    definition: &TableDefinition,
    batches: &[RecordBatch],
) -> Result<Option<i64>, LakeError> {
    let Some(batch) = batches.iter().rev().find(|batch| batch.num_rows() > 0) else {
        return Ok(None);
    };
    let name = definition.source.position_column();
    batch
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .filter(|positions| positions.null_count() == 0)
        .map(|positions| Some(positions.value(positions.len() - 1)))
        .ok_or_else(|| LakeError::Rows {
            table: definition.name.clone(),
            message: format!("journal rows have no column `{name}`"),
        })
}

/// Loads or creates the table, adds the columns it lacks, gives it its layout and finds out where to go on.
/// `end` is the end of what it follows.
async fn open(
    shared: &Shared,
    catalog: &Arc<dyn Catalog>,
    definition: &TableDefinition,
    ident: &TableIdent,
    end: i64,
) -> Result<Opened, LakeError> {
    let name = &definition.name;
    let table = load_or_create(shared, catalog, definition, ident).await?;
    if !shared.config.is_ours(table.metadata()) {
        return Err(match table.metadata().properties().get(OWNER) {
            Some(owner) => LakeError::Owned { table: name.clone(), owner: owner.clone() },
            None => definition.foreign("is there and tells no owner"),
        });
    }
    let table = evolve(catalog, definition, table).await?;
    let table = layout::evolve(&shared.config, catalog, definition, table).await?;
    let found = Found::of(table.metadata());
    let covered = match choose_start(found, end) {
        Start::Fresh => 0,
        Start::After(position) => position,
        Start::RefuseUnmarked => {
            return Err(definition.foreign("has rows but no snapshot says up to which position"));
        }
        Start::RefuseAhead { position } => {
            return Err(LakeError::AheadOfJournal {
                table: name.clone(),
                position,
                journal_end: end,
            });
        }
    };
    Ok(Opened {
        projection: projection(definition, table.metadata())?,
        committed: found.position(),
        covered,
        watermark: position::watermark(table.metadata()),
        table,
    })
}

/// From journal rows to rows of the table.
fn projection(
    definition: &TableDefinition,
    metadata: &TableMetadata,
) -> Result<Projection, LakeError> {
    let name = &definition.name;
    let arrow = schema_to_arrow_schema(metadata.current_schema())
        .map_err(LakeError::catalog(format!("read the schema of lake table `{name}`")))?;
    Ok(Projection::new(Arc::new(arrow), |column| {
        let column = definition.columns.iter().find(|c| c.name == column)?;
        Some(column.journal.clone())
    }))
}

async fn load_or_create(
    shared: &Shared,
    catalog: &Arc<dyn Catalog>,
    definition: &TableDefinition,
    ident: &TableIdent,
) -> Result<Table, LakeError> {
    let failed =
        |verb: &str| LakeError::catalog(format!("{verb} lake table `{}`", definition.name));
    let namespace = ident.namespace();
    if !catalog.namespace_exists(namespace).await.map_err(failed("look for"))? {
        catalog
            .create_namespace(namespace, Default::default())
            .await
            .map_err(failed("create the namespace of"))?;
    }
    if catalog.table_exists(ident).await.map_err(failed("look for"))? {
        return catalog.load_table(ident).await.map_err(failed("load"));
    }
    let target = shared.config.target_file_bytes.to_string();
    let properties = [
        ("write.format.default", "parquet".to_owned()),
        ("write.parquet.compression-codec", "zstd".to_owned()),
        ("write.target-file-size-bytes", target),
    ];
    let owner = shared.config.owner.map(|owner| (OWNER, owner.to_string()));
    let properties = properties.into_iter().chain(owner);
    let properties: HashMap<_, _> =
        properties.map(|(key, value)| (key.to_owned(), value)).collect();
    let schema = definition.schema()?;
    let creation = TableCreation::builder()
        .name(definition.name.clone())
        .partition_spec(definition.partition_spec(&schema)?)
        .sort_order(definition.sort_order(&schema)?)
        .schema(schema)
        .properties(properties)
        .build();
    catalog.create_table(namespace, creation).await.map_err(failed("create"))?;
    // Loaded again, because the catalog does not tell whether its transaction took effect.
    catalog.load_table(ident).await.map_err(failed("load"))
}

/// Adds the columns that the table lacks.
async fn evolve(
    catalog: &Arc<dyn Catalog>,
    definition: &TableDefinition,
    table: Table,
) -> Result<Table, LakeError> {
    let additions = definition.additions(table.metadata().current_schema())?;
    if additions.is_empty() {
        return Ok(table);
    }
    lost::refuse(definition, table.metadata(), &additions)?;
    let name = &definition.name;
    let failed = || LakeError::catalog(format!("add columns to lake table `{name}`"));
    let transaction = Transaction::new(&table);
    let update = additions.iter().fold(transaction.update_schema(), |update, addition| {
        update.add_column(addition.to_add_column())
    });
    let transaction = update.apply(transaction).map_err(failed())?;
    transaction.commit(catalog.as_ref()).await.map_err(failed())?;
    let table = catalog.load_table(table.identifier()).await.map_err(failed())?;
    if definition.additions(table.metadata().current_schema())?.is_empty() {
        tracing::info!(table = %name, columns = additions.len(), "added columns to the lake table");
        Ok(table)
    } else {
        Err(failed()(iceberg::Error::new(
            iceberg::ErrorKind::Unexpected,
            "the catalog reported success, the table says no",
        )))
    }
}
