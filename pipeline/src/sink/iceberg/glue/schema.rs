//! The columns of a table as Glue and Athena show them. Readers of Iceberg take them from the table's own
//! metadata; these are for people, for searches and for permissions by column.

use std::collections::HashSet;

use iceberg::spec::{NestedField, PrimitiveType, Schema, TableMetadata, Type};
use serde_json::{Value, json};

/// Longest comment of a column that Glue takes, in characters.
const COMMENT: usize = 255;

/// The columns of the current schema, then those that only older ones have.
pub(super) fn columns(metadata: &TableMetadata) -> Vec<Value> {
    let current = metadata.current_schema();
    let mut older: Vec<_> = metadata
        .schemas_iter()
        .filter(|schema| schema.schema_id() != current.schema_id())
        .collect();
    older.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let of = |schema: &Schema, is_current: bool| {
        let fields = schema.as_struct().fields();
        fields.iter().map(move |field| (field.clone(), is_current)).collect::<Vec<_>>()
    };
    let all = of(current, true).into_iter().chain(older.into_iter().flat_map(|s| of(s, false)));
    let mut seen = HashSet::new();
    all.filter(|(field, _)| seen.insert(field.name.clone()))
        .map(|(field, is_current)| column(&field, is_current))
        .collect()
}

fn column(field: &NestedField, is_current: bool) -> Value {
    let mut column = json!({
        "Name": field.name,
        "Type": name(&field.field_type),
        // As other Iceberg clients mark them.
        "Parameters": {
            "iceberg.field.id": field.id.to_string(),
            "iceberg.field.optional": (!field.required).to_string(),
            "iceberg.field.current": is_current.to_string(),
        },
    });
    if let Some(doc) = &field.doc {
        column["Comment"] = Value::String(comment(doc));
    }
    column
}

/// One line, not longer than Glue takes it.
fn comment(doc: &str) -> String {
    let plain = doc.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(COMMENT).collect()
}

/// A type in the words of Hive, which Glue uses. They know no time zone; that the values are instants is in
/// the table's own metadata.
fn name(ty: &Type) -> String {
    match ty {
        Type::Primitive(primitive) => primitive_name(primitive),
        Type::List(list) => format!("array<{}>", name(&list.element_field.field_type)),
        Type::Map(map) => {
            format!(
                "map<{},{}>",
                name(&map.key_field.field_type),
                name(&map.value_field.field_type)
            )
        }
        Type::Struct(members) => {
            let members = members.fields().iter();
            let members =
                members.map(|field| format!("{}:{}", field.name, name(&field.field_type)));
            format!("struct<{}>", members.collect::<Vec<_>>().join(","))
        }
    }
}

fn primitive_name(ty: &PrimitiveType) -> String {
    let name = match ty {
        PrimitiveType::Boolean => "boolean",
        PrimitiveType::Int => "int",
        PrimitiveType::Long => "bigint",
        PrimitiveType::Float => "float",
        PrimitiveType::Double => "double",
        PrimitiveType::Date => "date",
        PrimitiveType::Timestamp
        | PrimitiveType::TimestampNs
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestamptzNs => "timestamp",
        PrimitiveType::Time | PrimitiveType::String | PrimitiveType::Uuid => "string",
        PrimitiveType::Binary | PrimitiveType::Fixed(_) => "binary",
        PrimitiveType::Decimal { precision, scale } => {
            return format!("decimal({precision},{scale})");
        }
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use iceberg::TableCreation;
    use iceberg::spec::TableMetadataBuilder;

    use super::*;

    #[track_caller]
    fn check(iceberg: &str, expected: &str) {
        let ty: Type = serde_json::from_str(iceberg).expect("a type");
        assert_eq!(name(&ty), expected, "{iceberg}");
    }

    #[test]
    fn every_type_has_a_name_in_glue() {
        for (iceberg, expected) in [
            ("boolean", "boolean"),
            ("int", "int"),
            ("long", "bigint"),
            ("float", "float"),
            ("double", "double"),
            ("decimal(18, 4)", "decimal(18,4)"),
            ("date", "date"),
            ("time", "string"),
            ("timestamp", "timestamp"),
            ("timestamptz", "timestamp"),
            ("timestamp_ns", "timestamp"),
            ("timestamptz_ns", "timestamp"),
            ("string", "string"),
            ("uuid", "string"),
            ("fixed[16]", "binary"),
            ("binary", "binary"),
        ] {
            check(&format!("{iceberg:?}"), expected);
        }
    }

    #[test]
    fn nested_types_are_written_out() {
        let members = r#"{"type": "struct", "fields": [
            {"id": 3, "name": "sku", "required": true, "type": "string"},
            {"id": 4, "name": "at", "required": false, "type": "timestamptz"}]}"#;
        check(members, "struct<sku:string,at:timestamp>");
        let list = format!(
            r#"{{"type": "list", "element-id": 2, "element-required": false, "element": {members}}}"#
        );
        check(&list, "array<struct<sku:string,at:timestamp>>");
        let map = format!(
            r#"{{"type": "map", "key-id": 8, "key": "string", "value-id": 9, "value-required": true, "value": {list}}}"#
        );
        check(&map, "map<string,array<struct<sku:string,at:timestamp>>>");
    }

    #[test]
    fn columns_are_those_of_now_and_then_those_of_before() {
        let schema = |text: &str| -> Schema { serde_json::from_str(text).expect("a schema") };
        let first = schema(
            r#"{"type": "struct", "schema-id": 0, "fields": [
                {"id": 1, "name": "id", "required": true, "type": "string", "doc": "Which\none"},
                {"id": 2, "name": "gone", "required": false, "type": "long"}]}"#,
        );
        let second = schema(
            r#"{"type": "struct", "schema-id": 1, "fields": [
                {"id": 1, "name": "id", "required": true, "type": "string", "doc": "Which\none"},
                {"id": 3, "name": "at", "required": false, "type": "timestamptz"}]}"#,
        );
        let creation = TableCreation::builder()
            .name("t".to_owned())
            .location("s3://lake/t".to_owned())
            .schema(first)
            .build();
        let metadata = TableMetadataBuilder::from_table_creation(creation).expect("metadata");
        let metadata = metadata.add_current_schema(second).expect("a schema");
        let metadata = metadata.build().expect("metadata").metadata;
        let column = |name: &str, ty: &str, id: &str, optional: &str, current: &str| {
            json!({"Name": name, "Type": ty, "Parameters": {
                "iceberg.field.id": id, "iceberg.field.optional": optional, "iceberg.field.current": current}})
        };
        let mut id = column("id", "string", "1", "false", "true");
        id["Comment"] = json!("Which one");
        let expected = vec![
            id,
            column("at", "timestamp", "3", "true", "true"),
            column("gone", "bigint", "2", "true", "false"),
        ];
        assert_eq!(columns(&metadata), expected);
    }

    #[test]
    fn a_comment_is_no_longer_than_glue_takes_it() {
        assert_eq!(comment(&"ä".repeat(300)), "ä".repeat(255));
    }
}
