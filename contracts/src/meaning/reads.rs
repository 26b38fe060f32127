//! What each metric reads, directly or through entities and other metrics.

use std::collections::{BTreeMap, BTreeSet};

use super::named;
use crate::model::{Domain, EnrichValue, EntityFieldKind, Relation, column};

/// Something that a metric reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Read {
    /// Events of a family.
    Family(String),
    /// A field or an enriched column of a family's events.
    Column(String, String),
    /// Rows of an entity (`name vN`): which there are and under which key.
    Rows(String),
    /// A field of an entity.
    Field(String, String),
    /// The outcome of each record.
    Ingest,
    /// Another metric (`name vN`), or itself.
    Metric(String),
}

/// What the metrics of a domain read, by `name vN`.
#[derive(Debug, Default)]
pub(super) struct Reads(BTreeMap<String, BTreeSet<Read>>);

impl Reads {
    pub(super) fn of(domain: &Domain) -> Self {
        let mut all = BTreeMap::new();
        for metric in &domain.metrics {
            let mut walk = Walk { domain, found: BTreeSet::new() };
            walk.metric(metric.index);
            all.insert(named(&metric.name, metric.version), walk.found);
        }
        Self(all)
    }

    /// Is it a metric of this domain?
    pub(super) fn knows(&self, metric: &str) -> bool {
        self.0.contains_key(metric)
    }

    pub(super) fn metrics_where(
        &self,
        reads: impl Fn(&Read) -> bool,
    ) -> impl Iterator<Item = &str> {
        let found = self.0.iter().filter(move |(_, all)| all.iter().any(&reads));
        found.map(|(name, _)| name.as_str())
    }
}

struct Walk<'a> {
    domain: &'a Domain,
    found: BTreeSet<Read>,
}

impl Walk<'_> {
    fn metric(&mut self, index: usize) {
        let metric = &self.domain.metrics[index];
        self.found.insert(Read::Metric(named(&metric.name, metric.version)));
        for part in metric.measure.parts() {
            self.metric(part);
        }
        for input in &metric.inputs {
            self.rows(input.relation);
            for column in input.columns() {
                self.column(input.relation, &column.name);
            }
        }
    }

    /// Which rows there are.
    fn rows(&mut self, relation: Relation) {
        let entity = match relation {
            Relation::Ingest => {
                self.found.insert(Read::Ingest);
                return;
            }
            Relation::Family(family) => {
                self.found.insert(Read::Family(self.domain.families[family].name.clone()));
                return;
            }
            Relation::Entity(entity) => &self.domain.entities[entity],
        };
        if !self.found.insert(Read::Rows(named(&entity.name, entity.version))) {
            return;
        }
        for input in &entity.inputs {
            self.rows(input.relation);
            self.column(input.relation, &input.key.name);
            if let Some(filter) = &input.filter {
                self.column(input.relation, &filter.name);
            }
        }
    }

    /// A column as it is called in the table.
    fn column(&mut self, relation: Relation, name: &str) {
        let name = name.strip_suffix(column::CLOSED_SUFFIX).unwrap_or(name);
        let computed = match relation {
            Relation::Family(family) => &self.domain.families[family].computed,
            Relation::Entity(entity) => &self.domain.entities[entity].computed,
            Relation::Ingest => &self.domain.ingest.computed,
        };
        if let Some(computed) = computed.iter().find(|computed| computed.name == name) {
            for column in computed.expr.columns() {
                self.column(relation, column);
            }
            return;
        }
        match relation {
            Relation::Family(family) => self.event_column(family, name),
            Relation::Entity(entity) => self.field(entity, name),
            Relation::Ingest => {}
        }
    }

    fn event_column(&mut self, family: usize, name: &str) {
        let family = &self.domain.families[family];
        if !self.found.insert(Read::Column(family.name.clone(), name.to_owned())) {
            return;
        }
        for contract in &family.versions {
            for enrich in contract.enrich.iter().filter(|enrich| enrich.name == name) {
                let read = match &enrich.value {
                    EnrichValue::Expr(expr) => expr.columns(),
                    EnrichValue::Lookup { entity, key, field } => {
                        self.rows(Relation::Entity(*entity));
                        self.field(*entity, field);
                        key.columns()
                    }
                };
                for column in read {
                    self.event_column(family.index, column);
                }
            }
        }
    }

    fn field(&mut self, entity: usize, name: &str) {
        let entity = &self.domain.entities[entity];
        let Some(index) = entity.fields.iter().position(|field| field.name == name) else { return };
        let read = Read::Field(named(&entity.name, entity.version), name.to_owned());
        if !self.found.insert(read) {
            return;
        }
        match &entity.fields[index].kind {
            EntityFieldKind::Derived(expr) => {
                for column in expr.columns() {
                    self.field(entity.index, column);
                }
            }
            EntityFieldKind::Fold(_) => {
                let Some(fold) = entity.folds().position(|(field, _, _)| field == index) else {
                    return;
                };
                for input in &entity.inputs {
                    let Some(Some(arg)) = input.args.get(fold) else { continue };
                    for column in [Some(&arg.value), arg.by.as_ref()].into_iter().flatten() {
                        self.column(input.relation, &column.name);
                    }
                }
            }
        }
    }
}
