//! The grammar of metric contracts.

use schemars::JsonSchema;

use crate::diagnostic::Report;
use crate::raw::Status;
use crate::raw::decode::{Decode, Json, Named, OneOrMany, Text, Whole, choice, record, word};
use crate::yaml::{Node, Value};

choice! {
    /// Says that this is a metric contract.
    MetricKind, "a kind", {
        /// A number that events move.
        Metric = "metric",
    }
}

/// Value of an empty window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnEmpty {
    /// No value.
    Null,
    /// Zero.
    Zero,
}

impl Decode for OnEmpty {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match word(node, "a value for empty windows", &["null", "0"], report)? {
            "0" => Some(Self::Zero),
            _ => Some(Self::Null),
        }
    }
}

impl JsonSchema for OnEmpty {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OnEmpty".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": [null, 0]})
    }
}

record! {
    /// One version of a metric contract.
    Metric, "a metric contract", {
        /// Says that this is a metric contract.
        kind: MetricKind,
        /// Name of the metric.
        name: Text,
        /// Version, from 1; default 1.
        version: Option<Whole>,
        /// `stable` or `deprecated`; default `stable`.
        status: Option<Status>,
        /// Day of release, for people.
        released: Option<Text>,
        /// Team that answers for it.
        owner: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
        /// Other words for it in plain questions.
        synonyms: Option<Vec<Text>>,
        /// Unit of its values; default `count` or `ratio` where the measure says so, else `1`.
        unit: Option<Text>,
        /// `{event: type}`, `{entity: name}` or `ingest`; not for ratio and derived.
        from: Option<MetricSource>,
        /// Timestamp that the windows are over; default: event time, or arrival for `ingest`.
        time: Option<Text>,
        /// Only rows for which this is true count.
        filter as "where": Option<Text>,
        /// `count`, `count(x)`, `sum(x)`, `avg(x)`, `min(x)`, `max(x)`, `latest(x)`,
        /// `count_distinct(x)`, `count_distinct(x, approx)`, `quantile(x, 0.9)`,
        /// `quantile(x, 0.9, approx)`, `active(x)`, `conversion(a, b, within 30m)`,
        /// `time_weighted(x)`, `duration_in_state(condition)`, `ratio(a, b)` or `derived(a / b)`;
        /// `a@2` is version 2 of a metric.
        measure: Text,
        /// Whose rows belong together, for `conversion`, `time_weighted` and `duration_in_state`.
        key: Option<Text>,
        /// May the parts of a ratio or derived metric be over different times? Default `false`.
        mixed_time: Option<bool>,
        /// Value of an empty window; default 0 for counts and sums, else null.
        on_empty: Option<OnEmpty>,
        /// What it can be filtered and grouped by.
        dimensions: Option<Dimensions>,
        /// Windows that may be asked for: `5m`, `1h`, `7d`, to date since `all` time or the start of
        /// the `day`, `week` or `month`, or `now`.
        windows: OneOrMany<Text>,
        /// Where `day`, `week` and `month` begin: a name such as `Europe/Moscow`, or `UTC`.
        zone: Option<Text>,
        /// Event types that move it, or `ingest`; must equal the derived graph.
        moved_by: OneOrMany<Text>,
        /// How old an answer may be.
        freshness: Option<Freshness>,
        /// Shown as a gauge in `/metrics`? Default `false`.
        gauge: Option<bool>,
        /// The contract's own tests.
        examples: Option<Vec<Example>>,
    }
}

record! {
    /// Where a metric's rows come from: one of the two.
    MetricSourceDetails, "a source of a metric", {
        /// Event types.
        event: Option<OneOrMany<Text>>,
        /// An entity's current rows.
        entity: Option<Text>,
    }
}

/// `ingest`, or a mapping that names events or an entity.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum MetricSource {
    /// Each record received, with its outcome.
    Ingest(IngestWord),
    /// `{event: …}` or `{entity: …}`.
    Details(MetricSourceDetails),
}

choice! {
    /// The built-in source.
    IngestWord, "a source", {
        /// Each record received, with its outcome.
        Ingest = "ingest",
    }
}

impl Decode for MetricSource {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text != "ingest" => {
                report.error(
                    node.at,
                    format!("`{}` is not a source", crate::raw::decode::shorten(&scalar.text)),
                    "write `{event: type}`, `{entity: name}` or `ingest`",
                );
                None
            }
            Value::Map(_) => Decode::decode(node, report).map(Self::Details),
            _ => Decode::decode(node, report).map(Self::Ingest),
        }
    }
}

/// Dimensions by name, or only the names.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Dimensions {
    /// Fields of the same names.
    Names(Vec<Text>),
    /// With details.
    Named(Named<Dimension>),
}

impl Decode for Dimensions {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::List(_) => Decode::decode(node, report).map(Self::Names),
            _ => Decode::decode(node, report).map(Self::Named),
        }
    }
}

record! {
    /// Something that a metric can be filtered and grouped by.
    Dimension, "a dimension", {
        /// Field that it is; default: the field of the same name.
        field: Option<Text>,
        /// Expression that gives it.
        expr: Option<Text>,
        /// Most values that a grouped answer may have.
        max_cardinality: Option<Whole>,
        /// Other words for it in plain questions.
        synonyms: Option<Vec<Text>>,
        /// What it is, for people.
        description: Option<Text>,
    }
}

record! {
    /// How old an answer may be.
    Freshness, "a freshness promise", {
        /// Oldest cached answer; default `1s`.
        max_age: Text,
    }
}

record! {
    /// Events in, values out.
    Example, "an example", {
        /// What it shows.
        name: Option<Text>,
        /// Events in the order in which they arrive: `event` is the type, `at` the time.
        given: Vec<GivenEvent>,
        /// What must be read afterwards.
        expect: OneOrMany<Expectation>,
    }
}

record! {
    /// An expected answer.
    Expectation, "an expectation", {
        /// One of the metric's windows; default: the first.
        window: Option<Text>,
        /// The value, or null.
        value: Json,
        /// When it is read: a time, or `+31m` after the last event; default: just after it.
        as_of: Option<Text>,
        /// Values of dimensions.
        filters: Option<Named<Text>>,
    }
}

/// An event of an example.
#[derive(Debug, Clone)]
pub(crate) struct GivenEvent {
    /// Where it stands.
    pub(crate) at: crate::diagnostic::Position,
    /// Its members.
    pub(crate) members: Vec<(Text, Json)>,
}

impl Decode for GivenEvent {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            crate::raw::decode::unexpected(
                node,
                "an event",
                "write `{event: type, field: value}`",
                report,
            );
            return None;
        };
        let members = entries
            .iter()
            .filter_map(|(key, value)| Some((Text::of(key), Json::decode(value, report)?)))
            .collect();
        Some(Self { at: node.at, members })
    }
}

impl JsonSchema for GivenEvent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GivenEvent".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An event as a producer would send it; `event` is its type, `at` its time.",
            "type": "object",
            "properties": {"event": {"type": "string"}},
            "required": ["event"]
        })
    }
}
