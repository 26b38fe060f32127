//! The keys that open doors: loaded from where they are kept, looked up in one step, changed in place.

mod change;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::Caller;
use super::digest::{self, Digest, Pepper};
use super::file::{KeyFile, KeyFileError};
use super::record::{DEFAULT_RPM, KeyFileContents, KeyRecord};
use super::scope::Scope;
use super::usage::Usage;

/// Its digest in a file tells whether the file was written under the same pepper.
const PEPPER_CHECK: &str = "agentflow pepper check";

/// How long the key before a rotation is still good, unless said otherwise.
pub const GRACE: Duration = Duration::from_secs(86_400);

/// A key that was loaded.
#[derive(Debug)]
pub struct Key {
    /// The entry.
    pub record: KeyRecord,
    /// Who shows it.
    pub caller: Caller,
    /// Requests a minute.
    pub rpm: u32,
    /// The API version of requests that name none.
    pub api_version_pin: Option<Arc<str>>,
    /// How often it was used.
    pub usage: Arc<Usage>,
}

/// One secret that opens as a key: the newest one, or the one before it.
#[derive(Debug)]
struct Lock {
    key: Arc<Key>,
    /// For a secret that was rotated out: until when it is good.
    until: Option<DateTime<Utc>>,
    proof: Proof,
}

/// What vouches for a secret whose digest was found.
#[derive(Debug)]
enum Proof {
    /// The secret itself stands in the settings, and its digest was made from it.
    Given,
    /// An Argon2id hash, once; then it is remembered.
    Hash { hash: String, is_proven: AtomicBool },
}

#[derive(Debug, Default)]
struct Loaded {
    by_digest: HashMap<Digest, Arc<Lock>>,
    /// Entries without a digest: found by trying each.
    unindexed: Vec<Arc<Lock>>,
    keys: Vec<Arc<Key>>,
}

/// All keys. Shared by all requests.
#[derive(Debug)]
pub struct KeyRing {
    pepper: Pepper,
    file: Option<KeyFile>,
    /// Keys from the environment.
    given: Vec<KeyRecord>,
    default_rpm: u32,
    loaded: RwLock<Arc<Loaded>>,
    /// Digests of entries without one, learnt when the key was shown first.
    seen: Mutex<Option<FileState>>,
    /// Use of each key by identifier; outlives loading.
    usage: Mutex<HashMap<String, Arc<Usage>>>,
    problem: Mutex<Option<String>>,
    /// Held while the file is read and taken up: of two loads the later one counts.
    loading: Mutex<()>,
}

/// By what a changed file is told.
type FileState = (SystemTime, u64);

/// What became of a key that was shown.
#[derive(Debug)]
pub enum Shown {
    /// It opens; `true`: it was rotated out and is good for a while only.
    Opens(Arc<Key>, bool),
    /// It may open: [`KeyRing::prove`] takes tens of milliseconds.
    Unproven(Unproven),
    /// It does not.
    Wrong,
}

/// A key whose hash has not been checked yet.
#[derive(Debug)]
pub struct Unproven {
    candidates: Vec<Arc<Lock>>,
    digest: Digest,
    /// Was it found by its digest? Otherwise all entries without one have to be tried.
    pub is_found: bool,
}

/// Why keys cannot be changed like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such key.
    #[error("there is no key `{0}`")]
    Unknown(String),
    /// It is there already.
    #[error("there is a key `{0}` already")]
    Exists(String),
    /// The name of something does not do.
    #[error(
        "`{field}` is `{value}`: it must be 1 to 64 letters, digits, `_`, `.` or `-`, and begin with a letter or digit"
    )]
    Name {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A limit of 0.
    #[error("`rate_limit_rpm` must be at least 1")]
    NoRequests,
    /// Its last rotation is not over.
    #[error("key `{0}` has been rotated already, and the key before it is still good")]
    Rotating(String),
    /// No rotation to end.
    #[error("key `{0}` has no older key that is still good")]
    NotRotating(String),
    /// The tenant may have no more.
    #[error("tenant `{tenant}` has {max} keys and may have no more")]
    TooMany {
        /// The tenant.
        tenant: String,
        /// How many it may have.
        max: usize,
    },
    /// They come from the environment.
    #[error("keys from the environment cannot be changed here")]
    NoFile,
    /// The file was written under another pepper.
    #[error(
        "the file of keys was written under another pepper: a key made here would open nothing"
    )]
    OtherPepper,
    /// Argon2 failed.
    #[error("the key cannot be hashed: {0}")]
    Hash(String),
}

impl KeyRing {
    /// Loads the keys of `file` and those that were `given`.
    pub fn open(
        file: Option<KeyFile>,
        given: Vec<KeyRecord>,
        pepper: Pepper,
        default_rpm: Option<u32>,
    ) -> Result<Self, KeyFileError> {
        let ring = Self {
            pepper,
            file,
            given,
            default_rpm: default_rpm.unwrap_or(DEFAULT_RPM),
            loaded: RwLock::default(),
            seen: Mutex::default(),
            usage: Mutex::default(),
            problem: Mutex::default(),
            loading: Mutex::default(),
        };
        ring.load()?;
        Ok(ring)
    }

    /// Where keys are kept.
    pub fn file(&self) -> Option<&KeyFile> {
        self.file.as_ref()
    }

    /// Is there any key?
    pub fn is_empty(&self) -> bool {
        self.now().keys.is_empty()
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Arc<Key>> {
        self.now().keys.clone()
    }

    /// Why the file could not be loaded the last time; the keys before that are in use.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks a key up: microseconds.
    pub fn show(&self, key: &str, now: DateTime<Utc>) -> Shown {
        let digest = self.pepper.digest(key);
        let loaded = self.now();
        if let Some(lock) = loaded.by_digest.get(&digest) {
            return match &lock.proof {
                _ if lock.until.is_some_and(|until| until <= now) => Shown::Wrong,
                Proof::Hash { is_proven, .. } if !is_proven.load(Ordering::Acquire) => {
                    let candidates = vec![Arc::clone(lock)];
                    Shown::Unproven(Unproven { candidates, digest, is_found: true })
                }
                _ => Shown::Opens(Arc::clone(&lock.key), lock.until.is_some()),
            };
        }
        let good = |lock: &&Arc<Lock>| lock.until.is_none_or(|until| until > now);
        let candidates: Vec<_> = loaded.unindexed.iter().filter(good).cloned().collect();
        match candidates.is_empty() {
            true => Shown::Wrong,
            false => Shown::Unproven(Unproven { candidates, digest, is_found: false }),
        }
    }

    /// The key that a secret of this digest opens, once its hash was checked.
    pub(super) fn opens(&self, digest: &Digest, now: DateTime<Utc>) -> Option<Arc<Key>> {
        let loaded = self.now();
        let lock = loaded.by_digest.get(digest)?;
        let is_proven = match &lock.proof {
            Proof::Given => true,
            Proof::Hash { is_proven, .. } => is_proven.load(Ordering::Acquire),
        };
        let is_good = is_proven && lock.until.is_none_or(|until| until > now);
        is_good.then(|| Arc::clone(&lock.key))
    }

    /// The digest of a secret.
    pub(super) fn digest(&self, secret: &str) -> Digest {
        self.pepper.digest(secret)
    }

    /// Checks the hash of a key that was shown, and remembers that it is right. Takes tens of
    /// milliseconds for each entry that may be meant: call it where that holds nobody up.
    pub fn prove(&self, unproven: &Unproven, key: &str) -> Shown {
        for lock in &unproven.candidates {
            let Proof::Hash { hash, is_proven } = &lock.proof else { continue };
            if !digest::proves(hash, key) {
                continue;
            }
            is_proven.store(true, Ordering::Release);
            if !unproven.is_found {
                self.learn(unproven.digest, lock);
                self.note(unproven.digest, hash);
            }
            return Shown::Opens(Arc::clone(&lock.key), lock.until.is_some());
        }
        Shown::Wrong
    }

    /// From now on the entry is found by its digest.
    fn learn(&self, digest: Digest, lock: &Arc<Lock>) {
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        // It may have been removed meanwhile.
        if !loaded.unindexed.iter().any(|known| Arc::ptr_eq(known, lock)) {
            return;
        }
        let mut by_digest = loaded.by_digest.clone();
        by_digest.insert(digest, Arc::clone(lock));
        let unindexed =
            loaded.unindexed.iter().filter(|known| !Arc::ptr_eq(known, lock)).cloned().collect();
        *loaded = Arc::new(Loaded { by_digest, unindexed, keys: loaded.keys.clone() });
    }

    /// Writes the digest of a key that was found by trying into the file, so that it is the last time.
    fn note(&self, digest: Digest, hash: &str) {
        let noted = self.change(|contents| {
            for key in &mut contents.keys {
                if key.key_hash.as_deref() == Some(hash) {
                    key.key_lookup = Some(digest.to_hex());
                }
                if key.previous_key_hash.as_deref() == Some(hash) {
                    key.previous_key_lookup = Some(digest.to_hex());
                }
            }
            Ok(())
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "the digest of a key cannot be kept: it is tried again after a start");
        }
    }

    /// Requests a minute of a key.
    pub fn rpm_of(&self, record: &KeyRecord) -> u32 {
        record.rate_limit_rpm.unwrap_or(self.default_rpm)
    }

    /// Loads the file again if it has changed. One that cannot be read changes nothing: the keys that
    /// were good stay, and [`Self::problem`] says why. Gives `true` if there are new keys.
    pub fn refresh(&self) -> bool {
        let state = self.file.as_ref().and_then(state_of);
        if *self.seen.lock().unwrap_or_else(PoisonError::into_inner) == state {
            return false;
        }
        match self.load() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the keys that were loaded before stay in use");
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = state;
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(error.to_string());
                false
            }
        }
    }

    fn now(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn load(&self) -> Result<(), KeyFileError> {
        let _one = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is read: what is written after that is noticed the next time.
        let state = self.file.as_ref().and_then(state_of);
        let before = self.now();
        let contents = match &self.file {
            None => KeyFileContents::default(),
            Some(file) => match file.read()? {
                Some(contents) => contents,
                // Somebody is about to write it, or it was lost: no reason to lock everybody out.
                None if before.keys.len() > self.given.len() => return Err(file.vanished()),
                None => KeyFileContents::default(),
            },
        };
        if let Some(key) =
            contents.keys.iter().find(|key| self.given.iter().any(|given| given.id() == key.id()))
        {
            let id = key.id();
            let problem = format!("key `{id}` is among the keys of the environment as well");
            return Err(self
                .file
                .as_ref()
                .map_or(Refusal::NoFile.into(), |f| f.malformed(problem)));
        }
        // Digests under another pepper find nothing: such entries are tried one by one.
        let check = self.pepper.digest(PEPPER_CHECK).to_hex();
        let is_ours = contents.lookup_check.as_ref().is_none_or(|known| *known == check);
        if !is_ours {
            tracing::error!(
                "the file of keys was written under another pepper: set AGENTFLOW_KEY_LOOKUP_PEPPER \
                 as it was, or keep the file `….pepper` beside it"
            );
        }
        let mut loaded = Loaded::default();
        for record in self.given.iter().chain(&contents.keys) {
            self.add(&mut loaded, record, &contents, &before, is_ours);
        }
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = state;
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    fn add(
        &self,
        loaded: &mut Loaded,
        record: &KeyRecord,
        contents: &KeyFileContents,
        before: &Loaded,
        is_ours: bool,
    ) {
        let id: Arc<str> = record.id().into();
        let tenant = contents.tenant(&record.tenant);
        let scope = Scope {
            entities: record.allowed_entity_types.clone(),
            metrics: record.allowed_metrics.clone(),
            tenant: tenant.and_then(|tenant| tenant.allowed_entity_types.clone()),
        };
        let usage = {
            let mut all = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(id.to_string()).or_default())
        };
        let mut caller = Caller::with_key(record.tenant.as_str().into(), id, Arc::new(scope));
        caller.max_events_per_day = tenant.and_then(|tenant| tenant.max_events_per_day);
        let key = Arc::new(Key {
            record: KeyRecord { key: None, ..record.clone() },
            caller,
            rpm: self.rpm_of(record),
            api_version_pin: tenant.and_then(|t| t.api_version_pin.as_deref()).map(Arc::from),
            usage,
        });
        if let Some(secret) = &record.key {
            let lock = Lock { key: Arc::clone(&key), until: None, proof: Proof::Given };
            loaded.by_digest.insert(self.pepper.digest(secret), Arc::new(lock));
        }
        let secrets = [
            (&record.key_hash, &record.key_lookup, None),
            (
                &record.previous_key_hash,
                &record.previous_key_lookup,
                Some(record.previous_key_active_until.unwrap_or_default()),
            ),
        ];
        for (hash, lookup, until) in secrets {
            let Some(hash) = hash else { continue };
            // What was proven stays so while the hash is the same.
            let is_known = before.by_digest.iter().find(|(_, lock)| lock.is_proven_by(hash));
            let proof = Proof::Hash { hash: hash.clone(), is_proven: is_known.is_some().into() };
            let lock = Arc::new(Lock { key: Arc::clone(&key), until, proof });
            let known = is_known.map(|(digest, _)| *digest);
            let listed = lookup.as_deref().filter(|_| is_ours).and_then(Digest::from_hex);
            match known.or(listed) {
                Some(digest) => _ = loaded.by_digest.insert(digest, lock),
                None => loaded.unindexed.push(lock),
            }
        }
        loaded.keys.push(key);
    }

    /// The key of that identifier, or whose hash that is.
    pub fn find(&self, id_or_hash: &str) -> Option<Arc<Key>> {
        let is_meant = |key: &&Arc<Key>| {
            *key.record.id() == *id_or_hash || key.record.key_hash.as_deref() == Some(id_or_hash)
        };
        self.now().keys.iter().find(is_meant).cloned()
    }
}

impl Lock {
    fn is_proven_by(&self, wanted: &str) -> bool {
        matches!(&self.proof, Proof::Hash { hash, is_proven }
            if hash == wanted && is_proven.load(Ordering::Acquire))
    }
}

fn state_of(file: &KeyFile) -> Option<FileState> {
    let metadata = std::fs::metadata(file.path()).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl From<Refusal> for std::io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}
