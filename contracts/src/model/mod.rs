//! The checked form of a domain: what the rest of the product works with.
//!
//! A [`Domain`] exists only if every file parsed, every reference resolved, every expression typed
//! and the declared `moved_by` equals the derived graph. So nothing downstream needs to ask
//! whether a contract makes sense. Start at [`Domain`].
//!
//! Names of columns: what contracts declare keeps its name (`[a-z][a-z0-9_]*`); what the product
//! adds starts with an underscore, so the two never meet. `x_<hash>` columns hold expressions that
//! metrics and entities need, evaluated once when the event is applied.

pub mod column;
mod document;
mod entity;
mod event;
pub mod ingest;
mod lake;
mod metric;
mod period;
mod topic;
mod window;

use std::collections::HashSet;
use std::sync::Arc;

use crate::expr::Expr;
use crate::types::Type;

pub use self::document::{Document, DocumentField, Kind};
pub use self::entity::{
    Entity, EntityField, EntityFieldKind, EntityInput, FoldArg, FoldOp, Relationship, Stage, Stages,
};
pub use self::event::{
    Constraints, Dedup, Enrich, EnrichValue, Envelope, EventContract, Family, Field, FieldPath,
    Format, Late, OnConflict, Place, Rule, Severity, TimeForm, TimePolicy,
};
pub use self::ingest::Ingest;
pub use self::lake::{LakeLayout, PartitionField, PartitionTransform};
pub use self::metric::{
    Additivity, Dimension, ErrorBound, Example, Expectation, Followed, GivenEvent, Measure, Metric,
    MetricInput, OnEmpty, Step,
};
pub use self::period::Period;
pub use self::topic::Topic;
pub use self::window::Window;

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
    /// Where a record keeps its type when the type itself must be found first: the distinct places
    /// of the event type of all contracts.
    pub type_places: Vec<Place>,
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

/// Life cycle of a contract version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// In use.
    #[default]
    Stable,
    /// Still understood; producers should move on.
    Deprecated,
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

impl Domain {
    /// The metric of that name: the newest stable version, else the newest.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metric_where(name, |_| true)
    }

    /// The same among the versions that `admit` lets through.
    pub fn metric_where(&self, name: &str, admit: impl Fn(&Metric) -> bool) -> Option<&Metric> {
        let versions = self.metrics.iter().filter(|m| m.name == name && admit(m));
        newest(versions, |m| (m.status, m.version))
    }

    /// The entity of that name: the newest stable version, else the newest.
    pub fn entity(&self, name: &str) -> Option<&Entity> {
        self.entity_where(name, |_| true)
    }

    /// The same among the versions that `admit` lets through.
    pub fn entity_where(&self, name: &str, admit: impl Fn(&Entity) -> bool) -> Option<&Entity> {
        let versions = self.entities.iter().filter(|e| e.name == name && admit(e));
        newest(versions, |e| (e.status, e.version))
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

    /// The Kafka topics and patterns of all contracts, each once, with the format of their records;
    /// in the order of the contracts.
    pub fn topics(&self) -> Vec<(&Topic, Format)> {
        let mut seen = HashSet::new();
        self.families
            .iter()
            .flat_map(|family| &family.versions)
            .flat_map(|contract| contract.topics.iter().map(|topic| (topic, contract.format)))
            .filter(|(topic, _)| seen.insert(topic.as_str()))
            .collect()
    }
}

fn newest<T>(all: impl Iterator<Item = T>, order: impl Fn(&T) -> (Status, u32)) -> Option<T> {
    all.max_by_key(|item| {
        let (status, version) = order(item);
        (status == Status::Stable, version)
    })
}
