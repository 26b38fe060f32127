//! Questions to entities: one by its key, lists, counts, and measures of a field.

use contracts::model::{Entity, EntityField, Relation};
use contracts::types::Type;

use super::meaning::{Condition, EntityMeaning, Shape};
use super::metrics::proper_name;
use super::order::{self, Order};
use super::vocabulary::{self, Phrase, is_number};
use super::words::{Word, is_idle, number, phrase};
use super::{Asked, is_whole, mark, time};

/// Rows of "the top …" when no number is said.
const TOP: u64 = 5;

/// The meaning of the words as a question to an entity; `None` when something is not understood.
pub(super) fn find(asked: &Asked<'_>, words: &[Word]) -> Option<EntityMeaning> {
    by_form_of_key(asked, words)
        .or_else(|| asked.entities().find_map(|entity| about(asked, words, entity)))
}

/// A word that has the form of some entity's key: nothing else can be meant by it.
fn by_form_of_key(asked: &Asked<'_>, words: &[Word]) -> Option<EntityMeaning> {
    for (at, word) in words.iter().enumerate() {
        for entity in asked.entities() {
            if vocabulary::is_key(asked.domain, entity, &word.raw) != Some(true) {
                continue;
            }
            let mut left = words.to_vec();
            left[at].used = true;
            for phrase in vocabulary::of_entity(entity) {
                if let Some(places) = vocabulary::place_of(&left, &phrase) {
                    mark(&mut left, places);
                }
            }
            mark_key_words(&mut left, entity);
            if is_whole(&left) {
                return Some(EntityMeaning {
                    entity: entity.name.clone(),
                    shape: Shape::Key(word.raw.clone()),
                    conditions: Vec::new(),
                });
            }
        }
    }
    None
}

/// `id`, `number`, `details` and such, around a key.
fn mark_key_words(words: &mut [Word], entity: &Entity) {
    let key = phrase(&entity.key);
    let around =
        ["id", "key", "count", "detail", "details", "info", "information", "status", "state"];
    for word in words.iter_mut() {
        word.used |= around.contains(&word.norm.as_str())
            || around.contains(&word.low.as_str())
            || key.iter().any(|part| part.norm == word.norm);
    }
}

fn about(asked: &Asked<'_>, words: &[Word], entity: &Entity) -> Option<EntityMeaning> {
    let places = vocabulary::of_entity(entity)
        .iter()
        .filter_map(|phrase| vocabulary::place_of(words, phrase))
        .max_by_key(Vec::len)?;
    let mut left = words.to_vec();
    mark(&mut left, places.iter().copied());
    let end = places.last().map_or(0, |last| last + 1);
    let meaning =
        |shape, conditions| Some(EntityMeaning { entity: entity.name.clone(), shape, conditions });

    // `user USR-10001`
    if let Some(key) = key_at(asked, words, end, entity) {
        left[key].used = true;
        mark_key_words(&mut left, entity);
        return is_whole(&left).then(|| meaning(Shape::Key(words[key].raw.clone()), Vec::new()))?;
    }

    let is_count = counts(&mut left);
    let function = measure(&mut left);
    let order = order::find(&mut left);
    let mut conditions = Vec::new();
    flags(&mut left, entity, &mut conditions);
    comparatives(&mut left, entity, &mut conditions);
    comparisons(&mut left, entity, &mut conditions);
    let by = fields_to_order(&mut left, entity, &order);
    filters(asked, &mut left, entity, &mut conditions);

    if let Some(function) = function.filter(|_| order.down.is_none()) {
        let field =
            entity.fields.iter().filter(|field| is_number(&field.ty)).find_map(|field| {
                let places = placed(&left, &vocabulary::of_field(field))?;
                mark(&mut left, places);
                Some(field.name.clone())
            })?;
        return is_whole(&left).then(|| meaning(Shape::Measure { function, field }, conditions))?;
    }
    if !is_whole(&left) {
        return None;
    }
    if is_count {
        return meaning(Shape::Count, conditions);
    }
    let is_one = places.last().is_some_and(|last| words[*last].low == words[*last].norm);
    let limit = match (&by, order.limit) {
        (_, Some(limit)) => Some(limit),
        (Some(_), None) => Some(if is_one { 1 } else { TOP }),
        (None, None) => None,
    };
    // Only the name of an entity is no question; a list is.
    let lists = ["list", "show", "find", "all", "which", "give", "display", "get"];
    let is_list = words.iter().any(|word| lists.contains(&word.low.as_str()));
    if by.is_none() && conditions.is_empty() && !is_list {
        return None;
    }
    meaning(Shape::Rows { order: by, limit }, conditions)
}

/// A key that stands behind the entity's name.
fn key_at(asked: &Asked<'_>, words: &[Word], end: usize, entity: &Entity) -> Option<usize> {
    let skipped = words[end..]
        .iter()
        .take_while(|word| {
            ["id", "number", "key", "called", "with", "no", "#"].contains(&word.low.as_str())
        })
        .count();
    let at = end + skipped;
    let word = words.get(at)?;
    let has_digit = word.raw.contains(|c: char| c.is_ascii_digit());
    let is_plain_number = word.raw.parse::<f64>().is_ok();
    let is_int = entity.inputs.iter().any(|input| input.key.ty == Type::Int64);
    let may_be = match vocabulary::is_key(asked.domain, entity, &word.raw) {
        Some(fits) => fits,
        None => has_digit && (!is_plain_number || is_int),
    };
    may_be.then_some(at)
}

/// `how many`, `number of`, `count of`.
fn counts(words: &mut [Word]) -> bool {
    for at in 0..words.len() {
        let next = words.get(at + 1).map_or("", |word| word.low.as_str());
        let length = match (words[at].low.as_str(), next) {
            ("how", "many") | ("number", "of") | ("count", "of") => 2,
            ("count", _) if at == 0 => 1,
            _ => continue,
        };
        mark(words, at..at + length);
        for word in words.iter_mut() {
            word.used |= ["exist", "exists"].contains(&word.low.as_str());
        }
        return true;
    }
    false
}

/// `average`, `total`, `maximum`, `minimum`.
fn measure(words: &mut [Word]) -> Option<&'static str> {
    for word in words.iter_mut().filter(|word| !word.used) {
        let function = match (word.norm.as_str(), word.low.as_str()) {
            ("avg", _) => "avg",
            ("max", _) => "max",
            ("min", _) => "min",
            ("sum", _) | (_, "total") => "sum",
            _ => continue,
        };
        word.used = true;
        return Some(function);
    }
    None
}

/// What rows are put in order of.
fn fields_to_order(words: &mut [Word], entity: &Entity, order: &Order) -> Option<(String, bool)> {
    // `cheapest`, `most expensive`
    for word in words.iter_mut().filter(|word| !word.used) {
        let Some(stem) = order::stem(&word.low) else { continue };
        let stem = phrase(&stem);
        let is = |phrases: Vec<Phrase>| phrases.iter().any(|phrase| same(phrase, &stem));
        for field in &entity.fields {
            let (is_high, is_low) =
                (is(vocabulary::of_field(field)), is(vocabulary::against_field(field)));
            if is_high || is_low {
                word.used = true;
                return Some((field.name.clone(), is_high));
            }
        }
    }
    let down = order.down?;
    if order.by_time {
        let is_time = |field: &&EntityField| field.ty == Type::Timestamp;
        let field = entity.fields.iter().find(is_time)?;
        return Some((field.name.clone(), down));
    }
    // Named: `by price`, `highest price`, `most expensive`.
    for field in entity.fields.iter().filter(|field| is_number(&field.ty)) {
        for (phrases, turns) in
            [(vocabulary::of_field(field), false), (vocabulary::against_field(field), true)]
        {
            if let Some(places) = placed(words, &phrases) {
                mark(words, places);
                let by = words.iter().position(|word| word.low == "by" && !word.used);
                mark(words, by);
                return Some((field.name.clone(), down != turns));
            }
        }
    }
    // Something else is named: then it is not this.
    if words.iter().any(|word| word.low == "by" && !word.used) {
        return None;
    }
    let field = entity.fields.iter().find(|field| is_number(&field.ty))?;
    Some((field.name.clone(), down))
}

fn same(one: &[Word], other: &[Word]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.norm == other.norm)
}

fn placed(words: &[Word], phrases: &[Phrase]) -> Option<Vec<usize>> {
    phrases.iter().filter_map(|phrase| vocabulary::place_of(words, phrase)).max_by_key(Vec::len)
}

/// `in stock`, `out of stock`: phrases of what is true or false, before a word of theirs is taken for a number. Right
/// before a comparison they are about the number: `in stock below 20`.
fn flags(words: &mut [Word], entity: &Entity, conditions: &mut Vec<Condition>) {
    for field in entity.fields.iter().filter(|field| field.ty == Type::Bool) {
        let of = vocabulary::of_field(field).into_iter().map(|phrase| (phrase, "true"));
        let against = vocabulary::against_field(field).into_iter().map(|phrase| (phrase, "false"));
        // The contrary first: it may be the longer of two phrases.
        let phrases = against.chain(of).filter(|(phrase, _)| phrase.len() > 1);
        let found = phrases.filter_map(|(phrase, value)| {
            let places = vocabulary::place_of(words, &phrase)?;
            let end = places.last().map_or(0, |last| last + 1);
            let is_negated = places.first().is_some_and(|first| {
                first.checked_sub(1).is_some_and(|before| words[before].low == "not")
            });
            (!is_negated && comparison_at(words, end).is_none()).then_some((places, value))
        });
        let Some((places, value)) = found.max_by_key(|(places, _)| places.len()) else { continue };
        mark(words, places);
        conditions.push(Condition {
            field: field.name.clone(),
            operator: "=",
            value: value.to_owned(),
        });
    }
}

/// The comparison that begins at a place, and how many words it has.
fn comparison_at(words: &[Word], at: usize) -> Option<(&'static str, usize)> {
    let low = |place: usize| words.get(place).map_or("", |word| word.low.as_str());
    Some(match (low(at), low(at + 1)) {
        ("above" | "over" | "exceeding" | "beyond", _) => (">", 1),
        ("more" | "greater" | "higher" | "larger", "than") => (">", 2),
        ("below" | "under", _) => ("<", 1),
        ("less" | "fewer" | "lower" | "smaller", "than") => ("<", 2),
        ("at", "least") => (">=", 2),
        ("at", "most") => ("<=", 2),
        _ => return None,
    })
}

/// `cheaper than 200`, `more expensive than 100`.
fn comparatives(words: &mut [Word], entity: &Entity, conditions: &mut Vec<Condition>) {
    for at in 1..words.len().saturating_sub(1) {
        let Some(value) = words.get(at + 1).filter(|_| words[at].low == "than") else { continue };
        let is_amount = value.raw.parse::<f64>().is_ok_and(f64::is_finite);
        let before = at.checked_sub(2).map_or("", |place| words[place].low.as_str());
        let (stems, turns, first) = match before {
            "more" => (vec![words[at - 1].low.clone()], false, at - 2),
            "less" => (vec![words[at - 1].low.clone()], true, at - 2),
            _ => match words[at - 1].low.strip_suffix("er") {
                // `larger` has a letter that `large` has too, `bigger` one that `big` has not.
                Some(stem) => (vec![stem.to_owned(), format!("{stem}e")], false, at - 1),
                None => continue,
            },
        };
        if !is_amount {
            continue;
        }
        let is = |phrases: Vec<Phrase>| {
            phrases.iter().any(|known| stems.iter().any(|stem| same(known, &phrase(stem))))
        };
        let found = entity.fields.iter().filter(|field| is_number(&field.ty)).find_map(|field| {
            let (high, low) =
                (is(vocabulary::of_field(field)), is(vocabulary::against_field(field)));
            (high || low).then(|| (field.name.clone(), high != turns))
        });
        let Some((field, is_more)) = found else { continue };
        let operator = if is_more { ">" } else { "<" };
        conditions.push(Condition { field, operator, value: value.raw.clone() });
        mark(words, first..at + 2);
    }
}

/// `price above 100`, `with more than 3 orders`, `over 500`.
fn comparisons(words: &mut [Word], entity: &Entity, conditions: &mut Vec<Condition>) {
    for at in 0..words.len() {
        if words[at].used {
            continue;
        }
        let Some((operator, length)) = comparison_at(words, at) else { continue };
        let Some(value) = words.get(at + length).filter(|word| !word.used) else { continue };
        let amount = value.raw.parse::<f64>().ok().filter(|amount| amount.is_finite());
        let Some(value) = amount
            .map(|_| value.raw.clone())
            .or_else(|| number(&value.low).map(|number| number.to_string()))
        else {
            continue;
        };
        // The field may stand before or behind; the nearest counts.
        let numbers = || entity.fields.iter().filter(|field| is_number(&field.ty));
        let named = numbers()
            .filter_map(|field| {
                let places = placed(words, &vocabulary::of_field(field))?;
                let distance = places.iter().map(|place| place.abs_diff(at)).min()?;
                Some((distance, field, places))
            })
            .min_by_key(|(distance, ..)| *distance);
        let (field, places) = match named {
            Some((_, field, places)) => (field.name.clone(), places),
            None => match numbers().next() {
                Some(field) => (field.name.clone(), Vec::new()),
                None => continue,
            },
        };
        mark(words, places);
        mark(words, at..at + length + 1);
        conditions.push(Condition { field, operator, value });
    }
}

/// Conditions on fields: values that contracts name, values behind a field's name, what is true or false.
fn filters(
    asked: &Asked<'_>,
    words: &mut [Word],
    entity: &Entity,
    conditions: &mut Vec<Condition>,
) {
    let equal = |field: &EntityField, value: String| Condition {
        field: field.name.clone(),
        operator: "=",
        value,
    };
    for field in &entity.fields {
        match field.ty {
            // Said already: what says it again, or the contrary, is not understood.
            Type::Bool if conditions.iter().any(|condition| condition.field == field.name) => {}
            Type::Bool => {
                // The contrary first: it may be the longer of two phrases.
                let against = placed(words, &vocabulary::against_field(field));
                if let Some(places) = against {
                    mark(words, places);
                    conditions.push(equal(field, "false".to_owned()));
                } else if let Some(places) = placed(words, &vocabulary::of_field(field)) {
                    let first = places.first().copied().unwrap_or(0);
                    let before = first.checked_sub(1).filter(|at| words[*at].low == "not");
                    mark(words, places);
                    mark(words, before);
                    conditions.push(equal(field, before.is_none().to_string()));
                }
            }
            Type::String => {
                let relation = Relation::Entity(entity.index);
                let known = vocabulary::values_of(asked.domain, relation, &field.name);
                let value = known
                    .iter()
                    .find_map(|value| Some((value, vocabulary::place_of(words, &phrase(value))?)));
                if let Some((value, places)) = value {
                    mark(words, places);
                    if let Some(places) = placed(words, &vocabulary::of_field(field)) {
                        mark(words, places);
                    }
                    conditions.push(equal(field, value.clone()));
                    continue;
                }
                if !known.is_empty() {
                    continue;
                }
                if let Some((places, value)) = behind(asked, words, entity, field) {
                    mark(words, places);
                    conditions.push(equal(field, value));
                }
            }
            _ => {}
        }
    }
}

/// Words that join others, and are no value.
fn is_between(low: &str) -> bool {
    ["by", "per", "each", "every", "with", "without", "above", "below", "over", "under", "to"]
        .contains(&low)
}

/// The value behind a field's name: `category toys`, `from Riga`.
fn behind(
    asked: &Asked<'_>,
    words: &[Word],
    entity: &Entity,
    field: &EntityField,
) -> Option<(std::ops::Range<usize>, String)> {
    let relation = Relation::Entity(entity.index);
    for phrase in vocabulary::of_field(field) {
        for start in 0..words.len() {
            if !vocabulary::stands_at(words, start, &phrase) {
                continue;
            }
            let mut at = start + phrase.len();
            while words
                .get(at)
                .is_some_and(|word| ["is", "of", "the", "called"].contains(&word.low.as_str()))
            {
                at += 1;
            }
            let Some(word) = words.get(at).filter(|word| !word.used) else { continue };
            let fits = vocabulary::fits_pattern(asked.domain, relation, &field.name, &word.raw);
            let is_noun = phrase.iter().any(|word| !is_idle(&word.low));
            let value = match fits {
                Some(true) => Some((word.raw.clone(), 1)),
                Some(false) => None,
                // Behind a noun any word is a value, behind a preposition only a name.
                None => proper_name(asked, words, at).or_else(|| {
                    let is_value = is_noun && !is_idle(&word.low) && !time::names_time(&word.low);
                    let is_value = is_value && !is_between(&word.low);
                    is_value.then(|| (word.raw.clone(), 1))
                }),
            };
            if let Some((value, length)) = value {
                return Some((start..at + length, value));
            }
        }
    }
    None
}
