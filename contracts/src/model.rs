//! The checked form of a domain: what the rest of the product works with.
//!
//! A [`Domain`] exists only if every file parsed, every reference resolved, every expression typed
//! and the declared `moved_by` equals the derived graph. So nothing downstream needs to ask
//! whether a contract makes sense. Start at [`Domain`].
//!
//! Names of columns: what contracts declare keeps its name (`[a-z][a-z0-9_]*`); what the product
//! adds starts with an underscore, so the two never meet. `x_<hash>` columns hold expressions that
//! metrics and entities need, evaluated once when the event is applied.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use regex::Regex;

use crate::expr::Expr;
use crate::types::Type;

/// Names of the columns that the product itself adds to a journal row.
pub mod column {
    /// Journal sequence number (Int64), ascending without gaps over all families.
    pub const SEQ: &str = "_seq";
    /// Tenant (Utf8).
    pub const TENANT: &str = "_tenant";
    /// Event type (Utf8).
    pub const TYPE: &str = "_type";
    /// Event id (Utf8).
    pub const ID: &str = "_id";
    /// Event time (Timestamp µs, UTC).
    pub const TIME: &str = "_time";
    /// When the record arrived (Timestamp µs, UTC).
    pub const ARRIVED_AT: &str = "_arrived_at";
    /// Version of the contract that the record was read with (Int64).
    pub const VERSION: &str = "_version";
    /// Upper and lower half of the 128-bit hash of (tenant, event id) (Int64 each).
    pub const ID_HI: &str = "_id_hi";
    /// See [`ID_HI`].
    pub const ID_LO: &str = "_id_lo";
    /// Hash over the decoded contract fields (Int64): equal bodies, equal hash.
    pub const BODY: &str = "_body";
    /// Bit `i` is set when the optional field `i` of the family ([`super::Family::fields`]) was
    /// absent from the record, as opposed to null (Int64).
    pub const ABSENT: &str = "_absent";
    /// Row of `source_partitions` that the record came from (Int64).
    pub const PARTITION: &str = "_partition";
    /// Offset of the record in its source partition (Int64).
    pub const OFFSET: &str = "_offset";
    /// Was it behind its partition's watermark by more than the allowed lateness? (Boolean)
    pub const LATE: &str = "_late";
    /// JSON object of the members that the contract does not know, or null (Utf8).
    pub const EXTRA: &str = "_extra";
    /// Names of the rules with severity `warning` that the event broke, comma separated, or null
    /// (Utf8).
    pub const WARNINGS: &str = "_warnings";

    /// Entity tables: the entity key as text (Utf8).
    pub const KEY: &str = "_key";
    /// Entity tables: 64-bit hash of (tenant, key) (Int64), for joins; keys are compared in full.
    pub const KEY_HASH: &str = "_key_hash";
    /// Entity tables: the serialised fold state (Binary).
    pub const STATE: &str = "_state";
    /// Entity tables: sequence number of the last event that changed the row (Int64).
    pub const UPDATED_SEQ: &str = "_updated_seq";
    /// Entity tables: highest event time applied (Timestamp µs).
    pub const UPDATED_AT: &str = "_updated_at";
    /// Entity tables with `closes_after`: when the entity counts as closed (Timestamp µs).
    pub const CLOSES_AT: &str = "_closes_at";
    /// Entities with `closes_after`: name of the boolean that derived fields and metrics read.
    /// Expressions are given it as a batch column, beside the key under its own name and the
    /// fields; it is never stored.
    pub const CLOSED: &str = "closed";
    /// Suffix of the second column of a value that depends on `closed`: the value once closed.
    pub const CLOSED_SUFFIX: &str = "__closed";
}

/// A whole folder of contracts, checked.
#[derive(Debug)]
pub struct Domain {
    /// Name of the folder, or what `kind: domain` says.
    pub name: String,
    /// Event families in order of name; a family is all versions of one event contract and one
    /// journal table.
    pub families: Vec<Family>,
    /// Entities; one that is folded from another entity comes after it.
    pub entities: Vec<Entity>,
    /// Metrics; a ratio or derived metric comes after its parts.
    pub metrics: Vec<Metric>,
    /// Expressions that metrics over the built-in source `ingest` need.
    pub ingest: Ingest,
    /// What happens to a record whose type no contract knows.
    pub unknown_event: UnknownEvent,
    /// The derived event → entity → metric graph.
    pub graph: crate::graph::Graph,
    /// Every version of every contract as `/v1/contracts` shows it, oldest version first.
    pub documents: Vec<Document>,
    /// Where a record keeps its type when the type itself must be found first: the distinct
    /// envelope type paths of all contracts.
    pub type_paths: Vec<FieldPath>,
}

/// Policy for records whose event type no contract names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownEvent {
    /// Dead letter with reason `unknown_event_type`.
    #[default]
    DeadLetter,
    /// Discarded and counted.
    Ignore,
}

/// All versions of one event contract; they share one journal table.
#[derive(Debug)]
pub struct Family {
    /// Index in [`Domain::families`].
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

/// A named, typed column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Column name.
    pub name: String,
    /// Type of its values; always nullable.
    pub ty: Type,
}

/// An expression evaluated when an event is applied and stored as a column.
#[derive(Debug, Clone)]
pub struct Computed {
    /// `x_` + 12 hex digits of the hash of the canonical text.
    pub name: String,
    /// The compiled expression.
    pub expr: Expr,
    /// For entities with `closes_after`: does it depend on `closed`? Then a second column with
    /// [`column::CLOSED_SUFFIX`] holds its value for a closed entity.
    pub depends_on_closed: bool,
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
    /// Team that answers for it.
    pub owner: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Kafka topic or topic pattern.
    pub topic: Option<String>,
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
    /// Hash over everything that changes what a record becomes.
    pub hash: u64,
    /// The file it was read from.
    pub file: PathBuf,
}

/// Life cycle of a contract version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// In use.
    #[default]
    Stable,
    /// Still understood; producers should move on.
    Deprecated,
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

/// A path of member names from the top of the record: `meta.type` is `["meta", "type"]`.
pub type FieldPath = Vec<String>;

/// Where a record keeps its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Event type, default `event_type`.
    pub type_path: FieldPath,
    /// Event id, default `event_id`.
    pub id_path: FieldPath,
    /// Event time, default `timestamp`.
    pub time_path: FieldPath,
    /// Form of the event time, default RFC 3339.
    pub time_form: TimeForm,
    /// Contract version, when the record says it. Without it the newest stable version applies.
    pub version_path: Option<FieldPath>,
    /// Tenant, when the record says it.
    pub tenant_path: Option<FieldPath>,
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
        /// Index in [`Domain::entities`].
        entity: usize,
        /// Gives the entity's key as text.
        key: Expr,
        /// Field of that entity.
        field: String,
    },
}

/// An entity: the current state of one thing, folded from events or from another entity.
#[derive(Debug)]
pub struct Entity {
    /// Index in [`Domain::entities`].
    pub index: usize,
    /// Name; the table is `en_<name>_v<version>`.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// Stable or deprecated.
    pub status: Status,
    /// Team that answers for it.
    pub owner: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// Name of the key field as people see it (`order_id`); shown in the row.
    pub key: String,
    /// What it is folded from, one entry per family or one for the source entity.
    pub inputs: Vec<EntityInput>,
    /// Folds and derived fields in the order of the file; derived ones may use all folds and the
    /// derived fields before them.
    pub fields: Vec<EntityField>,
    /// Closed when no event came for this long (µs).
    pub closes_after: Option<i64>,
    /// Expressions over its fields that metrics and dependent entities need.
    pub computed: Vec<Computed>,
    /// Hash over everything that changes its state.
    pub hash: u64,
    /// The file it was read from.
    pub file: PathBuf,
}

/// One source of an entity: which rows, with which key, feeding which folds.
#[derive(Debug, Clone)]
pub struct EntityInput {
    /// The rows.
    pub relation: Relation,
    /// Only these event types (empty for an entity source).
    pub event_types: Vec<String>,
    /// Boolean column of the relation; only true rows count.
    pub filter: Option<ColumnRef>,
    /// Column of the relation with the key (text or integer).
    pub key: ColumnRef,
    /// Argument column for each fold of [`Entity::folds`], in order; `None` when this input does
    /// not have the argument (the fold is then left alone) or the fold takes none.
    pub args: Vec<Option<FoldArg>>,
}

/// Argument of a fold for one input.
#[derive(Debug, Clone)]
pub struct FoldArg {
    /// The value.
    pub value: ColumnRef,
    /// What `arg_max` and `arg_min` order by.
    pub by: Option<ColumnRef>,
    /// Position of the field in [`Family::fields`] when the argument is a plain optional field:
    /// the row is skipped when its bit in [`column::ABSENT`] is set ("an absent field keeps the
    /// old value").
    pub absent_bit: Option<u32>,
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRef {
    /// Column name in the journal or entity table.
    pub name: String,
    /// Type of its values.
    pub ty: Type,
    /// For entity relations: is there a [`column::CLOSED_SUFFIX`] twin?
    pub depends_on_closed: bool,
}

/// Something that has rows: what metrics and entities stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// The journal of a family.
    Family(usize),
    /// The current rows of an entity.
    Entity(usize),
    /// Each record received, with its outcome.
    Ingest,
}

/// A field of an entity.
#[derive(Debug, Clone)]
pub struct EntityField {
    /// Column name.
    pub name: String,
    /// Type of its values.
    pub ty: Type,
    /// Fold or derived.
    pub kind: EntityFieldKind,
    /// Does its value depend on `closed`?
    pub depends_on_closed: bool,
    /// What it is, for people.
    pub description: Option<String>,
}

/// How an entity's field gets its value.
#[derive(Debug, Clone)]
pub enum EntityFieldKind {
    /// Fold number `n` of [`Entity::folds`].
    Fold(FoldOp),
    /// Expression over folds, derived fields before it, and `closed`.
    Derived(Expr),
}

/// How the values of many events become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FoldOp {
    /// Value of the event with the highest (event time, position).
    Last,
    /// Value of the event with the lowest (event time, position).
    First,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Number of rows, or of non-null values.
    Count,
    /// Exact sum: of int64 decimal(38,0), of decimals decimal(38,s); doubles are summed in order of
    /// application.
    Sum,
    /// Number of distinct non-null values.
    CountDistinct,
    /// Most frequent non-null value; ties go to the smaller value.
    Mode,
    /// Value of the row where `by` is largest; ties go to the later row.
    ArgMax,
    /// Value of the row where `by` is smallest; ties go to the earlier row.
    ArgMin,
}

impl Entity {
    /// The folds in order: (field index, operation, type of the result).
    pub fn folds(&self) -> impl Iterator<Item = (usize, FoldOp, &Type)> {
        self.fields.iter().enumerate().filter_map(|(i, field)| match &field.kind {
            EntityFieldKind::Fold(op) => Some((i, *op, &field.ty)),
            EntityFieldKind::Derived(_) => None,
        })
    }

    /// Table name in the serving store.
    pub fn table(&self) -> String {
        format!("en_{}_v{}", self.name.replace('.', "_"), self.version)
    }

    /// Arrow schema of its rows in the serving store: product columns, then each field (with its
    /// `__closed` twin), then computed columns (with theirs), then the state.
    pub fn schema(&self) -> SchemaRef {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            ArrowField::new(column::KEY_HASH, DataType::Int64, false),
            ArrowField::new(column::TENANT, DataType::Utf8, false),
            ArrowField::new(column::KEY, DataType::Utf8, false),
            ArrowField::new(column::UPDATED_SEQ, DataType::Int64, false),
            ArrowField::new(column::UPDATED_AT, ts.clone(), true),
            ArrowField::new(column::CLOSES_AT, ts, true),
        ];
        let mut add = |name: &str, ty: &Type, closed: bool| {
            fields.push(ArrowField::new(name, ty.arrow(), true));
            if closed {
                let twin = format!("{name}{}", column::CLOSED_SUFFIX);
                fields.push(ArrowField::new(twin, ty.arrow(), true));
            }
        };
        for field in &self.fields {
            add(&field.name, &field.ty, field.depends_on_closed);
        }
        for computed in &self.computed {
            add(&computed.name, computed.expr.ty(), computed.depends_on_closed);
        }
        fields.push(ArrowField::new(column::STATE, DataType::Binary, false));
        Arc::new(Schema::new(fields))
    }
}

impl Family {
    /// Table name in the serving store.
    pub fn table(&self) -> String {
        format!("ev_{}", self.name.replace('.', "_"))
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

/// The built-in source `ingest`: one row per received record (stored pre-counted).
///
/// Columns that expressions may use: `outcome` (accepted, duplicate, rejected, discarded),
/// `reason` (null when accepted or duplicate), `event_type` (null when unknown), `source`,
/// `late` (bool), `arrived_at`.
#[derive(Debug, Default)]
pub struct Ingest {
    /// Expressions that metrics need.
    pub computed: Vec<Computed>,
}

/// Columns of [`Ingest`] besides the computed ones.
pub mod ingest {
    /// Arrival time (Timestamp µs).
    pub const ARRIVED_AT: &str = "arrived_at";
    /// Tenant (Utf8).
    pub const TENANT: &str = super::column::TENANT;
    /// accepted, duplicate, rejected or discarded (Utf8).
    pub const OUTCOME: &str = "outcome";
    /// Reason code, null when accepted or duplicate (Utf8).
    pub const REASON: &str = "reason";
    /// Event type, null when it could not be read or is unknown (Utf8).
    pub const EVENT_TYPE: &str = "event_type";
    /// Source name (Utf8).
    pub const SOURCE: &str = "source";
    /// Was it late? (Boolean)
    pub const LATE: &str = "late";
    /// Number of records that the row stands for (Int64); never visible to contracts.
    pub const N: &str = "_n";
    /// Highest journal sequence number when the row was written (Int64).
    pub const SEQ: &str = super::column::SEQ;
    /// Table name in the serving store.
    pub const TABLE: &str = "ingest";
}

impl Ingest {
    /// Arrow schema of its rows.
    pub fn schema(&self) -> SchemaRef {
        let ts = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            ArrowField::new(ingest::SEQ, DataType::Int64, false),
            ArrowField::new(ingest::TENANT, DataType::Utf8, false),
            ArrowField::new(ingest::ARRIVED_AT, ts, false),
            ArrowField::new(ingest::OUTCOME, DataType::Utf8, false),
            ArrowField::new(ingest::REASON, DataType::Utf8, true),
            ArrowField::new(ingest::EVENT_TYPE, DataType::Utf8, true),
            ArrowField::new(ingest::SOURCE, DataType::Utf8, false),
            ArrowField::new(ingest::LATE, DataType::Boolean, false),
            ArrowField::new(ingest::N, DataType::Int64, false),
        ];
        for computed in &self.computed {
            fields.push(ArrowField::new(&computed.name, computed.expr.ty().arrow(), true));
        }
        Arc::new(Schema::new(fields))
    }
}

/// One version of a metric.
#[derive(Debug)]
pub struct Metric {
    /// Index in [`Domain::metrics`].
    pub index: usize,
    /// Name.
    pub name: String,
    /// Version, from 1.
    pub version: u32,
    /// Stable or deprecated.
    pub status: Status,
    /// Team that answers for it.
    pub owner: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
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
    /// Quotient of two metrics (indices in [`Domain::metrics`]); null when the divisor is 0 or
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
        /// Indices in [`Domain::metrics`].
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

/// A dimension of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// Name in `filter` and `group_by`.
    pub name: String,
    /// Type of its values: string, bool, int64 or date.
    pub ty: Type,
    /// Most values that a group-by may return.
    pub max_cardinality: Option<usize>,
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
    /// Events in order, each a JSON object as a producer would send it. The loader fills envelope
    /// members that the file leaves out: `event` gives the type, ids are made up, times default to
    /// one second apart before the `as_of`.
    pub given: Vec<serde_json::Value>,
    /// Expected answers.
    pub expect: Vec<Expectation>,
    /// Line of the example in the file.
    pub line: u32,
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

/// A contract version as `/v1/contracts` shows it.
#[derive(Debug, Clone)]
pub struct Document {
    /// event, entity or metric.
    pub kind: Kind,
    /// Name: entity name, event contract name, or `metric.<name>`.
    pub entity: String,
    /// Version.
    pub version: u32,
    /// Day of release as written, else an empty text.
    pub released: String,
    /// Stable or deprecated.
    pub status: Status,
    /// Fields as clients read them.
    pub fields: Vec<DocumentField>,
    /// Event types that move it (metrics).
    pub source_events: Vec<String>,
    /// Declared `freshness.max_age` (µs; metrics).
    pub max_age: Option<i64>,
    /// Hash of the contract, 16 hex digits.
    pub hash: String,
    /// The contract as written.
    pub yaml: String,
}

/// Kind of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Event contract.
    Event,
    /// Entity contract.
    Entity,
    /// Metric contract.
    Metric,
}

/// A field as clients read it.
#[derive(Debug, Clone)]
pub struct DocumentField {
    /// Name.
    pub name: String,
    /// string, float, integer, enum, datetime, boolean, list, object.
    pub ty: String,
    /// Must it be there?
    pub required: bool,
    /// What it is.
    pub description: Option<String>,
    /// Allowed values.
    pub values: Option<Vec<String>>,
    /// Unit.
    pub unit: Option<String>,
}

impl Domain {
    /// The metric of that name: the newest stable version, else the newest.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        newest(self.metrics.iter().filter(|m| m.name == name), |m| (m.status, m.version))
    }

    /// The entity of that name: the newest stable version, else the newest.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        newest(self.entities.iter().filter(|e| e.name == name), |e| (e.status, e.version))
    }

    /// The contract for an event type: the given version, else the newest stable one, else the
    /// newest.
    pub fn event(&self, event_type: &str, version: Option<u32>) -> Option<&Arc<EventContract>> {
        let all = self
            .families
            .iter()
            .flat_map(|f| &f.versions)
            .filter(|c| c.names.iter().any(|n| n == event_type));
        match version {
            Some(version) => all.into_iter().find(|c| c.version == version),
            None => newest(all, |c| (c.status, c.version)),
        }
    }
}

fn newest<T>(all: impl Iterator<Item = T>, order: impl Fn(&T) -> (Status, u32)) -> Option<T> {
    all.max_by_key(|item| {
        let (status, version) = order(item);
        (status == Status::Stable, version)
    })
}
