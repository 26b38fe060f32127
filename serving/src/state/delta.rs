//! What one commit changes in the cubes, as it is kept beside the commit's rows.

use serde::{Deserialize, Serialize};

use super::agg::Agg;
use crate::metric::Member;

/// What a commit changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delta {
    pub(super) cubes: Vec<CubeDelta>,
}

/// What it changes in one cube.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CubeDelta {
    /// Number of the spec.
    pub(super) spec: i64,
    pub(super) tenant: Box<str>,
    /// Are groups told apart in it?
    pub(super) keeps_groups: bool,
    /// Number of the first of `keys`.
    pub(super) first_key: u32,
    /// Groups that are new.
    pub(super) keys: Vec<Vec<Member>>,
    /// By time, ascending.
    pub(super) runs: Vec<Run>,
}

/// Changed cells of one minute since 1970, or of rows without a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(super) minute: Option<i64>,
    /// By number of the group, ascending.
    pub(super) cells: Vec<(u32, Agg)>,
}

impl Delta {
    /// Number of cells, for bounds.
    pub(super) fn cells(&self) -> usize {
        let runs = self.cubes.iter().flat_map(|cube| &cube.runs);
        runs.map(|run| run.cells.len()).sum()
    }

    /// The runs of one cube.
    pub(super) fn of<'a>(&'a self, spec: i64, tenant: &'a str) -> impl Iterator<Item = &'a Run> {
        let cubes = self.cubes.iter().filter(move |c| c.spec == spec && *c.tenant == *tenant);
        cubes.flat_map(|cube| &cube.runs)
    }
}
