//! Domains, rows and effects for tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use contracts::model::{Domain, column, ingest};
use pipeline::headers::Headers;
use pipeline::outcome::{Counts, Reason, Rejection, Stage};
use pipeline::store::{
    DeadLetter, Effects, EntityKey, EntityRows, PartitionEffects, PartitionState, ServingStore,
};

use crate::store::{Store, StoreOptions};

/// Two families with every type, and an entity.
pub(super) const PARCELS: &str = r#"
kind: event
name: parcel
names: [parcel.sent, parcel.moved]
version: 1
key: parcel_id
fields:
  parcel_id: string
  sender: {type: string, required: false}
  weight: {type: float64, required: false}
  price: {type: 'decimal(12,2)', required: false}
  big: {type: 'decimal(38,4)', required: false}
  pieces: {type: int64, required: false}
  insured: {type: bool, required: false}
  due: {type: date, required: false}
  handed_in_at: {type: timestamp, required: false}
  labels: {type: 'list<string>', required: false}
  items: {type: 'list<struct<sku: string, quantity: int64, price: decimal(12,2)>>', required: false}
  address: {type: 'struct<town: string, floor: int64>', required: false}
  raw: {type: json, required: false}
---
kind: event
name: depot.visit
names: [depot.visited]
version: 1
fields: {town: string}
---
kind: entity
name: parcel
version: 1
from: [parcel.sent, parcel.moved]
key: parcel_id
fields: {sender: last, pieces: last, price: last}
"#;

pub(super) const PARCEL: usize = 1;
pub(super) const VISIT: usize = 0;

pub(super) fn domain(yaml: &str) -> Arc<Domain> {
    match contracts::load(&[(PathBuf::from("test.yaml"), yaml.to_owned())]) {
        Ok(domain) => Arc::new(domain),
        Err(errors) => {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", text.join("\n"))
        }
    }
}

pub(super) fn parcels() -> Arc<Domain> {
    let domain = domain(PARCELS);
    assert_eq!(domain.families[PARCEL].name, "parcel");
    assert_eq!(domain.families[VISIT].name, "depot.visit");
    domain
}

pub(super) fn open(dir: &Path, domain: &Arc<Domain>) -> Store {
    Store::open(dir, Arc::clone(domain), StoreOptions::default()).unwrap()
}

/// Journal rows with these sequence numbers; every value follows from the number, some are null.
pub(super) fn journal(
    domain: &Domain,
    family: usize,
    seqs: impl Iterator<Item = i64>,
) -> RecordBatch {
    let seqs: Vec<i64> = seqs.collect();
    let schema = domain.families[family].schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        column::SEQ => Arc::new(Int64Array::from(seqs.clone())) as ArrayRef,
        column::TIME => {
            let times = seqs.iter().map(|seq| seq * 1_000_000);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times))
        }
        column::ID_LO => Arc::new(Int64Array::from_iter_values(seqs.iter().map(|seq| -seq))),
        _ => values(field, &seqs),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

/// Entity rows; `seqs` gives one key each (`K<seq>` of tenant `default`).
pub(super) fn entities(domain: &Domain, entity: usize, seqs: &[i64], state: u8) -> RecordBatch {
    let schema = domain.entities[entity].schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let keys: Vec<EntityKey> = seqs.iter().map(|seq| key(*seq)).collect();
        match field.name().as_str() {
            column::KEY_HASH => {
                Arc::new(Int64Array::from_iter_values(keys.iter().map(EntityKey::hash64)))
            }
            column::TENANT => {
                Arc::new(StringArray::from_iter_values(keys.iter().map(|key| &*key.tenant)))
            }
            column::KEY => {
                Arc::new(StringArray::from_iter_values(keys.iter().map(|key| &*key.key)))
            }
            column::STATE => {
                Arc::new(BinaryArray::from_iter_values(seqs.iter().map(|_| [state, 0, 255])))
            }
            _ => values(field, seqs),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

pub(super) fn key(seq: i64) -> EntityKey {
    EntityKey { tenant: "default".into(), key: format!("K{seq}").into() }
}

fn values(field: &Field, seeds: &[i64]) -> ArrayRef {
    let null = |seed: i64| field.is_nullable() && seed % 5 == 0;
    let some = |seed: &i64| (!null(*seed)).then_some(*seed);
    let nulls = NullBuffer::from_iter(seeds.iter().map(|seed| !null(*seed)));
    match field.data_type() {
        DataType::Utf8 => Arc::new(StringArray::from_iter(
            seeds.iter().map(|seed| some(seed).map(|seed| format!("{} ä\0{seed}", field.name()))),
        )),
        DataType::Int64 => Arc::new(Int64Array::from_iter(seeds.iter().map(some))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(
            seeds.iter().map(|seed| some(seed).map(|seed| seed as f64 / 3.0)),
        )),
        DataType::Boolean => {
            Arc::new(BooleanArray::from_iter(seeds.iter().map(|s| some(s).map(|s| s % 2 == 0))))
        }
        DataType::Date32 => {
            Arc::new(Date32Array::from_iter(seeds.iter().map(|seed| some(seed).map(|s| s as i32))))
        }
        DataType::Timestamp(..) => Arc::new(TimestampMicrosecondArray::from_iter(
            seeds.iter().map(|seed| some(seed).map(|seed| seed * 1_000_003)),
        )),
        DataType::Decimal128(precision, scale) => {
            Arc::new(
                Decimal128Array::from_iter(seeds.iter().map(|s| {
                    some(s).map(|s| i128::from(s) * 10i128.pow(u32::from(*precision) - 9))
                }))
                .with_precision_and_scale(*precision, *scale)
                .unwrap(),
            )
        }
        DataType::List(element) => {
            let lengths: Vec<usize> = seeds
                .iter()
                .map(|seed| if null(*seed) { 0 } else { (seed % 3) as usize })
                .collect();
            let inner: Vec<i64> = seeds
                .iter()
                .zip(&lengths)
                .flat_map(|(seed, length)| (0..*length).map(move |i| seed * 7 + i as i64))
                .collect();
            Arc::new(ListArray::new(
                Arc::clone(element),
                OffsetBuffer::from_lengths(lengths),
                values(element, &inner),
                Some(nulls),
            ))
        }
        DataType::Struct(members) => {
            let columns = members.iter().map(|member| values(member, seeds)).collect();
            Arc::new(StructArray::new(members.clone(), columns, Some(nulls)))
        }
        other => panic!("no values for {other}"),
    }
}

/// A batch of `n` accepted and one rejected record, and the rows it leaves.
pub(super) struct Batch {
    pub domain: Arc<Domain>,
    pub partition: PartitionState,
    pub last_seq: i64,
    rejection: Rejection,
    /// Entity keys stored so far.
    stored: i64,
}

impl Batch {
    /// Continues after what the store holds.
    pub(super) fn after(domain: &Arc<Domain>, store: &mut dyn ServingStore) -> Self {
        let partition = store.partition("file:test").unwrap().unwrap_or_else(|| PartitionState {
            id: 1,
            name: "file:test".into(),
            ..PartitionState::default()
        });
        let last_seq = store.last_seq().unwrap();
        Self {
            domain: Arc::clone(domain),
            partition,
            last_seq,
            rejection: rejection(Reason::WrongType),
            stored: last_seq,
        }
    }

    /// Effects of the next `n` events of the parcel family, each with an entity row of its own,
    /// while the row of the event before each batch is replaced, and one dead letter.
    pub(super) fn next(&mut self, n: i64) -> Effects<'_> {
        let seqs: Vec<i64> = (self.last_seq + 1..=self.last_seq + n).collect();
        let mut changed = seqs.clone();
        let mut replaced = Vec::new();
        if self.stored > 0 {
            changed.push(self.stored);
            replaced.push(key(self.stored));
        }
        self.last_seq += n;
        self.stored = self.last_seq;
        self.partition.next_offset += n as u64 + 1;
        self.partition.watermark = Some(self.last_seq * 1_000_000);
        self.partition.fingerprint = Some(format!("after {}", self.last_seq));
        self.partition.counts +=
            Counts { received: n as u64 + 1, accepted: n as u64, rejected: 1, ..Counts::default() };
        Effects {
            journal: vec![(PARCEL, journal(&self.domain, PARCEL, seqs.iter().copied()))],
            last_seq: self.last_seq,
            entities: vec![EntityRows {
                entity: 0,
                rows: entities(&self.domain, 0, &changed, 7),
                replaced,
                before: None,
            }],
            dead_letters: vec![DeadLetter {
                partition: "file:test",
                rejection: &self.rejection,
                payload: b"\xff{not json",
                tenant: "default",
                offset: self.partition.next_offset - 1,
                arrived_at: 42,
                key: None,
                headers: Headers::new(&[]),
            }],
            ingest: ingest_row(&self.domain, self.last_seq, n),
            partitions: vec![PartitionEffects {
                state: self.partition.clone(),
                by_reason: vec![("accepted", "", n as u64), ("rejected", "wrong_type", 1)],
            }],
        }
    }
}

pub(super) fn rejection(reason: Reason) -> Rejection {
    Rejection {
        ordinal: 0,
        stage: Stage::Decode,
        reason,
        field: Some("price".into()),
        rule: None,
        detail: "expected a number".into(),
        event_id: Some("e1".into()),
        event_type: None,
        event_time: Some(-1),
        contract: Some(("parcel".into(), 1)),
    }
}

/// One row of the source `ingest`.
pub(super) fn ingest_row(domain: &Domain, seq: i64, n: i64) -> RecordBatch {
    let schema = domain.ingest.schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            ingest::N => Arc::new(Int64Array::from(vec![n])),
            ingest::OUTCOME => Arc::new(StringArray::from(vec!["accepted"])),
            _ => values(field, &[seq]),
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
}

/// No rows of that schema.
pub(super) fn empty(schema: &Arc<Schema>) -> RecordBatch {
    RecordBatch::new_empty(Arc::clone(schema))
}

/// Runs the test `name` of this binary in another process, with more environment.
pub(super) fn child(name: &str, environment: &[(&str, &str)]) -> Output {
    command(Command::new(std::env::current_exe().unwrap()), name, environment)
}

/// The same in a process whose files cannot grow beyond `kib`.
pub(super) fn child_with_small_disk(name: &str, kib: u32, environment: &[(&str, &str)]) -> Output {
    let mut shell = Command::new("sh");
    // In units of 512 bytes. Without the trap the signal would end the process before DuckDB
    // sees the error.
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kib * 2), "sh"]);
    shell.arg(std::env::current_exe().unwrap());
    command(shell, name, environment)
}

fn command(mut command: Command, name: &str, environment: &[(&str, &str)]) -> Output {
    command
        .args(["--exact", &format!("store::tests::{name}"), "--nocapture", "--test-threads", "1"])
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}
