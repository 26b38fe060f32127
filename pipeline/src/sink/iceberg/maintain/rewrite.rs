//! The rows of some data files, written into new ones: the same rows in the same order, unless they are
//! changed on the way.
//!
//! Their order is that of the files one after the other. In a table with a sort order they are sorted as
//! the writer of new rows does it, in runs of bounded size: the files may hold many times more than
//! fits into memory, so a merged file is sorted as a whole only when it is small.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use iceberg::scan::{ArrowRecordBatchStream, TableScan};
use iceberg::spec::{DataFile, DataFileFormat, PartitionKey, PartitionSpec, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::DataFileWriterBuilder;
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{IcebergWriter, IcebergWriterBuilder};
use iceberg::{Error, ErrorKind, Result};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use crate::sink::iceberg::partition::{Folders, Key, Part};
use crate::sink::iceberg::sort::Sorter;
use crate::sink::iceberg::writer::{
    BUFFER_BYTES, ParquetFileWriter, ParquetFileWriterBuilder, remove,
};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Changes rows on their way into new files.
pub(super) type Change = Box<dyn FnMut(RecordBatch) -> Result<RecordBatch> + Send>;

/// Says which partition rows belong to.
pub(super) type Divide<'a> = dyn FnMut(RecordBatch) -> Result<Vec<Part>> + 'a;

/// What is rewritten together.
pub(super) struct Job<'a> {
    /// Paths of live files of one partition, in the order in which their rows are to be.
    pub paths: &'a [String],
    /// The partition spec of the files, old and new.
    pub spec: &'a PartitionSpec,
    /// Rows in the files.
    pub rows: u64,
    /// Size at which a new file begins.
    pub target: usize,
}

/// Writes the rows of `job` anew, as the table's snapshot `snapshot` has them.
pub(super) async fn rewrite(
    table: &Table,
    snapshot: i64,
    job: &Job<'_>,
    properties: WriterProperties,
    change: Option<Change>,
    divide: &mut Divide<'_>,
) -> Result<Vec<DataFile>> {
    let scan = table.scan().snapshot_id(snapshot).select_all().build()?;
    let rows = read(table, &scan, job.paths).await?;
    let metadata = table.metadata();
    let schema = table.current_schema_ref();
    let names =
        DefaultFileNameGenerator::new(Uuid::now_v7().to_string(), None, DataFileFormat::Parquet);
    let rolling = RollingFileWriterBuilder::new(
        ParquetWriterBuilder::new(properties, schema.clone()),
        job.target,
        table.file_io().clone(),
        Folders::new(metadata)?,
        names,
    );
    let mut writers = Writers {
        key: PartitionKey::new(job.spec.clone(), schema, Struct::empty()),
        builder: DataFileWriterBuilder::new(rolling),
        open: BTreeMap::new(),
    };
    let rows = match change {
        None => rows,
        Some(mut change) => rows.and_then(move |rows| std::future::ready(change(rows))).boxed(),
    };
    let mut rows = Sorted::new(Sorter::of(metadata), rows);
    let mut failure = None;
    loop {
        let step = match rows.next().await {
            Ok(Some(batch)) => match divide(batch) {
                Ok(parts) => writers.write(parts).await,
                Err(error) => Err(error),
            },
            Ok(None) => break,
            Err(error) => Err(error),
        };
        if let Err(error) = step {
            failure = Some(error);
            break;
        }
    }
    // Closing is the way to learn the names of the files, also of those to be removed.
    let files = writers.close().await?;
    let written: u64 = files.iter().map(DataFile::record_count).sum();
    if failure.is_none() && written != job.rows {
        let message = format!("{written} rows were written for {}", job.rows);
        failure = Some(Error::new(ErrorKind::DataInvalid, message));
    }
    match failure {
        None => Ok(files),
        Some(error) => {
            remove(table.file_io(), &files).await;
            Err(error)
        }
    }
}

/// The rows of some files of a scan, one file after the other in the order of `paths`.
pub(super) async fn read(
    table: &Table,
    scan: &TableScan,
    paths: &[String],
) -> Result<ArrowRecordBatchStream> {
    let places: HashMap<&str, usize> =
        paths.iter().enumerate().map(|(place, path)| (path.as_str(), place)).collect();
    let mut tasks: Vec<_> = scan
        .plan_files()
        .await?
        .try_filter(|task| std::future::ready(places.contains_key(task.data_file_path())))
        .try_collect()
        .await?;
    if tasks.iter().any(|task| !task.deletes.is_empty()) {
        let message = "rows were deleted by somebody else's delete files, which are not rewritten";
        return Err(Error::new(ErrorKind::FeatureUnsupported, message));
    }
    tasks.sort_by_key(|task| (places.get(task.data_file_path()).copied(), task.start));
    let reader = table
        .reader_builder()
        // In order, and with one file in memory.
        .with_data_file_concurrency_limit(1)
        .with_batch_size(BATCH_ROWS)
        .build();
    let tasks = Box::pin(futures::stream::iter(tasks.into_iter().map(Ok)));
    Ok(reader.read(tasks)?.stream())
}

/// A file that is being written per partition.
struct Writers {
    key: PartitionKey,
    builder: ParquetFileWriterBuilder,
    open: BTreeMap<Key, ParquetFileWriter>,
}

impl Writers {
    async fn write(&mut self, parts: Vec<Part>) -> Result<()> {
        for Part { key, partition, rows } in parts {
            let writer = match self.open.entry(key) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(vacant) => {
                    let key = self.key.copy_with_data(partition);
                    vacant.insert(self.builder.build(Some(key)).await?)
                }
            };
            writer.write(rows).await?;
        }
        Ok(())
    }

    async fn close(self) -> Result<Vec<DataFile>> {
        let mut files = Vec::new();
        for (_, mut writer) in self.open {
            files.extend(writer.close().await?);
        }
        Ok(files)
    }
}

/// Rows in sorted runs.
struct Sorted {
    sorter: Sorter,
    rows: ArrowRecordBatchStream,
    /// Of the current run, last first.
    ready: Vec<RecordBatch>,
}

impl Sorted {
    fn new(sorter: Sorter, rows: ArrowRecordBatchStream) -> Self {
        Self { sorter, rows, ready: Vec::new() }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.sorter.is_unsorted() {
            return self.rows.try_next().await;
        }
        if self.ready.is_empty() {
            let (mut run, mut bytes) = (Vec::new(), 0);
            while bytes < BUFFER_BYTES
                && let Some(batch) = self.rows.try_next().await?
            {
                bytes += batch.get_array_memory_size();
                run.push(batch);
            }
            self.ready = self.sorter.sort(run).map_err(|error| {
                Error::new(ErrorKind::Unexpected, "sort the rows of a partition").with_source(error)
            })?;
            self.ready.reverse();
        }
        Ok(self.ready.pop())
    }
}
