//! How far a topic is, and what follows from it: facts in, decision out.
//!
//! The topic of positions has one record per publisher, under its transactional id. A position
//! alone could fit a journal that it was not written for (a data directory that was put back to an
//! older copy and went on); so the mark of the row at that position is kept with it, and the row
//! that the journal has there must bear it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who publishes, as the topic of positions tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Made anew by each process.
    pub instance: String,
    /// Process id, for people.
    pub process: u32,
    /// When it began to publish (RFC 3339, UTC).
    pub claimed_at: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} since {}", self.process, self.claimed_at)
    }
}

/// A position as it lies in its topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Everything up to here is in the topic: a journal sequence number, or a dead letter's id.
    pub(super) position: i64,
    /// Mark of the row at that position; absent at position 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mark: Option<String>,
    /// The topic that is published, for people.
    #[serde(default)]
    pub(super) topic: String,
    #[serde(flatten)]
    pub(super) claim: Claim,
    /// When it was written (RFC 3339, UTC).
    #[serde(default)]
    pub(super) written_at: String,
}

/// What is known when publishing begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Position and mark in the topic of positions.
    pub(super) stored: Option<(i64, Option<String>)>,
    /// Position that this process left when it published last.
    pub(super) remembered: Option<i64>,
    /// End of the journal.
    pub(super) end: i64,
    /// Mark of the journal's row at the stored position, if it has that row (still).
    pub(super) mark: Option<String>,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// With the first row.
    Beginning,
    /// Behind this position.
    After(i64),
    /// Not at all.
    Halt(Halt),
}

/// Why publishing would lose or double records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// More was published than the journal has.
    #[error(
        "it was published up to position {position}, the journal ends at {end}: the data directory \
         is an older copy, or lost its store"
    )]
    Ahead {
        /// Position in the topic.
        position: i64,
        /// End of the journal.
        end: i64,
    },
    /// Another row was published at the position than the journal has there.
    #[error(
        "what was published as position {position} is not what the journal has there: the data \
         directory is an older copy that went on"
    )]
    OtherJournal {
        /// Position in the topic.
        position: i64,
    },
}

impl Halt {
    /// The next step.
    pub(super) fn hint(&self) -> &'static str {
        "put the newer data directory back, or publish to a topic of another name, or delete \
         `identity.json` in the data directory to publish everything again"
    }
}

/// Where to begin.
///
/// Nobody knows a position: from the beginning, so that nothing is missed. That is the first start,
/// and also what follows when the topic of positions was deleted; a process that published before
/// goes on where it was, whatever became of that topic.
pub(super) fn choose_position(facts: &Facts) -> Start {
    let stored = facts.stored.as_ref().map(|(position, _)| *position);
    let Some(position) = stored.max(facts.remembered) else { return Start::Beginning };
    if position > facts.end {
        return Start::Halt(Halt::Ahead { position, end: facts.end });
    }
    if let Some((_, Some(published))) = &facts.stored
        && stored == Some(position)
        && facts.mark.as_ref().is_some_and(|mark| mark != published)
    {
        return Start::Halt(Halt::OtherJournal { position });
    }
    Start::After(position)
}

/// Where to look for the last position of one publisher: stretches of the topic from an offset to
/// the end, each longer than the one before. Almost always the first one holds it.
pub(super) fn stretches(low: i64, end: i64) -> impl Iterator<Item = i64> {
    const FIRST: i64 = 2_000;
    let start = move |length: i64| end.saturating_sub(length).max(low);
    let lengths = std::iter::successors(Some(FIRST), move |length| {
        // The one that begins at the beginning is the last.
        (start(*length) > low).then(|| length.saturating_mul(16))
    });
    lengths.map(start).take(if low < end { usize::MAX } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        stored: Option<(i64, Option<&str>)>,
        remembered: Option<i64>,
        end: i64,
        mark: Option<&str>,
        expected: &Start,
    ) {
        let facts = Facts {
            stored: stored.map(|(position, mark)| (position, mark.map(str::to_owned))),
            remembered,
            end,
            mark: mark.map(str::to_owned),
        };
        assert_eq!(choose_position(&facts), *expected, "{facts:?}");
    }

    #[test]
    fn a_stored_position_is_continued() {
        check(Some((7, Some("a"))), None, 9, Some("a"), &Start::After(7));
        check(Some((9, Some("a"))), Some(9), 9, Some("a"), &Start::After(9));
        check(Some((0, None)), None, 9, None, &Start::After(0));
        // A commit whose answer was lost.
        check(Some((8, Some("b"))), Some(7), 9, Some("b"), &Start::After(8));
    }

    #[test]
    fn without_a_position_everything_is_published() {
        check(None, None, 9, None, &Start::Beginning);
        check(None, None, 0, None, &Start::Beginning);
    }

    #[test]
    fn a_process_goes_on_when_the_topic_of_positions_was_deleted() {
        check(None, Some(7), 9, None, &Start::After(7));
        check(Some((0, None)), Some(7), 9, None, &Start::After(7));
        check(Some((3, Some("x"))), Some(7), 9, Some("y"), &Start::After(7));
    }

    #[test]
    fn a_journal_that_ends_before_the_position_is_an_older_one() {
        let ahead = |position| Start::Halt(Halt::Ahead { position, end: 9 });
        check(Some((10, Some("a"))), None, 9, None, &ahead(10));
        check(None, Some(10), 9, None, &ahead(10));
        check(Some((1, None)), None, 0, None, &Start::Halt(Halt::Ahead { position: 1, end: 0 }));
    }

    #[test]
    fn a_journal_with_another_row_at_the_position_is_another_one() {
        let other = Start::Halt(Halt::OtherJournal { position: 7 });
        check(Some((7, Some("a"))), None, 9, Some("b"), &other);
        check(Some((7, Some("a"))), Some(7), 9, Some("b"), &other);
        // The row is not kept any more, or its mark was not: nothing speaks against it.
        check(Some((7, Some("a"))), None, 9, None, &Start::After(7));
        check(Some((7, None)), None, 9, Some("b"), &Start::After(7));
    }

    #[test]
    fn the_last_position_is_looked_for_from_the_end() {
        #[track_caller]
        fn check(low: i64, end: i64, expected: &[i64]) {
            assert_eq!(stretches(low, end).collect::<Vec<_>>(), expected, "{low}..{end}");
        }
        check(0, 0, &[]);
        check(5, 5, &[]);
        check(0, 10, &[0]);
        check(0, 2_000, &[0]);
        check(0, 2_001, &[1, 0]);
        check(100, 1_000_000, &[998_000, 968_000, 488_000, 100]);
        check(0, i64::MAX, &stretches(0, i64::MAX).collect::<Vec<_>>());
        assert_eq!(stretches(0, i64::MAX).last(), Some(0));
    }

    #[test]
    fn positions_are_read_as_they_were_written() {
        let claim = Claim {
            instance: "i".to_owned(),
            process: 7,
            claimed_at: "2026-01-31T10:00:00Z".to_owned(),
        };
        let stored = Stored {
            position: 5,
            mark: Some("m".to_owned()),
            topic: "t".to_owned(),
            claim,
            written_at: "2026-01-31T10:00:01Z".to_owned(),
        };
        let text = serde_json::to_string(&stored).expect("JSON");
        assert_eq!(
            text,
            r#"{"position":5,"mark":"m","topic":"t","instance":"i","process":7,"claimed_at":"2026-01-31T10:00:00Z","written_at":"2026-01-31T10:00:01Z"}"#
        );
        assert_eq!(serde_json::from_str::<Stored>(&text).expect("a position"), stored);
        // As an older release may have written it.
        let older = r#"{"position":5,"instance":"i","process":7,"claimed_at":"x"}"#;
        assert_eq!(serde_json::from_str::<Stored>(older).expect("a position").position, 5);
    }
}
