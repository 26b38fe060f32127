//! Search over what a tenant has: rows of entities, fields of the catalog, metrics.
//!
//! What always holds: an index knows one tenant only, so no other one's words change a score; personal
//! fields are in no index; a result was read from the store when it is shown; an index takes no part in
//! applying events. It is made when a tenant first asks, and each question first brings it up to the newest
//! commit by reading the rows that were changed since. So what was accepted is found, and where nobody
//! searches nothing is done.
//!
//! Bounded: the newest [`SearchOptions::rows_per_type`] rows of each entity type, and
//! [`SearchOptions::most_documents`] in all indices, of which those go that were not asked for longest. A
//! row beyond that is found by its key.
//! Start at [`Search::ask`].

mod index;
mod rows;
mod tokens;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contracts::model::{Domain, Entity, Metric};
use lru::LruCache;
use pipeline::store::{Journal, StoreError};

use crate::access::Caller;
use crate::metric::MetricEngine;
use crate::store::Readers;
use index::{Found, Index};
use rows::RowReader;

/// How much metrics and fields count beside rows.
const METRIC: f64 = 1.15;
const FIELD: f64 = 0.6;

/// Most indices, whatever their size.
const MOST_TENANTS: usize = 10_000;

/// Pieces of a question that are tried as keys.
const MOST_KEYS: usize = 4;

/// Rows beyond the newest that an index keeps because somebody asked for their keys.
const MOST_BY_KEY: usize = 1_000;

/// Bounds of the indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchOptions {
    /// Most rows of one entity type that an index knows: the newest.
    pub rows_per_type: usize,
    /// Most documents in the indices of all tenants.
    pub most_documents: usize,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { rows_per_type: 10_000, most_documents: 500_000 }
    }
}

/// The indices. All methods block.
#[derive(Debug)]
pub struct Search {
    engine: Arc<MetricEngine>,
    options: SearchOptions,
    tenants: Mutex<LruCache<Arc<str>, Arc<Tenant>>>,
}

/// The index of one tenant.
#[derive(Debug, Default)]
struct Tenant {
    state: Mutex<State>,
    documents: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    classes: Vec<Class>,
    /// Up to this journal sequence number everything is in it.
    position: i64,
}

/// What the documents of a class are.
#[derive(Debug)]
enum Class {
    Rows(Rows),
    Fields { entity: String },
    Metric { name: String },
}

/// Rows of an entity.
#[derive(Debug)]
struct Rows {
    entity: String,
    /// Which version of it.
    number: usize,
    /// `None` when its rows cannot be shown by name.
    reader: Option<RowReader>,
    /// There are more rows than are known.
    is_partial: bool,
    /// Its rows could not be read.
    has_failed: bool,
}

/// A question.
#[derive(Debug, Clone)]
pub struct SearchQuestion<'a> {
    /// What is looked for.
    pub text: &'a str,
    /// Only these entity types and their fields; all of everything when `None`.
    pub entity_types: Option<&'a [String]>,
    /// Most results.
    pub most: usize,
}

/// What a result is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hit {
    /// An entity, by type and key.
    Entity(String, String),
    /// A field of an entity type.
    Field(String, String),
    /// A metric.
    Metric(String),
}

/// The answer to a [`SearchQuestion`].
#[derive(Debug, Clone, Default)]
pub struct SearchAnswer {
    /// What was found, best first, and how well it fits: 1 is the best.
    pub hits: Vec<(Hit, f64)>,
    /// Documents that the caller may see.
    pub documents: usize,
    /// Entity types of which only the newest rows are known.
    pub partial: Vec<String>,
    /// Entity types whose rows could not be read.
    pub failed: Vec<String>,
}

impl Search {
    /// Indices over what `engine` answers from.
    pub fn new(engine: Arc<MetricEngine>, options: SearchOptions) -> Self {
        let most = NonZeroUsize::new(MOST_TENANTS).unwrap_or(NonZeroUsize::MIN);
        Self { engine, options, tenants: Mutex::new(LruCache::new(most)) }
    }

    /// The bounds.
    pub fn options(&self) -> SearchOptions {
        self.options
    }

    /// Rows of these tenants were changed otherwise than by events: their indices are made anew.
    pub fn forget<'a>(&self, tenants: impl IntoIterator<Item = &'a String>) {
        let mut known = lock(&self.tenants);
        for tenant in tenants {
            known.pop(tenant.as_str());
        }
    }

    /// Answers a question with what the caller may see. A row may have gone since it was found: who shows
    /// results reads them and tells [`Self::gone`].
    pub fn ask(
        &self,
        caller: &Caller,
        question: &SearchQuestion<'_>,
    ) -> Result<SearchAnswer, StoreError> {
        let tenant = self.tenant(&caller.tenant);
        let mut state = lock(&tenant.state);
        self.catch_up(&mut state, &caller.tenant)?;
        self.find_by_key(&mut state, caller, question);
        tenant.documents.store(state.index.len(), Ordering::Relaxed);
        let answer = state.answer(self.engine.domain(), caller, question);
        drop(state);
        self.make_room(&caller.tenant);
        Ok(answer)
    }

    /// A row that was found is not there any more.
    pub fn gone(&self, tenant: &str, entity: &str, key: &str) {
        let Some(tenant) = lock(&self.tenants).peek(tenant).cloned() else { return };
        let mut state = lock(&tenant.state);
        let State { index, classes, .. } = &mut *state;
        for (number, class) in classes.iter().enumerate() {
            if matches!(class, Class::Rows(rows) if rows.entity == entity) {
                index.remove(number, key);
            }
        }
    }

    fn tenant(&self, name: &Arc<str>) -> Arc<Tenant> {
        let mut tenants = lock(&self.tenants);
        tenants.get_or_insert(Arc::clone(name), Arc::default).clone()
    }

    /// Drops the indices that were not asked for longest, until the rest is small enough.
    fn make_room(&self, asked: &str) {
        let mut tenants = lock(&self.tenants);
        let count =
            |(_, tenant): (&Arc<str>, &Arc<Tenant>)| tenant.documents.load(Ordering::Relaxed);
        let mut all: usize = tenants.iter().map(count).sum();
        while all > self.options.most_documents && tenants.len() > 1 {
            let Some((name, tenant)) = tenants.pop_lru() else { return };
            if *name == *asked {
                tenants.put(name, tenant);
                continue;
            }
            all = all.saturating_sub(tenant.documents.load(Ordering::Relaxed));
        }
    }

    /// Brings the index up to the newest commit.
    fn catch_up(&self, state: &mut State, tenant: &str) -> Result<(), StoreError> {
        let readers = self.engine.readers();
        // Before rows are read: one that changes meanwhile is read again the next time.
        let position = readers.last_seq()?;
        if !state.is_of(&self.engine) {
            *state = State::new(&self.engine);
        } else if state.position == position && !state.has_failed() {
            return Ok(());
        }
        let since = state.position;
        let State { index, classes, .. } = state;
        for (number, class) in classes.iter_mut().enumerate() {
            if let Class::Rows(rows) = class {
                rows.catch_up(index, number, readers, tenant, since, self.options.rows_per_type);
            }
        }
        // What could not be read stays to be read.
        if !state.has_failed() {
            state.position = position;
        }
        Ok(())
    }

    /// Where only the newest rows are known, the question's pieces are tried as keys.
    fn find_by_key(&self, state: &mut State, caller: &Caller, question: &SearchQuestion<'_>) {
        let whole = question.text.trim();
        let mut keys: Vec<&str> = vec![whole];
        keys.extend(whole.split_whitespace().filter(|piece| *piece != whole).take(MOST_KEYS));
        let State { index, classes, .. } = state;
        for (number, class) in classes.iter().enumerate() {
            let Class::Rows(Rows { reader: Some(reader), is_partial: true, entity, .. }) = class
            else {
                continue;
            };
            if !caller.sees_entity(entity) {
                continue;
            }
            for key in keys.iter().filter(|key| key.len() <= 256) {
                if index.has(number, key) {
                    continue;
                }
                // An index that lacks a row is no reason to answer nothing.
                let found = reader.one(self.engine.readers(), &caller.tenant, key);
                if let Ok(Some(found)) = found {
                    let most = self.options.rows_per_type;
                    if index.count(number) >= most.saturating_add(MOST_BY_KEY) {
                        index.keep_newest(number, most);
                    }
                    index.put(number, &found.key, found.updated, found.words);
                }
            }
        }
    }
}

impl State {
    /// Without rows.
    fn new(engine: &MetricEngine) -> Self {
        let domain = engine.domain();
        let mut state = Self::default();
        for entity in answering(engine) {
            let number = state.index.class(1.0);
            state.classes.push(Class::Rows(Rows {
                entity: entity.name.clone(),
                number: entity.index,
                reader: RowReader::new(domain, entity),
                is_partial: false,
                has_failed: false,
            }));
            debug_assert_eq!(number + 1, state.classes.len());
            let class = state.index.class(FIELD);
            state.classes.push(Class::Fields { entity: entity.name.clone() });
            state.put_fields(class, entity);
        }
        let names: BTreeMap<&str, ()> =
            domain.metrics.iter().map(|m| (m.name.as_str(), ())).collect();
        for metric in names.keys().filter_map(|name| engine.answering(name)) {
            let class = state.index.class(METRIC);
            state.classes.push(Class::Metric { name: metric.name.clone() });
            state.index.put(class, &metric.name, 0, words_of_metric(metric));
        }
        state
    }

    fn put_fields(&mut self, class: usize, entity: &Entity) {
        let none: &[String] = &[];
        let key = (&entity.key, Some("key"), none);
        let fields = entity.fields.iter();
        let fields = fields.map(|f| (&f.name, f.description.as_deref(), f.synonyms.as_slice()));
        for (name, description, synonyms) in std::iter::once(key).chain(fields) {
            let texts = [entity.name.as_str(), name, description.unwrap_or_default()];
            let texts = texts.into_iter().chain(synonyms.iter().map(String::as_str));
            let words: Vec<String> = texts.flat_map(tokens::words).collect();
            self.index.put(class, name, 0, words);
        }
    }

    /// Are its rows those of the versions that answer now?
    fn is_of(&self, engine: &MetricEngine) -> bool {
        let known = self.classes.iter().filter_map(|class| match class {
            Class::Rows(rows) => Some(rows.number),
            _ => None,
        });
        !self.classes.is_empty() && known.eq(answering(engine).iter().map(|entity| entity.index))
    }

    fn has_failed(&self) -> bool {
        self.classes.iter().any(|class| matches!(class, Class::Rows(rows) if rows.has_failed))
    }

    fn answer(
        &self,
        domain: &Domain,
        caller: &Caller,
        question: &SearchQuestion<'_>,
    ) -> SearchAnswer {
        let mut answer = SearchAnswer::default();
        let mut classes = Vec::new();
        for (number, class) in self.classes.iter().enumerate() {
            if !class.is_seen(domain, caller, question.entity_types) {
                continue;
            }
            classes.push(number);
            answer.documents += self.index.count(number);
            if let Class::Rows(rows) = class {
                let name = || rows.entity.clone();
                answer.partial.extend(rows.is_partial.then(name));
                answer.failed.extend(rows.has_failed.then(name));
            }
        }
        let words: Vec<String> = tokens::words(question.text).collect();
        let found = self.index.find(&words, &classes, question.most);
        let best = found.first().map_or(1.0, |found| found.score);
        answer.hits = found
            .into_iter()
            .map(|Found { class, key, score }| {
                let hit = match &self.classes[class] {
                    Class::Rows(rows) => Hit::Entity(rows.entity.clone(), key.into()),
                    Class::Fields { entity } => Hit::Field(entity.clone(), key.into()),
                    Class::Metric { name } => Hit::Metric(name.clone()),
                };
                (hit, score / best)
            })
            .collect();
        answer
    }
}

impl Class {
    /// May the caller see it, and do they ask for it?
    fn is_seen(&self, domain: &Domain, caller: &Caller, types: Option<&[String]>) -> bool {
        match self {
            Self::Rows(Rows { entity, .. }) | Self::Fields { entity } => {
                caller.sees_entity(entity) && types.is_none_or(|types| types.contains(entity))
            }
            Self::Metric { name } => {
                let metric = domain.metric(name);
                types.is_none() && metric.is_some_and(|metric| caller.sees_metric(domain, metric))
            }
        }
    }
}

impl Rows {
    fn catch_up(
        &mut self,
        index: &mut Index,
        class: usize,
        readers: &Readers,
        tenant: &str,
        since: i64,
        most: usize,
    ) {
        let Some(reader) = &self.reader else { return };
        let backfilling = readers.backfilling().entity(self.number).is_some();
        // One more than is kept tells that there are more.
        let changed = match backfilling {
            true => None,
            false => match reader.changed(readers, tenant, since, most.saturating_add(1)) {
                Ok(changed) => Some(changed),
                Err(error) => {
                    tracing::warn!(entity = self.entity, %error, "rows are not searched");
                    None
                }
            },
        };
        self.has_failed = changed.is_none();
        for row in changed.into_iter().flatten() {
            index.put(class, &row.key, row.updated, row.words);
        }
        self.is_partial |= index.keep_newest(class, most);
    }
}

/// The entities that answer, in order of name.
fn answering(engine: &MetricEngine) -> Vec<&Entity> {
    let mut names: Vec<&str> =
        engine.domain().entities.iter().map(|entity| entity.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().filter_map(|name| engine.answering_entity(name)).collect()
}

fn words_of_metric(metric: &Metric) -> Vec<String> {
    let description = metric.description.as_deref().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    // The name says most.
    for text in [&metric.name, &metric.name, description, &metric.unit, "metric"] {
        words.extend(tokens::words(text));
    }
    words.extend(metric.synonyms.iter().flat_map(|synonym| tokens::words(synonym)));
    for dimension in &metric.dimensions {
        words.extend(tokens::words(&dimension.name));
    }
    words
}

/// A panic of another reader may leave an index half changed; what is shown is read from the store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
