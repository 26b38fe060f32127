//! A filter over what the store has: "surely new" or "ask the store".
//!
//! A chain of Bloom filters of fixed size. Each knows the highest time that was given with its
//! members; when all of them are older than anybody asks for, it is dropped whole. At one false
//! answer in 1,000 per filter it costs about 1.8 bytes per member.

use fastbloom::BloomFilter;

const MEMBERS_PER_FILTER: usize = 2_000_000;
const FALSE_POSITIVES: f64 = 0.001;

/// What the store may have, by 64-bit hash.
#[derive(Debug)]
pub struct Membership {
    filters: Vec<Generation>,
}

#[derive(Debug)]
struct Generation {
    members: BloomFilter,
    held: usize,
    newest: i64,
}

impl Default for Membership {
    fn default() -> Self {
        Self { filters: vec![Generation::new()] }
    }
}

impl Membership {
    /// May the store have this? `false` is certain (for members that were not forgotten).
    pub fn may_contain(&self, hash: u64) -> bool {
        self.filters.iter().any(|filter| filter.members.contains_hash(hash))
    }

    /// Notes something that the store has, with its time (µs).
    pub fn insert(&mut self, hash: u64, time: i64) {
        if self.filters[self.filters.len() - 1].held >= MEMBERS_PER_FILTER {
            self.filters.push(Generation::new());
        }
        let last = self.filters.len() - 1;
        let filter = &mut self.filters[last];
        filter.members.insert_hash(hash);
        filter.held += 1;
        filter.newest = filter.newest.max(time);
    }

    /// Drops filters all of whose members are older than `oldest` (µs).
    pub fn forget_before(&mut self, oldest: i64) {
        let current = self.filters.len() - 1;
        let mut index = 0;
        self.filters.retain(|filter| {
            let keep = index == current || filter.newest >= oldest;
            index += 1;
            keep
        });
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.filters.iter().map(|filter| filter.members.num_bits() / 8).sum()
    }
}

impl Generation {
    fn new() -> Self {
        let members =
            BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(MEMBERS_PER_FILTER);
        Self { members, held: 0, newest: i64::MIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())
    }

    #[test]
    fn what_was_inserted_is_never_surely_new() {
        let mut filter = Membership::default();
        (0..100_000).for_each(|n| filter.insert(hash(n), n as i64));
        assert!((0..100_000).all(|n| filter.may_contain(hash(n))));
        let wrong = (100_000..200_000).filter(|n| filter.may_contain(hash(*n))).count();
        assert!(wrong < 300, "{wrong} of 100,000 new ones would ask the store");
    }

    #[test]
    fn whole_filters_are_forgotten_once_they_are_old() {
        let mut filter = Membership::default();
        let all = MEMBERS_PER_FILTER as u64 + 10;
        (0..all).for_each(|n| filter.insert(hash(n), n as i64));
        filter.forget_before(MEMBERS_PER_FILTER as i64);
        assert_eq!(filter.filters.len(), 1);
        assert!(filter.may_contain(hash(all - 1)));
    }
}
