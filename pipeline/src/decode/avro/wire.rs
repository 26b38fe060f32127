//! The frame that Confluent's clients put around a record: byte 0, the schema's id in four bytes
//! (big endian), the record.

use crate::decode::fault::Fault;

const MAGIC: u8 = 0;

/// The schema's id and the record.
pub(super) fn split(payload: &[u8]) -> Result<(u32, &[u8]), Box<Fault>> {
    match payload {
        [MAGIC, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        [MAGIC, ..] => Err(Fault::not_avro("ends inside the schema id")),
        [first, ..] => {
            Err(Fault::not_avro(format!("begins with byte {first}, not with 0 and a schema id")))
        }
        [] => Err(Fault::not_avro("empty, without a schema id")),
    }
}
