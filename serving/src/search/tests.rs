//! Search over a store that a real pipeline fills.

use std::sync::Arc;
use std::thread::JoinHandle;

use pipeline::runner::{Runner, RunnerOptions, Stop};
use pipeline::source::http::{Ingress, QueueLimits, queue};
use serde_json::json;

use super::{Hit, Search, SearchAnswer, SearchOptions, SearchQuestion};
use crate::access::{Caller, Scope};
use crate::metric::MetricEngine;
use crate::store::Store;

const CONTRACTS: &str = "
kind: event
names: [parcel.seen]
key: parcel_id
fields:
  parcel_id: string
  hub: {type: string, required: false}
  state: {type: string, required: false}
  fragile: {type: bool, required: false}
  mail: {type: string, required: false, pii: true}
---
kind: entity
name: parcel
description: A parcel on its way
from: [parcel.seen]
key: parcel_id
fields:
  hub: {value: last, description: Where it was last seen}
  state: last
  fragile: last
  mail: last
  mail_host: lower(mail)
---
kind: entity
name: hub
from: {entity: parcel}
key: hub
fields: {parcels: count, any_state: mode(state)}
---
kind: entity
name: reader
from: [parcel.seen]
key: mail
fields: {parcels: count}
---
kind: metric
name: parcels_seen
description: Parcels at all hubs
unit: parcels
from: {entity: parcel}
measure: count
windows: [now]
moved_by: [parcel.seen]
";

struct World {
    search: Search,
    ingress: Ingress,
    store: Store,
    sent: std::cell::Cell<u32>,
    stop: Stop,
    pipeline: Option<JoinHandle<()>>,
}

impl World {
    fn new(options: SearchOptions) -> Self {
        let domain = contracts::load(&[("parcels.yaml".into(), CONTRACTS.to_owned())]);
        let domain = Arc::new(domain.unwrap_or_else(|errors| panic!("{errors:#?}")));
        let store = Store::in_memory(domain.clone()).unwrap();
        let engine = Arc::new(MetricEngine::new(domain.clone(), store.readers()));
        let (ingress, source) = queue(QueueLimits::default());
        let writer = Box::new(store.writer().unwrap());
        let mut runner = Runner::new(domain.clone(), writer, RunnerOptions::default()).unwrap();
        runner.add_source(Box::new(source)).unwrap();
        let stop = Stop::default();
        let stopped = stop.clone();
        let pipeline = std::thread::spawn(move || {
            runner.run(&stopped).unwrap();
        });
        let search = Search::new(engine, options);
        let sent = std::cell::Cell::new(0);
        Self { search, ingress, store, sent, stop, pipeline: Some(pipeline) }
    }

    /// Applies an event per `(parcel, member, value)`.
    fn send(&self, tenant: &str, events: &[(&str, serde_json::Value)]) {
        let records = events.iter().map(|(parcel, members)| {
            let n = self.sent.replace(self.sent.get() + 1);
            let mut event = json!({
                "event_type": "parcel.seen", "event_id": format!("e{n}"), "parcel_id": parcel,
                "timestamp": format!("2026-01-31T10:{:02}:{:02}Z", n / 60, n % 60),
            });
            let object = event.as_object_mut().unwrap();
            object.extend(members.as_object().unwrap().clone());
            event.to_string().into_bytes()
        });
        let records: Vec<Vec<u8>> = records.collect();
        let now = pipeline::clock::now();
        let outcomes = self.ingress.submit(tenant.into(), records, now).unwrap();
        let outcomes = outcomes.blocking_recv().unwrap();
        let accepted = outcomes
            .iter()
            .all(|outcome| matches!(outcome, pipeline::outcome::Outcome::Accepted { .. }));
        assert!(accepted, "{outcomes:?}");
    }

    fn ask(&self, caller: &Caller, text: &str, types: Option<&[String]>) -> SearchAnswer {
        let question = SearchQuestion { text, entity_types: types, most: 10 };
        self.search.ask(caller, &question).unwrap()
    }

    #[track_caller]
    fn check(&self, caller: &Caller, text: &str, expected: &str) {
        assert_eq!(told(&self.ask(caller, text, None)), expected, "{text}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(pipeline) = self.pipeline.take() {
            let _ = pipeline.join();
        }
    }
}

fn told(answer: &SearchAnswer) -> String {
    let hits = answer.hits.iter().map(|(hit, _)| match hit {
        Hit::Entity(entity, key) => format!("{entity}/{key}"),
        Hit::Field(entity, field) => format!("{entity}.{field}"),
        Hit::Metric(name) => name.clone(),
    });
    hits.collect::<Vec<_>>().join(" ")
}

fn tenant(name: &str) -> Caller {
    Caller::with_key(name.into(), "k".into(), Arc::default())
}

fn limited(name: &str, entities: &[&str]) -> Caller {
    let entities = entities.iter().map(|entity| (*entity).to_owned()).collect();
    let scope = Scope { entities: Some(entities), ..Scope::default() };
    Caller::with_key(name.into(), "k".into(), Arc::new(scope))
}

#[test]
fn what_was_accepted_is_found_by_what_it_is_now() {
    let world = World::new(SearchOptions::default());
    let caller = tenant("a");
    world.check(&caller, "riga", "");
    world.send("a", &[("P-1", json!({"hub": "Riga", "state": "waiting", "fragile": true}))]);
    world.send("a", &[("P-2", json!({"hub": "Tartu", "state": "waiting"}))]);
    world.check(&caller, "riga", "hub/Riga parcel/P-1");
    assert!(told(&world.ask(&caller, "parcel 2", None)).starts_with("parcel/P-2 "));
    world.check(&caller, "FRAGILE", "parcel/P-1 parcel.fragile");
    world.check(&caller, "where was it last seen", "parcel.hub parcels_seen");

    // It moves on: its own row and those of both hubs change.
    world.send("a", &[("P-1", json!({"hub": "Tartu", "state": "lost"}))]);
    world.check(&caller, "lost", "hub/Tartu parcel/P-1");
    world.check(&caller, "fragile", "parcel/P-1 parcel.fragile");
    world.check(&caller, "tartu", "hub/Tartu parcel/P-2 parcel/P-1");
}

#[test]
fn a_row_that_has_gone_is_taken_out_when_that_is_seen() {
    let world = World::new(SearchOptions::default());
    let caller = tenant("a");
    world.send("a", &[("P-1", json!({"hub": "Riga"}))]);
    world.check(&caller, "riga", "hub/Riga parcel/P-1");
    world.send("a", &[("P-1", json!({"hub": "Tartu"}))]);
    // The hub has no parcels any more, so it has no row; whoever reads it says so.
    world.check(&caller, "riga", "hub/Riga");
    world.search.gone("a", "hub", "Riga");
    world.check(&caller, "riga", "");
}

#[test]
fn another_tenants_rows_are_not_found_and_change_no_score() {
    let world = World::new(SearchOptions::default());
    let (a, b) = (tenant("a"), tenant("b"));
    world.send("a", &[("P-1", json!({"hub": "Riga"})), ("P-2", json!({"state": "riga"}))]);
    let before = world.ask(&a, "riga parcels", None);
    assert_eq!(before.hits.len(), 10);
    for n in 0..20 {
        world.send("b", &[(&format!("Q-{n}"), json!({"hub": "Riga", "state": "secret"}))]);
    }
    let after = world.ask(&a, "riga parcels", None);
    assert_eq!((before.hits, before.documents), (after.hits, after.documents));
    world.check(&a, "secret", "");
    world.check(&tenant("c"), "riga secret", "");
    assert!(told(&world.ask(&b, "secret", None)).starts_with("hub/Riga parcel/Q-19 parcel/Q-18 "));
}

#[test]
fn a_key_finds_what_it_may_read() {
    let world = World::new(SearchOptions::default());
    world.send("a", &[("P-1", json!({"hub": "Riga"}))]);
    world.check(&limited("a", &["hub"]), "riga", "hub/Riga");
    world.check(&limited("a", &["parcel"]), "riga", "parcel/P-1");
    world.check(&limited("a", &["hub"]), "parcels seen", "hub.parcels");
    world.check(&limited("a", &["parcel"]), "seen", "parcels_seen parcel.hub");
    world.check(&limited("a", &["hub"]), "seen", "");
    world.check(&limited("a", &[]), "riga parcels", "");
    let all = world.ask(&tenant("a"), "riga", None);
    let some = world.ask(&limited("a", &["hub"]), "riga", None);
    assert!(some.documents < all.documents, "{} {}", some.documents, all.documents);

    // By type: without metrics.
    let types = ["hub".to_owned()];
    let found = world.ask(&tenant("a"), "riga parcels", Some(&types));
    assert_eq!(told(&found), "hub/Riga hub.parcels");
    let found = world.ask(&limited("a", &["parcel"]), "riga parcels", Some(&types));
    assert_eq!(told(&found), "");
}

#[test]
fn personal_fields_and_rows_with_personal_keys_are_not_searched() {
    let world = World::new(SearchOptions::default());
    let caller = tenant("a");
    world.send("a", &[("P-1", json!({"hub": "Riga", "mail": "Ann@Example.org"}))]);
    for text in ["ann", "example", "org", "ann@example.org"] {
        world.check(&caller, text, "");
    }
}

#[test]
fn the_newest_rows_are_searched_and_any_is_found_by_its_key() {
    let options = SearchOptions { rows_per_type: 3, ..SearchOptions::default() };
    let world = World::new(options);
    let caller = tenant("a");
    let send = |n: u32| world.send("a", &[(&format!("P-{n}"), json!({"state": "waiting"}))]);
    (0..3).for_each(send);
    assert_eq!(world.ask(&caller, "waiting", None).partial, Vec::<String>::new());
    (3..6).for_each(send);
    let found = world.ask(&caller, "waiting", None);
    assert_eq!(told(&found), "parcel/P-5 parcel/P-4 parcel/P-3");
    assert_eq!(found.partial, ["parcel"]);
    assert_eq!(told(&world.ask(&caller, "P-1", None)).split(' ').next(), Some("parcel/P-1"));
    let found = world.ask(&caller, "where is P-0", None);
    assert!(told(&found).contains("parcel/P-0"), "{found:?}");
    // Who may not read parcels does not get one by its key either.
    world.check(&limited("a", &["hub"]), "P-2", "");

    // An index that is made anew knows the same.
    world.search.forget([&"a".to_owned()]);
    let found = world.ask(&caller, "waiting", None);
    assert_eq!(told(&found), "parcel/P-5 parcel/P-4 parcel/P-3");
    assert_eq!(found.partial, ["parcel"]);
}

#[test]
fn indices_that_were_not_asked_for_longest_go_first() {
    let options = SearchOptions { most_documents: 60, ..SearchOptions::default() };
    let world = World::new(options);
    let size = world.ask(&tenant("a"), "riga", None).documents;
    assert!((10..=20).contains(&size), "{size}");
    for name in ["b", "c", "a", "d", "e", "f"] {
        world.send(name, &[("P-1", json!({"hub": "Riga"}))]);
        world.check(&tenant(name), "riga", "hub/Riga parcel/P-1");
    }
    let known = super::lock(&world.search.tenants);
    let names: Vec<&str> = known.iter().map(|(name, _)| &**name).collect();
    assert!(names.len() <= 4 && names[0] == "f" && !names.contains(&"b"), "{names:?}");
}

#[test]
fn an_erased_row_is_found_by_nothing_that_it_was() {
    let world = World::new(SearchOptions::default());
    let caller = tenant("a");
    world.send("a", &[("P-1", json!({"state": "odd"}))]);
    world.check(&caller, "odd", "parcel/P-1");
    let (erased, tell) = std::sync::mpsc::channel();
    let erased = std::sync::Mutex::new(erased);
    world.store.erasures().on_erased(Arc::new(move |committed| {
        let tenants = committed.touched.iter().flat_map(|(_, tenants)| tenants.clone());
        let _ = erased.lock().unwrap().send(tenants.collect::<Vec<String>>());
    }));
    let request = crate::store::erase::EraseRequest {
        subject: pipeline::erase::Subject {
            tenant: "a".into(),
            entity: "parcel".into(),
            key: "P-1".into(),
        },
        reason: None,
        dry_run: false,
    };
    world.store.erasures().ask(request, std::time::Duration::from_secs(10)).unwrap();
    let tenants = tell.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    world.search.forget(&tenants);
    let found = told(&world.ask(&caller, "P-1 odd", None));
    assert!(!found.contains("parcel/P-1"), "{found}");
}
