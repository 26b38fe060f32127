//! Streams join the journal without a gap: what was before, what comes, and what is read again.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use contracts::model::Relation;
use pipeline::store::Committed;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{World, many, sale, visit, weighed};
use crate::store::events::{EventPage, Heads};
use crate::stream::hub::Hub;
use crate::stream::outbox::{Item, Outbox};
use crate::stream::stats::Account;
use crate::stream::{Begin, EventFilter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_tells_the_event_and_hides_what_is_personal() {
    let world = World::start(&many());
    let mut event = sale(1, "sale.made", "a/1");
    event["timestamp"] = "2026-01-31T10:00:00.5Z".into();
    event["amount"] = serde_json::from_str("12345678901234567.89").unwrap();
    event["other"] = json!({"buyer": "x", "n": [1]});
    world.post("t", &[event, visit(1, 77)]).await;
    let mut reading = world.open("t", world.filter(&[], None), Begin::After(0));
    let frame = reading.next().await.unwrap();
    assert_eq!((frame.id, frame.event), (Some(1), None));
    let mut data = frame.data;
    let latency = data["latency_ms"].as_f64().unwrap();
    assert!((0.0..60_000.0).contains(&latency), "{data}");
    assert!(crate::value::parse_moment(data["processed_at"].as_str().unwrap()).is_some());
    (data["latency_ms"], data["processed_at"]) = (0.into(), 0.into());
    let record: serde_json::Number = serde_json::from_str("12345678901234567.89").unwrap();
    assert_eq!(
        data,
        json!({
            "event_id": "s1", "topic": "http", "tenant_id": "t", "entity_id": "a/1",
            "event_type": "sale.made", "latency_ms": 0, "processed_at": 0, "position": 1,
            "timestamp": "2026-01-31T10:00:00.5Z", "contract": "sale", "version": 1,
            "data": {
                "event_type": "sale.made", "event_id": "s1", "timestamp": "2026-01-31T10:00:00.5Z",
                "sale_id": "a/1", "amount": record, "buyer": "***",
                "other": {"buyer": "***", "n": [1]},
            },
        })
    );
    let data = reading.next().await.unwrap().data;
    assert_eq!((&data["entity_id"], &data["data"]["person"]), (&"***".into(), &"***".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_come_first_and_then_what_comes() {
    let world = World::start(&many());
    for n in 0..15 {
        world.post("t", &[sale(n, "sale.made", "a"), visit(n, n)]).await;
        world.post("u", &[sale(n, "sale.made", "a")]).await;
    }
    let sales = world.filter(&["sale"], None);
    let mut all = world.open("t", world.filter(&[], None), Begin::Newest(10));
    let mut made = world.open("t", sales.clone(), Begin::Newest(3));
    let mut undone = world.open("t", world.filter(&["sale.undone"], None), Begin::Newest(10));
    let mut person = world.open("t", world.filter(&[], Some("3")), Begin::Newest(10));
    let mut other = world.open("u", sales, Begin::Newest(2));
    assert_eq!(all.ids(10).await, [31, 32, 34, 35, 37, 38, 40, 41, 43, 44]);
    assert_eq!(made.ids(3).await, [37, 40, 43]);
    assert_eq!(person.ids(1).await, [11]);
    assert_eq!(other.ids(2).await, [42, 45]);

    world
        .post("t", &[sale(20, "sale.undone", "3"), visit(20, 3), sale(21, "sale.made", "a")])
        .await;
    assert_eq!(all.ids(3).await, [46, 47, 48]);
    assert_eq!(made.ids(2).await, [46, 48]);
    assert_eq!(undone.ids(1).await, [46]);
    assert_eq!(person.ids(2).await, [46, 47]);
    assert!(other.is_silent().await && undone.is_silent().await && person.is_silent().await);
}

/// Readers that come and go while a writer works as fast as it can get exactly the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_and_nothing_comes_twice() {
    const BATCHES: usize = 40;
    const BATCH: usize = 400;
    const ENTITIES: usize = 20;
    let world = Arc::new(World::start(&many()));
    let entity = |n: usize| (n % ENTITIES).to_string();
    // Most are the only one that wants what they want, so each coming and going changes what is read.
    let mut filters: Vec<EventFilter> =
        (0..ENTITIES).map(|n| world.filter(&[], Some(&entity(n)))).collect();
    filters.extend([
        world.filter(&[], None),
        world.filter(&["sale.made"], None),
        world.filter(&["visit"], None),
    ]);
    let read = async |world: Arc<World>, filter: EventFilter, seed: usize| {
        let mut random = SmallRng::seed_from_u64(seed as u64);
        let mut seen: Vec<i64> = Vec::new();
        loop {
            let from = seen.last().copied().unwrap_or(0);
            let mut reading = world.open("t", filter.clone(), Begin::After(from));
            let most = if filter.entity().is_some() { 120 } else { 2_000 };
            for _ in 0..random.random_range(1..most) {
                let frame = reading.next().await.unwrap();
                if frame.event.is_some() {
                    // Ended as too slow: it goes on where it was.
                    break;
                }
                if frame.data["event_id"].as_str().unwrap().starts_with("end") {
                    return seen;
                }
                seen.push(frame.id.unwrap());
                if random.random_ratio(1, 100) {
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
                }
            }
        }
    };
    let readers: Vec<_> = (filters.iter().enumerate())
        .map(|(seed, filter)| tokio::spawn(read(Arc::clone(&world), filter.clone(), seed)))
        .collect();
    let mut live = world.open("t", world.filter(&[], None), Begin::Newest(10));
    let live_world = Arc::clone(&world);
    let live = tokio::spawn(async move {
        let mut seen: Vec<i64> = Vec::new();
        loop {
            let frame = live.next().await.unwrap();
            if frame.event.is_some() {
                // On a machine that has no time for it, it is too slow.
                let begin = seen.last().map_or(Begin::Newest(10), |last| Begin::After(*last));
                live = live_world.open("t", live_world.filter(&[], None), begin);
                continue;
            }
            if frame.data["event_id"].as_str().unwrap().starts_with("end") {
                return seen;
            }
            seen.push(frame.id.unwrap());
        }
    });

    let mut pending = std::collections::VecDeque::new();
    for batch in 0..BATCHES {
        let events = (0..BATCH).map(|n| batch * BATCH + n).map(|n| match n % 4 {
            0 => visit(n, n / 4 % ENTITIES),
            1 => sale(n, "sale.undone", &entity(n / 4)),
            _ => sale(n, "sale.made", &entity(n / 3)),
        });
        let tenant = if batch % 5 == 0 { "u" } else { "t" };
        pending.push_back(world.submit(tenant, &events.collect::<Vec<_>>()));
        // Some way ahead of the commits, not all of it.
        while pending.len() > 5 || (batch + 1 == BATCHES && !pending.is_empty()) {
            pending.pop_front().unwrap().await.unwrap();
        }
    }
    let ends = (0..ENTITIES).flat_map(|n| {
        let mut ends = [sale(n, "sale.made", &entity(n)), visit(n, n)];
        for (kind, end) in ends.iter_mut().enumerate() {
            end["event_id"] = format!("end-{n}-{kind}").into();
        }
        ends
    });
    let last = world.post("t", &ends.collect::<Vec<_>>()).await[0] - 1;
    assert_eq!(last as usize, BATCHES * BATCH);

    let expected = |filter: &EventFilter| {
        let (mut found, mut at) = (Vec::new(), 0);
        let wants = |(tenant, event_type, entity): (&str, &str, Option<&str>)| {
            let about = filter.entity().is_none_or(|wanted| entity == Some(wanted));
            tenant == "t" && filter.has_type(event_type) && about
        };
        while at < last {
            let pick = |heads: &Heads<'_>, picked: &mut Vec<i64>| {
                let rows = 0..heads.seqs.len();
                picked.extend(rows.filter(|row| wants(heads.row(*row))).map(|row| heads.seqs[row]));
            };
            let page = world.streams.0.hub.reader.page(&[0, 1], at, last, None, &pick).unwrap();
            found.extend(page.in_order().iter().map(|(seq, ..)| *seq));
            at = page.reached;
        }
        found
    };
    for (filter, reader) in filters.iter().zip(readers) {
        let (seen, expected) = (reader.await.unwrap(), expected(filter));
        assert_eq!(seen.len(), expected.len(), "{filter:?}");
        assert!(seen == expected, "{filter:?}");
    }
    let (seen, expected) = (live.await.unwrap(), expected(&world.filter(&[], None)));
    let from = expected.iter().position(|seq| *seq == seen[0]).unwrap();
    assert!(seen == expected[from..], "the one that began with the newest");
}

/// Who joins while a stretch is read for others reads that stretch for himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_being_read_is_not_missed() {
    let world = World::start(&many());
    let hub = Arc::new(Hub::new(world.readers.clone(), Arc::default()).unwrap());
    let outbox = || Arc::new(Outbox::new(Arc::default(), Account::default()));
    let events: Vec<Value> =
        (0..300).flat_map(|n| [visit(n, n), sale(n, "sale.made", "a")]).collect();
    let (first, second) = (outbox(), outbox());
    let _first = hub.join(&"t".into(), &world.filter(&["visit"], None), (1, &first));
    let last = *world.post("t", &events).await.last().unwrap();
    let touched = vec![(Relation::Family(0), vec![]), (Relation::Family(1), vec![])];
    hub.committed(&Committed { last_seq: last, touched, ..Default::default() });

    let (after, until, families) = hub.next().unwrap();
    assert_eq!((after, until, &families[..]), (0, last, &[1][..]));
    let page = hub.read(after, until, &families).unwrap();
    let membership = hub.join(&"t".into(), &world.filter(&["sale"], None), (2, &second));
    assert_eq!(membership.joined_at, last);
    hub.deliver(&page);
    let count = |outbox: &Outbox| match outbox.poll(&Context::from_waker(Waker::noop()), true) {
        Poll::Ready(Item::Chunk(chunk)) => chunk.frames,
        _ => 0,
    };
    assert_eq!((count(&first), count(&second)), (300, 0));
}

/// What has just been committed is sent as it would be read from the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_is_the_same_out_of_memory_and_out_of_the_journal() {
    let world = World::start(&many());
    let hub = Arc::new(Hub::new(world.readers.clone(), Arc::default()).unwrap());
    let outbox = Arc::new(Outbox::new(Arc::default(), Account::default()));
    let all = world.filter(&[], None);
    // The first commit of a store is not kept: nothing is known of what came before.
    let before = world.post("t", &[sale(0, "sale.made", "a")]).await[0];
    hub.committed(&Committed { last_seq: before, ..Default::default() });
    let _member = hub.join(&"t".into(), &all, (1, &outbox));
    let mut last = before;
    for round in 0..5 {
        let mut events = Vec::new();
        for n in 0..60 {
            let n = round * 60 + n;
            let (mut sale, mut visit) = (sale(n + 1, "sale.undone", "ä\n\"b\""), visit(n, n));
            match n % 4 {
                0 => {}
                1 => sale["buyer"] = Value::Null,
                2 => {
                    visit["note"] = Value::Null;
                    visit["score"] = json!(0.1 + n as f64);
                    visit["places"] = json!([
                        {"name": "x", "since": "2026-01-31T10:00:00.000001Z", "cost": 1.5},
                        {"name": "y", "since": "2026-01-31T10:00:00Z", "cost": -2},
                    ]);
                }
                _ => {
                    (sale["more"], visit["more"]) = (json!({"n": [1, 2.50]}), "x".into());
                    visit["places"] = json!([]);
                }
            }
            events.extend([sale, visit, weighed(n)]);
        }
        last = *world.post("t", &events).await.last().unwrap();
    }
    let text = |page: &EventPage| {
        let frames = page.rows.iter().map(|rows| hub.writer.frames(rows).unwrap());
        let frames: Vec<_> = frames.collect();
        let mut out = Vec::new();
        for (_, place, row) in page.in_order() {
            frames[place].write(row, page, &hub.reader, &mut out);
        }
        String::from_utf8(out).unwrap()
    };
    let families = [0, 1, 2];
    let fresh = hub.reader.fresh(&families, before, last).expect("it has all of them");
    let read = hub.read(before, last, &families).unwrap();
    assert_eq!((fresh.reached, read.reached), (last, last));
    assert_eq!(text(&fresh).matches("\ndata: ").count(), 900);
    assert_eq!(text(&fresh), text(&read));
    assert!(hub.reader.fresh(&families, before, last).is_none(), "they are given once");
    for entity in ["\"entity_id\":\"thing 7\"", "\"entity_id\":\"8\"", "\"entity_id\":\"***\""] {
        assert!(text(&read).contains(entity), "{entity}");
    }
}

/// Where rows were not kept, the journal is read: nothing is missed and nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_memory_any_more_is_read() {
    let world = World::start(&many());
    let mut reading = world.open("t", world.filter(&[], None), Begin::After(0));
    let taken = world.readers.clone();
    let mut expected = Vec::new();
    for n in 0..200 {
        expected.extend(world.post("t", &[sale(n, "sale.made", "a"), visit(n, n)]).await);
        if n % 3 == 0 {
            // Another one takes them, now and then before the hub does.
            drop(taken.fresh().take(0, i64::MAX));
        }
    }
    assert_eq!(reading.ids(expected.len()).await, expected);
}
