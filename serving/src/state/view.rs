//! One cube as a reader's snapshot sees it: its cells without what came since.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::agg::Agg;
use super::ask::{Ask, Hours, Told, Unread};
use super::block::Block;
use super::cells::Cells;
use super::cube::{Cube, HOUR, MINUTE};
use super::delta::{Bucket, CubeDelta, Run};
use super::face::Key;
use super::pieces::{Found, MOST_ROWS, Piece, Pieces};
use crate::metric::{Member, Test};

/// Different values over which hours are put together: with more of them a statement does not take longer.
const MOST_VALUES: i64 = 4_000_000;

/// Hours that are put together: each is looked for among those that are kept.
const MOST_HOURS: usize = 1_024;

/// Blocks and the spans of them that are wanted, µs.
type Parts = Vec<(Arc<Block>, (i64, i64))>;

/// The cube that an ask is about.
pub(super) struct Asked<'a> {
    /// Number of the spec.
    pub(super) number: i64,
    pub(super) cube: &'a Cube,
    /// What was put in after the snapshot of the ask.
    pub(super) newer: Vec<&'a CubeDelta>,
}

impl Asked<'_> {
    /// Did anything in a span change after the snapshot?
    pub(super) fn is_newer(&self, bucket: Bucket) -> bool {
        let runs = self.newer.iter().flat_map(|change| &change.runs);
        runs.into_iter().any(|run| run.bucket.meets(bucket))
    }

    /// Answers from cells, with blocks that are still to be added; `None` where only rows can.
    pub(super) fn tell(&self, ask: &Ask<'_>, pieces: &Pieces) -> Option<(Told, Parts)> {
        let Self { cube, newer, .. } = self;
        let view = View::of(cube, ask, newer)?;
        let inside = cube.inner(ask.from, ask.to);
        let micros = |minute: i64| minute.saturating_mul(MINUTE);
        let (first, end) = (inside.0.map(micros), inside.1.map(micros));
        let whole = first.zip(end).filter(|(first, end)| first > end).and(ask.from.zip(ask.to));
        let cut = match whole {
            // It lies within one minute or hour.
            Some(_) => [whole, None],
            None => [ask.from.zip(first), end.zip(ask.to)],
        };
        let mut told = Told::default();
        let mut blocks = Vec::new();
        for span in cut.into_iter().flatten().filter(|(from, to)| from < to) {
            let cells = cube.around(span.0);
            // Without newer changes the cells are those of the snapshot, and an empty edge has no rows.
            if newer.is_empty() && !cells.is_some_and(|cells| view.has_any(cells)) {
                continue;
            }
            let bucket = cube.bucket(span.0);
            let is_small = cells.is_some_and(|cells| cells.all().rows <= MOST_ROWS);
            let is_kept = is_small && ask.is_of_metric() && !self.is_newer(bucket);
            match is_kept.then(|| pieces.find(self.number, ask.tenant, bucket)) {
                Some(Found::Piece(Piece::Rows(block))) => blocks.push((block, span)),
                Some(Found::Asked) => told.edges.push(Unread { span, of: Some(bucket) }),
                _ => told.edges.push(Unread { span, of: None }),
            }
        }
        if whole.is_none() {
            told.groups = view.sums(inside, newer);
        }
        Some((told, blocks))
    }

    /// See [`super::Keeper::hours`].
    pub(super) fn hours(&self, ask: &Ask<'_>, pieces: &Pieces) -> Option<Hours> {
        let from = ask.from?;
        let hour = HOUR * MINUTE;
        // Rounded up and down.
        let (first, end) = (-(-from).div_euclid(hour), ask.to.map(|to| to.div_euclid(hour)));
        if end.is_some_and(|end| first >= end) {
            return None;
        }
        let mut values = 0;
        let mut numbers = Vec::new();
        for (number, cells) in self.cube.hours(first, end.unwrap_or(i64::MAX)) {
            values += cells.all().n;
            if !cells.all().is_empty() {
                numbers.push(number);
            }
        }
        // What only newer commits have is read in vain; what they took out is not there to be found.
        let gone = self.newer.iter().flat_map(|change| &change.runs);
        let gone = gone.filter_map(|run| run.bucket.hour()).map(|(hour, _)| hour);
        numbers.extend(gone.filter(|hour| *hour >= first && end.is_none_or(|end| *hour < end)));
        numbers.sort_unstable();
        numbers.dedup();
        if values > MOST_VALUES || numbers.len() > MOST_HOURS {
            return None;
        }
        let buckets = numbers.iter().map(|hour| Bucket::Hour(*hour));
        let known = pieces.find_all(self.number, ask.tenant, buckets);
        let mut hours = Hours::default();
        for (number, piece) in numbers.into_iter().zip(known) {
            match piece {
                Some(Piece::Values(values)) if !self.is_newer(Bucket::Hour(number)) => {
                    hours.held.push(values);
                }
                _ => hours.missing.push(number),
            }
        }
        let edges = [Some((from, first * hour)), end.map(|end| end * hour).zip(ask.to)];
        hours.edges = edges.into_iter().flatten().filter(|(from, to)| from < to).collect();
        Some(hours)
    }
}

type Bounds = (Option<i64>, Option<i64>);

/// A question to one cube.
struct View<'a> {
    cube: &'a Cube,
    /// The face that tells the groups apart, and for each of its groups where it is added up, if it passes;
    /// `None`: all groups are one.
    face: Option<(usize, Vec<Option<u32>>)>,
    /// What is told apart.
    keys: Vec<Vec<Member>>,
    is_grouped: bool,
}

impl<'a> View<'a> {
    /// `None`: the cube does not tell what is asked apart.
    fn of(cube: &'a Cube, ask: &Ask<'_>, newer: &[&CubeDelta]) -> Option<Self> {
        let (without, without_groups) = ask.without;
        let tested = ask.tests.iter().map(|(place, _)| place);
        let needed: BTreeSet<usize> =
            ask.group_by.iter().chain(tested).chain(without).copied().collect();
        let is_grouped = !ask.group_by.is_empty();
        if needed.is_empty() {
            return Some(Self { cube, face: None, keys: vec![Vec::new()], is_grouped });
        }
        let fitting = cube.faces().iter().enumerate().filter(|(_, face)| face.has(&needed));
        let (place, face) = fitting.min_by_key(|(_, face)| face.keys().len())?;
        // Before it was cut into these faces.
        let is_same = |change: &&CubeDelta| {
            change.faces.get(place).is_some_and(|own| own.dimensions == face.dimensions())
        };
        if !newer.iter().all(is_same) {
            return None;
        }
        let own =
            |wanted: &usize| face.dimensions().iter().position(|own| usize::from(*own) == *wanted);
        let group_by: Vec<usize> = ask.group_by.iter().filter_map(own).collect();
        let without: Vec<usize> = without.iter().filter_map(own).collect();
        let tests: Vec<(usize, &Test)> =
            ask.tests.iter().filter_map(|(place, test)| Some((own(place)?, *test))).collect();
        let mut numbers: HashMap<Vec<Member>, u32> = HashMap::new();
        let mut keys: Vec<Vec<Member>> = Vec::new();
        if !is_grouped {
            // Over all groups there is a value, whichever pass.
            keys.push(Vec::new());
            numbers.insert(Vec::new(), 0);
        }
        let picked = |key: &Key, places: &[usize]| -> Vec<Member> {
            places.iter().map(|place| key[*place].clone()).collect()
        };
        let targets = face.keys().iter().map(|key| {
            if !tests.iter().all(|(place, test)| test.passes(&key[*place]))
                || (!without.is_empty() && without_groups.contains(&picked(key, &without)))
            {
                return None;
            }
            if !is_grouped {
                return Some(0);
            }
            let next = keys.len() as u32;
            Some(*numbers.entry(picked(key, &group_by)).or_insert_with_key(|key| {
                keys.push(key.clone());
                next
            }))
        });
        let targets = targets.collect();
        Some(Self { cube, face: Some((place, targets)), keys, is_grouped })
    }

    /// Has it rows that are asked for?
    fn has_any(&self, cells: &Cells) -> bool {
        let Some((face, targets)) = &self.face else { return !cells.all().is_empty() };
        let mut has = false;
        cells.each(*face, |group, _| {
            has |= targets.get(group as usize).is_some_and(Option::is_some);
        });
        has
    }

    /// Sums by what is told apart, over the minutes inside, without what is newer.
    fn sums(&self, (from, to): Bounds, newer: &[&CubeDelta]) -> BTreeMap<Vec<Member>, Agg> {
        let arithmetic = self.cube.arithmetic();
        let is_inside = |run: &&Run| run.bucket.is_in(from, to);
        let newer = newer.iter().flat_map(|change| &change.runs).filter(is_inside);
        let mut sums = vec![Agg::default(); self.keys.len()];
        match &self.face {
            None => {
                self.cube.over(from, to, |cells| sums[0].add(cells.all(), arithmetic));
                newer.for_each(|run| sums[0].add(&run.all.negated(arithmetic), arithmetic));
            }
            Some((face, targets)) => {
                let mut put = |group: u32, agg: &Agg| {
                    if let Some(Some(target)) = targets.get(group as usize) {
                        sums[*target as usize].add(agg, arithmetic);
                    }
                };
                self.cube.over(from, to, |cells| cells.each(*face, &mut put));
                for (group, agg) in newer.filter_map(|run| run.faces.get(*face)).flatten() {
                    put(*group, &agg.negated(arithmetic));
                }
            }
        }
        let sums = self.keys.iter().cloned().zip(sums);
        sums.filter(|(_, agg)| !self.is_grouped || agg.rows != 0).collect()
    }
}
