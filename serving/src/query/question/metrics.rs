//! Questions to metrics.

use std::collections::BTreeSet;

use contracts::model::{Dimension, Metric, Period, Relation, Window};
use contracts::types::Type;

use super::meaning::{MetricMeaning, window_or_span};
use super::order::Order;
use super::time::{self, Range, Times};
use super::vocabulary::{self, Phrase};
use super::words::{Word, is_idle};
use super::{Asked, is_whole, mark, order};

/// Most metrics of one question.
const MOST: usize = 4;

/// Rows of "the top …" when no number is said.
const TOP: u64 = 5;

const HOUR: i64 = 3_600_000_000;

/// Before anything that is measured: 1700-01-01, µs.
const BEGINNING: i64 = -8_520_336_000_000_000;

/// The meaning of the words as a question to metrics; `None` when something is not understood.
pub(super) fn find(asked: &Asked<'_>, words: &[Word]) -> Option<MetricMeaning> {
    let mut words = words.to_vec();
    let named = names(asked, &words);
    let times = time::find(&mut words, asked.now, &named);
    choose(asked, &words, &times, &mut Vec::new())
}

/// Places that a name of a metric takes up in one piece: `overall conversion` may be one.
fn names(asked: &Asked<'_>, words: &[Word]) -> BTreeSet<usize> {
    let phrases = asked.metrics().flat_map(vocabulary::of_metric);
    phrases.filter_map(|phrase| vocabulary::place_of(words, &phrase)).flatten().collect()
}

/// A way to read some words as a metric.
struct Reading<'a> {
    metric: &'a Metric,
    places: Vec<usize>,
    /// In one piece?
    is_tight: bool,
}

/// Tries the readings of one more metric, the most telling first.
fn choose<'a>(
    asked: &Asked<'a>,
    words: &[Word],
    times: &Times,
    chosen: &mut Vec<&'a Metric>,
) -> Option<MetricMeaning> {
    for reading in readings(asked, words, chosen) {
        if asked.tries.get() == 0 {
            return None;
        }
        let mut left = words.to_vec();
        mark(&mut left, reading.places.iter().copied());
        chosen.push(reading.metric);
        let found = (asked.joins && chosen.len() < MOST)
            .then(|| choose(asked, &left, times, chosen))
            .flatten()
            .or_else(|| finish(asked, left, times, chosen));
        if found.is_some() {
            return found;
        }
        chosen.pop();
    }
    None
}

fn readings<'a>(asked: &Asked<'a>, words: &[Word], chosen: &[&Metric]) -> Vec<Reading<'a>> {
    let mut readings: Vec<Reading<'a>> = Vec::new();
    for metric in asked.metrics().filter(|m| chosen.iter().all(|known| known.name != m.name)) {
        for phrase in vocabulary::of_metric(metric) {
            let tight = vocabulary::place_of(words, &phrase);
            let is_tight = tight.is_some();
            let telling = phrase.iter().filter(|word| !is_idle(&word.low)).count();
            // One word that stands alone is in one piece anyway.
            let loose = || vocabulary::scattered(words, &phrase).filter(|_| telling > 1);
            if let Some(places) = tight.or_else(loose) {
                readings.push(Reading { metric, places, is_tight });
            }
        }
    }
    readings.sort_by_key(|reading| {
        let first = reading.places.iter().min().copied().unwrap_or(0);
        (std::cmp::Reverse(reading.places.len()), !reading.is_tight, first)
    });
    readings
}

/// Everything but the metrics: order, groups, filters, time.
fn finish(
    asked: &Asked<'_>,
    mut words: Vec<Word>,
    times: &Times,
    metrics: &[&Metric],
) -> Option<MetricMeaning> {
    let left = asked.tries.get().checked_sub(1)?;
    asked.tries.set(left);
    let first = *metrics.first()?;
    let mut dimensions = groups(&mut words, metrics);
    let order = order::find(&mut words);
    let mut filters = std::collections::BTreeMap::new();
    values(asked, &mut words, metrics, &mut filters);
    if order.down.is_some() || asks_which(&words) {
        for dimension in &first.dimensions {
            if dimensions.contains(&dimension.name) || filters.contains_key(&dimension.name) {
                continue;
            }
            if let Some(places) = named(&words, dimension) {
                mark(&mut words, places);
                dimensions.push(dimension.name.clone());
            }
        }
    }
    about_things(asked, &mut words, metrics);
    let is_compared = metrics.len() > 1 || !dimensions.is_empty();
    for word in &mut words {
        let low = word.low.as_str();
        word.used |= (order.down.is_some() && ["by", "with"].contains(&low))
            || (is_compared
                && ["compare", "compared", "comparison", "versus", "vs", "plus"].contains(&low));
    }
    if !is_whole(&words) || order.by_time {
        return None;
    }
    // There are more windows in all time than anybody looks at.
    if times.range == Range::All && times.grain.is_some() {
        return None;
    }
    // An order needs something to put in order.
    if order.down.is_some() && dimensions.is_empty() && times.grain.is_none() {
        return None;
    }
    let left_out = |(dimension, value): (&String, &String)| {
        metrics.iter().any(|m| vocabulary::leaves_out(asked.domain, m, dimension, value))
    };
    if filters.iter().any(left_out) {
        return None;
    }
    let (window, span) = time_of(asked, metrics, times);
    Some(MetricMeaning {
        metrics: metrics.iter().map(|metric| metric.name.clone()).collect(),
        dimensions,
        filters,
        window,
        span,
        grain: times.grain.clone(),
        as_of: times.as_of,
        down: order.down,
        limit: limit(asked, &order),
    })
}

/// The things that the metrics are about may be named beside them: the revenue of orders.
fn about_things(asked: &Asked<'_>, words: &mut [Word], metrics: &[&Metric]) {
    let mut open: Vec<&Metric> = metrics.to_vec();
    while let Some(metric) = open.pop() {
        for input in &metric.inputs {
            let is_of = |entity: &&contracts::model::Entity| match input.relation {
                Relation::Entity(index) => entity.index == index,
                relation => entity.inputs.iter().any(|input| input.relation == relation),
            };
            for phrase in asked.entities().filter(is_of).flat_map(vocabulary::of_entity) {
                if let Some(places) = vocabulary::place_of(words, &phrase) {
                    mark(words, places);
                }
            }
        }
        open.extend(metric.measure.parts().iter().map(|part| &asked.domain.metrics[*part]));
    }
}

/// `top carriers` are some, `which carrier has the most` is one.
fn limit(asked: &Asked<'_>, order: &Order) -> Option<u64> {
    order.down?;
    let is_one = !asked.text.to_lowercase().contains("top");
    Some(order.limit.unwrap_or(if is_one { 1 } else { TOP }))
}

/// The window or span of a question.
fn time_of(
    asked: &Asked<'_>,
    metrics: &[&Metric],
    times: &Times,
) -> (Option<String>, Option<super::Span>) {
    let windows = || metrics.iter().map(|metric| metric.windows.as_slice());
    let only_now = windows().all(|windows| windows.iter().all(Window::is_now));
    let now = || windows().all(|windows| windows.iter().any(Window::is_now));
    if only_now {
        return (Some("now".to_owned()), None);
    }
    let reference = times.as_of.unwrap_or(asked.now);
    match times.range {
        Range::Last(length) => window_or_span(windows(), length, reference),
        Range::Span(from, to) => (None, Some((from, to))),
        Range::All => {
            let all = |window: &Window| window.period == Some(Period::All);
            match windows().all(|windows| windows.iter().any(all)) {
                true => (Some("all".to_owned()), None),
                false => (None, Some((BEGINNING, None))),
            }
        }
        Range::Now if now() => (Some("now".to_owned()), None),
        Range::Now | Range::Unsaid => match &times.grain {
            None => (None, None),
            // As many windows as one looks at.
            Some(grain) => {
                let grain = contracts::parse_duration(grain).unwrap_or(HOUR);
                let count = if grain >= 24 * HOUR { 7 } else { 24 };
                window_or_span(windows(), grain.saturating_mul(count), reference)
            }
        },
    }
}

/// `by city`, `per carrier and origin`, `for each status`.
fn groups(words: &mut [Word], metrics: &[&Metric]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let low = words[at].low.as_str();
        let is_lead = ["by", "per", "each", "every", "across"].contains(&low);
        if words[at].used || !is_lead {
            at += 1;
            continue;
        }
        let mut next = at + 1;
        let mut last = None;
        loop {
            while words.get(next).is_some_and(|word| {
                ["and", "the", "each", "by", "per"].contains(&word.low.as_str())
            }) {
                next += 1;
            }
            let Some((name, length)) = longest(words, next, metrics) else { break };
            mark(words, next..next + length);
            found.push(name);
            next += length;
            last = Some(next);
        }
        if let Some(end) = last {
            mark(words, at..end);
        }
        at = next.max(at + 1);
    }
    // "grouped by", "broken down by", "split by"
    if !found.is_empty() {
        for word in words.iter_mut() {
            let idle = ["grouped", "group", "broken", "down", "split", "breakdown"];
            word.used |= idle.contains(&word.low.as_str());
        }
    }
    found.dedup();
    found
}

/// The dimension of all metrics that is named at a place in the most words.
fn longest(words: &[Word], at: usize, metrics: &[&Metric]) -> Option<(String, usize)> {
    let first = metrics.first()?;
    let mut best: Option<(String, usize)> = None;
    for dimension in &first.dimensions {
        let in_all = metrics.iter().all(|m| m.dimensions.iter().any(|d| d.name == dimension.name));
        if !in_all {
            continue;
        }
        for phrase in nouns(dimension) {
            let longer = best.as_ref().is_none_or(|(_, length)| phrase.len() > *length);
            if longer && vocabulary::stands_at(words, at, &phrase) {
                best = Some((dimension.name.clone(), phrase.len()));
            }
        }
    }
    best
}

/// What a dimension is called, but for words such as `from`, which only stand before a value.
fn nouns(dimension: &Dimension) -> impl Iterator<Item = Phrase> {
    let phrases = vocabulary::of_dimension(dimension).into_iter();
    phrases.filter(|phrase| phrase.iter().any(|word| !is_idle(&word.low)))
}

fn named(words: &[Word], dimension: &Dimension) -> Option<Vec<usize>> {
    nouns(dimension).find_map(|phrase| vocabulary::place_of(words, &phrase))
}

fn asks_which(words: &[Word]) -> bool {
    words.first().is_some_and(|word| ["which", "what", "who"].contains(&word.low.as_str()))
}

/// Values of dimensions: those that contracts name, those behind a dimension's name, and those that only
/// one dimension can have.
fn values(
    asked: &Asked<'_>,
    words: &mut [Word],
    metrics: &[&Metric],
    filters: &mut std::collections::BTreeMap<String, String>,
) {
    let Some(first) = metrics.first() else { return };
    let columns: Vec<(&Dimension, Vec<(Relation, String)>)> =
        first.dimensions.iter().map(|d| (d, columns_of(asked, first, &d.name))).collect();
    // Behind the dimension's name: `city Riga`, `from JFK`.
    for (dimension, columns) in &columns {
        for phrase in vocabulary::of_dimension(dimension) {
            let starts = (0..words.len()).filter(|at| vocabulary::stands_at(words, *at, &phrase));
            let starts: Vec<usize> = starts.collect();
            for start in starts {
                let at = start + phrase.len();
                let is = |at: usize, low: &str| words.get(at).is_some_and(|w| w.low == low);
                let at = at + usize::from(is(at, "is") || is(at, "of") || is(at, "the"));
                let Some((value, length)) = value_at(asked, words, at, dimension, columns) else {
                    continue;
                };
                if !filters.contains_key(&dimension.name) {
                    mark(words, start..at + length);
                    filters.insert(dimension.name.clone(), value);
                }
            }
        }
    }
    // Alone: `pending`, `UA`.
    for (dimension, columns) in &columns {
        if filters.contains_key(&dimension.name) {
            continue;
        }
        let known = columns.iter().flat_map(|(r, c)| vocabulary::values_of(asked.domain, *r, c));
        for value in known {
            if let Some(places) =
                vocabulary::place_of(words, &vocabulary::Phrase::from(super::words::phrase(&value)))
            {
                mark(words, places);
                // The dimension's own name may stand beside it.
                if let Some(places) = named(words, dimension) {
                    mark(words, places);
                }
                filters.insert(dimension.name.clone(), value);
                break;
            }
        }
    }
    for at in 0..words.len() {
        if words[at].used || is_idle(&words[at].low) {
            continue;
        }
        let fits = columns.iter().find(|(dimension, columns)| {
            !filters.contains_key(&dimension.name) && matches(asked, columns, &words[at].raw)
        });
        if let Some((dimension, _)) = fits {
            filters.insert(dimension.name.clone(), words[at].raw.clone());
            words[at].used = true;
            if let Some(places) = named(words, dimension) {
                mark(words, places);
            }
        }
    }
}

/// Where the values of a dimension come from, parts of the metric included.
fn columns_of(asked: &Asked<'_>, metric: &Metric, dimension: &str) -> Vec<(Relation, String)> {
    let mut found = Vec::new();
    let mut open = vec![metric];
    while let Some(metric) = open.pop() {
        let place = metric.dimensions.iter().position(|known| known.name == dimension);
        for input in &metric.inputs {
            if let Some(column) = place.and_then(|place| input.dimensions.get(place)) {
                found.push((input.relation, column.name.clone()));
            }
        }
        open.extend(metric.measure.parts().iter().map(|part| &asked.domain.metrics[*part]));
    }
    found
}

/// Has the text the form that the contracts ask of the column?
fn matches(asked: &Asked<'_>, columns: &[(Relation, String)], text: &str) -> bool {
    let fits =
        columns.iter().filter_map(|(r, c)| vocabulary::fits_pattern(asked.domain, *r, c, text));
    fits.reduce(|one, other| one || other).unwrap_or(false)
}

/// The value that stands at a place, and how many words it has.
fn value_at(
    asked: &Asked<'_>,
    words: &[Word],
    at: usize,
    dimension: &Dimension,
    columns: &[(Relation, String)],
) -> Option<(String, usize)> {
    let word = words.get(at).filter(|word| !word.used)?;
    let known = columns.iter().flat_map(|(r, c)| vocabulary::values_of(asked.domain, *r, c));
    let known: Vec<String> = known.collect();
    for value in &known {
        let phrase = super::words::phrase(value);
        if vocabulary::stands_at(words, at, &phrase) {
            return Some((value.clone(), phrase.len()));
        }
    }
    let has_pattern =
        columns.iter().any(|(r, c)| vocabulary::fits_pattern(asked.domain, *r, c, "").is_some());
    match dimension.ty {
        Type::Bool => ["true", "false"].contains(&word.low.as_str()).then(|| (word.low.clone(), 1)),
        Type::Int64 => word.raw.parse::<i64>().ok().map(|_| (word.raw.clone(), 1)),
        Type::Date => crate::value::parse_date(&word.raw).map(|_| (word.raw.clone(), 1)),
        // The contracts say which values there are, and this is none of them.
        _ if !known.is_empty() => None,
        _ if has_pattern => matches(asked, columns, &word.raw).then(|| (word.raw.clone(), 1)),
        _ => proper_name(asked, words, at),
    }
}

/// A name: words that begin with a capital or a digit, and are not the name of something else.
pub(super) fn proper_name(asked: &Asked<'_>, words: &[Word], at: usize) -> Option<(String, usize)> {
    let is_name = |word: &&Word| {
        !word.used
            && word.raw.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit())
            && !time::names_time(&word.low)
            && !vocabulary::means_something_else(asked.domain, &word.raw)
    };
    let parts: Vec<&str> =
        words[at..].iter().take_while(is_name).map(|word| word.raw.as_str()).collect();
    (!parts.is_empty()).then(|| (parts.join(" "), parts.len()))
}
