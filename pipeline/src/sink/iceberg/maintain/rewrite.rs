//! The rows of some data files, written into new ones: same rows, nothing else.
//!
//! Their order is that of the files one after the other. In a table with a sort order they are sorted as
//! the writer of new rows does it, in runs of bounded size: the files may hold many times more than
//! fits into memory, so a merged file is sorted as a whole only when it is small.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use iceberg::scan::ArrowRecordBatchStream;
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

use crate::sink::iceberg::partition::Folders;
use crate::sink::iceberg::sort::Sorter;
use crate::sink::iceberg::writer::{BUFFER_BYTES, remove};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// What is rewritten together.
pub(super) struct Job<'a> {
    /// Paths of live files of one partition, in the order in which their rows are to be.
    pub paths: &'a [String],
    /// The partition spec of the files.
    pub spec: &'a PartitionSpec,
    /// The partition.
    pub partition: Struct,
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
) -> Result<Vec<DataFile>> {
    let wanted: HashSet<&str> = job.paths.iter().map(String::as_str).collect();
    let scan = table.scan().snapshot_id(snapshot).select_all().build()?;
    let mut tasks: Vec<_> = scan
        .plan_files()
        .await?
        .try_filter(|task| std::future::ready(wanted.contains(task.data_file_path())))
        .try_collect()
        .await?;
    if tasks.iter().any(|task| !task.deletes.is_empty()) {
        let message = "rows were deleted by somebody else's delete files, which are not rewritten";
        return Err(Error::new(ErrorKind::FeatureUnsupported, message));
    }
    let place = |path: &str| job.paths.iter().position(|wanted| wanted == path);
    tasks.sort_by_key(|task| (place(task.data_file_path()), task.start));

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
    let key = PartitionKey::new(job.spec.clone(), schema, job.partition.clone());
    let mut writer = DataFileWriterBuilder::new(rolling).build(Some(key)).await?;
    let reader = table
        .reader_builder()
        // In order, and with one file in memory.
        .with_data_file_concurrency_limit(1)
        .with_batch_size(BATCH_ROWS)
        .build();
    let tasks = Box::pin(futures::stream::iter(tasks.into_iter().map(Ok)));
    let mut failure = None;
    match reader.read(tasks) {
        Err(error) => failure = Some(error),
        Ok(result) => {
            let mut rows = Sorted::new(Sorter::of(metadata), result.stream());
            loop {
                let step = match rows.next().await {
                    Ok(Some(batch)) => writer.write(batch).await,
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                if let Err(error) = step {
                    failure = Some(error);
                    break;
                }
            }
        }
    }
    // Closing is the way to learn the names of the files, also of those to be removed.
    let files = writer.close().await?;
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
