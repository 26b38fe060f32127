//! Published topics: names of a test's own, the flags that publish to them, and what must be in them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rdkafka::message::{Message, OwnedMessage};
use serde_json::{Value, json};

use super::flights::Sample;
use super::kafka::{Kafka, header};
use super::server::{Server, signal, wait_for_end};
use super::{Place, command, wait_for};

/// Topics that no other test has. They are not there yet.
pub struct Topics {
    pub validated: String,
    pub dead_letters: String,
    pub positions: String,
    brokers: String,
}

impl Topics {
    pub fn new(kafka: &Kafka) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        Self {
            validated: format!("validated-{id}"),
            dead_letters: format!("deadletter-{id}"),
            positions: format!("positions-{id}"),
            brokers: kafka.source(),
        }
    }

    /// Publish everything.
    pub fn flags(&self) -> Vec<&str> {
        vec![
            "--publish-to",
            &self.brokers,
            "--dead-letter-topic",
            &self.dead_letters,
            "--validated-topic",
            &self.validated,
            "--positions-topic",
            &self.positions,
        ]
    }

    /// Arguments of `run --until-end` over a file.
    pub fn run_arguments(&self, place: &Place, file: &Path, data: &Path) -> Vec<String> {
        let mut arguments = place.run_arguments(file, data);
        arguments.extend(self.flags().into_iter().map(str::to_owned));
        arguments
    }

    /// `serve` over some data directory with events in it, once it publishes them.
    #[track_caller]
    pub fn serve(&self, place: &Place, data: &Path) -> Server {
        let server = self.serve_whatever(place, data);
        let text = format!("publishing topic=\"{}\"", self.validated);
        wait_for("the publisher", || server.stderr().contains(&text).then_some(()));
        server
    }

    /// `serve` over some data directory.
    #[track_caller]
    pub fn serve_whatever(&self, place: &Place, data: &Path) -> Server {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
        let (contracts, data) = (place.contracts.display().to_string(), data.display().to_string());
        arguments.extend(["--contracts", &contracts, "--data", &data]);
        arguments.extend(self.flags());
        Server::spawn(arguments.into_iter().map(str::to_owned).collect())
    }

    /// Waits until so many events are in their topic.
    #[track_caller]
    pub fn wait_for_events(&self, kafka: &Kafka, count: usize) {
        wait_for("events in the topic", || {
            (kafka.committed(&self.validated).len() >= count).then_some(())
        });
    }

    /// Waits until so many dead letters are in their topic.
    #[track_caller]
    pub fn wait_for_letters(&self, kafka: &Kafka, count: u64) {
        wait_for("dead letters in the topic", || {
            (kafka.committed(&self.dead_letters).len() as u64 >= count).then_some(())
        });
    }

    /// A reader of committed records sees each good event and each rejected line of these samples
    /// exactly once, in order within a key.
    #[track_caller]
    pub fn check(&self, kafka: &Kafka, samples: &[&Sample]) {
        self.check_events(kafka, samples);
        let letters = kafka.committed(&self.dead_letters);
        let mut payloads: Vec<Vec<u8>> =
            letters.iter().map(|letter| letter.payload().expect("bytes").to_vec()).collect();
        payloads.sort();
        let mut expected: Vec<Vec<u8>> =
            samples.iter().flat_map(|sample| sample.rejected_lines()).collect();
        expected.sort();
        assert_eq!(payloads.len(), expected.len());
        assert!(payloads == expected, "the bytes are the original ones");
        let ids: BTreeSet<i64> =
            letters.iter().map(|letter| number(letter, "agentflow.id")).collect();
        assert!(ids.into_iter().eq(1..=expected.len() as i64), "every dead letter has its own id");
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for letter in &letters {
            *reasons.entry(header(letter, "agentflow.reason").expect("a reason")).or_default() += 1;
        }
        let mut expected: BTreeMap<String, usize> = BTreeMap::new();
        for (reason, lines) in samples.iter().flat_map(|sample| &sample.rejected) {
            *expected.entry((*reason).to_owned()).or_default() += lines.len();
        }
        assert_eq!(reasons, expected);
    }

    #[track_caller]
    fn check_events(&self, kafka: &Kafka, samples: &[&Sample]) {
        let events = kafka.committed(&self.validated);
        let good: BTreeMap<&str, _> = samples
            .iter()
            .flat_map(|s| &s.good)
            .map(|flight| (flight.id.as_str(), flight))
            .collect();
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<Vec<u8>, (i32, i64)> = BTreeMap::new();
        let mut seqs = BTreeSet::new();
        for message in &events {
            let event = value(message);
            let id = event["event_id"].as_str().expect("an id").to_owned();
            let flight = good.get(id.as_str()).unwrap_or_else(|| panic!("made up: {event}"));
            assert!(seen.insert(id), "twice: {event}");
            assert_eq!(event["flight_id"], json!(flight.flight_id));
            assert_eq!(event["distance_miles"], json!(flight.distance));
            assert_eq!(
                event.get("tail_number"),
                flight.tail.as_ref().map(|tail| json!(tail)).as_ref()
            );
            let at = event["timestamp"].as_str().expect("a text");
            let at = chrono::DateTime::parse_from_rfc3339(at).expect("a time");
            assert_eq!(at.timestamp_millis(), flight.at, "{event}");
            assert_eq!(
                header(message, "agentflow.event_type").map(Value::from).as_ref(),
                event.get("event_type")
            );
            let key = message.key().expect("a key").to_vec();
            assert_eq!(key, flight.flight_id.as_bytes());
            let seq = number(message, "agentflow.seq");
            assert!(seqs.insert(seq), "seq {seq} twice");
            if let Some((partition, before)) = last.insert(key, (message.partition(), seq)) {
                assert_eq!(partition, message.partition(), "one key, one partition: {event}");
                assert!(before < seq, "out of order: {event}");
            }
        }
        assert_eq!(seen.len(), good.len(), "events are missing");
        assert!(seqs.into_iter().eq(1..=good.len() as i64), "the journal's numbers");
    }
}

/// The event of a record.
pub fn value(message: &OwnedMessage) -> Value {
    serde_json::from_slice(message.payload().expect("a value")).expect("JSON")
}

fn number(message: &OwnedMessage, name: &str) -> i64 {
    header(message, name).expect("the header").parse().expect("a number")
}

/// Copies a data directory that nobody works on.
pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(status.expect("cp is there").success());
}

/// A running `agentflow tail`.
pub struct Tail {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Tail {
    /// Once it follows.
    #[track_caller]
    pub fn start(topics: &Topics, more: &[&str]) -> Self {
        let mut arguments = vec!["tail", "--from", &topics.brokers];
        arguments.extend(["--dead-letter-topic", &topics.dead_letters]);
        arguments.extend(["--validated-topic", &topics.validated]);
        arguments.extend(more);
        let mut child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        let tail = Self { child, stdout, stderr };
        wait_for("tail", || tail.stderr().contains("following").then_some(()));
        tail
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("lock").join("\n")
    }

    /// Waits for so many lines.
    #[track_caller]
    pub fn lines(&self, count: usize) -> Vec<String> {
        wait_for("lines", || {
            let lines = self.stdout.lock().expect("lock").clone();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Ctrl-C.
    pub fn stop(mut self) -> ExitStatus {
        signal(&self.child, "INT");
        wait_for_end(&mut self.child)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Ended already after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            into.lock().expect("lock").push(line);
        }
    });
    lines
}
