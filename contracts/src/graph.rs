//! The derived event → entity → metric graph: the one source of lineage, invalidation and of the
//! check of `moved_by`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::{Domain, Entity, Family, Metric, Relation};

/// Who moves whom.
#[derive(Debug, Default, Clone)]
pub struct Graph {
    /// Metric index → origins (event types, or `ingest`), derived.
    pub origins: Vec<BTreeSet<String>>,
    /// Relation → indices of the metrics that stand on it, directly or through a ratio or derived
    /// metric.
    pub metrics_of: BTreeMap<Relation, Vec<usize>>,
    /// Relation → indices of the entities that are folded from it directly.
    pub entities_of: BTreeMap<Relation, Vec<usize>>,
    /// Metric index → all relations it stands on, with the chain below each (a metric over `user`
    /// over `order` over family `order` has three).
    pub relations_of: Vec<Vec<Relation>>,
}

impl Graph {
    /// Derives the graph from compiled relations and metrics.
    pub(crate) fn derive(families: &[Family], entities: &[Entity], metrics: &[Metric]) -> Self {
        let mut graph = Self::default();
        for entity in entities {
            for input in &entity.inputs {
                let list = graph.entities_of.entry(input.relation).or_default();
                if !list.contains(&entity.index) {
                    list.push(entity.index);
                }
            }
        }
        // Parts come before what is made of them, so one pass is enough.
        let mut direct: Vec<BTreeSet<Relation>> = Vec::new();
        for metric in metrics {
            let mut origins = BTreeSet::new();
            let mut stands_on = BTreeSet::new();
            for input in &metric.inputs {
                stands_on.insert(input.relation);
                match input.relation {
                    Relation::Family(i) => {
                        origins.extend(event_types(&families[i], &input.event_types));
                    }
                    Relation::Entity(i) => origins.extend(entity_origins(families, entities, i)),
                    Relation::Ingest => {
                        origins.insert("ingest".to_owned());
                    }
                }
            }
            for part in metric.measure.parts() {
                origins.extend(graph.origins[part].iter().cloned());
                stands_on.extend(direct[part].iter().copied());
            }
            let mut chain: Vec<Relation> = Vec::new();
            for relation in &stands_on {
                graph.metrics_of.entry(*relation).or_default().push(metric.index);
                below(entities, *relation, &mut chain);
            }
            direct.push(stands_on);
            graph.origins.push(origins);
            graph.relations_of.push(chain);
        }
        graph
    }
}

/// `relation` and what it is folded from, each once.
fn below(entities: &[Entity], relation: Relation, chain: &mut Vec<Relation>) {
    if chain.contains(&relation) {
        return;
    }
    chain.push(relation);
    if let Relation::Entity(i) = relation {
        for input in &entities[i].inputs {
            below(entities, input.relation, chain);
        }
    }
}

fn event_types(family: &Family, only: &[String]) -> BTreeSet<String> {
    if only.is_empty() {
        return family.versions.iter().flat_map(|v| v.names.iter().cloned()).collect();
    }
    only.iter().cloned().collect()
}

/// The event types that change an entity, directly or through the entity that it is folded from.
pub(crate) fn entity_origins(
    families: &[Family],
    entities: &[Entity],
    index: usize,
) -> BTreeSet<String> {
    let mut origins = BTreeSet::new();
    for input in &entities[index].inputs {
        match input.relation {
            Relation::Family(i) => origins.extend(event_types(&families[i], &input.event_types)),
            Relation::Entity(i) => origins.extend(entity_origins(families, entities, i)),
            Relation::Ingest => {}
        }
    }
    origins
}

/// The graph as an indented text, one metric after another, sources below what stands on them.
pub fn render_text(domain: &Domain) -> String {
    let mut out = String::new();
    for metric in &domain.metrics {
        let _ = writeln!(out, "{} v{}", metric.name, metric.version);
        render_metric(domain, metric, 1, &mut out);
    }
    out
}

fn render_metric(domain: &Domain, metric: &Metric, depth: usize, out: &mut String) {
    for part in metric.measure.parts() {
        let part = &domain.metrics[part];
        let _ = writeln!(out, "{}metric {} v{}", "  ".repeat(depth), part.name, part.version);
        render_metric(domain, part, depth + 1, out);
    }
    for input in &metric.inputs {
        render_relation(domain, input.relation, &input.event_types, depth, out);
    }
}

fn render_relation(
    domain: &Domain,
    relation: Relation,
    only: &[String],
    depth: usize,
    out: &mut String,
) {
    let indent = "  ".repeat(depth);
    match relation {
        Relation::Ingest => {
            let _ = writeln!(out, "{indent}ingest");
        }
        Relation::Family(i) => {
            for event_type in event_types(&domain.families[i], only) {
                let _ = writeln!(out, "{indent}event {event_type}");
            }
        }
        Relation::Entity(i) => {
            let entity = &domain.entities[i];
            let _ = writeln!(out, "{indent}entity {} v{}", entity.name, entity.version);
            for input in &entity.inputs {
                render_relation(domain, input.relation, &input.event_types, depth + 1, out);
            }
        }
    }
}

/// The graph as JSON: nodes by kind, and edges from what moves to what is moved.
pub fn render_json(domain: &Domain) -> serde_json::Value {
    let mut edges: BTreeSet<(String, String)> = BTreeSet::new();
    let entity_name = |i: usize| format!("entity:{}", domain.entities[i].name);
    let from = |relation: Relation, only: &[String]| -> Vec<String> {
        match relation {
            Relation::Ingest => vec!["ingest".to_owned()],
            Relation::Entity(i) => vec![entity_name(i)],
            Relation::Family(i) => event_types(&domain.families[i], only)
                .into_iter()
                .map(|name| format!("event:{name}"))
                .collect(),
        }
    };
    for entity in &domain.entities {
        for input in &entity.inputs {
            for source in from(input.relation, &input.event_types) {
                edges.insert((source, entity_name(entity.index)));
            }
        }
    }
    for metric in &domain.metrics {
        let name = format!("metric:{}", metric.name);
        for input in &metric.inputs {
            for source in from(input.relation, &input.event_types) {
                edges.insert((source, name.clone()));
            }
        }
        for part in metric.measure.parts() {
            edges.insert((format!("metric:{}", domain.metrics[part].name), name.clone()));
        }
    }
    let metrics: Vec<serde_json::Value> = domain
        .metrics
        .iter()
        .map(|metric| {
            serde_json::json!({
                "name": metric.name,
                "version": metric.version,
                "moved_by": domain.graph.origins[metric.index],
            })
        })
        .collect();
    serde_json::json!({
        "domain": domain.name,
        "metrics": metrics,
        "edges": edges
            .iter()
            .map(|(from, to)| serde_json::json!({"from": from, "to": to}))
            .collect::<Vec<_>>(),
    })
}
