//! What the whole-system tests share: starting the real binary, and nothing of its code.
//!
//! A test gets its own temporary folder, the server listens on port 0, and every process started
//! here has ended when its handle is dropped. Tests wait for conditions, never for a time.

// Each test file is a program of its own and uses its part of this module.
#![allow(dead_code, unreachable_pub)]

pub mod faulty_lake;
pub mod flights;
pub mod http_faults;
pub mod kafka;
pub mod lake_readers;
pub mod lake_services;
pub mod proxy;
pub mod redis;
pub mod rest_lake;
pub mod schedule;
pub mod server;
pub mod small_disk;
pub mod topics;
pub mod trips;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::Value;

use small_disk::SmallDisk;

const BINARY: &str = env!("CARGO_BIN_EXE_agentflow");

/// What a finished process left.
#[derive(Debug)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// stdout as one JSON document, of a process that must have ended well.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.succeeded();
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {self:?}"))
    }

    /// stdout as one JSON document a line, whatever the exit code.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("`{line}` is not JSON: {error}"))
            })
            .collect()
    }

    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The process ended with `code`, and stderr has all of `texts` and no panic.
    #[track_caller]
    pub fn failed(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in stderr: {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// The binary with these arguments, without settings from this process's environment.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    without_settings(Command::new(BINARY), arguments)
}

fn without_settings<S: AsRef<OsStr>>(
    mut command: Command,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    for (name, _) in std::env::vars() {
        if name.starts_with("AGENTFLOW_") {
            command.env_remove(name);
        }
    }
    // Keys have a suite of their own.
    command.env("AGENTFLOW_AUTH_DISABLED", "true");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn agentflow<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Finished {
    finish(command(arguments))
}

fn finish(mut command: Command) -> Finished {
    let output = command.output().expect("the binary starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder of contracts in the repository.
pub fn domain(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/domains").join(name)
}

/// A temporary folder with a name for everything that one test needs.
pub struct Place {
    folder: tempfile::TempDir,
    pub contracts: PathBuf,
    /// Where its data are, if not in the folder.
    disk: Option<SmallDisk>,
    /// Options that name its lake, if that is not in the data directory.
    pub lake: Vec<String>,
}

impl Place {
    /// With the contracts of the repository's domain `name`.
    pub fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, contracts: domain(name), disk: None, lake: Vec::new() }
    }

    /// The same, with its data on a disk of `size`.
    pub fn on_small_disk(name: &str, size: &str) -> Self {
        let mut place = Self::of(name);
        place.disk = Some(SmallDisk::mount(&place.path("disk"), size));
        place
    }

    /// The disk that its data are on.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a place with a small disk")
    }

    /// The binary with these arguments, where it sees the place's data.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        without_settings(self.program(OsStr::new(BINARY)), arguments)
    }

    /// A program, where it sees the place's data.
    pub fn program(&self, program: &OsStr) -> Command {
        let Some(disk) = &self.disk else { return Command::new(program) };
        let words = disk.enter();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program);
        command
    }

    /// Runs the binary to its end.
    pub fn agentflow<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        finish(self.command(arguments))
    }

    /// With contracts of its own, as (file name, text).
    pub fn with_contracts(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let contracts = folder.path().join("contracts");
        std::fs::create_dir(&contracts).expect("create the folder of contracts");
        for (name, text) in files {
            std::fs::write(contracts.join(name), text).expect("write a contract");
        }
        Self { folder, contracts, disk: None, lake: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path(if self.disk.is_some() { "disk/data" } else { "data" })
    }

    /// Writes `lines` to a file of that name.
    pub fn file(&self, name: &str, lines: &[Vec<u8>]) -> PathBuf {
        let path = self.path(name);
        let mut bytes = lines.join(&b'\n');
        bytes.push(b'\n');
        std::fs::write(&path, bytes).expect("write events");
        path
    }

    pub fn common(&self, data: &Path) -> Vec<String> {
        vec![
            "--contracts".into(),
            self.contracts.display().to_string(),
            "--data".into(),
            data.display().to_string(),
        ]
    }

    /// Arguments of `run --until-end` over a file into `data`.
    pub fn run_arguments(&self, file: &Path, data: &Path) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(self.common(data));
        arguments.extend(["--from".into(), format!("file:{}", file.display())]);
        arguments.extend(["--until-end", "--output", "json"].map(str::to_owned));
        arguments
    }

    /// `run --until-end` over a file.
    pub fn run(&self, file: &Path) -> Finished {
        self.agentflow(self.run_arguments(file, &self.data()))
    }

    /// `read` with these arguments, as JSON.
    pub fn read(&self, arguments: &[&str]) -> Finished {
        let mut all = vec!["read".to_owned()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        all.extend(self.common(&self.data()));
        all.extend(["--output", "json"].map(str::to_owned));
        self.agentflow(all)
    }

    /// `read --batch`: one answer per question.
    #[track_caller]
    pub fn read_batch(&self, data: &Path, questions: &[Value]) -> Vec<Value> {
        let lines: Vec<Vec<u8>> = questions.iter().map(|q| q.to_string().into_bytes()).collect();
        let file = self.file("questions.ndjson", &lines);
        let mut all = vec!["read".to_owned(), "--batch".into(), file.display().to_string()];
        all.extend(self.common(data));
        all.extend(["--output", "json"].map(str::to_owned));
        let answers = self.agentflow(all).succeeded().json_lines();
        assert_eq!(answers.len(), questions.len(), "one answer per question");
        answers
    }

    /// `verify`, live and as of each of `times` (RFC 3339): the journal's rows say the same as the store
    /// and every answer, and nothing was left out.
    #[track_caller]
    pub fn verify(&self, data: &Path, times: &[&str]) {
        for time in [None].into_iter().chain(times.iter().copied().map(Some)) {
            let mut all = vec!["verify".to_owned(), "--output".into(), "json".into()];
            all.extend(self.common(data));
            all.extend(self.lake.iter().cloned());
            if let Some(time) = time {
                all.extend(["--as-of".to_owned(), time.to_owned()]);
            }
            let found = self.agentflow(all);
            let report = found.json();
            assert_eq!(report["differences"], Value::Array(Vec::new()), "{time:?}: {report}");
            assert_eq!(report["not_verified"], Value::Array(Vec::new()), "{time:?}: {report}");
            assert!(report["checked"]["values"].as_u64() > Some(0), "{time:?}: {report}");
        }
    }

    /// The latest `as_of` of questions.
    pub fn latest(questions: &[Value]) -> &str {
        let times = questions.iter().filter_map(|question| question["as_of"].as_str());
        times.max().expect("a question as of a time")
    }

    /// `deadletters`.
    pub fn dead_letters(&self, data: &Path) -> Vec<Value> {
        let mut all = vec!["deadletters".to_owned(), "--output".to_owned(), "json".to_owned()];
        all.extend(self.common(data));
        self.agentflow(all).succeeded().json_lines()
    }

    /// `lake tables`: name → table.
    pub fn lake_tables(&self, data: &Path) -> BTreeMap<String, Value> {
        let data = data.display().to_string();
        let arguments = ["lake", "tables", "--output", "json", "--data", &data];
        let arguments = arguments.into_iter().chain(self.lake.iter().map(String::as_str));
        let tables = self.agentflow(arguments).json();
        let tables = tables.as_array().expect("an array of tables");
        tables
            .iter()
            .map(|table| (table["name"].as_str().expect("a name").to_owned(), table.clone()))
            .collect()
    }
}

/// Does that table of the lake hold accepted events?
pub fn holds_events(table: &str) -> bool {
    !["dead_letters", "ingest", "source_partitions"].contains(&table)
}

/// The original bytes of a dead letter.
#[track_caller]
pub fn payload(letter: &Value) -> Vec<u8> {
    match (letter["payload"].as_str(), letter["payload_base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => {
            base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
        }
        (None, None) => panic!("no payload: {letter}"),
    }
}

/// Waits until `condition` gives something, at most a minute.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Equal as numbers to 1e-6 (relative for large ones), or both null.
pub fn same_number(got: &Value, want: &Value) -> bool {
    match (got.as_f64(), want.as_f64()) {
        (Some(got), Some(want)) => (got - want).abs() <= 1e-6 * want.abs().max(1.0),
        _ => got.is_null() && want.is_null(),
    }
}

/// Does `answer` say what is expected of it (`value`, or `groups` without empty ones)?
#[track_caller]
pub fn check_answer(question: &Value, answer: &Value, expected: &Value) {
    match expected.get("groups") {
        None => assert!(
            same_number(&answer["value"], &expected["value"]),
            "{question}\n got {answer}\nwant {expected}"
        ),
        Some(groups) => {
            let got = groups_of(&answer["groups"]);
            let want = groups_of(groups);
            let equal = got.len() == want.len()
                && got.iter().zip(&want).all(|(a, b)| a.0 == b.0 && same_number(a.1, b.1));
            assert!(equal, "{question}\n got {got:?}\nwant {want:?}");
        }
    }
}

/// dimensions → value, without groups that are 0 or null.
fn groups_of(groups: &Value) -> BTreeMap<String, Value> {
    groups
        .as_array()
        .unwrap_or_else(|| panic!("no groups: {groups}"))
        .iter()
        .filter(|group| group["value"].as_f64().is_some_and(|value| value != 0.0))
        .map(|group| {
            let dimensions: BTreeMap<String, Value> =
                serde_json::from_value(group["dimensions"].clone()).expect("an object");
            (serde_json::to_string(&dimensions).expect("JSON"), group["value"].clone())
        })
        .collect()
}
