//! Erasure in the lake: files that hold rows of a person are written anew without what tells about them,
//! and nothing leads to the old ones any more.
//!
//! Per table: look through the files for rows that are concerned, which reads a few columns; write each
//! file that has some anew and put it in the place of the old one, a commit per file; look again, until
//! none is found; expire every snapshot older than that, and remove the files that only those had. What was
//! done is not done again, so an erasure that was cut off is just begun anew.
//!
//! The lake must have all rows up to the erasure before: what comes later is not looked at.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use contracts::model::{Domain, column};
use futures::TryStreamExt;
use iceberg::expr::Reference;
use iceberg::spec::Datum;
use iceberg::table::Table;
use iceberg::{ErrorKind, NamespaceIdent, TableIdent};

use super::replace::{self, Purpose};
use super::rewrite::{self, Change, Job};
use super::{Live, Maintenance, NotReplaced, Run, live, remove};
use crate::erase::Eraser;
use crate::erase::letters::{ERASED_DETAIL, Letter};
use crate::fail_point;
use crate::sink::iceberg::config::LakeConfig;
use crate::sink::iceberg::error::LakeError;
use crate::sink::iceberg::lost;
use crate::sink::iceberg::partition::Partitioner;
use crate::sink::iceberg::publish::Publisher;
use crate::sink::iceberg::rows::{Projection, adapt};
use crate::sink::iceberg::schema::{RowSource, TableDefinition, sanitise, tables};
use crate::sink::iceberg::writer::{ROW_GROUP_BYTES, properties};
use crate::sink::iceberg::{catalog, writer};

/// How often a table is looked through while others change its files.
const PASSES: u32 = 10;

/// How far an erasure is.
#[derive(Debug, Clone)]
pub struct EraseProgress {
    /// Table that is worked on.
    pub table: String,
    /// Files looked through in it.
    pub done_files: u64,
    /// Its files.
    pub total_files: u64,
}

/// Keeps the files that are to be removed until the erasure is done ([`crate::erase::Order::files`]), before
/// the last snapshot that leads to them is gone.
pub type Note<'a> = dyn FnMut(BTreeSet<String>) -> Result<(), String> + 'a;

/// Erases from the lake what `eraser` says, and tells how many rows of which table. `None` when `stop`
/// said so before all was done. May be called while a server runs on the directory.
pub fn erase(
    config: &LakeConfig,
    domain: &Domain,
    eraser: &Eraser,
    stop: &dyn Fn() -> bool,
    note: &mut Note<'_>,
    progress: &mut dyn FnMut(&EraseProgress),
) -> Result<Option<BTreeMap<String, u64>>, LakeError> {
    if !config.may_have_tables() {
        return Ok(Some(BTreeMap::new()));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| {
            LakeError::Io { action: "start a runtime for", path: config.dir.clone(), source }
        })?;
    let maintenance = Maintenance::default();
    runtime.block_on(async {
        let catalog = catalog::open(config).await?;
        let publisher = Publisher::open(config).await?;
        let run = Run {
            config: config.clone(),
            maintenance: &maintenance,
            catalog,
            publisher,
            stop,
            done: 0,
            total: 0,
        };
        let namespace = NamespaceIdent::new(sanitise(&domain.name));
        let mut erased = BTreeMap::new();
        let mut files = eraser.order().files.clone();
        for definition in tables(domain) {
            let Some(rows) = Rows::of(&definition, eraser) else { continue };
            let ident = TableIdent::new(namespace.clone(), definition.name.clone());
            let failed = LakeError::catalog(format!("look for lake table `{}`", definition.name));
            if !run.catalog.table_exists(&ident).await.map_err(failed)? {
                continue;
            }
            match run.erase_table(&ident, &rows, progress).await? {
                None => return Ok(None),
                Some(0) => {}
                Some(count) => drop(erased.insert(definition.name.clone(), count)),
            }
            run.forget(&ident, &mut files, note).await?;
        }
        Ok(Some(erased))
    })
}

impl Run<'_> {
    /// `None` when it was stopped.
    async fn erase_table(
        &self,
        ident: &TableIdent,
        rows: &Rows,
        progress: &mut dyn FnMut(&EraseProgress),
    ) -> Result<Option<u64>, LakeError> {
        let name = ident.name();
        let failed = || LakeError::catalog(format!("erase rows of lake table `{name}`"));
        let mut erased = 0;
        // Files do not change.
        let mut clean: HashSet<String> = HashSet::new();
        for _ in 0..PASSES {
            let table = self.load(ident).await?;
            // Files that are written anew would lose its values, of everybody.
            if let Some(snapshot) = table.metadata().current_snapshot() {
                let before = snapshot.schema(table.metadata()).map_err(failed())?;
                lost::refuse_gone(name, &before, table.metadata().current_schema())?;
            }
            let live = live(&table, self.maintenance.target_file_bytes).await.map_err(failed())?;
            if live.files.len() as u64 != live.size.files {
                return Err(LakeError::Foreign {
                    table: name.to_owned(),
                    problem: "has files under a partition that cannot be read any more".to_owned(),
                });
            }
            let mut paths: Vec<&String> =
                live.files.keys().filter(|path| !clean.contains(*path)).collect();
            paths.sort();
            let mut found = 0;
            for (done, path) in paths.iter().enumerate() {
                if (self.stop)() {
                    return Ok(None);
                }
                let concerned = rows.concerned_in(&table, path).await.map_err(failed())?;
                if concerned > 0 {
                    found += concerned;
                    match self.erase_file(ident, &table, &live, path, rows).await {
                        Ok(()) => erased += concerned,
                        // Somebody else replaced it: look again.
                        Err(error) if is_gone(&error) => {}
                        Err(error) => return Err(error),
                    }
                } else {
                    clean.insert((*path).clone());
                }
                progress(&EraseProgress {
                    table: name.to_owned(),
                    done_files: done as u64 + 1,
                    total_files: paths.len() as u64,
                });
            }
            if found == 0 {
                return Ok(Some(erased));
            }
        }
        Err(failed()(iceberg::Error::new(
            ErrorKind::Unexpected,
            format!("after {PASSES} passes there are still rows of the person in it"),
        )))
    }

    /// Writes one file anew and commits that.
    async fn erase_file(
        &self,
        ident: &TableIdent,
        table: &Table,
        live: &Live,
        path: &String,
        rows: &Rows,
    ) -> Result<(), LakeError> {
        let failed =
            || LakeError::catalog(format!("rewrite a file of lake table `{}`", ident.name()));
        let metadata = table.metadata();
        let (Some(file), Some(snapshot)) = (live.files.get(path), metadata.current_snapshot_id())
        else {
            return Ok(());
        };
        let Some(spec) = metadata.partition_spec_by_id(file.spec) else { return Ok(()) };
        let (count, bytes) = (file.file.record_count(), file.file.file_size_in_bytes());
        let job = Job {
            paths: std::slice::from_ref(path),
            spec,
            rows: count,
            // What was one file stays one.
            target: usize::try_from(bytes.saturating_mul(2)).unwrap_or(usize::MAX).max(1 << 20),
        };
        let per_group = count.div_ceil(bytes.div_ceil(ROW_GROUP_BYTES as u64).max(1));
        let properties = properties(&self.config, ident.name(), Some(per_group));
        let partitioner = Partitioner::of_spec(&rows.definition, metadata, spec)?;
        let mut divide = |rows| {
            let parts = partitioner.split(rows).map_err(|error| {
                iceberg::Error::new(ErrorKind::Unexpected, "partition rows").with_source(error)
            });
            Ok(parts?.0)
        };
        let change = rows.change();
        let written =
            rewrite::rewrite(table, snapshot, &job, properties, Some(change), &mut divide);
        let written = written.await.map_err(failed())?;
        fail_point::hit("lake_files_erased");
        let removed = HashSet::from([path.clone()]);
        let replaced =
            self.replace(ident, spec.spec_id(), &removed, &written, Purpose::Erase).await;
        fail_point::hit("lake_erased");
        match replaced {
            Ok(()) => Ok(()),
            Err(NotReplaced::Surely(error)) => {
                writer::remove(table.file_io(), &written).await;
                Err(error)
            }
            Err(NotReplaced::Unknown(error)) => Err(error),
        }
    }

    /// Expires all snapshots that may lead to the old files, and removes what only those led to, and what
    /// is left of `files` from a try before.
    async fn forget(
        &self,
        ident: &TableIdent,
        files: &mut BTreeSet<String>,
        note: &mut Note<'_>,
    ) -> Result<(), LakeError> {
        let name = ident.name();
        let failed = || LakeError::catalog(format!("forget erased rows of lake table `{name}`"));
        let table = self.load(ident).await?;
        for spec in table.metadata().partition_specs_iter() {
            self.replace(ident, spec.spec_id(), &HashSet::new(), &[], Purpose::Forget).await?;
        }
        let before = self.load(ident).await?;
        let Some(head) = before.metadata().current_snapshot() else { return Ok(()) };
        files.extend(remove::reachable(&before).await.map_err(failed())?);
        note(files.clone()).map_err(|message| LakeError::Foreign {
            table: name.to_owned(),
            problem: format!("has files to be removed, which could not be noted ({message})"),
        })?;
        // Those of the same millisecond too; the head stays whatever its time.
        self.expire(ident, head.timestamp_ms() + 1, 1).await?;
        fail_point::hit("lake_before_forget");
        let after = self.load(ident).await?;
        let older = |sequence: i64| sequence < head.sequence_number();
        if let Some(kept) = after.metadata().snapshots().find(|s| older(s.sequence_number())) {
            return Err(LakeError::Foreign {
                table: name.to_owned(),
                problem: format!(
                    "still has the snapshot {}, from before an erasure: somebody gave it a branch or a \
                     tag, remove that",
                    kept.snapshot_id()
                ),
            });
        }
        let leads_to = remove::reachable(&after).await.map_err(failed())?;
        let location = super::files::key(after.metadata().location());
        for file in files.iter().filter(|file| lies_in(file, &location)) {
            if !leads_to.contains(file) {
                after.file_io().delete(file).await.map_err(failed())?;
            }
        }
        files.retain(|file| !lies_in(file, &location));
        Ok(())
    }
}

/// Is the file one of the table at that location? The name of a table may begin like that of another one.
fn lies_in(file: &str, location: &str) -> bool {
    let rest = file.strip_prefix(location.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// Did the commit fail because the file is no more part of the table?
fn is_gone(error: &LakeError) -> bool {
    matches!(error, LakeError::Catalog { source, .. }
        if source.kind() == ErrorKind::DataInvalid && source.message().ends_with(replace::GONE))
}

/// How the rows of one table are erased.
struct Rows {
    definition: TableDefinition,
    eraser: Eraser,
    /// The table's rows under the journal's names.
    to_journal: Projection,
}

impl Rows {
    /// `None` for a table that cannot hold anything of the person.
    fn of(definition: &TableDefinition, eraser: &Eraser) -> Option<Self> {
        match definition.source {
            RowSource::Family(family) if eraser.concerns(family) => {}
            RowSource::DeadLetters => {}
            _ => return None,
        }
        let to_journal = to_journal(definition, |_| true);
        Some(Self { definition: definition.clone(), eraser: eraser.clone(), to_journal })
    }

    /// How many rows of a file are concerned. Reads the columns that it takes, of the tenant alone.
    async fn concerned_in(&self, table: &Table, path: &str) -> iceberg::Result<u64> {
        let wanted = self.wanted();
        let schema = table.metadata().current_schema();
        let columns = self.definition.columns.iter().filter(|column| {
            wanted.contains(column.journal.as_str()) && schema.field_by_name(&column.name).is_some()
        });
        let names: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        let lake = |journal: &str| {
            let mut columns = self.definition.columns.iter();
            columns.find(|column| column.journal == journal).map(|column| column.name.clone())
        };
        let order = self.eraser.order();
        let (tenant, position, until) = match self.definition.source {
            RowSource::Family(_) => (column::TENANT, column::SEQ, order.until_seq),
            _ => ("tenant", "id", order.until_letter),
        };
        let mut scan = table.scan().select(names);
        if let (Some(tenant), Some(position)) = (lake(tenant), lake(position)) {
            scan = scan.with_filter(
                Reference::new(tenant)
                    .equal_to(Datum::string(&order.subject.tenant))
                    .and(Reference::new(position).less_than_or_equal_to(Datum::long(until))),
            );
        }
        let scan = scan.build()?;
        let mut rows = rewrite::read(table, &scan, &[path.to_owned()]).await?;
        let to_journal = to_journal(&self.definition, |journal| wanted.contains(journal));
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            let rows = to_journal.apply(&batch).map_err(external)?;
            let which = match self.definition.source {
                RowSource::Family(family) => self.eraser.concerned(family, &rows),
                _ => letters(&self.eraser, &rows),
            };
            count += which.map_err(external)?.true_count() as u64;
        }
        Ok(count)
    }

    /// Journal columns that tell whether a row is concerned.
    fn wanted(&self) -> BTreeSet<&str> {
        match self.definition.source {
            RowSource::Family(family) => {
                let mut wanted = self.eraser.columns_to_tell(family);
                wanted.extend([column::TENANT, column::SEQ, column::WARNINGS, column::VERSION]);
                wanted
            }
            _ => LETTER.into_iter().collect(),
        }
    }

    fn change(&self) -> Change {
        let (definition, eraser) = (self.definition.clone(), self.eraser.clone());
        let to_journal = self.to_journal.clone();
        Box::new(move |batch| {
            let rows = to_journal.apply(&batch).map_err(external)?;
            let changed = match definition.source {
                RowSource::Family(family) => eraser
                    .erase(family, &rows)
                    .map(|erased| erased.map(|erased| (erased.which, erased.rows, erased.changed))),
                _ => erased_letters(&eraser, &rows),
            };
            let Some((which, rows, changed)) = changed.map_err(external)? else { return Ok(batch) };
            put(&definition, &batch, &which, &rows, &changed).map_err(external)
        })
    }
}

/// From the table's names to the journal's, for some columns.
fn to_journal(definition: &TableDefinition, is_wanted: impl Fn(&str) -> bool) -> Projection {
    let columns = definition.columns.iter().filter(|column| is_wanted(&column.journal));
    let fields: Vec<Field> =
        columns.map(|column| Field::new(&column.journal, column.ty.clone(), true)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    Projection::new(schema, |journal| {
        let column = definition.columns.iter().find(|column| column.journal == journal)?;
        Some(column.name.clone())
    })
}

/// The table's rows with the changed columns of `which`. A column that no contract has any more may hold
/// anything, so there it is made null.
fn put(
    definition: &TableDefinition,
    batch: &RecordBatch,
    which: &BooleanArray,
    rows: &RecordBatch,
    changed: &[String],
) -> Result<RecordBatch, ArrowError> {
    let mut columns = batch.columns().to_vec();
    for (place, field) in batch.schema_ref().fields().iter().enumerate() {
        let known = definition.columns.iter().find(|column| column.name == *field.name());
        let values = match known {
            Some(known) if changed.contains(&known.journal) => {
                let Some(values) = rows.column_by_name(&known.journal) else { continue };
                adapt(values, field.data_type())?
            }
            None if field.is_nullable() => new_null_array(field.data_type(), batch.num_rows()),
            _ => continue,
        };
        columns[place] = zip(which, &values, batch.column(place))?;
    }
    RecordBatch::try_new(batch.schema(), columns)
}

/// Columns of a dead letter, as the store has them, that tell whose it is.
const LETTER: [&str; 7] = ["id", "tenant", "payload", "key", "headers", "detail", "event_id"];

fn letters(eraser: &Eraser, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("there is no column `{name}`"));
    let text = |name: &str| {
        let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        column.ok_or_else(|| missing(name))
    };
    let bytes = |name: &str| {
        let column = rows.column_by_name(name).and_then(|c| c.as_binary_opt::<i32>());
        column.ok_or_else(|| missing(name))
    };
    let ids = rows.column_by_name("id").and_then(|c| c.as_primitive_opt::<Int64Type>());
    let ids = ids.ok_or_else(|| missing("id"))?;
    let (tenant, headers) = (text("tenant")?, text("headers")?);
    let (detail, event_id) = (text("detail")?, text("event_id")?);
    let (payload, key) = (bytes("payload")?, bytes("key")?);
    let which = (0..rows.num_rows()).map(|row| {
        Some(eraser.concerns_letter(&Letter {
            tenant: tenant.value(row),
            id: ids.value(row),
            payload: payload.value(row),
            key: key.is_valid(row).then(|| key.value(row)),
            headers: headers.is_valid(row).then(|| headers.value(row)),
            detail: detail.value(row),
            event_id: event_id.is_valid(row).then(|| event_id.value(row)),
        }))
    });
    Ok(which.collect())
}

type Changed = (BooleanArray, RecordBatch, Vec<String>);

fn erased_letters(eraser: &Eraser, rows: &RecordBatch) -> Result<Option<Changed>, ArrowError> {
    let which = letters(eraser, rows)?;
    if which.true_count() == 0 {
        return Ok(None);
    }
    let count = rows.num_rows();
    let mut columns = rows.columns().to_vec();
    let mut changed = Vec::new();
    for (name, values) in [
        ("payload", Arc::new(BinaryArray::from_iter_values(vec![b""; count])) as ArrayRef),
        ("key", new_null_array(&DataType::Binary, count)),
        ("headers", new_null_array(&DataType::Utf8, count)),
        ("detail", Arc::new(StringArray::from(vec![ERASED_DETAIL; count]))),
        ("event_id", new_null_array(&DataType::Utf8, count)),
    ] {
        columns[rows.schema_ref().index_of(name)?] = values;
        changed.push(name.to_owned());
    }
    Ok(Some((which, RecordBatch::try_new(rows.schema(), columns)?, changed)))
}

fn external(error: ArrowError) -> iceberg::Error {
    iceberg::Error::new(ErrorKind::Unexpected, "erase rows of a data file").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::lies_in;

    #[test]
    fn a_file_of_a_table_with_a_longer_name_is_another_tables() {
        for location in ["/lake/domain/order", "/lake/domain/order/"] {
            assert!(lies_in("/lake/domain/order/data/a.parquet", location));
            assert!(!lies_in("/lake/domain/order_items/data/a.parquet", location));
            assert!(!lies_in("/lake/domain/payment/data/a.parquet", location));
        }
    }
}
