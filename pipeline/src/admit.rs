//! The time policy and deduplication of one event: a pure decision from facts.
//!
//! Decided in order of position, because the watermark of a partition moves with what was accepted
//! before. No clock is read: "too far in the future" is judged against the arrival time that the
//! journal keeps.

use contracts::model::{EventContract, Late, OnConflict};

use crate::erase::ERASED_BODY;
use crate::outcome::{Reason, Stage};

/// What is known about an event when it is judged. Times in µs.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Event time.
    pub event_time: i64,
    /// Arrival time.
    pub arrived_at: i64,
    /// Hash over the decoded fields.
    pub body: i64,
    /// The event with the same id that the journal, or this batch, has already: (body, position).
    pub known: Option<(i64, i64)>,
    /// Watermark of the partition: highest event time accepted before.
    pub watermark: Option<i64>,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Into the journal.
    Accept {
        /// Behind the watermark by more than the allowed lateness.
        late: bool,
    },
    /// The same event again; the first one has this position.
    Duplicate {
        /// Journal sequence number.
        seq: i64,
    },
    /// To the dead letters.
    Reject(Stage, Reason),
    /// Dropped by the declared policy.
    Discard(Reason),
}

/// Judges one event.
pub fn judge(contract: &EventContract, facts: &Facts) -> Verdict {
    let policy = &contract.time_policy;
    if facts.event_time > facts.arrived_at.saturating_add(policy.max_future) {
        return Verdict::Reject(Stage::TimePolicy, Reason::TooFarInFuture);
    }
    if let Some((body, seq)) = facts.known {
        return match contract.dedup.on_conflict {
            // Of an erased event nobody knows the body.
            OnConflict::DeadLetter if body != facts.body && body != ERASED_BODY => {
                Verdict::Reject(Stage::Deduplicate, Reason::ConflictingDuplicate)
            }
            _ => Verdict::Duplicate { seq },
        };
    }
    let behind = facts.watermark.map_or(0, |mark| mark.saturating_sub(facts.event_time));
    if behind > contract.dedup.horizon {
        return Verdict::Reject(Stage::Deduplicate, Reason::BeyondDedupHorizon);
    }
    let late = behind > policy.allowed_lateness;
    match policy.late {
        Late::DeadLetter if late => Verdict::Reject(Stage::TimePolicy, Reason::Late),
        Late::Drop if late => Verdict::Discard(Reason::Late),
        _ => Verdict::Accept { late },
    }
}

#[cfg(test)]
mod tests {
    use contracts::model::{Dedup, Envelope, Format, Place, Status, TimeForm, TimePolicy};

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn contract(late: Late, on_conflict: OnConflict) -> EventContract {
        EventContract {
            family: 0,
            name: "thing".into(),
            names: vec!["thing".into()],
            version: 1,
            status: Status::Stable,
            deprecation: None,
            owner: None,
            description: None,
            synonyms: Vec::new(),
            topics: Vec::new(),
            format: Format::Json,
            envelope: Envelope {
                event_type: Place::Path(vec!["event_type".into()]),
                id: Place::Path(vec!["event_id".into()]),
                time: Place::Path(vec!["timestamp".into()]),
                time_form: TimeForm::Rfc3339,
                version: None,
                tenant: None,
            },
            key: None,
            dedup: Dedup { horizon: 100 * SECOND, on_conflict },
            time_policy: TimePolicy { max_future: 10 * SECOND, allowed_lateness: SECOND, late },
            fields: vec![],
            rules: vec![],
            enrich: vec![],
            lake: None,
            hash: 0,
            file: "thing.yaml".into(),
        }
    }

    #[track_caller]
    fn check(
        late: Late,
        seconds: i64,
        known: Option<(i64, i64)>,
        mark: Option<i64>,
        want: Verdict,
    ) {
        let facts = Facts {
            event_time: seconds * SECOND,
            arrived_at: 1_000 * SECOND,
            body: 1,
            known,
            watermark: mark.map(|seconds| seconds * SECOND),
        };
        assert_eq!(judge(&contract(late, OnConflict::DeadLetter), &facts), want);
    }

    #[test]
    fn the_first_event_of_a_partition_is_never_late() {
        check(Late::Drop, 0, None, None, Verdict::Accept { late: false });
    }

    #[test]
    fn the_future_begins_after_its_tolerance() {
        check(Late::Restate, 1_010, None, None, Verdict::Accept { late: false });
        let rejected = Verdict::Reject(Stage::TimePolicy, Reason::TooFarInFuture);
        check(Late::Restate, 1_011, None, None, rejected);
    }

    #[test]
    fn late_begins_after_the_allowed_lateness() {
        check(Late::Restate, 499, None, Some(500), Verdict::Accept { late: false });
        check(Late::Restate, 498, None, Some(500), Verdict::Accept { late: true });
        check(Late::Drop, 498, None, Some(500), Verdict::Discard(Reason::Late));
        let rejected = Verdict::Reject(Stage::TimePolicy, Reason::Late);
        check(Late::DeadLetter, 498, None, Some(500), rejected);
    }

    #[test]
    fn a_known_event_is_a_repeat_however_late_it_comes() {
        check(Late::Drop, 1, Some((1, 42)), Some(900), Verdict::Duplicate { seq: 42 });
    }

    #[test]
    fn a_known_id_with_another_body_is_a_conflict() {
        let rejected = Verdict::Reject(Stage::Deduplicate, Reason::ConflictingDuplicate);
        check(Late::Restate, 500, Some((2, 42)), None, rejected);
        let facts =
            Facts { event_time: 0, arrived_at: 0, body: 1, known: Some((2, 42)), watermark: None };
        let keep = contract(Late::Restate, OnConflict::KeepFirst);
        assert_eq!(judge(&keep, &facts), Verdict::Duplicate { seq: 42 });
    }

    #[test]
    fn an_unknown_event_beyond_the_horizon_cannot_be_told_from_a_repeat() {
        check(Late::Restate, 800, None, Some(900), Verdict::Accept { late: true });
        let rejected = Verdict::Reject(Stage::Deduplicate, Reason::BeyondDedupHorizon);
        check(Late::Restate, 799, None, Some(900), rejected);
    }
}
