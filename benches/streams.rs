//! Streams of events: memory with ten thousand idle connections, what two hundred active ones get, and
//! what all of them cost the pipeline.
//!
//! 1. 10,000 connections that wait for an entity that never comes, 200 that get every event, and 1,000
//!    events a second posted: memory of the server, frames, how old an event is when it is read.
//! 2. One server follows a file that grows by pieces, with the connections and without, in turn. There the active
//!    ones wait for one product each, so they get some thousand frames a second together.
//!
//! Idle connections are read at the end: the signs of life that wait by then are counted. The readers are
//! on the same cores as the server; what they take is told beside what it takes. In the second part, where no
//! age is measured, one thread reads all of them five times a second, without being woken by what comes:
//! it is the server that is measured. What its threads for streams took is told apart.
//! `AGENTFLOW_BENCH_IDLE`, `_ACTIVE`, `_STREAM_SECONDS`, `_STREAM_EVENTS` and `_STREAM_ROUNDS` set the sizes.

mod support;

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::{Server, client, place, produce, setting, tell};

/// Events in one request of the first part.
const POSTED: u64 = 10;

/// Threads of the server that serve streams and nothing else.
const THREADS: [&str; 2] = ["streams", "pulse"];

/// Seconds of event time that all events of the second part span.
const SPAN: f64 = 8.0 * 86_400.0;

/// From one look of the second part's readers to the next.
const PAUSE: Duration = Duration::from_millis(200);

fn main() {
    let idle = setting("IDLE", 10_000);
    let active = setting("ACTIVE", 200);
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("a limit of open files");
    assert!(files > idle + active + 200, "{files} open files are allowed, which is too few");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let fan_out = fan_out(&runtime, idle, active);
    let beside = beside_the_pipeline(idle, active);
    tell(
        "streams",
        &json!({
            "idle_connections": idle,
            "active_connections": active,
            "every_event_to_each": fan_out,
            "beside_the_pipeline": beside,
        }),
    );
}

/// A server that lets so many in.
fn serve(data: &Path, file: Option<&Path>) -> Server {
    let mut more = vec!["--max-streams-per-tenant", "100000", "--max-streams", "100000"];
    let from = file.map(|file| format!("file:{}", file.display()));
    if let Some(from) = &from {
        more.extend(["--from", from]);
    }
    Server::start_with(data, &more)
}

fn fan_out(runtime: &tokio::runtime::Runtime, idle: u64, active: u64) -> Value {
    let seconds = setting("STREAM_SECONDS", 20);
    let folder = place();
    let server = serve(&folder.path().join("data"), None);
    let bare_mib = server.peak_mib();
    let opening = Instant::now();
    let silent = Idle::open(&server, idle);
    let opened = opening.elapsed();
    let idle_mib = server.peak_mib();
    let readers = Readers::open(runtime, &server, active);

    let events = seconds * 1_000;
    let file = folder.path().join("events.ndjson");
    produce(
        &file,
        events,
        &["--seed", "7", "--rate", "1000", "--late", "0", "--repeated", "0", "--bad", "0"],
    );
    let text = std::fs::read_to_string(&file).expect("events");
    let lines: Vec<&str> = text.lines().collect();
    let http = client();
    let before = (server.cpu_seconds(), support::cpu_seconds(std::process::id()));
    let started = Instant::now();
    let mut accepted = 0;
    for (number, lines) in lines.chunks(POSTED as usize).enumerate() {
        let due = started + Duration::from_millis(number as u64 * POSTED);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = fresh(lines);
        let request = http.post(server.url("/v1/events")).body(body);
        let answer = request.header("content-type", "application/x-ndjson").send();
        let answer: Value = answer.expect("an answer").json().expect("JSON");
        accepted += answer["accepted"].as_u64().expect("a count");
    }
    let posted = started.elapsed();
    readers.wait(accepted * active);
    let caught_up = started.elapsed() - posted;
    let used = server.cpu_seconds() - before.0;
    let used_here = support::cpu_seconds(std::process::id()) - before.1;
    let read = readers.end();
    let sign_of_life = silent.count();
    json!({
        "events_per_second": (accepted as f64 / posted.as_secs_f64()).round(),
        "frames": read.frames,
        "frames_per_second": (read.frames as f64 / posted.as_secs_f64()).round(),
        "megabytes_per_second": (read.bytes as f64 / 1e6 / posted.as_secs_f64()).round(),
        "last_frame_after_last_post_ms": (caught_up.as_secs_f64() * 1e3).round(),
        "committed_to_read": read.ages,
        "dropped": read.dropped,
        "server_cores": hundredths(used / posted.as_secs_f64()),
        "reader_cores": hundredths(used_here / posted.as_secs_f64()),
        "opening_idle_seconds": tenths(opened.as_secs_f64()),
        "signs_of_life_per_idle_second": sign_of_life,
        "peak_memory_mib": {
            "without_streams": bare_mib, "with_idle": idle_mib, "with_all": server.peak_mib(),
        },
    })
}

/// The events with times of now: the generator's are those of a run of its own.
fn fresh(lines: &[&str]) -> String {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let mut body = String::new();
    for line in lines {
        let mut event: Value = serde_json::from_str(line).expect("an event");
        event["timestamp"] = now.clone().into();
        body.push_str(&format!("{event}\n"));
    }
    body
}

/// Pieces of a file, one after the other, each followed to its end by the same server; with the connections
/// and without in turn, whichever is first changing too, so that what changes with time is in both. A piece takes
/// some tens of seconds: the lake is written every half a minute or so, and both are to have that.
fn beside_the_pipeline(idle: u64, active: u64) -> Value {
    let events = setting("STREAM_EVENTS", 2_500_000);
    let rounds = setting("STREAM_ROUNDS", 4);
    let folder = place();
    let whole = folder.path().join("whole.ndjson");
    // One piece that is not counted comes first: everything is in use then.
    let all = events * (1 + 2 * rounds);
    eprintln!("generating {all} events");
    produce(&whole, all, &["--seed", "7", "--rate", &format!("{:.3}", all as f64 / SPAN)]);
    let mut pieces = Pieces::open(&whole, events);
    let first = pieces.next();
    let products = products(&first, active as usize);
    let file = folder.path().join("followed.ndjson");
    std::fs::write(&file, b"").expect("a file");
    let server = serve(&folder.path().join("data"), Some(&file));
    let http = client();
    let mut followed = Followed { server: &server, http: &http, file: &file, length: 0 };
    followed.follow(&first);
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::<f64>::new());
    for round in 0..rounds {
        let is_first = round % 2 == 1;
        for has_streams in [is_first, !is_first] {
            let piece = pieces.next();
            let open = has_streams.then(|| {
                let filters = products.iter().map(|product| format!("?entity_id={product}"));
                let silent = Idle::open(&server, idle);
                let readers = Unhurried::open(&server, filters);
                readers.wait(active);
                (silent, readers)
            });
            let before = (server.cpu_seconds(), support::cpu_seconds(std::process::id()));
            let of_threads = THREADS.map(|thread| server.thread_cpu_seconds(thread));
            let took = followed.follow(&piece);
            let used = server.cpu_seconds() - before.0;
            let mut figures = json!({
                "events_per_second": (events as f64 / took).round(),
                "server_cpu_seconds": tenths(used),
                "server_cores": hundredths(used / took),
                "reader_cpu_seconds": tenths(support::cpu_seconds(std::process::id()) - before.1),
            });
            if let Some((silent, readers)) = open {
                let (frames, dropped) = readers.end();
                figures["frames_per_second"] = json!((frames as f64 / took).round());
                figures["dropped"] = json!(dropped);
                for (thread, before) in THREADS.iter().zip(of_threads) {
                    let used = server.thread_cpu_seconds(thread) - before;
                    figures[format!("{thread}_thread_cores")] = json!(hundredths(used / took));
                }
                figures["signs_of_life_per_idle_second"] = json!(silent.count());
                followed.wait_until_closed();
            }
            eprintln!("streams: {has_streams}: {figures}");
            let of = if has_streams { &mut with } else { &mut without };
            of.push(figures);
        }
        let rate = |arm: &[Value]| arm.last().and_then(|one| one["events_per_second"].as_f64());
        ratios.extend(rate(&with).zip(rate(&without)).map(|(with, without)| with / without));
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let middle = [values[(values.len() - 1) / 2], values[values.len() / 2]];
        (middle.iter().sum::<f64>() / 2.0 * 1e3).round() / 1e3
    };
    let of = |arm: &[Value], name: &str| {
        median(&mut arm.iter().filter_map(|one| one[name].as_f64()).collect())
    };
    let cpu = of(&with, "server_cpu_seconds") / of(&without, "server_cpu_seconds");
    // What grows or falls with time is in one pair this way and in the next the other way.
    let mean = ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64;
    json!({
        "events": events,
        "throughput_with_to_without": (mean.exp() * 1e3).round() / 1e3,
        "throughput_of_pairs": ratios.iter().map(|ratio| hundredths(*ratio)).collect::<Vec<_>>(),
        "cpu_with_to_without": hundredths(cpu),
        "peak_memory_mib": server.peak_mib(),
        "without": without,
        "with": with,
    })
}

/// Whole lines of a file, so many at once.
struct Pieces {
    lines: std::io::BufReader<std::fs::File>,
    count: u64,
}

impl Pieces {
    fn open(file: &Path, count: u64) -> Self {
        let file = std::fs::File::open(file).expect("a file");
        Self { lines: std::io::BufReader::new(file), count }
    }

    fn next(&mut self) -> Vec<u8> {
        let mut piece = Vec::new();
        for _ in 0..self.count {
            self.lines.read_until(b'\n', &mut piece).expect("a line");
        }
        piece
    }
}

/// A file that a server follows.
struct Followed<'a> {
    server: &'a Server,
    http: &'a reqwest::blocking::Client,
    file: &'a Path,
    length: u64,
}

impl Followed<'_> {
    /// Seconds until all of what is appended is committed.
    fn follow(&mut self, piece: &[u8]) -> f64 {
        let started = Instant::now();
        let file = std::fs::OpenOptions::new().append(true).open(self.file);
        file.and_then(|mut file| file.write_all(piece)).expect("append");
        self.length += piece.len() as u64;
        while self.server.next_offset(self.http, "file:") < self.length {
            std::thread::sleep(Duration::from_millis(100));
        }
        started.elapsed().as_secs_f64()
    }

    /// Until the server knows that all connections are gone.
    fn wait_until_closed(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.http.get(self.server.url("/metrics")).send().expect("an answer");
            let text = text.text().expect("text");
            let open = text.lines().filter(|line| line.starts_with("agentflow_streams_open{"));
            if open.filter_map(|line| line.rsplit(' ').next()).all(|count| count == "0") {
                return;
            }
            assert!(Instant::now() < deadline, "streams are still open");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The products that most events are about.
fn products(text: &[u8], count: usize) -> Vec<String> {
    let mut found = std::collections::HashMap::<String, u64>::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        if let (Some("product.updated"), Some(id)) =
            (event["event_type"].as_str(), event["product_id"].as_str())
        {
            *found.entry(id.to_owned()).or_default() += 1;
        }
    }
    let mut products: Vec<(u64, String)> = found.into_iter().map(|(id, n)| (n, id)).collect();
    products.sort_unstable_by(|a, b| b.cmp(a));
    products.into_iter().take(count).map(|(_, id)| id).collect()
}

fn request(server: &Server, query: &str) -> String {
    format!("GET /v1/stream/events{query} HTTP/1.1\r\nhost: {}\r\n\r\n", server.address)
}

/// A stream whose head was read, not blocking.
fn open(server: &Server, query: &str) -> TcpStream {
    let mut connection = TcpStream::connect(&server.address).expect("connect");
    connection.write_all(request(server, query).as_bytes()).expect("ask");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    connection.set_nonblocking(true).expect("an option");
    connection
}

/// Connections that wait for what never comes.
struct Idle {
    connections: Vec<TcpStream>,
    opened: Instant,
}

impl Idle {
    fn open(server: &Server, count: u64) -> Self {
        let open = |number| open(server, &format!("?entity_id=nobody-{number}"));
        let connections = (0..count).map(open).collect();
        Self { connections, opened: Instant::now() }
    }

    /// Signs of life per connection and second, the fewest of any; nothing else must have come.
    fn count(self) -> f64 {
        let seconds = self.opened.elapsed().as_secs_f64();
        let mut fewest = usize::MAX;
        for mut connection in self.connections {
            let mut text = Vec::new();
            let error = connection.read_to_end(&mut text).expect_err("it is open");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let text = String::from_utf8(text).expect("UTF-8");
            assert!(!text.contains("data:"), "{text}");
            fewest = fewest.min(text.matches(": keepalive").count());
        }
        hundredths(fewest as f64 / seconds)
    }
}

/// Connections that get something.
struct Readers {
    tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    frames: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicI64,
    ends: AtomicBool,
}

struct Read_ {
    frames: u64,
    bytes: u64,
    dropped: i64,
    /// From committed to read, of one event in a thousand.
    ages: Value,
}

impl Readers {
    /// As many that want every event.
    fn open(runtime: &tokio::runtime::Runtime, server: &Server, count: u64) -> Self {
        let counts = Arc::new(Counts::default());
        let opened = Arc::new(AtomicU64::new(0));
        let read = |_| {
            let (address, request) = (server.address.clone(), request(server, ""));
            let (counts, opened) = (Arc::clone(&counts), Arc::clone(&opened));
            runtime.spawn(async move { read(&address, &request, (&counts, &opened)).await })
        };
        let tasks = (0..count).map(read).collect();
        while opened.load(Ordering::Relaxed) < count {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { tasks, counts }
    }

    /// Waits until so many frames came.
    fn wait(&self, frames: u64) {
        let started = Instant::now();
        while self.counts.frames.load(Ordering::Relaxed) < frames
            && self.counts.dropped.load(Ordering::Relaxed) == 0
        {
            assert!(started.elapsed() < Duration::from_secs(60), "frames are missing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(self) -> Read_ {
        self.counts.ends.store(true, Ordering::Relaxed);
        let mut ages: Vec<Duration> = self
            .tasks
            .into_iter()
            .flat_map(|task| futures::executor::block_on(task).expect("a reader"))
            .collect();
        Read_ {
            frames: self.counts.frames.load(Ordering::Relaxed),
            bytes: self.counts.bytes.load(Ordering::Relaxed),
            dropped: self.counts.dropped.load(Ordering::Relaxed),
            ages: if ages.is_empty() { Value::Null } else { support::quantiles(&mut ages) },
        }
    }
}

/// Reads until told to end. Counts frames and looks at one in a thousand.
async fn read(
    address: &str,
    request: &str,
    (counts, opened): (&Counts, &AtomicU64),
) -> Vec<Duration> {
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("connect");
    connection.write_all(request.as_bytes()).await.expect("ask");
    let mut ages = Vec::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut seen = 0_u64;
    let mut is_open = false;
    while !counts.ends.load(Ordering::Relaxed) {
        let some =
            tokio::time::timeout(Duration::from_millis(500), connection.read_buf(&mut buffer));
        match some.await {
            Ok(Ok(0)) => break,
            Ok(Ok(bytes)) => counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => continue,
        };
        if !is_open {
            opened.fetch_add(1, Ordering::Relaxed);
            is_open = true;
        }
        take_frames(&mut buffer, counts, |frame| {
            seen += 1;
            if seen.is_multiple_of(1_000) {
                ages.extend(age(frame));
            }
        });
    }
    ages
}

/// Counts the whole frames at the start of `buffer`, shows those with events to `each`, and leaves what follows.
fn take_frames(buffer: &mut Vec<u8>, counts: &Counts, mut each: impl FnMut(&[u8])) {
    // A chunk begins with frames, so `id: ` may stand cut at the end of what was read.
    let mut rest = 0;
    while let Some(at) = find(&buffer[rest..], b"\n\n") {
        let frame = &buffer[rest..rest + at];
        rest += at + 2;
        if find(frame, b"event: error").is_some() {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        } else if find(frame, b"data: ").is_some() {
            counts.frames.fetch_add(1, Ordering::Relaxed);
            each(frame);
        }
    }
    buffer.drain(..rest);
}

/// Connections that one thread reads a few times a second.
struct Unhurried {
    thread: std::thread::JoinHandle<()>,
    counts: Arc<Counts>,
}

impl Unhurried {
    fn open(server: &Server, filters: impl Iterator<Item = String>) -> Self {
        let counts = Arc::new(Counts::default());
        let mut all: Vec<(TcpStream, Vec<u8>)> =
            filters.map(|filter| (open(server, &filter), Vec::new())).collect();
        let counting = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            let mut some = vec![0; 1 << 18];
            loop {
                // What came before it was told to end is read.
                let ends = counting.ends.load(Ordering::Relaxed);
                for (connection, buffer) in &mut all {
                    while let Ok(bytes @ 1..) = connection.read(&mut some) {
                        buffer.extend_from_slice(&some[..bytes]);
                        if bytes < some.len() {
                            break;
                        }
                    }
                    take_frames(buffer, &counting, |_| ());
                }
                if ends {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { thread, counts }
    }

    /// Until so many frames came: what there was already.
    fn wait(&self, frames: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.counts.frames.load(Ordering::Relaxed) < frames {
            assert!(Instant::now() < deadline, "frames are missing");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Frames that came, and connections that were dropped.
    fn end(self) -> (u64, i64) {
        self.counts.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("a reader");
        let Counts { frames, dropped, .. } = &*self.counts;
        (frames.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed))
    }
}

/// How long ago the event of a frame was committed.
fn age(frame: &[u8]) -> Option<Duration> {
    let key = b"\"processed_at\":\"";
    let at = find(frame, key)? + key.len();
    let text = std::str::from_utf8(&frame[at..]).ok()?.split('"').next()?;
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    (chrono::Utc::now() - time.to_utc()).to_std().ok()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}
