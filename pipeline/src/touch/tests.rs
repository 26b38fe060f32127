//! What commits of the real stages say of their metrics.

use std::path::PathBuf;
use std::sync::Arc;

use contracts::model::Domain;

use super::{ALWAYS, HASH_OF_NONE, Moved, Values, hash_text};
use crate::batch::{Attached, RawBatch, RawRecord};
use crate::decode::Decoder;
use crate::memory_store::Shared;
use crate::processor::Processor;

const CONTRACTS: &str = r#"
kind: event
names: [sale.made, sale.moved]
version: 1
topic: sales
key: sale_id
fields:
  sale_id: string
  town: {type: string, required: false}
  amount: {type: 'decimal(10,2)', required: false}
---
kind: entity
name: sale
version: 1
from: [sale.made, sale.moved]
key: sale_id
fields: {town: last, amount: last, made_at: first(timestamp)}
---
kind: metric
name: taken
from: {entity: sale}
time: made_at
where: amount > 0
measure: sum(amount)
dimensions: {town: {}}
windows: [1h]
moved_by: [sale.made, sale.moved]
---
kind: metric
name: moves
from: {event: sale.moved}
measure: count
dimensions: {town: {}}
windows: [1h]
moved_by: [sale.moved]
---
kind: metric
name: records
from: ingest
measure: count
windows: [1h]
moved_by: [ingest]
"#;

struct Run {
    domain: Arc<Domain>,
    decoder: Decoder,
    processor: Processor,
    offset: u64,
}

impl Run {
    fn new() -> Self {
        let file = (PathBuf::from("sales.yaml"), CONTRACTS.to_owned());
        let domain = Arc::new(contracts::load(&[file]).unwrap_or_else(|e| panic!("{e:#?}")));
        let processor = Processor::new(domain.clone(), Box::new(Shared::default())).unwrap();
        Self { decoder: Decoder::new(&domain), domain, processor, offset: 0 }
    }

    /// Commits events, each (tenant, type, second, sale, the rest), and tells what may have moved.
    fn give(&mut self, events: &[(&str, &str, i64, u32, &str)]) -> Moved {
        let (mut bytes, mut records) = (Vec::new(), Vec::new());
        for (tenant, ty, second, sale, rest) in events {
            let start = bytes.len();
            let text = format!(
                r#"{{"event_type":"{ty}","event_id":"e{}","timestamp":"2026-01-01T00:{:02}:{:02}Z","sale_id":"s{sale}"{rest}}}"#,
                self.offset,
                second / 60,
                second % 60
            );
            bytes.extend_from_slice(text.as_bytes());
            records.push(RawRecord {
                start,
                len: text.len(),
                offset: self.offset,
                arrived_at: at(60 + *second),
                tenant: Arc::from(*tenant),
                tenant_fixed: true,
                attached: Attached::default(),
            });
            self.offset += 1;
        }
        let batch = RawBatch {
            partition: "file:test".into(),
            source: "file",
            bytes,
            records,
            next_offset: self.offset,
            fingerprint: None,
            format: Default::default(),
            claim: None,
        };
        let decoded = self.decoder.decode(batch);
        let committed = self.processor.process(&[&decoded]).unwrap().committed;
        assert_eq!(committed.arrived_at, events.iter().map(|e| at(60 + e.2)).min().unwrap());
        committed.touches.unwrap()
    }

    /// Times and values (by dimension) of the touch of a metric, if there is one.
    fn of(&self, moved: &Moved, metric: &str, tenant: &str) -> Option<((i64, i64), Vec<Values>)> {
        let index = self.domain.metric(metric).unwrap().index;
        let mut found = moved.metrics.iter().filter(|t| t.metric == index && &*t.tenant == tenant);
        let touch = found.next()?;
        assert_eq!(found.next(), None, "one touch for each metric and tenant");
        Some((touch.times, touch.values.clone()))
    }
}

/// Of a second of 2026-01-01.
fn at(second: i64) -> i64 {
    (1_767_225_600 + second) * 1_000_000
}

fn towns(names: &[&str]) -> Vec<Values> {
    let mut hashes: Vec<u64> = names.iter().map(|name| hash_text(name)).collect();
    hashes.sort_unstable();
    vec![Values::Some(hashes.into())]
}

#[test]
fn a_touch_has_the_values_before_and_after_and_the_times_of_the_rows() {
    let mut run = Run::new();
    let moved = run.give(&[("a", "sale.made", 10, 1, r#","town":"Ulm","amount":5"#)]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(10), at(10)), towns(&["Ulm"]))));
    assert_eq!(run.of(&moved, "moves", "a"), None, "no event of its type");
    assert_eq!(run.of(&moved, "taken", "b"), None, "nobody else's");
    assert_eq!(run.of(&moved, "records", "a"), Some((ALWAYS, vec![])));
    assert_eq!(moved.families, [(0, Arc::from("a"), (at(10), at(10)))]);

    // The sale moves between towns, at the time at which it was made.
    let moved = run.give(&[("a", "sale.moved", 700, 1, r#","town":"Bonn""#)]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(10), at(10)), towns(&["Bonn", "Ulm"]))));
    assert_eq!(run.of(&moved, "moves", "a"), Some(((at(700), at(700)), towns(&["Bonn"]))));

    // An earlier event moves the time itself.
    let moved = run.give(&[("a", "sale.moved", 3, 1, "")]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(3), at(10)), towns(&["Bonn"]))));
    let none = vec![Values::Some(vec![HASH_OF_NONE].into())];
    assert_eq!(run.of(&moved, "moves", "a"), Some(((at(3), at(3)), none)));
}

#[test]
fn what_passes_no_filter_moves_nothing_and_what_no_longer_does_moves_it() {
    let mut run = Run::new();
    let moved = run.give(&[("a", "sale.made", 10, 1, r#","town":"Ulm","amount":0"#)]);
    assert_eq!(run.of(&moved, "taken", "a"), None);
    let moved = run.give(&[("a", "sale.moved", 11, 1, r#","amount":7"#)]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(10), at(10)), towns(&["Ulm"]))));
    let moved = run.give(&[("a", "sale.moved", 12, 1, r#","amount":0"#)]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(10), at(10)), towns(&["Ulm"]))));
}

#[test]
fn tenants_of_one_commit_are_told_apart_up_to_a_number() {
    let mut run = Run::new();
    let made = |tenant, second, sale, rest| (tenant, "sale.made", second, sale, rest);
    let moved = run.give(&[
        made("a", 1, 1, r#","town":"Ulm","amount":5"#),
        made("b", 2, 2, r#","town":"Bonn","amount":5"#),
        made("a", 3, 3, r#","town":"Köln","amount":5"#),
    ]);
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(1), at(3)), towns(&["Köln", "Ulm"]))));
    assert_eq!(run.of(&moved, "taken", "b"), Some(((at(2), at(2)), towns(&["Bonn"]))));
    let names: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
    let many: Vec<_> = (100..).zip(&names).map(|(n, name)| made(name, 1, n, "")).collect();
    let moved = run.give(&many);
    for name in &names {
        assert_eq!(run.of(&moved, "taken", name), Some((ALWAYS, vec![Values::All])), "{name}");
    }
}

#[test]
fn more_values_than_are_told_apart_are_all_of_them() {
    let mut run = Run::new();
    let rests: Vec<String> = (0..65).map(|n| format!(r#","town":"T{n}","amount":1"#)).collect();
    let made = |n: usize| ("a", "sale.made", 9, n as u32, rests[n].as_str());
    let moved = run.give(&(0..64).map(made).collect::<Vec<_>>());
    let Some((_, values)) = run.of(&moved, "taken", "a") else { panic!("{moved:?}") };
    assert!((0..64).all(|n| values[0].may_have(hash_text(&format!("T{n}")))), "{values:?}");
    assert!(!values[0].may_have(hash_text("T64")));
    let mut run = Run::new();
    let moved = run.give(&(0..65).map(made).collect::<Vec<_>>());
    assert_eq!(run.of(&moved, "taken", "a"), Some(((at(9), at(9)), vec![Values::All])));
}

#[test]
fn touches_together_say_what_each_says() {
    let mut run = Run::new();
    let one = run.give(&[("a", "sale.made", 10, 1, r#","town":"Ulm","amount":5"#)]);
    let two = run.give(&[("a", "sale.made", 90, 2, r#","town":"Bonn","amount":5"#)]);
    let index = run.domain.metric("taken").unwrap().index;
    let find = |moved: &Moved| moved.metrics.iter().find(|t| t.metric == index).unwrap().clone();
    let both = find(&one).and(&find(&two));
    assert_eq!((both.times, both.values), ((at(10), at(90)), towns(&["Bonn", "Ulm"])));
}
