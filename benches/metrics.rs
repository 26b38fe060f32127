//! Reads of metrics that no cache answers, over much history: additive ones in windows from five minutes to
//! all time, with a filter, by a dimension of a thousand values, distinct counts, a ratio, and sums over
//! entities that are corrected all the time. Beside each, in the same run, the same question in plain SQL to
//! DuckDB over the same rows; both must give the same values. With more than a million events each read is made
//! in turn of a second server that has a million: what it costs in history.
//!
//! The events span 30 days that end now, however many they are. They go through `agentflow run` with
//! everything on, in files of at most 2.5 million, one after the other, each removed once it is stored. Then
//! `agentflow serve` is asked over one connection, and ended; then DuckDB opens its store.
//!
//! `AGENTFLOW_BENCH_EVENTS` sets the number of events, `AGENTFLOW_BENCH_READS` how often each read is made
//! (300), `AGENTFLOW_BENCH_READ_SECONDS` after how many seconds of one kind it is enough (20).
//! `AGENTFLOW_BENCH_METRIC_STATE=off` measures without metric state. `AGENTFLOW_BENCH_STORE=FOLDER` keeps the store
//! there, and reads it again when it is there already: its events end when they were stored.

mod support;

#[path = "metrics/plain.rs"]
mod plain;
#[path = "metrics/reads.rs"]
mod reads;
#[path = "metrics/rides.rs"]
mod rides;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use support::{Server, agentflow, client, leave, measure, place, quantiles, setting, tell};

/// Most events in one file.
const MOST_IN_FILE: u64 = 2_500_000;

/// Events of the second server.
const FEW: u64 = 1_000_000;

const DAYS: u64 = 30;
const DAY: i64 = 86_400_000_000;

/// A server that keeps all rows and does nothing beside reading.
const QUIET: [&str; 6] = ["--keep-days", "0", "--keep-gib", "0", "--lake-maintain-every", "0"];

fn main() {
    let events = setting("EVENTS", 1_000_000);
    let most = setting("READS", 300) as usize;
    let longest = Duration::from_secs(setting("READ_SECONDS", 20));
    let state = std::env::var("AGENTFLOW_BENCH_METRIC_STATE").ok();
    let more: Vec<&str> = state.iter().flat_map(|state| ["--metric-state", state]).collect();
    let folder = place();
    let stored = std::env::var_os("AGENTFLOW_BENCH_STORE").map(PathBuf::from);
    let data = stored.unwrap_or_else(|| folder.path().join("data"));
    let few = (events > FEW).then(|| folder.path().join("few"));
    let loaded = match data.exists() {
        true => json!("read again, as it was stored before"),
        false => load(folder.path(), &data, events, &more),
    };
    if let Some(few) = &few {
        load(folder.path(), few, FEW, &more);
    }

    eprintln!("reading");
    let cases = reads::cases();
    let start =
        |data: &Path| Server::start_under(&contracts(), data, &[&QUIET[..], &more].concat());
    let (server, beside) = (start(&data), few.as_deref().map(start));
    let http = client();
    let beside_it = beside.as_ref();
    let mut read: Vec<_> = cases
        .iter()
        .map(|case| reads::ask(&server, beside_it, &http, case, most, longest))
        .collect();
    let peak_memory_mib = server.peak_mib();
    drop(http);
    server.end();
    beside.into_iter().for_each(Server::end);

    eprintln!("asking DuckDB");
    let conn = plain::open(&data);
    let mut figures = Map::new();
    figures.insert("events".into(), json!(events));
    figures.insert("metric_state".into(), json!(state.as_deref().unwrap_or("default")));
    figures.insert("load".into(), loaded);
    figures.insert("peak_memory_of_serve_mib".into(), json!(peak_memory_mib));
    let mut table = String::from(
        "| Read | Rows | Samples | p50, ms | p95, ms | p99, ms | DuckDB p50, ms | p95, ms | p99, ms | \
         p50 of the read / of DuckDB | over 1 million p50, ms | p50 / of that |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (case, (reads, times, beside)) in cases.iter().zip(&mut read) {
        let (mut plain, rows) = plain::ask(&conn, case, reads, longest);
        let (read, plain) = (quantiles(times), quantiles(&mut plain));
        let ratio =
            read["p50_ms"].as_f64().unwrap_or(0.0) / plain["p50_ms"].as_f64().unwrap_or(0.0);
        let ratio = (ratio * 1e3).round() / 1e3;
        table.push_str(&format!("| {} | {rows} | {}", case.name, read["samples"]));
        for times in [&read, &plain] {
            let [p50, p95, p99] = ["p50_ms", "p95_ms", "p99_ms"].map(|name| &times[name]);
            table.push_str(&format!(" | {p50} | {p95} | {p99}"));
        }
        table.push_str(&format!(" | {ratio}"));
        let beside = (!beside.is_empty()).then(|| quantiles(beside));
        let of_few = beside.as_ref().and_then(|few| few["p50_ms"].as_f64());
        let in_history =
            of_few.map(|few| (read["p50_ms"].as_f64().unwrap_or(0.0) / few * 1e3).round() / 1e3);
        match of_few.zip(in_history) {
            Some((few, ratio)) => table.push_str(&format!(" | {few} | {ratio} |\n")),
            None => table.push_str(" | | |\n"),
        }
        figures.insert(
            case.name.clone(),
            json!({
                "rows": rows,
                "samples": read["samples"],
                "p50_ms": read["p50_ms"],
                "p95_ms": read["p95_ms"],
                "p99_ms": read["p99_ms"],
                "duckdb_samples": plain["samples"],
                "duckdb_p50_ms": plain["p50_ms"],
                "duckdb_p95_ms": plain["p95_ms"],
                "duckdb_p99_ms": plain["p99_ms"],
                "ratio_of_medians": ratio,
                "over_a_million_p50_ms": of_few,
                "ratio_to_a_million": in_history,
            }),
        );
    }
    tell("metrics", &Value::Object(figures));
    leave("metrics.md", &format!("# Reads of metrics over {events} events\n\n{table}"));
}

fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/metrics/contracts")
}

/// Stores the events and says how that went.
fn load(folder: &Path, data: &Path, events: u64, more: &[&str]) -> Value {
    let file = |number: usize| folder.join(format!("rides-{number}.ndjson"));
    // The newest events come in a short file of their own: they shall not be old when they are stored.
    let newest = events / DAYS;
    let older = events - newest;
    let mut pieces: Vec<u64> = (0..older).step_by(MOST_IN_FILE as usize).collect();
    pieces.extend([older, events]);
    let begin = now() - DAYS as i64 * DAY;
    let time =
        |number: u64| begin + (number as f64 / events as f64 * (DAYS as i64 * DAY) as f64) as i64;
    let (mut seconds, mut peak_mib) = (0.0, 0.0_f64);
    for (place, piece) in pieces.windows(2).enumerate() {
        let &[first, end] = piece else { continue };
        eprintln!("storing events {first} to {end}");
        let until = if end == events { now() } else { time(end) };
        let file = file(place);
        rides::write(&file, first..end, time(first)..until, begin);
        let mut run = agentflow();
        run.args(["run", "--until-end", "--output", "json", "--contracts"]).arg(contracts());
        run.arg("--data").arg(data).arg("--from").arg(format!("file:{}", file.display()));
        let measured = measure(run.args(more));
        let report: Value = serde_json::from_str(&measured.stdout).expect("a report");
        assert_eq!(report["accepted"], json!(end - first), "{report}");
        seconds += measured.wall.as_secs_f64();
        peak_mib = peak_mib.max(measured.peak_mib);
        std::fs::remove_file(&file).expect("remove the file");
    }
    let store = std::fs::metadata(data.join("serving.duckdb")).expect("the store").len();
    json!({
        "seconds": seconds.round(),
        "events_per_second": (events as f64 / seconds).round(),
        "peak_memory_mib": peak_mib,
        "store_megabytes": store / 1_000_000,
    })
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
