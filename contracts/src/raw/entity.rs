//! The grammar of entity contracts.

use schemars::JsonSchema;

use crate::diagnostic::Report;
use crate::raw::decode::{Decode, Named, OneOrMany, Text, Whole, choice, record};
use crate::raw::{Deprecated, Status};
use crate::yaml::{Node, Value};

choice! {
    /// Says that this is an entity contract.
    EntityKind, "a kind", {
        /// The current state of one thing, folded from events or from another entity.
        Entity = "entity",
    }
}

record! {
    /// One version of an entity contract.
    Entity, "an entity contract", {
        /// Says that this is an entity contract.
        kind: EntityKind,
        /// Name of the entity.
        name: Text,
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
        /// Other words for it in plain questions.
        synonyms: Option<Vec<Text>>,
        /// Event types that it is folded from, or `{entity: name}`.
        from: EntitySource,
        /// Field that says which entity a row belongs to.
        key: Text,
        /// Only rows for which this is true count.
        filter as "where": Option<Text>,
        /// Folds (`last`, `first(x)`, `sum(x)`, …) and expressions over them.
        fields: Named<EntityField>,
        /// The entity is closed when no event came for this long.
        closes_after: Option<Text>,
        /// The stages that it goes through, for those who watch over it.
        stages: Option<Stages>,
        /// Other entities that belong to it: name of the relationship → a field of this entity with the
        /// other's key, or `{entity: name, key: field}`.
        relationships: Option<Named<Relationship>>,
    }
}

record! {
    /// The stages that an entity goes through.
    Stages, "stages", {
        /// Field that says in which stage it is; a string.
        field: Text,
        /// The stages in their usual order.
        ladder: Vec<Stage>,
    }
}

record! {
    /// A stage.
    Stage, "a stage", {
        /// Value of the field.
        name: Text,
        /// Longest time that an entity should stay in it.
        sla: Option<Text>,
        /// Is it the end? Default no.
        terminal: Option<bool>,
        /// What it means, for people.
        description: Option<Text>,
    }
}

record! {
    /// Another entity that belongs to this one.
    RelationshipDetails, "a relationship", {
        /// Name of the other entity.
        entity: Text,
        /// Field of this entity with the other's key.
        key: Text,
    }
}

/// A field with the key of the entity that the relationship is named after, or a mapping.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Relationship {
    /// A field of this entity with the other's key.
    Short(Text),
    /// With the name of the other entity.
    Long(RelationshipDetails),
}

impl Decode for Relationship {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(Self::Long),
            _ => Decode::decode(node, report).map(Self::Short),
        }
    }
}

record! {
    /// Where an entity's rows come from: one of the two.
    EntitySourceDetails, "a source of an entity", {
        /// Event types.
        event: Option<OneOrMany<Text>>,
        /// Another entity; its rows are folded with retraction.
        entity: Option<Text>,
    }
}

/// Event types, or a mapping that says what kind of source it is.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum EntitySource {
    /// Event types.
    Events(OneOrMany<Text>),
    /// `{entity: name}` or `{event: …}`.
    Details(EntitySourceDetails),
}

impl Decode for EntitySource {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(Self::Details),
            _ => Decode::decode(node, report).map(Self::Events),
        }
    }
}

/// A fold or an expression, or a mapping with one.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum EntityField {
    /// A fold or an expression.
    Short(Text),
    /// With a description.
    Long(EntityFieldDetails),
}

impl Decode for EntityField {
    fn decode(node: &Node, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Decode::decode(node, report).map(Self::Long),
            _ => Decode::decode(node, report).map(Self::Short),
        }
    }
}

record! {
    /// A field of an entity.
    EntityFieldDetails, "a field of an entity", {
        /// A fold or an expression over the entity's fields.
        value: Text,
        /// What it is, for people.
        description: Option<Text>,
        /// Other words for it in plain questions.
        synonyms: Option<Vec<Text>>,
        /// Words that mean the contrary: that a bool is false, that a number is low.
        opposites: Option<Vec<Text>>,
    }
}
