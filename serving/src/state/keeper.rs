//! All cubes, as the writer changes them and readers see them.
//!
//! The writer puts a commit's changes in before it commits, under the number under which they are written to
//! the store, and takes them out again when the commit fails. A reader knows the number of its own snapshot:
//! what was put in after it is subtracted. So readers wait for no commit, and see exactly what its rows say.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;

use super::ask::{Ask, Hours, Told};
use super::cube::{Chunk, Cube, Head};
use super::delta::{Bucket, CubeDelta, Delta, runs};
use super::gather::Change;
use super::pieces::{Piece, Pieces};
use super::spec::{Spec, Subject};
use super::view::Asked;

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
    /// Changed under a lock of `inner`, so that no commit comes in between.
    pieces: Arc<Pieces>,
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
        let Some(asked) = inner.asked(ask)? else { return Some(Told::default()) };
        let (mut told, blocks) = asked.tell(ask, &self.pieces)?;
        drop(inner);
        // No commit waits for these.
        blocks.iter().for_each(|(block, span)| told.put(block, *span, ask));
        Some(told)
    }

    /// What is known of the different values in a window with a beginning, over all groups; `None` where only
    /// rows can tell.
    pub(crate) fn hours(&self, ask: &Ask<'_>) -> Option<Hours> {
        let inner = self.read();
        match inner.asked(ask)? {
            Some(asked) => asked.hours(ask, &self.pieces),
            None => Some(Hours::default()),
        }
    }

    /// What is kept of this, if it is.
    pub(crate) fn spec(&self, subject: Subject) -> Option<Arc<Spec>> {
        let inner = self.read();
        let number = inner.by_subject.get(&subject)?;
        Some(Arc::clone(&inner.kept.get(number)?.spec))
    }

    /// Keeps what was read of a span in the snapshot of an ask, unless it changed since.
    pub(crate) fn hold(&self, ask: &Ask<'_>, bucket: Bucket, piece: Piece) {
        let inner = self.read();
        if let Some(Some(asked)) = inner.asked(ask)
            && !asked.is_newer(bucket)
        {
            self.pieces.put(asked.number, ask.tenant, bucket, piece);
        }
    }

    /// Bytes of what is kept of single minutes and hours.
    pub(crate) fn bytes_of_pieces(&self) -> usize {
        self.pieces.bytes()
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
            self.pieces.forget(number);
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
            self.pieces.touch(spec, &tenant, &runs);
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
    /// The cube that an ask is about; `None` where only rows can tell, `None` inside where there are none.
    fn asked<'a>(&'a self, ask: &Ask<'a>) -> Option<Option<Asked<'a>>> {
        let number = *self.by_subject.get(&ask.subject)?;
        let kept = self.kept.get(&number)?;
        if kept.whole_since? > ask.at || ask.at > self.applied {
            return None;
        }
        // Numbers are consecutive.
        let behind = usize::try_from(self.applied - ask.at).ok()?;
        if behind > self.recent.len() {
            return None;
        }
        let cubes = self.cubes.get(&number);
        let Some(cube) = cubes.and_then(|cubes| cubes.get(ask.tenant)) else {
            // A tenant without a cube has no rows, unless it came when there was no room.
            let has_room = cubes.is_none_or(|cubes| cubes.len() < MOST_TENANTS);
            return has_room.then_some(None);
        };
        let newer = self.recent.range(self.recent.len() - behind..);
        let newer = newer.flat_map(|(_, delta)| delta.of(number, ask.tenant)).collect();
        Some(Some(Asked { number, cube, newer }))
    }

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
