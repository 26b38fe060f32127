//! Entities over entities over entities: folded as rows change, they are what a fold from nothing gives.

use std::sync::Arc;

use contracts::model::Domain;
use pipeline::entity::Replay;
use pipeline::source::Limits;
use pipeline::store::Journal;
use proptest::prelude::*;

use super::changed::{dump, process_in_batches, texts};
use super::fixture;
use crate::store::Store;

const CONTRACTS: &str = "
kind: event
name: parcel
names: [parcel.sent]
version: 1
key: parcel_id
fields:
  parcel_id: string
  sender: {type: string, required: false}
  weight: {type: 'decimal(10,2)', required: false}
---
kind: entity
name: parcel
version: 1
from: [parcel.sent]
key: parcel_id
fields: {sender: last, weight: last}
---
kind: entity
name: sender
version: 1
from: {entity: parcel}
key: sender
fields: {parcels: count, weight: sum(weight), heaviest: max(weight)}
---
kind: entity
name: size
version: 1
from: {entity: sender}
key: parcels
fields: {senders: count, weight: sum(weight), heaviest: max(heaviest)}
";

fn line(number: usize, (parcel, sender, weight): (u8, u8, u8)) -> String {
    format!(
        r#"{{"event_type":"parcel.sent","event_id":"e{number}","timestamp":"2026-01-01T00:{:02}:{:02}Z","parcel_id":"P{parcel}","sender":"S{sender}","weight":{weight}}}"#,
        number / 60,
        number % 60
    )
}

fn folded_from_nothing(store: &Store, domain: &Arc<Domain>) -> Vec<String> {
    let mut all = Vec::new();
    for entity in &domain.entities {
        let mut replay = Replay::new(Arc::clone(domain), entity.index);
        for family in replay.wants() {
            let whole = Limits { records: 1_000_000, bytes: usize::MAX };
            let rows = store.readers().rows(family, 0, i64::MAX, whole).unwrap();
            for rows in rows.batches {
                replay.feed(family, &rows).unwrap();
            }
        }
        let rows = replay.finish().unwrap();
        let mut rows: Vec<String> =
            rows.iter().flat_map(|rows| texts(&entity.name, rows)).collect();
        rows.sort();
        all.extend(rows);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Few parcels for each sender, so that senders lose their last one and come back.
    #[test]
    fn what_is_folded_as_it_changes_is_what_a_fold_from_nothing_gives(
        moves in prop::collection::vec((0..4_u8, 0..4_u8, 1..4_u8), 1..40),
        size in 1..6_usize,
    ) {
        let domain = fixture::domain(CONTRACTS);
        let lines: Vec<String> =
            moves.iter().enumerate().map(|(number, given)| line(number, *given)).collect();
        let store = Store::in_memory(Arc::clone(&domain)).unwrap();
        process_in_batches(&store, &domain, &lines, size);
        let is_entity = |line: &String| line.contains(": _key_hash=");
        let found: Vec<String> = dump(&store, &domain).into_iter().filter(is_entity).collect();
        prop_assert_eq!(found, folded_from_nothing(&store, &domain));
    }
}
