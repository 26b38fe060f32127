//! Manifests and manifest lists with other paths in them.
//!
//! They are rewritten as the Avro records that they are: schema, properties and every other value stay.

use std::collections::HashMap;

use apache_avro::types::Value;
use apache_avro::{AvroResult, Reader, Writer};

/// Fields that hold the path of a file.
const PATHS: [&str; 3] = ["file_path", "manifest_path", "referenced_data_file"];

/// What an Avro file of a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It names data files.
    Manifest,
    /// It names manifests, and how long they are.
    List,
}

pub(super) fn kind(bytes: &[u8]) -> AvroResult<Kind> {
    let reader = Reader::new(bytes)?;
    let name = reader.writer_schema().name().map(|name| name.name.as_str());
    Ok(if name == Some("manifest_file") { Kind::List } else { Kind::Manifest })
}

/// The file with each path replaced by what `moved` gives for it, and the length of each manifest by
/// the one in `lengths`, by its new path.
pub(super) fn rewrite(
    bytes: &[u8],
    moved: impl Fn(&str) -> Option<String>,
    lengths: &HashMap<String, i64>,
) -> AvroResult<Vec<u8>> {
    let reader = Reader::new(bytes)?;
    let schema = reader.writer_schema().clone();
    let properties = reader.user_metadata().clone();
    let mut writer = Writer::new(&schema, Vec::with_capacity(bytes.len()));
    for (key, value) in properties {
        writer.add_user_metadata(key, value)?;
    }
    for value in reader {
        let mut value = value?;
        replace(&mut value, &moved);
        set_length(&mut value, lengths);
        writer.append_value_ref(&value)?;
    }
    writer.into_inner()
}

fn replace(value: &mut Value, moved: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Record(fields) => {
            for (name, value) in fields {
                if PATHS.contains(&name.as_str()) {
                    set_path(value, moved);
                } else {
                    replace(value, moved);
                }
            }
        }
        Value::Union(_, value) => replace(value, moved),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, moved)),
        _ => {}
    }
}

fn set_path(value: &mut Value, moved: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::Union(_, value) => set_path(value, moved),
        Value::String(path) => {
            if let Some(new) = moved(path) {
                *path = new;
            }
        }
        _ => {}
    }
}

fn set_length(value: &mut Value, lengths: &HashMap<String, i64>) {
    let Value::Record(fields) = value else { return };
    let path = fields.iter().find_map(|(name, value)| match value {
        Value::String(path) if name == "manifest_path" => Some(path),
        _ => None,
    });
    let Some(new) = path.and_then(|path| lengths.get(path)).copied() else { return };
    for (name, value) in fields {
        if name == "manifest_length" {
            *value = Value::Long(new);
        }
    }
}
