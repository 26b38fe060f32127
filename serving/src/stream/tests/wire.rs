//! Streams on sockets: nothing is lost, mixed up or written by two at once, however the client reads.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::stream::Wire;

const HEAD: &[u8] = b"a head\r\n\r\n";

/// Both ends of a connection: the client's, and a stream's on its task. `polls` counts how often that ran.
fn connect(frames: Frames, polls: &Arc<AtomicUsize>) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (socket, _) = listener.accept().unwrap();
    // Little fits in, so that a large frame is written in parts.
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(16 << 10);
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::TcpStream::from_std(socket).unwrap();
    let mut wire = Box::pin(Wire::new(socket, HEAD.to_vec(), frames));
    let polls = Arc::clone(polls);
    let counted = poll_fn(move |cx| {
        polls.fetch_add(1, Ordering::SeqCst);
        wire.as_mut().poll(cx)
    });
    (client, tokio::spawn(counted))
}

/// Everything up to the end, read in random parts with pauses.
async fn read(mut client: TcpStream, seed: u64) -> Vec<u8> {
    let reading = move || {
        let (mut random, mut all) = (SmallRng::seed_from_u64(seed), Vec::new());
        loop {
            let mut some = vec![0; random.random_range(1..200_000)];
            match client.read(&mut some).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&some[..count]),
            }
            if random.random_ratio(1, 4) {
                std::thread::sleep(Duration::from_millis(random.random_range(0..30)));
            }
        }
    };
    tokio::task::spawn_blocking(reading).await.unwrap()
}

/// What the chunks hold; they must be whole, and end.
#[track_caller]
fn unchunked(answer: &[u8]) -> String {
    let mut rest = answer.strip_prefix(HEAD).expect("the head comes first");
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a size");
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("`{size}`"));
        let chunk = &rest[line + 2..][..size + 2];
        assert!(chunk.ends_with(b"\r\n"));
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[line + 4 + size..];
        if size == 0 {
            assert!(rest.is_empty(), "the end is the end");
            return String::from_utf8(body).unwrap();
        }
    }
}

fn ids(body: &str) -> Vec<i64> {
    let frames = body.split_terminator("\n\n").filter(|frame| !frame.starts_with(':'));
    let frames = frames.map(Frame::parse).filter(|frame| frame.event.is_none());
    frames.map(|frame| frame.id.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_frame_comes_once_however_the_client_reads() {
    let world = World::start(&many());
    world.post("t", &(0..50).map(|n| sale(n, "sale.made", "a")).collect::<Vec<_>>()).await;
    let polls = Arc::default();
    let open = |types: &[&str], begin| {
        let filter = world.filter(types, None);
        world.streams.events((&"t".into(), Pass::default()), filter, begin).unwrap()
    };
    let mut readings = Vec::new();
    for seed in 0..6 {
        let begin = if seed % 2 == 0 { Begin::After(0) } else { Begin::Newest(10) };
        let (client, task) = connect(open(&["sale"], begin), &polls);
        readings.push((begin, tokio::spawn(read(client, seed)), task));
    }
    // Small ones, and some that no socket takes at once, over more than two seconds: signs of life come, too.
    let mut random = SmallRng::seed_from_u64(1);
    let mut last = 50;
    for n in 50..250 {
        let mut event = sale(n, "sale.made", "a");
        if n % 10 == 0 {
            event["more"] = "x".repeat(random.random_range(1..60_000)).into();
        }
        last = *world.post("t", &[event]).await.last().unwrap();
        let pause = if n % 50 == 0 { 1_200 } else { random.random_range(0..5) };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    // The last one has come to everybody when each was sent its own.
    let of_all: u64 = 3 * last as u64 + 3 * (last as u64 - 40);
    while world.streams.stats().kinds[0].2 < of_all {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.streams.close();
    for (begin, reading, task) in readings {
        let body = unchunked(&reading.await.unwrap());
        let first = if matches!(begin, Begin::After(_)) { 1 } else { 41 };
        assert!(ids(&body) == (first..=last).collect::<Vec<_>>(), "{begin:?}: {:?}", ids(&body));
        assert!(body.contains(": keepalive\n\n"));
        assert!(body.contains("\"code\":\"shutdown\""));
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_waits_is_not_woken_for_frames() {
    let world = World::start(&many());
    let polls = Arc::default();
    let frames = world.streams.events(
        (&"t".into(), Pass::default()),
        world.filter(&[], None),
        Begin::Newest(1),
    );
    let (mut client, _task) = connect(frames.unwrap(), &polls);
    let mut text = String::new();
    let mut read_until = async |n: usize| {
        while ids(&text).len() < n {
            let mut some = [0; 4_096];
            let mut from = client.try_clone().unwrap();
            let reading =
                tokio::task::spawn_blocking(move || from.read(&mut some).map(|n| (some, n)));
            let (some, count) = reading.await.unwrap().unwrap();
            // Sizes of chunks stand between frames and are no part of any.
            let lines = String::from_utf8(some[..count].to_vec()).unwrap().replace("\r\n", "\r");
            let parts = lines.split('\r').filter(|part| part.contains("\n"));
            parts.for_each(|part| text.push_str(part));
        }
    };
    world.post("t", &[sale(0, "sale.made", "a")]).await;
    read_until(1).await;
    // It has looked at the journal and joined; what it has to do now is nothing.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = polls.load(Ordering::SeqCst);
    for n in 1..=20 {
        world.post("t", &[sale(n, "sale.made", "a")]).await;
        read_until(n + 1).await;
    }
    assert_eq!(polls.load(Ordering::SeqCst), before);
    client.write_all(b"something that nobody asked for").unwrap();
    client.shutdown(Shutdown::Both).unwrap();
    while world.streams.stats().kinds[0].1 > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(polls.load(Ordering::SeqCst) > before, "it was told that the client has gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_takes_nothing_holds_up_nobody() {
    let world = World::start(&many());
    let polls = Arc::default();
    let frames = world.streams.events(
        (&"t".into(), Pass::default()),
        world.filter(&["sale"], None),
        Begin::Newest(1),
    );
    let (client, task) = connect(frames.unwrap(), &polls);
    let mut other = world.open("t", world.filter(&["sale"], None), Begin::Newest(1));
    // More than its outbox and both buffers of the socket hold.
    let long = "x".repeat(60_000);
    let mut n = 0;
    while world.streams.stats().ended[0].1 == 0 {
        let mut event = sale(n, "sale.made", "a");
        event["more"] = long.clone().into();
        let position = world.post("t", &[event]).await[0];
        assert_eq!(other.ids(1).await, [position]);
        n += 1;
        assert!(n < 1_000, "it was never ended");
    }
    let body = unchunked(&read(client, 1).await);
    let last = body.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.contains("\"code\":\"slow_reader\""), "{last}");
    let seen = ids(&body);
    assert!(seen == (1..=seen.len() as i64).collect::<Vec<_>>() && seen.len() < n, "{seen:?}");
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_is_written_straight_to_its_socket() {
    let world = World::start(&many());
    let polls = Arc::default();
    let (mut client, task) = connect(world.metric("t", "visits", "1h").await.frames, &polls);
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        while !text.windows(11).any(|part| part == b"\"value\":30,") {
            let mut some = [0; 4_096];
            let count = client.read(&mut some).unwrap();
            assert!(count > 0, "it ended");
            text.extend_from_slice(&some[..count]);
        }
        String::from_utf8(text).unwrap()
    });
    for n in 0..30 {
        world.post("t", &[visit(n, n)]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let text = reading.await.unwrap();
    let values = text.split("\"value\":").skip(1).map(|rest| rest.split(',').next().unwrap());
    let values: Vec<i64> = values.map(|value| value.parse().unwrap()).collect();
    assert!(values.is_sorted() && values.len() > 1, "{values:?}");
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_gone_takes_no_place() {
    let world = World::start(&many());
    let polls = Arc::default();
    let open = || {
        let filter = world.filter(&[], Some("nobody"));
        world.streams.events((&"t".into(), Pass::default()), filter, Begin::Newest(1)).unwrap()
    };
    let connections: Vec<_> = (0..20).map(|_| connect(open(), &polls)).collect();
    assert_eq!(world.streams.stats().kinds[0].1, 20);
    let (clients, tasks): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
    drop(clients);
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
    assert_eq!(world.streams.stats().kinds[0].1, 0);
}
