//! Event contracts: families, versions, envelopes, policies, fields, rules and enrichment.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use regex::Regex;

use super::{ColumnDef, Computed, Deprecation, LakeLayout, Status, Topic, column, newest};
use crate::expr::Expr;
use crate::types::Type;

/// All versions of one event contract; they share one journal table.
#[derive(Debug)]
pub struct Family {
    /// Index in [`super::Domain::families`].
    pub index: usize,
    /// The contract's name: the journal table is `ev_<name>` (dots become underscores).
    pub name: String,
    /// Versions, oldest first.
    pub versions: Vec<Arc<EventContract>>,
    /// Union of the fields of all versions, in order of first appearance.
    pub fields: Vec<ColumnDef>,
    /// Union of the enriched columns of all versions.
    pub enriched: Vec<ColumnDef>,
    /// Expressions over fields, enriched columns and envelope that entities and metrics need and
    /// that are more than a column.
    pub computed: Vec<Computed>,
}

/// One version of an event contract.
#[derive(Debug)]
pub struct EventContract {
    /// Index of its family.
    pub family: usize,
    /// Family name.
    pub name: String,
    /// Event types it describes.
    pub names: Vec<String>,
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
    /// Other words for its events.
    pub synonyms: Vec<String>,
    /// Kafka topics that carry its records, as written; none when it does not say.
    pub topics: Vec<Topic>,
    /// How a record is encoded.
    pub format: Format,
    /// Where a record keeps type, id, time and the rest.
    pub envelope: Envelope,
    /// Field that is the entity and ordering key.
    pub key: Option<String>,
    /// Deduplication policy.
    pub dedup: Dedup,
    /// Late and future policy.
    pub time_policy: TimePolicy,
    /// Fields in the order of the file.
    pub fields: Vec<Field>,
    /// Rules in the order of the file.
    pub rules: Vec<Rule>,
    /// Enriched columns in the order of the file; each may use those before it.
    pub enrich: Vec<Enrich>,
    /// How the lake table is laid out, when this version says it.
    pub lake: Option<LakeLayout>,
    /// Hash over everything that changes what a record becomes.
    pub hash: u64,
    /// The file it was read from.
    pub file: PathBuf,
}

/// Encoding of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// Avro.
    Avro,
}

impl Format {
    /// As contracts write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
        }
    }
}

/// A path of member names from the top of the record: `meta.type` is `["meta", "type"]`.
pub type FieldPath = Vec<String>;

/// Where a record keeps one part of its envelope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the body, at this path.
    Path(FieldPath),
    /// In the record's header of this name (Kafka's headers), as text. Names of headers are
    /// compared without regard to the case of ASCII letters, since some bridges change it.
    Header(String),
}

/// Where a record keeps its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Event type, default `event_type`.
    pub event_type: Place,
    /// Event id, default `event_id`.
    pub id: Place,
    /// Event time, default `timestamp`.
    pub time: Place,
    /// Form of the event time, default RFC 3339.
    pub time_form: TimeForm,
    /// Contract version, when the record says it. Without it the newest stable version applies.
    pub version: Option<Place>,
    /// Tenant, when the record says it.
    pub tenant: Option<Place>,
}

/// How a time is written in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeForm {
    /// `2026-01-31T10:00:00Z`; without an offset it means UTC.
    #[default]
    Rfc3339,
    /// Seconds since 1970, whole or with a fraction.
    EpochS,
    /// Milliseconds since 1970.
    EpochMs,
    /// Microseconds since 1970.
    EpochUs,
    /// Nanoseconds since 1970 (cut to microseconds).
    EpochNs,
}

impl TimeForm {
    /// As contracts write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rfc3339 => "rfc3339",
            Self::EpochS => "epoch_s",
            Self::EpochMs => "epoch_ms",
            Self::EpochUs => "epoch_us",
            Self::EpochNs => "epoch_ns",
        }
    }
}

/// Deduplication policy. All durations in the model are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// How far behind its partition's watermark an event is still compared with ids in memory, µs.
    pub horizon: i64,
    /// What a known id with another body becomes.
    pub on_conflict: OnConflict,
}

/// What a known event id with another body becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Rejected as `conflicting_duplicate`; the first one counts.
    #[default]
    DeadLetter,
    /// Counted as a duplicate; the first one counts.
    KeepFirst,
}

/// Late and future policy, µs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePolicy {
    /// Further ahead of the arrival time than this is rejected as `too_far_in_future`.
    pub max_future: i64,
    /// Behind the watermark by more than this is late.
    pub allowed_lateness: i64,
    /// What a late event becomes.
    pub late: Late,
}

/// What a late event becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Late {
    /// Accepted; windows that it belongs to change.
    #[default]
    Restate,
    /// Rejected as `late`.
    DeadLetter,
    /// Discarded as `late`.
    Drop,
}

impl Late {
    /// As contracts write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restate => "restate",
            Self::DeadLetter => "dead_letter",
            Self::Drop => "drop",
        }
    }
}

/// A field of an event contract.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name in the record (a top-level member) and column name.
    pub name: String,
    /// Type.
    pub ty: Type,
    /// Must it be there and not null?
    pub required: bool,
    /// Value as JSON when the member is absent; the field then counts as present.
    pub default: Option<serde_json::Value>,
    /// Form of a timestamp.
    pub time_form: TimeForm,
    /// Bounds.
    pub constraints: Constraints,
    /// What it is, for people.
    pub description: Option<String>,
    /// Personal data?
    pub pii: bool,
}

/// Bounds of a field. Absent and null values pass.
#[derive(Debug, Clone, Default)]
pub struct Constraints {
    /// The whole text must match (anchored by the loader), else `pattern_mismatch`.
    pub pattern: Option<Regex>,
    /// Allowed texts, else `not_allowed`.
    pub values: Option<Vec<String>>,
    /// Bounds on numbers as decimal text (`above` and `below` exclude the bound), else
    /// `out_of_range`.
    pub above: Option<String>,
    /// See `above`.
    pub below: Option<String>,
    /// See `above`; includes the bound.
    pub min: Option<String>,
    /// See `above`; includes the bound.
    pub max: Option<String>,
    /// Bounds on the length of a text in characters, else `out_of_range`.
    pub min_length: Option<usize>,
    /// See `min_length`.
    pub max_length: Option<usize>,
    /// Bounds on the number of list items, else `out_of_range`.
    pub min_items: Option<usize>,
    /// See `min_items`.
    pub max_items: Option<usize>,
}

/// A rule over one event.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Name, unique in its contract.
    pub name: String,
    /// Boolean: true keeps the event, false breaks the rule, null leaves it undecided.
    pub check: Expr,
    /// Error rejects (`rule_failed`, `rule_undecided`), warning is counted and kept on the row.
    pub severity: Severity,
    /// The field it is about, for people who read dead letters.
    pub field: Option<String>,
}

/// What breaking a rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// The event is rejected.
    #[default]
    Error,
    /// The event is kept and the break is counted.
    Warning,
}

/// An enriched column.
#[derive(Debug, Clone)]
pub struct Enrich {
    /// Column name.
    pub name: String,
    /// Type of its values.
    pub ty: Type,
    /// Where the value comes from.
    pub value: EnrichValue,
}

/// Where an enriched value comes from.
#[derive(Debug, Clone)]
pub enum EnrichValue {
    /// An expression over the fields and the enriched columns before it.
    Expr(Expr),
    /// A field of another entity, as known when the event is applied; null when there is none.
    Lookup {
        /// Index in [`super::Domain::entities`].
        entity: usize,
        /// Gives the entity's key as text.
        key: Expr,
        /// Field of that entity.
        field: String,
    },
}

impl Place {
    /// The path in the body. A header has none: it is empty, and no member stands at it.
    pub fn path(&self) -> &FieldPath {
        static NOWHERE: FieldPath = Vec::new();
        match self {
            Self::Path(path) => path,
            Self::Header(_) => &NOWHERE,
        }
    }

    /// Does the same value stand at both?
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header(a), Self::Header(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        }
    }

    /// The name of the header, unless it is in the body.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Path(_) => None,
            Self::Header(name) => Some(name),
        }
    }
}

/// `meta.type`, or `header:ce_type`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&path.join(".")),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// Where records keep it unless their contract says otherwise.
impl Default for Envelope {
    fn default() -> Self {
        let member = |name: &str| Place::Path(vec![name.to_owned()]);
        Self {
            event_type: member("event_type"),
            id: member("event_id"),
            time: member("timestamp"),
            time_form: TimeForm::default(),
            version: None,
            tenant: None,
        }
    }
}

impl Envelope {
    /// All places with what stands there, as messages and documents call it.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, &Place)> {
        [
            ("event type", Some(&self.event_type)),
            ("event id", Some(&self.id)),
            ("event time", Some(&self.time)),
            ("contract version", self.version.as_ref()),
            ("tenant", self.tenant.as_ref()),
        ]
        .into_iter()
        .filter_map(|(what, place)| Some((what, place?)))
    }
}

impl Family {
    /// Table name in the serving store.
    pub fn table(&self) -> String {
        format!("ev_{}", self.name.replace('.', "_"))
    }

    /// The given version, else the newest stable one, else the newest.
    pub fn version(&self, version: Option<u32>) -> Option<&Arc<EventContract>> {
        match version {
            Some(version) => self.versions.iter().find(|c| c.version == version),
            None => newest(self.versions.iter(), |c| (c.status, c.version)),
        }
    }

    /// How its lake table is laid out: the newest version that says it decides.
    pub fn lake(&self) -> Option<&LakeLayout> {
        self.versions.iter().rev().find_map(|contract| contract.lake.as_ref())
    }

    /// Arrow schema of its journal rows: product columns, union of fields, enriched, computed.
    pub fn schema(&self) -> SchemaRef {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            ArrowField::new(column::SEQ, DataType::Int64, false),
            ArrowField::new(column::TENANT, DataType::Utf8, false),
            ArrowField::new(column::TYPE, DataType::Utf8, false),
            ArrowField::new(column::ID, DataType::Utf8, false),
            ArrowField::new(column::TIME, ts.clone(), false),
            ArrowField::new(column::ARRIVED_AT, ts, false),
            ArrowField::new(column::VERSION, DataType::Int64, false),
            ArrowField::new(column::ID_HI, DataType::Int64, false),
            ArrowField::new(column::ID_LO, DataType::Int64, false),
            ArrowField::new(column::BODY, DataType::Int64, false),
            ArrowField::new(column::ABSENT, DataType::Int64, false),
            ArrowField::new(column::PARTITION, DataType::Int64, false),
            ArrowField::new(column::OFFSET, DataType::Int64, false),
            ArrowField::new(column::LATE, DataType::Boolean, false),
            ArrowField::new(column::EXTRA, DataType::Utf8, true),
            ArrowField::new(column::WARNINGS, DataType::Utf8, true),
        ];
        for def in self.fields.iter().chain(&self.enriched) {
            fields.push(ArrowField::new(&def.name, def.ty.arrow(), true));
        }
        for computed in &self.computed {
            fields.push(ArrowField::new(&computed.name, computed.expr.ty().arrow(), true));
        }
        Arc::new(Schema::new(fields))
    }
}

impl EventContract {
    /// Arrow schema of a decoded batch, before the journal columns are added: envelope (`_type`,
    /// `_id`, `_time`, `_tenant`), the fields in order, `_absent`, `_extra`.
    pub fn decoded_schema(&self) -> SchemaRef {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            ArrowField::new(column::TYPE, DataType::Utf8, false),
            ArrowField::new(column::ID, DataType::Utf8, false),
            ArrowField::new(column::TIME, ts, false),
            ArrowField::new(column::TENANT, DataType::Utf8, false),
        ];
        for field in &self.fields {
            fields.push(ArrowField::new(&field.name, field.ty.arrow(), true));
        }
        fields.push(ArrowField::new(column::ABSENT, DataType::Int64, false));
        fields.push(ArrowField::new(column::EXTRA, DataType::Utf8, true));
        Arc::new(Schema::new(fields))
    }
}
