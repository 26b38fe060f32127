//! What a change of contracts does to meaning.
//!
//! [`compare`] takes two loaded folders and says of each change how bad it is, why, where it stands, which
//! metrics it moves and what to do instead. It looks at what was compiled: moving a contract to another
//! file, comments, spacing, the order of keys and another spelling of the same expression are no change.
//! Shape for clients' routes is the business of [`crate::compare`].
//!
//! A change is told once, where it was made. What it moves is found through what metrics read
//! ([`reads`]): a column that is enriched otherwise names the metrics that read it, however many
//! entities lie between.

mod entity;
mod event;
mod facts;
mod metric;
mod places;
mod reads;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use self::places::Places;
use self::reads::{Read, Reads};
use crate::diagnostic::Diagnostic;
use crate::model::{Deprecation, Domain, Status, UnknownEvent};

/// How bad a change is. The order is that of the harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No number and no shape changes.
    Safe,
    /// There is more than before; what was there stays as it was.
    Additive,
    /// The same name and version gives other numbers.
    Restating,
    /// Somebody who reads or sends today cannot go on as they do.
    Breaking,
}

impl Class {
    /// All of them, the least harm first.
    pub const ALL: [Self; 4] = [Self::Safe, Self::Additive, Self::Restating, Self::Breaking];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Additive => "additive",
            Self::Restating => "restating",
            Self::Breaking => "breaking",
        }
    }

    /// The one of that word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

/// What a restating change does to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Everything is computed again: numbers of the past move, too.
    Recomputed,
    /// Stored events are not judged again: numbers move from the change on.
    Kept,
}

/// A contract version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// `event`, `entity`, `metric`, or `domain` for the settings of the folder.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its version; 0 for `domain`.
    pub version: u32,
}

/// One change of meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How bad it is.
    pub class: Class,
    /// What happened, as a word for programs: `dimension_removed`, `where_changed`, ….
    pub change: &'static str,
    /// The contract.
    pub contract: Subject,
    /// Where in the contract, keys joined by dots; empty for all of it.
    pub key: String,
    /// What stood there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What stands there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Why it is as bad as that.
    pub reason: String,
    /// For a restating change, what happens to what is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Metrics that were there and whose numbers or shape it touches, as `name vN`.
    pub affects: Vec<String>,
    /// The file: of the new folder, or of the old one for what is gone.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// What to do instead, or what to know.
    pub hint: String,
}

/// A folder of contracts with the places of what is in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The contracts.
    pub domain: Arc<Domain>,
    places: Arc<Places>,
    fingerprint: u64,
}

impl Loaded {
    /// Reads and loads a folder.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(folder: &Path) -> Result<Self, Vec<Diagnostic>> {
        let texts = crate::files::read_dir(folder)?;
        let domain = crate::files::load_read(folder, &texts)?;
        Ok(Self::of(Arc::new(domain), &texts))
    }

    /// A domain and the texts that it was loaded from.
    pub fn of(domain: Arc<Domain>, texts: &[(PathBuf, String)]) -> Self {
        Self { domain, places: Arc::new(Places::of(texts)), fingerprint: fingerprint(texts) }
    }

    /// Of the texts that it was loaded from.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// What texts are recognised by: another one for any other file, path or character.
pub fn fingerprint(texts: &[(PathBuf, String)]) -> u64 {
    let mut all = Vec::new();
    for (path, text) in texts {
        let path = path.to_string_lossy();
        all.extend([path.len(), text.len()].map(|len| (len as u64).to_be_bytes()).concat());
        all.extend_from_slice(path.as_bytes());
        all.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&all)
}

/// All changes from `old` to `new`, the worst first, then in order of contract and place.
pub fn compare(old: &Loaded, new: &Loaded) -> Vec<Change> {
    let mut diff = Diff {
        old,
        new,
        old_reads: Reads::of(&old.domain),
        new_reads: Reads::of(&new.domain),
        changes: Vec::new(),
    };
    settings(&mut diff);
    event::compare(&mut diff);
    entity::compare(&mut diff);
    metric::compare(&mut diff);
    let mut changes = diff.changes;
    changes.sort_by(|a, b| {
        let place = |c: &Change| (c.contract.clone(), c.line, c.key.clone(), c.change);
        b.class.cmp(&a.class).then_with(|| place(a).cmp(&place(b)))
    });
    changes
}

/// The worst of `changes`; `None` when there is none.
pub fn worst(changes: &[Change]) -> Option<Class> {
    changes.iter().map(|change| change.class).max()
}

/// The comparison under way.
struct Diff<'a> {
    old: &'a Loaded,
    new: &'a Loaded,
    old_reads: Reads,
    new_reads: Reads,
    changes: Vec<Change>,
}

/// A change before it has its place and its words.
struct Found {
    change: &'static str,
    class: Class,
    key: Vec<String>,
    before: Option<String>,
    after: Option<String>,
    affects: Vec<String>,
}

impl Found {
    fn new(class: Class, change: &'static str, key: &[&str]) -> Self {
        let key = key.iter().map(|key| (*key).to_owned()).collect();
        Self { change, class, key, before: None, after: None, affects: Vec::new() }
    }

    fn from(mut self, before: impl ToString) -> Self {
        self.before = Some(before.to_string());
        self
    }

    fn to(mut self, after: impl ToString) -> Self {
        self.after = Some(after.to_string());
        self
    }

    fn affecting(mut self, affects: Vec<String>) -> Self {
        self.affects = affects;
        self
    }
}

impl Diff<'_> {
    fn add(&mut self, subject: &Subject, found: Found) {
        let Found { change, class, key, before, after, affects } = found;
        let place = self.new.places.find(subject, &key);
        let (file, line) =
            place.or_else(|| self.old.places.find(subject, &key)).unwrap_or_default();
        let words = words::of(change);
        self.changes.push(Change {
            class,
            change,
            contract: subject.clone(),
            key: key.join("."),
            before,
            after,
            reason: words.reason.to_owned(),
            history: (class == Class::Restating).then_some(words.history),
            affects,
            file,
            line,
            hint: words.hint.to_owned(),
        });
    }

    /// Something whose change is of one class: nothing happens if it is the same.
    fn if_other<T: PartialEq>(
        &mut self,
        subject: &Subject,
        (class, change): (Class, &'static str),
        key: &[&str],
        (before, after): (&T, &T),
        shown: impl Fn(&T) -> Option<String>,
    ) {
        if before != after {
            let mut found = Found::new(class, change, key);
            (found.before, found.after) = (shown(before), shown(after));
            self.add(subject, found);
        }
    }

    /// Whether a version is in use, and the dates and the successor of one that is deprecated: told once where both
    /// changed together.
    fn life_cycle(
        &mut self,
        subject: &Subject,
        status: (Status, Status),
        dates: (&Option<Deprecation>, &Option<Deprecation>),
    ) {
        if status.0 == status.1 {
            let change = (Class::Safe, "deprecation_changed");
            self.if_other(subject, change, &["deprecated"], dates, |_| None);
        }
        let change = (Class::Safe, "status_changed");
        self.if_other(subject, change, &["status"], (&status.0, &status.1), |status| {
            Some(status.word().to_owned())
        });
    }

    /// The metrics that were there before and read something that `reads` holds for, before or now.
    fn affected(&self, reads: impl Fn(&Read) -> bool) -> Vec<String> {
        let mut all = BTreeSet::new();
        for of in [&self.old_reads, &self.new_reads] {
            all.extend(of.metrics_where(&reads).map(str::to_owned));
        }
        let was = |name: &String| self.old_reads.knows(name);
        all.into_iter().filter(was).collect()
    }

    /// The metrics that stand on events of a family, or on the outcome of any record.
    fn affected_by_admission(&self, family: &str) -> Vec<String> {
        self.affected(|read| match read {
            Read::Family(name) => name == family,
            Read::Ingest => true,
            _ => false,
        })
    }

    /// Owners, descriptions and other words for people.
    fn words<T: PartialEq>(&mut self, subject: &Subject, key: &[&str], before: &T, after: &T) {
        self.if_other(subject, (Class::Safe, "words_changed"), key, (before, after), |_| None);
    }
}

/// `name vN`, as it is said of entities and metrics.
fn named(name: &str, version: u32) -> String {
    format!("{name} v{version}")
}

fn settings(diff: &mut Diff<'_>) {
    let (old, new) = (&diff.old.domain, &diff.new.domain);
    let subject = Subject { kind: "domain", name: new.name.clone(), version: 0 };
    let names = (old.name.clone(), new.name.clone());
    let unknown = (old.unknown_event, new.unknown_event);
    diff.if_other(
        &subject,
        (Class::Breaking, "domain_renamed"),
        &["name"],
        (&names.0, &names.1),
        |name| Some(name.clone()),
    );
    if unknown.0 != unknown.1 {
        let shown = |policy| match policy {
            UnknownEvent::DeadLetter => "dead_letter",
            UnknownEvent::Ignore => "ignore",
        };
        let affects = diff.affected(|read| *read == Read::Ingest);
        let found = Found::new(Class::Restating, "unknown_event_changed", &["unknown_event"])
            .from(shown(unknown.0))
            .to(shown(unknown.1));
        diff.add(&subject, found.affecting(affects));
    }
}
