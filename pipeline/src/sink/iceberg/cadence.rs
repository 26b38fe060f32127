//! When a table is brought up to date: a pure decision.

use std::time::Duration;

/// What a table waits for; whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cadence {
    /// Longest time between two looks.
    pub every: Duration,
    /// Journal rows that wait.
    pub rows: usize,
    /// Bytes that these rows are likely to make, for a table whose contract says a size. Otherwise the
    /// rows alone count: the size is then only where a commit ends.
    pub bytes: Option<u64>,
}

/// What waits for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Time since it was last brought up to date.
    pub since: Duration,
    /// Journal positions that it does not cover yet.
    pub positions: i64,
    /// Bytes of the table so far.
    pub table_bytes: u64,
    /// Positions that they stand for.
    pub covered: i64,
}

impl Cadence {
    /// Is it time?
    pub(super) fn is_due(&self, waiting: &Waiting) -> bool {
        let positions = usize::try_from(waiting.positions).unwrap_or(0);
        waiting.since >= self.every
            || positions >= self.rows
            || self.bytes.is_some_and(|bytes| waiting.bytes() >= bytes.max(1))
    }
}

impl Waiting {
    /// As the journal went so far, so it goes on: the same share of it is this table's, in rows of the
    /// same size. Nothing is read for it.
    fn bytes(&self) -> u64 {
        let (positions, covered) = (self.positions.max(0), self.covered.max(1));
        let bytes = u128::from(self.table_bytes) * positions.unsigned_abs() as u128
            / covered.unsigned_abs() as u128;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: Option<u64>, since: u64, positions: i64, table_bytes: u64, expected: bool) {
        let cadence = Cadence { every: Duration::from_secs(30), rows: 1_000, bytes };
        let since = Duration::from_secs(since);
        let waiting = Waiting { since, positions, table_bytes, covered: 100 };
        assert_eq!(cadence.is_due(&waiting), expected, "{waiting:?}");
    }

    #[test]
    fn a_table_waits_for_its_time_its_rows_or_its_bytes() {
        check(None, 0, 0, 0, false);
        check(None, 29, 999, u64::MAX, false);
        check(None, 30, 0, 0, true);
        check(None, 0, 1_000, 0, true);
        check(None, 0, -1_000, 0, false);
        // 100 positions made 1,000 bytes: 50 more are likely to make 500.
        check(Some(500), 0, 49, 1_000, false);
        check(Some(500), 0, 50, 1_000, true);
        // Nothing is known of an empty table.
        check(Some(500), 0, 999, 0, false);
        check(Some(500), 0, 999, u64::MAX, true);
        check(Some(500), 0, -5, u64::MAX, false);
    }
}
