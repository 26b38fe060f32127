//! Bytes to validated columns, one core: `cargo bench -p agentflow-pipeline --bench decode`.
//!
//! Shop events from the generator (fixed seed, with its usual share of bad ones) in batches of the
//! size that a file source delivers. What the numbers do not cover: reading, deduplication, storing.

#[path = "support/avro.rs"]
mod avro;

use std::path::Path;
use std::sync::Arc;

use contracts::model::{Domain, Format};
use criterion::{BatchSize, Criterion, Throughput};
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::source::Limits;
use pipeline::source::generator::{Generator, GeneratorOptions};

fn shop() -> Arc<Domain> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/domains/shop");
    match contracts::load_dir(&folder) {
        Ok(domain) => Arc::new(domain),
        Err(problems) => panic!("{}", problems[0]),
    }
}

fn generator() -> Generator {
    Generator::new(GeneratorOptions { count: Some(1_000_000), rate: 20.0, ..Default::default() })
}

fn one_batch(generator: &mut Generator) -> RawBatch {
    let mut batch = RawBatch {
        partition: "bench".into(),
        source: "bench",
        bytes: Vec::new(),
        records: Vec::new(),
        next_offset: 0,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    };
    for offset in 0..Limits::default().records as u64 {
        let start = batch.bytes.len();
        generator.next_line(&mut batch.bytes);
        batch.records.push(RawRecord {
            start,
            len: batch.bytes.len() - start,
            offset,
            arrived_at: generator.clock(),
            tenant: "default".into(),
            tenant_fixed: false,
            attached: Attached::default(),
        });
        batch.bytes.push(b'\n');
    }
    batch
}

fn decode(criterion: &mut Criterion) {
    let batch = one_batch(&mut generator());
    let domain = shop();
    let mut group = criterion.benchmark_group("decode");
    for (unit, throughput) in [
        ("events", Throughput::Elements(batch.records.len() as u64)),
        ("bytes", Throughput::Bytes(batch.bytes.len() as u64)),
    ] {
        group.throughput(throughput);
        group.bench_function(format!("shop/{unit}"), |bencher| {
            let mut decoder = Decoder::new(&domain);
            bencher.iter_batched(
                || batch.clone(),
                |batch| decoder.decode(batch),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// The good ones of the same events as JSON and in Avro, by the schemas that the contracts export.
fn decode_avro(criterion: &mut Criterion) {
    let domain = shop();
    let json = avro::good_ones(&domain, one_batch(&mut generator()));
    let schemas = Arc::new(avro::Schemas::of(&domain));
    let in_avro = schemas.written(&domain, &json);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(json.records.len() as u64));
    for (name, batch) in [("shop/good/json", json), ("shop/good/avro", in_avro)] {
        let mut decoder = Decoder::new(&domain).with_schemas(schemas.clone());
        let decoded = decoder.decode(batch.clone());
        let rejected =
            decoded.rejected.first().map(|one| format!("{}: {}", one.reason, one.detail));
        assert_eq!(rejected, None);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || batch.clone(),
                |batch| decoder.decode(batch),
                BatchSize::LargeInput,
            );
        });
        let form = if batch.format == Format::Avro { "Avro" } else { "JSON" };
        eprintln!("{form}: {} bytes a record", batch.bytes.len() / batch.records.len());
    }
    group.finish();
}

fn generate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generate");
    group.throughput(Throughput::Elements(Limits::default().records as u64));
    group.bench_function("shop", |bencher| {
        bencher.iter_batched_ref(generator, one_batch, BatchSize::LargeInput);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    decode_avro(&mut criterion);
    generate(&mut criterion);
    criterion.final_summary();
}
