//! Changes between versions of a contract, as clients read them.

use contracts::compare::Change;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::query::listed;

/// One change to one field.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangeBody {
    /// What happened: `field_removed`, `field_added`, `field_type_changed`, ….
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field.
    field: String,
    /// `breaking`, or what the route calls everything else: `non_breaking` or `safe`.
    severity: &'static str,
    /// Type or description before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Type or description afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Values that came or went.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
    /// The same for people.
    message: String,
}

/// The changes that break and the others, which have the severity `other`.
pub(super) fn split(
    changes: Vec<Change>,
    other: &'static str,
) -> (Vec<ChangeBody>, Vec<ChangeBody>) {
    let (breaking, rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(|c| c.breaking);
    let body = |severity: &'static str| move |change: Change| ChangeBody::new(change, severity);
    (
        breaking.into_iter().map(body("breaking")).collect(),
        rest.into_iter().map(body(other)).collect(),
    )
}

impl ChangeBody {
    fn new(change: Change, severity: &'static str) -> Self {
        let message = message(&change);
        let Change { kind, field, from, to, values, .. } = change;
        Self { kind, field, severity, from, to, values, message }
    }
}

fn message(change: &Change) -> String {
    let name = &change.field;
    let (from, to) = (change.from.as_deref().unwrap_or("?"), change.to.as_deref().unwrap_or("?"));
    match change.kind {
        "field_removed" => format!("field `{name}` removed"),
        "field_added" if change.breaking => format!("required field `{name}` added"),
        "field_added" | "field_added_optional" => format!("optional field `{name}` added"),
        "field_required_added" | "field_became_required" => {
            format!("field `{name}` has to be there now")
        }
        "field_type_changed" => format!("field `{name}` changed from {from} to {to}"),
        "enum_values_removed" | "enum_value_removed" => {
            format!("field `{name}` lost the values {}", listed(&change.values))
        }
        "enum_values_added" | "enum_value_added" => {
            format!("field `{name}` got the values {}", listed(&change.values))
        }
        "description_changed" => format!("field `{name}` has another description"),
        "field_default_added" => format!("field `{name}` has a default"),
        other => format!("field `{name}`: {other}"),
    }
}
