//! Answers as JSON: what the API sends and what `agentflow read` prints.
//!
//! The upper part of each body is what published clients read; `proof` is ours.

mod query;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub(super) use self::query::RowsBody;
pub use self::query::{ColumnBody, MetricProof, QueryBody, QueryMetadata};

use super::time::{Time, seconds_between};
use super::warnings::WarningBody;
use crate::query::metrics::series::Point;
use crate::question::{
    EntityAnswer, Group, MetricAnswer, Previous, Proof, Value, serialize_entries,
};

/// The value of a metric.
#[derive(Debug, Serialize, ToSchema)]
pub struct MetricBody {
    /// Name of the metric.
    pub metric_name: String,
    /// The value with all its digits. Null when the question is grouped, or where the contract
    /// says that an empty window has no value.
    #[schema(value_type = Option<f64>)]
    pub value: Option<Value>,
    /// Unit of the value.
    pub unit: String,
    /// Window as the contract writes it.
    pub window: String,
    /// When the value was computed.
    pub computed_at: Time,
    /// Values of the parts of a ratio or derived metric; of a conversion how many keys `entered` and
    /// `converted`.
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    pub components: Option<BTreeMap<String, Value>>,
    /// One entry per group, when the question is grouped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupBody>>,
    /// There are groups that are not shown by name: beyond the contract's `max_cardinality`, or beyond
    /// `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups_truncated: Option<bool>,
    /// The window before, when `compare` asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousBody>,
    /// How much more it is than in the window before, with all digits; null where either is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub change: Option<Value>,
    /// The change as a part of what was before; null where that was zero or nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub change_ratio: Option<Value>,
    /// The window in parts, when `grain` asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<PointBody>>,
    /// Time of the answer.
    pub meta: Meta,
    /// What shows that the value is right and current.
    pub proof: ProofBody,
    /// What to know before building on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningBody>,
}

/// A part of a window.
#[derive(Debug, Serialize, ToSchema)]
pub struct PointBody {
    /// Its begin.
    pub from: Time,
    /// Its end, which is not in it.
    pub to: Time,
    /// The value; null when the question is grouped. Where nothing was measured it is what the contract
    /// says with `gaps`.
    #[schema(value_type = Option<f64>)]
    pub value: Option<Value>,
    /// One entry per group, the same ones in all parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupBody>>,
}

/// One group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupBody {
    /// Dimension → value; null for rows without one.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub dimensions: Vec<(String, Option<String>)>,
    /// The group's value.
    #[schema(value_type = Option<f64>)]
    pub value: Value,
    /// Is it made of all groups that are not shown by name?
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub other: bool,
    /// The dimensions in which it is: they say `__other__`, which a value of that name does, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_dimensions: Vec<String>,
    /// The group in the window before, when `compare` asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousBody>,
    /// How much more it is than in the window before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub change: Option<Value>,
    /// The change as a part of what was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub change_ratio: Option<Value>,
}

/// A value in the window before.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviousBody {
    /// The value; null when the question is grouped, or where an empty window has none.
    #[schema(value_type = Option<f64>)]
    pub value: Option<Value>,
    /// Begin of that window.
    pub from: Time,
    /// Its end, which is not in it.
    pub to: Time,
}

/// Time of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Meta {
    /// Reference time asked for.
    pub as_of: Option<Time>,
    /// Time asked for after which nothing that was applied is in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_at: Option<Time>,
    /// Was either asked for?
    pub is_historical: bool,
    /// For a metric the seconds since its `data_through`, for an entity those since its last
    /// event; null for a historical answer and before the first event.
    pub freshness_seconds: Option<f64>,
}

/// What shows that a metric's value is right and current.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProofBody {
    /// The contract that says what the metric means.
    pub contract: ContractRef,
    /// Reference time asked for.
    pub as_of: Option<Time>,
    /// Every active source partition has delivered its events up to this event time.
    pub data_through: Option<Time>,
    /// Last journal sequence number that the value includes.
    pub position: i64,
    /// Source partitions that have delivered something so far.
    pub partitions: usize,
    /// Partitions of Kafka of which records waited that are not in the value.
    pub partitions_behind: usize,
    /// Milliseconds since the value was computed.
    pub age_ms: f64,
    /// Exact, or approximate?
    pub exact: bool,
    /// How far off the metrics may be that are estimated: this one, or parts of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_bounds: Vec<ErrorBoundBody>,
    /// Dead letters that fall in the window.
    pub rejected_in_window: i64,
    /// Accepted events in the window that came late.
    pub late_in_window: i64,
    /// Accepted events in the window, of the families that the metric stands on, late ones among them. Null
    /// where the window has no beginning (`all`, `now`) and the state that counts them is not there.
    pub events_in_window: Option<i64>,
    /// `late_in_window` as a share of `events_in_window`; null where there are none.
    pub late_share: Option<f64>,
    /// `rejected_in_window` as a share of itself and `events_in_window`; null where there are none.
    pub rejected_share: Option<f64>,
    /// From the cache?
    pub cached: bool,
    /// Where the value comes from.
    pub lineage: String,
}

/// How far an estimate may be from the exact value.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBoundBody {
    /// The metric that is estimated.
    pub metric: String,
    /// Difference to the exact value, as a share of it.
    pub relative: f64,
    /// Share of the answers that keep to it: 1 is a guarantee.
    pub confidence: f64,
}

/// Names a contract version.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContractRef {
    /// Name as under `/v1/contracts`.
    pub name: String,
    /// Version.
    pub version: u32,
    /// Hash over everything that changes the answer, 16 hex digits.
    pub hash: String,
}

/// The state of an entity.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntityBody {
    /// Entity type.
    pub entity_type: String,
    /// Key.
    pub entity_id: String,
    /// The key and all fields of the contract; numbers with all their digits, times with `Z`.
    #[serde(serialize_with = "entries")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub data: Vec<(String, Box<RawValue>)>,
    /// Time of the newest event applied.
    pub last_updated: Option<Time>,
    /// Seconds since then; null for a historical answer.
    pub freshness_seconds: Option<f64>,
    /// Time of the answer.
    pub meta: Meta,
    /// What shows that the state is right and current.
    pub proof: EntityProof,
    /// What to know before building on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<WarningBody>,
}

/// What shows that an entity's state is right and current.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntityProof {
    /// The contract that says how events become this entity.
    pub contract: ContractRef,
    /// Reference time asked for.
    pub as_of: Option<Time>,
    /// Last journal sequence number that the state includes.
    pub position: i64,
    /// From the cache?
    pub cached: bool,
}

impl MetricBody {
    /// The body for an answer with its parts.
    pub(crate) fn with_series(answer: MetricAnswer, points: Vec<Point>) -> Self {
        let point = |Point { from, to, value, groups }: Point| PointBody {
            from: Time(from),
            to: Time(to),
            value,
            groups: groups.map(|groups| {
                groups.into_iter().map(|group| GroupBody::new(group, None)).collect()
            }),
        };
        Self { series: Some(points.into_iter().map(point).collect()), ..Self::new(answer) }
    }

    /// The body for an answer.
    pub fn new(answer: MetricAnswer) -> Self {
        let warnings = WarningBody::of_answer(&answer);
        let MetricAnswer {
            metric,
            unit,
            window,
            value,
            groups,
            groups_truncated,
            previous,
            components,
            computed_at,
            proof,
            ..
        } = answer;
        let answered_at = computed_at.saturating_add(proof.age);
        let freshness = match (proof.as_of.or(proof.known_at), proof.data_through) {
            (None, Some(through)) => Some(seconds_between(through, answered_at).max(0.0)),
            _ => None,
        };
        let span = previous.as_ref().map(|previous| (previous.from, previous.to));
        let before = previous.as_ref().and_then(|previous| previous.value.as_ref());
        let (change, change_ratio) = changes(value.as_ref(), before);
        let group = |group| GroupBody::new(group, span);
        Self {
            change,
            change_ratio,
            previous: previous.map(|Previous { from, to, value }| PreviousBody {
                value,
                from: Time(from),
                to: Time(to),
            }),
            value,
            unit,
            window,
            computed_at: Time(computed_at),
            components,
            groups_truncated: groups.is_some().then_some(groups_truncated),
            groups: groups.map(|groups| groups.into_iter().map(group).collect()),
            series: None,
            meta: Meta::new(proof.as_of, proof.known_at, freshness),
            proof: ProofBody::new(&metric, proof),
            metric_name: metric,
            warnings,
        }
    }
}

/// The change from `before`, and its part of it, where both are there.
fn changes(value: Option<&Value>, before: Option<&Value>) -> (Option<Value>, Option<Value>) {
    let both = value.zip(before);
    (
        both.map(|(value, before)| value.change(before)),
        both.map(|(value, before)| value.change_ratio(before)),
    )
}

impl GroupBody {
    /// `span`: the window before.
    fn new(group: Group, span: Option<(i64, i64)>) -> Self {
        let other = group.is_other();
        let Group { dimensions, value, others, previous } = group;
        let named = dimensions.iter().zip(others).filter(|(_, is_other)| *is_other);
        let other_dimensions = named.map(|((name, _), _)| name.clone()).collect();
        let (change, change_ratio) = changes(Some(&value), previous.as_ref());
        let previous = previous.zip(span).map(|(value, (from, to))| PreviousBody {
            value: Some(value),
            from: Time(from),
            to: Time(to),
        });
        Self { dimensions, value, other, other_dimensions, previous, change, change_ratio }
    }
}

impl Meta {
    fn new(as_of: Option<i64>, known_at: Option<i64>, freshness_seconds: Option<f64>) -> Self {
        Self {
            as_of: as_of.map(Time),
            known_at: known_at.map(Time),
            is_historical: as_of.or(known_at).is_some(),
            freshness_seconds,
        }
    }
}

impl ProofBody {
    pub(super) fn new(metric: &str, proof: Proof) -> Self {
        let (late_share, rejected_share) = (proof.late_share(), proof.rejected_share());
        Self {
            contract: ContractRef {
                name: format!("metric.{metric}"),
                version: proof.contract_version,
                hash: proof.contract_hash,
            },
            as_of: proof.as_of.map(Time),
            data_through: proof.data_through.map(Time),
            position: proof.position,
            partitions: proof.partitions,
            partitions_behind: proof.partitions_behind,
            age_ms: proof.age as f64 / 1_000.0,
            exact: proof.exact,
            error_bounds: proof
                .error_bounds
                .into_iter()
                .map(|(metric, bound)| ErrorBoundBody {
                    metric,
                    relative: bound.relative,
                    confidence: bound.confidence,
                })
                .collect(),
            rejected_in_window: proof.rejected_in_window,
            late_in_window: proof.late_in_window,
            events_in_window: proof.events_in_window,
            late_share,
            rejected_share,
            cached: proof.cached,
            lineage: format!("/v1/lineage/metric/{metric}"),
        }
    }
}

impl EntityBody {
    /// The body for an answer given at `now` (µs).
    pub fn new(answer: EntityAnswer, now: i64) -> Self {
        let freshness = match (answer.as_of.or(answer.known_at), answer.last_updated) {
            (None, Some(updated)) => Some(seconds_between(updated, now).max(0.0)),
            _ => None,
        };
        Self {
            proof: EntityProof {
                contract: ContractRef {
                    name: answer.entity.clone(),
                    version: answer.contract_version,
                    hash: answer.contract_hash,
                },
                as_of: answer.as_of.map(Time),
                position: answer.position,
                cached: answer.cached,
            },
            entity_type: answer.entity,
            entity_id: answer.id,
            data: answer.data,
            last_updated: answer.last_updated.map(Time),
            freshness_seconds: freshness,
            meta: Meta::new(answer.as_of, answer.known_at, freshness),
            warnings: Vec::new(),
        }
    }
}

/// The row of an entity alone.
#[derive(Debug, Serialize)]
pub(super) struct EntityRow<'a>(
    #[serde(serialize_with = "entries_of")] &'a [(String, Box<RawValue>)],
);

impl EntityBody {
    /// Its row without what stands around it.
    pub(super) fn row(&self) -> EntityRow<'_> {
        EntityRow(&self.data)
    }
}

fn entries_of<S: serde::Serializer, V: Serialize>(
    entries: &&[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serialize_entries(entries, serializer)
}

fn entries<S: serde::Serializer, V: Serialize>(
    entries: &[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serialize_entries(entries, serializer)
}
