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
//! that promotes it. Start at [`super::Writer::backfill_slice`], in `slices.rs`.

mod lake;
mod progress;
mod slices;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contracts::model::Domain;
use pipeline::fail_point;
use pipeline::store::Unfolded;

use self::lake::LakeReader;
use self::progress::State;
pub use self::progress::{BackfillProgress, Backfilling};
use super::contract_state::beside::{Needs, metric_key};
use super::contract_state::{self, Definitions, Fill, Filled, Key, Step};
use super::fill;

/// What the work of one slice should take, once to twice: longer than its commit, which costs the same for
/// few rows and for many, so that smaller slices would only be more of those.
const WORK: Duration = Duration::from_millis(5);
/// Sequence numbers in one slice: to begin with, and at most; at least where columns are filled, which
/// costs little for each row, and where rows are folded. Tests take many slices with few rows.
const FIRST_SEQS: i64 = if cfg!(test) { 20 } else { 1_024 };
const MOST_SEQS: i64 = if cfg!(test) { 20 } else { 262_144 };
const FEWEST_TO_FILL: i64 = if cfg!(test) { 20 } else { 4_096 };
const FEWEST_TO_FOLD: i64 = if cfg!(test) { 20 } else { 512 };

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
    /// How long the slice took up to its commit.
    worked: Cell<Duration>,
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
            worked: Cell::default(),
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

    /// Is nothing left to do?
    pub(super) fn is_done(&self) -> bool {
        self.current >= self.tasks.len()
    }

    /// What must not be recorded yet.
    pub(super) fn waiting(&self) -> BTreeSet<Key> {
        let tables = self.tasks[self.current..].iter().flat_map(|task| task.keys(&self.domain));
        let metrics = self.progress.look(|state| {
            let waits = |(_, on): &(&usize, &Vec<usize>)| on.iter().any(|task| !state.ended[*task]);
            state.metrics.iter().filter(waits).map(|(metric, _)| *metric).collect::<Vec<_>>()
        });
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
        self.worked.set(self.began.elapsed());
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
        let fewest = match task.work {
            Work::Fill { .. } => FEWEST_TO_FILL,
            Work::Fold { .. } => FEWEST_TO_FOLD,
        };
        let worked = self.worked.get();
        if worked < WORK {
            self.seqs = (self.seqs * 2).min(MOST_SEQS);
        } else if worked > WORK * 2 {
            self.seqs = (self.seqs / 2).max(fewest);
        }
    }
}
