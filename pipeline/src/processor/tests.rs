//! The processor over real contracts and the plainest store: what a stream becomes must not depend
//! on batches, restarts, failed transactions or the order of late events.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use contracts::model::{Domain, Relation, column};
use proptest::prelude::*;

use super::Processor;
use crate::batch::{Attached, CANARY, DecodedBatch, RawBatch, RawRecord};
use crate::decode::Decoder;
use crate::entity::Replay;
use crate::headers;
use crate::memory_store::Shared;
use crate::outcome::{Outcome, Reason};

const CONTRACTS: &str = r#"
kind: event
name: parcel
names: [parcel.sent, parcel.moved, parcel.returned]
version: 1
topic: parcels
key: parcel_id
fields:
  parcel_id: string
  sender: {type: string, required: false}
  town: {type: string, required: false}
  weight: {type: 'decimal(10,3)', required: false}
  depot_id: {type: string, required: false}
enrich:
  country: {lookup: depot, key: depot_id, field: country}
time_policy: {late: restate, max_future: 5m}
dedup: {horizon: 7d}
---
kind: event
name: depot
names: [depot.opened]
version: 1
topic: depots
key: depot_id
fields: {depot_id: string, country: string}
---
kind: entity
name: depot
version: 1
from: [depot.opened]
key: depot_id
fields: {country: last}
---
kind: entity
name: parcel
version: 1
from: [parcel.sent, parcel.moved, parcel.returned]
key: parcel_id
fields:
  sender: last
  town: last
  weight: last
  country: last
  status: last(event_type)
  sent_at: first(timestamp)
  moves: count
  towns: count_distinct(town)
---
kind: entity
name: sender
version: 1
from: {entity: parcel}
where: status <> 'parcel.returned'
key: sender
fields:
  parcels: count
  total_weight: sum(weight)
  heaviest: max(weight)
  lightest: min(weight)
  first_sent: min(sent_at)
  favourite: mode(town)
"#;

fn domain() -> Arc<Domain> {
    compiled(CONTRACTS)
}

fn compiled(contracts: &str) -> Arc<Domain> {
    let files = [(PathBuf::from("parcels.yaml"), contracts.to_owned())];
    match contracts::load(&files) {
        Ok(domain) => Arc::new(domain),
        Err(errors) => {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("{}", text.join("\n"))
        }
    }
}

const ARRIVED: i64 = 1_800_000_000_000_000;

fn batch(lines: &[String], first_offset: u64) -> RawBatch {
    let mut bytes = Vec::new();
    let records = lines
        .iter()
        .enumerate()
        .map(|(i, line)| {
            let start = bytes.len();
            bytes.extend_from_slice(line.as_bytes());
            RawRecord {
                start,
                len: line.len(),
                offset: first_offset + i as u64,
                arrived_at: ARRIVED,
                tenant: "default".into(),
                tenant_fixed: false,
                attached: Attached::default(),
            }
        })
        .collect();
    RawBatch {
        partition: "file:test".into(),
        source: "file",
        bytes,
        records,
        next_offset: first_offset + lines.len() as u64,
        fingerprint: None,
        format: Default::default(),
        claim: None,
    }
}

struct Run {
    domain: Arc<Domain>,
    store: Shared,
    decoder: Decoder,
    processor: Processor,
    offset: u64,
}

impl Run {
    fn new() -> Self {
        Self::over(domain(), Shared::default())
    }

    fn over(domain: Arc<Domain>, store: Shared) -> Self {
        let processor = Processor::new(domain.clone(), Box::new(store.clone())).unwrap();
        let offset = processor.positions().get("file:test").map_or(0, |p| p.next_offset);
        Self { decoder: Decoder::new(&domain), domain, store, processor, offset }
    }

    fn give(&mut self, lines: &[String]) -> Vec<Outcome> {
        let decoded = self.decoder.decode(batch(lines, self.offset));
        let mut processed = self.processor.process(&[&decoded]).unwrap();
        self.offset += lines.len() as u64;
        processed.outcomes.remove(0)
    }

    fn entities(&self) -> String {
        let mut text = String::new();
        for entity in &self.domain.entities {
            for (key, row) in self.store.entity_rows(&self.domain, &entity.name) {
                text.push_str(&format!("{} {key}: {row}\n", entity.name));
            }
        }
        text
    }

    /// Everything a reader could see, as text.
    fn state(&self) -> String {
        let mut text = self.entities();
        let letters = self.store.with(|store| store.dead_letters.clone());
        for (reason, field, payload) in letters {
            text.push_str(&format!("{reason} {field:?} {}\n", String::from_utf8_lossy(&payload)));
        }
        let counts = self.store.with(|store| store.partitions["file:test"].counts);
        text.push_str(&format!("{counts:?}"));
        text
    }
}

fn sent(id: usize, second: i64, parcel: usize, rest: &str) -> String {
    event("parcel.sent", id, second, parcel, rest)
}

fn event(ty: &str, id: usize, second: i64, parcel: usize, rest: &str) -> String {
    format!(
        r#"{{"event_type":"{ty}","event_id":"e{id}","timestamp":"2026-01-01T{:02}:{:02}:{:02}Z","parcel_id":"p{parcel}"{rest}}}"#,
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

fn shown(run: &Run, entity: &str, key: &str) -> String {
    run.store.entity_rows(&run.domain, entity)[&format!("default/{key}")].clone()
}

#[test]
fn a_correction_moves_between_groups_and_a_return_leaves_the_totals() {
    let mut run = Run::new();
    run.give(&[
        sent(1, 1, 1, r#","sender":"ann","town":"Ulm","weight":2.5"#),
        sent(2, 2, 2, r#","sender":"ann","town":"Bonn","weight":1.125"#),
    ]);
    assert!(shown(&run, "sender", "ann").contains("parcels=2 total_weight=3.625"));
    run.give(&[event("parcel.moved", 3, 3, 2, r#","sender":"bob""#)]);
    assert!(shown(&run, "sender", "ann").contains("parcels=1 total_weight=2.500"));
    let bob = shown(&run, "sender", "bob");
    assert!(bob.contains("parcels=1 total_weight=1.125 heaviest=1.125"), "{bob}");
    run.give(&[event("parcel.returned", 4, 4, 1, "")]);
    let ann = shown(&run, "sender", "ann");
    assert!(ann.contains("parcels=0 total_weight=0.000 heaviest= "), "{ann}");
}

#[test]
fn an_extreme_that_is_taken_away_is_found_again_in_the_store() {
    let mut run = Run::new();
    for (i, weight) in [5, 9, 7].into_iter().enumerate() {
        let rest = format!(r#","sender":"ann","weight":{weight}"#);
        run.give(&[sent(i, i as i64, i, &rest)]);
    }
    assert!(shown(&run, "sender", "ann").contains("heaviest=9.000"));
    run.give(&[event("parcel.returned", 10, 10, 1, "")]);
    assert!(shown(&run, "sender", "ann").contains("heaviest=7.000 lightest=5.000"));
}

#[test]
fn a_late_event_moves_first_but_not_last() {
    let mut run = Run::new();
    run.give(&[event("parcel.moved", 1, 100, 1, r#","town":"Ulm""#)]);
    run.give(&[event("parcel.sent", 2, 50, 1, r#","town":"Bonn""#)]);
    let row = shown(&run, "parcel", "p1");
    assert!(row.contains("town=Ulm") && row.contains("sent_at=2026-01-01T00:00:50"), "{row}");
}

#[test]
fn an_absent_field_keeps_and_an_explicit_null_overwrites() {
    let mut run = Run::new();
    run.give(&[
        sent(1, 1, 1, r#","town":"Ulm","weight":1"#),
        event("parcel.moved", 2, 2, 1, r#","town":null"#),
    ]);
    let row = shown(&run, "parcel", "p1");
    assert!(row.contains("town= ") && row.contains("weight=1.000"), "{row}");
}

#[test]
fn a_count_of_values_does_not_count_rows_of_events_that_lack_the_field() {
    let domain = compiled(
        r#"
kind: event
names: [book.lent]
version: 1
topic: books
key: book_id
fields: {book_id: string, reader: {type: string, required: false}}
---
kind: event
names: [book.seen]
version: 1
topic: books
key: book_id
fields: {book_id: string}
---
kind: entity
name: book
version: 1
from: [book.lent, book.seen]
key: book_id
fields: {events: count, readers: count(reader)}
"#,
    );
    let mut run = Run::over(domain, Shared::default());
    let book = |ty: &str, id: usize, rest: &str| {
        event(ty, id, 1, 1, rest).replace(r#""parcel_id":"p1""#, r#""book_id":"b""#)
    };
    run.give(&[
        book("book.lent", 1, r#","reader":"ann""#),
        book("book.seen", 2, ""),
        book("book.seen", 3, ""),
        book("book.lent", 4, r#","reader":null"#),
        book("book.lent", 5, ""),
    ]);
    let row = shown(&run, "book", "b");
    assert!(row.contains("events=5 readers=1"), "{row}");
}

#[test]
fn canaries_are_committed_and_count_for_nothing_but_their_partition() {
    let mut run = Run::new();
    let lines = [sent(1, 1, 1, ""), "no JSON at all".to_owned()];
    let canaries = RawBatch {
        partition: "kafka:agentflow.canary/0".into(),
        source: CANARY,
        ..batch(&lines, 7)
    };
    let processed = run.processor.process(&[&run.decoder.decode(canaries)]).unwrap();
    let canary = Outcome::Discarded { reason: Reason::Canary };
    assert_eq!(processed.outcomes, [[canary.clone(), canary]]);
    assert_eq!((processed.committed.touched.len(), processed.committed.newest.len()), (0, 0));
    let stored = run.processor.positions().get("kafka:agentflow.canary/0").unwrap();
    assert_eq!((stored.next_offset, stored.watermark, stored.last_event_at), (9, None, None));
    assert_eq!(stored.last_arrived_at, Some(ARRIVED));
    assert_eq!((stored.counts.received, stored.counts.discarded), (2, 2));
    run.store.with(|store| {
        assert_eq!(store.ingest.iter().map(|rows| rows.num_rows()).sum::<usize>(), 0);
        assert!(store.dead_letters.is_empty() && store.journal.is_empty());
    });
}

#[test]
fn a_commit_tells_what_it_touched_and_how_new_that_is() {
    let mut run = Run::new();
    let lines = [sent(1, 9, 1, ""), sent(2, 5, 2, ""), "no JSON".to_owned()];
    let processed = run.processor.process(&[&run.decoder.decode(batch(&lines, 0))]).unwrap();
    let relations = processed.committed.touched.iter().map(|(relation, _)| *relation);
    assert!(relations.into_iter().any(|relation| relation == Relation::Ingest));
    let newest = 1_767_225_609_000_000; // 2026-01-01T00:00:09Z
    let parcels = run.domain.families.iter().position(|f| f.name == "parcel").unwrap();
    assert_eq!(
        processed.committed.newest,
        [(Relation::Family(parcels), newest), (Relation::Ingest, ARRIVED)]
    );
    let stored = run.processor.positions().get("file:test").unwrap();
    assert_eq!(stored.watermark, Some(newest));
    assert_eq!(stored.last_event_at, Some(newest - 4_000_000), "the last one in order");
}

#[test]
fn a_dead_letter_keeps_key_and_headers() {
    let mut run = Run::new();
    let mut records = batch(&["{bad".to_owned()], 0);
    records.bytes.extend_from_slice(b"the key");
    let before = records.bytes.len();
    headers::push(&mut records.bytes, "trace", None);
    records.records[0].attached = Attached {
        key_len: Some(7),
        headers_len: (records.bytes.len() - before) as u32,
        is_tombstone: false,
    };
    let decoded = run.decoder.decode(records);
    run.processor.process(&[&decoded]).unwrap();
    let attached = run.store.with(|store| store.attached.clone());
    let headers = r#"[{"name":"trace","value":null}]"#.to_owned();
    assert_eq!(attached, [(Some(b"the key".to_vec()), headers)]);
}

#[test]
fn a_lookup_sees_what_was_applied_before_its_row_also_in_its_own_batch() {
    let depot = |id: usize, country: &str| {
        format!(
            r#"{{"event_type":"depot.opened","event_id":"d{id}","timestamp":"2026-01-01T00:00:00Z","depot_id":"x","country":"{country}"}}"#
        )
    };
    let lines = [
        sent(1, 1, 1, r#","depot_id":"x""#),
        depot(1, "DE"),
        sent(2, 2, 2, r#","depot_id":"x""#),
        depot(2, "FR"),
        sent(3, 3, 3, r#","depot_id":"x""#),
    ];
    for size in 1..=lines.len() {
        let mut run = Run::new();
        lines.chunks(size).for_each(|chunk| {
            run.give(chunk);
        });
        let countries: Vec<String> = ["p1", "p2", "p3"]
            .iter()
            .map(|parcel| {
                let row = shown(&run, "parcel", parcel);
                row.split("country=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
            })
            .collect();
        assert_eq!(countries, ["", "DE", "FR"], "in batches of {size}");
    }
}

#[test]
fn a_repeat_is_told_from_a_conflict_and_a_rejected_event_does_not_mark_its_id() {
    let mut run = Run::new();
    let good = sent(1, 1, 1, r#","town":"Ulm""#);
    let bad = good.replace(r#","parcel_id":"p1""#, "");
    let spaced = good.replace(',', " , ");
    let other = good.replace("Ulm", "Bonn");
    let outcomes = run.give(&[bad, good, spaced, other]);
    let codes: Vec<String> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Accepted { seq } => format!("accepted {seq}"),
            Outcome::Duplicate { seq } => format!("duplicate {seq}"),
            Outcome::Rejected(rejection) => rejection.reason.to_string(),
            Outcome::Discarded { reason } => format!("discarded {reason}"),
        })
        .collect();
    assert_eq!(codes, ["missing_field", "accepted 1", "duplicate 1", "conflicting_duplicate"]);
}

#[test]
fn a_failed_transaction_leaves_no_trace() {
    let lines: Vec<String> = (0..20).map(|i| sent(i, i as i64, i % 3, r#","weight":1"#)).collect();
    let mut plain = Run::new();
    lines.chunks(4).for_each(|chunk| {
        plain.give(chunk);
    });
    let mut failing = Run::new();
    for chunk in lines.chunks(4) {
        failing.store.with(|store| store.failing_commits = 1);
        let decoded = failing.decoder.decode(batch(chunk, failing.offset));
        let error = failing.processor.process(&[&decoded]).unwrap_err();
        assert!(error.retry(), "{error}");
        failing.give(chunk);
    }
    assert_eq!(failing.state(), plain.state());
}

/// Events of a small world: repeats, conflicts, late ones, broken ones, corrections.
fn line() -> impl Strategy<Value = String> {
    let rest = (0usize..4, 0usize..4, prop::option::of(1i64..2000), 0usize..8);
    (0usize..40, 0i64..5000, 0usize..5, 0usize..3, rest).prop_map(
        |(id, second, parcel, ty, (sender, town, weight, broken))| {
            let ty = ["parcel.sent", "parcel.moved", "parcel.returned"][ty];
            let mut rest = String::new();
            if sender > 0 {
                rest.push_str(&format!(r#","sender":"s{sender}""#));
            }
            match town {
                0 => rest.push_str(r#","town":null"#),
                1 => {}
                town => rest.push_str(&format!(r#","town":"t{town}""#)),
            }
            if let Some(weight) = weight {
                rest.push_str(&format!(r#","weight":{}.{:03}"#, weight / 1000, weight % 1000));
            }
            let text = event(ty, id, second, parcel, &rest);
            match broken {
                0 => text[..text.len() / 2].to_owned(),
                _ => text,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn batches_and_restarts_do_not_change_the_result(
        lines in prop::collection::vec(line(), 1..60),
        sizes in prop::collection::vec(1usize..10, 60),
        restarts in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut whole = Run::new();
        whole.give(&lines);
        let mut pieces = Run::new();
        let (mut at, mut turn) = (0, 0);
        while at < lines.len() {
            let end = (at + sizes[turn]).min(lines.len());
            pieces.give(&lines[at..end]);
            if restarts[turn] {
                pieces = Run::over(pieces.domain.clone(), pieces.store.clone());
            }
            at = end;
            turn += 1;
        }
        prop_assert_eq!(pieces.state(), whole.state());
    }

    #[test]
    fn batches_of_several_partitions_committed_together_are_as_if_one_after_the_other(
        lines in prop::collection::vec(line(), 1..60),
        places in prop::collection::vec((1usize..6, 0usize..3), 60),
        groups in prop::collection::vec(1usize..5, 60),
    ) {
        let (mut alone, mut together) = (Run::new(), Run::new());
        let mut decoded: Vec<[DecodedBatch; 2]> = Vec::new();
        let mut offsets = [0; 3];
        let mut rest = lines.as_slice();
        for (size, place) in places {
            let (lines, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let name = if place == 0 { "file:test".to_owned() } else { format!("file:{place}") };
            let raw = RawBatch { partition: name.into(), ..batch(lines, offsets[place]) };
            offsets[place] += lines.len() as u64;
            decoded.push([alone.decoder.decode(raw.clone()), together.decoder.decode(raw)]);
            if rest.is_empty() {
                break;
            }
        }
        let (mut ones, mut grouped) = (Vec::new(), Vec::new());
        for [batch, _] in &decoded {
            ones.append(&mut alone.processor.process(&[batch]).unwrap().outcomes);
        }
        let mut waiting: Vec<&DecodedBatch> = decoded.iter().map(|[_, batch]| batch).collect();
        for size in groups.into_iter().cycle() {
            let group: Vec<_> = waiting.drain(..size.min(waiting.len())).collect();
            if group.is_empty() {
                break;
            }
            grouped.append(&mut together.processor.process(&group).unwrap().outcomes);
        }
        prop_assert_eq!(grouped, ones);
        prop_assert_eq!(together.entities(), alone.entities());
        prop_assert_eq!(together.processor.last_seq(), alone.processor.last_seq());
        let stored = |run: &Run| run.store.with(|store| {
            let mut partitions = store.partitions.clone();
            partitions.values_mut().for_each(|partition| partition.updated_at = 0);
            (partitions, store.dead_letters.clone(), store.last_seq)
        });
        prop_assert_eq!(stored(&together), stored(&alone));
    }

    #[test]
    fn a_replay_of_the_journal_gives_the_live_rows(
        lines in prop::collection::vec(line(), 1..60),
        sizes in prop::collection::vec(1usize..10, 60),
    ) {
        let mut run = Run::new();
        let (mut at, mut turn) = (0, 0);
        while at < lines.len() {
            let end = (at + sizes[turn]).min(lines.len());
            run.give(&lines[at..end]);
            at = end;
            turn += 1;
        }
        for entity in &run.domain.entities {
            let mut replay = Replay::new(run.domain.clone(), entity.index);
            for family in replay.wants() {
                let batches = run.store.with(|s| s.journal.get(&family).cloned().unwrap_or_default());
                for rows in batches {
                    replay.feed(family, &rows).unwrap();
                }
            }
            let live = run.store.entity_rows(&run.domain, &entity.name);
            let mut rows = 0;
            for replayed in replay.finish().unwrap() {
                let keys = replayed.column_by_name(column::KEY).unwrap().as_string::<i32>();
                for row in 0..replayed.num_rows() {
                    let shown = &live[&format!("default/{}", keys.value(row))];
                    let names = entity.fields.iter().map(|field| field.name.as_str());
                    for name in names.chain([column::UPDATED_SEQ, column::UPDATED_AT]) {
                        let values = replayed.column_by_name(name).unwrap();
                        let value = arrow::util::display::array_value_to_string(values, row).unwrap();
                        let wanted = format!("{name}={value}");
                        prop_assert!(shown.contains(&wanted), "{}: {} lacks {}", entity.name, shown, wanted);
                    }
                    rows += 1;
                }
            }
            prop_assert_eq!(rows, live.len());
        }
    }

    #[test]
    fn sequence_numbers_are_ascending_without_gaps(lines in prop::collection::vec(line(), 1..60)) {
        let mut run = Run::new();
        for chunk in lines.chunks(7) {
            run.give(chunk);
        }
        let mut seqs: Vec<i64> = run.store.with(|store| {
            store.journal.values().flatten().flat_map(|rows| {
                rows.column_by_name(column::SEQ).unwrap().as_primitive::<Int64Type>().values().to_vec()
            }).collect()
        });
        seqs.sort_unstable();
        prop_assert_eq!(&seqs, &(1..=seqs.len() as i64).collect::<Vec<_>>());
        prop_assert_eq!(seqs.len() as i64, run.processor.last_seq());
    }
}
