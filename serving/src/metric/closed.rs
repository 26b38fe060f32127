//! Values that a dimension can never have, as far as contracts say.

use std::collections::BTreeSet;

use contracts::model::{Domain, Family, Metric, Relation};

use super::check::{FilterValue, Resolved, Test};
use crate::question::Impossible;

/// Values that filters ask for and no event can bring.
pub(super) fn impossible(domain: &Domain, question: &Resolved<'_>) -> Vec<Impossible> {
    let mut found = Vec::new();
    for filter in &question.filters {
        let (Test::In { values, .. } | Test::NotIn { values, .. }) = &filter.test else { continue };
        let dimension = &filter.dimension.name;
        let Some(allowed) = of_metric(domain, question.metric, dimension) else { continue };
        for value in values {
            let FilterValue::Text(value) = value else { continue };
            if !allowed.contains(value.as_str()) {
                let allowed = allowed.iter().map(|value| (*value).to_owned()).collect();
                let (dimension, value) = (dimension.clone(), value.clone());
                found.push(Impossible { dimension, value, allowed });
            }
        }
    }
    found
}

/// The values that a dimension of a metric may have; `None`: any.
fn of_metric<'a>(
    domain: &'a Domain,
    metric: &Metric,
    dimension: &str,
) -> Option<BTreeSet<&'a str>> {
    let place = metric.dimensions.iter().position(|known| known.name == dimension)?;
    let mut all = BTreeSet::new();
    for input in &metric.inputs {
        all.extend(of_column(domain, input.relation, &input.dimensions.get(place)?.name)?);
    }
    for part in metric.measure.parts() {
        all.extend(of_metric(domain, domain.metrics.get(part)?, dimension)?);
    }
    (!all.is_empty()).then_some(all)
}

fn of_column<'a>(
    domain: &'a Domain,
    relation: Relation,
    column: &str,
) -> Option<BTreeSet<&'a str>> {
    match relation {
        Relation::Family(family) => of_family(domain.families.get(family)?, column),
        Relation::Entity(entity) => {
            let entity = domain.entities.get(entity)?;
            // An entity's field has a value that one of its events brought, whichever of them is taken.
            let fold =
                entity.folds().position(|(place, ..)| entity.fields[place].name == column)?;
            let mut all = BTreeSet::new();
            for input in &entity.inputs {
                if let Some(arg) = input.args.get(fold)? {
                    all.extend(of_column(domain, input.relation, &arg.value.name)?);
                }
            }
            Some(all)
        }
        Relation::Ingest => None,
    }
}

/// The values that all versions of a field list together.
fn of_family<'a>(family: &'a Family, column: &str) -> Option<BTreeSet<&'a str>> {
    let mut all = BTreeSet::new();
    for version in &family.versions {
        if version.enrich.iter().any(|added| added.name == column) {
            return None;
        }
        for field in version.fields.iter().filter(|field| field.name == column) {
            all.extend(field.constraints.values.as_ref()?.iter().map(String::as_str));
        }
    }
    (!all.is_empty()).then_some(all)
}
