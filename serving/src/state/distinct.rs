//! The different values of one hour, and how many there are in several hours together.
//!
//! An hour's values lie in [`PARTS`] parts by their hash, so that a union goes part by part through a table that
//! stays in the cache. Whole numbers are told apart by a hash of 64 bits that no two share; texts by 128 bits
//! of XXH3 with a seed of this process: of 10⁹ texts two are taken for one with a probability below 10⁻²⁰.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use contracts::types::Type;
use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_128_with_seed;

const PARTS: usize = 256;

/// The seed of the hashes of texts: who sends events does not know it.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let mut bytes = [0; 8];
    // Without it hashes are as good, but not secret.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
});

/// The different values of some rows.
#[derive(Debug)]
pub(crate) enum Distinct {
    Ints(Set<u64>),
    Texts(Set<u128>),
}

/// Hashes of values that are being gathered.
pub(crate) enum Gathered {
    Ints(Vec<u64>),
    Texts(Vec<u128>),
}

impl Distinct {
    /// Are values of this type told apart here?
    pub(crate) fn takes(ty: &Type) -> bool {
        matches!(ty, Type::Int64 | Type::String)
    }

    /// How many different values there are in all of these.
    pub(crate) fn count<'a>(sets: impl IntoIterator<Item = &'a Self>) -> u64 {
        let (mut ints, mut texts) = (Vec::new(), Vec::new());
        for set in sets {
            match set {
                Self::Ints(set) => ints.push(set),
                Self::Texts(set) => texts.push(set),
            }
        }
        count(&ints) + count(&texts)
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ints(set) => set.bytes(),
            Self::Texts(set) => set.bytes(),
        }
    }
}

impl Gathered {
    /// Of values of a type that [`Distinct::takes`].
    pub(crate) fn new(ty: &Type) -> Self {
        match ty {
            Type::Int64 => Self::Ints(Vec::new()),
            _ => Self::Texts(Vec::new()),
        }
    }

    /// Puts in the value of a row, if it has one.
    pub(crate) fn put(&mut self, values: &ArrayRef, row: usize) {
        if values.is_null(row) {
            return;
        }
        match (self, values.data_type()) {
            (Self::Ints(own), DataType::Int64) => {
                own.push(mixed(values.as_primitive::<Int64Type>().value(row)));
            }
            (Self::Texts(own), DataType::Utf8) => {
                let text = values.as_string::<i32>().value(row);
                own.push(xxh3_128_with_seed(text.as_bytes(), *SEED));
            }
            _ => {}
        }
    }

    /// All of them, each once.
    pub(crate) fn finish(self) -> Distinct {
        match self {
            Self::Ints(values) => Distinct::Ints(Set::of(&values)),
            Self::Texts(values) => Distinct::Texts(Set::of(&values)),
        }
    }
}

/// A hash that no two numbers share (the finalizer of SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn mixed(value: i64) -> u64 {
    let mut bits = value as u64;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A hash of a value.
pub(crate) trait Hash: Copy + Eq + Default {
    /// Its part.
    fn part(self) -> usize;
    /// Its place in a table, apart from the table's size.
    fn place(self) -> usize;
    /// One that is in no part but this one's opposite.
    fn stranger(part: usize) -> Self;
}

impl Hash for u64 {
    fn part(self) -> usize {
        (self >> 56) as usize
    }

    fn place(self) -> usize {
        self as usize
    }

    fn stranger(part: usize) -> Self {
        !(part as u64) << 56
    }
}

impl Hash for u128 {
    fn part(self) -> usize {
        (self >> 120) as usize
    }

    fn place(self) -> usize {
        self as usize
    }

    fn stranger(part: usize) -> Self {
        !(part as u128) << 120
    }
}

/// Hashes, each once, by part.
#[derive(Debug)]
pub(crate) struct Set<T> {
    hashes: Vec<T>,
    /// Where each part begins, and where the last one ends.
    begins: Vec<u32>,
}

impl<T: Hash> Set<T> {
    /// Of at most 2³² hashes.
    fn of(hashes: &[T]) -> Self {
        let mut ends = vec![0_usize; PARTS];
        hashes.iter().for_each(|hash| ends[hash.part()] += 1);
        let mut all = 0;
        for end in &mut ends {
            (*end, all) = (all, all + *end);
        }
        let mut by_part = vec![T::default(); hashes.len()];
        for hash in hashes {
            let place = &mut ends[hash.part()];
            by_part[*place] = *hash;
            *place += 1;
        }
        let mut set = Self { hashes: Vec::with_capacity(hashes.len()), begins: vec![0] };
        let (mut table, mut begin) = (Table::default(), 0);
        for (part, end) in ends.into_iter().enumerate() {
            table.clear(part, end - begin);
            let own = by_part[begin..end].iter().copied();
            set.hashes.extend(own.filter(|hash| table.is_new(*hash)));
            set.begins.push(set.hashes.len() as u32);
            begin = end;
        }
        set.hashes.shrink_to_fit();
        set
    }

    fn part(&self, part: usize) -> &[T] {
        &self.hashes[self.begins[part] as usize..self.begins[part + 1] as usize]
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.hashes.len() * size_of::<T>() + self.begins.len() * 4
    }
}

/// The size of the union.
fn count<T: Hash>(sets: &[&Set<T>]) -> u64 {
    if let [only] = sets {
        return only.hashes.len() as u64;
    }
    let mut table = Table::default();
    let of_part = |part: usize| {
        table.clear(part, sets.iter().map(|set| set.part(part).len()).sum());
        let hashes = sets.iter().flat_map(|set| set.part(part));
        hashes.filter(|hash| table.is_new(**hash)).count() as u64
    };
    (0..PARTS).map(of_part).sum()
}

/// The hashes of a part that came already: open addressing, at most half full.
#[derive(Default)]
struct Table<T> {
    cells: Vec<T>,
    mask: usize,
    free: T,
}

impl<T: Hash> Table<T> {
    fn clear(&mut self, part: usize, most: usize) {
        let size = (most * 2).next_power_of_two();
        self.free = T::stranger(part);
        self.mask = size - 1;
        self.cells.clear();
        self.cells.resize(size, self.free);
    }

    fn is_new(&mut self, hash: T) -> bool {
        let mut place = hash.place() & self.mask;
        loop {
            let cell = &mut self.cells[place];
            if *cell == self.free {
                *cell = hash;
                return true;
            }
            if *cell == hash {
                return false;
            }
            place = (place + 1) & self.mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn set(ty: &Type, values: &ArrayRef) -> Distinct {
        let mut gathered = Gathered::new(ty);
        (0..values.len()).for_each(|row| gathered.put(values, row));
        gathered.finish()
    }

    proptest! {
        #[test]
        fn values_of_several_hours_are_counted_once(
            hours in prop::collection::vec(
                prop::collection::vec(prop::option::of(prop_oneof![-40i64..40, any::<i64>()]), 0..60),
                0..6,
            ),
        ) {
            let expected: BTreeSet<i64> = hours.iter().flatten().flatten().copied().collect();
            let ints = hours.iter().map(|hour| -> ArrayRef { Arc::new(Int64Array::from(hour.clone())) });
            let ints: Vec<Distinct> = ints.map(|hour| set(&Type::Int64, &hour)).collect();
            prop_assert_eq!(Distinct::count(&ints), expected.len() as u64);
            let texts = hours.iter().map(|hour| -> ArrayRef {
                Arc::new(hour.iter().map(|value| value.map(|v| format!("id {v}"))).collect::<StringArray>())
            });
            let texts: Vec<Distinct> = texts.map(|hour| set(&Type::String, &hour)).collect();
            prop_assert_eq!(Distinct::count(&texts), expected.len() as u64);
        }
    }

    #[test]
    fn hashes_of_numbers_go_back() {
        // Each step of the finalizer can be undone, so no two numbers share a hash.
        let odd = [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb];
        assert!(odd.iter().all(|factor| factor % 2 == 1));
        let hashes: BTreeSet<u64> = (-50_000..50_000).map(mixed).collect();
        assert_eq!(hashes.len(), 100_000);
    }
}
