//! A filter over the ids that the journal has: "surely new" or "ask the journal".
//!
//! A chain of Bloom filters of fixed size, each with the highest event time it holds. When all ids
//! of one are older than the horizon, it is dropped whole. At one false answer in 1,000 per filter
//! it costs about 1.8 bytes per id.

use fastbloom::BloomFilter;

use crate::store::IdHash;

const IDS_PER_FILTER: usize = 2_000_000;
const FALSE_POSITIVES: f64 = 0.001;

/// The ids that the journal may have.
#[derive(Debug)]
pub struct SeenFilter {
    filters: Vec<Generation>,
}

#[derive(Debug)]
struct Generation {
    ids: BloomFilter,
    held: usize,
    newest: i64,
}

impl Default for SeenFilter {
    fn default() -> Self {
        Self { filters: vec![Generation::new()] }
    }
}

impl SeenFilter {
    /// May the journal have this id? `false` is certain (for ids within the horizon).
    pub fn may_contain(&self, id: IdHash) -> bool {
        self.filters.iter().any(|filter| filter.ids.contains_hash(hash64(id)))
    }

    /// Notes an id that the journal has, with its event time (µs).
    pub fn insert(&mut self, id: IdHash, event_time: i64) {
        if self.filters[self.filters.len() - 1].held >= IDS_PER_FILTER {
            self.filters.push(Generation::new());
        }
        let last = self.filters.len() - 1;
        let filter = &mut self.filters[last];
        filter.ids.insert_hash(hash64(id));
        filter.held += 1;
        filter.newest = filter.newest.max(event_time);
    }

    /// Drops filters all of whose ids are older than `oldest` (µs).
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
        self.filters.iter().map(|filter| filter.ids.num_bits() / 8).sum()
    }
}

impl Generation {
    fn new() -> Self {
        let ids = BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(IDS_PER_FILTER);
        Self { ids, held: 0, newest: i64::MIN }
    }
}

// Both halves are uniform already; one is enough to address the filter.
fn hash64(id: IdHash) -> u64 {
    (id.hi as u64) ^ (id.lo as u64).rotate_left(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> IdHash {
        let hash = xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes());
        IdHash { hi: (hash >> 64) as i64, lo: hash as i64 }
    }

    #[test]
    fn an_inserted_id_is_never_surely_new() {
        let mut filter = SeenFilter::default();
        (0..100_000).for_each(|n| filter.insert(id(n), n as i64));
        assert!((0..100_000).all(|n| filter.may_contain(id(n))));
        let wrong = (100_000..200_000).filter(|n| filter.may_contain(id(*n))).count();
        assert!(wrong < 300, "{wrong} of 100,000 new ids would ask the journal");
    }

    #[test]
    fn whole_filters_are_forgotten_once_beyond_the_horizon() {
        let mut filter = SeenFilter::default();
        let all = IDS_PER_FILTER as u64 + 10;
        (0..all).for_each(|n| filter.insert(id(n), n as i64));
        filter.forget_before(IDS_PER_FILTER as i64);
        assert_eq!(filter.filters.len(), 1);
        assert!(filter.may_contain(id(all - 1)));
    }
}
