//! Hints that name what the asker may have meant.

/// Names listed when none is near.
const LISTED: usize = 12;

/// "did you mean `a`?", or the known names when none is near; `None` when there are none.
pub(crate) fn hint<'a>(asked: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let reach = (asked.chars().count() / 3).clamp(1, 4);
    let mut near: Vec<(usize, &str)> = known
        .iter()
        .map(|name| (distance(asked, name), *name))
        .filter(|(distance, _)| *distance <= reach)
        .collect();
    near.sort_unstable();
    near.truncate(3);
    if !near.is_empty() {
        return Some(format!("did you mean {}?", list(near.iter().map(|(_, name)| *name), " or ")));
    }
    let more = known.len().saturating_sub(LISTED);
    known.truncate(LISTED);
    match (known.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("known: {}", list(known.into_iter(), ", "))),
        (false, more) => Some(format!("known: {} and {more} more", list(known.into_iter(), ", "))),
    }
}

/// Names in backticks with `separator` between them.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>, separator: &str) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(separator)
}

/// Number of characters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(asked: &str, known: &[&str], expected: Option<&str>) {
        assert_eq!(hint(asked, known.iter().copied()).as_deref(), expected);
    }

    #[test]
    fn near_names_are_suggested_nearest_first() {
        check(
            "revenu",
            &["orders", "revenue", "revenues"],
            Some("did you mean `revenue` or `revenues`?"),
        );
        check("Revenue", &["revenue"], Some("did you mean `revenue`?"));
    }

    #[test]
    fn without_a_near_name_the_known_ones_are_listed() {
        check("x", &["orders", "revenue"], Some("known: `orders`, `revenue`"));
        check("x", &[], None);
    }
}
