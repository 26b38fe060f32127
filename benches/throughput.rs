//! Events per second of `agentflow run`, everything on: decode, validate, deduplicate, enrich,
//! fold, serving store and lake, from process start to the last commit of the lake.
//!
//! The file is generated from a fixed seed: a Zipf-skewed 200,000 users, about three updates per
//! order, 1 % repeats up to six days old, 1 % late up to 26 hours, 0.5 % bad.
//! `AGENTFLOW_BENCH_EVENTS` sets the number of events (10,000,000 for the published figure).
//!
//! With `AGENTFLOW_BENCH_STATE=1` it measures instead what metric state costs: see `throughput/state.rs`.

mod support;

#[path = "throughput/state.rs"]
mod state;

use serde_json::{Value, json};

use support::{agentflow, measure, place, produce, setting, shop, tell};

fn main() {
    if setting("STATE", 0) == 1 {
        return state::compare();
    }
    let events = setting("EVENTS", 1_000_000);
    let folder = place();
    let file = folder.path().join("events.ndjson");
    // The stream spans about eight days of event time whatever its length, so that repeats and late
    // events have a past to come from.
    let rate = (events as f64 / (8.0 * 86_400.0)).max(0.1);
    eprintln!("generating {events} events");
    let produced = produce(&file, events, &["--seed", "7", "--rate", &format!("{rate:.3}")]);
    let bytes = std::fs::metadata(&file).expect("the file").len();

    let mut command = agentflow();
    command.args(["run", "--until-end", "--output", "json", "--contracts"]).arg(shop());
    command.arg("--data").arg(folder.path().join("data"));
    command.arg("--from").arg(format!("file:{}", file.display()));
    let measured = measure(&mut command);
    let report: Value = serde_json::from_str(&measured.stdout).expect("a report");
    assert_eq!(report["received"], json!(events), "{report}");

    let seconds = measured.wall.as_secs_f64();
    tell(
        "throughput",
        &json!({
            "events": events,
            "megabytes": bytes / 1_000_000,
            "seconds": (seconds * 10.0).round() / 10.0,
            "events_per_second": (events as f64 / seconds).round(),
            "megabytes_per_second": (bytes as f64 / 1e5 / seconds).round() / 10.0,
            "peak_memory_mib": measured.peak_mib,
            "accepted": report["accepted"],
            "duplicate": report["duplicate"],
            "rejected": report["rejected"],
            "seconds_per_stage": report["stages"],
            "sessions": produced["sessions"],
            "orders": produced["orders"],
            "order_updates": produced["order_updates"],
        }),
    );
}
