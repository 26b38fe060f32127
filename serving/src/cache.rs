//! Answers kept until a commit touches what they stand on.
//!
//! A commit says what it may have moved: of each metric, for which tenant, between which times and for which
//! values of its dimensions ([`moves`]). An entry remembers how far that went before its fill began; it is good
//! while nothing after it concerns the question, and for a live read while it is no older than the contract's
//! `max_age`. So invalidation appends one touch per metric and tenant and looks at no key, an answer about
//! other values or other times holds, and a fill that was overtaken by a commit can never pass for current.
//! Entities have an epoch per relation and tenant in place of that.
//!
//! Of many askers of one question one fills and the others wait for it. A cached answer is exact at
//! its own `computed_at` and position, and says how old it is.
//!
//! Start at [`Cache::read`].

mod moves;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod watched;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use contracts::model::{Domain, Metric, Relation};
use moka::ops::compute::Op;
use pipeline::store::Committed;

use self::moves::{Ground, Moves, Seen};
pub use self::watched::Watched;

use crate::entity::relations_below;
use crate::metric::{MetricEngine, Resolved};
use crate::question::{
    EntityAnswer, EntityQuestion, MetricAnswer, MetricQuestion, Proof, ReadError,
};

/// Most memory that entries take, roughly, in bytes.
const CAPACITY: u64 = 64 * 1024 * 1024;

/// Oldest cached row of an entity whose values change when it closes, µs: the moment of closing is
/// no commit.
const CLOSING_MAX_AGE: i64 = 1_000_000;

/// When an entry is good. All but the first are for comparison: what does it cost to compute every
/// answer, and how stale are answers that only time makes worthless?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Until a commit touches what it stands on.
    #[default]
    Invalidated,
    /// Never.
    Off,
    /// For this long (µs), whatever happens.
    TimeToLive(i64),
}

/// A cache before a [`MetricEngine`].
pub struct Cache {
    engine: Arc<MetricEngine>,
    mode: CacheMode,
    moves: Moves,
    epochs: Epochs,
    metrics: moka::sync::Cache<MetricQuestion, Entry<MetricAnswer, Seen>>,
    entities: moka::sync::Cache<EntityQuestion, Entry<EntityAnswer, u64>>,
    counters: Counters,
    on_shown: OnceLock<OnShown>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Told how long (µs) the oldest record of a metric waited from its arrival until an answer included it.
pub type OnShown = Box<dyn Fn(&Metric, i64) + Send + Sync>;

/// How often what happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Answered from an entry at first sight.
    pub hits: u64,
    /// Not answered at first sight: filled, or waited for another's fill.
    pub misses: u64,
    /// Answered by the engine.
    pub fills: u64,
    /// Metrics of tenants that commits may have moved, and relations of tenants for entities.
    pub invalidations: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    fills: AtomicU64,
    invalidations: AtomicU64,
}

/// An answer and what it stands on.
#[derive(Debug)]
struct Entry<A, M> {
    answer: Arc<A>,
    /// How far commits were before the fill began.
    mark: Arc<M>,
    computed_at: i64,
}

impl<A, M> Clone for Entry<A, M> {
    fn clone(&self) -> Self {
        let (answer, mark) = (self.answer.clone(), self.mark.clone());
        Self { answer, mark, computed_at: self.computed_at }
    }
}

/// Tells whether commits have moved what an answer stands on.
trait Basis {
    /// How far commits were.
    type Mark: Send + Sync + 'static;

    fn mark(&self) -> Self::Mark;
    fn has_moved(&self, since: &Self::Mark, computed_at: i64) -> bool;
}

impl Basis for Ground<&Domain> {
    type Mark = Seen;

    fn mark(&self) -> Seen {
        self.seen()
    }

    fn has_moved(&self, since: &Seen, computed_at: i64) -> bool {
        Ground::has_moved(self, since, computed_at)
    }
}

impl Cache {
    /// An empty cache before `engine`.
    pub fn new(engine: Arc<MetricEngine>) -> Self {
        Self::with_mode(engine, CacheMode::default())
    }

    /// An empty cache of another kind.
    pub fn with_mode(engine: Arc<MetricEngine>, mode: CacheMode) -> Self {
        let moves = Moves::new(engine.domain());
        let epochs = Epochs::new(engine.domain());
        let metrics = moka::sync::Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(|key: &MetricQuestion, entry: &Entry<MetricAnswer, Seen>| {
                saturate(weight_of_question(key) + weight_of_answer(&entry.answer))
            })
            .build();
        let entities = moka::sync::Cache::builder()
            .max_capacity(CAPACITY / 4)
            .weigher(|key: &EntityQuestion, entry: &Entry<EntityAnswer, u64>| {
                let fields = entry.answer.data.iter();
                let fields = fields.map(|(name, value)| name.len() + value.get().len() + 64);
                saturate(
                    key.entity.len()
                        + key.tenant.len()
                        + key.id.len()
                        + 256
                        + fields.sum::<usize>(),
                )
            })
            .build();
        let (counters, on_shown) = (Counters::default(), OnceLock::new());
        Self { engine, mode, moves, epochs, metrics, entities, counters, on_shown }
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Arc<MetricEngine> {
        &self.engine
    }

    /// Answers a question to a metric, from an entry where one is good. May block.
    pub fn read(&self, question: &MetricQuestion) -> Result<MetricAnswer, ReadError> {
        let resolved = self.engine.resolve(question)?;
        let good = self.good(&resolved);
        let fill = || {
            // Before the snapshot: what waits now is in it.
            let waiting = good
                .basis
                .waiting_since()
                .filter(|_| resolved.as_of.is_none() && resolved.known_at.is_none());
            let answer = self.engine.answer(&resolved)?;
            if let (Some(since), Some(told)) = (waiting, self.on_shown.get()) {
                told(resolved.metric, self.engine.now().saturating_sub(since).max(0));
            }
            Ok((answer.computed_at, answer))
        };
        let (entry, cached) = self.find(&self.metrics, resolved.canonical(), &good, fill)?;
        Ok(self.told(&entry, cached))
    }

    /// The same, if an entry is good; `None` if the store has to be asked. Never blocks.
    pub fn read_kept(&self, question: &MetricQuestion) -> Result<Option<MetricAnswer>, ReadError> {
        let resolved = self.engine.resolve(question)?;
        let entry = self.kept(&self.metrics, &resolved.canonical(), &self.good(&resolved));
        Ok(entry.map(|entry| self.told(&entry, true)))
    }

    fn good<'a>(&'a self, resolved: &Resolved<'_>) -> Good<Ground<&'a Domain>> {
        let max_age = match resolved.as_of.or(resolved.known_at) {
            None => Some(resolved.metric.max_age),
            Some(_) => None,
        };
        let basis = self.moves.ground(&**self.engine.domain(), resolved);
        Good { mode: self.mode, basis, max_age, staleness: resolved.max_staleness }
    }

    fn told(&self, entry: &Entry<MetricAnswer, Seen>, cached: bool) -> MetricAnswer {
        let answer = &*entry.answer;
        let age = if cached { (self.engine.now() - entry.computed_at).max(0) } else { 0 };
        MetricAnswer { proof: Proof { cached, age, ..answer.proof.clone() }, ..answer.clone() }
    }

    /// Answers a question to an entity, from an entry where one is good.
    pub fn entity(&self, question: &EntityQuestion) -> Result<EntityAnswer, ReadError> {
        let entity = self.engine.find_entity(&question.entity, question.version)?;
        // The version that was found answers, whatever is promoted meanwhile.
        let question = EntityQuestion { version: Some(entity.version), ..question.clone() };
        crate::metric::check_time("as_of", question.as_of, self.engine.now())?;
        crate::metric::check_time("known_at", question.known_at, self.engine.now())?;
        let relations = relations_below(self.engine.domain(), entity.index);
        let is_live = question.as_of.is_none() && question.known_at.is_none();
        let closes = is_live && entity.closes_after.is_some();
        let epochs = self.epochs.of(&question.tenant);
        let good = Good {
            mode: self.mode,
            basis: Standing { epochs, relations: &relations },
            max_age: closes.then_some(CLOSING_MAX_AGE),
            staleness: None,
        };
        let fill = || {
            let now = self.engine.now();
            Ok((now, self.engine.entity(&question)?))
        };
        let (entry, cached) = self.find(&self.entities, question.clone(), &good, fill)?;
        Ok(EntityAnswer { cached, ..(*entry.answer).clone() })
    }

    /// Must be called after each commit, before it is told to anybody: answers that stand on what it
    /// touched are no longer good.
    pub fn committed(&self, committed: &Committed) {
        let mut moved = self.moves.committed(committed);
        for (relation, tenants) in &committed.touched {
            for tenant in tenants {
                self.epochs.of(tenant).advance(*relation);
                moved += 1;
            }
        }
        self.counters.invalidations.fetch_add(moved, Ordering::Relaxed);
    }

    /// Says whom to tell when an answer first includes what a commit brought. The first one counts.
    pub fn on_shown(&self, told: OnShown) {
        let _ = self.on_shown.set(told);
    }

    /// Counts since the start.
    pub fn stats(&self) -> CacheStats {
        let Counters { hits, misses, fills, invalidations } = &self.counters;
        CacheStats {
            hits: hits.load(Ordering::Relaxed),
            misses: misses.load(Ordering::Relaxed),
            fills: fills.load(Ordering::Relaxed),
            invalidations: invalidations.load(Ordering::Relaxed),
        }
    }

    /// An entry for `key`, if there is a good one.
    fn kept<K, A, B>(
        &self,
        entries: &moka::sync::Cache<K, Entry<A, B::Mark>>,
        key: &K,
        good: &Good<B>,
    ) -> Option<Entry<A, B::Mark>>
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        A: Send + Sync + 'static,
        B: Basis,
    {
        let entry = entries.get(key).filter(|entry| good.holds(entry, self.engine.now()))?;
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
        Some(entry)
    }

    /// A good entry for `key`, filled if there is none; and whether another one filled it.
    fn find<K, A, B>(
        &self,
        entries: &moka::sync::Cache<K, Entry<A, B::Mark>>,
        key: K,
        good: &Good<B>,
        fill: impl FnOnce() -> Result<(i64, A), ReadError>,
    ) -> Result<(Entry<A, B::Mark>, bool), ReadError>
    where
        K: std::hash::Hash + Eq + Send + Sync + 'static,
        A: Send + Sync + 'static,
        B: Basis,
    {
        if let Some(entry) = self.kept(entries, &key, good) {
            return Ok((entry, true));
        }
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        // moka runs these closures one after the other per key, so whoever waited looks again and
        // finds the entry of whoever filled.
        let mut filled = false;
        let result = entries.entry(key).and_try_compute_with(|current| {
            if let Some(current) = current
                && good.holds(current.value(), self.engine.now())
            {
                return Ok(Op::Nop);
            }
            // Before the fill's snapshot: a commit in between has moved the entry.
            let mark = Arc::new(good.basis.mark());
            let (computed_at, answer) = fill()?;
            self.counters.fills.fetch_add(1, Ordering::Relaxed);
            filled = true;
            Ok(Op::Put(Entry { answer: Arc::new(answer), mark, computed_at }))
        })?;
        match result.into_entry() {
            Some(entry) => Ok((entry.into_value(), !filled)),
            None => Err(ReadError::Unavailable { message: "the cache kept no answer".to_owned() }),
        }
    }
}

/// When an entry may be used.
struct Good<B> {
    mode: CacheMode,
    basis: B,
    /// Oldest answer allowed, µs; `None` when time does not change it.
    max_age: Option<i64>,
    /// How old an answer may be whatever has touched it since, µs.
    staleness: Option<i64>,
}

impl<B: Basis> Good<B> {
    fn holds<A>(&self, entry: &Entry<A, B::Mark>, now: i64) -> bool {
        let age = now.saturating_sub(entry.computed_at);
        match self.mode {
            CacheMode::Off => false,
            CacheMode::TimeToLive(longest) => age <= longest,
            CacheMode::Invalidated => {
                let is_untouched = || !self.basis.has_moved(&entry.mark, entry.computed_at);
                match self.staleness {
                    None => self.max_age.is_none_or(|max| age <= max) && is_untouched(),
                    Some(0) => false,
                    Some(most) => {
                        age <= most.min(self.max_age.unwrap_or(most))
                            || (self.max_age.is_none() && is_untouched())
                    }
                }
            }
        }
    }
}

/// What an entity stands on.
struct Standing<'a> {
    epochs: Arc<TenantEpochs>,
    relations: &'a [Relation],
}

impl Basis for Standing<'_> {
    /// Sum of the epochs. They only grow, so the sums are equal only if every epoch is.
    type Mark = u64;

    fn mark(&self) -> u64 {
        self.epochs.sum(self.relations)
    }

    fn has_moved(&self, since: &u64, _: i64) -> bool {
        self.epochs.sum(self.relations) != *since
    }
}

/// Epochs of all relations, by tenant.
#[derive(Debug)]
struct Epochs {
    families: usize,
    relations: usize,
    tenants: RwLock<HashMap<Box<str>, Arc<TenantEpochs>>>,
}

/// Epochs of one tenant: ingest, then the families, then the entities.
#[derive(Debug)]
struct TenantEpochs {
    families: usize,
    epochs: Box<[AtomicU64]>,
}

impl Epochs {
    fn new(domain: &Domain) -> Self {
        let families = domain.families.len();
        let relations = 1 + families + domain.entities.len();
        Self { families, relations, tenants: RwLock::default() }
    }

    fn of(&self, tenant: &str) -> Arc<TenantEpochs> {
        // A panic elsewhere cannot leave the map half changed.
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(epochs) = known.get(tenant) {
            return epochs.clone();
        }
        drop(known);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let epochs = (0..self.relations).map(|_| AtomicU64::new(0)).collect();
            Arc::new(TenantEpochs { families: self.families, epochs })
        };
        tenants.entry(tenant.into()).or_insert_with(new).clone()
    }
}

impl TenantEpochs {
    fn slot(&self, relation: Relation) -> Option<&AtomicU64> {
        self.epochs.get(match relation {
            Relation::Ingest => 0,
            Relation::Family(family) => 1 + family,
            Relation::Entity(entity) => 1 + self.families + entity,
        })
    }

    fn advance(&self, relation: Relation) {
        if let Some(epoch) = self.slot(relation) {
            epoch.fetch_add(1, Ordering::Release);
        }
    }

    fn sum(&self, relations: &[Relation]) -> u64 {
        let slots = relations.iter().filter_map(|relation| self.slot(*relation));
        slots.map(|epoch| epoch.load(Ordering::Acquire)).sum()
    }
}

fn weight_of_question(question: &MetricQuestion) -> usize {
    let group_by = question.group_by.iter().map(|name| name.len() + 32);
    256 + question.metric.len()
        + question.tenant.len()
        + question.filters.weight()
        + question
            .named
            .iter()
            .flatten()
            .flatten()
            .map(|text| 32 + text_length(text))
            .sum::<usize>()
        + group_by.sum::<usize>()
}

fn text_length(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

fn weight_of_answer(answer: &MetricAnswer) -> usize {
    let groups = answer.groups.iter().flatten().flat_map(|group| &group.dimensions);
    512 + groups
        .map(|(name, value)| 96 + name.len() + value.as_ref().map_or(0, String::len))
        .sum::<usize>()
}

fn saturate(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
