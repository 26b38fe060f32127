//! Which state is kept: what is counted and added up, of which rows, by which dimensions.
//!
//! A metric has state when its value over a window is made of counts and sums of rows that change with events
//! only: `count`, `sum` and `avg` whose columns do not depend on `closed`. Of a distinct count it is how many rows
//! each span of time has, over all groups: its values are read from rows ([`super::distinct`]), and the state
//! says when those of an hour have changed. Beside the metrics, what the proof of an answer counts is kept: events
//! of each family, and dead letters.

use std::sync::Arc;

use contracts::model::{ColumnRef, Domain, Measure, Metric, Relation, column, ingest};
use contracts::types::Type;
use xxhash_rust::xxh3::xxh3_64;

use super::agg::Arithmetic;
use super::distinct::Distinct;
use super::keeper::MOST_TENANTS;

/// Digits of decimals that are added up here: 10¹⁰ of them fit into 38 digits.
const MOST_DIGITS: u8 = 28;

/// What state is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// A metric, by index: as its measure says.
    Metric(usize),
    /// Events of a family, by index: those that were late and those that were not.
    Events(usize),
    /// Dead letters, by event time or else arrival.
    DeadLetters,
}

/// One thing that is kept.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) subject: Subject,
    /// Its name in the store.
    pub(crate) name: String,
    /// Hash over all that its cells depend on.
    pub(crate) fingerprint: u64,
    pub(crate) arithmetic: Arithmetic,
    /// Number of dimensions.
    pub(crate) dimensions: usize,
    /// None for dead letters, which are no relation of a contract.
    pub(crate) inputs: Vec<Input>,
}

/// Rows that count.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) relation: Relation,
    /// Only these; empty: all.
    pub(crate) event_types: Vec<String>,
    pub(crate) time: String,
    pub(crate) filter: Option<String>,
    /// With the type of its values.
    pub(crate) arg: Option<(String, Type)>,
    /// Is it added up, or only counted?
    pub(crate) is_summed: bool,
    /// How often a row counts.
    pub(crate) weight: Option<&'static str>,
    pub(crate) dimensions: Vec<String>,
}

/// All that is kept for a domain.
pub(crate) fn specs(domain: &Domain) -> Vec<Arc<Spec>> {
    let metrics = domain.metrics.iter().filter_map(|metric| of_metric(domain, metric));
    let events = domain.families.iter().enumerate().map(|(index, family)| Spec {
        subject: Subject::Events(index),
        name: format!("events {}", family.name),
        // Its columns are there in every version.
        fingerprint: 1,
        arithmetic: Arithmetic::Exact,
        dimensions: 1,
        inputs: vec![Input {
            relation: Relation::Family(index),
            event_types: Vec::new(),
            time: column::TIME.to_owned(),
            filter: None,
            arg: None,
            is_summed: false,
            weight: None,
            dimensions: vec![column::LATE.to_owned()],
        }],
    });
    let letters = Spec {
        subject: Subject::DeadLetters,
        name: "dead letters".to_owned(),
        fingerprint: 1,
        arithmetic: Arithmetic::Exact,
        dimensions: 0,
        inputs: Vec::new(),
    };
    let with_bound = |mut spec: Spec| {
        let facts = [spec.fingerprint, MOST_TENANTS as u64].map(u64::to_be_bytes);
        spec.fingerprint = xxh3_64(facts.as_flattened());
        Arc::new(spec)
    };
    metrics.chain(events).chain([letters]).map(with_bound).collect()
}

/// The state of a metric, where it has one.
fn of_metric(domain: &Domain, metric: &Metric) -> Option<Spec> {
    let (is_summed, is_distinct) = match metric.measure {
        Measure::Count => (false, false),
        Measure::Sum | Measure::Avg => (true, false),
        Measure::CountDistinct | Measure::Active => (false, true),
        _ => return None,
    };
    let mut types = metric.inputs.iter().map(|input| input.arg.as_ref().map(|arg| &arg.ty));
    let first = types.next()?;
    let is_mixed = types.any(|ty| ty != first);
    if is_distinct && (is_mixed || !first.is_some_and(Distinct::takes)) {
        return None;
    }
    let arithmetic = match first {
        _ if !is_summed => Arithmetic::Exact,
        _ if is_mixed => return None,
        Some(Type::Int64) => Arithmetic::Exact,
        Some(Type::Decimal { precision, .. }) if *precision <= MOST_DIGITS => Arithmetic::Exact,
        Some(Type::Float64) => Arithmetic::Double,
        _ => return None,
    };
    let name = |column: &ColumnRef| column.name.clone();
    let mut facts = metric.hash.to_be_bytes().to_vec();
    let mut inputs = Vec::new();
    for input in &metric.inputs {
        if !input.is_steady() || input.dimensions.len() != metric.dimensions.len() {
            return None;
        }
        match input.relation {
            Relation::Family(family) => {
                let versions = domain.families[family].versions.iter();
                versions.for_each(|version| facts.extend_from_slice(&version.hash.to_be_bytes()));
            }
            Relation::Entity(entity) => {
                facts.extend_from_slice(&domain.entities[entity].hash.to_be_bytes());
            }
            Relation::Ingest => {}
        }
        inputs.push(Input {
            relation: input.relation,
            event_types: input.event_types.clone(),
            time: name(&input.time),
            filter: input.filter.as_ref().map(name),
            arg: input.arg.as_ref().map(|arg| (name(arg), arg.ty.clone())),
            is_summed,
            weight: (input.relation == Relation::Ingest).then_some(ingest::N),
            dimensions: match is_distinct {
                true => Vec::new(),
                false => input.dimensions.iter().map(name).collect(),
            },
        });
    }
    Some(Spec {
        subject: Subject::Metric(metric.index),
        name: format!("metric {}", metric.versioned_name()),
        fingerprint: xxh3_64(&facts),
        arithmetic,
        dimensions: if is_distinct { 0 } else { metric.dimensions.len() },
        inputs,
    })
}
