//! Which partition each row belongs to.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{max, min, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use chrono::DateTime;
use iceberg::arrow::{arrow_primitive_to_literal, type_to_arrow_type};
use iceberg::spec::{
    Literal, NestedFieldRef, PartitionField, PartitionKey, PartitionSpec, PrimitiveLiteral, Schema,
    Struct, TableMetadata, Transform, Type,
};
use iceberg::transform::{BoxedTransformFunction, create_transform_function};
use iceberg::writer::file_writer::location_generator::{
    DefaultLocationGenerator, LocationGenerator,
};

use super::error::LakeError;
use super::schema::TableDefinition;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Identity of a partition: equal for equal values and nothing else, in their order.
pub(super) type Key = Box<[u8]>;

/// Rows of one partition.
pub(super) struct Part {
    pub key: Key,
    /// Its values.
    pub partition: Struct,
    pub rows: RecordBatch,
}

/// Tells rows apart by their partition.
pub(super) struct Partitioner {
    table: String,
    /// Index of the time column.
    time: usize,
    by: By,
}

enum By {
    /// The day of the time column: what tables have unless their contract says otherwise. A batch
    /// within one day, the usual one, is passed on as it is.
    Day,
    /// Anything.
    Values(Values),
}

struct Values {
    fields: Vec<Field>,
    rows: RowConverter,
}

struct Field {
    column: usize,
    function: BoxedTransformFunction,
    ty: Type,
}

impl Partitioner {
    /// By the table's default partition spec.
    pub(super) fn new(
        definition: &TableDefinition,
        metadata: &TableMetadata,
    ) -> Result<Self, LakeError> {
        Self::of_spec(definition, metadata, metadata.default_partition_spec())
    }

    /// By one of the table's specs.
    pub(super) fn of_spec(
        definition: &TableDefinition,
        metadata: &TableMetadata,
        spec: &PartitionSpec,
    ) -> Result<Self, LakeError> {
        let schema = metadata.current_schema();
        let index = |id: i32| schema.as_struct().fields().iter().position(|field| field.id == id);
        let time =
            schema.field_id_by_name(definition.partition_by).and_then(index).ok_or_else(|| {
                definition.foreign(format!("has no column `{}`", definition.partition_by))
            })?;
        let by = match spec.fields() {
            [day] if day.transform == Transform::Day && index(day.source_id) == Some(time) => {
                By::Day
            }
            fields => {
                let failed = || {
                    LakeError::catalog(format!(
                        "partition rows of lake table `{}`",
                        definition.name
                    ))
                };
                let types = spec.partition_type(schema).map_err(failed())?;
                let fields = fields
                    .iter()
                    .zip(types.fields())
                    .map(|(field, ty)| {
                        let column = index(field.source_id).ok_or_else(|| {
                            definition.foreign(format!("has no column for `{}`", field.name))
                        })?;
                        let function =
                            create_transform_function(&field.transform).map_err(failed())?;
                        Ok(Field { column, function, ty: (*ty.field_type).clone() })
                    })
                    .collect::<Result<Vec<_>, LakeError>>()?;
                let types = fields.iter().map(|field| type_to_arrow_type(&field.ty));
                let types = types.collect::<iceberg::Result<Vec<_>>>().map_err(failed())?;
                let rows = RowConverter::new(types.into_iter().map(SortField::new).collect())
                    .map_err(LakeError::rows(&definition.name))?;
                By::Values(Values { fields, rows })
            }
        };
        Ok(Self { table: definition.name.clone(), time, by })
    }

    /// The rows by partition, each in the order that it has, and the highest time of all.
    pub(super) fn split(&self, rows: RecordBatch) -> Result<(Vec<Part>, i64), LakeError> {
        let failed = |message: String| LakeError::Rows { table: self.table.clone(), message };
        let column = rows.column(self.time);
        let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
            return Err(failed(format!("the partitioning column holds {}", column.data_type())));
        };
        let (Some(lowest), Some(highest)) = (min(times), max(times)) else {
            return Err(failed("the partitioning column is null".to_owned()));
        };
        let parts = match &self.by {
            By::Day if day(lowest) == day(highest) => vec![part_of_day(day(lowest), rows)],
            By::Day => split_by_day(&rows, times.values()).map_err(LakeError::rows(&self.table))?,
            By::Values(values) => values.split(rows).map_err(LakeError::rows(&self.table))?,
        };
        Ok((parts, highest))
    }
}

fn part_of_day(day: i32, rows: RecordBatch) -> Part {
    // With the sign turned the bytes are in the order of the days.
    let key = (day.cast_unsigned() ^ (1 << 31)).to_be_bytes();
    Part { key: Box::new(key), partition: Struct::from_iter([Some(Literal::date(day))]), rows }
}

fn split_by_day(rows: &RecordBatch, times: &[i64]) -> Result<Vec<Part>, ArrowError> {
    let mut days: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, time) in (0u32..).zip(times) {
        days.entry(day(*time)).or_default().push(row);
    }
    days.into_iter()
        .map(|(day, indices)| {
            Ok(part_of_day(day, take_record_batch(rows, &UInt32Array::from(indices))?))
        })
        .collect()
}

impl Values {
    fn split(&self, rows: RecordBatch) -> Result<Vec<Part>, ArrowError> {
        let values = self
            .fields
            .iter()
            .map(|field| field.function.transform(rows.column(field.column).clone()))
            .collect::<iceberg::Result<Vec<_>>>()
            .map_err(external)?;
        let keys = self.rows.convert_columns(&values)?;
        let part = |first: usize, key: &[u8], rows| {
            let partition = self.partition(&values, first).map_err(external)?;
            Ok(Part { key: key.into(), partition, rows })
        };
        let first = keys.row(0);
        if keys.iter().all(|key| key == first) {
            return Ok(vec![part(0, first.as_ref(), rows)?]);
        }
        let mut groups: HashMap<&[u8], Vec<u32>> = HashMap::new();
        for row in 0..keys.num_rows() {
            groups.entry(keys.row(row).data()).or_default().push(row as u32);
        }
        groups
            .into_iter()
            .map(|(key, indices)| {
                let first = indices[0] as usize;
                part(first, key, take_record_batch(&rows, &UInt32Array::from(indices))?)
            })
            .collect()
    }

    /// The partition of a row.
    fn partition(&self, values: &[ArrayRef], row: usize) -> iceberg::Result<Struct> {
        let literals = self.fields.iter().zip(values).map(|(field, values)| {
            let found = arrow_primitive_to_literal(&values.slice(row, 1), &field.ty)?;
            Ok(found.into_iter().next().flatten())
        });
        Ok(Struct::from_iter(literals.collect::<iceberg::Result<Vec<_>>>()?))
    }
}

fn external(error: iceberg::Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

/// Days since 1970, rounded down also before it.
fn day(micros: i64) -> i32 {
    // The quotient of any i64 fits: i64::MAX µs are about 107 million days.
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).unwrap_or(i32::MAX)
}

/// Most characters of a value that the name of a folder shows.
const SHOWN: usize = 64;

/// Where data files lie: in folders that are named after their partition, for people. A value comes
/// from an event and may hold anything, also `../`, so of a name only letters, digits, `-` and `.` are
/// kept. Two partitions may share a folder: names of files are unique, and nobody reads values from
/// paths.
#[derive(Clone, Debug)]
pub(super) struct Folders(DefaultLocationGenerator);

impl Folders {
    /// Below the data folder of a table.
    pub(super) fn new(metadata: &TableMetadata) -> iceberg::Result<Self> {
        DefaultLocationGenerator::new(metadata).map(Self)
    }
}

impl LocationGenerator for Folders {
    fn generate_location(&self, partition: Option<&PartitionKey>, file_name: &str) -> String {
        let mut path = String::new();
        for (name, value) in partition.into_iter().flat_map(|partition| {
            parts(partition.spec(), partition.schema(), partition.data()).unwrap_or_default()
        }) {
            path.extend(name.chars().chain(['=']));
            path.extend(value.chars().take(SHOWN).map(plain));
            path.push('/');
        }
        self.0.generate_location(None, &format!("{path}{file_name}"))
    }
}

/// A partition for people: `_tenant=a/_event_time_day=2026-01-31`. An error where the table has lost a
/// column of the spec.
pub(super) fn text(
    spec: &PartitionSpec,
    schema: &Schema,
    partition: &Struct,
) -> iceberg::Result<String> {
    let parts = parts(spec, schema, partition)?;
    let texts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(texts.join("/"))
}

/// Name and value of each part. The library shows months and hours as numbers.
fn parts<'s>(
    spec: &'s PartitionSpec,
    schema: &Schema,
    partition: &Struct,
) -> iceberg::Result<Vec<(&'s str, String)>> {
    let types = spec.partition_type(schema)?;
    let values = partition.fields().iter().zip(types.fields());
    let part = |(field, (value, ty)): (&'s PartitionField, (&Option<Literal>, &NestedFieldRef))| {
        let value = match (field.transform, value) {
            (Transform::Month, Some(Literal::Primitive(PrimitiveLiteral::Int(months)))) => {
                format!("{:04}-{:02}", 1970 + months.div_euclid(12), months.rem_euclid(12) + 1)
            }
            (Transform::Hour, Some(Literal::Primitive(PrimitiveLiteral::Int(hours)))) => {
                DateTime::from_timestamp(i64::from(*hours) * 3_600, 0)
                    .map_or_else(|| hours.to_string(), |at| at.format("%Y-%m-%d-%H").to_string())
            }
            (transform, value) => transform.to_human_string(&ty.field_type, value.as_ref()),
        };
        (field.name.as_str(), value)
    };
    Ok(spec.fields().iter().zip(values).map(part).collect())
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' }
}
