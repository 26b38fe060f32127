//! Rows into Parquet files, one partition (day) per file.
//!
//! Rows are buffered by day and the fullest day is written out whenever the buffer is full, so rows
//! that are a little out of order make no extra files: a commit has one file per day and target
//! size. What is held in memory is bounded by [`BUFFER_BYTES`] of rows plus [`MAX_OPEN_FILES`] row
//! groups of [`ROW_GROUP_BYTES`]; when more days than that interleave, the file that was written to
//! longest ago is closed early.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{max, min, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use iceberg::io::FileIO;
use iceberg::spec::{DataFile, DataFileFormat, Literal, PartitionKey, Struct};
use iceberg::table::Table;
use iceberg::writer::base_writer::data_file_writer::{DataFileWriter, DataFileWriterBuilder};
use iceberg::writer::file_writer::ParquetWriterBuilder;
use iceberg::writer::file_writer::location_generator::{
    DefaultFileNameGenerator, DefaultLocationGenerator,
};
use iceberg::writer::file_writer::rolling_writer::RollingFileWriterBuilder;
use iceberg::writer::{CurrentFileStatus, IcebergWriter, IcebergWriterBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use uuid::Uuid;

use super::config::LakeConfig;
use super::error::LakeError;
use super::schema::{DEAD_LETTERS, TableDefinition};

/// Rows waiting to be encoded, as Arrow takes them in memory.
const BUFFER_BYTES: usize = 32 << 20;
/// Files open at the same time.
const MAX_OPEN_FILES: usize = 4;
/// A row group is closed at this size. Readers split and prune by row groups; this one is small
/// enough to keep several in memory and large enough to compress well.
pub(super) const ROW_GROUP_BYTES: usize = 16 << 20;
/// Distinct values beyond this size fall back to plain encoding.
const DICTIONARY_BYTES: usize = 512 << 10;

const MICROS_PER_DAY: i64 = 86_400_000_000;

type ParquetFileWriter =
    DataFileWriter<ParquetWriterBuilder, DefaultLocationGenerator, DefaultFileNameGenerator>;
type ParquetFileWriterBuilder =
    DataFileWriterBuilder<ParquetWriterBuilder, DefaultLocationGenerator, DefaultFileNameGenerator>;

/// Writes the data files of one commit.
pub(super) struct TableWriter {
    table: String,
    partition: PartitionKey,
    /// Index of the column whose day partitions the table.
    time: usize,
    builder: ParquetFileWriterBuilder,
    file_io: FileIO,
    buffer: BTreeMap<i32, Buffered>,
    buffered_bytes: usize,
    /// Most recently used last.
    open: Vec<OpenFile>,
    closed: Vec<DataFile>,
    rows: usize,
    watermark: Option<i64>,
}

#[derive(Default)]
struct Buffered {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

struct OpenFile {
    day: i32,
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
        let time = schema
            .as_struct()
            .fields()
            .iter()
            .position(|field| field.name == definition.partition_by)
            .ok_or_else(|| {
                definition.foreign(format!("has no column `{}`", definition.partition_by))
            })?;
        let locations = DefaultLocationGenerator::new(metadata)
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
            time,
            builder: DataFileWriterBuilder::new(rolling),
            file_io: table.file_io().clone(),
            buffer: BTreeMap::new(),
            buffered_bytes: 0,
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

    /// Highest value of the partitioning time column so far, µs.
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
        for (day, rows) in self.split_by_day(rows)? {
            let bytes = rows.get_array_memory_size();
            let buffered = self.buffer.entry(day).or_default();
            buffered.batches.push(rows);
            buffered.bytes += bytes;
            self.buffered_bytes += bytes;
        }
        while self.buffered_bytes > BUFFER_BYTES {
            let Some(fullest) = self.buffer.iter().max_by_key(|(_, b)| b.bytes).map(|(d, _)| *d)
            else {
                break;
            };
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
        while let Some(day) = self.buffer.keys().next().copied() {
            self.write_out(day).await?;
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

    fn split_by_day(&mut self, rows: RecordBatch) -> Result<Vec<(i32, RecordBatch)>, LakeError> {
        let column = rows.column(self.time);
        let times = column.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
            LakeError::Rows {
                table: self.table.clone(),
                message: format!("the partitioning column holds {}", column.data_type()),
            }
        })?;
        let (Some(lowest), Some(highest)) = (min(times), max(times)) else {
            return Err(LakeError::Rows {
                table: self.table.clone(),
                message: "the partitioning column is null".to_owned(),
            });
        };
        self.watermark = self.watermark.max(Some(highest));
        if day(lowest) == day(highest) {
            return Ok(vec![(day(lowest), rows)]);
        }
        let mut days: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0u32..).zip(times.values()) {
            days.entry(day(*time)).or_default().push(row);
        }
        days.into_iter()
            .map(|(day, indices)| {
                let rows = take_record_batch(&rows, &UInt32Array::from(indices))
                    .map_err(LakeError::rows(&self.table))?;
                Ok((day, rows))
            })
            .collect()
    }

    /// Encodes the buffered rows of a day.
    async fn write_out(&mut self, day: i32) -> Result<(), LakeError> {
        let Some(buffered) = self.buffer.remove(&day) else { return Ok(()) };
        self.buffered_bytes -= buffered.bytes;
        match self.open.iter().position(|file| file.day == day) {
            Some(index) => {
                let file = self.open.remove(index);
                self.open.push(file);
            }
            None => {
                if self.open.len() == MAX_OPEN_FILES {
                    self.close_oldest().await?;
                }
                let key =
                    self.partition.copy_with_data(Struct::from_iter([Some(Literal::date(day))]));
                let writer = self.builder.build(Some(key)).await.map_err(self.failed("open"))?;
                self.open.push(OpenFile { day, writer });
            }
        }
        let failed = self.failed("write");
        if let Some(file) = self.open.last_mut() {
            for batch in buffered.batches {
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

/// Days since 1970, rounded down also before it.
fn day(micros: i64) -> i32 {
    // The quotient of any i64 fits: i64::MAX µs are about 107 million days.
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX)
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
