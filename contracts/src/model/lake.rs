//! How a family's table in the lake is laid out. None of it changes what a record becomes, so none of
//! it is part of a contract's hash.

use std::fmt;

/// What a contract says about its table in the lake. What it does not say has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LakeLayout {
    /// How rows are spread over files; empty: by the day of the event time.
    pub partition: Vec<PartitionField>,
    /// Journal columns that order the rows of a file, ascending and nulls first; empty: journal order.
    pub sort: Vec<String>,
    /// Longest time between two commits of new rows, µs.
    pub commit_every: Option<i64>,
    /// A commit is due once its files have this many bytes.
    pub commit_size: Option<u64>,
}

/// One part of a partition: rows with the same values of all parts are in the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    /// Journal column.
    pub column: String,
    /// What is taken of its value.
    pub transform: PartitionTransform,
}

/// What a partition takes of a value; null stays null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTransform {
    /// The value itself.
    Identity,
    /// Its hour.
    Hour,
    /// Its day.
    Day,
    /// Its month.
    Month,
    /// One of so many buckets, by hash.
    Bucket(u32),
    /// The first so many characters of a text; a whole number rounded down to a multiple.
    Truncate(u32),
}

/// As a contract writes it: `tenant`, `day(timestamp)`, `bucket(16, user_id)`.
impl fmt::Display for PartitionField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match self.transform {
            PartitionTransform::Identity => f.write_str(column),
            PartitionTransform::Hour => write!(f, "hour({column})"),
            PartitionTransform::Day => write!(f, "day({column})"),
            PartitionTransform::Month => write!(f, "month({column})"),
            PartitionTransform::Bucket(count) => write!(f, "bucket({count}, {column})"),
            PartitionTransform::Truncate(width) => write!(f, "truncate({width}, {column})"),
        }
    }
}
