//! Streams as a client sees them: over a real connection, through a killed server, beside a reader that
//! takes nothing.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::server::Server;
use support::{Place, wait_for};

const CONTRACTS: &str = "
kind: event
name: visit
names: [visit.begun, visit.ended]
envelope: {tenant: org}
key: page
fields:
  page: string
  visitor: {type: string, required: false, pii: true}
  note: {type: string, required: false}
---
kind: event
name: alarm
names: [alarm]
envelope: {tenant: org}
key: place
fields:
  place: string
---
kind: metric
name: visits
unit: count
from: {event: visit.begun}
measure: count()
windows: [1h]
moved_by: [visit.begun]
dimensions: {page: {}}
freshness: {max_age: 250ms}
examples:
  - given: [{event: visit.begun, page: a}]
    expect: {window: 1h, value: 1}
";

fn place() -> Place {
    Place::with_contracts(&[("contracts.yaml", CONTRACTS)])
}

fn visit(id: &str, page: &str) -> Value {
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    json!({
        "event_type": "visit.begun", "event_id": id, "timestamp": now, "page": page, "visitor": "V1",
    })
}

/// Posts events; the positions of the accepted ones, or `None` when there was no answer.
fn post(url: &str, events: &[Value]) -> Option<Vec<i64>> {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let http = reqwest::blocking::Client::builder().no_proxy().build().expect("an HTTP client");
    let request = http.post(format!("{url}/v1/events")).body(lines.join("\n"));
    let answer = request.header("content-type", "application/x-ndjson").send().ok()?;
    let answer: Value = answer.json().ok()?;
    let results = answer["events"].as_array().or_else(|| answer["results"].as_array())?;
    Some(results.iter().filter_map(|result| result["position"].as_i64()).collect())
}

/// A stream read line by line.
struct Stream {
    lines: BufReader<reqwest::blocking::Response>,
}

#[derive(Debug, Default)]
struct Frame {
    id: Option<i64>,
    event: Option<String>,
    data: Value,
}

impl Stream {
    #[track_caller]
    fn open(server: &Server, path: &str, last: Option<i64>) -> Self {
        let http = reqwest::blocking::Client::builder()
            .timeout(None)
            .no_proxy()
            .build()
            .expect("an HTTP client");
        let mut request = http.get(format!("{}{path}", server.url));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = request.send().expect("an answer");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { lines: BufReader::new(response) }
    }

    /// The next frame that is no sign of life; `None` when the connection ends.
    fn next(&mut self) -> Option<Frame> {
        let mut frame = Frame::default();
        let mut line = String::new();
        loop {
            line.clear();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => frame.id = value.parse().ok(),
                Some(("event", value)) => frame.event = Some(value.to_owned()),
                Some(("data", value)) => {
                    frame.data =
                        serde_json::from_str(value).unwrap_or_else(|e| panic!("{e}: {value}"));
                }
                _ if line.trim_end().is_empty() && !frame.data.is_null() => return Some(frame),
                _ => {}
            }
        }
    }

    #[track_caller]
    fn ids(&mut self, count: usize) -> Vec<String> {
        let id = |frame: Frame| frame.data["event_id"].as_str().expect("an id").to_owned();
        (0..count).map(|_| id(self.next().expect("a frame"))).collect()
    }
}

#[test]
fn a_stream_goes_on_over_a_killed_server() {
    let place = place();
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut seen: Vec<(i64, String)> = Vec::new();
    let mut number = 0;
    for round in 0..4 {
        let server = Server::start(&place, &[]);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (url, stop, acknowledged) =
                (server.url.clone(), Arc::clone(&stop), Arc::clone(&acknowledged));
            move || {
                let first = number;
                while !stop.load(Ordering::Relaxed) {
                    let events: Vec<Value> =
                        (0..7).map(|n| visit(&format!("e{}", number + n), "a")).collect();
                    number += 7;
                    let Some(positions) = post(&url, &events) else { continue };
                    assert_eq!(positions.len(), 7);
                    let ids =
                        events.iter().map(|e| e["event_id"].as_str().expect("an id").to_owned());
                    acknowledged.lock().expect("lock").extend(positions.into_iter().zip(ids));
                }
                number.max(first)
            }
        });
        let last = seen.last().map_or(0, |(position, _)| *position);
        let mut stream = Stream::open(&server, "/v1/stream/events?event_type=visit", Some(last));
        let enough = seen.len() + 300 + round * 50;
        while seen.len() < enough {
            let frame = stream.next().expect("a frame");
            let id = frame.data["event_id"].as_str().expect("an id").to_owned();
            seen.push((frame.id.expect("a position"), id));
        }
        // With requests under way, and with frames that nobody has read.
        server.signal("KILL");
        let _ = server.wait();
        stop.store(true, Ordering::Relaxed);
        number = writer.join().expect("the writer");
        while let Some(frame) = stream.next() {
            let id = frame.data["event_id"].as_str().expect("an id").to_owned();
            seen.push((frame.id.expect("a position"), id));
        }
    }
    let server = Server::start(&place, &[]);
    let (_, last) = (server.get("/health/ready"), seen.last().expect("some").0);
    let mut stream = Stream::open(&server, "/v1/stream/events", Some(last));
    let end = post(&server.url, &[visit("end", "a")]).expect("an answer")[0];
    while seen.last().expect("some").0 < end {
        let frame = stream.next().expect("a frame");
        let id = frame.data["event_id"].as_str().expect("an id").to_owned();
        seen.push((frame.id.expect("a position"), id));
    }
    // Everything has a position, and only these events were sent: nothing is missing between.
    let positions: Vec<i64> = seen.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (1..=end).collect::<Vec<_>>());
    let seen: BTreeSet<(i64, String)> = seen.into_iter().collect();
    let acknowledged = acknowledged.lock().expect("lock");
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    assert!(acknowledged.is_subset(&seen));
}

#[test]
fn a_reader_that_takes_nothing_is_dropped_and_holds_nobody_up() {
    let place = place();
    let server = Server::start(&place, &[]);
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut slow = TcpStream::connect(&address).expect("connect");
    let request = format!("GET /v1/stream/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
    slow.write_all(request.as_bytes()).expect("ask");
    let mut quick = Stream::open(&server, "/v1/stream/events", None);
    wait_for("both to be open", || {
        (server.sum("agentflow_streams_open{kind=\"events\"}") == 2).then_some(())
    });

    let dropped = || server.sum("agentflow_streams_dropped_total{reason=\"slow_reader\"}");
    let long = "x".repeat(50_000);
    let mut number = 0;
    let mut longest = Duration::ZERO;
    while dropped() == 0 {
        assert!(number < 3_000, "more than any buffer holds");
        let events: Vec<Value> = (number..number + 10)
            .map(|n| {
                let mut event = visit(&format!("e{n}"), "a");
                event["note"] = long.clone().into();
                event
            })
            .collect();
        number += 10;
        let started = Instant::now();
        assert_eq!(post(&server.url, &events).expect("an answer").len(), 10);
        longest = longest.max(started.elapsed());
        // The other one reads on.
        quick.ids(10);
    }
    assert!(longest < Duration::from_secs(5), "a request took {longest:?}");
    assert_eq!(dropped(), 1);

    // What was on its way is there, whole frames and then the reason.
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
    let mut text = Vec::new();
    let mut part = vec![0; 1 << 16];
    while !text.ends_with(b"0\r\n\r\n") {
        let count = slow.read(&mut part).expect("more, or the end");
        assert!(count > 0, "the answer is ended in order");
        text.extend_from_slice(&part[..count]);
    }
    let text = String::from_utf8_lossy(&text);
    let (_, last) = text.rsplit_once("event: error").expect("a reason");
    assert!(last.contains("\"code\":\"slow_reader\""), "{last}");
    let last: i64 = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("id: "))
        .map_or(0, |id| id.trim().parse().expect("a position"));
    assert!(last < number);
    let mut again = Stream::open(&server, "/v1/stream/events", Some(last));
    let rest = again.ids((number - last) as usize);
    assert_eq!(rest.last().expect("some"), &format!("e{}", number - 1));
    assert!(server.stop().success());
}

#[test]
fn a_tenant_sees_its_own_events_and_no_others() {
    let place = place();
    let lines: Vec<Vec<u8>> = (0..40)
        .map(|n| {
            let mut event = visit(&format!("e{n}"), "a");
            event["org"] = ["default", "other", "third"][n % 3].into();
            event.to_string().into_bytes()
        })
        .collect();
    let file = place.file("events.ndjson", &lines);
    let server = Server::start(&place, &["--from", &format!("file:{}", file.display())]);
    wait_for("the file to be read", || (server.received() == 40).then_some(()));
    let mut resumed = Stream::open(&server, "/v1/stream/events", Some(0));
    let mut newest = Stream::open(&server, "/v1/stream/events?entity_id=a", None);
    let mut metric = Stream::open(&server, "/v1/metrics/visits/stream", None);
    let own = |numbers: std::ops::Range<usize>| -> Vec<String> {
        numbers.map(|n| format!("e{}", n * 3)).collect()
    };
    assert_eq!(resumed.ids(14), own(0..14));
    assert_eq!(newest.ids(10), own(4..14));
    assert_eq!(metric.next().expect("a frame").data["value"], json!(14));

    let mut more: Vec<Vec<u8>> = lines.clone();
    for (n, org) in ["other", "default"].into_iter().enumerate() {
        let mut event = visit(&format!("late{n}"), "a");
        event["org"] = org.into();
        more.push(event.to_string().into_bytes());
    }
    place.file("events.ndjson", &more);
    for stream in [&mut resumed, &mut newest] {
        let frame = stream.next().expect("a frame");
        assert_eq!(frame.data["event_id"], "late1");
        assert_eq!(
            (&frame.data["tenant_id"], &frame.data["topic"]),
            (&json!("default"), &json!("file"))
        );
        assert_eq!(frame.data["data"]["visitor"], "***");
    }
    assert_eq!(metric.next().expect("a frame").data["value"], json!(15));
    server.signal("TERM");
    for stream in [&mut resumed, &mut newest, &mut metric] {
        let frame = stream.next().expect("a frame");
        assert_eq!(
            (frame.event.as_deref(), &frame.data["code"]),
            (Some("end"), &json!("shutdown"))
        );
        assert!(stream.next().is_none());
    }
    assert!(server.wait().success());
}

#[test]
fn what_is_no_longer_in_the_journal_is_said() {
    let place = place();
    let server = Server::start(&place, &["--keep-days", "0.0000001", "--trim-grace-minutes", "0"]);
    let events: Vec<Value> = (0..20).map(|n| visit(&format!("e{n}"), "a")).collect();
    post(&server.url, &events).expect("an answer");
    wait_for("the journal to give up its rows", || {
        (server.sum("agentflow_journal_trimmed_events") >= 20).then_some(())
    });
    let resume = |path: &str| server.get(path);
    let (status, body) = resume("/v1/stream/events?last_event_id=3");
    assert_eq!((status, &body["code"]), (410, &json!("gone")), "{body}");
    assert!(body["hint"].as_str().expect("a hint").contains("without `Last-Event-ID`"), "{body}");
    // Another family has lost nothing, and whoever has everything misses nothing.
    let mut last = 0;
    for path in ["/v1/stream/events?event_type=alarm", "/v1/stream/events"] {
        let mut stream = Stream::open(&server, path, Some(last));
        let now = chrono::Utc::now().to_rfc3339();
        let alarm = json!({
            "event_type": "alarm", "event_id": path, "timestamp": now, "place": "p",
        });
        last = post(&server.url, &[alarm]).expect("an answer")[0];
        assert_eq!(stream.ids(1), [path]);
    }
    let (status, body) = server.get("/v1/stream/events?event_typ=visit");
    assert_eq!((status, &body["hint"]), (422, &json!("did you mean `event_type`?")), "{body}");
    let (_, catalog) = server.get("/v1/catalog");
    let source = &catalog["streaming_sources"]["events"];
    assert_eq!(
        (&source["path"], &source["transport"]),
        (&json!("/v1/stream/events"), &json!("sse"))
    );
    assert_eq!(source["filters"]["event_type"], json!(["alarm", "visit"]));
}

#[test]
fn a_metric_comes_when_it_moves() {
    let place = place();
    let server = Server::start(&place, &[]);
    let path = "/v1/metrics/visits/stream?filter=page:a";
    let mut stream = Stream::open(&server, path, None);
    assert_eq!(stream.next().expect("a frame").data["value"], json!(0));
    for n in 1..=5 {
        let other = visit(&format!("o{n}"), "b");
        let positions = post(&server.url, &[other, visit(&format!("e{n}"), "a")]);
        let frame = stream.next().expect("a frame");
        assert_eq!(frame.data["value"], json!(n));
        assert_eq!(frame.id, positions.expect("an answer").last().copied());
    }
    let (_, read) = server.get("/v1/metrics/visits?filter=page:a");
    assert_eq!(read["value"], json!(5));
}
