//! What commits may have moved of each metric, kept so long that entries can ask.
//!
//! For each tenant every metric with rows of its own has a log of touches, and every family one of the times of
//! its events. A commit appends; nothing looks for entries. An entry remembers how far it has looked, and looks
//! at what came since: at most [`KEPT`] touches, the older ones brought together, which may say too much and
//! never too little. Start at [`Ground`].

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use contracts::model::{Domain, Metric, Relation};
use pipeline::store::Committed;
use pipeline::touch::{self, ALWAYS, Touch, Values};

use crate::entity::relations_below;
use crate::metric::{FilterValue, Resolved, Test};

/// Touches of one log that are kept apart.
const KEPT: usize = 64;

/// Logs of all tenants.
#[derive(Debug)]
pub(super) struct Moves {
    plan: Arc<Plan>,
    tenants: RwLock<HashMap<Box<str>, Arc<TenantMoves>>>,
}

/// What each metric stands on.
#[derive(Debug)]
struct Plan {
    metrics: Vec<Stands>,
    families: usize,
    /// Metrics with rows of their own, by relation.
    on: HashMap<Relation, Vec<usize>>,
}

/// What one metric stands on.
#[derive(Debug, Default)]
struct Stands {
    /// The metrics with rows of their own that it is made of, itself if it has some.
    leaves: Box<[usize]>,
    /// For an answer of a past time: the families below the entities that it reads.
    below: Box<[usize]>,
}

/// Logs of one tenant: one for each metric, then one for each family.
#[derive(Debug)]
pub(super) struct TenantMoves {
    plan: Arc<Plan>,
    logs: Box<[Log]>,
}

#[derive(Debug, Default)]
struct Log {
    /// Number of touches so far.
    count: AtomicU64,
    recent: Mutex<VecDeque<Recent>>,
    /// Arrival (µs) of the oldest record that no answer includes yet; 0: there is none.
    waiting_since: AtomicI64,
}

/// One touch, or several that were brought together: up to this number.
#[derive(Debug)]
struct Recent {
    until: u64,
    touch: Touch,
}

/// What an answer stands on.
#[derive(Debug)]
pub(super) struct Ground<D> {
    domain: D,
    tenant: Arc<TenantMoves>,
    metric: usize,
    /// Times (µs) that the window covers, the end excluded.
    window: (i64, i64),
    /// When it covers these, where it moves with time: µs.
    moves_with: Option<i64>,
    /// Before this time (µs) events count, where a past time was asked for.
    as_of: Option<i64>,
    filters: Vec<Wanted>,
}

/// The hashes of the values that a dimension may have.
#[derive(Debug)]
struct Wanted {
    dimension: String,
    hashes: Vec<u64>,
}

/// How far an entry has looked, log by log.
#[derive(Debug)]
pub(super) struct Seen(Box<[AtomicU64]>);

impl Moves {
    pub(super) fn new(domain: &Domain) -> Self {
        let metrics = domain.metrics.iter().map(|metric| Stands::of(domain, metric)).collect();
        let mut on: HashMap<Relation, Vec<usize>> = HashMap::new();
        for metric in &domain.metrics {
            for input in &metric.inputs {
                let list = on.entry(input.relation).or_default();
                if !list.contains(&metric.index) {
                    list.push(metric.index);
                }
            }
        }
        let plan = Plan { metrics, families: domain.families.len(), on };
        Self { plan: Arc::new(plan), tenants: RwLock::default() }
    }

    fn of(&self, tenant: &str) -> Arc<TenantMoves> {
        // A panic elsewhere cannot leave the map half changed.
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(moves) = known.get(tenant) {
            return moves.clone();
        }
        drop(known);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let logs = self.plan.metrics.len() + self.plan.families;
            let logs = (0..logs).map(|_| Log::default()).collect();
            Arc::new(TenantMoves { plan: Arc::clone(&self.plan), logs })
        };
        tenants.entry(tenant.into()).or_insert_with(new).clone()
    }

    /// Appends what a commit may have moved; how many touches that were.
    pub(super) fn committed(&self, committed: &Committed) -> u64 {
        let mut count = 0;
        let Some(touches) = &committed.touches else {
            for (relation, tenants) in &committed.touched {
                for tenant in tenants {
                    count += self.of(tenant).everything(*relation);
                }
            }
            return count;
        };
        for touch in &touches.metrics {
            let tenant = self.of(&touch.tenant);
            if let Some(log) = tenant.logs.get(touch.metric) {
                log.push(touch.clone());
                log.wait_since(committed.arrived_at);
                count += 1;
            }
        }
        for (family, tenant, times) in &touches.families {
            let moves = self.of(tenant);
            if let Some(log) = moves.logs.get(self.plan.metrics.len() + family) {
                let values = Vec::new();
                log.push(Touch {
                    metric: *family,
                    tenant: Arc::clone(tenant),
                    times: *times,
                    values,
                });
            }
        }
        count
    }

    /// What an answer to the question stands on.
    pub(super) fn ground<D>(&self, domain: D, question: &Resolved<'_>) -> Ground<D> {
        let end = match (question.span, question.as_of) {
            (Some((_, to)), Some(as_of)) => to.min(as_of),
            (Some((_, to)), None) => to,
            (None, Some(as_of)) if !question.window.is_now() => as_of,
            (None, _) => i64::MAX,
        };
        let is_live =
            question.span.is_none() && question.as_of.is_none() && question.known_at.is_none();
        let wanted = question.filters.iter().filter_map(|filter| {
            let hashes = match &filter.test {
                Test::In { values, or_none } => {
                    let hashes = values.iter().map(hash);
                    hashes.chain(or_none.then_some(touch::HASH_OF_NONE)).collect()
                }
                // Nearly any value may fit the others.
                _ => return None,
            };
            Some(Wanted { dimension: filter.dimension.name.clone(), hashes })
        });
        let mut ground = Ground {
            domain,
            tenant: self.of(question.tenant),
            metric: question.metric.index,
            window: (question.widest().start().unwrap_or(i64::MIN), end),
            moves_with: is_live.then_some(question.reference),
            as_of: question.as_of,
            filters: wanted.collect(),
        };
        if is_live && question.window.period.is_some() {
            // The entry may be of the period before.
            ground.window.0 = i64::MIN;
        }
        ground
    }
}

impl Stands {
    fn of(domain: &Domain, metric: &Metric) -> Self {
        let mut leaves = BTreeSet::new();
        collect(domain, metric.index, &mut leaves);
        let entities = leaves.iter().flat_map(|leaf| &domain.metrics[*leaf].inputs);
        let entities = entities.filter_map(|input| match input.relation {
            Relation::Entity(entity) => Some(entity),
            _ => None,
        });
        let below = entities.flat_map(|entity| relations_below(domain, entity));
        let below: BTreeSet<usize> = below
            .filter_map(|relation| match relation {
                Relation::Family(family) => Some(family),
                _ => None,
            })
            .collect();
        Self { leaves: leaves.into_iter().collect(), below: below.into_iter().collect() }
    }
}

fn collect(domain: &Domain, metric: usize, leaves: &mut BTreeSet<usize>) {
    let Some(found) = domain.metrics.get(metric) else { return };
    if !found.inputs.is_empty() {
        leaves.insert(metric);
    }
    found.measure.parts().into_iter().for_each(|part| collect(domain, part, leaves));
}

impl TenantMoves {
    /// Anything of a relation may have moved.
    fn everything(&self, relation: Relation) -> u64 {
        let metrics = self.plan.on.get(&relation).map_or(&[][..], Vec::as_slice);
        let families = match relation {
            Relation::Family(family) => Some(self.plan.metrics.len() + family),
            _ => None,
        };
        for log in metrics.iter().copied().chain(families) {
            if let Some(log) = self.logs.get(log) {
                // Of whatever metric: it has no values to tell apart.
                let (tenant, values) = (Arc::from(""), Vec::new());
                log.push(Touch { metric: 0, tenant, times: ALWAYS, values });
            }
        }
        metrics.len() as u64
    }
}

impl Log {
    fn push(&self, touch: Touch) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.count.load(Ordering::Relaxed) + 1;
        recent.push_back(Recent { until, touch });
        if recent.len() > KEPT
            && let (Some(first), Some(second)) = (recent.pop_front(), recent.front_mut())
        {
            second.touch = first.touch.and(&second.touch);
        }
        // Within the lock: whoever sees the count finds the touch.
        self.count.store(until, Ordering::Release);
    }

    /// Has one of those after `seen` this property?
    fn has_since(&self, seen: u64, property: impl Fn(&Touch) -> bool) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = recent.iter().rev().take_while(|recent| recent.until > seen);
        newer.map(|recent| &recent.touch).any(property)
    }

    fn wait_since(&self, arrived_at: i64) {
        // Whoever was there first waits longest.
        let _ = self.waiting_since.compare_exchange(
            0,
            arrived_at,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

impl<D: Borrow<Domain>> Ground<D> {
    fn logs(&self) -> impl Iterator<Item = (&Log, Option<usize>)> {
        let stands = self.tenant.plan.metrics.get(self.metric);
        let below = stands.filter(|_| self.as_of.is_some()).map_or(&[][..], |stands| &stands.below);
        let metrics = self.tenant.plan.metrics.len();
        let leaves = stands.map_or(&[][..], |stands| &stands.leaves);
        let leaves = leaves.iter().map(|leaf| (*leaf, Some(*leaf)));
        let below = below.iter().map(move |family| (metrics + family, None));
        let logs = leaves.chain(below);
        logs.filter_map(|(log, leaf)| Some((self.tenant.logs.get(log)?, leaf)))
    }

    /// How far the logs are: to be asked before an answer is computed.
    pub(super) fn seen(&self) -> Seen {
        Seen(
            self.logs().map(|(log, _)| AtomicU64::new(log.count.load(Ordering::Acquire))).collect(),
        )
    }

    /// May a commit have moved the answer that was computed at `computed_at` (µs), over the window as it was
    /// then? What did not is not looked at again.
    pub(super) fn has_moved(&self, seen: &Seen, computed_at: i64) -> bool {
        let later = self.moves_with.map_or(0, |now| now.saturating_sub(computed_at).max(0));
        let window = (self.window.0.saturating_sub(later), self.window.1);
        for ((log, leaf), seen) in self.logs().zip(&seen.0) {
            let count = log.count.load(Ordering::Acquire);
            let looked = seen.load(Ordering::Relaxed);
            if count == looked {
                continue;
            }
            if log.has_since(looked, |touch| self.may_move(touch, leaf, window)) {
                return true;
            }
            // Another one may have looked further.
            seen.fetch_max(count, Ordering::Relaxed);
        }
        false
    }

    fn may_move(&self, touch: &Touch, leaf: Option<usize>, (from, to): (i64, i64)) -> bool {
        let (first, last) = touch.times;
        let Some(leaf) = leaf else {
            // An event before the time asked for changes what its entity was then.
            return self.as_of.is_none_or(|as_of| first < as_of);
        };
        if last < from || first >= to {
            return false;
        }
        let Some(metric) = self.domain.borrow().metrics.get(leaf) else { return true };
        self.filters.iter().all(|wanted| {
            let place = metric.dimensions.iter().position(|d| d.name == wanted.dimension);
            let values = place.and_then(|place| touch.values.get(place)).unwrap_or(&Values::All);
            wanted.hashes.iter().any(|hash| values.may_have(*hash))
        })
    }

    /// Arrival (µs) of the oldest record that no answer of the metric included so far. Whoever asks includes
    /// it.
    pub(super) fn waiting_since(&self) -> Option<i64> {
        let leaves = self.logs().filter(|(_, leaf)| leaf.is_some());
        let waiting = leaves.map(|(log, _)| log.waiting_since.swap(0, Ordering::Relaxed));
        waiting.filter(|arrived_at| *arrived_at > 0).min()
    }
}

fn hash(value: &FilterValue) -> u64 {
    match value {
        FilterValue::Text(text) => touch::hash_text(text),
        FilterValue::Bool(value) => touch::hash_bool(*value),
        FilterValue::Int(value) => touch::hash_int(*value),
        FilterValue::Date(days) => touch::hash_date(*days),
    }
}
