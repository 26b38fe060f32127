//! All cubes, as the writer changes them and readers see them.
//!
//! The writer puts a commit's changes in before it commits, under the number under which they are written to
//! the store, and takes them out again when the commit fails. A reader knows the number of its own snapshot:
//! what was put in after it is subtracted. So readers wait for no commit, and see exactly what its rows say.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::agg::{Agg, Arithmetic};
use super::cube::{Cells, Chunk, Cube, Head, Key};
use super::delta::{CubeDelta, Delta, Run};
use super::gather::Change;
use super::spec::{Spec, Subject};
use crate::metric::{Member, Test};

/// Commits that readers may be behind, and cells that these may have.
const MOST_BEHIND: usize = 1_024;
const MOST_CELLS_BEHIND: usize = 1 << 20;

/// Cells of minutes over all cubes, about 48 bytes each; with more of them the oldest minutes go.
const MOST_FINE_CELLS: usize = if cfg!(test) { 400 } else { 1 << 21 };

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
    /// Number of what was put in last.
    applied: i64,
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
        let later = || inner.recent.range(inner.recent.len() - behind..);
        let later = || later().flat_map(|(_, delta)| delta.of(number, ask.tenant));
        let Some(cube) = inner.cubes.get(&number).and_then(|cubes| cubes.get(ask.tenant)) else {
            return Some(Told::default());
        };
        let is_plain = ask.group_by.is_empty() && ask.tests.is_empty() && ask.without.0.is_empty();
        if !is_plain && !cube.keeps_groups() {
            return None;
        }
        let inside = cube.inner(ask.from, ask.to);
        if let ((Some(first), Some(end)), Some(from), Some(to)) = (inside, ask.from, ask.to)
            && first >= end
        {
            return Some(Told { edges: vec![(from, to)], ..Told::default() });
        }
        let minutes = |minute: i64| minute.saturating_mul(super::cube::MINUTE);
        let mut edges = Vec::new();
        let is_there = |time: i64| later().next().is_some() || cube.has_rows_at(time);
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
        let is_inside = |run: &&Run| match (inside, run.minute) {
            ((None, None), _) => true,
            (_, None) => false,
            ((from, to), Some(minute)) => {
                from.is_none_or(|from| minute >= from) && to.is_none_or(|to| minute < to)
            }
        };
        let later = later().filter(is_inside);
        let groups = match is_plain {
            true => plain(cube, inside, later),
            false => grouped(cube, ask, inside, later),
        };
        Some(Told { groups, edges })
    }

    /// How much there is.
    pub(crate) fn size(&self) -> Size {
        let inner = self.read();
        let cubes = inner.cubes.values().flat_map(HashMap::values);
        Size {
            whole: inner.kept.values().filter(|kept| kept.whole_since.is_some()).count(),
            all: inner.kept.len(),
            groups: cubes.map(|cube| cube.keys().len()).sum(),
        }
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
        for change in changes {
            let Change { spec, tenant, keys, cells } = change;
            let Some(cube) = inner.cube(spec, &tenant) else { continue };
            let numbers: Vec<u32> = keys.iter().map(|key| cube.group(key)).collect();
            let mut runs: Vec<Run> = Vec::new();
            for (minute, place, agg) in cells {
                let group = numbers.get(place as usize).copied().unwrap_or(0);
                match runs.last_mut() {
                    Some(run) if run.minute == minute => run.cells.push((group, agg)),
                    _ => runs.push(Run { minute, cells: vec![(group, agg)] }),
                }
            }
            cube.add(&runs, false);
            let (first_key, keys) = cube.new_keys();
            let keeps_groups = cube.keeps_groups();
            delta.cubes.push(CubeDelta { spec, tenant, keeps_groups, first_key, keys, runs });
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
        for change in &delta.cubes {
            if let Some(cube) = inner.cube(change.spec, &change.tenant) {
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
            if let Some(cube) = inner.cube(change.spec, &change.tenant) {
                cube.add(&change.runs, true);
            }
        }
    }

    /// Gives up minutes where there are too many.
    pub(crate) fn coarsen(&self) {
        let mut inner = self.write();
        loop {
            let cubes = inner.cubes.values_mut().flat_map(HashMap::values_mut);
            let mut sized: Vec<(usize, &mut Cube)> =
                cubes.map(|cube| (cube.fine_cells(), cube)).collect();
            let all: usize = sized.iter().map(|(cells, _)| cells).sum();
            let largest = sized.iter_mut().max_by_key(|(cells, _)| *cells);
            let Some((cells, cube)) = largest.filter(|_| all > MOST_FINE_CELLS) else { return };
            cube.coarsen();
            if cube.fine_cells() >= *cells {
                // Its newest hours alone are too many.
                return;
            }
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
        self.write().applied = number;
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
        let Some(cube) = inner.cube(number, tenant) else { return false };
        if let Some(head) = head {
            cube.load_head(head);
        }
        chunk.is_none_or(|(hour, chunk)| cube.load_chunk(hour, chunk))
    }

    /// At a start: what was committed under the next number. The specs that it does not fit.
    pub(crate) fn load_delta(&self, delta: &Delta) -> Vec<i64> {
        let mut inner = self.write();
        inner.applied += 1;
        let mut unfit = Vec::new();
        for change in &delta.cubes {
            let cube = inner.cube(change.spec, &change.tenant);
            if cube.is_some_and(|cube| !cube.load_delta(change)) {
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
    /// The cube of a spec and a tenant, made when it is new; `None`: the spec is not kept.
    fn cube(&mut self, number: i64, tenant: &str) -> Option<&mut Cube> {
        let kept = self.kept.get(&number)?;
        let cubes = self.cubes.entry(number).or_default();
        if !cubes.contains_key(tenant) {
            let cube = Cube::new(kept.spec.arithmetic, kept.spec.dimensions, kept.fine_from);
            cubes.insert(tenant.into(), cube);
        }
        cubes.get_mut(tenant)
    }
}

type Bounds = (Option<i64>, Option<i64>);

/// The sum over all groups.
fn plain<'a>(
    cube: &Cube,
    (from, to): Bounds,
    later: impl Iterator<Item = &'a Run>,
) -> BTreeMap<Vec<Member>, Agg> {
    let arithmetic = cube.arithmetic();
    let mut all = Agg::default();
    cube.over(from, to, |cells| all.add(cells.all(), arithmetic));
    for (_, agg) in later.flat_map(|run| &run.cells) {
        all.add(&agg.negated(arithmetic), arithmetic);
    }
    BTreeMap::from([(Vec::new(), all)])
}

/// Sums by the values of some dimensions, of the groups that pass.
fn grouped<'a>(
    cube: &Cube,
    ask: &Ask<'_>,
    (from, to): Bounds,
    later: impl Iterator<Item = &'a Run>,
) -> BTreeMap<Vec<Member>, Agg> {
    let (targets, mut sums) = targets(cube.keys(), ask);
    let arithmetic: Arithmetic = cube.arithmetic();
    let mut put = |group: u32, agg: &Agg| {
        if let Some(Some(target)) = targets.get(group as usize) {
            sums[*target].1.add(agg, arithmetic);
        }
    };
    cube.over(from, to, |cells: &Cells| cells.each(&mut put));
    for (group, agg) in later.flat_map(|run| &run.cells) {
        put(*group, &agg.negated(arithmetic));
    }
    let is_grouped = !ask.group_by.is_empty();
    sums.into_iter().filter(|(_, agg)| !is_grouped || agg.rows != 0).collect()
}

/// For each group where it is added up, if it passes, and the places there are.
fn targets(keys: &[Key], ask: &Ask<'_>) -> (Vec<Option<usize>>, Vec<(Vec<Member>, Agg)>) {
    let mut places: HashMap<Vec<Member>, usize> = HashMap::new();
    let mut sums: Vec<(Vec<Member>, Agg)> = Vec::new();
    if ask.group_by.is_empty() {
        // Over all groups there is a value, whichever pass.
        sums.push((Vec::new(), Agg::default()));
        places.insert(Vec::new(), 0);
    }
    let picked = |key: &Key, places: &[usize]| -> Vec<Member> {
        places.iter().map(|place| key.get(*place).cloned().unwrap_or(Member::None)).collect()
    };
    let targets = keys.iter().map(|key| {
        let passes = |(place, test): &(usize, &Test)| {
            key.get(*place).is_some_and(|member| test.passes(member))
        };
        let (without, groups) = ask.without;
        if !ask.tests.iter().all(passes)
            || (!without.is_empty() && groups.contains(&picked(key, without)))
        {
            return None;
        }
        let own = picked(key, ask.group_by);
        let next = sums.len();
        Some(*places.entry(own).or_insert_with_key(|own| {
            sums.push((own.clone(), Agg::default()));
            next
        }))
    });
    (targets.collect(), sums)
}
