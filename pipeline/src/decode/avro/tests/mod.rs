//! Records in Avro through the decoder: every type, what contracts make of them, broken bytes, and
//! what holds for any of them. Records are written by `apache-avro`, which shares no code with what
//! reads them here.

mod broken;
mod envelope;
mod properties;
mod schemas;
mod support;
mod types;
