//! The grammar of event contracts.

use schemars::JsonSchema;

use crate::diagnostic::Report;
use crate::raw::decode::{Decode, Json, Named, OneOrMany, Text, Whole, choice, record};
use crate::raw::{Deprecated, Status};
use crate::yaml::{Node, Value};

choice! {
    /// Says that this is an event contract.
    EventKind, "a kind", {
        /// One shape of record with one or several event types.
        Event = "event",
    }
}

choice! {
    /// How a record is encoded.
    Format, "a format", {
        /// A JSON object.
        Json = "json",
        /// Avro.
        Avro = "avro",
    }
}

choice! {
    /// How a time is written in a record.
    TimeForm, "a form of time", {
        /// `2026-01-31T10:00:00Z`; without an offset it means UTC.
        Rfc3339 = "rfc3339",
        /// Seconds since 1970, whole or with a fraction.
        EpochS = "epoch_s",
        /// Milliseconds since 1970.
        EpochMs = "epoch_ms",
        /// Microseconds since 1970.
        EpochUs = "epoch_us",
        /// Nanoseconds since 1970.
        EpochNs = "epoch_ns",
    }
}

choice! {
    /// What a known event id with another body becomes.
    OnConflict, "a policy for conflicts", {
        /// A dead letter with reason `conflicting_duplicate`; the first one counts.
        DeadLetter = "dead_letter",
        /// A duplicate; the first one counts.
        KeepFirst = "keep_first",
    }
}

choice! {
    /// What a late event becomes.
    Late, "a policy for late events", {
        /// Accepted; the windows that it belongs to change.
        Restate = "restate",
        /// A dead letter with reason `late`.
        DeadLetter = "dead_letter",
        /// Discarded and counted as `late`.
        Drop = "drop",
    }
}

choice! {
    /// What breaking a rule means.
    Severity, "a severity", {
        /// The event becomes a dead letter.
        Error = "error",
        /// The event is kept and the break is counted.
        Warning = "warning",
    }
}

record! {
    /// One version of an event contract: what a record must look like and what it becomes.
    Event, "an event contract", {
        /// Says that this is an event contract.
        kind: EventKind,
        /// Name of the contract; default: what all `names` begin with (`order` for `order.created`
        /// and `order.updated`).
        name: Option<Text>,
        /// Event types that have this shape.
        names: OneOrMany<Text>,
        /// Version, from 1; default 1.
        version: Option<Whole>,
        /// `stable` or `deprecated`; default `stable`.
        status: Option<Status>,
        /// Since when it is deprecated, until when it is there, and what to use instead.
        deprecated: Option<Deprecated>,
        /// Day of release, for people.
        released: Option<Text>,
        /// Team that answers for it.
        owner: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
        /// Other words for its events where a stream is narrowed to some.
        synonyms: Option<Vec<Text>>,
        /// Kafka topics: names, or patterns that start with `^`.
        topic: Option<OneOrMany<Text>>,
        /// Encoding of a record; default `json`.
        format: Option<Format>,
        /// Where a record keeps type, id, time, version and tenant.
        envelope: Option<Envelope>,
        /// Field that is the entity and ordering key.
        key: Option<Text>,
        /// Deduplication policy.
        dedup: Option<Dedup>,
        /// Late and future policy.
        time_policy: Option<TimePolicy>,
        /// Fields of a record: name and type, or name and a mapping.
        fields: Named<Field>,
        /// Rules over one event.
        rules: Option<Vec<Rule>>,
        /// Columns that are added to an accepted event.
        enrich: Option<Named<Enrich>>,
        /// How the table of the lake is laid out; the newest version that says it decides.
        lake: Option<Lake>,
    }
}

record! {
    /// How the table of the lake is laid out. It changes nothing about the events.
    Lake, "a lake layout", {
        /// Columns, and `day(…)`, `month(…)`, `hour(…)`, `bucket(N, …)` or `truncate(W, …)` of a
        /// column; default `day` of the event time.
        partition: Option<OneOrMany<Text>>,
        /// Columns that order the rows of a file; default: the order of the journal.
        sort: Option<OneOrMany<Text>>,
        /// When new rows are committed.
        commit: Option<LakeCommit>,
    }
}

record! {
    /// When new rows are committed to the lake: by time or size, whichever comes first.
    LakeCommit, "a commit policy", {
        /// Longest time between two commits; default `30s`.
        every: Option<Text>,
        /// Size of the new files; default `128MiB`.
        size: Option<Text>,
    }
}

record! {
    /// Where a record keeps its envelope: in members of its body, or in its headers. Dots go into
    /// nested members: `meta.type`.
    Envelope, "an envelope", {
        /// Event type; default `event_type`.
        type_ as "type": Option<EnvelopePlace>,
        /// Event id; default `event_id`.
        id: Option<EnvelopePlace>,
        /// Event time; default `timestamp` in RFC 3339.
        time: Option<EnvelopeTime>,
        /// Contract version; default: the newest stable one applies.
        version: Option<EnvelopePlace>,
        /// Tenant; default: the source says it.
        tenant: Option<EnvelopePlace>,
    }
}

record! {
    /// A header of the record.
    EnvelopeHeader, "a place of the envelope", {
        /// Name of the header.
        header: Text,
    }
}

/// Path of a member, or a header.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum EnvelopePlace {
    /// A path in the body.
    Path(Text),
    /// A header.
    Header(EnvelopeHeader),
}

impl Decode for EnvelopePlace {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(Self::Header),
            _ => Decode::decode(node, report).map(Self::Path),
        }
    }
}

record! {
    /// Where and in which form a record keeps its event time: `field` or `header`, and `form`.
    EnvelopeTimeForm, "an event time", {
        /// Path of the member.
        field: Option<Text>,
        /// Name of the header.
        header: Option<Text>,
        /// Form of the time; default `rfc3339`.
        form: Option<TimeForm>,
    }
}

/// Path of the event time, or place and form.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum EnvelopeTime {
    /// A path; the form is `rfc3339`.
    Path(Text),
    /// A place and a form.
    Form(EnvelopeTimeForm),
}

impl Decode for EnvelopeTime {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(Self::Form),
            _ => Decode::decode(node, report).map(Self::Path),
        }
    }
}

record! {
    /// Deduplication policy.
    Dedup, "a dedup policy", {
        /// How far behind the watermark ids are kept in memory; default `7d`.
        horizon: Option<Text>,
        /// What a known id with another body becomes; default `dead_letter`.
        on_conflict: Option<OnConflict>,
    }
}

record! {
    /// Late and future policy.
    TimePolicy, "a time policy", {
        /// Further ahead of the arrival time than this is refused; default `5m`.
        max_future: Option<Text>,
        /// What a late event becomes; default `restate`.
        late: Option<Late>,
        /// Behind the watermark by more than this is late; default `1m`.
        allowed_lateness: Option<Text>,
    }
}

/// A type, or a mapping with type and bounds.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Field {
    /// Only a type; the field is required.
    Short(Text),
    /// Type, bounds and the rest.
    Long(Box<FieldDetails>),
}

impl Decode for Field {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(|f| Self::Long(Box::new(f))),
            _ => Decode::decode(node, report).map(Self::Short),
        }
    }
}

record! {
    /// A field of a record.
    FieldDetails, "a field", {
        /// `string`, `bool`, `int64`, `float64`, `decimal(p,s)`, `timestamp`, `date`, `list<T>`,
        /// `struct<a: T, b: T>` or `json`.
        type_ as "type": Text,
        /// Must it be there and not null? Default `true`.
        required: Option<bool>,
        /// Value when the member is absent.
        default: Option<Json>,
        /// Regular expression for the whole text.
        pattern: Option<Text>,
        /// Allowed texts.
        values: Option<Vec<Text>>,
        /// The number must be greater.
        above: Option<Text>,
        /// The number must be less.
        below: Option<Text>,
        /// The number must be this or greater.
        min: Option<Text>,
        /// The number must be this or less.
        max: Option<Text>,
        /// Shortest text, in characters.
        min_length: Option<Whole>,
        /// Longest text, in characters.
        max_length: Option<Whole>,
        /// Fewest list items.
        min_items: Option<Whole>,
        /// Most list items.
        max_items: Option<Whole>,
        /// Form of a timestamp; default `rfc3339`.
        form: Option<TimeForm>,
        /// Field that says which currency (or other unit) this amount is in, or `none`. Default
        /// for decimals: the only field whose `values` are currency codes.
        currency_field: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
        /// Personal data? Default `false`.
        pii: Option<bool>,
    }
}

record! {
    /// A rule over one event.
    Rule, "a rule", {
        /// Name, unique in the contract.
        name: Text,
        /// Expression that must be true.
        check: Text,
        /// `error` rejects the event, `warning` counts; default `error`.
        severity: Option<Severity>,
        /// The field it is about; default: the only field it reads.
        field: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
    }
}

/// An expression, or a mapping with expression and type or a lookup.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Enrich {
    /// An expression.
    Expr(Text),
    /// An expression with a type, or a lookup.
    Long(Box<EnrichDetails>),
}

impl Decode for Enrich {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(|d| Self::Long(Box::new(d))),
            _ => Decode::decode(node, report).map(Self::Expr),
        }
    }
}

record! {
    /// An added column: `expr` (and `type`), or `lookup`, `key` and `field`.
    EnrichDetails, "an enriched column", {
        /// Expression over the fields and the enriched columns before it.
        expr: Option<Text>,
        /// Type that the value is cast to.
        type_ as "type": Option<Text>,
        /// Entity to look the value up in, as known when the event is applied.
        lookup: Option<Text>,
        /// Expression that gives the entity's key.
        key: Option<Text>,
        /// Field of that entity.
        field: Option<Text>,
        /// What it is, for people.
        description: Option<Text>,
    }
}
