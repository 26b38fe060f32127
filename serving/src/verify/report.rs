//! What a verification found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most differences that are written out; the rest is counted.
const MOST: usize = 200;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Journal position that was verified.
    pub position: i64,
    /// Reference time of all windows.
    pub at: String,
    /// The past time that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// What was compared.
    pub checked: Checked,
    /// Where the store and the recomputation differ, as far as they are written out.
    pub differences: Vec<Difference>,
    /// How many more there are.
    pub more_differences: u64,
    /// What could not be recomputed, and why.
    pub not_verified: Vec<NotVerified>,
    /// How long it took, s.
    pub seconds: f64,
}

/// How much was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Journal rows.
    pub events: u64,
    /// Columns of the journal that are computed from others.
    pub columns: u64,
    /// Rows of entities.
    pub entities: u64,
    /// Versions of metrics.
    pub metrics: u64,
    /// Answers: a metric over a window, whole or by one dimension, of one tenant.
    pub answers: u64,
    /// Values in those answers.
    pub values: u64,
    /// Sums of the bookkeeping: positions, ids, counts.
    pub books: u64,
}

/// Something is stored or answered that the journal does not say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Of what: a metric, an entity, a column, a count.
    pub what: String,
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The window, of a metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Values of the dimensions, of a group.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub dimensions: BTreeMap<String, Option<String>>,
    /// What the journal's rows give.
    pub expected: String,
    /// What the store has, or the engine answered.
    pub found: String,
    /// What to do next.
    pub hint: String,
}

/// Something that SQL could not recompute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotVerified {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

impl Report {
    /// Does everything that was compared agree?
    pub fn agrees(&self) -> bool {
        self.differences.is_empty()
    }

    pub(super) fn differs(&mut self, difference: Difference) {
        if self.differences.len() < MOST {
            self.differences.push(difference);
        } else {
            self.more_differences += 1;
        }
    }

    pub(super) fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let skipped = NotVerified { what: what.into(), why: why.into() };
        if !self.not_verified.contains(&skipped) {
            self.not_verified.push(skipped);
        }
    }
}

impl Difference {
    pub(super) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: &str,
    ) -> Self {
        Self {
            what: what.into(),
            tenant: None,
            window: None,
            dimensions: BTreeMap::new(),
            expected: expected.into(),
            found: found.into(),
            hint: hint.to_owned(),
        }
    }

    pub(super) fn of(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }
}
