//! Streams over a real store that a real pipeline fills.

mod beginnings;
mod joining;
mod limits;
mod metrics;
mod wire;

use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::StreamExt;
use pipeline::outcome::Outcome;
use pipeline::runner::{Runner, RunnerOptions, Stop};
use pipeline::source::http::{Ingress, Outcomes, queue};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Begin, EventFilter, Frames, StreamOptions, Streams};
use crate::access::Pass;
use crate::cache::Cache;
use crate::metric::MetricEngine;
use crate::question::MetricQuestion;
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
