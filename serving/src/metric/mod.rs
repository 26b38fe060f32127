//! The metric engine: a question in a contract's terms becomes an answer with its proof.
//!
//! ```text
//! question → check against the contract → one statement per metric that reads rows
//!          → combine ratios and derived metrics → proof → answer
//! ```
//!
//! What always holds: all statements of an answer see one snapshot of the store; integers and
//! decimals are exact; a tenant sees its own rows only; no expression is evaluated here except that
//! of a derived metric, because everything else was evaluated when the event was applied.
//!
//! Windows: a live read covers `[now − w, ∞)`, so an accepted event counts at once, also one that is
//! stamped slightly ahead. `as_of = T` covers `[T − w, T)` and knows only events before `T`;
//! entities are folded again from those ([`past`]). The window `now` has no bounds. `known_at = T` leaves
//! out what was applied after `T` ([`mod@known`]).
//!
//! Start at [`MetricEngine::read`].

mod across;
mod aggregates;
mod beyond;
mod built;
mod check;
mod closed;
mod counted;
mod fetch;
mod followed;
mod groups;
mod kept;
mod known;
mod layout;
mod nearest;
mod past;
mod pieces;
mod proof;
mod rank;
mod sketch;
mod sql;
mod version;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use contracts::model::{Domain, ErrorBound, Metric, Relation};
use duckdb::Connection;

pub(crate) use beyond::{Beyond, Plan, Timed};
pub(crate) use built::{Built, BuiltOf};
pub use check::parse_at;
pub(crate) use check::{FilterValue, Resolved, Test, check_time};
use fetch::fetch;
use groups::Groups;
pub(crate) use groups::{Member, empty_value};
use kept::Kept;
pub(crate) use known::{Known, known};
use layout::{Layout, lay_out};
pub(crate) use nearest::hint;
pub(crate) use past::{Keys, Scope, columns_to_fold, fold, keys_for_one, lowest, rows_to_fold};
use proof::Counted;
pub(crate) use proof::progress;
pub(crate) use sql::quote;

use crate::question::{Group, MetricAnswer, MetricQuestion, Proof, ReadError};
use crate::store::{Backfilling, Readers, Trimmed};
use crate::value::Value;

/// Tells the time, µs UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Answers questions to metrics and entities. All methods block.
pub struct MetricEngine {
    domain: Arc<Domain>,
    readers: Readers,
    clock: Clock,
    behind: OnceLock<Behind>,
}

/// Tells how many source partitions have records that are not applied yet. Asked for each answer: quick.
pub type Behind = Box<dyn Fn() -> usize + Send + Sync>;

impl fmt::Debug for MetricEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricEngine").field("domain", &self.domain.name).finish_non_exhaustive()
    }
}

impl MetricEngine {
    /// An engine over a domain and its store.
    pub fn new(domain: Arc<Domain>, readers: Readers) -> Self {
        Self::with_clock(domain, readers, Arc::new(pipeline::clock::now))
    }

    /// An engine that is told the time.
    pub fn with_clock(domain: Arc<Domain>, readers: Readers, clock: Clock) -> Self {
        Self { domain, readers, clock, behind: OnceLock::new() }
    }

    /// Says who knows of records that wait before the pipeline. The first one counts.
    pub fn on_behind(&self, behind: Behind) {
        let _ = self.behind.set(behind);
    }

    /// The contracts that it answers by.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The store that it reads.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Which metrics and entities are not whole yet.
    pub fn backfilling(&self) -> &Backfilling {
        self.readers.backfilling()
    }

    /// The time, µs.
    pub(crate) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Answers a question from the store.
    pub fn read(&self, question: &MetricQuestion) -> Result<MetricAnswer, ReadError> {
        self.answer(&self.resolve(question)?)
    }

    /// Checks a question against its contract.
    pub(crate) fn resolve<'a>(
        &'a self,
        question: &'a MetricQuestion,
    ) -> Result<Resolved<'a>, ReadError> {
        let metric = self.find_metric(&question.metric, question.version)?;
        check::resolve(metric, question, self.now())
    }

    /// Answers a checked question.
    pub(crate) fn answer(&self, question: &Resolved<'_>) -> Result<MetricAnswer, ReadError> {
        let computed_at = self.now();
        let is_live = question.as_of.is_none() && question.known_at.is_none();
        // It was resolved a little earlier: a live window ends when its answer says that it was computed.
        let reference = if is_live { computed_at } else { question.reference };
        let question = &Resolved { reference, ..question.clone() };
        let metric = question.metric;
        self.settle(question.known_at)?;
        let mut leaves = BTreeSet::new();
        collect_leaves(&self.domain, metric.index, &mut leaves);
        let all_time = question.start().is_none();
        let widest = question.widest();
        let concerns = |trimmed: &Trimmed| {
            all_time
                || question.known_at.is_some()
                || !Plan::of(&self.domain, &widest, &leaves, trimmed).is_empty()
        };
        let settled = self.settled();
        let (layout, components, proof) =
            self.across("read a metric", concerns, |conn, beyond| {
                let Some(beyond) = beyond else {
                    let known = known(conn, question.known_at)?;
                    let progress = progress(conn, computed_at)?;
                    let kept = self.kept(conn, settled)?;
                    let counted = Counted::in_store(conn, kept);
                    let measure = |question: &Resolved<'_>, leaves: &BTreeSet<usize>| {
                        Ok(self.measure(conn, question, leaves, known, kept, None)?.groups)
                    };
                    let Measured { groups, components } =
                        self.measure(conn, question, &leaves, known, kept, None)?;
                    return Ok((
                        lay_out(&self.domain, question, &leaves, groups, &measure)?,
                        components,
                        proof::read(&self.domain, question, known, counted, progress)?,
                    ));
                };
                let known = beyond.known(conn, question.known_at)?;
                let progress = progress(conn, computed_at)?;
                let kept = self.kept(conn, settled)?;
                let plan = Plan::of(&self.domain, &widest, &leaves, &beyond.trimmed);
                let database = match plan.is_empty() {
                    true => None,
                    false => Some(beyond.database(conn, &plan, question.tenant, question.as_of)?),
                };
                let both = database.as_ref().map(|database| (&plan, &**database));
                let place = |is_beyond: bool| match &database {
                    Some(database) if is_beyond => &**database,
                    _ => conn,
                };
                // Of all time up to now it is kept how many there were.
                let before = |count: i64| if all_time && is_live { count } else { 0 };
                let counted = Counted {
                    late: place(plan.late),
                    late_before: before(self.late_before(question, &beyond.trimmed)),
                    rejected: place(plan.letters),
                    rejected_before: before(across::count_of(
                        &beyond.trimmed.letters,
                        question.tenant,
                    )),
                    // It counts what was given up since it began, and who knows when that was.
                    kept: None,
                };
                let measure = |question: &Resolved<'_>, leaves: &BTreeSet<usize>| {
                    Ok(self.measure(conn, question, leaves, known, kept, both)?.groups)
                };
                let Measured { groups, components } =
                    self.measure(conn, question, &leaves, known, kept, both)?;
                Ok((
                    lay_out(&self.domain, question, &leaves, groups, &measure)?,
                    components,
                    proof::read(&self.domain, question, known, counted, progress)?,
                ))
            })?;

        Ok(self.shaped(question, &leaves, layout, components, computed_at, proof))
    }

    /// The values that answer a question, without their proof, in the caller's snapshot as of the time `now`
    /// (µs) and from what the store has: for who compares them with the rows of the same commit. Gives the
    /// value over all groups or the groups, and whether there are groups that are not named.
    pub(crate) fn values_in(
        &self,
        conn: &Connection,
        question: &MetricQuestion,
        now: i64,
    ) -> Result<(Option<Value>, Vec<Group>, bool), ReadError> {
        let metric = self.find_metric(&question.metric, question.version)?;
        let question = check::resolve(metric, question, now)?;
        let mut leaves = BTreeSet::new();
        collect_leaves(&self.domain, metric.index, &mut leaves);
        let known = known(conn, question.known_at)?;
        let kept = self.kept(conn, None)?;
        let measure = |question: &Resolved<'_>, leaves: &BTreeSet<usize>| {
            Ok(self.measure(conn, question, leaves, known, kept, None)?.groups)
        };
        let measured = measure(&question, &leaves)?;
        let layout = lay_out(&self.domain, &question, &leaves, measured, &measure)?;
        Ok((layout.value, layout.groups.unwrap_or_default(), layout.is_short))
    }

    /// The answer of the values that were read.
    fn shaped(
        &self,
        question: &Resolved<'_>,
        leaves: &BTreeSet<usize>,
        layout: Layout,
        components: Option<BTreeMap<String, Value>>,
        computed_at: i64,
        mut proof: Proof,
    ) -> MetricAnswer {
        let metric = question.metric;
        let Layout { value, groups, is_short, previous, read } = layout;
        let parts = groups.is_none().then(|| self.components(metric, &read)).flatten();
        let components = parts.or(components);
        proof.error_bounds = error_bounds(&self.domain, leaves);
        proof.exact = proof.error_bounds.is_empty();
        proof.partitions_behind = self.behind.get().map_or(0, |behind| behind());
        MetricAnswer {
            metric: metric.name.clone(),
            unit: metric.unit.clone(),
            window: question.window.text.clone(),
            value,
            groups,
            groups_truncated: is_short,
            previous,
            components,
            deprecation: metric.deprecation.clone(),
            impossible: closed::impossible(&self.domain, question),
            computed_at,
            proof,
        }
    }

    /// The statements that a question runs, by the metric that reads the rows, with their values in the
    /// text: for people to read. Of a past time they run over entities as they were folded then.
    pub(crate) fn statements(
        &self,
        question: &MetricQuestion,
    ) -> Result<Vec<(String, String)>, ReadError> {
        let resolved = self.resolve(question)?;
        let mut leaves = BTreeSet::new();
        collect_leaves(&self.domain, resolved.metric.index, &mut leaves);
        let questions = [Some(resolved.clone()), resolved.previous()];
        let mut statements = Vec::new();
        for question in questions.into_iter().flatten() {
            for &leaf in &leaves {
                let metric = &self.domain.metrics[leaf];
                let limit = rank::most_read(&question) + 1;
                let query = sql::aggregate(&self.domain, metric, &question, None, limit);
                statements.push((metric.name.clone(), query.inlined()));
            }
        }
        Ok(statements)
    }

    /// Up to which event time every active source partition has delivered, µs.
    pub(crate) fn data_through(&self) -> Result<Option<i64>, ReadError> {
        let now = self.now();
        self.in_snapshot("read source positions", |conn| Ok(progress(conn, now)?.data_through))
    }

    /// Waits until nothing more can become known at that time.
    pub(crate) fn settle(&self, known_at: Option<i64>) -> Result<(), ReadError> {
        let Some(at) = known_at else { return Ok(()) };
        self.readers.settle(at).map_err(|e| ReadError::Unavailable { message: e.to_string() })
    }

    /// Runs `read` in one read-only transaction.
    pub(crate) fn in_snapshot<T>(
        &self,
        context: &str,
        read: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let read = self.readers.snapshot(context, |conn| Ok(read(conn)));
        read.map_err(|error| ReadError::Unavailable { message: error.to_string() })?
    }

    /// The values of the metrics `leaves`, by index, from state where it tells them. `both`: a database with
    /// what the journal has given up, for those that need it.
    fn measure(
        &self,
        conn: &Connection,
        question: &Resolved<'_>,
        leaves: &BTreeSet<usize>,
        known: Option<Known>,
        kept: Kept<'_>,
        both: Option<(&Plan, &Connection)>,
    ) -> Result<Measured, ReadError> {
        let past = match question.as_of.is_some() || known.is_some() {
            true => self.entities_then(conn, both, question, leaves, known)?,
            false => None,
        };
        let limit = rank::most_read(question);
        let mut measured = Measured::default();
        for &leaf in leaves {
            let metric = &self.domain.metrics[leaf];
            let is_beyond = both.is_some_and(|(plan, _)| plan.leaves.contains(&leaf));
            if !is_beyond
                && let Some(groups) =
                    kept.values(conn, &self.domain, metric, question, limit + 1)?
            {
                measured.groups.insert(leaf, groups);
                continue;
            }
            // One more than is shown, to see that there are more.
            let query = sql::aggregate(&self.domain, metric, question, known, limit + 1);
            let conn = match &past {
                Some(past) if entities_of(metric).next().is_some() => past,
                _ => match both {
                    Some((plan, database)) if plan.leaves.contains(&leaf) => database,
                    _ => conn,
                },
            };
            let fetched = fetch(conn, metric, query, question.group_by.len())?;
            measured.groups.insert(leaf, fetched.groups);
            if leaf == question.metric.index {
                measured.components = fetched.components;
            }
        }
        Ok(measured)
    }

    /// A database with the entities that `leaves` read, folded from the events before `as_of` that were
    /// known; `None` when they read none. Those of which events were given up are folded from `both`.
    fn entities_then(
        &self,
        conn: &Connection,
        both: Option<(&Plan, &Connection)>,
        question: &Resolved<'_>,
        leaves: &BTreeSet<usize>,
        known: Option<Known>,
    ) -> Result<Option<Connection>, ReadError> {
        let metrics = || leaves.iter().map(|leaf| &self.domain.metrics[*leaf]);
        let entities: BTreeSet<usize> = metrics().flat_map(entities_of).collect();
        if entities.is_empty() {
            return Ok(None);
        }
        let database = past::database()?;
        for index in entities {
            let entity = &self.domain.entities[index];
            let inputs = metrics()
                .flat_map(|metric| &metric.inputs)
                .filter(|input| input.relation == Relation::Entity(index));
            let keys = past::keys_for_metrics(entity, inputs, question);
            let scope = Scope { tenant: question.tenant, before: question.as_of, known, keys };
            let conn = match both {
                Some((plan, both)) if plan.folds.contains(&index) => both,
                _ => conn,
            };
            let rows = fold(conn, &self.domain, index, &scope)?;
            past::load(&database, entity, &rows)?;
        }
        Ok(Some(database))
    }

    /// The values of the direct parts of a ratio or derived metric.
    fn components(
        &self,
        metric: &Metric,
        read: &BTreeMap<usize, Groups>,
    ) -> Option<BTreeMap<String, Value>> {
        let parts: Vec<&Metric> =
            parts_of(metric).into_iter().map(|part| &self.domain.metrics[part]).collect();
        let of_same_name = |name: &str| parts.iter().filter(|part| part.name == name).count() > 1;
        (!parts.is_empty()).then(|| {
            let value = |part: &&Metric| {
                let mut groups = groups::combine(&self.domain, part, read);
                let value = groups.pop_first().map_or(Value::Null, |(_, value)| value);
                let name = match of_same_name(&part.name) {
                    true => part.versioned_name(),
                    false => part.name.clone(),
                };
                (name, value)
            };
            parts.iter().map(value).collect()
        })
    }
}

/// What the statements of an answer gave.
#[derive(Default)]
struct Measured {
    /// Metrics that read rows, by index.
    groups: BTreeMap<usize, Groups>,
    /// What the value of the metric itself is made of, where it reads rows and is made of something.
    components: Option<BTreeMap<String, Value>>,
}

/// How far off those of `leaves` may be that are estimated.
fn error_bounds(domain: &Domain, leaves: &BTreeSet<usize>) -> Vec<(String, ErrorBound)> {
    let metrics = leaves.iter().map(|leaf| &domain.metrics[*leaf]);
    metrics.filter_map(|m| Some((m.name.clone(), m.measure.error()?))).collect()
}

/// A function that makes a [`ReadError::Unavailable`] of any error.
pub(crate) fn unavailable<E: fmt::Display>(context: &str) -> impl Fn(E) -> ReadError + '_ {
    move |error| ReadError::Unavailable { message: format!("{context}: {error}") }
}

fn parts_of(metric: &Metric) -> Vec<usize> {
    metric.measure.parts()
}

fn collect_leaves(domain: &Domain, metric: usize, leaves: &mut BTreeSet<usize>) {
    let parts = parts_of(&domain.metrics[metric]);
    if parts.is_empty() {
        leaves.insert(metric);
    }
    for part in parts {
        collect_leaves(domain, part, leaves);
    }
}

fn entities_of(metric: &Metric) -> impl Iterator<Item = usize> + '_ {
    metric.inputs.iter().filter_map(|input| match input.relation {
        Relation::Entity(entity) => Some(entity),
        _ => None,
    })
}
