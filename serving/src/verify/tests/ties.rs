//! Rows of equal rank: which of them an entity over them names must not depend on how it came to be.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::bench::{Bench, Given, assert_clean, domain};
use crate::verify::VerifyOptions;

const CONTRACTS: &str = "
kind: event
names: [parcel.moved]
version: 1
key: parcel
fields: {parcel: string, depot: {type: string, required: false}, rank: int64}
---
kind: entity
name: parcel
version: 1
from: parcel.moved
key: parcel
fields: {depot: last, rank: last}
---
kind: entity
name: depot
version: 1
from: {entity: parcel}
key: depot
fields:
  parcels: count
  best: arg_max(parcel, rank)
  worst: arg_min(parcel, rank)
  most: max(rank)
  size: case when parcels > 2 then 'large' else 'small' end
---
kind: entity
name: size
version: 1
from: {entity: depot}
key: size
fields: {depots: count, best: 'arg_max(best, most)', worst: 'arg_min(worst, most)'}
";

const NOW: i64 = 1_767_225_600_000_000;

#[test]
fn rows_of_equal_rank_stand_in_the_order_in_which_they_changed() {
    let domain = domain(CONTRACTS);
    for seed in 0..4 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut bench = Bench::new(&domain);
        bench.at(NOW);
        for step in 0..40 {
            let given = |rng: &mut SmallRng| {
                let depot = ["north", "south", ""][rng.random_range(0..3)];
                let event = json!({
                    "event_type": "parcel.moved",
                    "event_id": format!("{step}-{}", rng.random::<u64>()),
                    "timestamp": crate::value::time_text(NOW - rng.random_range(0..4) * 1_000_000),
                    "parcel": format!("P{}", rng.random_range(0..6)),
                    "depot": (!depot.is_empty()).then_some(depot),
                    "rank": rng.random_range(1..3),
                });
                Given { line: event.to_string().into_bytes(), tenant: "default", arrived_at: NOW }
            };
            let batch: Vec<Given> = (0..rng.random_range(1..3)).map(|_| given(&mut rng)).collect();
            bench.give(0, &batch);
            if rng.random_bool(0.1) {
                bench.restart();
                bench.at(NOW);
            }
            let report = bench.verify(&VerifyOptions::default());
            assert_clean(&report, &format!("seed {seed}, step {step}"));
            assert!(report.checked.entities > 0 || step < 5, "{:?}", report.checked);
        }
    }
}
