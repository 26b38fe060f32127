//! What metric state costs the pipeline: the same events with it and without it, in alternating pairs.
//!
//! Twenty metrics of three dimensions each, of 10, 10 and 5 values, over one family of events: up to 500
//! groups of each metric in each bucket of time. The events come in two shapes: over eight days of event time
//! (few events in each bucket, many buckets), and live, event time going on by 50,000 events a second (many
//! events in few buckets). Everything else is on, the lake included.
//!
//! `AGENTFLOW_BENCH_STATE_EVENTS` sets the number of events (2,000,000), `AGENTFLOW_BENCH_STATE_PAIRS` that of
//! pairs (3).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::support::{agentflow, measure, place, setting, tell};

const METRICS: usize = 20;
const MEASURES: [&str; 5] = ["count", "sum(amount)", "sum(units)", "avg(units)", "avg(amount)"];
/// Each with all measures makes as many different metrics as there are.
const CONDITIONS: [&str; 4] =
    ["", "where: units > 2\n", "where: amount > 50\n", "where: units > 1 and amount < 80\n"];

const DAYS: f64 = 8.0;
/// Event time of the live shape goes on so fast.
const LIVE_RATE: f64 = 50_000.0;

const EVENT: &str = "\
kind: event
name: sale
names: [sale.made]
envelope: {type: type, id: id, time: {field: at, form: epoch_us}}
dedup: {horizon: 1d}
fields:
  shop: string
  article: string
  payment: string
  amount: decimal(12,2)
  units: int64
";

/// Runs all pairs of both shapes and tells the figures.
pub(crate) fn compare() {
    let events = setting("STATE_EVENTS", 2_000_000);
    let pairs = setting("STATE_PAIRS", 3);
    let folder = place();
    let contracts = folder.path().join("contracts");
    std::fs::create_dir(&contracts).expect("a folder");
    std::fs::write(contracts.join("sales.yaml"), domain()).expect("write the contracts");
    let mut figures = Map::new();
    figures.insert("events".into(), json!(events));
    figures.insert("metrics".into(), json!(METRICS));
    let shapes =
        [("over_eight_days", DAYS * 86_400.0), ("live_50000_a_second", events as f64 / LIVE_RATE)];
    for (shape, seconds) in shapes {
        let file = folder.path().join(format!("{shape}.ndjson"));
        write(&file, events, (seconds * 1e6) as i64);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            // In turn first: what comes second finds the file in memory, and the disk busy.
            let order = if pair % 2 == 0 { [true, false] } else { [false, true] };
            for is_on in order {
                eprintln!("{shape}, pair {}, metric state: {is_on}", pair + 1);
                let run = run(&contracts, &file, events, is_on);
                if is_on { with.push(run) } else { without.push(run) }
            }
        }
        std::fs::remove_file(&file).expect("remove the file");
        let ratio = median(&with, |run| run.rate) / median(&without, |run| run.rate);
        let rates = |runs: &[Run]| runs.iter().map(|run| run.rate.round()).collect::<Vec<f64>>();
        let last = |runs: &[Run]| runs.last().map(|run| run.stages.clone());
        figures.insert(
            shape.into(),
            json!({
                "events_per_second_on": rates(&with),
                "events_per_second_off": rates(&without),
                "ratio_of_medians": (ratio * 1e3).round() / 1e3,
                "peak_memory_mib_on": median(&with, |run| run.peak_mib),
                "peak_memory_mib_off": median(&without, |run| run.peak_mib),
                "seconds_per_stage_on": last(&with),
                "seconds_per_stage_off": last(&without),
            }),
        );
    }
    tell("throughput_state", &Value::Object(figures));
}

/// The contracts: one family and the metrics over it.
fn domain() -> String {
    let mut text = EVENT.to_owned();
    for number in 0..METRICS {
        let measure = MEASURES[number % MEASURES.len()];
        let condition = CONDITIONS[number / MEASURES.len() % CONDITIONS.len()];
        write!(
            text,
            "---\nkind: metric\nname: metric_{number:02}\nfrom: {{event: sale.made}}\n\
             {condition}measure: {measure}\ndimensions: [shop, article, payment]\n\
             windows: [5m, 1h, 24h, 7d, all]\nmoved_by: [sale.made]\n",
        )
        .expect("a text takes what is written");
    }
    text
}

/// Events over so much time (µs) up to now.
fn write(path: &Path, events: u64, span: i64) {
    let mut random = SmallRng::seed_from_u64(7);
    let file = File::create(path).expect("a file");
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let begin = chrono::Utc::now().timestamp_micros() - span;
    let step = span as f64 / events as f64;
    for number in 0..events {
        let at = begin + (step * number as f64) as i64;
        let cents = random.random_range(100..10_000);
        writeln!(
            file,
            r#"{{"id":{number},"type":"sale.made","at":{at},"shop":"s{}","article":"a{}","payment":"p{}","amount":{}.{:02},"units":{}}}"#,
            random.random_range(0..10),
            random.random_range(0..10),
            random.random_range(0..5),
            cents / 100,
            cents % 100,
            random.random_range(1..=4),
        )
        .expect("write");
    }
    file.flush().expect("write");
}

struct Run {
    /// Events a second, from process start to the last commit of the lake.
    rate: f64,
    peak_mib: f64,
    /// Seconds per stage.
    stages: Value,
}

fn run(contracts: &Path, file: &Path, events: u64, is_on: bool) -> Run {
    let data = place();
    let mut command = agentflow();
    command.args(["run", "--until-end", "--output", "json", "--contracts"]).arg(contracts);
    command.arg("--data").arg(data.path().join("data"));
    command.arg("--from").arg(format!("file:{}", file.display()));
    // On by default.
    if !is_on {
        command.args(["--metric-state", "off"]);
    }
    let measured = measure(&mut command);
    let report: Value = serde_json::from_str(&measured.stdout).expect("a report");
    assert_eq!(report["accepted"], json!(events), "{report}");
    Run {
        rate: events as f64 / measured.wall.as_secs_f64(),
        peak_mib: measured.peak_mib,
        stages: report["stages"].clone(),
    }
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
