//! What one commit changes in the cubes, as it is kept beside the commit's rows.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use serde::{Deserialize, Serialize};

use super::agg::{Agg, Arithmetic};
use super::cube::{HOUR, MINUTE};
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
    /// The faces that the cube has.
    pub(super) faces: Vec<FaceDelta>,
    /// Those of a time stand together.
    pub(super) runs: Vec<Run>,
}

/// Groups of a face that are new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FaceDelta {
    /// Places of the dimensions by which it groups.
    pub(super) dimensions: Vec<u8>,
    /// Are its groups told apart?
    pub(super) is_kept: bool,
    /// Number of the first of `keys`.
    pub(super) first_key: u32,
    pub(super) keys: Vec<Vec<Member>>,
}

/// A span of time that has cells of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Bucket {
    /// Rows without a time.
    Timeless,
    /// The minute since 1970.
    Minute(i64),
    /// The hour since 1970, which is not cut into minutes from then on.
    Hour(i64),
}

impl Bucket {
    /// From and to, µs; what has no time has none.
    pub(crate) fn span(self) -> Option<(i64, i64)> {
        let (first, minutes) = match self {
            Self::Timeless => return None,
            Self::Minute(minute) => (minute, 1),
            Self::Hour(hour) => (hour.checked_mul(HOUR)?, HOUR),
        };
        let micros = |minute: i64| minute.checked_mul(MINUTE);
        micros(first).zip(micros(first.checked_add(minutes)?))
    }

    /// The hour, and the minute within it.
    pub(super) fn hour(self) -> Option<(i64, Option<u8>)> {
        match self {
            Self::Timeless => None,
            Self::Minute(minute) => {
                Some((minute.div_euclid(HOUR), Some(minute.rem_euclid(HOUR) as u8)))
            }
            Self::Hour(hour) => Some((hour, None)),
        }
    }

    /// Have both an instant in common?
    pub(super) fn meets(self, other: Self) -> bool {
        match (self.hour(), other.hour()) {
            (Some((own, own_minute)), Some((hour, minute))) => {
                own == hour && (own_minute == minute || own_minute.is_none() || minute.is_none())
            }
            (own, other) => own == other,
        }
    }

    /// Does it lie in the minutes `from..to`? All of it does or none.
    pub(super) fn is_in(self, from: Option<i64>, to: Option<i64>) -> bool {
        let minute = match self {
            Self::Timeless => return from.is_none() && to.is_none(),
            Self::Minute(minute) => minute,
            Self::Hour(hour) => hour * HOUR,
        };
        from.is_none_or(|from| minute >= from) && to.is_none_or(|to| minute < to)
    }
}

/// Changed cells of one span of time; none, where only its rows changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(super) bucket: Bucket,
    /// Over all groups.
    pub(super) all: Agg,
    /// For each face by number of the group.
    pub(super) faces: Vec<Vec<(u32, Agg)>>,
}

impl Run {
    /// Are the sums over its span what they were?
    pub(super) fn is_empty(&self) -> bool {
        self.all == Agg::default() && self.faces.iter().all(Vec::is_empty)
    }
}

impl Delta {
    /// Number of cells, for bounds.
    pub(super) fn cells(&self) -> usize {
        let runs = self.cubes.iter().flat_map(|cube| &cube.runs);
        runs.map(|run| 1 + run.faces.iter().map(Vec::len).sum::<usize>()).sum()
    }

    /// Numbers of the specs that it changes.
    pub(crate) fn specs(&self) -> impl Iterator<Item = i64> {
        self.cubes.iter().map(|cube| cube.spec)
    }

    /// What it changes in one cube.
    pub(super) fn of<'a>(
        &'a self,
        spec: i64,
        tenant: &'a str,
    ) -> impl Iterator<Item = &'a CubeDelta> {
        self.cubes.iter().filter(move |cube| cube.spec == spec && *cube.tenant == *tenant)
    }
}

/// Cells of a change by span of time, with the numbers that its groups have in each face.
pub(super) fn runs(
    cells: Vec<(Bucket, u32, Agg)>,
    numbers: &[Vec<u32>],
    arithmetic: Arithmetic,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut places: Vec<HashMap<u32, usize>> = vec![HashMap::new(); numbers.len()];
    for (bucket, place, agg) in cells {
        if runs.last().is_none_or(|run| run.bucket != bucket) {
            places.iter_mut().for_each(HashMap::clear);
            runs.push(Run { bucket, all: Agg::default(), faces: vec![Vec::new(); numbers.len()] });
        }
        let Some(run) = runs.last_mut().filter(|_| agg != Agg::default()) else { continue };
        run.all.add(&agg, arithmetic);
        // Alone, its groups are those of the change: none stands twice.
        let is_only = numbers.len() == 1;
        for ((cells, numbers), places) in run.faces.iter_mut().zip(numbers).zip(&mut places) {
            let Some(number) = numbers.get(place as usize) else { continue };
            if is_only {
                cells.push((*number, agg));
                continue;
            }
            match places.entry(*number) {
                Entry::Occupied(known) => cells[*known.get()].1.add(&agg, arithmetic),
                Entry::Vacant(new) => {
                    new.insert(cells.len());
                    cells.push((*number, agg));
                }
            }
        }
    }
    runs
}
