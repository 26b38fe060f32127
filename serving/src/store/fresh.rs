//! Journal rows of the newest commits, for those who follow the journal closely.
//!
//! Reading a stretch back from the store costs a statement per family, and a copy of what is looked at of
//! every row. The writer has just had the rows in its hands; while somebody follows, it leaves them here as
//! they are, and whoever follows takes them out. They are kept for a moment only: when they become too many,
//! all of them are let go, and the store is read as if they had never been here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

/// Most memory of rows that are kept: several commits of a pipeline at its limit, some hundred thousand events.
const MOST_BYTES: usize = 64 << 20;

/// The newest rows. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fresh(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    followers: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// One after the other, without a gap.
    commits: VecDeque<FreshCommit>,
    bytes: usize,
    /// End of the last commit, kept or not; `None` before the first.
    end: Option<i64>,
}

/// The rows of one commit.
#[derive(Debug)]
pub(crate) struct FreshCommit {
    /// End of the commit before.
    after: i64,
    /// Its own end.
    pub(crate) until: i64,
    /// Its time, µs.
    pub(crate) applied_at: i64,
    /// By family, in its schema and ascending by position.
    pub(crate) rows: Vec<(usize, RecordBatch)>,
    bytes: usize,
}

/// Somebody follows, until this is dropped.
#[derive(Debug)]
pub(crate) struct Follows(Fresh);

impl Fresh {
    /// From now on rows are kept.
    pub(crate) fn follow(&self) -> Follows {
        self.0.followers.fetch_add(1, Ordering::SeqCst);
        Follows(self.clone())
    }

    /// A commit that ends at `until` was made at `applied_at` (µs). Costs no more than its columns are many.
    pub(super) fn add(&self, until: i64, applied_at: i64, rows: &[(usize, RecordBatch)]) {
        let mut kept = self.lock();
        let before = kept.end.replace(until);
        if self.0.followers.load(Ordering::SeqCst) == 0 {
            return kept.clear();
        }
        // What came before the first commit is not known to this.
        let Some(after) = before else { return };
        let bytes = rows.iter().map(|(_, rows)| rows.get_array_memory_size()).sum();
        if kept.bytes + bytes > MOST_BYTES {
            kept.clear();
        }
        if bytes <= MOST_BYTES && until > after {
            kept.bytes += bytes;
            let rows = rows.to_vec();
            kept.commits.push_back(FreshCommit { after, until, applied_at, rows, bytes });
        }
    }

    /// Takes out the commits of a stretch, oldest first; `None` where not all of them are here.
    pub(crate) fn take(&self, after: i64, until: i64) -> Option<Vec<FreshCommit>> {
        let mut kept = self.lock();
        let count = kept.commits.partition_point(|commit| commit.until <= until);
        let taken: Vec<FreshCommit> = kept.commits.drain(..count).collect();
        kept.bytes -= taken.iter().map(|commit| commit.bytes).sum::<usize>();
        drop(kept);
        let begins = taken.first().is_some_and(|first| first.after <= after);
        (begins && taken.last()?.until == until).then_some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics half-way.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn clear(&mut self) {
        self.commits = VecDeque::new();
        self.bytes = 0;
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        let Self(fresh) = self;
        if fresh.0.followers.fetch_sub(1, Ordering::SeqCst) == 1 {
            fresh.lock().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(count: usize) -> Vec<(usize, RecordBatch)> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![0; count]));
        vec![(0, RecordBatch::try_from_iter([("n", column)]).unwrap())]
    }

    fn ends(taken: Option<Vec<FreshCommit>>) -> Option<Vec<i64>> {
        taken.map(|commits| commits.iter().map(|commit| commit.until).collect())
    }

    #[test]
    fn a_stretch_is_had_whole_or_not_at_all() {
        let fresh = Fresh::default();
        fresh.add(3, 0, &rows(1));
        let follows = fresh.follow();
        fresh.add(5, 0, &rows(1));
        fresh.add(7, 0, &rows(1));
        fresh.add(7, 0, &[]);
        fresh.add(9, 0, &rows(1));
        assert_eq!(ends(fresh.take(2, 7)), None, "the commit before was not kept");
        assert_eq!(ends(fresh.take(7, 9)), Some(vec![9]));
        assert_eq!(ends(fresh.take(7, 9)), None, "it was taken");
        fresh.add(11, 0, &rows(1));
        fresh.add(13, 0, &rows(1));
        assert_eq!(ends(fresh.take(9, 12)), None, "no commit ends there");
        assert_eq!(ends(fresh.take(11, 13)), Some(vec![13]));
        fresh.add(15, 0, &rows(1));
        drop(follows);
        let _again = fresh.follow();
        assert_eq!(ends(fresh.take(13, 15)), None, "nobody followed");
    }

    #[test]
    fn what_is_too_much_is_not_kept() {
        let fresh = Fresh::default();
        let _follows = fresh.follow();
        fresh.add(1, 0, &[]);
        let half = MOST_BYTES / 8 / 2 + 1;
        fresh.add(2, 0, &rows(half));
        fresh.add(3, 0, &rows(half));
        assert_eq!(fresh.lock().commits.len(), 1);
        assert_eq!(ends(fresh.take(1, 3)), None);
        fresh.add(4, 0, &rows(2 * half));
        assert_eq!((ends(fresh.take(3, 4)), fresh.lock().bytes), (None, 0));
        fresh.add(5, 0, &rows(half));
        assert_eq!(ends(fresh.take(4, 5)), Some(vec![5]));
    }
}
