//! Metrics: measures, inputs, dimensions, windows and examples.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{ColumnRef, Deprecation, Relation, Status, Window};
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
    /// What stands in a window of a series in which nothing was measured.
    pub gaps: Gaps,
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

impl Metric {
    /// `orders@2`: its name among the parts of a derived metric.
    pub fn versioned_name(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
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
    /// Number of distinct arguments, estimated; see [`Self::error`].
    ApproxCountDistinct,
    /// Number of distinct keys (the argument) that were seen.
    Active,
    /// Quantile `q` in 0..=1 of the argument, linear between ranks, exact.
    Quantile(f64),
    /// Quantile `q` in 0..=1 of the argument, linear between ranks, estimated; see [`Self::error`].
    ApproxQuantile(f64),
    /// Share of the keys with a row of the first step in the window that had a row of the second
    /// step after it, by (time, position), and at most `within` later. Null when there is none.
    Conversion {
        /// Longest time from the first step to the second, µs.
        within: i64,
    },
    /// Mean of the argument over time: the argument of a row holds from its time until the next row
    /// of its key, or until the window's end. Time at which it is null does not count.
    TimeWeighted,
    /// Seconds in which the argument (a boolean) was true, added up over keys; rows hold as for
    /// [`Self::TimeWeighted`].
    DurationInState,
    /// Quotient of two metrics (indices in [`super::Domain::metrics`]); null when the divisor is 0 or
    /// null.
    Ratio {
        /// Dividend.
        numerator: usize,
        /// Divisor.
        denominator: usize,
    },
    /// Expression over the values of other metrics, evaluated per group. The scope's column names
    /// are the metrics' versioned names ([`Metric::versioned_name`]), each a float64.
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
            // Spans of time cut the intervals of a state, and at each moment a key's state has one
            // value of each dimension.
            Self::DurationInState => (true, true),
            // A value that is seen in two parts counts once in the whole.
            Self::CountDistinct | Self::ApproxCountDistinct | Self::Active => (false, false),
            // Means, extremes, ranks and shares.
            Self::Avg
            | Self::Min
            | Self::Max
            | Self::Latest
            | Self::Quantile(_)
            | Self::ApproxQuantile(_)
            | Self::Conversion { .. }
            | Self::TimeWeighted => (false, false),
            // Nothing is claimed of a quotient or an expression, also where it happens to be a sum.
            Self::Ratio { .. } | Self::Derived { .. } => (false, false),
        };
        Additivity { time, dimension }
    }

    /// How far an estimate may be off; `None` for exact measures, and for those made of others, whose
    /// error is that of their parts.
    pub fn error(&self) -> Option<ErrorBound> {
        match self {
            // Twice the standard error, 1.04 / √16384, of 2¹⁴ registers.
            Self::ApproxCountDistinct => Some(ErrorBound { relative: 0.016_25, confidence: 0.95 }),
            // The widths of the classes guarantee it.
            Self::ApproxQuantile(_) => Some(ErrorBound { relative: 0.01, confidence: 1.0 }),
            _ => None,
        }
    }

    /// Does it follow each key from row to row? Then a row has a say about values beside its own time
    /// and its own dimensions: it ends the state before it, and completes an earlier first step.
    pub fn follows_keys(&self) -> bool {
        matches!(self, Self::Conversion { .. } | Self::TimeWeighted | Self::DurationInState)
    }

    /// Is it a number of things, zero where there is none?
    pub fn is_count(&self) -> bool {
        use Measure::{Active, ApproxCountDistinct, Count, CountDistinct};
        matches!(self, Count | CountDistinct | ApproxCountDistinct | Active)
    }
}

/// How far an estimate may be from the exact value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorBound {
    /// Difference to the exact value, as a share of the exact value.
    pub relative: f64,
    /// Share of the answers that keep to it: 1 is a guarantee.
    pub confidence: f64,
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
    /// What a measure that follows keys needs besides; `None` for the others.
    pub followed: Option<Followed>,
}

impl MetricInput {
    /// All columns that it reads.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnRef> {
        let followed = self.followed.iter().flat_map(|followed| {
            let steps = followed.steps.iter().flatten();
            std::iter::once(&followed.key).chain(steps.filter_map(|step| match step {
                Step::Where(column) => Some(column),
                Step::EventType(_) => None,
            }))
        });
        let own = [&self.time].into_iter().chain(&self.filter).chain(&self.arg);
        own.chain(&self.dimensions).chain(followed)
    }

    /// Do its columns change with events only, and not with time?
    pub fn is_steady(&self) -> bool {
        self.columns().all(|column| !column.depends_on_closed)
    }
}

/// How rows belong together.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The key; rows without one do not count.
    pub key: ColumnRef,
    /// The two steps of a conversion.
    pub steps: Option<[Step; 2]>,
}

/// A step of a conversion.
#[derive(Debug, Clone)]
pub enum Step {
    /// Rows of this event type.
    EventType(String),
    /// Rows for which this boolean is true.
    Where(ColumnRef),
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

/// Value of an empty window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEmpty {
    /// `null`.
    Null,
    /// `0`.
    Zero,
}

/// What stands in a window of a series in which nothing was measured. Anything but [`Gaps::Null`] and
/// [`Gaps::Zero`] beside the same `on_empty` needs `on_empty: null`: a zero could not be told from a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gaps {
    /// No value.
    #[default]
    Null,
    /// Zero.
    Zero,
    /// The value of the window before, in the same series.
    Previous,
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
