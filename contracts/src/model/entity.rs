//! Entities: the current state of one thing, and the folds that give it.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

use super::{ColumnRef, Computed, Deprecation, Relation, Status, column};
use crate::expr::Expr;
use crate::types::Type;

/// An entity: the current state of one thing, folded from events or from another entity.
#[derive(Debug)]
pub struct Entity {
    /// Index in [`super::Domain::entities`].
    pub index: usize,
    /// Name; the table is `en_<name>_v<version>`.
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
    /// Name of the key field as people see it (`order_id`); shown in the row.
    pub key: String,
    /// What it is folded from, one entry per family or one for the source entity.
    pub inputs: Vec<EntityInput>,
    /// Folds and derived fields in the order of the file; derived ones may use all folds and the
    /// derived fields before them.
    pub fields: Vec<EntityField>,
    /// Closed when no event came for this long (µs).
    pub closes_after: Option<i64>,
    /// The stages that it goes through.
    pub stages: Option<Stages>,
    /// Other entities that belong to it, in the order of the file.
    pub relationships: Vec<Relationship>,
    /// Expressions over its fields that metrics and dependent entities need.
    pub computed: Vec<Computed>,
    /// Hash over everything that changes its state.
    pub hash: u64,
    /// What the hash is over: facts in their parts, the first of which says what it is about.
    pub facts: Vec<Vec<String>>,
    /// The file it was read from.
    pub file: PathBuf,
}

/// The stages that an entity goes through. They change neither its state nor its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    /// Field that says in which stage it is.
    pub field: String,
    /// The stages in their usual order.
    pub ladder: Vec<Stage>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Value of [`Stages::field`].
    pub name: String,
    /// Longest time (µs) that an entity should stay in it.
    pub sla: Option<i64>,
    /// Is it the end?
    pub terminal: bool,
    /// What it means, for people.
    pub description: Option<String>,
}

/// Another entity that belongs to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// What the other one is to this one.
    pub name: String,
    /// Name of the other entity; its newest stable version is meant.
    pub entity: String,
    /// Field of this entity with the other's key.
    pub key: String,
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
    /// Position of the field in [`super::Family::fields`] when the argument is a plain optional field:
    /// the row is skipped when its bit in [`column::ABSENT`] is set ("an absent field keeps the
    /// old value").
    pub absent_bit: Option<u32>,
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
    /// Other words for it in plain questions.
    pub synonyms: Vec<String>,
    /// Words that mean that a bool is false or a number low.
    pub opposites: Vec<String>,
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

impl Stages {
    /// The stage of that name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.ladder.iter().find(|stage| stage.name == name)
    }
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
