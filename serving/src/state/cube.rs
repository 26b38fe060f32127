//! The cells of one metric and one tenant, by time and group.
//!
//! Time is cut into minutes, hours and days, each kept as the sum of the next finer ones, and there is the sum
//! of all: a window of any length is put together from at most 59 + 23 + … + 59 spans. Only the newest hours are cut
//! into minutes ([`Cube::coarsen`]), and only where that pays ([`mod@super::gather`]); a window that begins or ends
//! within an hour or a minute that is not cut further gets the rest from rows.
//!
//! Start at [`Cube::add`] and [`Cube::over`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::agg::Arithmetic;
use super::cells::{Adding, Cells, StoredCells};
use super::delta::{Bucket, CubeDelta, FaceDelta, Run};
use super::face::{Face, Key, StoredFace};

/// µs in a minute.
pub(crate) const MINUTE: i64 = 60_000_000;
/// Minutes in an hour, hours in a day.
pub(crate) const HOUR: i64 = 60;
const DAY: i64 = 24;

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
    faces: Vec<Face>,
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
    faces: Vec<StoredFace>,
    fine_from: i64,
}

/// What the store keeps of an hour: its minutes, or the whole.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    minutes: Option<Vec<(u8, StoredCells)>>,
    whole: StoredCells,
}

impl Cube {
    /// An empty one. Hours before `fine_from` are not cut into minutes.
    pub(super) fn new(arithmetic: Arithmetic, dimensions: usize, fine_from: i64) -> Self {
        Self {
            arithmetic,
            faces: vec![Face::new((0..dimensions as u8).collect())],
            fine_from,
            hours: BTreeMap::new(),
            days: BTreeMap::new(),
            timeless: Cells::default(),
            all: Cells::default(),
            dirty: BTreeSet::new(),
            is_head_dirty: true,
        }
    }

    /// By what its groups are told apart.
    pub(crate) fn faces(&self) -> &[Face] {
        &self.faces
    }

    /// How its sums are made.
    pub(crate) fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// For each face the numbers of these groups; a face that is given up has none.
    pub(super) fn numbers(&mut self, keys: &[Key]) -> Vec<Vec<u32>> {
        let mut place = 0;
        let mut all = Vec::new();
        while let Some(face) = self.faces.get_mut(place) {
            let numbers: Option<Vec<u32>> = match face.is_kept() {
                true => keys.iter().map(|key| face.number(face.part(key)).ok()).collect(),
                false => Some(Vec::new()),
            };
            match numbers {
                Some(numbers) => {
                    all.push(numbers);
                    place += 1;
                }
                None if face.dimensions().len() > 1 => {
                    // The faces that it becomes are numbered from the first one on.
                    self.split();
                    all.clear();
                    place = 0;
                }
                None => self.give_up(place),
            }
        }
        all
    }

    /// A face for each dimension in place of the one of all.
    fn split(&mut self) {
        let Some(whole) = self.faces.pop() else { return };
        let mut faces: Vec<Face> =
            whole.dimensions().iter().map(|place| Face::new(vec![*place])).collect();
        let numbers: Vec<Vec<Option<u32>>> = faces
            .iter_mut()
            .map(|face| whole.keys().iter().map(|key| face.number(face.part(key)).ok()).collect())
            .collect();
        let arithmetic = self.arithmetic;
        self.each_mut(|cells| cells.regroup(&numbers, &faces, arithmetic));
        self.faces = faces;
        self.mark_all();
    }

    /// Groups of a face are not told apart any more.
    fn give_up(&mut self, place: usize) {
        if let Some(face) = self.faces.get_mut(place) {
            face.give_up();
        }
        self.each_mut(|cells| cells.give_up(place));
        self.mark_all();
    }

    fn each_mut(&mut self, mut change: impl FnMut(&mut Cells)) {
        for hour in self.hours.values_mut() {
            change(&mut hour.cells);
            hour.minutes.iter_mut().flat_map(BTreeMap::values_mut).for_each(&mut change);
        }
        self.days.values_mut().for_each(&mut change);
        change(&mut self.timeless);
        change(&mut self.all);
    }

    /// Keys that the store does not have yet.
    pub(super) fn new_keys(&self) -> Vec<FaceDelta> {
        self.faces.iter().map(Face::delta).collect()
    }

    /// The store has all keys.
    pub(super) fn keys_stored(&mut self) {
        self.faces.iter_mut().for_each(Face::is_stored);
    }

    /// Puts in what a commit changed, or takes it out again.
    pub(super) fn add(&mut self, runs: &[Run], is_undone: bool) {
        let with = Adding { arithmetic: self.arithmetic, faces: &self.faces, is_undone };
        for run in runs {
            if run.is_empty() {
                // Rows may have gone from minute to minute.
                if let Bucket::Hour(number) = run.bucket
                    && let Some(hour) = self.hours.get_mut(&number)
                    && hour.minutes.take().is_some()
                {
                    self.dirty.insert(Some(number));
                }
                continue;
            }
            self.all.add(run, &with);
            let Some((number, minute)) = run.bucket.hour() else {
                self.timeless.add(run, &with);
                self.dirty.insert(None);
                continue;
            };
            let is_fine = number >= self.fine_from;
            let hour = self.hours.entry(number).or_insert_with(|| Hour {
                cells: Cells::default(),
                minutes: is_fine.then(BTreeMap::new),
            });
            match (minute, &mut hour.minutes) {
                (Some(minute), Some(minutes)) => {
                    minutes.entry(minute).or_default().add(run, &with);
                }
                (None, minutes) => *minutes = None,
                (Some(_), None) => {}
            }
            hour.cells.add(run, &with);
            self.days.entry(number.div_euclid(DAY)).or_default().add(run, &with);
            self.dirty.insert(Some(number));
        }
    }

    /// The first minute of a window from `from` (µs) that is kept, and the first after a window until `to`:
    /// what lies between the two and the bounds has to come from rows.
    pub(crate) fn inner(&self, from: Option<i64>, to: Option<i64>) -> (Option<i64>, Option<i64>) {
        let step = |time: i64| {
            let hour = self.hours.get(&time.div_euclid(MINUTE).div_euclid(HOUR));
            // In an hour without rows nothing is cut.
            if hour.is_none_or(|hour| hour.minutes.is_some()) { 1 } else { HOUR }
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

    /// The cells of the minute or hour around a time (µs).
    pub(crate) fn around(&self, time: i64) -> Option<&Cells> {
        let minute = time.div_euclid(MINUTE);
        let hour = self.hours.get(&minute.div_euclid(HOUR))?;
        match &hour.minutes {
            Some(minutes) => minutes.get(&(minute.rem_euclid(HOUR) as u8)),
            None => Some(&hour.cells),
        }
    }

    /// The minute or hour around a time (µs) that is not cut further.
    pub(crate) fn bucket(&self, time: i64) -> Bucket {
        let minute = time.div_euclid(MINUTE);
        let hour = minute.div_euclid(HOUR);
        match self.hours.get(&hour) {
            Some(Hour { minutes: None, .. }) => Bucket::Hour(hour),
            _ => Bucket::Minute(minute),
        }
    }

    /// Hours from one to before another, and their cells.
    pub(crate) fn hours(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &Cells)> {
        let hours = self.hours.range(from..to.max(from));
        hours.map(|(number, hour)| (*number, &hour.cells))
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

    /// All of it, as the store is to keep it.
    pub(super) fn mark_all(&mut self) {
        self.dirty.extend(self.hours.keys().map(|hour| Some(*hour)));
        self.dirty.insert(None);
        self.is_head_dirty = true;
    }

    /// What is not in the store yet: the head if it changed, and hours.
    pub(super) fn unsaved(&self) -> (Option<Head>, Vec<(Option<i64>, Chunk)>) {
        let is_head_due = self.is_head_dirty || self.faces.iter().any(Face::has_new);
        let head = (is_head_due || !self.dirty.is_empty()).then(|| Head {
            faces: self.faces.iter().map(Face::to_store).collect(),
            fine_from: self.fine_from,
        });
        let chunk = |hour: &Option<i64>| {
            let whole = |cells: &Cells| Chunk { minutes: None, whole: cells.to_store() };
            let chunk = match hour.map(|hour| self.hours.get(&hour)) {
                None => whole(&self.timeless),
                Some(None) => whole(&Cells::default()),
                Some(Some(Hour { minutes: Some(minutes), .. })) => Chunk {
                    minutes: Some(
                        minutes.iter().map(|(m, cells)| (*m, cells.to_store())).collect(),
                    ),
                    whole: StoredCells::default(),
                },
                Some(Some(hour)) => whole(&hour.cells),
            };
            (*hour, chunk)
        };
        (head, self.dirty.iter().map(chunk).collect())
    }

    /// The store has everything.
    pub(super) fn saved(&mut self) {
        self.dirty.clear();
        self.is_head_dirty = false;
        self.keys_stored();
    }

    /// What the store has of it, before its hours.
    pub(super) fn load_head(&mut self, head: Head) {
        self.faces = head.faces.into_iter().map(Face::of_store).collect();
        self.fine_from = head.fine_from;
        self.is_head_dirty = false;
    }

    /// An hour, or the rows without a time. False: it names groups that there are not.
    pub(super) fn load_chunk(&mut self, hour: Option<i64>, chunk: Chunk) -> bool {
        let run = |bucket, StoredCells { all, faces }: StoredCells| Run { bucket, all, faces };
        let runs: Vec<Run> = match (hour, chunk.minutes) {
            (None, _) => vec![run(Bucket::Timeless, chunk.whole)],
            (Some(hour), None) => vec![run(Bucket::Hour(hour), chunk.whole)],
            (Some(hour), Some(minutes)) => minutes
                .into_iter()
                .map(|(m, cells)| run(Bucket::Minute(hour * HOUR + i64::from(m)), cells))
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
        if self.faces.len() == 1 && delta.faces.len() > 1 {
            self.split();
        }
        if self.faces.len() != delta.faces.len() {
            return false;
        }
        for (place, of_delta) in delta.faces.iter().enumerate() {
            if self.faces[place].dimensions() != of_delta.dimensions {
                return false;
            }
            if self.faces[place].is_kept() && !of_delta.is_kept {
                self.give_up(place);
            }
            if self.faces[place].is_kept() && !self.faces[place].load(of_delta) {
                return false;
            }
        }
        self.takes(&delta.runs) && {
            self.add(&delta.runs, false);
            true
        }
    }

    fn takes(&self, runs: &[Run]) -> bool {
        let fits = |run: &Run| {
            run.faces.len() <= self.faces.len()
                && run.faces.iter().zip(&self.faces).all(|(cells, face)| {
                    let width = face.keys().len();
                    !face.is_kept() || cells.iter().all(|(group, _)| (*group as usize) < width)
                })
        };
        runs.iter().all(fits)
    }
}
