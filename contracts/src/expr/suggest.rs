//! "Did you mean": the known name that is nearest to a misspelt one.

/// The candidate nearest to `name`, when it is near enough to be worth a suggestion.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(MAX_CHARS).collect();
    let limit = (wanted.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Longer names are compared by their beginning: the cost is quadratic.
const MAX_CHARS: usize = 64;

/// Insertions, deletions and replacements between two names, ignoring letter case.
fn distance(wanted: &[char], candidate: &str) -> usize {
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, c) in candidate.to_lowercase().chars().take(MAX_CHARS).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, w) in wanted.iter().enumerate() {
            let replaced = diagonal + usize::from(*w != c);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[wanted.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(nearest(name, ["status", "amount", "created_at"]), expected);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        check("statsu", Some("status"));
        check("Status", Some("status"));
        check("amont", Some("amount"));
        check("create_at", Some("created_at"));
        check("price", None);
        check("", None);
    }
}
