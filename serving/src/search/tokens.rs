//! Texts as words: what is compared is lower case, letters and digits only, plural folded.

/// Words that say nothing about what is looked for.
const STOP: [&str; 24] = [
    "a", "all", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "me", "of",
    "on", "or", "show", "that", "the", "to", "what", "which", "with",
];

/// Longest word that is told from others, in characters.
const LONGEST: usize = 40;

/// The words of a text in their order.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).filter_map(|word| {
        let word: String = word.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
        (!STOP.contains(&word.as_str())).then(|| folded(word))
    })
}

/// An English plural as its singular, near enough: both sides of a comparison are folded alike.
fn folded(mut word: String) -> String {
    if word.len() <= 3 || !word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return word;
    }
    if word.ends_with("ies") && word.len() > 4 {
        word.truncate(word.len() - 3);
        word.push('y');
    } else if ["ches", "shes", "sses", "xes", "zes"].iter().any(|end| word.ends_with(end)) {
        word.truncate(word.len() - 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        word.truncate(word.len() - 1);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn texts_are_cut_at_everything_that_is_no_letter_or_digit() {
        check("ORD-20260404-1001", &["ord", "20260404", "1001"]);
        check("total_amount: 149.00 RUB", &["total", "amount", "149", "00", "rub"]);
        check("Žižkov, Ω und 東京", &["žižkov", "ω", "und", "東京"]);
        check(" \t-- ", &[]);
        check(&"x".repeat(100), &[&"x".repeat(40)]);
    }

    #[test]
    fn plurals_and_filling_words_do_not_matter() {
        check("orders of the categories", &["order", "category"]);
        check("boxes dishes classes statuses", &["box", "dish", "class", "statuse"]);
        check("status glass analysis bus", &["status", "glass", "analysis", "bus"]);
        check("ties gas 12s", &["tie", "gas", "12s"]);
    }
}
