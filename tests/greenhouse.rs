//! Another domain that nobody has seen: every fold, every measure, entities over entities and several
//! tenants, judged by an oracle in plain Rust over the records that were given, and then by
//! `agentflow verify`.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use support::{Place, check_answer};

const CONTRACTS: &str = "\
kind: event
name: plant
names: [plant.watered, plant.measured]
version: 1
envelope: {type: kind, id: uid, time: {field: ms, form: epoch_ms}, tenant: owner}
key: plant
fields:
  plant: string
  house: {type: int64, required: false}
  litres: {type: 'decimal(8,2)', required: false}
  degrees: {type: float64, required: false}
---
kind: entity
name: plant
from: [plant.watered, plant.measured]
key: plant
fields:
  house: last
  first_house: first(house)
  litres: sum(litres)
  least: min(litres)
  most: max(litres)
  readings: count
  measured: count(degrees)
  houses: count_distinct(house)
  usual: mode(house)
  hottest: arg_max(house, degrees)
  coldest: arg_min(house, degrees)
  seen_at: first(event_time)
  spread: most - least
---
kind: entity
name: house
from: {entity: plant}
key: house
fields:
  plants: count
  litres: sum(litres)
  most: max(most)
  best: arg_max(plant, litres)
  usual: mode(usual)
  opened_at: min(seen_at)
";

/// name, what it stands on, measure, dimensions.
const METRICS: &[(&str, &str, &str, &str)] = &[
    ("plants", "{entity: plant}", "count", "house, usual, hottest, coldest, houses, readings"),
    ("litres", "{entity: plant}", "sum(litres)", "house, first_house"),
    ("least", "{entity: plant}", "min(least)", "house"),
    ("most", "{entity: plant}", "max(most)", "usual"),
    ("spread", "{entity: plant}", "sum(spread)", "house"),
    ("measured", "{entity: plant}", "avg(measured)", "house"),
    ("houses", "{entity: house}", "count", "best, usual"),
    ("house_litres", "{entity: house}", "sum(litres)", "plants"),
    ("degrees", "{event: [plant.watered, plant.measured]}", "avg(degrees)", "house"),
    ("median", "{event: [plant.watered, plant.measured]}", "quantile(degrees, 0.5)", "house"),
    ("last_house", "{event: [plant.watered, plant.measured]}", "latest(house)", "plant"),
    ("different", "{event: [plant.watered, plant.measured]}", "count_distinct(plant)", "house"),
];

fn metrics() -> String {
    let mut text = String::new();
    for (name, from, measure, dimensions) in METRICS {
        let time = match *from {
            "{entity: plant}" => "time: seen_at\n",
            "{entity: house}" => "time: opened_at\n",
            _ => "",
        };
        text.push_str(&format!(
            "kind: metric\nname: {name}\nfrom: {from}\n{time}measure: {measure}\n\
             dimensions: [{dimensions}]\nwindows: [7d]\n\
             moved_by: [plant.watered, plant.measured]\n---\n"
        ));
    }
    text.push_str(
        "kind: metric\nname: per_plant\nmeasure: ratio(litres, plants)\nwindows: [7d]\n\
         moved_by: [plant.watered, plant.measured]\n---\n\
         kind: metric\nname: mixed\nmixed_time: true\nmeasure: derived(litres / nullif(plants, 0) + houses * 2e0)\n\
         windows: [7d]\nmoved_by: [plant.watered, plant.measured]\n",
    );
    text
}

const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z, ms
const END: i64 = START + 3 * 86_400_000;

#[derive(Debug, Clone)]
struct Reading {
    at: i64,
    owner: &'static str,
    plant: String,
    house: Option<i64>,
    /// Hundredths.
    litres: Option<i64>,
    degrees: Option<f64>,
}

fn readings(seed: u64, count: usize) -> Vec<Reading> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut all: Vec<Reading> = (0..count)
        .map(|_| Reading {
            // Whole minutes: often the same, and then the order of telling decides.
            at: START + rng.random_range(0..2_000) * 60_000,
            owner: if rng.random_bool(0.3) { "north" } else { "default" },
            plant: format!("P{}", rng.random_range(0..25)),
            house: rng.random_bool(0.7).then(|| rng.random_range(-1..4)),
            litres: rng.random_bool(0.7).then(|| rng.random_range(0..2_000)),
            degrees: rng.random_bool(0.6).then(|| f64::from(rng.random_range(-40..160)) / 4.0),
        })
        .collect();
    // Mostly in order, some far out of it.
    all.sort_by_key(|reading| reading.at);
    for _ in 0..count / 10 {
        let (a, b) = (rng.random_range(0..count), rng.random_range(0..count));
        all.swap(a, b);
    }
    all
}

fn line(number: usize, reading: &Reading) -> Vec<u8> {
    let mut body = json!({
        "kind": if reading.litres.is_some() { "plant.watered" } else { "plant.measured" },
        "uid": number,
        "ms": reading.at,
        "owner": reading.owner,
        "plant": reading.plant,
    });
    if let Some(house) = reading.house {
        body["house"] = json!(house);
    }
    if let Some(litres) = reading.litres {
        body["litres"] = json!(format!("{}.{:02}", litres / 100, litres % 100));
    }
    if let Some(degrees) = reading.degrees {
        body["degrees"] = json!(degrees);
    }
    body.to_string().into_bytes()
}

/// A plant, folded.
#[derive(Debug, Default, Clone)]
struct Plant {
    name: String,
    house: Option<i64>,
    first_house: Option<i64>,
    litres: i64,
    least: Option<i64>,
    most: Option<i64>,
    readings: i64,
    measured: i64,
    houses: BTreeMap<i64, i64>,
    hottest: Option<(f64, i64)>,
    coldest: Option<(f64, i64)>,
}

fn usual(counts: &BTreeMap<i64, i64>) -> Option<i64> {
    let most = counts.values().max()?;
    counts.iter().find(|(_, count)| *count == most).map(|(house, _)| *house)
}

/// The plants of an owner from readings in order of time, then of telling.
fn plants(readings: &[&Reading]) -> Vec<Plant> {
    let mut all: BTreeMap<&str, Plant> = BTreeMap::new();
    for reading in readings {
        let plant = all
            .entry(&reading.plant)
            .or_insert_with(|| Plant { name: reading.plant.clone(), ..Plant::default() });
        plant.readings += 1;
        plant.measured += i64::from(reading.degrees.is_some());
        if let Some(house) = reading.house {
            plant.house = Some(house);
            plant.first_house.get_or_insert(house);
            *plant.houses.entry(house).or_default() += 1;
            if let Some(degrees) = reading.degrees {
                if plant.hottest.is_none_or(|(held, _)| degrees >= held) {
                    plant.hottest = Some((degrees, house));
                }
                if plant.coldest.is_none_or(|(held, _)| degrees < held) {
                    plant.coldest = Some((degrees, house));
                }
            }
        }
        if let Some(litres) = reading.litres {
            plant.litres += litres;
            plant.least = Some(plant.least.map_or(litres, |held| held.min(litres)));
            plant.most = Some(plant.most.map_or(litres, |held| held.max(litres)));
        }
    }
    all.into_values().collect()
}

/// A house with its plants.
fn houses(plants: &[Plant]) -> BTreeMap<i64, Vec<&Plant>> {
    let mut all: BTreeMap<i64, Vec<&Plant>> = BTreeMap::new();
    for plant in plants {
        if let Some(house) = plant.house {
            all.entry(house).or_default().push(plant);
        }
    }
    all
}

fn hundredths(value: i64) -> Value {
    json!(value as f64 / 100.0)
}

/// The rows of a metric as (value of the dimension, row).
type Rows<T> = Vec<(Option<String>, T)>;

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn plant_dimension(plant: &Plant, dimension: &str) -> Option<String> {
    match dimension {
        "house" => text(plant.house),
        "first_house" => text(plant.first_house),
        "usual" => text(usual(&plant.houses)),
        "hottest" => text(plant.hottest.map(|(_, house)| house)),
        "coldest" => text(plant.coldest.map(|(_, house)| house)),
        "houses" => Some(plant.houses.len().to_string()),
        "readings" => Some(plant.readings.to_string()),
        _ => None,
    }
}

fn house_dimension(plants: &[&Plant], dimension: &str) -> Option<String> {
    match dimension {
        // Of equal ones that which was updated last, which no two plants of this stream are.
        "best" => plants.iter().max_by_key(|plant| plant.litres).map(|plant| plant.name.clone()),
        "usual" => {
            let mut counts = BTreeMap::new();
            plants.iter().filter_map(|plant| usual(&plant.houses)).for_each(|house| {
                *counts.entry(house).or_default() += 1;
            });
            text(usual(&counts))
        }
        "plants" => Some(plants.len().to_string()),
        _ => None,
    }
}

fn grouped<T>(rows: Rows<T>, value: impl Fn(&[T]) -> Value) -> BTreeMap<Option<String>, Value> {
    let mut groups: BTreeMap<Option<String>, Vec<T>> = BTreeMap::new();
    for (member, row) in rows {
        groups.entry(member).or_default().push(row);
    }
    groups.into_iter().map(|(member, rows)| (member, value(&rows))).collect()
}

/// What a metric gives, by the values of a dimension, or all rows under none.
fn expected(
    readings: &[&Reading],
    metric: &str,
    dimension: Option<&str>,
) -> BTreeMap<Option<String>, Value> {
    let plants = plants(readings);
    let houses = houses(&plants);
    let of_plant = |plant: &Plant| dimension.and_then(|d| plant_dimension(plant, d));
    let of_reading = |reading: &Reading| match dimension {
        Some("house") => text(reading.house),
        Some("plant") => Some(reading.plant.clone()),
        _ => None,
    };
    let rows: Rows<&Plant> = plants.iter().map(|plant| (of_plant(plant), plant)).collect();
    let events: Rows<&Reading> =
        readings.iter().map(|reading| (of_reading(reading), *reading)).collect();
    let homes: Rows<&Vec<&Plant>> = houses
        .values()
        .map(|plants| (dimension.and_then(|d| house_dimension(plants, d)), plants))
        .collect();
    let mean = |values: Vec<f64>| match values.len() {
        0 => Value::Null,
        count => json!(values.iter().sum::<f64>() / count as f64),
    };
    let litres = |plants: &[&Plant]| plants.iter().map(|plant| plant.litres).sum::<i64>();
    match metric {
        "plants" => grouped(rows, |rows| json!(rows.len())),
        "litres" => grouped(rows, |rows| hundredths(litres(rows))),
        "least" => grouped(rows, |rows| {
            rows.iter().filter_map(|plant| plant.least).min().map_or(Value::Null, hundredths)
        }),
        "most" => grouped(rows, |rows| {
            rows.iter().filter_map(|plant| plant.most).max().map_or(Value::Null, hundredths)
        }),
        "spread" => grouped(rows, |rows| {
            let spreads = rows.iter().filter_map(|plant| Some(plant.most? - plant.least?));
            hundredths(spreads.sum())
        }),
        "measured" => {
            grouped(rows, |rows| mean(rows.iter().map(|plant| plant.measured as f64).collect()))
        }
        "houses" => grouped(homes, |rows| json!(rows.len())),
        "house_litres" => {
            grouped(homes, |rows| hundredths(rows.iter().map(|plants| litres(plants)).sum()))
        }
        "degrees" => {
            grouped(events, |rows| mean(rows.iter().filter_map(|row| row.degrees).collect()))
        }
        "median" => grouped(events, |rows| {
            let mut values: Vec<f64> = rows.iter().filter_map(|row| row.degrees).collect();
            values.sort_by(f64::total_cmp);
            match values.len() {
                0 => Value::Null,
                n => json!((values[(n - 1) / 2] + values[n / 2]) / 2.0),
            }
        }),
        "last_house" => grouped(events, |rows| {
            rows.iter().rev().find_map(|row| row.house).map_or(Value::Null, |house| json!(house))
        }),
        "different" => grouped(events, |rows| {
            json!(rows.iter().map(|row| &row.plant).collect::<BTreeSet<_>>().len())
        }),
        "per_plant" => grouped(rows, |rows| json!(litres(rows) as f64 / 100.0 / rows.len() as f64)),
        "mixed" => grouped(rows, |rows| {
            let per_plant = litres(rows) as f64 / 100.0 / rows.len() as f64;
            json!(per_plant + houses.len() as f64 * 2.0)
        }),
        other => panic!("no oracle for `{other}`"),
    }
}

#[test]
fn every_fold_and_measure_gives_what_the_records_say() {
    let place = Place::with_contracts(&[("plants.yaml", CONTRACTS), ("metrics.yaml", &metrics())]);
    let contracts = place.contracts.display().to_string();
    support::agentflow(["contracts", "check", "--contracts", &contracts]).succeeded();
    let given = readings(17, 2_500);
    let lines: Vec<Vec<u8>> = given.iter().enumerate().map(|(i, r)| line(i, r)).collect();
    let report = place.run(&place.file("events.ndjson", &lines)).json();
    assert_eq!(report["accepted"], json!(given.len()), "{report}");

    let mut own: Vec<&Reading> =
        given.iter().filter(|reading| reading.owner == "default").collect();
    // A stable sort: among equal times the order of telling.
    own.sort_by_key(|reading| reading.at);
    let as_of = support::flights::rfc3339(END);
    let mut questions = Vec::new();
    let mut wanted = Vec::new();
    let dimensions = METRICS.iter().map(|(name, _, _, dimensions)| (*name, *dimensions));
    for (metric, dimensions) in dimensions.chain([("per_plant", ""), ("mixed", "")]) {
        let dimensions = dimensions.split(", ").filter(|name| !name.is_empty()).map(Some);
        for dimension in [None].into_iter().chain(dimensions) {
            let mut groups = expected(&own, metric, dimension);
            let mut question = json!({"metric": metric, "window": "7d", "as_of": as_of});
            match dimension {
                None => {
                    let value = groups.remove(&None).unwrap_or(Value::Null);
                    wanted.push(json!({"value": value}));
                }
                Some(dimension) => {
                    question["group_by"] = json!([dimension]);
                    let groups = groups.into_iter().map(
                        |(member, value)| json!({"dimensions": {dimension: member}, "value": value}),
                    );
                    wanted.push(json!({"groups": groups.collect::<Vec<_>>()}));
                }
            }
            questions.push(question);
        }
    }
    let answers = place.read_batch(&place.data(), &questions);
    for ((question, answer), expected) in questions.iter().zip(&answers).zip(&wanted) {
        check_answer(question, answer, expected);
    }
    place.verify(&place.data(), &[&as_of]);
}
