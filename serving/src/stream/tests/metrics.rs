//! Streams of metrics.

use std::time::Duration;

use super::{World, many, sale, visit};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_is_sent_at_once_and_when_it_moves() {
    let world = World::start(&many());
    let mut first = world.metric("t", "takings", "1h").await;
    let frame = first.next().await.unwrap();
    assert_eq!((frame.id, frame.event), (Some(0), None));
    assert_eq!(
        (&frame.data["metric_name"], frame.data["value"].as_f64()),
        (&"takings".into(), Some(0.0))
    );
    assert_eq!(frame.data["proof"]["position"], 0);

    world.post("t", &[sale(1, "sale.made", "a")]).await;
    let frame = first.next().await.unwrap();
    assert_eq!((frame.id, frame.data["value"].as_f64()), (Some(1), Some(2.0)));
    // Another's, and what does not count in it.
    world.post("u", &[sale(1, "sale.made", "a")]).await;
    world.post("t", &[sale(2, "sale.undone", "a"), visit(1, 1)]).await;
    assert!(first.is_silent().await);
    let mut second = world.metric("t", "takings", "1h").await;
    assert_eq!(second.next().await.unwrap().data["value"].as_f64(), Some(2.0));
    world.post("t", &[sale(3, "sale.made", "a")]).await;
    for reading in [&mut first, &mut second] {
        let frame = reading.next().await.unwrap();
        assert_eq!((frame.id, frame.data["value"].as_f64()), (Some(5), Some(4.0)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metric_moves_with_time_alone() {
    let world = World::start(&many());
    let mut reading = world.metric("t", "takings", "1s").await;
    assert_eq!(reading.next().await.unwrap().data["value"].as_f64(), Some(0.0));
    world.post("t", &[sale(1, "sale.made", "a")]).await;
    assert_eq!(reading.next().await.unwrap().data["value"].as_f64(), Some(2.0));
    let left = reading.next().await.unwrap();
    assert_eq!((left.id, left.data["value"].as_f64()), (Some(1), Some(0.0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_the_same_is_answered_once() {
    let world = World::start(&many());
    let mut readings = Vec::new();
    for _ in 0..20 {
        let mut reading = world.metric("t", "visits", "1h").await;
        reading.next().await.unwrap();
        readings.push(reading);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = world.streams.0.feeds.evaluations();
    for n in 0..40 {
        world.post("t", &[visit(n, n)]).await;
    }
    for reading in &mut readings {
        while reading.next().await.unwrap().data["value"] != 40 {}
    }
    let asked = world.streams.0.feeds.evaluations() - before;
    assert!((1..=41).contains(&asked), "{asked} evaluations");
}
