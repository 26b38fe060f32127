//! What readers ask of state, and what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::agg::Agg;
use super::block::Block;
use super::delta::Bucket;
use super::distinct::Distinct;
use super::spec::Subject;
use crate::metric::{Member, Test};

/// What is asked of a cube.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) subject: Subject,
    pub(crate) tenant: &'a str,
    /// Number of the reader's snapshot.
    pub(crate) at: i64,
    /// Bounds of the window, µs.
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    /// Places of the dimensions that are grouped by.
    pub(crate) group_by: &'a [usize],
    /// Places of dimensions and what must hold of them.
    pub(crate) tests: &'a [(usize, &'a Test)],
    /// Places of dimensions whose values must together not be among these.
    pub(crate) without: (&'a [usize], &'a BTreeSet<Vec<Member>>),
}

/// What a cube says.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// By values of the dimensions that are grouped by.
    pub(crate) groups: BTreeMap<Vec<Member>, Agg>,
    /// What of the window is to be read from rows.
    pub(crate) edges: Vec<Unread>,
}

/// A span of time that is to be read from rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    /// From and to, µs.
    pub(crate) span: (i64, i64),
    /// It pays to read all rows of this one, in which it lies, and to keep them ([`super::Keeper::hold`]).
    pub(crate) of: Option<Bucket>,
}

/// What is known of the different values in a window.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    /// Values of whole hours.
    pub(crate) held: Vec<Arc<Distinct>>,
    /// Hours whose values are to be read and kept ([`super::Keeper::hold`]), in order.
    pub(crate) missing: Vec<i64>,
    /// Spans whose values are to be read, µs.
    pub(crate) edges: Vec<(i64, i64)>,
}

impl Ask<'_> {
    /// What the proof counts has an edge for questions about the past only.
    pub(super) fn is_of_metric(&self) -> bool {
        matches!(self.subject, Subject::Metric(_))
    }
}

impl Told {
    /// Adds what a block has of a span.
    pub(crate) fn put(&mut self, block: &Block, span: (i64, i64), ask: &Ask<'_>) {
        for (key, agg) in block.sums(span, ask) {
            self.groups.entry(key).or_default().add(&agg, block.arithmetic());
        }
    }
}
