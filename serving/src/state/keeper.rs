//! All cubes, as the writer changes them and readers see them.
//!
//! The writer puts a commit's changes in before it commits, under the number under which they are written to
//! the store, and takes them out again when the commit fails. A reader knows the number of its own snapshot:
//! what was put in after it is subtracted. So readers wait for no commit, and see exactly what its rows say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::agg::{Agg, Arithmetic};
use super::cube::{Cells, Chunk, Cube, Head, MINUTE};
use super::delta::{Bucket, CubeDelta, Delta, Run};
use super::face::Key;
use super::gather::Change;
use super::spec::{Spec, Subject};
use crate::metric::{Member, Test};

/// Commits that readers may be behind, and cells that these may have.
const MOST_BEHIND: usize = 1_024;
const MOST_CELLS_BEHIND: usize = 1 << 19;

/// Cells of minutes over all cubes, about 48 bytes each; with more of them the oldest minutes go.
const MOST_FINE_CELLS: usize = if cfg!(test) { 400 } else { 1 << 21 };

/// Tenants of a spec that have a cube, those that came first: even an empty one is kilobytes. Which ones is part
/// of what the store has, so this is part of [`Spec::fingerprint`].
pub(super) const MOST_TENANTS: usize = if cfg!(test) { 16 } else { 4_096 };

/// The cubes. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeper {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: BTreeMap<i64, Kept>,
    by_subject: HashMap<Subject, i64>,
    cubes: HashMap<i64, HashMap<Box<str>, Cube>>,
    /// Cubes that came with what was put in last, until it is committed.
    newest: Vec<(i64, Box<str>)>,
    /// Number of what was put in last, and of what was committed last.
    applied: i64,
    committed: i64,
    recent: VecDeque<(i64, Arc<Delta>)>,
    recent_cells: usize,
}

#[derive(Debug)]
struct Kept {
    spec: Arc<Spec>,
    /// From which number on it is whole.
    whole_since: Option<i64>,
    /// Hours before it have no minutes in a new cube.
    fine_from: i64,
}

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
    /// Spans of time within the window that are to be read from rows, µs.
    pub(crate) edges: Vec<(i64, i64)>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Specs that answer.
    pub(crate) whole: usize,
    /// Specs.
    pub(crate) all: usize,
    /// Groups.
    pub(crate) groups: usize,
}

impl Keeper {
    /// Answers from cells; `None` where only rows can.
    pub(crate) fn tell(&self, ask: &Ask<'_>) -> Option<Told> {
        let inner = self.read();
        let number = *inner.by_subject.get(&ask.subject)?;
        let kept = inner.kept.get(&number)?;
        if kept.whole_since? > ask.at || ask.at > inner.applied {
            return None;
        }
        // Numbers are consecutive.
        let behind = usize::try_from(inner.applied - ask.at).ok()?;
        if behind > inner.recent.len() {
            return None;
        }
        let cubes = inner.cubes.get(&number);
        let Some(cube) = cubes.and_then(|cubes| cubes.get(ask.tenant)) else {
            // A tenant without a cube has no rows, unless it came when there was no room.
            let has_room = cubes.is_none_or(|cubes| cubes.len() < MOST_TENANTS);
            return has_room.then(Told::default);
        };
        let newer = inner.recent.range(inner.recent.len() - behind..);
        let newer: Vec<&CubeDelta> =
            newer.flat_map(|(_, delta)| delta.of(number, ask.tenant)).collect();
        let view = View::of(cube, ask, &newer)?;
        let inside = cube.inner(ask.from, ask.to);
        if let ((Some(first), Some(end)), Some(from), Some(to)) = (inside, ask.from, ask.to)
            && first >= end
        {
            return Some(Told { edges: vec![(from, to)], ..Told::default() });
        }
        let minutes = |minute: i64| minute.saturating_mul(MINUTE);
        let mut edges = Vec::new();
        // Without newer changes the cells are those of the snapshot, and an empty edge has no rows.
        let is_there = |time: i64| {
            !newer.is_empty() || cube.around(time).is_some_and(|cells| view.has_any(cells))
        };
        if let (Some(from), Some(inner)) = (ask.from, inside.0.map(minutes))
            && from < inner
            && is_there(from)
        {
            edges.push((from, inner));
        }
        if let (Some(to), Some(inner)) = (ask.to, inside.1.map(minutes))
            && inner < to
            && is_there(inner)
        {
            edges.push((inner, to));
        }
        Some(Told { groups: view.sums(inside, &newer), edges })
    }

    /// How much there is.
    pub(crate) fn size(&self) -> Size {
        let inner = self.read();
        let cubes = inner.cubes.values().flat_map(HashMap::values);
        Size {
            whole: inner.kept.values().filter(|kept| kept.whole_since.is_some()).count(),
            all: inner.kept.len(),
            groups: cubes.flat_map(Cube::faces).map(|face| face.keys().len()).sum(),
        }
    }

    /// The number of what was put in last, if it is committed: when it was that before a snapshot began and
    /// still is, it is that of the snapshot.
    pub(crate) fn settled(&self) -> Option<i64> {
        let inner = self.read();
        (inner.applied == inner.committed).then_some(inner.applied)
    }

    /// The number of what was put in last.
    pub(crate) fn applied(&self) -> i64 {
        self.read().applied
    }

    /// From now on a spec is kept; it answers from `whole_since` on.
    pub(crate) fn keep(
        &self,
        number: i64,
        spec: Arc<Spec>,
        fine_from: i64,
        whole_since: Option<i64>,
    ) {
        let mut inner = self.write();
        inner.by_subject.insert(spec.subject, number);
        inner.kept.insert(number, Kept { spec, whole_since, fine_from });
    }

    /// A spec has everything since then.
    pub(crate) fn is_whole(&self, number: i64, since: i64) {
        if let Some(kept) = self.write().kept.get_mut(&number) {
            kept.whole_since = Some(since);
        }
    }

    /// Nobody is told anything of these any more.
    pub(crate) fn forget(&self, numbers: impl IntoIterator<Item = i64>) {
        let mut inner = self.write();
        for number in numbers {
            if let Some(kept) = inner.kept.remove(&number) {
                inner.by_subject.remove(&kept.spec.subject);
            }
            inner.cubes.remove(&number);
        }
    }

    /// Puts changes in, under the next number. What is to be written beside their rows.
    pub(crate) fn apply(&self, changes: Vec<Change>) -> (i64, Arc<Delta>) {
        let mut inner = self.write();
        let mut delta = Delta::default();
        inner.newest.clear();
        for change in changes {
            let Change { spec, tenant, keys, cells } = change;
            let Some((cube, is_new)) = inner.cube(spec, &tenant) else { continue };
            let numbers = cube.numbers(&keys);
            let runs = runs(cells, &numbers, cube.arithmetic());
            cube.add(&runs, false);
            let faces = cube.new_keys();
            if is_new {
                inner.newest.push((spec, tenant.clone()));
            }
            delta.cubes.push(CubeDelta { spec, tenant, faces, runs });
        }
        let delta = Arc::new(delta);
        inner.applied += 1;
        let applied = inner.applied;
        inner.recent.push_back((applied, Arc::clone(&delta)));
        inner.recent_cells += delta.cells();
        while inner.recent.len() > MOST_BEHIND || inner.recent_cells > MOST_CELLS_BEHIND {
            // The newest stays: whoever reads beside its commit needs it.
            if inner.recent.len() == 1 {
                break;
            }
            let Some((_, oldest)) = inner.recent.pop_front() else { break };
            inner.recent_cells -= oldest.cells();
        }
        (applied, delta)
    }

    /// What was put in last is committed.
    pub(crate) fn committed(&self, delta: &Delta) {
        let mut inner = self.write();
        inner.committed = inner.applied;
        inner.newest.clear();
        for change in &delta.cubes {
            if let Some((cube, _)) = inner.cube(change.spec, &change.tenant) {
                cube.keys_stored();
            }
        }
    }

    /// What was put in last was not committed.
    pub(crate) fn undo(&self) {
        let mut inner = self.write();
        let Some((_, delta)) = inner.recent.pop_back() else { return };
        inner.applied -= 1;
        inner.recent_cells -= delta.cells();
        for change in &delta.cubes {
            if let Some((cube, _)) = inner.cube(change.spec, &change.tenant) {
                cube.add(&change.runs, true);
            }
        }
        // The store does not know them: others may come first there.
        for (spec, tenant) in std::mem::take(&mut inner.newest) {
            inner.cubes.get_mut(&spec).and_then(|cubes| cubes.remove(&tenant));
        }
    }

    /// Gives up minutes where there are too many.
    pub(crate) fn coarsen(&self) {
        let mut inner = self.write();
        let cubes = inner.cubes.values_mut().flat_map(HashMap::values_mut);
        let mut sized: Vec<(usize, &mut Cube)> =
            cubes.map(|cube| (cube.fine_cells(), cube)).collect();
        let mut all: usize = sized.iter().map(|(cells, _)| cells).sum();
        if all <= MOST_FINE_CELLS {
            return;
        }
        // The largest first, each once: what is still too much goes the next time.
        sized.sort_unstable_by_key(|(cells, _)| std::cmp::Reverse(*cells));
        for (cells, cube) in sized {
            if all <= MOST_FINE_CELLS {
                return;
            }
            cube.coarsen();
            all -= cells - cube.fine_cells().min(cells);
        }
    }

    /// Has every cube written anew with the next [`Self::unsaved`].
    pub(crate) fn mark_all(&self) {
        let mut inner = self.write();
        let cubes = inner.cubes.values_mut().flat_map(HashMap::values_mut);
        cubes.for_each(Cube::mark_all);
    }

    /// Calls `write` with what the store does not have of each cube, but for what it has as changes.
    pub(crate) fn unsaved<E>(
        &self,
        mut write: impl FnMut(i64, &str, Option<Head>, Vec<(Option<i64>, Chunk)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = self.read();
        for (number, cubes) in &inner.cubes {
            for (tenant, cube) in cubes {
                let (head, chunks) = cube.unsaved();
                if head.is_some() || !chunks.is_empty() {
                    write(*number, tenant, head, chunks)?;
                }
            }
        }
        Ok(())
    }

    /// The store has everything as it is here.
    pub(crate) fn saved(&self) {
        let mut inner = self.write();
        inner.cubes.values_mut().flat_map(HashMap::values_mut).for_each(Cube::saved);
    }

    /// At a start: the number of what the store has in full.
    pub(crate) fn starts_at(&self, number: i64) {
        let mut inner = self.write();
        (inner.applied, inner.committed) = (number, number);
    }

    /// At a start: what the store has of a cube. False: it does not fit.
    pub(crate) fn load(
        &self,
        number: i64,
        tenant: &str,
        head: Option<Head>,
        chunk: Option<(Option<i64>, Chunk)>,
    ) -> bool {
        let mut inner = self.write();
        let Some((cube, _)) = inner.cube(number, tenant) else { return false };
        if let Some(head) = head {
            cube.load_head(head);
        }
        chunk.is_none_or(|(hour, chunk)| cube.load_chunk(hour, chunk))
    }

    /// At a start: what was committed under the next number. The specs that it does not fit.
    pub(crate) fn load_delta(&self, delta: &Delta) -> Vec<i64> {
        let mut inner = self.write();
        inner.applied += 1;
        inner.committed = inner.applied;
        let mut unfit = Vec::new();
        for change in &delta.cubes {
            let cube = inner.cube(change.spec, &change.tenant);
            if cube.is_some_and(|(cube, _)| !cube.load_delta(change)) {
                unfit.push(change.spec);
            }
        }
        unfit
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The cube of a spec and a tenant, and whether it was made now; `None`: the spec is not kept, or there is
    /// no room for another tenant.
    fn cube(&mut self, number: i64, tenant: &str) -> Option<(&mut Cube, bool)> {
        let kept = self.kept.get(&number)?;
        let cubes = self.cubes.entry(number).or_default();
        let is_new = !cubes.contains_key(tenant);
        if is_new {
            if cubes.len() >= MOST_TENANTS {
                return None;
            }
            let cube = Cube::new(kept.spec.arithmetic, kept.spec.dimensions, kept.fine_from);
            cubes.insert(tenant.into(), cube);
        }
        Some((cubes.get_mut(tenant)?, is_new))
    }
}

/// Cells of a change by span of time, with the numbers that its groups have in each face.
fn runs(cells: Vec<(Bucket, u32, Agg)>, numbers: &[Vec<u32>], arithmetic: Arithmetic) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut places: Vec<HashMap<u32, usize>> = vec![HashMap::new(); numbers.len()];
    for (bucket, place, agg) in cells {
        if runs.last().is_none_or(|run| run.bucket != bucket) {
            places.iter_mut().for_each(HashMap::clear);
            runs.push(Run { bucket, all: Agg::default(), faces: vec![Vec::new(); numbers.len()] });
        }
        let Some(run) = runs.last_mut() else { continue };
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
