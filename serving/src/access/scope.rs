//! What a key is limited to.

use std::collections::BTreeSet;

use contracts::model::{Domain, Metric, Relation};

/// The limits of a key; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Entity types that it may read; `None`: all, or none where `metrics` are named.
    pub entities: Option<BTreeSet<String>>,
    /// Metrics that it may read; `None`: all that are made of its entities.
    pub metrics: Option<BTreeSet<String>>,
    /// Entity types beyond which no key of the tenant may see anything; `None`: no such limit.
    pub tenant: Option<BTreeSet<String>>,
}

impl Scope {
    /// Is there no limit?
    pub fn is_everything(&self) -> bool {
        self.entities.is_none() && self.metrics.is_none() && self.tenant.is_none()
    }

    /// See [`super::Caller::sees_entity`].
    pub(super) fn sees_entity(&self, name: &str) -> bool {
        let own = match &self.entities {
            Some(names) => names.contains(name),
            None => self.metrics.is_none(),
        };
        own && self.tenant.as_ref().is_none_or(|names| names.contains(name))
    }

    /// See [`super::Caller::sees_metric`].
    pub(super) fn sees_metric(&self, domain: &Domain, metric: &Metric) -> bool {
        let own = match (&self.metrics, &self.entities) {
            (Some(names), _) => names.contains(&metric.name),
            (None, None) => true,
            (None, Some(entities)) => made_of(domain, metric, entities),
        };
        own && self.tenant.as_ref().is_none_or(|entities| made_of(domain, metric, entities))
    }
}

/// Does the metric stand on entities of these types alone, its parts included?
fn made_of(domain: &Domain, metric: &Metric, entities: &BTreeSet<String>) -> bool {
    let inputs = metric.inputs.iter().all(|input| match input.relation {
        Relation::Entity(entity) => entities.contains(&domain.entities[entity].name),
        Relation::Family(_) | Relation::Ingest => false,
    });
    let parts = metric.measure.parts();
    inputs && parts.iter().all(|&part| made_of(domain, &domain.metrics[part], entities))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<BTreeSet<String>> {
        (!names.is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Entities `a` and `b`, metrics `of_a` and `of_b`; what a key sees of them.
    #[track_caller]
    fn check(entities: &[&str], metrics: &[&str], tenant: &[&str], seen: &str) {
        let domain = "{kind: event, names: [made.a, made.b], fields: {id: string, n: int64}}\n---\n\
            {kind: entity, name: a, from: [made.a], key: id, fields: {n: last}}\n---\n\
            {kind: entity, name: b, from: [made.b], key: id, fields: {n: last}}\n---\n\
            {kind: metric, name: of_a, unit: x, from: {entity: a}, measure: count, windows: [now], \
             moved_by: [made.a]}\n---\n\
            {kind: metric, name: of_b, unit: x, from: {entity: b}, measure: count, windows: [now], \
             moved_by: [made.b]}\n";
        let domain = contracts::load(&[("d.yaml".into(), domain.to_owned())]);
        let domain = domain.unwrap_or_else(|errors| panic!("{errors:#?}"));
        let scope =
            Scope { entities: names(entities), metrics: names(metrics), tenant: names(tenant) };
        let mut got: Vec<&str> = ["a", "b"].into_iter().filter(|e| scope.sees_entity(e)).collect();
        let metrics = domain.metrics.iter().filter(|metric| scope.sees_metric(&domain, metric));
        got.extend(metrics.map(|metric| metric.name.as_str()));
        if scope.is_everything() {
            got.push("events");
        }
        assert_eq!(got.join(" "), seen);
    }

    #[test]
    fn a_key_sees_what_it_names_and_what_is_made_of_it() {
        check(&[], &[], &[], "a b of_a of_b events");
        check(&["a"], &[], &[], "a of_a");
        check(&[], &["of_b"], &[], "of_b");
        check(&["a"], &["of_b"], &[], "a of_b");
        check(&[], &[], &["b"], "b of_b");
        check(&["a", "b"], &[], &["b"], "b of_b");
        check(&[], &["of_a", "of_b"], &["b"], "of_b");
    }
}
