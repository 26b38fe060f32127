//! The server on a real socket: it answers, it ends when told, and it does not wait for ever.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::support::{World, answer_one};
use crate::http::{HttpOptions, serve};
use pipeline::outcome::Outcome;

/// A server under test, and what ends it.
struct Served {
    addr: SocketAddr,
    end: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

async fn start(world: &World) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (end, told) = oneshot::channel();
    let shutdown = async {
        let _ = told.await;
    };
    let ended = tokio::spawn(serve(listener, world.state.clone(), None, shutdown));
    Served { addr, end, ended }
}

/// Sends bytes and reads until the server closes.
async fn exchange(addr: SocketAddr, request: &str) -> String {
    let request = request.to_owned();
    let blocking = move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    tokio::task::spawn_blocking(blocking).await.unwrap()
}

#[tokio::test]
async fn it_answers_and_ends_when_told() {
    let (world, _source) = World::empty();
    let served = start(&world).await;
    let request = "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = exchange(served.addr, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("{\"status\":\"alive\"}"), "{answer}");

    served.end.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.addr).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_is_answered_before_the_end() {
    let (world, source) = World::empty();
    let served = start(&world).await;
    let request = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                   content-length: 2\r\n\r\n{}";
    let answer = tokio::spawn(exchange(served.addr, request));
    let (told, wait) = std::sync::mpsc::channel();
    let (taken, taking) = oneshot::channel();
    let pipeline = answer_one(source, move |_| {
        let _ = taken.send(());
        wait.recv().unwrap();
        vec![Outcome::Accepted { seq: 1 }]
    });
    taking.await.unwrap();
    served.end.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!served.ended.is_finished());
    told.send(()).unwrap();
    let answer = answer.await.unwrap();
    assert!(answer.contains("\"accepted\":1"), "{answer}");
    served.ended.await.unwrap().unwrap();
    pipeline.join().unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let drain_timeout = Duration::from_millis(50);
    let options = HttpOptions { drain_timeout, ..HttpOptions::default() };
    let (world, _source) = World::with(options, Default::default());
    let served = start(&world).await;
    let mut stream = TcpStream::connect(served.addr).unwrap();
    stream.write_all(b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    served.end.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_told_why() {
    let (world, _source) = World::empty();
    let served = start(&world).await;
    let long = format!("GET /v1/metrics?x={} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000));
    let wide = format!("GET /v1/metrics HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let many: String = (0..600).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET /v1/metrics HTTP/1.1\r\n{many}\r\n");
    for (request, status, code) in [
        ("hello\r\n\r\n", 400, "invalid_request"),
        ("GET /v1/me trics HTTP/1.1\r\nhost: a\r\n\r\n", 400, "invalid_request"),
        ("GET /v1/metrics HTTP/1.1\r\nno header\r\n\r\n", 400, "invalid_request"),
        ("GET /v1/metrics HTTP/1.1\r\nx: a\x01b\r\n\r\n", 400, "invalid_request"),
        ("POST /v1/events HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "invalid_request"),
        (&long, 414, "target_too_long"),
        (&wide, 431, "headers_too_large"),
        (&many, 431, "headers_too_large"),
    ] {
        let answer = exchange(served.addr, request).await;
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{shown}: {answer}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["code"], code, "{shown}: {body}");
        assert!(head.contains(body["request_id"].as_str().unwrap()), "{shown}: {answer}");
    }
    served.end.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_at_once() {
    let drain_timeout = Duration::from_secs(60);
    let options = HttpOptions { drain_timeout, ..HttpOptions::default() };
    let (world, _source) = World::with(options, Default::default());
    let served = start(&world).await;
    let request = "GET /v1/stream/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let answer = tokio::spawn(exchange(served.addr, request));
    let mut open = 0;
    while open == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        open = world.state.streams.stats().kinds[0].1;
    }
    served.end.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), served.ended).await.unwrap().unwrap().unwrap();
    let answer = answer.await.unwrap();
    assert!(answer.contains("event: end\ndata: {\"detail\":\"the server ends; "), "{answer}");
    assert!(answer.ends_with("\n\n\r\n0\r\n\r\n"), "{answer}");
}

/// Sends bytes, waits a while, and then reads until `enough`.
async fn read_late(addr: SocketAddr, request: String, enough: fn(&str) -> bool) -> String {
    let blocking = move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let (mut answer, mut some) = (Vec::new(), [0; 65_536]);
        while !enough(&String::from_utf8_lossy(&answer)) {
            match stream.read(&mut some).unwrap() {
                0 => panic!("it ended: {}", String::from_utf8_lossy(&answer)),
                count => answer.extend_from_slice(&some[..count]),
            }
        }
        String::from_utf8(answer).unwrap()
    };
    tokio::task::spawn_blocking(blocking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_comes_after_what_was_asked_for_before_it() {
    let (world, _source) = World::empty();
    let served = start(&world).await;
    // More than the system's buffers hold, asked for at once and read late.
    let before = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(60);
    let stream = "GET /v1/stream/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let more = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let enough = |answer: &str| answer.matches("\r\nd\r\n: keepalive\n\n\r\n").count() == 2;
    let mut rest = &*read_late(served.addr, format!("{before}{stream}{more}"), enough).await;
    for _ in 0..60 {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = head.split_once("content-length: ").unwrap().1.lines().next().unwrap();
        let (body, after) = body.split_at(length.parse().unwrap());
        assert!(body.starts_with('{') && body.trim_end().ends_with('}'));
        rest = after;
    }
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in [
        "content-type: text/event-stream",
        "transfer-encoding: chunked",
        "connection: close",
        "x-content-type-options: nosniff",
    ] {
        assert!(head.lines().any(|other| other == line), "{line} in {head}");
    }
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    assert!(date.ends_with(" GMT") && chrono::DateTime::parse_from_rfc2822(date).is_ok(), "{date}");
    assert_eq!(body.replace("d\r\n: keepalive\n\n\r\n", ""), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_ways_to_ask_for_a_stream_are_answered_by_http() {
    let (world, _source) = World::empty();
    let served = start(&world).await;
    let old = "GET /v1/stream/events HTTP/1.0\r\nhost: localhost\r\n\r\n";
    let answer =
        read_late(served.addr, old.to_owned(), |answer| answer.contains(": keepalive")).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("chunked") && answer.ends_with("\r\n\r\n: keepalive\n\n"), "{answer}");

    let head = "HEAD /v1/stream/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let next = "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = read_late(served.addr, format!("{head}{next}"), |answer| {
        answer.ends_with("{\"status\":\"alive\"}")
    });
    assert_eq!(answer.await.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    // No places are taken: all connections are gone.
    while world.state.streams.stats().kinds[0].1 > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn it_does_not_listen_beyond_loopback() {
    let (world, _source) = World::empty();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve(listener, world.state, None, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
