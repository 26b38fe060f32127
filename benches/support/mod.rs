//! What the measurements share: the binary, memory, quantiles, and how results are told.
//!
//! Settings come from the environment (`AGENTFLOW_BENCH_…`, see infra/bench.sh), results go to a
//! table on stdout and a JSON file per measurement in `AGENTFLOW_BENCH_RESULTS`.

// Each measurement is a program of its own and uses its part of this module.
#![allow(dead_code, unreachable_pub)]
// Its table is the output.
#![allow(clippy::print_stdout)]

pub mod kafka;
pub mod load;
pub mod planning;
pub mod plot;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The release binary.
pub fn agentflow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentflow"));
    command.stdin(Stdio::null());
    command
}

/// The shop's contracts.
pub fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/domains/shop")
}

/// A whole number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(format!("AGENTFLOW_BENCH_{name}"))
        .ok()
        .and_then(|text| text.replace('_', "").parse().ok())
        .unwrap_or(default)
}

/// A folder for data, removed at the end; `AGENTFLOW_BENCH_DIR` says where large files may lie.
pub fn place() -> tempfile::TempDir {
    let builder = tempfile::Builder::new();
    match std::env::var_os("AGENTFLOW_BENCH_DIR") {
        Some(dir) => builder_in(&builder, Path::new(&dir)),
        None => tempfile::tempdir().expect("a temporary folder"),
    }
}

fn builder_in(builder: &tempfile::Builder<'_, '_>, dir: &Path) -> tempfile::TempDir {
    builder.tempdir_in(dir).expect("a folder in AGENTFLOW_BENCH_DIR")
}

/// Generates a file of shop events and returns the generator's account of it.
pub fn produce(file: &Path, events: u64, more: &[&str]) -> Value {
    let output = agentflow()
        .args(["produce", "--output", "json", "--events", &events.to_string()])
        .args(["--to", &format!("file:{}", file.display())])
        .args(more)
        .output()
        .expect("the binary starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a summary")
}

/// Highest resident memory of a running process so far, in MiB.
pub fn peak_memory_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 102.4).round() / 10.0)
}

/// Seconds of processor time that a running process has used so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    cpu_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs"))
}

/// Seconds of processor time in a line of `stat`.
fn cpu_of(text: &str) -> f64 {
    // Behind the name, which is in brackets: user and system time are the 12th and 13th, in
    // hundredths.
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|text| text.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// What a process that ran to its end left, with its peak memory and wall-clock time.
pub struct Measured {
    pub stdout: String,
    pub wall: Duration,
    pub peak_mib: f64,
}

/// Runs a command to its end and watches its memory.
pub fn measure(command: &mut Command) -> Measured {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut out = child.stdout.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).expect("UTF-8");
        text
    });
    let mut peak_mib: f64 = 0.0;
    let status = loop {
        peak_mib = peak_mib.max(peak_memory_mib(child.id()).unwrap_or(0.0));
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let wall = started.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    Measured { stdout: reader.join().expect("read stdout"), wall, peak_mib }
}

/// A running server, ended when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// `serve` over `data` on a free port, once it answers.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// The same with more arguments.
    pub fn start_with(data: &Path, more: &[&str]) -> Self {
        Self::start_under(&shop(), data, more)
    }

    /// The same with keys, as `AGENTFLOW_API_KEYS` has them.
    pub fn start_with_keys(data: &Path, more: &[&str], keys: &str) -> Self {
        let mut command = agentflow();
        command.env("AGENTFLOW_API_KEYS", keys);
        Self::start_as(command, &shop(), data, more)
    }

    /// Without keys, under other contracts.
    pub fn start_under(contracts: &Path, data: &Path, more: &[&str]) -> Self {
        let mut command = agentflow();
        command.env("AGENTFLOW_AUTH_DISABLED", "true");
        Self::start_as(command, contracts, data, more)
    }

    fn start_as(mut command: Command, contracts: &Path, data: &Path, more: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--contracts"])
            .arg(contracts)
            .arg("--data")
            .arg(data)
            .args(more)
            .env("AGENTFLOW_LOG", "warn")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
        let address = loop {
            let line = lines.next().expect("the server listens before it ends").expect("UTF-8");
            if let Some(url) = line.strip_prefix("listening on http://") {
                break url.to_owned();
            }
        };
        // Somebody must read on, or a full pipe would hold the server up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn peak_mib(&self) -> f64 {
        peak_memory_mib(self.child.id()).unwrap_or(0.0)
    }

    /// Seconds of processor time that it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    /// Ends it in the orderly way, so that others may open its store.
    pub fn end(mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(asked.success(), "the server runs");
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "the server ended with {status}");
    }

    /// The same of its threads with this name.
    pub fn thread_cpu_seconds(&self, name: &str) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let texts = tasks.expect("it runs").flatten().filter_map(|task| {
            // A thread may have ended meanwhile.
            std::fs::read_to_string(task.path().join("stat")).ok()
        });
        texts.filter(|text| text.contains(&format!("({name})"))).map(|text| cpu_of(&text)).sum()
    }

    /// Position that the source partition whose name begins so continues from.
    pub fn next_offset(&self, http: &reqwest::blocking::Client, partition: &str) -> u64 {
        // The cheapest answer that tells it.
        let answer = http.get(self.url("/v1/lineage/metric/revenue")).send().expect("an answer");
        let answer: Value = answer.json().expect("JSON");
        let mut all = answer["partitions"].as_array().into_iter().flatten();
        let found = all.find(|one| one["name"].as_str().is_some_and(|n| n.starts_with(partition)));
        found.and_then(|one| one["next_offset"].as_u64()).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Measured already: how it ends does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP client that keeps its connection.
pub fn client() -> reqwest::blocking::Client {
    reqwest::blocking::Client::builder().no_proxy().build().expect("an HTTP client")
}

/// p50, p95, p99 and the largest of some times, in milliseconds.
pub fn quantiles(times: &mut [Duration]) -> Value {
    assert!(!times.is_empty(), "nothing was measured");
    times.sort_unstable();
    let at = |q: f64| {
        let rank = (q * (times.len() - 1) as f64).round() as usize;
        (times[rank].as_secs_f64() * 1e6).round() / 1e3
    };
    json!({
        "samples": times.len(),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    })
}

/// Prints the figures as a table and keeps them as JSON, with the conditions they hold under.
pub fn tell(name: &str, figures: &Value) {
    println!("\n{name}");
    for (key, value) in figures.as_object().expect("an object") {
        match value.as_object() {
            None => println!("  {key:<28} {value}"),
            Some(inner) => {
                let inner: Vec<String> = inner.iter().map(|(k, v)| format!("{k} {v}")).collect();
                println!("  {key:<28} {}", inner.join(", "));
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let report = json!({
        "name": name,
        "figures": figures,
        "conditions": {
            "version": env!("CARGO_PKG_VERSION"),
            "cores": cores,
            "load_average_after": load.trim(),
            "measured_at": chrono::Utc::now().to_rfc3339(),
        },
    });
    leave(&format!("{name}.json"), &serde_json::to_string_pretty(&report).expect("JSON"));
}

/// Leaves a file among the results.
pub fn leave(name: &str, text: &str) {
    let folder = std::env::var_os("AGENTFLOW_BENCH_RESULTS")
        .map_or_else(|| PathBuf::from("target/bench-results"), PathBuf::from);
    std::fs::create_dir_all(&folder).expect("a folder for results");
    let file = folder.join(name);
    std::fs::write(&file, text).expect("write the results");
    println!("  → {}", file.display());
}
