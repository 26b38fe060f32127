//! Lines through the decoder.

#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pipeline::batch::{Attached, DecodedBatch, RawBatch, RawRecord};
use pipeline::decode::Decoder;

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::new(decoder());
}

fn decoder() -> Decoder {
    let file = (PathBuf::from("readings.yaml"), include_str!("readings.yaml").to_owned());
    match contracts::load(&[file]) {
        Ok(domain) => Decoder::new(&Arc::new(domain)),
        Err(problems) => panic!("{}", problems[0]),
    }
}

fn batch(lines: &[&[u8]]) -> RawBatch {
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    for (offset, line) in lines.iter().enumerate() {
        records.push(RawRecord {
            start: bytes.len(),
            len: line.len(),
            offset: offset as u64,
            arrived_at: 0,
            tenant: "default".into(),
            tenant_fixed: offset % 2 == 1,
            attached: Attached::default(),
        });
        bytes.extend_from_slice(line);
    }
    RawBatch {
        partition: "fuzz".into(),
        source: "fuzz",
        bytes,
        next_offset: records.len() as u64,
        records,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}

/// Ordinals of rows, rejections and ignored records.
fn ordinals(decoded: &DecodedBatch) -> Vec<u32> {
    let rows = decoded.rows.iter().flat_map(|rows| rows.ordinals.iter().copied());
    let rejected = decoded.rejected.iter().map(|rejection| rejection.ordinal);
    let ignored = decoded.ignored.iter().map(|(ordinal, _)| *ordinal);
    let mut all: Vec<u32> = rows.chain(rejected).chain(ignored).collect();
    all.sort_unstable();
    all
}

fuzz_target!(|input: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        let together = decoder.decode(batch(&lines));
        assert!(ordinals(&together).into_iter().eq(0..lines.len() as u32));
        // The first line alone: its neighbours must not have changed what it is.
        let alone = decoder.decode(batch(&lines[..1]));
        let first = together.rejected.iter().find(|rejection| rejection.ordinal == 0);
        assert_eq!(alone.rejected.first(), first);
    });
});
