//! Following changed contracts beside what comes in.
//!
//! When the store is opened, columns are added and tables of new entities are made, and it is noted up
//! to which sequence number there are old rows ([`super::follow`]). From then on whatever is applied
//! comes with everything, so the work left has an end that does not move. The writer does it between
//! batches in slices, each one transaction that also notes how far it is: a process that dies goes on
//! where it was. Nothing that is read meanwhile is changed: columns are named by what they hold, and
//! nobody asks a table that is not whole.
//!
//! An entity is folded by the engine that folds what comes in, from old rows in slices: its state does
//! not depend on the order of its events, so old and new ones may come in turns, and a metric over it
//! waits until the old ones are through. One over another entity takes that entity's rows in the
//! order in which they were last touched; those that it has not had yet are as good as not there
//! ([`pipeline::store::Unfolded`]).
//!
//! With the last slice of a task everything that stood on it, and on nothing that is left, is recorded:
//! that promotes it. Start at [`Writer::backfill_slice`].

mod lake;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use contracts::model::{Domain, Relation, column};
use pipeline::fail_point;
use pipeline::store::{self, EntityRows, StoreError, Stretch, StretchRows, Unfolded};

use self::lake::LakeReader;
use self::progress::State;
pub use self::progress::{BackfillProgress, Backfilling};
use super::contract_state::beside::{Needs, metric_key};
use super::contract_state::{self, Definitions, Fill, Filled, Key, Step};
use super::error::{failed, refused};
use super::fill;
use super::follow::job;
use super::rows;
use super::schema::{column_list, quoted};
use super::wal::Due;
use super::writer::Writer;
use crate::metric::columns_to_fold;

/// What one slice should cost the batches that wait for it.
const SLICE: Duration = Duration::from_millis(6);
/// Sequence numbers in one slice: to begin with, and at most. Tests take many slices with few rows.
const FIRST_SEQS: i64 = if cfg!(test) { 20 } else { 1_024 };
const MOST_SEQS: i64 = if cfg!(test) { 20 } else { 262_144 };
const FEWEST_SEQS: i64 = if cfg!(test) { 20 } else { 64 };
/// How long the lake is left alone after it could not be read.
const LAKE_PAUSE: Duration = Duration::from_secs(5);

/// What is left to do.
pub(super) struct Backfill {
    domain: Arc<Domain>,
    definitions: Definitions,
    tasks: Vec<Task>,
    /// The one that is being done; those before it are.
    current: usize,
    progress: Backfilling,
    seqs: i64,
    began: Instant,
    /// The end of the slice that is being folded.
    slice: i64,
    lake: Option<LakeReader>,
    lake_pause: Option<Instant>,
    /// Whole tenths of the task that were logged.
    told: i64,
}

/// One thing to do.
#[derive(Debug)]
pub(super) struct Task {
    pub work: Work,
    /// Under which it is noted in `contract_fill`.
    pub table: String,
    /// Rows up to this sequence number are done, of those up to that.
    pub done: i64,
    pub until: i64,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Fill columns of a table.
    Fill { relation: Filled, fill: Fill },
    /// Fold the first of these entities, and those above it with it: from events, or from the rows of
    /// the entity `source`.
    Fold { entities: Vec<usize>, source: Option<usize> },
}

impl Task {
    /// The steps that it does.
    fn steps(&self) -> Vec<Step> {
        match &self.work {
            Work::Fill { relation, fill } => {
                vec![Step::Fill { relation: *relation, fill: fill.clone() }]
            }
            Work::Fold { entities, .. } => {
                entities.iter().map(|entity| Step::Rebuild { entity: *entity }).collect()
            }
        }
    }

    /// The definitions of the tables that it makes.
    fn keys(&self, domain: &Domain) -> Vec<Key> {
        match &self.work {
            Work::Fill { relation, .. } => vec![match relation {
                Filled::Family(family) => contract_state::event_key(&domain.families[*family]),
                Filled::Ingest => contract_state::ingest_key(),
                Filled::Entity(entity) => contract_state::entity_key(&domain.entities[*entity]),
            }],
            Work::Fold { entities, .. } => entities
                .iter()
                .map(|entity| contract_state::entity_key(&domain.entities[*entity]))
                .collect(),
        }
    }

    fn progress(&self) -> BackfillProgress {
        BackfillProgress { done: self.done.max(0) as u64, total: self.until.max(0) as u64 }
    }
}

impl Backfill {
    /// The work of `tasks` under `definitions`, all those of the domain.
    pub(super) fn new(domain: Arc<Domain>, tasks: Vec<Task>, definitions: Definitions) -> Self {
        let steps: Vec<Vec<Step>> = tasks.iter().map(Task::steps).collect();
        let on = |needs: &Needs| -> Vec<usize> {
            let stands_on = |task: &usize| steps[*task].iter().any(|step| needs.step(step));
            (0..steps.len()).filter(stands_on).collect()
        };
        let waiting =
            |all: &mut dyn Iterator<Item = (usize, Needs)>| -> BTreeMap<usize, Vec<usize>> {
                all.map(|(index, needs)| (index, on(&needs)))
                    .filter(|(_, on)| !on.is_empty())
                    .collect()
            };
        let metrics = 0..domain.metrics.len();
        let entities = 0..domain.entities.len();
        let state = State {
            tasks: tasks.iter().map(Task::progress).collect(),
            ended: vec![false; tasks.len()],
            metrics: waiting(&mut metrics.map(|m| (m, Needs::of_metric(&domain, m)))),
            entities: waiting(&mut entities.map(|e| (e, Needs::of_entity(&domain, e)))),
            problem: None,
        };
        for (task, progress) in tasks.iter().zip(&state.tasks) {
            let (done, total) = (progress.done, progress.total);
            tracing::info!(table = task.table, done, total, "backfilling beside what comes in");
        }
        Self {
            domain,
            definitions,
            tasks,
            current: 0,
            progress: Backfilling::new(state),
            seqs: FIRST_SEQS,
            began: Instant::now(),
            slice: 0,
            lake: None,
            lake_pause: None,
            told: 0,
        }
    }

    /// The definitions of the domain.
    pub(super) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Where readers look how far it is.
    pub(super) fn progress(&self) -> Backfilling {
        self.progress.clone()
    }

    /// What must not be recorded yet.
    pub(super) fn waiting(&self) -> BTreeSet<Key> {
        let tables = self.tasks[self.current..].iter().flat_map(|task| task.keys(&self.domain));
        let metrics = self.progress.look(|state| state.metrics.keys().copied().collect::<Vec<_>>());
        let metrics = metrics.into_iter().map(|metric| metric_key(&self.domain.metrics[metric]));
        tables.chain(metrics).collect()
    }

    /// Rows of other entities that an entity does not have yet.
    pub(super) fn unfolded(&self) -> Vec<(usize, Unfolded)> {
        self.tasks[self.current..]
            .iter()
            .filter_map(|task| match &task.work {
                Work::Fold { entities, source: Some(_) } => {
                    Some((entities[0], Unfolded { after: task.done, until: task.until }))
                }
                _ => None,
            })
            .collect()
    }

    /// What the end of the current task promotes: the tables' definitions, and the metrics that stand on
    /// nothing else that is left.
    fn promoted(&self) -> Vec<Key> {
        let Some(task) = self.tasks.get(self.current) else { return Vec::new() };
        let metrics = self.progress.look(|state| {
            let ended = |on: &usize| *on == self.current || state.ended[*on];
            let of = |(metric, on): (&usize, &Vec<usize>)| {
                (on.contains(&self.current) && on.iter().all(ended)).then_some(*metric)
            };
            state.metrics.iter().filter_map(of).collect::<Vec<_>>()
        });
        let metrics = metrics.into_iter().map(|metric| metric_key(&self.domain.metrics[metric]));
        task.keys(&self.domain).into_iter().chain(metrics).collect()
    }

    /// Notes in the running transaction that the current task is done up to `slice`.
    fn note(&self, conn: &duckdb::Connection, slice: i64) -> duckdb::Result<()> {
        let Some(task) = self.tasks.get(self.current) else { return Ok(()) };
        if slice < task.until {
            fill::advance(conn, &task.table, slice)?;
        } else {
            fill::forget(conn, &task.table)?;
            for key in self.promoted() {
                contract_state::save(conn, &key, &self.definitions[&key])?;
            }
        }
        fail_point::hit("backfill_before_commit");
        Ok(())
    }

    /// After the commit of [`Self::note`].
    fn noted(&mut self, slice: i64) {
        fail_point::hit("backfill_after_commit");
        let promoted = self.promoted();
        let Some(task) = self.tasks.get_mut(self.current) else { return };
        task.done = slice;
        let (progress, current) = (task.progress(), self.current);
        let ended = task.done >= task.until;
        self.progress.change(|state| {
            state.tasks[current] = progress;
            state.ended[current] = ended;
            state.problem = None;
        });
        let tenths = (progress.percent() / 10) as i64;
        if tenths > self.told {
            self.told = tenths;
            let (done, total) = (progress.done, progress.total);
            tracing::info!(table = task.table, done, total, "backfill");
        }
        if ended {
            let names = promoted.iter().map(|key| match key.version {
                0 => format!("{} {}", key.kind, key.name),
                version => format!("{} {} v{version}", key.kind, key.name),
            });
            let promoted = names.collect::<Vec<_>>().join(", ");
            tracing::info!(table = task.table, promoted, "backfilled");
            (self.current, self.told, self.seqs, self.lake) = (current + 1, 0, FIRST_SEQS, None);
            return;
        }
        // Twice as many or half as many: one slow slice may be the disk's.
        let took = self.began.elapsed();
        if took < SLICE * 2 / 3 {
            self.seqs = (self.seqs * 2).min(MOST_SEQS);
        } else if took > SLICE * 4 / 3 {
            self.seqs = (self.seqs / 2).max(FEWEST_SEQS);
        }
    }
}

impl Writer {
    /// Does one slice, or gives the rows of one to fold.
    pub(super) fn backfill_slice(&mut self) -> Result<store::Backfill, StoreError> {
        self.backfill.began = Instant::now();
        let Some(task) = self.backfill.tasks.get(self.backfill.current) else {
            return Ok(store::Backfill::Nothing);
        };
        match self.wal_due() {
            Due::Nothing => {}
            Due::Checkpoint => {
                // A reader in its way makes it wait for the next one.
                drop(self.checkpoint());
                return Ok(store::Backfill::Done);
            }
            Due::NoRoom => return Ok(store::Backfill::Waiting),
        }
        let (done, until) = (task.done, task.until);
        match &task.work {
            Work::Fill { relation, fill } => {
                // Rows that were given up meanwhile need no columns: the lake's are made when read.
                let given_up = match relation {
                    Filled::Family(_) => self.horizon.get().map_or(0, |trimmed| trimmed.seq),
                    Filled::Ingest | Filled::Entity(_) => 0,
                };
                let done = done.max(given_up.min(until));
                let slice = until.min(done.saturating_add(self.backfill.seqs));
                let backfill = &self.backfill;
                let job =
                    job(relation, fill, &backfill.domain, &self.tables, &backfill.definitions);
                job.step(&self.conn, done, slice, || backfill.note(&self.conn, slice))?;
                self.backfill.noted(slice);
                Ok(store::Backfill::Done)
            }
            Work::Fold { entities, source } => {
                let (entities, source) = (entities.clone(), *source);
                let found = match source {
                    Some(source) => self.touched_rows(source, done, until).map(Some),
                    None => self.old_events(entities[0], done, until),
                };
                let Some((rows, slice)) = found? else { return Ok(store::Backfill::Waiting) };
                self.backfill.slice = slice;
                let left = match source {
                    Some(_) => Unfolded { after: slice, until },
                    None => Unfolded::default(),
                };
                Ok(store::Backfill::Fold(Stretch { entities, rows, left }))
            }
        }
    }

    /// Applies what a slice was folded to.
    pub(super) fn commit_slice(&mut self, rows: &[EntityRows]) -> Result<(), StoreError> {
        let slice = self.backfill.slice;
        self.replace_rows("fold old rows", rows, |writer| {
            writer.backfill.note(&writer.conn, slice)
        })?;
        self.backfill.noted(slice);
        Ok(())
    }

    /// Rows of an entity by the event that touched them last, and up to where they are all.
    fn touched_rows(
        &self,
        entity: usize,
        after: i64,
        until: i64,
    ) -> Result<(StretchRows, i64), StoreError> {
        let table = &self.tables.entities[entity];
        let slice = until.min(after.saturating_add(self.backfill.seqs));
        let fields = table.schema.fields().iter();
        let fields = fields.filter(|field| field.name() != column::STATE).cloned();
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let by = quoted(column::UPDATED_SEQ);
        let rows = self.select(&table.name, &schema, &by, after, slice)?;
        Ok((StretchRows::Entity(entity, rows), slice))
    }

    /// Old events for an entity and up to where they are all; `None` when they are on their way.
    fn old_events(
        &mut self,
        entity: usize,
        after: i64,
        until: i64,
    ) -> Result<Option<(StretchRows, i64)>, StoreError> {
        let domain = Arc::clone(&self.backfill.domain);
        let contract = &domain.entities[entity];
        let mut families: Vec<usize> = contract
            .inputs
            .iter()
            .filter_map(|input| match input.relation {
                Relation::Family(family) => Some(family),
                _ => None,
            })
            .collect();
        families.dedup();
        let mut slice = until.min(after.saturating_add(self.backfill.seqs));
        let trimmed = self.horizon.get().filter(|trimmed| after < trimmed.seq);
        let Some(trimmed) = trimmed else {
            let mut found = Vec::new();
            for family in families {
                let table = &self.tables.families[family];
                let columns = columns_to_fold(contract, family);
                let fields = table.schema.fields().iter();
                let fields = fields.filter(|field| columns.contains(field.name().as_str()));
                let schema = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
                let rows = self.select(&table.name, &schema, column::SEQ, after, slice)?;
                found.push((family, rows));
            }
            return Ok(Some((StretchRows::Events(found), slice)));
        };
        slice = slice.min(trimmed.seq);
        if self.backfill.lake_pause.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        if self.backfill.lake.is_none() {
            let Some(archive) = self.archive() else {
                return self.lake_problem("there is no lake here".to_owned());
            };
            let started = LakeReader::start(archive);
            let started = started.map_err(|e| refused("start a thread", e.to_string()))?;
            self.backfill.lake = Some(started);
        }
        let Some(lake) = &mut self.backfill.lake else { return Ok(None) };
        match lake.take(&trimmed, &families, after) {
            Ok(None) => Ok(None),
            Ok(Some(old)) => {
                let slice = slice.min(old.until);
                Ok(Some((StretchRows::Events(old.within(after, slice)), slice)))
            }
            Err(error) => self.lake_problem(error.to_string()),
        }
    }

    /// The lake cannot be read: it is tried again later.
    fn lake_problem<T>(&mut self, problem: String) -> Result<Option<T>, StoreError> {
        tracing::warn!(problem, "the backfill waits for what the journal has given up");
        self.backfill.lake = None;
        self.backfill.lake_pause = Some(Instant::now() + LAKE_PAUSE);
        self.backfill.progress.change(|state| state.problem = Some(problem));
        Ok(None)
    }

    fn select(
        &self,
        table: &str,
        schema: &SchemaRef,
        by: &str,
        after: i64,
        until: i64,
    ) -> Result<RecordBatch, StoreError> {
        // The bounds stand in the text because DuckDB skips row groups by constants.
        let sql = format!(
            "select {} from {} where {by} > {after} and {by} <= {until}",
            column_list(schema),
            quoted(table)
        );
        rows::query_once(&self.conn, &sql, [], schema)
            .map_err(|e| failed(format!("read old rows of `{table}`"), &e))
    }
}
