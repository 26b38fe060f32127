//! Event contracts as producers of other systems read them: Avro and JSON Schema.
//!
//! A schema describes one record of one contract version, envelope members included. Both are
//! written from one view of the record: what the contract declares, and what its envelope needs.
//! They say what a record must look like, not what it must mean: rules stay in the contract.
//!
//! Start at [`avro()`] and [`json_schema()`]. No I/O.

mod avro;
mod json_schema;
mod record;

pub use self::avro::avro;
pub use self::json_schema::json_schema;

/// Why a contract cannot be written in another language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExportError {
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// The next step.
    pub hint: String,
}
