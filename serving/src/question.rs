//! Questions to metrics and entities, and their answers: what HTTP, the command line and the cache
//! exchange with the metric engine.

use std::collections::BTreeMap;

use contracts::model::{Deprecation, ErrorBound};
use serde::Serialize;
use serde::ser::SerializeMap;

pub use crate::filter::{Condition, Filters};
pub use crate::value::Value;

/// A question to one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MetricQuestion {
    /// Metric name.
    pub metric: String,
    /// Version. `None`: the newest stable one that is whole.
    pub version: Option<u32>,
    /// Tenant that asks; from the credential or the command, never from the question.
    pub tenant: String,
    /// Window as written in the contract. `None`: `1h` if declared, else the first declared.
    pub window: Option<String>,
    /// From and to, µs, half open, in place of a window that the contract declares. What is known is
    /// still all there is, or what `as_of` and `known_at` say.
    pub span: Option<(i64, i64)>,
    /// Reference time, µs. `None`: now, and the window has no end.
    pub as_of: Option<i64>,
    /// Leave out what was applied after this time, µs: the answer that was true to what was known
    /// then. Without `as_of` it is the answer that a live read gave then.
    pub known_at: Option<i64>,
    /// What must hold of dimensions.
    pub filters: Filters,
    /// Dimensions to group by, in the order asked.
    pub group_by: Vec<String>,
    /// In which order groups come, and which come first where not all are named.
    pub order_by: GroupOrder,
    /// Most groups that are named.
    pub limit: Option<usize>,
    /// Put all other groups into one, in place of leaving them out.
    pub other: bool,
    /// The groups that are named, whatever their order; all others are one. Of no reader: where several
    /// answers are laid side by side, they must agree.
    pub named: Option<Vec<Vec<Option<String>>>>,
    /// Compare with the window of the same length before this one.
    pub compare: bool,
    /// How old an answer may be, µs, even if commits have touched what it stands on since; never more than
    /// the contract's `max_age`. `0`: computed anew. `None`: as old as the contract allows, and untouched.
    pub max_staleness: Option<i64>,
}

/// An order of groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum GroupOrder {
    /// By the values of the dimensions, in the order asked; those that are not there last.
    #[default]
    Dimensions,
    /// By the group's value, what has none last; equal ones by their dimensions.
    Value {
        /// The largest first?
        down: bool,
    },
}

/// What a group is called that is made of those that are not named.
pub const OTHER: &str = "__other__";

/// The answer to a [`MetricQuestion`], with its proof.
#[derive(Debug, Clone)]
pub struct MetricAnswer {
    /// Metric name.
    pub metric: String,
    /// Unit.
    pub unit: String,
    /// Window as written in the contract.
    pub window: String,
    /// The value over all groups; `None` when the question grouped.
    pub value: Option<Value>,
    /// One entry per group, in the order asked; `None` unless the question grouped.
    pub groups: Option<Vec<Group>>,
    /// There are groups that are not named: beyond a dimension's `max_cardinality`, `limit`, or what one
    /// answer has.
    pub groups_truncated: bool,
    /// The window before, where that was asked for.
    pub previous: Option<Previous>,
    /// Values of the parts of a ratio or derived metric, by metric name; of a conversion how many
    /// keys `entered` and `converted` (ungrouped only).
    pub components: Option<BTreeMap<String, Value>>,
    /// What to know before building on it: the version that answered is deprecated.
    pub deprecation: Option<Deprecation>,
    /// Values that filters ask for and no event can bring.
    pub impossible: Vec<Impossible>,
    /// When it was computed, µs.
    pub computed_at: i64,
    /// How it can be checked.
    pub proof: Proof,
}

/// A value that a filter asks for and that contracts rule out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    /// Dimension.
    pub dimension: String,
    /// The value.
    pub value: String,
    /// The values that it may have, in order.
    pub allowed: Vec<String>,
}

/// One group of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// dimension → value; `None` for rows without one. In the order asked.
    pub dimensions: Vec<(String, Option<String>)>,
    /// The group's value.
    pub value: Value,
    /// By dimension: is it made of values that are not named? It says [`OTHER`] there, which a value of that
    /// name does, too.
    pub others: Vec<bool>,
    /// The group's value in the window before, where that was asked for.
    pub previous: Option<Value>,
}

impl Group {
    /// Is it made of groups that are not named?
    pub fn is_other(&self) -> bool {
        self.others.contains(&true)
    }
}

/// The window before the one that was asked for, of the same length.
#[derive(Debug, Clone, PartialEq)]
pub struct Previous {
    /// Its begin, µs.
    pub from: i64,
    /// Its end, µs, not included.
    pub to: i64,
    /// The value over all groups; `None` when the question grouped.
    pub value: Option<Value>,
}

/// What shows that an answer is right and current.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Version of the metric contract.
    pub contract_version: u32,
    /// Hash of the contract, 16 hex digits.
    pub contract_hash: String,
    /// Reference time asked for, µs; `None` for a live read.
    pub as_of: Option<i64>,
    /// Time asked for after which nothing that was applied is in the answer, µs.
    pub known_at: Option<i64>,
    /// Lowest watermark over the partitions that are neither idle nor empty, µs.
    pub data_through: Option<i64>,
    /// Highest journal sequence number that the answer includes.
    pub position: i64,
    /// Source partitions that have delivered something.
    pub partitions: usize,
    /// Partitions of Kafka of which records wait that are not in the answer.
    pub partitions_behind: usize,
    /// Exact, or approximate.
    pub exact: bool,
    /// How far off those may be that are estimated, by metric: this one, or parts of it.
    pub error_bounds: Vec<(String, ErrorBound)>,
    /// Dead letters whose event time (arrival time when unknown) lies in the window, which begins for this and
    /// the next two counts with the minute in which it begins.
    pub rejected_in_window: i64,
    /// Accepted events of the metric's families that lie in the window, late ones among them. `None`: the
    /// window has no beginning, and no state counts them.
    pub events_in_window: Option<i64>,
    /// Those of them that were late.
    pub late_in_window: i64,
    /// Does the answer come from the cache?
    pub cached: bool,
    /// µs between `computed_at` and this answer.
    pub age: i64,
}

impl Proof {
    /// Late events as a share of all in the window; `None` where there are none, or are not counted.
    pub fn late_share(&self) -> Option<f64> {
        share(self.late_in_window, self.events_in_window?)
    }

    /// Rejected records as a share of them and the accepted events in the window; `None` as before.
    pub fn rejected_share(&self) -> Option<f64> {
        share(self.rejected_in_window, self.events_in_window? + self.rejected_in_window)
    }
}

fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A question to one entity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityQuestion {
    /// Entity type.
    pub entity: String,
    /// Version. `None`: the newest stable one that is whole.
    pub version: Option<u32>,
    /// Tenant that asks.
    pub tenant: String,
    /// Key as text.
    pub id: String,
    /// Reference time, µs; the entity is folded from the events before it. `None`: all events.
    pub as_of: Option<i64>,
    /// Leave out what was applied after this time, µs.
    pub known_at: Option<i64>,
}

/// The answer to an [`EntityQuestion`].
#[derive(Debug, Clone)]
pub struct EntityAnswer {
    /// Entity type.
    pub entity: String,
    /// Key as text.
    pub id: String,
    /// The key field and all declared fields in the order of the contract, as JSON (decimals as
    /// JSON numbers with all digits, times as RFC 3339 with `Z`).
    pub data: Vec<(String, Box<serde_json::value::RawValue>)>,
    /// Highest event time applied, µs.
    pub last_updated: Option<i64>,
    /// Reference time asked for, µs.
    pub as_of: Option<i64>,
    /// Time asked for after which nothing that was applied is in the answer, µs.
    pub known_at: Option<i64>,
    /// Contract version.
    pub contract_version: u32,
    /// Hash of the contract, 16 hex digits.
    pub contract_hash: String,
    /// Highest journal sequence number that the answer includes.
    pub position: i64,
    /// Does the answer come from the cache?
    pub cached: bool,
}

/// Why a question has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// No such metric or entity type.
    #[error("{message}")]
    NotFound {
        /// What was not found.
        message: String,
        /// The nearest names.
        hint: Option<String>,
    },
    /// The question does not fit the contract (window, dimension, value, time).
    #[error("{message}")]
    Invalid {
        /// What does not fit.
        message: String,
        /// What would fit.
        hint: Option<String>,
        /// The parameter: `window`, `as_of`, `filter`, `group_by`.
        parameter: &'static str,
    },
    /// It needs rows that the journal has given up, and they cannot be had.
    #[error("{message}{}", cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Beyond {
        /// What happened.
        message: String,
        /// Why the lake cannot be read, when that is it; logged, not shown to HTTP clients.
        cause: Option<String>,
        /// What to do.
        hint: String,
    },
    /// The version is not whole yet: old rows are being brought in line with its contract.
    #[error("{message}")]
    Backfilling {
        /// What is not whole, and how far it is.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The value does not fit into its type.
    #[error("{message}")]
    Overflow {
        /// Which one.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The store could not answer.
    #[error("{message}")]
    Unavailable {
        /// What happened; logged, not shown to HTTP clients.
        message: String,
    },
}

/// Serialises `entries` as an object in their order.
pub(crate) fn serialize_entries<S: serde::Serializer, V: Serialize>(
    entries: &[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (key, value) in entries {
        map.serialize_entry(key, value)?;
    }
    map.end()
}
