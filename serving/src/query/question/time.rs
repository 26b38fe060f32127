//! Times in plain questions: windows that end now, days, spans, and into what they are cut.

use std::collections::BTreeSet;

use super::words::{Word, number};
use crate::value::{parse_moment, parse_time};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1970-01-05 was a Monday.
const MONDAY: i64 = 4 * DAY;

/// What a question says about time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// The time asked about.
    pub(super) range: Range,
    /// Into windows of this length, as contracts write it.
    pub(super) grain: Option<String>,
    /// Only events before it have happened, µs.
    pub(super) as_of: Option<i64>,
}

/// The time asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Range {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// This long, until now, µs.
    Last(i64),
    /// What holds at the moment.
    Now,
    /// All there was.
    All,
    /// From and to, µs; no end: until now and on.
    Span(i64, Option<i64>),
}

/// Does a word (in small letters) stand for a time? Such a word names nothing else, whether what it says is
/// understood or not: the revenue of March is not that of a town of that name.
pub(super) fn names_time(low: &str) -> bool {
    const NAMES: [&str; 40] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "christmas",
        "easter",
        "q1",
        "q2",
        "q3",
        "q4",
        "h1",
        "h2",
        "ytd",
    ];
    let is_year = low.len() == 4 && (low.starts_with("19") || low.starts_with("20"));
    NAMES.contains(&low) || (is_year && low.bytes().all(|digit| digit.is_ascii_digit()))
}

/// A length of time as contracts write it.
pub(super) fn text_of(length: i64) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")];
    let unit = units.iter().find(|(unit, _)| length % unit == 0);
    match unit {
        Some((unit, name)) => format!("{}{name}", length / unit),
        None => format!("{}s", length / SECOND),
    }
}

/// Finds what the words say about time and marks it as understood. `now` in µs; `named`: places that are parts of
/// names, where words such as `overall` say nothing about time.
pub(super) fn find(words: &mut [Word], now: i64, named: &BTreeSet<usize>) -> Times {
    let mut times = Times::default();
    let mut at = 0;
    while at < words.len() {
        let rest = &words[at..];
        let taken = grain(rest, &mut times)
            .or_else(|| last(rest, &mut times))
            .or_else(|| {
                let count = ever(rest)?;
                if named.range(at..at + count).next().is_some() {
                    return None;
                }
                // What says a span besides, says it.
                if times.range == Range::Unsaid {
                    times.range = Range::All;
                }
                Some(count)
            })
            .or_else(|| day(rest, now, &mut times))
            .or_else(|| dates(rest, &mut times));
        match taken {
            Some(count) => {
                words[at..at + count].iter_mut().for_each(|word| word.used = true);
                at += count;
            }
            None => at += 1,
        }
    }
    times
}

/// `per hour`, `by day`, `every 15 minutes`, `hourly`.
fn grain(words: &[Word], times: &mut Times) -> Option<usize> {
    let adverb = match words[0].low.as_str() {
        "minutely" => Some(MINUTE),
        "hourly" => Some(HOUR),
        "daily" => Some(DAY),
        "weekly" => Some(WEEK),
        _ => None,
    };
    if let Some(length) = adverb {
        times.grain = Some(text_of(length));
        return Some(1);
    }
    if !["per", "by", "each", "every"].contains(&words[0].low.as_str()) {
        return None;
    }
    let skipped = 1 + usize::from(words.get(1).is_some_and(|word| word.low == "the"));
    let (length, count) = length(&words[skipped..])?;
    times.grain = Some(text_of(length));
    Some(skipped + count)
}

/// `last 15 minutes`, `past hour`, `previous 7 days`.
fn last(words: &[Word], times: &mut Times) -> Option<usize> {
    let lead = words
        .iter()
        .take_while(|word| {
            ["in", "over", "during", "for", "within", "the", "of"].contains(&word.low.as_str())
        })
        .count();
    let word = words.get(lead)?;
    if !["last", "past", "previous", "trailing", "recent"].contains(&word.low.as_str()) {
        return None;
    }
    let (length, count) = length(&words[lead + 1..])?;
    times.range = Range::Last(length);
    Some(lead + 1 + count)
}

/// A number and a unit: `15 minutes`, `two hours`, `24h`, `hour`. How many words it has.
fn length(words: &[Word]) -> Option<(i64, usize)> {
    let first = &words.first()?.low;
    if let Some(unit) = unit(first) {
        return Some((unit, 1));
    }
    let half = first == "half";
    let (count, skipped) = match half {
        true => (
            1,
            1 + usize::from(words.get(1).is_some_and(|w| ["a", "an"].contains(&w.low.as_str()))),
        ),
        false => match number(first) {
            Some(count) => (i64::try_from(count).ok()?, 1),
            None => {
                let digits = first.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
                let count: i64 = first[..digits].parse().ok()?;
                let length = count.checked_mul(unit(&first[digits..])?)?;
                return (length > 0).then_some((length, 1));
            }
        },
    };
    let unit = unit(&words.get(skipped)?.low)?;
    let length = count.checked_mul(unit)? / if half { 2 } else { 1 };
    (length > 0 && length <= 3_660 * DAY).then_some((length, skipped + 1))
}

fn unit(low: &str) -> Option<i64> {
    Some(match low {
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => WEEK,
        _ => return None,
    })
}

/// `in total`, `of all time`, `so far`, `ever`: how many words that takes.
fn ever(words: &[Word]) -> Option<usize> {
    let low = |place: usize| words.get(place).map_or("", |word| word.low.as_str());
    let lead = usize::from(["in", "of", "for", "over"].contains(&low(0)));
    let count = match (low(lead), low(lead + 1)) {
        ("all", "time") => 2,
        ("total", _) if low(0) == "in" => 1,
        ("overall" | "altogether" | "ever", _) => 1,
        ("so", "far") => 2,
        ("to", "date") => 2,
        _ => return None,
    };
    Some(lead + count)
}

/// `today`, `yesterday`, `this hour`, `right now`.
fn day(words: &[Word], now: i64, times: &mut Times) -> Option<usize> {
    let low = |place: usize| words.get(place).map_or("", |word| word.low.as_str());
    let midnight = now - now.rem_euclid(DAY);
    let (range, count) = match (low(0), low(1)) {
        ("today", _) => (Range::Span(midnight, None), 1),
        ("yesterday", _) => (Range::Span(midnight - DAY, Some(midnight)), 1),
        ("this", "minute") => (Range::Span(now - now.rem_euclid(MINUTE), None), 2),
        ("this", "hour") => (Range::Span(now - now.rem_euclid(HOUR), None), 2),
        ("this", "day") => (Range::Span(midnight, None), 2),
        ("this", "week") => (Range::Span(now - (now - MONDAY).rem_euclid(WEEK), None), 2),
        ("right", "now") => (Range::Now, 2),
        ("at", "the") if low(2) == "moment" => (Range::Now, 3),
        ("now" | "currently" | "presently", _) => (Range::Now, 1),
        _ => return None,
    };
    // "so far today" and "revenue now" may both be said; the first that names a span counts.
    if [Range::Unsaid, Range::All].contains(&times.range) || range != Range::Now {
        times.range = range;
    }
    Some(count)
}

/// `on 2026-01-31`, `since …`, `between … and …`, `from … to …`, `as of …`.
fn dates(words: &[Word], times: &mut Times) -> Option<usize> {
    let low = |place: usize| words.get(place).map_or("", |word| word.low.as_str());
    let at = |place: usize| words.get(place).and_then(|word| moment(&word.raw));
    match low(0) {
        "as" if low(1) == "of" => {
            times.as_of = Some(at(2)?.0);
            Some(3)
        }
        "since" => {
            times.range = Range::Span(at(1)?.0, None);
            Some(2)
        }
        "on" => {
            let (start, is_day) = at(1)?;
            times.range = Range::Span(start, Some(start + if is_day { DAY } else { SECOND }));
            Some(2)
        }
        "between" | "from" => {
            let joined = ["and", "to", "until"].contains(&low(2));
            let ((start, _), (end, is_day)) = (at(1)?, at(3).filter(|_| joined)?);
            // The last day belongs to it.
            times.range = Range::Span(start, Some(end + if is_day { DAY } else { 0 }));
            Some(4)
        }
        _ => None,
    }
}

/// A date or a time, and is it a whole day?
fn moment(text: &str) -> Option<(i64, bool)> {
    // A plain number is no time here.
    if !text.contains('-') || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match parse_time(text) {
        Some(time) => Some((time, false)),
        None => parse_moment(text).map(|time| (time, !text.contains('T'))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    /// 2026-01-01 12:34:56, a Thursday.
    const NOW: i64 = 1_767_270_896 * SECOND;
    const MIDNIGHT: i64 = 1_767_225_600 * SECOND;

    #[track_caller]
    fn check(text: &str, range: Range, grain: Option<&str>) {
        let found = find(&mut words(text), NOW, &BTreeSet::new());
        assert_eq!((found.range, found.grain.as_deref()), (range, grain), "{text}");
    }

    #[test]
    fn windows_and_spans() {
        check("x in the last 15 minutes", Range::Last(15 * MINUTE), None);
        check("x over the past two hours", Range::Last(2 * HOUR), None);
        check("x last hour", Range::Last(HOUR), None);
        check("x last half hour", Range::Last(30 * MINUTE), None);
        check("x for the previous 24h", Range::Last(DAY), None);
        check("x today", Range::Span(MIDNIGHT, None), None);
        check("x yesterday", Range::Span(MIDNIGHT - DAY, Some(MIDNIGHT)), None);
        check("x this hour", Range::Span(MIDNIGHT + 12 * HOUR, None), None);
        check("x this week", Range::Span(MIDNIGHT - 3 * DAY, None), None);
        check("x right now", Range::Now, None);
        check("x on 2026-01-01", Range::Span(MIDNIGHT, Some(MIDNIGHT + DAY)), None);
        check("x since 2026-01-01", Range::Span(MIDNIGHT, None), None);
        check(
            "x between 2025-12-31 and 2026-01-01",
            Range::Span(MIDNIGHT - DAY, Some(MIDNIGHT + DAY)),
            None,
        );
        check("last orders of 15 people", Range::Unsaid, None);
        check("x last 0 hours", Range::Unsaid, None);
        for all in ["in total", "of all time", "overall", "so far", "ever", "to date", "altogether"]
        {
            check(&format!("how many x {all}"), Range::All, None);
            check(&format!("how many x {all} today"), Range::Span(MIDNIGHT, None), None);
            check(&format!("today {all}"), Range::Span(MIDNIGHT, None), None);
        }
        check("the total x", Range::Unsaid, None);
    }

    #[test]
    fn grains() {
        check("x per hour today", Range::Span(MIDNIGHT, None), Some("1h"));
        check("daily x in the last 7 days", Range::Last(7 * DAY), Some("1d"));
        check("x every 15 minutes", Range::Unsaid, Some("15m"));
        check("x by the hour", Range::Unsaid, Some("1h"));
        check("x by city", Range::Unsaid, None);
    }
}
