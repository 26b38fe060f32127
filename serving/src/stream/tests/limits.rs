//! How streams end, and how many there may be.

use std::time::Duration;

use futures::StreamExt;

use super::{World, many, sale, visit};
use crate::access::Pass;
use crate::stream::{Begin, StreamError, StreamOptions, TooMany};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_ended_and_the_others_are_not() {
    let world = World::start(&many());
    let mut slow = world.open("t", world.filter(&["sale"], None), Begin::Newest(10));
    let mut other = world.open("t", world.filter(&["visit"], None), Begin::Newest(10));
    world.post("t", &[sale(0, "sale.made", "a"), visit(0, 1)]).await;
    assert_eq!((slow.ids(1).await, other.ids(1).await), (vec![1], vec![2]));
    let long = "x".repeat(60_000);
    for n in 1..=90 {
        let mut event = sale(n, "sale.made", "a");
        event["more"] = long.clone().into();
        world.post("t", &[event]).await;
    }
    world.post("t", &[visit(1, 1)]).await;
    assert_eq!(other.ids(1).await, [93]);
    let last = slow.next().await.unwrap();
    assert_eq!((last.event.as_deref(), last.id), (Some("error"), None));
    assert_eq!(last.data["code"], "slow_reader");
    assert!(last.data["detail"].as_str().unwrap().contains("Last-Event-ID"));
    assert!(slow.next().await.is_none());
    let stats = world.streams.stats();
    assert_eq!(stats.ended[0], ("slow_reader", 1));
    assert_eq!(stats.kinds[0], ("events", 2, 3));
    drop((slow, other));
    assert_eq!(world.streams.stats().kinds[0].1, 0);

    let mut again = world.open("t", world.filter(&["sale"], None), Begin::After(1));
    assert_eq!(again.ids(90).await, (3..=92).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_limited_and_given_back() {
    let options = StreamOptions { max_per_tenant: 2, ..StreamOptions::default() };
    let world = World::start(&options);
    let open = || {
        world.streams.events(
            (&"t".into(), Pass::default()),
            world.filter(&[], None),
            Begin::Newest(1),
        )
    };
    let first = open().unwrap();
    let _metric = world.metric("t", "takings", "1h").await;
    assert!(matches!(open(), Err(StreamError::TooMany(TooMany::OfTenant(2)))));
    drop(first);
    let _again = open().unwrap();
    let ahead = world.streams.events(
        (&"u".into(), Pass::default()),
        world.filter(&[], None),
        Begin::After(1),
    );
    assert!(matches!(ahead, Err(StreamError::Ahead { after: 1, last: 0 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_end_when_the_server_does() {
    let world = World::start(&many());
    let mut events = world.open("t", world.filter(&[], None), Begin::Newest(1));
    let mut metric = world.metric("t", "takings", "1h").await;
    metric.next().await.unwrap();
    assert!(events.is_silent().await);
    world.streams.close();
    for reading in [&mut events, &mut metric] {
        let last = reading.next().await.unwrap();
        assert_eq!(last.event.as_deref(), Some("end"));
        assert_eq!(last.data["code"], "shutdown");
        assert!(reading.next().await.is_none());
    }
    let late = world.streams.events(
        (&"t".into(), Pass::default()),
        world.filter(&[], None),
        Begin::Newest(1),
    );
    assert!(matches!(late, Err(StreamError::Ending)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_a_sign_of_life_within_each_second() {
    let world = World::start(&many());
    let mut silent = [
        world.open("t", world.filter(&[], None), Begin::Newest(1)),
        world.metric("t", "visits", "1h").await,
    ];
    silent[1].next().await.unwrap();
    for _ in 0..3 {
        for reading in &mut silent {
            let next = tokio::time::timeout(Duration::from_millis(1_500), reading.frames.next());
            assert_eq!(&*next.await.expect("a sign of life").unwrap(), b": keepalive\n\n");
        }
    }
}
