//! Does everything that this run should read have a reader?
//!
//! The group protocol should see to that, but it works on what each client believes of the topics
//! at different moments. So the first member of a process compares, once a second, what brokers say
//! of the topics with what is read: a topic that is another one than was read is stopped, and
//! partitions that stay without a reader are a reason to join the group again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use tracing::debug;

use super::member::{ANSWER_WITHIN, Client};
use super::native::Topic;

/// Partitions that stay without a reader for so long are looked after. A client that works as it
/// should sees a new topic within its metadata interval (5 s) and has joined a few seconds later.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest pause between two tries to get a reader for the same partitions.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// A topic, and the number of a partition.
type Key = (String, i32);

/// What is known of a topic that should be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// What brokers say.
    pub(super) topic: Topic,
    /// Ids that stand beside the positions in the store; none while nothing was read.
    pub(super) known_ids: BTreeSet<String>,
    /// Partitions that this process reads.
    pub(super) read: BTreeSet<i32>,
    /// Partitions that it has stopped.
    pub(super) halted: BTreeSet<i32>,
}

/// What follows from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Each partition is read, or was stopped.
    Fine,
    /// It is not the topic that was read (its id `was`), and these partitions were not stopped yet.
    Recreated { was: String, partitions: Vec<i32> },
    /// This process does not read these.
    Unread(Vec<i32>),
}

/// Decides about one topic.
pub(super) fn judge(facts: &Facts) -> Verdict {
    let without: Vec<i32> = (0..facts.topic.partitions)
        .filter(|number| !facts.read.contains(number) && !facts.halted.contains(number))
        .collect();
    // Members compare ids of what they read themselves.
    match facts.known_ids.first() {
        _ if without.is_empty() => Verdict::Fine,
        Some(was) if !facts.known_ids.contains(&facts.topic.id) => {
            Verdict::Recreated { was: was.clone(), partitions: without }
        }
        _ => Verdict::Unread(without),
    }
}

/// Partitions without a reader, and since when.
#[derive(Debug, Default)]
pub(super) struct Unread {
    since: BTreeMap<Key, Instant>,
    tries: u32,
    /// Those of which it is known that the whole group has no reader.
    nobodys: BTreeSet<Key>,
}

impl Unread {
    /// Notes which partitions are without a reader now. Returns those that have been for too long.
    pub(super) fn note(&mut self, without: BTreeSet<Key>, now: Instant) -> Vec<Key> {
        self.since.retain(|key, _| without.contains(key));
        self.nobodys.retain(|key| without.contains(key));
        for key in without {
            self.since.entry(key).or_insert(now);
        }
        if self.since.is_empty() {
            self.tries = 0;
        }
        let patience = PATIENCE.saturating_mul(1 << self.tries.min(10)).min(LONGEST_PATIENCE);
        let is_overdue = |since: &Instant| now.saturating_duration_since(*since) >= patience;
        self.since
            .iter()
            .filter(|(_, since)| is_overdue(since))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The group was asked, and has no reader for `nobodys`: that is looked at again after a longer
    /// while, whether it is joined again on their account or others read the rest.
    pub(super) fn asked(&mut self, nobodys: BTreeSet<Key>, now: Instant) {
        self.nobodys = nobodys;
        self.tries += 1;
        self.since.values_mut().for_each(|since| *since = now);
    }

    /// Partitions without a reader in the whole group, as they are shown: `topic/number`.
    pub(super) fn shown(&self) -> Vec<String> {
        self.nobodys.iter().map(|(topic, number)| format!("{topic}/{number}")).collect()
    }
}

/// What all members of the group read, as the group's coordinator tells it; `None` while the group
/// is being formed, or when nobody answers.
pub(super) fn readers(client: &Client, group: &str) -> Option<BTreeSet<Key>> {
    let groups = match client.fetch_group_list(Some(group), ANSWER_WITHIN) {
        Ok(groups) => groups,
        Err(error) => {
            debug!(%error, group, "the group's members are not known");
            return None;
        }
    };
    let group = groups.groups().iter().find(|found| found.name() == group)?;
    if group.state() != "Stable" {
        return None;
    }
    let mut readers = BTreeSet::new();
    for member in group.members() {
        // A member that has nothing may have no assignment at all.
        if let Some(bytes) = member.assignment().filter(|bytes| !bytes.is_empty()) {
            readers.extend(parse_assignment(bytes)?);
        }
    }
    Some(readers)
}

/// Reads the assignment of one member: `version i16, topics [name string, partitions [i32]], …`, as
/// Kafka's `ConsumerProtocolAssignment.json` has it in all versions. `None` when it is something
/// else.
fn parse_assignment(bytes: &[u8]) -> Option<Vec<Key>> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(taken)
    }
    fn int16(bytes: &mut &[u8]) -> Option<i16> {
        Some(i16::from_be_bytes(take(bytes, 2)?.try_into().ok()?))
    }
    fn int32(bytes: &mut &[u8]) -> Option<i32> {
        Some(i32::from_be_bytes(take(bytes, 4)?.try_into().ok()?))
    }
    let mut bytes = bytes;
    let _version = int16(&mut bytes)?;
    let mut keys = Vec::new();
    for _ in 0..int32(&mut bytes)? {
        let length = usize::try_from(int16(&mut bytes)?).ok()?;
        let name = str::from_utf8(take(&mut bytes, length)?).ok()?;
        for _ in 0..int32(&mut bytes)? {
            keys.push((name.to_owned(), int32(&mut bytes)?));
        }
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(known: &[&str], read: &[i32], halted: &[i32]) -> Facts {
        Facts {
            topic: Topic { id: "is".to_owned(), partitions: 3 },
            known_ids: known.iter().map(|id| (*id).to_owned()).collect(),
            read: read.iter().copied().collect(),
            halted: halted.iter().copied().collect(),
        }
    }

    #[test]
    fn topics_are_judged_by_what_is_read_of_them() {
        let recreated = |partitions: &[i32]| Verdict::Recreated {
            was: "was".to_owned(),
            partitions: partitions.into(),
        };
        for (facts, expected) in [
            (facts(&["is"], &[0, 1, 2], &[]), Verdict::Fine),
            (facts(&["is"], &[1], &[0, 2]), Verdict::Fine),
            (facts(&["is"], &[0, 2], &[]), Verdict::Unread(vec![1])),
            (facts(&[], &[0, 1, 2], &[]), Verdict::Fine),
            (facts(&[], &[], &[]), Verdict::Unread(vec![0, 1, 2])),
            (facts(&["was"], &[], &[]), recreated(&[0, 1, 2])),
            (facts(&["was"], &[], &[0]), recreated(&[1, 2])),
            (facts(&["was"], &[], &[0, 1, 2]), Verdict::Fine),
            // Some were read when no broker told the id, or before and after.
            (facts(&["is", "was"], &[], &[]), Verdict::Unread(vec![0, 1, 2])),
            // Whoever reads it compares the ids itself.
            (facts(&["was"], &[0, 1, 2], &[]), Verdict::Fine),
        ] {
            assert_eq!(judge(&facts), expected, "{facts:?}");
        }
    }

    fn keys(numbers: &[i32]) -> BTreeSet<Key> {
        numbers.iter().map(|number| ("t".to_owned(), *number)).collect()
    }

    #[test]
    fn partitions_without_a_reader_are_waited_for_and_each_try_makes_it_more_patient() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut unread = Unread::default();
        let numbers = |overdue: Vec<Key>| overdue.into_iter().map(|key| key.1).collect::<Vec<_>>();
        assert_eq!(numbers(unread.note(keys(&[1]), at(0))), [0; 0]);
        assert_eq!(numbers(unread.note(keys(&[1, 2]), at(10))), [0; 0]);
        assert_eq!(numbers(unread.note(keys(&[1, 2]), at(15))), [1]);
        // One that was read for a moment starts again.
        assert_eq!(numbers(unread.note(keys(&[2]), at(20))), [0; 0]);
        assert_eq!(numbers(unread.note(keys(&[1, 2]), at(25))), [2]);
        unread.asked(keys(&[2]), at(25));
        assert_eq!(unread.shown(), ["t/2"]);
        assert_eq!(numbers(unread.note(keys(&[1, 2]), at(54))), [0; 0]);
        assert_eq!(numbers(unread.note(keys(&[1, 2]), at(55))), [1, 2]);
        assert_eq!(unread.shown(), ["t/2"], "until it has one");
        (0..20).for_each(|_| unread.asked(keys(&[1, 2]), at(60)));
        assert_eq!(numbers(unread.note(keys(&[1]), at(659))), [0; 0]);
        assert_eq!(unread.shown(), ["t/1"]);
        assert_eq!(numbers(unread.note(keys(&[1]), at(660))), [1]);
        // All are read: it is as patient as at first.
        assert_eq!(numbers(unread.note(keys(&[]), at(661))), [0; 0]);
        assert_eq!(unread.shown(), [""; 0]);
        assert_eq!(numbers(unread.note(keys(&[3]), at(700))), [0; 0]);
        assert_eq!(numbers(unread.note(keys(&[3]), at(715))), [3]);
    }

    #[test]
    fn an_assignment_is_read_and_foreign_bytes_are_not() {
        let mut bytes = vec![0, 3, 0, 0, 0, 2];
        bytes.extend([0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        bytes.extend([0, 2, b'b', b'c', 0, 0, 0, 1, 0, 0, 1, 0]);
        let expected = [("a", 0), ("a", 7), ("bc", 256)];
        let expected: Vec<Key> = expected.map(|(name, at)| (name.to_owned(), at)).into();
        // Behind it: the assignor's own data.
        let whole = [&bytes[..], &[255; 4]].concat();
        assert_eq!(parse_assignment(&whole), Some(expected));
        for end in 0..bytes.len() {
            assert_eq!(parse_assignment(&bytes[..end]), None, "{end}");
        }
        assert_eq!(parse_assignment(&[0, 0, 255, 255, 255, 255, 1]), Some(Vec::new()));
        assert_eq!(parse_assignment(&[0, 0, 127, 255, 255, 255, 0, 0]), None);
    }
}
