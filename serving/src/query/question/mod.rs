//! Plain questions, by rules over the words of the contracts.
//!
//! ```text
//! text → words → times → metric with dimensions, filters and order
//!                      → or entity by key, list, count or measure of a field
//! ```
//!
//! No word of a domain stands here: names, descriptions of values and synonyms come from the contracts.
//! What always holds: every word that says something is understood, or the question is not answered. A
//! number for half of what was asked would be worse than none.
//!
//! A meaning is a query over metrics, or one statement over entities that goes through the guard like
//! anybody's. Start at [`understand`].

mod entities;
mod meaning;
mod metrics;
mod order;
mod time;
mod vocabulary;
mod words;

use std::cell::Cell;
use std::collections::BTreeSet;

use contracts::model::{Domain, Entity, Metric};

pub use meaning::{Condition, EntityMeaning, Meaning, MetricMeaning, Shape, Span};

use words::Word;

/// Longest question, in words: each may have to be tried in several ways.
const MAX_WORDS: usize = 60;

/// Most ways to read a question: of metrics that share words there are combinations without end.
const TRIES: usize = 500;

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUnderstood {
    /// What is not understood.
    pub message: String,
    /// Metrics and entities that may have been meant, nearest first.
    pub near: Vec<String>,
}

/// What a question asks of a domain at `now` (µs).
pub fn understand(domain: &Domain, text: &str, now: i64) -> Result<Meaning, NotUnderstood> {
    let words = words::words(text);
    if words.is_empty() || words.len() > MAX_WORDS {
        return Err(NotUnderstood {
            message: format!("a question has 1 to {MAX_WORDS} words"),
            near: nearest(domain, &words),
        });
    }
    let asked = Asked { domain, now, joins: words::joins(text), tries: Cell::new(TRIES), text };
    let of_metrics = |words: &[Word]| metrics::find(&asked, words).map(Meaning::Metrics);
    let of_entities = |words: &[Word]| entities::find(&asked, words).map(Meaning::Entity);
    let found = match prefers_entities(&words) {
        true => of_entities(&words).or_else(|| of_metrics(&words)),
        false => of_metrics(&words).or_else(|| of_entities(&words)),
    };
    found.ok_or_else(|| unknown(domain, &words))
}

/// A question and what it is asked of.
struct Asked<'a> {
    domain: &'a Domain,
    now: i64,
    /// Are things joined by commas, `and`, `versus`?
    joins: bool,
    /// How many more ways to read it are tried.
    tries: Cell<usize>,
    text: &'a str,
}

impl<'a> Asked<'a> {
    /// The metrics that answer, each name once.
    fn metrics(&self) -> impl Iterator<Item = &'a Metric> {
        let domain = self.domain;
        domain.metrics.iter().filter(|metric| {
            domain.metric(&metric.name).is_some_and(|newest| newest.index == metric.index)
        })
    }

    /// The entities that answer, each name once.
    fn entities(&self) -> impl Iterator<Item = &'a Entity> {
        let domain = self.domain;
        domain.entities.iter().filter(|entity| {
            domain.entity(&entity.name).is_some_and(|newest| newest.index == entity.index)
        })
    }
}

/// Does the question ask for things rather than for a number?
fn prefers_entities(words: &[Word]) -> bool {
    let lists = ["list", "find", "show", "which", "who", "give", "display", "get"];
    let counts = |low: &str| low == "exist" || low == "exists";
    let first = words.first().map_or("", |word| word.low.as_str());
    let pairs = || words.windows(2).map(|pair| (pair[0].low.as_str(), pair[1].low.as_str()));
    lists.contains(&first)
        || words.iter().any(|word| counts(&word.low) || order::is_superlative(&word.low))
        || pairs().any(|pair| matches!(pair, ("are", "there") | ("we", "have") | ("you", "have")))
        // An identifier.
        || words.iter().any(|w| w.raw.contains('-') && w.raw.contains(|c: char| c.is_ascii_digit()))
}

/// Is every word understood that says something?
fn is_whole(words: &[Word]) -> bool {
    words.iter().all(|word| word.used || words::is_idle(&word.low))
}

fn mark(words: &mut [Word], places: impl IntoIterator<Item = usize>) {
    for place in places {
        words[place].used = true;
    }
}

/// Says which words are not understood, and what is near.
fn unknown(domain: &Domain, words: &[Word]) -> NotUnderstood {
    let known = vocabulary::words_of(domain);
    // What times and orders take up is understood, whatever the rest is.
    let mut timed = words.to_vec();
    time::find(&mut timed, 0, &BTreeSet::new());
    order::find(&mut timed);
    let strange: Vec<String> = timed
        .iter()
        .filter(|word| !word.used && !words::is_idle(&word.low) && !known.contains(&word.norm))
        .filter(|word| !order::joins(&word.low) && word.raw.parse::<f64>().is_err())
        .map(|word| format!("`{}`", word.raw))
        .take(5)
        .collect();
    let message = match strange.is_empty() {
        true => "the question is not understood as a whole".to_owned(),
        false => format!("the contracts say nothing about {}", strange.join(", ")),
    };
    NotUnderstood { message, near: nearest(domain, words) }
}

/// Names of metrics and entities by how many of the question's words they share, then all others.
fn nearest(domain: &Domain, words: &[Word]) -> Vec<String> {
    let score = |phrases: Vec<vocabulary::Phrase>| {
        let shared = |phrase: &vocabulary::Phrase| {
            let telling = phrase.iter().filter(|word| !words::is_idle(&word.low));
            telling.filter(|word| words.iter().any(|w| is_near(&w.norm, &word.norm))).count()
        };
        phrases.iter().map(shared).max().unwrap_or(0)
    };
    let metrics = domain.metrics.iter().map(|m| (score(vocabulary::of_metric(m)), m.name.clone()));
    let entities =
        domain.entities.iter().map(|e| (score(vocabulary::of_entity(e)), e.name.clone()));
    let mut all: Vec<(usize, String)> = metrics.chain(entities).collect();
    all.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    let has_near = all.first().is_some_and(|(score, _)| *score > 0);
    let mut names: Vec<String> = Vec::new();
    for (score, name) in all {
        if (score > 0 || !has_near) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The same, or one begins with the other.
fn is_near(one: &str, other: &str) -> bool {
    let begins = |long: &str, short: &str| short.len() >= 4 && long.starts_with(short);
    one == other || begins(one, other) || begins(other, one)
}
