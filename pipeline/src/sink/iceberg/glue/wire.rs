//! Databases and tables as Glue tells and takes them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a table's parameters call the place of its newest metadata, and of those before.
pub(super) const METADATA: &str = "metadata_location";
pub(super) const PREVIOUS: &str = "previous_metadata_location";
/// The parameter that tells an Iceberg table from others, and its value.
const TABLE_TYPE: &str = "table_type";
const ICEBERG: &str = "ICEBERG";

/// What of a table is given back with a change of it: members that are left out are lost.
const KEPT: [&str; 8] = [
    "Description",
    "Owner",
    "Retention",
    "PartitionKeys",
    "StorageDescriptor",
    "TableType",
    "ViewOriginalText",
    "ViewExpandedText",
];

/// A database.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Database {
    /// Name.
    pub name: String,
    /// Where its tables go.
    #[serde(default)]
    pub location_uri: Option<String>,
}

/// A table, with everything that Glue says of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Entry(pub Map<String, Value>);

impl Entry {
    fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member)?.as_str()
    }

    pub(super) fn name(&self) -> &str {
        self.text("Name").unwrap_or_default()
    }

    /// The number of its version: a change names the one that it was made of.
    pub(super) fn version(&self) -> Option<&str> {
        self.text("VersionId").filter(|version| !version.is_empty())
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.0.get("Parameters")?.get(name)?.as_str()
    }

    /// Is it one of Iceberg's?
    pub(super) fn is_iceberg(&self) -> bool {
        self.parameter(TABLE_TYPE).is_some_and(|value| value.eq_ignore_ascii_case(ICEBERG))
    }
}

/// What a table is to look like.
pub(super) struct Wanted<'a> {
    pub name: &'a str,
    /// Place of its newest metadata.
    pub metadata_location: &'a str,
    /// Of those before; none for a new table.
    pub previous: Option<&'a str>,
    /// Folder of its files.
    pub location: &'a str,
    /// Its columns, as Glue takes them.
    pub columns: Vec<Value>,
    /// More parameters.
    pub parameters: Vec<(&'static str, String)>,
}

impl Wanted<'_> {
    /// As Glue takes it (`TableInput`). What else `entry` says is kept: parameters of other programs, for
    /// instance, and a description.
    pub(super) fn input(self, entry: Option<&Entry>) -> Value {
        let mut input = Map::new();
        for member in KEPT {
            if let Some(value) = entry.and_then(|entry| entry.0.get(member)) {
                input.insert(member.to_owned(), value.clone());
            }
        }
        input.insert("Name".to_owned(), json!(self.name));
        input.entry("TableType").or_insert(json!("EXTERNAL_TABLE"));
        let object = |value: Option<&Value>| value.and_then(Value::as_object).cloned();
        let mut storage = object(input.get("StorageDescriptor")).unwrap_or_default();
        storage.insert("Location".to_owned(), json!(self.location));
        storage.insert("Columns".to_owned(), Value::Array(self.columns));
        input.insert("StorageDescriptor".to_owned(), Value::Object(storage));

        let kept = entry.and_then(|entry| object(entry.0.get("Parameters")));
        let mut parameters = kept.unwrap_or_default();
        let own = [(TABLE_TYPE, ICEBERG.to_owned()), (METADATA, self.metadata_location.to_owned())];
        let previous = self.previous.map(|previous| (PREVIOUS, previous.to_owned()));
        for (name, value) in own.into_iter().chain(previous).chain(self.parameters) {
            parameters.insert(name.to_owned(), Value::String(value));
        }
        input.insert("Parameters".to_owned(), Value::Object(parameters));
        Value::Object(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted<'static> {
        Wanted {
            name: "orders",
            metadata_location: "s3://lake/1.metadata.json",
            previous: None,
            location: "s3://lake/orders",
            columns: vec![json!({"Name": "id", "Type": "string"})],
            parameters: vec![("agentflow.owner", "me".to_owned())],
        }
    }

    #[test]
    fn a_new_table_names_its_metadata_and_columns() {
        let expected = json!({
            "Name": "orders",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {
                "Location": "s3://lake/orders",
                "Columns": [{"Name": "id", "Type": "string"}],
            },
            "Parameters": {
                "table_type": "ICEBERG",
                "metadata_location": "s3://lake/1.metadata.json",
                "agentflow.owner": "me",
            },
        });
        assert_eq!(wanted().input(None), expected);
    }

    #[test]
    fn what_others_say_of_a_table_is_kept_and_what_glue_says_is_not_told_again() {
        let entry: Entry = serde_json::from_value(json!({
            "Name": "orders",
            "DatabaseName": "shop",
            "CreateTime": 1.0,
            "VersionId": "7",
            "Description": "What was ordered",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {"Location": "s3://old", "Columns": [], "BucketColumns": ["a"]},
            "Parameters": {"table_type": "iceberg", "classification": "parquet", "metadata_location": "old"},
        }))
        .expect("a table");
        assert!(entry.is_iceberg());
        assert_eq!((entry.name(), entry.version()), ("orders", Some("7")));
        assert_eq!(entry.parameter(METADATA), Some("old"));
        let input = Wanted { previous: Some("old"), ..wanted() }.input(Some(&entry));
        let expected = json!({
            "Name": "orders",
            "Description": "What was ordered",
            "TableType": "EXTERNAL_TABLE",
            "StorageDescriptor": {
                "Location": "s3://lake/orders",
                "Columns": [{"Name": "id", "Type": "string"}],
                "BucketColumns": ["a"],
            },
            "Parameters": {
                "table_type": "ICEBERG",
                "classification": "parquet",
                "metadata_location": "s3://lake/1.metadata.json",
                "previous_metadata_location": "old",
                "agentflow.owner": "me",
            },
        });
        assert_eq!(input, expected);
    }

    #[test]
    fn an_entry_of_another_kind_is_none_of_ours() {
        let entry: Entry =
            serde_json::from_value(json!({"Name": "hive", "VersionId": ""})).expect("one");
        assert!(!entry.is_iceberg());
        assert_eq!((entry.version(), entry.parameter(METADATA)), (None, None));
    }
}
