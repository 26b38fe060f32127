//! Which small files are worth writing anew: a pure decision.

/// A live data file, as far as the decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Path of the file.
    pub path: String,
    /// Its partition, as a path.
    pub partition: String,
    /// Number of its partition: paths do not tell a null from a text `null`, nor the same values
    /// under two specs.
    pub group: usize,
    /// Its size.
    pub bytes: u64,
    /// Its data sequence number: files of later commits have higher ones.
    pub sequence: i64,
    /// When it was committed, ms since 1970; `None` when that snapshot has expired.
    pub committed_at: Option<i64>,
}

/// Files of one partition that become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Merge {
    /// The partition, as a path.
    pub partition: String,
    /// Paths, oldest commit first.
    pub paths: Vec<String>,
    /// Bytes in them.
    pub bytes: u64,
}

/// When files are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Size that files should have.
    pub target: u64,
    /// A partition that is still written to is merged once it has this many small files.
    pub min_files: usize,
    /// A partition without a commit since then (ms since 1970) is not written to any more: what is
    /// small there stays small, so any two files are merged.
    pub settled_before: i64,
}

/// A file at this share of the target is large enough to be left alone.
const LARGE: f64 = 0.75;

/// Groups small files by partition, each group to become one file of about the target size. Every
/// file is in one group at most, and a second call after the merges were made finds nothing.
pub(super) fn plan(mut candidates: Vec<Candidate>, rule: &Rule) -> Vec<Merge> {
    let large = (rule.target as f64 * LARGE) as u64;
    candidates.sort_by(|a, b| {
        let order = |file: &Candidate| (file.group, file.sequence);
        a.partition.cmp(&b.partition).then(order(a).cmp(&order(b))).then(a.path.cmp(&b.path))
    });
    let mut merges = Vec::new();
    for partition in candidates.chunk_by(|a, b| a.group == b.group) {
        let is_settled = partition
            .iter()
            .all(|file| file.committed_at.is_none_or(|at| at < rule.settled_before));
        let small: Vec<&Candidate> = partition.iter().filter(|file| file.bytes < large).collect();
        let mut group: Vec<&Candidate> = Vec::new();
        let mut bytes = 0;
        for file in small {
            if bytes + file.bytes > rule.target {
                close(&mut merges, &mut group, &mut bytes, 2);
            }
            bytes += file.bytes;
            group.push(file);
        }
        let least = if is_settled || bytes >= large { 2 } else { rule.min_files.max(2) };
        close(&mut merges, &mut group, &mut bytes, least);
    }
    merges
}

fn close(merges: &mut Vec<Merge>, group: &mut Vec<&Candidate>, bytes: &mut u64, least: usize) {
    let files = std::mem::take(group);
    let bytes = std::mem::take(bytes);
    if files.len() >= least
        && let Some(first) = files.first()
    {
        merges.push(Merge {
            partition: first.partition.clone(),
            paths: files.iter().map(|file| file.path.clone()).collect(),
            bytes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { target: 100, min_files: 4, settled_before: 1_000 };

    /// `partition:bytes@committed`, in order of their commits.
    fn files(text: &str) -> Vec<Candidate> {
        let file = |(number, word): (usize, &str)| {
            let (partition, rest) = word.split_once(':').expect("a partition");
            let (bytes, at) = rest.split_once('@').unwrap_or((rest, "5000"));
            Candidate {
                path: format!("f{number}"),
                partition: partition.trim_end_matches('2').to_owned(),
                group: partition.bytes().map(usize::from).sum(),
                bytes: bytes.parse().expect("a number"),
                sequence: number as i64,
                committed_at: at.parse().ok(),
            }
        };
        text.split_whitespace().enumerate().map(file).collect()
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let merges = plan(files(text), &RULE);
        let shown: Vec<String> = merges
            .iter()
            .map(|merge| format!("{} {} {}", merge.partition, merge.bytes, merge.paths.join("+")))
            .collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn small_files_of_a_partition_become_one() {
        check("", &[]);
        // One alone stays, large ones stay.
        check("a:10@1 b:75@1 b:80@1 b:200@1", &[]);
        check("a:10@1 b:5@1 a:20@2", &["a 30 f0+f2"]);
        // A group ends where the next file would make it larger than the target.
        check("a:60@1 a:50@1 a:40@1 a:70@1", &["a 90 f1+f2"]);
        check("a:40@1 a:40@1 a:40@1 a:40@1 a:40@1", &["a 80 f0+f1", "a 80 f2+f3"]);
    }

    #[test]
    fn partitions_with_one_path_stay_apart() {
        // `a2` is another partition that is shown like `a`.
        check("a:10@1 a2:5@1 a:20@2 a2:7@2", &["a 30 f0+f2", "a 12 f1+f3"]);
        check("a:10@1 a2:5@1", &[]);
    }

    #[test]
    fn a_partition_that_is_written_to_waits_until_it_is_worth_it() {
        check("a:1 a:1 a:1", &[]);
        check("a:1 a:1 a:1 a:1", &["a 4 f0+f1+f2+f3"]);
        check("a:40 a:40", &["a 80 f0+f1"]);
        // One commit of late is enough, an expired snapshot is old.
        check("a:1@1 a:1@999", &["a 2 f0+f1"]);
        check("a:1@1 a:1@1000", &[]);
        check("a:1@x a:1@x", &["a 2 f0+f1"]);
    }

    #[test]
    fn what_was_merged_is_left_alone() {
        let all = files(&"a:7@1 ".repeat(1_000));
        let mut merged: Vec<Candidate> = Vec::new();
        let merges = plan(all, &RULE);
        assert_eq!(merges.iter().map(|merge| merge.paths.len()).sum::<usize>(), 1_000);
        for (number, merge) in merges.into_iter().enumerate() {
            merged.push(Candidate {
                path: format!("m{number}"),
                partition: merge.partition,
                group: 0,
                bytes: merge.bytes,
                sequence: number as i64,
                committed_at: Some(2_000),
            });
        }
        assert!(merged.len() <= 72, "{}", merged.len());
        assert_eq!(plan(merged, &RULE), []);
    }
}
