//! Columns as texts: the way back from what is stored to what a person or a program reads.
//!
//! Everything is exact: integers and decimals keep all their digits, a time keeps its microseconds,
//! a text of JSON is passed on as it was sent. [`text`] writes single values, [`json`] values of any
//! contract type, [`event`] whole journal rows as the records that they came from. [`avro`] is for
//! producers: it writes a record of JSON in Avro.

pub mod avro;
pub mod event;
pub mod json;
mod members;
pub mod text;
