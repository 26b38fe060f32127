//! A small domain, a journal in memory, and readers of what the lake holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use contracts::graph::Graph;
use contracts::model::{ColumnDef, Domain, Family, Ingest, UnknownEvent, column};
use contracts::types::Type;
use futures::TryStreamExt;
use iceberg::table::Table;
use iceberg::{Catalog, NamespaceIdent, TableIdent};

use super::super::catalog;
use super::super::config::LakeConfig;
use super::super::table::{Shared, TableFollower};
use super::super::{Lake, LakeHandle};
use crate::source::Limits;
use crate::store::{
    INGEST_ROW, Journal, JournalRows, Ledger, LedgerPartition, StoreError, dead_letter_schema,
};

pub(super) const DAY: i64 = 86_400_000_000;
/// 2026-01-31T10:00:00Z.
pub(super) const NOON: i64 = 1_769_853_600_000_000;

pub(super) fn decimal(precision: u8, scale: i8) -> Type {
    Type::Decimal { precision, scale }
}

pub(super) fn list_of(members: &[(&str, Type)]) -> Type {
    Type::List(Box::new(Type::Struct(
        members.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect(),
    )))
}

/// Fields of the first family of [`domain`].
pub(super) fn purchase_fields() -> Vec<(&'static str, Type)> {
    vec![
        ("customer", Type::String),
        ("total", decimal(38, 2)),
        ("items", list_of(&[("name", Type::String), ("price", decimal(12, 2))])),
    ]
}

pub(super) fn family(index: usize, name: &str, fields: &[(&str, Type)]) -> Family {
    let column = |(name, ty): &(&str, Type)| ColumnDef { name: (*name).to_owned(), ty: ty.clone() };
    Family {
        index,
        name: name.to_owned(),
        versions: Vec::new(),
        fields: fields.iter().map(column).collect(),
        enriched: vec![ColumnDef { name: "size".to_owned(), ty: Type::String }],
        computed: Vec::new(),
    }
}

pub(super) fn domain_of(families: Vec<Family>) -> Arc<Domain> {
    Arc::new(Domain {
        name: "Test-Domain".to_owned(),
        families,
        entities: Vec::new(),
        metrics: Vec::new(),
        ingest: Ingest::default(),
        unknown_event: UnknownEvent::DeadLetter,
        graph: Graph::default(),
        documents: Vec::new(),
        type_places: Vec::new(),
    })
}

/// Two families: `purchase.made` with nested values and `visit` with next to nothing.
pub(super) fn domain() -> Arc<Domain> {
    domain_of(vec![
        family(0, "purchase.made", &purchase_fields()),
        family(1, "visit", &[("page", Type::String)]),
    ])
}

/// Journal rows of a family: (sequence number, event time) per row; the values follow from the
/// sequence number, some are null.
pub(super) fn journal_rows(family: &Family, rows: &[(i64, i64)]) -> RecordBatch {
    let schema = family.schema();
    let columns = schema.fields().iter().map(|field| journal_column(field, rows)).collect();
    RecordBatch::try_new(schema, columns).expect("columns fit the family's schema")
}

fn journal_column(field: &Field, rows: &[(i64, i64)]) -> ArrayRef {
    let seqs = rows.iter().map(|(seq, _)| *seq);
    let present = |seq: i64| field.name().starts_with('_') || seq % 7 != 0;
    match field.name().as_str() {
        column::TIME => Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|(_, time)| *time),
        )),
        column::ARRIVED_AT => Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|(_, time)| time + 1_000),
        )),
        column::SEQ | column::OFFSET => Arc::new(Int64Array::from_iter_values(seqs)),
        column::EXTRA | column::WARNINGS => new_null_array(field.data_type(), rows.len()),
        name => match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from_iter(
                seqs.map(|seq| present(seq).then(|| format!("{name}-{seq}"))),
            )),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(seqs.map(|seq| seq % 3))),
            DataType::Boolean => {
                Arc::new(BooleanArray::from_iter(seqs.map(|seq| Some(seq % 50 == 0))))
            }
            DataType::Decimal128(precision, scale) => Arc::new(
                Decimal128Array::from_iter(
                    seqs.map(|seq| present(seq).then(|| i128::from(seq) * 1_005 - 7)),
                )
                .with_precision_and_scale(*precision, *scale)
                .expect("a valid decimal type"),
            ),
            DataType::List(element) => {
                let lengths: Vec<usize> =
                    rows.iter().map(|(seq, _)| usize::try_from(seq % 3).unwrap_or(0)).collect();
                let total: usize = lengths.iter().sum();
                let inner: Vec<(i64, i64)> = (1..).take(total).map(|n| (n, NOON)).collect();
                Arc::new(ListArray::new(
                    Arc::clone(element),
                    OffsetBuffer::from_lengths(lengths),
                    journal_column(element, &inner),
                    Some(seqs.map(present).collect::<Vec<_>>().into()),
                ))
            }
            DataType::Struct(members) => Arc::new(StructArray::new(
                members.clone(),
                members.iter().map(|member| journal_column(member, rows)).collect(),
                Some(seqs.map(present).collect::<Vec<_>>().into()),
            )),
            _ => new_null_array(field.data_type(), rows.len()),
        },
    }
}

pub(super) fn dead_letter_rows(ids: std::ops::Range<i64>) -> RecordBatch {
    let schema = dead_letter_schema();
    let count = usize::try_from(ids.end - ids.start).expect("an ascending range");
    let columns = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match (field.name().as_str(), field.data_type()) {
                ("id" | "offset", _) => Arc::new(Int64Array::from_iter_values(ids.clone())),
                ("arrived_at", _) => Arc::new(TimestampMicrosecondArray::from_iter_values(
                    ids.clone().map(|id| NOON + id),
                )),
                (_, DataType::Binary) => Arc::new(BinaryArray::from_iter_values(
                    ids.clone().map(|id| [0xff, 0x00, u8::try_from(id % 256).unwrap_or(0)]),
                )),
                (name, DataType::Utf8) if !field.is_nullable() => Arc::new(
                    StringArray::from_iter_values(ids.clone().map(|id| format!("{name}-{id}"))),
                ),
                (_, ty) => new_null_array(ty, count),
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).expect("columns fit the schema of dead letters")
}

/// A journal in memory.
#[derive(Default)]
pub(super) struct MemoryJournal {
    families: Mutex<BTreeMap<usize, Vec<RecordBatch>>>,
    dead_letters: Mutex<Vec<RecordBatch>>,
    ingest: Mutex<Vec<RecordBatch>>,
    partitions: Mutex<Vec<LedgerPartition>>,
    /// Number of calls of [`Journal::rows`] that fail first.
    pub fail_reads: AtomicUsize,
}

impl MemoryJournal {
    pub(super) fn append(&self, family: &Family, rows: &[(i64, i64)]) {
        self.append_batch(family.index, journal_rows(family, rows));
    }

    pub(super) fn append_batch(&self, family: usize, rows: RecordBatch) {
        self.families
            .lock()
            .expect("no test panics with the lock")
            .entry(family)
            .or_default()
            .push(rows);
    }

    pub(super) fn append_dead_letters(&self, ids: std::ops::Range<i64>) {
        self.dead_letters.lock().expect("no test panics with the lock").push(dead_letter_rows(ids));
    }

    /// All rows of a family as one batch.
    pub(super) fn all(&self, family: usize) -> RecordBatch {
        let families = self.families.lock().expect("no test panics with the lock");
        let batches = &families[&family];
        concat_batches(&batches[0].schema(), batches).expect("one schema per family")
    }
}

impl Journal for MemoryJournal {
    fn last_seq(&self) -> Result<i64, StoreError> {
        let families = self.families.lock().expect("no test panics with the lock");
        let positions = families.values().flatten().flat_map(|batch| int64(batch, column::SEQ));
        Ok(positions.max().unwrap_or(0))
    }

    fn rows(
        &self,
        family: usize,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<JournalRows, StoreError> {
        let failing =
            self.fail_reads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(StoreError::Failed {
                context: "read journal".to_owned(),
                message: "asked to fail".to_owned(),
                retry: true,
            });
        }
        let families = self.families.lock().expect("no test panics with the lock");
        let batches = families.get(&family).map_or(&[][..], Vec::as_slice);
        let batches = select(batches, column::SEQ, after, until, limits.records);
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let last = batches.last().and_then(|batch| int64(batch, column::SEQ).last().copied());
        let reached = if count < limits.records { until } else { last.unwrap_or(after) };
        Ok(JournalRows { batches, reached })
    }

    fn dead_letters(
        &self,
        after: i64,
        until: i64,
        limits: Limits,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let batches = self.dead_letters.lock().expect("no test panics with the lock");
        Ok(select(&batches, "id", after, until, limits.records))
    }

    fn ingest(&self, after: i64, until: i64, limits: Limits) -> Result<JournalRows, StoreError> {
        let batches = self.ingest.lock().expect("no test panics with the lock");
        let batches = select(&batches, INGEST_ROW, after, until, limits.records);
        let last = batches.last().and_then(|batch| int64(batch, INGEST_ROW).last().copied());
        Ok(JournalRows { reached: last.unwrap_or(until), batches })
    }

    fn ledger(&self, _: Option<&Ledger>) -> Result<Ledger, StoreError> {
        let ingest = self.ingest.lock().expect("no test panics with the lock");
        let rows = ingest.iter().flat_map(|batch| int64(batch, INGEST_ROW));
        Ok(Ledger {
            last_seq: self.last_seq()?,
            last_ingest: rows.max().unwrap_or(0),
            last_dead_letter: self.last_dead_letter(0)?,
            partitions: self.partitions.lock().expect("no test panics with the lock").clone(),
        })
    }

    fn last_dead_letter(&self, known: i64) -> Result<i64, StoreError> {
        let batches = self.dead_letters.lock().expect("no test panics with the lock");
        let ids = batches.iter().flat_map(|batch| int64(batch, "id"));
        Ok(ids.max().unwrap_or(0).max(known))
    }
}

fn select(
    batches: &[RecordBatch],
    position: &str,
    after: i64,
    until: i64,
    max_rows: usize,
) -> Vec<RecordBatch> {
    let mut selected = Vec::new();
    let mut left = max_rows;
    for batch in batches {
        let positions = int64(batch, position);
        let start = positions.partition_point(|p| *p <= after);
        let end = positions.partition_point(|p| *p <= until).min(start + left);
        if end > start {
            selected.push(batch.slice(start, end - start));
            left -= end - start;
        }
    }
    selected
}

pub(super) fn int64(batch: &RecordBatch, name: &str) -> Vec<i64> {
    let column = batch.column_by_name(name).expect("the column exists");
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// A ledger of a journal that ends there.
pub(super) fn ending(last_seq: i64) -> Ledger {
    Ledger { last_seq, ..Ledger::default() }
}

/// Settings for tests: commits only when asked.
pub(super) fn config(data_dir: &Path) -> LakeConfig {
    LakeConfig {
        interval: Duration::from_secs(3_600),
        poll_interval: Duration::from_millis(5),
        flush_timeout: Duration::from_secs(20),
        ..LakeConfig::new(data_dir)
    }
}

pub(super) fn spawn(
    config: LakeConfig,
    journal: &Arc<MemoryJournal>,
    domain: &Arc<Domain>,
) -> LakeHandle {
    let journal: Arc<dyn Journal> = Arc::clone(journal) as _;
    Lake::spawn(config, journal, Arc::clone(domain)).expect("the follower starts")
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}

pub(super) async fn open_catalog(data_dir: &Path) -> Arc<dyn Catalog> {
    catalog::open(&config(data_dir)).await.expect("the catalog opens")
}

pub(super) async fn load(data_dir: &Path, table: &str) -> Table {
    let ident = TableIdent::new(namespace(), table.to_owned());
    open_catalog(data_dir).await.load_table(&ident).await.expect("the table loads")
}

pub(super) fn namespace() -> NamespaceIdent {
    NamespaceIdent::new("test_domain".to_owned())
}

/// All rows of a table in order of `position`, read with the Iceberg library.
pub(super) fn rows_of(data_dir: &Path, table: &str, position: &str) -> RecordBatch {
    block_on(async {
        let table = load(data_dir, table).await;
        let schema = iceberg::arrow::schema_to_arrow_schema(table.metadata().current_schema());
        let columns: Vec<_> = schema
            .expect("an Arrow schema")
            .fields()
            .iter()
            .map(|field| field.name().clone())
            // The library's reader (0.10.1) cannot read a struct from before it gained a member, nor
            // put nulls for a column of bytes that a file does not have; such columns are read file
            // by file.
            .filter(|name| {
                table.metadata().schemas_iter().len() == 1
                    || !["items", "key"].contains(&name.as_str())
            })
            .collect();
        let stream = table.scan().select(columns).build().expect("a scan").to_arrow().await;
        let batches: Vec<RecordBatch> =
            stream.expect("a stream").try_collect().await.expect("the files can be read");
        in_order(&batches, position)
    })
}

fn in_order(batches: &[RecordBatch], position: &str) -> RecordBatch {
    let Some(first) = batches.first() else {
        return RecordBatch::new_empty(Arc::new(Schema::empty()));
    };
    let rows = concat_batches(&first.schema(), batches).expect("one schema");
    let positions = rows.column_by_name(position).expect("the position column");
    let order = arrow::compute::sort_to_indices(positions, None, None).expect("positions sort");
    arrow::compute::take_record_batch(&rows, &order).expect("rows in order")
}

/// Values of a column as text, without the zone that instants gain in the lake.
pub(super) fn shown(rows: &RecordBatch, column: &str) -> Vec<String> {
    let column = rows.column_by_name(column).expect("the column");
    let options = FormatOptions::default().with_null("null");
    let values = ArrayFormatter::try_new(column.as_ref(), &options).expect("values can be shown");
    (0..rows.num_rows()).map(|row| values.value(row).to_string().replace('Z', "")).collect()
}

/// All files below a folder with that extension.
pub(super) fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

/// A table follower outside of a [`Lake`], to drive it step by step.
pub(super) fn follower(
    config: LakeConfig,
    journal: &Arc<MemoryJournal>,
    domain: &Arc<Domain>,
    table: &str,
) -> (Shared, TableFollower) {
    let journal: Arc<dyn Journal> = Arc::clone(journal) as _;
    let shared = Shared {
        config,
        journal,
        domain: Arc::clone(domain),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let definition = super::super::schema::tables(domain)
        .into_iter()
        .find(|definition| definition.name == table)
        .expect("the domain has the table");
    (shared, TableFollower::new(&namespace(), definition))
}
