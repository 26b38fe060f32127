//! Events in Avro: each by the schema of its contract, which the registry knows before the first event
//! is sent.

use std::collections::HashMap;
use std::sync::Arc;

use ::contracts::export;
use ::contracts::model::{Domain, EventContract};
use pipeline::encode::avro::{AvroWriter, framed};
use pipeline::registry::Registry;
use serde_json::Value;

use crate::failure::Failure;

use super::kafka::topic_of;

/// Writes events, by their type.
pub(super) struct AvroRecords {
    by_type: HashMap<String, Arc<Registered>>,
}

struct Registered {
    /// What the registry calls the schema.
    id: u32,
    writer: AvroWriter,
}

impl AvroRecords {
    /// Registers the schemas of all contracts that name a topic; `topic` is where all events go
    /// instead.
    pub(super) fn register(
        registry: Option<&Registry>,
        domain: &Domain,
        topic: Option<&str>,
    ) -> Result<Self, Failure> {
        let registry = registry.ok_or_else(|| {
            Failure::input("events in Avro need a schema registry, and none is named")
                .hint("name one, for instance --schema-registry http://127.0.0.1:8081")
        })?;
        let contracts = with_topics(domain, topic);
        let mut by_type = HashMap::new();
        for (contract, topic, event_types) in &contracts {
            let is_alone = contracts.iter().filter(|(_, other, _)| other == topic).count() == 1;
            let made = Arc::new(register_one(registry, domain, contract, topic, is_alone)?);
            by_type.extend(event_types.iter().map(|name| (name.clone(), Arc::clone(&made))));
        }
        Ok(Self { by_type })
    }

    /// The event as a record's payload; `None` when no schema holds it.
    pub(super) fn record(&self, event_type: &str, line: &[u8]) -> Option<Vec<u8>> {
        let known = self.by_type.get(event_type)?;
        let body = known.writer.write(line).ok()?;
        Some(framed(known.id, &body))
    }
}

/// Contracts that name a topic, with the event types that they are the newest contract of.
fn with_topics(
    domain: &Domain,
    topic: Option<&str>,
) -> Vec<(Arc<EventContract>, String, Vec<String>)> {
    let contracts = domain.families.iter().flat_map(|family| &family.versions);
    contracts
        .filter_map(|contract| {
            let topic = topic.map(str::to_owned).or_else(|| topic_of(contract))?;
            let is_newest = |name: &&String| {
                domain.event(name, None).is_some_and(|newest| newest.version == contract.version)
            };
            let names: Vec<String> = contract.names.iter().filter(is_newest).cloned().collect();
            (!names.is_empty()).then(|| (Arc::clone(contract), topic, names))
        })
        .collect()
}

fn register_one(
    registry: &Registry,
    domain: &Domain,
    contract: &Arc<EventContract>,
    topic: &str,
    is_alone: bool,
) -> Result<Registered, Failure> {
    let schema = export::avro(domain, contract)
        .map_err(|error| Failure::input(error.message).hint(error.hint))?;
    let text = schema.to_string();
    let writer =
        AvroWriter::new(contract, &text).map_err(|error| Failure::ours(error.to_string()))?;
    // One subject has one record and its versions: the two usual ways to name it.
    let subject = match (is_alone, &schema["namespace"], &schema["name"]) {
        (true, ..) => format!("{topic}-value"),
        (false, Value::String(space), Value::String(name)) => format!("{topic}-{space}.{name}"),
        (false, _, name) => format!("{topic}-{}", name.as_str().unwrap_or_default()),
    };
    let id = registry
        .register(&subject, &text, &[])
        .map_err(|error| Failure::input(error.to_string()).hint(error.hint()))?;
    Ok(Registered { id, writer })
}
