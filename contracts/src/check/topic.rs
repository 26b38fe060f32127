//! Kafka topics of event contracts: names that Kafka takes, patterns that its clients understand as
//! we do, and one format for each.

use std::collections::{BTreeMap, HashSet};

use regex::Regex;

use crate::check::event::format_of;
use crate::check::family::Draft;
use crate::check::names::Item;
use crate::diagnostic::{Position, Report};
use crate::model::{Format, Topic};
use crate::raw::decode::{OneOrMany, Text, shorten};
use crate::raw::event as raw;

/// Longest name of a topic.
const MAX_NAME: usize = 249;

/// The topics of one contract; `at` is where it starts.
pub(crate) fn topics(raw: &OneOrMany<Text>, at: Position, report: &mut Report) -> Vec<Topic> {
    if raw.0.is_empty() {
        report.error(at, "`topic` is empty", "name a topic, or remove the key");
    }
    let mut seen = HashSet::new();
    let mut topics = Vec::new();
    for text in &raw.0 {
        if !seen.insert(text.value.as_str()) {
            report.error(
                text.at,
                format!("the topic `{}` stands here twice", shorten(&text.value)),
                "remove one of them",
            );
            continue;
        }
        topics.extend(match text.value.starts_with('^') {
            true => pattern(text, report).map(Topic::Pattern),
            false => name(text, report).map(Topic::Name),
        });
    }
    topics
}

fn name(text: &Text, report: &mut Report) -> Option<String> {
    let name = text.value.as_str();
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) && name != "." && name != ".."
    {
        return Some(name.to_owned());
    }
    report.error(
        text.at,
        format!("`{}` cannot be the name of a Kafka topic", shorten(name)),
        format!(
            "names have letters, digits, `.`, `_` and `-`, at most {MAX_NAME} of them; a pattern \
             starts with `^`"
        ),
    );
    None
}

fn pattern(text: &Text, report: &mut Report) -> Option<Regex> {
    const HINT: &str = "write what every Kafka client takes, POSIX extended expressions: `[0-9]` \
                        for a digit, `\\.` or `[.]` for a dot, `(a|b)`, `*`, `+`, `{2,}`; put the \
                        pattern in single quotes";
    if let Some(part) = foreign(&text.value) {
        report.error(
            text.at,
            format!("`{part}` means something else to Kafka's clients in the pattern of a topic"),
            HINT,
        );
        return None;
    }
    match Regex::new(&text.value) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim();
            report.error(
                text.at,
                format!(
                    "the pattern of a topic is not a regular expression: {}",
                    reason.trim_start_matches("error: ")
                ),
                HINT,
            );
            None
        }
    }
}

/// The first part of a pattern that `regex` and POSIX extended expressions read differently.
/// librdkafka compiles patterns with the C library: there `\d` is the letter d, and a backslash
/// between brackets is itself.
fn foreign(pattern: &str) -> Option<String> {
    let mut chars = pattern.chars().peekable();
    // Between brackets: has anything stood there yet?
    let mut brackets: Option<bool> = None;
    let mut last = ' ';
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match (brackets, c) {
            (None, '\\') => {
                // The next character is taken as it stands.
                match chars.next() {
                    // Some C libraries take these four as borders of words and texts.
                    Some(next @ ('<' | '>' | '`' | '\'')) => return Some(format!("\\{next}")),
                    Some(next) if next.is_ascii_punctuation() => {}
                    Some(next) => return Some(format!("\\{next}")),
                    None => return None,
                }
                last = ' ';
                continue;
            }
            (None, '(') if next == Some('?') => return Some("(?".to_owned()),
            (None, '?' | '*' | '+') if matches!(last, '?' | '*' | '+' | '}') => {
                return Some(format!("{last}{c}"));
            }
            (None, '[') => {
                brackets = Some(false);
                if next == Some('^') {
                    chars.next();
                }
            }
            (Some(_), '\\') => {
                return Some(chars.next().map_or("\\".to_owned(), |c| format!("\\{c}")));
            }
            // A class such as `[:alpha:]`.
            (Some(_), '[') if next == Some(':') => {
                brackets = Some(true);
                while let Some(inner) = chars.next() {
                    if inner == ':' && chars.peek() == Some(&']') {
                        chars.next();
                        break;
                    }
                }
            }
            (Some(_), '[') => return Some("[".to_owned()),
            (Some(_), '&' | '~' | '-') if next == Some(c) => return Some(format!("{c}{c}")),
            // The first one is a member of the set.
            (Some(true), ']') => brackets = None,
            (Some(_), _) => brackets = Some(true),
            (None, _) => {}
        }
        last = c;
    }
    None
}

/// A topic as one contract names it.
struct Use<'a> {
    text: &'a Text,
    format: Format,
    item: &'a Item<raw::Event>,
}

/// Every topic has records of one format, whichever contract they belong to. A topic that a name
/// and a pattern take in counts too.
pub(crate) fn formats(drafts: &[Draft], report: &mut Report) {
    let mut uses: Vec<Use<'_>> = Vec::new();
    for item in drafts.iter().flat_map(|draft| &draft.versions) {
        let format = format_of(&item.raw);
        let texts = item.raw.topic.iter().flat_map(|topic| &topic.0);
        // What is wrong in itself has been said.
        let sound = texts.filter(|text| foreign(&text.value).is_none());
        uses.extend(sound.map(|text| Use { text, format, item }));
    }
    // The contract that comes later in the files is the one to mend.
    uses.sort_by_key(|found| found.text.at);
    let mut known: BTreeMap<&str, &Use<'_>> = BTreeMap::new();
    for found in &uses {
        let first = known.entry(&found.text.value).or_insert(found);
        if first.format != found.format {
            conflict(found, first, report);
        }
    }
    let (patterns, names): (Vec<&Use<'_>>, Vec<&Use<'_>>) =
        known.into_values().partition(|found| found.text.value.starts_with('^'));
    for pattern in patterns {
        let Ok(regex) = Regex::new(&pattern.text.value) else { continue };
        for name in names.iter().filter(|name| regex.is_match(&name.text.value)) {
            if name.format != pattern.format {
                match name.text.at < pattern.text.at {
                    true => conflict(pattern, name, report),
                    false => conflict(name, pattern, report),
                }
            }
        }
    }
}

fn conflict(found: &Use<'_>, first: &Use<'_>, report: &mut Report) {
    let word = |format: Format| match format {
        Format::Json => "json",
        Format::Avro => "avro",
    };
    let also = match found.text.value == first.text.value {
        true => String::new(),
        false => format!(" (`{}`)", shorten(&first.text.value)),
    };
    report.error(
        found.text.at,
        format!(
            "the topic `{}` is {} here and {} in the contract `{}` version {}{also}",
            shorten(&found.text.value),
            word(found.format),
            word(first.format),
            first.item.name,
            first.item.version,
        ),
        format!(
            "a topic has one `format`: change one of the two, or the topic; the other is in {}:{}",
            first.item.source.file.display(),
            first.text.at.line
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, expected: Option<&str>) {
        assert_eq!(foreign(pattern).as_deref(), expected, "{pattern}");
    }

    #[test]
    fn patterns_that_mean_the_same_everywhere_are_taken() {
        check(r"^orders\.", None);
        check(r"^orders[.](raw|cdc)-[0-9]{2,}$", None);
        check("^a[]x]b*c+d?", None);
        check("^[^]x-z[:alpha:]_-]+$", None);
        check(r"^a\+?b\?*", None);
    }

    #[test]
    fn what_clients_would_read_differently_is_named() {
        check(r"^orders\d", Some(r"\d"));
        check(r"^orders\b", Some(r"\b"));
        check(r"^[\w.]+", Some(r"\w"));
        check("^(?i)orders", Some("(?"));
        check("^a+?b", Some("+?"));
        check("^a{2}?", Some("}?"));
        check("^[a-z&&b]", Some("&&"));
        check("^[a[bc]]", Some("["));
    }
}
