//! Which steps may be done while the store is in use, and what waits for them.
//!
//! The rule is that nothing stops answering: a step may wait unless a metric or an entity that is
//! recorded stands on what it makes, or an event that comes in looks it up. What waits is not recorded
//! until it is whole, so a later start decides the same again.

use std::collections::{BTreeMap, BTreeSet};

use contracts::model::{Domain, EnrichValue, Metric, Relation};

use super::{Definitions, Fill, Filled, Key, METRIC, Step, entity_key};

/// Steps by when they are done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Split {
    /// Before anything is answered.
    pub before: Vec<Step>,
    /// Beside what comes in, in this order.
    pub beside: Vec<Step>,
}

/// Decides for each step of [`super::plan()`].
pub(in crate::store) fn split(steps: Vec<Step>, recorded: &Definitions, domain: &Domain) -> Split {
    let needed = Needs::of_recorded(recorded, domain);
    let mut split = Split::default();
    for step in steps {
        let may_wait = match &step {
            Step::Fill { relation, fill } => {
                let relation = relation.relation();
                only_adds(relation, fill, domain)
                    && !fill.added.iter().any(|name| needed.has_column(relation, name))
            }
            Step::Rebuild { entity } => {
                let is_recorded = recorded.contains_key(&entity_key(&domain.entities[*entity]));
                !is_recorded && !needed.entities.contains(entity)
            }
        };
        if may_wait { split.beside.push(step) } else { split.before.push(step) }
    }
    // Columns first: what is folded may stand on them.
    split.beside.sort_by_key(|step| matches!(step, Step::Rebuild { .. }));
    split
}

impl Filled {
    /// The rows that are filled.
    pub(in crate::store) fn relation(self) -> Relation {
        match self {
            Self::Family(family) => Relation::Family(family),
            Self::Ingest => Relation::Ingest,
            Self::Entity(entity) => Relation::Entity(entity),
        }
    }
}

/// Does it add columns of expressions and change nothing that rows had before?
fn only_adds(relation: Relation, fill: &Fill, domain: &Domain) -> bool {
    let computed = match relation {
        Relation::Family(family) => &domain.families[family].computed,
        Relation::Ingest => &domain.ingest.computed,
        // Nothing but columns over its fields is ever filled.
        Relation::Entity(_) => return true,
    };
    let is_computed = |name: &String| computed.iter().any(|column| column.name == *name);
    fill.fields_before.is_none()
        && !fill.body
        && fill.added.iter().all(is_computed)
        && fill.evaluate.iter().all(|name| fill.added.contains(name))
}

/// What something stands on: entities with all that they stand on, and columns.
#[derive(Debug, Default, Clone)]
pub(in crate::store) struct Needs {
    /// Entities.
    pub entities: BTreeSet<usize>,
    columns: BTreeMap<Relation, BTreeSet<String>>,
}

impl Needs {
    fn of_recorded(recorded: &Definitions, domain: &Domain) -> Self {
        let mut needs = Self::default();
        for metric in &domain.metrics {
            if recorded.contains_key(&metric_key(metric)) {
                needs.add_metric(domain, metric.index);
            }
        }
        for entity in &domain.entities {
            if recorded.contains_key(&entity_key(entity)) {
                needs.add_entity(domain, entity.index);
            }
        }
        let enriched = domain.families.iter().flat_map(|family| &family.versions);
        for enrich in enriched.flat_map(|version| &version.enrich) {
            if let EnrichValue::Lookup { entity, .. } = enrich.value {
                needs.add_entity(domain, entity);
            }
        }
        needs
    }

    /// What a metric stands on.
    pub(in crate::store) fn of_metric(domain: &Domain, metric: usize) -> Self {
        let mut needs = Self::default();
        needs.add_metric(domain, metric);
        needs
    }

    /// What an entity stands on, itself included.
    pub(in crate::store) fn of_entity(domain: &Domain, entity: usize) -> Self {
        let mut needs = Self::default();
        needs.add_entity(domain, entity);
        needs
    }

    /// Does it stand on what the step makes?
    pub(in crate::store) fn step(&self, step: &Step) -> bool {
        match step {
            Step::Fill { relation, fill } => {
                fill.added.iter().any(|name| self.has_column(relation.relation(), name))
            }
            Step::Rebuild { entity } => self.entities.contains(entity),
        }
    }

    fn has_column(&self, relation: Relation, name: &str) -> bool {
        self.columns.get(&relation).is_some_and(|columns| columns.contains(name))
    }

    fn add_metric(&mut self, domain: &Domain, metric: usize) {
        let metric = &domain.metrics[metric];
        for part in metric.measure.parts() {
            self.add_metric(domain, part);
        }
        for input in &metric.inputs {
            let columns = self.columns.entry(input.relation).or_default();
            columns.extend(input.columns().map(|column| column.name.clone()));
            if let Relation::Entity(entity) = input.relation {
                self.add_entity(domain, entity);
            }
        }
    }

    fn add_entity(&mut self, domain: &Domain, entity: usize) {
        if !self.entities.insert(entity) {
            return;
        }
        for input in &domain.entities[entity].inputs {
            let columns = self.columns.entry(input.relation).or_default();
            columns.insert(input.key.name.clone());
            columns.extend(input.filter.iter().map(|column| column.name.clone()));
            for arg in input.args.iter().flatten() {
                columns.insert(arg.value.name.clone());
                columns.extend(arg.by.iter().map(|by| by.name.clone()));
            }
            if let Relation::Entity(below) = input.relation {
                self.add_entity(domain, below);
            }
        }
    }
}

/// Under what a metric is recorded.
pub(in crate::store) fn metric_key(metric: &Metric) -> Key {
    Key { kind: METRIC, name: metric.name.clone(), version: i64::from(metric.version) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::{definitions, plan};
    use super::*;

    const EVENTS: &str = "
kind: event
name: trip
names: [trip.begun, trip.ended]
version: 1
key: trip_id
fields: {trip_id: string, car: {type: string, required: false}, km: {type: int64, required: false}}
";
    const TRIP: &str = "
kind: entity
name: trip
version: 1
from: [trip.begun, trip.ended]
key: trip_id
fields: {car: last, km: last}
";
    const CAR: &str = "
kind: entity
name: car
version: 1
from: {entity: trip}
key: car
fields: {trips: count, km: sum(km)}
";
    const LONG: &str = "
kind: metric
name: long
version: 1
unit: count
from: {event: trip.ended}
where: km > 10
measure: count
windows: [1h]
moved_by: [trip.ended]
";
    const LONG_TRIPS: &str = "
kind: metric
name: long_trips
version: 1
unit: count
from: {entity: trip}
where: km > 10
measure: count
windows: [now]
moved_by: [trip.begun, trip.ended]
";
    const FULL: &str = "
kind: metric
name: full
version: 1
unit: ratio
measure: ratio(long, long)
windows: [1h]
moved_by: [trip.ended]
";
    const TAKEN: &str = "
kind: metric
name: taken
version: 1
unit: count
from: ingest
where: outcome = 'accepted'
measure: count
windows: [1h]
moved_by: [ingest]
";
    const STOP: &str = "
kind: event
name: stop
names: [stop.made]
version: 1
fields: {trip_id: string}
enrich:
  car: {lookup: trip, key: trip_id, field: car}
";

    fn domain(parts: &[&str]) -> Domain {
        let text = parts.join("---");
        match contracts::load(&[(PathBuf::from("test.yaml"), text)]) {
            Ok(domain) => domain,
            Err(errors) => {
                panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>())
            }
        }
    }

    fn next(contract: &str, what: &str, with: &str) -> String {
        contract.replace("version: 1", "version: 2").replace(what, with)
    }

    fn named(steps: &[Step], domain: &Domain) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::Fill { relation: Filled::Family(family), .. } => {
                format!("fill {}", domain.families[*family].name)
            }
            Step::Fill { relation: Filled::Ingest, .. } => "fill ingest".into(),
            Step::Fill { relation: Filled::Entity(entity), .. } => {
                format!("fill rows of {}", domain.entities[*entity].name)
            }
            Step::Rebuild { entity } => {
                let entity = &domain.entities[*entity];
                format!("fold {} v{}", entity.name, entity.version)
            }
        };
        steps.iter().map(name).collect()
    }

    #[track_caller]
    fn check(before: &[&str], after: &[&str], first: &[&str], beside: &[&str]) {
        let recorded = definitions(&domain(before));
        let domain = domain(after);
        let steps = plan(&recorded, &domain).expect("a change that can be followed");
        let found = split(steps, &recorded, &domain);
        assert_eq!(named(&found.before, &domain), first, "before");
        assert_eq!(named(&found.beside, &domain), beside, "beside");
    }

    #[test]
    fn a_new_version_of_a_metric_waits_for_its_columns() {
        let more = next(LONG, "km > 10", "km > 20");
        check(&[EVENTS, LONG], &[EVENTS, LONG, &more], &[], &["fill trip"]);
        let more = next(LONG_TRIPS, "km > 10", "km > 20");
        let (before, after) = ([EVENTS, TRIP, LONG_TRIPS], [EVENTS, TRIP, LONG_TRIPS, &more]);
        check(&before, &after, &[], &["fill rows of trip"]);
        check(&[EVENTS], &[EVENTS, LONG, TAKEN], &[], &["fill trip", "fill ingest"]);
        // Without a column of its own it waits for nothing.
        check(&[EVENTS, LONG], &[EVENTS, LONG, &next(LONG, "", "")], &[], &[]);
    }

    #[test]
    fn what_answered_before_is_brought_in_line_first() {
        let changed = LONG.replace("km > 10", "km > 20");
        check(&[EVENTS, LONG], &[EVENTS, &changed], &["fill trip"], &[]);
        // A metric that is made of others moves to their newest version.
        let more = next(LONG, "km > 10", "km > 20");
        check(&[EVENTS, LONG, FULL], &[EVENTS, LONG, &more, FULL], &["fill trip"], &[]);
        // So does one over an entity.
        let more = next(TRIP, "car: last", "car: last, ends: count");
        let (before, after) = ([EVENTS, TRIP, LONG_TRIPS], [EVENTS, TRIP, &more, LONG_TRIPS]);
        check(&before, &after, &["fold trip v2"], &[]);
        let (before, after) = ([EVENTS, TRIP, CAR], [EVENTS, TRIP, &more, CAR]);
        check(&before, &after, &["fold trip v2", "fold car v1"], &[]);
    }

    #[test]
    fn what_changes_rows_is_done_first() {
        let field = EVENTS.replace(
            "trip_id: string, car",
            "trip_id: string, to: {type: string, required: false}, car",
        );
        check(&[EVENTS], &[&field, LONG], &["fill trip"], &[]);
        let changed = TRIP.replace("car: last", "car: last, ends: count");
        check(&[EVENTS, TRIP], &[EVENTS, &changed], &["fold trip v1"], &[]);
    }

    #[test]
    fn a_new_entity_waits_with_all_above_it() {
        check(&[EVENTS], &[EVENTS, TRIP, CAR], &[], &["fold trip v1", "fold car v1"]);
        check(&[EVENTS, TRIP], &[EVENTS, TRIP, CAR], &[], &["fold car v1"]);
        let more = next(TRIP, "car: last", "car: last, ends: count");
        check(&[EVENTS, TRIP], &[EVENTS, TRIP, &more], &[], &["fold trip v2"]);
        // The columns that it stands on come first.
        let above = CAR.replace("key: car", "where: km > 5\nkey: car");
        let expected = ["fill rows of trip", "fold car v1"];
        check(&[EVENTS, TRIP], &[EVENTS, TRIP, &above], &[], &expected);
    }

    #[test]
    fn an_entity_that_events_look_up_does_not_wait() {
        check(&[EVENTS], &[EVENTS, TRIP, STOP], &["fold trip v1"], &[]);
    }
}
