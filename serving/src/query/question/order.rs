//! Which come first, and how many: `top 5`, `the highest`, `least`, `latest`.

use super::words::{Word, number};

/// What a question says about order and number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// Downwards? `None`: nothing is said.
    pub(super) down: Option<bool>,
    /// By time?
    pub(super) by_time: bool,
    /// How many.
    pub(super) limit: Option<u64>,
}

const DOWN: &[&str] =
    &["top", "highest", "largest", "biggest", "greatest", "most", "best", "longest", "leading"];
const UP: &[&str] = &["bottom", "lowest", "smallest", "least", "fewest", "shortest"];
const NEW: &[&str] = &["latest", "newest", "last", "recent"];
const OLD: &[&str] = &["oldest", "earliest"];

/// Does the word ask for the first of an order?
pub(super) fn is_superlative(low: &str) -> bool {
    let known = [DOWN, UP, NEW, OLD].iter().any(|words| words.contains(&low));
    // "last" begins a time more often than an order.
    (known && low != "last") || stem(low).is_some()
}

/// `cheap` of `cheapest`; `None` when it is no such word.
pub(super) fn stem(low: &str) -> Option<String> {
    let stem = low.strip_suffix("est").filter(|stem| stem.len() >= 3)?;
    let known = [DOWN, UP, NEW, OLD].iter().any(|words| words.contains(&low));
    // "request" and "interest" are no superlatives, but they are words of no rule either.
    (!known).then(|| match stem.strip_suffix('i') {
        Some(stem) => format!("{stem}y"),
        None => stem.to_owned(),
    })
}

/// Does the word join others, in groups and comparisons?
pub(super) fn joins(low: &str) -> bool {
    const JOINS: [&str; 24] = [
        "by", "per", "each", "every", "across", "above", "below", "over", "under", "more", "less",
        "fewer", "greater", "higher", "lower", "least", "most", "than", "versus", "vs", "compare",
        "compared", "not", "without",
    ];
    JOINS.contains(&low)
}

/// Finds what the words say about order and marks it as understood. A stem (`cheapest`) is left to whoever
/// knows what it is about.
pub(super) fn find(words: &mut [Word]) -> Order {
    let mut order = Order::default();
    for at in 0..words.len() {
        if words[at].used {
            continue;
        }
        let low = words[at].low.as_str();
        let (down, by_time) = if DOWN.contains(&low) {
            (true, false)
        } else if UP.contains(&low) {
            (false, false)
        } else if NEW.contains(&low) {
            (true, true)
        } else if OLD.contains(&low) {
            (false, true)
        } else {
            continue;
        };
        words[at].used = true;
        if order.down.is_none() {
            order.down = Some(down);
            order.by_time = by_time;
        }
        // "most recent" is by time.
        if words.get(at + 1).is_some_and(|next| next.low == "recent") {
            words[at + 1].used = true;
            order.by_time = true;
        }
        // `top 5` or `5 largest`.
        let after = at + 1;
        let before = at.checked_sub(1);
        for place in [Some(after), before].into_iter().flatten() {
            let count = words.get(place).filter(|word| !word.used).and_then(|w| number(&w.low));
            if let Some(count) = count.filter(|count| (1..=1_000).contains(count))
                && order.limit.is_none()
            {
                words[place].used = true;
                order.limit = Some(count);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    #[track_caller]
    fn check(text: &str, down: Option<bool>, by_time: bool, limit: Option<u64>) {
        assert_eq!(find(&mut words(text)), Order { down, by_time, limit }, "{text}");
    }

    #[test]
    fn order_and_number() {
        check("top 5 x", Some(true), false, Some(5));
        check("the ten largest x", Some(true), false, Some(10));
        check("lowest x", Some(false), false, None);
        check("3 most recent x", Some(true), true, Some(3));
        check("oldest x", Some(false), true, None);
        check("the last 10 x", Some(true), true, Some(10));
        check("x by y", None, false, None);
        assert_eq!(stem("cheapest").as_deref(), Some("cheap"));
        assert_eq!(stem("busiest").as_deref(), Some("busy"));
        assert_eq!(stem("lowest"), None);
    }
}
