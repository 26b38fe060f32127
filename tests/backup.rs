//! A backup that is made while a server takes events is the server's state at one position: put back
//! somewhere else it answers as the oracle does for that position, its lake is whole, and it goes on.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

use support::flights::{Sample, check_all};
use support::lake_readers::check_local;
use support::server::Server;
use support::{Finished, Place, agentflow, command, holds_events, wait_for};

/// Lines of one request, which is one commit.
const CHUNK: usize = 200;

fn backup(place: &Place, to: &Path) -> Vec<String> {
    let words = ["backup", "--output", "json", "--data"].map(str::to_owned);
    let mut arguments = words.to_vec();
    arguments.push(place.data().display().to_string());
    arguments.extend(["--to".to_owned(), to.display().to_string()]);
    arguments
}

/// The same, ended by a full disk: no file may become larger than this.
fn without_room(place: &Place, to: &Path) {
    let mut shell = std::process::Command::new("sh");
    // In units of 512 bytes. Without the trap a signal would end the process before it sees the error.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_agentflow")).args(backup(place, to));
    let output = shell.output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no space left") && stderr.contains("hint: free some"), "{stderr}");
}

fn restore(from: &Path, place: &Place) -> Finished {
    let (from, data) = (from.display().to_string(), place.data().display().to_string());
    agentflow(["restore", "--output", "json", "--from", &from, "--data", &data])
}

/// A backup that is killed at this place, as a power cut would.
fn killed(place: &Place, to: &Path, fail_point: &str) {
    let mut program = command(backup(place, to));
    let output = program.env("AGENTFLOW_FAIL_POINT", fail_point).output().expect("it starts");
    assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
}

/// Posts lines chunk by chunk, until it has no more or is told to end.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Chunks that were answered.
    sent: Arc<AtomicUsize>,
}

impl Load {
    fn start(server: &Server, lines: &[Vec<u8>]) -> Self {
        let url = format!("{}/v1/events", server.url);
        let bodies: Vec<Vec<u8>> = lines.chunks(CHUNK).map(|lines| lines.join(&b'\n')).collect();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let http = reqwest::blocking::Client::builder().no_proxy().build().expect("HTTP");
                for body in bodies {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let request = http.post(&url).header("content-type", "application/x-ndjson");
                    let status = request.body(body).send().expect("an answer").status();
                    assert_eq!(status.as_u16(), 200);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { stop, thread: Some(thread), sent }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("every request was answered");
        self.sent()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Lines after which the journal ends at `position`.
#[track_caller]
fn lines_until(sample: &Sample, first: usize, position: i64) -> usize {
    let good = |n: usize| sample.only(|at| at < n).good.len() as i64;
    let (mut low, mut high) = (0, (sample.lines.len() - first).div_ceil(CHUNK));
    while low < high {
        let middle = (low + high) / 2;
        if good(first + middle * CHUNK) < position { low = middle + 1 } else { high = middle }
    }
    let lines = (first + low * CHUNK).min(sample.lines.len());
    assert_eq!(good(lines), position, "a commit ended there");
    lines
}

fn number(report: &Value, name: &str) -> i64 {
    report[name].as_i64().unwrap_or_else(|| panic!("no `{name}`: {report}"))
}

/// Waits until the lake holds what the journal does.
fn wait_for_lake(place: &Place, sample: &Sample) {
    wait_for("the lake to follow", || {
        let tables = place.lake_tables(&place.data());
        let rows = |is_wanted: &dyn Fn(&str) -> bool| -> u64 {
            let wanted = tables.iter().filter(|(name, _)| is_wanted(name));
            wanted.filter_map(|(_, table)| table["rows"].as_u64()).sum()
        };
        let is_whole = rows(&holds_events) == sample.good.len() as u64
            && rows(&|name| name == "dead_letters") == sample.rejected_count();
        is_whole.then_some(())
    });
}

/// Reads the restored lake with others, while the original is not there.
fn read_by_others(original: &Place, restored: &Place, expected: &Sample) {
    let (lake, hidden) = (original.data().join("lake"), original.path("hidden"));
    std::fs::rename(&lake, &hidden).expect("hidden");
    check_local(restored, expected);
    std::fs::rename(&hidden, &lake).expect("put back");
}

#[test]
fn a_backup_beside_a_loaded_server_is_its_state_at_one_position() {
    let place = Place::of("flights");
    let sample = Sample::new(201, 40_000, 6);
    let backups = place.path("backups");
    // A lake with some files, and a server that goes on.
    let first = 6_000;
    place.run(&place.file("events.ndjson", &sample.lines[..first])).succeeded();
    let server = Server::start(&place, &[]);
    let load = Load::start(&server, &sample.lines[first..]);
    wait_for("events", || (load.sent() > 3).then_some(()));

    // Killed among the lake's files, then with the store copied and the lease still held.
    killed(&place, &backups, "backup_file_copied:3");
    let restored = Place::of("flights");
    restore(&backups, &restored).failed(1, &["no finished backup", "hint:"]);
    killed(&place, &backups, "backup_store_copied:1");
    without_room(&place, &backups);
    let before = load.sent();
    let one = agentflow(backup(&place, &backups)).json();
    let later = load.sent();
    wait_for("more events", || (load.sent() > later + 2).then_some(()));
    let two = agentflow(backup(&place, &backups)).json();
    assert!(load.sent() > before, "events were taken meanwhile");
    let all_sent = load.end();
    let (position, files) = (number(&two, "position"), number(&two, "files"));
    assert!(position > number(&one, "position"), "{one} {two}");
    assert!(number(&one, "copied_files") < number(&one, "files"), "some were there already: {one}");
    let is_incremental = number(&two, "copied_files") * 2 < files;
    assert!(is_incremental, "the lake's files are not copied again: {two}");
    // The server has taken no harm.
    let sent = (first + all_sent * CHUNK).min(sample.lines.len());
    assert_eq!(server.get("/health/ready").0, 200);
    assert!(server.stop().success());

    restore(&backups, &place).failed(1, &["not empty", "hint:"]);
    let report = restore(&backups, &restored).json();
    assert_eq!(number(&report, "position"), position);
    assert!(number(&report, "relocated_files") > 0, "{report}");
    let until = lines_until(&sample, first, position);
    let server = Server::start(&restored, &[]);
    let expected = sample.only(|at| at < until);
    wait_for_lake(&restored, &expected);
    check_all(&restored, &expected, 202);
    for table in restored.lake_tables(&restored.data()).values() {
        let location = table["metadata_location"].as_str().expect("a location");
        let data = restored.data().display().to_string();
        assert!(location.starts_with(&format!("file://{data}/")), "{location}");
    }
    read_by_others(&place, &restored, &expected);
    // It goes on where the backup ended.
    let rest = Load::start(&server, &sample.lines[until..sent]);
    wait_for("the rest", || (rest.sent() == (sent - until).div_ceil(CHUNK)).then_some(()));
    rest.end();
    let expected = sample.only(|at| at < sent);
    wait_for_lake(&restored, &expected);
    check_all(&restored, &expected, 203);
    assert!(server.stop().success());

    // Moved by hand: the lake says so, and what to do.
    let moved = Place::of("flights");
    std::fs::rename(restored.data(), moved.data()).expect("moved");
    let data = moved.data().display().to_string();
    agentflow(["lake", "tables", "--data", &data]).failed(2, &["hint:", "lake relocate"]);
    agentflow(["lake", "relocate", "--data", &data]).succeeded();
    wait_for_lake(&moved, &expected);

    // Nobody works on the original now.
    let cold = agentflow(backup(&place, &backups)).json();
    assert_eq!(number(&cold, "position"), expected.good.len() as i64);
}
