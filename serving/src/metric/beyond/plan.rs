//! Which rows that the journal has given up a question needs. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Domain, Measure, Metric, Relation, column, ingest};

use crate::metric::check::Resolved;
use crate::metric::past;
use crate::metric::proof::{counted_families, counted_from};
use crate::store::Trimmed;

/// Rows of a table that a question needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows {
    /// Columns of a journal; of the other tables always the same ones.
    pub(super) columns: BTreeSet<String>,
    /// From this time on (of the event, of arrival for `ingest`), µs; `i64::MIN`: all.
    pub(super) from: i64,
}

impl Default for Rows {
    fn default() -> Self {
        Self { columns: BTreeSet::new(), from: i64::MAX }
    }
}

/// Which statements of a question need rows that were given up, and which rows that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Metrics that read rows.
    pub(crate) leaves: BTreeSet<usize>,
    /// Entities that are folded from them.
    pub(crate) folds: BTreeSet<usize>,
    /// Are late events counted among them?
    pub(crate) late: bool,
    /// Are dead letters?
    pub(crate) letters: bool,
    pub(super) families: BTreeMap<usize, Rows>,
    pub(super) ingest: Option<Rows>,
}

impl Plan {
    /// What `question` needs that `trimmed` has.
    pub(crate) fn of(
        domain: &Domain,
        question: &Resolved<'_>,
        leaves: &BTreeSet<usize>,
        trimmed: &Trimmed,
    ) -> Self {
        let mut plan = Self::default();
        let of_past = question.as_of.is_some() || question.known_at.is_some();
        let start = question.start();
        for leaf in leaves {
            let metric = &domain.metrics[*leaf];
            // What a state was when the window began may stand at any time before it.
            let start = start.filter(|_| !carries(&metric.measure));
            if needs(domain, metric, start, trimmed) {
                plan.leaves.insert(*leaf);
                plan.add_metric(metric, start);
            }
            for input in metric.inputs.iter().filter(|_| of_past) {
                if let Relation::Entity(entity) = input.relation
                    && is_folded_beyond(domain, entity, trimmed)
                {
                    plan.add_entity(domain, entity);
                }
            }
        }
        let families = counted_families(domain, question.metric);
        let counted = counted_from(question);
        let reaches = |latest: i64| match counted {
            Some(start) => latest >= start,
            None => of_past,
        };
        let lost = |family: &usize| trimmed.families.get(&domain.families[*family].table());
        if families.iter().filter_map(lost).any(|lost| reaches(lost.latest)) {
            plan.late = true;
            for family in families {
                plan.add_family(family, [column::LATE], counted.unwrap_or(i64::MIN));
            }
        }
        plan.letters = trimmed.latest_letter.is_some_and(reaches);
        plan
    }

    /// All rows of journals, with these columns of each.
    pub(crate) fn of_journals<'a>(
        journals: impl IntoIterator<Item = (usize, Vec<&'a str>)>,
    ) -> Self {
        let mut plan = Self::default();
        for (family, columns) in journals {
            plan.add_family(family, columns, i64::MIN);
        }
        plan
    }

    /// What the fold of one entity needs.
    pub(crate) fn of_entity(domain: &Domain, entity: usize, trimmed: &Trimmed) -> Self {
        let mut plan = Self::default();
        if is_folded_beyond(domain, entity, trimmed) {
            plan.add_entity(domain, entity);
        }
        plan
    }

    /// Is nothing needed?
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add_metric(&mut self, metric: &Metric, start: Option<i64>) {
        let start = start.unwrap_or(i64::MIN);
        for input in &metric.inputs {
            let columns = input.columns().map(|column| column.name.as_str());
            match input.relation {
                Relation::Family(family) => {
                    let is_by_time = input.time.name == column::TIME;
                    self.add_family(family, columns, if is_by_time { start } else { i64::MIN });
                }
                Relation::Ingest => {
                    let is_by_time = input.time.name == ingest::ARRIVED_AT;
                    let rows = self.ingest.get_or_insert_with(Rows::default);
                    rows.from = rows.from.min(if is_by_time { start } else { i64::MIN });
                }
                Relation::Entity(_) => {}
            }
        }
    }

    fn add_entity(&mut self, domain: &Domain, entity: usize) {
        self.folds.insert(entity);
        let lowest = past::lowest(domain, entity);
        for family in families_of_entity(domain, entity) {
            self.add_family(family, past::columns_to_fold(lowest, family), i64::MIN);
        }
    }

    fn add_family<'a>(
        &mut self,
        family: usize,
        columns: impl IntoIterator<Item = &'a str>,
        from: i64,
    ) {
        let rows = self.families.entry(family).or_default();
        let always = [column::SEQ, column::TENANT, column::TYPE, column::TIME];
        rows.columns.extend(always.into_iter().chain(columns).map(str::to_owned));
        rows.from = rows.from.min(from);
    }
}

fn carries(measure: &Measure) -> bool {
    matches!(measure, Measure::TimeWeighted | Measure::DurationInState)
}

/// Does a live statement of the metric concern rows that were given up?
fn needs(domain: &Domain, metric: &Metric, start: Option<i64>, trimmed: &Trimmed) -> bool {
    metric.inputs.iter().any(|input| {
        let (latest, time) = match input.relation {
            Relation::Family(family) => {
                let lost = trimmed.families.get(&domain.families[family].table());
                (lost.map(|lost| lost.latest), column::TIME)
            }
            Relation::Ingest => (trimmed.latest_arrived_at, ingest::ARRIVED_AT),
            Relation::Entity(_) => return false,
        };
        // Of other times than this one it is not kept how far they reach.
        latest.is_some_and(|latest| {
            input.time.name != time || start.is_none_or(|start| latest >= start)
        })
    })
}

fn is_folded_beyond(domain: &Domain, entity: usize, trimmed: &Trimmed) -> bool {
    let families = families_of_entity(domain, entity);
    families.into_iter().any(|f| trimmed.families.contains_key(&domain.families[f].table()))
}

fn families_of_entity(domain: &Domain, entity: usize) -> BTreeSet<usize> {
    let inputs = past::lowest(domain, entity).inputs.iter();
    families_of(&inputs.map(|input| input.relation).collect::<Vec<_>>())
}

fn families_of(relations: &[Relation]) -> BTreeSet<usize> {
    let family = |relation: &Relation| match relation {
        Relation::Family(family) => Some(*family),
        _ => None,
    };
    relations.iter().filter_map(family).collect()
}
