//! Streams over a real store that a real pipeline fills.

mod beginnings;
mod wire;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use contracts::model::Relation;
use futures::StreamExt;
use pipeline::outcome::Outcome;
use pipeline::runner::{Runner, RunnerOptions, Stop};
use pipeline::source::http::{Ingress, Outcomes, queue};
use pipeline::store::Committed;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::hub::Hub;
use super::outbox::{Item, Outbox};
use super::stats::Account;
use super::{Begin, EventFilter, Frames, StreamError, StreamOptions, Streams, TooMany};
use crate::access::Pass;
use crate::cache::Cache;
use crate::metric::MetricEngine;
use crate::question::MetricQuestion;
use crate::store::events::{EventPage, Heads};
use crate::store::{Readers, Store};

const CONTRACTS: &str = "
kind: event
name: sale
names: [sale.made, sale.undone]
key: sale_id
fields:
  sale_id: string
  amount: {type: 'decimal(20,2)'}
  buyer: {type: string, required: false, pii: true}
---
kind: event
name: visit
names: [visit, leave]
key: person
fields:
  person: {type: int64, pii: true}
  note: {type: string, required: false}
  score: {type: float64, required: false}
  places: {type: 'list<struct<name: string, since: timestamp, cost: decimal(9,3)>>', required: false}
---
kind: event
name: weight
version: 1
names: [weighed]
envelope: {version: version}
key: thing
fields:
  thing: string
---
kind: event
name: weight
version: 2
names: [weighed]
envelope: {version: version}
key: place
fields:
  thing: string
  place: int64
---
kind: metric
name: takings
unit: EUR
from: {event: sale.made}
measure: sum(amount)
windows: [1s, 1h]
moved_by: [sale.made]
dimensions: {sale_id: {}}
freshness: {max_age: 100ms}
examples:
  - given: [{event: sale.made, sale_id: a, amount: 2}]
    expect: {window: 1h, value: 2}
---
kind: metric
name: visits
unit: count
from: {event: visit}
measure: count()
windows: [1h]
moved_by: [visit]
freshness: {max_age: 1h}
examples:
  - given: [{event: visit, person: 1}]
    expect: {window: 1h, value: 1}
";

/// A pipeline that runs, and its streams.
struct World {
    streams: Streams,
    readers: Readers,
    ingress: Option<Ingress>,
    _store: Store,
    stop: Stop,
    pipeline: Option<JoinHandle<()>>,
}

impl World {
    fn start(options: &StreamOptions) -> Self {
        let file = ("d/contracts.yaml".into(), CONTRACTS.to_owned());
        let domain = contracts::load(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let domain = Arc::new(domain);
        let store = Store::in_memory(domain.clone()).unwrap();
        let readers = store.readers();
        let engine = MetricEngine::new(domain.clone(), readers.clone());
        let cache = Arc::new(Cache::new(Arc::new(engine)));
        let streams = Streams::start(readers.clone(), cache.clone(), options).unwrap();
        let (ingress, source) = queue(Default::default());
        let told = streams.clone();
        let options = RunnerOptions {
            on_commit: Some(Box::new(move |committed| {
                cache.committed(committed);
                told.committed(committed);
            })),
            ..Default::default()
        };
        let mut runner = Runner::new(domain, Box::new(store.writer().unwrap()), options).unwrap();
        runner.add_source(Box::new(source)).unwrap();
        let stop = Stop::default();
        let stopped = stop.clone();
        let pipeline = std::thread::spawn(move || {
            runner.run(&stopped).unwrap();
        });
        let (ingress, pipeline) = (Some(ingress), Some(pipeline));
        Self { streams, readers, ingress, _store: store, stop, pipeline }
    }

    fn submit(&self, tenant: &str, events: &[Value]) -> Outcomes {
        let payloads = events.iter().map(|event| event.to_string().into_bytes()).collect();
        let now = pipeline::clock::now();
        self.ingress.as_ref().unwrap().submit(tenant.into(), payloads, now).unwrap()
    }

    /// Posts events and waits until they are committed; gives their positions.
    async fn post(&self, tenant: &str, events: &[Value]) -> Vec<i64> {
        let outcomes = self.submit(tenant, events).await.unwrap();
        let seq = |outcome| match outcome {
            Outcome::Accepted { seq } => seq,
            other => panic!("{other:?}"),
        };
        outcomes.into_iter().map(seq).collect()
    }

    fn filter(&self, types: &[&str], entity: Option<&str>) -> EventFilter {
        let types: Vec<String> = types.iter().map(|&text| text.to_owned()).collect();
        EventFilter::new(self.streams.domain(), &types, entity).unwrap()
    }

    fn open(&self, tenant: &str, filter: EventFilter, begin: Begin) -> Reading {
        Reading::of(self.streams.events((&tenant.into(), Pass::default()), filter, begin).unwrap())
    }

    async fn metric(&self, tenant: &str, metric: &str, window: &str) -> Reading {
        let question = MetricQuestion {
            metric: metric.into(),
            tenant: tenant.into(),
            window: Some(window.into()),
            ..Default::default()
        };
        let (streams, tenant) = (self.streams.clone(), Arc::from(tenant));
        let open = move || streams.metric((&tenant, Pass::default()), question).unwrap();
        Reading::of(tokio::task::spawn_blocking(open).await.unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.request();
        self.ingress = None;
        if let Some(pipeline) = self.pipeline.take() {
            let _ = pipeline.join();
        }
    }
}

/// A stream that is read frame by frame.
struct Reading {
    frames: Frames,
    text: String,
}

#[derive(Debug)]
struct Frame {
    id: Option<i64>,
    event: Option<String>,
    data: Value,
}

impl Reading {
    fn of(frames: Frames) -> Self {
        Self { frames, text: String::new() }
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let frame: String = self.text.drain(..end + 2).collect();
                if !frame.starts_with(':') {
                    return Some(Frame::parse(&frame));
                }
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.frames.next());
            self.text.push_str(std::str::from_utf8(&more.await.expect("a sign of life")?).unwrap());
        }
    }

    async fn ids(&mut self, count: usize) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.next().await.unwrap().id.unwrap());
        }
        ids
    }

    /// Nothing but signs of life comes for a while.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.next()).await.is_err()
    }
}

impl Frame {
    fn parse(text: &str) -> Self {
        let (mut id, mut event, mut data) = (None, None, Value::Null);
        for line in text.trim_end().lines() {
            match line.split_once(": ").unwrap_or_else(|| panic!("`{line}` of {text:?}")) {
                ("id", value) => id = Some(value.parse().unwrap()),
                ("event", value) => event = Some(value.to_owned()),
                ("data", value) => data = serde_json::from_str(value).unwrap(),
                _ => panic!("{line}"),
            }
        }
        Self { id, event, data }
    }
}

fn sale(id: usize, event_type: &str, sale_id: &str) -> Value {
    json!({
        "event_id": format!("s{id}"), "event_type": event_type, "timestamp": now(),
        "sale_id": sale_id, "amount": 2, "buyer": "somebody",
    })
}

fn visit(id: usize, person: usize) -> Value {
    json!({"event_id": format!("v{id}"), "event_type": "visit", "timestamp": now(), "person": person})
}

/// Of one version or the other: their keys are not the same.
fn weighed(id: usize) -> Value {
    let mut event = json!({
        "event_id": format!("w{id}"), "event_type": "weighed", "timestamp": now(),
        "version": 1 + (id + 1) % 2, "thing": format!("thing {id}"),
    });
    if id.is_multiple_of(2) {
        event["place"] = id.into();
    }
    event
}

fn now() -> String {
    crate::value::time_text(pipeline::clock::now())
}

fn many() -> StreamOptions {
    StreamOptions { max_per_tenant: 1_000, ..StreamOptions::default() }
}

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
