//! Which columns of an event name a key, by the contracts alone.

use std::collections::BTreeSet;

use contracts::expr::Expr;
use contracts::model::{
    ColumnDef, Domain, EnrichValue, Entity, EntityFieldKind, Family, FoldOp, Relation,
};
use contracts::types::Type;

/// The columns of one family that tell whose an event is, and what is made null when it is erased.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    /// By level, columns whose text may be a key of that level.
    pub levels: Vec<BTreeSet<String>>,
    /// Fields that some version declares to be personal data.
    pub personal: BTreeSet<String>,
    /// What was looked up in the chain's entities.
    pub lookups: Vec<Lookup>,
}

/// An enriched column that was looked up in an entity of the chain.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    /// Version of the contract.
    pub version: u32,
    /// The column.
    pub column: String,
    /// Level of the entity.
    pub level: usize,
    /// Gives its key.
    pub key: Expr,
}

/// The versions of the entity, then what they are folded from, level by level. Empty when there is no
/// such entity.
pub(super) fn chain(domain: &Domain, name: &str) -> Vec<BTreeSet<usize>> {
    let named = domain.entities.iter().filter(|entity| entity.name == name);
    let mut level: BTreeSet<usize> = named.map(|entity| entity.index).collect();
    let mut chain = Vec::new();
    while !level.is_empty() {
        let inputs = level.iter().flat_map(|entity| &domain.entities[*entity].inputs);
        let below = inputs.filter_map(|input| match input.relation {
            Relation::Entity(below) => Some(below),
            _ => None,
        });
        let below = below.collect();
        chain.push(std::mem::replace(&mut level, below));
    }
    chain
}

impl Naming {
    pub(super) fn of(domain: &Domain, chain: &[BTreeSet<usize>], family: &Family) -> Self {
        let level_of = |entity: usize| chain.iter().position(|level| level.contains(&entity));
        let fields = family.versions.iter().flat_map(|version| &version.fields);
        let enriched = family
            .versions
            .iter()
            .flat_map(|version| version.enrich.iter().map(|enrich| (version.version, enrich)));
        Self {
            levels: chain
                .iter()
                .map(|level| {
                    let entities = level.iter().map(|entity| &domain.entities[*entity]);
                    entities.flat_map(|entity| columns(domain, entity, family, chain)).collect()
                })
                .collect(),
            personal: fields.filter(|field| field.pii).map(|field| field.name.clone()).collect(),
            lookups: enriched
                .filter_map(|(version, enrich)| match &enrich.value {
                    EnrichValue::Lookup { entity, key, .. } => Some(Lookup {
                        version,
                        column: enrich.name.clone(),
                        level: level_of(*entity)?,
                        key: key.clone(),
                    }),
                    EnrichValue::Expr(_) => None,
                })
                .collect(),
        }
    }
}

/// Columns of `family` that may name a key of `entity`.
fn columns(
    domain: &Domain,
    entity: &Entity,
    family: &Family,
    chain: &[BTreeSet<usize>],
) -> BTreeSet<String> {
    let mut columns = BTreeSet::new();
    let of_family = Relation::Family(family.index);
    for input in &entity.inputs {
        match input.relation {
            relation if relation == of_family => {
                columns.insert(input.key.name.clone());
            }
            Relation::Entity(below) => {
                let below = &domain.entities[below];
                columns.extend(picked_from(below, &input.key.name, of_family));
            }
            _ => {}
        }
    }
    // A column that is called like the key says the same, unless it is the key of something else.
    let known = family.fields.iter().chain(&family.enriched);
    let may_be_key = |column: &ColumnDef| {
        column.name == entity.key && matches!(column.ty, Type::String | Type::Int64)
    };
    if known.clone().any(may_be_key) {
        let in_chain = |other: &Entity| chain.iter().any(|level| level.contains(&other.index));
        let others = domain.entities.iter().filter(|other| !in_chain(other));
        let is_other_key = others
            .flat_map(|other| &other.inputs)
            .any(|input| input.relation == of_family && input.key.name == entity.key);
        if !is_other_key {
            columns.insert(entity.key.clone());
        }
    }
    columns
}

/// Columns of the family out of which field `name` of `entity` is picked.
fn picked_from(entity: &Entity, name: &str, family: Relation) -> Vec<String> {
    let fold = entity.folds().position(|(field, ..)| entity.fields[field].name == name);
    let picks = entity.fields.iter().any(|field| {
        // A sum or a count is no value of any one event.
        let EntityFieldKind::Fold(op) = field.kind else { return false };
        use FoldOp::{ArgMax, ArgMin, First, Last, Max, Min, Mode};
        field.name == name && matches!(op, First | Last | Min | Max | Mode | ArgMax | ArgMin)
    });
    let Some(fold) = fold.filter(|_| picks) else { return Vec::new() };
    let inputs = entity.inputs.iter().filter(|input| input.relation == family);
    inputs.filter_map(|input| Some(input.args.get(fold)?.as_ref()?.value.name.clone())).collect()
}
