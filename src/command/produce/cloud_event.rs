//! Events as CloudEvents: the envelope taken out of the body.

use serde_json::Value;

use super::format::{Made, RecordFormat};

/// The event with its envelope taken out of the body; `None` when it lacks a part of the envelope:
/// such an event goes as it is.
pub(super) fn made(format: RecordFormat, envelope: &[String; 3], event: &Value) -> Option<Made> {
    let mut data = event.as_object()?.clone();
    let mut attributes = Vec::new();
    for (name, member) in ["type", "id", "time"].into_iter().zip(envelope) {
        let value = data.shift_remove(member)?;
        attributes.push((name, value.as_str()?.to_owned()));
    }
    attributes.push(("specversion", "1.0".to_owned()));
    attributes.push(("source", "agentflow/produce".to_owned()));
    let data = Value::Object(data);
    let made = match format {
        RecordFormat::Json | RecordFormat::Avro => return None,
        RecordFormat::Cloudevents => {
            let named = attributes.into_iter().map(|(name, value)| (format!("ce_{name}"), value));
            let content = ("content-type".to_owned(), "application/json".to_owned());
            Made {
                headers: named.chain([content]).collect(),
                payload: data.to_string().into_bytes(),
            }
        }
        RecordFormat::CloudeventsStructured => {
            let mut document = serde_json::Map::new();
            for (name, value) in attributes {
                document.insert(name.to_owned(), value.into());
            }
            document.insert("datacontenttype".to_owned(), "application/json".into());
            document.insert("data".to_owned(), data);
            let content = "application/cloudevents+json; charset=UTF-8".to_owned();
            Made {
                headers: vec![("content-type".to_owned(), content)],
                payload: Value::Object(document).to_string().into_bytes(),
            }
        }
    };
    Some(made)
}
