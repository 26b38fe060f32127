//! The generator keeps its promises, and its events are what the shop's contracts describe.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::decode::Decoder;
use crate::decode::support::batch;
use crate::outcome::Reason;

fn lines(options: GeneratorOptions) -> (Vec<Vec<u8>>, Summary) {
    let mut generator = Generator::new(options);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while generator.next_line(&mut line) {
        lines.push(std::mem::take(&mut line));
    }
    (lines, generator.summary)
}

fn options(count: u64) -> GeneratorOptions {
    GeneratorOptions { count: Some(count), rate: 20.0, ..Default::default() }
}

fn pure(count: u64) -> GeneratorOptions {
    GeneratorOptions { late: 0.0, repeated: 0.0, bad: 0.0, ..options(count) }
}

fn text<'v>(event: &'v Value, name: &str) -> &'v str {
    event[name].as_str().unwrap_or_else(|| panic!("{name} in {event}"))
}

fn hundredths(value: &Value) -> i64 {
    let text = value.to_string();
    let (whole, cents) = text.split_once('.').expect("two digits");
    let cents = format!("{cents:0<2}");
    whole.parse::<i64>().expect("digits") * 100 + cents.parse::<i64>().expect("digits")
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(lines(options(5_000)), lines(options(5_000)));
    let other = GeneratorOptions { seed: 2, ..options(5_000) };
    assert_ne!(lines(options(5_000)).0, lines(other).0);
}

#[test]
fn the_mix_is_that_of_a_shop() {
    let (lines, summary) = lines(options(200_000));
    assert_eq!(lines.len(), 200_000);
    let share = |count: u64| (count as f64 / 2_000.0).round() as u64;
    assert!((68..=73).contains(&share(summary.clicks)), "{summary:?}");
    assert!((13..=15).contains(&share(summary.orders + summary.order_updates)), "{summary:?}");
    assert!((9..=10).contains(&share(summary.payments)), "{summary:?}");
    assert_eq!(share(summary.products), 5, "{summary:?}");
    assert!(summary.sessions > 20_000, "{summary:?}");
    assert_eq!((share(summary.late), share(summary.repeated)), (1, 1));
    assert!(summary.bad.iter().all(|count| *count > 20), "{summary:?}");
    let updates = summary.order_updates as f64 / summary.orders as f64;
    assert!((2.5..3.2).contains(&updates), "{updates} updates per order");
}

#[test]
fn orders_move_on_and_add_up() {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut currencies = HashSet::new();
    for line in lines(pure(50_000)).0 {
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        if !text(&event, "event_type").starts_with("order.") {
            continue;
        }
        let items = event["items"].as_array().expect("items");
        let sum: i64 = items
            .iter()
            .map(|item| item["quantity"].as_i64().expect("count") * hundredths(&item["unit_price"]))
            .sum();
        assert_eq!(sum, hundredths(&event["total_amount"]), "{event}");
        currencies.insert(text(&event, "currency").to_owned());
        let status = text(&event, "status").to_owned();
        let before = last.insert(text(&event, "order_id").to_owned(), status.clone());
        let allowed: &[&str] = match before.as_deref() {
            None => &["pending"],
            Some("pending") => &["pending", "confirmed", "cancelled"],
            Some("confirmed") => &["shipped", "cancelled"],
            Some("shipped") => &["delivered"],
            Some(other) => panic!("{other} is the end, but then: {event}"),
        };
        assert!(allowed.contains(&status.as_str()), "{before:?} → {event}");
    }
    assert_eq!(currencies.len(), 4);
}

#[test]
fn ids_are_unique_and_orders_follow_sessions() {
    let mut ids = HashSet::new();
    let mut at_the_till = HashSet::new();
    for line in lines(pure(50_000)).0 {
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        assert!(ids.insert(text(&event, "event_id").to_owned()), "{event}");
        match text(&event, "event_type") {
            "page_view" if text(&event, "page_url") == "/checkout" => {
                at_the_till.insert(text(&event, "user_id").to_owned());
            }
            "order.created" => assert!(at_the_till.contains(text(&event, "user_id")), "{event}"),
            _ => {}
        }
    }
}

#[test]
fn repeats_are_exact_and_lateness_is_bounded() {
    // 200,000 events at 0.3 a second are almost eight days.
    let options = GeneratorOptions { bad: 0.0, rate: 0.3, ..options(200_000) };
    let mut generator = Generator::new(options);
    let mut seen = HashSet::new();
    let (mut repeated, mut oldest_repeat, mut latest) = (0, 0, 0);
    let mut line = Vec::new();
    while generator.next_line(&mut line) {
        let event: Value = serde_json::from_slice(&line).expect("JSON");
        let time = chrono::DateTime::parse_from_rfc3339(text(&event, "timestamp")).expect("time");
        let age = generator.clock() - time.timestamp_micros();
        if seen.insert(std::mem::take(&mut line)) {
            latest = latest.max(age);
        } else {
            repeated += 1;
            oldest_repeat = oldest_repeat.max(age);
        }
    }
    assert_eq!(repeated, generator.summary().repeated);
    assert!((5 * 24 * HOUR..=6 * 24 * HOUR).contains(&oldest_repeat), "{oldest_repeat}");
    assert!((25 * HOUR..=26 * HOUR).contains(&latest), "{latest}");
}

#[test]
fn the_shop_contracts_accept_the_good_and_name_the_bad() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/domains/shop");
    let domain = match contracts::load_dir(&folder) {
        Ok(domain) => Arc::new(domain),
        Err(problems) => panic!("{}", problems[0]),
    };
    let options = GeneratorOptions { bad: 0.2, ..options(20_000) };
    let (lines, summary) = lines(options);
    let records: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let decoded = Decoder::new(&domain).decode(batch(&records));

    let mut want: BTreeMap<Reason, u64> = BTreeMap::new();
    for (fault, count) in Fault::ALL.into_iter().zip(summary.bad) {
        // These two are judged when times and known ids are.
        if !matches!(fault.reason(), Reason::TooFarInFuture | Reason::ConflictingDuplicate) {
            *want.entry(fault.reason()).or_default() += count;
        }
    }
    let mut got: BTreeMap<Reason, u64> = BTreeMap::new();
    for rejection in &decoded.rejected {
        *got.entry(rejection.reason).or_default() += 1;
    }
    assert_eq!(got, want);
    let versions: HashSet<u32> = decoded.rows.iter().map(|rows| rows.contract.version).collect();
    assert_eq!(versions, HashSet::from([1, 2]));
    let unknown: usize = decoded
        .rows
        .iter()
        .filter(|rows| rows.contract.version == 2)
        .map(|rows| rows.columns.column(rows.columns.num_columns() - 1))
        .map(|extra| extra.len() - extra.null_count())
        .sum();
    assert_eq!(unknown, 0, "the newest contracts know every member");
}

#[test]
fn a_source_goes_on_with_other_events() {
    use crate::positions::Positions;
    use crate::source::{Limits, Next, Source};
    use crate::store::PartitionState;
    use std::time::Duration;

    let run = |committed: Option<u64>| {
        let options = GeneratorOptions { rate: 1e9, ..pure(2_000) };
        let mut source = GeneratorSource::new(options, "default".into(), || 7);
        let state = committed.map(|next_offset| PartitionState {
            name: source.name().to_owned(),
            next_offset,
            ..Default::default()
        });
        source.resume(&Positions::new(state)).expect("can always go on");
        let mut offsets = Vec::new();
        let mut payloads = HashSet::new();
        loop {
            match source.next(Limits { records: 100, bytes: 1 << 20 }, Duration::ZERO) {
                Ok(Next::Batch(delivery)) => {
                    let batch = delivery.batch;
                    assert!(batch.records.len() <= 100);
                    for (ordinal, record) in batch.records.iter().enumerate() {
                        assert_eq!(record.arrived_at, 7);
                        offsets.push(record.offset);
                        payloads.insert(batch.payload(ordinal as u32).to_vec());
                    }
                    assert_eq!(batch.next_offset, offsets[offsets.len() - 1] + 1);
                }
                Ok(Next::Idle) => {}
                Ok(Next::End) => return (offsets, payloads),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (first, before) = run(None);
    let (second, after) = run(Some(1_200));
    assert!(first.into_iter().eq(0..2_000));
    assert!(second.into_iter().eq(1_200..2_000));
    assert!(before.is_disjoint(&after));
}
