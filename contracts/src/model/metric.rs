//! Metrics: measures, inputs, dimensions, windows and examples.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{ColumnRef, Deprecation, Relation, Status};
use crate::expr::Expr;
use crate::types::Type;

/// One version of a metric.
#[derive(Debug)]
pub struct Metric {
    /// Index in [`super::Domain::metrics`].
    pub index: usize,
    /// Name.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// Stable or deprecated.
    pub status: Status,
    /// Dates and successor; there if, and only if, it is deprecated.
    pub deprecation: Option<Deprecation>,
    /// Team that answers for it.
    pub owner: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Other words for it in plain questions.
    pub synonyms: Vec<String>,
    /// Unit of its values (`RUB`, `count`, `ratio`, …).
    pub unit: String,
    /// What is measured.
    pub measure: Measure,
    /// The rows it stands on; empty for ratio and derived. More than one when it counts events of
    /// several families.
    pub inputs: Vec<MetricInput>,
    /// Dimensions in the order of the file. A derived metric has those that all its parts have.
    pub dimensions: Vec<Dimension>,
    /// Windows that a read may ask for, in the order of the file.
    pub windows: Vec<Window>,
    /// Value of an empty window.
    pub on_empty: OnEmpty,
    /// Declared (and verified) origins: event types, or `ingest`.
    pub moved_by: Vec<String>,
    /// Oldest cached answer allowed, µs. Default 1 s.
    pub max_age: i64,
    /// Shown as a gauge in `/metrics`?
    pub gauge: bool,
    /// Type of its value (`count` → int64, `avg` and quantile → float64, `sum` of decimal →
    /// decimal(38,s), of int64 → decimal(38,0), of float64 → float64, min, max, latest → the
    /// argument's type, ratio and derived → float64).
    pub value_type: Type,
    /// The contract's own tests.
    pub examples: Vec<Example>,
    /// Hash over everything that changes its value.
    pub hash: u64,
    /// What the hash is over: facts in their parts, the first of which says what it is about.
    pub facts: Vec<Vec<String>>,
    /// The file it was read from.
    pub file: PathBuf,
}

/// What a metric computes.
#[derive(Debug, Clone)]
pub enum Measure {
    /// Number of rows, or of rows whose argument is not null.
    Count,
    /// Sum of the argument.
    Sum,
    /// Mean of the argument.
    Avg,
    /// Smallest argument.
    Min,
    /// Largest argument.
    Max,
    /// Argument of the row with the highest (time, position).
    Latest,
    /// Number of distinct arguments, exact.
    CountDistinct,
    /// Quantile `q` in 0..=1 of the argument, linear between ranks, exact.
    Quantile(f64),
    /// Quotient of two metrics (indices in [`super::Domain::metrics`]); null when the divisor is 0 or
    /// null.
    Ratio {
        /// Dividend.
        numerator: usize,
        /// Divisor.
        denominator: usize,
    },
    /// Expression over the values of other metrics, evaluated per group. The scope's column names
    /// are the metrics' names, each a float64.
    Derived {
        /// Indices in [`super::Domain::metrics`].
        parts: Vec<usize>,
        /// The expression.
        expr: Expr,
    },
}

impl Measure {
    /// Indices of the metrics that it is made of; empty for measures over rows.
    pub fn parts(&self) -> Vec<usize> {
        match self {
            Self::Ratio { numerator, denominator } => vec![*numerator, *denominator],
            Self::Derived { parts, .. } => parts.clone(),
            _ => Vec::new(),
        }
    }

    /// May its values be added up: over spans of time that do not overlap, and over the values of a
    /// dimension? Whoever rolls values up (a coarser grain, a total, `other`) asks here first, and
    /// where the answer is no reads the rows again or refuses.
    pub fn additivity(&self) -> Additivity {
        let (time, dimension) = match self {
            // Each row lies at one time and has one value of each dimension.
            Self::Count | Self::Sum => (true, true),
            // A value that is seen in two parts counts once in the whole.
            Self::CountDistinct => (false, false),
            Self::Avg | Self::Min | Self::Max | Self::Latest | Self::Quantile(_) => (false, false),
            // Nothing is claimed of a quotient or an expression, also where it happens to be a sum.
            Self::Ratio { .. } | Self::Derived { .. } => (false, false),
        };
        Additivity { time, dimension }
    }
}

/// Whether the values of the parts of a whole add up to the value of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Additivity {
    /// Parts are spans of time that do not overlap.
    pub time: bool,
    /// Parts are the values of a dimension.
    pub dimension: bool,
}

/// One relation that a metric reads, with the columns it needs there.
#[derive(Debug, Clone)]
pub struct MetricInput {
    /// The rows.
    pub relation: Relation,
    /// Only these event types (families only; empty means all types of the family).
    pub event_types: Vec<String>,
    /// Timestamp that the window is over.
    pub time: ColumnRef,
    /// Boolean; only true rows count.
    pub filter: Option<ColumnRef>,
    /// The measure's argument.
    pub arg: Option<ColumnRef>,
    /// One column per dimension, in order.
    pub dimensions: Vec<ColumnRef>,
}

impl MetricInput {
    /// All columns that it reads.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnRef> {
        let optional = self.filter.iter().chain(&self.arg);
        [&self.time].into_iter().chain(optional).chain(&self.dimensions)
    }
}

/// A dimension of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Name in `filter` and `group_by`.
    pub name: String,
    /// Type of its values: string, bool, int64 or date.
    pub ty: Type,
    /// Most values that a group-by may return.
    pub max_cardinality: Option<usize>,
    /// Other words for it in plain questions.
    pub synonyms: Vec<String>,
}

/// A trailing window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// As written in the contract: `5m`, `24h`, `7d`, or `now`.
    pub text: String,
    /// Length in µs; `None` for `now`: all rows that hold at the moment of reading.
    pub length: Option<i64>,
}

/// Value of an empty window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEmpty {
    /// `null`.
    Null,
    /// `0`.
    Zero,
}

/// A contract's own test: events in, value out.
#[derive(Debug, Clone)]
pub struct Example {
    /// What it shows.
    pub name: Option<String>,
    /// Events in order.
    pub given: Vec<GivenEvent>,
    /// Expected answers.
    pub expect: Vec<Expectation>,
    /// Line of the example in the file.
    pub line: u32,
}

/// A given event of an example, as a producer would send it. The loader fills in what the file
/// leaves out of the envelope: `event` gives the type, ids are made up, times are one second apart.
#[derive(Debug, Clone)]
pub struct GivenEvent {
    /// Event type.
    pub event_type: String,
    /// The record: a JSON object.
    pub record: serde_json::Value,
    /// Headers of the record, as (name, text): the parts of the envelope that stand there.
    pub headers: Vec<(String, String)>,
}

/// One expected answer.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Window as written.
    pub window: String,
    /// Time of reading (µs); the loader defaults it to just after the last event.
    pub as_of: i64,
    /// dimension → value as text.
    pub filters: BTreeMap<String, String>,
    /// Expected value as JSON number or null.
    pub value: serde_json::Value,
}
