//! The file of keys: read whole, checked whole, replaced whole.
//!
//! A change takes a lock beside the file, reads what is there now, writes a new file and renames it
//! into place, so that two changes at once are both kept and a reader never meets half a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::digest::write_private;
use super::record::KeyFileContents;

/// Larger files are refused.
const MAX_BYTES: u64 = 16 << 20;

/// A file of keys, whether it is there or not.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// Why keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The operating system refused.
    #[error("{action} the keys in `{}`: {source}", path.display())]
    Io {
        /// Verb: `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file of keys.
    #[error("`{}` is no file of keys: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line or entry; never a key.
        problem: String,
    },
    /// The change does not fit what is there.
    #[error("{0}")]
    Refused(#[from] super::ring::Refusal),
}

impl KeyFile {
    /// The file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the pepper is that belongs to it.
    pub fn pepper(&self) -> PathBuf {
        self.beside("pepper")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }

    /// What it holds; `None` when it is not there or empty.
    pub fn read(&self) -> Result<Option<KeyFileContents>, KeyFileError> {
        let failed = |source| self.failed("read", source);
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(file) if file.len() > MAX_BYTES => {
                return Err(self.malformed(format!("it has {} bytes", file.len())));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&self.path).map_err(failed)?;
        let json = contracts::yaml_to_json(&self.path, &text).map_err(|found| {
            let first = found.first();
            self.malformed(first.map_or_else(String::new, |first| {
                format!("line {}, column {}: {}", first.line, first.column, first.message)
            }))
        })?;
        if json.is_null() {
            return Ok(None);
        }
        // Serde would take a list for the members in their order.
        if !json.is_object() {
            return Err(self.malformed("invalid type: `tenants` and `keys` are wanted".to_owned()));
        }
        let contents: KeyFileContents = serde_json::from_value(json).map_err(|error| {
            // Serde repeats a value of the wrong type, and that may be a key.
            let text = error.to_string();
            let kind = text.split(['"', '`']).next().unwrap_or_default();
            self.malformed(format!("{}{}", kind.trim_end(), unknown_key(&text)))
        })?;
        match contents.problem() {
            None => Ok(Some(contents)),
            Some(problem) => Err(self.malformed(problem)),
        }
    }

    /// Changes it, on what stands there at that moment.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut KeyFileContents) -> Result<T, super::ring::Refusal>,
    ) -> Result<T, KeyFileError> {
        let failed = |source| self.failed("write", source);
        let _lock = self.lock().map_err(failed)?;
        let mut contents = self.read()?.unwrap_or_default();
        let value = change(&mut contents)?;
        if let Some(problem) = contents.problem() {
            return Err(self.malformed(problem));
        }
        self.replace(&contents).map_err(failed)?;
        Ok(value)
    }

    fn lock(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let path = self.beside("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    /// YAML in which each entry is a line of JSON: easy to read, to compare and to write right.
    fn replace(&self, contents: &KeyFileContents) -> io::Result<()> {
        let mut text = String::from(
            "# API keys. Written by `agentflow keys` and the admin API: comments are not kept.\n",
        );
        if let Some(check) = &contents.lookup_check {
            text.push_str(&format!("lookup_check: {check}\n"));
        }
        if !contents.tenants.is_empty() {
            text.push_str("tenants:\n");
            for tenant in &contents.tenants {
                text.push_str(&format!("- {}\n", serde_json::to_string(tenant)?));
            }
        }
        text.push_str(if contents.keys.is_empty() { "keys: []\n" } else { "keys:\n" });
        for key in &contents.keys {
            text.push_str(&format!("- {}\n", serde_json::to_string(key)?));
        }
        // Where the name is a link, what it leads to is replaced.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let new = self.beside("new");
        write_private(&new, text.as_bytes(), true)?;
        keep_owner(&path, &new);
        fs::rename(&new, &path)?;
        match path.parent() {
            // The new name must survive a power cut as well.
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> KeyFileError {
        KeyFileError::Io { action, path: self.path.clone(), source }
    }

    /// It held keys and holds none.
    pub(super) fn vanished(&self) -> KeyFileError {
        self.malformed(
            "it held keys and is gone or empty; write `keys: []` if there are to be none".into(),
        )
    }

    pub(super) fn malformed(&self, problem: String) -> KeyFileError {
        KeyFileError::Malformed { path: self.path.clone(), problem }
    }
}

/// Gives a new file the owner and mode of the one before, or the owner of its folder: a server that does not run
/// as root must be able to read what root has changed. Only root can; for others it is so already.
fn keep_owner(before: &Path, new: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    let known = fs::metadata(before).ok();
    let folder = before.parent().and_then(|folder| fs::metadata(folder).ok());
    if let Some(owner) = known.as_ref().or(folder.as_ref()) {
        let _ = chown(new, Some(owner.uid()), Some(owner.gid()));
    }
    if let Some(known) = known {
        let _ = fs::set_permissions(new, known.permissions());
    }
}

/// The names in serde's text about a field, which are no secrets.
fn unknown_key(text: &str) -> String {
    match text.split_once("unknown field `") {
        Some((_, rest)) => format!(" `{rest}"),
        None => match text.split_once("missing field `") {
            Some((_, rest)) => format!(" `{rest}"),
            None => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::record::KeyRecord;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$\
                        RdescudvJCsgt3ub+b4dWRWJTmaaJObG";

    fn file(text: &str) -> (tempfile::TempDir, KeyFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::at(folder.path().join("keys.yaml"));
        fs::write(file.path(), text).unwrap();
        (folder, file)
    }

    #[test]
    fn a_file_that_people_write_is_read() {
        let (_folder, file) = file(&format!(
            "tenants:\n- id: acme\n  max_api_keys: 2\nkeys:\n- name: board\n  tenant: acme\n  \
             key: 'correct horse'\n  allowed_entity_types: [order]\n- {{name: bot, tenant: acme, \
             key_hash: '{HASH}', rate_limit_rpm: 10, created_at: '2026-01-02T03:04:05Z'}}\n"
        ));
        let contents = file.read().unwrap().unwrap();
        assert_eq!(contents.keys.len(), 2);
        assert_eq!(contents.keys[0].id(), "acme-board");
        assert_eq!(contents.tenant("acme").unwrap().max_api_keys, Some(2));
        // Written and read again it is the same.
        file.change(|_| Ok(())).unwrap();
        assert_eq!(file.read().unwrap().unwrap(), contents);
    }

    /// An error says where and what, and never what a key is.
    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        let entry = |more: &str| format!("keys:\n- {{name: a, tenant: t, {more}}}\n");
        for (text, said) in [
            (entry("key: sesame-open-1, key: x"), "line 2"),
            (entry("key: sesame-open-1, rate_limit: 5"), "unknown field"),
            (entry("key: [sesame-open-1]"), "invalid type"),
            (entry("rate_limit_rpm: 5"), "keys[0] (`a`): needs one of `key` and `key_hash`"),
            (entry("key: sesame"), "fewer than 8"),
            (entry("key_hash: sesame-open-1"), "none of Argon2id"),
            (entry("key: sesame-open-1, rate_limit_rpm: 0"), "is 0"),
            (entry("key: sesame-open-1, rate_limit_rpm: -1"), "invalid value"),
            ("keys:\n- {name: a, key: sesame-open-1}\n".into(), "missing field `tenant`"),
            ("keys:\n- {name: a b, tenant: t, key: sesame-open-1}\n".into(), "`name` must be"),
            (
                "keys:\n- {name: a, tenant: t, key: sesame-open-1}\n\
                 - {name: a, tenant: t, key: sesame-open-2}\n"
                    .into(),
                "another key `t-a`",
            ),
            ("- sesame-open-1\n".into(), "invalid type"),
            ("keys: [".into(), "this is not YAML"),
        ] {
            let (_folder, file) = file(&text);
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains(said), "{text}\n{error}");
            assert!(!error.contains("sesame-open") && error.contains("keys.yaml"), "{error}");
        }
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let (_folder, file) = file("");
        std::thread::scope(|scope| {
            for place in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    file.change(|contents| {
                        contents.keys.push(KeyRecord {
                            key_hash: Some(HASH.to_owned()),
                            ..KeyRecord::new(&format!("k{place}"), "t")
                        });
                        Ok(())
                    })
                });
            }
        });
        assert_eq!(file.read().unwrap().unwrap().keys.len(), 8);
    }
}
