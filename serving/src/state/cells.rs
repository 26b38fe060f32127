//! The cells of one span of time: the sum of all rows, and by face those of its groups.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::agg::{Agg, Arithmetic};
use super::delta::Run;
use super::face::Face;

/// Groups that are looked for one by one, however few there are.
const FEW: usize = 32;

/// The cells of one span of time, by group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells {
    all: Agg,
    /// By face of the cube; those that are not kept are empty.
    faces: Vec<Groups>,
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

impl Groups {
    fn each(&self, mut visit: impl FnMut(u32, &Agg)) {
        match self {
            Self::Sparse(groups) => groups.iter().for_each(|(group, agg)| visit(*group, agg)),
            Self::Dense(groups) => {
                let cells = (0..).zip(groups).filter(|(_, agg)| !agg.is_empty());
                cells.for_each(|(group, agg)| visit(group, agg));
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Sparse(groups) => groups.len(),
            Self::Dense(groups) => groups.len(),
        }
    }

    /// Before so many groups are added to one that is empty.
    fn make_room(&mut self, cells: usize, width: usize) {
        if self.len() == 0 && cells >= FEW && cells * 2 > width {
            *self = Self::Dense(vec![Agg::default(); width]);
        }
    }

    /// `width`: groups of the face.
    fn add(&mut self, group: u32, agg: &Agg, arithmetic: Arithmetic, width: usize) {
        let place = group as usize;
        match self {
            Self::Dense(groups) => {
                if groups.len() <= place {
                    groups.resize(place + 1, Agg::default());
                }
                groups[place].add(agg, arithmetic);
            }
            Self::Sparse(groups) => {
                let cell = groups.entry(group).or_default();
                cell.add(agg, arithmetic);
                if cell.is_empty() {
                    groups.remove(&group);
                } else if groups.len() >= FEW && groups.len() * 2 > width {
                    let mut dense = vec![Agg::default(); width.max(place + 1)];
                    for (group, agg) in groups.drain() {
                        dense[group as usize] = agg;
                    }
                    *self = Self::Dense(dense);
                }
            }
        }
    }

    fn listed(&self) -> Listed {
        let mut cells = Vec::new();
        self.each(|group, agg| cells.push((group, *agg)));
        cells.sort_unstable_by_key(|(group, _)| *group);
        cells
    }
}

impl Cells {
    /// The sum over all groups.
    pub(crate) fn all(&self) -> &Agg {
        &self.all
    }

    /// The groups of a face that are in it.
    pub(crate) fn each(&self, face: usize, visit: impl FnMut(u32, &Agg)) {
        if let Some(groups) = self.faces.get(face) {
            groups.each(visit);
        }
    }

    /// Number of cells.
    pub(super) fn len(&self) -> usize {
        1 + self.faces.iter().map(Groups::len).sum::<usize>()
    }

    pub(super) fn add(&mut self, run: &Run, with: &Adding<'_>) {
        let signed = |agg: &Agg| match with.is_undone {
            true => agg.negated(with.arithmetic),
            false => *agg,
        };
        self.all.add(&signed(&run.all), with.arithmetic);
        if self.faces.len() < with.faces.len() {
            self.faces.resize_with(with.faces.len(), Groups::default);
        }
        for ((groups, cells), face) in self.faces.iter_mut().zip(&run.faces).zip(with.faces) {
            if face.is_kept() {
                let width = face.keys().len();
                groups.make_room(cells.len(), width);
                for (group, agg) in cells {
                    groups.add(*group, &signed(agg), with.arithmetic, width);
                }
            }
        }
    }

    /// The same cells by other faces: for each group of the only face there was its numbers in those.
    pub(super) fn regroup(
        &mut self,
        numbers: &[Vec<Option<u32>>],
        faces: &[Face],
        arithmetic: Arithmetic,
    ) {
        let before = std::mem::take(&mut self.faces);
        self.faces.resize_with(faces.len(), Groups::default);
        let Some(before) = before.first() else { return };
        before.each(|group, agg| {
            for ((groups, numbers), face) in self.faces.iter_mut().zip(numbers).zip(faces) {
                if let Some(Some(number)) = numbers.get(group as usize) {
                    groups.add(*number, agg, arithmetic, face.keys().len());
                }
            }
        });
    }

    /// Groups of a face are not told apart any more.
    pub(super) fn give_up(&mut self, face: usize) {
        if let Some(groups) = self.faces.get_mut(face) {
            *groups = Groups::default();
        }
    }

    pub(super) fn to_store(&self) -> StoredCells {
        StoredCells { all: self.all, faces: self.faces.iter().map(Groups::listed).collect() }
    }
}

/// How cells are added to.
pub(super) struct Adding<'a> {
    pub(super) arithmetic: Arithmetic,
    pub(super) faces: &'a [Face],
    pub(super) is_undone: bool,
}

/// Groups that are in it, in order of their numbers.
pub(super) type Listed = Vec<(u32, Agg)>;

/// What the store keeps of cells.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredCells {
    pub(super) all: Agg,
    pub(super) faces: Vec<Listed>,
}
