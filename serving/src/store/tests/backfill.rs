//! Contracts gain versions while events come in: what answered before goes on as if nothing were, and in
//! the end the store is what it would be had the new contracts been there from the beginning.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use contracts::model::{Domain, column};
use pipeline::batch::{Attached, RawBatch, RawRecord};
use pipeline::decode::Decoder;
use pipeline::fail_point;
use pipeline::processor::{Backfilled, Processor};
use pipeline::sink::iceberg::{Complete, HistoryRange, HistoryTable};
use pipeline::source::Limits;
use pipeline::store::Journal;
use proptest::prelude::*;

use super::changed::{
    DEPOT, PARCEL, PARCEL_V1, SENDER, domain, dump, lines, process, same, table, texts,
};
use super::fixture::{self, child};
use crate::cache::Cache;
use crate::metric::MetricEngine;
use crate::question::{EntityQuestion, MetricQuestion, ReadError};
use crate::store::{
    Archive, ArchiveError, Followed, Retention, RetentionPolicy, Store, StoreOptions, Take, Trimmed,
};

/// 2026-01-01T00:10:00Z, after all events.
const NOW: i64 = 1_767_226_200_000_000;

const METRICS_V1: &str = "
kind: metric
name: light_moves
version: 1
unit: count
from: {event: parcel.moved}
where: weight < 1.5 and sender is not null
measure: count
dimensions: {sender: {}}
windows: [1h]
moved_by: [parcel.moved]
---
kind: metric
name: light_parcels
version: 1
unit: count
from: {entity: parcel}
where: weight < 1.5 and sender is not null
measure: count
windows: [now]
moved_by: [parcel.sent, parcel.moved]
---
";

/// Over events, over the rows of an entity that is there, and over `ingest`.
const METRICS_V2: &str = "
kind: metric
name: light_moves
version: 2
unit: count
from: {event: parcel.moved}
where: weight < 2.5 or sender is null
measure: count
dimensions: {sender: {}}
windows: [1h]
moved_by: [parcel.moved]
---
kind: metric
name: light_parcels
version: 2
unit: count
from: {entity: parcel}
where: weight < 2.5 or sender is null
measure: count
windows: [now]
moved_by: [parcel.sent, parcel.moved]
---
kind: metric
name: taken
version: 1
unit: count
from: ingest
where: outcome = 'accepted'
measure: count
windows: [now]
moved_by: [ingest]
---
";

/// A new version of an entity; one over events with one above it, and one over an entity that is there
/// with one above it.
const ENTITIES: &str = "
kind: entity
name: depot
version: 2
from: [depot.visited]
key: town
fields: {visits: count, last_at: last(timestamp)}
---
kind: entity
name: journey
version: 1
from: [parcel.moved]
key: parcel_id
fields: {moves: count, weight: sum(weight), first: first(weight)}
---
kind: entity
name: length
version: 1
from: {entity: journey}
key: moves
fields: {journeys: count, weight: sum(weight)}
---
kind: entity
name: customer
version: 1
from: {entity: parcel}
where: weight > 1.5
key: sender
fields: {parcels: count, heaviest: max(weight), lightest: min(weight), often: mode(weight)}
---
kind: entity
name: size
version: 1
from: {entity: customer}
key: parcels
fields: {customers: count, heaviest: max(heaviest)}
---
kind: metric
name: long_journeys
version: 1
unit: count
from: {entity: journey}
where: moves > 1
measure: count
windows: [now]
moved_by: [parcel.moved]
---
kind: metric
name: heavy_customers
version: 1
unit: count
from: {entity: customer}
where: heaviest > 2
measure: count
windows: [now]
moved_by: [parcel.sent, parcel.moved]
---
";

fn old() -> Arc<Domain> {
    domain(&[DEPOT, PARCEL_V1, PARCEL, SENDER, METRICS_V1])
}

fn new() -> Arc<Domain> {
    domain(&[DEPOT, PARCEL_V1, PARCEL, SENDER, METRICS_V1, METRICS_V2, ENTITIES])
}

/// Parcels change hands, so that rows move between the entities above them.
fn events(count: usize) -> Vec<String> {
    let senders = ["ann", "bob", "cid"];
    let mut all = lines(count);
    for (i, line) in all.iter_mut().enumerate() {
        let sender = format!("\"sender\":\"{}\"", senders[(i * 7 + i / 13) % 3]);
        *line = line.replace("\"sender\":\"ann\"", &sender);
    }
    all
}

/// Everything, as the new contracts would have it.
struct Whole(Vec<RecordBatch>);

impl Archive for Whole {
    fn each(
        &self,
        _: &Trimmed,
        table: HistoryTable,
        range: &HistoryRange<'_>,
        take: &mut Take<'_>,
    ) -> Result<(), ArchiveError> {
        let HistoryTable::Family(family) = table else { return Ok(()) };
        let rows = &self.0[family];
        let seqs = rows.column_by_name(column::SEQ).unwrap().as_primitive::<Int64Type>();
        let within = seqs.values().iter().map(|seq| range.after < *seq && *seq <= range.until);
        let mask: BooleanArray = within.map(Some).collect();
        take(&filter_record_batch(rows, &mask).unwrap())
    }
}

fn journal_of(store: &Store, domain: &Domain, after: i64) -> Vec<RecordBatch> {
    let all = Limits { records: 1_000_000, bytes: usize::MAX };
    let rows = |family: &contracts::model::Family| {
        let found = store.readers().rows(family.index, after, i64::MAX, all).unwrap();
        arrow::compute::concat_batches(&family.schema(), &found.batches).unwrap()
    };
    domain.families.iter().map(rows).collect()
}

/// A store and the pipeline into it.
struct Running {
    domain: Arc<Domain>,
    store: Store,
    processor: Processor,
    cache: Cache,
}

impl Running {
    fn over(store: Store, domain: &Arc<Domain>, cut: &Arc<AtomicI64>) -> Self {
        let mut writer = store.writer().unwrap();
        let cut = Arc::clone(cut);
        let followed = move || {
            let last_seq = cut.load(Ordering::Relaxed);
            let complete = Complete { at: 1, last_seq, last_ingest: 0, last_dead_letter: 0 };
            Followed { complete: vec![complete], ..Followed::default() }
        };
        let policy = RetentionPolicy {
            keep_for: Some(Duration::ZERO),
            keep_bytes: None,
            grace: Duration::ZERO,
        };
        writer.retain(Retention { policy, followed: Arc::new(followed) });
        let processor = Processor::new(Arc::clone(domain), Box::new(writer)).unwrap();
        let clock = Arc::new(|| NOW);
        let engine = MetricEngine::with_clock(Arc::clone(domain), store.readers(), clock);
        let cache = Cache::new(Arc::new(engine));
        Self { domain: Arc::clone(domain), store, processor, cache }
    }

    fn apply(&mut self, lines: &[String], offset: usize) {
        let mut bytes = Vec::new();
        let mut records = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            records.push(RawRecord {
                start: bytes.len(),
                len: line.len(),
                offset: (offset + i) as u64,
                arrived_at: 1_800_000_000_000_000,
                tenant: "default".into(),
                tenant_fixed: false,
                attached: Attached::default(),
            });
            bytes.extend_from_slice(line.as_bytes());
        }
        let raw = RawBatch {
            partition: "file:test".into(),
            source: "file",
            bytes,
            records,
            next_offset: (offset + lines.len()) as u64,
            fingerprint: None,
            format: Default::default(),
            claim: None,
        };
        let decoded = Decoder::new(&self.domain).decode(raw);
        let processed = self.processor.process(&[&decoded]).unwrap();
        assert_eq!(processed.counts.accepted, lines.len() as u64);
        self.cache.committed(&processed.committed);
    }

    /// A slice; what the lake has may be on its way for a moment.
    fn slice(&mut self) -> Backfilled {
        loop {
            match self.processor.backfill().unwrap() {
                Backfilled::Waiting => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    /// What the metrics of `domain` say, asked by version.
    fn metrics(&self, domain: &Domain) -> Vec<String> {
        let ask = |metric: &contracts::model::Metric, group_by: Vec<String>| {
            let answer = self.cache.read(&MetricQuestion {
                metric: metric.name.clone(),
                version: Some(metric.version),
                tenant: "default".into(),
                group_by,
                ..Default::default()
            });
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", metric.name));
            let groups = answer.groups.unwrap_or_default();
            let groups: Vec<_> = groups.iter().map(|g| (&g.dimensions, &g.value)).collect();
            format!("{} v{} {:?} {groups:?}", metric.name, metric.version, answer.value)
        };
        let by = |metric: &contracts::model::Metric| -> Vec<String> {
            metric.dimensions.iter().map(|dimension| dimension.name.clone()).collect()
        };
        let metrics = domain.metrics.iter();
        metrics.flat_map(|m| [ask(m, Vec::new()), ask(m, by(m))]).collect()
    }

    /// The rows of the entities of `domain`, with the columns that they have there.
    fn entities(&self, domain: &Domain) -> Vec<String> {
        let readers = self.store.readers();
        let of = |entity: &contracts::model::Entity| {
            let rows = table(&readers, &entity.table(), &entity.schema());
            let mut rows = texts(&entity.table(), &rows);
            rows.sort();
            rows
        };
        domain.entities.iter().flat_map(of).collect()
    }
}

/// A store whose contracts changed, beside one that keeps the old ones.
struct World {
    dir: tempfile::TempDir,
    events: Vec<String>,
    applied: usize,
    archive: Arc<Whole>,
    cut: Arc<AtomicI64>,
    changed: Option<Running>,
    kept: Running,
    fresh: Running,
    new: Arc<Domain>,
    old: Arc<Domain>,
}

impl World {
    fn new(before: usize) -> Self {
        let (old, new) = (old(), new());
        let events = events(260);
        let dir = tempfile::tempdir().unwrap();
        let cut = Arc::new(AtomicI64::new(0));
        let never = Arc::new(AtomicI64::new(0));
        let fresh = Running::over(Store::in_memory(Arc::clone(&new)).unwrap(), &new, &never);
        let mut whole = Running::over(Store::in_memory(Arc::clone(&new)).unwrap(), &new, &never);
        whole.apply(&events, 0);
        let archive = Arc::new(Whole(journal_of(&whole.store, &new, 0)));
        let mut kept = Running::over(Store::in_memory(Arc::clone(&old)).unwrap(), &old, &never);
        let store = Store::open(dir.path(), Arc::clone(&old), StoreOptions::default()).unwrap();
        let mut first = Running::over(store, &old, &never);
        let mut fresh = fresh;
        for running in [&mut kept, &mut first, &mut fresh] {
            running.apply(&events[..before], 0);
        }
        drop(first);
        let (applied, changed) = (before, None);
        let mut world = Self { dir, events, applied, archive, cut, changed, kept, fresh, new, old };
        world.open();
        world
    }

    fn open(&mut self) {
        self.changed = None;
        let options = StoreOptions {
            archive: Some(Arc::clone(&self.archive) as _),
            backfill_beside: true,
            ..StoreOptions::default()
        };
        let store = Store::open(self.dir.path(), Arc::clone(&self.new), options).unwrap();
        self.changed = Some(Running::over(store, &self.new, &self.cut));
    }

    fn changed(&mut self) -> &mut Running {
        self.changed.as_mut().unwrap()
    }

    fn commit(&mut self, count: usize) {
        let until = self.events.len().min(self.applied + count);
        let (from, events) = (self.applied, self.events.clone());
        if until > from {
            for running in [&mut self.kept, &mut self.fresh] {
                running.apply(&events[from..until], from);
            }
            self.changed().apply(&events[from..until], from);
        }
        self.applied = until;
    }

    fn trim(&mut self, part: usize) {
        self.cut.store((self.applied * part / 4) as i64, Ordering::Relaxed);
        while self.changed().processor.tidy().unwrap() {}
    }

    /// What the old contracts say is the same as before.
    #[track_caller]
    fn check_old(&self) {
        let changed = self.changed.as_ref().unwrap();
        same(&changed.metrics(&self.old), &self.kept.metrics(&self.old));
        same(&changed.entities(&self.old), &self.kept.entities(&self.old));
        // Without a version the newest answers that is whole; one that is not says so.
        for (name, first_is_whole) in [("light_moves", true), ("taken", false)] {
            let newest = self.new.metric(name).unwrap();
            let waiting = changed.store.readers().backfilling().metric(newest.index);
            let ask = |version| {
                changed.cache.read(&MetricQuestion {
                    metric: name.into(),
                    version,
                    tenant: "default".into(),
                    ..Default::default()
                })
            };
            match (waiting, ask(Some(newest.version))) {
                (None, Ok(_)) => {
                    assert_eq!(ask(None).unwrap().proof.contract_version, newest.version);
                }
                (Some(progress), Err(ReadError::Backfilling { .. })) => {
                    assert!(progress.done < progress.total, "{progress:?}");
                    match ask(None) {
                        Ok(answer) if first_is_whole => {
                            assert_eq!(answer.proof.contract_version, 1);
                        }
                        Err(ReadError::Backfilling { .. }) if !first_is_whole => {}
                        other => panic!("{other:?}"),
                    }
                }
                (waiting, answer) => panic!("{waiting:?} {answer:?}"),
            }
        }
    }

    /// Everything is as if the new contracts had been there from the beginning.
    #[track_caller]
    fn check_new(&mut self) {
        while self.changed().slice() == Backfilled::Some {}
        for opened_again in [false, true] {
            if opened_again {
                self.open();
            }
            let changed = self.changed.as_ref().unwrap();
            assert_eq!(changed.store.readers().backfilling().all(), None);
            same(&changed.entities(&self.new), &self.fresh.entities(&self.new));
            same(&changed.metrics(&self.new), &self.fresh.metrics(&self.new));
            let after = changed.store.readers().trimmed().map_or(0, |trimmed| trimmed.seq);
            let journals = [&changed.store, &self.fresh.store]
                .map(|store| journal_of(store, &self.new, after));
            for (found, expected) in journals[0].iter().zip(&journals[1]) {
                same(&texts("journal", found), &texts("journal", expected));
            }
            let ingest = [changed, &self.fresh].map(|r| {
                texts("", &table(&r.store.readers(), "ingest", &self.new.ingest.schema()))
            });
            same(&ingest[0], &ingest[1]);
        }
    }
}

#[derive(Debug, Clone)]
enum Happens {
    Commit(usize),
    Slices(usize),
    Trim(usize),
    Reopen,
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let one = prop_oneof![
        3 => (1usize..30).prop_map(Happens::Commit),
        5 => (1usize..9).prop_map(Happens::Slices),
        1 => (1usize..5).prop_map(Happens::Trim),
        1 => Just(Happens::Reopen),
    ];
    proptest::collection::vec(one, 4..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn old_versions_answer_all_the_while_and_new_ones_as_if_they_had_always_been(
        before in 1usize..150,
        happenings in happenings(),
    ) {
        let mut world = World::new(before);
        world.check_old();
        for happens in happenings {
            match happens {
                Happens::Commit(count) => world.commit(count),
                Happens::Slices(count) => for _ in 0..count { world.changed().slice(); },
                Happens::Trim(part) => world.trim(part),
                Happens::Reopen => world.open(),
            }
            world.check_old();
        }
        world.commit(1_000);
        world.check_new();
        world.check_old();
    }
}

/// In the child: events and slices in turns until a fail point ends it.
#[test]
fn backfilling_child() {
    let Ok(dir) = std::env::var("STORE_TEST_BACKFILL") else { return };
    let new = new();
    let options = StoreOptions { backfill_beside: true, ..StoreOptions::default() };
    let store = Store::open(Path::new(&dir), Arc::clone(&new), options).unwrap();
    let mut running = Running::over(store, &new, &Arc::default());
    let events = events(260);
    loop {
        let from = running.processor.last_seq() as usize;
        let until = events.len().min(from + 3);
        if from < until {
            running.apply(&events[from..until], from);
        }
        if running.slice() == Backfilled::Nothing {
            break;
        }
    }
    println!("CHILD DONE");
}

#[test]
fn a_kill_around_a_slice_costs_no_more_than_it() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (old(), new());
    let events = events(260);
    let store = Store::open(dir.path(), Arc::clone(&old), StoreOptions::default()).unwrap();
    Running::over(store, &old, &Arc::default()).apply(&events[..130], 0);
    let path = dir.path().to_str().unwrap();
    let mut left = u64::MAX;
    let points = ["backfill_before_commit", "backfill_after_commit"];
    for hits in [1, 5, 9, 3] {
        for point in points {
            let armed = format!("{point}:{hits}");
            let environment = [("STORE_TEST_BACKFILL", path), (fail_point::VARIABLE, &armed)];
            let output = child("backfill::backfilling_child", &environment);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(!text.contains("CHILD DONE"), "{armed}: {text}");
            // It goes on where it was.
            let options = StoreOptions { backfill_beside: true, ..StoreOptions::default() };
            let store = Store::open(dir.path(), Arc::clone(&new), options).unwrap();
            let all = store.readers().backfilling().all().unwrap();
            assert!(all.total - all.done <= left, "{armed}: {all:?}");
            left = all.total - all.done;
        }
    }
    let environment = [("STORE_TEST_BACKFILL", path)];
    let output = child("backfill::backfilling_child", &environment);
    assert!(String::from_utf8_lossy(&output.stdout).contains("CHILD DONE"), "{output:?}");
    let open = |dir: &Path| Store::open(dir, Arc::clone(&new), StoreOptions::default()).unwrap();
    let found = Running::over(open(dir.path()), &new, &Arc::default());
    let fresh = tempfile::tempdir().unwrap();
    let mut expected = Running::over(open(fresh.path()), &new, &Arc::default());
    expected.apply(&events, 0);
    same(&found.entities(&new), &expected.entities(&new));
    same(&found.metrics(&new), &expected.metrics(&new));
}

#[test]
fn what_was_begun_is_finished_or_forgotten_by_who_opens_it_otherwise() {
    // Finished before anything is read, by a command that does not wait.
    let mut world = World::new(150);
    (0..9).for_each(|_| assert_eq!(world.changed().slice(), Backfilled::Some));
    world.commit(20);
    world.changed = None;
    let opened = Store::open(world.dir.path(), Arc::clone(&world.new), StoreOptions::default());
    world.changed = Some(Running::over(opened.unwrap(), &world.new, &world.cut));
    world.check_new();

    // Forgotten under the contracts from before: they do not know what came in for it meanwhile.
    let mut world = World::new(150);
    (0..9).for_each(|_| assert_eq!(world.changed().slice(), Backfilled::Some));
    world.changed = None;
    let opened = Store::open(world.dir.path(), Arc::clone(&world.old), StoreOptions::default());
    let mut before = Running::over(opened.unwrap(), &world.old, &world.cut);
    same(&before.metrics(&world.old), &world.kept.metrics(&world.old));
    before.apply(&world.events[150..170], 150);
    drop(before);
    for running in [&mut world.kept, &mut world.fresh] {
        running.apply(&world.events[150..170], 150);
    }
    world.applied = 170;
    world.open();
    world.check_old();
    world.check_new();
}

#[test]
fn what_was_begun_under_another_meaning_is_begun_anew() {
    let parcels = |weight: &str| {
        format!(
            "kind: entity\nname: load\nversion: 1\nfrom: [parcel.sent, parcel.moved]\nkey: parcel_id\n\
             fields: {{weight: {weight}}}\n---\n"
        )
    };
    let with = |load: &str| domain(&[DEPOT, PARCEL_V1, PARCEL, load]);
    let (first, then) = (with(&parcels("max(weight)")), with(&parcels("min(weight)")));
    let dir = tempfile::tempdir().unwrap();
    let lines = lines(150);
    process(dir.path(), &domain(&[DEPOT, PARCEL_V1, PARCEL]), &lines);
    let options = || StoreOptions { backfill_beside: true, ..StoreOptions::default() };
    let slices = |domain: &Arc<Domain>, most: usize| {
        let store = Store::open(dir.path(), Arc::clone(domain), options()).unwrap();
        let writer = Box::new(store.writer().unwrap());
        let mut processor = Processor::new(Arc::clone(domain), writer).unwrap();
        (0..most).take_while(|_| processor.backfill().unwrap() == Backfilled::Some).count()
    };
    assert_eq!(slices(&first, 3), 3);
    // The same fields of the same types, made otherwise.
    assert!(slices(&then, usize::MAX) > 3);
    let fresh = tempfile::tempdir().unwrap();
    process(fresh.path(), &then, &lines);
    let expected = dump(&fixture::open(fresh.path(), &then), &then);
    same(&dump(&fixture::open(dir.path(), &then), &then), &expected);
}

#[test]
fn an_entity_that_is_not_whole_is_not_shown() {
    let mut world = World::new(150);
    let ask = |running: &Running, version| {
        let (entity, id, tenant) = ("depot".to_owned(), "Ulm".to_owned(), "default".to_owned());
        let asked = EntityQuestion { entity, version, id, tenant, as_of: None, known_at: None };
        running.cache.entity(&asked)
    };
    assert_eq!(ask(world.changed(), None).unwrap().contract_version, 1);
    assert!(matches!(ask(world.changed(), Some(2)), Err(ReadError::Backfilling { .. })));
    assert!(matches!(ask(world.changed(), Some(3)), Err(ReadError::NotFound { .. })));
    world.check_new();
    let answers = [None, Some(1), Some(2)].map(|version| ask(world.changed(), version).unwrap());
    assert_eq!(answers.map(|answer| answer.contract_version), [2, 1, 2]);
}

#[test]
fn without_the_lake_it_waits() {
    let mut world = World::new(150);
    world.trim(3);
    world.changed = None;
    let options = StoreOptions { backfill_beside: true, ..StoreOptions::default() };
    let store = Store::open(world.dir.path(), Arc::clone(&world.new), options).unwrap();
    let mut running = Running::over(store, &world.new, &world.cut);
    let mut slices = 0;
    while running.processor.backfill().unwrap() == Backfilled::Some {
        slices += 1;
    }
    assert!(slices > 3, "columns need no lake");
    let readers = running.store.readers();
    assert!(readers.backfilling().all().is_some());
    assert!(readers.backfilling().problem().is_some_and(|problem| problem.contains("no lake")));
    same(&running.entities(&world.old)[..1], &world.kept.entities(&world.old)[..1]);
    drop((readers, running));
    world.open();
    world.check_new();
}
