//! Random rounds: records of all sorts are given in any order, some twice, with restarts in between, and
//! after each round nothing may differ.
//!
//! `AGENTFLOW_VERIFY_ROUNDS` says how many rounds (of both domains together); without it a few, for some
//! seconds. `AGENTFLOW_VERIFY_SEED` begins at another seed: a failing one is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::model::Domain;
use pipeline::source::generator::{Generator, GeneratorOptions};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::bench::{Bench, Given, assert_clean, domain, domain_of};
use super::yard;
use crate::verify::VerifyOptions;

/// Rounds over one store before the next begins.
const ROUNDS_PER_STORE: u64 = 8;

/// Seeds that found something once. 6: a row that an entity stands on became older without leaving it. 47: one of two
/// rows with an equal `by` of `arg_max` changed, and nothing that it gave did.
const FOUND: [u64; 2] = [6, 47];

const START: i64 = 1_767_225_600_000_000;
const MINUTE: i64 = 60_000_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs rounds over stores of `domain`; `more` gives the records of a round.
fn rounds(
    domain: &Arc<Domain>,
    share: u64,
    found: &[u64],
    mut more: impl FnMut(&mut SmallRng, u64, i64) -> Vec<Given>,
) {
    let asked = number("AGENTFLOW_VERIFY_ROUNDS");
    let count = asked.map_or(u64::MAX, |rounds| rounds / 2);
    let until = Instant::now() + Duration::from_secs(if asked.is_some() { 86_400 } else { share });
    let first = number("AGENTFLOW_VERIFY_SEED").unwrap_or(1);
    let mut done = 0;
    let mut values = 0;
    for seed in found.iter().copied().chain(first..) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut bench = Bench::new(domain);
        let mut past: Vec<Given> = Vec::new();
        let mut now = START;
        for round in 0..ROUNDS_PER_STORE {
            if done >= count || (done > 0 && Instant::now() > until) {
                eprintln!("{done} rounds, {values} values");
                return;
            }
            now += rng.random_range(1..90) * MINUTE;
            let mut given = more(&mut rng, seed * ROUNDS_PER_STORE + round, now);
            // Out of order across windows.
            if rng.random_bool(0.5) {
                given.shuffle(&mut rng);
            }
            past.extend(given.iter().cloned());
            // The same records again, as a source gives them after a failure.
            for _ in 0..rng.random_range(0..6) {
                let again = past[rng.random_range(0..past.len())].clone();
                given.insert(rng.random_range(0..=given.len()), again);
            }
            let mut rest = given.as_slice();
            while !rest.is_empty() {
                let (batch, left) = rest.split_at(rng.random_range(1..=rest.len()));
                bench.give(rng.random_range(0..2), batch);
                rest = left;
                if rng.random_bool(0.1) {
                    bench.restart();
                }
            }
            bench.at(now + rng.random_range(0..40) * MINUTE);
            let what = format!("seed {seed}, round {round}");
            let live = bench.verify(&VerifyOptions::default());
            assert_clean(&live, &what);
            values += live.checked.values;
            done += 1;
            // Of a past time every answer folds the entities anew, which takes several times as long.
            if rng.random_bool(0.2) {
                let as_of = now - rng.random_range(0..200) * MINUTE;
                let options = VerifyOptions { as_of: Some(as_of), ..Default::default() };
                let then = bench.verify(&options);
                assert_clean(&then, &format!("{what}, as of {as_of}"));
                values += then.checked.values;
            }
        }
    }
}

#[test]
fn nothing_differs_after_random_rounds_of_the_shop() {
    let domain = domain_of("shop");
    rounds(&domain, 10, &[], |rng, seed, now| {
        let options = GeneratorOptions {
            seed,
            count: Some(rng.random_range(20..120)),
            rate: 1.0,
            speed: rng.random_range(5.0..120.0),
            start: now - 60 * MINUTE,
            late: 0.1,
            repeated: 0.05,
            bad: 0.05,
            users: 5,
        };
        let mut generator = Generator::new(options);
        let mut given = Vec::new();
        let mut line = Vec::new();
        while generator.next_line(&mut line) {
            let line = std::mem::take(&mut line);
            let tenant = if rng.random_bool(0.1) { "other" } else { "default" };
            given.push(Given { line, tenant, arrived_at: generator.clock().max(now) });
        }
        given
    });
}

#[test]
fn nothing_differs_after_random_rounds_of_everything() {
    let domain = domain(yard::CONTRACTS);
    let mut number = 0;
    rounds(&domain, 10, &FOUND, |rng, _, now| {
        (0..rng.random_range(5..80))
            .map(|_| {
                number += 1;
                yard::record(rng, now, number)
            })
            .collect()
    });
}
