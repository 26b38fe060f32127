//! What the lake costs, what maintenance makes of many small commits, and how long it takes to make a
//! lost store again from it.
//!
//! One file of events goes through `agentflow run` without the lake and with it, one after the other;
//! the seconds of the thread that follows the journal are read from the system. Then the same events
//! again with a commit every second, as weeks of trickling would leave them, a quarter at a time, and
//! `agentflow lake maintain`: after each step the planning of a scan is timed. Then the store is lost, made again from those tables, and asked the same questions.
//! `AGENTFLOW_BENCH_EVENTS` sets the number of events (10,000,000 for the published figures).

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::planning::plan;
use support::{agentflow, measure, place, produce, setting, shop, tell};

fn main() {
    let events = setting("EVENTS", 1_000_000);
    let folder = place();
    let file = folder.path().join("events.ndjson");
    let rate = (events as f64 / (8.0 * 86_400.0)).max(0.1);
    eprintln!("generating {events} events");
    produce(&file, events, &["--seed", "7", "--rate", &format!("{rate:.3}")]);

    let run_file = |file: &Path, data: &Path, contracts: &Path, more: &[&str]| {
        let mut command = agentflow();
        command.args(["run", "--until-end", "--output", "json"]).args(more);
        command.arg("--contracts").arg(contracts).arg("--data").arg(data);
        command.arg("--from").arg(format!("file:{}", file.display()));
        watched(&mut command)
    };
    let run = |data: &Path, contracts: &Path, more: &[&str]| run_file(&file, data, contracts, more);
    // Off, on, off, on: a machine that changes its mind shows in the difference.
    let mut off = Vec::new();
    let mut on = Vec::new();
    let mut lake = Duration::ZERO;
    let mut parquet = 0;
    for turn in 0..2 {
        let (without, with) = (folder.path().join("without"), folder.path().join("with"));
        off.push(run(&without, &shop(), &["--no-lake"]).wall);
        let ran = run(&with, &shop(), &[]);
        on.push(ran.wall);
        if turn == 0 {
            lake = ran.lake;
            parquet = bytes_below(&with.join("lake"), "parquet");
        }
        [without, with].iter().for_each(|data| std::fs::remove_dir_all(data).expect("remove"));
    }

    // A quarter more each time: into one directory that is maintained at the end, and into one that
    // is maintained after each quarter.
    let (data, kept) = (folder.path().join("data"), folder.path().join("kept"));
    let often = contracts_that_commit_often(folder.path());
    let growing = folder.path().join("growing.ndjson");
    let mut planning = Planning::default();
    for quarter in 1..=QUARTERS {
        copy_lines(&file, &growing, events * quarter / QUARTERS);
        run_file(&growing, &data, &often, &[]);
        planning.growing.push(plan(&data).json());
        run_file(&growing, &kept, &often, &[]);
        planning.before_each.push(plan(&kept).json());
        maintain(&kept);
        planning.after_each.push(plan(&kept).json());
    }
    std::fs::remove_dir_all(&kept).expect("remove");
    std::fs::remove_file(&growing).expect("remove");
    let scan_before = scan(&data);
    let started = Instant::now();
    let reports = maintain(&data);
    let maintained = started.elapsed();
    let scan_after = scan(&data);
    planning.growing.push(plan(&data).json());

    let questions = questions(folder.path());
    let before = answers(&data, &questions);
    for name in ["serving.duckdb", "serving.duckdb.wal"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let mut command = agentflow();
    command.args(["rebuild", "--from", "lake", "--output", "json", "--contracts"]).arg(&often);
    command.arg("--data").arg(&data);
    let rebuilt = measure(&mut command);
    let report: Value = serde_json::from_str(&rebuilt.stdout).expect("a report");
    let after = answers(&data, &questions);
    assert_eq!(after, before, "answers of the new store are those of the old one");

    let seconds = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
    let rates = |times: &[Duration]| -> Vec<f64> {
        times.iter().map(|time| (events as f64 / time.as_secs_f64()).round()).collect()
    };
    let fewest = |times: &[Duration]| times.iter().min().copied().unwrap_or_default();
    let share = 1.0 - fewest(&off).as_secs_f64() / fewest(&on).as_secs_f64();
    tell(
        "lake",
        &json!({
            "events": events,
            "events_per_second_without_lake": rates(&off),
            "events_per_second_with_lake": rates(&on),
            "share_of_throughput": (share * 1e3).round() / 1e3,
            "lake_thread_cpu_seconds": seconds(lake),
            "parquet_mib": parquet >> 20,
            "rows_mib_per_cpu_second": row_mib_per_second(&file, lake),
            "maintenance_seconds": seconds(maintained),
            "files": files(&reports),
            "metadata_ms_before_and_after": [scan_before, scan_after],
            "planning_by_quarter_then_maintained": planning.growing,
            "planning_by_quarter_before_maintenance": planning.before_each,
            "planning_by_quarter_after_maintenance": planning.after_each,
            "rebuild_seconds": seconds(rebuilt.wall),
            "rebuild_events_per_second":
                (report["events"].as_f64().unwrap_or(0.0) / rebuilt.wall.as_secs_f64()).round(),
            "rebuild_peak_memory_mib": rebuilt.peak_mib,
            "answers_compared": before.len(),
        }),
    );
}

/// Pieces of the events after which plans are timed.
const QUARTERS: u64 = 4;

/// Plans of a whole scan, quarter by quarter.
#[derive(Default)]
struct Planning {
    /// Never maintained, and in the end once.
    growing: Vec<Value>,
    /// Maintained after each quarter: before that, and after.
    before_each: Vec<Value>,
    after_each: Vec<Value>,
}

/// The first so many lines of a file, as another one that may be there already.
fn copy_lines(from: &Path, to: &Path, count: u64) {
    let lines = BufReader::with_capacity(1 << 20, File::open(from).expect("the file"));
    let mut into = BufWriter::with_capacity(1 << 20, File::create(to).expect("a file"));
    for line in lines.split(b'\n').take(usize::try_from(count).expect("a count")) {
        into.write_all(&line.expect("a line")).expect("write");
        into.write_all(b"\n").expect("write");
    }
    into.flush().expect("write");
}

/// How long a run took, and how long its lake thread worked.
struct Ran {
    wall: Duration,
    lake: Duration,
}

fn watched(command: &mut Command) -> Ran {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the binary starts");
    let mut lake = Duration::ZERO;
    loop {
        lake = lake.max(thread_time(child.id(), "lake").unwrap_or_default());
        if let Some(status) = child.try_wait().expect("wait") {
            assert!(status.success(), "{command:?}: {status}");
            return Ran { wall: started.elapsed(), lake };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processor time of the thread of that name so far.
fn thread_time(pid: u32, name: &str) -> Option<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    for task in tasks.filter_map(Result::ok) {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        if before.split_once('(')?.1 == name {
            // utime and stime, in hundredths of a second.
            let fields: Vec<u64> =
                after.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
            return Some(Duration::from_millis(10 * fields.iter().sum::<u64>()));
        }
    }
    None
}

/// Bytes of the events as they came, per second that the lake thread worked: what it takes in.
fn row_mib_per_second(file: &Path, lake: Duration) -> f64 {
    let bytes = std::fs::metadata(file).expect("the file").len();
    let mib = bytes as f64 / f64::from(1 << 20);
    (mib / lake.as_secs_f64().max(0.01) * 10.0).round() / 10.0
}

fn bytes_below(folder: &Path, extension: &str) -> u64 {
    let entries =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => bytes_below(&path, extension),
            path if path.extension().is_some_and(|found| found == extension) => {
                entry.metadata().expect("a file").len()
            }
            _ => 0,
        })
        .sum()
}

/// The shop's contracts, with a commit of the lake every second.
fn contracts_that_commit_often(folder: &Path) -> PathBuf {
    let into = folder.join("contracts");
    std::fs::create_dir(&into).expect("create");
    for entry in std::fs::read_dir(shop()).expect("the contracts").filter_map(Result::ok) {
        let text = std::fs::read_to_string(entry.path()).expect("a contract");
        let lake = "lake: {commit: {every: 1s, size: 1MiB}}";
        let text = text.replace("kind: event\n", &format!("kind: event\n{lake}\n"));
        std::fs::write(into.join(entry.file_name()), text).expect("write");
    }
    into
}

fn maintain(data: &Path) -> Vec<Value> {
    let mut command = agentflow();
    command.args(["lake", "maintain", "--min-files", "2", "--output", "json", "--data"]).arg(data);
    let done = measure(&mut command);
    serde_json::from_str(&done.stdout).expect("reports")
}

/// Files of all tables before and after, and the most that a table has per day and unit of the target
/// size after.
fn files(reports: &[Value]) -> Value {
    let count = |report: &Value, moment: &str| report[moment]["files"].as_u64().unwrap_or(0);
    let before: u64 = reports.iter().map(|report| count(report, "before")).sum();
    let after: u64 = reports.iter().map(|report| count(report, "after")).sum();
    let units: u64 = reports.iter().map(|r| r["after"]["units"].as_u64().unwrap_or(0)).sum();
    let per_unit = after as f64 / units.max(1) as f64;
    json!({"before": before, "after": after, "units": units, "per_unit": (per_unit * 100.0).round() / 100.0})
}

/// Milliseconds to read the newest metadata, manifests included, of every table.
fn scan(data: &Path) -> f64 {
    let mut command = agentflow();
    command.args(["lake", "maintain", "--dry-run", "--output", "json", "--data"]).arg(data);
    (measure(&mut command).wall.as_secs_f64() * 1e4).round() / 10.0
}

/// Every metric over every window that its contract declares, as of the end of the stream and of its
/// middle.
fn questions(folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    let text = std::fs::read_to_string(shop().join("metrics.yaml")).expect("metrics");
    for document in text.split("---\n") {
        let value = |key: &str| {
            let line = document.lines().find_map(|line| line.strip_prefix(key));
            line.map(|text| text.trim().to_owned())
        };
        let Some(name) = value("name:") else { continue };
        let windows = value("windows:").unwrap_or_default();
        let windows = windows.trim_matches(['[', ']']).split(',').map(str::trim);
        for window in windows.filter(|window| !window.is_empty()) {
            for as_of in ["2026-01-05T00:00:00Z", "2026-01-08T12:00:00Z"] {
                lines.push(json!({"metric": name, "window": window, "as_of": as_of}).to_string());
            }
        }
    }
    let file = folder.join("questions.ndjson");
    std::fs::write(&file, lines.join("\n")).expect("write");
    file
}

fn answers(data: &Path, questions: &Path) -> Vec<Value> {
    let mut command = agentflow();
    command.args(["read", "--output", "json", "--contracts"]).arg(shop()).arg("--data").arg(data);
    command.arg("--batch").arg(questions);
    let lines = measure(&mut command).stdout;
    let answers = lines.lines().map(|line| {
        let answer: Value = serde_json::from_str(line).expect("an answer");
        assert!(answer["error"].is_null(), "{answer}");
        json!([answer["metric_name"], answer["window"], answer["value"], answer["components"]])
    });
    answers.collect()
}
