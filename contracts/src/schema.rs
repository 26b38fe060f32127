//! The JSON Schema of contract files, for editors.
//!
//! Generated from the same declarations that read the files. It knows shape and words, not meaning:
//! what a contract says is checked by [`crate::load`].

/// The schema as pretty JSON text with a line feed at the end; `contracts/schema/contract.schema.json`
/// is a copy.
pub fn json_schema() -> String {
    let mut schema = schemars::schema_for!(crate::raw::Contract);
    schema.insert("title".to_owned(), "AgentFlow contract".into());
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
