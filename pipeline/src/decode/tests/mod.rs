//! The decoder from outside: types, envelopes, whole records, and what holds for any bytes.

mod envelope;
mod golden;
mod properties;
pub(crate) mod support;
mod values;
