//! Where to start in a partition: facts in, decision out.
//!
//! The store says how far it has read; the broker says which offsets there are, and whether the
//! topic is still the one that was read. Only a policy that somebody declared may skip records.

use std::collections::BTreeSet;
use std::fmt;

/// Where to start in a topic of which nothing was ever read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// The oldest record that there is.
    #[default]
    Earliest,
    /// Records that come from now on.
    Latest,
}

/// What to do when the position of a partition is not among its offsets: the records behind it
/// were deleted before they were read, or the log was cut back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRange {
    /// Stop reading the partition and say so.
    #[default]
    Stop,
    /// Go on with the oldest record that there is.
    Earliest,
    /// Go on with records that come from now on.
    Latest,
}

/// What a position must find again: stored with it as its fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Id of the topic; a topic that was deleted and made again has another one. Empty: no broker
    /// told it when the partition was assigned.
    pub(super) topic_id: String,
    /// Leader epoch of the last record read.
    pub(super) epoch: Option<i32>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{} {epoch}", self.topic_id),
            None => f.write_str(&self.topic_id),
        }
    }
}

impl Mark {
    /// Reads what [`fmt::Display`] wrote. An id is base64: it may have slashes, but no space.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(' ') {
            Some((id, epoch)) => Self { topic_id: id.to_owned(), epoch: epoch.parse().ok() },
            None => Self { topic_id: text.to_owned(), epoch: None },
        }
    }
}

/// What is known when a partition is assigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Position and mark in the store.
    pub(super) stored: Option<(u64, Option<Mark>)>,
    /// Does the store know any partition of this topic?
    pub(super) topic_known: bool,
    /// Ids of the topic that stand beside the positions of all its partitions that the store knows.
    pub(super) known_ids: BTreeSet<String>,
    /// Id of the topic, if a broker answered.
    pub(super) topic_id: Option<String>,
    /// Oldest offset and the one after the newest, if a broker answered.
    pub(super) range: Option<(i64, i64)>,
}

impl Facts {
    /// Id of the topic that is going to be read: what a broker says, or else what stands beside the
    /// position, or else beside those of the topic's other partitions. So that a topic that is made
    /// again just now is found out once a broker answers. Empty: nobody knows.
    pub(super) fn id(&self) -> String {
        let stored = self.stored.as_ref().and_then(|(_, mark)| mark.as_ref());
        let stored = stored.map(|mark| &mark.topic_id).filter(|id| !id.is_empty());
        let id = self.topic_id.as_ref().or(stored).or_else(|| self.known_ids.first());
        id.cloned().unwrap_or_default()
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// At this offset; the epoch is that of the record before it.
    At { offset: i64, epoch: Option<i32> },
    /// At the oldest record, whichever that is when a broker answers.
    Beginning,
    /// Behind the newest one.
    End,
    /// A declared policy skips records: from `position` to `offset`.
    Skip { position: u64, offset: i64 },
    /// Not at all.
    Halt(Halt),
}

/// Why a partition is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Halt {
    #[error(
        "the topic was deleted and made again (its id was {was}, is {is}): its offsets have \
         nothing to do with the position {position} that was read"
    )]
    Recreated { was: String, is: String, position: u64 },
    #[error(
        "position {position} is not among the offsets {low} to {high}: records were deleted \
         before they were read, or the log was cut back"
    )]
    OutOfRange { position: u64, low: i64, high: i64 },
}

/// Where to start.
pub(super) fn choose_start(facts: &Facts, start: StartAt, out_of_range: OutOfRange) -> Start {
    let Some((position, mark)) = &facts.stored else {
        // Nothing was read of this partition, but of others of a topic that is gone.
        if let (Some(was), Some(is)) = (facts.known_ids.first(), &facts.topic_id)
            && !facts.known_ids.contains(is)
        {
            let (was, is) = (was.clone(), is.clone());
            return Start::Halt(Halt::Recreated { was, is, position: 0 });
        }
        // A partition that was added to a topic that is being read: nothing of it may be missed.
        let from_beginning = facts.topic_known || start == StartAt::Earliest;
        return match (facts.range, from_beginning) {
            (Some((low, _)), true) => Start::At { offset: low, epoch: None },
            (Some((_, high)), false) => Start::At { offset: high, epoch: None },
            (None, true) => Start::Beginning,
            (None, false) => Start::End,
        };
    };
    let position = *position;
    if let (Some(mark), Some(is)) = (mark, &facts.topic_id)
        && !mark.topic_id.is_empty()
        && mark.topic_id != *is
    {
        let was = mark.topic_id.clone();
        return Start::Halt(Halt::Recreated { was, is: is.clone(), position });
    }
    let epoch = mark.as_ref().and_then(|mark| mark.epoch);
    let offset = i64::try_from(position).unwrap_or(i64::MAX);
    match facts.range {
        Some((low, high)) if offset < low || offset > high => match out_of_range {
            OutOfRange::Stop => Start::Halt(Halt::OutOfRange { position, low, high }),
            OutOfRange::Earliest => Start::Skip { position, offset: low },
            OutOfRange::Latest => Start::Skip { position, offset: high },
        },
        _ => Start::At { offset, epoch },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: &str) -> Mark {
        Mark { topic_id: id.to_owned(), epoch: Some(7) }
    }

    fn stored(position: u64) -> Facts {
        Facts {
            stored: Some((position, Some(mark("id")))),
            topic_known: true,
            known_ids: ["id".to_owned()].into(),
            topic_id: Some("id".to_owned()),
            range: Some((10, 20)),
        }
    }

    #[track_caller]
    fn check(facts: &Facts, expected: &Start) {
        assert_eq!(choose_start(facts, StartAt::Latest, OutOfRange::Stop), *expected, "{facts:?}");
    }

    fn at(offset: i64, epoch: Option<i32>) -> Start {
        Start::At { offset, epoch }
    }

    #[test]
    fn a_position_in_range_is_continued() {
        check(&stored(10), &at(10, Some(7)));
        check(&stored(15), &at(15, Some(7)));
        check(&stored(20), &at(20, Some(7)));
    }

    #[test]
    fn without_an_answer_the_position_stands() {
        let facts = Facts { topic_id: None, range: None, ..stored(15) };
        check(&facts, &at(15, Some(7)));
        check(&Facts { range: None, ..Facts::default() }, &Start::End);
        check(&Facts { topic_known: true, ..Facts::default() }, &Start::Beginning);
    }

    #[test]
    fn a_position_out_of_range_follows_the_policy() {
        for position in [9, 21] {
            let facts = stored(position);
            let halt = Halt::OutOfRange { position, low: 10, high: 20 };
            check(&facts, &Start::Halt(halt));
            let with = |policy| choose_start(&facts, StartAt::Latest, policy);
            assert_eq!(with(OutOfRange::Earliest), Start::Skip { position, offset: 10 });
            assert_eq!(with(OutOfRange::Latest), Start::Skip { position, offset: 20 });
        }
    }

    #[test]
    fn a_topic_made_again_is_not_read_whatever_the_policy() {
        let facts = Facts { topic_id: Some("other".to_owned()), ..stored(15) };
        let halt = Halt::Recreated { was: "id".to_owned(), is: "other".to_owned(), position: 15 };
        check(&facts, &Start::Halt(halt.clone()));
        let decision = choose_start(&facts, StartAt::Earliest, OutOfRange::Earliest);
        assert_eq!(decision, Start::Halt(halt));
        // Positions of a store that had not kept the id yet.
        let facts = Facts { stored: Some((15, None)), ..facts };
        check(&facts, &at(15, None));
        // Nor of one that read while no broker told it.
        let facts = Facts { stored: Some((15, Some(mark("")))), ..facts };
        check(&facts, &at(15, Some(7)));
    }

    #[test]
    fn a_partition_of_a_topic_made_again_is_not_read_because_nothing_was_read_of_it() {
        let facts = Facts { stored: None, ..stored(0) };
        check(&facts, &at(10, None));
        let again = Facts { topic_id: Some("other".to_owned()), ..facts };
        let (was, is) = ("id".to_owned(), "other".to_owned());
        check(&again, &Start::Halt(Halt::Recreated { was, is, position: 0 }));
        check(&Facts { topic_id: None, ..again.clone() }, &at(10, None));
        check(&Facts { known_ids: BTreeSet::new(), ..again }, &at(10, None));
    }

    #[test]
    fn the_id_is_what_a_broker_says_or_what_was_read_before() {
        let facts = Facts { topic_id: Some("is".to_owned()), ..stored(0) };
        assert_eq!(facts.id(), "is");
        let facts = Facts { topic_id: None, known_ids: ["other".to_owned()].into(), ..facts };
        assert_eq!(facts.id(), "id");
        let facts = Facts { stored: Some((15, Some(mark("")))), ..facts };
        assert_eq!(facts.id(), "other");
        assert_eq!(Facts { stored: None, ..facts }.id(), "other");
        assert_eq!(Facts::default().id(), "");
    }

    #[test]
    fn an_unknown_partition_starts_as_declared_unless_its_topic_is_known() {
        let facts = Facts { range: Some((10, 20)), ..Facts::default() };
        check(&facts, &at(20, None));
        assert_eq!(choose_start(&facts, StartAt::Earliest, OutOfRange::Stop), at(10, None));
        check(&Facts { topic_known: true, ..facts }, &at(10, None));
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        for mark in [mark("a-b_c"), mark("a/b+c"), Mark { topic_id: "x".to_owned(), epoch: None }] {
            assert_eq!(Mark::parse(&mark.to_string()), mark);
        }
    }
}
