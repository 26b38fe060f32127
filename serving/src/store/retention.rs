//! How long the journal keeps its rows: a decision over facts, no I/O.
//!
//! Rows go when they are older than [`RetentionPolicy::keep_for`], counted from when they were applied,
//! or when the database has grown beyond [`RetentionPolicy::keep_bytes`]; but never before the lake has
//! vouched for them for the time of grace, and never while a publisher still owes them.

use std::sync::Arc;
use std::time::Duration;

use pipeline::sink::iceberg::Complete;

/// What the journal keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Rows that were applied longer ago may go; `None`: age is no reason.
    pub keep_for: Option<Duration>,
    /// The oldest rows may go while the database is larger, in bytes; `None`: size is no reason.
    pub keep_bytes: Option<u64>,
    /// How long the lake must have been complete up to a row before it may go.
    pub grace: Duration,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self {
            keep_for: Some(Duration::from_secs(30 * 86_400)),
            keep_bytes: Some(20 << 30),
            grace: Duration::from_secs(3_600),
        }
    }
}

/// What those have who follow the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followed {
    /// Points up to which the lake has been complete, oldest first.
    pub complete: Vec<Complete>,
    /// Position of the publisher of events that is furthest behind; `None` without publishers, 0 while
    /// one of them does not know it.
    pub events: Option<i64>,
    /// The same of dead letters.
    pub dead_letters: Option<i64>,
}

/// The retention of a running process.
#[derive(Clone)]
pub struct Retention {
    /// What the journal keeps.
    pub policy: RetentionPolicy,
    /// Asks those who follow the journal.
    pub followed: Arc<dyn Fn() -> Followed + Send + Sync>,
}

/// What is known when it is decided.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The time, µs.
    pub(super) now: i64,
    /// Up to which sequence number rows are gone.
    pub(super) trimmed: i64,
    /// Highest sequence number.
    pub(super) last_seq: i64,
    /// Highest sequence number that was applied longer ago than rows are kept; 0 without.
    pub(super) aged: i64,
    /// Used bytes of the database; `None` while rows that were trimmed may still lie in it.
    pub(super) bytes: Option<u64>,
    /// What those have who follow.
    pub(super) followed: Followed,
}

/// Up to where rows may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    /// Events up to this sequence number.
    pub(super) seq: i64,
    /// Of `ingest` no more than up to this row.
    pub(super) ingest_row: i64,
    /// Of the dead letters no more than up to this id.
    pub(super) dead_letter: i64,
}

/// Up to where to trim now; `None` when nothing is to be done.
pub(super) fn decide(policy: &RetentionPolicy, facts: &Facts) -> Option<Cut> {
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let since = facts.now.saturating_sub(micros(policy.grace));
    let vouched = facts.followed.complete.iter().rev().find(|point| point.at <= since)?;
    let aged = policy.keep_for.map_or(0, |_| facts.aged);
    let wanted = aged.max(too_many(policy, facts));
    // The row at a publisher's position stays: it knows by it that the journal is the same one.
    let owed = |position: Option<i64>| position.map_or(i64::MAX, |position| position - 1);
    let seq = wanted.min(vouched.last_seq).min(owed(facts.followed.events));
    (seq > facts.trimmed).then(|| Cut {
        seq,
        ingest_row: vouched.last_ingest,
        dead_letter: vouched.last_dead_letter.min(owed(facts.followed.dead_letters)),
    })
}

/// Up to where rows are too many for the bytes: as large a part of them as the database is too large.
fn too_many(policy: &RetentionPolicy, facts: &Facts) -> i64 {
    let (Some(most), Some(bytes)) = (policy.keep_bytes, facts.bytes) else { return 0 };
    let held = facts.last_seq.saturating_sub(facts.trimmed).max(0);
    if bytes <= most || held == 0 {
        return 0;
    }
    let part = u128::from(held.unsigned_abs()) * u128::from(bytes - most) / u128::from(bytes);
    facts.trimmed + i64::try_from(part).unwrap_or(held) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOW: i64 = 1_000 * HOUR;

    fn facts() -> Facts {
        let point = |hours: i64, end: i64| Complete {
            at: NOW - hours * HOUR,
            last_seq: end,
            last_ingest: end / 10,
            last_dead_letter: end / 100,
        };
        Facts {
            now: NOW,
            trimmed: 0,
            last_seq: 10_000,
            aged: 4_000,
            bytes: Some(1_000),
            followed: Followed {
                complete: vec![point(9, 3_000), point(2, 6_000), point(0, 10_000)],
                events: None,
                dead_letters: None,
            },
        }
    }

    const POLICY: RetentionPolicy = RetentionPolicy {
        keep_for: Some(Duration::from_secs(30 * 86_400)),
        keep_bytes: Some(1_000),
        grace: Duration::from_secs(3_600),
    };

    #[track_caller]
    fn check(what: &str, change: impl Fn(&mut RetentionPolicy, &mut Facts), expected: Option<i64>) {
        let (mut policy, mut facts) = (POLICY, facts());
        change(&mut policy, &mut facts);
        assert_eq!(decide(&policy, &facts).map(|cut| cut.seq), expected, "{what}");
    }

    #[test]
    fn rows_go_when_they_are_old_and_safe() {
        let followed = |facts: &mut Facts, position| facts.followed.events = Some(position);
        check("old rows go", |_, _| {}, Some(4_000));
        check("nothing is old", |_, f| f.aged = 0, None);
        check("they are gone already", |_, f| f.trimmed = 4_000, None);
        check("no further than the lake vouched for", |_, f| f.aged = 9_000, Some(6_000));
        check("a longer grace", |p, _| p.grace = Duration::from_secs(5 * 3_600), Some(3_000));
        check("longer than anything known", |p, _| p.grace = Duration::from_secs(86_400), None);
        check("no grace", |p, f| (p.grace, f.aged) = (Duration::ZERO, 9_000), Some(9_000));
        check("the lake never was complete", |_, f| f.followed.complete.clear(), None);
        check("kept for ever", |p, _| p.keep_for = None, None);
        check("a publisher is behind", |_, f| followed(f, 2_000), Some(1_999));
        check("a publisher does not know yet", |_, f| followed(f, 0), None);
        check("a publisher is ahead", |_, f| followed(f, 10_000), Some(4_000));
    }

    #[test]
    fn the_oldest_rows_go_when_there_are_too_many() {
        let sized =
            |bytes| move |_: &mut RetentionPolicy, f: &mut Facts| (f.aged, f.bytes) = (0, bytes);
        check("as many as may be", sized(Some(1_000)), None);
        check("a quarter too many", sized(Some(1_334)), Some(2_504));
        check("no further than the lake vouched for", sized(Some(100_000)), Some(6_000));
        check("trimmed rows still lie there", sized(None), None);
        check(
            "the size is no reason",
            |p, f| (p.keep_bytes, f.aged, f.bytes) = (None, 0, Some(u64::MAX)),
            None,
        );
        check(
            "of those that are left",
            |_, f| (f.trimmed, f.aged, f.bytes) = (2_000, 0, Some(2_000)),
            Some(6_000),
        );
    }

    #[test]
    fn the_other_tables_go_no_further_than_the_same_point() {
        let mut facts = facts();
        let cut = decide(&POLICY, &facts);
        assert_eq!(cut, Some(Cut { seq: 4_000, ingest_row: 600, dead_letter: 60 }));
        facts.followed.dead_letters = Some(11);
        assert_eq!(decide(&POLICY, &facts).map(|cut| cut.dead_letter), Some(10));
    }
}
