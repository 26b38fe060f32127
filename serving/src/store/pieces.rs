//! Long values of dead letters, kept in pieces.
//!
//! A rejected record is kept whole, and it may be of any size. DuckDB works on 2,048 rows at a time
//! and holds all their values in memory while it does: with rows of 150 KB a checkpoint fails for
//! want of memory under a limit of 384 MiB, and takes the database with it (measured with 1.5.6). So
//! the row of a dead letter holds no more than [`PIECE`] bytes of each value, and what is beyond lies
//! in rows of the same size at most in a table of its own.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch,
    StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use duckdb::Connection;

use super::rows;
use super::schema::Table;

/// Most bytes of one value in one row.
pub(super) const PIECE: usize = 32 << 10;

const NAME: &str = "dead_letter_pieces";

/// Columns of a dead letter that may be long.
const LONG: [&str; 3] = ["payload", "key", "headers"];

/// The table.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(NAME, schema()));

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        // Of the dead letter.
        Field::new("id", DataType::Int64, false),
        Field::new("field", DataType::Utf8, false),
        Field::new("number", DataType::Int32, false),
        Field::new("length", DataType::Int32, false),
        Field::new("bytes", DataType::Binary, false),
    ]))
}

/// Cuts long values of dead letters: the rows with what is left in them, and the pieces behind.
pub(super) fn cut(rows: RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
    let is_long = |name: &&str| {
        let lengths = |offsets: &[i32]| offsets.windows(2).any(|o| o[1] - o[0] > PIECE as i32);
        rows.column_by_name(name).is_some_and(|column| match column.data_type() {
            DataType::Utf8 => lengths(column.as_string::<i32>().offsets()),
            _ => lengths(column.as_binary::<i32>().offsets()),
        })
    };
    let long: Vec<&str> = LONG.into_iter().filter(is_long).collect();
    if long.is_empty() {
        return Ok((rows, None));
    }
    let ids = rows.column(0).as_primitive::<Int64Type>();
    let mut pieces = Pieces::default();
    let mut columns = rows.columns().to_vec();
    for name in long {
        let at = rows.schema().index_of(name)?;
        let is_text = rows.column(at).data_type() == &DataType::Utf8;
        let values = Values::of(rows.column(at));
        let mut kept = BinaryBuilder::new();
        for row in 0..rows.num_rows() {
            let Some(value) = values.get(row) else {
                kept.append_null();
                continue;
            };
            let first = if is_text { boundary(value, PIECE) } else { PIECE.min(value.len()) };
            kept.append_value(&value[..first]);
            for (number, bytes) in value[first..].chunks(PIECE).enumerate() {
                pieces.add(ids.value(row), name, number, bytes);
            }
        }
        columns[at] = column(&kept.finish(), is_text)?;
    }
    Ok((RecordBatch::try_new(rows.schema(), columns)?, Some(pieces.finish()?)))
}

/// Rows of dead letters as they were before they were cut.
pub(super) fn whole(conn: &Connection, rows: RecordBatch) -> duckdb::Result<RecordBatch> {
    let ids = rows.column(0).as_primitive::<Int64Type>().values();
    let (Some(low), Some(high)) = (ids.iter().min(), ids.iter().max()) else { return Ok(rows) };
    // A page of a filter has a few of many; a stretch of the journal has all of its range.
    let these = match high - low + 1 == ids.len() as i64 {
        true => String::new(),
        false => {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!(" and id in ({})", ids.join(", "))
        }
    };
    let sql = format!(
        "select {} from {NAME} where id >= {low} and id <= {high}{these} order by id, field, number",
        TABLE.columns
    );
    let pieces = rows::query_once(conn, &sql, [], &TABLE.schema)?;
    join(rows, &pieces).map_err(rows::conversion)
}

/// How many bytes the pieces of dead letters with `after < id <= until` have.
pub(super) fn bytes(conn: &Connection, after: i64, until: i64) -> duckdb::Result<usize> {
    let sql = format!(
        "select coalesce(sum(length), 0)::bigint from {NAME} where id > {after} and id <= {until}"
    );
    let bytes: i64 = conn.query_row(&sql, [], |row| row.get(0))?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Puts pieces, ascending by number, behind what the rows hold of their values.
fn join(rows: RecordBatch, pieces: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    if pieces.num_rows() == 0 {
        return Ok(rows);
    }
    let ids = pieces.column(0).as_primitive::<Int64Type>();
    let (fields, bytes) =
        (pieces.column(1).as_string::<i32>(), pieces.column(4).as_binary::<i32>());
    let mut behind: HashMap<(&str, i64), Vec<u8>> = HashMap::new();
    for piece in 0..pieces.num_rows() {
        let key = (fields.value(piece), ids.value(piece));
        behind.entry(key).or_default().extend_from_slice(bytes.value(piece));
    }
    let ids = rows.column(0).as_primitive::<Int64Type>();
    let mut columns = rows.columns().to_vec();
    for name in LONG {
        if !behind.keys().any(|(field, _)| *field == name) {
            continue;
        }
        let at = rows.schema().index_of(name)?;
        let is_text = rows.column(at).data_type() == &DataType::Utf8;
        let values = Values::of(rows.column(at));
        let mut joined = BinaryBuilder::new();
        for row in 0..rows.num_rows() {
            match (values.get(row), behind.get(&(name, ids.value(row)))) {
                (Some(first), Some(rest)) => joined.append_value([first, rest].concat()),
                (value, _) => joined.append_option(value),
            }
        }
        columns[at] = column(&joined.finish(), is_text)?;
    }
    RecordBatch::try_new(rows.schema(), columns)
}

/// A column of texts or of bytes.
enum Values<'a> {
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
}

impl<'a> Values<'a> {
    fn of(column: &'a ArrayRef) -> Self {
        match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            _ => Self::Bytes(column.as_binary()),
        }
    }

    fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Text(texts) => texts.is_valid(row).then(|| texts.value(row).as_bytes()),
            Self::Bytes(bytes) => bytes.is_valid(row).then(|| bytes.value(row)),
        }
    }
}

fn column(bytes: &BinaryArray, is_text: bool) -> Result<ArrayRef, ArrowError> {
    if !is_text {
        return Ok(Arc::new(bytes.clone()));
    }
    Ok(Arc::new(StringArray::try_from_binary(bytes.clone())?))
}

/// The last place up to `most` where a text can be cut.
fn boundary(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    // Bytes that go on with a character begin with the bits 10.
    (1..=most).rev().find(|at| text[*at] & 0b1100_0000 != 0b1000_0000).unwrap_or(0)
}

#[derive(Default)]
struct Pieces {
    ids: Int64Builder,
    fields: StringBuilder,
    numbers: Int32Builder,
    lengths: Int32Builder,
    bytes: BinaryBuilder,
}

impl Pieces {
    fn add(&mut self, id: i64, field: &str, number: usize, bytes: &[u8]) {
        let int = |size: usize| i32::try_from(size).unwrap_or(i32::MAX);
        self.ids.append_value(id);
        self.fields.append_value(field);
        self.numbers.append_value(int(number));
        self.lengths.append_value(int(bytes.len()));
        self.bytes.append_value(bytes);
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.fields.finish()),
            Arc::new(self.numbers.finish()),
            Arc::new(self.lengths.finish()),
            Arc::new(self.bytes.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Payload, key and headers.
    type Letter = (Vec<u8>, Option<Vec<u8>>, Option<String>);

    fn letters(values: &[Letter]) -> RecordBatch {
        let fields = ["id", "payload", "key", "headers"];
        let types = [DataType::Int64, DataType::Binary, DataType::Binary, DataType::Utf8];
        let fields = fields.iter().zip(types).map(|(name, ty)| Field::new(*name, ty, true));
        let ids = arrow::array::Int64Array::from_iter_values(1..=values.len() as i64);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids),
            Arc::new(BinaryArray::from_iter_values(values.iter().map(|value| &value.0))),
            Arc::new(values.iter().map(|value| value.1.as_ref()).collect::<BinaryArray>()),
            Arc::new(values.iter().map(|value| value.2.as_ref()).collect::<StringArray>()),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let lengths = prop_oneof![0..50_usize, PIECE - 2..PIECE + 3, 2 * PIECE..3 * PIECE];
        (lengths, any::<u8>()).prop_map(|(length, byte)| vec![byte; length])
    }

    fn text() -> impl Strategy<Value = String> {
        // Of one to four bytes, so that some stand across the place of the cut.
        let lengths = prop_oneof![0..20_usize, PIECE / 4 - 2..PIECE / 4 + 3, PIECE..PIECE + 9];
        (lengths, "[a-zé€🦀]").prop_map(|(length, text)| format!("x{}", text.repeat(length)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_cut_is_whole_again(
            values in prop::collection::vec((bytes(), prop::option::of(bytes()), prop::option::of(text())), 1..6)
        ) {
            let before = letters(&values);
            let (rows, pieces) = cut(before.clone()).unwrap();
            let is_short = |length: usize| length <= PIECE;
            for column in &rows.columns()[1..] {
                let values = Values::of(column);
                let mut all = (0..rows.num_rows()).filter_map(|row| values.get(row));
                prop_assert!(all.all(|value| is_short(value.len())));
            }
            let pieces = pieces.unwrap_or_else(|| RecordBatch::new_empty(schema()));
            let mut all = pieces.column(4).as_binary::<i32>().iter().flatten();
            prop_assert!(all.all(|bytes| is_short(bytes.len()) && !bytes.is_empty()));
            prop_assert_eq!(join(rows, &pieces).unwrap(), before);
        }
    }

    #[test]
    fn short_letters_have_no_pieces() {
        let (rows, pieces) = cut(letters(&[(vec![1; PIECE], None, None)])).unwrap();
        assert_eq!((rows.num_rows(), pieces), (1, None));
    }
}
