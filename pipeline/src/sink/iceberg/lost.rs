//! Columns that a table had and that somebody took away.
//!
//! Readers know a column by its id. A dropped column that is added again under its name is another one:
//! null in every row that was written before, and nobody would notice. So it is not added; the table
//! waits until a person has decided. Start at [`gone`] for a table that is being written to, at
//! [`refuse`] for one that is opened.

use iceberg::spec::{Schema, TableMetadata};

use super::error::LakeError;
use super::schema::{Addition, TableDefinition};

/// The first column or struct member of `before` that `now` does not have under the same name and id.
pub(super) fn gone<'a>(before: &'a Schema, now: &Schema) -> Option<&'a str> {
    (1..=before.highest_field_id()).find_map(|id| {
        let name = before.name_by_field_id(id)?;
        (now.name_by_field_id(id) != Some(name)).then_some(name)
    })
}

/// Refuses a table whose schema `now` lacks a column of the one `before`.
pub(super) fn refuse_gone(table: &str, before: &Schema, now: &Schema) -> Result<(), LakeError> {
    match gone(before, now) {
        None => Ok(()),
        Some(column) => Err(LakeError::LostColumn {
            table: table.to_owned(),
            column: column.to_owned(),
            schema: before.schema_id(),
        }),
    }
}

/// The first column that the current snapshot has and the table by now has not.
pub(super) fn dropped(metadata: &TableMetadata) -> iceberg::Result<Option<String>> {
    let Some(snapshot) = metadata.current_snapshot() else { return Ok(None) };
    let before = snapshot.schema(metadata)?;
    Ok(gone(&before, metadata.current_schema()).map(str::to_owned))
}

/// Refuses `additions` that the table once had.
pub(super) fn refuse(
    definition: &TableDefinition,
    metadata: &TableMetadata,
    additions: &[Addition],
) -> Result<(), LakeError> {
    for addition in additions {
        let path = addition.path();
        let mut schemas: Vec<_> = metadata.schemas_iter().collect();
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        if let Some(had) = schemas.iter().find(|schema| schema.field_id_by_name(&path).is_some()) {
            return Err(LakeError::LostColumn {
                table: definition.name.clone(),
                column: path,
                schema: had.schema_id(),
            });
        }
    }
    Ok(())
}
