//! Texts as words that can be compared: small letters, singular, one word for those that mean the same
//! in any domain.

/// A word of a question.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// As written, without the signs around it.
    pub(super) raw: String,
    /// In small letters.
    pub(super) low: String,
    /// For comparison; see [`norm`].
    pub(super) norm: String,
    /// Is it understood?
    pub(super) used: bool,
}

/// Words that say nothing by themselves.
const IDLE: &[&str] = &[
    "a",
    "about",
    "all",
    "altogether",
    "am",
    "an",
    "and",
    "any",
    "are",
    "as",
    "at",
    "be",
    "been",
    "being",
    "both",
    "came",
    "can",
    "come",
    "could",
    "current",
    "currently",
    "did",
    "display",
    "do",
    "does",
    "doing",
    "during",
    "ever",
    "exactly",
    "far",
    "find",
    "for",
    "from",
    "get",
    "give",
    "given",
    "going",
    "had",
    "happened",
    "has",
    "have",
    "having",
    "hello",
    "hi",
    "how",
    "i",
    "in",
    "is",
    "it",
    "its",
    "just",
    "know",
    "let",
    "like",
    "list",
    "look",
    "made",
    "make",
    "many",
    "me",
    "much",
    "my",
    "need",
    "now",
    "occurred",
    "of",
    "ok",
    "on",
    "or",
    "our",
    "out",
    "overall",
    "placed",
    "please",
    "received",
    "recorded",
    "return",
    "right",
    "see",
    "seen",
    "show",
    "so",
    "some",
    "tell",
    "than",
    "that",
    "the",
    "their",
    "them",
    "there",
    "these",
    "they",
    "this",
    "those",
    "to",
    "today's",
    "total",
    "us",
    "want",
    "was",
    "we",
    "were",
    "what",
    "what's",
    "whats",
    "when",
    "where",
    "which",
    "who",
    "will",
    "with",
    "within",
    "would",
    "you",
    "your",
];

/// Words that mean the same in every domain, each with the one that is compared.
const SAME: &[(&str, &str)] = &[
    ("average", "avg"),
    ("mean", "avg"),
    ("maximum", "max"),
    ("minimum", "min"),
    ("percentage", "rate"),
    ("percent", "rate"),
    ("number", "count"),
    ("canceled", "cancelled"),
];

/// The words of a text. Plain words that a hyphen joins are two; an identifier is one.
pub(super) fn words(text: &str) -> Vec<Word> {
    let split = |c: char| c.is_whitespace() || ",;!?()[]{}\"“”«»".contains(c);
    let mut words = Vec::new();
    for piece in text.split(split) {
        let trimmed = piece.trim_matches(|c: char| ".:'’`/-".contains(c));
        // A minus is part of its number.
        let start = piece.find(trimmed).unwrap_or(0);
        let is_negative =
            trimmed.starts_with(|c: char| c.is_ascii_digit()) && piece[..start].ends_with('-');
        let raw = if is_negative { &piece[start - 1..start + trimmed.len()] } else { trimmed };
        let is_joined =
            raw.contains('-') && raw.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let parts: Vec<&str> = if is_joined { raw.split('-').collect() } else { vec![raw] };
        for raw in parts.into_iter().filter(|raw| !raw.is_empty()) {
            let low = raw.to_lowercase().replace('’', "'");
            let low = low.strip_suffix("'s").unwrap_or(&low).to_owned();
            words.push(Word { raw: raw.to_owned(), norm: norm(&low), low, used: false });
        }
    }
    words
}

/// Does the text join things?
pub(super) fn joins(text: &str) -> bool {
    let low = text.to_lowercase();
    low.contains(',')
        || low.split_whitespace().any(|word| ["and", "vs", "vs.", "versus", "plus"].contains(&word))
}

/// The words of a phrase of the contracts.
pub(super) fn phrase(text: &str) -> Vec<Word> {
    words(&text.replace(['_', '.'], " "))
}

/// Does the word say nothing by itself?
pub(super) fn is_idle(low: &str) -> bool {
    IDLE.binary_search(&low).is_ok()
}

/// A word for comparison: singular, and the one of those that mean the same.
pub(super) fn norm(low: &str) -> String {
    let singular = singular(low);
    match SAME.iter().find(|(word, _)| *word == singular) {
        Some((_, same)) => (*same).to_owned(),
        None => singular,
    }
}

fn singular(word: &str) -> String {
    let is_plain = word.chars().all(|c| c.is_ascii_lowercase());
    if !is_plain || word.len() < 4 {
        return word.to_owned();
    }
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for ending in ["sses", "shes", "ches", "xes"] {
        if word.ends_with(ending) {
            return word[..word.len() - 2].to_owned();
        }
    }
    match word.ends_with("ss") || word.ends_with("us") || word.ends_with("is") {
        true => word.to_owned(),
        false => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// A number in digits or, up to twenty, in letters.
pub(super) fn number(low: &str) -> Option<u64> {
    const NAMES: [&str; 21] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ];
    let named = NAMES.iter().position(|name| *name == low).map(|place| place as u64);
    named.or_else(|| low.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_words_are_in_order() {
        assert!(IDLE.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn words_are_compared_in_the_singular() {
        for (word, expected) in [
            ("orders", "order"),
            ("categories", "category"),
            ("status", "status"),
            ("boxes", "box"),
            ("average", "avg"),
            ("class", "class"),
            ("usr-10001", "usr-10001"),
        ] {
            assert_eq!(norm(word), expected);
        }
        let norms = |text: &str| phrase(text).into_iter().map(|w| w.norm).collect::<Vec<_>>();
        assert_eq!(norms("avg_order_value"), ["avg", "order", "value"]);
        assert_eq!(norms("on-time share"), ["on", "time", "share"]);
        let raws = |text: &str| words(text).into_iter().map(|w| w.raw).collect::<Vec<_>>();
        assert_eq!(
            raws("What's “ORD-20260101-1001”, the on-time one?"),
            ["What's", "ORD-20260101-1001", "the", "on", "time", "one"]
        );
        assert_eq!(
            raws("- top -3, -0.5 or 2026-01-31?"),
            ["top", "-3", "-0.5", "or", "2026-01-31"]
        );
    }
}
