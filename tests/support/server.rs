//! A running `agentflow serve` (or `demo`), ended when dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Place, command};

/// A process with its address.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
    http: reqwest::blocking::Client,
    key: Option<String>,
}

impl Server {
    /// `serve` on a free port over the place's data directory, ready for questions.
    #[track_caller]
    pub fn start(place: &Place, more: &[&str]) -> Self {
        let mut arguments = vec!["serve".to_owned()];
        arguments.extend(place.common(&place.data()));
        arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        Self::spawn_in(place, arguments)
    }

    /// Any subcommand that says `listening on http://…` on stderr.
    #[track_caller]
    pub fn spawn(arguments: Vec<String>) -> Self {
        Self::wait_until_listening(command(&arguments), &arguments)
    }

    /// The same where it sees the data of `place`.
    #[track_caller]
    pub fn spawn_in(place: &Place, arguments: Vec<String>) -> Self {
        Self::wait_until_listening(place.command(&arguments), &arguments)
    }

    /// The same with any settings of the process.
    #[track_caller]
    pub fn spawn_command(program: std::process::Command, arguments: &[String]) -> Self {
        Self::wait_until_listening(program, arguments)
    }

    /// The same, with a fail point armed.
    #[track_caller]
    pub fn spawn_armed(arguments: Vec<String>, fail_point: &str) -> Self {
        let mut program = command(&arguments);
        program.env("AGENTFLOW_FAIL_POINT", fail_point);
        Self::wait_until_listening(program, &arguments)
    }

    #[track_caller]
    fn wait_until_listening(mut program: std::process::Command, arguments: &[String]) -> Self {
        let mut child = program
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = collect(child.stderr.take().expect("piped"));
        let stdout = collect(child.stdout.take().expect("piped"));
        let started = Instant::now();
        let url = loop {
            let text = stderr.lock().expect("lock").clone();
            if let Some(url) = listening(&text) {
                break url;
            }
            if let Some(status) = child.try_wait().expect("wait") {
                panic!("`{arguments:?}` ended ({status}): {text}");
            }
            assert!(started.elapsed() < Duration::from_secs(60), "never listened: {text}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let http = reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("an HTTP client");
        Self { child, url, stderr, stdout, http, key: None }
    }

    /// From now on every request shows this key.
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// A request for a path, with the key if there is one.
    pub fn request(
        &self,
        method: reqwest::Method,
        path: &str,
    ) -> reqwest::blocking::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    /// Status and body of a GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, Value) {
        let response = self.request(reqwest::Method::GET, path).send().expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status and body of a GET with query parameters.
    #[track_caller]
    pub fn query(&self, path: &str, parameters: &[(String, String)]) -> (u16, Value) {
        let request = self.request(reqwest::Method::GET, path).query(parameters);
        let response = request.send().expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().expect("a JSON body"))
    }

    /// Status and body of a POST.
    #[track_caller]
    pub fn post(&self, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let response = self
            .request(reqwest::Method::POST, path)
            .header("content-type", content_type)
            .body(body.into())
            .send()
            .expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Records that were applied, whatever became of them.
    pub fn received(&self) -> u64 {
        self.sum("agentflow_records_total{")
    }

    /// Sum over all series in `/metrics` that start so.
    pub fn sum(&self, series: &str) -> u64 {
        let (_, text) = self.get("/metrics");
        let text = text.as_str().expect("the text format");
        text.lines()
            .filter(|line| line.starts_with(series))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("lock").clone()
    }

    /// What the process wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().expect("lock").clone()
    }

    /// Sends a signal by its name (`INT`, `TERM`, `KILL`).
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Ctrl-C, and how the process ended.
    #[track_caller]
    pub fn stop(self) -> ExitStatus {
        self.signal("INT");
        self.wait()
    }

    /// Waits for the end. A second signal would cut it short.
    pub fn wait(mut self) -> ExitStatus {
        wait_for_end(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already after `stop`; otherwise a test failed or does not care how it ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(child: &Child, name: &str) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "kill is there");
}

/// Waits for the end of a process, at most a minute.
#[track_caller]
pub fn wait_for_end(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The address of the server that holds `data`, as it wrote it down.
pub fn is_held(data: &Path) -> bool {
    data.join("LOCK").exists()
}

fn listening(text: &str) -> Option<String> {
    let rest = text.split_once("listening on ")?.1;
    // A whole line only: the address may still be on its way.
    rest.split_once('\n').map(|(url, _)| url.trim().to_owned())
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&text);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("lock").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
