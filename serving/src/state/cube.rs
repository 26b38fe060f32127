//! The cells of one metric and one tenant, by time and group.
//!
//! Time is cut into minutes, hours and days, each kept as the sum of the next finer ones, and there is the sum
//! of all: a window of any length is put together from at most 59 + 23 + … + 59 spans. Minutes are kept for the
//! newest hours only ([`Cube::fine_from`]); a window that begins or ends within an hour or a minute that is not
//! cut further gets the rest from rows.
//!
//! Start at [`Cube::add`] and [`Cube::over`].

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::agg::{Agg, Arithmetic};
use super::delta::{CubeDelta, Run};
use crate::metric::Member;

/// µs in a minute.
pub(crate) const MINUTE: i64 = 60_000_000;
/// Minutes in an hour, hours in a day.
pub(crate) const HOUR: i64 = 60;
const DAY: i64 = 24;

/// Groups of one cube that are told apart. With more of them only the sums over all groups are kept: a cube
/// must not be larger than the rows it stands for.
pub(super) const MOST_GROUPS: usize = if cfg!(test) { 40 } else { 65_536 };

/// The values of a cube's dimensions in one group.
pub(crate) type Key = Box<[Member]>;

/// The cells of one span of time, by group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells {
    all: Agg,
    groups: Groups,
}

/// By number of the group.
#[derive(Debug, Clone)]
enum Groups {
    Sparse(HashMap<u32, Agg>),
    /// As many groups are in it as not: reading goes through memory in order.
    Dense(Vec<Agg>),
}

impl Default for Groups {
    fn default() -> Self {
        Self::Sparse(HashMap::new())
    }
}

impl Cells {
    /// The sum over all groups.
    pub(crate) fn all(&self) -> &Agg {
        &self.all
    }

    /// The groups that are in it.
    pub(crate) fn each(&self, mut visit: impl FnMut(u32, &Agg)) {
        match &self.groups {
            Groups::Sparse(groups) => groups.iter().for_each(|(group, agg)| visit(*group, agg)),
            Groups::Dense(groups) => {
                let cells = (0..).zip(groups).filter(|(_, agg)| !agg.is_empty());
                cells.for_each(|(group, agg)| visit(group, agg));
            }
        }
    }

    /// Number of cells.
    fn len(&self) -> usize {
        match &self.groups {
            Groups::Sparse(groups) => groups.len() + 1,
            Groups::Dense(groups) => groups.len() + 1,
        }
    }

    fn add(&mut self, group: u32, agg: &Agg, with: &Adding) {
        self.all.add(agg, with.arithmetic);
        if !with.keeps_groups {
            return;
        }
        let place = group as usize;
        match &mut self.groups {
            Groups::Dense(groups) => {
                if groups.len() <= place {
                    groups.resize(place + 1, Agg::default());
                }
                groups[place].add(agg, with.arithmetic);
            }
            Groups::Sparse(groups) => {
                let cell = groups.entry(group).or_default();
                cell.add(agg, with.arithmetic);
                if cell.is_empty() {
                    groups.remove(&group);
                } else if groups.len() >= 32 && groups.len() * 2 > with.width {
                    let mut dense = vec![Agg::default(); with.width];
                    for (group, agg) in groups.drain() {
                        dense[group as usize] = agg;
                    }
                    self.groups = Groups::Dense(dense);
                }
            }
        }
    }

    fn listed(&self, keeps_groups: bool) -> Vec<(u32, Agg)> {
        if !keeps_groups {
            return if self.all.is_empty() { Vec::new() } else { vec![(0, self.all)] };
        }
        let mut cells = Vec::new();
        self.each(|group, agg| cells.push((group, *agg)));
        cells.sort_unstable_by_key(|(group, _)| *group);
        cells
    }
}

/// How cells are added to.
#[derive(Clone, Copy)]
struct Adding {
    arithmetic: Arithmetic,
    keeps_groups: bool,
    width: usize,
}

/// An hour, cut into minutes where it is new enough.
#[derive(Debug, Clone, Default)]
struct Hour {
    cells: Cells,
    minutes: Option<BTreeMap<u8, Cells>>,
}

/// The cells of one metric and one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Cube {
    arithmetic: Arithmetic,
    keys: Vec<Key>,
    groups: HashMap<Key, u32>,
    /// Keys that the store has.
    stored: usize,
    keeps_groups: bool,
    fine_from: i64,
    hours: BTreeMap<i64, Hour>,
    days: BTreeMap<i64, Cells>,
    /// Rows without a time: in no window but the one that has no bounds.
    timeless: Cells,
    all: Cells,
    /// Hours that are not in the store as they are here; `None` stands for `timeless`.
    dirty: BTreeSet<Option<i64>>,
    is_head_dirty: bool,
}

/// What the store keeps of a cube besides its hours.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    keys: Vec<Vec<Member>>,
    keeps_groups: bool,
    fine_from: i64,
}

/// What the store keeps of an hour: its minutes, or the whole.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    minutes: Option<Vec<(u8, Listed)>>,
    whole: Listed,
}

type Listed = Vec<(u32, Agg)>;

impl Cube {
    /// An empty one. Hours before `fine_from` are not cut into minutes.
    pub(super) fn new(arithmetic: Arithmetic, dimensions: usize, fine_from: i64) -> Self {
        Self {
            arithmetic,
            keys: Vec::new(),
            groups: HashMap::new(),
            stored: 0,
            keeps_groups: dimensions > 0,
            fine_from,
            hours: BTreeMap::new(),
            days: BTreeMap::new(),
            timeless: Cells::default(),
            all: Cells::default(),
            dirty: BTreeSet::new(),
            is_head_dirty: true,
        }
    }

    /// The values of each group, by its number.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Are groups told apart?
    pub(crate) fn keeps_groups(&self) -> bool {
        self.keeps_groups
    }

    /// How its sums are made.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The number of a group, which it gets when it is new.
    pub(super) fn group(&mut self, key: &Key) -> u32 {
        if !self.keeps_groups {
            return 0;
        }
        if let Some(group) = self.groups.get(key) {
            return *group;
        }
        if self.keys.len() >= MOST_GROUPS {
            self.forget_groups();
            return 0;
        }
        let group = self.keys.len() as u32;
        self.keys.push(key.clone());
        self.groups.insert(key.clone(), group);
        group
    }

    /// Keys that the store does not have yet, and the number of the first of them.
    pub(super) fn new_keys(&self) -> (u32, Vec<Vec<Member>>) {
        let keys = self.keys.get(self.stored..).unwrap_or_default();
        (self.stored as u32, keys.iter().map(|key| key.to_vec()).collect())
    }

    /// The store has all keys.
    pub(super) fn keys_stored(&mut self) {
        self.stored = self.keys.len();
    }

    /// Only sums over all groups from now on.
    fn forget_groups(&mut self) {
        self.keeps_groups = false;
        self.keys.clear();
        self.groups.clear();
        self.stored = 0;
        let minutes = |hour: &mut Hour| {
            if let Some(minutes) = &mut hour.minutes {
                minutes.values_mut().for_each(|cells| cells.groups = Groups::default());
            }
            hour.cells.groups = Groups::default();
        };
        self.hours.values_mut().for_each(minutes);
        self.days.values_mut().for_each(|cells| cells.groups = Groups::default());
        self.timeless.groups = Groups::default();
        self.all.groups = Groups::default();
        self.dirty.extend(self.hours.keys().map(|hour| Some(*hour)));
        self.dirty.insert(None);
        self.is_head_dirty = true;
    }

    fn adding(&self) -> Adding {
        let Self { arithmetic, keeps_groups, .. } = *self;
        Adding { arithmetic, keeps_groups, width: self.keys.len().max(1) }
    }

    /// Puts in what a commit changed, or takes it out again.
    pub(super) fn add(&mut self, runs: &[Run], is_undone: bool) {
        let with = self.adding();
        for run in runs {
            let agg = |agg: &Agg| if is_undone { agg.negated(with.arithmetic) } else { *agg };
            let Some(minute) = run.minute else {
                for (group, cell) in &run.cells {
                    self.timeless.add(*group, &agg(cell), &with);
                    self.all.add(*group, &agg(cell), &with);
                }
                self.dirty.insert(None);
                continue;
            };
            let number = minute.div_euclid(HOUR);
            let is_fine = number >= self.fine_from;
            let hour = self.hours.entry(number).or_insert_with(|| Hour {
                cells: Cells::default(),
                minutes: is_fine.then(BTreeMap::new),
            });
            let day = self.days.entry(number.div_euclid(DAY)).or_default();
            let mut minutes = hour
                .minutes
                .as_mut()
                .map(|minutes| minutes.entry(minute.rem_euclid(HOUR) as u8).or_default());
            for (group, cell) in &run.cells {
                let agg = agg(cell);
                if let Some(minute) = &mut minutes {
                    minute.add(*group, &agg, &with);
                }
                hour.cells.add(*group, &agg, &with);
                day.add(*group, &agg, &with);
                self.all.add(*group, &agg, &with);
            }
            self.dirty.insert(Some(number));
        }
    }

    /// The first minute of a window from `from` (µs) that is kept, and the first after a window until `to`:
    /// what lies between the two and the bounds has to come from rows.
    pub(crate) fn inner(&self, from: Option<i64>, to: Option<i64>) -> (Option<i64>, Option<i64>) {
        let step = |time: i64| match time.div_euclid(MINUTE).div_euclid(HOUR) >= self.fine_from {
            true => 1,
            false => HOUR,
        };
        let up = |time: i64| {
            let step = step(time);
            // Rounded up.
            -(-time).div_euclid(MINUTE * step) * step
        };
        let down = |time: i64| {
            let step = step(time);
            time.div_euclid(MINUTE * step) * step
        };
        (from.map(up), to.map(down))
    }

    /// Visits cells that are together all rows of the minutes `from..to`: bounds of [`Self::inner`]. Without
    /// either these are all rows there are.
    pub(crate) fn over(&self, from: Option<i64>, to: Option<i64>, mut visit: impl FnMut(&Cells)) {
        let (from, to) = match (from, to) {
            (None, None) => return visit(&self.all),
            (from, to) => (from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX)),
        };
        let first_hour = from.div_euclid(HOUR) + i64::from(from.rem_euclid(HOUR) != 0);
        let end_hour = to.div_euclid(HOUR);
        if first_hour > end_hour {
            return self.minutes(from, to, &mut visit);
        }
        self.minutes(from, first_hour * HOUR, &mut visit);
        let first_day = first_hour.div_euclid(DAY) + i64::from(first_hour.rem_euclid(DAY) != 0);
        let end_day = end_hour.div_euclid(DAY);
        let hours = |range, visit: &mut dyn FnMut(&Cells)| {
            self.hours.range::<i64, std::ops::Range<i64>>(range).for_each(|(_, h)| visit(&h.cells));
        };
        if first_day > end_day {
            hours(first_hour..end_hour, &mut visit);
        } else {
            hours(first_hour..first_day * DAY, &mut visit);
            self.days.range(first_day..end_day).for_each(|(_, day)| visit(day));
            hours(end_day * DAY..end_hour, &mut visit);
        }
        if to != i64::MAX {
            self.minutes(end_hour * HOUR, to, &mut visit);
        }
    }

    /// Minutes within one hour.
    fn minutes(&self, from: i64, to: i64, visit: &mut dyn FnMut(&Cells)) {
        if from >= to {
            return;
        }
        let hour = self.hours.get(&from.div_euclid(HOUR));
        let minutes = hour.and_then(|hour| hour.minutes.as_ref()).into_iter();
        let first = from.rem_euclid(HOUR) as u8;
        let last = (to - 1).rem_euclid(HOUR) as u8;
        minutes.flat_map(|minutes| minutes.range(first..=last)).for_each(|(_, cells)| visit(cells));
    }

    /// Has it rows in the minute or hour around a time (µs)?
    pub(crate) fn has_rows_at(&self, time: i64) -> bool {
        let minute = time.div_euclid(MINUTE);
        let Some(hour) = self.hours.get(&minute.div_euclid(HOUR)) else { return false };
        let cells = match &hour.minutes {
            Some(minutes) => minutes.get(&(minute.rem_euclid(HOUR) as u8)),
            None => Some(&hour.cells),
        };
        cells.is_some_and(|cells| !cells.all.is_empty())
    }

    /// Cells of minutes.
    pub(super) fn fine_cells(&self) -> usize {
        let minutes = self.hours.range(self.fine_from..).filter_map(|(_, h)| h.minutes.as_ref());
        minutes.flat_map(BTreeMap::values).map(Cells::len).sum()
    }

    /// Gives up the minutes of the older half of the hours that have them; the newest three keep theirs.
    pub(super) fn coarsen(&mut self) {
        let fine = self.hours.range(self.fine_from..).filter(|(_, hour)| hour.minutes.is_some());
        let fine: Vec<i64> = fine.map(|(hour, _)| *hour).collect();
        let gone = (fine.len() / 2).min(fine.len().saturating_sub(3));
        let Some(first) = fine.get(gone) else { return };
        for hour in &fine[..gone] {
            if let Some(hour) = self.hours.get_mut(hour) {
                hour.minutes = None;
            }
            self.dirty.insert(Some(*hour));
        }
        if gone > 0 {
            self.fine_from = *first;
            self.is_head_dirty = true;
        }
    }

    /// All hours of it, as the store is to keep them.
    pub(super) fn mark_all(&mut self) {
        self.dirty.extend(self.hours.keys().map(|hour| Some(*hour)));
        self.dirty.insert(None);
        self.is_head_dirty = true;
    }

    /// What is not in the store yet: the head if it changed, and hours.
    pub(super) fn unsaved(&self) -> (Option<Head>, Vec<(Option<i64>, Chunk)>) {
        let is_head_due = self.is_head_dirty || self.stored < self.keys.len();
        let head = (is_head_due || !self.dirty.is_empty()).then(|| Head {
            keys: self.keys.iter().map(|key| key.to_vec()).collect(),
            keeps_groups: self.keeps_groups,
            fine_from: self.fine_from,
        });
        let chunk = |hour: &Option<i64>| {
            let listed = |cells: &Cells| cells.listed(self.keeps_groups);
            let chunk = match hour.map(|hour| self.hours.get(&hour)) {
                None => Chunk { minutes: None, whole: listed(&self.timeless) },
                Some(None) => Chunk { minutes: None, whole: Vec::new() },
                Some(Some(Hour { minutes: Some(minutes), .. })) => Chunk {
                    minutes: Some(minutes.iter().map(|(m, cells)| (*m, listed(cells))).collect()),
                    whole: Vec::new(),
                },
                Some(Some(hour)) => Chunk { minutes: None, whole: listed(&hour.cells) },
            };
            (*hour, chunk)
        };
        (head, self.dirty.iter().map(chunk).collect())
    }

    /// The store has everything.
    pub(super) fn saved(&mut self) {
        self.dirty.clear();
        self.is_head_dirty = false;
        self.stored = self.keys.len();
    }

    /// What the store has of it, hours after the head.
    pub(super) fn load_head(&mut self, head: Head) {
        let keys = head.keys.into_iter().map(Vec::into_boxed_slice);
        self.keys = keys.collect();
        self.groups = (0..).zip(&self.keys).map(|(i, key)| (key.clone(), i)).collect();
        self.stored = self.keys.len();
        self.keeps_groups = head.keeps_groups;
        self.fine_from = head.fine_from;
        self.is_head_dirty = false;
    }

    /// An hour, or the rows without a time. False: it names groups that there are not.
    pub(super) fn load_chunk(&mut self, hour: Option<i64>, chunk: Chunk) -> bool {
        let runs: Vec<Run> = match (hour, chunk.minutes) {
            (None, _) => vec![Run { minute: None, cells: chunk.whole }],
            (Some(hour), None) => vec![Run { minute: Some(hour * HOUR), cells: chunk.whole }],
            (Some(hour), Some(minutes)) => minutes
                .into_iter()
                .map(|(m, cells)| Run { minute: Some(hour * HOUR + i64::from(m)), cells })
                .collect(),
        };
        self.takes(&runs) && {
            self.add(&runs, false);
            self.dirty.clear();
            true
        }
    }

    /// What was committed after the store's hours were written. False: it does not fit.
    pub(super) fn load_delta(&mut self, delta: &CubeDelta) -> bool {
        if self.keeps_groups && !delta.keeps_groups {
            self.forget_groups();
        }
        if self.keeps_groups {
            let known = self.keys.len().saturating_sub(delta.first_key as usize);
            if self.keys.len() < delta.first_key as usize {
                return false;
            }
            for key in delta.keys.iter().skip(known) {
                self.group(&key.clone().into_boxed_slice());
            }
            self.stored = self.keys.len();
        }
        self.takes(&delta.runs) && {
            self.add(&delta.runs, false);
            true
        }
    }

    fn takes(&self, runs: &[Run]) -> bool {
        let width = self.keys.len();
        let fits = |group: u32| !self.keeps_groups || (group as usize) < width;
        runs.iter().flat_map(|run| &run.cells).all(|(group, _)| fits(*group))
    }
}
