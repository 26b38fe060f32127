//! Rows into Parquet files, one partition per file.
//!
//! Rows are buffered by partition (a day, unless the contract says otherwise) and the fullest one is
//! written out whenever the buffer is full, so rows that are a little out of order make no extra files:
//! a commit has one file per partition and target size. What is held in memory is bounded by
//! [`BUFFER_BYTES`] of rows plus [`MAX_OPEN_FILES`] row groups of [`ROW_GROUP_BYTES`]; when more
//! partitions than that interleave, the file that was written to longest ago is closed early.
//!
//! A table with a sort order has the rows of a buffer sorted when they are written out, for which they
//! are in memory twice more. A file that takes several buffers has several sorted runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, DataFileFormat, PartitionKey, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::{DataFileWriter, DataFileWriterBuilder};
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::DefaultFileNameGenerator;
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{CurrentFileStatus, IcebergWriter, IcebergWriterBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::config::LakeConfig;
use super::error::LakeError;
use super::partition::{Folders, Key, Partitioner};
use super::schema::{DEAD_LETTERS, TableDefinition};
use super::sort::Sorter;

/// Rows waiting to be encoded, as Arrow takes them in memory.
pub(super) const BUFFER_BYTES: usize = 32 << 20;
/// Files open at the same time.
const MAX_OPEN_FILES: usize = 4;
/// A row group is closed at this size. Readers split and prune by row groups; this one is small
/// enough to keep several in memory and large enough to compress well.
pub(super) const ROW_GROUP_BYTES: usize = 16 << 20;
/// Distinct values beyond this size fall back to plain encoding.
const DICTIONARY_BYTES: usize = 512 << 10;

pub(super) type ParquetFileWriter =
    DataFileWriter<ParquetWriterBuilder, Folders, DefaultFileNameGenerator>;
pub(super) type ParquetFileWriterBuilder =
    DataFileWriterBuilder<ParquetWriterBuilder, Folders, DefaultFileNameGenerator>;

/// Writes the data files of one commit.
pub(super) struct TableWriter {
    table: String,
    partition: PartitionKey,
    partitioner: Partitioner,
    sorter: Sorter,
    builder: ParquetFileWriterBuilder,
    file_io: FileIO,
    buffer: BTreeMap<Key, Buffered>,
    buffered_bytes: usize,
    max_buffered_bytes: usize,
    /// Most recently used last.
    open: Vec<OpenFile>,
    closed: Vec<DataFile>,
    rows: usize,
    watermark: Option<i64>,
}

struct Buffered {
    partition: Struct,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

struct OpenFile {
    key: Key,
    writer: ParquetFileWriter,
}

impl TableWriter {
    /// A writer of files for `table`; `commit_id` makes their names unique.
    pub(super) fn new(
        config: &LakeConfig,
        definition: &TableDefinition,
        table: &Table,
        commit_id: Uuid,
    ) -> Result<Self, LakeError> {
        let name = &definition.name;
        let metadata = table.metadata();
        let schema = table.current_schema_ref();
        let locations = Folders::new(metadata)
            .map_err(LakeError::catalog(format!("find the data folder of lake table `{name}`")))?;
        let names =
            DefaultFileNameGenerator::new(commit_id.to_string(), None, DataFileFormat::Parquet);
        let parquet =
            ParquetWriterBuilder::new(properties(config, name, None), Arc::clone(&schema));
        let rolling = RollingFileWriterBuilder::new(
            parquet,
            config.target_file_bytes,
            table.file_io().clone(),
            locations,
            names,
        );
        Ok(Self {
            table: name.clone(),
            partition: PartitionKey::new(
                metadata.default_partition_spec().as_ref().clone(),
                schema,
                Struct::empty(),
            ),
            partitioner: Partitioner::new(definition, metadata)?,
            sorter: Sorter::of(metadata),
            builder: DataFileWriterBuilder::new(rolling),
            file_io: table.file_io().clone(),
            buffer: BTreeMap::new(),
            buffered_bytes: 0,
            // Encoded they are several times smaller: a small commit is not to wait for a full
            // buffer.
            max_buffered_bytes: BUFFER_BYTES.min(definition.commit_bytes(config).saturating_mul(4)),
            open: Vec::new(),
            closed: Vec::new(),
            rows: 0,
            watermark: None,
        })
    }

    /// Rows taken so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Highest value of the time column so far, µs.
    pub(super) fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    /// Encoded bytes so far, roughly; rows still buffered are not counted.
    pub(super) fn encoded_bytes(&self) -> usize {
        let closed: u64 = self.closed.iter().map(DataFile::file_size_in_bytes).sum();
        let open: usize = self.open.iter().map(|f| f.writer.current_written_size()).sum();
        usize::try_from(closed).unwrap_or(usize::MAX).saturating_add(open)
    }

    /// Takes rows in the table's shape.
    pub(super) async fn write(&mut self, rows: RecordBatch) -> Result<(), LakeError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.rows += rows.num_rows();
        let (parts, highest) = self.partitioner.split(rows)?;
        self.watermark = self.watermark.max(Some(highest));
        for part in parts {
            let bytes = part.rows.get_array_memory_size();
            let buffered = self.buffer.entry(part.key).or_insert_with(|| Buffered {
                partition: part.partition,
                batches: Vec::new(),
                bytes: 0,
            });
            buffered.batches.push(part.rows);
            buffered.bytes += bytes;
            self.buffered_bytes += bytes;
        }
        while self.buffered_bytes > self.max_buffered_bytes {
            let fullest = self.buffer.iter().max_by_key(|(_, b)| b.bytes);
            let Some(fullest) = fullest.map(|(key, _)| key.clone()) else { break };
            self.write_out(fullest).await?;
        }
        Ok(())
    }

    /// Writes out what is left and closes all files.
    pub(super) async fn finish(mut self) -> Result<Vec<DataFile>, LakeError> {
        match self.finish_files().await {
            Ok(()) => Ok(self.closed),
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    async fn finish_files(&mut self) -> Result<(), LakeError> {
        while let Some(key) = self.buffer.keys().next().cloned() {
            self.write_out(key).await?;
        }
        while !self.open.is_empty() {
            self.close_oldest().await?;
        }
        Ok(())
    }

    /// Gives up and removes what was written, as far as that works: files that no snapshot names
    /// are harmless.
    pub(super) async fn abandon(mut self) {
        while !self.open.is_empty() {
            // Closing is the way to learn the names of the files.
            let _ = self.close_oldest().await;
        }
        remove(&self.file_io, &self.closed).await;
    }

    /// Encodes the buffered rows of a partition.
    async fn write_out(&mut self, key: Key) -> Result<(), LakeError> {
        let Some(buffered) = self.buffer.remove(&key) else { return Ok(()) };
        self.buffered_bytes -= buffered.bytes;
        let batches = self.sorter.sort(buffered.batches).map_err(LakeError::rows(&self.table))?;
        match self.open.iter().position(|file| file.key == key) {
            Some(index) => {
                let file = self.open.remove(index);
                self.open.push(file);
            }
            None => {
                if self.open.len() == MAX_OPEN_FILES {
                    self.close_oldest().await?;
                }
                let partition = self.partition.copy_with_data(buffered.partition);
                let writer =
                    self.builder.build(Some(partition)).await.map_err(self.failed("open"))?;
                self.open.push(OpenFile { key, writer });
            }
        }
        let failed = self.failed("write");
        if let Some(file) = self.open.last_mut() {
            for batch in batches {
                if let Err(error) = file.writer.write(batch).await {
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }

    async fn close_oldest(&mut self) -> Result<(), LakeError> {
        let mut file = self.open.remove(0);
        let closed = file.writer.close().await.map_err(self.failed("close"))?;
        self.closed.extend(closed);
        Ok(())
    }

    fn failed(&self, verb: &str) -> impl FnOnce(iceberg::Error) -> LakeError + use<> {
        LakeError::catalog(format!("{verb} a data file of lake table `{}`", self.table))
    }
}

/// Removes data files that no snapshot names.
pub(super) async fn remove(file_io: &FileIO, files: &[DataFile]) {
    for file in files {
        if let Err(error) = file_io.delete(file.file_path()).await {
            tracing::debug!(file = file.file_path(), %error, "unused data file stays");
        }
    }
}

/// How data files are encoded.
pub(super) fn properties(
    config: &LakeConfig,
    table: &str,
    rows_per_group: Option<u64>,
) -> WriterProperties {
    let level = ZstdLevel::try_new(config.zstd_level).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("agentflow ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES);
    // Ids are unique and sequence numbers ascend: a dictionary would only be built to be dropped.
    let column = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    let (unique, ascending): (&[&str], &[&str]) = match table {
        DEAD_LETTERS => (&["payload"], &["id", "source_offset"]),
        _ => (&["_event_id"], &["_seq", "_source_offset"]),
    };
    for name in unique.iter().chain(ascending) {
        builder = builder.set_column_dictionary_enabled(column(name), false);
    }
    for name in ascending {
        builder = builder.set_column_encoding(column(name), Encoding::DELTA_BINARY_PACKED);
    }
    // A look-up of one id then reads the row groups that have it. Only where it is known how many
    // rows there are: a filter takes its room in the file whether it is filled or not.
    if let (Some(rows), true) = (rows_per_group, table != DEAD_LETTERS) {
        let id = ColumnPath::new(vec!["_event_id".to_owned()]);
        builder = builder
            .set_column_bloom_filter_fpp(id.clone(), 0.01)
            .set_column_bloom_filter_ndv(id, rows.max(1));
    }
    builder.build()
}
