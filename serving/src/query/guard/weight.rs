//! What a statement makes DuckDB do beyond its own text.
//!
//! DuckDB puts whole expressions in place of some words: names of columns of the list, numbers of columns,
//! names of windows, what `between` and such look at. Those are written out or counted here, so that a
//! short statement is as large for us as it gets for DuckDB, and is refused before DuckDB sees it.

use std::collections::HashMap;

use super::limits::{JOINS, SCANS, WRITTEN};
use super::refusal::Refusal;
use super::select::Writer;

/// What has been written so far, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    /// Scans of relations.
    pub(super) scans: usize,
    /// Joined texts.
    pub(super) joins: usize,
    /// Bytes that DuckDB puts in place of names.
    pub(super) copied: usize,
    /// Names of windows.
    pub(super) windows: usize,
}

/// The columns of a list under way, or of one whose `select` goes on.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// The places of the columns of a name, in small letters.
    pub(super) places: HashMap<String, Vec<usize>>,
    /// What each column costs where it is named again, as far as they are written.
    pub(super) columns: Vec<Weight>,
    /// The column that is being written; none behind the list.
    pub(super) at: Option<usize>,
    /// Bytes of the largest window that has a name.
    pub(super) window: usize,
}

impl Writer<'_> {
    /// Counts everything since `since` again, `times` times.
    pub(super) fn again(&mut self, since: Weight, times: usize) -> Result<(), Refusal> {
        let now = self.weight;
        let more = Weight {
            scans: now.scans - since.scans,
            joins: now.joins - since.joins,
            copied: now.copied - since.copied,
            windows: now.windows - since.windows,
        };
        self.add(more, times)
    }

    /// Counts something that DuckDB does `times` times.
    pub(super) fn add(&mut self, more: Weight, times: usize) -> Result<(), Refusal> {
        let weight = &mut self.weight;
        let grow = |sum: &mut usize, by: usize| *sum = sum.saturating_add(by.saturating_mul(times));
        grow(&mut weight.scans, more.scans);
        grow(&mut weight.joins, more.joins);
        grow(&mut weight.copied, more.copied);
        grow(&mut weight.windows, more.windows);
        if weight.scans > SCANS {
            return Err(Refusal::refused(format!(
                "the statement reads relations more than {SCANS} times, counting those behind a name \
                 each time that it is named"
            )));
        }
        if weight.joins > JOINS {
            return Err(Refusal::refused(format!(
                "the statement joins texts more than {JOINS} times, counting those behind a name \
                 each time that it is named"
            )));
        }
        match weight.copied > WRITTEN {
            true => Err(too_large()),
            false => Ok(()),
        }
    }

    /// A name may stand for a column of a list: for its whole expression, that is.
    pub(super) fn check_alias(&mut self, called: &str) -> Result<(), Refusal> {
        let called = called.to_lowercase();
        let mut more = Vec::new();
        for scope in &self.aliases {
            let Some(places) = scope.places.get(&called) else { continue };
            match scope.at {
                // Only where each is made of nothing but tables is the size of one known.
                Some(at) if places.iter().any(|place| *place != at) => {
                    return Err(Refusal::refused(format!(
                        "`{called}` is the name of another column of the same list"
                    ))
                    .hint(
                        "write the expression again, say of which table the column is, or read it \
                         from a query in brackets",
                    ));
                }
                Some(_) => {}
                None => more.extend(places.iter().filter_map(|at| scope.columns.get(*at)).copied()),
            }
        }
        more.into_iter().try_for_each(|weight| self.add(weight, 1))
    }

    /// A number as a key of `group by` or `order by` stands for a column of the list.
    pub(super) fn check_number(&mut self, digits: &str) -> Result<(), Refusal> {
        let place = digits.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let column = self.aliases.last().and_then(|scope| scope.columns.get(place?)).copied();
        column.map_or(Ok(()), |weight| self.add(weight, 1))
    }

    /// What was written since `before`, of `bytes`: what it costs to have it again.
    pub(super) fn since(&self, before: Weight, bytes: usize) -> Weight {
        let now = self.weight;
        Weight {
            scans: now.scans - before.scans,
            joins: now.joins - before.joins,
            copied: (now.copied - before.copied).saturating_add(bytes),
            windows: now.windows - before.windows,
        }
    }
}

/// The text itself, unless DuckDB would have too much to read.
pub(super) fn bounded(text: String) -> Result<String, Refusal> {
    match text.len() > WRITTEN {
        true => Err(too_large()),
        false => Ok(text),
    }
}

pub(super) fn too_large() -> Refusal {
    Refusal::refused(format!(
        "written out, the statement has more than {} KiB",
        WRITTEN / 1024
    ))
    .hint("`between`, `nullif`, `case … when` and names of columns repeat what they are given; use a CTE")
}
