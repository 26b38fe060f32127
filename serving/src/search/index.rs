//! An inverted index in memory whose documents come, change and go one by one.
//!
//! Every document belongs to a class (an entity type, a metric), and a question names the classes that may
//! be seen. Statistics are taken over those alone: how rare a word is elsewhere changes no score.
//! Start at [`Index::put`] and [`Index::find`].

use std::collections::BTreeMap;

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

/// BM25: how soon more of the same word stops to matter, and how much long documents are held back.
const K1: f64 = 1.2;
const B: f64 = 0.4;

/// Part of the score that a document gets however few of the words it has.
const ANY_WORD: f64 = 0.65;

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// Its class.
    pub(super) class: usize,
    /// Its key in the class.
    pub(super) key: Box<str>,
    /// How well it fits; the best has the most.
    pub(super) score: f64,
}

#[derive(Debug)]
struct Document {
    class: usize,
    key: Box<str>,
    /// Word and how often, in order of word.
    words: Box<[(u32, u16)]>,
    length: u32,
    /// Higher is newer.
    age: i64,
}

/// Documents that have a word. Most words (ids, above all) are in one.
#[derive(Debug, Default)]
enum Posting {
    #[default]
    None,
    One(u32),
    Many(Box<RoaringBitmap>),
}

#[derive(Debug)]
struct Word {
    text: Box<str>,
    posting: Posting,
}

#[derive(Debug, Default)]
struct Class {
    documents: RoaringBitmap,
    /// Words in all its documents.
    length: u64,
    weight: f64,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Index {
    documents: Vec<Option<Document>>,
    free_documents: Vec<u32>,
    by_key: HashTable<u32>,
    words: Vec<Word>,
    free_words: Vec<u32>,
    by_word: HashTable<u32>,
    classes: Vec<Class>,
}

impl Index {
    /// A new class; its documents count `weight` times as much as others.
    pub(super) fn class(&mut self, weight: f64) -> usize {
        self.classes.push(Class { weight, ..Class::default() });
        self.classes.len() - 1
    }

    /// Documents of a class.
    pub(super) fn count(&self, class: usize) -> usize {
        self.classes[class].documents.len() as usize
    }

    /// All documents.
    pub(super) fn len(&self) -> usize {
        self.documents.len() - self.free_documents.len()
    }

    /// Is there such a document?
    pub(super) fn has(&self, class: usize, key: &str) -> bool {
        self.by_key.find(hash_of_key(class, key), |id| self.is(*id, class, key)).is_some()
    }

    /// Puts a document in the place of the one with the same key.
    pub(super) fn put<W: AsRef<str>>(
        &mut self,
        class: usize,
        key: &str,
        age: i64,
        words: impl IntoIterator<Item = W>,
    ) {
        self.remove(class, key);
        let mut counts: BTreeMap<u32, u16> = BTreeMap::new();
        for word in words {
            let count = counts.entry(self.word(word.as_ref())).or_default();
            *count = count.saturating_add(1);
        }
        let id = self.free_documents.pop().unwrap_or_else(|| {
            self.documents.push(None);
            (self.documents.len() - 1) as u32
        });
        for word in counts.keys() {
            self.words[*word as usize].posting.insert(id);
        }
        let length = counts.values().map(|count| u32::from(*count)).sum();
        let words = counts.into_iter().collect();
        self.documents[id as usize] = Some(Document { class, key: key.into(), words, length, age });
        self.classes[class].documents.insert(id);
        self.classes[class].length += u64::from(length);
        let documents = &self.documents;
        self.by_key.insert_unique(hash_of_key(class, key), id, |id| hash_of(documents, *id));
    }

    /// Takes a document out, if it is there.
    pub(super) fn remove(&mut self, class: usize, key: &str) {
        let Self { by_key, documents, .. } = self;
        let is = |id: &u32| is(documents, *id, class, key);
        let Ok(entry) = by_key.find_entry(hash_of_key(class, key), is) else { return };
        let (id, _) = entry.remove();
        let Some(document) = self.documents[id as usize].take() else { return };
        self.free_documents.push(id);
        self.classes[class].documents.remove(id);
        self.classes[class].length -= u64::from(document.length);
        for (word, _) in document.words {
            let known = &mut self.words[word as usize];
            known.posting.remove(id);
            if matches!(known.posting, Posting::None) {
                let text = std::mem::take(&mut known.text);
                let found = self.by_word.find_entry(xxh3_64(text.as_bytes()), |id| *id == word);
                if let Ok(entry) = found {
                    entry.remove();
                }
                self.free_words.push(word);
            }
        }
    }

    /// Takes the oldest documents of a class out until `most` are left; was there one too many?
    pub(super) fn keep_newest(&mut self, class: usize, most: usize) -> bool {
        let ids = &self.classes[class].documents;
        let surplus = (ids.len() as usize).saturating_sub(most);
        if surplus == 0 {
            return false;
        }
        let age = |id: u32| self.documents[id as usize].as_ref().map_or(0, |document| document.age);
        let mut ages: Vec<(i64, u32)> = ids.iter().map(|id| (age(id), id)).collect();
        ages.select_nth_unstable(surplus - 1);
        for (_, id) in &ages[..surplus] {
            let document = self.documents[*id as usize].as_ref();
            if let Some(key) = document.map(|document| document.key.clone()) {
                self.remove(class, &key);
            }
        }
        true
    }

    /// The documents of the classes that have one of the words, best first: at most `most`.
    pub(super) fn find(&self, words: &[String], classes: &[usize], most: usize) -> Vec<Found> {
        let mut visible = RoaringBitmap::new();
        let mut length = 0;
        for class in classes {
            visible |= &self.classes[*class].documents;
            length += self.classes[*class].length;
        }
        let mut wanted: Vec<&String> = words.iter().collect();
        wanted.sort();
        wanted.dedup();
        let total = visible.len() as f64;
        let mean = (length as f64 / total.max(1.0)).max(1.0);
        let mut weights: Vec<(u32, f64)> = Vec::new();
        let mut candidates = RoaringBitmap::new();
        for text in &wanted {
            let Some(word) = self.known(text) else { continue };
            let having = self.words[word as usize].posting.within(&visible);
            let count = having.len() as f64;
            if count > 0.0 {
                weights.push((word, (1.0 + (total - count + 0.5) / (count + 0.5)).ln()));
                candidates |= having;
            }
        }
        let mut found: Vec<(f64, i64, u32)> = candidates
            .iter()
            .filter_map(|id| {
                let document = self.documents[id as usize].as_ref()?;
                let fit = document.fit(&weights, mean, wanted.len());
                Some((fit * self.classes[document.class].weight, document.age, id))
            })
            .collect();
        // Of equals the newer one first; ids make the order whole.
        let order = |a: &(f64, i64, u32), b: &(f64, i64, u32)| {
            b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2))
        };
        if found.len() > most && most > 0 {
            found.select_nth_unstable_by(most - 1, order);
        }
        found.truncate(most);
        found.sort_unstable_by(order);
        let named = found.into_iter().filter_map(|(score, _, id)| {
            let document = self.documents[id as usize].as_ref()?;
            Some(Found { class: document.class, key: document.key.clone(), score })
        });
        named.collect()
    }

    /// The number of a word that some document has.
    fn known(&self, text: &str) -> Option<u32> {
        let is = |id: &u32| *self.words[*id as usize].text == *text;
        self.by_word.find(xxh3_64(text.as_bytes()), is).copied()
    }

    /// The number of a word.
    fn word(&mut self, text: &str) -> u32 {
        if let Some(known) = self.known(text) {
            return known;
        }
        let word = Word { text: text.into(), posting: Posting::None };
        let id = match self.free_words.pop() {
            Some(id) => {
                self.words[id as usize] = word;
                id
            }
            None => {
                self.words.push(word);
                (self.words.len() - 1) as u32
            }
        };
        let words = &self.words;
        self.by_word.insert_unique(xxh3_64(text.as_bytes()), id, |id| {
            xxh3_64(words[*id as usize].text.as_bytes())
        });
        id
    }

    fn is(&self, id: u32, class: usize, key: &str) -> bool {
        is(&self.documents, id, class, key)
    }
}

impl Document {
    /// How well it fits `weights`, a part of `wanted` words.
    fn fit(&self, weights: &[(u32, f64)], mean: f64, wanted: usize) -> f64 {
        let mut score = 0.0;
        let mut matched = 0;
        for (word, weight) in weights {
            let Ok(place) = self.words.binary_search_by_key(word, |(word, _)| *word) else {
                continue;
            };
            let times = f64::from(self.words[place].1);
            let long = 1.0 - B + B * f64::from(self.length) / mean;
            score += weight * times * (K1 + 1.0) / (times + K1 * long);
            matched += 1;
        }
        score * (ANY_WORD + (1.0 - ANY_WORD) * f64::from(matched) / wanted.max(1) as f64)
    }
}

impl Posting {
    fn insert(&mut self, id: u32) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(known) if *known == id => {}
            Self::One(known) => *self = Self::Many(Box::new(RoaringBitmap::from([*known, id]))),
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    fn remove(&mut self, id: u32) {
        match self {
            Self::One(known) if *known == id => *self = Self::None,
            Self::Many(ids) => {
                ids.remove(id);
                if ids.len() < 2 {
                    *self = ids.min().map_or(Self::None, Self::One);
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    fn within(&self, visible: &RoaringBitmap) -> RoaringBitmap {
        match self {
            Self::None => RoaringBitmap::new(),
            Self::One(id) if visible.contains(*id) => RoaringBitmap::from([*id]),
            Self::One(_) => RoaringBitmap::new(),
            Self::Many(ids) => ids.as_ref() & visible,
        }
    }
}

fn is(documents: &[Option<Document>], id: u32, class: usize, key: &str) -> bool {
    let document = documents[id as usize].as_ref();
    document.is_some_and(|document| document.class == class && *document.key == *key)
}

fn hash_of(documents: &[Option<Document>], id: u32) -> u64 {
    let document = documents[id as usize].as_ref();
    document.map_or(0, |document| hash_of_key(document.class, &document.key))
}

fn hash_of_key(class: usize, key: &str) -> u64 {
    xxh3_64(key.as_bytes()) ^ (class as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::super::tokens::words;
    use super::*;

    /// Puts `key: text`.
    fn put(index: &mut Index, class: usize, age: i64, document: &str) {
        let (key, text) = document.split_once(": ").unwrap();
        index.put(class, key, age, words(text));
    }

    #[track_caller]
    fn check(index: &Index, classes: &[usize], question: &str, expected: &str) {
        let asked: Vec<String> = words(question).collect();
        let found = index.find(&asked, classes, 10);
        let keys: Vec<&str> = found.iter().map(|found| &*found.key).collect();
        assert_eq!(keys.join(" "), expected, "{question}");
    }

    fn index() -> (Index, usize, usize) {
        let mut index = Index::default();
        let (parcels, hubs) = (index.class(1.0), index.class(1.0));
        for (age, text) in ["p1: red box at riga", "p2: blue box", "p3: red red barrel at tartu"]
            .iter()
            .enumerate()
        {
            put(&mut index, parcels, age as i64, text);
        }
        put(&mut index, hubs, 9, "h1: riga, the red hub");
        (index, parcels, hubs)
    }

    #[test]
    fn rare_words_and_more_words_come_first() {
        let (index, parcels, hubs) = index();
        check(&index, &[parcels], "red", "p3 p1");
        check(&index, &[parcels], "boxes", "p2 p1");
        check(&index, &[parcels], "red riga", "p1 p3");
        check(&index, &[parcels], "box barrel", "p3 p2 p1");
        check(&index, &[parcels], "green", "");
        check(&index, &[parcels, hubs], "riga", "h1 p1");
        check(&index, &[hubs], "box", "");
        check(&index, &[], "red", "");
    }

    #[test]
    fn what_changed_is_found_by_its_new_words_only() {
        let (mut index, parcels, _) = index();
        put(&mut index, parcels, 10, "p1: green crate");
        check(&index, &[parcels], "green", "p1");
        check(&index, &[parcels], "riga", "");
        index.remove(parcels, "p1");
        index.remove(parcels, "p1");
        check(&index, &[parcels], "green", "");
        assert_eq!((index.count(parcels), index.len()), (2, 3));
    }

    #[test]
    fn words_that_nothing_has_any_more_take_no_place() {
        let mut index = Index::default();
        let class = index.class(1.0);
        for round in 0..1_000 {
            index.put(class, "k", round, [format!("w{round}"), "same".to_owned()]);
        }
        assert_eq!((index.words.len(), index.documents.len()), (2, 1));
        assert_eq!((index.by_word.len(), index.by_key.len()), (2, 1));
        check(&index, &[class], "same", "k");
        check(&index, &[class], "w7", "");
    }

    #[test]
    fn the_newest_are_kept() {
        let (mut index, parcels, _) = index();
        assert!(!index.keep_newest(parcels, 3));
        assert!(index.keep_newest(parcels, 1));
        check(&index, &[parcels], "red box", "p3");
    }

    #[test]
    fn what_may_not_be_seen_changes_no_score() {
        let (mut index, parcels, hubs) = index();
        let asked: Vec<String> = words("red riga").collect();
        let before = index.find(&asked, &[parcels], 10);
        for n in 0..100 {
            put(&mut index, hubs, n, &format!("x{n}: riga riga red"));
        }
        assert_eq!(index.find(&asked, &[parcels], 10), before);
    }

    proptest::proptest! {
        /// However documents came and went, the index is the one that has never seen anything else.
        #[test]
        fn history_does_not_matter(
            steps in proptest::collection::vec((0_usize..2, 0_u8..6, "[abc]{0,4}", 0_u8..4), 0..60),
        ) {
            let (mut index, mut fresh) = (Index::default(), Index::default());
            for _ in 0..2 {
                index.class(1.0);
                fresh.class(1.0);
            }
            let mut last: BTreeMap<(usize, u8), (i64, String)> = BTreeMap::new();
            for (age, (class, key, text, what)) in steps.into_iter().enumerate() {
                let name = key.to_string();
                if what == 0 {
                    index.remove(class, &name);
                    last.remove(&(class, key));
                } else {
                    let words = text.chars().map(String::from);
                    index.put(class, &name, age as i64, words);
                    last.insert((class, key), (age as i64, text));
                }
            }
            for ((class, key), (age, text)) in &last {
                fresh.put(*class, &key.to_string(), *age, text.chars().map(String::from));
            }
            proptest::prop_assert_eq!(index.len(), fresh.len());
            for classes in [&[0_usize][..], &[1], &[0, 1]] {
                for question in [&["a"][..], &["a", "b"], &["c", "c", "d"]] {
                    let asked: Vec<String> = question.iter().map(|w| (*w).to_owned()).collect();
                    let sorted = |index: &Index| {
                        let mut found = index.find(&asked, classes, 100);
                        found.sort_by(|a, b| (a.class, &a.key).cmp(&(b.class, &b.key)));
                        found
                    };
                    proptest::prop_assert_eq!(sorted(&index), sorted(&fresh));
                }
            }
        }
    }
}
