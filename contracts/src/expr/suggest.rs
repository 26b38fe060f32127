//! "Did you mean": the known name that is nearest to a misspelt one.

/// The candidate nearest to `name`, when it is near enough to be worth a suggestion.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(MAX_CHARS).collect();
    // A short name may differ by nothing but its letter case.
    let limit = (wanted.len() / 3).min(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Longer names are compared by their beginning: the cost is quadratic.
const MAX_CHARS: usize = 64;

/// Insertions, deletions, replacements and swaps of neighbours that turn one name into the other,
/// ignoring letter case.
fn distance(wanted: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.to_lowercase().chars().take(MAX_CHARS).collect();
    let first: Vec<usize> = (0..=wanted.len()).collect();
    let mut rows = [first.clone(), first.clone(), first];
    for i in 1..=candidate.len() {
        // The rows before the last, the last, and the one being filled.
        rows.rotate_left(1);
        rows[2][0] = i;
        for j in 1..=wanted.len() {
            let same = candidate[i - 1] == wanted[j - 1];
            let mut best =
                (rows[1][j - 1] + usize::from(!same)).min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            let swapped = i > 1
                && j > 1
                && candidate[i - 1] == wanted[j - 2]
                && candidate[i - 2] == wanted[j - 1];
            if swapped {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
    }
    rows[2][wanted.len()]
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
        check("satus", Some("status"));
        check("statuses", Some("status"));
        check("am", None);
        check("price", None);
        check("", None);
    }
}
